//! Steps on a plain host: switch the symlink, restart, wait until the instance answers.

use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::policy::{ReleaseDir, ReleaseInstance, Strategy, WorkloadPolicy};
use crate::domain::response::plan::{Purpose, Step, StepKind};
use crate::domain::time::Span;

use super::GATE_ANSWERS;

/// Switching a symlink takes milliseconds; a file system that needs longer is in trouble.
const SWITCH_TIMEOUT: Span = Span::from_secs(10);

/// Direct: every instance at once, then one gate. Rolling: one instance after the other, a gate after each.
pub(super) fn steps(
    policy: &WorkloadPolicy,
    habitat: &ReleaseDir,
    purpose: Purpose,
    from: &RevisionId,
    to: &RevisionId,
    instances: &[(InstanceId, RevisionId)],
) -> Vec<Step> {
    let expect = |instance: &ReleaseInstance| {
        let seen = instances.iter().find(|(id, _)| *id == instance.id);
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
    let restart = |instance: &ReleaseInstance| Step {
        kind: StepKind::Restart { instance: instance.id.clone(), how: instance.restart.clone() },
        timeout: policy.deadline,
    };
    let gate = |instances: Vec<InstanceId>| Step {
        kind: StepKind::Gate { instances, release: to.clone(), answers: GATE_ANSWERS },
        timeout: policy.deadline,
    };
    // What is at the goal already is left alone at first; a later attempt restarts it as well.
    let touched = habitat.instances.iter().filter(|instance| purpose != Purpose::First || expect(instance) != *to);
    match policy.strategy {
        Strategy::Direct | Strategy::BlueGreen | Strategy::Canary => {
            let switches = touched.clone().map(switch);
            let restarts = touched.map(restart);
            switches.chain(restarts).chain([gate(Vec::new())]).collect()
        }
        Strategy::Rolling => touched
            .flat_map(|instance| [switch(instance), restart(instance), gate(vec![instance.id.clone()])])
            .collect(),
    }
}
