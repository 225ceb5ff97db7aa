//! A workload that an attempt scaled down is given its instances back before it is left to a human: whatever release it is
//! at by then, whole.

use super::{Controller, Output};
use crate::domain::incident::alert::Phase;
use crate::domain::incident::grounds::Question;
use crate::domain::incident::record::{Closing, Event, Goal};
use crate::domain::observation::Orchestrated;
use crate::domain::response::ladder;
use crate::domain::response::plan::{Plan, Purpose, Step, StepKind};
use crate::domain::time::{Span, Timestamp};

/// How long scaling up may take.
const TIMEOUT: Span = Span::from_secs(30);

impl Controller {
    /// Gives what is left down its instances back.
    pub(super) fn make_whole(&mut self, now: Timestamp, out: &mut Output) -> bool {
        let Some(plan) = self.revival(now) else { return false };
        let goal = self.state.incident.as_ref().and_then(|incident| incident.goal.clone());
        let goal = goal.unwrap_or_else(|| Goal { revision: plan.to.clone(), image: None, known_good_since: None });
        self.propose(plan, goal, Vec::new(), now, out)
    }

    /// It has its instances back: from here on it is a human's, or was before.
    pub(super) fn hand_over(&mut self, plan: &Plan, now: Timestamp, out: &mut Output) -> bool {
        let Some(incident) = &self.state.incident else { return false };
        if incident.knows(&plan.to) {
            let reason = ladder::revived(incident, &plan.to);
            self.asked.1 = Question::Revived;
            return self.escalate(reason, now, out);
        }
        self.record(Event::Closed { how: Closing::Superseded { by: plan.to.clone() } }, now, out)
    }

    /// The workload, where the last attempt scaled it down and it was not scaled up since.
    pub(super) fn left_down(&self) -> Option<&Orchestrated> {
        let down = self.view().ok()?.orchestrated.as_deref()?;
        let is_acting = matches!(self.phase()?, Phase::Started | Phase::Verifying | Phase::Failed | Phase::Held);
        (self.may_be_down() && is_acting && down.replicas == 0).then_some(down)
    }

    pub(super) fn may_be_down(&self) -> bool {
        let Some(plan) = self.state.incident.as_ref().and_then(|incident| incident.plan.as_ref()) else { return false };
        let object = self.view().ok().and_then(|view| view.orchestrated.as_ref()).map(|down| &down.object);
        plan.purpose != Purpose::Whole && object.is_some_and(|object| plan.scales_down(object))
    }

    fn phase(&self) -> Option<Phase> {
        self.state.incident.as_ref().map(|incident| incident.phase)
    }

    fn revival(&self, now: Timestamp) -> Option<Plan> {
        let down = self.left_down()?;
        let last = self.state.incident.as_ref()?.plan.as_ref()?;
        let kind = StepKind::Scale {
            object: down.object.clone(),
            expect: down.desired.clone(),
            replicas: last.most_replicas().filter(|replicas| *replicas > 0)?,
            only_from: Some(0),
        };
        Some(Plan {
            attempt: last.attempt + 1,
            purpose: Purpose::Whole,
            strategy: last.strategy,
            from: last.from.clone(),
            to: down.desired.clone(),
            steps: vec![Step { kind, timeout: TIMEOUT }],
            deadline: now + self.policy.deadline,
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
