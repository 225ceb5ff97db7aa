//! A workload that left the policy: what was begun for it is brought to where it is whole, whoever was paused for it goes on
//! by its limit, and then it is forgotten.
//!
//! Nobody looks at it any more, so nothing is judged and nothing new is begun: all goes by the records. That is why it takes
//! no policy, and a start that finds such a workload on record goes on the same way.

use super::{Controller, Input, MAX_TRANSITIONS, Output, Reply};
use crate::domain::incident::alert::Phase;
use crate::domain::incident::record::{Closing, Event, Goal};
use crate::domain::incident::state::{Incident, Progress, WorkloadState, difference};
use crate::domain::response::ending::{giving_back, must_go_to};
use crate::domain::response::guard::FleetView;
use crate::domain::response::plan::{Plan, Purpose};
use crate::domain::time::Timestamp;

use super::operator::{Refusal, RequestKind};

/// A workload leaves with its section, or with the labels that it is selected by.
const LEFT: &str = "the policy neither names nor selects it any more";

/// Whether something is to be done for a workload before it may be forgotten.
#[must_use]
pub fn owes(state: &WorkloadState) -> bool {
    let is_under_way = |incident: &Incident| incident.plan.is_some() && incident.phase != Phase::Escalated;
    !state.owners_paused.is_empty() || state.incident.as_ref().is_some_and(is_under_way)
}

impl Controller {
    /// From here on only what was begun is ended.
    pub fn leave(&mut self) {
        self.is_leaving = true;
        self.preflight = None;
        self.preflight_asked = None;
        // What they showed last says nothing of later.
        self.assessment.triggers.clear();
    }

    /// It is in the policy again, or still.
    pub fn stay(&mut self) {
        self.is_leaving = false;
    }

    /// Whether it is not in the policy any more.
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Whether it is not in the policy any more and nothing is left to be done for it.
    #[must_use]
    pub fn has_left(&self) -> bool {
        let incident = self.state.incident.as_ref();
        let is_over = incident.is_none_or(|incident| incident.phase == Phase::Escalated);
        self.is_leaving && is_over && self.state.owners_paused.is_empty()
    }

    /// Takes one input of a workload that left.
    pub(super) fn handle_leaving(
        &mut self,
        input: Input,
        now: Timestamp,
        fleet: &FleetView,
        out: &mut Output,
    ) -> Option<Reply> {
        let mut reply = None;
        match input {
            Input::Observed(_) | Input::Tick => {}
            Input::Done(answer) => self.take_answer(answer, now, out),
            Input::Parked(answer) => {
                self.take_answer(answer, now, out);
                return None;
            }
            Input::NotBegun(why) => self.note_not_begun(why, now, out),
            Input::StoodStill(since, hold) => self.note_stood_still(since, hold, out),
            Input::Asked(request) => {
                reply = Some(match request.kind {
                    RequestKind::Pause { .. } | RequestKind::Resume => self.ask(request, now, fleet, out),
                    RequestKind::Approve { .. }
                    | RequestKind::Reject { .. }
                    | RequestKind::Rollback { .. }
                    | RequestKind::Trigger { .. } => {
                        Err(Refusal::NotFound(format!("{} is no longer in the policy", self.policy.id)))
                    }
                });
            }
        }
        // The next tick is counted from here.
        self.assessment.at = now;
        for _ in 0..MAX_TRANSITIONS {
            if !self.end(now, out) || !out.refused.is_empty() {
                break;
            }
        }
        self.ask_edges(now, out);
        reply
    }

    /// One step towards the end of what was begun; whether there was one.
    fn end(&mut self, now: Timestamp, out: &mut Output) -> bool {
        let Some(incident) = &self.state.incident else { return false };
        let Some(plan) = incident.plan.clone() else {
            // What is left behind is a human's business still.
            let is_left = incident.phase == Phase::Escalated && !incident.moved.is_empty();
            return !is_left && self.close_forgotten(now, out);
        };
        let done = index(incident.steps_done);
        // Whoever paused it decides when it goes on.
        let is_paused = self.state.paused.is_some();
        match incident.progress.clone() {
            // Nobody looks at what it waits for, and its instances, or what its release names, are still to come.
            Progress::Running { step, .. }
                if is_judged(&plan, step) && (self.is_apart() || index(step) < must_go_to(&plan, index(step))) =>
            {
                self.fail(LEFT.to_owned(), Vec::new(), now, out)
            }
            Progress::Running { step, .. } if is_judged(&plan, step) => self.close_forgotten(now, out),
            progress @ Progress::Running { .. } => match self.too_late_to_resume(&plan, &progress, now) {
                Some((step, outcome)) => self.record(Event::StepFinished { step, outcome }, now, out),
                None => false,
            },
            Progress::Next { step } if index(step) >= must_go_to(&plan, index(step)) => self.close_forgotten(now, out),
            Progress::Next { .. } if is_paused => false,
            Progress::Next { .. } if now > plan.deadline && plan.purpose != Purpose::Whole => {
                self.fail(format!("not done by its deadline, {}", plan.deadline), Vec::new(), now, out)
            }
            Progress::Next { step } => self.record(Event::StepStarted { step }, now, out),
            // It is gone: there is nothing left to give anything back to.
            Progress::Conflicted { .. } if plan.purpose == Purpose::Whole => self.close_forgotten(now, out),
            Progress::Conflicted { detail, .. } => {
                self.fail(format!("somebody else writes: {detail}"), Vec::new(), now, out)
            }
            Progress::Broken { reason } if plan.purpose == Purpose::Whole => {
                let reason = format!("{LEFT}, and it could not be given its instances back: {reason}");
                self.escalate_forgotten(reason, now, out)
            }
            Progress::Broken { reason } => self.fail(reason, Vec::new(), now, out),
            Progress::Idle if incident.phase == Phase::Escalated => {
                // Those that it could not be given back are a human's business still.
                let is_open = plan.purpose == Purpose::Whole && (done < plan.steps.len() || !incident.moved.is_empty());
                !is_open && self.close_forgotten(now, out)
            }
            Progress::Idle => match giving_back(&plan, (done + 1, done), &incident.moved, now + self.policy.deadline) {
                Some(_) if is_paused => false,
                Some(plan) => {
                    let goal = Goal { revision: plan.to.clone(), image: None, known_good_since: None };
                    let goal = incident.goal.clone().unwrap_or(goal);
                    let event = Event::Planned { plan: Box::new(plan), goal, forced: Vec::new(), grounds: None };
                    self.record(event, now, out)
                }
                None => self.close_forgotten(now, out),
            },
            Progress::Proving { .. } => self.close_forgotten(now, out),
        }
    }

    fn close_forgotten(&mut self, now: Timestamp, out: &mut Output) -> bool {
        let incident = self.state.incident.as_ref();
        if incident.is_some_and(|incident| incident.phase != Phase::Escalated && !incident.moved.is_empty()) {
            return self.escalate_forgotten(format!("{LEFT}, in the middle of a rollback"), now, out);
        }
        self.record(Event::Closed { how: Closing::Forgotten { left: self.apart() } }, now, out)
    }

    fn escalate_forgotten(&mut self, reason: String, now: Timestamp, out: &mut Output) -> bool {
        let difference = self.state.incident.as_ref().and_then(difference);
        let reason = difference.map_or(reason.clone(), |difference| format!("{reason}; {difference}"));
        self.record(Event::Escalated { reason, grounds: None }, now, out)
    }
}

fn is_judged(plan: &Plan, step: u32) -> bool {
    plan.steps.get(index(step)).is_some_and(|step| step.kind.is_judged())
}

fn index(step: u32) -> usize {
    usize::try_from(step).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
