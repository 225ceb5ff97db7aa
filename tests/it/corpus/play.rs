//! Cases drawn, recorded, replayed through the daemon's judgement, and held against what is right.

use std::path::PathBuf;
use std::sync::Arc;

use rollbackd::config;
use rollbackd::domain::id::WorkloadId;
use rollbackd::domain::policy::WorkloadPolicy;
use rollbackd::replay::{Decision, Kind, Options, Outcome, Schedule, Subject, replay};

use super::deployment::Version;
use super::families::{Case, Family};
use super::nature::Nature;
use super::noise::Dice;
use super::record::record;
use super::trace::{EPOCH, Trace, seconds};
use super::truth::{Right, earliest};

/// The document's critical triggers, and a comparison with the release before.
const POLICY: &str = r#"
[workload.api]
kubernetes = { namespace = "prod", deployment = "api" }
scrape = { port = 8080 }

[[workload.api.trigger]]
signal = "error_rate"
above = "10%"
for = "5m"

[[workload.api.trigger]]
signal = "p99_latency"
above = "5s"
for = "2m"

[[workload.api.trigger]]
signal = "oom_kills"
above = 0

[[workload.api.trigger]]
signal = "crash_loops"
above = 0
"#;

/// What compares with the release before.
const COMPARISON: &str = r#"
[[workload.api.trigger]]
name = "error_rate against the release before"
signal = "error_rate"
worse_than = "baseline"

[[workload.api.trigger]]
name = "p99_latency against the release before"
signal = "p99_latency"
worse_than = "baseline"

[[workload.api.trigger]]
name = "oom_kills against the release before"
signal = "oom_kills"
worse_than = "baseline"
"#;

pub(super) fn policy_text() -> String {
    format!("{POLICY}{COMPARISON}")
}

pub(super) fn policy(text: &str) -> Arc<WorkloadPolicy> {
    let files = [(PathBuf::from("corpus.toml"), text.to_owned())];
    let config = config::parse(&files).unwrap_or_else(|wrong| panic!("{wrong}"));
    Arc::clone(&config.workloads[&WorkloadId::new("api")].policy)
}

/// A case as it was recorded.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) trace: Trace,
    /// The companion of the recording, where it has one.
    pub(super) meta: Option<String>,
    pub(super) workload_label: Option<&'static str>,
    pub(super) right: Right,
    /// The earliest moment that can be defended, and by which rule, for a fault that must be taken back.
    pub(super) earliest: Option<(f64, &'static str)>,
}

pub(super) fn draw((name, draw): Family, seed: u64) -> Recorded {
    let mut dice = Dice::new(name, seed);
    let case = draw(&mut dice);
    recorded(&case, &mut dice)
}

pub(super) fn recorded(case: &Case, dice: &mut Dice) -> Recorded {
    let mut trace = Trace::default();
    let mut moment = None;
    for (number, story) in case.stories.iter().enumerate() {
        let nature = Nature::new(story, dice);
        let (looks, told) = record(&nature, dice, &mut trace);
        if let (Right::Must(from), 0) = (case.right, number) {
            moment = earliest(&nature, &looks, told, from);
        }
    }
    let story = &case.stories[0];
    let deploys = story.dialect.meta && story.pods.iter().any(|pod| pod.version == Version::New);
    let at = EPOCH as f64 / 1000.0 + story.deploy_at + story.dialect.meta_late;
    let meta = deploys.then(|| format!(r#"{{"deploy_at": {at:.3}, "old_version": "v41", "new_version": "v42"}}"#));
    let workload_label = story.dialect.workload.is_some().then_some("workload");
    Recorded { trace, meta, workload_label, right: case.right, earliest: moment }
}

impl Recorded {
    pub(super) fn replay(&self, policy: &Arc<WorkloadPolicy>) -> Outcome {
        let recording = super::openmetrics::recording(&self.trace);
        let schedule = self.meta.as_deref().map(|meta| Schedule::from_meta(meta).unwrap()).unwrap_or_default();
        let workload_label = self.workload_label.map(str::to_owned);
        let options = Options { schedule, workload_label, ..Options::default() };
        let names = match self.workload_label {
            Some(label) => recording.values_of(label).into_iter().map(WorkloadId::new).collect(),
            None => vec![policy.id.clone()],
        };
        let subjects: Vec<Subject> = names.into_iter().map(|id| Subject { id, policy: Arc::clone(policy) }).collect();
        replay(&recording, &subjects, &options, &mut ()).unwrap()
    }
}

/// How a decision compares with what is right.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Verdict {
    /// Rolled back where it must not be, or before there was a fault.
    False,
    /// Not rolled back where it must be.
    Missed,
    /// Rolled back, so many seconds after the earliest moment that can be defended.
    Found(f64),
    /// Left alone, which is right.
    Left,
    /// It could go either way, and it was rolled back, told of, or neither.
    Rolled,
    Told,
    Silent,
}

pub(super) fn judge(recorded: &Recorded, decisions: &[Decision]) -> Verdict {
    let rollback = decisions.iter().find(|decision| decision.decision == Kind::Rollback);
    let fired = rollback.map(|decision| seconds(decision.fired_at.as_millis()));
    // A recorded time may be a look's clock, which is ahead or behind.
    let early = |from: f64| fired.is_some_and(|fired| fired < from - 30.0);
    let told = || if decisions.is_empty() { Verdict::Silent } else { Verdict::Told };
    match (recorded.right, recorded.earliest, fired) {
        (Right::MustNot, _, None) => Verdict::Left,
        (Right::MustNot, _, Some(_)) => Verdict::False,
        (Right::Must(from) | Right::Either(from), ..) if early(from) => Verdict::False,
        (Right::Must(_), Some((at, _)), Some(fired)) => Verdict::Found((fired - at).max(0.0)),
        (Right::Must(_), Some(_), None) => Verdict::Missed,
        // Where not even the test that knows everything decides, nothing is owed.
        (Right::Must(_), None, Some(_)) | (Right::Either(_), _, Some(_)) => Verdict::Rolled,
        (Right::Must(_), None, None) | (Right::Either(_), _, None) => told(),
    }
}
