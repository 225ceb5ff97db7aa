//! All looks at all workloads, as the engine steers them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};

use super::addresses::Addresses;
use super::cluster::{Beside, Crowd, Offer, Subject};
use super::crew::{Crew, Key, Spec, Wanted};
use super::duty::Beat;
use super::pulse::Stalled;
use super::shared::{Shared, Site};
use super::stats::ObserveStats;
use crate::clock::Clock;
use crate::cluster::settings::Keyring;
use crate::config::model::{Config, Sources, Workload};
use crate::domain::id::{InstanceId, WorkloadId};
use crate::domain::observation::Observation;
use crate::domain::policy::{Habitat, Kubernetes, KubernetesSubject, ObjectKind};
use crate::domain::time::Span;
use crate::engine::ports::Looks;

/// All looks at all workloads. Dropping it ends them.
#[derive(Debug)]
pub struct Observers {
    shared: Arc<Shared>,
    watched: Mutex<BTreeMap<WorkloadId, Watched>>,
}

#[derive(Debug)]
struct Watched {
    beat: watch::Sender<Beat>,
    crew: Arc<Mutex<Crew>>,
}

impl Observers {
    /// No looks yet. What is seen goes to `out`; while it is full, rounds are left out and counted.
    #[must_use]
    pub fn new(clock: Clock, out: mpsc::Sender<Observation>, stats: Arc<ObserveStats>) -> Self {
        Self::with_keyring(clock, out, stats, Keyring::default(), Crowd::default())
    }

    /// The same, with what it takes to tell Secrets apart, beside other watches in clusters.
    #[must_use]
    pub fn with_keyring(
        clock: Clock,
        out: mpsc::Sender<Observation>,
        stats: Arc<ObserveStats>,
        keyring: Keyring,
        crowd: Crowd,
    ) -> Self {
        Self { shared: Arc::new(Shared::new(clock, out, stats, keyring, crowd)), watched: Mutex::default() }
    }

    /// Looks at what the configuration names: new targets are started, those that are gone end, and those that did not
    /// change go on undisturbed, their connections included. Must be called within a runtime.
    pub fn apply(&self, config: &Config) {
        let mut watched = self.watched();
        watched.retain(|id, _| config.workloads.contains_key(id));
        for (id, workload) in &config.workloads {
            let wanted = wanted(workload);
            match watched.get(id) {
                Some(known) => known.crew.lock().unwrap_or_else(PoisonError::into_inner).want(wanted),
                None => drop(watched.insert(id.clone(), self.watch(id, wanted))),
            }
        }
    }

    /// The duty that has made no progress for longest, where one is beyond its time.
    #[must_use]
    pub fn stalled(&self) -> Option<Stalled> {
        self.shared.pulses.stalled()
    }

    /// What the looks did so far.
    #[must_use]
    pub fn stats(&self) -> &Arc<ObserveStats> {
        &self.shared.stats
    }

    /// Ends all looks and waits until they have ended.
    pub async fn shutdown(&self) {
        self.shared.tasks.close();
        self.watched().clear();
        self.shared.tasks.wait().await;
    }

    fn watch(&self, id: &WorkloadId, wanted: Wanted) -> Watched {
        let (beat, receiver) = watch::channel(Beat::default());
        let site = Site { shared: Arc::clone(&self.shared), workload: id.clone(), beat: receiver };
        Watched { beat, crew: Crew::new(site, wanted) }
    }

    fn tell(&self, id: &WorkloadId, change: impl FnOnce(&mut Beat) -> bool) {
        if let Some(watched) = self.watched().get(id) {
            watched.beat.send_if_modified(change);
        }
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<WorkloadId, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Looks for Observers {
    fn pace(&self, workload: &WorkloadId, fast: bool) {
        self.tell(workload, |beat| {
            let is_change = beat.fast != fast;
            beat.fast = fast;
            is_change
        });
    }

    fn nudge(&self, workload: &WorkloadId) {
        self.tell(workload, |beat| {
            beat.nudges += 1;
            true
        });
    }
}

/// All that is to be looked at of a workload.
fn wanted(workload: &Workload) -> Wanted {
    let (policy, sources) = (&workload.policy, &workload.sources);
    Wanted {
        interval: policy.interval,
        operands: policy.operands.clone(),
        is_led: matches!(policy.habitat, Habitat::Command(_)),
        addresses: Addresses { pages: sources.scrape.clone(), probes: sources.health.clone() },
        duties: duties(workload),
    }
}

fn duties(workload: &Workload) -> BTreeMap<Key, Spec> {
    let (policy, sources) = (&workload.policy, &workload.sources);
    let interval = policy.interval;
    let instances = instances(&policy.habitat);
    let mut duties = BTreeMap::new();
    for (place, source) in sources.scrape_files.iter().enumerate() {
        let same = sources.scrape_files[..place].iter().filter(|before| before.path == source.path).count();
        let spec = Spec::Files { source: source.clone(), instances: instances.clone(), interval };
        duties.insert(Key::Files(source.path.clone(), same), spec);
    }
    duties.extend(
        sources
            .queries
            .iter()
            .map(|query| (Key::Query(query.signal.clone()), Spec::Query { query: query.clone(), interval })),
    );
    let releases = || Spec::Releases { habitat: policy.habitat.clone(), interval };
    match &policy.habitat {
        Habitat::ReleaseDir(place) => {
            duties.insert(Key::Releases, releases());
            duties.insert(Key::Hosts, Spec::Hosts { place: place.clone(), interval });
        }
        Habitat::Command(_) => {
            duties.insert(Key::Releases, releases());
        }
        Habitat::Kubernetes(cluster) => duties.extend(watched(cluster, sources, interval)),
    }
    duties
}

/// What is followed in a cluster, where this daemon can.
fn watched(cluster: &Kubernetes, sources: &Sources, interval: Span) -> Option<(Key, Spec)> {
    if let Some(why) = &sources.unseen {
        return Some((Key::Unseen, Spec::Unseen { why: why.clone(), interval }));
    }
    let namespace = cluster.namespace.as_ref()?;
    let (kind, name, beside) = match &cluster.subject {
        KubernetesSubject::Object { kind, name } => (*kind, name, Beside::Nothing),
        KubernetesSubject::Canary { stable, canary, .. } => {
            (ObjectKind::Deployment, stable, Beside::Canary(canary.clone()))
        }
        KubernetesSubject::BlueGreen { service, selector_key, blue, green, .. } => {
            let (other, service, key) = (green.clone(), service.clone(), selector_key.clone());
            (ObjectKind::Deployment, blue, Beside::Colour { other, service, key })
        }
        KubernetesSubject::Selected { .. } | KubernetesSubject::OwnerOfPod => return None,
    };
    let subject = Subject {
        context: cluster.context.clone(),
        namespace: namespace.clone(),
        kind,
        name: name.clone(),
        beside,
        keep: cluster.keep,
        offer: Offer { scrape: sources.pod_scrape.clone(), health: sources.pod_health.clone() },
        interval,
    };
    let Subject { context, namespace, kind, name, .. } = subject.clone();
    Some((Key::Cluster { context, namespace, kind, name }, Spec::Cluster(Box::new(subject))))
}

fn instances(habitat: &Habitat) -> Vec<InstanceId> {
    match habitat {
        Habitat::ReleaseDir(place) => place.instances.iter().map(|instance| instance.id.clone()).collect(),
        Habitat::Command(commands) => commands.instances.clone(),
        Habitat::Kubernetes(_) => Vec::new(),
    }
}
