//! Which functions a daemon runs that watches one target: `link/first.ld` anew.
//!
//! An emulator writes down each piece of code when it first comes to it; the symbols say whose it is. Names go without
//! their hash, and the daemon's own by module, so that the list outlives changes of the code. What the emulator does not
//! come to, since it knows no `openat2`, was told by `perf record -e page-faults -d`; names that are still a function's stay.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use super::{Failure, INTERVAL, Server, watch};

/// The emulator, of Debian's package `qemu-user`.
const EMULATOR: &str = "qemu-x86_64";
/// How long it runs: it is slow, and what comes once a minute should come.
const LONG_ENOUGH: Duration = Duration::from_secs(90);
/// Where the emulator puts a program that can lie anywhere.
const LOADED_AT: u64 = 0x40_0000_0000;
/// What the names of the daemon's own functions begin with.
const OWN: &str = "_ZN9rollbackd";

/// Writes the list.
pub(crate) fn renew() -> Result<(), Failure> {
    let program = env!("CARGO_BIN_EXE_rollbackd");
    let symbols = symbols(program)?;
    let place = tempfile::tempdir()?;
    let log = place.path().join("code");
    let server = Server::start(1, &[])?;
    let mut emulator = Command::new(EMULATOR);
    emulator.args(["-d", "in_asm", "-D"]).arg(&log).arg(program);
    let mut daemon = watch::start_by(emulator, place.path(), &server.ports, INTERVAL)?;
    sleep(LONG_ENOUGH);
    daemon.kill()?;
    daemon.wait()?;
    let mut names = BTreeSet::new();
    for line in BufReader::new(File::open(&log)?).lines() {
        if let Some(name) = address(&line?).and_then(|at| holder(&symbols, at)) {
            names.insert(pattern(name));
        }
    }
    if names.is_empty() {
        return Err("no function was recognised".into());
    }
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("link/first.ld");
    let there: BTreeSet<String> = symbols.values().map(|(_, name)| pattern(name)).collect();
    names.extend(listed(&fs::read_to_string(&list)?).filter(|name| there.contains(*name)).map(str::to_owned));
    fs::write(list, script(&names))?;
    println!("{} names", names.len());
    Ok(())
}

/// Functions by address, with their end.
fn symbols(program: &str) -> Result<BTreeMap<u64, (u64, String)>, Failure> {
    let out = Command::new("nm").args(["--print-size", "--defined-only", program]).output()?;
    let mut symbols = BTreeMap::new();
    for line in String::from_utf8(out.stdout)?.lines() {
        let &[at, size, "t" | "T" | "w" | "W", name] = line.split(' ').collect::<Vec<&str>>().as_slice() else {
            continue;
        };
        let (at, size) = (u64::from_str_radix(at, 16)?, u64::from_str_radix(size, 16)?);
        symbols.insert(at, (at + size, name.to_owned()));
    }
    if symbols.is_empty() {
        return Err("the daemon has no symbols: set CARGO_PROFILE_BENCH_STRIP=none".into());
    }
    Ok(symbols)
}

/// The place in the program that a line of the emulator's log is about.
fn address(line: &str) -> Option<u64> {
    let (address, _) = line.strip_prefix("0x")?.split_once(':')?;
    u64::from_str_radix(address, 16).ok()?.checked_sub(LOADED_AT)
}

fn holder(symbols: &BTreeMap<u64, (u64, String)>, at: u64) -> Option<&str> {
    let (_, (end, name)) = symbols.range(..=at).next_back()?;
    (at < *end).then_some(name)
}

/// What stands for a function: all of its module, two levels deep, where it is the daemon's own.
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

/// The names of a list.
fn listed(script: &str) -> impl Iterator<Item = &str> {
    script.lines().filter_map(|line| line.trim().strip_prefix("*(.text.*")?.strip_suffix(')'))
}

fn script(names: &BTreeSet<String>) -> String {
    let mut text = String::from(
        "/* What a daemon at rest runs, first in the text and together; see build.rs.\n   \
         Made by CARGO_PROFILE_BENCH_STRIP=none cargo bench --bench fleet -- first */\n\
         SECTIONS {\n  .text.first : {\n",
    );
    for name in names {
        // Writing to a string does not fail.
        let _ = writeln!(text, "    *(.text.*{name})");
    }
    text + "  }\n}\nINSERT BEFORE .text;\n"
}
