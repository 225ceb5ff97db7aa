//! Following which release is in service, and noticing when a human changed it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::view::at_others;
use super::{Controller, Output};
use crate::domain::health::verdict::{Blindness, TriggerState, TriggerStatus, Unseen};
use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::incident::alert::Phase;
use crate::domain::incident::record::{Closing, Event, OlderFault, Running};
use crate::domain::incident::state::{Incident, Progress, WorkloadState};
use crate::domain::observation::{Orchestrated, ReleaseView};
use crate::domain::response::plan::{Plan, Purpose, StepKind};
use crate::domain::time::{Span, Timestamp};

/// By then a look shows what was in place when the last step was done: a watch tells within a second, and a controller names
/// a revision within five.
const CAUGHT_UP: Span = Span::from_secs(10);

/// A release that is in place while no record can be written.
#[derive(Debug)]
pub(super) struct Unrecorded {
    pub(super) release: Running,
    /// What it can't have brought, as it was known when it came.
    older_faults: Vec<OlderFault>,
}

impl Controller {
    /// Notes which release is in place where that can't be recorded, so that it is the one that is judged.
    pub(super) fn note_unrecorded(&mut self, now: Timestamp) {
        let Some((seen_at, Ok(view))) = &self.releases else { return };
        let (revision, by_rollback) = match self.change(view, *seen_at) {
            Change::None => return self.unrecorded = None,
            Change::Ours(revision) => (revision, true),
            Change::Theirs(revision) => (revision, false),
        };
        if self.unrecorded.as_ref().is_none_or(|known| known.release.revision != revision) {
            let older_faults = self.burning(by_rollback);
            let image = self.image_of(&revision);
            self.unrecorded = Some(Unrecorded { release: Running { revision, image, since: now }, older_faults });
        }
    }

    /// The release in place, on record or not.
    pub(super) fn in_place(&self) -> Option<&Running> {
        self.unrecorded.as_ref().map(|unrecorded| &unrecorded.release).or(self.state.current.as_ref())
    }

    /// What is on record, and which release is in place beyond that.
    pub(super) fn state_as_seen(&self) -> Cow<'_, WorkloadState> {
        let Some(unrecorded) = &self.unrecorded else { return Cow::Borrowed(&self.state) };
        let mut state = self.state.clone();
        state.previous = state.current.replace(unrecorded.release.clone()).map(|before| before.revision);
        Cow::Owned(state)
    }

    fn change(&self, view: &ReleaseView, seen_at: Timestamp) -> Change {
        match self.state.incident.as_ref().filter(|incident| incident.plan.is_some()) {
            Some(incident) => planned_change(incident, view, seen_at, self.current_revision()),
            None => self.unplanned_change(view),
        }
    }

    /// Records a change of release. An incident about another release than the one now in place is over: the human wins.
    pub(super) fn follow_releases(&mut self, now: Timestamp, out: &mut Output) -> bool {
        let Some((seen_at, Ok(view))) = &self.releases else { return false };
        let change = self.change(view, *seen_at);
        if let (Change::Theirs(by), Some(incident)) = (&change, &self.state.incident) {
            let is_acting = incident.progress != Progress::Idle;
            let is_being_made_whole = incident.plan.as_ref().is_some_and(|plan| plan.purpose == Purpose::Whole);
            match incident.phase {
                // Theirs has no instance, by a hand of ours, or settings that are not its own: it gets them before the
                // incident is over.
                Phase::Started | Phase::Held | Phase::Verifying
                    if is_acting && (self.left_down().is_some() || (self.is_apart() && !is_being_made_whole)) =>
                {
                    return self.fail(format!("{by} was put in its place meanwhile"), Vec::new(), now, out);
                }
                // What is begun is ended first, and what could not be put forward is a human's business still: theirs is
                // judged meanwhile.
                Phase::Started | Phase::Held | Phase::AwaitingApproval | Phase::Failed
                    if self.left_down().is_some() || self.is_apart() =>
                {
                    return self.observe_new(by.clone(), now, out);
                }
                Phase::Escalated if !incident.moved.is_empty() => return self.observe_new(by.clone(), now, out),
                Phase::Suspected
                | Phase::Detected
                | Phase::Held
                | Phase::AwaitingApproval
                | Phase::Started
                | Phase::Verifying
                | Phase::Restored
                | Phase::Failed
                | Phase::Escalated
                | Phase::Closed => {}
            }
            // Whoever looks next sees theirs come, and not what the rollback itself had changed meanwhile.
            let (by, before) = (by.clone(), self.followed.take().unwrap_or_default());
            let known = |id: &InstanceId| before.iter().find(|(before, _)| before == id).cloned();
            let followed = view.instances.iter().filter_map(|(id, release)| {
                if *release == by { known(id) } else { Some((id.clone(), release.clone())) }
            });
            self.followed = Some(followed.collect());
            let is_begun = incident.plan.is_some();
            let others = if is_begun { at_others(view, Some(&by)) } else { BTreeMap::new() };
            return self.close(Closing::Superseded { by, others }, now, out);
        }
        if self.followed.as_ref() != Some(&view.instances) {
            self.followed = Some(view.instances.clone());
        }
        match change {
            Change::None => false,
            Change::Ours(revision) => self.observe_release(revision, true, now, out),
            Change::Theirs(revision) => self.observe_release(revision, false, now, out),
        }
    }

    /// A rollout that goes from instance to instance shows two releases for a while: the one that an instance was
    /// changed to since the last look is the one that comes. An instance that was not there before brings a release only
    /// where that is newer: the old release's instances are replaced and scaled while the new one comes.
    fn unplanned_change(&self, view: &ReleaseView) -> Change {
        let current = self.current_revision();
        // Who brings the instances to a release says which it is.
        if let Some(Orchestrated { desired, .. }) = view.orchestrated.as_deref() {
            return if current == Some(desired) { Change::None } else { Change::Theirs(desired.clone()) };
        }
        let mut others = view.instances.iter().filter(|(_, revision)| Some(revision) != current);
        let rank = |wanted: &RevisionId| view.available.iter().position(|release| release.revision == *wanted);
        let is_newer = |revision: &RevisionId| match (rank(revision), current.and_then(rank)) {
            (Some(theirs), Some(ours)) => theirs < ours,
            (None, _) | (_, None) => true,
        };
        let placed = &self.state.placed;
        let has_come = |(id, revision): &&(InstanceId, RevisionId)| {
            let was = match &self.followed {
                Some(before) => before.iter().find(|(known, _)| known == id).map(|(_, was)| was),
                // The first look after a start. What was current before is what goes, wherever it is still.
                None if placed.is_empty() || self.state.previous.as_ref() == Some(revision) => {
                    return self.state.previous.as_ref() != Some(revision);
                }
                None => placed.get(id),
            };
            was.map_or_else(|| is_newer(revision), |was| was != revision)
        };
        let fresh = others.clone().find(has_come).or_else(|| {
            let is_gone = view.instances.iter().all(|(_, revision)| Some(revision) != current);
            others.next().filter(|_| is_gone)
        });
        fresh.map_or(Change::None, |(_, revision)| Change::Theirs(revision.clone()))
    }

    fn current_revision(&self) -> Option<&RevisionId> {
        self.state.current.as_ref().map(|current| &current.revision)
    }

    /// Whether a release that somebody put in place was recorded now, and not before.
    fn observe_new(&mut self, revision: RevisionId, now: Timestamp, out: &mut Output) -> bool {
        let is_known = self.current_revision() == Some(&revision);
        !is_known && self.observe_release(revision, false, now, out)
    }

    fn observe_release(&mut self, revision: RevisionId, by_rollback: bool, now: Timestamp, out: &mut Output) -> bool {
        let previous = self.current_revision().map(|before| self.beside_which(&revision).unwrap_or(before).clone());
        let image = self.image_of(&revision);
        self.healthy_since = None;
        self.stable_since = None;
        let unrecorded = self.unrecorded.take_if(|unrecorded| unrecorded.release.revision == revision);
        let older_faults = unrecorded.map_or_else(|| self.burning(by_rollback), |known| known.older_faults);
        self.seen_good.clear();
        let placed = self.view().ok().filter(|view| view.orchestrated.is_none());
        let instances = placed.into_iter().flat_map(|view| view.instances.iter().cloned()).collect();
        let event = Event::ReleaseObserved { revision, image, previous, by_rollback, older_faults, instances };
        let written = self.note(event, now, out);
        self.assess(now);
        written
    }

    /// What a canary's release serves beside, and is compared with: not what the canary tried before.
    fn beside_which(&self, revision: &RevisionId) -> Option<&RevisionId> {
        self.canary().filter(|canary| canary.release == *revision).map(|canary| &canary.stable)
    }

    /// The faults that the release that comes now can't have brought: those that are older than the present one and were
    /// not over since, and, unless it comes to end them, those that were there when the last look began that did not show it;
    /// where looks take no time, those that have been seen for an interval at least.
    fn burning(&self, by_rollback: bool) -> Vec<OlderFault> {
        let absent_at = self.view().ok().and_then(|view| view.unlike_at);
        let fault = |trigger: &TriggerStatus| {
            let (onset, was_seen) = match trigger.state {
                TriggerState::Firing { since, .. } => (since, true),
                TriggerState::Pending { since, held } => (since, held >= self.policy.interval),
                TriggerState::Inactive => return None,
            };
            let is_older = absent_at.map_or(was_seen, |absent_at| onset < absent_at);
            is_older.then(|| OlderFault { trigger: trigger.name.clone(), onset })
        };
        let older = self.state.older_faults.iter().filter(|older| !self.seen_good.contains(&older.trigger));
        let mut faults: Vec<OlderFault> = older.cloned().collect();
        let burning = self.assessment.triggers.iter().filter(|_| !by_rollback).filter_map(fault);
        for fault in burning {
            if !faults.iter().any(|older| older.trigger == fault.trigger) {
                faults.push(fault);
            }
        }
        faults
    }

    pub(super) fn image_of(&self, revision: &RevisionId) -> Option<String> {
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

    /// That the releases can't be looked at, once that has lasted for longer than a passing fault does.
    pub(super) fn releases_lost(&mut self, now: Timestamp) -> Option<Blindness> {
        let Err(why) = self.view().map(drop) else {
            self.unread_since = None;
            return None;
        };
        let since = *self.unread_since.get_or_insert(now);
        let is_lost = now.since(since) > self.health.patience();
        is_lost.then(|| Blindness {
            since,
            unseen: Unseen::Releases,
            triggers: Vec::new(),
            reason: format!("which release is in place can't be read: {why}"),
        })
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

fn planned_change(incident: &Incident, view: &ReleaseView, seen_at: Timestamp, current: Option<&RevisionId>) -> Change {
    let Some(plan) = &incident.plan else { return Change::None };
    let ours = |revision: &RevisionId| {
        *revision == plan.from
            || *revision == plan.to
            || incident.tried.contains(revision)
            || incident.from.as_ref().is_some_and(|from| from.revision == *revision)
    };
    // Every instance was seen at the goal, or every step is done and was read back: another release now is somebody's
    // doing.
    let was_reached =
        current == Some(&plan.to) || matches!(&incident.progress, Progress::Proving { since, .. } if seen_at > *since);
    if let Some(Orchestrated { desired, .. }) = view.orchestrated.as_deref() {
        return match current {
            // Whoever put it there: it is only given instances.
            _ if plan.purpose == Purpose::Whole && incident.phase == Phase::Started && *desired == plan.to => {
                Change::None
            }
            _ if *desired != plan.to && was_undone(incident, plan, seen_at) => Change::Theirs(desired.clone()),
            _ if *desired != plan.to && is_over_the_goal(incident, plan, seen_at) => Change::Theirs(desired.clone()),
            _ if !ours(desired) => Change::Theirs(desired.clone()),
            Some(current) if current == desired => Change::None,
            // What is only given instances may be somebody else's.
            _ if *desired == plan.to && (plan.purpose != Purpose::Whole || incident.knows(desired)) => {
                Change::Ours(desired.clone())
            }
            // Nothing is under way.
            _ if incident.phase == Phase::Escalated => Change::Theirs(desired.clone()),
            // It was seen to go.
            _ if incident.from.as_ref().is_some_and(|from| from.revision == *desired) => {
                Change::Theirs(desired.clone())
            }
            _ if was_reached => Change::Theirs(desired.clone()),
            _ => Change::None,
        };
    }
    if let Some(theirs) = instead_of_the_goal(incident, plan, view, seen_at) {
        return Change::Theirs(theirs.clone());
    }
    // Of three releases side by side one is neither what went bad nor the goal, and was there before.
    let is_stranger = |(id, revision): &&(InstanceId, RevisionId)| !ours(revision) && !plan.was_at(id, revision);
    if let Some((_, stranger)) = view.instances.iter().find(is_stranger) {
        return Change::Theirs(stranger.clone());
    }
    let other = view.instances.iter().map(|(_, revision)| revision).find(|revision| **revision != plan.to);
    let Some(other) = other else {
        let is_news = current != Some(&plan.to) && !view.instances.is_empty();
        return if is_news { Change::Ours(plan.to.clone()) } else { Change::None };
    };
    let is_whole = || view.instances.iter().all(|(_, revision)| revision == other) && current != Some(other);
    let is_theirs = was_reached || (incident.phase == Phase::Escalated && is_whole());
    if is_theirs { Change::Theirs(other.clone()) } else { Change::None }
}

/// What is in place at an instance that the plan had pointed to the goal already, by a look that ended so long after that it
/// surely began after.
fn instead_of_the_goal<'a>(
    incident: &Incident,
    plan: &Plan,
    view: &'a ReleaseView,
    seen_at: Timestamp,
) -> Option<&'a RevisionId> {
    // Each instance is asked, one after the other, and the releases.
    let asked = view.instances.len() as u64 + 1;
    let longest =
        plan.steps.iter().filter(|step| matches!(step.kind, StepKind::Command { .. })).map(|step| step.timeout);
    let lag = CAUGHT_UP + longest.max().unwrap_or(Span::ZERO).times(asked);
    let is_back = |(id, revision): &&(InstanceId, RevisionId)| {
        let brought = incident.brought.get(id).filter(|(to, _)| *to == plan.to);
        *revision != plan.to && brought.is_some_and(|(_, at)| seen_at > *at + lag)
    };
    view.instances.iter().find(is_back).map(|(_, revision)| revision)
}

/// What was written was not there when a later step looked for it: whoever looks now sees what somebody put in its place.
fn was_undone(incident: &Incident, plan: &Plan, seen_at: Timestamp) -> bool {
    let Progress::Conflicted { step, at, .. } = &incident.progress else { return false };
    let Ok(met) = usize::try_from(*step) else { return false };
    let done = plan.steps.get(..met).unwrap_or_default();
    let waited = plan.steps.get(met).is_some_and(|step| matches!(step.kind, StepKind::AwaitRollout { .. }));
    seen_at > *at && (waited || done.iter().any(|step| matches!(step.kind, StepKind::SwitchService { .. })))
}

/// Every step is done and was read back, and looks have caught up: what is in place instead, somebody put there, even where
/// no look came in between.
fn is_over_the_goal(incident: &Incident, plan: &Plan, seen_at: Timestamp) -> bool {
    let Progress::Proving { since, .. } = &incident.progress else { return false };
    plan.purpose != Purpose::Whole && seen_at > *since + CAUGHT_UP
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::incident::record::Cause;
    use crate::domain::incident::state::Smoke;
    use crate::domain::policy::{ClusterObject, Mode, ObjectKind, Pin, Strategy, Switch};
    use crate::domain::response::plan::{Purpose, Step};
    use crate::domain::testing;
    use crate::domain::time::Span;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn object() -> ClusterObject {
        ClusterObject {
            context: None,
            namespace: "prod".to_owned(),
            kind: ObjectKind::Deployment,
            name: "blue".to_owned(),
            uid: "u1".to_owned(),
        }
    }

    fn leads_to(desired: &str) -> ReleaseView {
        let whole = testing::orchestrated(desired, 1);
        ReleaseView { orchestrated: Some(Box::new(whole)), ..ReleaseView::default() }
    }

    /// A plan of a switch and of what proves it, which came so far.
    fn switching(progress: Progress) -> Incident {
        let service = Pin { name: "front".to_owned(), uid: "s1".to_owned() };
        let switch = Box::new(Switch { service, before: [].into(), after: [].into() });
        let kinds = [
            StepKind::SwitchService { object: object(), to: "v1".into(), switch: switch.clone() },
            StepKind::ProveTraffic {
                object: object(),
                release: "v1".into(),
                switch,
                at_least: 1,
                ask: None,
                answers: 10,
            },
        ];
        let plan = Plan {
            attempt: 1,
            purpose: Purpose::First,
            strategy: Strategy::BlueGreen,
            from: "v2".into(),
            to: "v1".into(),
            steps: kinds.into_iter().map(|kind| Step { kind, timeout: Span::from_secs(30) }).collect(),
            deadline: at(600),
        };
        let cause = Cause::External { by: String::new(), kind: String::new(), reason: String::new(), key: None };
        let fresh = Incident::hypothetical(cause, None, Mode::Enforce, Strategy::BlueGreen, at(0));
        Incident { plan: Some(plan), progress, ..fresh }
    }

    #[test]
    fn what_was_written_over_while_its_rollout_was_waited_for_is_somebodys_word() {
        let met = Progress::Conflicted { step: 1, at: at(10), detail: String::new() };
        let mut incident = switching(met);
        let plan = incident.plan.as_mut().unwrap();
        let source = Pin { name: "blue-v1".to_owned(), uid: "r1".to_owned() };
        let restore = StepKind::RestoreTemplate { object: object(), expect: "v2".into(), to: "v1".into(), source };
        let kinds =
            [restore, StepKind::AwaitRollout { release: "v1".into(), at_least: 0, enough: None, is_short: false }];
        plan.steps = kinds.into_iter().map(|kind| Step { kind, timeout: Span::from_secs(30) }).collect();
        let change = |desired: &str, seen| planned_change(&incident, &leads_to(desired), at(seen), Some(&"v2".into()));
        assert!(matches!(change("v2", 11), Change::Theirs(by) if by.as_str() == "v2"));
        assert!(matches!(change("v2", 10), Change::None), "what is seen is of before");
        assert!(matches!(change("v1", 11), Change::Ours(_)));
    }

    #[test]
    fn a_switch_that_was_undone_before_it_was_seen_is_somebodys_word() {
        let met = |step| Progress::Conflicted { step, at: at(10), detail: String::new() };
        let theirs = |progress, desired: &str, seen: i64| {
            let change = planned_change(&switching(progress), &leads_to(desired), at(seen), Some(&"v2".into()));
            matches!(change, Change::Theirs(by) if by.as_str() == desired)
        };
        assert!(theirs(met(1), "v2", 11));
        assert!(!theirs(met(1), "v2", 10), "what is seen is of before");
        assert!(!theirs(met(1), "v1", 11), "it is where it should be");
        assert!(!theirs(met(0), "v2", 11), "nothing was switched yet");
        assert!(!theirs(Progress::Running { step: 1, since: at(9) }, "v2", 11), "it may not be seen yet");
        let proving = || Progress::Proving { since: at(10), smoke: Smoke::Waiting };
        assert!(theirs(proving(), "v2", 21), "no look showed the goal in between");
        assert!(!theirs(proving(), "v2", 19), "it may not be seen yet");
        assert!(!theirs(proving(), "v1", 21), "it is where it should be");
    }

    #[test]
    fn what_went_and_is_there_again_is_somebodys_word() {
        let mut hop = switching(Progress::Next { step: 0 });
        hop.from = Some(Running { revision: "v3".into(), image: None, since: at(0) });
        hop.tried = vec!["v2".into()];
        let change = |incident: &Incident, desired: &str, current: &str| match planned_change(
            incident,
            &leads_to(desired),
            at(20),
            Some(&current.into()),
        ) {
            Change::None => "-".to_owned(),
            Change::Ours(by) => format!("ours {by}"),
            Change::Theirs(by) => format!("theirs {by}"),
        };
        assert_eq!(change(&hop, "v3", "v2"), "theirs v3");
        assert_eq!(change(&hop, "v2", "v3"), "-", "an attempt before may have come late");
        assert_eq!(change(&hop, "v1", "v2"), "ours v1");
        assert_eq!(change(&hop, "v3", "v3"), "-");
        let over = Incident { phase: Phase::Escalated, progress: Progress::Idle, ..hop };
        assert_eq!(change(&over, "v2", "v3"), "theirs v2", "nothing is under way");
        assert_eq!(change(&over, "v1", "v3"), "ours v1", "what was written may show late");
        assert_eq!(change(&over, "v3", "v3"), "-");
        let hosts = |releases: [&str; 2]| {
            let instances = [("a", releases[0]), ("b", releases[1])];
            let instances = instances.map(|(name, release)| (name.into(), release.into())).into();
            let view = ReleaseView { instances, ..ReleaseView::default() };
            matches!(planned_change(&over, &view, at(20), Some(&"v3".into())), Change::Theirs(_))
        };
        assert!(hosts(["v2", "v2"]) && !hosts(["v2", "v1"]) && !hosts(["v3", "v3"]));
    }
}
