//! What of a plan somebody else has done already.

use super::Controller;
use crate::domain::id::InstanceId;
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
        if pointed >= incident.phase_since {
            return Found::Nothing;
        }
        let is_done = match self.health.answers_as(instance, &plan.to, pointed, now) {
            Some(true) if is_pointed_by_others(incident, instance) => true,
            Some(false) => false,
            Some(true) | None => self.health.is_started_after(instance, pointed, now),
        };
        if is_done { Found::Done } else { Found::Nothing }
    }
}

/// Whether somebody else pointed an instance there while the rollback was held, and its own switch came later. An answer may
/// name whatever the symlink names: after a switch of ours it says nothing of the process.
fn is_pointed_by_others(incident: &Incident, instance: &InstanceId) -> bool {
    let went_on = incident.phase_since;
    incident.brought.get(instance).is_some_and(|(_, switched)| *switched >= went_on)
}
