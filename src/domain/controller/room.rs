//! What finds no room: that a release's instances are refused, or that no node takes them up, is neither its fault nor the
//! rollback's.

use super::execute::unseen_settles;
use super::{Controller, Output};
use crate::domain::id::RevisionId;
use crate::domain::incident::record::Event;
use crate::domain::response::plan::{Plan, StepKind};
use crate::domain::time::{Span, Timestamp};

impl Controller {
    /// As many of the release are in service as were before, nothing else is there, and what is missing finds no room: that
    /// is not the rollback's to wait for.
    pub(super) fn fills_the_room(
        &self,
        release: &RevisionId,
        enough: Option<u32>,
        timeout: Span,
        since: Timestamp,
        now: Timestamp,
    ) -> bool {
        let Some((enough, (_, Ok(view)))) = enough.zip(self.releases.as_ref().filter(|(seen, _)| *seen > since)) else {
            return false;
        };
        let Some(orchestrated) = view.orchestrated.as_ref().filter(|it| it.desired == *release) else { return false };
        let serving = u32::try_from(view.in_service_at(release).len()).unwrap_or(u32::MAX);
        let is_all = view.instances.iter().all(|(_, at)| at == release);
        let missing = orchestrated.replicas.saturating_sub(serving);
        now.since(since) > unseen_settles(timeout) && is_all && serving >= enough && missing <= orchestrated.absent
    }

    /// What a step waits for in vain for want of room, on observations made after it began.
    pub(super) fn want_of_room(&self, step: &StepKind, since: Timestamp) -> Option<String> {
        let (release, at_least) = match step {
            StepKind::AwaitRollout { release, .. } => (release, None),
            StepKind::AwaitCapacity { release, at_least, .. } => (release, Some(*at_least)),
            _ => return None,
        };
        let (_, Ok(view)) = self.releases.as_ref().filter(|(seen, _)| *seen > since)? else { return None };
        view.want_of_room(release, at_least)
    }

    /// Ends an attempt whose step failed.
    pub(super) fn break_off(&mut self, plan: &Plan, reason: String, now: Timestamp, out: &mut Output) -> bool {
        self.stable_since = None;
        let no_room = self.state.incident.as_ref().is_some_and(|incident| {
            let step = plan.step(incident.steps_done);
            step.is_some_and(|step| self.want_of_room(&step.kind, incident.attempt_since).is_some())
        });
        self.record(Event::Failed { reason, checks: Vec::new(), no_room }, now, out)
    }
}
