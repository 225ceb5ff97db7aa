//! What a fleet costs: `cargo bench --bench fleet [-- --targets 400 --rounds 6]`.
//!
//! Loopback targets serve a page of 168 KB with 2,160 series of which 300 are wanted, every 5 s. The daemon is the real
//! binary, measured from outside: processor seconds for 1,000 scrapes and peak memory, with one target and
//! with many, beside what a bare socket read and a search for line ends cost in the same run; and what it takes to be
//! there at all, with ten targets whose pages are small.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

mod first;
mod page;
mod peers;
mod proc;
mod watch;

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use proc::Usage;

/// Time between two scrapes of a target.
const INTERVAL: Duration = Duration::from_secs(5);
/// Scrapes of the comparison.
const RAW_SCRAPES: usize = 4_000;
/// Targets of the measure at rest.
const FEW: usize = 10;
/// Rounds before anything is counted: the pages' layout is learnt, the connections are open.
const WARM_UP: u32 = 2;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: usize| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1).map(|value| value.parse().unwrap_or(default))
    };
    match arguments.get(1).map(String::as_str) {
        Some("serve") => {
            let is_small = arguments.iter().any(|argument| argument == "--small");
            let page = if is_small { page::small_page() } else { page::page() };
            peers::serve(number("--targets", 1).unwrap_or(1), &page)
        }
        Some("first") => first::renew(arguments.get(2).ok_or("which program?")?),
        _ => compare(number("--targets", 400).unwrap_or(400), number("--rounds", 6).unwrap_or(6)),
    }
}

fn compare(targets: usize, rounds: usize) -> Result<(), Failure> {
    let rounds = u32::try_from(rounds)?;
    println!("page: {} bytes, {} series, {} wanted", page::page().len(), page::SERIES, page::WANTED);
    let mut server = Server::start(targets, &[])?;
    let raw = peers::read_bare(&server.ports[..targets.min(64)], RAW_SCRAPES)?;
    println!("bare read and search: {raw:.4} s CPU for 1,000 scrapes");
    for count in [1, targets] {
        let measured = measure(&mut server, count, rounds)?;
        let each = measured.cpu * 1000.0 / measured.scrapes as f64;
        println!(
            "{count} targets: {} scrapes, {each:.4} s CPU for 1,000 (bar 0.15), {:.1} times the bare read; \
             {:.2} % of a core; peak RSS {:.1} MiB (bar {})",
            measured.scrapes,
            each / raw,
            measured.cpu / measured.wall * 100.0,
            measured.peak_kib as f64 / 1024.0,
            if count == 1 { 12 } else { 40 },
        );
    }
    rest(rounds)
}

/// What the daemon takes while there is next to nothing to read.
fn rest(rounds: u32) -> Result<(), Failure> {
    let mut server = Server::start(FEW, &["--small"])?;
    let measured = measure(&mut server, FEW, rounds)?;
    println!(
        "at rest, {FEW} targets of {} bytes: {:.2} % of a core (bar 0.5); peak RSS {:.1} MiB",
        page::small_page().len(),
        measured.cpu / measured.wall * 100.0,
        measured.peak_kib as f64 / 1024.0,
    );
    Ok(())
}

struct Measured {
    scrapes: u64,
    cpu: f64,
    wall: f64,
    peak_kib: u64,
}

/// Lets the daemon look at the first `count` targets and reads off what that costs.
fn measure(server: &mut Server, count: usize, rounds: u32) -> Result<Measured, Failure> {
    let place = tempfile::tempdir()?;
    let mut daemon = watch::start(place.path(), &server.ports[..count], INTERVAL)?;
    sleep(INTERVAL * WARM_UP);
    // A single target gives few scrapes: its processor time is read over as many rounds, and means little.
    let (before, scrapes_before) = (Usage::of(daemon.id())?, server.scrapes()?);
    sleep(INTERVAL * rounds);
    let (after, scrapes_after) = (Usage::of(daemon.id())?, server.scrapes()?);
    daemon.kill()?;
    daemon.wait()?;
    let scrapes = scrapes_after - scrapes_before;
    if scrapes == 0 {
        return Err("the daemon does not scrape".into());
    }
    Ok(Measured {
        scrapes,
        cpu: after.cpu_seconds - before.cpu_seconds,
        wall: (INTERVAL * rounds).as_secs_f64(),
        peak_kib: after.peak_kib,
    })
}

/// The serving process.
struct Server {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    ports: Vec<u16>,
}

impl Server {
    fn start(targets: usize, options: &[&str]) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--targets", &targets.to_string()])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ask = child.stdin.take().ok_or("no stdin")?;
        let mut answers = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let ports = line.split_whitespace().map(str::parse).collect::<Result<Vec<u16>, _>>()?;
        Ok(Self { child, ask, answers, ports })
    }

    /// How many pages it has served.
    fn scrapes(&mut self) -> Result<u64, Failure> {
        self.ask.write_all(b"?\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
