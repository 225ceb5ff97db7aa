//! What the operator asked for, with every name resolved and every number in its base unit.

mod kubernetes;
mod owner;
mod trigger;

pub use kubernetes::{
    Ask, AskedPage, ClusterObject, Keep, Kubernetes, KubernetesSubject, ObjectKind, Pin, Sign, Switch, listed,
};
pub use owner::{Gitops, GitopsTool, Owner, OwnerObject, RolloutTool};
pub use trigger::{Combination, Combine, Term, Trigger};

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::health::selector::Selector;
use super::id::{InstanceId, ReceiverName, RevisionId, SignalName, WorkloadId};
use super::time::Span;
use super::units::{Finite, Unit};

/// How far the daemon may go. Ordered from strict to free, so that `min` is the stricter of two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Judge and tell; never act.
    Observe,
    /// Act once a human has approved.
    Approve,
    /// Act.
    Enforce,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Observe => "observe",
            Mode::Approve => "approve",
            Mode::Enforce => "enforce",
        })
    }
}

/// How a release is taken back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Everything at once.
    Direct,
    /// One instance at a time, with a health gate between.
    Rolling,
    /// Traffic moves back to the colour that still runs.
    BlueGreen,
    /// The canary goes; stable keeps serving.
    Canary,
}

impl Strategy {
    /// The time that a whole rollback may take where the policy names none, from the procedures' duration column:
    /// direct 5 min, rolling 15 min, blue-green 1 min, canary 3 min.
    #[must_use]
    pub const fn default_deadline(self) -> Span {
        match self {
            Strategy::Direct => Span::from_secs(300),
            Strategy::Rolling => Span::from_secs(900),
            Strategy::BlueGreen => Span::from_secs(60),
            Strategy::Canary => Span::from_secs(180),
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Strategy::Direct => "direct",
            Strategy::Rolling => "rolling",
            Strategy::BlueGreen => "blue-green",
            Strategy::Canary => "canary",
        })
    }
}

/// One workload's policy, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadPolicy {
    /// Which workload.
    pub id: WorkloadId,
    /// How far the daemon may go here; never freer than the daemon's own mode.
    pub mode: Mode,
    /// How a bad release is taken back.
    pub strategy: Strategy,
    /// Time between two scrapes of one target.
    pub interval: Span,
    /// Whether any page or health endpoint is asked. Where all that is seen comes from a Prometheus server, no gate on the way
    /// could be passed, and the proof is all there is.
    pub is_asked: bool,
    /// How long after a rollout a fault is put down to it.
    pub probation: Span,
    /// How long a release must be seen healthy under traffic before it is known good.
    pub known_good_after: Span,
    /// How long a whole rollback, with verification, may take.
    pub deadline: Span,
    /// Time between two rollbacks of this workload.
    pub cooldown: Span,
    /// Rollbacks of this workload within 24 hours.
    pub per_day: u32,
    /// What is done where a GitOps tool owns the workload.
    pub gitops: Gitops,
    /// How long such an owner is paused at most, from the step that pauses it.
    pub gitops_limit: Span,
    /// What a process that began with or after a rollout measures of latency in its first so long counts for nothing.
    pub warmup: Span,
    /// The domain within which one rollback runs at a time: the namespace, or `host`.
    pub namespace: String,
    /// What the scanner looks for; formulas refer to it by index.
    pub operands: Operands,
    /// The signals, by name, built-ins and conventional ones included.
    pub signals: BTreeMap<SignalName, Signal>,
    /// The triggers, in the order of the file.
    pub triggers: Vec<Trigger>,
    /// What proves that the service is well again.
    pub verify: Verify,
    /// Who is told.
    pub notify: Vec<ReceiverName>,
    /// Where it runs and how it is changed.
    pub habitat: Habitat,
}

impl WorkloadPolicy {
    /// That of a workload which is in no policy any more: nothing is looked at, judged or planned by it.
    #[must_use]
    pub fn of_the_departed(id: WorkloadId, notify: Vec<ReceiverName>) -> Self {
        let place = ReleaseDir { root: PathBuf::new(), releases: PathBuf::new(), instances: Vec::new() };
        Self {
            id,
            mode: Mode::Observe,
            strategy: Strategy::Rolling,
            interval: Span::from_secs(5),
            is_asked: false,
            probation: Span::ZERO,
            known_good_after: Span::ZERO,
            deadline: Span::from_secs(300),
            cooldown: Span::ZERO,
            per_day: 0,
            gitops: Gitops::Alert,
            gitops_limit: Span::ZERO,
            warmup: Span::ZERO,
            namespace: String::new(),
            operands: Operands::default(),
            signals: BTreeMap::new(),
            triggers: Vec::new(),
            verify: Verify { stable_for: Span::ZERO, checks: Vec::new(), health: false, smoke: None },
            notify,
            habitat: Habitat::ReleaseDir(place),
        }
    }
}

/// Index into [`Operands`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct OperandId(pub u16);

/// What a series contributes to a formula.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum OperandKind {
    /// The series' value as it is.
    Value,
    /// A classic histogram: the selector names the family, its `<family>_bucket` series are read, `le` is the bound.
    Buckets,
    /// A summary: series with a `quantile` label, which is the bound.
    Quantiles,
}

/// One set of series that a formula reads.
#[derive(Clone, PartialEq, Debug)]
pub struct Operand {
    /// Which series.
    pub selector: Selector,
    /// What of them is read.
    pub kind: OperandKind,
}

/// The distinct operands of a policy, so that each series is kept once however many signals read it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Operands(Vec<Operand>);

impl Operands {
    /// The id of an equal operand, added where there is none yet. `None` past 65,536 of them.
    pub fn intern(&mut self, operand: Operand) -> Option<OperandId> {
        let index = match self.0.iter().position(|known| *known == operand) {
            Some(index) => index,
            None => {
                self.0.push(operand);
                self.0.len() - 1
            }
        };
        u16::try_from(index).ok().map(OperandId)
    }

    /// All of them, in the order of their ids.
    #[must_use]
    pub fn as_slice(&self) -> &[Operand] {
        &self.0
    }

    /// The operand with this id.
    #[must_use]
    pub fn get(&self, id: OperandId) -> Option<&Operand> {
        self.0.get(usize::from(id.0))
    }
}

/// A number over a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// Its name.
    pub name: SignalName,
    /// What its value is measured in, after each candidate's `scale`.
    pub unit: Unit,
    /// How it is computed: one formula where the policy spells it out, the convention table where it does not.
    /// The first whose series are seen on any target is used.
    pub candidates: Vec<Candidate>,
    /// How far back each evaluation looks.
    pub window: Span,
    /// Fewer requests than this in the window: unknown. Zero: no floor.
    pub min_requests: u64,
    /// What an unknown value counts as.
    pub no_data: NoData,
    /// One-sided confidence with which a ratio must be beyond its threshold, in (0.5, 1).
    pub confidence: f64,
}

impl Signal {
    /// Whether it is a share of requests that failed.
    #[must_use]
    pub fn counts_errors(&self) -> bool {
        self.candidates.iter().any(|candidate| matches!(candidate.formula, Formula::Ratio { .. }))
    }
}

/// One way to compute a signal.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The naming convention that it comes from; `None` where the policy spelt it out.
    pub convention: Option<&'static str>,
    /// The computation.
    pub formula: Formula,
    /// Factor to the signal's base unit: 0.001 for a series in milliseconds.
    pub scale: f64,
}

/// How a signal's value comes from its operands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Formula {
    /// Increase of `bad` over increase of `total`.
    Ratio {
        /// Counter of bad requests.
        bad: OperandId,
        /// Counter of all requests.
        total: OperandId,
    },
    /// Quantile of a classic histogram's increase, interpolated as Prometheus' `histogram_quantile` does.
    Histogram {
        /// The buckets.
        buckets: OperandId,
        /// In [0, 1].
        quantile: f64,
    },
    /// The largest of the targets' own quantiles.
    Summary {
        /// The quantile series.
        quantiles: OperandId,
        /// In [0, 1]; must be one that the summary offers.
        quantile: f64,
    },
    /// A gauge combined over series and targets.
    Gauge {
        /// The gauge.
        gauge: OperandId,
        /// How it is combined.
        aggregate: Aggregate,
    },
    /// Increase per second of a counter, summed over targets.
    Rate {
        /// The counter.
        counter: OperandId,
    },
    /// What a Prometheus server answers to an expression.
    Query,
    /// What the daemon sees by itself.
    Builtin(Builtin),
}

/// How a gauge is combined over series and targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregate {
    /// Sum.
    Sum,
    /// Arithmetic mean.
    Avg,
    /// Smallest.
    Min,
    /// Largest.
    Max,
}

/// Signals that need no metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Builtin {
    /// Share of instances whose latest health probe in the window failed.
    Health,
    /// Restarts in the window, over all instances.
    Restarts,
    /// Processes killed for memory in the window.
    OomKills,
    /// Instances that restarted three times or more in the window.
    CrashLoops,
    /// Share of instances that are not in service.
    Unavailable,
    /// 1 while a rollout is past its progress deadline.
    ProgressDeadline,
    /// Instances whose image can't be had.
    ImagePullFailures,
}

/// What a signal without data counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoData {
    /// Unknown: neither for nor against.
    Hold,
    /// Healthy.
    Ok,
    /// Breach.
    Breach,
}

/// When a signal is bad.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Bad when larger than this.
    Above(Finite),
    /// Bad when smaller than this.
    Below(Finite),
    /// Bad when worse than the release before: the one beside it, else its past.
    WorseThanBaseline(Comparison),
}

impl Condition {
    /// The bound itself, in the signal's base unit; none where it depends on the release before.
    #[must_use]
    pub const fn threshold(self) -> Option<f64> {
        match self {
            Condition::Above(bound) | Condition::Below(bound) => Some(bound.get()),
            Condition::WorseThanBaseline(_) => None,
        }
    }

    /// Whether `value` is on the bad side of a fixed bound. The bound itself is not.
    #[must_use]
    pub fn is_breached_by(self, value: Finite) -> bool {
        match self {
            Condition::Above(bound) => value > bound,
            Condition::Below(bound) => value < bound,
            Condition::WorseThanBaseline(_) => false,
        }
    }

    /// In words, with the bound in `unit`.
    #[must_use]
    pub fn describe(self, unit: Unit) -> String {
        match self {
            Condition::Above(bound) => format!("above {}", unit.format(bound.get())),
            Condition::Below(bound) => format!("below {}", unit.format(bound.get())),
            Condition::WorseThanBaseline(_) => "worse than the release before".to_owned(),
        }
    }
}

/// What makes a release materially worse than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// That no release which is not materially worse is called so over its whole probation, in (0.5, 1).
    pub confidence: Finite,
    /// At least so many times the other's value; at least 1.
    pub factor: Finite,
    /// At least so much above the other's value, in the signal's base unit; at least 0.
    pub plus: Finite,
}

impl Comparison {
    /// What makes a release materially worse where the policy says nothing: 1.3 times as much and, of a ratio, a tenth of a
    /// percentage point, of a time, 50 ms more.
    #[must_use]
    pub fn usual(unit: Unit) -> Self {
        let plus = match unit {
            Unit::Ratio => Finite::THOUSANDTH,
            Unit::Seconds => Finite::FIFTY_THOUSANDTHS,
            Unit::Bytes | Unit::PerSecond | Unit::Plain => Finite::ZERO,
        };
        Self { confidence: Finite::CONFIDENT, factor: Finite::MATERIAL, plus }
    }

    /// The e-value that decides side by side: one that a release which is not materially worse reaches with a chance of at
    /// most 1 - confidence.
    #[must_use]
    pub fn evidence_needed(self) -> f64 {
        1.0 / (1.0 - self.confidence.get())
    }

    /// The value from which on a release is materially worse than one with the value `other`, in the base unit.
    #[must_use]
    pub fn bound(self, other: f64) -> f64 {
        (other * self.factor.get()).max(other + self.plus.get())
    }
}

/// What a firing trigger leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// People are told; nothing is rolled back.
    Alert,
    /// Rolled back once a human approves.
    Scheduled,
    /// Rolled back.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Alert => "alert",
            Severity::Scheduled => "scheduled",
            Severity::Critical => "critical",
        })
    }
}

/// What proves that the service is well again after a rollback.
#[derive(Clone, Debug, PartialEq)]
pub struct Verify {
    /// How long all checks must hold without a break.
    pub stable_for: Span,
    /// Signal checks: each must be on the good side. By default `error_rate` below 1 % and `p95_latency` below 500 ms.
    pub checks: Vec<Check>,
    /// Whether health probes, where configured, must all be good.
    pub health: bool,
    /// Smoke test: argv, run once everything else holds; exit status 0 is a pass.
    pub smoke: Option<SmokeTest>,
}

/// One signal that must be on the good side of a bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The signal.
    pub signal: SignalName,
    /// When it is bad; good is the complement.
    pub bad_when: Condition,
    /// Whether the policy names it. A default check whose series do not exist is left out; one that was asked for is not.
    pub explicit: bool,
}

/// A command that exercises the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SmokeTest {
    /// Program and arguments; no shell.
    pub argv: Vec<String>,
    /// How long it may take.
    pub timeout: Span,
}

/// Where a workload runs and how its release is changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Habitat {
    /// Release directories on a plain host.
    ReleaseDir(ReleaseDir),
    /// The operator's own commands.
    Command(CommandHabitat),
    /// Workloads of a Kubernetes cluster, exactly as they are.
    Kubernetes(Kubernetes),
}

/// `root/releases/<revision>/…` with one symlink an instance that names the current one.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleaseDir {
    /// Absolute path that everything else is beneath.
    pub root: PathBuf,
    /// Directory of releases, relative to `root`.
    pub releases: PathBuf,
    /// One or more running copies.
    pub instances: Vec<ReleaseInstance>,
}

/// One running copy of a release directory workload.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleaseInstance {
    /// Its name; the workload's own where there is only one.
    pub id: InstanceId,
    /// The symlink that says which release it runs, relative to the root.
    pub current: PathBuf,
    /// How it is made to run what the symlink names.
    pub restart: Restart,
    /// Its cgroup directory, for OOM kills; found from the unit where there is one.
    pub cgroup: Option<PathBuf>,
}

/// How a process is restarted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Program and arguments; no shell.
    Command(Vec<String>),
    /// A systemd unit.
    Unit(String),
}

/// The operator's own commands, each an argv; `{release}` and `{instance}` stand for whole arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandHabitat {
    /// Prints the current release on its first line.
    pub current: Vec<String>,
    /// Prints the releases that can be gone back to, one a line, newest first.
    pub releases: Vec<String>,
    /// Goes back to `{release}`.
    pub rollback: Vec<String>,
    /// Exit status 0 once `{release}` is in service.
    pub status: Option<Vec<String>>,
    /// Exit status 0 where `{release}` is healthy and has the capacity to take the traffic; asked before anything is done.
    pub check: Option<Vec<String>>,
    /// Decommissions the bad release, given as `{release}`, once the good one serves.
    pub retire: Option<Vec<String>>,
    /// Instances that are taken back one at a time; empty: the command covers all of them.
    pub instances: Vec<InstanceId>,
    /// How long each command may run.
    pub timeout: Span,
}

/// A release that exists and could be gone back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its name.
    pub revision: RevisionId,
    /// Where it lies or what it is made of: an image, a path.
    pub image: Option<String>,
}
