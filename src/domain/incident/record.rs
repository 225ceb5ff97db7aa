//! The journal's vocabulary. Everything that the daemon knows across a restart is a fold of these.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::grounds::Grounds;
use super::recording::Recording;
use crate::domain::health::verdict::{Assessment, CheckStatus, Combined, Evidence};
use crate::domain::id::{IncidentId, InstanceId, RevisionId, TriggerName, WorkloadId};
use crate::domain::policy::{Mode, OwnerObject, Severity, Strategy};
use crate::domain::response::hold::Hold;
use crate::domain::response::plan::{Outcome, Plan};
use crate::domain::settings::KeptSetting;
use crate::domain::time::{Span, Timestamp};

/// One durable fact.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Which workload.
    pub workload: WorkloadId,
    /// Position among the workload's records, from 1, without gaps.
    pub sequence: u64,
    /// The incident that it belongs to; none for facts about the workload itself.
    pub incident: Option<IncidentId>,
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
}

/// What happened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// A release became the current one.
    ReleaseObserved {
        /// The release.
        revision: RevisionId,
        /// Where it lies or what it is made of.
        image: Option<String>,
        /// The one before; none at first sight of the workload.
        previous: Option<RevisionId>,
        /// Whether a rollback of ours put it there.
        by_rollback: bool,
        /// Faults that were burning when it came: they are older than the release.
        #[serde(default)]
        older_faults: Vec<OlderFault>,
        /// What each instance of a host was at.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        instances: BTreeMap<InstanceId, RevisionId>,
    },
    /// A release was seen healthy under traffic for long enough.
    KnownGood {
        /// The release.
        revision: RevisionId,
        /// Since when it was healthy without a break.
        since: Timestamp,
    },
    /// What a release names besides was kept, as it was while it served.
    SettingsKept {
        /// The release.
        revision: RevisionId,
        /// What it names.
        settings: Vec<KeptSetting>,
    },
    /// An operator paused the workload.
    Paused {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// An operator lifted the pause.
    Resumed {
        /// Who.
        by: String,
    },
    /// The GitOps tool that was paused for a rollback was let go on, or could not be: told as an incident of its own that
    /// is over as it begins.
    OwnerPutBack {
        /// What was paused.
        owner: OwnerObject,
        /// How that ended.
        outcome: Outcome,
        /// In force.
        mode: Mode,
        /// In force.
        strategy: Strategy,
    },
    /// A trigger went pending, or sight was lost: the incident begins.
    Suspected {
        /// What is suspected.
        cause: Cause,
        /// The release in question, where known.
        from: Option<Running>,
        /// Where a rollback would go to, as it looks now.
        goal: Option<Goal>,
        /// First breach.
        onset: Timestamp,
        /// In force.
        mode: Mode,
        /// In force.
        strategy: Strategy,
    },
    /// The suspected trigger is still pending; written now and then, so that a restart goes on from here.
    StillPending {
        /// How long it has been breached.
        held: Span,
    },
    /// The trigger fires, or a human says so.
    Detected {
        /// What was detected; may be another trigger than the one first suspected.
        cause: Cause,
        /// The release in question, where known; where an incident was open before, it stays that one's.
        from: Option<Running>,
        /// First breach of this cause.
        onset: Timestamp,
        /// Where a rollback would go to, as it looks now.
        goal: Option<Goal>,
        /// In force.
        mode: Mode,
        /// In force.
        strategy: Strategy,
        /// Everything that was known, so that the decision can be made again.
        assessment: Box<Assessment>,
    },
    /// A human asked for a rollback, and was told at once that a guard holds: an incident of its own that is over as it
    /// begins. What else is open is left as it is.
    Refused {
        /// Who asked, and for what.
        cause: Cause,
        /// The release in service.
        from: Option<Running>,
        /// Why it was refused.
        hold: Hold,
        /// The goal that a rollback would have.
        goal: Option<Goal>,
        /// In force.
        mode: Mode,
        /// In force.
        strategy: Strategy,
        /// Everything that was known, so that the decision can be made again.
        assessment: Box<Assessment>,
    },
    /// While a human has the incident, a release that serves beside the one in question has gone bad as well: people are told
    /// of it once, and it is theirs too.
    FoundBeside {
        /// What is found.
        cause: Cause,
    },
    /// What was kept of the bad release before anything was touched.
    Recorded {
        /// All of it.
        recording: Box<Recording>,
    },
    /// Nothing is done, and why.
    Held {
        /// Why.
        hold: Hold,
        /// The goal that a rollback would have.
        goal: Option<Goal>,
        /// What the guards said so of, so that the decision can be made again; none where it was not theirs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grounds: Option<Box<Grounds>>,
    },
    /// A human said yes.
    Approved {
        /// Who.
        by: String,
    },
    /// A human said no.
    Rejected {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// The decision to roll back, and how. The first step may follow.
    Planned {
        /// All of it.
        plan: Box<Plan>,
        /// What is known of the goal.
        goal: Goal,
        /// Guards that an operator's `--force` skipped.
        forced: Vec<String>,
        /// What it was decided from, so that the decision can be made again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grounds: Option<Box<Grounds>>,
    },
    /// What was halted in the middle goes on: whatever held it holds no more.
    Continued {
        /// In force.
        mode: Mode,
    },
    /// A step is about to be done; written before its first byte.
    StepStarted {
        /// Index into the plan's steps.
        step: u32,
    },
    /// A step is over.
    StepFinished {
        /// Index into the plan's steps.
        step: u32,
        /// How it ended.
        outcome: Outcome,
    },
    /// All steps are done; the proof begins.
    Verifying,
    /// The smoke test is about to be run.
    SmokeStarted,
    /// The smoke test is over.
    SmokeFinished {
        /// Whether it passed.
        passed: bool,
        /// Exit status and the end of its output.
        detail: String,
    },
    /// The service is well again, and by what that is known.
    Restored {
        /// Every check.
        checks: Vec<CheckStatus>,
    },
    /// This attempt did not bring the service back.
    Failed {
        /// Why.
        reason: String,
        /// Every check, where it came to checks.
        checks: Vec<CheckStatus>,
        /// Whether only room was missing: that says nothing against its goal.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        no_room: bool,
    },
    /// The daemon can do no more; a human must.
    Escalated {
        /// Why.
        reason: String,
        /// What it was decided from, so that the decision can be made again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grounds: Option<Box<Grounds>>,
    },
    /// Over without a rollback of ours, or after a human's word.
    Closed {
        /// How.
        how: Closing,
    },
}

/// What set an incident off.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "cause")]
pub enum Cause {
    /// A trigger of the policy.
    Trigger {
        /// Its name.
        name: TriggerName,
        /// What it leads to.
        severity: Severity,
        /// How long it must hold.
        hold_for: Span,
        /// The numbers; of several terms those of the one that decides.
        evidence: Evidence,
        /// Every term, where there are several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        combined: Option<Box<Combined>>,
        /// The release that shows it, where that is not the one in question but one that serves beside it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        aside: Option<RevisionId>,
    },
    /// Own sight is lost: nothing can be judged.
    Blind {
        /// Why.
        reason: String,
    },
    /// A human asked for a rollback.
    Manual {
        /// Who.
        by: String,
        /// Why.
        reason: String,
        /// To which release; none: the last known good one.
        to: Option<RevisionId>,
        /// Guards to skip, by name.
        force: Vec<String>,
    },
    /// A trigger from outside: security, data, compliance.
    External {
        /// Who.
        by: String,
        /// Which sort.
        kind: String,
        /// Why.
        reason: String,
        /// The report's name at its source, where that one repeats itself: a report is taken once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
}

impl Cause {
    /// The trigger's name; `blind`, `manual` or the external kind otherwise.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Cause::Trigger { name, .. } => name.as_str(),
            Cause::Blind { .. } => "blind",
            Cause::Manual { .. } => "manual",
            Cause::External { kind, .. } => kind,
        }
    }

    /// The release whose fault it is, where that serves beside the one in question.
    #[must_use]
    pub const fn aside(&self) -> Option<&RevisionId> {
        match self {
            Cause::Trigger { aside, .. } => aside.as_ref(),
            Cause::Blind { .. } | Cause::Manual { .. } | Cause::External { .. } => None,
        }
    }

    /// What it leads to.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Cause::Trigger { severity, .. } => *severity,
            Cause::Blind { .. } => Severity::Alert,
            Cause::Manual { .. } | Cause::External { .. } => Severity::Critical,
        }
    }
}

/// A fault that was burning when another release took the place of the one in question.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OlderFault {
    /// The trigger that shows it.
    pub trigger: TriggerName,
    /// First breach.
    pub onset: Timestamp,
}

/// A release in service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Running {
    /// The release.
    pub revision: RevisionId,
    /// Where it lies or what it is made of.
    pub image: Option<String>,
    /// When it became current.
    pub since: Timestamp,
}

/// A release to go back to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Goal {
    /// The release.
    pub revision: RevisionId,
    /// Where it lies or what it is made of.
    pub image: Option<String>,
    /// Since when it is known good; none where an operator forced it.
    pub known_good_since: Option<Timestamp>,
}

/// How an incident closed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Closing {
    /// The fault went away before anything was done.
    Subsided,
    /// What was suspected can't be judged any more. Where that lasts, it is a blindness of its own.
    Unseen {
        /// What of it is not known, in one line.
        why: String,
    },
    /// Another release took the place of the one in question, not by us.
    Superseded {
        /// The new one.
        by: RevisionId,
        /// The instances of a host that are at others still, by release.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        others: BTreeMap<RevisionId, Vec<InstanceId>>,
    },
    /// An operator closed it.
    ByOperator {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// A rollback that a human asked for was accepted, and held before its plan was on record.
    Refused,
    /// The workload is no longer in the policy.
    Forgotten {
        /// Which instance of a host is left at which release, where a rollback was begun and they differ.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        left: BTreeMap<RevisionId, Vec<InstanceId>>,
    },
}
