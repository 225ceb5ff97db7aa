//! Why nothing is done. Each inaction has its typed reason.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::id::{IncidentId, RevisionId, SignalName, TargetId, WorkloadId};
use crate::domain::policy::{Owner, RolloutTool};
use crate::domain::time::{Span, Timestamp};

use super::plan::{Aspect, Finding};

/// Why an incident is held instead of acted upon.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "hold")]
pub enum Hold {
    /// The mode is `observe`.
    ObserveMode,
    /// Nothing can be recorded, and without a record nothing is done.
    JournalBroken {
        /// Why.
        reason: String,
    },
    /// What replicas share of the workload can't be read: what was begun for it is not known.
    RecordUnreadable {
        /// Why, and what it is called.
        reason: String,
    },
    /// An operator paused the workload.
    Paused {
        /// Who.
        by: String,
        /// Why; empty where they did not say.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// The trigger's severity is `alert`.
    AlertOnly,
    /// Own sight is lost.
    Blind {
        /// Why.
        reason: String,
    },
    /// The fault is that of a release which serves beside the one in question.
    Aside {
        /// That release.
        release: RevisionId,
        /// The one in question.
        current: RevisionId,
    },
    /// The current release is not known.
    RevisionUnknown {
        /// Why.
        reason: String,
    },
    /// The trigger fires no more, and is not yet well for long enough to be inactive.
    FaultEbbs,
    /// The evidence is older than two intervals.
    StaleEvidence {
        /// The newest sample.
        newest: Option<Timestamp>,
    },
    /// The trigger fires since an earlier look, and the present evidence proves nothing.
    EvidenceUnknown {
        /// Why it proves nothing.
        reason: String,
    },
    /// The fault began before the release did.
    FaultBeforeRollout {
        /// When the fault began.
        onset: Timestamp,
        /// When the release was rolled out.
        rollout: Timestamp,
    },
    /// The release before is as bad: it is not this release that is at fault.
    OldReleaseAlike {
        /// Of this release.
        new: String,
        /// Of the one before.
        old: String,
        /// Where the old one was as bad: beside this one, or before the rollout.
        place: String,
    },
    /// The fault was growing before the release came, and is no worse than what its own pace makes of it.
    RisingBefore {
        /// What the release before was like when the rise began.
        from: String,
        /// What it was like as it went.
        to: String,
        /// How long it was seen to rise.
        over: Span,
        /// The most that is to be expected now.
        most: String,
        /// What this release is like.
        seen: String,
    },
    /// The release to go back to was worse when it served: going back would be pointless.
    GoalWorse {
        /// The release to go back to.
        goal: RevisionId,
        /// Of this release.
        new: String,
        /// Of the goal.
        old: String,
    },
    /// One target of several is bad, and the service is not without it: no bad release is so.
    OneTarget {
        /// Which.
        target: TargetId,
        /// Targets.
        of: u32,
        /// The value without it.
        without: String,
    },
    /// Far more traffic than there was before came with the fault.
    Load {
        /// Good requests a second when it set in.
        now: String,
        /// At most before.
        before: String,
    },
    /// Other workloads turned bad at the same time without a rollout of their own: the cause is hardly this release.
    SharedFault {
        /// Which.
        others: Vec<WorkloadId>,
    },
    /// The second signal, which the trigger asks to agree, does not.
    Unconfirmed {
        /// What the trigger shows.
        fault: String,
        /// The second signal.
        signal: SignalName,
        /// What that is like.
        like: String,
    },
    /// The release has been in service for longer than its probation.
    PastProbation {
        /// When the release was rolled out.
        rollout: Timestamp,
        /// The policy's probation.
        probation: Span,
    },
    /// The release is known good and was current when the daemon first saw the workload: no rollout to put the fault down to.
    NoRollout,
    /// No other release was ever seen healthy for long enough.
    NoKnownGood {
        /// What is there, and why each is no goal.
        candidates: Vec<String>,
    },
    /// The goal is not what the operator asked for or may be gone back to.
    GoalRefused {
        /// The goal.
        revision: RevisionId,
        /// Why.
        why: String,
    },
    /// This release has been taken back once already.
    RolledBackBefore {
        /// The release.
        revision: RevisionId,
        /// By which incident.
        incident: IncidentId,
    },
    /// A GitOps tool owns the workload and would undo a rollback.
    GitopsOwner {
        /// Whose it is.
        owner: Owner,
        /// Why the owner is not paused.
        why: String,
    },
    /// A tool that rolls releases out and back by itself owns the workload: two would fight.
    RolloutsOwner {
        /// Which.
        tool: RolloutTool,
    },
    /// A rollback of this workload is too recent.
    Cooldown {
        /// When it is over.
        until: Timestamp,
    },
    /// This workload has been rolled back as often within a day as is allowed.
    DailyLimit {
        /// Rollbacks within the last 24 hours.
        started: u32,
        /// When there is room again.
        until: Timestamp,
    },
    /// More rollbacks this hour over all workloads than the brake allows.
    FleetBudget {
        /// Started within the last hour.
        started: u32,
        /// Allowed.
        allowed: u32,
    },
    /// Another workload of the same namespace is being rolled back.
    InFlight {
        /// Which.
        workload: WorkloadId,
    },
    /// Many workloads turned bad at once: the cause is hardly this release.
    FleetStorm {
        /// Turned bad within five minutes.
        bad: u32,
        /// Watched.
        of: u32,
    },
    /// Waiting for a human's word.
    NeedsApproval {
        /// Mode `approve`, or a trigger with severity `scheduled`.
        because: String,
    },
    /// A human said no.
    Rejected {
        /// Who.
        by: String,
        /// Why; empty where that was not kept.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Looked before leaping and found something.
    Preflight {
        /// What.
        findings: Vec<Finding>,
    },
}

impl Hold {
    /// Whether it says that a fault is not the release's, by figures that may fade before the fault does.
    #[must_use]
    pub const fn is_attribution(&self) -> bool {
        match self {
            Hold::OldReleaseAlike { .. }
            | Hold::RisingBefore { .. }
            | Hold::GoalWorse { .. }
            | Hold::Load { .. }
            | Hold::SharedFault { .. } => true,
            Hold::ObserveMode
            | Hold::JournalBroken { .. }
            | Hold::RecordUnreadable { .. }
            | Hold::Paused { .. }
            | Hold::AlertOnly
            | Hold::Blind { .. }
            | Hold::Aside { .. }
            | Hold::RevisionUnknown { .. }
            | Hold::StaleEvidence { .. }
            | Hold::EvidenceUnknown { .. }
            | Hold::FaultEbbs
            | Hold::FaultBeforeRollout { .. }
            | Hold::OneTarget { .. }
            | Hold::Unconfirmed { .. }
            | Hold::PastProbation { .. }
            | Hold::NoRollout
            | Hold::NoKnownGood { .. }
            | Hold::GoalRefused { .. }
            | Hold::RolledBackBefore { .. }
            | Hold::GitopsOwner { .. }
            | Hold::RolloutsOwner { .. }
            | Hold::Cooldown { .. }
            | Hold::DailyLimit { .. }
            | Hold::FleetBudget { .. }
            | Hold::InFlight { .. }
            | Hold::FleetStorm { .. }
            | Hold::NeedsApproval { .. }
            | Hold::Rejected { .. }
            | Hold::Preflight { .. } => false,
        }
    }

    /// Whether it leaves open that something else than the release is at fault.
    #[must_use]
    pub const fn doubts_the_cause(&self) -> bool {
        self.is_attribution()
            || matches!(
                self,
                Hold::Blind { .. }
                    | Hold::Aside { .. }
                    | Hold::RevisionUnknown { .. }
                    | Hold::FaultEbbs
                    | Hold::StaleEvidence { .. }
                    | Hold::EvidenceUnknown { .. }
                    | Hold::FaultBeforeRollout { .. }
                    | Hold::OneTarget { .. }
                    | Hold::Unconfirmed { .. }
                    | Hold::PastProbation { .. }
                    | Hold::NoRollout
                    | Hold::FleetStorm { .. }
            )
    }

    /// Whether people who know of this hold are told nothing new by the other one: numbers in it may have moved, but what a
    /// human wrote to a release's settings is news, and so is anything else that stands in the way by then. That nobody could
    /// look is none of what was found before.
    #[must_use]
    pub fn is_same_reason(&self, other: &Self) -> bool {
        fn found(hold: &Hold, which: fn(&Finding) -> bool) -> BTreeSet<&str> {
            let findings = if let Hold::Preflight { findings } = hold { findings.as_slice() } else { &[] };
            findings.iter().filter(|finding| which(finding)).map(|finding| finding.check.as_str()).collect()
        }
        let settings = |hold| found(hold, |finding| finding.aspect == Aspect::Settings);
        let lasting = |hold| found(hold, |finding| !finding.passing);
        let is_same = lasting(other).is_empty() || lasting(self) == lasting(other);
        self.as_str() == other.as_str() && settings(self) == settings(other) && is_same
    }

    /// The reason's name: a label value in metrics, the word that `--force` takes, and what makes two holds the same.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Hold::ObserveMode => "observe-mode",
            Hold::JournalBroken { .. } => "journal-broken",
            Hold::RecordUnreadable { .. } => "record-unreadable",
            Hold::Paused { .. } => "paused",
            Hold::AlertOnly => "alert-only",
            Hold::Blind { .. } => "blind",
            Hold::Aside { .. } => "aside",
            Hold::RevisionUnknown { .. } => "revision-unknown",
            Hold::StaleEvidence { .. } => "stale-evidence",
            Hold::EvidenceUnknown { .. } => "evidence-unknown",
            Hold::FaultEbbs => "fault-ebbs",
            Hold::FaultBeforeRollout { .. } => "fault-before-rollout",
            Hold::OldReleaseAlike { .. } => "old-release-alike",
            Hold::RisingBefore { .. } => "rising-before",
            Hold::GoalWorse { .. } => "goal-worse",
            Hold::OneTarget { .. } => "one-target",
            Hold::Load { .. } => "load",
            Hold::SharedFault { .. } => "shared-fault",
            Hold::Unconfirmed { .. } => "unconfirmed",
            Hold::PastProbation { .. } => "past-probation",
            Hold::NoRollout => "no-rollout",
            Hold::NoKnownGood { .. } => "no-known-good",
            Hold::GoalRefused { .. } => "goal-refused",
            Hold::RolledBackBefore { .. } => "rolled-back-before",
            Hold::GitopsOwner { .. } => "gitops-owner",
            Hold::RolloutsOwner { .. } => "rollouts-owner",
            Hold::Cooldown { .. } => "cooldown",
            Hold::DailyLimit { .. } => "daily-limit",
            Hold::FleetBudget { .. } => "fleet-budget",
            Hold::InFlight { .. } => "in-flight",
            Hold::FleetStorm { .. } => "fleet-storm",
            Hold::NeedsApproval { .. } => "needs-approval",
            Hold::Rejected { .. } => "rejected",
            Hold::Preflight { .. } => "preflight",
        }
    }
}

impl Hold {
    /// When the hold ends by itself, where that is known.
    #[must_use]
    pub const fn until(&self) -> Option<Timestamp> {
        if let Hold::Cooldown { until } | Hold::DailyLimit { until, .. } = self { Some(*until) } else { None }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hold::ObserveMode => f.write_str("the mode is observe: nothing is changed"),
            Hold::JournalBroken { reason } | Hold::RecordUnreadable { reason } => f.write_str(reason),
            Hold::Paused { by, reason } if reason.is_empty() => write!(f, "paused by {by}"),
            Hold::Paused { by, reason } => write!(f, "paused by {by}: {reason}"),
            Hold::AlertOnly => f.write_str("the trigger's severity is alert"),
            Hold::Blind { reason } => write!(f, "own sight is lost: {reason}"),
            Hold::Aside { release, current } => {
                write!(f, "it is {release} that is bad, and not {current}, the release in question")
            }
            Hold::RevisionUnknown { reason } => {
                write!(f, "the current release is not known: {reason}")
            }
            Hold::FaultEbbs => f.write_str("the fault ebbs: what was bad is good now, though not for long enough"),
            Hold::StaleEvidence { newest: Some(at) } => write!(f, "the newest sample is from {at}"),
            Hold::StaleEvidence { newest: None } => f.write_str("there is no fresh sample"),
            Hold::EvidenceUnknown { reason } => {
                write!(f, "the trigger fires, but what is seen now is no proof: {reason}")
            }
            Hold::FaultBeforeRollout { onset, rollout } => {
                write!(f, "the fault began at {onset}, before the release came at {rollout}")
            }
            Hold::OldReleaseAlike { new, old, place } => {
                write!(f, "the release before is bad as well {place}: {old}, this one {new}")
            }
            Hold::RisingBefore { from, to, over, most, seen } => {
                write!(
                    f,
                    "it was rising before the release came, from {from} to {to} within {over}; at that pace up to {most} is to \
                     be expected now, and {seen} is seen"
                )
            }
            Hold::GoalWorse { goal, new, old } => {
                write!(f, "going back is pointless: {goal} had {old} when it served, this release has {new}")
            }
            Hold::OneTarget { target, of, without } => {
                write!(f, "only {target} of {of} targets is bad; without it the value is {without}")
            }
            Hold::Load { now, before } => {
                write!(
                    f,
                    "the fault came with {now} good requests, at most {before} before: hardly the release's doing"
                )
            }
            Hold::SharedFault { others } => {
                let names: Vec<&str> = others.iter().map(WorkloadId::as_str).collect();
                write!(f, "{} turned bad at the same time without a rollout of their own", names.join(", "))
            }
            Hold::Unconfirmed { fault, signal, like } => {
                write!(f, "{fault}, but {signal} does not confirm: {like}")
            }
            Hold::PastProbation { rollout, probation } => {
                write!(f, "the release came at {rollout}, longer ago than its probation of {probation}")
            }
            Hold::NoRollout => f.write_str("this release was current before the daemon first saw the workload"),
            Hold::NoKnownGood { candidates } if candidates.is_empty() => f.write_str("there is no other release"),
            Hold::NoKnownGood { candidates } => {
                write!(f, "no other release is known to be good: {}", candidates.join("; "))
            }
            Hold::GoalRefused { revision, why } => write!(f, "{revision} is no goal: {why}"),
            Hold::RolledBackBefore { revision, incident } => {
                write!(f, "{revision} has been taken back before, by {incident}")
            }
            Hold::GitopsOwner { owner, why } => {
                write!(f, "{owner} owns the workload and would undo a rollback: {why}")
            }
            Hold::RolloutsOwner { tool } => {
                write!(f, "{tool} owns the workload, and rolls its releases out and back by itself")
            }
            Hold::Cooldown { until } => write!(f, "rolled back a short while ago; cooling down until {until}"),
            Hold::DailyLimit { started, until } => {
                write!(f, "rollbacks within a day: {started}, as many as are allowed; no more until {until}")
            }
            Hold::FleetBudget { started, allowed } => {
                let s = if *started == 1 { "" } else { "s" };
                write!(f, "{started} rollback{s} started within the hour over all workloads, {allowed} allowed")
            }
            Hold::InFlight { workload } => {
                write!(f, "{workload} of the same namespace is being rolled back")
            }
            Hold::FleetStorm { bad, of } => {
                write!(f, "{bad} of {of} workloads turned bad within five minutes: hardly the fault of one release")
            }
            Hold::NeedsApproval { because } => write!(f, "waiting for approval: {because}"),
            Hold::Rejected { by, reason } if reason.is_empty() => write!(f, "rejected by {by}"),
            Hold::Rejected { by, reason } => write!(f, "rejected by {by}: {reason}"),
            Hold::Preflight { findings } => {
                let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
                write!(f, "the plan does not pass its preflight: {}", all.join("; "))
            }
        }
    }
}
