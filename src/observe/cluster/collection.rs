//! What is known of all objects of one kind in a namespace, and how fresh that is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cluster::facts::Fact;
use crate::domain::observation::Fault;

/// Reads the object of this name now.
pub(super) type Look = Box<dyn Fn(String) -> BoxFuture<'static, Result<(), Fault>> + Send + Sync>;

/// The facts of all objects of one kind in a namespace. Dropping it ends their watch.
pub(super) struct Collection<F> {
    kept: Arc<Kept<F>>,
    look: Option<Look>,
    _watch: DropGuard,
}

/// What the watch and its readers share.
#[derive(Debug)]
pub(super) struct Kept<F> {
    what: String,
    state: Mutex<State<F>>,
    version: watch::Sender<u64>,
    /// How many of its readers have something going on.
    heeded: watch::Sender<usize>,
}

#[derive(Debug)]
struct State<F> {
    /// By what they belong to.
    groups: BTreeMap<String, Group<F>>,
    /// Counts the changes of groups.
    count: u64,
    /// How far the watch has come. Versions are of all objects of a kind together.
    reached: Option<u64>,
    /// By uid: the version of what was read of an object, until the watch has come as far.
    ahead: BTreeMap<String, u64>,
    sight: Sight,
    was_seen: bool,
}

#[derive(Debug)]
struct Group<F> {
    /// By uid.
    facts: BTreeMap<String, F>,
    /// The number of its last change.
    changed: u64,
}

/// One reader's need to see what is now.
#[derive(Debug)]
pub(super) struct Heed(watch::Sender<usize>);

impl Drop for Heed {
    fn drop(&mut self) {
        self.0.send_modify(|readers| *readers -= 1);
    }
}

/// Stands for what is known of some groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    sight: Sight,
    changed: Vec<Option<u64>>,
}

/// Whether what is known is how things are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Sight {
    /// Nothing was seen yet.
    Waiting,
    /// As they are, give or take the time that a silent watch takes to be noticed.
    Clear,
    /// Not any more.
    Lost(Fault),
}

impl<F> fmt::Debug for Collection<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kept.what)
    }
}

impl<F: Fact> Collection<F> {
    pub(super) fn new(what: String) -> (Self, CancellationToken) {
        let stop = CancellationToken::new();
        let state = State {
            groups: BTreeMap::new(),
            count: 0,
            reached: None,
            ahead: BTreeMap::new(),
            sight: Sight::Waiting,
            was_seen: false,
        };
        let kept = Arc::new(Kept {
            what,
            state: Mutex::new(state),
            version: watch::Sender::new(0),
            heeded: watch::Sender::new(0),
        });
        (Self { kept, look: None, _watch: stop.clone().drop_guard() }, stop)
    }

    /// With a way to read one object besides.
    pub(super) fn with_look(self, look: Look) -> Self {
        Self { look: Some(look), ..self }
    }

    /// Reads one object now, so that what is known of it is no older, however silent the watch is.
    pub(super) async fn look_at(&self, name: &str) -> Result<(), Fault> {
        match &self.look {
            Some(look) => look(name.to_owned()).await,
            None => Ok(()),
        }
    }

    pub(super) fn kept(&self) -> Arc<Kept<F>> {
        Arc::clone(&self.kept)
    }

    pub(super) fn sight(&self) -> Sight {
        self.kept.state().sight.clone()
    }

    /// Everything that belongs to `group`.
    pub(super) fn of(&self, group: &str) -> Vec<F> {
        let state = self.kept.state();
        state.groups.get(group).map(|group| group.facts.values().cloned().collect()).unwrap_or_default()
    }

    /// The uids of all that belongs to `group`.
    pub(super) fn uids(&self, group: &str) -> Vec<String> {
        self.kept.state().groups.get(group).map(|group| group.facts.keys().cloned().collect()).unwrap_or_default()
    }

    /// Stands for all that is known of these groups, and for whether it holds: it is another one where anything changed.
    pub(super) fn stamp<'a>(&self, groups: impl Iterator<Item = &'a str>) -> Stamp {
        let state = self.kept.state();
        let changed = groups.map(|group| state.groups.get(group).map(|group| group.changed)).collect();
        Stamp { sight: state.sight.clone(), changed }
    }

    /// The same for everything.
    pub(super) fn whole(&self) -> Stamp {
        let state = self.kept.state();
        Stamp { sight: state.sight.clone(), changed: vec![Some(state.count)] }
    }

    /// Whether there was sight of it at any time.
    pub(super) fn was_seen(&self) -> bool {
        self.kept.state().was_seen
    }

    /// All that anything belongs to.
    pub(super) fn groups(&self) -> Vec<String> {
        self.kept.state().groups.keys().cloned().collect()
    }

    /// Has its watch begun anew, and often from then on, until what this gives is dropped.
    pub(super) fn heed(&self) -> Heed {
        let heeded = self.kept.heeded.clone();
        heeded.send_modify(|readers| *readers += 1);
        Heed(heeded)
    }

    /// Changes whenever anything does.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.kept.version.subscribe()
    }
}

impl<F: Fact> Kept<F> {
    fn state(&self) -> MutexGuard<'_, State<F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many readers have something going on.
    pub(super) fn heed(&self) -> watch::Receiver<usize> {
        self.heeded.subscribe()
    }

    fn told(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// These are all there are, or were at a version.
    pub(super) fn replace(&self, facts: Vec<F>, version: Option<u64>) {
        let mut state = self.state();
        state.reach(version);
        let newer: Vec<F> = state.ahead.keys().filter_map(|uid| state.find(uid)).cloned().collect();
        state.groups.clear();
        for fact in facts.into_iter().chain(newer) {
            state.insert(fact);
        }
        state.sight = Sight::Clear;
        state.was_seen = true;
        drop(state);
        self.told();
    }

    /// One is new or has changed, as the watch says, or is not there any more. One that has no facts of interest any more
    /// goes.
    pub(super) fn put(&self, uid: &str, version: Option<u64>, fact: Option<F>, is_there: bool) {
        let mut state = self.state();
        state.reach(version);
        if state.ahead.contains_key(uid) {
            return;
        }
        state.remove(uid, fact.as_ref().map(Fact::group));
        if let Some(fact) = fact.filter(|_| is_there) {
            state.insert(fact);
        }
        drop(state);
        self.told();
    }

    /// One was read, at a version that the watch may not have come to.
    pub(super) fn put_ahead(&self, fact: F, version: Option<u64>) {
        let mut state = self.state();
        let known = state.ahead.get(fact.uid()).copied().max(state.reached);
        let Some(version) = version.filter(|version| known.is_some_and(|known| *version > known)) else { return };
        state.ahead.insert(fact.uid().to_owned(), version);
        state.remove(fact.uid(), Some(fact.group()));
        state.insert(fact);
        drop(state);
        self.told();
    }

    /// The watch has come so far, and nothing was new.
    pub(super) fn reach(&self, version: Option<u64>) {
        self.state().reach(version);
    }

    /// What is known holds again.
    pub(super) fn regain(&self) {
        let mut state = self.state();
        if state.sight != Sight::Clear {
            state.sight = Sight::Clear;
            drop(state);
            tracing::info!(what = self.what, "watched again");
            self.told();
        }
    }

    /// What is known may not hold any more.
    pub(super) fn lose(&self, fault: Fault) {
        let mut state = self.state();
        let is_news = !matches!(state.sight, Sight::Lost(_));
        if is_news {
            tracing::warn!(what = self.what, %fault, "not watched");
        }
        state.sight = Sight::Lost(Fault { detail: format!("{}: {}", self.what, fault.detail), ..fault });
        drop(state);
        if is_news {
            self.told();
        }
    }
}

impl<F: Fact> State<F> {
    fn insert(&mut self, fact: F) {
        self.count += 1;
        let group = self.groups.entry(fact.group().to_owned()).or_default();
        group.changed = self.count;
        group.facts.insert(fact.uid().to_owned(), fact);
    }

    fn reach(&mut self, version: Option<u64>) {
        self.reached = version;
        self.ahead.retain(|_, ahead| version.is_some_and(|version| version < *ahead));
    }

    fn find(&self, uid: &str) -> Option<&F> {
        self.groups.values().find_map(|group| group.facts.get(uid))
    }

    /// It belonged to `group`, or to another one before.
    fn remove(&mut self, uid: &str, group: Option<&str>) {
        let has = |group: &Group<F>| group.facts.contains_key(uid);
        let likely = group.filter(|name| self.groups.get(*name).is_some_and(has)).map(str::to_owned);
        let found = || self.groups.iter().find(|(_, group)| has(group)).map(|(name, _)| name.clone());
        let Some(name) = likely.or_else(found) else { return };
        let Some(group) = self.groups.get_mut(&name) else { return };
        self.count += 1;
        group.changed = self.count;
        group.facts.remove(uid);
        if group.facts.is_empty() {
            self.groups.remove(&name);
        }
    }
}

impl<F> Default for Group<F> {
    fn default() -> Self {
        Self { facts: BTreeMap::new(), changed: 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cluster::facts::Service;

    #[test]
    fn what_was_read_is_not_undone_by_a_watch_or_a_list_that_is_behind() {
        let service = |colour: &str| Service {
            uid: "u1".to_owned(),
            name: "front".to_owned(),
            selector: BTreeMap::from([("colour".to_owned(), colour.to_owned())]),
            owners: Vec::new(),
        };
        let (collection, _stop) = Collection::<Service>::new("services".to_owned());
        let kept = collection.kept();
        let colour = || collection.of("front").pop().map(|found: Service| found.selector["colour"].clone());
        kept.replace(vec![service("green")], Some(5));
        kept.put_ahead(service("blue"), Some(9));
        kept.put("u1", Some(7), Some(service("green")), true);
        assert_eq!(colour().as_deref(), Some("blue"), "the watch has not come as far");
        kept.replace(vec![service("green")], Some(8));
        assert_eq!(colour().as_deref(), Some("blue"), "the list is older");
        kept.put_ahead(service("red"), Some(6));
        assert_eq!(colour().as_deref(), Some("blue"), "an answer that came late");
        kept.put("u1", Some(12), Some(service("green")), true);
        kept.put_ahead(service("blue"), Some(11));
        assert_eq!(colour().as_deref(), Some("green"), "the watch has come further");
        kept.put_ahead(service("blue"), Some(20));
        kept.put("u1", Some(21), Some(service("blue")), false);
        assert_eq!(colour(), None, "deleted since");
    }
}
