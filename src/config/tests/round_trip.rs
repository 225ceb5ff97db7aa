//! Policies written out and read back are the same.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::parsed;
use crate::domain::id::{SignalName, WorkloadId};
use crate::domain::policy::{
    Aggregate, Condition, Formula, Habitat, Mode, NoData, OperandId, Restart, Severity, Strategy as Way, WorkloadPolicy,
};
use crate::domain::time::Span;

/// A policy as numbers, independent of the types under test.
#[derive(Clone, Debug)]
struct Written {
    strategy: Way,
    mode: Mode,
    interval_ms: u64,
    hours: (u64, u64),
    deadline_s: u64,
    cooldown_s: u64,
    per_day: u32,
    signals: Vec<WrittenSignal>,
    triggers: Vec<WrittenTrigger>,
    stable_for_s: u64,
    smoke: Vec<String>,
}

#[derive(Clone, Debug)]
struct WrittenSignal {
    kind: usize,
    label: String,
    quantile: f64,
    windows: u64,
    min_requests: u64,
    no_data: NoData,
    aggregate: Aggregate,
}

#[derive(Clone, Debug)]
struct WrittenTrigger {
    signal: usize,
    above: bool,
    tenths: u32,
    hold_for_s: u64,
    severity: Severity,
}

/// Ratio, histogram in seconds, summary in milliseconds, gauge, rate.
const KINDS: usize = 5;

fn signals() -> impl Strategy<Value = Vec<WrittenSignal>> {
    let no_data = prop::sample::select(vec![NoData::Hold, NoData::Ok, NoData::Breach]);
    let aggregate = prop::sample::select(vec![Aggregate::Sum, Aggregate::Avg, Aggregate::Min, Aggregate::Max]);
    let signal = (0..KINDS, "[ -~é\\n]{0,8}", 0.0..=1.0, 2..20_u64, 0..100_u64, no_data, aggregate).prop_map(
        |(kind, label, quantile, windows, min_requests, no_data, aggregate)| WrittenSignal {
            kind,
            label,
            quantile,
            windows,
            min_requests,
            no_data,
            aggregate,
        },
    );
    prop::collection::vec(signal, 1..5)
}

fn triggers() -> impl Strategy<Value = Vec<WrittenTrigger>> {
    let severity = prop::sample::select(vec![Severity::Critical, Severity::Scheduled, Severity::Alert]);
    let trigger = (0..100_usize, any::<bool>(), 1..999_u32, 0..3_600_u64, severity).prop_map(
        |(signal, above, tenths, hold_for_s, severity)| WrittenTrigger { signal, above, tenths, hold_for_s, severity },
    );
    prop::collection::vec(trigger, 0..6)
}

fn policies() -> impl Strategy<Value = Written> {
    let strategy = prop::sample::select(vec![Way::Direct, Way::Rolling]);
    let mode = prop::sample::select(vec![Mode::Observe, Mode::Approve, Mode::Enforce]);
    let numbers = (100..=300_000_u64, (1..100_u64, 1..100_u64), 600..86_400_u64, 0..86_400_u64, 1..=1_000_u32);
    let smoke = prop::collection::vec("[ -~é]{1,12}", 0..4);
    (strategy, mode, numbers, signals(), triggers(), 0..600_u64, smoke).prop_map(
        |(strategy, mode, (interval_ms, hours, deadline_s, cooldown_s, per_day), signals, triggers, stable, smoke)| {
            Written {
                strategy,
                mode,
                interval_ms,
                hours,
                deadline_s,
                cooldown_s,
                per_day,
                signals,
                triggers,
                stable_for_s: stable,
                smoke,
            }
        },
    )
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn word<T: serde::Serialize>(value: T) -> String {
    serde_json::to_string(&value).unwrap()
}

impl WrittenSignal {
    /// The selector of one series, in PromQL.
    fn selector(&self, name: &str) -> String {
        format!("{name}{{l={}}}", serde_json::to_string(&self.label).unwrap())
    }

    fn render(&self, index: usize, interval_ms: u64, out: &mut String) {
        let _ = writeln!(out, "[workload.w.signal.s{index}]\nno_data = {}", word(self.no_data));
        let _ = writeln!(out, "window = \"{}ms\"", self.windows * interval_ms);
        let series = |name: &str| quoted(&self.selector(name));
        let _ = match self.kind {
            0 => writeln!(out, "bad = {}\ntotal = {}", series("bad_total"), series("all_total")),
            1 => writeln!(out, "histogram = {}\nquantile = {:?}", series("took_seconds"), self.quantile),
            2 => writeln!(out, "summary = {}\nquantile = {:?}\nunit = \"ms\"", series("took"), self.quantile),
            3 => writeln!(out, "gauge = {}\naggregate = {}", series("depth"), word(self.aggregate)),
            _ => writeln!(out, "counter = {}", series("done_total")),
        };
        if self.kind < 2 {
            let _ = writeln!(out, "min_requests = {}", self.min_requests);
        }
    }

    /// What `describe` says of it.
    fn expected(&self) -> String {
        let quantile = self.quantile;
        let formula = match self.kind {
            0 => format!("{} / {}", self.selector("bad_total"), self.selector("all_total")),
            1 => format!("{quantile} of buckets {}", self.selector("took_seconds")),
            2 => format!("{quantile} of summary {}", self.selector("took")),
            3 => format!("{:?} of {}", self.aggregate, self.selector("depth")),
            _ => format!("rate of {}", self.selector("done_total")),
        };
        let scale = if self.kind == 2 { 0.001 } else { 1.0 };
        format!("{formula} x {scale}")
    }
}

fn describe(policy: &WorkloadPolicy, name: &SignalName) -> String {
    let candidate = &policy.signals[name].candidates[0];
    let text = |id: OperandId| policy.operands.get(id).unwrap().selector.to_string();
    let formula = match candidate.formula {
        Formula::Ratio { bad, total } => format!("{} / {}", text(bad), text(total)),
        Formula::Histogram { buckets, quantile } => format!("{quantile} of buckets {}", text(buckets)),
        Formula::Summary { quantiles, quantile } => format!("{quantile} of summary {}", text(quantiles)),
        Formula::Gauge { gauge, aggregate } => format!("{aggregate:?} of {}", text(gauge)),
        Formula::Query => "an expression".to_owned(),
        Formula::Rate { counter } => format!("rate of {}", text(counter)),
        Formula::Builtin(builtin) => format!("{builtin:?}"),
    };
    format!("{formula} x {}", candidate.scale)
}

impl WrittenTrigger {
    /// The threshold in the spelling of the signal's unit, and in its base unit.
    fn bound(&self, kind: usize) -> (String, f64) {
        let tenths = f64::from(self.tenths);
        match kind {
            0 => (format!("\"{}%\"", tenths / 10.0), tenths / 10.0 / 100.0),
            1 => (format!("\"{}ms\"", self.tenths), tenths * 0.001),
            2 => (format!("\"{}s\"", tenths / 10.0), tenths / 10.0),
            3 => (format!("{:?}", tenths / 10.0), tenths / 10.0),
            _ => (format!("\"{}/s\"", self.tenths), tenths),
        }
    }
}

fn render(written: &Written) -> String {
    let mut out = String::from("[workload.w]\nscrape = { port = 1 }\n");
    let _ = writeln!(out, "release_dir = {{ path = \"/srv/w\", restart = [\"r\", {}] }}", quoted("a \"b\" \\ c"));
    let _ = writeln!(out, "strategy = {}\nmode = {}", word(written.strategy), word(written.mode));
    let _ = writeln!(out, "interval = \"{}ms\"\nper_day = {}", written.interval_ms, written.per_day);
    let _ = writeln!(out, "probation = \"{}h\"\nknown_good_after = \"{}h\"", written.hours.0, written.hours.1);
    let _ = writeln!(out, "deadline = \"{}s\"\ncooldown = \"{}s\"", written.deadline_s, written.cooldown_s);
    out += "trigger = [\n";
    for (index, trigger) in written.triggers.iter().enumerate() {
        let signal = trigger.signal % written.signals.len();
        let (bound, _) = trigger.bound(written.signals[signal].kind);
        let side = if trigger.above { "above" } else { "below" };
        let (hold_for, severity) = (trigger.hold_for_s, word(trigger.severity));
        let _ = writeln!(
            out,
            "{{ name = \"t{index}\", signal = \"s{signal}\", {side} = {bound}, for = \"{hold_for}s\", severity = {severity} }},"
        );
    }
    out += "]\n[workload.w.verify]\n";
    let _ = writeln!(out, "stable_for = \"{}s\"\nhealth = false", written.stable_for_s);
    if !written.smoke.is_empty() {
        let argv: Vec<_> = written.smoke.iter().map(|argument| quoted(argument)).collect();
        let _ = writeln!(out, "smoke = [{}]", argv.join(", "));
    }
    for (index, signal) in written.signals.iter().enumerate() {
        signal.render(index, written.interval_ms, &mut out);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_policy_is_read_as_it_was_written(written in policies()) {
        let text = render(&written);
        let config = parsed(&text);
        let policy = &config.workloads[&WorkloadId::new("w")].policy;
        prop_assert_eq!(policy.strategy, written.strategy);
        prop_assert_eq!(policy.mode, written.mode);
        prop_assert_eq!(policy.interval, Span::from_millis(written.interval_ms));
        prop_assert_eq!(policy.probation, Span::from_secs(3600).times(written.hours.0));
        prop_assert_eq!(policy.known_good_after, Span::from_secs(3600).times(written.hours.1));
        prop_assert_eq!(policy.deadline, Span::from_secs(written.deadline_s));
        prop_assert_eq!(policy.cooldown, Span::from_secs(written.cooldown_s));
        prop_assert_eq!(policy.per_day, written.per_day);
        prop_assert_eq!(policy.verify.stable_for, Span::from_secs(written.stable_for_s));
        prop_assert!(!policy.verify.health);
        let smoke = policy.verify.smoke.as_ref().map(|smoke| smoke.argv.clone());
        prop_assert_eq!(smoke.unwrap_or_default(), written.smoke);
        let Habitat::ReleaseDir(dir) = &policy.habitat else { panic!("{:?}", policy.habitat) };
        prop_assert_eq!(&dir.instances[0].restart, &Restart::Command(vec!["r".to_owned(), "a \"b\" \\ c".to_owned()]));
        for (index, signal) in written.signals.iter().enumerate() {
            let name = SignalName::new(format!("s{index}"));
            prop_assert_eq!(describe(policy, &name), signal.expected());
            let read = &policy.signals[&name];
            prop_assert_eq!(read.window, Span::from_millis(written.interval_ms).times(signal.windows));
            prop_assert_eq!(read.no_data, signal.no_data);
            prop_assert_eq!(read.min_requests, if signal.kind < 2 { signal.min_requests } else { 0 });
        }
        prop_assert_eq!(policy.triggers.len(), written.triggers.len());
        for (index, (read, trigger)) in policy.triggers.iter().zip(&written.triggers).enumerate() {
            let signal = trigger.signal % written.signals.len();
            let (_, bound) = trigger.bound(written.signals[signal].kind);
            prop_assert_eq!(read.name.as_str(), format!("t{index}"));
            prop_assert_eq!(read.signal.as_str(), format!("s{signal}"));
            prop_assert_eq!(matches!(read.condition, Condition::Above(_)), trigger.above);
            prop_assert_eq!(read.condition.threshold(), Some(bound));
            prop_assert_eq!(read.hold_for, Span::from_secs(trigger.hold_for_s));
            prop_assert_eq!(read.severity, trigger.severity);
        }
    }
}
