//! A ConfigMap or a Secret: what stands for its content, since the content itself may be large, or nobody's business.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::ObjectMeta;

use super::Fact;
use crate::cluster::settings::{Content, Keyring};
use crate::domain::settings::{ContentId, SettingKind};

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
        Some(Self { content, is_immutable: immutable == Some(true), uid: meta.uid?, name: meta.name? })
    }
}
