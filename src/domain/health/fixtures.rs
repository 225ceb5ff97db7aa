//! A small policy, and observations in few words, to test with.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Health;
use super::selector::Selector;
use super::verdict::{Assessment, Subject, TriggerStatus, Verdict};
use crate::domain::id::{InstanceId, RevisionId, SignalName, TargetId, TriggerName, WorkloadId};
use crate::domain::observation::{
    Answer, Fault, FaultKind, HostReading, Observation, Page, QueryAnswer, ReleaseView, Sample, Seen, SeriesId,
};
use crate::domain::policy::{
    Aggregate, Builtin, Candidate, Check, Condition, Formula, Habitat, Mode, NoData, Operand, OperandId, OperandKind,
    Operands, ReleaseDir, Severity, Signal, Strategy, Trigger, Verify, WorkloadPolicy,
};
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::{Finite, Unit};

pub(super) const TOTAL: u16 = 0;
pub(super) const BAD: u16 = 1;
pub(super) const BUCKETS: u16 = 2;
pub(super) const QUEUE: u16 = 3;
pub(super) const SUMMARY: u16 = 4;

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

pub(super) fn finite(value: f64) -> Finite {
    Finite::new(value).unwrap()
}

pub(super) fn signal(name: &str, unit: Unit, formula: Formula) -> Signal {
    Signal {
        name: SignalName::from(name),
        unit,
        candidates: vec![Candidate { convention: None, formula, scale: 1.0 }],
        window: Span::from_secs(60),
        min_requests: 20,
        no_data: NoData::Hold,
        confidence: 0.95,
    }
}

pub(super) fn trigger(signal: &str, condition: Condition, seconds: u64) -> Trigger {
    Trigger {
        name: TriggerName::from(signal),
        signal: SignalName::from(signal),
        condition,
        combined: None,
        confirm_with: None,
        hold_for: Span::from_secs(seconds),
        severity: Severity::Critical,
    }
}

/// One workload at an interval of 5 s with every kind of signal and no trigger.
pub(super) fn policy() -> WorkloadPolicy {
    let mut operands = Operands::default();
    for (selector, kind) in [
        ("http_requests_total", OperandKind::Value),
        (r#"http_requests_total{code=~"5.."}"#, OperandKind::Value),
        ("http_request_duration_seconds", OperandKind::Buckets),
        ("queue_depth", OperandKind::Value),
        ("rpc_duration_seconds", OperandKind::Quantiles),
    ] {
        operands.intern(Operand { selector: Selector::parse(selector).unwrap(), kind }).unwrap();
    }
    let id = OperandId;
    let signals = [
        signal("error_rate", Unit::Ratio, Formula::Ratio { bad: id(BAD), total: id(TOTAL) }),
        signal("p99_latency", Unit::Seconds, Formula::Histogram { buckets: id(BUCKETS), quantile: 0.99 }),
        signal("queue", Unit::Plain, Formula::Gauge { gauge: id(QUEUE), aggregate: Aggregate::Max }),
        signal("rpc_p99", Unit::Seconds, Formula::Summary { quantiles: id(SUMMARY), quantile: 0.99 }),
        signal("request_rate", Unit::PerSecond, Formula::Rate { counter: id(TOTAL) }),
        signal("health", Unit::Ratio, Formula::Builtin(Builtin::Health)),
        signal("restarts", Unit::Plain, Formula::Builtin(Builtin::Restarts)),
        signal("oom_kills", Unit::Plain, Formula::Builtin(Builtin::OomKills)),
        signal("crash_loops", Unit::Plain, Formula::Builtin(Builtin::CrashLoops)),
        signal("unavailable", Unit::Ratio, Formula::Builtin(Builtin::Unavailable)),
        signal("image_pull_failures", Unit::Plain, Formula::Builtin(Builtin::ImagePullFailures)),
        signal("progress_deadline", Unit::Plain, Formula::Builtin(Builtin::ProgressDeadline)),
    ];
    WorkloadPolicy {
        id: WorkloadId::from("api"),
        mode: Mode::Enforce,
        strategy: Strategy::Direct,
        interval: Span::from_secs(5),
        is_asked: true,
        probation: Span::from_secs(86_400),
        known_good_after: Span::from_secs(600),
        deadline: Span::from_secs(300),
        cooldown: Span::from_secs(1800),
        per_day: 2,
        gitops: crate::domain::policy::Gitops::Alert,
        gitops_limit: Span::from_secs(3600),
        warmup: Span::from_secs(60),
        namespace: "host".to_owned(),
        operands,
        signals: BTreeMap::from(signals.map(|signal| (signal.name.clone(), signal))),
        triggers: Vec::new(),
        verify: Verify {
            stable_for: Span::from_secs(120),
            checks: vec![check("error_rate", 0.01, false), check("p99_latency", 0.5, false)],
            health: true,
            smoke: None,
        },
        notify: Vec::new(),
        habitat: Habitat::ReleaseDir(ReleaseDir {
            root: "/srv/api".into(),
            releases: "releases".into(),
            instances: Vec::new(),
        }),
    }
}

pub(super) fn check(signal: &str, below: f64, explicit: bool) -> Check {
    Check { signal: SignalName::from(signal), bad_when: Condition::Above(finite(below)), explicit }
}

/// A policy with these triggers only.
pub(super) fn policy_with(triggers: Vec<Trigger>) -> WorkloadPolicy {
    WorkloadPolicy { triggers, ..policy() }
}

pub(super) fn sample(operand: u16, series: u32, bound: f64, value: f64) -> Sample {
    Sample { operand: OperandId(operand), series: SeriesId(series), bound, value, timestamp: None }
}

/// `total` and `bad` as plain counters of one target.
pub(super) fn requests(total: f64, bad: f64) -> Page {
    page(vec![sample(TOTAL, 1, 0.0, total), sample(BAD, 2, 0.0, bad)])
}

pub(super) fn page(samples: Vec<Sample>) -> Page {
    Page { samples, ..Page::default() }
}

pub(super) fn started(page: Page, seconds: i64) -> Page {
    Page { process_start: Some(seconds as f64), ..page }
}

pub(super) fn fault(kind: FaultKind) -> Fault {
    Fault { kind, detail: "as told".to_owned() }
}

/// One workload under test.
pub(super) struct Scene {
    pub(super) health: Health,
    pub(super) subject: Option<Subject>,
}

impl Scene {
    pub(super) fn new(policy: WorkloadPolicy) -> Self {
        Self { health: Health::new(Arc::new(policy)), subject: None }
    }

    fn see(&mut self, seconds: i64, seen: Seen) {
        self.see_at(at(seconds), seen);
    }

    fn see_at(&mut self, at: Timestamp, seen: Seen) {
        self.health.observe(&Observation { workload: WorkloadId::from("api"), at, seen });
    }

    /// As `scrape_result`, at any millisecond.
    pub(super) fn scrape_millis(&mut self, millis: u64, target: &str, result: Result<Page, Fault>) {
        let at = Timestamp::default() + Span::from_millis(millis);
        self.see_at(at, Seen::Scrape { target: TargetId::from(target), instance: None, result });
    }

    pub(super) fn scrape(&mut self, seconds: i64, target: &str, page: Page) {
        self.scrape_result(seconds, target, None, Ok(page));
    }

    pub(super) fn scrape_result(
        &mut self,
        seconds: i64,
        target: &str,
        instance: Option<&str>,
        result: Result<Page, Fault>,
    ) {
        let instance = instance.map(InstanceId::from);
        self.see(seconds, Seen::Scrape { target: TargetId::from(target), instance, result });
    }

    /// An address is not looked at any more.
    pub(super) fn page_gone(&mut self, seconds: i64, target: &str) {
        self.see(seconds, Seen::PageGone { target: TargetId::from(target) });
    }

    pub(super) fn endpoint_gone(&mut self, seconds: i64, target: &str) {
        self.see(seconds, Seen::EndpointGone { target: TargetId::from(target) });
    }

    pub(super) fn probe(&mut self, seconds: i64, target: &str, healthy: bool, revision: Option<&str>) {
        let revision = revision.map(RevisionId::from);
        self.probe_result(seconds, target, None, Ok(Answer { healthy, detail: "status 503".to_owned(), revision }));
    }

    pub(super) fn probe_result(
        &mut self,
        seconds: i64,
        target: &str,
        instance: Option<&str>,
        result: Result<Answer, Fault>,
    ) {
        let instance = instance.map(InstanceId::from);
        self.see(seconds, Seen::Probe { target: TargetId::from(target), instance, result });
    }

    pub(super) fn releases(&mut self, seconds: i64, instances: &[(&str, &str)]) {
        let instances = instances.iter().map(|(i, r)| (InstanceId::from(*i), RevisionId::from(*r))).collect();
        self.see(seconds, Seen::Releases(Ok(ReleaseView { instances, ..ReleaseView::default() })));
    }

    /// A server's answer to a signal's expression.
    pub(super) fn answer(&mut self, seconds: i64, signal: &str, value: f64) {
        let answer = QueryAnswer { value: Some(value), evaluated: Some(at(seconds)), warning: None };
        self.see(seconds, Seen::Query { signal: signal.into(), result: Ok(answer) });
    }

    pub(super) fn host(&mut self, seconds: i64, instance: &str, reading: HostReading) {
        self.see(seconds, Seen::Host { instance: InstanceId::from(instance), result: Ok(reading) });
    }

    /// From now on this release is asked about.
    pub(super) fn about(&mut self, revision: &str, since: i64) {
        self.subject =
            Some(Subject { revision: RevisionId::from(revision), since: at(since), baseline: None, known_good: false });
    }

    pub(super) fn assess(&mut self, seconds: i64) -> Assessment {
        self.health.assess(self.subject.as_ref(), at(seconds))
    }

    /// A signal's value and verdict by no bound.
    pub(super) fn signal(&mut self, seconds: i64, name: &str) -> (Option<f64>, Verdict) {
        self.signal_millis(u64::try_from(seconds * 1000).unwrap(), name)
    }

    /// As `signal`, at any millisecond.
    pub(super) fn signal_millis(&mut self, millis: u64, name: &str) -> (Option<f64>, Verdict) {
        let now = Timestamp::default() + Span::from_millis(millis);
        let assessment = self.health.assess(self.subject.as_ref(), now);
        let evidence = assessment.signals.into_iter().find(|evidence| evidence.signal.as_str() == name).unwrap();
        (evidence.value.map(Finite::get), evidence.verdict)
    }

    pub(super) fn trigger(&mut self, seconds: i64) -> TriggerStatus {
        self.assess(seconds).triggers.remove(0)
    }
}
