//! A recorded service for tests: pods that serve a release, looked at every 15 s.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config;
use crate::domain::time::Timestamp;
use crate::replay::{Kind, Options, Outcome, Recorder, Subject, replay};

pub(super) const DAWN: i64 = 1_764_300_000;
pub(super) const STEP: i64 = 15;

/// The document's triggers for one Deployment.
pub(super) const POLICY: &str = r#"
[workload.api]
kubernetes = { namespace = "prod", deployment = "api" }
scrape = { port = 5000 }
"#;

pub(super) fn subject(policy: &str) -> Subject {
    let config = config::parse(&[(PathBuf::from("policy.toml"), policy.to_owned())]).unwrap();
    let workload = config.workloads.into_values().next().unwrap();
    Subject { id: workload.policy.id.clone(), policy: Arc::clone(&workload.policy) }
}

/// One running copy.
#[derive(Clone)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) revision: String,
    pub(super) errors: f64,
    pub(super) started: i64,
    pub(super) good: f64,
    pub(super) bad: f64,
}

pub(super) fn pod(name: &str, revision: &str, errors: f64) -> Pod {
    Pod { name: name.to_owned(), revision: revision.to_owned(), errors, started: DAWN - 1_000, good: 0.0, bad: 0.0 }
}

/// What is written down, and of whom.
pub(super) struct Scene {
    pub(super) now: i64,
    pub(super) pods: Vec<Pod>,
    pub(super) recorder: Recorder,
    /// Labels that pods' series have.
    pub(super) labels: fn(&Pod) -> Vec<(&'static str, String)>,
}

pub(super) fn by_label(pod: &Pod) -> Vec<(&'static str, String)> {
    vec![("instance", format!("{}:5000", pod.name)), ("pod", pod.name.clone()), ("revision", pod.revision.clone())]
}

impl Scene {
    pub(super) fn new(pods: Vec<Pod>) -> Self {
        Self { now: DAWN, pods, recorder: Recorder::new(), labels: by_label }
    }

    pub(super) fn put(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let series = self.recorder.series(name, labels).unwrap();
        self.recorder.point(series, Timestamp::from_millis(self.now * 1000), value).unwrap();
    }

    /// Lets each pod serve 20 requests a second for so long, and looks at all of them.
    pub(super) fn run(&mut self, seconds: i64) {
        self.run_with(seconds, |_| ());
    }

    pub(super) fn run_with(&mut self, seconds: i64, mut also: impl FnMut(&mut Self)) {
        let end = self.now + seconds;
        while self.now < end {
            for index in 0..self.pods.len() {
                self.look_at(index);
            }
            also(self);
            self.now += STEP;
        }
    }

    pub(super) fn look_at(&mut self, index: usize) {
        let requests = 20.0 * STEP as f64;
        let pod = &mut self.pods[index];
        pod.good += (requests * (1.0 - pod.errors)).round();
        pod.bad += (requests * pod.errors).round();
        let pod = pod.clone();
        let labels = (self.labels)(&pod);
        let with = |name: &'static str, value: &'static str| -> Vec<(&str, &str)> {
            let labels = labels.iter().map(|(name, value)| (*name, value.as_str()));
            labels.chain([(name, value)]).filter(|(name, _)| !name.is_empty()).collect()
        };
        self.put("http_requests_total", &with("code", "200"), pod.good);
        self.put("http_requests_total", &with("code", "500"), pod.bad);
        for (le, share) in [("0.1", 0.9), ("1", 1.0), ("10", 1.0), ("+Inf", 1.0)] {
            self.put("http_request_duration_seconds_bucket", &with("le", le), ((pod.good + pod.bad) * share).floor());
        }
        self.put("process_start_time_seconds", &with("", ""), pod.started as f64);
    }

    pub(super) fn play(self, options: &Options) -> Outcome {
        self.play_with(POLICY, options)
    }

    pub(super) fn play_with(self, policy: &str, options: &Options) -> Outcome {
        replay(&self.recorder.finish(), &[subject(policy)], options, &mut ()).unwrap()
    }
}

/// Decisions as `(seconds since the beginning, trigger, decision)`.
pub(super) fn told(outcome: &Outcome) -> Vec<(i64, String, Kind)> {
    let all = outcome.decisions.iter();
    all.map(|one| (one.fired_at.as_millis() / 1000 - DAWN, one.trigger.clone(), one.decision)).collect()
}

/// The releases, by name, with the seconds at which they came.
pub(super) fn releases(outcome: &Outcome) -> BTreeMap<String, i64> {
    let all = outcome.releases.iter();
    all.map(|(_, at, revision)| (revision.to_string(), at.as_millis() / 1000 - DAWN)).collect()
}
