//! What the edges are asked to do for a workload, one thing at a time, and what came of it.

use std::collections::BTreeMap;

use super::{Controller, Output, owners};
use crate::domain::id::WorkloadId;
use crate::domain::incident::alert::Phase;
use crate::domain::incident::record::Event;
use crate::domain::incident::recording::{Recording, Wanted};
use crate::domain::incident::state::{Incident, Progress, Smoke};
use crate::domain::policy::{OwnerObject, SmokeTest};
use crate::domain::response::hold::Hold;
use crate::domain::response::plan::{Finding, Outcome, Plan, StepKind};
use crate::domain::settings::{Setting, ToKeep};
use crate::domain::time::{Span, Timestamp};

/// A step that begins just before its plan's deadline has this long all the same: cut off sooner, nothing could be done.
const SHORTEST_STEP: Span = Span::from_secs(10);

/// Work for the edges, asked for once. A restart asks again for what has no outcome yet.
#[derive(Clone, PartialEq, Debug)]
pub struct Job {
    /// Whose.
    pub workload: WorkloadId,
    /// Ties the answer to the question.
    pub ticket: u64,
    /// What.
    pub work: Work,
}

/// What the edges are asked to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Work {
    /// Look whether a plan could be carried out.
    Preflight(Box<Plan>),
    /// Do a step.
    Step {
        /// The step.
        kind: StepKind,
        /// For how long at most.
        timeout: Span,
    },
    /// Run the smoke test.
    Smoke(SmokeTest),
    /// Keep what there is to see of a release that went bad. Beside any other job.
    Record(Box<Wanted>),
    /// Keep what the release in place names. Beside any other job.
    Keep(Box<ToKeep>),
}

/// How a job ended.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// The job's ticket.
    pub ticket: u64,
    /// What came of it.
    pub result: JobResult,
}

/// What came of a job.
#[derive(Clone, PartialEq, Debug)]
pub enum JobResult {
    /// What stands in a plan's way; nothing if empty.
    Preflight(Vec<Finding>),
    /// How a step ended.
    Step(Outcome),
    /// Whether the smoke test passed, and its output's end.
    Smoke(bool, String),
    /// What was kept.
    Recorded(Box<Recording>),
    /// What could not be kept, and why; or why nothing could.
    Kept(Result<BTreeMap<Setting, String>, String>),
}

/// A preflight's result, good for the plan that it was made for.
#[derive(Debug)]
pub(super) struct Preflight {
    pub(super) plan: Plan,
    pub(super) findings: Vec<Finding>,
    pub(super) at: Timestamp,
}

/// The job that has no answer yet.
#[derive(Debug)]
pub(super) struct InFlight {
    ticket: u64,
    /// The plan that a preflight looks over. By the time it answers another one may be wanted.
    plan: Option<Plan>,
    /// The owner that it lets go on.
    owner: Option<OwnerObject>,
}

impl Controller {
    /// Asks for the one job that the state waits for, unless it is being done.
    pub(super) fn ask_edges(&mut self, now: Timestamp, out: &mut Output) {
        if self.in_flight.is_some() || !out.refused.is_empty() {
            return;
        }
        let work = match (&self.preflight_asked, &self.state.incident) {
            (_, Some(incident)) if incident.progress != Progress::Idle => self.work_of(incident),
            (Some(plan), Some(_)) => Some(Work::Preflight(Box::new(plan.clone()))),
            (None, Some(_)) | (_, None) => None,
        };
        let owner = if work.is_none() { self.owner_to_put_back(now) } else { None };
        let work = work.or_else(|| owner.clone().map(owners::put_back));
        if let Some(work) = work {
            self.tickets += 1;
            let plan = if let Work::Preflight(plan) = &work { Some((**plan).clone()) } else { None };
            self.in_flight = Some(InFlight { ticket: self.tickets, plan, owner });
            out.jobs.push(Job { workload: self.policy.id.clone(), ticket: self.tickets, work });
        }
    }

    fn work_of(&self, incident: &Incident) -> Option<Work> {
        match &incident.progress {
            Progress::Running { step, since } => {
                let plan = incident.plan.as_ref()?;
                let step = plan.step(*step)?;
                // After a start nobody does it any more; who paused the workload meant this one too.
                let may_begin = !step.kind.is_judged() && self.halt().is_none();
                let left = plan.deadline.since(*since).max(SHORTEST_STEP);
                may_begin.then(|| Work::Step { kind: step.kind.clone(), timeout: step.timeout.min(left) })
            }
            Progress::Proving { smoke: Smoke::Running, .. } => self.policy.verify.smoke.clone().map(Work::Smoke),
            Progress::Idle
            | Progress::Next { .. }
            | Progress::Conflicted { .. }
            | Progress::Broken { .. }
            | Progress::Proving { .. } => None,
        }
    }

    pub(super) fn take_answer(&mut self, answer: Answer, now: Timestamp, out: &mut Output) {
        if let JobResult::Recorded(recording) = answer.result {
            return self.take_recording(answer.ticket, recording, now, out);
        }
        if let JobResult::Kept(kept) = answer.result {
            return self.take_kept(answer.ticket, kept, now, out);
        }
        let Some(asked) = self.in_flight.take_if(|in_flight| in_flight.ticket == answer.ticket) else { return };
        match answer.result {
            JobResult::Preflight(findings) => {
                let Some(plan) = asked.plan else { return };
                self.preflight_asked.take_if(|wanted| wanted.is_same_but_for_time(&plan));
                self.preflight = Some(Preflight { plan, findings, at: now });
            }
            JobResult::Step(outcome) => {
                if let Some(owner) = asked.owner {
                    self.note_put_back(owner, outcome, now, out);
                } else if let Some(step) = self.running_step() {
                    self.record(Event::StepFinished { step, outcome }, now, out);
                }
            }
            JobResult::Smoke(passed, detail) => {
                if self.state.incident.as_ref().is_some_and(|incident| incident.phase == Phase::Verifying) {
                    self.record(Event::SmokeFinished { passed, detail }, now, out);
                }
            }
            // Taken above: they go beside the others.
            JobResult::Recorded(_) | JobResult::Kept(_) => {}
        }
    }

    pub(super) fn running_step(&self) -> Option<u32> {
        match &self.state.incident.as_ref()?.progress {
            Progress::Running { step, .. } => Some(*step),
            Progress::Idle
            | Progress::Next { .. }
            | Progress::Conflicted { .. }
            | Progress::Broken { .. }
            | Progress::Proving { .. } => None,
        }
    }

    /// It is held from then on, and goes on at once.
    pub(super) fn note_stood_still(&mut self, since: Timestamp, hold: Hold, out: &mut Output) {
        let Some(incident) = &self.state.incident else { return };
        let is_under_way = matches!(incident.phase, Phase::Started | Phase::Verifying);
        // What was well before may have been bad meanwhile: nobody judged it.
        self.stable_since = None;
        if is_under_way && incident.progress != Progress::Idle {
            let (goal, since) = (incident.goal.clone(), since.max(incident.phase_since));
            self.record(Event::Held { hold, goal, grounds: None }, since, out);
        }
    }

    pub(super) fn note_not_begun(&mut self, why: String, now: Timestamp, out: &mut Output) {
        self.in_flight = None;
        if let Some(step) = self.running_step() {
            self.record(Event::StepFinished { step, outcome: Outcome::NotBegun(why) }, now, out);
        }
    }
}
