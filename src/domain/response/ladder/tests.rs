use super::*;
use crate::domain::health::verdict::Assessment;
use crate::domain::incident::record::{Cause, Running};
use crate::domain::policy::{Gitops, Release, Strategy};
use crate::domain::response::guard::{FleetView, Limits};

fn at(secs: i64) -> Timestamp {
    Timestamp::from_millis(secs * 1000)
}

/// How the workload was left by two attempts to go back from v3 to v2, and what was said since.
#[derive(Clone, Copy, Debug)]
struct Case {
    mode: Mode,
    is_by_hand: bool,
    approved_for: Option<&'static str>,
    /// It has no instances.
    is_down: bool,
    /// Nobody has looked since whether it has.
    may_be_down: bool,
    /// Settings of v2 are in place.
    is_apart: bool,
    /// Since when it waits for a yes.
    asked: Option<i64>,
}

const CASE: Case = Case {
    mode: Mode::Approve,
    is_by_hand: false,
    approved_for: Some("v2"),
    is_down: false,
    may_be_down: false,
    is_apart: false,
    asked: None,
};

/// The rung, an hour and some after the last attempt failed.
fn rung_of(case: Case) -> String {
    let (now, failed) = (at(5_000), at(400));
    let mut state = WorkloadState::default();
    for (i, name) in ["v1", "v2", "v3", "v2"].into_iter().enumerate() {
        state.ledger.became_current(&name.into(), None, at(100 * i64::try_from(i).unwrap()));
    }
    for name in ["v1", "v2"] {
        state.ledger.known_good(&name.into(), at(50));
    }
    state.ledger.failed_as_goal(&"v2".into(), failed);
    state.current = Some(Running { revision: "v2".into(), image: None, since: at(300) });
    let cause = if case.is_by_hand {
        Cause::Manual { by: "ops".to_owned(), reason: "slow".to_owned(), to: None, force: Vec::new() }
    } else {
        Cause::External { by: "ops".to_owned(), kind: "data".to_owned(), reason: "lost".to_owned(), key: None }
    };
    let mut incident = Incident::hypothetical(cause, None, case.mode, Strategy::Direct, at(250));
    incident.phase = if case.asked.is_some() { Phase::AwaitingApproval } else { Phase::Failed };
    incident.phase_since = case.asked.map_or(failed, at);
    incident.hold = case.asked.map(|_| Hold::NeedsApproval { because: "the mode is approve".to_owned() });
    incident.approved = case.approved_for.map(|_| "ops".to_owned());
    incident.approved_for = case.approved_for.map(Into::into);
    incident.trouble = Some("it is slow".to_owned());
    incident.tried = vec!["v2".into()];
    incident.plan = Some(Plan {
        attempt: 2,
        purpose: Purpose::Retry,
        strategy: Strategy::Direct,
        from: "v3".into(),
        to: "v2".into(),
        steps: Vec::new(),
        deadline: at(390),
    });
    let limits = Limits {
        mode: case.mode,
        interval: Span::from_secs(1),
        probation: Span::from_secs(3_600),
        cooldown: Span::from_secs(1_800),
        per_day: 2,
        gitops: Gitops::Alert,
    };
    let available = ["v3", "v2", "v1"].map(|name| Release { revision: name.into(), image: None });
    let (assessment, fleet) = (Assessment::nothing(now), FleetView::default());
    let situation = Situation {
        limits,
        state: &state,
        incident: &incident,
        assessment: &assessment,
        available: Ok(&available),
        owners: &[],
        fleet: &fleet,
        attributed_at: None,
        now,
    };
    let footing = Footing {
        deadline: Span::from_secs(60),
        healthy_since: None,
        looked_at: Some(if case.may_be_down { failed } else { now }),
        is_untouched: false,
        may_be_down: case.may_be_down,
        down: case.is_down.then(|| "v2".into()),
        apart: case.is_apart.then(|| "v3".into()),
    };
    match next(&situation, &guard::rule(&situation), &footing) {
        Rung::Wait => "wait".to_owned(),
        Rung::Hold(hold) => format!("held: {hold}"),
        Rung::Ask(hold, goal) => format!("{}: {hold}", goal.revision),
        Rung::Revive => "revive".to_owned(),
        Rung::Attempt(purpose, goal) => format!("{}: {}", purpose.title(), goal.revision),
        Rung::Escalate(reason) => format!("escalated: {reason}"),
    }
}

#[test]
fn the_hop_to_an_older_release_is_made_where_nobody_is_to_approve_it_or_somebody_did() {
    let (asks, hops) = (
        "v1: waiting for approval: the mode is approve, and v2 did not help",
        "one hop to an older known good release: v1",
    );
    let nobody = "escalated: it is slow; nobody has approved to go back to v1";
    let hour = "escalated: it is slow; the next attempt can't be made: waiting for approval: the mode is approve";
    let enforce = Case { mode: Mode::Enforce, approved_for: None, ..CASE };
    for (case, expected) in [
        (enforce, hops),
        (Case { is_by_hand: true, ..enforce }, hops),
        (CASE, asks),
        (Case { approved_for: None, ..CASE }, asks),
        // Whoever asked for it by hand asked for the first goal.
        (Case { is_by_hand: true, approved_for: None, ..CASE }, asks),
        (Case { approved_for: Some("v1"), ..CASE }, hops),
        (Case { approved_for: None, asked: Some(1_500), ..CASE }, asks),
        (Case { approved_for: None, asked: Some(1_399), ..CASE }, hour),
        (Case { approved_for: Some("v1"), asked: Some(1_399), ..CASE }, hops),
        // What has no instances, or may have none, does not wait for an answer.
        (Case { is_down: true, ..CASE }, "revive"),
        (Case { is_down: true, approved_for: Some("v1"), ..CASE }, hops),
        (Case { may_be_down: true, ..CASE }, "wait"),
        (Case { may_be_down: true, approved_for: Some("v1"), ..CASE }, hops),
        (Case { is_apart: true, ..CASE }, nobody),
    ] {
        assert_eq!(rung_of(case), expected, "{case:?}");
    }
}
