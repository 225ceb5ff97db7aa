//! A ConfigMap: what stands for its content, since the content itself may be large.

use k8s_openapi::api::core::v1::ConfigMap;

use super::Fact;
use crate::cluster::settings::Content;
use crate::domain::settings::ContentId;

/// A ConfigMap.
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
        Ok(Self {
            content: Content::of(&object).id(),
            is_immutable: object.immutable == Some(true),
            uid: object.metadata.uid.ok_or(())?,
            name: object.metadata.name.ok_or(())?,
        })
    }
}
