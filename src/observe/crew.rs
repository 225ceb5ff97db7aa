//! Which duties are running: brought in step with what is wanted, so that those which did not change go on undisturbed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::change::Outlook;
use super::cluster::{Follower, Subject};
use super::duty::{Duty, Paces, Rhythm, keep};
use super::files::Files;
use super::grid::{Grid, fast};
use super::hosts::{self, Hosts};
use super::peer::Peer;
use super::probe::Probe;
use super::promql;
use super::releases::{self, Releases};
use super::scrape::{Reader, Scrape};
use super::shared::{Site, deadline};
use super::unseen::Unseen;
use crate::config::model::{self, Endpoint, FileTargets, HealthEndpoint};
use crate::domain::id::{InstanceId, SignalName, TargetId};
use crate::domain::observation::{Observation, Seen};
use crate::domain::policy::{Habitat, ReleaseDir};
use crate::domain::time::Span;

/// How long a duty may be silent beyond what its pace and its look explain: a loop that is busy elsewhere.
const GRACE: Duration = Duration::from_secs(10);

/// What tells one duty of a workload from another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Key {
    Scrape(TargetId),
    Probe(TargetId),
    /// The place in the list counts, since two entries may name one file.
    Files(usize, PathBuf),
    Query(SignalName),
    Releases,
    Hosts,
    Cluster,
}

/// All that a duty is made from; a duty whose spec is another is started anew.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Spec {
    Scrape { endpoint: Endpoint, interval: Span },
    Probe { health: HealthEndpoint, interval: Span },
    Files { source: FileTargets, instances: Vec<InstanceId>, interval: Span },
    Query { query: model::Query, interval: Span },
    Releases { habitat: Habitat, interval: Span },
    Hosts { place: ReleaseDir, interval: Span },
    Cluster(Box<Subject>),
    Unseen { why: String, interval: Span },
}

/// The running duties of one workload, or of one file of targets. They end with it.
#[derive(Debug)]
pub(super) struct Crew {
    site: Site,
    members: BTreeMap<Key, Member>,
}

#[derive(Debug)]
struct Member {
    spec: Spec,
    /// Cancelled where another duty goes on in its place, so that what it saw is not forgotten.
    replaced: CancellationToken,
    _stop: DropGuard,
}

impl Crew {
    pub(super) fn new(site: Site) -> Self {
        Self { site, members: BTreeMap::new() }
    }

    /// Another crew is about to look at these.
    pub(super) fn give_way(&self, wanted: &BTreeMap<Key, Spec>) {
        self.members
            .iter()
            .filter(|(key, _)| wanted.contains_key(key))
            .for_each(|(_, member)| member.replaced.cancel());
    }

    /// Ends what is not wanted, starts what is new, and leaves the rest alone.
    pub(super) fn reconcile(&mut self, wanted: BTreeMap<Key, Spec>) {
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
                start(&self.site, place.key(), spec.clone(), end);
                place.insert(Member { spec, replaced, _stop: stop.drop_guard() });
            }
        }
    }
}

/// The duties for a list of pages.
pub(super) fn pages(endpoints: &[Endpoint], interval: Span) -> impl Iterator<Item = (Key, Spec)> {
    let urls: Vec<&Url> = endpoints.iter().map(|endpoint| &endpoint.url).collect();
    let names = target_names(&urls);
    endpoints
        .iter()
        .zip(names)
        .map(move |(endpoint, name)| (Key::Scrape(name), Spec::Scrape { endpoint: endpoint.clone(), interval }))
}

/// The duties for a list of health endpoints.
pub(super) fn probes(endpoints: &[HealthEndpoint], interval: Span) -> impl Iterator<Item = (Key, Spec)> {
    let urls: Vec<&Url> = endpoints.iter().map(|health| &health.endpoint.url).collect();
    let names = target_names(&urls);
    endpoints
        .iter()
        .zip(names)
        .map(move |(health, name)| (Key::Probe(name), Spec::Probe { health: health.clone(), interval }))
}

/// `host:port` for each URL. Where two have that in common the path is added, and where that is not enough a number.
fn target_names(urls: &[&Url]) -> Vec<TargetId> {
    let short = |url: &Url| {
        let host = url.host_str().unwrap_or_default();
        url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    };
    let long = |url: &Url| format!("{}{}", short(url), url.path());
    let counts = |name: &dyn Fn(&Url) -> String| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for url in urls {
            *counts.entry(name(url)).or_default() += 1;
        }
        counts
    };
    let (shorts, mut used) = (counts(&short), BTreeMap::<String, usize>::new());
    let mut names = Vec::with_capacity(urls.len());
    for url in urls {
        let name = if shorts.get(&short(url)) == Some(&1) { short(url) } else { long(url) };
        let uses = used.entry(name.clone()).or_default();
        *uses += 1;
        names.push(if *uses == 1 { TargetId::new(&name) } else { TargetId::new(format!("{name}#{uses}")) });
    }
    names
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
        Key::Files(..) | Key::Query(_) | Key::Releases | Key::Hosts | Key::Cluster => None,
    }
}

fn start(site: &Site, key: &Key, spec: Spec, end: End) {
    let shared = &site.shared;
    match spec {
        Spec::Scrape { endpoint, interval } => {
            let Key::Scrape(target) = key else { return };
            let limit = deadline(interval);
            let what = format!("page of {target}");
            let peer = Peer::new(endpoint.url, shared.caller(&endpoint.http));
            let duty = Scrape {
                target: target.clone(),
                instance: endpoint.instance,
                outlook: Outlook::new(&site.workload, what.clone()),
                shared: Arc::clone(shared),
                reader: Reader::new(peer, Arc::clone(&site.table), limit, !site.is_led),
                deadline: limit,
            };
            spawn(site, end, what, at_address(interval), limit, duty);
        }
        Spec::Probe { health, interval } => {
            let Key::Probe(target) = key else { return };
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
            let duty = Files::new(source, interval, instances, Crew::new(site.clone()), outlook);
            spawn(site, end, what, Paces { usual: interval, fast: interval }, Duration::ZERO, duty);
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
        Spec::Cluster(subject) => follow(site, end, *subject),
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
fn follow(site: &Site, end: End, subject: Subject) {
    let shared = Arc::clone(&site.shared);
    let silence = Duration::from(subject.interval.times(2)) + GRACE;
    let pulse = shared.pulses.register(site.workload.clone(), "watched workload".to_owned(), silence);
    let follower = Follower::new(subject, site.clone());
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
    use super::*;

    #[test]
    fn targets_are_named_by_address_and_by_more_where_that_is_needed() {
        let urls = [
            "http://a:9100/metrics",
            "http://b/metrics",
            "https://b/metrics",
            "http://c:1/metrics",
            "http://c:1/other?token=x",
            "http://c:1/metrics",
            "http://[::1]:2/metrics",
        ]
        .map(|url| Url::parse(url).unwrap());
        let names = target_names(&urls.iter().collect::<Vec<_>>());
        let names: Vec<&str> = names.iter().map(TargetId::as_str).collect();
        assert_eq!(names, ["a:9100", "b:80", "b:443", "c:1/metrics", "c:1/other", "c:1/metrics#2", "[::1]:2"]);
    }
}
