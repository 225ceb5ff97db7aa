//! What a replay found: each decision, and what came near one.

use serde::{Deserialize, Serialize};

use crate::domain::id::{RevisionId, WorkloadId};
use crate::domain::policy::{Condition, Severity};
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::Unit;

/// What would have been done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nothing fired.
    None,
    /// People would have been told, as there is nothing that could be taken back.
    Alert,
    /// Nothing would have been done, though there was something to take back, and people would have been told why.
    Hold,
    /// The release would have been taken back.
    Rollback,
}

impl Kind {
    /// Its word in the table, the CSV and the JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::None => "none",
            Kind::Alert => "alert",
            Kind::Hold => "hold",
            Kind::Rollback => "rollback",
        }
    }
}

/// One decision.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// About which workload.
    pub workload: WorkloadId,
    /// What fired: a trigger's name, or `blind`.
    pub trigger: String,
    /// How grave it is.
    pub severity: Severity,
    /// First breach of what fired.
    pub onset: Timestamp,
    /// When it was decided.
    pub fired_at: Timestamp,
    /// What would have been done.
    pub decision: Kind,
    /// Why: the numbers, and for a hold what stood in the way.
    pub reason: String,
    /// The guard that held, by its name.
    pub hold: Option<String>,
    /// The release in question.
    pub from: Option<RevisionId>,
    /// The release that would have been gone back to.
    pub to: Option<RevisionId>,
}

/// How near a trigger came to firing over the whole recording.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Near {
    /// Of which workload.
    pub workload: WorkloadId,
    /// Which trigger.
    pub trigger: String,
    /// How its signal is measured.
    pub unit: Unit,
    /// When it is bad.
    pub condition: Option<Condition>,
    /// The value that lay furthest to the bad side, and when.
    pub worst: Option<(Timestamp, f64)>,
    /// The longest time that a breach was held, and since when.
    pub longest: Option<(Timestamp, Span)>,
    /// How long it has to hold.
    pub hold_for: Span,
    /// How often it fired.
    pub fired: u32,
    /// Judgements that could not be made, of all.
    pub unknown: (u64, u64),
}

/// What a replay found.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// First and last point.
    pub range: Option<(Timestamp, Timestamp)>,
    /// Series that were read.
    pub series: usize,
    /// Every decision, by time.
    pub decisions: Vec<Decision>,
    /// Every trigger of every workload.
    pub near: Vec<Near>,
    /// The releases of each workload by the time at which they came.
    pub releases: Vec<(WorkloadId, Timestamp, RevisionId)>,
    /// What the reader should know: how releases were told, what was assumed.
    pub notes: Vec<String>,
    /// What of the rollouts that were given is most likely not so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
    /// Judgements made.
    pub judgements: u64,
    /// Workloads of which nothing was seen, and so nothing judged.
    #[serde(skip)]
    pub unseen: Vec<WorkloadId>,
}

impl Outcome {
    /// Whether any trigger fired.
    #[must_use]
    pub fn fired(&self) -> bool {
        !self.decisions.is_empty()
    }
}
