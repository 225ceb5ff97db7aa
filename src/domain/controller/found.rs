//! What of a plan somebody else has done already.

use super::Controller;
use crate::domain::id::InstanceId;
use crate::domain::incident::alert::Phase;
use crate::domain::incident::state::Incident;
use crate::domain::response::plan::{Plan, StepKind};
use crate::domain::time::Timestamp;

/// What is found of a step before it is begun.
pub(super) enum Found {
    /// It is still to be done, as far as that can be known: once too often does less harm than never.
    Nothing,
    /// Nobody has looked yet.
    Unseen,
    /// Somebody else has done it.
    Done,
}

impl Controller {
    /// Whether a step would restart what somebody else restarted at the goal since this attempt began.
    pub(super) fn found(&self, plan: &Plan, step: u32, now: Timestamp) -> Found {
        let Some(incident) = &self.state.incident else { return Found::Nothing };
        self.found_since(plan, step, incident.phase_since, now)
    }

    /// The same of a step that is to come, if what is held went on now.
    pub(super) fn would_be_found(&self, plan: &Plan, step: u32, now: Timestamp) -> Found {
        let Some(incident) = &self.state.incident else { return Found::Nothing };
        let went_on = if incident.phase == Phase::Held { now } else { incident.phase_since };
        self.found_since(plan, step, went_on, now)
    }

    fn found_since(&self, plan: &Plan, step: u32, went_on: Timestamp, now: Timestamp) -> Found {
        let kind = plan.step(step).map(|step| &step.kind);
        let (Some(StepKind::Restart { instance, .. }), Some(incident)) = (kind, &self.state.incident) else {
            return Found::Nothing;
        };
        let Ok(view) = self.view() else { return Found::Nothing };
        let is_at_goal = view.at(&plan.to).any(|id| id == instance);
        // What was there before may be what did not help.
        let pointed = view.pointed.get(instance).filter(|at| is_at_goal && **at > incident.attempt_since);
        let Some(pointed) = pointed.copied() else { return Found::Nothing };
        if !self.health.has_seen(instance) && self.has_just_begun(now) {
            return Found::Unseen;
        }
        // Nobody else had time for it since: what was started then was so by itself.
        if pointed >= went_on {
            return Found::Nothing;
        }
        let is_theirs =
            || is_to_be_switched(incident, plan, step, instance) || is_switched_since(incident, instance, went_on);
        let is_done = match self.health.answers_as(instance, &plan.to, pointed, now) {
            Some(true) if is_theirs() => true,
            Some(false) => false,
            Some(true) | None => self.health.is_started_after(instance, pointed, now),
        };
        if is_done { Found::Done } else { Found::Nothing }
    }
}

/// Whether somebody else pointed an instance there while the rollback was held, and its own switch came later. An answer may
/// name whatever the symlink names: after a switch of ours it says nothing of the process.
fn is_switched_since(incident: &Incident, instance: &InstanceId, went_on: Timestamp) -> bool {
    incident.brought.get(instance).is_some_and(|(_, switched)| *switched >= went_on)
}

/// Whether its own switch comes yet, before this step.
fn is_to_be_switched(incident: &Incident, plan: &Plan, step: u32, instance: &InstanceId) -> bool {
    (incident.steps_done..step)
        .filter_map(|step| plan.step(step))
        .any(|step| matches!(&step.kind, StepKind::SwitchLink { instance: switched, .. } if switched == instance))
}
