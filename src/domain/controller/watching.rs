//! Judging what is seen; and seeing without deciding, for the time in which nothing can be recorded, or another replica
//! decides.

use std::collections::BTreeSet;

use super::Controller;
use crate::domain::health::asides::Beside;
use crate::domain::health::verdict::{Subject, Verdict};
use crate::domain::id::{RevisionId, TriggerName};
use crate::domain::observation::{Canary, Observation, Rollout};
use crate::domain::time::Timestamp;

impl Controller {
    /// Only remembers what was seen.
    pub fn observe_only(&mut self, observation: &Observation) {
        self.take_in(observation);
    }

    /// Remembers what was seen and judges it; decides nothing. For the time in which another replica does.
    pub fn stand_by(&mut self, observation: Option<&Observation>, now: Timestamp) {
        if self.is_due_after(observation, now) {
            self.assess(now);
        }
    }

    /// The same for the time in which no record can be written: what is in place is judged, though it is not on record.
    pub fn watch_only(&mut self, observation: Option<&Observation>, now: Timestamp) {
        if self.is_due_after(observation, now) {
            self.note_unrecorded(now);
            let previous = self.state.current.as_ref().map(|current| current.revision.clone());
            let unrecorded = self.unrecorded.as_ref().map(|unrecorded| Subject {
                revision: unrecorded.release.revision.clone(),
                since: unrecorded.release.since,
                baseline: previous,
                known_good: false,
            });
            self.assess_of(unrecorded.or_else(|| self.subject()).as_ref(), now);
        }
    }

    /// Remembers what was seen; whether it is time to judge.
    fn is_due_after(&mut self, observation: Option<&Observation>, now: Timestamp) -> bool {
        if let Some(observation) = observation {
            self.take_in(observation);
        }
        if self.is_leaving {
            self.assessment.at = now;
            return false;
        }
        observation.is_none() || now.since(self.assessment.at) >= self.fast_pace()
    }

    pub(super) fn assess(&mut self, now: Timestamp) {
        let subject = self.subject();
        self.assess_of(subject.as_ref(), now);
    }

    fn assess_of(&mut self, subject: Option<&Subject>, now: Timestamp) {
        self.began.get_or_insert(now);
        // While it can't be seen what serves beside, what was known of it stays: it is not over.
        let asides = std::mem::take(&mut self.assessment.asides);
        self.assessment = self.health.assess(subject, now);
        if subject.is_none() && self.view().is_err() {
            // Of what was never found nothing can be seen: that it can't be found is what is wrong.
            self.assessment.blind = None;
        }
        if let Some(unread) = self.releases_lost(now) {
            // Whatever serves, it is not known what it is.
            self.assessment.healthy = false;
            let blind = self.assessment.blind.take().filter(|blind| blind.since <= unread.since);
            self.assessment.blind = Some(blind.unwrap_or(unread));
        }
        let beside = self.view().is_ok().then(|| self.beside());
        let beside = match (subject, beside) {
            (Some(subject), Some(beside)) => {
                self.health.assess_asides(subject, &beside, &self.assessment.triggers, now)
            }
            (Some(_), None) => Beside { exceeded: asides, ..Beside::default() },
            (None, _) => Beside::default(),
        };
        self.assessment.asides = beside.exceeded;
        self.well_beside = self.stable_beside().filter(|stable| beside.well.contains(*stable)).map(|stable| {
            let before = self.well_beside.as_ref().filter(|(release, _)| release == stable);
            (stable.clone(), before.map_or(now, |(_, since)| *since))
        });
        let healthy = self.assessment.healthy && self.assessment.revision.is_some() && self.has_arrived();
        self.healthy_since = if healthy { self.healthy_since.or(Some(now)) } else { None };
        let good = self.assessment.triggers.iter().filter(|trigger| trigger.evidence.verdict == Verdict::Ok);
        let is_older = |name: &TriggerName| self.state.older_faults.iter().any(|older| older.trigger == *name);
        self.seen_good.extend(good.map(|trigger| trigger.name.clone()).filter(is_older));
    }

    /// The releases that serve beside the one in question, where no rollback is bringing all instances to one of them.
    fn beside(&self) -> BTreeSet<RevisionId> {
        if self.is_acting() {
            return BTreeSet::new();
        }
        // One of which no instance serves is down, and not gone.
        let stable = self.canary().map(|canary| &canary.stable).filter(|stable| {
            self.view().is_ok_and(|view| view.instances.iter().any(|(_, at)| at == *stable))
                && self.in_place().is_some_and(|current| current.revision != **stable)
        });
        self.beside_by_instance().into_keys().chain(stable.cloned()).collect()
    }

    /// The release that serves beside a canary, once all its instances do.
    fn stable_beside(&self) -> Option<&RevisionId> {
        self.canary().filter(|canary| canary.stable_rollout == Rollout::Complete).map(|canary| &canary.stable)
    }

    pub(super) fn canary(&self) -> Option<&Canary> {
        self.view().ok()?.orchestrated.as_ref()?.canary.as_ref()
    }

    /// Whether nothing is still on its way to the release in place: the pods that come up first say nothing of the rest. What
    /// is asked for once it has arrived is no part of its rollout.
    fn has_arrived(&self) -> bool {
        let Ok(view) = self.view() else { return true };
        let is_there = |desired| self.health.has_arrived(desired);
        view.orchestrated.as_ref().is_none_or(|it| it.rollout == Rollout::Complete || is_there(&it.desired))
    }

    pub(super) fn subject(&self) -> Option<Subject> {
        let current = self.state.current.as_ref()?;
        let baseline = self.state.previous.clone().filter(|previous| *previous != current.revision);
        let standing = self.state.ledger.get(&current.revision);
        let known_good = standing.is_some_and(|standing| standing.known_good_since.is_some());
        Some(Subject { revision: current.revision.clone(), since: current.since, baseline, known_good })
    }
}
