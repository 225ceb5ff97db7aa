//! Which instances there are at each moment of a recording, and which release each is at.

use std::collections::{BTreeMap, BTreeSet};

use super::bind::{Layout, Spot};
use super::lane::{qualified, target_id};
use crate::domain::id::{InstanceId, RevisionId, TargetId};
use crate::domain::observation::ReleaseView;
use crate::domain::policy::Release;
use crate::domain::time::{Span, Timestamp};

/// Intervals without a word, while others speak, after which an instance is gone.
const GONE_INTERVALS: i64 = 5;

/// For so long an instance that will speak again, and is of one release only, is there without a word: it is looked at no more.
const UNSEEN: i64 = 600_000;

/// How long after its rollout was first seen an instance that tells no release may come and still belong to it.
const GUESS_SLACK: i64 = 60_000;

/// How long after the first word of a recording all that was there when it began has spoken.
const FIRST_WORDS: i64 = 60_000;

/// The instance that stands for a release of which nothing else tells.
const ROLLOUT: &str = "rollout";

/// One release at one place.
#[derive(Clone, Copy, Debug)]
struct Place {
    seen: i64,
    is_there: bool,
}

/// The places of a workload as they come and go.
#[derive(Debug)]
pub(super) struct Places {
    interval: i64,
    /// By spot and release.
    places: BTreeMap<(u32, u32), Place>,
    /// The release last told at each spot.
    current: BTreeMap<u32, u32>,
    /// When each target's page was last read.
    read: BTreeMap<(u32, Option<u32>), i64>,
    /// Since when each release is there again.
    since: BTreeMap<u32, i64>,
    seen: Vec<(Timestamp, RevisionId)>,
    first: Option<RevisionId>,
    /// When the first one was seen.
    began: i64,
    newest: i64,
    /// When somebody spoke again after nobody had for long.
    resumed: i64,
    swept: i64,
    announced: Option<u32>,
    /// Releases that spoke for themselves.
    spoke: BTreeSet<u32>,
    replicas: BTreeMap<Option<u32>, usize>,
    is_changed: bool,
}

impl Places {
    pub(super) fn new(interval: Span) -> Self {
        Self {
            interval: i64::try_from(interval.as_millis()).unwrap_or(i64::MAX / 64),
            places: BTreeMap::new(),
            current: BTreeMap::new(),
            read: BTreeMap::new(),
            since: BTreeMap::new(),
            seen: Vec::new(),
            first: None,
            began: i64::MIN,
            newest: i64::MIN,
            resumed: i64::MIN,
            swept: i64::MIN,
            announced: None,
            spoke: BTreeSet::new(),
            replicas: BTreeMap::new(),
            is_changed: false,
        }
    }

    /// The release that is there at first.
    pub(super) fn first(&self) -> Option<&RevisionId> {
        self.first.as_ref()
    }

    /// Releases by the time at which they came.
    pub(super) fn seen(&self) -> &[(Timestamp, RevisionId)] {
        &self.seen
    }

    /// Notes that a release spoke at a spot.
    pub(super) fn saw(&mut self, spot: u32, revision: u32, at: i64) {
        if at.saturating_sub(self.newest) > self.patience() {
            self.resumed = at;
        }
        self.newest = self.newest.max(at);
        let place = self.places.entry((spot, revision)).or_insert(Place { seen: at, is_there: false });
        place.seen = at;
        if !place.is_there {
            place.is_there = true;
            self.is_changed = true;
            self.spoke.insert(revision);
        }
        self.current.insert(spot, revision);
    }

    /// Lets go of a release at each spot where another one speaks instead. Where both go on to speak there, both are there.
    pub(super) fn turn(&mut self, layout: &Layout, at: i64) {
        let edge = at - self.interval - self.interval / 2;
        for ((spot, revision), place) in &mut self.places {
            let several = layout.spots.get(*spot as usize).is_some_and(|spot| spot.told.len() > 1);
            let another = self.current.get(spot).is_some_and(|current| current != revision);
            if several && another && place.is_there && place.seen < edge {
                place.is_there = false;
                self.is_changed = true;
            }
        }
    }

    /// The release that a series is about which tells none itself, at a spot that thereby spoke; none where the spot
    /// stands for the whole workload.
    pub(super) fn resolve(&mut self, layout: &Layout, index: u32, at: i64) -> Option<u32> {
        let spot = layout.spots.get(index as usize)?;
        if spot.is_service {
            return None;
        }
        let revision = match self.current.get(&index) {
            _ if !layout.told_by.is_by_series() => {
                let until = spot.switches.partition_point(|(from, _)| *from <= at);
                spot.switches.get(until.checked_sub(1)?).map(|(_, revision)| *revision)?
            }
            Some(current) => *current,
            None => spot.told.first().copied().or_else(|| guess(layout, spot))?,
        };
        if self.current.get(&index).is_some_and(|current| *current != revision)
            && let Some(place) = self.current.get(&index).and_then(|current| self.places.get_mut(&(index, *current)))
        {
            place.is_there = false;
        }
        self.saw(index, revision, at);
        Some(revision)
    }

    /// Whether something is to be told although nothing spoke.
    pub(super) fn is_due(&self, at: i64) -> bool {
        self.is_changed || at.saturating_sub(self.swept) >= self.interval
    }

    /// Who is there, where that changed.
    pub(super) fn view(
        &mut self,
        layout: &Layout,
        at: i64,
        replicas: &[(InstanceId, Option<u32>)],
    ) -> Option<ReleaseView> {
        self.sweep(layout, at);
        self.announce(layout, at);
        let mut numbers: BTreeMap<Option<u32>, usize> = BTreeMap::new();
        for (_, revision) in replicas {
            *numbers.entry(*revision).or_default() += 1;
        }
        if self.replicas != numbers {
            self.replicas = numbers;
            self.is_changed = true;
        }
        let told = self.replicas.keys().flatten();
        let is_any = self.announced.is_some() || told.count() > 0 || self.places.values().any(|place| place.is_there);
        if !std::mem::take(&mut self.is_changed) || !is_any {
            return None;
        }
        let there: Vec<(u32, u32)> =
            self.places.iter().filter(|(_, place)| place.is_there).map(|(key, _)| *key).collect();
        self.note_releases(layout, &there, at);
        let named = |index: u32| layout.revisions.get(index as usize).map(|revision| revision.id.clone());
        let mut instances: Vec<(InstanceId, RevisionId)> = there
            .iter()
            .filter_map(|(spot, revision)| Some((self.name(layout, *spot, Some(*revision)), named(*revision)?)))
            .collect();
        instances.extend(self.announced.and_then(named).map(|revision| (InstanceId::new(ROLLOUT), revision)));
        let available = self.available();
        let newest = available.iter().find(|release| instances.iter().any(|(_, at)| *at == release.revision));
        let newest = newest.map(|release| release.revision.clone());
        let of = |told: Option<u32>| told.and_then(named).or_else(|| newest.clone());
        instances.extend(replicas.iter().filter_map(|(replica, told)| Some((replica.clone(), of(*told)?))));
        Some(ReleaseView { instances, available, ..ReleaseView::default() })
    }

    /// The name of a target and of the instance behind it.
    pub(super) fn names(&self, layout: &Layout, target: u32, revision: Option<u32>) -> (TargetId, Option<InstanceId>) {
        let Some(found) = layout.targets.get(target as usize) else { return (TargetId::new(""), None) };
        let told = self.told(layout, found.spot, revision);
        let instance = revision.map(|_| self.name(layout, found.spot, revision));
        (target_id(&found.name, told), instance)
    }

    /// The instance at a spot, as it is now.
    pub(super) fn instance(&mut self, layout: &Layout, spot: u32, at: i64) -> InstanceId {
        let revision = match self.current.get(&spot) {
            Some(current) => Some(*current),
            None => self.resolve(layout, spot, at),
        };
        self.name(layout, spot, revision)
    }

    /// Notes that a target's page was read.
    pub(super) fn read(&mut self, target: u32, revision: Option<u32>, at: i64) {
        self.read.insert((target, revision), at);
    }

    /// Whether a target's page was read within the interval.
    pub(super) fn was_read(&self, target: u32, revision: Option<u32>, at: i64) -> bool {
        self.read.get(&(target, revision)).is_some_and(|read| at - read < self.interval + self.interval / 2)
    }

    /// The release by which a place goes, where several are at one spot.
    fn told<'l>(&self, layout: &'l Layout, spot: u32, revision: Option<u32>) -> Option<&'l RevisionId> {
        let at = layout.spots.get(spot as usize)?;
        let several = at.told.len() > 1 || at.switches.iter().any(|(from, _)| *from > at.first);
        let revision = revision.filter(|_| several)?;
        layout.revisions.get(revision as usize).map(|revision| &revision.id)
    }

    fn name(&self, layout: &Layout, spot: u32, revision: Option<u32>) -> InstanceId {
        let name = layout.spots.get(spot as usize).map_or("", |spot| spot.name.as_str());
        InstanceId::new(qualified(name, self.told(layout, spot, revision)))
    }

    fn patience(&self) -> i64 {
        self.interval.saturating_mul(GONE_INTERVALS)
    }

    /// Lets go of places that are silent while others speak, but for those that will soon speak again. After a time in which
    /// nobody was heard all may speak first.
    fn sweep(&mut self, layout: &Layout, at: i64) {
        if at.saturating_sub(self.swept) < self.interval {
            return;
        }
        self.swept = at;
        let edge = self.newest.saturating_sub(self.patience());
        if self.resumed > edge {
            return;
        }
        let is_unseen = |spot: u32, place: &Place| {
            let known = layout.spots.get(spot as usize).filter(|spot| spot.told.len() == 1);
            known.is_some_and(|spot| spot.last > at) && at - place.seen <= UNSEEN
        };
        for ((spot, _), place) in &mut self.places {
            if place.is_there && place.seen < edge && !is_unseen(*spot, place) {
                place.is_there = false;
                self.is_changed = true;
            }
        }
    }

    /// A release that was deployed and of which no place tells yet.
    fn announce(&mut self, layout: &Layout, at: i64) {
        // A schedule that places follow is not among these.
        let due = layout.schedule.iter().rev().find(|(time, _)| *time <= at);
        // Once it has spoken, its silence is its own.
        let announced = due.map(|(_, revision)| *revision).filter(|revision| !self.spoke.contains(revision));
        if announced != self.announced {
            self.announced = announced;
            self.is_changed = true;
        }
    }

    fn note_releases(&mut self, layout: &Layout, there: &[(u32, u32)], at: i64) {
        let told = self.replicas.keys().flatten().copied();
        let mut now: Vec<u32> = there.iter().map(|(_, revision)| *revision).chain(self.announced).chain(told).collect();
        now.sort_unstable();
        now.dedup();
        if self.first.is_none() {
            let begins = |revision: &u32| {
                let first = layout.revisions.get(*revision as usize).map_or(i64::MAX, |revision| revision.first);
                let places = there.iter().filter(|(_, other)| other == revision).count();
                (Some(*revision) != layout.before, first, std::cmp::Reverse(places), *revision)
            };
            now.sort_by_key(begins);
            // What is known to have been there before counts, whoever speaks first.
            let first = layout.before.as_ref().or(now.first());
            let first = first.and_then(|first| layout.revisions.get(*first as usize));
            self.first = first.map(|revision| revision.id.clone());
            self.began = at;
            let unseen = layout.before.filter(|before| !now.contains(before)).and(self.first.clone());
            self.seen.extend(unseen.map(|before| (Timestamp::from_millis(at), before)));
        }
        self.since.retain(|revision, _| now.contains(revision));
        for revision in now {
            if self.since.contains_key(&revision) {
                continue;
            }
            // Those that are there at first come one after another, the oldest first.
            let order = i64::try_from(self.since.len()).unwrap_or_default();
            self.since.insert(revision, at.saturating_add(order));
            // The release before, where the recording begins with the rollout and another one spoke first.
            let is_known =
                Some(revision) == layout.before && at.saturating_sub(self.began) <= self.patience().max(FIRST_WORDS);
            if let Some(revision) = layout.revisions.get(revision as usize).filter(|_| !is_known || at == self.began) {
                self.seen.push((Timestamp::from_millis(at), revision.id.clone()));
            }
        }
    }

    /// Every release that was ever there, the one that came last first.
    fn available(&self) -> Vec<Release> {
        let mut available: Vec<Release> = Vec::new();
        for (_, revision) in self.seen.iter().rev() {
            if !available.iter().any(|known| known.revision == *revision) {
                available.push(Release { revision: revision.clone(), image: None });
            }
        }
        available
    }
}

/// The newest release of which something was seen when the spot came; of those that were there at first, the first.
fn guess(layout: &Layout, spot: &Spot) -> Option<u32> {
    let mut known: Vec<(i64, u32)> = layout.revisions.iter().map(|revision| revision.first).zip(0..).collect();
    known.sort_unstable();
    let edge = if spot.first <= layout.begin { layout.begin } else { spot.first + GUESS_SLACK };
    let newest = known.iter().rev().find(|(first, _)| *first <= edge).or(known.first());
    match (layout.before, newest) {
        (Some(before), _) if spot.first <= layout.begin => Some(before),
        (_, newest) => newest.map(|(_, revision)| *revision),
    }
}
