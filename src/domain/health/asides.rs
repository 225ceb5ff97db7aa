//! Releases that serve beside the one in question: nothing is taken back for their faults, but people are told of them.

use std::collections::BTreeSet;

use super::Health;
use super::Instances;
use super::assess::status;
use super::reading::Reading;
use super::verdict::{Aside, Subject, TriggerState};
use super::watch::Watch;
use crate::domain::id::{RevisionId, TriggerName};
use crate::domain::policy::{Condition, Severity, Signal, Trigger};
use crate::domain::time::Timestamp;

impl Health {
    /// Judges every critical threshold on each of `others`, releases that serve beside `subject`, and gives those that are
    /// exceeded. A comparison needs the release in question, and is left out. Each has a life of its own, which begins when
    /// the release is first given here.
    pub fn assess_asides(&mut self, subject: &Subject, others: &BTreeSet<RevisionId>, now: Timestamp) -> Vec<Aside> {
        let mut kept = std::mem::take(&mut self.asides);
        kept.retain(|release, _| others.contains(release));
        let mut exceeded = Vec::new();
        for release in others {
            let watches = kept.entry(release.clone()).or_insert_with(|| self.fresh_watches());
            exceeded.extend(self.assess_aside(subject, release, watches, now));
        }
        self.asides = kept;
        exceeded
    }

    /// As [`Health::restore`], of a release that served beside the one in question.
    pub fn restore_aside(
        &mut self,
        release: &RevisionId,
        trigger: &TriggerName,
        state: TriggerState,
        last_seen: Timestamp,
    ) {
        let fresh = self.fresh_watches();
        let watches = self.asides.entry(release.clone()).or_insert(fresh);
        let position = self.policy.triggers.iter().position(|known| known.name == *trigger);
        if let Some(watch) = position.and_then(|position| watches.get_mut(position)) {
            watch.restore(state, last_seen);
        }
    }

    fn fresh_watches(&self) -> Vec<Watch> {
        self.policy.triggers.iter().map(Watch::new).collect()
    }

    fn assess_aside(
        &self,
        subject: &Subject,
        release: &RevisionId,
        watches: &mut [Watch],
        now: Timestamp,
    ) -> Vec<Aside> {
        // Its processes are as cold as those of the release in question where they began after that one's rollout.
        let aside = Subject { revision: release.clone(), since: subject.since, baseline: None, known_good: false };
        let instances = if self.uses_builtins() { self.instances(Some(release)) } else { Instances::new() };
        let views = self.views(Some(&aside), now);
        let signals = self.policy.signals.values();
        let readings: Vec<(&Signal, Reading)> =
            signals.map(|signal| (signal, self.read(signal, views.of(signal), &instances))).collect();
        let mut exceeded = Vec::new();
        for (trigger, watch) in self.policy.triggers.iter().zip(watches).filter(|(trigger, _)| is_judged(trigger)) {
            let Some(terms) = self.advance(trigger, &readings, watch, &views, false) else { continue };
            if watch.state() != TriggerState::Inactive {
                exceeded.push(Aside { release: release.clone(), trigger: status(trigger, &terms, None, watch) });
            }
        }
        exceeded
    }
}

fn is_judged(trigger: &Trigger) -> bool {
    let compares = trigger.terms().any(|(_, condition)| matches!(condition, Condition::WorseThanBaseline(_)));
    trigger.severity == Severity::Critical && !compares
}
