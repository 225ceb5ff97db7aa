//! A rollback in full, before anything is done. A plan leaves the executor no choice.

mod step;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::policy::{ClusterObject, Strategy};
use crate::domain::time::Timestamp;

pub use step::{CommandPurpose, Pointed, Step, StepKind};

/// Everything that will be done, in order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// 1 for the first plan of an incident.
    pub attempt: u32,
    /// Why this plan and no other.
    pub purpose: Purpose,
    /// How the release is taken back.
    pub strategy: Strategy,
    /// The release that goes.
    pub from: RevisionId,
    /// The release that comes back.
    pub to: RevisionId,
    /// The steps, each whole.
    pub steps: Vec<Step>,
    /// When steps and verification together must be done.
    pub deadline: Timestamp,
}

impl Plan {
    /// Whether an instance was at this release when the plan was made, by what one of its steps expects there.
    #[must_use]
    pub fn was_at(&self, at: &InstanceId, release: &RevisionId) -> bool {
        self.steps.iter().any(|step| match &step.kind {
            StepKind::SwitchLink { instance, expect, .. } => instance == at && expect == release,
            StepKind::Command { instance, expect, .. } => {
                instance.as_ref().is_none_or(|instance| instance == at) && expect == release
            }
            _ => false,
        })
    }

    /// Whether it puts a release back that is in place already, which is only ever tried.
    #[must_use]
    pub fn is_trial(&self) -> bool {
        self.from == self.to
    }

    /// Whether both do the same; their deadlines move with the time at which they are made.
    #[must_use]
    pub fn is_same_but_for_time(&self, other: &Self) -> bool {
        self.to == other.to && self.from == other.from && self.attempt == other.attempt && self.steps == other.steps
    }

    /// Whether it scales this object to 0 on the way.
    #[must_use]
    pub fn scales_down(&self, object: &ClusterObject) -> bool {
        let is_down =
            |step: &Step| matches!(&step.kind, StepKind::Scale { object: of, replicas: 0, .. } if of == object);
        self.steps.iter().any(is_down)
    }

    /// Puts steps before all but the pauses of who would undo them, so that what stands in their way is met before anything is
    /// touched, and what comes up for the goal comes up with what they put back; nowhere where nothing is done.
    pub fn begin_with(&mut self, steps: Vec<Step>) {
        let is_pause = |step: &&Step| matches!(step.kind, StepKind::PauseOwner { .. });
        let after = self.steps.iter().take_while(is_pause).count();
        if after < self.steps.len() {
            self.steps.splice(after..after, steps);
        }
    }

    /// The instances that were seen well at the release that comes back, by the gates among the first `done` steps.
    #[must_use]
    pub fn gated_by(&self, done: u32) -> Vec<&InstanceId> {
        let done = usize::try_from(done).ok().and_then(|done| self.steps.get(..done)).unwrap_or_default();
        let gates = done.iter().filter(|step| matches!(step.kind, StepKind::Gate { .. }));
        gates.flat_map(|step| step.kind.instances()).collect()
    }

    /// The step that takes the release back: what was put back before it belongs to the goal from then on. None of a plan
    /// that does not go back to any.
    #[must_use]
    pub fn turns_at(&self) -> Option<usize> {
        let first = |is: &dyn Fn(&StepKind) -> bool| self.steps.iter().position(|step| is(&step.kind));
        match self.purpose {
            Purpose::Whole => None,
            Purpose::First | Purpose::Retry | Purpose::OlderKnownGood => {
                let turns =
                    |kind: &StepKind| matches!(kind, StepKind::RestoreTemplate { .. } | StepKind::SwitchService { .. });
                // A canary is scaled down.
                first(&turns).or_else(|| first(&|kind| matches!(kind, StepKind::Scale { replicas: 0, .. })))
            }
        }
    }

    /// Whether that gives the workload another template.
    #[must_use]
    pub fn turns_by_template(&self) -> bool {
        let step = self.turns_at().and_then(|index| self.steps.get(index));
        step.is_some_and(|step| matches!(step.kind, StepKind::RestoreTemplate { .. }))
    }

    /// One of its steps; none where it has not so many.
    #[must_use]
    pub fn step(&self, index: u32) -> Option<&Step> {
        self.steps.get(usize::try_from(index).ok()?)
    }

    /// What each instance whose link it switches is at before.
    pub fn expected(&self) -> impl Iterator<Item = (InstanceId, RevisionId)> {
        self.steps.iter().filter_map(|step| match &step.kind {
            StepKind::SwitchLink { instance, expect, .. } => Some((instance.clone(), expect.clone())),
            _ => None,
        })
    }

    /// What is done, in order.
    #[must_use]
    pub fn kinds(&self) -> Vec<&StepKind> {
        self.steps.iter().map(|step| &step.kind).collect()
    }

    /// What has to pass a rehearsal before anything is begun. Of a plan that makes whole that is not what it writes to
    /// settings: a write that can't be made is passed over and told, and must not keep the instances from coming back.
    #[must_use]
    pub fn rehearsed(&self) -> Vec<&StepKind> {
        let must_pass =
            |kind: &&StepKind| self.purpose != Purpose::Whole || !matches!(kind, StepKind::RestoreSetting { .. });
        self.kinds().into_iter().filter(must_pass).collect()
    }

    /// How many instances of the release that comes back it waits for before anything of the other goes.
    #[must_use]
    pub fn capacity(&self) -> Option<u32> {
        let enough = |step: &Step| {
            if let StepKind::AwaitCapacity { at_least, .. } = &step.kind { Some(*at_least) } else { None }
        };
        self.steps.iter().find_map(enough)
    }

    /// How many instances were in service when it was made.
    #[must_use]
    pub fn served(&self) -> Option<u32> {
        let served = |step: &Step| if let StepKind::AwaitRollout { enough, .. } = step.kind { enough } else { None };
        self.steps.iter().find_map(served)
    }

    /// The largest number of pods that it scales to.
    #[must_use]
    pub fn most_replicas(&self) -> Option<u32> {
        let scales = self.steps.iter().filter_map(|step| match &step.kind {
            StepKind::Scale { replicas, .. } => Some(*replicas),
            _ => None,
        });
        scales.max()
    }
}

/// Which rung of the ladder a plan is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// The first answer to the incident.
    First,
    /// The same goal once more.
    Retry,
    /// One hop to an older release that was known good.
    OlderKnownGood,
    /// No release is gone back to: what an attempt scaled down gets its instances back, and the settings that it put back are
    /// put forward again, for a human to take over.
    Whole,
}

impl Purpose {
    /// In words.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Purpose::First => "the last known good release",
            Purpose::Retry => "the same release once more",
            Purpose::OlderKnownGood => "one hop to an older known good release",
            Purpose::Whole => "as it was before, for a human to take over",
        }
    }
}

/// How an effect ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "detail")]
pub enum Outcome {
    /// Done now.
    Applied,
    /// It was so already.
    AlreadyInEffect,
    /// Someone else changed what was compared; nothing was written.
    Conflict(String),
    /// Failed in a way that may pass.
    Transient(String),
    /// Refused in a way that will not pass by itself: permission, missing file, exit status.
    Denied(String),
    /// Not done in its time; whether it took effect is settled by reading.
    TimedOut(String),
    /// It waited for its record for too long to be begun still: what called for it may be over.
    NotBegun(String),
    /// It was halted, as by an operator's pause, before it was done: the same step is still to be done.
    Stopped(String),
}

impl Outcome {
    /// Whether it is as it should be.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        match self {
            Outcome::Applied | Outcome::AlreadyInEffect => true,
            Outcome::Conflict(_)
            | Outcome::Transient(_)
            | Outcome::Denied(_)
            | Outcome::TimedOut(_)
            | Outcome::NotBegun(_)
            | Outcome::Stopped(_) => false,
        }
    }

    /// Why it is not as it should be.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Outcome::Applied | Outcome::AlreadyInEffect => None,
            Outcome::Conflict(why)
            | Outcome::Transient(why)
            | Outcome::Denied(why)
            | Outcome::TimedOut(why)
            | Outcome::NotBegun(why)
            | Outcome::Stopped(why) => Some(why),
        }
    }
}

/// What of a rollback a finding is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aspect {
    /// The place where it would be done: it would not take the steps.
    #[default]
    Place,
    /// What the goal was made of.
    Kept,
    /// What the goal names besides.
    Settings,
    /// The daemon's own rights.
    Rights,
    /// A right that only what is tidied up after a rollback needs: without it something stays.
    Cleanup,
    /// Room for what is started.
    Quota,
    /// Who else writes the workload, and would undo it.
    Owner,
}

/// One thing found before the first step. Nothing is written while one stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// What of a rollback it is about.
    #[serde(default)]
    pub aspect: Aspect,
    /// What was looked at.
    pub check: String,
    /// What is wrong, in one line.
    pub problem: String,
    /// Whether it is only that nobody could look: that may pass.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passing: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.problem)
    }
}
