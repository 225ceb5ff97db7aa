//! What follows a failed attempt: once more, then one hop to an older release that was known good, then a human.

use serde::{Deserialize, Serialize};

use super::goal;
use super::guard::{self, Ruling, Situation};
use super::hold::Hold;
use super::plan::{Plan, Purpose, StepKind};
use crate::domain::health::verdict::{CheckStatus, UnknownReason, Verdict};
use crate::domain::id::RevisionId;
use crate::domain::incident::alert::Phase;
use crate::domain::incident::record::{Cause, Goal};
use crate::domain::incident::state::{self, Incident, Pause, Smoke, WorkloadState};
use crate::domain::policy::Mode;
use crate::domain::time::{Span, Timestamp};

/// Attempts with the first goal, before one hop to an older one.
const ATTEMPTS_WITH_FIRST_GOAL: u32 = 2;

/// Attempts that may come to nothing without being counted: nothing is tried without an end.
const MOST_UNSPENT: u32 = 10;

/// How long an incident is held, or waits for approval, before it is handed to a human.
const HELD_LIMIT: Span = Span::from_secs(3600);

/// What the ladder looks at beside what the guards do: how the last attempt left the workload.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Footing {
    /// How long an attempt may take.
    pub deadline: Span,
    /// Since when the release in place has been well without a break.
    pub healthy_since: Option<Timestamp>,
    /// When the releases were last looked at.
    pub looked_at: Option<Timestamp>,
    /// Whether everything is at the release that the last attempt led away from, and as large as it was.
    pub is_untouched: bool,
    /// Whether the last attempt scales the workload down on its way.
    pub may_be_down: bool,
    /// What the workload is bound for, where the last attempt scaled it down and nobody scaled it up since.
    pub down: Option<RevisionId>,
    /// What the workload is bound for, where settings were put back for another release that is not in place yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<RevisionId>,
}

/// The next thing to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Rung {
    /// Nothing yet.
    Wait,
    /// Nothing, and why.
    Hold(Hold),
    /// What has no instances gets them back, and settings that were put back ahead of their release are put forward.
    Revive,
    /// Nothing until a human says yes to this goal, and why.
    Ask(Hold, Goal),
    /// Another attempt.
    Attempt(Purpose, Goal),
    /// A human takes over, and why.
    Escalate(String),
}

/// Decides after a failed attempt. One interval passes before another one: what failed a moment ago fails again, and
/// another's hand shows in the meantime. Without an attempt there is nothing to decide.
#[must_use]
pub fn next(situation: &Situation<'_>, ruling: &Ruling, footing: &Footing) -> Rung {
    match rung(situation, ruling, footing) {
        Rung::Escalate(_) if can_be_put_forward(situation, footing) => Rung::Revive,
        Rung::Escalate(reason) => Rung::Escalate(with_difference(reason, situation.incident)),
        rung => rung,
    }
}

/// Before a human has it, settings are as before. What could not be begun by as long as an attempt may take stays as it is.
fn can_be_put_forward(situation: &Situation<'_>, footing: &Footing) -> bool {
    let incident = situation.incident;
    let is_open = incident.plan.as_ref().is_some_and(|plan| plan.purpose != Purpose::Whole);
    is_open && footing.apart.is_some() && situation.now.since(incident.phase_since) <= footing.deadline.times(2)
}

fn with_difference(reason: String, incident: &Incident) -> String {
    match state::difference(incident) {
        Some(difference) => format!("{reason}; {difference}"),
        None => reason,
    }
}

fn rung(situation: &Situation<'_>, ruling: &Ruling, footing: &Footing) -> Rung {
    let incident = situation.incident;
    let Some(last) = &incident.plan else { return Rung::Wait };
    if incident.phase == Phase::Failed && situation.now.since(incident.phase_since) < situation.limits.interval {
        return Rung::Wait;
    }
    let trouble = incident.trouble.as_deref().unwrap_or_default();
    let is_asked = matches!(incident.hold, Some(Hold::NeedsApproval { .. }));
    let limit = if is_asked { HELD_LIMIT } else { footing.deadline };
    let has_waited = situation.now.since(incident.phase_since) > limit;
    // Who is asked and said yes in time is not told that nobody did.
    let is_answered = is_asked && incident.approved.is_some();
    if let Some(held) = incident.hold.as_ref().filter(|hold| has_waited && !is_answered && !is_an_operators(hold)) {
        return Rung::Escalate(format!("{trouble}; the next attempt can't be made: {held}"));
    }
    if let Some(hold) = still_holds(ruling, incident) {
        return Rung::Hold(hold.clone());
    }
    // What has no instance does not wait for an attempt that can't be made, nor for one that somebody made needless.
    if is_stuck_down(incident, footing) || is_apart_elsewhere(incident, last, footing) {
        return Rung::Revive;
    }
    match is_still_called_for(situation, last, footing) {
        Verdict::Breach => rung_after(situation, last, footing, trouble),
        Verdict::Ok => {
            Rung::Escalate(format!("{trouble}; meanwhile {} is well again, and nothing more is done", last.from))
        }
        Verdict::Unknown(reason) if has_waited => {
            Rung::Escalate(format!("{trouble}; whether {} is still bad is not known: {reason}", last.from))
        }
        Verdict::Unknown(_) => Rung::Wait,
    }
}

/// What holds for an hour is for a human: nothing is waited for without an end. What an operator's own word holds while a
/// signal shows when it is over is left to that signal, and what holds once the word is lifted has an hour of its own.
#[must_use]
pub fn held_for_too_long(incident: &Incident, hold: Option<&Hold>, now: Timestamp) -> Option<String> {
    let hold = hold?;
    let is_reported = matches!(incident.cause, Cause::Manual { .. } | Cause::External { .. });
    let is_by_word = is_an_operators(hold) || matches!(hold, Hold::AlertOnly);
    // Told first, so that its hour begins.
    let is_just_lifted = !is_by_word && incident.hold.as_ref().is_some_and(is_an_operators);
    let is_held = matches!(incident.phase, Phase::Held | Phase::AwaitingApproval) && !is_just_lifted;
    let is_due = is_held && now > held_until(incident) && (is_reported || !is_by_word);
    is_due.then(|| with_difference(format!("held for {HELD_LIMIT}: {hold}"), incident))
}

/// Until when an incident is held, or waits for approval, before it is a human's.
#[must_use]
pub fn held_until(incident: &Incident) -> Timestamp {
    incident.waits_since() + HELD_LIMIT
}

/// Why a human must judge a release whose proof was not there by the deadline; none where a check says that it is bad.
#[must_use]
pub fn unproven(to: &RevisionId, checks: &[CheckStatus], smoke: &Smoke) -> Option<String> {
    if checks.iter().any(|check| check.verdict == Verdict::Breach) {
        return None;
    }
    let open = checks.iter().filter(|check| matches!(check.verdict, Verdict::Unknown(_)));
    let open: Vec<&str> = open.map(|check| check.detail.as_str()).collect();
    let what = match smoke {
        _ if !open.is_empty() => open.join("; "),
        Smoke::Running => "the smoke test has not ended".to_owned(),
        Smoke::Waiting | Smoke::Passed | Smoke::Failed { .. } => "not stable for long enough".to_owned(),
    };
    Some(format!("{to} is in place, but it is not proven well: {what}"))
}

/// The operator's pause, as a reason.
#[must_use]
pub fn paused(pause: &Pause) -> Hold {
    Hold::Paused { by: pause.by.clone(), reason: pause.reason.clone() }
}

/// What keeps anything further from being done: an operator's pause, or a policy that only observes by now, where a rollback
/// was begun under another. What a human asked for goes on under such a policy.
#[must_use]
pub fn halted(state: &WorkloadState, mode: Mode) -> Option<Hold> {
    let is_a_humans = |incident: &Incident| matches!(incident.cause, Cause::Manual { .. });
    let observes = mode == Mode::Observe && state.incident.as_ref().is_some_and(|incident| !is_a_humans(incident));
    state.paused.as_ref().map(paused).or(observes.then_some(Hold::ObserveMode))
}

/// Why a human takes over what has its instances back, or its settings.
#[must_use]
pub fn revived(incident: &Incident, at: &RevisionId) -> String {
    let trouble = incident.trouble.as_deref().unwrap_or_default();
    let steps = incident.plan.as_ref().map(|plan| plan.steps.as_slice()).unwrap_or_default();
    let has = |is: &dyn Fn(&StepKind) -> bool| steps.iter().any(|step| is(&step.kind));
    let mut told = vec![trouble.to_owned()];
    if has(&|kind| matches!(kind, StepKind::RestoreSetting { .. })) {
        let but = if incident.moved.is_empty() { "" } else { "other " };
        told.push(format!("its {but}settings are as before, but for what somebody else wrote since"));
    }
    if has(&|kind| matches!(kind, StepKind::Scale { .. })) {
        told.push(format!("it has its instances back, at {at}"));
    }
    with_difference(told.join("; "), incident)
}

/// Whether it ends only when an operator says so.
#[must_use]
pub const fn is_an_operators(hold: &Hold) -> bool {
    matches!(hold, Hold::Paused { .. } | Hold::Rejected { .. } | Hold::ObserveMode)
}

/// Whether the guard of this name is asked once a rollback was begun.
#[must_use]
pub fn asks(name: &str) -> bool {
    matches!(name, "paused" | "rejected" | "revision-unknown" | "observe-mode")
}

/// On the ladder only what an operator says, and lost sight of the release, hold: the brakes were passed by the first plan.
/// As while a step is under way, what a human asked for goes on under a policy that only observes by now.
fn still_holds<'a>(ruling: &'a Ruling, incident: &Incident) -> Option<&'a Hold> {
    let is_manual = matches!(incident.cause, Cause::Manual { .. });
    let guards = ruling.guards.iter().filter(|guard| asks(&guard.name) && !guard.forced);
    guards.filter_map(|guard| guard.hold.as_ref()).find(|hold| !(is_manual && matches!(hold, Hold::ObserveMode)))
}

/// Whether it is down, and the next attempt does not pass its preflight or somebody put another release there.
fn is_stuck_down(incident: &Incident, footing: &Footing) -> bool {
    let is_held = match &incident.hold {
        Some(Hold::Preflight { findings }) => !findings.iter().all(|finding| finding.passing),
        _ => false,
    };
    footing.down.as_ref().is_some_and(|desired| is_held || !incident.knows(desired))
}

/// Whether somebody put another release in place of the one that settings were put back for.
fn is_apart_elsewhere(incident: &Incident, last: &Plan, footing: &Footing) -> bool {
    let elsewhere = footing.apart.as_ref().is_some_and(|desired| !incident.knows(desired));
    elsewhere && last.purpose != Purpose::Whole
}

/// Whether another attempt is still called for. Where the attempt before left nothing behind, the release in place may
/// be well again; where it did, what is half done must be brought to an end. What people asked for needs no evidence.
fn is_still_called_for(situation: &Situation<'_>, last: &Plan, footing: &Footing) -> Verdict {
    let Cause::Trigger { .. } = &situation.incident.cause else { return Verdict::Breach };
    let current = situation.state.current.as_ref();
    if !(footing.is_untouched && current.is_some_and(|current| current.revision == last.from)) {
        return Verdict::Breach;
    }
    let interval = situation.limits.interval;
    let is_well_for_long = || footing.healthy_since.is_some_and(|since| situation.now.since(since) >= interval);
    match situation.trigger().map(|status| &status.evidence.verdict) {
        Some(Verdict::Ok) if !is_well_for_long() => Verdict::Unknown(UnknownReason::NoReading),
        Some(verdict) => verdict.clone(),
        None => Verdict::Breach,
    }
}

fn rung_after(situation: &Situation<'_>, last: &Plan, footing: &Footing, trouble: &str) -> Rung {
    let incident = situation.incident;
    let unspent = u32::try_from(incident.unspent.len()).unwrap_or(u32::MAX);
    if let Some(rung) = once_more(incident, last).filter(|_| incident.is_unspent() && unspent <= MOST_UNSPENT) {
        return rung;
    }
    let spent = last.attempt.saturating_sub(unspent.min(MOST_UNSPENT));
    match (last.purpose, &incident.goal) {
        (Purpose::First | Purpose::Retry, Some(goal)) if spent < ATTEMPTS_WITH_FIRST_GOAL => {
            Rung::Attempt(Purpose::Retry, goal.clone())
        }
        (Purpose::First | Purpose::Retry, _) if situation.incident.no_room => {
            give_up(situation, footing, format!("{trouble}; an older release would need the same room"))
        }
        (Purpose::First | Purpose::Retry, _) => match older_goal(situation) {
            Some(older) => hop(situation, last, footing, (older, trouble)),
            None => give_up(situation, footing, format!("{trouble}; there is no older release known to be good")),
        },
        (Purpose::OlderKnownGood, _) => {
            give_up(situation, footing, format!("{trouble}; every rung of the ladder was tried"))
        }
        (Purpose::Whole, _) => Rung::Escalate(format!("it could not be made whole: {trouble}")),
    }
}

/// The attempt that follows the last one once nothing holds it, where one does.
#[must_use]
pub fn next_attempt(situation: &Situation<'_>, footing: &Footing) -> Option<(Purpose, Goal)> {
    match rung_after(situation, situation.incident.plan.as_ref()?, footing, "") {
        Rung::Attempt(purpose, goal) => Some((purpose, goal)),
        Rung::Ask(_, goal) => Some((Purpose::OlderKnownGood, goal)),
        Rung::Wait | Rung::Hold(_) | Rung::Revive | Rung::Escalate(_) => None,
    }
}

/// To an older release. A yes is to one goal: where one is asked for, this one has its own. What has no instances, or has
/// settings of a release that is not in place, does not wait for it.
fn hop(situation: &Situation<'_>, last: &Plan, footing: &Footing, (older, trouble): (Goal, &str)) -> Rung {
    let is_approved = situation.incident.approved_for.as_ref() == Some(&older.revision);
    let Some(because) = guard::asks_for_approval(situation).filter(|_| !is_approved) else {
        return Rung::Attempt(Purpose::OlderKnownGood, older);
    };
    let has_looked = footing.looked_at > Some(situation.incident.phase_since);
    if footing.down.is_some() || footing.apart.is_some() || (footing.may_be_down && !has_looked) {
        return give_up(situation, footing, format!("{trouble}; nobody has approved to go back to {}", older.revision));
    }
    let because = format!("{because}, and {} did not help", last.to);
    Rung::Ask(Hold::NeedsApproval { because }, older)
}

/// The rung of an attempt that could not be begun, or gone on with.
fn once_more(incident: &Incident, last: &Plan) -> Option<Rung> {
    let purpose = match last.purpose {
        Purpose::Whole => return None,
        Purpose::First | Purpose::Retry => Purpose::Retry,
        Purpose::OlderKnownGood => Purpose::OlderKnownGood,
    };
    incident.goal.clone().map(|goal| Rung::Attempt(purpose, goal))
}

fn older_goal(situation: &Situation<'_>) -> Option<Goal> {
    let (state, current) = (situation.state, situation.state.current.as_ref()?);
    let available = situation.available.ok()?;
    let (tried, beside) = (&situation.incident.tried, &situation.assessment.worse_beside());
    goal::last_known_good(&state.ledger, available, &current.revision, tried, beside, situation.now).ok()
}

/// To a human, once nothing is left down.
fn give_up(situation: &Situation<'_>, footing: &Footing, reason: String) -> Rung {
    // What is seen may be of before the attempt.
    let has_looked = footing.looked_at > Some(situation.incident.phase_since);
    match &footing.down {
        Some(_) => Rung::Revive,
        None if footing.may_be_down && !has_looked => Rung::Wait,
        None => Rung::Escalate(reason),
    }
}

#[cfg(test)]
mod tests;
