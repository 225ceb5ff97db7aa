//! How fast pages are scanned, as ratios taken in one run: the contenders take turns, and each one's median counts.
//! Time is the thread's own processor time, so that what else the machine does weighs little.
//!
//! `cargo bench --bench scan`. Bars: 8 times `prometheus-parse` with 300 of 2,160 series wanted; 1.5 GB/s with none.

#![allow(missing_docs, clippy::print_stdout)]

mod page;

use std::hint::black_box;
use std::time::Duration;

use rollbackd::domain::health::selector::Selector;
use rollbackd::domain::policy::{Operand, OperandKind, Operands};
use rollbackd::observe::exposition::{Format, Limits, Scanner, SeriesTable};

/// Distinct pages, so that no scrape brings the values of the one before.
const PAGES: u64 = 16;
/// Turns of each contender.
const ROUNDS: usize = 40;
/// Pages a turn.
const PAGES_A_TURN: usize = 32;
/// What a socket hands over at once.
const CHUNK: usize = 16 << 10;

fn operands(wanted: &[(&str, OperandKind)]) -> Operands {
    let mut operands = Operands::default();
    for (selector, kind) in wanted {
        let selector = Selector::parse(selector).expect("a selector");
        operands.intern(Operand { selector, kind: *kind }).expect("few operands");
    }
    operands
}

struct Target {
    scanner: Scanner,
    table: SeriesTable,
}

impl Target {
    fn new(wanted: &[(&str, OperandKind)]) -> Self {
        Self { scanner: Scanner::new(Limits::DEFAULT), table: SeriesTable::new(&operands(wanted)) }
    }

    fn scrape(&mut self, page: &str) -> usize {
        let mut scan = self.scanner.begin(Format::Text);
        for chunk in page.as_bytes().chunks(CHUNK) {
            scan.push(&mut self.table, chunk).expect("a good page");
        }
        scan.finish(&mut self.table).expect("a good page").samples.len()
    }
}

fn reference(page: &str) -> usize {
    let lines = page.lines().map(|line| Ok(line.to_owned()));
    prometheus_parse::Scrape::parse(lines).expect("a good page").samples.len()
}

/// One turn, as time per page.
fn turn(pages: &[String], mut scan: impl FnMut(&str) -> usize) -> Duration {
    let begun = processor_time();
    for page in pages.iter().cycle().take(PAGES_A_TURN) {
        black_box(scan(black_box(page)));
    }
    (processor_time() - begun) / PAGES_A_TURN as u32
}

fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn median(mut turns: Vec<Duration>) -> Duration {
    turns.sort_unstable();
    turns[turns.len() / 2]
}

fn main() {
    let pages: Vec<String> = (0..PAGES).map(page::page).collect();
    let bytes = pages.iter().map(String::len).sum::<usize>() / pages.len();
    let wanted = [(page::COUNTER, OperandKind::Value), (page::HISTOGRAM, OperandKind::Buckets)];
    let mut watched = Target::new(&wanted);
    let mut unwatched = Target::new(&[]);
    assert_eq!(watched.scrape(&pages[0]), page::WANTED);
    assert_eq!(unwatched.scrape(&pages[0]), 0);

    let mut turns: [Vec<Duration>; 5] = Default::default();
    for _ in 0..ROUNDS {
        turns[0].push(turn(&pages, |page| watched.scrape(page)));
        turns[1].push(turn(&pages, |page| unwatched.scrape(page)));
        turns[2].push(turn(&pages, |page| Target::new(&wanted).scrape(page)));
        turns[3].push(turn(&pages[..1], reference));
        turns[4].push(turn(&pages, |page| memchr::memchr_iter(b'\n', page.as_bytes()).count()));
    }
    let [watched, unwatched, first, reference, newlines] = turns.map(median);

    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e9;
    let row = |name: &str, time: Duration| {
        println!("{name:<34}{:>9.1} µs/page {:>8.2} GB/s", time.as_secs_f64() * 1e6, rate(time));
    };
    println!("page of {bytes} bytes, {} series, in pieces of {CHUNK} bytes; medians of {ROUNDS} turns", page::SERIES);
    row("newline search alone", newlines);
    row("nothing wanted", unwatched);
    row("300 series wanted", watched);
    row("300 series wanted, first page", first);
    row("prometheus-parse", reference);
    let ratio = reference.as_secs_f64() / watched.as_secs_f64();
    println!("300 wanted: {ratio:.1} times prometheus-parse (bar: 8)");
    println!("nothing wanted: {:.2} GB/s (bar: 1.5)", rate(unwatched));
}
