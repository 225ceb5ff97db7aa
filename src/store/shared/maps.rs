//! The ConfigMaps that hold the copies: one a workload, each replaced only as it was read.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::api::{Api, DynamicObject, ListParams, PostParams, WatchEvent, WatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::time::timeout;

use super::copy::{Copy, WORKLOAD};
use crate::cluster::describe;
use crate::cluster::record_names::record_name;
use crate::domain::id::WorkloadId;

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(4);

/// How long all copies may take to be read.
const LIST_LIMIT: Duration = Duration::from_secs(15);

/// How long the API server is asked to keep a watch open, in seconds.
const OPEN: u32 = 60;

/// Objects a page of a list.
const PAGE: u32 = 100;

/// Says that a ConfigMap is one of these, and of which daemons.
const LABEL: &str = "rollbackd-lease";

/// A copy as it was read.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) name: String,
    /// Whose it says to be, where that is whose name it has.
    pub(super) workload: Option<WorkloadId>,
    /// Or what is wrong with it.
    pub(super) copy: Result<Copy, String>,
    /// A write that names it fails where anyone wrote since.
    pub(super) version: String,
    /// Whether it is among those that are listed: not where somebody took its label away.
    pub(super) is_listed: bool,
}

/// Why a copy was not written.
#[derive(Debug)]
pub(super) enum NotWritten {
    /// It is not as it was read, or is gone.
    Refused,
    /// Whether it was written is not known, or it may not be.
    Failed(String),
}

/// All ConfigMaps of the daemons that share a Lease.
#[derive(Clone)]
pub(super) struct Maps {
    api: Api<DynamicObject>,
    lease: String,
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Maps({})", self.lease)
    }
}

impl Maps {
    pub(super) fn new(client: Client, namespace: &str, lease: &str) -> Self {
        Self { api: Api::namespaced_with(client, namespace, &kind()), lease: lease.to_owned() }
    }

    pub(super) fn name(&self, workload: &WorkloadId) -> String {
        record_name(&self.lease, workload)
    }

    /// Every copy, and the version to go on from.
    pub(super) async fn list(&self) -> Result<(Vec<Read>, String), String> {
        let all = async {
            let mut params = ListParams::default().labels(&self.selector()).limit(PAGE);
            let mut found = Vec::new();
            loop {
                let page = self.api.list(&params).await.map_err(|error| describe(&error))?;
                found.extend(page.items.iter().map(|object| self.as_read(object)));
                match page.metadata.continue_.filter(|next| !next.is_empty()) {
                    Some(next) => params = params.continue_token(&next),
                    None => return Ok((found, page.metadata.resource_version.unwrap_or_default())),
                }
            }
        };
        timeout(LIST_LIMIT, all).await.unwrap_or_else(|_| Err(late(LIST_LIMIT)))
    }

    /// The copy of this name, if there is one.
    pub(super) async fn read(&self, name: &str) -> Result<Option<Read>, String> {
        match timeout(LIMIT, self.api.get_opt(name)).await {
            Ok(found) => Ok(found.map_err(|error| describe(&error))?.map(|object| self.as_read(&object))),
            Err(_) => Err(late(LIMIT)),
        }
    }

    /// Writes a copy over the version that was read, or as a new one; gives the new version.
    pub(super) async fn write(&self, copy: &Copy, over: Option<&str>) -> Result<String, NotWritten> {
        let failed = |why: String| NotWritten::Failed(why);
        let name = self.name(&copy.workload);
        let mut object = DynamicObject::new(&name, &kind());
        object.metadata.resource_version = over.map(str::to_owned);
        object.metadata.labels = Some([(LABEL.to_owned(), self.lease.clone())].into());
        object.data = json!({ "data": copy.encode().map_err(|error| failed(error.to_string()))? });
        let params = PostParams::default();
        let write = async {
            match over {
                Some(_) => self.api.replace(&name, &params, &object).await,
                None => self.api.create(&params, &object).await,
            }
        };
        match timeout(LIMIT, write).await {
            Ok(Ok(written)) => Ok(written.resource_version().unwrap_or_default()),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Err(NotWritten::Refused),
            Ok(Err(error)) => Err(failed(describe(&error))),
            Err(_) => Err(failed(late(LIMIT))),
        }
    }

    /// Gives a ConfigMap its label back, and changes nothing else of it; fails where anyone wrote since it was read.
    pub(super) async fn label(&self, found: &Read) -> Result<(), String> {
        let label = async {
            let mut object = self.api.get(&found.name).await?;
            object.metadata.resource_version = Some(found.version.clone());
            object.labels_mut().insert(LABEL.to_owned(), self.lease.clone());
            self.api.replace(&found.name, &PostParams::default(), &object).await
        };
        match timeout(LIMIT, label).await {
            Ok(labelled) => labelled.map(|_| ()).map_err(|error| describe(&error)),
            Err(_) => Err(late(LIMIT)),
        }
    }

    /// Every copy that changes after `version`.
    pub(super) async fn watch(&self, version: &str) -> Result<Watch, String> {
        let params = WatchParams::default().labels(&self.selector()).timeout(OPEN);
        match timeout(LIMIT, self.api.watch(&params, version)).await {
            Ok(opened) => Ok(Watch { maps: self.clone(), events: opened.map_err(|error| describe(&error))?.boxed() }),
            Err(_) => Err(late(LIMIT)),
        }
    }

    fn selector(&self) -> String {
        format!("{LABEL}={}", self.lease)
    }

    fn as_read(&self, object: &DynamicObject) -> Read {
        let part = |key: &str| object.data.get("data")?.get(key)?.as_str();
        let name = object.name_any();
        let workload = part(WORKLOAD).map(WorkloadId::new).filter(|workload| self.name(workload) == name);
        Read {
            name,
            copy: match &workload {
                Some(_) => Copy::decode(part),
                None => Err(format!("its `{WORKLOAD}` is missing, or not the one that it is named after")),
            },
            workload,
            version: object.resource_version().unwrap_or_default(),
            is_listed: object.labels().get(LABEL) == Some(&self.lease),
        }
    }
}

/// Changes, as they come.
pub(super) struct Watch {
    maps: Maps,
    events: BoxStream<'static, kube::Result<WatchEvent<DynamicObject>>>,
}

impl Watch {
    /// The next copy that has changed; none where the watch ends as it was asked to. Moves `version` on.
    pub(super) async fn next(&mut self, version: &mut String) -> Result<Option<Read>, String> {
        // One whose connection is dead ends as well.
        let patience = Duration::from_secs(u64::from(OPEN)) + LIMIT;
        loop {
            let event = match timeout(patience, self.events.next()).await {
                Err(_) => return Err("the watch was silent beyond its end".to_owned()),
                Ok(None) => return Ok(None),
                Ok(Some(event)) => event.map_err(|error| describe(&error))?,
            };
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let read = self.maps.as_read(&object);
                    version.clone_from(&read.version);
                    return Ok(Some(read));
                }
                // The next record makes it again, with all that was in it.
                WatchEvent::Deleted(object) => *version = object.resource_version().unwrap_or_default(),
                WatchEvent::Bookmark(bookmark) => *version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) => return Err(describe(&kube::Error::Api(status))),
            }
        }
    }
}

fn kind() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "ConfigMap"), "configmaps")
}

fn late(limit: Duration) -> String {
    format!("the API server did not answer within {} s", limit.as_secs())
}
