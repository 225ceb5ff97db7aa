//! Windows of a fleet against a naive model that keeps every sample, in one run: `cargo bench --bench window`.
//!
//! 400 targets of 300 wanted series, an interval of 5 s, windows of a minute, for ten minutes. The naive model keeps the
//! samples of each series as a list and adds up what lies in the window, as a query over stored series does.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollbackd::domain::health::Health;
use rollbackd::domain::health::selector::Selector;
use rollbackd::domain::id::{SignalName, TargetId, WorkloadId};
use rollbackd::domain::observation::{Observation, Page, Sample, Seen, SeriesId};
use rollbackd::domain::policy::{
    Candidate, Formula, Habitat, Mode, NoData, Operand, OperandId, OperandKind, Operands, ReleaseDir, Signal, Strategy,
    Verify, WorkloadPolicy,
};
use rollbackd::domain::time::{Span, Timestamp};
use rollbackd::domain::units::Unit;

const TARGETS: usize = 400;
const HANDLERS: u32 = 20;
const BOUNDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, f64::INFINITY];
const STEPS: i64 = 120;
const INTERVAL: i64 = 5_000;
const WINDOW: i64 = 60_000;

const TOTAL: OperandId = OperandId(0);
const BAD: OperandId = OperandId(1);
const BUCKETS: OperandId = OperandId(2);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut health = Health::new(Arc::new(policy()?));
    let mut naive = Naive::default();
    let targets: Vec<TargetId> = (0..TARGETS).map(|n| TargetId::new(format!("10.0.0.{n}:80"))).collect();
    let before = resident_kib();
    let mut ours = Times::default();
    for step in 0..STEPS {
        let now = Timestamp::from_millis(step * INTERVAL);
        for target in &targets {
            let observation = observation(target, now, page(step));
            let start = Instant::now();
            health.observe(&observation);
            ours.observe += start.elapsed();
        }
        let start = Instant::now();
        black_box(health.assess(None, now));
        ours.assess += start.elapsed();
    }
    let ours_kib = resident_kib().saturating_sub(before);
    let before = resident_kib();
    let mut theirs = Times::default();
    for step in 0..STEPS {
        let now = step * INTERVAL;
        for target in 0..TARGETS {
            let page = page(step);
            let start = Instant::now();
            naive.observe(target, now, &page);
            theirs.observe += start.elapsed();
        }
        let start = Instant::now();
        black_box(naive.assess(now));
        theirs.assess += start.elapsed();
    }
    let theirs_kib = resident_kib().saturating_sub(before);
    report("a page taken in", ours.observe, theirs.observe, STEPS as u32 * TARGETS as u32);
    report("an assessment", ours.assess, theirs.assess, STEPS as u32);
    println!("memory: {ours_kib} KiB, naive {theirs_kib} KiB");
    Ok(())
}

#[derive(Default)]
struct Times {
    observe: Duration,
    assess: Duration,
}

fn report(what: &str, ours: Duration, theirs: Duration, times: u32) {
    let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
    println!("{what}: {:?}, naive {:?}, ratio {ratio:.1}", ours / times, theirs / times);
}

fn policy() -> Result<WorkloadPolicy, Box<dyn std::error::Error>> {
    let mut operands = Operands::default();
    for (selector, kind) in [
        ("http_requests_total", OperandKind::Value),
        (r#"http_requests_total{code=~"5.."}"#, OperandKind::Value),
        ("http_request_duration_seconds", OperandKind::Buckets),
    ] {
        operands.intern(Operand { selector: Selector::parse(selector)?, kind });
    }
    let signals = [
        ("error_rate", Unit::Ratio, Formula::Ratio { bad: BAD, total: TOTAL }),
        ("p95_latency", Unit::Seconds, Formula::Histogram { buckets: BUCKETS, quantile: 0.95 }),
        ("p99_latency", Unit::Seconds, Formula::Histogram { buckets: BUCKETS, quantile: 0.99 }),
        ("request_rate", Unit::PerSecond, Formula::Rate { counter: TOTAL }),
    ];
    let signals = signals.map(|(name, unit, formula)| Signal {
        name: SignalName::from(name),
        unit,
        candidates: vec![Candidate { convention: None, formula, scale: 1.0 }],
        window: Span::from_millis(WINDOW as u64),
        min_requests: 20,
        no_data: NoData::Hold,
        confidence: 0.95,
    });
    Ok(WorkloadPolicy {
        id: WorkloadId::from("api"),
        mode: Mode::Observe,
        strategy: Strategy::Direct,
        interval: Span::from_millis(INTERVAL as u64),
        is_asked: true,
        probation: Span::from_secs(86_400),
        known_good_after: Span::from_secs(600),
        deadline: Span::from_secs(300),
        cooldown: Span::from_secs(1800),
        per_day: 2,
        gitops: rollbackd::domain::policy::Gitops::Alert,
        gitops_limit: Span::from_secs(3600),
        warmup: Span::from_secs(60),
        namespace: "host".to_owned(),
        operands,
        signals: BTreeMap::from(signals.map(|signal| (signal.name.clone(), signal))),
        triggers: Vec::new(),
        verify: Verify { stable_for: Span::from_secs(120), checks: Vec::new(), health: false, smoke: None },
        notify: Vec::new(),
        habitat: Habitat::ReleaseDir(ReleaseDir {
            root: "/srv/api".into(),
            releases: "releases".into(),
            instances: Vec::new(),
        }),
    })
}

/// 300 series: a histogram for each of 20 handlers, and their counters.
fn page(step: i64) -> Page {
    let mut samples = Vec::with_capacity(300);
    let mut add = |operand, bound, value| {
        let series = SeriesId(u32::try_from(samples.len()).unwrap_or(u32::MAX));
        samples.push(Sample { operand, series, bound, value, timestamp: None });
    };
    for handler in 0..HANDLERS {
        let each = (step * i64::from(handler + 1)) as f64;
        for (place, bound) in BOUNDS.into_iter().enumerate() {
            add(BUCKETS, bound, each * (place + 1) as f64);
        }
        add(TOTAL, 0.0, each * 12.0);
        add(TOTAL, 0.0, each);
        add(BAD, 0.0, each);
    }
    Page { samples, process_start: Some(-100.0), ..Page::default() }
}

fn observation(target: &TargetId, at: Timestamp, page: Page) -> Observation {
    let seen = Seen::Scrape { target: target.clone(), instance: None, result: Ok(page) };
    Observation { workload: WorkloadId::from("api"), at, seen }
}

/// Every sample of every series, for as long as the window is.
#[derive(Default)]
struct Naive {
    series: HashMap<(usize, OperandId, SeriesId), Stored>,
}

/// A series' bound and its samples.
type Stored = (f64, VecDeque<(i64, f64)>);

impl Naive {
    fn observe(&mut self, target: usize, now: i64, page: &Page) {
        for sample in &page.samples {
            let entry = self.series.entry((target, sample.operand, sample.series));
            let (_, values) = entry.or_insert_with(|| (sample.bound, VecDeque::new()));
            values.push_back((now, sample.value));
            while values.len() > 1 && values[1].0 <= now - WINDOW {
                values.pop_front();
            }
        }
    }

    fn assess(&self, now: i64) -> (f64, f64, Vec<(f64, f64)>) {
        let (mut bad, mut total, mut buckets) = (0.0, 0.0, Vec::<(f64, f64)>::new());
        for ((_, operand, _), (bound, values)) in &self.series {
            let mut increase = 0.0;
            for (before, after) in values.iter().zip(values.iter().skip(1)) {
                if after.0 > now - WINDOW {
                    increase += if after.1 < before.1 { after.1 } else { after.1 - before.1 };
                }
            }
            match *operand {
                TOTAL => total += increase,
                BAD => bad += increase,
                _ => match buckets.iter_mut().find(|(known, _)| known == bound) {
                    Some((_, count)) => *count += increase,
                    None => buckets.push((*bound, increase)),
                },
            }
        }
        (bad, total, buckets)
    }
}

/// Resident memory of this process.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
