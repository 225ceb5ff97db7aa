//! What an incident's records teach of the workload beyond the incident.

use serde::{Deserialize, Serialize};

use super::{Incident, REPORTS_REMEMBERED, ROLLBACKS_REMEMBERED, Rejection, WorkloadState};
use crate::domain::id::{IncidentId, RevisionId};
use crate::domain::incident::narrate::LEFT;
use crate::domain::incident::record::{Cause, Closing, Event, Record};
use crate::domain::response::hold::Hold;
use crate::domain::response::plan::Purpose;
use crate::domain::time::{Span, Timestamp};

/// For so long after it subsided something may be left of a fault.
const LEFT_OF_OTHERS: Span = Span::from_secs(300);

/// A fault that subsided and was not put down to the release.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OthersFault {
    /// Which release had it.
    pub release: RevisionId,
    /// Why it was not its own.
    pub hold: Hold,
    /// When it subsided.
    pub at: Timestamp,
}

impl WorkloadState {
    /// Why a fault that shows now is not put down to the release either: another trigger may still see what has subsided for one.
    pub(super) fn left_of_others(&self, incident: &Incident, now: Timestamp) -> Option<Hold> {
        let fault = self.others_fault.as_ref()?;
        let is_its = incident.from.as_ref().is_some_and(|from| from.revision == fault.release);
        (is_its && now.since(fault.at) <= LEFT_OF_OTHERS).then(|| fault.hold.clone())
    }

    pub(super) fn note_in_ledger(&mut self, incident: &Incident, record: &Record) {
        match &record.event {
            // A retry is the same rollback: the brakes count it once.
            Event::Planned { plan, .. } if plan.purpose == Purpose::First => {
                self.note_begun(&plan.from, &incident.id, record.at);
            }
            Event::Detected { cause: Cause::External { key: Some(key), .. }, .. } => {
                self.reported.push(key.clone());
                if self.reported.len() > REPORTS_REMEMBERED {
                    self.reported.remove(0);
                }
            }
            // What was closed while it goes on is not begun anew.
            Event::Rejected { by, reason } | Event::Closed { how: Closing::ByOperator { by, reason } } => {
                self.note_rejection(incident, by, reason, record.at);
            }
            Event::Closed { how: Closing::Subsided } => {
                self.rejection.take_if(|no| no.trigger == incident.cause.name());
                self.older_faults.retain(|older| older.trigger.as_str() != incident.cause.name());
                let (release, hold) = (incident.from.as_ref(), incident.attributed.as_ref());
                self.others_fault = release.zip(hold).map(|(from, hold)| OthersFault {
                    release: from.revision.clone(),
                    hold: hold.clone(),
                    at: record.at,
                });
            }
            Event::Failed { no_room, .. } => {
                if let Some(plan) = incident.plan.as_ref().filter(|_| !no_room && !incident.is_unspent()) {
                    self.ledger.failed_as_goal(&plan.to, record.at);
                }
            }
            // What an attempt before this one came to is told by this one.
            Event::Restored { .. } => {
                if let Some(plan) = &incident.plan {
                    self.ledger.restored_to(&plan.to);
                }
            }
            Event::Closed { how: Closing::Superseded { .. } } => {
                if let Some(bad) = incident.from.as_ref().filter(|_| incident.is_its_own_fault()) {
                    self.ledger.left_bad(&bad.revision, record.at, &incident.id);
                }
            }
            Event::Closed { how: Closing::Unseen { .. } | Closing::Refused | Closing::Forgotten { .. } } => {}
            Event::ReleaseObserved { .. }
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
            | Event::Approved { .. }
            | Event::Planned { .. }
            | Event::Continued { .. }
            | Event::StepStarted { .. }
            | Event::StepFinished { .. }
            | Event::Verifying
            | Event::Recorded { .. }
            | Event::SmokeStarted
            | Event::SmokeFinished { .. }
            | Event::Escalated { .. } => {}
        }
    }

    /// Takes the rollback of the open incident for begun, for the guards of whatever comes after it: in a replay, in which
    /// nothing is done. Whether one is open, with a release in question.
    pub fn suppose_begun(&mut self, at: Timestamp) -> bool {
        let Some(incident) = &mut self.incident else { return false };
        let Some(from) = incident.from.as_ref().map(|from| from.revision.clone()) else { return false };
        incident.times.decided.get_or_insert(at);
        let id = incident.id.clone();
        self.note_begun(&from, &id, at);
        true
    }

    fn note_begun(&mut self, from: &RevisionId, incident: &IncidentId, at: Timestamp) {
        self.ledger.taken_back(from, at, incident);
        self.rollbacks.push(at);
        if self.rollbacks.len() > ROLLBACKS_REMEMBERED {
            self.rollbacks.remove(0);
        }
    }

    /// Of the release in place: the one in question may have been taken back in vain.
    fn note_rejection(&mut self, incident: &Incident, by: &str, reason: &str, at: Timestamp) {
        if let (Cause::Trigger { name, aside: None, .. }, Some(current)) = (&incident.cause, &self.current) {
            let (by, trigger, release) = (by.to_owned(), name.as_str().to_owned(), current.revision.clone());
            // What was left where by then is none of the reason.
            let reason = reason.split(LEFT).next().unwrap_or_default().to_owned();
            self.rejection = Some(Rejection { by, reason, at, trigger, release });
        }
    }
}
