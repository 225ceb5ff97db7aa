//! Releases that serve beside the one in question: nothing is taken back for their faults, but people are told of them.

use std::collections::BTreeSet;

use super::Health;
use super::Instances;
use super::assess::{Judged, builtin_of, is_down, is_healthy, status};
use super::judge::Judgement;
use super::reading::Reading;
use super::terms;
use super::verdict::{Aside, Subject, TriggerState, TriggerStatus, Verdict};
use super::watch::Watch;
use crate::domain::id::{RevisionId, TriggerName};
use crate::domain::policy::{Builtin, Condition, Severity, Signal, Trigger};
use crate::domain::time::Timestamp;

/// What was found of the releases that serve beside the one in question.
#[derive(Debug, Default)]
pub struct Beside {
    /// What is exceeded of what is critical.
    pub exceeded: Vec<Aside>,
    /// Those of which every threshold that may lead to a rollback is known to be kept.
    pub well: BTreeSet<RevisionId>,
}

impl Health {
    /// Judges every threshold on each of `others`, releases that serve beside `subject`, whose own triggers say `own`. Of a
    /// comparison with one of them, that speaks for it whatever it comes to: it is no worse than the release in question, or
    /// that is about as good. Each has a life of its own, which begins when the release is first given here.
    pub fn assess_asides(
        &mut self,
        subject: &Subject,
        others: &BTreeSet<RevisionId>,
        own: &[TriggerStatus],
        now: Timestamp,
    ) -> Beside {
        let mut kept = std::mem::take(&mut self.asides);
        kept.retain(|release, _| others.contains(release));
        let mut beside = Beside::default();
        for release in others {
            let watches = kept.entry(release.clone()).or_insert_with(|| self.fresh_watches());
            self.assess_aside((subject, own), release, watches, now, &mut beside);
        }
        self.asides = kept;
        beside
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
        (subject, own): (&Subject, &[TriggerStatus]),
        release: &RevisionId,
        watches: &mut [Watch],
        now: Timestamp,
        beside: &mut Beside,
    ) {
        // Its processes are as cold as those of the release in question where they began after that one's rollout.
        let aside = Subject { revision: release.clone(), since: subject.since, baseline: None, known_good: false };
        let instances = if self.uses_builtins() { self.instances(Some(release)) } else { Instances::new() };
        let views = self.views(Some(&aside), now);
        let signals = self.policy.signals.values();
        let readings: Vec<(&Signal, Reading)> =
            signals.map(|signal| (signal, self.read(signal, views.of(signal), &instances))).collect();
        let mut judged = Vec::new();
        for (trigger, watch) in self.policy.triggers.iter().zip(watches).filter(|(trigger, _)| is_judged(trigger)) {
            let Some(terms) = self.advance(trigger, &readings, watch, &views, false) else { continue };
            let lead = &terms.all[terms.lead];
            // A rollout that is stalled is the workload's, whichever of its releases is looked at.
            if builtin_of(lead.signal) != Some(Builtin::ProgressDeadline) {
                judged.push(Judged {
                    trigger,
                    signal: lead.signal,
                    judgement: lead.judgement.clone(),
                    is_quiet: watch.is_quiet(),
                    sightless_since: None,
                });
            }
            if watch.state() != TriggerState::Inactive && trigger.severity == Severity::Critical {
                let trigger = status(trigger, &terms, None, watch);
                beside.exceeded.push(Aside { release: release.clone(), trigger });
            }
        }
        let is_compared_with = subject.baseline.as_ref() == Some(release);
        for trigger in self.policy.triggers.iter().filter(|trigger| is_compared_with && !is_judged(trigger)) {
            let status = own.iter().find(|status| status.name == trigger.name);
            let is_known = status.is_some_and(|status| match &status.evidence.verdict {
                Verdict::Ok | Verdict::Breach => {
                    status.evidence.compared.as_ref().is_some_and(|compared| compared.beside)
                }
                Verdict::Unknown(_) => false,
            });
            let Some((signal, _)) = terms::find(&readings, &trigger.signal).filter(|_| is_known) else { continue };
            judged.push(Judged { trigger, signal, judgement: Judgement::Good, is_quiet: true, sightless_since: None });
        }
        if is_healthy(&judged) && !readings.iter().any(is_down) {
            beside.well.insert(release.clone());
        }
    }
}

fn is_judged(trigger: &Trigger) -> bool {
    !trigger.terms().any(|(_, condition)| matches!(condition, Condition::WorseThanBaseline(_)))
}
