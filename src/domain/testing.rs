//! Policies and pictures for tests.

use std::collections::{BTreeMap, BTreeSet};

use super::health::selector::Selector;
use super::id::WorkloadId;
use super::observation::{Orchestrated, Rollout};
use super::policy::{
    Builtin, Candidate, Check, ClusterObject, Condition, Formula, Habitat, Mode, NoData, ObjectKind, Operand,
    OperandKind, Operands, Severity, Signal, Strategy, Trigger, Verify, WorkloadPolicy,
};
use super::settings::Settings;
use super::time::Span;
use super::units::{Finite, Unit};

/// What is told of a Deployment `prod/app` that has so many instances at a release, all in service.
pub(crate) fn orchestrated(desired: &str, replicas: u32) -> Orchestrated {
    Orchestrated {
        object: ClusterObject {
            context: None,
            namespace: "prod".to_owned(),
            kind: ObjectKind::Deployment,
            name: "app".to_owned(),
            uid: "u1".to_owned(),
        },
        desired: desired.into(),
        replicas,
        absent: 0,
        unplaced: BTreeSet::new(),
        created: BTreeMap::new(),
        has_arrived: false,
        refused: None,
        leaving: BTreeMap::new(),
        rollout: Rollout::Complete,
        serving: Vec::new(),
        kept: BTreeMap::new(),
        is_stateless: true,
        sheds_claims: false,
        history_limit: None,
        canary: None,
        idle: None,
        owners: Vec::new(),
        settings: Settings::default(),
    }
}

/// A policy with an error rate trigger (> 10 % for 10 s, window 10 s, interval 1 s), a health trigger, and their checks.
pub(crate) fn policy(strategy: Strategy, habitat: Habitat) -> WorkloadPolicy {
    let mut operands = Operands::default();
    let mut operand = |text: &str| {
        let selector = Selector::parse(text).expect("a selector");
        operands.intern(Operand { selector, kind: OperandKind::Value }).expect("few operands")
    };
    let errors =
        Formula::Ratio { bad: operand("http_requests_total{code=~\"5..\"}"), total: operand("http_requests_total") };
    let signal = |name: &str, formula, window| Signal {
        name: name.into(),
        unit: Unit::Ratio,
        candidates: vec![Candidate { convention: None, formula, scale: 1.0 }],
        window: Span::from_secs(window),
        min_requests: 20,
        no_data: NoData::Hold,
        confidence: 0.95,
    };
    let signals = [signal("error_rate", errors, 10), signal("health", Formula::Builtin(Builtin::Health), 5)];
    let ratio = |value| Finite::new(value).expect("finite");
    let trigger = |signal: &str, bound, hold| Trigger {
        name: signal.into(),
        signal: signal.into(),
        condition: Condition::Above(ratio(bound)),
        combined: None,
        confirm_with: None,
        hold_for: Span::from_secs(hold),
        severity: Severity::Critical,
    };
    WorkloadPolicy {
        id: WorkloadId::new("app"),
        mode: Mode::Enforce,
        strategy,
        interval: Span::from_secs(1),
        is_asked: true,
        probation: Span::from_secs(3600),
        known_good_after: Span::from_secs(20),
        deadline: Span::from_secs(120),
        cooldown: Span::from_secs(1800),
        per_day: 2,
        gitops: crate::domain::policy::Gitops::Alert,
        gitops_limit: Span::from_secs(3600),
        warmup: Span::from_secs(60),
        namespace: "host".to_owned(),
        operands,
        signals: signals.into_iter().map(|s| (s.name.clone(), s)).collect::<BTreeMap<_, _>>(),
        triggers: vec![trigger("error_rate", 0.1, 10), trigger("health", 0.5, 5)],
        verify: Verify {
            stable_for: Span::from_secs(5),
            checks: vec![Check {
                signal: "error_rate".into(),
                bad_when: Condition::Above(ratio(0.01)),
                explicit: true,
            }],
            health: true,
            smoke: None,
        },
        notify: vec!["oncall".into()],
        habitat,
    }
}
