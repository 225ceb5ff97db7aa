//! Hands the linker an order of functions: what a daemon at rest runs, listed in `link/first.txt`, comes first in the
//! program's text, and together.
//!
//! The kernel maps the text in pieces of 64 KiB, each for one function that is asked for. Where those functions lie
//! scattered over the whole text, most of it counts as the daemon's memory: 9 MiB instead of 3.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

/// What the names of the daemon's own functions begin with.
const OWN: &str = "_ZN9rollbackd";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=link/first.txt");
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let is_usual = is("TARGET", "x86_64-unknown-linux-gnu") && is("PROFILE", "release");
    // Not every linker reads this; whoever chooses one does without.
    let own = env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains("link"))
        || env::var_os("RUSTC_LINKER").is_some();
    if is_usual && !own {
        let script = Path::new(&env::var("OUT_DIR")?).join("first.ld");
        fs::write(&script, order(&fs::read_to_string("link/first.txt")?)?)?;
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", script.display());
    }
    Ok(())
}

/// Every function of the list by its name; then, for what changes of the code have renamed since, by what stands for it.
fn order(list: &str) -> Result<String, std::fmt::Error> {
    let names: BTreeSet<&str> = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let patterns: BTreeSet<String> = names.iter().map(|name| pattern(name)).collect();
    let mut script = String::from("SECTIONS {\n  .text.first : {\n");
    for name in names {
        writeln!(script, "    *(.text.{name} .text.unlikely.{name})")?;
    }
    for pattern in patterns {
        writeln!(script, "    *(.text.*{pattern})")?;
    }
    Ok(script + "  }\n}\nINSERT BEFORE .text;\n")
}

/// What stands for a function: all of its module, two levels deep, where it is the daemon's own; else its path.
fn pattern(name: &str) -> String {
    if let Some(path) = name.strip_prefix(OWN) {
        let end = after_part(path, after_part(path, 0));
        return format!("{OWN}{}*", path.get(..end).unwrap_or(path));
    }
    // A hash is `17h`, 16 digits and an E; the compiler's additions come after it or after a dot.
    let name = name.split_once(".llvm.").map_or(name, |(name, _)| name);
    match name.rfind("17h").filter(|at| name[at + 3..].len() == 17) {
        Some(at) => format!("{}17h*", &name[..at]),
        None => match name.split_once('.') {
            Some((stem, _)) if !stem.is_empty() => format!("{stem}*"),
            Some(_) | None => name.to_owned(),
        },
    }
}

/// Where a part of a path ends that begins here: its length, and so many characters.
fn after_part(path: &str, from: usize) -> usize {
    let rest = path.get(from..).unwrap_or_default();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
    from + digits + rest[..digits].parse::<usize>().unwrap_or(0)
}
