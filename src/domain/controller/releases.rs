//! Following which release is in service, and noticing when a human changed it.

use super::{Controller, Output};
use crate::domain::id::RevisionId;
use crate::domain::incident::record::{Closing, Event};
use crate::domain::incident::state::{Incident, Progress};
use crate::domain::observation::ReleaseView;
use crate::domain::time::Timestamp;

impl Controller {
    /// Records a change of release. An incident about another release than the one now in place is over: the human wins.
    pub(super) fn follow_releases(&mut self, now: Timestamp, out: &mut Output) -> bool {
        let Some((seen_at, Ok(view))) = &self.releases else { return false };
        let plan = self.state.incident.as_ref().filter(|incident| incident.plan.is_some());
        let change = match plan {
            Some(incident) => planned_change(incident, view, *seen_at, self.current_revision()),
            None => unplanned_change(view, self.current_revision()),
        };
        match change {
            Change::None => false,
            Change::Ours(revision) => self.observe_release(revision, true, now, out),
            Change::Theirs(revision) if self.state.incident.is_some() => {
                let how = Closing::Superseded { by: revision };
                self.record(Event::Closed { how }, now, out)
            }
            Change::Theirs(revision) => self.observe_release(revision, false, now, out),
        }
    }

    fn current_revision(&self) -> Option<&RevisionId> {
        self.state.current.as_ref().map(|current| &current.revision)
    }

    fn observe_release(&mut self, revision: RevisionId, by_rollback: bool, now: Timestamp, out: &mut Output) -> bool {
        let previous = self.current_revision().cloned();
        let image = self.image_of(&revision);
        self.healthy_since = None;
        self.stable_since = None;
        self.inherited_is_over = false;
        let written = self.note(Event::ReleaseObserved { revision, image, previous, by_rollback }, now, out);
        self.assess(now);
        written
    }

    fn image_of(&self, revision: &RevisionId) -> Option<String> {
        let (_, Ok(view)) = self.releases.as_ref()? else { return None };
        view.available.iter().find(|release| release.revision == *revision).and_then(|release| release.image.clone())
    }

    /// What each instance is at, or why that is not known.
    pub(super) fn view(&self) -> Result<&ReleaseView, String> {
        match &self.releases {
            Some((_, Ok(view))) => Ok(view),
            Some((_, Err(fault))) => Err(fault.to_string()),
            None => Err("not looked at yet".to_owned()),
        }
    }
}

/// What a look at the releases means.
enum Change {
    None,
    /// The rollback's goal is in place.
    Ours(RevisionId),
    /// Someone else put a release in place.
    Theirs(RevisionId),
}

fn unplanned_change(view: &ReleaseView, current: Option<&RevisionId>) -> Change {
    let fresh = view.instances.iter().map(|(_, revision)| revision).find(|revision| Some(*revision) != current);
    fresh.map_or(Change::None, |revision| Change::Theirs(revision.clone()))
}

fn planned_change(incident: &Incident, view: &ReleaseView, seen_at: Timestamp, current: Option<&RevisionId>) -> Change {
    let Some(plan) = &incident.plan else { return Change::None };
    let ours = |revision: &RevisionId| {
        *revision == plan.from
            || *revision == plan.to
            || incident.tried.contains(revision)
            || incident.from.as_ref().is_some_and(|from| from.revision == *revision)
    };
    if let Some((_, stranger)) = view.instances.iter().find(|(_, revision)| !ours(revision)) {
        return Change::Theirs(stranger.clone());
    }
    let all_at_goal = view.instances.iter().all(|(_, revision)| *revision == plan.to);
    if all_at_goal && !view.instances.is_empty() {
        return if current == Some(&plan.to) { Change::None } else { Change::Ours(plan.to.clone()) };
    }
    match &incident.progress {
        // Every step is done and was read back: another release now is somebody's doing.
        Progress::Proving { since, .. } if seen_at > *since => {
            let other = view.instances.iter().map(|(_, revision)| revision).find(|revision| **revision != plan.to);
            other.map_or(Change::None, |revision| Change::Theirs(revision.clone()))
        }
        Progress::Idle
        | Progress::Next { .. }
        | Progress::Running { .. }
        | Progress::Conflicted { .. }
        | Progress::Broken { .. }
        | Progress::Proving { .. } => Change::None,
    }
}
