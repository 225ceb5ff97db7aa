//! A workload, its revisions and its pods as one picture of its releases.

use std::collections::BTreeMap;

use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::observation::{Canary, Leaving, Orchestrated, ReleaseView, Rollout};
use crate::domain::policy::{ClusterObject, ObjectKind, Pin, Release};
use crate::domain::settings::Settings;

use super::facts::{Pod, Revision, Workload};

/// Where the picture is taken.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// A context of the kubeconfig.
    pub context: Option<&'a str>,
    /// The namespace.
    pub namespace: &'a str,
}

/// A workload's revisions, newest first.
#[must_use]
pub fn newest_first<'a>(revisions: impl Iterator<Item = &'a Revision>) -> Vec<&'a Revision> {
    let mut all: Vec<&Revision> = revisions.collect();
    all.sort_by_key(|revision| std::cmp::Reverse((revision.number, revision.created)));
    all
}

/// The picture of `workload`. `revisions` are its own, newest first; `pods` are those that it runs, by what controls them.
/// None while its controller has not yet said which revision its template is.
#[must_use]
pub fn releases(place: Place<'_>, workload: &Workload, revisions: &[&Revision], pods: &[&Pod]) -> Option<ReleaseView> {
    let desired = desired(workload, revisions)?;
    let all: Vec<(&Pod, &RevisionId)> =
        pods.iter().filter_map(|pod| Some((*pod, revision_of(workload, pod, revisions)?))).collect();
    let pods: Vec<(&Pod, &RevisionId)> = all.iter().filter(|(pod, _)| !pod.is_ending).copied().collect();
    let object = ClusterObject {
        context: place.context.map(str::to_owned),
        namespace: place.namespace.to_owned(),
        kind: workload.kind,
        name: workload.name.clone(),
        uid: workload.uid.clone(),
    };
    let pin = |revision: &Revision| Pin { name: revision.name.clone(), uid: revision.uid.clone() };
    let is_serving = |pod: &Pod| pod.is_ready && pod.ip.is_some();
    Some(ReleaseView {
        instances: pods.iter().map(|(pod, revision)| (InstanceId::new(&pod.name), (*revision).clone())).collect(),
        available: revisions
            .iter()
            .map(|revision| Release { revision: revision.hash.clone(), image: revision.images.clone() })
            .collect(),
        orchestrated: Some(Box::new(Orchestrated {
            object,
            desired: desired.hash.clone(),
            replicas: workload.replicas,
            absent: absent(workload, desired, &all),
            unplaced: pods.iter().filter(|(pod, _)| !pod.is_begun).map(|(pod, _)| InstanceId::new(&pod.name)).collect(),
            created: pods.iter().filter_map(|(pod, _)| Some((InstanceId::new(&pod.name), pod.created?))).collect(),
            has_arrived: workload.arrived.as_ref().is_some_and(|arrived| arrived.is(&desired.name)),
            refused: workload.refused.clone(),
            leaving: leaving(&all),
            rollout: rollout(workload, desired, &pods),
            serving: pods
                .iter()
                .filter(|(pod, _)| is_serving(pod))
                .map(|(pod, _)| InstanceId::new(&pod.name))
                .collect(),
            kept: revisions.iter().map(|revision| (revision.hash.clone(), pin(revision))).collect(),
            is_stateless: workload.is_stateless,
            sheds_claims: workload.sheds_claims,
            history_limit: workload.history_limit,
            canary: None,
            idle: None,
            owners: workload.owners.clone(),
            settings: Settings {
                named: revisions.iter().map(|revision| (revision.hash.clone(), revision.settings.clone())).collect(),
                ..Settings::default()
            },
        })),
        ..ReleaseView::default()
    })
}

/// The picture of a workload and of another that tries a release beside it: while that has pods to run, its release is the
/// one in question.
#[must_use]
pub fn with_canary(stable: ReleaseView, canary: ReleaseView) -> ReleaseView {
    let (Some(mut whole), Some(beside)) = (stable.orchestrated, canary.orchestrated.map(|beside| *beside)) else {
        return ReleaseView { orchestrated: None, ..ReleaseView::default() };
    };
    whole.add_owners(beside.owners);
    let mut available = stable.available;
    let (release, stable_rollout) = (whole.desired.clone(), whole.rollout.clone());
    if beside.replicas > 0 {
        // What the traffic can be left to is what serves.
        available.retain(|known| known.revision == release);
        let tried = canary.available.into_iter().filter(|release| release.revision == beside.desired);
        available = tried.chain(available).collect();
        whole.desired = beside.desired.clone();
        whole.absent = beside.absent;
        whole.has_arrived = beside.has_arrived;
        whole.rollout = match (whole.rollout, beside.rollout) {
            (Rollout::Complete, rollout) | (_, rollout @ Rollout::Stalled { .. }) => rollout,
            // That the other one makes no progress is not the canary's.
            (Rollout::UnderWay { left } | Rollout::Stalled { why: left }, _) => Rollout::UnderWay { left },
        };
    } else if !canary.instances.is_empty() && whole.rollout == Rollout::Complete {
        let left = format!("{} pods of {} are still there", canary.instances.len(), beside.object);
        whole.rollout = Rollout::UnderWay { left };
    }
    whole.serving.extend(beside.serving);
    whole.unplaced.extend(beside.unplaced);
    whole.created.extend(beside.created);
    whole.leaving.extend(beside.leaving);
    whole.settings.named.extend(beside.settings.named);
    whole.canary = Some(Canary { object: beside.object, release: beside.desired, stable: release, stable_rollout });
    ReleaseView {
        instances: stable.instances.into_iter().chain(canary.instances).collect(),
        available,
        orchestrated: Some(whole),
        ..ReleaseView::default()
    }
}

/// The revision that the workload's template is.
fn desired<'a>(workload: &Workload, revisions: &[&'a Revision]) -> Option<&'a Revision> {
    match workload.kind {
        ObjectKind::Deployment => {
            let same = revisions.iter().filter(|revision| revision.template == workload.template);
            // As its controller does: of two with the same template the older one is meant. One that is paused makes no
            // revision of a new template, and stays where it is.
            let meant = same.min_by_key(|revision| revision.created);
            meant.or_else(|| revisions.first().filter(|_| workload.is_paused)).copied()
        }
        ObjectKind::StatefulSet => {
            let name = workload.update_revision.as_ref().filter(|_| workload.is_observed)?;
            revisions.iter().find(|revision| revision.name == *name).copied()
        }
        ObjectKind::DaemonSet => revisions.first().filter(|_| workload.is_observed).copied(),
    }
}

fn revision_of<'a>(workload: &Workload, pod: &Pod, revisions: &[&'a Revision]) -> Option<&'a RevisionId> {
    let is_its = |revision: &&&Revision| match workload.kind {
        ObjectKind::Deployment => revision.uid == pod.owner,
        ObjectKind::StatefulSet | ObjectKind::DaemonSet => {
            workload.uid == pod.owner && revision.hash.as_str() == pod.hash
        }
    };
    revisions.iter().find(is_its).map(|revision| &revision.hash)
}

/// How many pods the rollout of a release still has to bring about, and did not: as many as there is no pod for, those that
/// end still being there, or none that began.
fn absent(workload: &Workload, desired: &Revision, all: &[(&Pod, &RevisionId)]) -> u32 {
    // Nobody replaces any.
    if workload.on_delete {
        return 0;
    }
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let at_desired = || all.iter().filter(|(pod, revision)| **revision == desired.hash && !pod.is_ending);
    let begun = number(at_desired().filter(|(pod, _)| pod.is_begun).count());
    let waiting = number(at_desired().count()) - begun;
    // One that has failed for good takes nobody's place.
    let places = all.iter().filter(|(pod, _)| !pod.is_ending || pod.ends_by.is_some()).count();
    let unmade = workload.replicas.saturating_sub(number(places));
    let wanted = workload.replicas.saturating_sub(workload.held_back);
    unmade.saturating_add(waiting).min(wanted.saturating_sub(begun))
}

fn leaving(all: &[(&Pod, &RevisionId)]) -> BTreeMap<RevisionId, Leaving> {
    let mut leaving: BTreeMap<RevisionId, Leaving> = BTreeMap::new();
    for (until, revision) in all.iter().filter_map(|(pod, revision)| Some((pod.ends_by?, *revision))) {
        let of = leaving.entry(revision.clone()).or_insert(Leaving { instances: 0, until });
        (of.instances, of.until) = (of.instances + 1, of.until.max(until));
    }
    leaving
}

/// As `kubectl rollout status` sees it, and by the pods themselves: the counts may be older than they are.
fn rollout(workload: &Workload, desired: &Revision, pods: &[(&Pod, &RevisionId)]) -> Rollout {
    let wanted = workload.replicas.saturating_sub(workload.held_back);
    let left = |left: String| Rollout::UnderWay { left };
    if !workload.is_observed {
        return left("its controller has not taken it up yet".to_owned());
    }
    // The condition of an earlier rollout stands until this one has moved.
    if let Some(why) = workload.given_up.as_ref().filter(|why| why.contains(&desired.name)) {
        return Rollout::Stalled { why: why.clone() };
    }
    if workload.updated < wanted {
        return left(format!("{} of {wanted} pods are at {}", workload.updated, desired.hash));
    }
    if workload.held_back == 0 && workload.total > workload.updated {
        return left(format!("{} pods of other revisions are still there", workload.total - workload.updated));
    }
    if workload.available < workload.replicas {
        return left(format!("{} of {} pods are in service", workload.available, workload.replicas));
    }
    let at = pods.iter().filter(|(_, revision)| **revision == desired.hash);
    let ready = u32::try_from(at.filter(|(pod, _)| pod.is_ready).count()).unwrap_or(u32::MAX);
    if ready < wanted {
        return left(format!("{ready} of {wanted} pods of {} are ready", desired.hash));
    }
    let others = pods.iter().filter(|(_, revision)| **revision != desired.hash).count();
    if workload.held_back == 0 && others > 0 {
        return left(format!("{others} pods of other revisions are still there"));
    }
    Rollout::Complete
}

#[cfg(test)]
mod tests;
