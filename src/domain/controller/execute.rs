//! Carrying a plan out, proving that it helped, and climbing the ladder where it did not.

use super::{Controller, Output};
use crate::domain::health::verdict::{CheckStatus, TriggerState, TriggerStatus, UnknownReason, Verdict};
use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::incident::alert::Phase;
use crate::domain::incident::record::{Cause, Event, Goal};
use crate::domain::incident::state::{Progress, Smoke};
use crate::domain::observation::{ReleaseView, Rollout};
use crate::domain::policy::Severity;
use crate::domain::response::goal;
use crate::domain::response::guard::FleetView;
use crate::domain::response::hold::Hold;
use crate::domain::response::plan::{Outcome, Plan, Purpose, StepKind};
use crate::domain::time::{Span, Timestamp};

/// How long a conflict waits for a look that shows what the other writer did.
const CONFLICT_SETTLES: Span = Span::from_secs(10);

/// How long a rollout that was just begun may be called stalled.
const STALL_SETTLES: Span = Span::from_secs(30);

/// Attempts with the first goal, before one hop to an older one.
const ATTEMPTS_WITH_FIRST_GOAL: u32 = 2;

/// What a step that is waited for has come to.
enum Wait {
    Over,
    /// What is still to come, where that can be told.
    For(String),
    /// It will not come, and why.
    Vain(String),
}

impl Controller {
    /// Started, or paused in the middle: does the next thing of the plan.
    pub(super) fn drive(&mut self, now: Timestamp, out: &mut Output) -> bool {
        let Some((plan, progress)) = self.plan_in_force() else { return false };
        if let Some(hold) = self.pause_hold() {
            let goal = self.state.incident.as_ref().and_then(|incident| incident.goal.clone());
            return self.hold(hold, goal, now, out);
        }
        if let Some((step, outcome)) = self.too_late_to_resume(&plan, &progress, now) {
            return self.record(Event::StepFinished { step, outcome }, now, out);
        }
        // What runs is ended by its own limit, and what broke says why.
        if now > plan.deadline && !matches!(progress, Progress::Running { .. } | Progress::Broken { .. }) {
            let reason = format!("not done by its deadline, {}", plan.deadline);
            return self.fail(reason, Vec::new(), now, out);
        }
        match progress {
            Progress::Next { step } if usize::try_from(step).is_ok_and(|step| step >= plan.steps.len()) => {
                if plan.purpose == Purpose::Whole {
                    return self.hand_over(&plan, now, out);
                }
                self.stable_since = None;
                self.record(Event::Verifying, now, out)
            }
            Progress::Next { step } => self.record(Event::StepStarted { step }, now, out),
            Progress::Running { step, since } => self.watch_step(&plan, step, since, now, out),
            Progress::Conflicted { step, at, detail } => self.settle_conflict(&plan, step, at, detail, now, out),
            Progress::Broken { reason } => self.fail(reason, Vec::new(), now, out),
            Progress::Idle | Progress::Proving { .. } => false,
        }
    }

    /// A step that was under way when the daemon ended, and that nobody does now: after the plan's deadline it is not taken
    /// up again, since what called for it may be over.
    fn too_late_to_resume(&self, plan: &Plan, progress: &Progress, now: Timestamp) -> Option<(u32, Outcome)> {
        let Progress::Running { step, .. } = progress else { return None };
        let kind = &plan.steps.get(usize::try_from(*step).ok()?)?.kind;
        let is_adrift = self.in_flight.is_none() && !kind.is_judged();
        let why = || format!("{}: the daemon was not there until after the plan's deadline", kind.title());
        (is_adrift && now > plan.deadline).then(|| (*step, Outcome::TimedOut(why())))
    }

    /// Gates are passed by judgement; every other step by its job's answer.
    fn watch_step(&mut self, plan: &Plan, step: u32, since: Timestamp, now: Timestamp, out: &mut Output) -> bool {
        let Some(current) = usize::try_from(step).ok().and_then(|index| plan.steps.get(index)) else { return false };
        let wait = match &current.kind {
            StepKind::Gate { instances, release, answers } => self.at_gate(instances, release, *answers, since, now),
            StepKind::AwaitRollout { release, at_least } => self.at_rollout(release, *at_least, since, now),
            StepKind::AwaitCapacity { release, at_least, answers } => {
                self.at_capacity(release, *at_least, *answers, since, now)
            }
            StepKind::AwaitWell { release } => self.at_well(release, since, now),
            StepKind::SwitchLink { .. }
            | StepKind::Restart { .. }
            | StepKind::Command { .. }
            | StepKind::RestoreTemplate { .. }
            | StepKind::Scale { .. }
            | StepKind::SwitchService { .. }
            | StepKind::ProveTraffic { .. }
            | StepKind::DeleteStuck { .. } => return false,
        };
        let is_late = now > plan.deadline || now.since(since) > current.timeout;
        let outcome = match wait {
            Wait::Over => Outcome::Applied,
            Wait::For(left) if is_late => {
                let left = if left.is_empty() { left } else { format!(": {left}") };
                Outcome::TimedOut(format!("{}: not within {}{left}", current.kind.title(), now.since(since)))
            }
            Wait::Vain(why) => Outcome::Denied(why),
            Wait::For(_) => return false,
        };
        self.record(Event::StepFinished { step, outcome }, now, out)
    }

    fn at_gate(
        &self,
        instances: &[InstanceId],
        release: &RevisionId,
        answers: u32,
        since: Timestamp,
        now: Timestamp,
    ) -> Wait {
        match self.health.gate(instances, release, answers, since, now) {
            Verdict::Ok => Wait::Over,
            Verdict::Breach if self.goal_goes_bad(now) => {
                Wait::Vain(format!("{release} does not come up healthy either"))
            }
            Verdict::Breach | Verdict::Unknown(_) => Wait::For(String::new()),
        }
    }

    /// A rollout that is said to be stalled counts once it has had time to move: what is said at first may be of the
    /// one before.
    fn at_rollout(&self, release: &RevisionId, at_least: u32, since: Timestamp, now: Timestamp) -> Wait {
        let Some((seen, Ok(view))) = &self.releases else { return Wait::For("not seen".to_owned()) };
        let ours = view.orchestrated.as_ref().filter(|orchestrated| *seen > since && orchestrated.desired == *release);
        match ours.map(|orchestrated| &orchestrated.rollout) {
            Some(Rollout::Complete) if view.orchestrated.as_ref().is_some_and(|o| o.replicas < at_least) => {
                Wait::For("no instances are asked for".to_owned())
            }
            Some(Rollout::Complete) => Wait::Over,
            Some(Rollout::Stalled { why }) if now.since(since) > STALL_SETTLES => {
                Wait::Vain(format!("{release} does not come up either: {why}"))
            }
            Some(Rollout::Stalled { why: left } | Rollout::UnderWay { left }) => Wait::For(left.clone()),
            None => Wait::For("the rollout was not seen to begin".to_owned()),
        }
    }

    /// What waits for the traffic is judged by its own instances, wherever it is: before the switch it gets none.
    fn at_capacity(&self, release: &RevisionId, at_least: u32, answers: u32, since: Timestamp, now: Timestamp) -> Wait {
        let Some((_, Ok(view))) = &self.releases else { return Wait::For("not seen".to_owned()) };
        let idle = view.orchestrated.as_ref().and_then(|orchestrated| orchestrated.idle.as_ref());
        if let Some(why) = idle.filter(|idle| idle.release == *release).and_then(|idle| idle.stalled.as_ref())
            && now.since(since) > STALL_SETTLES
        {
            return Wait::Vain(format!("{release} does not come up either: {why}"));
        }
        let ready = view.in_service_at(release);
        if u32::try_from(ready.len()).is_ok_and(|ready| ready < at_least) {
            return Wait::For(format!("{} of {at_least} are ready", ready.len()));
        }
        match self.health.gate(&ready, release, answers, since, now) {
            _ if answers == 0 => Wait::Over,
            Verdict::Ok => Wait::Over,
            Verdict::Breach => Wait::For("not all of them are healthy".to_owned()),
            Verdict::Unknown(reason) => Wait::For(reason.to_string()),
        }
    }

    fn at_well(&self, release: &RevisionId, since: Timestamp, now: Timestamp) -> Wait {
        if self.goal_goes_bad(now) {
            return Wait::Vain(format!("{release} is bad as well"));
        }
        let checks = self.health.verify(release, since, now);
        let open = with_verdict(&checks, |verdict| *verdict != Verdict::Ok);
        if open.is_empty() { Wait::Over } else { Wait::For(open.join("; ")) }
    }

    /// Someone else wrote. Where the next look shows a third release, the incident ends as superseded (see `releases`);
    /// where it shows ours, the step is done; where it shows nothing new in time, the attempt fails.
    fn settle_conflict(
        &mut self,
        plan: &Plan,
        step: u32,
        at: Timestamp,
        detail: String,
        now: Timestamp,
        out: &mut Output,
    ) -> bool {
        let seen_since = self.releases.as_ref().is_some_and(|(seen, view)| *seen > at && view.is_ok());
        let at_goal = self.view().is_ok_and(|view| view.is_bound_for(&plan.to));
        if seen_since && at_goal {
            return self.record(Event::StepFinished { step, outcome: Outcome::AlreadyInEffect }, now, out);
        }
        now.since(at) > CONFLICT_SETTLES && self.fail(format!("somebody else writes: {detail}"), Vec::new(), now, out)
    }

    /// Verifying: every check must hold on new observations for the stable time, then the smoke test must pass.
    pub(super) fn prove(&mut self, now: Timestamp, out: &mut Output) -> bool {
        let Some((plan, Progress::Proving { since, smoke })) = self.plan_in_force() else { return false };
        let checks = self.health.verify(&plan.to, since, now);
        let good = checks.iter().all(|check| check.verdict == Verdict::Ok);
        self.stable_since = if good { self.stable_since.or(Some(now)) } else { None };
        if let Smoke::Failed { detail } = smoke {
            return self.fail(format!("the smoke test failed: {detail}"), checks, now, out);
        }
        if self.goal_goes_bad(now) {
            return self.fail(format!("{} is bad as well", plan.to), checks, now, out);
        }
        let stable = self.stable_since.is_some_and(|stable| now.since(stable) >= self.policy.verify.stable_for);
        match (stable, smoke) {
            (true, Smoke::Waiting) if self.policy.verify.smoke.is_some() => self.record(Event::SmokeStarted, now, out),
            (true, Smoke::Waiting | Smoke::Passed) => self.record(Event::Restored { checks }, now, out),
            (true | false, smoke) if now > plan.deadline => self.give_up_proof(&plan, &smoke, checks, now, out),
            (false, Smoke::Waiting | Smoke::Running | Smoke::Passed | Smoke::Failed { .. })
            | (true, Smoke::Running | Smoke::Failed { .. }) => false,
        }
    }

    /// At the deadline a failed check is a failure; a check without proof is for a human to judge.
    fn give_up_proof(
        &mut self,
        plan: &Plan,
        smoke: &Smoke,
        checks: Vec<CheckStatus>,
        now: Timestamp,
        out: &mut Output,
    ) -> bool {
        let bad: Vec<&str> = with_verdict(&checks, |verdict| *verdict == Verdict::Breach);
        if bad.is_empty() {
            let open = with_verdict(&checks, |verdict| matches!(verdict, Verdict::Unknown(_)));
            let what = match smoke {
                _ if !open.is_empty() => open.join("; "),
                Smoke::Running => "the smoke test has not ended".to_owned(),
                Smoke::Waiting | Smoke::Passed | Smoke::Failed { .. } => "not stable for long enough".to_owned(),
            };
            let reason = format!("{} is in place, but it is not proven well: {what}", plan.to);
            return self.record(Event::Escalated { reason }, now, out);
        }
        let reason = format!("not well by {}: {}", plan.deadline, bad.join("; "));
        self.fail(reason, checks, now, out)
    }

    /// Failed: once more, then one hop to an older release that was known good, then a human. One interval passes before
    /// another attempt: what failed a moment ago fails again, and another's hand shows in the meantime.
    pub(super) fn climb(&mut self, now: Timestamp, fleet: &FleetView, out: &mut Output) -> bool {
        let Some(incident) = &self.state.incident else { return false };
        let Some(last) = incident.plan.clone() else { return false };
        if incident.phase == Phase::Failed && now.since(incident.phase_since) < self.policy.interval {
            return false;
        }
        let ruling = self.rule(incident, now, fleet);
        let hold = ruling.guards.iter().filter(|guard| still_holds_on_the_ladder(&guard.name));
        let hold = hold.filter(|guard| !guard.forced).find_map(|guard| guard.hold.clone());
        let goal = incident.goal.clone();
        let trouble = incident.trouble.clone().unwrap_or_default();
        let tried = incident.tried.clone();
        self.ruling = Some(ruling);
        if let Some(held) = self.held_for_too_long(now) {
            return self.escalate(&format!("{trouble}; the next attempt can't be made: {held}"), now, out);
        }
        if let Some(hold) = hold {
            return self.hold(hold, goal, now, out);
        }
        // What has no instance does not wait for an attempt that can't be made, nor for one that somebody made needless.
        if self.is_stuck_down() {
            return self.make_whole(now, out);
        }
        match self.is_still_called_for(&last, now) {
            Verdict::Breach => {}
            Verdict::Ok => {
                let reason = format!("{trouble}; meanwhile {} is well again, and nothing more is done", last.from);
                return self.escalate(&reason, now, out);
            }
            Verdict::Unknown(reason) if self.waited_on_the_ladder(now) => {
                let reason = format!("{trouble}; whether {} is still bad is not known: {reason}", last.from);
                return self.escalate(&reason, now, out);
            }
            Verdict::Unknown(_) => return false,
        }
        match (last.purpose, goal) {
            (Purpose::First | Purpose::Retry, Some(goal)) if last.attempt < ATTEMPTS_WITH_FIRST_GOAL => {
                self.plan(Purpose::Retry, last.attempt + 1, goal, Vec::new(), now, out)
            }
            (Purpose::First | Purpose::Retry, _) => match self.older_goal(&tried, now) {
                Some(older) => self.plan(Purpose::OlderKnownGood, last.attempt + 1, older, Vec::new(), now, out),
                None => self.give_up(&format!("{trouble}; there is no older release known to be good"), now, out),
            },
            (Purpose::OlderKnownGood, _) => {
                self.give_up(&format!("{trouble}; every rung of the ladder was tried"), now, out)
            }
            (Purpose::Whole, _) => {
                self.escalate(&format!("its instances could not be given back: {trouble}"), now, out)
            }
        }
    }

    /// On the ladder something is half done: what no operator's word holds is waited for no longer than an attempt may take.
    fn held_for_too_long(&self, now: Timestamp) -> Option<&Hold> {
        let incident = self.state.incident.as_ref()?;
        let is_an_operators =
            |hold: &&Hold| matches!(hold, Hold::Paused { .. } | Hold::Rejected { .. } | Hold::ObserveMode);
        let hold = incident.hold.as_ref().filter(|hold| !is_an_operators(hold))?;
        self.waited_on_the_ladder(now).then_some(hold)
    }

    fn waited_on_the_ladder(&self, now: Timestamp) -> bool {
        let incident = self.state.incident.as_ref();
        incident.is_some_and(|incident| now.since(incident.phase_since) > self.policy.deadline)
    }

    /// Whether another attempt is still called for. Where the attempt before left nothing behind, the release in place may
    /// be well again; where it did, what is half done must be brought to an end. What people asked for needs no evidence.
    fn is_still_called_for(&self, last: &Plan, now: Timestamp) -> Verdict {
        let Some(incident) = &self.state.incident else { return Verdict::Ok };
        let Cause::Trigger { name, .. } = &incident.cause else { return Verdict::Breach };
        let is_whole = self.state.current.as_ref().is_some_and(|current| current.revision == last.from)
            && self.view().is_ok_and(|view| is_untouched(view, last));
        if !is_whole {
            return Verdict::Breach;
        }
        let status = self.assessment.triggers.iter().find(|trigger| trigger.name == *name);
        match status.map(|status| &status.evidence.verdict) {
            Some(Verdict::Ok) if self.healthy_since.is_none_or(|since| now.since(since) < self.policy.interval) => {
                Verdict::Unknown(UnknownReason::NoReading)
            }
            Some(verdict) => verdict.clone(),
            None => Verdict::Breach,
        }
    }

    fn older_goal(&self, tried: &[RevisionId], now: Timestamp) -> Option<Goal> {
        let current = self.state.current.as_ref()?;
        let available = &self.view().ok()?.available;
        goal::last_known_good(&self.state.ledger, available, &current.revision, tried, now).ok()
    }

    pub(super) fn escalate(&mut self, reason: &str, now: Timestamp, out: &mut Output) -> bool {
        self.preflight_asked = None;
        self.record(Event::Escalated { reason: reason.to_owned() }, now, out)
    }

    pub(super) fn fail(&mut self, reason: String, checks: Vec<CheckStatus>, now: Timestamp, out: &mut Output) -> bool {
        self.stable_since = None;
        self.record(Event::Failed { reason, checks }, now, out)
    }

    fn pause_hold(&self) -> Option<Hold> {
        self.state.paused.as_ref().map(|pause| Hold::Paused { by: pause.by.clone() })
    }

    fn plan_in_force(&self) -> Option<(Plan, Progress)> {
        let incident = self.state.incident.as_ref()?;
        Some((incident.plan.clone()?, incident.progress.clone()))
    }

    /// A critical trigger fires on the release that was gone back to, and not on a fault that is older than the rollback.
    /// What began before this attempt counts only after another `for` and another window.
    fn goal_goes_bad(&self, now: Timestamp) -> bool {
        let Some(incident) = &self.state.incident else { return false };
        let Some(plan) = &incident.plan else { return false };
        let fires_in_this_attempt = |trigger: &TriggerStatus| match trigger.state {
            TriggerState::Firing { since, .. } if since < incident.attempt_since => {
                now.since(incident.attempt_since) > trigger.hold_for.max(trigger.evidence.window)
            }
            TriggerState::Firing { .. } => true,
            TriggerState::Inactive | TriggerState::Pending { .. } => false,
        };
        let mut critical = self.assessment.triggers.iter().filter(|trigger| trigger.severity == Severity::Critical);
        self.assessment.revision.as_ref() == Some(&plan.to)
            && critical.any(|trigger| fires_in_this_attempt(trigger) && self.older_fault(&trigger.name).is_none())
    }
}

/// On the ladder only what an operator says, and lost sight of the release, hold: the brakes were passed by the first plan.
fn still_holds_on_the_ladder(guard: &str) -> bool {
    matches!(guard, "paused" | "rejected" | "revision-unknown" | "observe-mode")
}

/// Whether everything is still at the release that a plan leads away from, and as large as it was.
fn is_untouched(view: &ReleaseView, plan: &Plan) -> bool {
    let least = plan.most_replicas().unwrap_or(1);
    view.is_bound_for(&plan.from) && view.orchestrated.as_ref().is_none_or(|there| there.replicas >= least)
}

fn with_verdict(checks: &[CheckStatus], pick: impl Fn(&Verdict) -> bool) -> Vec<&str> {
    checks.iter().filter(|check| pick(&check.verdict)).map(|check| check.detail.as_str()).collect()
}
