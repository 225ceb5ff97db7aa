//! A workload: what it should be, and how far its controller has come.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::owner::owners;
use super::{Fact, count};
use crate::cluster::template;
use crate::domain::policy::{ObjectKind, Owner};

/// The reason of a Deployment's condition `Progressing` once it has given its rollout up.
const GIVEN_UP: &str = "ProgressDeadlineExceeded";

/// The reason of the same condition once the rollout of a ReplicaSet, which its message names, is complete; what becomes of the
/// pods afterwards does not change it.
const ARRIVED: &str = "NewReplicaSetAvailable";

/// What a rollback writes.
const TEMPLATE: [&str; 2] = ["f:spec", "f:template"];

/// A Deployment, StatefulSet or DaemonSet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    /// Its kind.
    pub kind: ObjectKind,
    /// What the API server tells it by.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Whether its controller has seen what it should be now.
    pub is_observed: bool,
    /// Whether its controller is told to wait.
    pub is_paused: bool,
    /// Whether its pods take a new template only once somebody deletes them.
    pub on_delete: bool,
    /// Whether its pods have no volumes that are their own.
    pub is_stateless: bool,
    /// Whether scaling it down deletes what its pods have stored.
    pub sheds_claims: bool,
    /// How many revisions before the present one are kept.
    pub history_limit: Option<u32>,
    /// Pods that there should be.
    pub replicas: u32,
    /// Of those, how many stay at the release before: a StatefulSet's partition.
    pub held_back: u32,
    /// Pods at the wanted release.
    pub updated: u32,
    /// All pods that are not about to end.
    pub total: u32,
    /// Pods in service for long enough.
    pub available: u32,
    /// Stands for its template's content.
    pub template: u64,
    /// The labels that a Deployment's template gives to pods.
    pub labels: BTreeMap<String, String>,
    /// The name of the revision that a StatefulSet's controller says it goes to.
    pub update_revision: Option<String>,
    /// Who writes it besides people.
    pub owners: Vec<Owner>,
    /// Why the controller gave the rollout up, if it did.
    pub given_up: Option<String>,
    /// Why its controller can't make pods, in its words.
    pub refused: Option<String>,
    /// What the controller says of the rollout that was complete last.
    pub arrived: Option<Arrived>,
}

/// What was brought about whole once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Arrived {
    /// A Deployment's controller names the revision in a sentence.
    Told(String),
    /// A StatefulSet's controller names the revision.
    Revision(String),
}

impl Arrived {
    /// Whether it is the revision of this name.
    #[must_use]
    pub fn is(&self, revision: &str) -> bool {
        match self {
            Arrived::Told(sentence) => sentence.contains(&format!("\"{revision}\"")),
            Arrived::Revision(name) => name == revision,
        }
    }
}

impl Fact for Workload {
    fn uid(&self) -> &str {
        &self.uid
    }

    fn group(&self) -> &str {
        &self.name
    }
}

impl Workload {
    fn new(kind: ObjectKind, meta: ObjectMeta, observed: Option<i64>) -> Option<Self> {
        Some(Self {
            kind,
            is_observed: observed >= meta.generation,
            owners: owners(&meta, &TEMPLATE),
            uid: meta.uid?,
            name: meta.name?,
            is_paused: false,
            on_delete: false,
            is_stateless: true,
            sheds_claims: false,
            history_limit: None,
            replicas: 0,
            held_back: 0,
            updated: 0,
            total: 0,
            available: 0,
            template: 0,
            labels: BTreeMap::new(),
            update_revision: None,
            given_up: None,
            refused: None,
            arrived: None,
        })
    }
}

/// What a Deployment says; nothing of one that has no identity.
impl TryFrom<Deployment> for Workload {
    type Error = ();

    fn try_from(object: Deployment) -> Result<Self, ()> {
        let (spec, status) = (object.spec.ok_or(())?, object.status.unwrap_or_default());
        let new = Self::new(ObjectKind::Deployment, object.metadata, status.observed_generation).ok_or(())?;
        let conditions = status.conditions.unwrap_or_default();
        let refused =
            conditions.iter().find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
        let refused = refused.and_then(|condition| condition.message.clone());
        let progress = conditions.into_iter().find(|condition| condition.type_ == "Progressing");
        let (reason, message) = progress.map(|found| (found.reason, found.message)).unwrap_or_default();
        let told = |wanted: &str| {
            let is_it = reason.as_deref() == Some(wanted);
            is_it.then(|| message.clone().unwrap_or_else(|| wanted.to_owned()))
        };
        Ok(Self {
            is_paused: spec.paused == Some(true),
            replicas: count(spec.replicas.or(Some(1))),
            updated: count(status.updated_replicas),
            total: count(status.replicas),
            available: count(status.available_replicas),
            template: template::digest(&spec.template),
            labels: spec.template.metadata.and_then(|meta| meta.labels).unwrap_or_default(),
            given_up: told(GIVEN_UP),
            refused,
            arrived: told(ARRIVED).map(Arrived::Told),
            history_limit: spec.revision_history_limit.map(|limit| count(Some(limit))),
            ..new
        })
    }
}

/// What a StatefulSet says.
impl TryFrom<StatefulSet> for Workload {
    type Error = ();

    fn try_from(object: StatefulSet) -> Result<Self, ()> {
        let (spec, status) = (object.spec.ok_or(())?, object.status.unwrap_or_default());
        let new = Self::new(ObjectKind::StatefulSet, object.metadata, status.observed_generation).ok_or(())?;
        let strategy = spec.update_strategy.unwrap_or_default();
        let replicas = count(spec.replicas.or(Some(1)));
        Ok(Self {
            on_delete: strategy.type_.as_deref() == Some("OnDelete"),
            sheds_claims: claims_of(spec.persistent_volume_claim_retention_policy.as_ref()),
            is_stateless: spec.volume_claim_templates.is_none_or(|claims| claims.is_empty()),
            replicas,
            held_back: count(strategy.rolling_update.and_then(|rolling| rolling.partition)).min(replicas),
            updated: count(status.updated_replicas),
            total: count(Some(status.replicas)),
            available: count(status.available_replicas.or(status.ready_replicas)),
            template: template::digest(&spec.template),
            update_revision: status.update_revision,
            arrived: status.current_revision.map(Arrived::Revision),
            history_limit: spec.revision_history_limit.map(|limit| count(Some(limit))),
            ..new
        })
    }
}

fn claims_of(retention: Option<&StatefulSetPersistentVolumeClaimRetentionPolicy>) -> bool {
    retention.is_some_and(|retention| retention.when_scaled.as_deref() == Some("Delete"))
}

/// What a DaemonSet says.
impl TryFrom<DaemonSet> for Workload {
    type Error = ();

    fn try_from(object: DaemonSet) -> Result<Self, ()> {
        let (spec, status) = (object.spec.ok_or(())?, object.status.unwrap_or_default());
        let new = Self::new(ObjectKind::DaemonSet, object.metadata, status.observed_generation).ok_or(())?;
        Ok(Self {
            on_delete: spec.update_strategy.and_then(|strategy| strategy.type_).as_deref() == Some("OnDelete"),
            replicas: count(Some(status.desired_number_scheduled)),
            updated: count(status.updated_number_scheduled),
            total: count(Some(status.current_number_scheduled)),
            available: count(status.number_available),
            template: template::digest(&spec.template),
            history_limit: spec.revision_history_limit.map(|limit| count(Some(limit))),
            ..new
        })
    }
}
