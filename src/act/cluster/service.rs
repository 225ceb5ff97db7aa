//! A Service as the API server has it, and the one write that may be made to it. It has no generation: what is compared is
//! who it is, how it was read, and its old selector.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::ask::answer;
use super::object::{Earnest, FIELD_MANAGER, Place};
use super::{IsHeld, fields};
use crate::cluster::describe;
use crate::cluster::facts::Pod;
use crate::domain::id::RevisionId;
use crate::domain::policy::{ClusterObject, Pin, Switch, listed};
use crate::domain::response::plan::Outcome;

/// The label of an EndpointSlice that names its Service.
const OF_SERVICE: &str = "kubernetes.io/service-name";

/// A Service, the workload behind it, and the way to both.
pub(super) struct Front<'a> {
    client: Client,
    pub(super) object: &'a ClusterObject,
    pub(super) service: &'a Pin,
}

/// A Service as it was read.
#[derive(Debug)]
pub(super) struct ReadService {
    pub(super) version: String,
    pub(super) selector: BTreeMap<String, String>,
    pub(super) address: Option<String>,
    pub(super) ports: Vec<Value>,
    /// Who manages what.
    pub(super) managers: Vec<ManagedFieldsEntry>,
}

impl<'a> Front<'a> {
    pub(super) fn new(client: Client, object: &'a ClusterObject, service: &'a Pin) -> Self {
        Self { client, object, service }
    }

    fn api(&self, group: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
        let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural);
        Api::namespaced_with(self.client.clone(), &self.object.namespace, &kind)
    }

    fn services(&self) -> Api<DynamicObject> {
        self.api("", "Service", "services")
    }

    pub(super) fn name(&self) -> String {
        format!("Service {}/{}", self.object.namespace, self.service.name)
    }

    pub(super) async fn read(&self) -> Result<ReadService, Outcome> {
        let found = answer(self.services().get_opt(&self.service.name)).await;
        let found = found.map_err(|error| self.unread(&error))?;
        let found = found.ok_or_else(|| Outcome::Conflict(format!("there is no {} any more", self.name())))?;
        if found.metadata.uid.as_deref() != Some(&self.service.uid) {
            return Err(Outcome::Conflict(format!("{} is another one under the same name", self.name())));
        }
        let at = |path: &str| found.data.pointer(path);
        let is_address = |ip: &&str| !ip.is_empty() && *ip != "None";
        Ok(ReadService {
            version: found.resource_version().unwrap_or_default(),
            selector: at("/spec/selector").cloned().and_then(|s| serde_json::from_value(s).ok()).unwrap_or_default(),
            address: at("/spec/clusterIP").and_then(Value::as_str).filter(is_address).map(str::to_owned),
            managers: found.metadata.managed_fields.clone().unwrap_or_default(),
            ports: at("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default(),
        })
    }

    /// Gives it the other selector, or has the API server look at that: only this Service, only as it was read.
    pub(super) async fn patch(&self, read: &ReadService, to: &Switch, earnest: Earnest) -> Result<(), kube::Error> {
        let patch = serde_json::from_value(operations(self.service, read, to)).map_err(kube::Error::SerdeError)?;
        let params = PatchParams {
            dry_run: earnest == Earnest::DryRun,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Json::<DynamicObject>(patch);
        answer(self.services().patch(&self.service.name, &params, &patch)).await.map(|_| ())
    }

    /// Hands the selector, now that it was written, back to whoever applied it before.
    pub(super) async fn hand_back(&self, before: &ReadService, is_held: IsHeld<'_>) {
        let selector: &[&str] = &["f:spec", "f:selector"];
        fields::hand_back(&self.services(), &self.service.name, &before.managers, &[selector], is_held).await;
    }

    /// The EndpointSlices, each as its data.
    pub(super) async fn slices(&self) -> Result<Vec<Value>, Outcome> {
        let slices = self.api("discovery.k8s.io", "EndpointSlice", "endpointslices");
        let label = format!("{OF_SERVICE}={}", self.service.name);
        let found = answer(slices.list(&ListParams::default().labels(&label))).await;
        let found = found.map_err(|error| self.unread(&error))?;
        Ok(found.items.into_iter().map(|slice| slice.data).collect())
    }

    /// The pods that a selector leads to, once it does: those that are ready and stay.
    pub(super) async fn ready(&self, selector: &BTreeMap<String, String>) -> Result<Vec<Pod>, Outcome> {
        let pods: Api<v1::Pod> = Api::namespaced(self.client.clone(), &self.object.namespace);
        let found = answer(pods.list(&ListParams::default().labels(&listed(selector)))).await;
        let found = found.map_err(|error| self.unread(&error))?;
        let pods = found.items.into_iter().filter_map(|pod| Pod::try_from(pod).ok());
        Ok(pods.filter(|pod| pod.is_ready && !pod.is_ending).collect())
    }

    /// What controls the workload's pods of a release.
    pub(super) async fn owner_of(&self, release: &RevisionId) -> Result<String, Outcome> {
        Place::new(self.client.clone(), self.object).uid_of(release).await
    }

    fn unread(&self, error: &kube::Error) -> Outcome {
        Outcome::Transient(format!("{}: {}", self.name(), describe(error)))
    }
}

fn operations(service: &Pin, read: &ReadService, to: &Switch) -> Value {
    let mut operations = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": service.uid}),
        json!({"op": "test", "path": "/metadata/resourceVersion", "value": read.version}),
        json!({"op": "test", "path": "/spec/selector", "value": to.before}),
    ];
    for (label, value) in to.after.iter().filter(|(label, value)| to.before.get(*label) != Some(value)) {
        let path = format!("/spec/selector/{}", label.replace('~', "~0").replace('/', "~1"));
        operations.push(json!({"op": "replace", "path": path, "value": value}));
    }
    Value::Array(operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_label_that_differs_is_written_and_all_is_compared() {
        let labels = |colour: &str| {
            let pairs = [("app", "shop"), ("example.com/colour", colour)];
            pairs.map(|(label, value)| (label.to_owned(), value.to_owned())).into()
        };
        let pin = Pin { name: "front".to_owned(), uid: "s1".to_owned() };
        let switch = Switch { service: pin.clone(), before: labels("green"), after: labels("blue") };
        let read = ReadService {
            version: "7".to_owned(),
            selector: labels("green"),
            address: None,
            ports: Vec::new(),
            managers: Vec::new(),
        };
        let expected = json!([
            {"op": "test", "path": "/metadata/uid", "value": "s1"},
            {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
            {"op": "test", "path": "/spec/selector", "value": {"app": "shop", "example.com/colour": "green"}},
            {"op": "replace", "path": "/spec/selector/example.com~1colour", "value": "blue"},
        ]);
        assert_eq!(operations(&pin, &read, &switch), expected);
    }
}
