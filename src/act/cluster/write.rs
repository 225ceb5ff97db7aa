//! Read, compare, write, and read again.

use serde_json::{Value, json};

use super::ask::is_late;
use super::object::{Change, Earnest, Place, Read, template_change};
use super::{Before, IsHeld, held};
use crate::cluster::describe;
use crate::domain::id::RevisionId;
use crate::domain::response::plan::Outcome;

/// Writes that may miss because somebody scaled meanwhile.
const ATTEMPTS: u32 = 5;

/// What is compared before a write, and how it would be after.
struct Goal {
    /// The templates that it must have before and has after; none where any will do.
    templates: Option<(Value, Value)>,
}

/// Where a workload is on the way.
enum Standing {
    /// As it should be.
    There,
    /// As it was expected to be before.
    Before,
    /// Neither.
    Elsewhere,
}

/// Does it, unless the workload is held by then. The outcome is found by reading, so that doing it twice, or again after a
/// crash, is the same as once.
pub(super) async fn carry_out(
    place: &Place<'_>,
    change: &Change,
    is_held: IsHeld<'_>,
    before: &Before<Read>,
) -> Outcome {
    let mut before = before.lock().await;
    let outcome = match attempt(place, change, is_held, &mut before).await {
        Ok(outcome) | Err(outcome) => outcome,
    };
    // Who managed it before a process that died wrote it is not known.
    if let (true, Some(before)) = (outcome.is_done(), &*before) {
        place.hand_back(change, before, is_held).await;
    }
    outcome
}

/// `before` is how it was when it was written last.
async fn attempt(
    place: &Place<'_>,
    change: &Change,
    is_held: IsHeld<'_>,
    before: &mut Option<Read>,
) -> Result<Outcome, Outcome> {
    // The object first: of one that was made anew under the name, what kept its templates is gone as well.
    let mut read = place.read().await?;
    let goal = goal(place, change, &read).await?;
    if let Standing::There = standing(&read, change, &goal) {
        return Ok(Outcome::AlreadyInEffect);
    }
    for _ in 0..ATTEMPTS {
        may_be_written(place, &read, change, &goal)?;
        if is_held() {
            return Ok(held(place.object));
        }
        *before = Some(read.clone());
        let error = match place.patch(&read, operations(&read, change, &goal), Earnest::Write).await {
            Ok(()) => return Ok(Outcome::Applied),
            Err(error) => error,
        };
        let fenced = fence(&read);
        read = place.read().await.map_err(|unread| unsettled(&error, unread))?;
        match standing(&read, change, &goal) {
            // Where the server said no, it was somebody else's write.
            Standing::There if is_refusal(&error) => return Ok(Outcome::AlreadyInEffect),
            Standing::There => return Ok(Outcome::Applied),
            // Only what the fence compares has changed: somebody scaled or applied, and it did its duty.
            Standing::Before if fence(&read) != fenced => {}
            Standing::Before => return Ok(refused(&error)),
            Standing::Elsewhere => return Err(elsewhere(place)),
        }
    }
    Ok(Outcome::Transient(format!("{} changed {ATTEMPTS} times while it was to be written", place.object)))
}

/// What is compared, read from the objects that keep the templates.
async fn goal(place: &Place<'_>, change: &Change, read: &Read) -> Result<Goal, Outcome> {
    let templates = match change {
        Change::Template { expect, source } => {
            let after = place.kept(&source.name, Some(&source.uid)).await?;
            // Once it is there, what kept the template that it had may be gone.
            let before = if read.template == after { after.clone() } else { place.template_of(expect).await? };
            Some((before, after))
        }
        Change::Replicas { expect: Some(expect), .. } => {
            let kept = place.template_of(expect).await?;
            Some((kept.clone(), kept))
        }
        Change::Replicas { expect: None, .. } => None,
    };
    Ok(Goal { templates })
}

fn standing(read: &Read, change: &Change, goal: &Goal) -> Standing {
    match (change, &goal.templates) {
        (Change::Replicas { .. }, Some((kept, _))) if read.template != *kept => Standing::Elsewhere,
        (Change::Replicas { number, .. }, _) if number.stands(read.replicas) => Standing::There,
        (Change::Replicas { .. }, _) => Standing::Before,
        (Change::Template { .. }, Some((_, after))) if read.template == *after => Standing::There,
        (Change::Template { .. }, Some((before, _))) if read.template == *before => Standing::Before,
        (Change::Template { .. }, _) => Standing::Elsewhere,
    }
}

fn may_be_written(place: &Place<'_>, read: &Read, change: &Change, goal: &Goal) -> Result<(), Outcome> {
    match (standing(read, change, goal), change) {
        (Standing::Elsewhere, _) => Err(elsewhere(place)),
        (Standing::Before | Standing::There, Change::Template { .. }) => match obstacle(read) {
            Some(why) => Err(Outcome::Denied(format!("{} {why}", place.object))),
            None => Ok(()),
        },
        (Standing::Before | Standing::There, Change::Replicas { .. }) => Ok(()),
    }
}

/// Why a template would have no effect.
pub(super) fn obstacle(read: &Read) -> Option<&'static str> {
    if read.is_paused {
        return Some("is paused: its controller would not roll the template out; `kubectl rollout resume` ends that");
    }
    read.on_delete.then_some("has the update strategy OnDelete: pods take a template only once somebody deletes them")
}

fn operations(read: &Read, change: &Change, goal: &Goal) -> Vec<Value> {
    match (change, &goal.templates) {
        (Change::Replicas { number, .. }, _) => {
            vec![json!({"op": "replace", "path": "/spec/replicas", "value": number.replicas})]
        }
        (Change::Template { .. }, Some((_, after))) => template_change(read, after),
        (Change::Template { .. }, None) => Vec::new(),
    }
}

/// Whether a workload has the template of a release. What is not kept any more is not in place.
///
/// # Errors
/// That is not known, or the workload is gone.
pub(super) async fn is_at(place: &Place<'_>, release: &RevisionId) -> Result<bool, Outcome> {
    let read = place.read().await?;
    match place.template_of(release).await {
        Ok(template) => Ok(read.template == template),
        Err(Outcome::Denied(_)) => Ok(false),
        Err(outcome) => Err(outcome),
    }
}

/// Has the API server look at the very write that would be made.
///
/// # Errors
/// Why it could not be made.
pub(super) async fn rehearse(place: &Place<'_>, change: &Change) -> Result<(), Outcome> {
    look(place, change, false).await
}

/// The same of what is in effect already, made once more as it is.
///
/// # Errors
/// Why it could not be made.
pub(super) async fn rehearse_again(place: &Place<'_>, change: &Change) -> Result<(), Outcome> {
    look(place, change, true).await
}

async fn look(place: &Place<'_>, change: &Change, is_again: bool) -> Result<(), Outcome> {
    let mut read = place.read().await?;
    let goal = goal(place, change, &read).await?;
    let mut last = Outcome::AlreadyInEffect;
    for _ in 0..ATTEMPTS {
        if let (Standing::There, false) = (standing(&read, change, &goal), is_again) {
            return Ok(());
        }
        may_be_written(place, &read, change, &goal)?;
        match place.patch(&read, operations(&read, change, &goal), Earnest::DryRun).await {
            Ok(()) => return Ok(()),
            Err(error) => last = refused(&error),
        }
        let fenced = fence(&read);
        read = place.read().await?;
        if fence(&read) == fenced {
            break;
        }
    }
    Err(last)
}

/// What a write compares besides the template. What `kubectl apply` remembers changes with labels alone, which moves no
/// generation.
fn fence(read: &Read) -> (i64, Option<String>) {
    (read.generation, read.last_applied.clone())
}

fn elsewhere(place: &Place<'_>) -> Outcome {
    Outcome::Conflict(format!(
        "{} has another template than the one that was judged: somebody else changed it",
        place.object
    ))
}

/// Whether the API server itself says that it did not write.
pub(super) fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code))
}

/// Nothing was written yet, and nothing that is compared has changed: the status says whether that may pass. What was not
/// answered may still come.
pub(super) fn refused(error: &kube::Error) -> Outcome {
    let why = describe(error);
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 401 | 403 | 404 | 405 | 413 | 415 | 422) => {
            Outcome::Denied(why)
        }
        _ if is_late(error) => Outcome::TimedOut(why),
        _ => Outcome::Transient(why),
    }
}

pub(super) fn unsettled(error: &kube::Error, unread: Outcome) -> Outcome {
    match unread {
        Outcome::Transient(why) => {
            Outcome::TimedOut(format!("{}; whether it took effect is not known: {why}", describe(error)))
        }
        Outcome::Conflict(_)
        | Outcome::Denied(_)
        | Outcome::TimedOut(_)
        | Outcome::NotBegun(_)
        | Outcome::Stopped(_)
        | Outcome::Applied
        | Outcome::AlreadyInEffect => unread,
    }
}
