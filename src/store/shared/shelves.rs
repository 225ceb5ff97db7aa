//! The settings that replicas share: one ConfigMap a workload beside that of its record, replaced only as it was read. A
//! replica that takes over has never seen what an earlier release named, and must have it from somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::timeout;

use crate::cluster::describe;
use crate::cluster::record_names::kept_name;
use crate::domain::settings::ContentId;
use crate::store::shelf::{MOST_BYTES, is_full};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(4);

/// Writes that may miss because somebody labelled it meanwhile.
const ATTEMPTS: u32 = 3;

/// The ConfigMaps of settings.
#[derive(Clone)]
pub(super) struct Shelves(Api<ConfigMap>);

impl Shelves {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self(Api::namespaced(client, namespace))
    }

    /// Adds contents to those under a name, and lets go of those that are not needed, where that is said.
    pub(super) async fn put(
        &self,
        record: &str,
        contents: &BTreeMap<ContentId, Vec<u8>>,
        needed: Option<&BTreeSet<ContentId>>,
    ) -> Result<(), String> {
        let name = kept_name(record);
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            let found = self.get(&name).await?;
            let is_new = found.is_none();
            let mut map = found.unwrap_or_else(|| ConfigMap {
                metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
                ..ConfigMap::default()
            });
            let kept = map.binary_data.get_or_insert_default();
            let before = kept.clone();
            if let Some(needed) = needed {
                kept.retain(|content, _| needed.contains(&ContentId::new(content)));
            }
            kept.extend(contents.iter().map(|(content, body)| (content.as_str().to_owned(), ByteString(body.clone()))));
            if !is_new && *kept == before {
                return Ok(());
            }
            let bytes = kept.values().map(|body| body.0.len()).sum();
            if bytes > MOST_BYTES {
                return Err(is_full(bytes));
            }
            let params = PostParams::default();
            let write = async {
                if is_new { self.0.create(&params, &map).await } else { self.0.replace(&name, &params, &map).await }
            };
            match timeout(LIMIT, write).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => last = describe(&error),
                Err(_) => last = late(),
            }
        }
        Err(last)
    }

    /// Finds one of the contents under a name.
    pub(super) async fn find(&self, record: &str, content: &ContentId) -> Result<Option<Vec<u8>>, String> {
        let map = self.get(&kept_name(record)).await?;
        Ok(map.and_then(|map| map.binary_data?.remove(content.as_str())).map(|body| body.0))
    }

    async fn get(&self, name: &str) -> Result<Option<ConfigMap>, String> {
        match timeout(LIMIT, self.0.get_opt(name)).await {
            Ok(found) => found.map_err(|error| describe(&error)),
            Err(_) => Err(late()),
        }
    }
}

fn late() -> String {
    format!("the API server did not answer within {} s", LIMIT.as_secs())
}
