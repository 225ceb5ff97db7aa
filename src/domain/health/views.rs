//! From where a trigger looks at a release, and at the one before it.

use std::collections::BTreeMap;

use super::compare::{self, Comparer};
use super::follow::{self, Added, YOUNG};
use super::judge::{self, Judgement};
use super::reading::{Lack, Reading, Settling, Sight};
use super::verdict::{Compared, Subject, UnknownReason};
use super::{Health, Instances};
use crate::domain::id::SignalName;
use crate::domain::policy::{Builtin, Condition, Formula, Signal, Trigger};
use crate::domain::time::{Span, Timestamp};

/// The share of errors beyond which they are no cold start, where the policy has no threshold for them.
const DEFAULT_ERRORS: f64 = 0.1;

/// What is seen of the release in question, and of the one before it.
pub(super) struct Views<'a> {
    /// All of it.
    pub(super) all: Sight<'a>,
    /// Without what new processes did while they warmed up.
    warm: Sight<'a>,
    /// Without what new processes did in the time in which nothing is put down to them.
    grown: Sight<'a>,
    /// The release before, likewise; none where no rollout was seen.
    pub(super) old: Option<Sight<'a>>,
    pub(super) subject: Option<&'a Subject>,
}

impl<'a> Views<'a> {
    /// Where an absolute threshold looks: a latency is not judged while processes warm up.
    pub(super) fn of(&self, signal: &Signal) -> &Sight<'a> {
        if is_latency(signal) { &self.warm } else { &self.all }
    }

    /// Whether nothing but what new processes did in the time in which nothing is put down to them is beyond the bound of a
    /// latency: where a cold start takes a little longer than `warmup`, one after the other leaves some of it in the window.
    pub(super) fn is_cold(&self, signal: &Signal, condition: Condition) -> bool {
        let is_left_out = self.warm.settling.is_some_and(|settling| settling.span < YOUNG);
        if !is_left_out || !is_latency(signal) {
            return false;
        }
        let grown = self.grown.read(signal, self.grown.scope.window(signal.window), 1);
        grown.value.is_ok() && judge::judge(&grown, signal, condition, true) == Judgement::Good
    }
}

fn is_latency(signal: &Signal) -> bool {
    signal.candidates.iter().any(|candidate| match candidate.formula {
        Formula::Histogram { .. } | Formula::Summary { .. } => true,
        Formula::Ratio { .. } | Formula::Gauge { .. } | Formula::Rate { .. } | Formula::Builtin(_) | Formula::Query => {
            false
        }
    })
}

impl Health {
    /// Compares the release with the one before it.
    pub(super) fn compare(
        &self,
        comparer: &mut Comparer,
        trigger: &Trigger,
        signal: &Signal,
        all: &Reading,
        added: &[Added],
        views: &Views<'_>,
    ) -> (Judgement, Option<Compared>) {
        let baseline = views.subject.and_then(|subject| Some((subject, subject.baseline.as_ref()?)));
        let (Some((subject, baseline)), Some(old), Some(followed)) =
            (baseline, &views.old, self.followed.get(&signal.name))
        else {
            return (Judgement::Unknown(Lack::of(UnknownReason::NoBaseline)), None);
        };
        let now = views.all.scope.now;
        let read_old = |sight: &Sight<'_>| sight.read(signal, sight.scope.window(signal.window), 1);
        let mut old_reading = read_old(old);
        // One that has only just come up may be cold as well. That it is well all the same says the more.
        if old_reading.value.as_ref().is_err_and(|lack| lack.reason == UnknownReason::WarmingUp) {
            old_reading = read_old(&Sight { settling: None, ..old.clone() });
        }
        let outcome = comparer.look(
            trigger,
            &compare::Look {
                now,
                signal,
                interval: self.policy.interval,
                release: &subject.revision,
                baseline,
                added,
                followed,
                all,
                grown: &views.grown.read(signal, views.grown.scope.window(signal.window), 1),
                old: &old_reading,
                threshold: self.threshold_of_errors(signal),
            },
        );
        (outcome.judgement, outcome.compared)
    }

    /// Compares the kills or restarts of the release with those of the one before it.
    pub(super) fn compare_events(
        &self,
        comparer: &mut Comparer,
        trigger: &Trigger,
        builtin: Builtin,
        new: &Reading,
        views: &Views<'_>,
        instances: &Instances<'_>,
    ) -> (Judgement, Option<Compared>) {
        let baseline = views.subject.and_then(|subject| subject.baseline.as_ref());
        let (Some(baseline), Some(signal)) = (baseline, self.policy.signals.get(&trigger.signal)) else {
            return (Judgement::Unknown(Lack::of(UnknownReason::NoBaseline)), None);
        };
        let around = self.around_events(builtin, signal, views, instances);
        let old = around.beside.iter().chain(&around.before).map(|amount| amount.value.get());
        let counted = compare::Counted {
            now: views.all.scope.now,
            interval: self.policy.interval,
            baseline,
            new,
            old: old.fold(0.0, f64::max),
            instances: around.beside.map_or(0, |beside| beside.samples),
        };
        let outcome = comparer.count(trigger, &counted);
        (outcome.judgement, outcome.compared)
    }

    /// The threshold beyond which an error ratio is no cold start: the policy's own, else that of the default trigger.
    fn threshold_of_errors(&self, signal: &Signal) -> Option<f64> {
        // What is bad only together with something else says nothing of this signal by itself.
        let alone = self.policy.triggers.iter().filter(|trigger| trigger.is_by_any());
        let own = alone.flat_map(|trigger| trigger.terms()).filter(|(judged, _)| **judged == signal.name);
        let bounds = own.filter_map(|(_, condition)| match condition {
            Condition::Above(bound) => Some(bound.get()),
            Condition::Below(_) | Condition::WorseThanBaseline(_) => None,
        });
        signal.counts_errors().then(|| bounds.reduce(f64::min).unwrap_or(DEFAULT_ERRORS))
    }

    /// Takes up what was added to the signals that triggers judge.
    pub(super) fn follow(&mut self, subject: Option<&Subject>, now: Timestamp) -> BTreeMap<SignalName, Vec<Added>> {
        let mut added = BTreeMap::new();
        for (judged, _) in self.policy.triggers.iter().flat_map(|trigger| trigger.terms()) {
            let Some(signal) = self.policy.signals.get(judged).filter(|signal| follow::is_counted(signal)) else {
                continue;
            };
            if added.contains_key(&signal.name) {
                continue;
            }
            let followed = self.followed.entry(signal.name.clone()).or_default();
            let look = (now, self.policy.interval);
            added.insert(signal.name.clone(), followed.take_in(signal, &self.scraped, subject, &self.rules, look));
        }
        added
    }

    pub(super) fn views<'a>(&'a self, subject: Option<&'a Subject>, now: Timestamp) -> Views<'a> {
        let scope = self.scope(subject.map(|subject| &subject.revision), now, None);
        let settling =
            |span: Span| subject.map(|subject| Settling { rollout: subject.since, span, rules: &self.rules });
        let all = self.sight(scope);
        let warm = Sight { settling: settling(self.policy.warmup), ..all.clone() };
        let grown = Sight { settling: settling(YOUNG), ..all.clone() };
        let baseline = subject.and_then(|subject| subject.baseline.as_ref());
        let old = baseline.map(|baseline| {
            let scope = self.scope(Some(baseline), now, None);
            Sight { settling: settling(YOUNG), ..self.sight(scope) }
        });
        Views { all, warm, grown, old, subject }
    }
}
