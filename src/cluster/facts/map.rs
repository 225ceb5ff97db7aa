//! A ConfigMap or a Secret: what stands for its content, since the content itself may be large, or nobody's business.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::ObjectMeta;
use serde_json::Value;

use super::Fact;
use crate::cluster::settings::{Content, Keyring};
use crate::domain::settings::{ContentId, SettingKind};
use crate::domain::time::Timestamp;

/// Where managers of fields manage what it says.
const CONTENT: [&str; 2] = ["f:data", "f:binaryData"];

/// A ConfigMap or a Secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Map {
    /// What the API server tells it by.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// What it says.
    pub content: ContentId,
    /// Whether the API server lets nobody change it.
    pub is_immutable: bool,
    /// When what it says was written last, by the API server's clock: at the latest, since it notes one time for all that
    /// one writer manages.
    pub written: Option<Timestamp>,
}

impl Fact for Map {
    fn uid(&self) -> &str {
        &self.uid
    }

    fn group(&self) -> &str {
        &self.name
    }
}

/// What a ConfigMap says; nothing of one that has no identity.
impl TryFrom<ConfigMap> for Map {
    type Error = ();

    fn try_from(object: ConfigMap) -> Result<Self, ()> {
        let content = Content::of(&object).id();
        Self::new(object.metadata, content, object.immutable).ok_or(())
    }
}

impl Map {
    /// What a Secret says; nothing where there is no key to tell it by.
    #[must_use]
    pub fn of_secret(object: Secret, keyring: &Keyring) -> Option<Self> {
        let content = keyring.id(SettingKind::Secret, &Content::of(&object))?;
        Self::new(object.metadata, content, object.immutable)
    }

    fn new(meta: ObjectMeta, content: ContentId, immutable: Option<bool>) -> Option<Self> {
        let written = written(&meta);
        Some(Self { content, is_immutable: immutable == Some(true), written, uid: meta.uid?, name: meta.name? })
    }
}

/// The newest write to its content that is noted; where none is, it was made so.
fn written(meta: &ObjectMeta) -> Option<Timestamp> {
    let entries = meta.managed_fields.iter().flatten();
    let is_content = |fields: &Value| CONTENT.iter().any(|part| fields.get(part).is_some());
    let of_content = entries.filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| is_content(&fields.0)));
    let newest = of_content.filter_map(|entry| entry.time.as_ref()).max();
    let newest = newest.or(meta.creation_timestamp.as_ref());
    newest.map(|at| Timestamp::from_millis(at.0.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_was_written_when_the_last_of_its_writers_wrote_it() {
        let written = |managers: Value| {
            let meta = json!({
                "name": "m", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": managers,
            });
            let map: ConfigMap = serde_json::from_value(json!({ "metadata": meta, "data": { "a": "1" } })).unwrap();
            Map::try_from(map).unwrap().written.unwrap().to_string()
        };
        let by = |time: &str, part: &str| json!({ "manager": time, "time": time, "fieldsV1": { part: {} } });
        let all = [
            by("2026-01-01T00:00:00Z", "f:data"),
            by("2026-01-01T00:05:00Z", "f:data"),
            by("2026-01-01T00:09:00Z", "f:metadata"),
        ];
        assert_eq!(written(json!(all)), "2026-01-01T00:05:00.000Z");
        assert_eq!(written(json!([])), "2026-01-01T00:00:00.000Z");
    }
}
