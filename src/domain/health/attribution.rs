//! Which release a target serves: what its own answer says, else what its instance is configured to run.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::observation::ReleaseView;
use crate::domain::time::Timestamp;

/// A release, and how it is known that a target serves it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Serves {
    /// The release; none where nobody says.
    pub(super) revision: Option<RevisionId>,
    /// Whether the target itself said so.
    pub(super) told: bool,
}

/// What a health endpoint said last of the release behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Told {
    pub(super) revision: RevisionId,
    pub(super) at: Timestamp,
}

/// One configured release, and since when; `None` where it was so at first sight.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Configured {
    revision: RevisionId,
    changed: Option<Timestamp>,
}

/// The releases that the instances are configured to run.
#[derive(Clone, Debug, Default)]
pub(super) struct Attribution {
    instances: BTreeMap<InstanceId, Configured>,
    /// The release that all instances share.
    single: Option<Configured>,
    /// Instances that get no traffic.
    idle: BTreeSet<InstanceId>,
    /// When it was last read.
    read: Option<Timestamp>,
}

impl Attribution {
    /// Takes in a reading. One without any instance says nothing, and what was known before stays.
    pub(super) fn take_in(&mut self, view: &ReleaseView, at: Timestamp) {
        if view.instances.is_empty() {
            return;
        }
        let first_sight = self.read.is_none();
        let mut instances = BTreeMap::new();
        for (instance, revision) in &view.instances {
            let configured = match self.instances.remove(instance) {
                Some(before) if before.revision == *revision => before,
                before => Configured { revision: revision.clone(), changed: before.map(|_| at) },
            };
            instances.insert(instance.clone(), configured);
        }
        self.instances = instances;
        let idle = view.orchestrated.as_ref().and_then(|orchestrated| orchestrated.idle.as_ref());
        self.idle = idle.map(|idle| idle.instances.clone()).unwrap_or_default();
        let mut revisions = self.instances.values().map(|configured| &configured.revision);
        let shared = revisions.next().filter(|first| revisions.all(|other| other == *first)).cloned();
        self.single = shared.map(|revision| match self.single.take() {
            Some(before) if before.revision == revision => before,
            _ => Configured { revision, changed: (!first_sight).then_some(at) },
        });
        self.read = Some(at);
    }

    /// When the releases were last read.
    pub(super) fn read(&self) -> Option<Timestamp> {
        self.read
    }

    /// Whether an instance gets no traffic, so that how it is says nothing of the service.
    pub(super) fn is_idle(&self, instance: Option<&InstanceId>) -> bool {
        instance.is_some_and(|instance| self.idle.contains(instance))
    }

    /// The instances and the release that each is configured to run.
    pub(super) fn configured(&self) -> impl Iterator<Item = (&InstanceId, &RevisionId)> {
        self.instances.iter().map(|(instance, configured)| (instance, &configured.revision))
    }

    /// The release that `instance` is configured to run.
    pub(super) fn of_instance(&self, instance: &InstanceId) -> Option<&RevisionId> {
        self.instances.get(instance).map(|configured| &configured.revision)
    }

    /// The release behind a target. `told` counts while nothing newer speaks against it: neither a change of what is
    /// configured nor a new process (`process_since`).
    pub(super) fn serves(
        &self,
        instance: Option<&InstanceId>,
        told: Option<&Told>,
        process_since: Option<Timestamp>,
    ) -> Serves {
        let configured = match instance {
            Some(instance) => self.instances.get(instance),
            None => self.single.as_ref(),
        };
        let newest_change = configured.and_then(|configured| configured.changed).max(process_since);
        match told {
            Some(told) if newest_change.is_none_or(|change| told.at >= change) => {
                Serves { revision: Some(told.revision.clone()), told: true }
            }
            _ => Serves { revision: configured.map(|configured| configured.revision.clone()), told: false },
        }
    }
}

/// One release on one target: since when, and how that is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Era {
    pub(super) serves: Serves,
    /// When the target changed to it; none where it was so at first sight.
    pub(super) changed: Option<Timestamp>,
    /// Whether the process is still the one of the release before, so that what it says does not count.
    pub(super) waiting: bool,
}

impl Era {
    /// Moves to what is served now. Whether that is another release than before.
    pub(super) fn turn(&mut self, serves: Serves, at: Timestamp) -> bool {
        let is_first = self.serves.revision.is_none() && self.changed.is_none();
        let is_other = self.serves.revision != serves.revision;
        self.serves = serves;
        if is_other && !is_first {
            self.changed = Some(at);
            self.waiting = false;
        }
        is_other && !is_first
    }

    /// The release that what is seen here is about.
    pub(super) fn release(&self) -> Option<&RevisionId> {
        self.serves.revision.as_ref().filter(|_| !self.waiting)
    }

    /// Whether what is seen here is about `revision`; about whatever runs where none is named.
    pub(super) fn is_of(&self, revision: Option<&RevisionId>) -> bool {
        revision.is_none_or(|revision| !self.waiting && self.serves.revision.as_ref() == Some(revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn view(instances: &[(&str, &str)]) -> ReleaseView {
        let instances = instances.iter().map(|(i, r)| (InstanceId::from(*i), RevisionId::from(*r))).collect();
        ReleaseView { instances, ..ReleaseView::default() }
    }

    fn told(revision: &str, seconds: i64) -> Told {
        Told { revision: RevisionId::from(revision), at: at(seconds) }
    }

    #[test]
    fn the_answer_counts_until_something_newer_speaks_against_it() {
        let mut known = Attribution::default();
        known.take_in(&view(&[("a", "v1"), ("b", "v1")]), at(0));
        known.take_in(&view(&[("a", "v2"), ("b", "v1")]), at(10));
        let a = InstanceId::from("a");
        let b = InstanceId::from("b");
        let cases = [
            (Some(&a), None, None, Some("v2"), false),
            (Some(&a), Some(told("v1", 5)), None, Some("v2"), false),
            (Some(&a), Some(told("v1", 12)), None, Some("v1"), true),
            (Some(&a), Some(told("v1", 12)), Some(at(14)), Some("v2"), false),
            (Some(&b), Some(told("v0", 1)), None, Some("v0"), true),
            (None, None, None, None, false),
            (None, Some(told("v2", 1)), None, Some("v2"), true),
        ];
        for (instance, said, process, revision, by_itself) in cases {
            let serves = known.serves(instance, said.as_ref(), process);
            let expected = Serves { revision: revision.map(RevisionId::from), told: by_itself };
            assert_eq!(serves, expected, "{instance:?} {said:?} {process:?}");
        }
    }

    #[test]
    fn a_target_without_an_instance_serves_what_all_instances_share() {
        let mut known = Attribution::default();
        known.take_in(&view(&[("a", "v1"), ("b", "v1")]), at(0));
        assert_eq!(known.serves(None, None, None).revision, Some(RevisionId::from("v1")));
        known.take_in(&view(&[("a", "v1"), ("b", "v2")]), at(1));
        assert_eq!(known.serves(None, None, None).revision, None);
    }
}
