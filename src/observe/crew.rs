//! Which duties are running: brought in step with what is wanted, so that those which did not change go on undisturbed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::iter;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::addresses::{Addresses, pages, probes};
use super::change::Outlook;
use super::cluster::{Follower, Subject};
use super::duty::{Duty, Paces, Rhythm, keep};
use super::exposition::SeriesTable;
use super::files::Files;
use super::grid::{Grid, fast};
use super::hosts::{self, Hosts};
use super::peer::Peer;
use super::probe::Probe;
use super::promql;
use super::releases::{self, Releases};
use super::scrape::{Reader, Scrape};
use super::shared::{SharedTable, Site, deadline};
use super::unseen::Unseen;
use crate::config::model::{self, Endpoint, FileTargets, HealthEndpoint};
use crate::domain::id::{InstanceId, SignalName, TargetId};
use crate::domain::observation::{Observation, Seen};
use crate::domain::policy::{Habitat, ObjectKind, Operands, ReleaseDir};
use crate::domain::time::Span;

/// How long a duty may be silent beyond what its pace and its look explain: a loop that is busy elsewhere.
const GRACE: Duration = Duration::from_secs(10);

/// What tells one duty of a workload from another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Key {
    Scrape(TargetId),
    Probe(TargetId),
    /// How many entries before it name the same file counts.
    Files(PathBuf, usize),
    Query(SignalName),
    Releases,
    Hosts,
    Cluster {
        context: Option<String>,
        namespace: String,
        kind: ObjectKind,
        name: String,
    },
    Unseen,
}

/// All that a duty is made from; a duty whose spec is another is started anew.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Spec {
    Scrape { endpoint: Endpoint, interval: Span, reading: Arc<Reading> },
    Probe { health: HealthEndpoint, interval: Span },
    Files { source: FileTargets, instances: Vec<InstanceId>, interval: Span },
    Query { query: model::Query, interval: Span },
    Releases { habitat: Habitat, interval: Span },
    Hosts { place: ReleaseDir, interval: Span },
    Cluster(Box<Subject>),
    Unseen { why: String, interval: Span },
}

/// All that a policy wants to be looked at.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) interval: Span,
    pub(super) operands: Operands,
    /// Whether programs of the operator's switch the workload, who may lead its addresses to another release.
    pub(super) is_led: bool,
    /// What it lists itself.
    pub(super) addresses: Addresses,
    /// What is looked at besides, those who list more addresses included.
    pub(super) duties: BTreeMap<Key, Spec>,
}

/// What the readers of a workload's pages share.
#[derive(Debug)]
pub(super) struct Reading {
    table: SharedTable,
    is_led: bool,
}

impl PartialEq for Reading {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.table, &other.table)
    }
}

/// The running duties of one workload. They end with it.
#[derive(Debug)]
pub(super) struct Crew {
    site: Site,
    /// For members that list addresses.
    itself: Weak<Mutex<Crew>>,
    wanted: Wanted,
    reading: Arc<Reading>,
    /// What members listed last.
    listed: BTreeMap<Key, Addresses>,
    members: BTreeMap<Key, Member>,
}

#[derive(Debug)]
struct Member {
    spec: Spec,
    /// Cancelled where another duty goes on in its place, so that what it saw is not forgotten.
    replaced: CancellationToken,
    _stop: DropGuard,
}

/// Where a member lists the addresses that it finds.
#[derive(Debug)]
pub(super) struct List {
    crew: Weak<Mutex<Crew>>,
    by: Key,
    /// Cancelled where the member is none any more.
    stop: CancellationToken,
}

impl List {
    /// From now on these are looked at, in place of those before.
    pub(super) fn set(&self, addresses: Addresses) {
        let Some(crew) = self.crew.upgrade() else { return };
        let mut crew = crew.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.stop.is_cancelled() && crew.listed.get(&self.by) != Some(&addresses) {
            crew.listed.insert(self.by.clone(), addresses);
            crew.reconcile();
        }
    }
}

impl Crew {
    pub(super) fn new(site: Site, wanted: Wanted) -> Arc<Mutex<Self>> {
        let crew = Arc::new_cyclic(|itself| {
            let (itself, reading) = (itself.clone(), wanted.reading());
            Mutex::new(Self { site, itself, wanted, reading, listed: BTreeMap::new(), members: BTreeMap::new() })
        });
        crew.lock().unwrap_or_else(PoisonError::into_inner).reconcile();
        crew
    }

    /// Looks at what is wanted now. What a member listed stays until whoever lists in its place has read it anew.
    pub(super) fn want(&mut self, wanted: Wanted) {
        // Other operands give samples another meaning: whoever reads pages begins anew.
        if (&wanted.operands, wanted.is_led) != (&self.wanted.operands, self.wanted.is_led) {
            self.reading = wanted.reading();
        }
        self.listed.retain(|by, _| wanted.duties.contains_key(by));
        self.wanted = wanted;
        self.reconcile();
    }

    /// Ends what is not wanted, starts what is new, and leaves the rest alone.
    fn reconcile(&mut self) {
        let wanted = self.specs();
        self.members.retain(|key, member| match wanted.get(key) {
            Some(spec) if *spec == member.spec => true,
            Some(_) => {
                member.replaced.cancel();
                false
            }
            None => false,
        });
        for (key, spec) in wanted {
            if let Entry::Vacant(place) = self.members.entry(key) {
                let (stop, replaced) = (CancellationToken::new(), CancellationToken::new());
                let end = End { stop: stop.clone(), replaced: replaced.clone(), gone: gone(place.key()) };
                let list = List { crew: self.itself.clone(), by: place.key().clone(), stop: stop.clone() };
                start(&self.site, list, spec.clone(), end);
                place.insert(Member { spec, replaced, _stop: stop.drop_guard() });
            }
        }
    }

    fn specs(&self) -> BTreeMap<Key, Spec> {
        let interval = self.wanted.interval;
        let lists = || iter::once(&self.wanted.addresses).chain(self.listed.values());
        let scrapes = pages(lists()).into_iter().map(|(target, endpoint)| {
            (Key::Scrape(target), Spec::Scrape { endpoint, interval, reading: Arc::clone(&self.reading) })
        });
        let probes = probes(lists()).into_iter();
        let probes = probes.map(|(target, health)| (Key::Probe(target), Spec::Probe { health, interval }));
        self.wanted.duties.clone().into_iter().chain(scrapes).chain(probes).collect()
    }
}

impl Wanted {
    fn reading(&self) -> Arc<Reading> {
        let table = Arc::new(Mutex::new(SeriesTable::new(&self.operands)));
        Arc::new(Reading { table, is_led: self.is_led })
    }
}

/// How a duty ends.
struct End {
    stop: CancellationToken,
    replaced: CancellationToken,
    /// What is told where nothing goes on in its place.
    gone: Option<Seen>,
}

impl End {
    /// Told by the duty itself, after all that it saw. When everything ends nothing is gone.
    async fn tell(self, site: &Site) {
        if let Some(seen) = self.gone.filter(|_| !self.replaced.is_cancelled() && !site.shared.tasks.is_closed()) {
            let observation = Observation { workload: site.workload.clone(), at: site.shared.clock.now(), seen };
            // Without an engine there is nobody to tell.
            let _told = site.shared.out.send(observation).await;
        }
    }
}

/// What an address that is looked at no more must be forgotten by.
fn gone(key: &Key) -> Option<Seen> {
    match key {
        Key::Scrape(target) => Some(Seen::PageGone { target: target.clone() }),
        Key::Probe(target) => Some(Seen::EndpointGone { target: target.clone() }),
        Key::Files(..) | Key::Query(_) | Key::Releases | Key::Hosts | Key::Cluster { .. } | Key::Unseen => None,
    }
}

fn start(site: &Site, list: List, spec: Spec, end: End) {
    let shared = &site.shared;
    match spec {
        Spec::Scrape { endpoint, interval, reading } => {
            let Key::Scrape(target) = &list.by else { return };
            let limit = deadline(interval);
            let what = format!("page of {target}");
            let peer = Peer::new(endpoint.url, shared.caller(&endpoint.http));
            let duty = Scrape {
                target: target.clone(),
                instance: endpoint.instance,
                outlook: Outlook::new(&site.workload, what.clone()),
                shared: Arc::clone(shared),
                reader: Reader::new(peer, Arc::clone(&reading.table), limit, !reading.is_led),
                deadline: limit,
            };
            spawn(site, end, what, at_address(interval), limit, duty);
        }
        Spec::Probe { health, interval } => {
            let Key::Probe(target) = &list.by else { return };
            let limit = deadline(interval);
            let what = format!("health of {target}");
            let duty = Probe {
                target: target.clone(),
                instance: health.endpoint.instance,
                outlook: Outlook::new(&site.workload, what.clone()),
                shared: Arc::clone(shared),
                peer: Peer::new(health.endpoint.url, shared.caller(&health.endpoint.http)),
                expect: health.expect,
                revision: health.revision,
                deadline: limit,
            };
            spawn(site, end, what, at_address(interval), limit, duty);
        }
        Spec::Files { source, instances, interval } => {
            let what = format!("targets in {}", source.path.display());
            let outlook = Outlook::new(&site.workload, what.clone());
            let duty = Files::new(source, instances, list, outlook);
            spawn(site, end, what, Paces { usual: interval, fast: interval }, releases::DISK_PATIENCE, duty);
        }
        Spec::Query { query, interval } => {
            let limit = deadline(interval);
            let what = format!("expression of {}", query.signal);
            let outlook = Outlook::new(&site.workload, what.clone());
            let duty = promql::Query::new(&query, outlook, Arc::clone(shared), limit);
            spawn(site, end, what, at_address(interval), limit, duty);
        }
        Spec::Releases { habitat, interval } => {
            let (paces, limit) = (releases::paces(&habitat, interval), releases::patience(&habitat));
            let duty = Releases::new(site.workload.clone(), habitat, interval, Arc::clone(shared));
            spawn(site, end, "releases".to_owned(), paces, limit, duty);
        }
        Spec::Hosts { place, interval } => {
            if let Some(duty) = Hosts::new(site.workload.clone(), &place, interval, Arc::clone(shared)) {
                spawn(site, end, "host readings".to_owned(), hosts::paces(interval), hosts::PATIENCE, duty);
            }
        }
        Spec::Cluster(subject) => follow(site, list, end, *subject),
        Spec::Unseen { why, interval } => {
            let duty = Unseen::new(&site.workload, why, Arc::clone(shared));
            spawn(site, end, "selection".to_owned(), Paces { usual: interval, fast: interval }, Duration::ZERO, duty);
        }
    }
}

fn at_address(interval: Span) -> Paces {
    Paces { usual: interval, fast: fast(interval) }
}

/// What is watched is told when it changes, not looked at by a rhythm.
fn follow(site: &Site, list: List, end: End, subject: Subject) {
    let shared = Arc::clone(&site.shared);
    let silence = Duration::from(subject.interval.times(2)) + GRACE;
    let pulse = shared.pulses.register(site.workload.clone(), "watched workload".to_owned(), silence);
    let follower = Follower::new(subject, list, site.clone());
    shared.tasks.clone().spawn(async move {
        end.stop.run_until_cancelled(follower.run(pulse.clone())).await;
        shared.pulses.release(&pulse);
    });
}

fn spawn(site: &Site, end: End, what: String, paces: Paces, limit: Duration, duty: impl Duty) {
    let grid = Grid::new(paces.usual, &(site.workload.as_str(), what.as_str()));
    let rhythm = Rhythm::new(grid, paces, site.beat.clone(), site.shared.clock.now());
    let silence = Duration::from(paces.usual.times(2)) + limit + GRACE;
    let pulse = site.shared.pulses.register(site.workload.clone(), what, silence);
    let site = site.clone();
    let shared = Arc::clone(&site.shared);
    shared.tasks.clone().spawn(async move {
        let shared = Arc::clone(&site.shared);
        // Only one that was told to end, or whose engine is gone, gets on.
        end.stop.run_until_cancelled(keep(duty, rhythm, site.clone(), pulse.clone())).await;
        shared.pulses.release(&pulse);
        end.tell(&site).await;
    });
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::clock::Clock;
    use crate::cluster::settings::Keyring;
    use crate::domain::policy::Keep;
    use crate::observe::cluster::{Beside, Crowd, Offer};
    use crate::observe::duty::Beat;
    use crate::observe::shared::Shared;

    /// A policy that watches this Deployment.
    fn wanted(interval: u64, name: &str) -> Wanted {
        let (namespace, kind) = ("prod".to_owned(), ObjectKind::Deployment);
        let subject = Subject {
            context: Some("of no cluster".to_owned()),
            namespace: namespace.clone(),
            kind,
            name: name.to_owned(),
            beside: Beside::Nothing,
            keep: Keep::default(),
            offer: Offer::default(),
            interval: Span::from_secs(interval),
        };
        let key = Key::Cluster { context: subject.context.clone(), namespace, kind, name: name.to_owned() };
        Wanted {
            interval: Span::from_secs(interval),
            operands: Operands::default(),
            is_led: false,
            addresses: Addresses::default(),
            duties: BTreeMap::from([(key, Spec::Cluster(Box::new(subject)))]),
        }
    }

    fn address(name: &str) -> Addresses {
        let url = reqwest::Url::parse(&format!("http://{name}:1/metrics")).unwrap();
        Addresses { pages: vec![Endpoint { instance: None, url, http: Arc::default() }], probes: Vec::new() }
    }

    #[tokio::test]
    async fn the_pods_of_a_workload_are_looked_at_until_others_are_told_in_their_place() {
        let (out, _observations) = mpsc::channel(8);
        let (_pace, beat) = watch::channel(Beat::default());
        let shared = Shared::new(Clock::start(None), out, Arc::default(), Keyring::default(), Crowd::default());
        let site = Site { shared: Arc::new(shared), workload: "shop".into(), beat };
        let crew = Crew::new(site, wanted(5, "shop"));
        let list = || {
            let by = crew.lock().unwrap().wanted.duties.keys().next().cloned().unwrap();
            List { crew: Arc::downgrade(&crew), by, stop: CancellationToken::new() }
        };
        let looked_at = || -> Vec<String> {
            let crew = crew.lock().unwrap();
            let name = |key: &Key| if let Key::Scrape(target) = key { Some(target.to_string()) } else { None };
            crew.members.keys().filter_map(name).collect()
        };
        let first = list();
        first.set(address("a"));
        assert_eq!(looked_at(), ["a:1"]);
        crew.lock().unwrap().want(wanted(9, "shop"));
        assert_eq!(looked_at(), ["a:1"], "another interval");
        first.stop.cancel();
        first.set(address("b"));
        assert_eq!(looked_at(), ["a:1"], "told by one whose place another has");
        list().set(address("b"));
        assert_eq!(looked_at(), ["b:1"]);
        crew.lock().unwrap().want(wanted(9, "other"));
        assert_eq!(looked_at(), [""; 0], "another workload");
    }
}
