//! A Service: which pods it leads to.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
use serde::{Deserialize, Serialize};

use super::Fact;
use super::owner::owners;
use crate::domain::policy::Owner;

/// A Service as the API server sends it, less all that does not matter here.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ServiceObject {
    /// Its identity.
    pub metadata: ObjectMeta,
    /// What it should do.
    #[serde(default)]
    pub spec: ServiceSpec,
}

/// What a Service should do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// The labels of the pods that it leads to.
    #[serde(default)]
    pub selector: BTreeMap<String, String>,
}

impl Resource for ServiceObject {
    const API_VERSION: &'static str = "v1";
    const GROUP: &'static str = "";
    const KIND: &'static str = "Service";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "services";
    type Scope = NamespaceResourceScope;
}

impl Metadata for ServiceObject {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What a rollback writes.
const SELECTOR: [&str; 2] = ["f:spec", "f:selector"];

/// What matters of a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// What the API server tells it by.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// The labels of the pods that it leads to.
    pub selector: BTreeMap<String, String>,
    /// Who writes it besides people.
    pub owners: Vec<Owner>,
}

impl Fact for Service {
    fn uid(&self) -> &str {
        &self.uid
    }

    fn group(&self) -> &str {
        &self.name
    }
}

/// What a Service says; nothing of one that has no identity.
impl TryFrom<ServiceObject> for Service {
    type Error = ();

    fn try_from(object: ServiceObject) -> Result<Self, ()> {
        Ok(Self {
            owners: owners(&object.metadata, &SELECTOR),
            uid: object.metadata.uid.ok_or(())?,
            name: object.metadata.name.ok_or(())?,
            selector: object.spec.selector,
        })
    }
}

impl Service {
    /// Whether it leads to pods with these labels. One without a selector leads to none.
    #[must_use]
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        selects(&self.selector, labels)
    }
}

/// Whether a selector takes pods with these labels; an empty one takes none.
#[must_use]
pub fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selector.iter().all(|(label, value)| labels.get(label) == Some(value))
}
