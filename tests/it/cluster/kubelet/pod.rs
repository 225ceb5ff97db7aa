//! One pod, from the moment it is bound to the node until it is gone.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::container::Runner;
use super::logs;
use crate::cluster::image::Image;

/// How long a container may take to end where its pod does not say.
const GRACE: i64 = 30;

/// What keeps one pod.
pub(super) struct Keeper {
    pub(super) api: Api<Pod>,
    maps: Api<ConfigMap>,
    namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) ip: IpAddr,
    started: Value,
    conditions: Vec<Value>,
    said: Value,
}

impl Keeper {
    pub(super) fn new(client: Client, pod: &Pod, ip: IpAddr) -> Self {
        let namespace = pod.namespace().expect("a pod has a namespace");
        Self {
            api: Api::namespaced(client.clone(), &namespace),
            maps: Api::namespaced(client, &namespace),
            namespace,
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            ip,
            started: now(),
            conditions: Vec::new(),
            said: Value::Null,
        }
    }

    /// Runs the pod until it is to go and has gone; `newest` ends when the object does.
    pub(super) async fn keep(mut self, mut newest: watch::Receiver<Pod>, logs: PathBuf) {
        let pod = newest.borrow_and_update().clone();
        let stop = CancellationToken::new();
        let mut containers = JoinSet::new();
        let (mut told, mut states) = self.start(&pod, &mut containers, &stop, &logs);
        let is_stuck = pod.spec.iter().flat_map(|spec| &spec.containers).any(|container| {
            let image = container.image.as_deref().unwrap_or_default();
            Image::of(image).stuck
        });
        loop {
            tokio::select! {
                Some(status) = told.recv() => {
                    merge(&mut states, status);
                    while let Ok(status) = told.try_recv() {
                        merge(&mut states, status);
                    }
                    self.say(&states, false).await;
                }
                changed = newest.changed() => {
                    let is_gone = changed.is_err();
                    let is_going = newest.borrow_and_update().metadata.deletion_timestamp.is_some();
                    if is_gone || (is_going && !is_stuck) {
                        break;
                    }
                }
            }
        }
        for status in &mut states {
            status.ready = false;
        }
        self.say(&states, true).await;
        stop.cancel();
        while containers.join_next().await.is_some() {}
        let preconditions = Preconditions { uid: Some(self.uid.clone()), resource_version: None };
        let now = DeleteParams::default().grace_period(0).preconditions(preconditions);
        // It may be gone already, by force.
        let _ = self.api.delete(&self.name, &now).await;
    }

    fn start(
        &self,
        pod: &Pod,
        containers: &mut JoinSet<()>,
        stop: &CancellationToken,
        logs: &Path,
    ) -> (mpsc::Receiver<ContainerStatus>, Vec<ContainerStatus>) {
        let spec = pod.spec.as_ref().expect("a pod has a spec");
        let (tell, told) = mpsc::channel(16);
        let grace = spec.termination_grace_period_seconds.unwrap_or(GRACE);
        for container in &spec.containers {
            let runner = Runner {
                container: container.clone(),
                pod: pod.clone(),
                maps: self.maps.clone(),
                ip: self.ip,
                log: self.fresh_log(logs, &container.name),
                grace: Duration::from_secs(grace.try_into().unwrap_or_default()),
                tell: tell.clone(),
            };
            containers.spawn(runner.run(stop.clone()));
        }
        let states = spec.containers.iter().map(|container| ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            ..ContainerStatus::default()
        });
        (told, states.collect())
    }

    /// Where a container's output goes: not behind that of another pod that had the name.
    fn fresh_log(&self, logs: &Path, container: &str) -> PathBuf {
        let log = logs::file(logs, &self.namespace, &self.name, container);
        for old in [&log, &logs::previous(&log)] {
            // Mostly there is none.
            let _ = std::fs::remove_file(old);
        }
        log
    }

    /// Writes the pod's status, where it has changed.
    async fn say(&mut self, states: &[ContainerStatus], is_going: bool) {
        let is_ready = !is_going && states.iter().all(|status| status.ready);
        let runs = |status: &ContainerStatus| status.started.is_some();
        let phase = if states.iter().all(runs) { "Running" } else { "Pending" };
        for (kind, status) in [("Initialized", true), ("ContainersReady", is_ready), ("Ready", is_ready)] {
            self.condition(kind, status);
        }
        let status = json!({
            "phase": phase,
            "startTime": self.started,
            "hostIP": self.ip,
            "podIP": self.ip,
            "podIPs": [{ "ip": self.ip }],
            "conditions": self.conditions,
            "containerStatuses": states,
        });
        if status != self.said {
            let patch = json!({ "metadata": { "uid": self.uid }, "status": status });
            // A pod that is gone can't be told of; any other failure is made good by the next change.
            if self.api.patch_status(&self.name, &PatchParams::default(), &Patch::Strategic(&patch)).await.is_ok() {
                self.said = status;
            }
        }
    }

    fn condition(&mut self, kind: &str, is_so: bool) {
        let status = if is_so { "True" } else { "False" };
        let found = self.conditions.iter().position(|condition| condition["type"] == kind);
        if found.is_some_and(|at| self.conditions[at]["status"] == status) {
            return;
        }
        let condition = json!({ "type": kind, "status": status, "lastTransitionTime": now() });
        match found {
            Some(at) => self.conditions[at] = condition,
            None => self.conditions.push(condition),
        }
    }
}

fn merge(states: &mut [ContainerStatus], status: ContainerStatus) {
    if let Some(state) = states.iter_mut().find(|state| state.name == status.name) {
        *state = status;
    }
}

fn now() -> Value {
    json!(Time(k8s_openapi::jiff::Timestamp::now()))
}
