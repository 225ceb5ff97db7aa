//! What was paused for a rollback, as the records of its step tell it.

use serde::{Deserialize, Serialize};

use super::Incident;
use crate::domain::id::RevisionId;
use crate::domain::incident::record::{Event, Record};
use crate::domain::policy::OwnerObject;
use crate::domain::response::plan::{Outcome, StepKind};
use crate::domain::time::Timestamp;

/// A GitOps tool's object that was paused for a rollback: to be put back once the pause is of no more use.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PausedOwner {
    /// The object.
    pub owner: OwnerObject,
    /// The release that was taken back. While it is in place all the same, the pause protects nothing.
    pub from: RevisionId,
    /// When it was paused.
    pub since: Timestamp,
    /// When it is put back at the latest.
    pub until: Timestamp,
    /// Whether it is known to have been paused; until then it may have been.
    pub is_sure: bool,
}

/// Takes in what a record says of a step that pauses an owner. From the intent on it may be paused, whatever comes of it.
pub(super) fn note(paused: &mut Vec<PausedOwner>, incident: &Incident, record: &Record) {
    let (Event::StepStarted { step } | Event::StepFinished { step, .. }) = &record.event else { return };
    let Some(plan) = &incident.plan else { return };
    let step = plan.step(*step).map(|step| &step.kind);
    let Some(StepKind::PauseOwner { owner, limit, is_paused: false }) = step else { return };
    let known = paused.iter_mut().find(|paused| paused.owner == *owner);
    if let Event::StepFinished { outcome, .. } = &record.event {
        let Some(known) = known else { return };
        match outcome {
            Outcome::Applied => known.is_sure = true,
            // Somebody else's pause is not ended here.
            Outcome::AlreadyInEffect => paused.retain(|paused| paused.owner != *owner),
            Outcome::Conflict(_) | Outcome::Denied(_) | Outcome::NotBegun(_) => {
                paused.retain(|paused| paused.is_sure || paused.owner != *owner);
            }
            Outcome::Transient(_) | Outcome::TimedOut(_) | Outcome::Stopped(_) => {}
        }
        return;
    }
    let is_sure = known.is_some_and(|known| known.is_sure);
    paused.retain(|paused| paused.owner != *owner);
    let (since, until) = (record.at, record.at + *limit);
    paused.push(PausedOwner { owner: owner.clone(), from: plan.from.clone(), since, until, is_sure });
}
