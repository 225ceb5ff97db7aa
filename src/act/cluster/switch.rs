//! The traffic of a Service given to another workload: read, compare, write, and read again.

use std::time::Duration;

use kube::Client;
use tokio::time::{Instant, sleep};

use super::object::Earnest;
use super::service::{Front, ReadService};
use super::write::{is_refusal, refused, unsettled};
use super::{Before, IsHeld, held};
use crate::domain::id::RevisionId;
use crate::domain::policy::{ClusterObject, Switch, listed};
use crate::domain::response::plan::Outcome;

/// Writes that may miss because somebody else writes to the Service.
const ATTEMPTS: u32 = 5;

/// Time between two looks at pods that are to be ready.
const POLL: Duration = Duration::from_millis(500);

/// Where a Service is on the way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    There,
    Before,
    Elsewhere,
}

/// Switches once there is the capacity, which is waited for until `deadline`, unless the workload is held by then.
pub(super) async fn carry_out(
    client: &Client,
    object: &ClusterObject,
    to: &RevisionId,
    switch: &Switch,
    (is_held, deadline): (IsHeld<'_>, Instant),
    before: &Before<ReadService>,
) -> Outcome {
    let front = Front::new(client.clone(), object, &switch.service);
    let mut before = before.lock().await;
    let outcome = match attempt(&front, to, switch, (is_held, deadline), &mut before).await {
        Ok(outcome) | Err(outcome) => outcome,
    };
    if let (true, Some(before)) = (outcome.is_done(), &*before) {
        front.hand_back(before, is_held).await;
    }
    outcome
}

/// `before` is how it was when it was written last.
async fn attempt(
    front: &Front<'_>,
    to: &RevisionId,
    switch: &Switch,
    (is_held, deadline): (IsHeld<'_>, Instant),
    before: &mut Option<ReadService>,
) -> Result<Outcome, Outcome> {
    let mut read = front.read().await?;
    let mut missed = 0;
    while missed < ATTEMPTS {
        match standing(&read, switch) {
            Standing::There => return Ok(Outcome::AlreadyInEffect),
            Standing::Elsewhere => return Err(elsewhere(front, &read)),
            Standing::Before => {}
        }
        if let Some(lack) = lack(front, to, switch).await? {
            if Instant::now() + POLL >= deadline {
                return Ok(Outcome::TimedOut(lack));
            }
            sleep(POLL).await;
            read = front.read().await?;
            continue;
        }
        if is_held() {
            return Ok(held(front.name()));
        }
        let version = read.version.clone();
        let written = front.patch(before.insert(read), switch, Earnest::Write).await;
        let Err(error) = written else { return Ok(Outcome::Applied) };
        read = front.read().await.map_err(|unread| unsettled(&error, unread))?;
        match standing(&read, switch) {
            // Where the server said no, it was somebody else's write.
            Standing::There if is_refusal(&error) => return Ok(Outcome::AlreadyInEffect),
            Standing::There => return Ok(Outcome::Applied),
            Standing::Before if read.version != version => missed += 1,
            Standing::Before => return Ok(refused(&error)),
            Standing::Elsewhere => return Err(elsewhere(front, &read)),
        }
    }
    Ok(Outcome::Transient(format!("{} changed {ATTEMPTS} times while it was to be written", front.name())))
}

/// Why the traffic may not go there now: fewer pods are ready there than serve, or it would reach another release.
async fn lack(front: &Front<'_>, to: &RevisionId, switch: &Switch) -> Result<Option<String>, Outcome> {
    let owner = front.owner_of(to).await?;
    let serving = front.ready(&switch.before).await?.len();
    let (ours, others): (Vec<_>, Vec<_>) =
        front.ready(&switch.after).await?.into_iter().partition(|pod| pod.owner == owner);
    if let Some(other) = others.first() {
        return Ok(Some(format!("{} would lead to {} as well, which is not of {to}", front.name(), other.name)));
    }
    let enough = ours.len() >= serving.max(1);
    Ok((!enough).then(|| format!("{} pods of {to} are ready, and {serving} serve now", ours.len())))
}

/// Has the API server look at the very write that would be made.
///
/// # Errors
/// Why it could not be made.
pub(super) async fn rehearse(client: &Client, object: &ClusterObject, switch: &Switch) -> Result<(), Outcome> {
    let front = Front::new(client.clone(), object, &switch.service);
    let mut last = Outcome::AlreadyInEffect;
    for _ in 0..ATTEMPTS {
        let read = front.read().await?;
        match standing(&read, switch) {
            Standing::There => return Ok(()),
            Standing::Elsewhere => return Err(elsewhere(&front, &read)),
            Standing::Before => {}
        }
        match front.patch(&read, switch, Earnest::DryRun).await {
            Ok(()) => return Ok(()),
            Err(error) => last = refused(&error),
        }
        if front.read().await?.version == read.version {
            break;
        }
    }
    Err(last)
}

fn standing(read: &ReadService, switch: &Switch) -> Standing {
    if read.selector == switch.after {
        Standing::There
    } else if read.selector == switch.before {
        Standing::Before
    } else {
        Standing::Elsewhere
    }
}

fn elsewhere(front: &Front<'_>, read: &ReadService) -> Outcome {
    let selects = if read.selector.is_empty() { "nothing".to_owned() } else { listed(&read.selector) };
    Outcome::Conflict(format!("{} selects {selects}: somebody else changed it", front.name()))
}
