//! ConfigMaps and Secrets: which of them a template names, and what one says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::vault::Vault;
use crate::domain::settings::{ContentId, Setting, SettingKind};

/// Bytes of one content that are kept at most: a quarter of what a ConfigMap can hold.
pub const LARGEST: usize = 256 * 1024;

/// The authorities of the API server, which its controllers put into every namespace: they are of the cluster, not of a release.
const AUTHORITIES: &str = "kube-root-ca.crt";

/// What a template names: volumes, projected ones included, and the environment of all its containers.
#[must_use]
pub fn named(template: &Value) -> BTreeSet<Setting> {
    let mut found = BTreeSet::new();
    descend(template, &mut found);
    found.retain(|setting| setting.name != AUTHORITIES);
    found
}

fn descend(value: &Value, found: &mut BTreeSet<Setting>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                let kind = match key.as_str() {
                    "configMap" | "configMapRef" | "configMapKeyRef" => Some(SettingKind::ConfigMap),
                    "secret" | "secretRef" | "secretKeyRef" => Some(SettingKind::Secret),
                    _ => None,
                };
                let name = field.get("secretName").or_else(|| field.get("name")).and_then(Value::as_str);
                if let (Some(kind), Some(name)) = (kind, name) {
                    found.insert(Setting { kind, name: name.to_owned() });
                }
                descend(field, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| descend(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What a ConfigMap or a Secret says, less what it is called and who wrote it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// By key: text, in a Secret in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// Anything by key, in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binary_data: BTreeMap<String, String>,
    /// A Secret's type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
}

/// What stands for contents, and how they are kept: a Secret's only with a key.
#[derive(Clone, Debug, Default)]
pub struct Keyring(Option<Arc<Vault>>);

impl Keyring {
    /// With a vault for Secrets.
    #[must_use]
    pub const fn new(vault: Option<Arc<Vault>>) -> Self {
        Self(vault)
    }

    /// What stands for a content; nothing where that takes a key that is not there.
    #[must_use]
    pub fn id(&self, kind: SettingKind, content: &Content) -> Option<ContentId> {
        match kind {
            SettingKind::ConfigMap => Some(content.id()),
            SettingKind::Secret => self.0.as_ref().map(|vault| vault.id(&content.encode())),
        }
    }

    /// A content as it is kept.
    ///
    /// # Errors
    /// Why it can't be.
    pub fn close(&self, kind: SettingKind, id: &ContentId, content: &Content) -> Result<Vec<u8>, String> {
        match (kind, &self.0) {
            (SettingKind::ConfigMap, _) => Ok(content.encode()),
            (SettingKind::Secret, Some(vault)) => vault.seal(id, &content.encode()),
            (SettingKind::Secret, None) => Err(NO_KEY.to_owned()),
        }
    }

    /// What was kept.
    ///
    /// # Errors
    /// It is not what it was, or it takes another key.
    pub fn open(&self, kind: SettingKind, id: &ContentId, kept: &[u8]) -> Result<Content, String> {
        let unreadable = |error: serde_json::Error| format!("it can't be read: {error}");
        match (kind, &self.0) {
            (SettingKind::ConfigMap, _) => Content::decode(kept, id),
            (SettingKind::Secret, Some(vault)) => serde_json::from_slice(&vault.open(id, kept)?).map_err(unreadable),
            (SettingKind::Secret, None) => Err(NO_KEY.to_owned()),
        }
    }
}

/// Why nothing is known of Secrets.
const NO_KEY: &str = "Secrets are kept only with `keep_key_file`";

impl Content {
    /// That of a ConfigMap or a Secret.
    #[must_use]
    pub fn of(object: &impl Serialize) -> Self {
        // Bytes are written as base64.
        let read = |object: Value| serde_json::from_value(object).unwrap_or_default();
        read(serde_json::to_value(object).unwrap_or_default())
    }

    /// As it is kept: the same for the same content.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From what was kept under `id`.
    ///
    /// # Errors
    /// It is not what it was.
    pub fn decode(bytes: &[u8], id: &ContentId) -> Result<Self, String> {
        let content: Self = serde_json::from_slice(bytes).map_err(|error| format!("it can't be read: {error}"))?;
        if content.id() == *id { Ok(content) } else { Err("it is not what was kept".to_owned()) }
    }

    /// Stands for it.
    #[must_use]
    pub fn id(&self) -> ContentId {
        ContentId::new(Sha256::digest(self.encode()).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use serde_json::json;

    use super::*;

    #[test]
    fn all_that_a_template_names_is_found() {
        let template = json!({ "spec": {
            "imagePullSecrets": [{ "name": "registry" }],
            "initContainers": [{ "name": "init", "envFrom": [{ "configMapRef": { "name": "init-env" } }] }],
            "containers": [{
                "name": "app",
                "envFrom": [{ "secretRef": { "name": "env-secret" } }],
                "env": [
                    { "name": "A", "valueFrom": { "configMapKeyRef": { "name": "one-key", "key": "a" } } },
                    { "name": "B", "valueFrom": { "secretKeyRef": { "name": "secret-key", "key": "b" } } },
                    { "name": "C", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                ],
            }],
            "volumes": [
                { "name": "config", "configMap": { "name": "mounted" } },
                { "name": "secret", "secret": { "secretName": "mounted-secret" } },
                { "name": "all", "projected": { "sources": [
                    { "configMap": { "name": "projected" } }, { "secret": { "name": "projected-secret" } },
                    { "configMap": { "name": "kube-root-ca.crt" } },
                ] } },
            ],
        } });
        let all: Vec<String> = named(&template).iter().map(ToString::to_string).collect();
        let expected = [
            "ConfigMap init-env",
            "ConfigMap mounted",
            "ConfigMap one-key",
            "ConfigMap projected",
            "Secret env-secret",
            "Secret mounted-secret",
            "Secret projected-secret",
            "Secret secret-key",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn the_same_content_is_the_same_whoever_wrote_it() {
        let map = |owner: &str, text: &str| ConfigMap {
            metadata: kube::core::ObjectMeta {
                labels: Some([("owner".to_owned(), owner.to_owned())].into()),
                ..Default::default()
            },
            data: Some([("a".to_owned(), text.to_owned())].into()),
            binary_data: Some([("b".to_owned(), ByteString(vec![0, 255]))].into()),
            ..ConfigMap::default()
        };
        let content = Content::of(&map("x", "1"));
        assert_eq!(content.id(), Content::of(&map("y", "1")).id());
        assert_ne!(content.id(), Content::of(&map("x", "2")).id());
        assert_eq!(content.binary_data["b"], "AP8=");
        assert_eq!(Content::decode(&content.encode(), &content.id()), Ok(content.clone()));
        assert!(Content::decode(b"{}", &content.id()).is_err());
    }

    #[test]
    fn a_secret_is_kept_only_with_a_key_and_then_sealed() {
        let secret = Secret {
            data: Some([("password".to_owned(), ByteString(b"hunter2".to_vec()))].into()),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        };
        let content = Content::of(&secret);
        assert_eq!((content.data["password"].as_str(), content.sort.as_deref()), ("aHVudGVyMg==", Some("Opaque")));
        assert_eq!(Keyring::default().id(SettingKind::Secret, &content), None);
        let keyring = Keyring::new(Some(Arc::new(Vault::new(&"k".repeat(40)).unwrap())));
        let id = keyring.id(SettingKind::Secret, &content).unwrap();
        let kept = keyring.close(SettingKind::Secret, &id, &content).unwrap();
        assert!(!String::from_utf8_lossy(&kept).contains("aHVudGVyMg"));
        assert_eq!(keyring.open(SettingKind::Secret, &id, &kept), Ok(content));
        assert!(Keyring::default().open(SettingKind::Secret, &id, &kept).is_err());
    }
}
