//! What the edges see and hand inwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::{InstanceId, RevisionId, SignalName, TargetId, WorkloadId};
use super::policy::{ClusterObject, ObjectKind, OperandId, Owner, Pin, Release, Switch};
use super::settings::Settings;
use super::time::Timestamp;

/// One look at one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Which workload it belongs to.
    pub workload: WorkloadId,
    /// When the answer was complete.
    pub at: Timestamp,
    /// What was looked at, and what was seen.
    pub seen: Seen,
}

/// What was looked at, and what was seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// An exposition page.
    Scrape {
        /// The address.
        target: TargetId,
        /// The instance behind it, where the policy says.
        instance: Option<InstanceId>,
        /// The page, or why there is none.
        result: Result<Page, Fault>,
    },
    /// A health endpoint.
    Probe {
        /// The address.
        target: TargetId,
        /// The instance behind it, where the policy says.
        instance: Option<InstanceId>,
        /// The answer, or why there is none.
        result: Result<Answer, Fault>,
    },
    /// A page that is not looked at any more.
    PageGone {
        /// Its address.
        target: TargetId,
    },
    /// A health endpoint that is not asked any more.
    EndpointGone {
        /// Its address.
        target: TargetId,
    },
    /// An expression, evaluated by a Prometheus server.
    Query {
        /// The signal that it computes.
        signal: SignalName,
        /// What the server says, or why it says nothing.
        result: Result<QueryAnswer, Fault>,
    },
    /// Which releases exist and which one each instance is at.
    Releases(Result<ReleaseView, Fault>),
    /// What the host says of an instance's processes.
    Host {
        /// The instance.
        instance: InstanceId,
        /// The reading, or why there is none.
        result: Result<HostReading, Fault>,
    },
}

/// Identity of a series within one workload, the same for the life of the process: the same text has the same id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SeriesId(pub u32);

/// One kept value of an exposition page.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// The operand that asked for it. A series that two operands ask for comes once for each.
    pub operand: OperandId,
    /// Which series.
    pub series: SeriesId,
    /// `le` of a bucket (+Inf included) or `quantile` of a summary; 0 for a plain value.
    pub bound: f64,
    /// As exposed; may be NaN or infinite.
    pub value: f64,
    /// The exporter's own time stamp, where it gave one.
    pub timestamp: Option<Timestamp>,
}

/// What was kept of an exposition page.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Page {
    /// The kept samples, in page order.
    pub samples: Vec<Sample>,
    /// `process_start_time_seconds`, where exposed: by the wall clock.
    pub process_start: Option<f64>,
    /// How far the wall clock was ahead of the timeline when the page was read, in milliseconds; negative where behind.
    pub wall_ahead: i64,
    /// Names of the families on the page, sorted, for telling which lie nearest to one that was not found, and what came in
    /// the place of one that is gone. Only sent with the first page and when an operand matched nothing; shared between pages
    /// that offer the same.
    pub families: Option<Arc<[String]>>,
}

/// What a health endpoint said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Whether status and body are as expected.
    pub healthy: bool,
    /// What was expected and what came, in one line, where it is not healthy.
    pub detail: String,
    /// The release that says it answered, where the policy tells how to know.
    pub revision: Option<RevisionId>,
}

/// What a Prometheus server said of an expression.
#[derive(Clone, PartialEq, Debug)]
pub struct QueryAnswer {
    /// The value, which may be NaN or infinite; none where no series matched.
    pub value: Option<f64>,
    /// The time that the server evaluated it for, where it says so.
    pub evaluated: Option<Timestamp>,
    /// The server's first warning: the answer may leave something out.
    pub warning: Option<String>,
}

/// Which releases exist and which one each instance is at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReleaseView {
    /// Each instance and the release that it is configured to run.
    pub instances: Vec<(InstanceId, RevisionId)>,
    /// The releases that are there, newest first where an order is known.
    pub available: Vec<Release>,
    /// Where an orchestrator brings the instances to a release by itself.
    pub orchestrated: Option<Box<Orchestrated>>,
    /// When the last look began that showed the instances at others: by then none was at these yet. None where no look did,
    /// or where looks take no time worth the name.
    pub unlike_at: Option<Timestamp>,
    /// When each instance's symlink was put where it is, where it has one and the file system says so.
    pub pointed: BTreeMap<InstanceId, Timestamp>,
}

impl ReleaseView {
    /// The instances of a release.
    pub fn at(&self, release: &RevisionId) -> impl Iterator<Item = &InstanceId> {
        self.instances.iter().filter(move |(_, revision)| revision == release).map(|(instance, _)| instance)
    }

    /// The instances of a release that are in service, or ready to be.
    #[must_use]
    pub fn in_service_at(&self, release: &RevisionId) -> Vec<InstanceId> {
        let Some(orchestrated) = &self.orchestrated else { return Vec::new() };
        self.at(release).filter(|instance| orchestrated.serving.contains(instance)).cloned().collect()
    }

    /// What instances of a release find no room, and why, where that is all that keeps it: who makes them is not let make
    /// them, or no node takes them up. `at_least` is how many there should be, where that is not all that are asked for.
    #[must_use]
    pub fn want_of_room(&self, release: &RevisionId, at_least: Option<u32>) -> Option<String> {
        let orchestrated = self.orchestrated.as_ref()?;
        let serving = self.in_service_at(release).len();
        let unplaced = self.at(release).filter(|instance| orchestrated.unplaced.contains(instance)).count();
        // One that a node took up and that is not in service may not be well.
        if self.at(release).count() > serving + unplaced {
            return None;
        }
        let all_serve = || self.instances.iter().all(|(instance, _)| orchestrated.serving.contains(instance));
        let (missing, is_refused) = match at_least {
            Some(at_least) => (at_least.saturating_sub(u32::try_from(serving).unwrap_or(u32::MAX)), false),
            // Whose controller does not say so is not let make any, where it has none to wait for.
            None if orchestrated.desired == *release => (orchestrated.absent, all_serve()),
            None => return None,
        };
        let why = match &orchestrated.refused {
            Some(refused) => refused.as_str(),
            None if unplaced > 0 => "no node takes them up",
            None if is_refused => "they are not made",
            None => return None,
        };
        (missing > 0).then(|| format!("{missing} find no room: {why}"))
    }

    /// Whether every instance is at this release, or on its way there.
    #[must_use]
    pub fn is_bound_for(&self, release: &RevisionId) -> bool {
        match &self.orchestrated {
            Some(orchestrated) => orchestrated.desired == *release,
            None => self.instances.iter().all(|(_, revision)| revision == release),
        }
    }
}

/// What an orchestrator says of a workload that it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Orchestrated {
    /// What it runs.
    pub object: ClusterObject,
    /// The release that every instance is to be at.
    pub desired: RevisionId,
    /// How many instances there should be.
    pub replicas: u32,
    /// How many are missing at the desired release that its rollout was to bring about: not made, or taken up by no node.
    pub absent: u32,
    /// Whether its rollout was complete once, by the word of who brings it about: what is missing now was asked for later.
    pub has_arrived: bool,
    /// The instances, of whatever release, that no node took up.
    pub unplaced: BTreeSet<InstanceId>,
    /// When each instance was made, by the orchestrator's clock.
    pub created: BTreeMap<InstanceId, Timestamp>,
    /// Why instances can't be made, in the words of who makes them.
    pub refused: Option<String>,
    /// What is told to end and is still there, by release.
    pub leaving: BTreeMap<RevisionId, Leaving>,
    /// How far the way to the desired release is.
    pub rollout: Rollout,
    /// The instances in service, or ready for it. Only they are looked at; the others are about to come or to go.
    pub serving: Vec<InstanceId>,
    /// What holds each release's template.
    pub kept: BTreeMap<RevisionId, Pin>,
    /// Whether an instance that is replaced takes nothing with it.
    pub is_stateless: bool,
    /// Whether an instance that is scaled away takes what it has stored with it.
    pub sheds_claims: bool,
    /// How many releases before the present one are kept; none where the orchestrator decides.
    pub history_limit: Option<u32>,
    /// What tries a release beside it.
    pub canary: Option<Canary>,
    /// What waits beside it for the traffic.
    pub idle: Option<Idle>,
    /// Who besides people writes what a rollback would write, each once.
    pub owners: Vec<Owner>,
    /// What its releases name besides their templates.
    pub settings: Settings,
}

/// Instances of a release that were told to end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaving {
    /// How many.
    pub instances: u32,
    /// By when the last of them is to have ended.
    pub until: Timestamp,
}

/// A second object of the same kind, which tries a release beside the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Canary {
    /// What the orchestrator runs.
    pub object: ClusterObject,
    /// The release that it tries.
    pub release: RevisionId,
    /// The release of the first object.
    pub stable: RevisionId,
    /// How far the way to that is.
    pub stable_rollout: Rollout,
}

/// The other one of two objects behind a switch: it gets no traffic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Idle {
    /// What the orchestrator runs.
    pub object: ClusterObject,
    /// The release that it is at, or on its way to.
    pub release: RevisionId,
    /// How many instances it should have.
    pub replicas: u32,
    /// Why it does not come up, where the orchestrator has given up.
    pub stalled: Option<String>,
    /// Its instances, of whatever release.
    pub instances: BTreeSet<InstanceId>,
    /// What would give it the traffic.
    pub switch: Switch,
}

impl Orchestrated {
    /// Takes in the owners of something that belongs to it.
    pub fn add_owners(&mut self, owners: Vec<Owner>) {
        for owner in owners {
            if !self.owners.contains(&owner) {
                self.owners.push(owner);
            }
        }
    }

    /// Whether it has a number of instances that can be set, and nothing is lost by that: a DaemonSet has one on every node.
    #[must_use]
    pub const fn can_be_scaled(&self) -> bool {
        match self.object.kind {
            ObjectKind::Deployment | ObjectKind::StatefulSet => !self.sheds_claims,
            ObjectKind::DaemonSet => false,
        }
    }
}

/// How far a rollout is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rollout {
    /// Every instance is at the desired release and in service.
    Complete,
    /// Not yet.
    UnderWay {
        /// What is still to come, in one line.
        left: String,
    },
    /// It made no progress for as long as the workload allows.
    Stalled {
        /// What the orchestrator says of it.
        why: String,
    },
}

/// Cumulative counts of one instance as the host knows them; `None` where the host can't say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostReading {
    /// Processes killed by the kernel for memory.
    pub oom_kills: Option<u64>,
    /// Times that the service manager or the orchestrator restarted it.
    pub restarts: Option<u64>,
    /// Whether the service manager has it up, or the orchestrator has it in service.
    pub active: Option<bool>,
    /// Whether its image can't be had.
    pub image_missing: Option<bool>,
    /// Who says whether it is up.
    pub teller: Teller,
}

/// Who says of an instance whether it is up, and what that means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Teller {
    /// The service manager: its process runs, whether it answers or not.
    #[default]
    ServiceManager,
    /// The orchestrator: it is in service.
    Orchestrator,
    /// Only how many of the workload's instances are in service is known. It stands for one of that many, no one in
    /// particular.
    Number,
}

/// Why nothing was seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// Of which sort.
    pub kind: FaultKind,
    /// The particulars, in one line, free of secrets.
    pub detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.detail)
    }
}

/// Sorts of failed looks, classified once, where they happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The peer refused or reset the connection, or closed it early.
    Refused,
    /// The peer did not answer in time.
    Timeout,
    /// The peer answered with a status that is not a success.
    Status,
    /// The name could not be resolved, or no route leads there: this side's sight is lost.
    Unreachable,
    /// The TLS handshake failed.
    Tls,
    /// The answer is over a limit.
    TooLarge,
    /// The answer is not what its format says.
    Malformed,
    /// A file, credential or command of this side is missing or failed.
    Local,
}

impl FaultKind {
    /// Whether the fault says something about the peer, rather than about this side's sight.
    #[must_use]
    pub const fn is_peers(self) -> bool {
        match self {
            FaultKind::Refused | FaultKind::Timeout | FaultKind::Status => true,
            FaultKind::Unreachable | FaultKind::Tls | FaultKind::TooLarge | FaultKind::Malformed | FaultKind::Local => {
                false
            }
        }
    }

    /// Its label value in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            FaultKind::Refused => "refused",
            FaultKind::Timeout => "timeout",
            FaultKind::Status => "status",
            FaultKind::Unreachable => "unreachable",
            FaultKind::Tls => "tls",
            FaultKind::TooLarge => "too-large",
            FaultKind::Malformed => "malformed",
            FaultKind::Local => "local",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
