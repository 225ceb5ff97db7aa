//! ConfigMaps and Secrets that go back with a release: read, compared, written as they were read, and read again.
//!
//! Neither has a generation. What is compared is its content; what fences the write is its uid and version.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::ask::answer;
use super::fields;
use super::object::{Earnest, FIELD_MANAGER, pointer};
use super::remembered::{LAST_APPLIED, carried, changed};
use super::sharing::unless_shared;
use super::write::{is_refusal, refused, unsettled};
use super::{Before, IsHeld, held};
use crate::cluster::describe;
use crate::cluster::facts::owners;
use crate::cluster::rights::plural;
use crate::cluster::settings::{Content, Keyring, LARGEST};
use crate::domain::id::{RevisionId, WorkloadId};
use crate::domain::policy::{ClusterObject, KubernetesSubject, OwnerObject};
use crate::domain::response::plan::Outcome;
use crate::domain::settings::{ContentId, Setting, SettingKind, ToKeep};
use crate::engine::ports::Shelf;

/// Writes that may miss because somebody labelled it meanwhile.
const ATTEMPTS: u32 = 5;

/// What is to be put back.
#[derive(Clone, Copy)]
pub(in crate::act) struct Restored<'a> {
    pub(in crate::act) workload: &'a WorkloadId,
    pub(in crate::act) object: &'a ClusterObject,
    pub(in crate::act) setting: &'a Setting,
    pub(in crate::act) expect: Option<&'a ContentId>,
    pub(in crate::act) content: &'a ContentId,
    pub(in crate::act) release: &'a RevisionId,
}

/// Where contents lie, and what it takes to read them.
#[derive(Clone, Copy)]
pub(in crate::act) struct Store<'a> {
    pub(in crate::act) shelf: &'a dyn Shelf,
    pub(in crate::act) keyring: &'a Keyring,
}

/// For whom it is looked whether it could be done, and the owners that are paused before.
#[derive(Clone, Copy)]
pub(super) struct Trial<'a> {
    pub(super) subject: &'a KubernetesSubject,
    pub(super) paused: &'a [&'a OwnerObject],
}

/// Whether it is done, unless the workload is held by then, or only looked whether it could be.
#[derive(Clone, Copy)]
enum Aim<'a> {
    Do(IsHeld<'a>),
    Try(Trial<'a>),
}

/// Where it is on the way.
enum Standing {
    There,
    Before(Box<DynamicObject>),
    Gone,
    Elsewhere,
}

impl Restored<'_> {
    async fn standing(&self, api: &Api<DynamicObject>, keyring: &Keyring) -> Result<Standing, Outcome> {
        let found = answer(api.get_opt(&self.setting.name)).await;
        let found = found.map_err(|error| Outcome::Transient(format!("{}: {}", self.setting, describe(&error))))?;
        let Some(map) = found else { return Ok(Standing::Gone) };
        let content = keyring.id(self.setting.kind, &Content::of(&map));
        let content = content.ok_or_else(|| Outcome::Denied(format!("there is no key for {}", self.setting)))?;
        Ok(match self.expect {
            _ if content == *self.content => Standing::There,
            Some(expect) if content == *expect => Standing::Before(Box::new(map)),
            Some(_) | None => Standing::Elsewhere,
        })
    }

    async fn kept(&self, store: Store<'_>) -> Result<Content, Outcome> {
        let found = store.shelf.find(self.workload.clone(), self.content.clone()).await;
        let found = found.map_err(|error| Outcome::Transient(error.0))?;
        let lost = |why: String| Outcome::Denied(format!("what {} said with {}: {why}", self.setting, self.release));
        let bytes = found.ok_or_else(|| lost("it is not kept any more".to_owned()))?;
        store.keyring.open(self.setting.kind, self.content, &bytes).map_err(lost)
    }

    /// Keeps what is about to be written over, so that it can be put forward again. Where that fails the write is made all the
    /// same: it is what brings the good release back.
    async fn keep_before(&self, map: &DynamicObject, store: Store<'_>) {
        let Some(id) = self.expect else { return };
        let Ok(bytes) = store.keyring.close(self.setting.kind, id, &Content::of(map)) else { return };
        if bytes.len() > LARGEST {
            return;
        }
        let kept = store.shelf.put(self.workload.clone(), [(id.clone(), bytes)].into(), None).await;
        if let Err(error) = kept {
            tracing::warn!(what = %self.setting, %error, "what is written over could not be kept");
        }
    }

    fn unless_held(&self, aim: Aim<'_>) -> Result<(), Outcome> {
        match aim {
            Aim::Do(is_held) if is_held() => Err(held(self.setting)),
            Aim::Do(_) | Aim::Try(_) => Ok(()),
        }
    }

    fn elsewhere(&self) -> Outcome {
        Outcome::Conflict(format!(
            "{} in {} says something else than while the release was judged: somebody changed it, and it is left alone",
            self.setting, self.object.namespace
        ))
    }
}

/// Puts it back, unless the workload is held by then. The outcome is found by reading.
pub(super) async fn restore(
    client: &Client,
    store: Store<'_>,
    what: Restored<'_>,
    is_held: IsHeld<'_>,
    before: &Before<Vec<ManagedFieldsEntry>>,
) -> Outcome {
    let mut before = before.lock().await;
    let outcome = match attempt(client, store, what, Aim::Do(is_held), &mut before).await {
        Ok(outcome) | Err(outcome) => outcome,
    };
    if let (true, Some(before)) = (outcome.is_done(), &*before) {
        let api = api(client, &what.object.namespace, what.setting.kind);
        let parts: [&[&str]; 2] = [&["f:data"], &["f:binaryData"]];
        fields::hand_back(&api, &what.setting.name, before, &parts, is_held).await;
    }
    outcome
}

/// Has the API server look at the very write that would be made.
///
/// # Errors
/// Why it could not be made, or would be undone, or whom else it would change.
pub(super) async fn rehearse(
    client: &Client,
    store: Store<'_>,
    what: Restored<'_>,
    trial: Trial<'_>,
) -> Result<(), Outcome> {
    match attempt(client, store, what, Aim::Try(trial), &mut None).await {
        Ok(outcome) | Err(outcome) if outcome.is_done() => Ok(()),
        Ok(outcome) | Err(outcome) => Err(outcome),
    }
}

/// # Errors
/// Who would write it again, where that is none of the paused.
fn unless_undone(map: &DynamicObject, paused: &[&OwnerObject]) -> Result<(), Outcome> {
    let all = owners(&map.metadata, &["f:data"]);
    let Some(owner) = all.iter().find(|it| !paused.iter().any(|one| one.may_be(it))) else { return Ok(()) };
    let why = format!("{owner} writes it, is not paused by this rollback, and would undo what goes back");
    Err(Outcome::Denied(why))
}

/// `managers` are those who managed what until it was written last.
async fn attempt(
    client: &Client,
    store: Store<'_>,
    what: Restored<'_>,
    aim: Aim<'_>,
    managers: &mut Option<Vec<ManagedFieldsEntry>>,
) -> Result<Outcome, Outcome> {
    let api = api(client, &what.object.namespace, what.setting.kind);
    let mut standing = what.standing(&api, store.keyring).await?;
    if let Standing::There = standing {
        return Ok(Outcome::AlreadyInEffect);
    }
    let content = what.kept(store).await?;
    let earnest = match aim {
        Aim::Do(_) => Earnest::Write,
        Aim::Try(trial) => {
            unless_shared(client, what, trial.subject).await?;
            Earnest::DryRun
        }
    };
    for _ in 0..ATTEMPTS {
        let error = match &standing {
            Standing::There => return Ok(Outcome::AlreadyInEffect),
            Standing::Elsewhere => return Err(what.elsewhere()),
            Standing::Before(map) if map.data.get("immutable") == Some(&Value::Bool(true)) => {
                return Err(immutable(what));
            }
            Standing::Before(map) => {
                match aim {
                    Aim::Do(_) => what.keep_before(map, store).await,
                    Aim::Try(trial) => unless_undone(map, trial.paused)?,
                }
                what.unless_held(aim)?;
                managers.clone_from(&map.metadata.managed_fields);
                write(&api, (what.setting.kind, map), &content, earnest).await.err()
            }
            Standing::Gone => {
                what.unless_held(aim)?;
                // Nobody manages what is not there.
                *managers = None;
                create(&api, what, &content, earnest).await.err()
            }
        };
        let Some(error) = error else { return Ok(Outcome::Applied) };
        let before = version(&standing);
        standing = what.standing(&api, store.keyring).await.map_err(|unread| unsettled(&error, unread))?;
        match &standing {
            Standing::There if is_refusal(&error) => return Ok(Outcome::AlreadyInEffect),
            Standing::There => return Ok(Outcome::Applied),
            Standing::Before(_) | Standing::Gone if version(&standing) == before => return Ok(refused(&error)),
            Standing::Before(_) | Standing::Gone | Standing::Elsewhere => {}
        }
    }
    Ok(Outcome::Transient(format!("{} changed {ATTEMPTS} times while it was to be written", what.setting)))
}

fn version(standing: &Standing) -> Option<String> {
    match standing {
        Standing::Before(map) => map.resource_version(),
        Standing::There | Standing::Gone | Standing::Elsewhere => None,
    }
}

fn immutable(what: Restored<'_>) -> Outcome {
    Outcome::Denied(format!(
        "{} in {} is immutable and says something else than with {}: it could only be deleted and made again, which is left to a human",
        what.setting, what.object.namespace, what.release
    ))
}

async fn write(
    api: &Api<DynamicObject>,
    (kind, map): (SettingKind, &DynamicObject),
    content: &Content,
    earnest: Earnest,
) -> Result<(), kube::Error> {
    let operations = Value::Array(change(kind, map, content));
    let patch = serde_json::from_value(operations).map_err(kube::Error::SerdeError)?;
    let params = PatchParams {
        dry_run: earnest == Earnest::DryRun,
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    answer(api.patch(&map.name_any(), &params, &Patch::Json::<DynamicObject>(patch))).await.map(|_| ())
}

/// The operations that give it this content, only as it was read. What `kubectl apply` remembers follows: it would otherwise
/// leave in place what this content has and the next manifest has not.
fn change(kind: SettingKind, map: &DynamicObject, content: &Content) -> Vec<Value> {
    let mut operations = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": map.uid()}),
        json!({"op": "test", "path": "/metadata/resourceVersion", "value": map.resource_version()}),
    ];
    let parts = match kind {
        SettingKind::ConfigMap => vec![("data", &content.data), ("binaryData", &content.binary_data)],
        SettingKind::Secret => vec![("data", &content.data)],
    };
    for (key, value) in &parts {
        operations.push(json!({"op": "add", "path": format!("/{key}"), "value": value}));
    }
    let remembered = map.annotations().get(LAST_APPLIED).and_then(|text| {
        changed(text, |fields| {
            // Text in a Secret's manifest is written over its data.
            fields.remove("stringData");
            for (key, value) in &parts {
                match carried(fields.get(*key), map.data.get(*key), Some(&json!(value))) {
                    Some(value) if value != json!({}) => fields.insert((*key).to_owned(), value),
                    Some(_) | None => fields.remove(*key),
                };
            }
            Some(())
        })
    });
    if let Some(manifest) = remembered {
        operations.push(json!({"op": "replace", "path": pointer(LAST_APPLIED), "value": manifest}));
    }
    operations
}

async fn create(
    api: &Api<DynamicObject>,
    what: Restored<'_>,
    content: &Content,
    earnest: Earnest,
) -> Result<(), kube::Error> {
    let mut object = DynamicObject::new(&what.setting.name, &resource(what.setting.kind));
    object.data = serde_json::to_value(content).map_err(kube::Error::SerdeError)?;
    let params = PostParams { dry_run: earnest == Earnest::DryRun, field_manager: Some(FIELD_MANAGER.to_owned()) };
    answer(api.create(&params, &object)).await.map(|_| ())
}

fn api(client: &Client, namespace: &str, kind: SettingKind) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(kind))
}

fn resource(kind: SettingKind) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", &kind.to_string()), plural(kind))
}

/// Reads what is to be kept and puts it on the shelf: of each setting that could not be kept, why.
///
/// # Errors
/// Why nothing could be kept.
pub(in crate::act) async fn keep(
    client: &Client,
    store: Store<'_>,
    workload: &WorkloadId,
    wanted: &ToKeep,
) -> Result<BTreeMap<Setting, String>, String> {
    let (mut unkept, mut contents) = (BTreeMap::new(), BTreeMap::new());
    let mut needed: BTreeSet<ContentId> = wanted.needed.clone();
    for (setting, content) in &wanted.settings {
        let Some(id) = content else { continue };
        let known = store.shelf.find(workload.clone(), id.clone()).await.map_err(|error| error.0)?;
        if known.is_some() {
            continue;
        }
        let api = api(client, &wanted.object.namespace, setting.kind);
        match read(&api, store.keyring, setting, id).await? {
            Ok(bytes) => {
                contents.insert(id.clone(), bytes);
            }
            Err(why) => {
                needed.remove(id);
                unkept.insert(setting.clone(), why);
            }
        }
    }
    store.shelf.put(workload.clone(), contents, Some(needed)).await.map_err(|error| error.0)?;
    Ok(unkept)
}

/// What one says, if it still says what was seen; or why it is not kept.
async fn read(
    api: &Api<DynamicObject>,
    keyring: &Keyring,
    setting: &Setting,
    id: &ContentId,
) -> Result<Result<Vec<u8>, String>, String> {
    let found = answer(api.get_opt(&setting.name)).await.map_err(|error| describe(&error))?;
    let is_as_seen = |content: &Content| keyring.id(setting.kind, content).as_ref() == Some(id);
    let Some(content) = found.as_ref().map(Content::of).filter(is_as_seen) else {
        return Ok(Err("it changed while it was to be kept".to_owned()));
    };
    let bytes = match keyring.close(setting.kind, id, &content) {
        Ok(bytes) => bytes,
        Err(why) => return Ok(Err(why)),
    };
    if bytes.len() > LARGEST {
        return Ok(Err(format!("it has {} bytes, more than the {LARGEST} that are kept", bytes.len())));
    }
    Ok(Ok(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(annotations: Value) -> DynamicObject {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "m", "uid": "u1", "resourceVersion": "7", "annotations": annotations },
            "data": { "a": "2", "new": "x" },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn only_the_content_is_written_and_only_as_it_was_read() {
        let content = Content { data: [("a".to_owned(), "1".to_owned())].into(), ..Content::default() };
        let paths = |kind: SettingKind, map: &DynamicObject| -> Vec<String> {
            let told = |one: &Value| format!("{} {}", one["op"].as_str().unwrap(), one["path"].as_str().unwrap());
            change(kind, map, &content).iter().map(told).collect()
        };
        let fenced = ["test /metadata/uid", "test /metadata/resourceVersion", "add /data", "add /binaryData"];
        assert_eq!(paths(SettingKind::ConfigMap, &map(json!({}))), fenced);
        assert_eq!(paths(SettingKind::Secret, &map(json!({}))), fenced[..3]);
        let applied = r#"{"metadata":{"name":"m"},"data":{"a":"2","new":"x"}}"#;
        let applied = map(json!({ "kubectl.kubernetes.io/last-applied-configuration": applied }));
        assert_eq!(paths(SettingKind::ConfigMap, &applied)[4..], [format!("replace {}", pointer(LAST_APPLIED))]);
        let manifest = change(SettingKind::ConfigMap, &applied, &content)[4]["value"].clone();
        assert_eq!(manifest, "{\"data\":{\"a\":\"1\"},\"metadata\":{\"name\":\"m\"}}\n");
    }
}
