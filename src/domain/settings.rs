//! The ConfigMaps and Secrets that releases name: what of them is there, and what is kept for a release to go back with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::id::RevisionId;
use super::policy::ClusterObject;
use super::time::Timestamp;

/// Settings of a release that are kept; what it names beyond is not.
pub const MOST_SETTINGS: usize = 16;

/// What a release may name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum SettingKind {
    /// ConfigMap.
    ConfigMap,
    /// Secret.
    Secret,
}

impl fmt::Display for SettingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SettingKind::ConfigMap => "ConfigMap",
            SettingKind::Secret => "Secret",
        })
    }
}

/// One of them, in the workload's namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Setting {
    /// Which sort.
    pub kind: SettingKind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Stands for what a setting says; equal for equal content, and for no other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ContentId(String);

impl ContentId {
    /// From its text, which is made of letters, digits and `-`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether two that differ stand for contents that differ: what comes before the `-` says how they were made.
    #[must_use]
    pub fn is_comparable(&self, other: &Self) -> bool {
        let scheme = |id: &Self| id.0.split_once('-').map(|(scheme, _)| scheme.to_owned());
        scheme(self) == scheme(other)
    }
}

/// What is seen of settings.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// What each release that is kept names.
    pub named: BTreeMap<RevisionId, BTreeSet<Setting>>,
    /// The sorts that are looked at.
    pub watched: BTreeSet<SettingKind>,
    /// Those that are there.
    pub there: BTreeMap<Setting, Present>,
}

/// A setting that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Present {
    /// What it says.
    pub content: ContentId,
    /// Whether the API server lets nobody change it.
    pub is_immutable: bool,
    /// When what it says was written last, by the API server's clock.
    pub written: Option<Timestamp>,
}

impl Settings {
    /// What of a release's settings is looked at, and what each says; none where it is not there.
    #[must_use]
    pub fn of(&self, release: &RevisionId) -> BTreeMap<Setting, Option<ContentId>> {
        let named = self.named.get(release).into_iter().flatten();
        let seen = named.filter(|setting| self.watched.contains(&setting.kind)).take(MOST_SETTINGS);
        seen.map(|setting| (setting.clone(), self.there.get(setting).map(|there| there.content.clone()))).collect()
    }
}

/// What is known of a setting of a release, from the time in which that release served.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptSetting {
    /// Which.
    #[serde(flatten)]
    pub setting: Setting,
    /// What it said when instances of that release started: what goes back.
    pub content: Option<ContentId>,
    /// What it says since, with no instance seen to start that began with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<ContentId>,
    /// Why it can't be put back, where it can't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unkept: Option<String>,
    /// When it was changed after all instances had begun that were there before anybody looked: what they began with is not
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_unseen: Option<Timestamp>,
}

impl KeptSetting {
    /// What it said last while the release served.
    #[must_use]
    pub fn last(&self) -> Option<&ContentId> {
        self.changed.as_ref().or(self.content.as_ref())
    }
}

/// What is to be kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToKeep {
    /// What runs it.
    pub object: ClusterObject,
    /// The release that serves.
    pub release: RevisionId,
    /// Its settings, as they were seen; none where it is not there.
    pub settings: BTreeMap<Setting, Option<ContentId>>,
    /// Everything that is still needed of what was kept before.
    pub needed: BTreeSet<ContentId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_looked_at_is_known() {
        let setting = |kind, name: &str| Setting { kind, name: name.to_owned() };
        let (map, gone) = (setting(SettingKind::ConfigMap, "a"), setting(SettingKind::ConfigMap, "b"));
        let secret = setting(SettingKind::Secret, "a");
        let present = Present { content: ContentId::new("1"), is_immutable: false, written: None };
        let settings = Settings {
            named: [("v1".into(), [map.clone(), gone.clone(), secret].into())].into(),
            watched: [SettingKind::ConfigMap].into(),
            there: [(map.clone(), present)].into(),
        };
        assert_eq!(settings.of(&"v1".into()), [(map, Some(ContentId::new("1"))), (gone, None)].into());
        assert!(settings.of(&"v2".into()).is_empty());
    }
}
