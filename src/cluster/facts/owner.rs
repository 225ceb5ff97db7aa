//! Whose an object is, by the marks that tools leave on what they write.
//!
//! Marks by which a tool finds its objects again name its own object. The API server's note of who wrote which fields names
//! only the tool: it counts where no mark says more, and only where the tool wrote what a rollback would write.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::Value;

use crate::domain::policy::{GitopsTool, Owner, RolloutTool};

/// Argo CD's mark: `NAME:GROUP/KIND:NAMESPACE/NAME`, where the first name may be `NAMESPACE_NAME`.
const ARGOCD_TRACKING: &str = "argocd.argoproj.io/tracking-id";

/// Argo CD's mark where it is told to keep out of the way of Helm's label.
const ARGOCD_INSTANCE: &str = "argocd.argoproj.io/instance";

/// The mark of older versions of Argo CD. Helm and others write it as well.
const INSTANCE: &str = "app.kubernetes.io/instance";

/// Names under which Argo CD writes.
const ARGOCD_WRITERS: [&str; 2] = ["argocd-controller", "argocd-application-controller"];

/// Names under which Argo Rollouts writes.
const ROLLOUTS_WRITERS: [&str; 2] = ["rollouts-controller", "argo-rollouts"];

/// The name under which Flagger writes.
const FLAGGER_WRITER: &str = "flagger";

/// A tool of Flux: where its marks are, and the name under which it writes.
struct Flux {
    tool: GitopsTool,
    marks: &'static str,
    writer: &'static str,
}

const FLUX: [Flux; 2] = [
    Flux { tool: GitopsTool::FluxKustomization, marks: "kustomize.toolkit.fluxcd.io", writer: "kustomize-controller" },
    Flux { tool: GitopsTool::FluxHelmRelease, marks: "helm.toolkit.fluxcd.io", writer: "helm-controller" },
];

/// Every tool that owns an object of which a rollback would write what is under this path of fields.
#[must_use]
pub fn owners(meta: &ObjectMeta, path: &[&str]) -> Vec<Owner> {
    let marks = Marks { meta, path };
    let mut all: Vec<Owner> = marks.rollouts().map(|tool| Owner::Rollouts { tool }).into_iter().collect();
    all.extend(marks.argocd());
    all.extend(FLUX.iter().filter_map(|flux| marks.flux(flux)));
    all
}

/// Every GitOps tool that would write again what is under this path of fields: Argo CD all that its object has, Flux only what
/// it wrote, for it leaves alone what its repository says nothing of.
#[must_use]
pub fn restorers(meta: &ObjectMeta, path: &[&str]) -> Vec<Owner> {
    let marks = Marks { meta, path };
    let mut all: Vec<Owner> = marks.argocd().into_iter().collect();
    all.extend(FLUX.iter().filter(|flux| marks.is_written_by(&[flux.writer])).filter_map(|flux| marks.flux(flux)));
    all
}

struct Marks<'a> {
    meta: &'a ObjectMeta,
    path: &'a [&'a str],
}

impl Marks<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        value(self.meta.labels.as_ref(), key)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        value(self.meta.annotations.as_ref(), key)
    }

    /// Whether somebody under this name wrote what is in question.
    fn is_written_by(&self, writers: &[&str]) -> bool {
        let all = self.meta.managed_fields.iter().flatten();
        let theirs = all.filter(|entry| entry.manager.as_deref().is_some_and(|manager| writers.contains(&manager)));
        theirs.filter(|entry| entry.subresource.as_deref() != Some("status")).any(|entry| has(entry, self.path))
    }

    fn is_controlled_by(&self, group: &str, kind: &str) -> bool {
        let owners = self.meta.owner_references.iter().flatten();
        let is_of = |version: &str| version.split_once('/').is_some_and(|(of, _)| of == group);
        owners
            .filter(|owner| owner.controller == Some(true))
            .any(|owner| owner.kind == kind && is_of(&owner.api_version))
    }

    fn rollouts(&self) -> Option<RolloutTool> {
        // What they scale they roll out.
        let whole = Marks { meta: self.meta, path: &["f:spec"] };
        if self.is_controlled_by("argoproj.io", "Rollout") || whole.is_written_by(&ROLLOUTS_WRITERS) {
            Some(RolloutTool::ArgoRollouts)
        } else if self.is_controlled_by("flagger.app", "Canary") || whole.is_written_by(&[FLAGGER_WRITER]) {
            Some(RolloutTool::Flagger)
        } else {
            None
        }
    }

    fn argocd(&self) -> Option<Owner> {
        let is_writer = self.is_written_by(&ARGOCD_WRITERS);
        let named = self.tracked().or_else(|| self.label(ARGOCD_INSTANCE));
        let named = named.or_else(|| self.label(INSTANCE).filter(|_| is_writer));
        let (namespace, name) = match named.map(|named| (named, named.split_once('_'))) {
            Some((_, Some((namespace, name)))) => (Some(namespace), Some(name)),
            Some((name, None)) => (None, Some(name)),
            None if is_writer => (None, None),
            None => return None,
        };
        Some(gitops(GitopsTool::ArgoCd, namespace, name))
    }

    /// The Application of a mark that is about this very object: Argo CD passes over one that was copied from another.
    fn tracked(&self) -> Option<&str> {
        let mut parts = self.annotation(ARGOCD_TRACKING)?.split(':');
        let (application, _, object) = (parts.next()?, parts.next()?, parts.next()?);
        let name = object.split_once('/').map_or(object, |(_, name)| name);
        (Some(name) == self.meta.name.as_deref()).then_some(application)
    }

    fn flux(&self, flux: &Flux) -> Option<Owner> {
        let mark = |key: &str| format!("{}/{key}", flux.marks);
        let set = |key: &str| self.annotation(&mark(key)).or_else(|| self.label(&mark(key)));
        let is = |key: &str, wanted: &str| set(key).is_some_and(|value| value.eq_ignore_ascii_case(wanted));
        // Left alone, by its user's word.
        if is("reconcile", "disabled") || is("ssa", "ignore") || is("ssa", "ifnotpresent") {
            return None;
        }
        match self.label(&mark("name")) {
            Some(name) => Some(gitops(flux.tool, self.label(&mark("namespace")), Some(name))),
            None => self.is_written_by(&[flux.writer]).then(|| gitops(flux.tool, None, None)),
        }
    }
}

fn gitops(tool: GitopsTool, namespace: Option<&str>, name: Option<&str>) -> Owner {
    Owner::Gitops { tool, namespace: namespace.map(str::to_owned), name: name.map(str::to_owned) }
}

fn value<'a>(map: Option<&'a BTreeMap<String, String>>, key: &str) -> Option<&'a str> {
    map?.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

fn has(entry: &ManagedFieldsEntry, path: &[&str]) -> bool {
    let Some(fields) = &entry.fields_v1 else { return false };
    path.iter().try_fold(&fields.0, |fields: &Value, key| fields.get(key)).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(meta: Value) -> Vec<String> {
        let mut meta: ObjectMeta = serde_json::from_value(meta).unwrap();
        meta.name = Some("shop".to_owned());
        owners(&meta, &["f:spec", "f:template"]).iter().map(ToString::to_string).collect()
    }

    fn written_by(manager: &str, fields: Value) -> Value {
        json!([{ "manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields }])
    }

    fn template() -> Value {
        json!({ "f:spec": { "f:template": { "f:spec": {} } } })
    }

    #[test]
    fn an_argo_cd_application_is_found_by_its_marks() {
        let tracked = |id: &str| told(json!({ "annotations": { ARGOCD_TRACKING: id } }));
        assert_eq!(tracked("web:apps/Deployment:prod/shop"), ["Argo CD Application web"]);
        assert_eq!(tracked("team_web:apps/Deployment:prod/shop"), ["Argo CD Application team/web"]);
        assert!(tracked("web:apps/Deployment:prod/other").is_empty(), "copied from another object");
        assert!(tracked("web").is_empty());
        assert_eq!(told(json!({ "labels": { ARGOCD_INSTANCE: "web" } })), ["Argo CD Application web"]);
        let instance = json!({ INSTANCE: "web" });
        assert!(told(json!({ "labels": instance })).is_empty(), "Helm writes it as well");
        for writer in ARGOCD_WRITERS {
            let fields = written_by(writer, template());
            assert_eq!(told(json!({ "labels": instance, "managedFields": fields })), ["Argo CD Application web"]);
            assert_eq!(told(json!({ "managedFields": fields })), ["an unnamed Argo CD Application"]);
        }
        let other = written_by("argocd-controller", json!({ "f:metadata": { "f:labels": {} } }));
        assert!(told(json!({ "managedFields": other })).is_empty(), "it wrote no template");
    }

    #[test]
    fn flux_is_found_by_its_labels_unless_it_is_told_to_leave_the_object_alone() {
        let labels =
            json!({ "kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux" });
        assert_eq!(told(json!({ "labels": labels })), ["Flux Kustomization flux/apps"]);
        let chart = json!({ "helm.toolkit.fluxcd.io/name": "shop", "helm.toolkit.fluxcd.io/namespace": "prod" });
        assert_eq!(told(json!({ "labels": chart })), ["Flux HelmRelease prod/shop"]);
        for left in [("reconcile", "disabled"), ("ssa", "Ignore"), ("ssa", "IfNotPresent")] {
            let annotations = json!({ format!("kustomize.toolkit.fluxcd.io/{}", left.0): left.1 });
            let fields = written_by("kustomize-controller", template());
            let left_alone = json!({ "labels": labels, "annotations": annotations, "managedFields": fields });
            assert!(told(left_alone).is_empty(), "{left:?}");
        }
        let fields = written_by("helm-controller", template());
        assert_eq!(told(json!({ "managedFields": fields })), ["an unnamed Flux HelmRelease"]);
        assert!(told(json!({ "managedFields": written_by("kubectl", template()) })).is_empty());
    }

    #[test]
    fn who_rolls_releases_out_is_found_beside_who_brings_them() {
        let canary = json!([{ "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "shop", "uid": "1", "controller": true }]);
        assert_eq!(told(json!({ "ownerReferences": canary })), ["Flagger"]);
        let rollout = json!([{ "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "shop", "uid": "1", "controller": true }]);
        assert_eq!(told(json!({ "ownerReferences": rollout })), ["Argo Rollouts"]);
        let scaled = json!({ "f:spec": { "f:replicas": {} } });
        for (writer, expected) in [("flagger", "Flagger"), ("rollouts-controller", "Argo Rollouts")] {
            let fields = written_by(writer, scaled.clone());
            let marks = json!({ ARGOCD_TRACKING: "web:apps/Deployment:prod/shop" });
            let both = told(json!({ "managedFields": fields, "annotations": marks }));
            assert_eq!(both, [expected, "Argo CD Application web"]);
        }
        let status = json!([{ "manager": "flagger", "subresource": "status", "fieldsV1": scaled }]);
        assert!(told(json!({ "managedFields": status })).is_empty());
    }
}
