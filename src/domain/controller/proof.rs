//! The proof that a release which was gone back to is well.

use super::decide::cause_of;
use super::execute::Wait;
use super::{Controller, Output};
use crate::domain::health::verdict::{CheckStatus, TriggerState, TriggerStatus, UnknownReason, Verdict};
use crate::domain::incident::grounds::Question;
use crate::domain::incident::narrate;
use crate::domain::incident::record::Event;
use crate::domain::incident::state::{Progress, Smoke};
use crate::domain::observation::Rollout;
use crate::domain::policy::{Habitat, Severity};
use crate::domain::response::ladder;
use crate::domain::response::plan::{Plan, StepKind};
use crate::domain::time::{Span, Timestamp};

impl Controller {
    /// Verifying: every check must hold on new observations for the stable time, then the smoke test must pass.
    pub(super) fn prove(&mut self, now: Timestamp, out: &mut Output) -> bool {
        let Some((plan, Progress::Proving { since, smoke })) = self.plan_in_force() else { return false };
        let checks = self.proof(&plan, since, now);
        let good = checks.iter().all(|check| check.verdict == Verdict::Ok);
        self.stable_since = if good { self.stable_since.or(Some(now)) } else { None };
        if let Smoke::Failed { detail } = smoke {
            return self.fail(format!("the smoke test failed: {detail}"), checks, now, out);
        }
        if let Some(why) = self.why_the_goal_is_bad(now) {
            return self.fail(format!("{} is bad as well: {why}", plan.to), checks, now, out);
        }
        let stable = self.stable_since.is_some_and(|stable| now.since(stable) >= self.policy.verify.stable_for);
        match (stable, smoke) {
            (true, Smoke::Waiting) if self.policy.verify.smoke.is_some() => match self.halt() {
                Some(hold) => {
                    self.stable_since = None;
                    self.halted(hold, now, out)
                }
                None => self.record(Event::SmokeStarted, now, out),
            },
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
        if let Some(reason) = ladder::unproven(&plan.to, &checks, smoke) {
            return self.leave_unproven(reason, checks, now, out);
        }
        let bad = with_verdict(&checks, |verdict| *verdict == Verdict::Breach);
        let reason = format!("not well by {}: {}", plan.deadline, bad.join("; "));
        self.fail(reason, checks, now, out)
    }

    pub(super) fn leave_unproven(
        &mut self,
        reason: String,
        checks: Vec<CheckStatus>,
        now: Timestamp,
        out: &mut Output,
    ) -> bool {
        self.asked.1 = Question::Proof(checks);
        self.escalate(reason, now, out)
    }

    /// What is asked of the release that a plan leads to, on what was seen after `since`.
    fn proof(&self, plan: &Plan, since: Timestamp, now: Timestamp) -> Vec<CheckStatus> {
        let mut checks = self.health.verify(&plan.to, since, now);
        checks.extend(self.capacity(plan, since));
        checks
    }

    /// Whether as many instances of the release are in service as are asked for, where there is an orchestrator that says so. As
    /// many as it waited for are enough where the traffic was led to them, or where the others find no room.
    fn capacity(&self, plan: &Plan, since: Timestamp) -> Option<CheckStatus> {
        let status = |verdict, detail| Some(CheckStatus { name: "capacity".to_owned(), verdict, detail });
        let Some((_, Ok(view))) = self.releases.as_ref().filter(|(seen, _)| *seen > since) else {
            return match &self.policy.habitat {
                Habitat::Kubernetes(_) => {
                    let verdict = Verdict::Unknown(UnknownReason::NoReading);
                    status(verdict, "the instances were not seen since".to_owned())
                }
                Habitat::ReleaseDir(_) | Habitat::Command(_) => None,
            };
        };
        let orchestrated = view.orchestrated.as_ref()?;
        let (wanted, is_in_place) = (orchestrated.replicas, orchestrated.desired == plan.to);
        if wanted == 0 {
            return status(Verdict::Unknown(UnknownReason::NoTarget), "no instances are asked for".to_owned());
        }
        let serving = u32::try_from(view.in_service_at(&plan.to).len()).unwrap_or(u32::MAX);
        let is_all = serving >= wanted || (is_in_place && orchestrated.rollout == Rollout::Complete);
        let has_room = wanted.saturating_sub(serving) > orchestrated.absent;
        let is_enough = plan.steps.iter().any(|step| match step.kind {
            StepKind::AwaitCapacity { at_least, .. } => serving >= at_least,
            StepKind::AwaitRollout { enough: Some(enough), .. } => serving >= enough && is_in_place && !has_room,
            _ => false,
        });
        let verdict = match serving {
            0 => Verdict::Breach,
            _ if is_all || is_enough => Verdict::Ok,
            _ => Verdict::Unknown(UnknownReason::NotProven),
        };
        status(verdict, format!("{serving} of {wanted} instances of {} in service", plan.to))
    }

    pub(super) fn at_well(&self, plan: &Plan, since: Timestamp, now: Timestamp) -> Wait {
        if let Some(why) = self.why_the_goal_is_bad(now) {
            return Wait::Vain(format!("{} is bad as well: {why}", plan.to));
        }
        let checks = self.proof(plan, since, now);
        if checks.iter().all(|check| check.verdict == Verdict::Ok) {
            return Wait::Over;
        }
        if checks.iter().all(|check| check.verdict != Verdict::Breach) {
            return Wait::Unseen(checks);
        }
        Wait::For(with_verdict(&checks, |verdict| *verdict != Verdict::Ok).join("; "))
    }

    /// A critical trigger fires on the release that was gone back to, and not on a fault that is older than the rollback.
    /// What began before this attempt counts only after another `for` and another window. That nobody answers counts once a
    /// process had its time to come up, and what fires on while nothing is known of it does not count.
    pub(super) fn why_the_goal_is_bad(&self, now: Timestamp) -> Option<String> {
        self.why_the_goal_is_bad_since(Timestamp::default(), now)
    }

    /// The same of what was brought by a step that ended at `came`: what was seen while it ran says nothing of the goal.
    pub(super) fn why_the_goal_is_bad_since(&self, came: Timestamp, now: Timestamp) -> Option<String> {
        let incident = self.state.incident.as_ref()?;
        let came = came.max(incident.attempt_since);
        incident.plan.as_ref().filter(|plan| self.assessment.revision.as_ref() == Some(&plan.to))?;
        let fires_in_this_attempt = |trigger: &TriggerStatus| match trigger.state {
            TriggerState::Firing { since, .. } => {
                let anew = if since < came { trigger.hold_for.max(trigger.evidence.window) } else { Span::ZERO };
                let start = if trigger.evidence.unanswered { self.policy.warmup } else { Span::ZERO };
                let patience = anew.max(start);
                patience == Span::ZERO || now.since(came) > patience
            }
            TriggerState::Inactive | TriggerState::Pending { .. } => false,
        };
        let is_bad = |trigger: &&TriggerStatus| {
            trigger.severity == Severity::Critical
                && trigger.evidence.verdict == Verdict::Breach
                && fires_in_this_attempt(trigger)
                && self.older_fault(&trigger.name).is_none()
        };
        let bad = self.assessment.triggers.iter().find(is_bad)?;
        Some(narrate::describe(&cause_of(bad, None)))
    }
}

fn with_verdict(checks: &[CheckStatus], pick: impl Fn(&Verdict) -> bool) -> Vec<&str> {
    checks.iter().filter(|check| pick(&check.verdict)).map(|check| check.detail.as_str()).collect()
}
