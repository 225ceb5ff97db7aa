//! Every plan of an incident, and what came of each of its steps.

use serde::Serialize;

use crate::domain::id::RevisionId;
use crate::domain::incident::record::{Closing, Event, Record};
use crate::domain::response::plan::{Outcome, Plan, Purpose};
use crate::domain::time::{Span, Timestamp};

/// One plan and what came of it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// Why this plan.
    pub purpose: Purpose,
    /// When it was decided.
    pub decided: Timestamp,
    /// The release that goes.
    pub from: RevisionId,
    /// The release that comes back.
    pub to: RevisionId,
    /// When everything had to be done.
    pub deadline: Timestamp,
    /// What was to be done, and how it went.
    pub steps: Vec<AttemptStep>,
    /// When the proof began.
    pub verifying: Option<Timestamp>,
    /// When it was over.
    pub ended: Option<Timestamp>,
    /// How it ended, in words; none while it goes on.
    pub result: Option<String>,
}

/// One step and how it went.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AttemptStep {
    /// What is done.
    pub title: String,
    /// How long it might take.
    pub timeout: Span,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

impl AttemptStep {
    /// How long it took.
    #[must_use]
    pub fn took(&self) -> Option<Span> {
        Some(self.finished?.since(self.started?))
    }
}

impl Attempt {
    fn new(plan: &Plan, decided: Timestamp) -> Self {
        let step = |step: &crate::domain::response::plan::Step| AttemptStep {
            title: step.kind.title(),
            timeout: step.timeout,
            started: None,
            finished: None,
            outcome: None,
        };
        Self {
            number: plan.attempt,
            purpose: plan.purpose,
            decided,
            from: plan.from.clone(),
            to: plan.to.clone(),
            deadline: plan.deadline,
            steps: plan.steps.iter().map(step).collect(),
            verifying: None,
            ended: None,
            result: None,
        }
    }

    fn step(&mut self, index: u32) -> Option<&mut AttemptStep> {
        self.steps.get_mut(usize::try_from(index).ok()?)
    }

    fn end(&mut self, at: Timestamp, result: String) {
        if self.ended.is_none() {
            self.ended = Some(at);
            self.result = Some(result);
        }
    }
}

/// Takes one record of the incident in.
pub(super) fn take(attempts: &mut Vec<Attempt>, record: &Record) {
    let at = record.at;
    if let Event::Planned { plan, .. } = &record.event {
        attempts.push(Attempt::new(plan, at));
        return;
    }
    let Some(attempt) = attempts.last_mut() else { return };
    match &record.event {
        Event::StepStarted { step } => {
            if let Some(step) = attempt.step(*step) {
                step.started = Some(at);
                // One that was stopped is begun anew.
                (step.finished, step.outcome) = (None, None);
            }
        }
        Event::StepFinished { step, outcome } => {
            if let Some(step) = attempt.step(*step) {
                step.finished = Some(at);
                step.outcome = Some(outcome.clone());
            }
        }
        Event::Verifying => attempt.verifying = Some(at),
        Event::Restored { .. } => attempt.end(at, "proven well".to_owned()),
        Event::Failed { reason, .. } => attempt.end(at, format!("failed: {reason}")),
        Event::Escalated { reason, .. } => attempt.end(at, format!("escalated: {reason}")),
        Event::Closed { how } => attempt.end(at, closed(how)),
        Event::Planned { .. }
        | Event::ReleaseObserved { .. }
        | Event::KnownGood { .. }
        | Event::SettingsKept { .. }
        | Event::Paused { .. }
        | Event::Resumed { .. }
        | Event::OwnerPutBack { .. }
        | Event::Suspected { .. }
        | Event::StillPending { .. }
        | Event::FoundBeside { .. }
        | Event::Detected { .. }
        | Event::Refused { .. }
        | Event::Held { .. }
        | Event::Continued { .. }
        | Event::Approved { .. }
        | Event::Rejected { .. }
        | Event::Recorded { .. }
        | Event::SmokeStarted
        | Event::SmokeFinished { .. } => {}
    }
}

/// How an incident was closed, in words.
pub(super) fn closed(how: &Closing) -> String {
    match how {
        Closing::Subsided => "the fault went away by itself".to_owned(),
        Closing::Unseen { why } => format!("whether the fault went on could not be seen: {why}"),
        Closing::Superseded { by, .. } => format!("{by} was put in place by someone else"),
        Closing::ByOperator { by, reason } => format!("closed by {by}: {reason}"),
        Closing::Refused => "a guard refused it".to_owned(),
        Closing::Forgotten { .. } => "the workload is no longer in the policy".to_owned(),
    }
}
