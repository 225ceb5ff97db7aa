//! Steps in a cluster: one fenced write each, and the outcome found by reading.
//!
//! A failed comparison, a validation error and a denial by an admission plugin all come back with the same status, and
//! some failures come back with none. So no status says how a write ended: the object is read again and compared, and
//! the status only says why.

mod answers;
mod object;
mod owner;
mod preflight;
mod quota;
mod record;
mod service;
mod setting;
mod stuck;
mod switch;
mod traffic;
mod write;

pub(super) use owner::Wish;
pub(super) use preflight::{findings, survey, survey_owners};
pub(super) use record::record;
pub(super) use setting::{Restored, Store};
pub(super) use traffic::Proof;

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Client;
use tokio::time::{Instant, timeout};

use crate::cluster::Clients;
use crate::domain::id::{RevisionId, WorkloadId};
use crate::domain::policy::{ClusterObject, OwnerObject, Pin, Switch};
use crate::domain::response::plan::Outcome;
use crate::domain::settings::{Setting, ToKeep};
pub(super) use object::Number;
use object::{Change, Place};

/// How long keeping the settings of one release may take.
const KEEP_LIMIT: Duration = Duration::from_secs(10);

/// Gives `object` the template that `source` keeps, if it has that of `expect`.
pub(super) async fn restore_template(
    clients: &Clients,
    object: &ClusterObject,
    expect: &RevisionId,
    source: &Pin,
    limit: Duration,
) -> Outcome {
    let change = Change::Template { expect: expect.clone(), source: source.clone() };
    within(clients, object, &change, limit).await
}

/// Sets how many pods `object` should have, if it has the template of `expect`.
pub(super) async fn scale(
    clients: &Clients,
    object: &ClusterObject,
    expect: &RevisionId,
    number: Number,
    limit: Duration,
) -> Outcome {
    within(clients, object, &Change::Replicas { expect: Some(expect.clone()), number }, limit).await
}

/// Puts what a release names back as it was with it, if nobody changed it since.
pub(super) async fn restore_setting(
    clients: &Clients,
    store: Option<Store<'_>>,
    what: Restored<'_>,
    limit: Duration,
) -> Outcome {
    let Some(store) = store else { return Outcome::Denied(format!("{} is kept nowhere", what.setting)) };
    let work = async {
        match client(clients, what.object).await {
            Ok(client) => setting::restore(&client, store, what).await,
            Err(outcome) => outcome,
        }
    };
    settled(what.object, timeout(limit, work).await.ok())
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

/// Deletes the pods of a release that keep its controller waiting.
pub(super) async fn delete_stuck(
    clients: &Clients,
    object: &ClusterObject,
    release: &RevisionId,
    limit: Duration,
) -> Outcome {
    let work = async {
        match client(clients, object).await {
            Ok(client) => stuck::delete(&client, object, release).await,
            Err(outcome) => outcome,
        }
    };
    match timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::TimedOut(format!("{object}: its pods were not gone in time")),
    }
}

/// Pauses an owner for a workload, or lets it go on.
pub(super) async fn settle_owner(
    clients: &Clients,
    workload: &WorkloadId,
    owner: &OwnerObject,
    wish: Wish,
    limit: Duration,
) -> Outcome {
    let deadline = Instant::now() + limit;
    let work = async {
        match clients.get(owner.context.as_deref()).await {
            Ok(client) => owner::settle(&owner::Place::new(client, owner), workload, wish, deadline).await,
            Err(error) => Outcome::Transient(error.line()),
        }
    };
    match timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::TimedOut(format!("{owner}: the API server did not answer in time")),
    }
}

/// Gives `object` the traffic of a Service, if it selects as it did and as many pods of `to` are ready as serve now.
pub(super) async fn switch_service(
    clients: &Clients,
    object: &ClusterObject,
    to: &RevisionId,
    switch: &Switch,
    limit: Duration,
) -> Outcome {
    let deadline = Instant::now() + limit;
    let work = async {
        match client(clients, object).await {
            Ok(client) => switch::carry_out(&client, object, to, switch, deadline).await,
            Err(outcome) => outcome,
        }
    };
    settled(object, timeout(limit, work).await.ok())
}

/// Finds out whether the traffic of a Service arrives where it should.
pub(super) async fn prove_traffic(clients: &Clients, proof: Proof<'_>, limit: Duration) -> Outcome {
    let deadline = Instant::now() + limit;
    let work = async {
        match client(clients, proof.object).await {
            Ok(client) => traffic::prove(&client, proof, deadline).await,
            Err(outcome) => outcome,
        }
    };
    settled(proof.object, timeout(limit, work).await.ok())
}

fn settled(object: &ClusterObject, outcome: Option<Outcome>) -> Outcome {
    outcome.unwrap_or_else(|| Outcome::TimedOut(format!("{object}: the API server did not answer in time")))
}

async fn within(clients: &Clients, object: &ClusterObject, change: &Change, limit: Duration) -> Outcome {
    let work = async {
        match client(clients, object).await {
            Ok(client) => write::carry_out(&Place::new(client, object), change).await,
            Err(outcome) => outcome,
        }
    };
    settled(object, timeout(limit, work).await.ok())
}

async fn client(clients: &Clients, object: &ClusterObject) -> Result<Client, Outcome> {
    clients.get(object.context.as_deref()).await.map_err(|error| Outcome::Transient(error.line()))
}
