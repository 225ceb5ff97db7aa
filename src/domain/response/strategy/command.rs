//! Steps by the operator's own commands: also how blue-green and canary are taken back outside a cluster.

use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::policy::{CommandHabitat, Strategy, WorkloadPolicy};
use crate::domain::response::plan::{CommandPurpose, Step, StepKind};

use super::{GATE_ANSWERS, Ground, TRAFFIC_ANSWERS};

/// What an argument stands for: the release.
pub const RELEASE: &str = "{release}";

/// What an argument stands for: the instance.
pub const INSTANCE: &str = "{instance}";

/// Programs of a step, one after another: what is current before, the command itself, what is current after.
const PROGRAMS: u64 = 3;

/// Replaces whole arguments only, so that a name can't become an option or a second argument.
#[must_use]
pub fn fill(argv: &[String], release: &RevisionId, instance: Option<&InstanceId>) -> Vec<String> {
    argv.iter()
        .map(|argument| match (argument.as_str(), instance) {
            (RELEASE, _) => release.as_str().to_owned(),
            (INSTANCE, Some(instance)) => instance.as_str().to_owned(),
            _ => argument.clone(),
        })
        .collect()
}

pub(super) fn steps(policy: &WorkloadPolicy, habitat: &CommandHabitat, ground: Ground<'_>) -> Vec<Step> {
    let Ground { from, goal, view, .. } = ground;
    let to = &goal.revision;
    // One that stayed behind may be at a third release.
    let expect = |instance: Option<&InstanceId>| {
        let seen = view.instances.iter().find(|(id, _)| Some(id) == instance);
        seen.map_or_else(|| from.clone(), |(_, revision)| revision.clone())
    };
    let command = |purpose, argv: &[String], release: &RevisionId, instance: Option<&InstanceId>| Step {
        kind: StepKind::Command {
            purpose,
            instance: instance.cloned(),
            argv: fill(argv, release, instance),
            current: fill(&habitat.current, to, instance),
            expect: expect(instance),
            to: to.clone(),
            each: habitat.timeout,
        },
        timeout: habitat.timeout.times(PROGRAMS),
    };
    let gate = |instances: Vec<InstanceId>, answers| {
        let kind = StepKind::Gate { instances, release: to.clone(), answers };
        policy.is_asked.then_some(Step { kind, timeout: policy.deadline })
    };
    let mut steps = Vec::new();
    match policy.strategy {
        Strategy::Rolling if !habitat.instances.is_empty() => {
            for instance in &habitat.instances {
                steps.push(command(CommandPurpose::Rollback, &habitat.rollback, to, Some(instance)));
                if let Some(status) = &habitat.status {
                    steps.push(command(CommandPurpose::AwaitStatus, status, to, Some(instance)));
                }
                steps.extend(gate(vec![instance.clone()], GATE_ANSWERS));
            }
        }
        Strategy::Direct | Strategy::Rolling | Strategy::BlueGreen | Strategy::Canary => {
            steps.push(command(CommandPurpose::Rollback, &habitat.rollback, to, None));
            if let Some(status) = &habitat.status {
                steps.push(command(CommandPurpose::AwaitStatus, status, to, None));
            }
            let answers = match policy.strategy {
                Strategy::BlueGreen | Strategy::Canary => TRAFFIC_ANSWERS,
                Strategy::Direct | Strategy::Rolling => GATE_ANSWERS,
            };
            steps.extend(gate(Vec::new(), answers));
        }
    }
    if let Some(retire) = &habitat.retire {
        steps.push(command(CommandPurpose::Retire, retire, from, None));
    }
    steps
}
