//! A revision of a workload: the object that keeps its template.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Fact, controller};
use crate::cluster::settings;
use crate::cluster::template::{self, TEMPLATE_HASH};
use crate::domain::id::RevisionId;
use crate::domain::settings::Setting;

/// Where a Deployment's controller counts its ReplicaSets.
const NUMBER: &str = "deployment.kubernetes.io/revision";

/// A ReplicaSet of a Deployment, or a ControllerRevision of a StatefulSet or DaemonSet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revision {
    /// What the API server tells it by.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// The uid of the workload that it belongs to.
    pub owner: String,
    /// The hash of its template: its name as a release.
    pub hash: RevisionId,
    /// Grows with each rollout, one that goes back included.
    pub number: i64,
    /// When it came to be, in seconds since 1970.
    pub created: i64,
    /// The images of its template.
    pub images: Option<String>,
    /// Stands for its template's content.
    pub template: u64,
    /// The ConfigMaps and Secrets that its template names.
    pub settings: BTreeSet<Setting>,
}

impl Fact for Revision {
    fn uid(&self) -> &str {
        &self.uid
    }

    fn group(&self) -> &str {
        &self.owner
    }
}

/// What a ReplicaSet says; nothing of one that no Deployment controls.
impl TryFrom<ReplicaSet> for Revision {
    type Error = ();

    fn try_from(object: ReplicaSet) -> Result<Self, ()> {
        let meta = object.metadata;
        let owner = controller(&meta).filter(|owner| owner.kind == "Deployment").ok_or(())?.uid.clone();
        let hash = meta.labels.as_ref().and_then(|labels| labels.get(TEMPLATE_HASH)).ok_or(())?;
        let number = meta.annotations.as_ref().and_then(|all| all.get(NUMBER)?.parse().ok());
        let template = object.spec.and_then(|spec| spec.template).ok_or(())?;
        Ok(Self {
            hash: RevisionId::new(hash),
            number: number.unwrap_or(0),
            created: created(&meta),
            images: template::images(template.spec.as_ref()),
            template: template::digest(&template),
            settings: settings::named(&serde_json::to_value(&template).unwrap_or_default()),
            owner,
            uid: meta.uid.ok_or(())?,
            name: meta.name.ok_or(())?,
        })
    }
}

/// What a ControllerRevision says; nothing of one without an owner, or whose data is no template.
impl TryFrom<ControllerRevision> for Revision {
    type Error = ();

    fn try_from(object: ControllerRevision) -> Result<Self, ()> {
        let meta = object.metadata;
        let owner = controller(&meta).ok_or(())?;
        let name = meta.name.clone().ok_or(())?;
        let hash = name.strip_prefix(owner.name.as_str()).and_then(|rest| rest.strip_prefix('-')).unwrap_or(&name);
        let data = object.data.ok_or(())?.0;
        let template = data.pointer("/spec/template").ok_or(())?;
        Ok(Self {
            hash: RevisionId::new(hash),
            number: object.revision,
            created: created(&meta),
            images: template::images_of(template),
            template: template::digest(template),
            settings: settings::named(template),
            owner: owner.uid.clone(),
            uid: meta.uid.clone().ok_or(())?,
            name,
        })
    }
}

fn created(meta: &ObjectMeta) -> i64 {
    meta.creation_timestamp.as_ref().map_or(0, |at| at.0.as_second())
}
