//! The flight recorder's hand: what there is to see of a release that went bad, within a short time, changing nothing.
//!
//! Each part is asked for by itself, so that one which can't be had leaves the others as they are.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, ListParams, LogParams};
use kube::{Client, ResourceExt};
use tokio::time::{Instant, timeout_at};

use super::object::Place;
use crate::cluster::difference::changes;
use crate::cluster::mask::{masked, masked_lines};
use crate::cluster::rights::{self, Right};
use crate::cluster::template::TEMPLATE_HASH;
use crate::cluster::{Clients, describe};
use crate::domain::incident::recording::{
    Change, Log, MOST_EVENTS, MOST_LINES, MOST_LOGS, MOST_PODS, Recording, SeenContainer, SeenEvent, SeenPod, Wanted,
};
use crate::domain::policy::{Keep, ObjectKind};
use crate::domain::response::plan::Outcome;
use crate::domain::time::Timestamp;

/// How long all of it may take: less than a plan waits for it.
const LIMIT: Duration = Duration::from_millis(2_500);
/// Pods that are looked through for those of the release.
const PAGE: u32 = 500;
/// Bytes of a log that are read; of those the end is kept.
const READ_BYTES: i64 = 64 * 1024;

/// Everything that can be had of it by then.
pub(in crate::act) async fn record(clients: &Clients, keep: Keep, wanted: &Wanted) -> Recording {
    let deadline = Instant::now() + LIMIT;
    let (object, from) = &wanted.from;
    let to = wanted.to.as_ref().map(|(_, release)| release.clone());
    let mut recording = Recording { from: Some(from.clone()), to, ..Recording::default() };
    let client = match in_time(deadline, clients.get(object.context.as_deref())).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return Recording { missing: vec![error.line()], ..recording },
        Err(late) => return Recording { missing: vec![format!("the API server: {late}")], ..recording },
    };
    let (templates, pods) =
        tokio::join!(in_time(deadline, templates(&client, wanted)), in_time(deadline, pods(&client, wanted)));
    recording.changes = noted(&mut recording.missing, "what changed", templates);
    let pods = noted(&mut recording.missing, "pods", pods);
    recording.pods = pods.iter().map(seen).collect();
    let about: Vec<String> = [Some(object.uid.clone()), wanted.keeper.as_ref().map(|keeper| keeper.uid.clone())]
        .into_iter()
        .chain(pods.iter().map(ResourceExt::uid))
        .flatten()
        .collect();
    let ended = ended(&pods);
    let (events, logs) = tokio::join!(
        in_time(deadline, events(&client, &object.namespace, &about)),
        in_time(deadline, logs(&client, &object.namespace, keep, &ended))
    );
    recording.events = noted(&mut recording.missing, "events", events);
    let (logs, unread) = match logs {
        Ok(found) => found,
        Err(late) => (Vec::new(), vec![format!("logs: {late}")]),
    };
    recording.logs = logs;
    recording.missing.extend(unread);
    recording.bounded()
}

async fn in_time<T>(deadline: Instant, work: impl Future<Output = T>) -> Result<T, String> {
    timeout_at(deadline, work).await.map_err(|_| format!("no answer within {} ms", LIMIT.as_millis()))
}

/// What was had; what was not is said.
fn noted<T>(missing: &mut Vec<String>, what: &str, had: Result<Result<Vec<T>, String>, String>) -> Vec<T> {
    match had.and_then(|had| had) {
        Ok(had) => had,
        Err(why) => {
            missing.push(format!("{what}: {why}"));
            Vec::new()
        }
    }
}

async fn templates(client: &Client, wanted: &Wanted) -> Result<Vec<Change>, String> {
    let (from_object, from) = &wanted.from;
    let (to_object, to) = wanted.to.as_ref().ok_or("there is no release to compare it with")?;
    let places = (Place::new(client.clone(), from_object), Place::new(client.clone(), to_object));
    let (from, to) = tokio::join!(places.0.template_of(from), places.1.template_of(to));
    let why = |outcome: Outcome| match outcome {
        Outcome::Conflict(why)
        | Outcome::Transient(why)
        | Outcome::Denied(why)
        | Outcome::TimedOut(why)
        | Outcome::NotBegun(why)
        | Outcome::Stopped(why) => why,
        Outcome::Applied | Outcome::AlreadyInEffect => String::new(),
    };
    Ok(changes(&from.map_err(why)?, &to.map_err(why)?))
}

/// The first of the wanted pods, in their order.
async fn pods(client: &Client, wanted: &Wanted) -> Result<Vec<Pod>, String> {
    let (object, release) = &wanted.from;
    let label = match object.kind {
        ObjectKind::Deployment => format!("{TEMPLATE_HASH}={release}"),
        ObjectKind::StatefulSet => format!("controller-revision-hash={}-{release}", object.name),
        ObjectKind::DaemonSet => format!("controller-revision-hash={release}"),
    };
    let api: Api<Pod> = Api::namespaced(client.clone(), &object.namespace);
    let params = ListParams::default().labels(&label).limit(PAGE);
    let listed = api.list(&params).await;
    let listed = listed.map_err(|error| denied(&error, Right::new("", "pods", "list"), &object.namespace))?;
    let position = |pod: &Pod| wanted.instances.iter().position(|name| name.as_str() == pod.name_any());
    let mut pods: Vec<(usize, Pod)> = listed.items.into_iter().filter_map(|pod| Some((position(&pod)?, pod))).collect();
    pods.sort_by_key(|(position, _)| *position);
    Ok(pods.into_iter().map(|(_, pod)| pod).take(MOST_PODS).collect())
}

/// What was said of these objects last, oldest first.
async fn events(client: &Client, namespace: &str, about: &[String]) -> Result<Vec<SeenEvent>, String> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let each = about.iter().map(async |uid| {
        let params = ListParams::default().fields(&format!("involvedObject.uid={uid}")).limit(PAGE);
        api.list(&params).await
    });
    let mut all: Vec<SeenEvent> = Vec::new();
    for listed in join_all(each).await {
        let listed = listed.map_err(|error| denied(&error, rights::to_see_events(), namespace))?;
        all.extend(listed.items.into_iter().map(said));
    }
    all.sort_by_key(|event| event.at);
    all.drain(..all.len().saturating_sub(MOST_EVENTS));
    Ok(all)
}

fn said(event: Event) -> SeenEvent {
    let series = event.series.as_ref();
    let at = series.and_then(|series| series.last_observed_time.as_ref()).map(|at| at.0);
    let at = at.or_else(|| event.last_timestamp.as_ref().map(|at| at.0));
    let at = at
        .or_else(|| event.event_time.as_ref().map(|at| at.0))
        .or_else(|| Some(event.metadata.creation_timestamp.as_ref()?.0));
    let count = series.and_then(|series| series.count).or(event.count);
    let [kind, name] = [event.involved_object.kind, event.involved_object.name].map(Option::unwrap_or_default);
    SeenEvent {
        at: at.map(|at| Timestamp::from_millis(at.as_millisecond())),
        about: format!("{kind} {name}"),
        kind: event.type_.unwrap_or_default(),
        reason: event.reason.unwrap_or_default(),
        message: masked(&event.message.unwrap_or_default()),
        count: count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1),
    }
}

/// A container whose last words are worth keeping.
struct Ended {
    pod: String,
    container: String,
    /// Whether it was started again since, or is about to be.
    is_previous: bool,
}

/// Of each container one that ended and has begun anew, or else one that ended badly.
fn ended(pods: &[Pod]) -> Vec<Ended> {
    let mut all: Vec<Ended> = Vec::new();
    for pod in pods {
        for status in statuses(pod) {
            let is_previous = terminated(status.last_state.as_ref()).is_some();
            let has_failed = terminated(status.state.as_ref()).is_some_and(|end| end.exit_code != 0);
            let is_known = all.iter().any(|ended| ended.container == status.name);
            if (is_previous || has_failed) && !is_known && all.len() < MOST_LOGS {
                let (pod, container) = (pod.name_any(), status.name.clone());
                all.push(Ended { pod, container, is_previous: is_previous && !has_failed });
            }
        }
    }
    all
}

/// Their last lines, and why some could not be had.
async fn logs(client: &Client, namespace: &str, keep: Keep, ended: &[Ended]) -> (Vec<Log>, Vec<String>) {
    if !keep.logs {
        let names: Vec<&str> = ended.iter().map(|ended| ended.container.as_str()).collect();
        let why = format!("the log of {}: not asked for by `keep = [\"logs\"]`", names.join(", "));
        return (Vec::new(), if names.is_empty() { Vec::new() } else { vec![why] });
    }
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let each = ended.iter().map(async |Ended { pod, container, is_previous }| {
        let params = LogParams {
            container: Some(container.clone()),
            previous: *is_previous,
            // One more tells whether there are more.
            tail_lines: i64::try_from(MOST_LINES + 1).ok(),
            limit_bytes: Some(READ_BYTES),
            ..LogParams::default()
        };
        match api.logs(pod, &params).await {
            Ok(text) => Ok(Log {
                pod: pod.clone(),
                container: container.clone(),
                is_previous: *is_previous,
                lines: masked_lines(text.lines()),
                is_cut: false,
            }),
            Err(error) => {
                Err(format!("the log of {container} in {pod}: {}", denied(&error, rights::to_read_logs(), namespace)))
            }
        }
    });
    let (mut logs, mut missing) = (Vec::new(), Vec::new());
    for read in join_all(each).await {
        match read {
            Ok(log) => logs.push(log),
            Err(why) => missing.push(why),
        }
    }
    (logs, missing)
}

/// What was answered; of a right that is missing, what grants it.
fn denied(error: &kube::Error, right: Right, namespace: &str) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => right.missing_in(namespace),
        other => describe(other),
    }
}

fn seen(pod: &Pod) -> SeenPod {
    let status = pod.status.as_ref();
    let text = |field: Option<&String>| field.cloned().unwrap_or_default();
    let phase = text(status.and_then(|status| status.phase.as_ref()));
    let why = status.and_then(|status| status.reason.as_ref()).map(|why| format!(": {why}")).unwrap_or_default();
    let ready = status.iter().flat_map(|status| status.conditions.iter().flatten()).find(|one| one.type_ == "Ready");
    // Why one that no node takes is not placed is said nowhere else.
    let unplaced = status.iter().flat_map(|status| status.conditions.iter().flatten());
    let unplaced = unplaced.filter(|one| one.type_ == "PodScheduled" && one.status == "False");
    let unplaced: String =
        unplaced.filter_map(|one| one.message.as_ref()).map(|why| format!(": {}", masked(why))).collect();
    SeenPod {
        name: pod.name_any(),
        phase: format!("{phase}{why}{unplaced}"),
        is_ready: ready.is_some_and(|ready| ready.status == "True"),
        containers: statuses(pod).map(container).collect(),
    }
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    })
}

fn container(status: &ContainerStatus) -> SeenContainer {
    let state = status.state.as_ref();
    let waiting = state.and_then(|state| state.waiting.as_ref()).map(|waiting| {
        let reason = waiting.reason.as_deref().unwrap_or("not said for what");
        let message = waiting.message.as_ref().map(|message| format!(": {}", masked(message))).unwrap_or_default();
        format!("waits, {reason}{message}")
    });
    let end = || terminated(state).map(|end| format!("ended, {}", ending(end)));
    SeenContainer {
        name: status.name.clone(),
        state: waiting.or_else(end).unwrap_or_else(|| "runs".to_owned()),
        last_end: terminated(status.last_state.as_ref()).map(ending),
        restarts: u32::try_from(status.restart_count).unwrap_or_default(),
    }
}

fn terminated(state: Option<&ContainerState>) -> Option<&ContainerStateTerminated> {
    state.and_then(|state| state.terminated.as_ref())
}

/// How it ended. The message is the end of its log, where the log may be kept at all.
fn ending(end: &ContainerStateTerminated) -> String {
    let reason = end.reason.as_deref().unwrap_or("for no reason that is told");
    let signal = end.signal.map(|signal| format!(", signal {signal}")).unwrap_or_default();
    let at = end.finished_at.as_ref().map(|Time(at)| format!(", at {}", Timestamp::from_millis(at.as_millisecond())));
    format!("{reason}, exit code {}{signal}{}", end.exit_code, at.unwrap_or_default())
}
