//! Steps on a plain host: switch the symlink, restart, wait until the instance answers.

use crate::domain::id::InstanceId;
use crate::domain::policy::{ReleaseDir, ReleaseInstance, Strategy, WorkloadPolicy};
use crate::domain::response::plan::{Pointed, Purpose, Step, StepKind};
use crate::domain::time::Span;

use super::{GATE_ANSWERS, Ground};

/// Switching a symlink takes milliseconds; a file system that needs longer is in trouble.
const SWITCH_TIMEOUT: Span = Span::from_secs(10);

/// Direct: every instance at once, then one gate. Rolling: one instance after the other, a gate after each.
pub(super) fn steps(policy: &WorkloadPolicy, habitat: &ReleaseDir, purpose: Purpose, ground: Ground<'_>) -> Vec<Step> {
    let Ground { from, goal, view, well, .. } = ground;
    let to = &goal.revision;
    let expect = |instance: &ReleaseInstance| {
        let seen = view.instances.iter().find(|(id, _)| *id == instance.id);
        seen.map_or_else(|| from.clone(), |(_, revision)| revision.clone())
    };
    let switch = |instance: &ReleaseInstance| Step {
        kind: StepKind::SwitchLink {
            instance: instance.id.clone(),
            root: habitat.root.clone(),
            link: instance.current.clone(),
            releases: habitat.releases.clone(),
            expect: expect(instance),
            to: to.clone(),
        },
        timeout: SWITCH_TIMEOUT,
    };
    let pointed = |instance: &ReleaseInstance| Pointed {
        root: habitat.root.clone(),
        link: instance.current.clone(),
        releases: habitat.releases.clone(),
        to: to.clone(),
    };
    let restart = |instance: &ReleaseInstance| Step {
        kind: StepKind::Restart {
            instance: instance.id.clone(),
            how: instance.restart.clone(),
            pointed: Some(pointed(instance)),
        },
        timeout: policy.deadline,
    };
    let gate = |instances: Vec<InstanceId>| {
        let kind = StepKind::Gate { instances, release: to.clone(), answers: GATE_ANSWERS };
        policy.is_asked.then_some(Step { kind, timeout: policy.deadline })
    };
    // What is at the goal already is left alone at first. A later attempt restarts it as well, less what is well there;
    // where all of them are, each is as suspect as the next.
    let is_due = |instance: &&ReleaseInstance| {
        let is_there = expect(instance) == *to;
        !is_there || (purpose != Purpose::First && !well.contains(&instance.id))
    };
    let is_any_due = purpose == Purpose::First || habitat.instances.iter().any(|instance| is_due(&instance));
    let touched = habitat.instances.iter().filter(|instance| !is_any_due || is_due(instance));
    match policy.strategy {
        Strategy::Direct | Strategy::BlueGreen | Strategy::Canary => {
            let switches = touched.clone().map(switch);
            let restarts = touched.map(restart);
            switches.chain(restarts).chain(gate(Vec::new())).collect()
        }
        Strategy::Rolling => touched
            .flat_map(|instance| {
                [switch(instance), restart(instance)].into_iter().chain(gate(vec![instance.id.clone()]))
            })
            .collect(),
    }
}
