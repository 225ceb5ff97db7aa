//! Steps in a cluster: one fenced write each, and the outcome found by reading.
//!
//! A failed comparison, a validation error and a denial by an admission plugin all come back with the same status, and
//! some failures come back with none. So no status says how a write ended: the object is read again and compared, and
//! the status only says why.

mod answers;
mod ask;
mod delete;
mod fields;
mod object;
mod owner;
mod partition;
mod preflight;
mod quota;
mod record;
mod remembered;
mod service;
mod setting;
mod sharing;
mod stuck;
mod switch;
mod traffic;
mod write;

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;

pub(super) use owner::{By, Wish};
pub use preflight::Home;
pub(super) use preflight::{findings, survey, survey_home, survey_owners};
pub(super) use record::record;
pub(super) use setting::{Restored, Store};
pub(super) use traffic::Proof;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use kube::Client;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::cluster::Clients;
use crate::domain::id::{RevisionId, WorkloadId};
use crate::domain::policy::{ClusterObject, OwnerObject, Pin, Switch};
use crate::domain::response::plan::Outcome;
use crate::domain::settings::{Setting, ToKeep};
pub(super) use object::Number;
use object::{Change, Place};

/// How long keeping the settings of one release may take.
const KEEP_LIMIT: Duration = Duration::from_secs(10);

/// Shortest and longest wait before what failed in a way that may pass is done again. An API server that names a longer one
/// gets it.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));

/// Whether the workload is held: then nothing more is written, and nothing that failed is done again.
type IsHeld<'a> = &'a (dyn Fn() -> bool + Send + Sync);

/// How something was before it was written, for all passes of a step: what one of them wrote without an answer is handed back
/// by a later one.
type Before<T> = Mutex<Option<T>>;

/// The way to clusters.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) clients: &'a Clients,
    pub(super) is_held: IsHeld<'a>,
}

/// Gives `object` the template that `source` keeps, if it has that of `expect`.
pub(super) async fn restore_template(
    way: Way<'_>,
    object: &ClusterObject,
    expect: &RevisionId,
    source: &Pin,
    limit: Duration,
) -> Outcome {
    let change = Change::Template { expect: expect.clone(), source: source.clone() };
    within(way, object, &change, limit).await
}

/// Sets how many pods `object` should have, if it has the template of `expect` where that is given.
pub(super) async fn scale(
    way: Way<'_>,
    object: &ClusterObject,
    expect: Option<RevisionId>,
    number: Number,
    limit: Duration,
) -> Outcome {
    within(way, object, &Change::Replicas { expect, number }, limit).await
}

/// Puts what a release names back as it was with it, if nobody changed it since, and the workload is not at the release to
/// which what it says belongs, where one is named.
pub(super) async fn restore_setting(
    way: Way<'_>,
    store: Option<Store<'_>>,
    what: Restored<'_>,
    unless_at: Option<&RevisionId>,
    limit: Duration,
) -> Outcome {
    let Some(store) = store else { return Outcome::Denied(format!("{} is kept nowhere", what.setting)) };
    let before = &Before::default();
    let work = |client: Client| async move {
        if let Some(release) = unless_at {
            match write::is_at(&Place::new(client.clone(), what.object), release).await {
                Ok(true) => return Outcome::Conflict(format!("{} is at {release}, to which it belongs", what.object)),
                Ok(false) => {}
                Err(outcome) => return outcome,
            }
        }
        setting::restore(&client, store, what, way.is_held, before).await
    };
    on(way, what.object, limit, work).await
}

/// Keeps what the release in place names.
pub(super) async fn keep(
    clients: &Clients,
    store: Store<'_>,
    workload: &WorkloadId,
    wanted: &ToKeep,
) -> Result<BTreeMap<Setting, String>, String> {
    let work = async {
        let client = clients.get(wanted.object.context.as_deref()).await.map_err(|error| error.line())?;
        setting::keep(&client, store, workload, wanted).await
    };
    timeout(KEEP_LIMIT, work).await.unwrap_or_else(|_| Err("the API server did not answer in time".to_owned()))
}

/// Deletes `object`, if it has the template of `expect` and no pods to run.
pub(super) async fn delete_canary(
    way: Way<'_>,
    object: &ClusterObject,
    expect: &RevisionId,
    limit: Duration,
) -> Outcome {
    let work =
        |client: Client| async move { delete::carry_out(&Place::new(client, object), expect, way.is_held).await };
    on(way, object, limit, work).await
}

/// Deletes the pods of a release that keep its controller waiting, while the workload is at another one, where it is named.
pub(super) async fn delete_stuck(
    way: Way<'_>,
    object: &ClusterObject,
    release: &RevisionId,
    to: Option<&RevisionId>,
    limit: Duration,
) -> Outcome {
    let deadline = Instant::now() + limit;
    let work =
        |client: Client| async move { stuck::delete(&client, object, (release, to), way.is_held, deadline).await };
    on(way, object, limit, work).await
}

/// Pauses an owner for a workload, or lets it go on.
pub(super) async fn settle_owner(
    way: Way<'_>,
    by: By<'_>,
    owner: &OwnerObject,
    wish: Wish,
    limit: Duration,
) -> Outcome {
    let deadline = Instant::now() + limit;
    let work = |client: Client| async move {
        owner::settle(&owner::Place::new(client, owner), by, wish, way.is_held, deadline).await
    };
    // The owner's mark tells whose doing it is.
    persist(way, (owner.context.as_deref(), owner.to_string()), limit, work).await.outcome
}

/// Gives `object` the traffic of a Service, if it selects as it did and as many pods of `to` are ready as serve now.
pub(super) async fn switch_service(
    way: Way<'_>,
    object: &ClusterObject,
    to: &RevisionId,
    switch: &Switch,
    limit: Duration,
) -> Outcome {
    let deadline = Instant::now() + limit;
    let before = &Before::default();
    let work = |client: Client| async move {
        switch::carry_out(&client, object, to, switch, (way.is_held, deadline), before).await
    };
    on(way, object, limit, work).await
}

/// Finds out whether the traffic of a Service arrives where it should.
pub(super) async fn prove_traffic(way: Way<'_>, proof: Proof<'_>, limit: Duration) -> Outcome {
    let deadline = Instant::now() + limit;
    let work = |client: Client| async move { traffic::prove(&client, proof, deadline).await };
    on(way, proof.object, limit, work).await
}

/// How something ended that may have been done more than once.
struct Persisted {
    outcome: Outcome,
    /// Whether a pass before the last one may have done it, which was not known then.
    is_open: bool,
}

impl Persisted {
    /// Where nothing tells whose doing it is, it is that of the open pass.
    fn claimed(self) -> Outcome {
        match self.outcome {
            Outcome::AlreadyInEffect if self.is_open => Outcome::Applied,
            outcome => outcome,
        }
    }
}

/// Does it again and again within its time, where it fails in a way that may pass and nobody holds the workload: every step
/// can be done twice.
async fn persist<F>(
    way: Way<'_>,
    (context, what): (Option<&str>, String),
    limit: Duration,
    work: impl Fn(Client) -> F,
) -> Persisted
where
    F: Future<Output = Outcome>,
{
    let deadline = Instant::now() + limit;
    let (shortest, longest) = PAUSES;
    let pauses = ExponentialBuilder::default().with_min_delay(shortest).with_max_delay(longest);
    let mut last = format!("{what}: the API server did not answer in time");
    let mut is_open = false;
    for pause in pauses.without_max_times().build() {
        let pass = async {
            if (way.is_held)() {
                return held(&what);
            }
            match way.clients.get(context).await {
                Ok(client) => work(client).await,
                Err(error) => Outcome::Transient(error.line()),
            }
        };
        let outcome = match timeout_at(deadline, pass).await {
            Ok(outcome) => outcome,
            Err(_) => break,
        };
        let pause = pause.max(way.clients.courtesy().wait());
        let is_last = Instant::now() + pause >= deadline;
        match outcome {
            Outcome::Transient(why) if !is_last => last = why,
            Outcome::TimedOut(why) if !is_last => {
                is_open = true;
                last = why;
            }
            Outcome::Stopped(_) if is_open => {
                let when = format!("before it was written to again, which it may have been: {last}");
                return Persisted { outcome: stopped(what, &when), is_open };
            }
            Outcome::Applied
            | Outcome::AlreadyInEffect
            | Outcome::Stopped(_)
            | Outcome::Conflict(_)
            | Outcome::Denied(_)
            | Outcome::Transient(_)
            | Outcome::TimedOut(_)
            | Outcome::NotBegun(_) => return Persisted { outcome, is_open },
        }
        tracing::warn!(what, why = last, ?pause, "done again after a pause");
        sleep(pause).await;
    }
    Persisted { outcome: Outcome::TimedOut(last), is_open }
}

async fn on<F>(way: Way<'_>, object: &ClusterObject, limit: Duration, work: impl Fn(Client) -> F) -> Outcome
where
    F: Future<Output = Outcome>,
{
    persist(way, (object.context.as_deref(), object.to_string()), limit, work).await.claimed()
}

async fn within(way: Way<'_>, object: &ClusterObject, change: &Change, limit: Duration) -> Outcome {
    let before = &Before::default();
    let work = |client: Client| async move {
        write::carry_out(&Place::new(client, object), change, way.is_held, before).await
    };
    on(way, object, limit, work).await
}

/// Nothing was written since an operator stopped it.
fn held(what: impl Display) -> Outcome {
    stopped(what, "before it was written to")
}

fn stopped(what: impl Display, when: &str) -> Outcome {
    Outcome::Stopped(format!("{what}: stopped {when}"))
}
