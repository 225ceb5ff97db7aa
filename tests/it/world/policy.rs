//! The policy of the test world.

use std::collections::BTreeMap;

use rollbackd::domain::health::selector::Selector;
use rollbackd::domain::id::{InstanceId, WorkloadId};
use rollbackd::domain::policy::{
    Builtin, Candidate, Check, Condition, Formula, Habitat, Mode, NoData, Operand, OperandKind, Operands, ReleaseDir,
    ReleaseInstance, Restart, Severity, Signal, Strategy, Trigger, Verify, WorkloadPolicy,
};
use rollbackd::domain::time::Span;
use rollbackd::domain::units::{Finite, Unit};

/// Errors above 10 % for 10 s (window 10 s), half of the probes failing for 5 s, any OOM kill; interval 1 s; known good
/// after 20 s; verified for 5 s.
pub(crate) fn policy(strategy: Strategy, instances: &[&str]) -> WorkloadPolicy {
    let mut operands = Operands::default();
    let mut operand = |text: &str| {
        let selector = Selector::parse(text).expect("a selector");
        operands.intern(Operand { selector, kind: OperandKind::Value }).expect("few operands")
    };
    let bad = operand("http_requests_total{code=~\"5..\"}");
    let total = operand("http_requests_total");
    let signals = [
        signal("error_rate", Unit::Ratio, Formula::Ratio { bad, total }, 10),
        signal("health", Unit::Ratio, Formula::Builtin(Builtin::Health), 5),
        signal("oom_kills", Unit::Plain, Formula::Builtin(Builtin::OomKills), 60),
    ];
    let bad_when = Condition::Above(finite(0.01));
    WorkloadPolicy {
        id: WorkloadId::new("app"),
        mode: Mode::Enforce,
        strategy,
        interval: Span::from_secs(1),
        is_asked: true,
        probation: Span::from_secs(3600),
        known_good_after: Span::from_secs(20),
        deadline: Span::from_secs(60),
        cooldown: Span::from_secs(1800),
        per_day: 2,
        gitops: rollbackd::domain::policy::Gitops::Alert,
        gitops_limit: Span::from_secs(3600),
        warmup: Span::from_secs(60),
        namespace: "host".to_owned(),
        operands,
        signals: signals.into_iter().map(|s| (s.name.clone(), s)).collect::<BTreeMap<_, _>>(),
        triggers: vec![trigger("error_rate", 0.1, 10), trigger("health", 0.5, 5), trigger("oom_kills", 0.0, 0)],
        verify: Verify {
            stable_for: Span::from_secs(5),
            checks: vec![Check { signal: "error_rate".into(), bad_when, explicit: true }],
            health: true,
            smoke: None,
        },
        notify: vec!["oncall".into()],
        habitat: Habitat::ReleaseDir(ReleaseDir {
            root: "/srv/app".into(),
            releases: "releases".into(),
            instances: instances.iter().map(|name| instance(name)).collect(),
        }),
    }
}

/// The instances of a policy.
pub(crate) fn instances(policy: &WorkloadPolicy) -> Vec<InstanceId> {
    match &policy.habitat {
        Habitat::ReleaseDir(habitat) => habitat.instances.iter().map(|instance| instance.id.clone()).collect(),
        Habitat::Command(habitat) => habitat.instances.clone(),
        Habitat::Kubernetes(_) => panic!("a simulated host"),
    }
}

fn instance(name: &str) -> ReleaseInstance {
    ReleaseInstance {
        id: InstanceId::new(name),
        current: format!("current-{name}").into(),
        restart: Restart::Unit(format!("app@{name}.service")),
        cgroup: None,
    }
}

fn signal(name: &str, unit: Unit, formula: Formula, window: u64) -> Signal {
    Signal {
        name: name.into(),
        unit,
        candidates: vec![Candidate { convention: None, formula, scale: 1.0 }],
        window: Span::from_secs(window),
        min_requests: if matches!(formula, Formula::Ratio { .. }) { 20 } else { 0 },
        no_data: NoData::Hold,
        confidence: 0.95,
    }
}

fn trigger(signal: &str, bound: f64, hold: u64) -> Trigger {
    Trigger {
        name: signal.into(),
        signal: signal.into(),
        condition: Condition::Above(finite(bound)),
        combined: None,
        confirm_with: None,
        hold_for: Span::from_secs(hold),
        severity: Severity::Critical,
    }
}

fn finite(value: f64) -> Finite {
    Finite::new(value).expect("finite")
}
