//! What a decision was made from, kept with the record of it, and the decision made again.

use serde::{Deserialize, Serialize};

use super::record::{Event, Goal, Record};
use super::state::WorkloadState;
use crate::domain::health::verdict::{Assessment, TriggerState};
use crate::domain::policy::Release;
use crate::domain::response::guard::{self, FleetView, Limits, Ruling, Situation};
use crate::domain::response::hold::Hold;
use crate::domain::time::Timestamp;

/// Releases that could be gone back to, kept with a decision. Where there are more it is not made again.
const MOST_RELEASES: usize = 256;

/// Everything that the guards looked at: enough to ask them again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Grounds {
    limits: Limits,
    /// What the journal said before the decision, the incident included.
    state: WorkloadState,
    assessment: Assessment,
    available: Result<Vec<Release>, String>,
    fleet: FleetView,
}

impl Grounds {
    /// Those of a situation; none where they would be too much to keep.
    #[must_use]
    pub fn of(situation: &Situation<'_>) -> Option<Self> {
        let available = situation.available.map(<[Release]>::to_vec).map_err(str::to_owned);
        let is_few = available.as_ref().map_or(0, Vec::len) <= MOST_RELEASES;
        is_few.then(|| Self {
            limits: situation.limits,
            state: situation.state.clone(),
            assessment: situation.assessment.clone(),
            available,
            fleet: situation.fleet.clone(),
        })
    }

    /// What the guards say of it.
    fn rule(&self, now: Timestamp) -> Option<Ruling> {
        Some(guard::rule(&Situation {
            limits: self.limits,
            state: &self.state,
            incident: self.state.incident.as_ref()?,
            assessment: &self.assessment,
            available: self.available.as_deref().map_err(String::as_str),
            fleet: &self.fleet,
            now,
        }))
    }
}

/// A past decision, made again.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Again {
    /// The record's position among those of its workload.
    pub sequence: u64,
    /// When it was made.
    pub at: Timestamp,
    /// What was decided.
    pub decided: String,
    /// What comes out otherwise, one line each; nothing where it is the same decision. None where the record does not hold
    /// what it was made from.
    pub differences: Option<Vec<String>>,
}

/// Makes each decision of an incident again, from its records alone.
#[must_use]
pub fn again(records: &[Record]) -> Vec<Again> {
    records.iter().filter_map(one).collect()
}

fn one(record: &Record) -> Option<Again> {
    let (decided, differences) = match &record.event {
        Event::Detected { cause, assessment, .. } => {
            let mut differences = verdicts(assessment);
            differences.extend(unfired(cause.name(), assessment));
            (format!("detected: {}", super::narrate::describe(cause)), Some(differences))
        }
        Event::Held { hold, goal, grounds } => {
            let differences = grounds.as_ref().map(|grounds| held(grounds, hold, goal.as_ref(), record));
            (format!("held, {}: {hold}", hold.as_str()), differences)
        }
        Event::Planned { plan, goal, forced, grounds } => {
            let differences = grounds.as_ref().map(|grounds| planned(grounds, goal, forced, record));
            (format!("rolled back from {} to {}", plan.from, plan.to), differences)
        }
        Event::ReleaseObserved { .. }
        | Event::KnownGood { .. }
        | Event::Paused { .. }
        | Event::Resumed { .. }
        | Event::Suspected { .. }
        | Event::StillPending { .. }
        | Event::Refused { .. }
        | Event::Approved { .. }
        | Event::Rejected { .. }
        | Event::StepStarted { .. }
        | Event::StepFinished { .. }
        | Event::Verifying
        | Event::Recorded { .. }
        | Event::SmokeStarted
        | Event::SmokeFinished { .. }
        | Event::Restored { .. }
        | Event::Failed { .. }
        | Event::Escalated { .. }
        | Event::Closed { .. } => return None,
    };
    Some(Again { sequence: record.sequence, at: record.at, decided, differences })
}

/// Verdicts that do not follow from their own numbers.
fn verdicts(assessment: &Assessment) -> Vec<String> {
    let triggers = assessment.triggers.iter().flat_map(|trigger| {
        let second = trigger.confirmation.as_deref();
        [&trigger.evidence].into_iter().chain(trigger.terms()).chain(second).map(|evidence| (&trigger.name, evidence))
    });
    let mut differences: Vec<String> = Vec::new();
    for (name, evidence) in triggers {
        let Some(why) = evidence.contradiction() else { continue };
        let line = format!("\"{name}\": {}: {why}", evidence.signal);
        // What decides is one of the terms.
        if !differences.contains(&line) {
            differences.push(line);
        }
    }
    differences
}

/// A trigger that is said to have fired and by its own account does not.
fn unfired(name: &str, assessment: &Assessment) -> Option<String> {
    let trigger = assessment.triggers.iter().find(|trigger| trigger.name.as_str() == name)?;
    match trigger.state {
        TriggerState::Firing { since, at } if at.since(since) >= trigger.hold_for => None,
        TriggerState::Firing { since, at } => {
            Some(format!("\"{name}\" fires after {}, and asks for {}", at.since(since), trigger.hold_for))
        }
        TriggerState::Inactive | TriggerState::Pending { .. } => Some(format!("\"{name}\" does not fire")),
    }
}

fn held(grounds: &Grounds, hold: &Hold, goal: Option<&Goal>, record: &Record) -> Vec<String> {
    let mut differences = verdicts(&grounds.assessment);
    let Some(ruling) = grounds.rule(record.at) else {
        differences.push("it names no incident".to_owned());
        return differences;
    };
    match ruling.hold() {
        Some(other) if other == hold => {}
        Some(other) => differences.push(format!("held, {}: {other}", other.as_str())),
        None => differences.push("nothing holds".to_owned()),
    }
    differences.extend(other_goal(ruling.goal.as_ref(), goal));
    differences
}

fn planned(grounds: &Grounds, goal: &Goal, forced: &[String], record: &Record) -> Vec<String> {
    let mut differences = verdicts(&grounds.assessment);
    let Some(ruling) = grounds.rule(record.at) else {
        differences.push("it names no incident".to_owned());
        return differences;
    };
    if let Some(hold) = ruling.hold() {
        differences.push(format!("held, {}: {hold}", hold.as_str()));
    }
    if ruling.forced() != forced {
        differences.push(format!("skipped guards: {}", ruling.forced().join(", ")));
    }
    differences.extend(other_goal(ruling.goal.as_ref(), Some(goal)));
    differences
}

fn other_goal(goal: Option<&Goal>, recorded: Option<&Goal>) -> Option<String> {
    let name = |goal: Option<&Goal>| goal.map_or_else(|| "none".to_owned(), |goal| goal.revision.to_string());
    (goal != recorded).then(|| format!("the release to go back to is {}, not {}", name(goal), name(recorded)))
}
