//! Deleting a Deployment that tried a release: only as it was read, and found by reading whether it is gone.

use super::object::Place;
use super::write::{is_refusal, refused, unsettled};
use super::{IsHeld, held};
use crate::domain::id::RevisionId;
use crate::domain::response::plan::Outcome;

/// Deletes the workload, if it has the template of `expect` and no pods to run, unless it is held by then. One that is gone
/// already is what was wanted, whatever has its name now.
pub(super) async fn carry_out(place: &Place<'_>, expect: &RevisionId, is_held: IsHeld<'_>) -> Outcome {
    match attempt(place, expect, is_held).await {
        Ok(outcome) | Err(outcome) => outcome,
    }
}

async fn attempt(place: &Place<'_>, expect: &RevisionId, is_held: IsHeld<'_>) -> Result<Outcome, Outcome> {
    let Some(read) = place.find().await? else { return Ok(Outcome::AlreadyInEffect) };
    if read.replicas != Some(0) {
        return Err(Outcome::Conflict(format!("{} has pods to run again: somebody else scaled it", place.object)));
    }
    if read.template != place.template_of(expect).await? {
        let why = "has another template than the one that was judged: somebody else changed it";
        return Err(Outcome::Conflict(format!("{} {why}", place.object)));
    }
    if is_held() {
        return Ok(held(place.object));
    }
    let Err(error) = place.delete(&read).await else { return Ok(Outcome::Applied) };
    match place.find().await.map_err(|unread| unsettled(&error, unread))? {
        None if is_refusal(&error) => Ok(Outcome::AlreadyInEffect),
        None => Ok(Outcome::Applied),
        // It was not as it was read any more: whether it still may go is asked anew.
        Some(_) if matches!(&error, kube::Error::Api(status) if status.code == 409) => {
            Ok(Outcome::Transient(format!("{} changed while it was to be deleted", place.object)))
        }
        Some(_) => Ok(refused(&error)),
    }
}
