//! Which families a release's pages would have told of, from when each family is recorded.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bind::Revision;

/// The families of a recording, release by release.
#[derive(Debug)]
pub(super) struct Offer {
    /// By name, with first and last time.
    all: Arc<[(String, i64, i64)]>,
    /// What was told last for each release, and until when that is so.
    told: BTreeMap<Option<u32>, (i64, Arc<[String]>)>,
}

impl Offer {
    pub(super) fn new(all: Arc<[(String, i64, i64)]>) -> Self {
        Self { all, told: BTreeMap::new() }
    }

    /// The families on a page of a release at a time: those that were recorded until then, since the release came and
    /// before another one did. None where only what a policy asks for is recorded.
    pub(super) fn at(&mut self, revision: Option<u32>, revisions: &[Revision], now: i64) -> Option<Arc<[String]>> {
        if self.all.is_empty() {
            return None;
        }
        if let Some((_, told)) = self.told.get(&revision).filter(|(until, _)| now < *until) {
            return Some(Arc::clone(told));
        }
        let came = |index: u32| revisions.get(index as usize).map(|revision| revision.first);
        let begin = revision.and_then(came).unwrap_or(i64::MIN);
        let next = revisions.iter().map(|revision| revision.first).filter(|first| *first > begin).min();
        let end = next.filter(|_| revision.is_some()).unwrap_or(i64::MAX);
        let possible = self.all.iter().filter(|(_, first, last)| *first < end && *last >= begin);
        let later = possible.clone().map(|(_, first, _)| *first).filter(|first| *first > now).min();
        let names = possible.filter(|(_, first, _)| *first <= now).map(|(name, ..)| name.clone());
        let told: Arc<[String]> = names.collect();
        self.told.insert(revision, (later.unwrap_or(i64::MAX), Arc::clone(&told)));
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::RevisionId;

    #[test]
    fn a_page_tells_what_was_there_by_then_and_not_what_came_with_a_later_release() {
        let revisions = [("v1", 0), ("v2", 100)].map(|(id, first)| Revision { id: RevisionId::from(id), first });
        let all = [("both", 0, 200), ("late", 150, 200), ("new", 100, 200), ("old", 0, 90)];
        let mut offer = Offer::new(all.map(|(name, first, last)| (name.to_owned(), first, last)).into());
        let mut names = |revision, now| offer.at(revision, &revisions, now).unwrap().join(" ");
        assert_eq!(names(Some(0), 50), "both old");
        assert_eq!(names(Some(0), 180), "both old", "a page of the old release beside the new one");
        assert_eq!(names(Some(1), 120), "both new");
        assert_eq!(names(Some(1), 130), "both new");
        assert_eq!(names(Some(1), 150), "both late new");
        assert_eq!(names(None, 120), "both new old");
        assert_eq!(Offer::new(Arc::from([])).at(None, &revisions, 0), None);
    }
}
