//! `for` means what it means in a rule of Prometheus: the same series go to Debian's promtool and to the judgement, and a
//! plain bound fires at the same evaluations.
//!
//! Where the two are meant to differ, no series here goes: Prometheus takes a missing sample for the last one for five
//! minutes and then for no alert, while here nothing is known after two intervals, which pauses the clock; a share is here
//! beyond its bound only once its requests prove it, though the clock runs before; and a trigger does not begin to fire
//! where the newest requests are clearly well again (below three quarters of the bound), though the window is not.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rollbackd::domain::controller::Controller;
use rollbackd::domain::health::verdict::TriggerState;
use rollbackd::domain::id::WorkloadId;
use rollbackd::domain::time::{Span, Timestamp};
use rollbackd::replay::{Options, Recorder, Subject, Watcher, replay};

/// Seconds between two samples, and two evaluations.
const STEP: u64 = 15;

/// Samples of a case: 45 minutes.
const SAMPLES: usize = 180;

/// Cases of each sort.
const CASES: usize = 24;

const POLICY: &str = r#"
[workload.api]
release_dir = { path = "/srv/api", unit = "api.service" }
scrape = { port = 5000 }
interval = "15s"

[workload.api.signal.queue]
gauge = "queue_depth"

[[workload.api.trigger]]
name = "deep"
signal = "queue"
above = 50
for = "2m"

[[workload.api.trigger]]
name = "shallow"
signal = "queue"
below = 20
for = "1m"

[[workload.api.trigger]]
name = "errors"
signal = "error_rate"
above = "10%"
for = "2m"
"#;

const RULES: &str = r#"
groups:
  - name: same
    rules:
      - { alert: deep, expr: 'queue_depth > 50', for: 2m }
      - { alert: shallow, expr: 'queue_depth < 20', for: 1m }
      - alert: errors
        expr: 'sum by (case) (rate(http_requests_total{code="500"}[1m])) / sum by (case) (rate(http_requests_total[1m])) > 0.1'
        for: 2m
"#;

/// One case: what a gauge shows at each sample, and which share of the requests since the one before fails.
struct Case {
    gauge: Vec<f64>,
    errors: Vec<f64>,
}

/// Levels that last for a while. Those of errors last long or shortly, so that none ends while it is about to fire.
fn case(seed: u64) -> Case {
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (mut gauge, mut errors) = (Vec::new(), Vec::new());
    while gauge.len() < SAMPLES {
        let level = [10.0, 20.0, 35.0, 50.0, 51.0, 90.0][dice.random_range(0..6)];
        let length = dice.random_range(1..14);
        gauge.extend(std::iter::repeat_n(level, length));
    }
    while errors.len() < SAMPLES {
        let well = dice.random_range(6..14);
        errors.extend(std::iter::repeat_n([0.0, 0.02][dice.random_range(0..2)], well));
        let bad = if dice.random_bool(0.5) { dice.random_range(1..4) } else { dice.random_range(11..24) };
        errors.extend(std::iter::repeat_n([0.4, 0.8][dice.random_range(0..2)], bad));
    }
    gauge.truncate(SAMPLES);
    errors.truncate(SAMPLES);
    Case { gauge, errors }
}

/// Requests so far and those that failed, at each sample: 600 between two.
fn counters(errors: &[f64]) -> Vec<(f64, f64)> {
    let mut sum = (0.0, 0.0);
    errors
        .iter()
        .map(|share| {
            sum = (sum.0 + 600.0 * (1.0 - share), sum.1 + 600.0 * share);
            sum
        })
        .collect()
}

/// Which trigger of which case fires at which evaluation.
type Firings = BTreeSet<(String, usize, u64)>;

/// What Prometheus says: every alert that a test of its rules does not expect is told with its time.
fn by_promtool(dir: &Path, cases: &[Case]) -> Firings {
    let text = |values: &[f64]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut series = String::new();
    for (number, case) in cases.iter().enumerate() {
        let (good, bad): (Vec<f64>, Vec<f64>) = counters(&case.errors).into_iter().unzip();
        for (name, values) in [
            (format!("queue_depth{{case=\"{number}\"}}"), text(&case.gauge)),
            (format!("http_requests_total{{case=\"{number}\",code=\"200\"}}"), text(&good)),
            (format!("http_requests_total{{case=\"{number}\",code=\"500\"}}"), text(&bad)),
        ] {
            writeln!(series, "      - {{ series: '{name}', values: '{values}' }}").unwrap();
        }
    }
    let mut expected = String::new();
    for at in (0..SAMPLES as u64).map(|sample| sample * STEP) {
        for alert in ["deep", "shallow", "errors"] {
            writeln!(expected, "      - {{ eval_time: {at}s, alertname: {alert}, exp_alerts: [] }}").unwrap();
        }
    }
    let test = format!(
        "rule_files: [rules.yml]\nevaluation_interval: {STEP}s\ntests:\n  - interval: {STEP}s\n    input_series:\n{series}    \
         alert_rule_test:\n{expected}"
    );
    std::fs::write(dir.join("rules.yml"), RULES).unwrap();
    std::fs::write(dir.join("test.yml"), test).unwrap();
    let run = Command::new("promtool").args(["test", "rules", "test.yml"]).current_dir(dir).output();
    let run = run.unwrap_or_else(|error| panic!("promtool can't be run ({error}): apt-get install prometheus"));
    told(&(String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr)))
}

/// From promtool's account of what it did not expect.
fn told(text: &str) -> Firings {
    let mut firings = Firings::new();
    let mut at = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("alertname: ") {
            let (alert, time) = rest.split_once(", time: ").expect("name and time");
            at = Some((alert.to_owned(), seconds(time.trim_end_matches([',', ' ']))));
        }
        let case = line.split_once("case=\"").and_then(|(_, rest)| rest.split_once('"'));
        if let (Some((alert, second)), Some((case, _)), true) = (&at, case, line.contains("Labels:")) {
            firings.insert((alert.clone(), case.parse().expect("a number"), *second));
        }
    }
    firings
}

/// As Prometheus writes a duration: `44m15s`.
fn seconds(text: &str) -> u64 {
    let span: Span = serde_json::from_value(text.into()).expect("a duration");
    span.as_millis() / 1000
}

/// Notes what fires at each evaluation of Prometheus' grid: by the last judgement until then.
struct Grid {
    number: usize,
    firings: Firings,
}

impl Watcher for Grid {
    fn judged(&mut self, controller: &Controller, now: Timestamp) {
        let second = u64::try_from(now.as_millis()).unwrap() / 1000;
        if second % STEP != 0 {
            return;
        }
        for trigger in &controller.assessment().triggers {
            let key = (trigger.name.to_string(), self.number, second);
            match trigger.state {
                TriggerState::Firing { .. } => self.firings.insert(key),
                TriggerState::Inactive | TriggerState::Pending { .. } => self.firings.remove(&key),
            };
        }
    }
}

fn by_judgement(cases: &[Case]) -> Firings {
    let config = rollbackd::config::parse(&[("policy.toml".into(), POLICY.to_owned())]).unwrap();
    let (id, workload) = config.workloads.first_key_value().unwrap();
    let subject = Subject { id: WorkloadId::clone(id), policy: Arc::clone(&workload.policy) };
    let mut all = Firings::new();
    for (number, case) in cases.iter().enumerate() {
        let mut recorder = Recorder::new();
        let mut add = |name: &str, code: &str, values: Vec<f64>| {
            let labels = [("instance", "a:5000"), ("revision", "v1"), ("code", code)];
            let series = recorder.series(name, &labels).unwrap();
            for (sample, value) in (0..).zip(values) {
                let at = Timestamp::default() + Span::from_secs(STEP).times(sample);
                recorder.point(series, at, value).unwrap();
            }
        };
        let (good, bad): (Vec<f64>, Vec<f64>) = counters(&case.errors).into_iter().unzip();
        add("queue_depth", "", case.gauge.clone());
        add("http_requests_total", "200", good);
        add("http_requests_total", "500", bad);
        let recording = recorder.finish();
        let mut grid = Grid { number, firings: Firings::new() };
        replay(&recording, std::slice::from_ref(&subject), &Options::default(), &mut grid).unwrap();
        all.append(&mut grid.firings);
    }
    all
}

#[test]
fn a_bound_fires_at_the_very_evaluations_at_which_a_rule_of_prometheus_does() {
    let dir = tempfile::tempdir().unwrap();
    let cases: Vec<Case> = (0..CASES as u64).map(case).collect();
    let (theirs, ours) = (by_promtool(dir.path(), &cases), by_judgement(&cases));
    for alert in ["deep", "shallow", "errors"] {
        let of = |all: &Firings| all.iter().filter(|(name, ..)| name == alert).cloned().collect::<Firings>();
        let (theirs, ours) = (of(&theirs), of(&ours));
        assert!(theirs.len() > 200, "{alert} fires only {} times: the series prove nothing", theirs.len());
        let differing: Vec<_> = theirs.symmetric_difference(&ours).collect();
        let first = differing.first().map(|(_, number, second)| (number, second));
        assert!(differing.is_empty(), "{alert}: {} of {} differ, first {first:?}", differing.len(), theirs.len());
    }
}
