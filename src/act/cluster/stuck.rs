//! Pods that keep their controller waiting: deleted one after another, each only as it was read, and none once the workload
//! is held.

use std::time::Duration;

use k8s_openapi::api::core::v1;
use kube::api::{Api, DeleteParams, ListParams, Preconditions};
use kube::{Client, ResourceExt};
use tokio::time::{Instant, sleep};

use super::ask::answer;
use super::object::Place;
use super::write::{is_at, refused};
use super::{IsHeld, held, stopped};
use crate::cluster::describe;
use crate::cluster::facts::Pod;
use crate::domain::id::RevisionId;
use crate::domain::policy::ClusterObject;
use crate::domain::response::plan::Outcome;

/// Time between two looks at a pod that is to go.
const POLL: Duration = Duration::from_millis(500);

/// Deletes every pod of `object` at `release` that is not ready, and waits for each to be gone before the next, until
/// `deadline`; only while the workload is at `to`, where that is named: of any other release pods would come that nobody
/// judged.
pub(super) async fn delete(
    client: &Client,
    object: &ClusterObject,
    (release, to): (&RevisionId, Option<&RevisionId>),
    is_held: IsHeld<'_>,
    deadline: Instant,
) -> Outcome {
    let place = Place::new(client.clone(), object);
    let pods: Api<v1::Pod> = Api::namespaced(client.clone(), &object.namespace);
    let mut any = false;
    loop {
        let stuck = match next(&pods, object, release).await {
            Ok(Some(pod)) => pod,
            Ok(None) if any => return Outcome::Applied,
            Ok(None) => return Outcome::AlreadyInEffect,
            Err(error) => return Outcome::Transient(format!("{object}: {}", describe(&error))),
        };
        if let Some(to) = to {
            match is_at(&place, to).await {
                Ok(true) => {}
                Ok(false) => {
                    return Outcome::Conflict(format!("{object} is not at {to} any more: somebody changed it"));
                }
                Err(outcome) => return outcome,
            }
        }
        if is_held() {
            return if any { stopped(object, "before the next of its pods was deleted") } else { held(object) };
        }
        let name = stuck.name_any();
        let as_read = Preconditions { uid: stuck.uid(), resource_version: stuck.resource_version() };
        let params = DeleteParams { preconditions: Some(as_read), ..DeleteParams::default() };
        match answer(pods.delete(&name, &params)).await {
            Ok(_) => any = true,
            // It has changed since, or is gone: whether it still keeps its controller waiting is asked anew.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return refused(&error),
        }
        // Where it can't be read it may be there still.
        while !answer(pods.get_opt(&name)).await.is_ok_and(|found| found.is_none_or(|pod| pod.uid() != stuck.uid())) {
            if Instant::now() + POLL >= deadline {
                return Outcome::TimedOut(format!("pod {name} was deleted, and was not gone in time"));
            }
            sleep(POLL).await;
        }
    }
}

/// Whether there is a pod to delete at this moment.
///
/// # Errors
/// Why that is not known.
pub(super) async fn any(client: &Client, object: &ClusterObject, release: &RevisionId) -> Result<bool, Outcome> {
    let pods: Api<v1::Pod> = Api::namespaced(client.clone(), &object.namespace);
    match next(&pods, object, release).await {
        Ok(stuck) => Ok(stuck.is_some()),
        Err(error) => Err(refused(&error)),
    }
}

async fn next(
    pods: &Api<v1::Pod>,
    object: &ClusterObject,
    release: &RevisionId,
) -> Result<Option<v1::Pod>, kube::Error> {
    let label = format!("controller-revision-hash={}-{release}", object.name);
    let all = answer(pods.list(&ListParams::default().labels(&label))).await?;
    let is_stuck = |pod: &v1::Pod| {
        Pod::try_from(pod.clone()).is_ok_and(|pod| pod.owner == object.uid && !pod.is_ready && !pod.is_ending)
    };
    Ok(all.items.into_iter().find(is_stuck))
}
