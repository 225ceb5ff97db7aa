//! What is told: one message for each transition, complete enough to act on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::domain::id::{IncidentId, RevisionId, WorkloadId};
use crate::domain::policy::{Mode, Severity, Strategy};
use crate::domain::time::Timestamp;
use crate::domain::units::Unit;

/// Name and version of the message's shape.
pub const SCHEMA: &str = "rollbackd/alert/v1";

/// Where an incident is, as receivers and reports name it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// A trigger is pending.
    Suspected,
    /// A trigger fires.
    Detected,
    /// No action, and why.
    Held,
    /// A human must say yes.
    AwaitingApproval,
    /// The rollback has begun.
    Started,
    /// The steps are done; the proof is under way.
    Verifying,
    /// Proven to be well again.
    Restored,
    /// An attempt did not bring the service back.
    Failed,
    /// A human must take over.
    Escalated,
    /// Over.
    Closed,
}

impl Phase {
    /// Every phase, in the order of an incident's life.
    pub const ALL: [Phase; 10] = [
        Phase::Suspected,
        Phase::Detected,
        Phase::Held,
        Phase::AwaitingApproval,
        Phase::Started,
        Phase::Verifying,
        Phase::Restored,
        Phase::Failed,
        Phase::Escalated,
        Phase::Closed,
    ];

    /// Whether it says that something is wrong, and goes on: neither a mere suspicion nor an end.
    #[must_use]
    pub const fn is_wrong(self) -> bool {
        match self {
            Phase::Suspected | Phase::Restored | Phase::Closed => false,
            Phase::Detected
            | Phase::Held
            | Phase::AwaitingApproval
            | Phase::Started
            | Phase::Verifying
            | Phase::Failed
            | Phase::Escalated => true,
        }
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Suspected => "suspected",
            Phase::Detected => "detected",
            Phase::Held => "held",
            Phase::AwaitingApproval => "awaiting-approval",
            Phase::Started => "started",
            Phase::Verifying => "verifying",
            Phase::Restored => "restored",
            Phase::Failed => "failed",
            Phase::Escalated => "escalated",
            Phase::Closed => "closed",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The message, as the webhook sends it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Alert {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Unique to this message, the same on every attempt: `<incident>_<sequence>`, the incident's dots as `_`.
    pub id: String,
    /// Position among the incident's messages, from 1.
    pub sequence: u64,
    /// The incident.
    #[schemars(with = "String")]
    pub incident: IncidentId,
    /// The workload.
    #[schemars(with = "String")]
    pub workload: WorkloadId,
    /// Where the incident is.
    pub phase: Phase,
    /// How grave the cause is.
    #[schemars(with = "String")]
    pub severity: Severity,
    /// How grave it was by earlier messages of this incident that said that something is wrong: a mere suspicion does not.
    #[serde(default = "any_severity")]
    #[schemars(with = "Vec<String>")]
    pub earlier_severities: BTreeSet<Severity>,
    /// How far the daemon may go.
    #[schemars(with = "String")]
    pub mode: Mode,
    /// What set it off.
    pub trigger: AlertTrigger,
    /// The release in question.
    pub from: Option<AlertFrom>,
    /// The release to go back to.
    pub to: Option<AlertTo>,
    /// How.
    #[schemars(with = "String")]
    pub strategy: Strategy,
    /// Why this message.
    pub reason: String,
    /// When what happened, and the measures from it.
    pub times: Times,
    /// What the daemon does next, and by when.
    pub next: Next,
    /// How to stop it.
    pub stop: Stop,
    /// One sentence that a person can act on.
    pub summary: String,
}

/// What is not known may have been any.
#[must_use]
pub fn any_severity() -> BTreeSet<Severity> {
    BTreeSet::from([Severity::Alert, Severity::Scheduled, Severity::Critical])
}

/// What set an incident off, with its numbers in base units.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AlertTrigger {
    /// The trigger's name; `blind`, `manual` or the external kind otherwise.
    pub name: String,
    /// The signal that it judges.
    pub signal: Option<String>,
    /// The signal's value.
    pub value: Option<f64>,
    /// The bound.
    pub threshold: Option<f64>,
    /// What value and bound are measured in; none where nothing was measured.
    #[serde(default)]
    pub unit: Option<Unit>,
    /// How long it must hold, in seconds.
    pub for_s: Option<f64>,
    /// The window, in seconds.
    pub window_s: Option<f64>,
    /// Requests or readings in the window.
    pub samples: Option<u64>,
}

/// The release in question.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AlertFrom {
    /// Its name.
    #[schemars(with = "String")]
    pub revision: RevisionId,
    /// Where it lies or what it is made of.
    pub image: Option<String>,
    /// When it became current.
    #[schemars(with = "String")]
    pub since: Timestamp,
}

/// The release to go back to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AlertTo {
    /// Its name.
    #[schemars(with = "String")]
    pub revision: RevisionId,
    /// Where it lies or what it is made of.
    pub image: Option<String>,
    /// Since when it is known good.
    #[schemars(with = "Option<String>")]
    pub known_good_since: Option<Timestamp>,
}

/// When what happened. Measures are in seconds, as the procedures define them.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Times {
    /// First breach.
    #[schemars(with = "Option<String>")]
    pub onset: Option<Timestamp>,
    /// The trigger fired.
    #[schemars(with = "Option<String>")]
    pub detected: Option<Timestamp>,
    /// The rollback was decided.
    #[schemars(with = "Option<String>")]
    pub decided: Option<Timestamp>,
    /// The rollback began: the first plan is on record, and its first step follows.
    #[schemars(with = "Option<String>")]
    pub started: Option<Timestamp>,
    /// Proven well.
    #[schemars(with = "Option<String>")]
    pub restored: Option<Timestamp>,
    /// Time to detect: onset to detected.
    pub ttd_s: Option<f64>,
    /// Time to decide: detected to decided.
    pub ttdec_s: Option<f64>,
    /// Time to roll back: decided to restored.
    pub ttr_s: Option<f64>,
    /// Time to recover: onset to restored.
    pub mttr_s: Option<f64>,
}

/// What the daemon does next.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Next {
    /// In a word or a few.
    pub action: String,
    /// By when.
    #[schemars(with = "Option<String>")]
    pub deadline: Option<Timestamp>,
}

/// How to stop the daemon here.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Stop {
    /// The command to type.
    pub command: String,
}
