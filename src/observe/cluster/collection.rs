//! What is known of all objects of one kind in a namespace, and how fresh that is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cluster::facts::Fact;
use crate::domain::observation::Fault;

/// The facts of all objects of one kind in a namespace. Dropping it ends their watch.
#[derive(Debug)]
pub(super) struct Collection<F> {
    kept: Arc<Kept<F>>,
    _watch: DropGuard,
}

/// What the watch and its readers share.
#[derive(Debug)]
pub(super) struct Kept<F> {
    what: String,
    state: Mutex<State<F>>,
    version: watch::Sender<u64>,
}

#[derive(Debug)]
struct State<F> {
    /// By what they belong to, then by uid.
    groups: BTreeMap<String, BTreeMap<String, F>>,
    sight: Sight,
    was_seen: bool,
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

impl<F: Fact> Collection<F> {
    pub(super) fn new(what: String) -> (Self, CancellationToken) {
        let stop = CancellationToken::new();
        let state = Mutex::new(State { groups: BTreeMap::new(), sight: Sight::Waiting, was_seen: false });
        let kept = Arc::new(Kept { what, state, version: watch::Sender::new(0) });
        (Self { kept, _watch: stop.clone().drop_guard() }, stop)
    }

    pub(super) fn kept(&self) -> Arc<Kept<F>> {
        Arc::clone(&self.kept)
    }

    pub(super) fn sight(&self) -> Sight {
        self.kept.state().sight.clone()
    }

    /// Everything that belongs to `group`.
    pub(super) fn of(&self, group: &str) -> Vec<F> {
        self.kept.state().groups.get(group).map(|group| group.values().cloned().collect()).unwrap_or_default()
    }

    /// Whether there was sight of it at any time.
    pub(super) fn was_seen(&self) -> bool {
        self.kept.state().was_seen
    }

    /// All that anything belongs to.
    pub(super) fn groups(&self) -> Vec<String> {
        self.kept.state().groups.keys().cloned().collect()
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

    fn told(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// These are all there are.
    pub(super) fn replace(&self, facts: Vec<F>) {
        let mut state = self.state();
        state.groups.clear();
        facts.into_iter().for_each(|fact| state.insert(fact));
        state.sight = Sight::Clear;
        state.was_seen = true;
        drop(state);
        self.told();
    }

    /// One is new or has changed. One that has no facts of interest any more goes, by its uid.
    pub(super) fn put(&self, uid: Option<&str>, fact: Option<F>) {
        let mut state = self.state();
        if let Some(uid) = uid {
            state.remove(uid);
        }
        if let Some(fact) = fact {
            state.insert(fact);
        }
        drop(state);
        self.told();
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
        self.groups.entry(fact.group().to_owned()).or_default().insert(fact.uid().to_owned(), fact);
    }

    fn remove(&mut self, uid: &str) {
        self.groups.retain(|_, group| {
            group.remove(uid);
            !group.is_empty()
        });
    }
}
