//! What a decision was made from, kept with the record of it, and the decision made again.

use serde::{Deserialize, Serialize};

use super::narrate::LEFT;
use super::record::{Cause, Event, Goal, Record};
use super::state::{Incident, Progress, Smoke, WorkloadState};
use crate::domain::health::verdict::{Assessment, CheckStatus, TriggerState, TriggerStatus};
use crate::domain::policy::{Mode, Owner, Release};
use crate::domain::response::guard::{self, FleetView, Limits, Situation};
use crate::domain::response::hold::Hold;
use crate::domain::response::ladder::{self, Footing, Rung};
use crate::domain::response::plan::{Plan, Purpose};
use crate::domain::time::{Span, Timestamp};

/// Releases that could be gone back to, kept with a decision. Where there are more it is not made again.
const MOST_RELEASES: usize = 256;

/// Who decided, and by what beside that which the guards look at.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// The guards, before the incident's first plan.
    #[default]
    Guards,
    /// The ladder, after a failed attempt.
    Ladder(Footing),
    /// The proof, which was not there by the deadline.
    Proof(Vec<CheckStatus>),
    /// An attempt that was to give instances back has done so.
    Revived,
    /// An operator's pause, in the middle of a plan.
    Operator,
}

/// Everything that was looked at: enough to decide again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Grounds {
    limits: Limits,
    /// What the journal said before the decision, the incident included.
    state: WorkloadState,
    assessment: Assessment,
    available: Result<Vec<Release>, String>,
    #[serde(default)]
    owners: Vec<Owner>,
    fleet: FleetView,
    #[serde(default)]
    attributed_at: Option<Timestamp>,
    #[serde(default)]
    asked: Question,
}

/// What comes of a situation.
enum Decision {
    Nothing,
    Hold(Hold, Option<Goal>),
    Plan { purpose: Purpose, goal: Goal, forced: Vec<String> },
    Revive,
    Escalate(String),
}

impl Grounds {
    /// Those of a situation, and what was asked; none where they would be too much to keep.
    #[must_use]
    pub fn of(situation: &Situation<'_>, asked: Question) -> Option<Self> {
        let available = situation.available.map(<[Release]>::to_vec).map_err(str::to_owned);
        let is_few = available.as_ref().map_or(0, Vec::len) <= MOST_RELEASES;
        is_few.then(|| Self {
            limits: situation.limits,
            state: situation.state.clone(),
            assessment: situation.assessment.clone(),
            available,
            owners: situation.owners.to_vec(),
            fleet: situation.fleet.clone(),
            attributed_at: situation.attributed_at,
            asked,
        })
    }

    /// The mode that was in force.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.limits.mode
    }

    /// How long after a rollout a fault was put down to it.
    #[must_use]
    pub fn probation(&self) -> Span {
        self.limits.probation
    }

    /// Decides again. None where no incident was open.
    fn decide(&self, now: Timestamp) -> Option<Decision> {
        let incident = self.state.incident.as_ref()?;
        let situation = Situation {
            limits: self.limits,
            state: &self.state,
            incident,
            assessment: &self.assessment,
            available: self.available.as_deref().map_err(String::as_str),
            owners: &self.owners,
            fleet: &self.fleet,
            attributed_at: self.attributed_at,
            now,
        };
        Some(match &self.asked {
            Question::Guards => by_guards(&situation),
            Question::Ladder(footing) => by_ladder(&situation, footing),
            Question::Proof(checks) => by_proof(incident, checks),
            Question::Revived => match &incident.plan {
                Some(plan) if plan.purpose == Purpose::Whole => Decision::Escalate(ladder::revived(incident, &plan.to)),
                Some(_) | None => Decision::Nothing,
            },
            Question::Operator => match ladder::halted(&self.state, self.limits.mode) {
                Some(hold) => Decision::Hold(hold, incident.goal.clone()),
                None => Decision::Nothing,
            },
        })
    }
}

fn by_guards(situation: &Situation<'_>) -> Decision {
    let ruling = guard::rule(situation);
    if let Some(reason) = ladder::held_for_too_long(situation.incident, ruling.hold(), situation.now) {
        return Decision::Escalate(reason);
    }
    let forced = ruling.forced();
    let goal = ruling.goal.as_ref().filter(|_| situation.incident.cause.aside().is_none());
    match (ruling.hold(), goal) {
        (Some(hold), goal) => Decision::Hold(hold.clone(), goal.cloned()),
        (None, Some(goal)) => Decision::Plan { purpose: Purpose::First, goal: goal.clone(), forced },
        (None, None) => Decision::Nothing,
    }
}

fn by_ladder(situation: &Situation<'_>, footing: &Footing) -> Decision {
    match ladder::next(situation, &guard::rule(situation), footing) {
        Rung::Wait => Decision::Nothing,
        Rung::Hold(hold) => Decision::Hold(hold, situation.incident.goal.clone()),
        Rung::Ask(hold, goal) => Decision::Hold(hold, Some(goal)),
        Rung::Revive => Decision::Revive,
        Rung::Attempt(purpose, goal) => Decision::Plan { purpose, goal, forced: Vec::new() },
        Rung::Escalate(reason) => Decision::Escalate(reason),
    }
}

fn by_proof(incident: &Incident, checks: &[CheckStatus]) -> Decision {
    let smoke = match &incident.progress {
        Progress::Proving { smoke, .. } => smoke,
        // A step that waits for what answers.
        Progress::Running { .. } => &Smoke::Waiting,
        Progress::Idle | Progress::Next { .. } | Progress::Conflicted { .. } | Progress::Broken { .. } => {
            return Decision::Nothing;
        }
    };
    let reason = incident.plan.as_ref().and_then(|plan| ladder::unproven(&plan.to, checks, smoke));
    reason.map_or(Decision::Nothing, Decision::Escalate)
}

impl Decision {
    /// In words, for what comes out otherwise.
    fn told(&self) -> String {
        match self {
            Decision::Nothing => "nothing is decided".to_owned(),
            Decision::Hold(hold, _) => format!("held, {}: {hold}", hold.as_str()),
            Decision::Plan { purpose: Purpose::First, .. } => "nothing holds".to_owned(),
            Decision::Plan { purpose, goal, .. } => format!("{}: {}", purpose.title(), goal.revision),
            Decision::Revive => Purpose::Whole.title().to_owned(),
            Decision::Escalate(reason) => format!("escalated: {reason}"),
        }
    }

    fn goal(&self) -> Option<&Goal> {
        match self {
            Decision::Hold(_, goal) => goal.as_ref(),
            Decision::Plan { goal, .. } => Some(goal),
            Decision::Nothing | Decision::Revive | Decision::Escalate(_) => None,
        }
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
            differences.extend(unfired(cause, assessment));
            (format!("detected: {}", super::narrate::describe(cause)), Some(differences))
        }
        Event::Held { hold, goal, grounds } => {
            let is_same = |again: &Decision| matches!(again, Decision::Hold(other, _) if other == hold);
            let differences = grounds.as_ref().map(|grounds| {
                let (mut differences, again) = redecided(grounds, record, is_same);
                differences.extend(again.and_then(|again| other_goal(again.goal(), goal.as_ref())));
                differences
            });
            (format!("held, {}: {hold}", hold.as_str()), differences)
        }
        Event::Planned { plan, goal, forced, grounds } => {
            (planned_in_words(plan), grounds.as_ref().map(|grounds| planned(grounds, plan, goal, forced, record)))
        }
        Event::Escalated { reason, grounds } => {
            // What was left where is said besides.
            let is_it =
                |other: &str| reason.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with(LEFT));
            let is_same = |again: &Decision| matches!(again, Decision::Escalate(other) if is_it(other));
            let differences = grounds.as_ref().map(|grounds| redecided(grounds, record, is_same).0);
            (format!("escalated: {reason}"), differences)
        }
        Event::ReleaseObserved { .. }
        | Event::KnownGood { .. }
        | Event::SettingsKept { .. }
        | Event::Paused { .. }
        | Event::Resumed { .. }
        | Event::OwnerPutBack { .. }
        | Event::Suspected { .. }
        | Event::StillPending { .. }
        | Event::FoundBeside { .. }
        | Event::Refused { .. }
        | Event::Approved { .. }
        | Event::Rejected { .. }
        | Event::Continued { .. }
        | Event::StepStarted { .. }
        | Event::StepFinished { .. }
        | Event::Verifying
        | Event::Recorded { .. }
        | Event::SmokeStarted
        | Event::SmokeFinished { .. }
        | Event::Restored { .. }
        | Event::Failed { .. }
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
fn unfired(cause: &Cause, assessment: &Assessment) -> Option<String> {
    let name = cause.name();
    let is_named = |trigger: &&TriggerStatus| trigger.name.as_str() == name;
    let trigger = match cause.aside() {
        Some(release) => {
            let mut asides = assessment.asides.iter().filter(|aside| aside.release == *release);
            asides.find_map(|aside| Some(&aside.trigger).filter(is_named))?
        }
        None => assessment.triggers.iter().find(is_named)?,
    };
    match trigger.state {
        TriggerState::Firing { since, at } if at.since(since) >= trigger.hold_for => None,
        TriggerState::Firing { since, at } => {
            Some(format!("\"{name}\" fires after {}, and asks for {}", at.since(since), trigger.hold_for))
        }
        TriggerState::Inactive | TriggerState::Pending { .. } => Some(format!("\"{name}\" does not fire")),
    }
}

/// The decision made again, and what comes out otherwise where it is not the same.
fn redecided(
    grounds: &Grounds,
    record: &Record,
    is_same: impl Fn(&Decision) -> bool,
) -> (Vec<String>, Option<Decision>) {
    let mut differences = verdicts(&grounds.assessment);
    let again = grounds.decide(record.at);
    match &again {
        Some(again) if is_same(again) => {}
        Some(again) => differences.push(again.told()),
        None => differences.push("it names no incident".to_owned()),
    }
    (differences, again)
}

fn planned_in_words(plan: &Plan) -> String {
    match plan.purpose {
        Purpose::First => format!("rolled back from {} to {}", plan.from, plan.to),
        Purpose::Retry | Purpose::OlderKnownGood | Purpose::Whole => {
            format!("attempt {}, from {} to {}: {}", plan.attempt, plan.from, plan.to, plan.purpose.title())
        }
    }
}

fn planned(grounds: &Grounds, plan: &Plan, goal: &Goal, forced: &[String], record: &Record) -> Vec<String> {
    let is_same = |again: &Decision| match again {
        Decision::Plan { purpose, .. } => *purpose == plan.purpose,
        Decision::Revive => plan.purpose == Purpose::Whole,
        Decision::Nothing | Decision::Hold(..) | Decision::Escalate(_) => false,
    };
    let (mut differences, again) = redecided(grounds, record, is_same);
    if let Some(Decision::Plan { forced: again, .. }) = &again
        && again != forced
    {
        differences.push(format!("skipped guards: {}", again.join(", ")));
    }
    // What gets its instances back is what is there: no goal is chosen.
    if let Some(again) = again.filter(|_| plan.purpose != Purpose::Whole) {
        differences.extend(other_goal(again.goal(), Some(goal)));
    }
    differences
}

fn other_goal(goal: Option<&Goal>, recorded: Option<&Goal>) -> Option<String> {
    let name = |goal: Option<&Goal>| goal.map_or_else(|| "none".to_owned(), |goal| goal.revision.to_string());
    (goal != recorded).then(|| format!("the release to go back to is {}, not {}", name(goal), name(recorded)))
}
