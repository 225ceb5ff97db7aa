//! Which functions a daemon runs that watches one target: `link/first.txt` anew.
//!
//! An emulator writes down each piece of code when it first comes to it; the symbols say whose it is. Names that were
//! there before and are still a function's stay, since not every run comes to all of them.

use std::collections::{BTreeMap, BTreeSet};
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
/// What the list begins with. Another setting of `strip` for the whole build would give all functions other hashes.
const HEAD: &str = "# What a daemon at rest runs, for the linker; see build.rs. Made by\n\
                    # cargo rustc --release --bin rollbackd -- -C strip=none\n\
                    # cargo bench --bench fleet -- first target/release/rollbackd\n";

/// Writes the list, from a program as it is released, but with its symbols.
pub(crate) fn renew(program: &str) -> Result<(), Failure> {
    let symbols = symbols(program)?;
    let mut names = BTreeSet::new();
    // The emulator knows no `openat2`: what follows after a look at the releases is seen where programs tell of them.
    for runs in [watch::RELEASE_DIR, watch::COMMAND] {
        let place = tempfile::tempdir()?;
        let log = place.path().join("code");
        let server = Server::start(1, &[])?;
        let mut emulator = Command::new(EMULATOR);
        emulator.args(["-d", "in_asm", "-D"]).arg(&log).arg(program);
        let mut daemon = watch::start_by(emulator, place.path(), runs, &server.ports, INTERVAL)?;
        sleep(LONG_ENOUGH);
        daemon.kill()?;
        daemon.wait()?;
        for line in BufReader::new(File::open(&log)?).lines() {
            if let Some(name) = address(&line?).and_then(|at| holder(&symbols, at)) {
                names.insert(name.to_owned());
            }
        }
    }
    if names.is_empty() {
        return Err("no function was recognised".into());
    }
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("link/first.txt");
    let there: BTreeSet<&str> = symbols.values().map(|(_, name)| name.as_str()).collect();
    let before = fs::read_to_string(&list)?;
    names.extend(before.lines().filter(|name| there.contains(name)).map(str::to_owned));
    let mut text = String::from(HEAD);
    for name in &names {
        text.push_str(name);
        text.push('\n');
    }
    fs::write(list, text)?;
    let bytes: u64 = symbols.iter().filter(|(_, (_, name))| names.contains(name)).map(|(at, (end, _))| end - at).sum();
    println!("{} functions of {bytes} bytes", names.len());
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
        return Err("the daemon has no symbols: build it with `-C strip=none`".into());
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
