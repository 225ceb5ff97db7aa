//! Steps in a cluster: the workload gets the goal's template back, and its controller does the rest.

use crate::domain::id::RevisionId;
use crate::domain::observation::Orchestrated;
use crate::domain::policy::{ClusterObject, Kubernetes, KubernetesSubject, ObjectKind, Strategy, WorkloadPolicy};
use crate::domain::response::plan::{Step, StepKind};
use crate::domain::time::Span;

use super::Ground;
use super::colours::{self, Way};

/// How long one write may take, with what it reads before and after, and reads again where somebody scales meanwhile.
pub(super) const WRITE_TIMEOUT: Span = Span::from_secs(30);

/// Rolling: one write, which the workload's own controller rolls out by the workload's own rules. Direct: all pods go
/// before those of the goal come, as many as there were. A release that a canary tries goes with the canary, while the
/// goal itself is in service, once as many of the goal are ready as serve with it. Between two colours the traffic is what
/// goes back; another release of the colour that serves goes back as any does. Nothing where the cluster was not seen, no
/// object keeps the goal's template, or the canary is all that serves.
pub(super) fn steps(policy: &WorkloadPolicy, cluster: &Kubernetes, ground: Ground<'_>) -> Vec<Step> {
    let Ground { from, goal, view, capacity, served, .. } = ground;
    let to = &goal.revision;
    let Some(orchestrated) = &view.orchestrated else { return Vec::new() };
    if let KubernetesSubject::BlueGreen { retire, ask, .. } = &cluster.subject {
        let way = Way { retire: *retire, ask: ask.as_ref() };
        if let Some(steps) = colours::steps(policy, way, orchestrated, from, to) {
            return steps;
        }
    }
    let write = |kind| Step { kind, timeout: WRITE_TIMEOUT };
    let now = u32::try_from(orchestrated.serving.len()).unwrap_or(u32::MAX).min(orchestrated.replicas);
    let served = served.unwrap_or(now);
    let enough = (served > 0).then_some(served);
    let is_short = enough.is_some_and(|enough| enough < orchestrated.replicas);
    let wait = |at_least| Step {
        kind: StepKind::AwaitRollout { release: to.clone(), at_least, enough, is_short },
        timeout: policy.deadline,
    };
    if let Some(canary) = orchestrated.canary.as_ref().filter(|canary| canary.release == *from) {
        let serving = |release| u32::try_from(view.in_service_at(release).len()).unwrap_or(u32::MAX);
        let (stable, beside) = (serving(to), serving(from));
        if stable == 0 {
            return Vec::new();
        }
        let all = capacity.unwrap_or_else(|| stable.saturating_add(beside));
        let scale = |object: &ClusterObject, expect: &RevisionId, replicas| {
            let (object, expect) = (object.clone(), expect.clone());
            write(StepKind::Scale { object, expect, replicas, only_from: None, at_any: false })
        };
        let grow = (orchestrated.replicas < all).then(|| scale(&orchestrated.object, to, all));
        let ready = StepKind::AwaitCapacity { release: to.clone(), at_least: all, answers: 0 };
        let ready = (beside > 0).then_some(Step { kind: ready, timeout: policy.deadline });
        let mut steps: Vec<Step> = grow.into_iter().chain(ready).collect();
        steps.extend([scale(&canary.object, from, 0), wait(1)]);
        if let KubernetesSubject::Canary { retire: true, .. } = &cluster.subject {
            let well = StepKind::AwaitWell { release: to.clone() };
            steps.push(Step { kind: well, timeout: policy.deadline });
            steps.push(write(StepKind::DeleteCanary { object: canary.object.clone(), expect: from.clone() }));
        }
        return steps;
    }
    let Some(source) = orchestrated.kept.get(to) else { return Vec::new() };
    let object = || orchestrated.object.clone();
    let restore = write(StepKind::RestoreTemplate {
        object: object(),
        expect: from.clone(),
        to: to.clone(),
        source: source.clone(),
    });
    let scale = |expect: &RevisionId, replicas, only_from| {
        write(StepKind::Scale { object: object(), expect: expect.clone(), replicas, only_from, at_any: false })
    };
    let delete = write(StepKind::DeleteStuck { object: object(), release: from.clone(), to: Some(to.clone()) });
    let delete = may_get_stuck(orchestrated).then_some(delete);
    match policy.strategy {
        Strategy::Direct if orchestrated.can_be_scaled() && orchestrated.replicas > 0 => {
            let gone = Step { kind: StepKind::AwaitGone { release: from.clone() }, timeout: policy.deadline };
            let up = [gone, scale(to, orchestrated.replicas, Some(0)), wait(1)];
            [scale(from, 0, None), restore].into_iter().chain(delete).chain(up).collect()
        }
        Strategy::Direct | Strategy::Rolling | Strategy::BlueGreen | Strategy::Canary => {
            [restore].into_iter().chain(delete).chain([wait(0)]).collect()
        }
    }
}

/// A StatefulSet's controller waits for a pod that is not ready, whatever its template has become: now, or by the time that it
/// is given another one. Pods with volumes of their own are left to a human.
fn may_get_stuck(orchestrated: &Orchestrated) -> bool {
    match orchestrated.object.kind {
        ObjectKind::StatefulSet => orchestrated.is_stateless,
        ObjectKind::Deployment | ObjectKind::DaemonSet => false,
    }
}
