//! One step of a plan: what is done, compared with what, and for how long.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::policy::{Ask, ClusterObject, OwnerObject, Pin, Restart, Switch};
use crate::domain::settings::{ContentId, Setting};
use crate::domain::time::Span;

/// One step: what is done, and for how long it may run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Step {
    /// What is done.
    #[serde(flatten)]
    pub kind: StepKind,
    /// How long it may take.
    pub timeout: Span,
}

/// A symlink, and the release that it must name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pointed {
    /// Absolute path that everything is beneath.
    pub root: PathBuf,
    /// The symlink, relative to the root.
    pub link: PathBuf,
    /// The directory of releases, relative to the root.
    pub releases: PathBuf,
    /// The release.
    pub to: RevisionId,
}

/// What a step does. Each is compare-and-set, or safe to do twice.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum StepKind {
    /// Point a symlink at another release, atomically, only if it names `expect` now.
    SwitchLink {
        /// The instance that it belongs to.
        instance: InstanceId,
        /// Absolute path that everything is beneath.
        root: PathBuf,
        /// The symlink, relative to the root.
        link: PathBuf,
        /// The directory of releases, relative to the root.
        releases: PathBuf,
        /// The release that it must name before.
        expect: RevisionId,
        /// The release that it names after.
        to: RevisionId,
    },
    /// Restart an instance, so that it runs what its symlink names, only if that is still as it was switched. Safe to do
    /// twice.
    Restart {
        /// The instance.
        instance: InstanceId,
        /// How.
        how: Restart,
        /// Where its symlink must lead; none where it has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pointed: Option<Pointed>,
    },
    /// Run the operator's command. `expect` and `to` are compared with what `current` prints before it runs.
    Command {
        /// What for.
        purpose: CommandPurpose,
        /// The instance, where one is meant.
        instance: Option<InstanceId>,
        /// Program and arguments, complete.
        argv: Vec<String>,
        /// Program and arguments that print the current release.
        current: Vec<String>,
        /// The release that must be current before.
        expect: RevisionId,
        /// The release that is current after.
        to: RevisionId,
        /// Longest time that each of these programs may take.
        #[serde(default = "a_minute")]
        each: Span,
    },
    /// Give a workload in a cluster the template of another of its revisions, only if it has that of `expect` now.
    RestoreTemplate {
        /// The workload.
        object: ClusterObject,
        /// The release whose template it must have before.
        expect: RevisionId,
        /// The release whose template it has after.
        to: RevisionId,
        /// What holds that template.
        source: Pin,
    },
    /// Put a ConfigMap or Secret back as it was with a release, only if it says `expect` now, or is not there.
    RestoreSetting {
        /// The workload whose release names it.
        object: ClusterObject,
        /// What is put back.
        setting: Setting,
        /// What it must say before, where it is there; none: it must not be there.
        expect: Option<ContentId>,
        /// What it says after.
        content: ContentId,
        /// The release with which it was so.
        release: RevisionId,
        /// Only while the workload has not the template of this release, to which belongs what it says now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unless_at: Option<RevisionId>,
    },
    /// Set how many pods a workload in a cluster should have, only while it has the template of `expect`; where it should
    /// have some, never to fewer than it should have already. Safe to do twice.
    Scale {
        /// The workload.
        object: ClusterObject,
        /// The release whose template it must have.
        expect: RevisionId,
        /// How many.
        replicas: u32,
        /// Only where it should have so many before: whoever set another number meant it.
        #[serde(default)]
        only_from: Option<u32>,
        /// Whatever release it is at by then; `expect` is the one that it was last known to be at.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        at_any: bool,
    },
    /// Delete the pods of a release that are not in service, one after another, so that their controller may go on.
    /// Safe to do twice.
    DeleteStuck {
        /// The workload that they belong to.
        object: ClusterObject,
        /// The release.
        release: RevisionId,
        /// Only while the workload has the template of this release, which its controller then goes on with; none: whatever it
        /// has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<RevisionId>,
    },
    /// Delete a Deployment that tried a release, only while it has the template of that and no pods are asked for. Safe to do
    /// twice: another one under the same name is not touched.
    DeleteCanary {
        /// The Deployment.
        object: ClusterObject,
        /// The release whose template it must have.
        expect: RevisionId,
    },
    /// Pause the GitOps tool's object that owns the workload, unless somebody else has. Safe to do twice.
    PauseOwner {
        /// The object.
        owner: OwnerObject,
        /// How long it stays paused at most.
        limit: Span,
        /// It was paused before, by this incident: where it is not any more, somebody else wants it so.
        #[serde(default)]
        is_paused: bool,
    },
    /// Put such an object back as it was, if it is still paused by this daemon for this workload. No step of a plan: done
    /// once the pause is not needed any more. Safe to do twice.
    PutBackOwner {
        /// The object.
        owner: OwnerObject,
    },
    /// Wait until the orchestrator has brought every instance to a release and into service, on observations made after
    /// the step began. Done by judgement, not by an effect.
    AwaitRollout {
        /// The release.
        release: RevisionId,
        /// Instances that there must be: while fewer are asked for, what was scaled up was not seen yet.
        at_least: u32,
        /// How many were in service when the rollback was decided: so many are enough while the others find no room.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        enough: Option<u32>,
        /// Whether more were asked for already.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_short: bool,
    },
    /// Wait until so many instances of a release that gets no traffic yet are ready for it. Done by judgement, not by an
    /// effect.
    AwaitCapacity {
        /// The release.
        release: RevisionId,
        /// How many there must be.
        at_least: u32,
        /// How many good answers in a row each must give, on observations made after the step began; 0 where none is asked.
        answers: u32,
    },
    /// Wait until no instance of a release is there any more, those that end included, for half of the step's time at most; what
    /// was to have ended a while ago is on a node that says nothing, and not waited for.
    AwaitGone {
        /// The release.
        release: RevisionId,
    },
    /// Give the traffic of a Service to another workload, only while the Service selects as it did, and only where as
    /// many pods wait there as serve now.
    SwitchService {
        /// The workload that gets the traffic.
        object: ClusterObject,
        /// The release that it must be at.
        to: RevisionId,
        /// What is switched.
        switch: Box<Switch>,
    },
    /// Find out whether a Service leads to a release and to nothing else: by its endpoints, and by answers through it.
    ProveTraffic {
        /// The workload that should have the traffic.
        object: ClusterObject,
        /// The release that should answer.
        release: RevisionId,
        /// The Service, and what it must select.
        switch: Box<Switch>,
        /// Pods that it must lead to, at least.
        at_least: u32,
        /// How to ask who answers.
        ask: Option<Box<Ask>>,
        /// How many answers in a row must come from the release.
        answers: u32,
    },
    /// Wait until every check of the verification passes, on observations made after the step began. Done by judgement,
    /// not by an effect.
    AwaitWell {
        /// The release.
        release: RevisionId,
    },
    /// Wait until instances answer as healthy, on observations made after the step began. Done by judgement, not by an effect.
    Gate {
        /// The instances; empty: all of them.
        instances: Vec<InstanceId>,
        /// The release that must answer, where answers say which.
        release: RevisionId,
        /// How many good answers in a row each target must give.
        answers: u32,
    },
}

/// What an operator's command is run for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandPurpose {
    /// Takes the release back. The current release says whether it took effect.
    Rollback,
    /// Exit status 0 once the goal is in service; repeated until then.
    AwaitStatus,
    /// Decommissions the bad release. Safe to do twice.
    Retire,
}

const fn a_minute() -> Span {
    Span::from_secs(60)
}

impl StepKind {
    /// The instances of a host that it is about, where it is about some and not all.
    #[must_use]
    pub fn instances(&self) -> &[InstanceId] {
        match self {
            StepKind::SwitchLink { instance, .. } | StepKind::Restart { instance, .. } => {
                std::slice::from_ref(instance)
            }
            StepKind::Command { instance, .. } => instance.as_slice(),
            StepKind::Gate { instances, .. } => instances,
            StepKind::RestoreTemplate { .. }
            | StepKind::RestoreSetting { .. }
            | StepKind::Scale { .. }
            | StepKind::DeleteStuck { .. }
            | StepKind::DeleteCanary { .. }
            | StepKind::PauseOwner { .. }
            | StepKind::PutBackOwner { .. }
            | StepKind::AwaitRollout { .. }
            | StepKind::AwaitGone { .. }
            | StepKind::AwaitCapacity { .. }
            | StepKind::SwitchService { .. }
            | StepKind::ProveTraffic { .. }
            | StepKind::AwaitWell { .. } => &[],
        }
    }

    /// Whether the step is waited for on observations, and nothing is done for it.
    #[must_use]
    pub const fn is_judged(&self) -> bool {
        match self {
            StepKind::Gate { .. }
            | StepKind::AwaitRollout { .. }
            | StepKind::AwaitGone { .. }
            | StepKind::AwaitCapacity { .. }
            | StepKind::AwaitWell { .. } => true,
            StepKind::SwitchLink { .. }
            | StepKind::Restart { .. }
            | StepKind::Command { .. }
            | StepKind::RestoreTemplate { .. }
            | StepKind::RestoreSetting { .. }
            | StepKind::Scale { .. }
            | StepKind::SwitchService { .. }
            | StepKind::ProveTraffic { .. }
            | StepKind::PauseOwner { .. }
            | StepKind::PutBackOwner { .. }
            | StepKind::DeleteStuck { .. }
            | StepKind::DeleteCanary { .. } => false,
        }
    }

    /// What the step does, in one line.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            StepKind::SwitchLink { root, link, expect, to, .. } if expect == to => {
                format!("make sure that {} names {to}", root.join(link).display())
            }
            StepKind::SwitchLink { root, link, expect, to, .. } => {
                format!("switch {} from {expect} to {to}", root.join(link).display())
            }
            StepKind::Restart { instance, how: Restart::Unit(unit), .. } => format!("restart {instance} (unit {unit})"),
            StepKind::Restart { instance, how: Restart::Command(argv), .. } => {
                format!("restart {instance} ({})", argv.join(" "))
            }
            StepKind::Command { purpose, argv, .. } => {
                let what = match purpose {
                    CommandPurpose::Rollback => "run",
                    CommandPurpose::AwaitStatus => "wait for",
                    CommandPurpose::Retire => "decommission with",
                };
                format!("{what} {}", argv.join(" "))
            }
            StepKind::RestoreTemplate { object, expect, to, source } => {
                format!("give {object} the template of {to}, kept by {}, in place of that of {expect}", source.name)
            }
            StepKind::RestoreSetting { object, setting, release, expect: Some(_), .. } => {
                format!("give {setting} in {} the content that it had with {release}", object.namespace)
            }
            StepKind::RestoreSetting { object, setting, release, expect: None, .. } => {
                format!("make {setting} in {} again, as it was with {release}, to stay there", object.namespace)
            }
            StepKind::Scale { object, expect, replicas, only_from, at_any } => {
                let from = only_from.map(|from| format!(" from {from}")).unwrap_or_default();
                let at = if *at_any { ", last known to be at" } else { " while it is at" };
                format!("scale {object}{from} to {replicas}{at} {expect}")
            }
            StepKind::DeleteStuck { object, release, to: _ } => {
                format!("delete the pods of {object} at {release} that are not in service")
            }
            StepKind::DeleteCanary { object, expect } => {
                format!("delete {object} while it is at {expect} and has no pods to run")
            }
            StepKind::PauseOwner { owner, limit, is_paused: false } => format!("pause {owner} for {limit} at most"),
            StepKind::PauseOwner { owner, is_paused: true, .. } => format!("make sure that {owner} is still paused"),
            StepKind::PutBackOwner { owner } => format!("let {owner} go on"),
            StepKind::AwaitRollout { release, enough, is_short, .. } => {
                let enough = enough
                    .filter(|_| *is_short)
                    .map(|enough| format!(", or {enough}, as before, where no more find room"));
                format!("wait until every instance is at {release} and in service{}", enough.unwrap_or_default())
            }
            StepKind::AwaitGone { release } => format!("wait until no instance of {release} is left"),
            StepKind::AwaitCapacity { release, at_least, answers: 0 } => {
                format!("wait until {at_least} instances of {release} are ready for the traffic")
            }
            StepKind::AwaitCapacity { release, at_least, .. } => {
                format!("wait until {at_least} instances of {release} are ready for the traffic and answer as healthy")
            }
            StepKind::SwitchService { object, switch, .. } => format!("switch {switch} in {}", object.namespace),
            StepKind::ProveTraffic { release, switch, ask: None, .. } => {
                format!("make sure that Service {} leads to {release} alone", switch.service.name)
            }
            StepKind::ProveTraffic { release, switch, ask: Some(_), answers, .. } => format!(
                "make sure that Service {} leads to {release} alone and that {answers} of {answers} answers come from it",
                switch.service.name
            ),
            StepKind::AwaitWell { release } => format!("wait until every check says that {release} is well"),
            StepKind::Gate { instances, release, answers } if instances.is_empty() => {
                format!("wait for {answers} good answers in a row from every target at {release}")
            }
            StepKind::Gate { instances, release, answers } => {
                let names: Vec<&str> = instances.iter().map(InstanceId::as_str).collect();
                format!("wait for {answers} good answers in a row from {} at {release}", names.join(", "))
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at most {})", self.kind.title(), self.timeout)
    }
}
