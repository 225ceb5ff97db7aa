//! Steps in a cluster: the workload gets the goal's template back, and its controller does the rest.

use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::observation::{Orchestrated, ReleaseView};
use crate::domain::policy::{Kubernetes, KubernetesSubject, ObjectKind, Strategy, WorkloadPolicy};
use crate::domain::response::plan::{Step, StepKind};
use crate::domain::time::Span;

use super::colours::{self, Way};

/// How long one write may take, with what it reads before and after, and reads again where somebody scales meanwhile.
pub(super) const WRITE_TIMEOUT: Span = Span::from_secs(30);

/// Rolling: one write, which the workload's own controller rolls out by the workload's own rules. Direct: all pods go
/// before those of the goal come, as many as there were. A release that a canary tries goes with the canary, while the
/// goal itself is in service. Between two colours the traffic is what goes back; another release of the colour that serves
/// goes back as any does. Nothing where the cluster was not seen, no object keeps the goal's template, or the canary is all
/// that serves.
pub(super) fn steps(
    policy: &WorkloadPolicy,
    cluster: &Kubernetes,
    view: &ReleaseView,
    from: &RevisionId,
    to: &RevisionId,
) -> Vec<Step> {
    let Some(orchestrated) = &view.orchestrated else { return Vec::new() };
    if let KubernetesSubject::BlueGreen { retire, ask, .. } = &cluster.subject {
        let way = Way { retire: *retire, ask: ask.as_ref() };
        if let Some(steps) = colours::steps(policy, way, orchestrated, from, to) {
            return steps;
        }
    }
    let write = |kind| Step { kind, timeout: WRITE_TIMEOUT };
    let wait =
        |at_least| Step { kind: StepKind::AwaitRollout { release: to.clone(), at_least }, timeout: policy.deadline };
    if let Some(canary) = orchestrated.canary.as_ref().filter(|canary| canary.release == *from) {
        let serves =
            |(instance, release): &(InstanceId, RevisionId)| release == to && orchestrated.serving.contains(instance);
        if !view.instances.iter().any(serves) {
            return Vec::new();
        }
        let (object, expect) = (canary.object.clone(), from.clone());
        return vec![write(StepKind::Scale { object, expect, replicas: 0, only_from: None }), wait(1)];
    }
    let Some(source) = orchestrated.kept.get(to) else { return Vec::new() };
    let object = || orchestrated.object.clone();
    let restore = write(StepKind::RestoreTemplate {
        object: object(),
        expect: from.clone(),
        to: to.clone(),
        source: source.clone(),
    });
    let scale = |expect: &RevisionId, replicas| {
        write(StepKind::Scale { object: object(), expect: expect.clone(), replicas, only_from: None })
    };
    match policy.strategy {
        Strategy::Direct if orchestrated.can_be_scaled() && orchestrated.replicas > 0 => {
            vec![scale(from, 0), restore, scale(to, orchestrated.replicas), wait(1)]
        }
        Strategy::Direct | Strategy::Rolling | Strategy::BlueGreen | Strategy::Canary => {
            let delete = write(StepKind::DeleteStuck { object: object(), release: from.clone() });
            let delete = may_get_stuck(orchestrated).then_some(delete);
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
