//! ConfigMaps that go back with a release: read, compared, written as they were read, and read again.
//!
//! A ConfigMap has no generation. What is compared is its content; what fences the write is its uid and version.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::object::{Earnest, FIELD_MANAGER, LAST_APPLIED, pointer};
use super::write::{is_refusal, refused, unsettled};
use crate::cluster::describe;
use crate::cluster::settings::{Content, LARGEST};
use crate::domain::id::{RevisionId, WorkloadId};
use crate::domain::policy::ClusterObject;
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

/// Where it is on the way.
enum Standing {
    There,
    Before(Box<ConfigMap>),
    Gone,
    Elsewhere,
}

impl Restored<'_> {
    fn api(&self, client: &Client) -> Api<ConfigMap> {
        Api::namespaced(client.clone(), &self.object.namespace)
    }

    async fn standing(&self, api: &Api<ConfigMap>) -> Result<Standing, Outcome> {
        let found = api.get_opt(&self.setting.name).await;
        let found = found.map_err(|error| Outcome::Transient(format!("{}: {}", self.setting, describe(&error))))?;
        let Some(map) = found else { return Ok(Standing::Gone) };
        let content = Content::of(&map).id();
        Ok(match self.expect {
            _ if content == *self.content => Standing::There,
            Some(expect) if content == *expect => Standing::Before(Box::new(map)),
            Some(_) | None => Standing::Elsewhere,
        })
    }

    async fn kept(&self, shelf: &dyn Shelf) -> Result<Content, Outcome> {
        let found = shelf.find(self.workload.clone(), self.content.clone()).await;
        let found = found.map_err(|error| Outcome::Transient(error.0))?;
        let lost = |why: String| Outcome::Denied(format!("what {} said with {}: {why}", self.setting, self.release));
        let bytes = found.ok_or_else(|| lost("it is not kept any more".to_owned()))?;
        Content::decode(&bytes, self.content).map_err(lost)
    }

    fn elsewhere(&self) -> Outcome {
        Outcome::Conflict(format!(
            "{} in {} says something else than while the release was judged: somebody changed it, and it is left alone",
            self.setting, self.object.namespace
        ))
    }
}

/// Puts it back. The outcome is found by reading.
pub(in crate::act) async fn restore(client: &Client, shelf: &dyn Shelf, what: Restored<'_>) -> Outcome {
    match attempt(client, shelf, what, Earnest::Write).await {
        Ok(outcome) | Err(outcome) => outcome,
    }
}

/// Has the API server look at the very write that would be made.
///
/// # Errors
/// Why it could not be made.
pub(super) async fn rehearse(client: &Client, shelf: &dyn Shelf, what: Restored<'_>) -> Result<(), String> {
    match attempt(client, shelf, what, Earnest::DryRun).await {
        Ok(Outcome::Applied | Outcome::AlreadyInEffect) => Ok(()),
        Ok(Outcome::Conflict(why) | Outcome::Transient(why) | Outcome::Denied(why) | Outcome::TimedOut(why))
        | Err(Outcome::Conflict(why) | Outcome::Transient(why) | Outcome::Denied(why) | Outcome::TimedOut(why)) => {
            Err(why)
        }
        Err(Outcome::Applied | Outcome::AlreadyInEffect) => Ok(()),
    }
}

async fn attempt(client: &Client, shelf: &dyn Shelf, what: Restored<'_>, earnest: Earnest) -> Result<Outcome, Outcome> {
    let api = what.api(client);
    let mut standing = what.standing(&api).await?;
    if let Standing::There = standing {
        return Ok(Outcome::AlreadyInEffect);
    }
    let content = what.kept(shelf).await?;
    for _ in 0..ATTEMPTS {
        let error = match &standing {
            Standing::There => return Ok(Outcome::AlreadyInEffect),
            Standing::Elsewhere => return Err(what.elsewhere()),
            Standing::Before(map) if map.immutable == Some(true) => return Err(immutable(what)),
            Standing::Before(map) => write(&api, map, &content, earnest).await.err(),
            Standing::Gone => create(&api, what, &content, earnest).await.err(),
        };
        let Some(error) = error else { return Ok(Outcome::Applied) };
        let before = version(&standing);
        standing = what.standing(&api).await.map_err(|unread| unsettled(&error, unread))?;
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

async fn write(api: &Api<ConfigMap>, map: &ConfigMap, content: &Content, earnest: Earnest) -> Result<(), kube::Error> {
    let operations = Value::Array(change(map, content));
    let patch = serde_json::from_value(operations).map_err(kube::Error::SerdeError)?;
    let params = PatchParams {
        dry_run: earnest == Earnest::DryRun,
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch(&map.name_any(), &params, &Patch::Json::<ConfigMap>(patch)).await.map(|_| ())
}

/// The operations that give it this content, only as it was read. What `kubectl apply` remembers follows: it would otherwise
/// leave in place what this content has and the next manifest has not.
fn change(map: &ConfigMap, content: &Content) -> Vec<Value> {
    let mut operations = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": map.uid()}),
        json!({"op": "test", "path": "/metadata/resourceVersion", "value": map.resource_version()}),
        json!({"op": "add", "path": "/data", "value": content.data}),
        json!({"op": "add", "path": "/binaryData", "value": content.binary_data}),
    ];
    let remembered = map.annotations().get(LAST_APPLIED).and_then(|text| {
        let mut manifest: Value = serde_json::from_str(text).ok()?;
        let fields = manifest.as_object_mut()?;
        for (key, parts) in [("data", &content.data), ("binaryData", &content.binary_data)] {
            if parts.is_empty() {
                fields.remove(key);
            } else {
                fields.insert(key.to_owned(), json!(parts));
            }
        }
        Some(format!("{manifest}\n"))
    });
    if let Some(manifest) = remembered {
        operations.push(json!({"op": "replace", "path": pointer(LAST_APPLIED), "value": manifest}));
    }
    operations
}

async fn create(
    api: &Api<ConfigMap>,
    what: Restored<'_>,
    content: &Content,
    earnest: Earnest,
) -> Result<(), kube::Error> {
    let object = json!({ "data": content.data, "binaryData": content.binary_data });
    let map: ConfigMap = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    let metadata = ObjectMeta { name: Some(what.setting.name.clone()), ..ObjectMeta::default() };
    let params = PostParams { dry_run: earnest == Earnest::DryRun, field_manager: Some(FIELD_MANAGER.to_owned()) };
    api.create(&params, &ConfigMap { metadata, ..map }).await.map(|_| ())
}

/// Reads what is to be kept and puts it on the shelf: of each setting that could not be kept, why.
///
/// # Errors
/// Why nothing could be kept.
pub(in crate::act) async fn keep(
    client: &Client,
    shelf: &dyn Shelf,
    workload: &WorkloadId,
    wanted: &ToKeep,
) -> Result<BTreeMap<Setting, String>, String> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &wanted.object.namespace);
    let (mut unkept, mut contents) = (BTreeMap::new(), BTreeMap::new());
    let mut needed: BTreeSet<ContentId> = wanted.needed.clone();
    for (setting, content) in &wanted.settings {
        let Some(id) = content else { continue };
        let known = shelf.find(workload.clone(), id.clone()).await.map_err(|error| error.0)?;
        if known.is_some() {
            continue;
        }
        match read(&api, setting, id).await? {
            Ok(bytes) => {
                contents.insert(id.clone(), bytes);
            }
            Err(why) => {
                needed.remove(id);
                unkept.insert(setting.clone(), why);
            }
        }
    }
    shelf.put(workload.clone(), contents, needed).await.map_err(|error| error.0)?;
    Ok(unkept)
}

/// What one says, if it still says what was seen; or why it is not kept.
async fn read(api: &Api<ConfigMap>, setting: &Setting, id: &ContentId) -> Result<Result<Vec<u8>, String>, String> {
    match setting.kind {
        SettingKind::ConfigMap => {}
        SettingKind::Secret => return Ok(Err("Secrets are not kept".to_owned())),
    }
    let found = api.get_opt(&setting.name).await.map_err(|error| describe(&error))?;
    let content = found.as_ref().map(Content::of).filter(|content| content.id() == *id);
    let Some(bytes) = content.map(|content| content.encode()) else {
        return Ok(Err("it changed while it was to be kept".to_owned()));
    };
    if bytes.len() > LARGEST {
        return Ok(Err(format!("it has {} bytes, more than the {LARGEST} that are kept", bytes.len())));
    }
    Ok(Ok(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(annotations: Value) -> ConfigMap {
        let object = json!({
            "metadata": { "name": "m", "uid": "u1", "resourceVersion": "7", "annotations": annotations },
            "data": { "a": "2", "new": "x" },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn only_the_content_is_written_and_only_as_it_was_read() {
        let content = Content { data: [("a".to_owned(), "1".to_owned())].into(), ..Content::default() };
        let paths = |map: &ConfigMap| -> Vec<String> {
            let told = |one: &Value| format!("{} {}", one["op"].as_str().unwrap(), one["path"].as_str().unwrap());
            change(map, &content).iter().map(told).collect()
        };
        let fenced = ["test /metadata/uid", "test /metadata/resourceVersion", "add /data", "add /binaryData"];
        assert_eq!(paths(&map(json!({}))), fenced);
        let applied = r#"{"metadata":{"name":"m"},"data":{"a":"2","new":"x"}}"#;
        let applied = map(json!({ "kubectl.kubernetes.io/last-applied-configuration": applied }));
        assert_eq!(paths(&applied)[4..], [format!("replace {}", pointer(LAST_APPLIED))]);
        let manifest = change(&applied, &content)[4]["value"].clone();
        assert_eq!(manifest, "{\"data\":{\"a\":\"1\"},\"metadata\":{\"name\":\"m\"}}\n");
    }
}
