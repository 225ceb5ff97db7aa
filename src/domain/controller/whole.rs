//! A workload that an attempt scaled down is given its instances back before it is left to a human, and the settings that were
//! put back ahead of a release are put forward again: whatever release it is at by then, whole.

use std::collections::BTreeMap;

use super::{Controller, Output};
use crate::domain::id::RevisionId;
use crate::domain::incident::alert::Phase;
use crate::domain::incident::grounds::Question;
use crate::domain::incident::record::{Closing, Event, Goal};
use crate::domain::incident::{narrate, state};
use crate::domain::observation::Orchestrated;
use crate::domain::response::ladder;
use crate::domain::response::plan::{Plan, Purpose, Step, StepKind};
use crate::domain::time::{Span, Timestamp};

/// How long scaling up may take.
const TIMEOUT: Span = Span::from_secs(30);

impl Controller {
    /// Gives what is left down its instances back, and first the settings that they come up with.
    pub(super) fn make_whole(&mut self, now: Timestamp, out: &mut Output) -> bool {
        let Some(plan) = self.revival(now) else { return false };
        let goal = self.state.incident.as_ref().and_then(|incident| incident.goal.clone());
        let goal = goal.unwrap_or_else(|| Goal { revision: plan.to.clone(), image: None, known_good_since: None });
        self.propose(plan, goal, Vec::new(), now, out)
    }

    /// It has its instances back: from here on it is a human's, or was before.
    pub(super) fn hand_over(&mut self, plan: &Plan, now: Timestamp, out: &mut Output) -> bool {
        let Some(incident) = &self.state.incident else { return false };
        if incident.knows(&plan.to) || !incident.moved.is_empty() {
            let reason = ladder::revived(incident, &plan.to);
            self.asked.1 = Question::Revived;
            return self.escalate(reason, now, out);
        }
        self.record(
            Event::Closed { how: Closing::Superseded { by: plan.to.clone(), others: BTreeMap::new() } },
            now,
            out,
        )
    }

    /// The workload, where the last attempt scaled it down and it was not scaled up since.
    pub(super) fn left_down(&self) -> Option<&Orchestrated> {
        let down = self.view().ok()?.orchestrated.as_deref()?;
        let is_acting = matches!(
            self.phase()?,
            Phase::Started | Phase::Verifying | Phase::Failed | Phase::Held | Phase::AwaitingApproval
        );
        (self.may_be_down() && is_acting && down.replicas == 0).then_some(down)
    }

    pub(super) fn may_be_down(&self) -> bool {
        let Some(plan) = self.state.incident.as_ref().and_then(|incident| incident.plan.as_ref()) else { return false };
        let object = self.view().ok().and_then(|view| view.orchestrated.as_ref()).map(|down| &down.object);
        plan.purpose != Purpose::Whole && object.is_some_and(|object| plan.scales_down(object))
    }

    /// Whether settings were put back for a release that is not in place yet, and a plan is to bring it there, or to put them
    /// forward: nobody else was left with that.
    pub(super) fn is_apart(&self) -> bool {
        let incident = self.state.incident.as_ref().filter(|incident| incident.phase != Phase::Escalated);
        incident.is_some_and(|incident| incident.plan.is_some() && !incident.moved.is_empty())
    }

    /// Ends the incident, unless settings are left that belong to no release in place: those are a human's business still.
    pub(super) fn close(&mut self, how: Closing, now: Timestamp, out: &mut Output) -> bool {
        let Some(incident) = &self.state.incident else { return false };
        if incident.moved.is_empty() || incident.phase == Phase::Escalated {
            return self.record(Event::Closed { how }, now, out);
        }
        let reason = narrate::closing(incident, &how);
        self.preflight_asked = None;
        self.record(Event::Escalated { reason, grounds: None }, now, out)
    }

    /// What the workload is bound for, where that is so.
    pub(super) fn bound_apart(&self) -> Option<&RevisionId> {
        let incident = self.state.incident.as_ref().filter(|_| self.is_apart())?;
        let desired = &self.view().ok()?.orchestrated.as_ref()?.desired;
        state::are_apart(&incident.moved, desired).then_some(desired)
    }

    fn phase(&self) -> Option<Phase> {
        self.state.incident.as_ref().map(|incident| incident.phase)
    }

    fn revival(&self, now: Timestamp) -> Option<Plan> {
        let incident = self.state.incident.as_ref()?;
        let last = incident.plan.as_ref()?;
        let is_apart = last.purpose != Purpose::Whole && self.bound_apart().is_some();
        let mut steps = if is_apart { state::forward(&incident.moved) } else { Vec::new() };
        if let (Some(down), Some(replicas @ 1..)) = (self.left_down(), last.most_replicas()) {
            let (object, expect) = (down.object.clone(), down.desired.clone());
            let kind = StepKind::Scale { object, expect, replicas, only_from: Some(0), at_any: true };
            steps.push(Step { kind, timeout: TIMEOUT });
        }
        let desired = &self.view().ok()?.orchestrated.as_ref()?.desired;
        (!steps.is_empty()).then(|| Plan {
            attempt: last.attempt + 1,
            purpose: Purpose::Whole,
            strategy: last.strategy,
            from: last.from.clone(),
            to: desired.clone(),
            steps,
            deadline: now + self.policy.deadline,
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
