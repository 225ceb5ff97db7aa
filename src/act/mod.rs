//! Whatever changes a host or a cluster: one match over the kinds of steps.
//!
//! A step is whole: nothing is looked up or chosen here. Each is compare-and-set, or safe to do twice, so a step that was
//! under way when the process died is simply done again.

mod cluster;
mod command;
mod preflight;
mod release_dir;
mod restart;
mod smoke;

pub use cluster::Home;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout};

use crate::cluster::Clients;
use crate::cluster::rights::Granted;
use crate::cluster::settings::Keyring;
use crate::domain::id::WorkloadId;
use crate::domain::incident::recording::{Recording, Wanted};
use crate::domain::policy::{Gitops, Habitat, Owner, SmokeTest, WorkloadPolicy};
use crate::domain::response::plan::{Finding, Outcome, Plan, Pointed, StepKind};
use crate::domain::settings::{Setting, ToKeep};
use crate::domain::time::Span;
use crate::engine::ports::{Actuator, Shelf};
use crate::host;

/// Changes the host that the daemon runs on, and the clusters that its policy names.
#[derive(Debug)]
pub struct Hands {
    systemctl: String,
    clients: Clients,
    granted: Granted,
    /// Where replicas share what they record, where there are several.
    home: Option<Home>,
    /// Where what is kept of settings lies.
    shelf: Option<Arc<dyn Shelf>>,
    /// What it takes to keep Secrets.
    keyring: Keyring,
    /// One step of a workload at a time. As many as there are workloads in the policy.
    lanes: Mutex<BTreeMap<WorkloadId, Arc<tokio::sync::Mutex<()>>>>,
    /// Workloads that an operator has paused.
    held: Mutex<BTreeSet<WorkloadId>>,
}

impl Default for Hands {
    fn default() -> Self {
        Self::new("systemctl")
    }
}

impl Hands {
    /// An actuator that restarts units with this program: a path, or a name to be found in `PATH`.
    #[must_use]
    pub fn new(systemctl: &str) -> Self {
        Self {
            systemctl: systemctl.to_owned(),
            clients: Clients::default(),
            granted: Granted::default(),
            home: None,
            shelf: None,
            keyring: Keyring::default(),
            lanes: Mutex::default(),
            held: Mutex::default(),
        }
    }

    /// With clients of its own choice for clusters.
    #[must_use]
    pub fn with_clients(self, clients: Clients) -> Self {
        Self { clients, ..self }
    }

    /// As one of several replicas, which share what they record here.
    #[must_use]
    pub fn with_home(self, home: Option<Home>) -> Self {
        Self { home, ..self }
    }

    /// With a place for what is kept of ConfigMaps and, with a key, of Secrets.
    #[must_use]
    pub fn with_shelf(self, shelf: Arc<dyn Shelf>, keyring: Keyring) -> Self {
        Self { shelf: Some(shelf), keyring, ..self }
    }

    fn store(&self) -> Option<cluster::Store<'_>> {
        self.shelf.as_deref().map(|shelf| cluster::Store { shelf, keyring: &self.keyring })
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<WorkloadId>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn lane(&self, workload: &WorkloadId) -> OwnedMutexGuard<()> {
        let lane = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lanes.entry(workload.clone()).or_default())
        };
        lane.lock_owned().await
    }
}

impl Actuator for Hands {
    fn hold(&self, workload: &WorkloadId, is_held: bool) {
        if is_held {
            self.held().insert(workload.clone());
        } else {
            self.held().remove(workload);
        }
    }

    async fn preflight(&self, policy: &WorkloadPolicy, plan: &Plan) -> Vec<Finding> {
        preflight::findings(&self.systemctl, &self.clients, self.store(), policy, plan).await
    }

    async fn survey(
        &self,
        policy: &WorkloadPolicy,
        plan: Option<&Plan>,
        owners: &[Owner],
        settings: &[Setting],
    ) -> Vec<Finding> {
        let (clients, granted) = (&self.clients, &self.granted);
        let mut findings = Vec::new();
        if let Habitat::Kubernetes(habitat) = &policy.habitat {
            let steps = plan.map(Plan::kinds).unwrap_or_default();
            findings = cluster::survey(clients, granted, (habitat, policy.strategy), settings, &steps).await;
            if policy.gitops == Gitops::Pause {
                findings.extend(cluster::survey_owners(clients, granted, habitat, owners).await);
            }
        }
        if let Some(home) = &self.home {
            let has_settings =
                matches!(&policy.habitat, Habitat::Kubernetes(it) if it.keep.settings().next().is_some());
            findings.extend(cluster::survey_home(clients, granted, home, &policy.id, has_settings).await);
        }
        findings
    }

    async fn execute(&self, workload: &WorkloadId, step: &StepKind, limit: Span) -> Outcome {
        let deadline = Instant::now() + Duration::from(limit);
        let Ok(lane) = timeout(limit.into(), self.lane(workload)).await else {
            return Outcome::Transient(format!("an earlier step of {workload} still runs"));
        };
        let limit = deadline.saturating_duration_since(Instant::now());
        let is_held = || self.held().contains(workload);
        let way = cluster::Way { clients: &self.clients, is_held: &is_held };
        let by = cluster::By { home: self.home.as_ref(), workload };
        match step {
            StepKind::SwitchLink { .. } => switch_link(lane, step.clone(), limit).await,
            StepKind::Restart { instance, how, pointed } => match led_elsewhere(pointed.as_ref(), limit).await {
                Some(outcome) => outcome,
                None => restart::restart(&self.systemctl, workload, instance, how, limit).await,
            },
            StepKind::Command { purpose, instance, argv, current, expect, to, each } => {
                let what = command::Command {
                    workload,
                    purpose: *purpose,
                    instance: instance.as_ref(),
                    argv,
                    current,
                    expect,
                    to,
                    each: (*each).into(),
                };
                command::execute(what, limit).await
            }
            StepKind::RestoreTemplate { object, expect, source, to: _ } => {
                cluster::restore_template(way, object, expect, source, limit).await
            }
            StepKind::RestoreSetting { object, setting, expect, content, release, unless_at } => {
                let expect = expect.as_ref();
                let what = cluster::Restored { workload, object, setting, expect, content, release };
                cluster::restore_setting(way, self.store(), what, unless_at.as_ref(), limit).await
            }
            StepKind::Scale { object, expect, replicas, only_from, at_any } => {
                let number = cluster::Number { replicas: *replicas, only_from: *only_from };
                let expect = (!at_any).then(|| expect.clone());
                cluster::scale(way, object, expect, number, limit).await
            }
            StepKind::DeleteStuck { object, release, to } => {
                cluster::delete_stuck(way, object, release, to.as_ref(), limit).await
            }
            StepKind::DeleteCanary { object, expect } => cluster::delete_canary(way, object, expect, limit).await,
            StepKind::PauseOwner { owner, is_paused, limit: _ } => {
                let wish = cluster::Wish::Paused { anew: !*is_paused };
                cluster::settle_owner(way, by, owner, wish, limit).await
            }
            StepKind::PutBackOwner { owner } => {
                cluster::settle_owner(way, by, owner, cluster::Wish::GoingOn, limit).await
            }
            StepKind::SwitchService { object, to, switch } => {
                cluster::switch_service(way, object, to, switch, limit).await
            }
            StepKind::ProveTraffic { object, release, switch, at_least, ask, answers } => {
                let (at_least, answers, ask) = (*at_least, *answers, ask.as_deref());
                let proof = cluster::Proof { object, release, switch, at_least, ask, answers };
                cluster::prove_traffic(way, proof, limit).await
            }
            StepKind::Gate { .. }
            | StepKind::AwaitRollout { .. }
            | StepKind::AwaitGone { .. }
            | StepKind::AwaitCapacity { .. }
            | StepKind::AwaitWell { .. } => Outcome::Denied("this is judged by observation, not executed".to_owned()),
        }
    }

    async fn record(&self, policy: &WorkloadPolicy, wanted: &Wanted) -> Recording {
        match &policy.habitat {
            Habitat::Kubernetes(habitat) => cluster::record(&self.clients, habitat.keep, wanted).await,
            Habitat::ReleaseDir(_) | Habitat::Command(_) => Recording::default(),
        }
    }

    async fn keep(&self, workload: &WorkloadId, wanted: &ToKeep) -> Result<BTreeMap<Setting, String>, String> {
        let store = self.store().ok_or_else(|| "there is no place for it".to_owned())?;
        cluster::keep(&self.clients, store, workload, wanted).await
    }

    async fn smoke(&self, workload: &WorkloadId, habitat: &Habitat, smoke: &SmokeTest) -> (bool, String) {
        smoke::smoke(workload, habitat, smoke).await
    }
}

/// Why an instance is not to be restarted: its symlink does not lead where it was switched to.
async fn led_elsewhere(pointed: Option<&Pointed>, limit: Duration) -> Option<Outcome> {
    let Pointed { root, link, releases, to } = pointed?.clone();
    let look = tokio::task::spawn_blocking(move || host::release_dir::current(&root, &link, &releases));
    match timeout(limit, look).await {
        Ok(Ok(Ok(found))) if found == to => None,
        Ok(Ok(Ok(found))) => {
            Some(Outcome::Conflict(format!("the symlink names {found}, not {to}: someone else changed it")))
        }
        Ok(Ok(Err(fault))) => Some(Outcome::Transient(fault.to_string())),
        Ok(Err(error)) => Some(Outcome::Transient(format!("the look broke off: {error}"))),
        Err(_) => Some(Outcome::TimedOut("the file system did not answer in time".to_owned())),
    }
}

/// Off the event loop, since a disk may hang. A switch that is not done in its time keeps the workload's lane until it is.
async fn switch_link(lane: OwnedMutexGuard<()>, step: StepKind, limit: Duration) -> Outcome {
    let work = tokio::task::spawn_blocking(move || {
        let _lane = lane;
        let StepKind::SwitchLink { root, link, releases, expect, to, .. } = &step else {
            return Outcome::Denied(format!("not a switch: {}", step.title()));
        };
        release_dir::switch(release_dir::Switch { root, link, releases, expect, to }, limit)
    });
    match timeout(limit, work).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Outcome::Transient(format!("the switch broke off: {error}")),
        Err(_) => Outcome::TimedOut("the file system did not answer in time".to_owned()),
    }
}

#[cfg(test)]
mod tests;
