//! How much faster than time a recording is replayed, and what a large file costs: `cargo bench --bench replay`.
//!
//! A day of one workload (six pods, eighteen series each, looked at every 5 s) is replayed from memory; then a file of
//! `REPLAY_BENCH_MB` megabytes (256 where it is not set), in which one line in three is asked for, is read and replayed.
//! Both are told as ratios: times real time, bytes a second against the speed of finding the line ends, and the memory
//! that it takes.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollbackd::config;
use rollbackd::domain::time::Timestamp;
use rollbackd::replay::{Options, Recorder, Recording, Subject, TextReader, replay};

const DAWN: i64 = 1_764_300_000;
const DAY: i64 = 24 * 3600;
const STEP: i64 = 5;
const PODS: usize = 6;
const BOUNDS: [&str; 14] =
    ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "7.5", "10", "30", "+Inf"];

const POLICY: &str = r#"
[workload.api]
kubernetes = { namespace = "prod", deployment = "api" }
scrape = { port = 5000 }

[[workload.api.trigger]]
signal = "error_rate"
above = "10%"
for = "5m"

[[workload.api.trigger]]
signal = "p99_latency"
above = "5s"
for = "2m"

[[workload.api.trigger]]
name = "worse"
signal = "error_rate"
worse_than = "baseline"
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let subject = subject()?;
    let recording = day()?;
    let span = Duration::from_secs(DAY.unsigned_abs());
    let begun = Instant::now();
    let outcome = replay(&recording, std::slice::from_ref(&subject), &Options::default(), &mut ())?;
    let took = begun.elapsed();
    println!(
        "a day of one workload, {} series: {took:.2?}, {:.0} times real time, {:.1} µs a judgement",
        recording.len(),
        span.as_secs_f64() / took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / outcome.judgements as f64
    );
    let megabytes: u64 = std::env::var("REPLAY_BENCH_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(256);
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("metrics.om");
    file(&path, megabytes << 20)?;
    let size = std::fs::metadata(&path)?.len() as f64;
    let lines = line_ends(&path)?;
    let before = resident_kib();
    let begun = Instant::now();
    let mut reader = TextReader::new([&*subject.policy]);
    reader.file(&path, &|_| ())?;
    let recording = reader.into_recorder().finish();
    let read = begun.elapsed();
    let begun = Instant::now();
    replay(&recording, &[subject], &Options::default(), &mut ())?;
    println!(
        "a file of {:.0} MB: read in {read:.2?} ({:.0} MB/s, {:.1} times as long as its line ends alone), replayed in {:.2?}, \
         at most {} MiB more memory",
        size / 1e6,
        size / 1e6 / read.as_secs_f64(),
        read.as_secs_f64() / lines.as_secs_f64(),
        begun.elapsed(),
        peak_kib().saturating_sub(before) / 1024
    );
    Ok(())
}

fn subject() -> Result<Subject, Box<dyn std::error::Error>> {
    let config = config::parse(&[(PathBuf::from("policy.toml"), POLICY.to_owned())]).map_err(|e| e.to_string())?;
    let workload = config.workloads.into_values().next().ok_or("a workload")?;
    Ok(Subject { id: workload.policy.id.clone(), policy: Arc::clone(&workload.policy) })
}

/// Halfway through, a new version comes.
fn day() -> std::io::Result<Recording> {
    let mut recorder = Recorder::new();
    for pod in 0..PODS {
        for (revision, from, to) in [("v1", 0, DAY / 2), ("v2", DAY / 2, DAY)] {
            let instance = format!("10.0.{pod}.{}:5000", if revision == "v1" { 1 } else { 2 });
            let base = [("instance", instance.as_str()), ("revision", revision)];
            let mut put = |name: &str, label: (&str, &str), rate: f64| -> std::io::Result<()> {
                let Some(series) = recorder.series(name, &[base[0], base[1], label]) else { return Ok(()) };
                for (n, age) in (from..to).step_by(5).enumerate() {
                    let at = Timestamp::from_millis((DAWN + age) * 1000);
                    recorder.point(series, at, (n as f64 * rate).floor())?;
                }
                Ok(())
            };
            put("http_requests_total", ("code", "200"), 249.0)?;
            put("http_requests_total", ("code", "500"), 1.0)?;
            for (index, bound) in BOUNDS.into_iter().enumerate() {
                put("http_request_duration_seconds_bucket", ("le", bound), 250.0 * (index + 1) as f64 / 14.0)?;
            }
            put("process_start_time_seconds", ("", ""), 0.0)?;
        }
    }
    Ok(recorder.finish())
}

/// Series after series, each over a day at 5 s, until it is large enough.
fn file(path: &Path, bytes: u64) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut written = 0;
    'all: for pod in 0.. {
        for name in ["http_requests_total", "queue_depth", "go_memstats_alloc_bytes"] {
            for age in (0..DAY).step_by(STEP as usize) {
                let line = format!(
                    "{name}{{code=\"200\",instance=\"10.0.{pod}.1:5000\",job=\"api\",revision=\"v1\"}} {} {}\n",
                    age * 50,
                    DAWN + age
                );
                out.write_all(line.as_bytes())?;
                written += line.len() as u64;
                if written >= bytes {
                    break 'all;
                }
            }
        }
    }
    out.write_all(b"# EOF\n")?;
    out.flush()
}

/// How long it takes to read the file and find the ends of its lines, with the file in the page cache.
fn line_ends(path: &Path) -> std::io::Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..2 {
        let begun = Instant::now();
        let mut file = File::open(path)?;
        let mut piece = vec![0; 1 << 20];
        let mut lines = 0;
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 {
                break;
            }
            lines += memchr::memchr_iter(b'\n', &piece[..read]).count();
        }
        std::hint::black_box(lines);
        best = best.min(begun.elapsed());
    }
    Ok(best)
}

fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

fn resident_kib() -> u64 {
    status("VmRSS")
}

fn peak_kib() -> u64 {
    status("VmHWM")
}
