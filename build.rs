//! Hands the linker the order of functions in `link/first.ld`: what a daemon at rest runs comes first in the program's
//! text, and together.
//!
//! The kernel maps the text in pieces of 64 KiB, each for one function that is asked for. Where those functions lie
//! scattered over the whole text, most of it counts as the daemon's memory: 9 MiB instead of 5.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=link/first.ld");
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let is_usual = is("TARGET", "x86_64-unknown-linux-gnu") && is("PROFILE", "release");
    // Not every linker reads this; whoever chooses one does without.
    let own = env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains("link"))
        || env::var_os("RUSTC_LINKER").is_some();
    if is_usual && !own {
        let directory = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{directory}/link/first.ld");
    }
}
