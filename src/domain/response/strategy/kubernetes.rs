//! Steps in a cluster: the workload gets the goal's template back, and its controller does the rest.

use crate::domain::id::RevisionId;
use crate::domain::observation::Orchestrated;
use crate::domain::policy::{Strategy, WorkloadPolicy};
use crate::domain::response::plan::{Step, StepKind};
use crate::domain::time::Span;

/// How long one write may take, with what it reads before and after, and reads again where somebody scales meanwhile.
const WRITE_TIMEOUT: Span = Span::from_secs(30);

/// Rolling: one write, which the workload's own controller rolls out by the workload's own rules. Direct: all pods go
/// before those of the goal come, as many as there were. Nothing where no object keeps the goal's template.
pub(super) fn steps(
    policy: &WorkloadPolicy,
    orchestrated: &Orchestrated,
    from: &RevisionId,
    to: &RevisionId,
) -> Vec<Step> {
    let Some(source) = orchestrated.kept.get(to) else { return Vec::new() };
    let write = |kind| Step { kind, timeout: WRITE_TIMEOUT };
    let object = || orchestrated.object.clone();
    let restore = write(StepKind::RestoreTemplate {
        object: object(),
        expect: from.clone(),
        to: to.clone(),
        source: source.clone(),
    });
    let scale = |replicas| write(StepKind::Scale { object: object(), replicas });
    let wait = Step { kind: StepKind::AwaitRollout { release: to.clone() }, timeout: policy.deadline };
    match policy.strategy {
        Strategy::Direct if orchestrated.can_be_scaled() && orchestrated.replicas > 0 => {
            vec![scale(0), restore, scale(orchestrated.replicas), wait]
        }
        Strategy::Direct | Strategy::Rolling | Strategy::BlueGreen | Strategy::Canary => vec![restore, wait],
    }
}
