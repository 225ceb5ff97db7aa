//! From a decision to a plan: each strategy's steps, complete before the first is done.

mod colours;
pub mod command;
mod kubernetes;
mod release_dir;
pub mod settings;

use super::plan::{Plan, Purpose, Step, StepKind};
use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::incident::record::Goal;
use crate::domain::observation::ReleaseView;
use crate::domain::policy::{Gitops, Habitat, Kubernetes, OwnerObject, WorkloadPolicy};
use crate::domain::time::Timestamp;

/// Good answers in a row that each target must give before the next instance is touched.
pub const GATE_ANSWERS: u32 = 2;

/// Good answers in a row, all from the goal, that prove where the traffic goes after a switch.
pub const TRAFFIC_ANSWERS: u32 = 10;

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// The release that goes.
    pub from: &'a RevisionId,
    /// The release that comes back.
    pub goal: &'a Goal,
    /// What each instance is at, as observed; the steps compare with it before they write.
    pub view: &'a ReleaseView,
    /// Instances that the attempt before brought to the goal, and that are well there.
    pub well: &'a [InstanceId],
    /// Instances of the goal that the attempt before found to be enough: what it started is not counted again.
    pub capacity: Option<u32>,
    /// How many instances were in service when the rollback was decided, where that was before.
    pub served: Option<u32>,
}

/// Builds the plan that takes `from` back to `goal`.
#[must_use]
pub fn build(policy: &WorkloadPolicy, purpose: Purpose, attempt: u32, ground: Ground<'_>, now: Timestamp) -> Plan {
    let Ground { from, goal, view, .. } = ground;
    let steps: Vec<Step> = match &policy.habitat {
        Habitat::ReleaseDir(habitat) => release_dir::steps(policy, habitat, purpose, ground),
        Habitat::Command(habitat) => command::steps(policy, habitat, ground),
        // A replay of recorded samples knows no objects: it decides and takes no step.
        Habitat::Kubernetes(cluster) => {
            with_owners_paused(policy, cluster, view, kubernetes::steps(policy, cluster, ground))
        }
    };
    Plan {
        attempt,
        purpose,
        strategy: policy.strategy,
        from: from.clone(),
        to: goal.revision.clone(),
        steps,
        deadline: now + policy.deadline,
    }
}

/// Whoever would undo the steps is paused before the first of them, where the policy says so.
fn with_owners_paused(
    policy: &WorkloadPolicy,
    cluster: &Kubernetes,
    view: &ReleaseView,
    steps: Vec<Step>,
) -> Vec<Step> {
    let owners = view.orchestrated.iter().flat_map(|orchestrated| &orchestrated.owners);
    let owners = owners.filter(|_| policy.gitops == Gitops::Pause && !steps.is_empty());
    let pauses = owners.filter_map(|owner| OwnerObject::of(owner, cluster)).map(|owner| Step {
        kind: StepKind::PauseOwner { owner, limit: policy.gitops_limit, is_paused: false },
        timeout: kubernetes::WRITE_TIMEOUT,
    });
    pauses.chain(steps.iter().cloned()).collect()
}

#[cfg(test)]
mod tests;
