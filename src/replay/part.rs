//! The series of a recording that are about one workload: its own, and those of exporters that tell of it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::bind::Options;
use super::exporters::{QUERY, Tells, tells};
use super::recording::SeriesInfo;
use super::rollouts::owner;
use crate::domain::id::{SignalName, WorkloadId};
use crate::domain::policy::{Habitat, KubernetesSubject, WorkloadPolicy};
use crate::observe::exposition::{Class, Series, Want, Wanted};

/// A series that may be about the workload.
pub(super) struct Part<'r> {
    pub(super) slot: u32,
    pub(super) info: &'r SeriesInfo,
    pub(super) wants: Box<[Want]>,
    pub(super) tells: Option<Tells>,
    pub(super) query: Option<SignalName>,
    pub(super) revision: Option<&'r str>,
}

impl<'r> Part<'r> {
    pub(super) fn of(
        slot: u32,
        info: &'r SeriesInfo,
        wanted: &mut Wanted,
        id: &WorkloadId,
        options: &Options,
        revision_label: &str,
    ) -> Option<Self> {
        let other = options.workload_label.as_ref().is_some_and(|label| info.label(label) != Some(id.as_str()));
        if other || info.first > info.last {
            return None;
        }
        let wants = match wanted.class(&info.name) {
            Class::Skip => Box::from([]),
            Class::Take(ids) => wanted.wants(&ids, &series_of(info)),
        };
        let tells = tells(&info.name);
        let query = info.label("signal").filter(|_| &*info.name == QUERY).map(SignalName::new);
        if wants.is_empty() && tells.is_none() && query.is_none() {
            return None;
        }
        Some(Self { slot, info, wants, tells, query, revision: info.label(revision_label) })
    }

    pub(super) fn pod(&self) -> Option<&'r str> {
        self.info.label("pod").or_else(|| self.info.label("exported_pod"))
    }

    pub(super) fn instance(&self) -> Option<&'r str> {
        self.info.label("instance")
    }

    /// Whether it comes from the workload's own pages, rather than from an exporter that tells of it.
    pub(super) fn is_own(&self) -> bool {
        !self.wants.is_empty()
    }

    pub(super) fn is_about_replicas(&self) -> bool {
        self.tells.is_some_and(Tells::is_about_replicas)
    }

    pub(super) fn is_about_pods(&self) -> bool {
        matches!(self.tells, Some(Tells::OomKills | Tells::Restarts))
    }
}

/// What an exporter counts: series of which this is the same differ by who counts it at most.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Counted {
    tells: Option<Tells>,
    /// Where its events happen.
    spot: Option<u32>,
    revision: Option<String>,
    labels: [Option<Box<str>>; COUNTED.len()],
}

/// The labels that tell what is counted, however it was scraped.
const COUNTED: [&str; 10] = [
    "cluster",
    "namespace",
    "exported_namespace",
    "deployment",
    "exported_deployment",
    "container",
    "exported_container",
    "uid",
    "id",
    "name",
];

impl Counted {
    pub(super) fn of(part: &Part<'_>, spot: u32) -> Self {
        let labels = COUNTED.map(|label| part.info.label(label).map(Into::into));
        let spot = part.is_about_pods().then_some(spot);
        Self { tells: part.tells, spot, revision: part.revision.map(str::to_owned), labels }
    }
}

fn series_of(info: &SeriesInfo) -> Series<'_> {
    let labels = info.labels.iter().map(|(name, value)| (Cow::Borrowed(&**name), Cow::Borrowed(&**value)));
    Series { name: Cow::Borrowed(&info.name), labels: labels.collect(), len: 0 }
}

/// What the workload's own pages tell of its places, by which series of exporters are known to be about it.
#[derive(Default)]
pub(super) struct Known<'r> {
    jobs: BTreeSet<&'r str>,
    pods: BTreeSet<&'r str>,
    /// The pod behind each address, where the pages tell it.
    pub(super) instances: BTreeMap<&'r str, Option<&'r str>>,
    /// What the names of generated pods begin with.
    owners: BTreeSet<&'r str>,
    deployments: BTreeSet<&'r str>,
    namespace: Option<&'r str>,
}

impl<'r> Known<'r> {
    pub(super) fn of(parts: &[Part<'r>]) -> Self {
        let mut known = Self::default();
        for part in parts.iter().filter(|part| part.is_own() || part.revision.is_some()) {
            known.jobs.extend(part.info.label("job").filter(|_| part.is_own()));
            known.pods.extend(part.pod());
            known.deployments.extend(part.info.label("deployment"));
            if let Some(instance) = part.instance().filter(|_| !part.is_about_pods()) {
                let pod = known.instances.entry(instance).or_default();
                *pod = pod.or(part.pod());
            }
        }
        known.owners = known.pods.iter().filter_map(|pod| owner(pod)).collect();
        known
    }

    /// Adds what the policy says of the place.
    pub(super) fn name(&mut self, policy: &'r WorkloadPolicy) {
        self.deployments.insert(policy.id.as_str());
        let Habitat::Kubernetes(place) = &policy.habitat else { return };
        self.namespace = place.namespace.as_deref();
        match &place.subject {
            KubernetesSubject::Object { name, .. } => {
                self.deployments.insert(name);
            }
            KubernetesSubject::BlueGreen { blue, green, .. } => {
                self.deployments.extend([blue.as_str(), green.as_str()])
            }
            KubernetesSubject::Canary { stable, canary, .. } => {
                self.deployments.extend([stable.as_str(), canary.as_str()]);
            }
            KubernetesSubject::Selected { .. } | KubernetesSubject::OwnerOfPod => {}
        }
    }

    /// Of each sort of exporter series those about the workload, where it is known for any; else all of them.
    pub(super) fn ours(&self, parts: Vec<Part<'r>>) -> Vec<Part<'r>> {
        let mut sorts: HashMap<Option<Tells>, bool> = HashMap::new();
        let is_ours: Vec<bool> = parts.iter().map(|part| self.is_ours(part)).collect();
        for (part, ours) in parts.iter().zip(&is_ours) {
            *sorts.entry(part.tells).or_default() |= *ours;
        }
        let keep = |part: &Part<'_>, ours: bool| ours || sorts.get(&part.tells) == Some(&false);
        parts.into_iter().zip(is_ours).filter(|(part, ours)| keep(part, *ours)).map(|(part, _)| part).collect()
    }

    pub(super) fn is_ours(&self, part: &Part<'_>) -> bool {
        let pod = part.pod();
        // A pod that never served has no page by which it would be known.
        let by_pod =
            || pod.is_some_and(|pod| self.pods.contains(pod) || owner(pod).is_some_and(|o| self.owners.contains(o)));
        let by_job = || match part.info.label("job") {
            Some(job) => self.jobs.contains(job),
            None => self.jobs.is_empty() && pod.is_none(),
        };
        if part.is_own() || part.revision.is_some() || part.query.is_some() {
            return true;
        }
        let elsewhere =
            self.namespace.is_some_and(|own| part.info.label("namespace").is_some_and(|other| other != own));
        match part.tells {
            Some(_) if elsewhere => false,
            Some(Tells::Up | Tells::ProcessStart) => by_pod() || by_job() || self.has_address(part),
            Some(Tells::Probe) => by_pod() || self.has_address(part),
            Some(Tells::OomKills | Tells::Restarts) => by_pod(),
            Some(Tells::Replicas | Tells::Available | Tells::Generation | Tells::Wanted) => {
                part.info.label("deployment").is_some_and(|name| self.deployments.contains(name))
            }
            None => false,
        }
    }

    /// Whether it is an address among those of the workload's own pages that never had a page.
    pub(super) fn is_silent(&self, part: &Part<'_>) -> bool {
        let is_among = part.info.label("job").is_some_and(|job| self.jobs.contains(job));
        part.tells == Some(Tells::Up) && is_among && !self.has_address(part)
    }

    pub(super) fn has_address(&self, part: &Part<'_>) -> bool {
        part.instance().is_some_and(|instance| self.address_in(instance).is_some())
    }

    /// The address of a page that a probed URL goes to.
    pub(super) fn address_in(&self, url: &str) -> Option<&'r str> {
        let exact = self.instances.get_key_value(url).map(|(known, _)| *known);
        exact.or_else(|| {
            let host = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or(url);
            self.instances.get_key_value(host).map(|(known, _)| *known)
        })
    }
}
