//! A GitOps tool's object paused for a time, by the means that the tool documents, and let go on: read, compare, write, and
//! read again.
//!
//! What is paused here says so in a mark of its own, which names the workloads that it is paused for and keeps what was
//! there before. So it is told from somebody else's pause, of which nothing is touched, and of several workloads the last
//! one lets it go on, be they of one daemon or of several that hold Leases of their own.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::ask::answer;
use super::object::{Earnest, FIELD_MANAGER};
use super::write::{refused, unsettled};
use super::{Home, IsHeld, held};
use crate::cluster::facts::restorers;
use crate::cluster::{describe, rights};
use crate::domain::id::WorkloadId;
use crate::domain::policy::{GitopsTool, OwnerObject};
use crate::domain::response::plan::Outcome;

/// The mark of what is paused here.
const MARK: &str = "rollbackd.dev/paused";

/// Where Argo CD is told to sync by itself. Without it nothing is synced but by hand.
const AUTOMATED: &str = "/spec/syncPolicy/automated";

/// Where Flux is told to wait.
const SUSPEND: &str = "/spec/suspend";

/// Writes that may miss because the tool notes its status meanwhile.
const ATTEMPTS: u32 = 5;

/// Time between two looks at a sync that is to end.
const POLL: Duration = Duration::from_millis(500);

/// How long Flux may take to end what it has begun. It says so for as long as it waits for the pods of what it brought, which
/// with a bad release is until its own timeout, minutes later: by then it has long written what it had to write. What it
/// writes all the same is met by the steps that come after.
const FLUX_LIMIT: Duration = Duration::from_secs(10);

/// What is to be so.
#[derive(Clone, Copy, Debug)]
pub(in crate::act) enum Wish {
    /// It is paused. Where it is not any more and may not be paused anew, somebody let it go on.
    Paused { anew: bool },
    /// It goes on, as far as this workload is concerned.
    GoingOn,
}

/// For whom an owner is paused.
#[derive(Clone, Copy, Debug)]
pub(in crate::act) struct By<'a> {
    /// Where the daemon holds its Lease, if it does: another one may have a workload of that name.
    pub(in crate::act) home: Option<&'a Home>,
    pub(in crate::act) workload: &'a WorkloadId,
}

impl By<'_> {
    /// Its name in marks.
    fn name(self) -> String {
        let workload = self.workload.as_str();
        let of = |home: &Home| format!("{}/{}/{workload}", home.namespace, home.lease);
        self.home.map_or_else(|| workload.to_owned(), of)
    }
}

/// An owner, and the way to it.
pub(super) struct Place<'a> {
    owner: &'a OwnerObject,
    api: Api<DynamicObject>,
}

/// What the mark holds.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Mark {
    workloads: BTreeSet<String>,
    /// What stood at [`AUTOMATED`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    automated: Option<Value>,
}

/// An owner as it was read.
#[derive(Clone, Debug, Default)]
struct Read {
    uid: String,
    version: String,
    data: Value,
    has_annotations: bool,
    mark: Option<Mark>,
    /// Who writes it and would let it go on.
    writer: Option<String>,
}

/// What is left to do.
#[derive(Debug, PartialEq)]
enum Next {
    /// Nothing: it is so, by this daemon's doing.
    Ours,
    /// Nothing: it is so, by somebody else's.
    Others,
    /// This, and then it is so by this daemon's doing.
    Write(Vec<Value>),
    /// This, though somebody else has done what matters.
    Tidy(Vec<Value>),
    /// Somebody else wants it otherwise.
    Fought,
}

impl<'a> Place<'a> {
    pub(super) fn new(client: Client, owner: &'a OwnerObject) -> Self {
        let (group, plural) = rights::owners(owner.tool);
        let (version, kind) = match owner.tool {
            GitopsTool::ArgoCd => ("v1alpha1", "Application"),
            GitopsTool::FluxKustomization => ("v1", "Kustomization"),
            GitopsTool::FluxHelmRelease => ("v2", "HelmRelease"),
        };
        let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        Self { owner, api: Api::namespaced_with(client, &owner.namespace, &kind) }
    }

    /// None where there is no such object.
    async fn read(&self) -> Result<Option<Read>, Outcome> {
        let found = answer(self.api.get_opt(&self.owner.name)).await;
        let found = found.map_err(|error| Outcome::Transient(format!("{}: {}", self.owner, describe(&error))))?;
        Ok(found.map(|found| Read {
            uid: found.uid().unwrap_or_default(),
            version: found.resource_version().unwrap_or_default(),
            has_annotations: found.metadata.annotations.is_some(),
            mark: found.annotations().get(MARK).and_then(|mark| serde_json::from_str(mark).ok()),
            writer: writer(self.owner, &found.metadata),
            data: found.data,
        }))
    }

    async fn patch(&self, read: &Read, change: Vec<Value>, earnest: Earnest) -> Result<(), kube::Error> {
        let mut operations = vec![
            json!({"op": "test", "path": "/metadata/uid", "value": read.uid}),
            json!({"op": "test", "path": "/metadata/resourceVersion", "value": read.version}),
        ];
        operations.extend(change);
        let patch = serde_json::from_value(Value::Array(operations)).map_err(kube::Error::SerdeError)?;
        let params = PatchParams {
            dry_run: earnest == Earnest::DryRun,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        answer(self.api.patch(&self.owner.name, &params, &Patch::Json::<DynamicObject>(patch))).await.map(|_| ())
    }
}

impl Read {
    fn is_paused(&self, tool: GitopsTool) -> bool {
        match tool {
            GitopsTool::ArgoCd => match self.data.pointer(AUTOMATED) {
                None | Some(Value::Null) => true,
                Some(automated) => automated.get("enabled") == Some(&Value::Bool(false)),
            },
            GitopsTool::FluxKustomization | GitopsTool::FluxHelmRelease => {
                self.data.pointer(SUSPEND) == Some(&Value::Bool(true))
            }
        }
    }

    /// Whether Flux has begun to bring what its source says; it goes on with that though it is told to wait. Between two tries
    /// of what failed it says another word.
    fn reconciles(&self) -> bool {
        let conditions = self.data.pointer("/status/conditions").and_then(Value::as_array);
        let is = |condition: &Value, key: &str, value: &str| condition.get(key).and_then(Value::as_str) == Some(value);
        conditions.into_iter().flatten().any(|condition| {
            is(condition, "type", "Reconciling")
                && is(condition, "status", "True")
                && is(condition, "reason", "Progressing")
        })
    }

    /// A sync of Argo CD that was begun goes on whatever the policy has become.
    fn syncs(&self) -> bool {
        let phase = self.data.pointer("/status/operationState/phase").and_then(Value::as_str);
        self.data.get("operation").is_some_and(|operation| !operation.is_null())
            || matches!(phase, Some("Running" | "Terminating"))
    }

    /// The name in the mark by which this pause is known. Before the daemon had a Lease, it was the workload's alone.
    fn name(&self, by: By<'_>, wish: Wish) -> String {
        let (name, alone) = (by.name(), by.workload.as_str());
        let is_known = |name: &str| self.mark.as_ref().is_some_and(|mark| mark.workloads.contains(name));
        match wish {
            Wish::Paused { anew: true } => name,
            Wish::Paused { anew: false } | Wish::GoingOn if !is_known(&name) && is_known(alone) => alone.to_owned(),
            Wish::Paused { anew: false } | Wish::GoingOn => name,
        }
    }

    fn next(&self, tool: GitopsTool, workload: &str, wish: Wish) -> Next {
        let known = self.mark.clone().filter(|mark| mark.workloads.contains(workload));
        match (wish, self.is_paused(tool), known) {
            (Wish::Paused { .. }, true, Some(_)) => Next::Ours,
            (Wish::Paused { .. }, true, None) => match &self.mark {
                Some(mark) => Next::Write(self.marked(Mark { workloads: with(mark, workload), ..mark.clone() })),
                None => Next::Others,
            },
            (Wish::Paused { anew: false }, false, _) => Next::Fought,
            (Wish::Paused { anew: true }, false, _) => Next::Write(self.paused(tool, workload)),
            (Wish::GoingOn, _, None) => Next::Others,
            (Wish::GoingOn, is_paused, Some(mut mark)) => {
                mark.workloads.remove(workload);
                let is_last = mark.workloads.is_empty();
                let mut change = if is_last { vec![unmarked()] } else { self.marked(mark.clone()) };
                if is_last && is_paused {
                    change.extend(self.going_on(tool, mark));
                }
                if is_paused { Next::Write(change) } else { Next::Tidy(change) }
            }
        }
    }

    fn paused(&self, tool: GitopsTool, workload: &str) -> Vec<Value> {
        let workloads = BTreeSet::from([workload.to_owned()]);
        let (change, automated) = match tool {
            GitopsTool::ArgoCd => (json!({"op": "remove", "path": AUTOMATED}), self.data.pointer(AUTOMATED).cloned()),
            GitopsTool::FluxKustomization | GitopsTool::FluxHelmRelease => {
                (json!({"op": "add", "path": SUSPEND, "value": true}), None)
            }
        };
        let mut all = self.marked(Mark { workloads, automated });
        all.push(change);
        all
    }

    /// As it was. Where Argo CD's own policy was emptied altogether, it is made again.
    fn going_on(&self, tool: GitopsTool, mark: Mark) -> Vec<Value> {
        match tool {
            GitopsTool::ArgoCd => {
                let automated = mark.automated.unwrap_or_else(|| json!({}));
                match self.data.pointer("/spec/syncPolicy") {
                    Some(Value::Object(_)) => vec![json!({"op": "add", "path": AUTOMATED, "value": automated})],
                    _ => vec![json!({"op": "add", "path": "/spec/syncPolicy", "value": {"automated": automated}})],
                }
            }
            GitopsTool::FluxKustomization | GitopsTool::FluxHelmRelease => {
                vec![json!({"op": "add", "path": SUSPEND, "value": false})]
            }
        }
    }

    fn marked(&self, mark: Mark) -> Vec<Value> {
        let text = json!(mark).to_string();
        if self.has_annotations {
            vec![json!({"op": "add", "path": path_of_mark(), "value": text})]
        } else {
            vec![json!({"op": "add", "path": "/metadata/annotations", "value": {MARK: text}})]
        }
    }
}

/// Who would let it go on: what writes the very field by which it is paused.
fn writer(owner: &OwnerObject, meta: &ObjectMeta) -> Option<String> {
    if let Some(set) = meta.owner_references.iter().flatten().find(|of| of.kind == "ApplicationSet") {
        return Some(format!("ApplicationSet {}", set.name));
    }
    let path = match owner.tool {
        GitopsTool::ArgoCd => ["f:spec", "f:syncPolicy"],
        GitopsTool::FluxKustomization | GitopsTool::FluxHelmRelease => ["f:spec", "f:suspend"],
    };
    // One that is in the repository that it brings does nothing while it is paused.
    let others = restorers(meta, &path).into_iter().find(|writer| !owner.may_be(writer));
    others.map(|writer| writer.to_string())
}

fn with(mark: &Mark, workload: &str) -> BTreeSet<String> {
    mark.workloads.iter().cloned().chain([workload.to_owned()]).collect()
}

fn unmarked() -> Value {
    json!({"op": "remove", "path": path_of_mark()})
}

fn path_of_mark() -> String {
    format!("/metadata/annotations/{}", MARK.replace('/', "~1"))
}

/// Does it. [`Outcome::Applied`]: it is so by this daemon's doing, now or before a crash; [`Outcome::AlreadyInEffect`]: by
/// somebody else's. A sync that is under way is waited for until `deadline`. Nothing is written once the workload is held.
pub(super) async fn settle(
    place: &Place<'_>,
    by: By<'_>,
    wish: Wish,
    is_held: IsHeld<'_>,
    deadline: Instant,
) -> Outcome {
    let outcome = match attempt(place, by, wish, is_held).await {
        Ok(outcome) | Err(outcome) => outcome,
    };
    match wish {
        Wish::Paused { .. } if outcome.is_done() => match quiet(place, deadline).await {
            Ok(()) => outcome,
            Err(why) => why,
        },
        Wish::Paused { .. } | Wish::GoingOn => outcome,
    }
}

async fn attempt(place: &Place<'_>, by: By<'_>, wish: Wish, is_held: IsHeld<'_>) -> Result<Outcome, Outcome> {
    let owner = place.owner;
    let Some(mut read) = place.read().await? else { return Ok(gone(owner, wish)) };
    for _ in 0..ATTEMPTS {
        let (change, done) = match read.next(owner.tool, &read.name(by, wish), wish) {
            Next::Ours => return Ok(Outcome::Applied),
            Next::Others => return Ok(Outcome::AlreadyInEffect),
            Next::Fought => return Ok(Outcome::Conflict(format!("{owner} was let go on by someone else"))),
            Next::Write(change) => (change, Outcome::Applied),
            Next::Tidy(change) => (change, Outcome::AlreadyInEffect),
        };
        if is_held() {
            return Ok(held(owner));
        }
        let error = match place.patch(&read, change, Earnest::Write).await {
            Ok(()) => return Ok(done),
            Err(error) => error,
        };
        let before = read.version;
        read = match place.read().await.map_err(|unread| unsettled(&error, unread))? {
            Some(read) => read,
            None => return Ok(gone(owner, wish)),
        };
        if read.version == before {
            return Ok(refused(&error));
        }
        // The write may have arrived, though its answer did not.
        if matches!((wish, read.next(owner.tool, &read.name(by, wish), wish)), (Wish::GoingOn, Next::Others)) {
            return Ok(done);
        }
    }
    Ok(Outcome::Transient(format!("{owner} changed {ATTEMPTS} times while it was to be written")))
}

fn gone(owner: &OwnerObject, wish: Wish) -> Outcome {
    match wish {
        Wish::Paused { .. } => Outcome::Denied(format!("there is no {owner}")),
        Wish::GoingOn => Outcome::AlreadyInEffect,
    }
}

/// Waits until no sync is under way.
async fn quiet(place: &Place<'_>, deadline: Instant) -> Result<(), Outcome> {
    let flux_deadline = deadline.min(Instant::now() + FLUX_LIMIT);
    loop {
        let Some(read) = place.read().await? else { return Ok(()) };
        let is_late = |deadline: Instant| Instant::now() + POLL + POLL >= deadline;
        match place.owner.tool {
            GitopsTool::ArgoCd if !read.syncs() => return Ok(()),
            GitopsTool::ArgoCd if is_late(deadline) => return Err(Outcome::Transient(under_way(place.owner))),
            GitopsTool::FluxKustomization | GitopsTool::FluxHelmRelease if !read.reconciles() => return Ok(()),
            GitopsTool::FluxKustomization | GitopsTool::FluxHelmRelease if is_late(flux_deadline) => {
                tracing::warn!(owner = %place.owner, "paused, though what it had begun before is not over");
                return Ok(());
            }
            GitopsTool::ArgoCd | GitopsTool::FluxKustomization | GitopsTool::FluxHelmRelease => sleep(POLL).await,
        }
    }
}

fn under_way(owner: &OwnerObject) -> String {
    format!("a sync of {owner} is under way, and would write over a rollback: `argocd app terminate-op` ends it")
}

/// Looks whether an owner could be paused, and has the API server look at the very write.
///
/// # Errors
/// Why it could not be.
pub(super) async fn rehearse(place: &Place<'_>) -> Result<(), Outcome> {
    let owner = place.owner;
    let mut last = Outcome::AlreadyInEffect;
    for _ in 0..ATTEMPTS {
        let read = place.read().await?.ok_or_else(|| Outcome::Denied(format!("there is no {owner}")))?;
        if read.syncs() {
            return Err(Outcome::Denied(under_way(owner)));
        }
        if read.is_paused(owner.tool) {
            return Ok(());
        }
        if let Some(writer) = &read.writer {
            return Err(Outcome::Denied(format!("{writer} writes {owner}, and would let it go on at once")));
        }
        match place.patch(&read, read.paused(owner.tool, ""), Earnest::DryRun).await {
            Ok(()) => return Ok(()),
            Err(error) => last = refused(&error),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLUX: GitopsTool = GitopsTool::FluxKustomization;
    const PAUSE: Wish = Wish::Paused { anew: true };

    fn read(data: Value, mark: Option<Mark>) -> Read {
        Read { data, mark, has_annotations: true, ..Read::default() }
    }

    fn mark(workloads: &[&str]) -> Option<Mark> {
        let workloads = workloads.iter().map(|name| (*name).to_owned()).collect();
        Some(Mark { workloads, automated: None })
    }

    fn suspended(is: bool, by: Option<Mark>) -> Read {
        read(json!({ "spec": { "suspend": is } }), by)
    }

    fn paths(next: Next) -> Vec<String> {
        let (Next::Write(change) | Next::Tidy(change)) = next else { panic!("{next:?}") };
        change.iter().map(|one| format!("{} {}", one["op"].as_str().unwrap(), one["path"].as_str().unwrap())).collect()
    }

    #[test]
    fn a_pause_of_somebody_elses_is_left_to_them() {
        assert_eq!(suspended(true, None).next(FLUX, "shop", PAUSE), Next::Others);
        assert_eq!(suspended(true, None).next(FLUX, "shop", Wish::GoingOn), Next::Others);
        assert_eq!(suspended(true, mark(&["cart"])).next(FLUX, "shop", Wish::GoingOn), Next::Others);
        assert_eq!(suspended(true, mark(&["shop"])).next(FLUX, "shop", PAUSE), Next::Ours);
    }

    #[test]
    fn what_was_let_go_on_by_somebody_else_is_not_paused_again() {
        let again = Wish::Paused { anew: false };
        assert_eq!(suspended(false, mark(&["shop"])).next(FLUX, "shop", again), Next::Fought);
        let tidied = suspended(false, mark(&["shop"])).next(FLUX, "shop", Wish::GoingOn);
        assert!(matches!(tidied, Next::Tidy(_)));
        assert_eq!(paths(tidied), ["remove /metadata/annotations/rollbackd.dev~1paused"]);
    }

    #[test]
    fn who_would_let_it_go_on_is_named() {
        let told = |tool, meta: Value| {
            let (context, namespace, name) = (None, "argocd".to_owned(), "shop".to_owned());
            let owner = OwnerObject { context, tool, namespace, name };
            let mut meta: ObjectMeta = serde_json::from_value(meta).unwrap();
            meta.name = Some("shop".to_owned());
            writer(&owner, &meta)
        };
        let argo = |meta| told(GitopsTool::ArgoCd, meta);
        let set =
            json!([{ "apiVersion": "argoproj.io/v1alpha1", "kind": "ApplicationSet", "name": "all", "uid": "1" }]);
        assert_eq!(argo(json!({ "ownerReferences": set })).unwrap(), "ApplicationSet all");
        let tracked = |by: &str| {
            let id = format!("{by}:argoproj.io/Application:argocd/shop");
            argo(json!({ "annotations": { "argocd.argoproj.io/tracking-id": id } }))
        };
        assert_eq!(tracked("root").unwrap(), "Argo CD Application root");
        assert_eq!(tracked("shop"), None, "it is in its own repository");
        let labelled = json!({ "labels": { "argocd.argoproj.io/instance": "root" } });
        assert_eq!(argo(labelled).unwrap(), "Argo CD Application root");
        assert_eq!(argo(json!({})), None);
        let applied = |name: &str, spec: Value| {
            let fields = json!([{
                "manager": "kustomize-controller", "operation": "Apply", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:spec": spec },
            }]);
            let labels =
                json!({ "kustomize.toolkit.fluxcd.io/name": name, "kustomize.toolkit.fluxcd.io/namespace": "argocd" });
            told(FLUX, json!({ "labels": labels, "managedFields": fields }))
        };
        let root = applied("root", json!({ "f:path": {}, "f:suspend": {} }));
        assert_eq!(root.unwrap(), "Flux Kustomization argocd/root");
        assert_eq!(applied("root", json!({ "f:path": {} })), None, "its manifest says nothing of it");
        assert_eq!(applied("shop", json!({ "f:suspend": {} })), None, "it is in its own repository");
    }

    #[test]
    fn flux_is_at_work_while_it_says_that_it_makes_progress() {
        let says = |status: &str, reason: &str| {
            let condition = json!({ "type": "Reconciling", "status": status, "reason": reason });
            read(json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }, condition] } }), None)
        };
        assert!(says("True", "Progressing").reconciles());
        assert!(!says("True", "ProgressingWithRetry").reconciles(), "it waits for its next try");
        assert!(!says("False", "Progressing").reconciles());
        assert!(!suspended(false, None).reconciles());
    }

    #[test]
    fn of_several_workloads_the_last_lets_it_go_on() {
        let both = suspended(true, mark(&["cart"])).next(FLUX, "shop", PAUSE);
        assert_eq!(paths(both), ["add /metadata/annotations/rollbackd.dev~1paused"]);
        let one = suspended(true, mark(&["cart", "shop"])).next(FLUX, "shop", Wish::GoingOn);
        assert_eq!(paths(one), ["add /metadata/annotations/rollbackd.dev~1paused"]);
        let last = suspended(true, mark(&["shop"])).next(FLUX, "shop", Wish::GoingOn);
        assert_eq!(paths(last), ["remove /metadata/annotations/rollbackd.dev~1paused", "add /spec/suspend"]);
    }

    #[test]
    fn another_daemon_with_a_workload_of_that_name_lets_nothing_go_on() {
        let home = |namespace: &str| Home { namespace: namespace.to_owned(), lease: "rollbackd".to_owned() };
        let (ours, theirs, shop) = (home("a"), home("b"), WorkloadId::new("shop"));
        let by = |home| By { home, workload: &shop };
        let next = |by: By<'_>, marked: &[&str], wish| {
            let read = suspended(true, mark(marked));
            read.next(FLUX, &read.name(by, wish), wish)
        };
        let kept = |next: Next| {
            let (Next::Write(change) | Next::Tidy(change)) = next else { panic!("{next:?}") };
            let kept = change[0]["value"].as_str().map(|text| serde_json::from_str::<Mark>(text).expect("a mark"));
            kept.map(|mark| mark.workloads.into_iter().collect::<Vec<_>>())
        };
        let both = ["a/rollbackd/shop", "b/rollbackd/shop"].map(str::to_owned).to_vec();
        assert_eq!(kept(next(by(Some(&theirs)), &["a/rollbackd/shop"], PAUSE)), Some(both));
        let [ours, theirs] = [Some(&ours), Some(&theirs)].map(by);
        let left = kept(next(ours, &["a/rollbackd/shop", "b/rollbackd/shop"], Wish::GoingOn));
        assert_eq!(left, Some(vec!["b/rollbackd/shop".to_owned()]));
        assert_eq!(next(theirs, &["a/rollbackd/shop"], Wish::GoingOn), Next::Others);
        // As it was written before it had a Lease.
        assert_eq!(kept(next(ours, &["shop"], Wish::GoingOn)), None);
        assert_eq!(next(ours, &["shop"], Wish::Paused { anew: false }), Next::Ours);
        let beside = ["a/rollbackd/shop", "shop"].map(str::to_owned).to_vec();
        assert_eq!(kept(next(ours, &["shop"], PAUSE)), Some(beside), "it may be of a daemon without one");
    }

    #[test]
    fn what_argo_cd_was_told_before_comes_back() {
        let before = json!({ "prune": true, "selfHeal": true });
        let running = read(json!({ "spec": { "syncPolicy": { "automated": before } } }), None);
        let Next::Write(change) = running.next(GitopsTool::ArgoCd, "shop", PAUSE) else { panic!("{running:?}") };
        let kept: Mark = serde_json::from_str(change[0]["value"].as_str().unwrap()).unwrap();
        assert_eq!(kept.automated.as_ref(), Some(&before));
        assert_eq!(change[1], json!({ "op": "remove", "path": AUTOMATED }));
        for (left, path, value) in [
            (json!({ "spec": { "syncPolicy": {} } }), AUTOMATED, before.clone()),
            (json!({ "spec": {} }), "/spec/syncPolicy", json!({ "automated": before })),
        ] {
            let next = read(left, Some(kept.clone())).next(GitopsTool::ArgoCd, "shop", Wish::GoingOn);
            let Next::Write(change) = next else { panic!("{next:?}") };
            assert_eq!(change[1], json!({ "op": "add", "path": path, "value": value }));
        }
        let by_hand = read(json!({ "spec": { "syncPolicy": { "automated": { "enabled": false } } } }), None);
        assert_eq!(by_hand.next(GitopsTool::ArgoCd, "shop", PAUSE), Next::Others);
    }

    #[test]
    fn a_sync_that_was_begun_is_seen() {
        let is = |data: Value| read(data, None).syncs();
        assert!(is(json!({ "operation": { "sync": {} } })));
        assert!(is(json!({ "status": { "operationState": { "phase": "Running" } } })));
        assert!(!is(json!({ "status": { "operationState": { "phase": "Succeeded" } } })));
    }
}
