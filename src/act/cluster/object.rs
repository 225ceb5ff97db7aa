//! One workload as the API server has it: read whole as JSON, so that fields which this program does not know of are
//! neither lost nor taken for a difference.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Map, Value, json};

use super::ask::answer;
use super::remembered::{LAST_APPLIED, carried, changed};
use super::{IsHeld, fields};
use crate::cluster::rights::plurals;
use crate::cluster::{describe, template};
use crate::domain::id::RevisionId;
use crate::domain::policy::{ClusterObject, ObjectKind, Pin};
use crate::domain::response::plan::Outcome;

/// The name under which the API server notes what is written here.
pub(super) const FIELD_MANAGER: &str = "rollbackd";

/// What is to be changed.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// The pods' template.
    Template { expect: RevisionId, source: Pin },
    /// The number of pods, of a release where it is about one.
    Replicas { expect: Option<RevisionId>, number: Number },
}

/// A number of pods.
#[derive(Clone, Copy, Debug)]
pub(in crate::act) struct Number {
    pub(in crate::act) replicas: u32,
    /// Only in place of this one.
    pub(in crate::act) only_from: Option<u32>,
}

impl Number {
    /// Whether it is so, or another number stands that is not to be touched: more than some are as good, and whoever set
    /// another than what is to be replaced meant it.
    pub(super) fn stands(self, now: Option<u64>) -> bool {
        let is = |number: u32| now == Some(u64::from(number));
        let is_more = self.replicas > 0 && now.is_some_and(|now| now > u64::from(self.replicas));
        is(self.replicas) || is_more || self.only_from.is_some_and(|from| !is(from))
    }
}

/// A workload, and the way to it.
#[derive(Clone)]
pub(super) struct Place<'a> {
    pub(super) object: &'a ClusterObject,
    workloads: Api<DynamicObject>,
    revisions: Api<DynamicObject>,
}

/// A workload as it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Read {
    pub(super) generation: i64,
    pub(super) version: Option<String>,
    /// The content of its template.
    pub(super) template: Value,
    pub(super) replicas: Option<u64>,
    /// Pods that there are, by its controller's word.
    pub(super) made: Option<u64>,
    /// How a Deployment's controller replaces its pods.
    pub(super) strategy: Option<Value>,
    pub(super) is_paused: bool,
    pub(super) on_delete: bool,
    /// Who manages what.
    pub(super) managers: Vec<ManagedFieldsEntry>,
    /// As it is written.
    pub(super) last_applied: Option<String>,
}

/// Whether the API server only looks at a write, or takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Earnest {
    DryRun,
    Write,
}

impl<'a> Place<'a> {
    pub(super) fn new(client: Client, object: &'a ClusterObject) -> Self {
        let (keeper, keepers) = (kinds(object.kind).1, plurals(object.kind).1);
        let workloads = workloads(&client, &object.namespace, object.kind);
        Self { object, workloads, revisions: api(&client, &object.namespace, (keeper, keepers)) }
    }

    /// Reads the workload.
    pub(super) async fn read(&self) -> Result<Read, Outcome> {
        let found = self.get().await?;
        let gone = || Outcome::Conflict(format!("there is no {} any more", self.object));
        let found = found.ok_or_else(gone)?;
        if found.metadata.uid.as_deref() != Some(&self.object.uid) {
            return Err(Outcome::Conflict(format!("{} is another one under the same name", self.object)));
        }
        Ok(as_read(&found))
    }

    /// The same, where it is not gone, nor about to.
    pub(super) async fn find(&self) -> Result<Option<Read>, Outcome> {
        let is_it = |found: &DynamicObject| {
            found.metadata.uid.as_deref() == Some(&self.object.uid) && found.metadata.deletion_timestamp.is_none()
        };
        Ok(self.get().await?.filter(is_it).map(|found| as_read(&found)))
    }

    async fn get(&self) -> Result<Option<DynamicObject>, Outcome> {
        let found = answer(self.workloads.get_opt(&self.object.name)).await;
        found.map_err(|error| Outcome::Transient(format!("{}: {}", self.object, describe(&error))))
    }

    /// Deletes the workload with all that it keeps: only this object, only as it was read.
    pub(super) async fn delete(&self, read: &Read) -> Result<(), kube::Error> {
        let as_read = Preconditions { uid: Some(self.object.uid.clone()), resource_version: read.version.clone() };
        let params = DeleteParams { preconditions: Some(as_read), ..DeleteParams::background() };
        answer(self.workloads.delete(&self.object.name, &params)).await.map(|_| ())
    }

    /// What the API server tells the keeper of a release by: of a Deployment's pods it is the owner.
    pub(super) async fn uid_of(&self, release: &RevisionId) -> Result<String, Outcome> {
        let found = self.keeper(&format!("{}-{release}", self.object.name), None).await?;
        Ok(found.metadata.uid.unwrap_or_default())
    }

    /// The content of the template that an object of this workload keeps; `uid` where only that one will do.
    pub(super) async fn kept(&self, name: &str, uid: Option<&str>) -> Result<Value, Outcome> {
        let found = self.keeper(name, uid).await?;
        let path = match self.object.kind {
            ObjectKind::Deployment => "/spec/template",
            ObjectKind::StatefulSet | ObjectKind::DaemonSet => "/data/spec/template",
        };
        let template = found.data.pointer(path).cloned();
        template.map(template::content).ok_or_else(|| Outcome::Denied(format!("{name} keeps no template")))
    }

    /// Whether any pod runs what an object of a Deployment keeps; of other kinds nobody counts them there.
    pub(super) async fn runs(&self, name: &str) -> bool {
        let kept = self.keeper(name, None).await;
        kept.is_ok_and(|kept| {
            kept.data.pointer("/status/replicas").and_then(Value::as_u64).is_some_and(|pods| pods > 0)
        })
    }

    async fn keeper(&self, name: &str, uid: Option<&str>) -> Result<DynamicObject, Outcome> {
        let found = answer(self.revisions.get_opt(name)).await;
        let found = found.map_err(|error| Outcome::Transient(format!("{name}: {}", describe(&error))))?;
        let found = found.ok_or_else(|| Outcome::Denied(format!("{name}, which keeps the template, is gone")))?;
        let is_its = found.owner_references().iter().any(|owner| owner.uid == self.object.uid);
        if !is_its || uid.is_some_and(|uid| found.metadata.uid.as_deref() != Some(uid)) {
            return Err(Outcome::Denied(format!("{name} is another one under the same name")));
        }
        Ok(found)
    }

    /// The content of the template of a release, by the name that its controller gives to what keeps it.
    pub(super) async fn template_of(&self, release: &RevisionId) -> Result<Value, Outcome> {
        self.kept(&format!("{}-{release}", self.object.name), None).await
    }

    /// Hands what was written back to whoever applied it; `before` is how the workload was read.
    pub(super) async fn hand_back(&self, change: &Change, before: &Read, is_held: IsHeld<'_>) {
        let field = match change {
            Change::Template { .. } => "f:template",
            Change::Replicas { .. } => "f:replicas",
        };
        fields::hand_back(&self.workloads, &self.object.name, &before.managers, &[&["f:spec", field]], is_held).await;
    }

    /// Writes, or has the API server look at the write: only this object, only as it was read.
    pub(super) async fn patch(&self, read: &Read, change: Vec<Value>, earnest: Earnest) -> Result<(), kube::Error> {
        let mut operations = vec![
            json!({"op": "test", "path": "/metadata/uid", "value": self.object.uid}),
            json!({"op": "test", "path": "/metadata/generation", "value": read.generation}),
        ];
        operations.extend(change);
        let patch = serde_json::from_value(Value::Array(operations)).map_err(kube::Error::SerdeError)?;
        let params = PatchParams {
            dry_run: earnest == Earnest::DryRun,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Json::<DynamicObject>(patch);
        answer(self.workloads.patch(&self.object.name, &params, &patch)).await.map(|_| ())
    }
}

fn as_read(found: &DynamicObject) -> Read {
    let at = |path: &str| found.data.pointer(path);
    Read {
        generation: found.metadata.generation.unwrap_or(0),
        version: found.resource_version(),
        template: at("/spec/template").cloned().map(template::content).unwrap_or_default(),
        replicas: at("/spec/replicas").and_then(Value::as_u64),
        made: at("/status").map(|status| status.get("replicas").and_then(Value::as_u64).unwrap_or(0)),
        strategy: at("/spec/strategy").cloned(),
        is_paused: at("/spec/paused") == Some(&Value::Bool(true)),
        on_delete: at("/spec/updateStrategy/type").and_then(Value::as_str) == Some("OnDelete"),
        managers: found.metadata.managed_fields.clone().unwrap_or_default(),
        last_applied: found.annotations().get(LAST_APPLIED).cloned(),
    }
}

/// The operations that give a workload a template. What `kubectl apply` remembers follows: it would otherwise leave in
/// place what this template has and the next manifest has not.
pub(super) fn template_change(read: &Read, template: &Value) -> Vec<Value> {
    let mut change = vec![json!({"op": "replace", "path": "/spec/template", "value": template})];
    let follow = |manifest: &mut Map<String, Value>| {
        let remembered = manifest.get_mut("spec")?.get_mut("template")?;
        *remembered = carried(Some(remembered), Some(&read.template), Some(template))?;
        Some(())
    };
    let remembered = read.last_applied.as_ref().and_then(|text| Some((text, changed(text, follow)?)));
    if let Some((old, new)) = remembered {
        let path = pointer(LAST_APPLIED);
        change.push(json!({"op": "test", "path": path, "value": old}));
        change.push(json!({"op": "replace", "path": path, "value": new}));
    }
    change
}

/// Where in an object an annotation is.
pub(super) fn pointer(annotation: &str) -> String {
    format!("/metadata/annotations/{}", annotation.replace('/', "~1"))
}

/// The workloads of a kind.
pub(super) fn workloads(client: &Client, namespace: &str, kind: ObjectKind) -> Api<DynamicObject> {
    api(client, namespace, (kinds(kind).0, plurals(kind).0))
}

fn api(client: &Client, namespace: &str, (kind, plural): (&str, &str)) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("apps", "v1", kind), plural);
    Api::namespaced_with(client.clone(), namespace, &kind)
}

/// A workload's kind, and that of what keeps its templates.
const fn kinds(kind: ObjectKind) -> (&'static str, &'static str) {
    match kind {
        ObjectKind::Deployment => ("Deployment", "ReplicaSet"),
        ObjectKind::StatefulSet => ("StatefulSet", "ControllerRevision"),
        ObjectKind::DaemonSet => ("DaemonSet", "ControllerRevision"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_somebody_set_is_left_alone_where_only_another_is_replaced() {
        let stands = |only_from, now| Number { replicas: 3, only_from }.stands(now);
        assert!(stands(None, Some(3)) && stands(Some(0), Some(3)), "it is so");
        assert!(!stands(None, Some(2)) && !stands(None, None));
        assert!(stands(None, Some(5)), "somebody wants more");
        assert!(!Number { replicas: 0, only_from: None }.stands(Some(5)), "none are none");
        assert!(!stands(Some(0), Some(0)));
        assert!(stands(Some(0), Some(1)) && stands(Some(0), Some(5)) && stands(Some(0), None));
    }

    #[test]
    fn what_kubectl_remembers_follows_the_template_and_nothing_else() {
        let goal = json!({"spec": {"image": "1"}});
        let read = |last_applied: Option<&str>| Read {
            template: json!({"spec": {"image": "2", "defaulted": true}}),
            last_applied: last_applied.map(str::to_owned),
            ..Read::default()
        };
        let paths = |change: &[Value]| -> Vec<String> {
            change
                .iter()
                .map(|one| format!("{} {}", one["op"].as_str().unwrap(), one["path"].as_str().unwrap()))
                .collect()
        };
        assert_eq!(paths(&template_change(&read(None), &goal)), ["replace /spec/template"]);
        assert_eq!(paths(&template_change(&read(Some("no json")), &goal)), ["replace /spec/template"]);
        let remembered = r#"{"spec":{"replicas":2,"template":{"spec":{"image":"2"}}}}"#;
        let change = template_change(&read(Some(remembered)), &goal);
        let path = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";
        let expected = ["replace /spec/template".to_owned(), format!("test {path}"), format!("replace {path}")];
        assert_eq!(paths(&change), expected);
        assert_eq!(change[2]["value"], "{\"spec\":{\"replicas\":2,\"template\":{\"spec\":{\"image\":\"1\"}}}}\n");
    }
}
