//! Records fold into state by one legality table: the same live, after a restart, and for a report.

mod incident;
mod learned;
mod moved;
mod owner;

pub use incident::beside;
pub use learned::OthersFault;
pub use moved::{MadeSetting, MovedSetting, are_apart, difference, forward};
pub use owner::PausedOwner;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::alert::{Phase, Times, any_severity};
use super::ledger::Ledger;
use super::narrate;
use super::record::{Cause, Event, Goal, OlderFault, Record, Running};
use super::recording::Brief;
use crate::domain::health::verdict::CheckStatus;
use crate::domain::id::{IncidentId, InstanceId, RevisionId, TriggerName, WorkloadId};
use crate::domain::policy::{Mode, Severity, Strategy};
use crate::domain::response::hold::Hold;
use crate::domain::response::plan::Plan;
use crate::domain::time::{Span, Timestamp};

/// Rollbacks remembered per workload: more than any daily limit looks back at.
pub const ROLLBACKS_REMEMBERED: usize = 64;

/// Reports remembered per workload: more than a source repeats at a time.
pub const REPORTS_REMEMBERED: usize = 128;

/// How long it is held for the same reason until that is told again, where it is recorded again.
pub const HELD_TOLD_AGAIN: Span = Span::from_secs(3600);

/// Everything about one workload that survives a restart.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct WorkloadState {
    /// Sequence of the newest record; 0 before the first.
    pub sequence: u64,
    /// Time of the newest record.
    pub last_at: Timestamp,
    /// The release in service.
    pub current: Option<Running>,
    /// The release before it, where its rollout was seen.
    pub previous: Option<RevisionId>,
    /// What each instance of a host was at when that came or a rollback was planned, or was brought to since.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub placed: BTreeMap<InstanceId, RevisionId>,
    /// What is known of each release.
    pub ledger: Ledger,
    /// Set while an operator has it paused.
    pub paused: Option<Pause>,
    /// What an operator said no to last, until it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<Rejection>,
    /// When rollbacks were started, oldest first.
    pub rollbacks: Vec<Timestamp>,
    /// The open incident.
    pub incident: Option<Incident>,
    /// Faults that were burning when the present release came: they are older than the release.
    #[serde(default)]
    pub older_faults: Vec<OlderFault>,
    /// The last fault that subsided and was not put down to the release: what is left of it is no other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others_fault: Option<OthersFault>,
    /// What was paused for a rollback and is not let go on yet.
    #[serde(default)]
    pub owners_paused: Vec<PausedOwner>,
    /// Keys of reports that were taken, oldest first: their sources repeat themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reported: Vec<String>,
}

/// An operator's pause.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pause {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// An operator's no to what a trigger showed of a release.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rejection {
    /// Who said it.
    pub by: String,
    /// Why; empty where that was not kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When.
    #[serde(default)]
    pub at: Timestamp,
    /// The trigger's name.
    pub trigger: String,
    /// The release.
    pub release: RevisionId,
}

/// One incident, as its records tell it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Incident {
    /// Its name.
    pub id: IncidentId,
    /// Where it is.
    pub phase: Phase,
    /// What set it off.
    pub cause: Cause,
    /// The release in question.
    pub from: Option<Running>,
    /// The release to go back to.
    pub goal: Option<Goal>,
    /// In force when it began.
    pub mode: Mode,
    /// In force when it began.
    pub strategy: Strategy,
    /// Why nothing is done, where nothing is.
    pub hold: Option<Hold>,
    /// The last reason for which its present cause was not put down to the release.
    #[serde(default)]
    pub attributed: Option<Hold>,
    /// Whether its present cause was held as none that a release in place for so long, or never seen to come, has brought.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_doubted: bool,
    /// Whether it was about lost sight at some time, so that people know of that.
    #[serde(default)]
    pub was_blind: bool,
    /// When it was last held by an operator's word, or by a policy that only observes, and is not any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word_until: Option<Timestamp>,
    /// Who approved.
    pub approved: Option<String>,
    /// The release to go back to that was approved; none where that was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_for: Option<RevisionId>,
    /// Who rejected.
    pub rejected: Option<String>,
    /// Why; empty where nobody did, or that was not kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rejected_because: String,
    /// The plan being carried out, or the last one.
    pub plan: Option<Plan>,
    /// How far the plan has come.
    pub progress: Progress,
    /// Releases that were gone back to in vain, in this incident.
    pub tried: Vec<RevisionId>,
    /// The attempts of which a step could not be recorded in time to be begun: they are made again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unspent: Vec<u32>,
    /// Why the last attempt failed, or the incident escalated.
    pub trouble: Option<String>,
    /// Whether the last attempt failed for want of room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_room: bool,
    /// Checks of the last verification.
    pub checks: Vec<CheckStatus>,
    /// Whether the present plan's smoke test was begun and did not pass.
    #[serde(default)]
    pub smoke_owed: bool,
    /// Why a step was not done without which the rollback is whole all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_undone: Option<String>,
    /// When the present plan was made.
    #[serde(default)]
    pub attempt_since: Timestamp,
    /// How many of the present plan's steps are done, those after it not being begun or not ended well.
    #[serde(default)]
    pub steps_done: u32,
    /// The present plan's steps that were not done, since what they are about had left the policy.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub passed_over: BTreeSet<u32>,
    /// The instances that were pointed to another release, each with that and when.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub brought: BTreeMap<InstanceId, (RevisionId, Timestamp)>,
    /// The instances that somebody else restarted at the goal of the present plan before it came to that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restarted_by_others: Vec<InstanceId>,
    /// The faults of releases beside the one in question that people were told of, each with the release and its trigger.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub found_beside: BTreeSet<(RevisionId, TriggerName)>,
    /// Settings that were put back ahead of a release that is not in place yet, in the order in which that was begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<MovedSetting>,
    /// Settings that were made anew ahead of such a release, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<MadeSetting>,
    /// When what happened.
    pub times: Times,
    /// When it entered its phase, or came to be held for its present reason.
    pub phase_since: Timestamp,
    /// How long a pending trigger has been breached, and when that was noted.
    pub pending: Option<(Span, Timestamp)>,
    /// What was kept of the bad release before anything was touched, in a few lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Brief>,
    /// Messages sent.
    pub notices: u64,
    /// How grave the cause was by those that said that something is wrong.
    #[serde(default = "any_severity")]
    pub told_as: BTreeSet<Severity>,
}

/// How far a plan has come.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "progress")]
pub enum Progress {
    /// No plan yet, or the last one is over.
    #[default]
    Idle,
    /// The next step to begin.
    Next {
        /// Index into the plan's steps.
        step: u32,
    },
    /// A step whose outcome is not known yet.
    Running {
        /// Index into the plan's steps.
        step: u32,
        /// Since when.
        since: Timestamp,
    },
    /// A step that met somebody else's change; the next look settles what that means.
    Conflicted {
        /// Index into the plan's steps.
        step: u32,
        /// When.
        at: Timestamp,
        /// What was found.
        detail: String,
    },
    /// A step failed.
    Broken {
        /// Why.
        reason: String,
    },
    /// All steps are done.
    Proving {
        /// Since when.
        since: Timestamp,
        /// Where the smoke test is.
        smoke: Smoke,
    },
}

/// Where the smoke test is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "smoke")]
pub enum Smoke {
    /// Not yet run.
    Waiting,
    /// Being run.
    Running,
    /// Passed.
    Passed,
    /// Failed.
    Failed {
        /// Exit status and the end of its output.
        detail: String,
    },
}

/// A record that can't follow the ones before it. The journal is damaged, or the code is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {sequence} of {workload} ({event}) can't follow: {why}")]
pub struct Illegal {
    /// Whose record.
    pub workload: WorkloadId,
    /// Its position.
    pub sequence: u64,
    /// Its event's name.
    pub event: &'static str,
    /// What is wrong.
    pub why: String,
}

/// The phase that an incident event leads to, from the phases that it may follow (`None`: no incident is open).
/// `Err` says why it may not.
fn transition(open: Option<&Incident>, event: &Event) -> Result<Phase, String> {
    use Phase::{AwaitingApproval, Closed, Detected, Escalated, Failed, Held, Restored, Started, Suspected, Verifying};
    let phase = open.map(|incident| incident.phase);
    let (allowed, next): (&[Phase], Phase) = match event {
        Event::Suspected { .. } => (&[], Suspected),
        Event::StillPending { .. } => (&[Suspected], Suspected),
        Event::Detected { .. } => (&[Suspected, Detected, Held, AwaitingApproval, Escalated], Detected),
        Event::FoundBeside { .. } => (&[Escalated], Escalated),
        // It may come a little late; it says when each of its parts was.
        Event::Recorded { .. } => (&[Detected, Held, AwaitingApproval, Started], phase.unwrap_or(Detected)),
        Event::Held { hold: Hold::NeedsApproval { .. }, .. } => {
            (&[Detected, Held, AwaitingApproval, Failed], AwaitingApproval)
        }
        Event::Held { .. } => (&[Detected, Held, AwaitingApproval, Started, Verifying, Failed], Held),
        Event::Approved { .. } => (&[AwaitingApproval], AwaitingApproval),
        Event::Rejected { .. } => (&[Suspected, Detected, Held, AwaitingApproval], Held),
        Event::Planned { .. } => (&[Detected, Held, AwaitingApproval, Failed], Started),
        Event::Continued { .. } => {
            let is_proven = open.is_some_and(|incident| matches!(incident.progress, Progress::Proving { .. }));
            (&[Held], if is_proven { Verifying } else { Started })
        }
        Event::StepStarted { .. } => (&[Started, Held], Started),
        Event::StepFinished { .. } => (&[Started, Held], phase.unwrap_or(Started)),
        Event::Verifying => (&[Started, Held], Verifying),
        Event::SmokeStarted | Event::SmokeFinished { .. } => (&[Verifying], Verifying),
        Event::Restored { .. } => (&[Verifying], Restored),
        Event::Failed { .. } => (&[Started, Held, Verifying], Failed),
        Event::Escalated { .. } => (&[Detected, Held, AwaitingApproval, Started, Verifying, Failed], Escalated),
        Event::Closed { .. } => {
            (&[Suspected, Detected, Held, AwaitingApproval, Started, Verifying, Failed, Escalated], Closed)
        }
        // Over as it begins, whatever else is open; it never comes here.
        Event::Refused { .. } | Event::OwnerPutBack { .. } => return Err("it is an incident of its own".to_owned()),
        Event::ReleaseObserved { .. }
        | Event::KnownGood { .. }
        | Event::SettingsKept { .. }
        | Event::Paused { .. }
        | Event::Resumed { .. } => {
            return Err("it is not about an incident".to_owned());
        }
    };
    match phase {
        None if matches!(event, Event::Suspected { .. } | Event::Detected { .. }) => Ok(next),
        None => Err("no incident is open".to_owned()),
        Some(phase) if allowed.contains(&phase) => Ok(next),
        Some(phase) => Err(format!("the incident is {phase}")),
    }
}

impl Event {
    /// Whether an incident is over with it.
    #[must_use]
    pub const fn ends_incident(&self) -> bool {
        match self {
            Event::Restored { .. } | Event::Closed { .. } | Event::Refused { .. } | Event::OwnerPutBack { .. } => true,
            Event::ReleaseObserved { .. }
            | Event::KnownGood { .. }
            | Event::SettingsKept { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::Recorded { .. }
            | Event::Suspected { .. }
            | Event::StillPending { .. }
            | Event::FoundBeside { .. }
            | Event::Detected { .. }
            | Event::Held { .. }
            | Event::Approved { .. }
            | Event::Rejected { .. }
            | Event::Planned { .. }
            | Event::Continued { .. }
            | Event::StepStarted { .. }
            | Event::StepFinished { .. }
            | Event::Verifying
            | Event::SmokeStarted
            | Event::SmokeFinished { .. }
            | Event::Failed { .. }
            | Event::Escalated { .. } => false,
        }
    }

    /// The event's name in the journal.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Event::ReleaseObserved { .. } => "release-observed",
            Event::KnownGood { .. } => "known-good",
            Event::SettingsKept { .. } => "settings-kept",
            Event::Paused { .. } => "paused",
            Event::Resumed { .. } => "resumed",
            Event::OwnerPutBack { .. } => "owner-put-back",
            Event::Suspected { .. } => "suspected",
            Event::StillPending { .. } => "still-pending",
            Event::FoundBeside { .. } => "found-beside",
            Event::Detected { .. } => "detected",
            Event::Refused { .. } => "refused",
            Event::Recorded { .. } => "recorded",
            Event::Held { .. } => "held",
            Event::Approved { .. } => "approved",
            Event::Rejected { .. } => "rejected",
            Event::Planned { .. } => "planned",
            Event::Continued { .. } => "continued",
            Event::StepStarted { .. } => "step-started",
            Event::StepFinished { .. } => "step-finished",
            Event::Verifying => "verifying",
            Event::SmokeStarted => "smoke-started",
            Event::SmokeFinished { .. } => "smoke-finished",
            Event::Restored { .. } => "restored",
            Event::Failed { .. } => "failed",
            Event::Escalated { .. } => "escalated",
            Event::Closed { .. } => "closed",
        }
    }
}

/// What a record did to the state.
#[derive(Clone, PartialEq, Debug)]
pub enum Applied {
    /// Nothing that people need to be told.
    Silent,
    /// The incident entered a phase, or is held for another reason. It is given as it stands after the record.
    Transition(Box<Incident>),
}

impl WorkloadState {
    /// Takes in one record.
    ///
    /// # Errors
    /// [`Illegal`] where the record can't follow the ones before; the state is then unchanged.
    pub fn apply(&mut self, record: &Record) -> Result<Applied, Illegal> {
        let illegal = |why: String| Illegal {
            workload: record.workload.clone(),
            sequence: record.sequence,
            event: record.event.name(),
            why,
        };
        if record.sequence != self.sequence + 1 {
            return Err(illegal(format!("record {} was expected", self.sequence + 1)));
        }
        let applied = match &record.event {
            Event::ReleaseObserved { .. }
            | Event::KnownGood { .. }
            | Event::SettingsKept { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. } => {
                if record.incident.is_some() {
                    return Err(illegal("it is not about an incident".to_owned()));
                }
                self.apply_to_workload(record);
                Applied::Silent
            }
            Event::Refused { .. } => over_at_once(record, None, Phase::Closed).map_err(illegal)?,
            Event::OwnerPutBack { owner, outcome, .. } => {
                let phase = if outcome.is_done() { Phase::Closed } else { Phase::Escalated };
                let applied = over_at_once(record, self.current.as_ref(), phase).map_err(illegal)?;
                self.owners_paused.retain(|paused| !outcome.is_done() || paused.owner != *owner);
                applied
            }
            Event::Suspected { .. }
            | Event::StillPending { .. }
            | Event::FoundBeside { .. }
            | Event::Detected { .. }
            | Event::Held { .. }
            | Event::Approved { .. }
            | Event::Rejected { .. }
            | Event::Planned { .. }
            | Event::Continued { .. }
            | Event::StepStarted { .. }
            | Event::StepFinished { .. }
            | Event::Verifying
            | Event::Recorded { .. }
            | Event::SmokeStarted
            | Event::SmokeFinished { .. }
            | Event::Restored { .. }
            | Event::Failed { .. }
            | Event::Escalated { .. }
            | Event::Closed { .. } => self.apply_to_incident(record).map_err(illegal)?,
        };
        self.sequence = record.sequence;
        self.last_at = record.at;
        Ok(applied)
    }

    fn apply_to_workload(&mut self, record: &Record) {
        match &record.event {
            Event::ReleaseObserved { revision, image, previous, older_faults, instances, by_rollback } => {
                self.placed.clone_from(instances);
                self.rejection = None;
                self.older_faults.clone_from(older_faults);
                if *by_rollback {
                    self.ledger.gone_back_to(revision, image.clone(), record.at);
                } else {
                    self.ledger.became_current(revision, image.clone(), record.at);
                }
                self.previous.clone_from(previous);
                self.current = Some(Running { revision: revision.clone(), image: image.clone(), since: record.at });
            }
            Event::KnownGood { revision, since } => self.ledger.known_good(revision, *since),
            Event::SettingsKept { revision, settings } => self.ledger.settings_kept(revision, settings.clone()),
            Event::Paused { by, reason } => {
                self.paused = Some(Pause { by: by.clone(), reason: reason.clone(), since: record.at });
            }
            Event::Resumed { .. } => self.paused = None,
            Event::OwnerPutBack { .. }
            | Event::Suspected { .. }
            | Event::StillPending { .. }
            | Event::FoundBeside { .. }
            | Event::Detected { .. }
            | Event::Refused { .. }
            | Event::Held { .. }
            | Event::Approved { .. }
            | Event::Rejected { .. }
            | Event::Planned { .. }
            | Event::Continued { .. }
            | Event::StepStarted { .. }
            | Event::StepFinished { .. }
            | Event::Verifying
            | Event::Recorded { .. }
            | Event::SmokeStarted
            | Event::SmokeFinished { .. }
            | Event::Restored { .. }
            | Event::Failed { .. }
            | Event::Escalated { .. }
            | Event::Closed { .. } => {}
        }
    }

    fn apply_to_incident(&mut self, record: &Record) -> Result<Applied, String> {
        let id = record.incident.as_ref().ok_or("it names no incident")?;
        if let Some(open) = &self.incident
            && open.id != *id
        {
            return Err(format!("{} is open", open.id));
        }
        let next = transition(self.incident.as_ref(), &record.event)?;
        let mut incident = match self.incident.take() {
            Some(open) => open,
            None => Incident::begin(id.clone(), record, self.current.as_ref())?,
        };
        let before = (incident.notices > 0).then(|| (incident.phase, incident.hold.clone()));
        let asks_for_another = incident.asks_for_another(&record.event);
        incident.take_in(record);
        if matches!(record.event, Event::Suspected { .. } | Event::Detected { .. }) {
            incident.attributed = self.left_of_others(&incident, record.at);
        }
        self.note_in_ledger(&incident, record);
        if let Event::Planned { plan, .. } = &record.event {
            self.placed.extend(plan.expected());
        }
        if matches!(record.event, Event::StepFinished { .. }) {
            self.placed.extend(incident.brought.iter().map(|(instance, (to, _))| (instance.clone(), to.clone())));
        }
        owner::note(&mut self.owners_paused, &incident, record);
        moved::note(&mut incident, record);
        incident.phase = next;
        let is_same = |(phase, hold): &(Phase, Option<Hold>)| {
            *phase == next
                && match (hold, &incident.hold) {
                    (Some(before), Some(now)) => before.is_same_reason(now),
                    (None, None) => true,
                    (Some(_), None) | (None, Some(_)) => false,
                }
        };
        let is_long_ago = record.at.since(incident.phase_since) >= HELD_TOLD_AGAIN;
        let is_told_anew = matches!(record.event, Event::Detected { .. } | Event::FoundBeside { .. })
            || (matches!(record.event, Event::Held { .. }) && (is_long_ago || asks_for_another));
        let told = is_told_anew || !before.as_ref().is_some_and(is_same);
        if told {
            incident.notices += 1;
            incident.phase_since = record.at;
        }
        let applied = if told { Applied::Transition(Box::new(incident.clone())) } else { Applied::Silent };
        if told && next.is_wrong() {
            incident.told_as.insert(narrate::severity(&incident, &record.event));
        }
        if !matches!(next, Phase::Restored | Phase::Closed) {
            self.incident = Some(incident);
        }
        Ok(applied)
    }
}

/// A whole incident of one record, which nothing of the state depends on.
fn over_at_once(record: &Record, current: Option<&Running>, phase: Phase) -> Result<Applied, String> {
    let id = record.incident.as_ref().ok_or("it names no incident")?;
    let mut incident = Incident::begin(id.clone(), record, current)?;
    incident.take_in(record);
    incident.phase = phase;
    incident.notices = 1;
    Ok(Applied::Transition(Box::new(incident)))
}

#[cfg(test)]
mod tests;
