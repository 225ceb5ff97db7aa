//! One workload's policy, and what holds between workloads.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::habitat;
use super::signal::Signals;
use super::trigger::{self, Sight};
use super::{Resolver, kubernetes, locate, name, sources, verify};
use crate::config::model::{Daemon, Workload};
use crate::config::raw;
use crate::config::raw::decode::{At, Entry, value};
use crate::config::raw::section::{Lost, Section};
use crate::config::raw::text::Port;
use crate::config::source::Place;
use crate::config::suggest;
use crate::domain::id::{ReceiverName, WorkloadId};
use crate::domain::policy::{
    Habitat, Kubernetes, KubernetesSubject, Mode, ObjectKind, Restart, Strategy, WorkloadPolicy,
};
use crate::domain::time::Span;

/// Time between two looks, where the policy does not say.
const INTERVAL: Span = Span::from_secs(5);

/// Shorter intervals cost more than they see; longer ones see too late.
const INTERVALS: (Span, Span) = (Span::from_millis(100), Span::from_secs(300));

/// How long a fault is put down to a rollout.
const PROBATION: Span = Span::from_secs(24 * 3600);

/// Healthy under traffic for this long: known good.
const KNOWN_GOOD_AFTER: Span = Span::from_secs(600);

/// Time between two rollbacks of one workload.
const COOLDOWN: Span = Span::from_secs(1800);

/// Rollbacks of one workload within 24 hours.
const PER_DAY: u32 = 2;

/// Cold caches and code that is not compiled yet.
const WARMUP: Span = Span::from_secs(60);

/// A start that takes longer is a fault of its own.
const LONGEST_WARMUP: Span = Span::from_secs(3600);

/// More rollbacks a day than this are an oscillation.
const MOST_PER_DAY: u64 = 1_000;

/// Shortest and longest time for a rollback.
const DEADLINES: (Span, Span) = (Span::from_secs(1), Span::from_secs(24 * 3600));

/// How long an owner is paused at most: time for somebody to wake up and take the release back in the repository.
const GITOPS_LIMIT: Span = Span::from_secs(3600);

/// Nobody is at work for longer than this.
const LONGEST_GITOPS_LIMIT: Span = Span::from_secs(7 * 24 * 3600);

/// The domain within which one rollback runs at a time, on a host.
const HOST: &str = "host";

/// The same for a sidecar, which knows only its own namespace.
const OWN_NAMESPACE: &str = "own";

/// What a workload is resolved against.
pub(super) struct Around<'a> {
    pub(super) daemon: &'a Daemon,
    pub(super) defaults: &'a raw::workload::Policy,
    /// Keys of the defaults that could not be read.
    pub(super) lost: &'a Lost,
    /// Names of all receivers, those that are wrong included.
    pub(super) receivers: &'a [&'a str],
}

pub(super) fn resolve_all(
    r: &mut Resolver<'_>,
    written: &[&Entry<raw::workload::Workload>],
    around: &Around<'_>,
) -> BTreeMap<WorkloadId, Workload> {
    let mut taken: BTreeMap<Spot, Place> = BTreeMap::new();
    let mut workloads = BTreeMap::new();
    for entry in written {
        let Some(workload) = resolve(r, entry, around) else { continue };
        for spot in spots(&workload.policy.habitat) {
            let message = spot.is_shared(&entry.name);
            if let Some(first) = taken.insert(spot, entry.key).filter(|first| *first != entry.key) {
                let first = locate(r.sources, first);
                r.problems
                    .wrong(entry.key, message)
                    .hint(format!("the other is in {first}; one place has one workload, or two rollbacks would fight"));
                break;
            }
        }
        workloads.insert(workload.policy.id.clone(), workload);
    }
    workloads
}

/// What two workloads may not share.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Spot {
    Link(PathBuf),
    Unit(String),
    Command(Vec<String>),
    /// Context, namespace, kind and name.
    Object(Option<String>, Option<String>, ObjectKind, String),
    /// Context and namespace of a selector, and the selector.
    Selected(Option<String>, Option<String>, String),
    OwnerOfPod,
}

impl Spot {
    /// What is wrong with a workload that shares it with another one.
    fn is_shared(&self, workload: &str) -> String {
        match self {
            Spot::Unit(unit) => format!("the workload `{workload}` restarts the unit of another one, `{unit}`"),
            Spot::Link(_) | Spot::Command(_) | Spot::Object(..) | Spot::Selected(..) | Spot::OwnerOfPod => {
                format!("the workload `{workload}` is where another one is")
            }
        }
    }
}

/// A path with `.` and `..` worked out by its text alone, without a look at the disk.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

fn spots(habitat: &Habitat) -> Vec<Spot> {
    match habitat {
        // Without a path there is no telling.
        Habitat::ReleaseDir(dir) if dir.root.as_os_str().is_empty() => Vec::new(),
        Habitat::ReleaseDir(dir) => dir
            .instances
            .iter()
            .flat_map(|instance| {
                let link = Spot::Link(plain(&dir.root.join(&instance.current)));
                let unit = match &instance.restart {
                    Restart::Unit(unit) if !unit.is_empty() => Some(Spot::Unit(unit.clone())),
                    Restart::Unit(_) | Restart::Command(_) => None,
                };
                [Some(link), unit].into_iter().flatten()
            })
            .collect(),
        Habitat::Command(command) if command.rollback.is_empty() => Vec::new(),
        Habitat::Command(command) => vec![Spot::Command(command.rollback.clone())],
        Habitat::Kubernetes(cluster) => objects(cluster),
    }
}

fn objects(cluster: &Kubernetes) -> Vec<Spot> {
    let object = |kind: ObjectKind, name: &String| {
        Spot::Object(cluster.context.clone(), cluster.namespace.clone(), kind, name.clone())
    };
    let deployments = |first: &String, second: &String| {
        vec![object(ObjectKind::Deployment, first), object(ObjectKind::Deployment, second)]
    };
    match &cluster.subject {
        KubernetesSubject::Object { kind, name } => vec![object(*kind, name)],
        KubernetesSubject::Selected { selector } => {
            vec![Spot::Selected(cluster.context.clone(), cluster.namespace.clone(), selector.clone())]
        }
        KubernetesSubject::OwnerOfPod => vec![Spot::OwnerOfPod],
        KubernetesSubject::BlueGreen { blue, green, .. } => deployments(blue, green),
        KubernetesSubject::Canary { stable, canary, .. } => deployments(stable, canary),
    }
}

fn resolve(r: &mut Resolver<'_>, entry: &Entry<raw::workload::Workload>, around: &Around<'_>) -> Option<Workload> {
    name::check_label(r, "a workload", &entry.name, entry.key);
    let raw = inherit(&entry.value.policy, around.defaults);
    let strategy = value(&raw.strategy).unwrap_or(Strategy::Rolling);
    let mut place = habitat::resolve(r, &entry.name, entry.key, &entry.value, strategy);
    kubernetes::require_key(r, &entry.value, around.daemon);
    let instances = place.as_ref().map(|place| &*place.instances).unwrap_or_default();
    let times = Times::resolve(r, &raw, strategy);
    let empty = raw::decode::Named::default();
    let written = raw.signal.as_ref().map_or(&empty, |at| &at.value);
    let mut signals = Signals::resolve(r, written, raw.prometheus.as_ref(), times.interval);
    let cluster = is_in_cluster(entry, place.as_ref(), &raw);
    let mut sources = sources::resolve(r, &raw, cluster, instances);
    let sight = Sight {
        scrape: !(sources.scrape.is_empty() && sources.scrape_files.is_empty()) || raw.scrape.is_some(),
        health: !sources.health.is_empty() || raw.health.is_some(),
        cluster,
    };
    let is_seen = sight.scrape || sight.health || !signals.queries.is_empty();
    if !is_seen && !may_be_seen(entry, place.as_ref(), around) {
        r.problems
            .absent(entry.key, format!("nothing is seen of the workload `{}`", entry.name))
            .hint("add `scrape`, `health`, or both");
    }
    let triggers = match &raw.trigger {
        Some(written) => trigger::resolve_all(r, &written.value, &signals, sight, times.probation),
        None => trigger::defaults(&signals, sight),
    };
    let verify = raw.verify.as_ref().map(|at| at.value.clone()).unwrap_or_default();
    let verify = verify::resolve(r, &verify, &signals, sight, times.deadline);
    sources.queries = std::mem::take(&mut signals.queries);
    let (signals, operands) = signals.finish(sight.scrape);
    if let Some(place) = &mut place {
        kubernetes::ask_by_health(&mut place.habitat, sources.pod_health.as_ref());
    }
    let policy = WorkloadPolicy {
        id: WorkloadId::new(&entry.name),
        mode: mode(r, &raw, around.daemon.mode),
        strategy,
        interval: times.interval,
        is_asked: sight.scrape || sight.health,
        probation: times.probation,
        known_good_after: times.known_good_after,
        deadline: times.deadline,
        cooldown: times.cooldown,
        per_day: per_day(r, &raw),
        gitops: value(&raw.gitops).unwrap_or_default(),
        gitops_limit: times.gitops_limit,
        warmup: times.warmup,
        namespace: place.as_ref().map(|place| namespace(&place.habitat)).unwrap_or_default(),
        operands,
        signals,
        triggers,
        verify,
        notify: receivers(r, &raw, around.receivers),
        habitat: place?.habitat,
    };
    Some(Workload { policy: Arc::new(policy), sources })
}

/// Whether what is written of addresses is about pods. Where the place is wrong, what can be told of it decides.
fn is_in_cluster(
    entry: &Entry<raw::workload::Workload>,
    place: Option<&habitat::Resolved>,
    raw: &raw::workload::Policy,
) -> bool {
    match place.map(|place| &place.habitat) {
        Some(Habitat::Kubernetes(_)) => true,
        Some(Habitat::ReleaseDir(_) | Habitat::Command(_)) => false,
        None => {
            let scrape = raw.scrape.as_ref().and_then(|at| at.value.port.as_ref());
            let health = raw.health.as_ref().and_then(|at| at.value.port.as_ref());
            let is_named = |port: Option<&At<Port>>| port.is_some_and(|at| matches!(at.value, Port::Name(_)));
            let own = &entry.value;
            let is_cluster = own.kubernetes.is_some() || own.lost.may_be(&["kubernetes"]);
            let is_host = own.release_dir.is_some() || own.command.is_some();
            !is_host && (is_cluster || is_named(scrape) || is_named(health))
        }
    }
}

/// Whether a workload without addresses may be seen all the same: by its host, or by what could not be read.
fn may_be_seen(entry: &Entry<raw::workload::Workload>, place: Option<&habitat::Resolved>, around: &Around<'_>) -> bool {
    let own = &entry.value;
    let addresses = ["scrape", "health"];
    place.is_none_or(|place| place.watched)
        || own.lost.may_be(&addresses)
        || around.lost.may_be(&addresses)
        || own.release_dir.as_ref().is_some_and(|at| at.value.damaged)
        || own.command.as_ref().is_some_and(|at| at.value.damaged)
        || own.policy.signal.iter().flat_map(|at| &at.value.0).any(|entry| entry.value.lost.may_be(&["promql"]))
}

/// The workload's own keys over the defaults: signals by name, verification key by key, everything else as a whole.
fn inherit(own: &raw::workload::Policy, defaults: &raw::workload::Policy) -> raw::workload::Policy {
    let signal = match (&own.signal, &defaults.signal) {
        (Some(own), Some(defaults)) => Some(own.clone().map(|named| named.or(&defaults.value))),
        _ => None,
    };
    let verify = match (&own.verify, &defaults.verify) {
        (Some(own), Some(defaults)) => Some(own.clone().map(|verify| verify.or(&defaults.value))),
        _ => None,
    };
    let merged = own.clone().or(defaults);
    raw::workload::Policy { signal: signal.or(merged.signal), verify: verify.or(merged.verify), ..merged }
}

/// The lengths of time of a workload.
struct Times {
    interval: Span,
    probation: Span,
    known_good_after: Span,
    deadline: Span,
    cooldown: Span,
    gitops_limit: Span,
    warmup: Span,
}

impl Times {
    fn resolve(r: &mut Resolver<'_>, raw: &raw::workload::Policy, strategy: Strategy) -> Self {
        if let Some(interval) = &raw.interval {
            r.within("interval", interval, INTERVALS);
        }
        if let Some(deadline) = &raw.deadline {
            r.within("deadline", deadline, DEADLINES);
        }
        if let Some(warmup) = &raw.warmup {
            r.within("warmup", warmup, (Span::ZERO, LONGEST_WARMUP));
        }
        let interval = value(&raw.interval).unwrap_or(INTERVAL);
        for (key, field) in [("probation", &raw.probation), ("known_good_after", &raw.known_good_after)] {
            if let Some(written) = field.as_ref().filter(|at| at.value < interval) {
                r.problems
                    .wrong(written.at, format!("`{key}` is shorter than the interval of {interval}"))
                    .hint("nothing would be seen in that time");
            }
        }
        let deadline = value(&raw.deadline).unwrap_or(strategy.default_deadline());
        if let Some(limit) = &raw.gitops_limit {
            r.within("gitops_limit", limit, (deadline, LONGEST_GITOPS_LIMIT));
        }
        Self {
            interval,
            probation: value(&raw.probation).unwrap_or(PROBATION),
            known_good_after: value(&raw.known_good_after).unwrap_or(KNOWN_GOOD_AFTER),
            deadline,
            cooldown: value(&raw.cooldown).unwrap_or(COOLDOWN),
            gitops_limit: value(&raw.gitops_limit).unwrap_or(GITOPS_LIMIT.max(deadline)),
            warmup: value(&raw.warmup).unwrap_or(WARMUP),
        }
    }
}

impl Resolver<'_> {
    /// A length of time between two others.
    pub(super) fn within(&mut self, key: &str, written: &At<Span>, (shortest, longest): (Span, Span)) {
        if written.value < shortest {
            self.problems
                .wrong(written.at, format!("`{key}` is too short"))
                .hint(format!("write \"{shortest}\" or more"));
        } else if written.value > longest {
            self.problems
                .wrong(written.at, format!("`{key}` is too long"))
                .hint(format!("write \"{longest}\" or less"));
        }
    }
}

fn namespace(habitat: &Habitat) -> String {
    match habitat {
        Habitat::ReleaseDir(_) | Habitat::Command(_) => HOST.to_owned(),
        Habitat::Kubernetes(cluster) => cluster.namespace.clone().unwrap_or_else(|| OWN_NAMESPACE.to_owned()),
    }
}

/// The stricter of the daemon's mode, the workload's and the command line's.
fn mode(r: &mut Resolver<'_>, raw: &raw::workload::Policy, daemon: Mode) -> Mode {
    if let Some(own) = raw.mode.as_ref().filter(|at| at.value > daemon) {
        r.problems
            .wrong(own.at, format!("the mode {} is looser than the daemon's, {daemon}", own.value))
            .hint("a workload may be stricter than the daemon, never looser");
    }
    let own = value(&raw.mode).map_or(daemon, |own| own.min(daemon));
    r.overrides.mode.map_or(own, |stricter| own.min(stricter))
}

fn per_day(r: &mut Resolver<'_>, raw: &raw::workload::Policy) -> u32 {
    let Some(written) = &raw.per_day else { return PER_DAY };
    if !(1..=MOST_PER_DAY).contains(&written.value) {
        r.problems
            .wrong(written.at, "`per_day` is not between 1 and 1000")
            .hint("for a workload that is never rolled back write mode = \"observe\"");
    }
    u32::try_from(written.value).unwrap_or(PER_DAY)
}

fn receivers(r: &mut Resolver<'_>, raw: &raw::workload::Policy, known: &[&str]) -> Vec<ReceiverName> {
    let mut names: Vec<ReceiverName> = Vec::new();
    for written in raw.notify.iter().flat_map(|at| &at.value) {
        let name = &*written.value;
        if !known.contains(&name) {
            let hint = suggest::hint(name, known.iter().copied());
            let hint = hint.or_else(|| Some(format!("add a section [notify.{name}]")));
            r.problems.absent(written.at, format!("there is no receiver {}", suggest::quoted(name))).maybe_hint(hint);
        }
        let name = ReceiverName::new(name);
        if names.contains(&name) {
            r.problems
                .wrong(written.at, format!("the receiver `{name}` a second time"))
                .hint("name each once: nobody is told twice");
        } else {
            names.push(name);
        }
    }
    names
}
