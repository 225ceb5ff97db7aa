//! A release against the one before it: beside it while both serve, else against its past.
//!
//! Side by side the evidence alone decides ([`evidence`]), less what pods do by themselves
//! ([`dispersion`](super::dispersion), [`bursts`](super::bursts)); what a process does in its first 90 seconds is left out
//! of it, and counts only for what no cold start explains: an error ratio proven beyond the policy's own threshold, while the
//! old release beside it is well. Where pauses of single targets decide what a quantile of the whole is, what outlasts them is
//! held against the old release outside of them ([`calm`]). Where only one serves, time itself may be the cause: the new release must be worse than any
//! stretch of the old one's last half hour, and hold it ([`life`]).

use calm::Calm;
use evidence::{Count, Process};
use life::{Finding, Life};
pub(super) use sides::is_trickle;
use sides::{in_common, old_value, pair, serves_beside, tail_beyond};
use yardstick::{Step, Yardstick, alike, differing, yardsticks};

use super::bursts::OwnBursts;
use super::dispersion::Apart;
use super::follow::{Added, Followed};
use super::judge::{self, Judgement, Tally};
use super::past::Sum;
use super::reading::{Basis, Lack, Reading};
use super::verdict::{Compared, TriggerState, UnknownReason};
use crate::domain::id::RevisionId;
use crate::domain::policy::{Candidate, Comparison, Condition, Formula, Signal, Trigger};
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::{Finite, Unit};

mod calm;
#[cfg(test)]
pub(super) mod chance;
mod evidence;
mod life;
mod sides;
mod yardstick;

/// A single look gains at most this much (natural logarithm), and at most [`PART`] of what is needed: one burst between
/// two looks decides nothing.
const MOST: f64 = 6.0;

/// Part of what is needed that one interval's look at an error ratio may gain: two looks at least, since the two releases
/// are not looked at in the same moment and the edges of a burst that hits both make them differ.
const PART: f64 = 0.5;

/// The same of errors of young processes: two looks at least.
const EARLY_PART: f64 = 0.75;

/// For how long the evidence of grown processes must have been rising: one burst may be in two looks, and a third one comes
/// after at most so many intervals, or so much time where looks are rare.
const RISING: (f64, Span) = (1.5, Span::from_secs(20));

/// Failed requests that are not chance.
const FEW: f64 = 2.0;

/// The same of a latency, which is alike from one look to the next: four looks at least.
const LATENCY_PART: f64 = 0.3;

/// What the mixtures cost at the start, over all alternatives, and being a part of one bet.
const PRICE: f64 = 3.4;

/// Evidence is looked for in four places: beside the old release, and outside of its pauses, in young processes, against the
/// past. Each has its part
/// of the bet, so that all of them together stay below what `confidence` says. Their sum is an e-process of what all of
/// them deny, and none of them is larger than it. The largest is where small differences are looked for; what is beyond the
/// threshold soon proves itself, and against the past it has to hold anyway.
const BESIDE: f64 = 0.55;
const OUTSIDE_OF_PAUSES: f64 = 0.05;
const EARLY: f64 = 0.25;
const AGAINST_PAST: f64 = 0.15;

/// Minutes of the old release's past that say what its share of errors is now.
const LATELY_MINUTES: usize = 10;

/// A minute of the new release becomes a part of the past once it is so old and was not worse: what changes over hours, such
/// as the time of day, is not put down to a release.
const SETTLED: Span = Span::from_secs(600);

/// Everything about one signal that is compared, at one look.
pub(super) struct Look<'a> {
    pub(super) now: Timestamp,
    pub(super) signal: &'a Signal,
    pub(super) interval: Span,
    pub(super) release: &'a RevisionId,
    pub(super) baseline: &'a RevisionId,
    /// What was added since the last look.
    pub(super) added: &'a [Added],
    pub(super) followed: &'a Followed,
    /// The new release over the window, young processes included.
    pub(super) all: &'a Reading,
    /// Without them.
    pub(super) grown: &'a Reading,
    /// The old release beside it, over the same window; without a value where it does not serve.
    pub(super) old: &'a Reading,
    /// The policy's own threshold for the signal, for errors of young processes; none where it is no share of errors.
    pub(super) threshold: Option<f64>,
}

/// Counted events of both releases, at one look.
pub(super) struct Counted<'a> {
    pub(super) now: Timestamp,
    pub(super) interval: Span,
    pub(super) baseline: &'a RevisionId,
    pub(super) new: &'a Reading,
    /// The most that the release before had: beside this one, for as many instances, or in the hour before the rollout.
    pub(super) old: f64,
    /// Its instances beside this one.
    pub(super) instances: u64,
}

/// What came in and was not yet weighed, and since when.
#[derive(Clone, Debug, Default)]
struct Open {
    new: Sum,
    old: Sum,
    since: Option<Timestamp>,
}

/// One trigger's comparison.
#[derive(Clone, Debug)]
pub(super) struct Comparer {
    comparison: Comparison,
    yardsticks: Vec<Yardstick>,
    open: Open,
    calm: Calm,
    early: Process,
    early_open: Open,
    /// When the evidence began to rise.
    risen: Option<Timestamp>,
    /// Since when the newest requests have said that the fault is over.
    over: Option<Timestamp>,
    /// The highest that the new release itself was like, while it was not worse.
    settled: Option<f64>,
    /// Requests of the new release against what would be worse than the past.
    against_past: Process,
    pub(super) life: Life,
}

/// What one look came to.
pub(super) struct Outcome {
    pub(super) judgement: Judgement,
    pub(super) compared: Option<Compared>,
}

impl Comparer {
    pub(super) fn new(comparison: Comparison) -> Self {
        Self {
            comparison,
            yardsticks: Vec::new(),
            open: Open::default(),
            calm: Calm::default(),
            early: Process::new(),
            early_open: Open::default(),
            risen: None,
            over: None,
            settled: None,
            against_past: Process::new(),
            life: Life::new(),
        }
    }

    /// Forgets everything, as at the start.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.comparison);
    }

    /// One look.
    pub(super) fn look(&mut self, trigger: &Trigger, look: &Look<'_>) -> Outcome {
        self.take_in(look);
        let was_firing = matches!(self.life.state(), TriggerState::Firing { .. });
        let (finding, judgement, compared) = if serves_beside(look) { self.beside(look) } else { self.past(look) };
        let onset = self.risen.unwrap_or(look.now);
        self.life.advance(look.now, finding, onset, trigger.hold_for, look.interval);
        match self.life.state() {
            TriggerState::Inactive if was_firing => self.begin_anew(),
            TriggerState::Inactive => self.against_past.withdraw(),
            TriggerState::Pending { .. } | TriggerState::Firing { .. } => {}
        }
        Outcome { judgement, compared }
    }

    /// The evidence for a fault that is over says nothing of the next one.
    fn begin_anew(&mut self) {
        let (settled, life) = (self.settled, self.life.clone());
        *self = Self { settled, life, ..Self::new(self.comparison) };
    }

    /// Counted events of built-in signals: each beyond what the release before had is one too many.
    pub(super) fn count(&mut self, trigger: &Trigger, counted: &Counted<'_>) -> Outcome {
        let bound = self.comparison.bound(counted.old);
        let (finding, judgement) = match &counted.new.value {
            Ok(value) if value.get() > bound => (Finding::Proven, Judgement::Bad),
            Ok(_) => (Finding::Alike, Judgement::Good),
            Err(lack) => (Finding::Unknown, Judgement::Unknown(lack.clone())),
        };
        self.life.advance(counted.now, finding, counted.now, trigger.hold_for, counted.interval);
        let compared = Compared {
            baseline: counted.baseline.clone(),
            beside: true,
            value: Finite::new(counted.old),
            samples: counted.instances,
            bound: Finite::new(bound),
            evidence: None,
            differing: None,
            bursts: None,
            without_pauses: false,
        };
        Outcome { judgement, compared: Some(compared) }
    }

    fn needed(&self) -> f64 {
        needed(self.comparison)
    }

    /// What a look after `passed` may gain.
    fn cap(&self, passed: Span, interval: Span, part: f64) -> f64 {
        cap(self.needed(), passed, interval, part)
    }

    fn take_in(&mut self, look: &Look<'_>) {
        let of = |release: &RevisionId| look.added.iter().find(|added| added.release == *release);
        if let Some(new) = of(look.release) {
            self.open.new.add(&new.grown);
            self.early_open.new.add(&new.young);
        }
        self.calm.take_in(look, self.comparison);
        if let Some(old) = of(look.baseline) {
            self.open.old.add(&old.grown);
            // Whether it is well is seen of all of it.
            self.early_open.old.add(&old.grown);
            self.early_open.old.add(&old.young);
        }
        let least = look.signal.min_requests;
        if are_beside(&self.open, least) {
            self.weigh(look);
        }
        let is_beside = are_beside(&self.early_open, least);
        if let Some(threshold) = look.threshold.filter(|_| is_beside) {
            self.weigh_early(threshold, look);
        }
    }

    /// Closes a step: both sides have served since the last one.
    fn weigh(&mut self, look: &Look<'_>) {
        let passed = self.open.since.map_or(look.interval, |since| look.now.since(since));
        if passed == Span::ZERO {
            return;
        }
        let Open { new, old, .. } =
            std::mem::replace(&mut self.open, Open { since: Some(look.now), ..Open::default() });
        let is_latency = !new.buckets.is_empty() || !old.buckets.is_empty();
        // How many fail rises and falls within the hour, for both alike.
        let past = if is_latency {
            look.followed.past.pooled(look.baseline)
        } else {
            look.followed.past.last(look.baseline, LATELY_MINUTES, Timestamp::from_millis(i64::MAX))
        };
        let margin = if is_latency { Comparison::usual(Unit::Ratio) } else { self.comparison };
        if self.yardsticks.is_empty() {
            self.yardsticks = yardsticks(&new, &old, &past, margin, self.comparison.factor.get());
        }
        let cap = self.cap(passed, look.interval, if is_latency { LATENCY_PART } else { PART });
        let apart = if is_latency { Apart::default() } else { look.followed.apart(look.release, look.baseline) };
        let alike = alike(&apart, self.comparison.confidence.get());
        for yardstick in &mut self.yardsticks {
            yardstick.weigh(&new, &old, &past, margin, &Step { cap, apart: apart.over_minutes, alike, passed });
        }
        let (beside, beyond) = self.evidence();
        self.risen = if beside.min(beyond) > 0.0 { self.risen.or(Some(look.now)) } else { None };
    }

    /// Closes a step of the young: without the old release beside them in the same time, what fails may fail for anyone.
    fn weigh_early(&mut self, threshold: f64, look: &Look<'_>) {
        let passed = self.early_open.since.map_or(look.interval, |since| look.now.since(since));
        if passed == Span::ZERO {
            return;
        }
        let cap = self.cap(passed, look.interval, EARLY_PART);
        let Open { new, old, .. } =
            std::mem::replace(&mut self.early_open, Open { since: Some(look.now), ..Open::default() });
        // What hits both shows in the old one's window only by and by: its newest requests say it at once.
        if old.bad >= FEW && old.bad > self.well(threshold, look) * old.all {
            self.early.withdraw();
            return;
        }
        self.early.exceed(Count { bad: new.bad, all: new.all }, threshold, cap);
    }

    /// Logarithms of the evidence against the release beside and against the bound.
    fn evidence(&self) -> (f64, f64) {
        yardstick::evidence(&self.yardsticks)
    }

    /// Logarithm of the evidence of grown processes as a part of the whole bet: both hypotheses must be refuted.
    fn grown(&self) -> f64 {
        let (beside, beyond) = self.evidence();
        beside.min(beyond) + BESIDE.ln()
    }

    /// The same of young processes.
    fn young(&self) -> f64 {
        self.early.log_evidence() + EARLY.ln()
    }

    /// The same against the past.
    fn than_before(&self) -> f64 {
        self.against_past.log_evidence() + AGAINST_PAST.ln()
    }

    fn beside(&mut self, look: &Look<'_>) -> (Finding, Judgement, Option<Compared>) {
        let pooled = look.followed.past.pooled(look.baseline);
        let pair = pair(look, &pooled);
        // While all its processes are young the new one has no value yet; the old one has.
        let old = pair.map(|(_, old)| old).or_else(|| old_value(look, &pooled));
        let bound = old.map(|old| self.comparison.bound(old));
        let is_over = self.is_over(look, bound);
        self.withdraw_what_is_over(look, is_over);
        let (grown, needed) = (self.grown(), self.needed());
        let is_worse = pair.zip(bound).is_some_and(|((new, _), bound)| new > bound);
        let is_early = self.is_early_fault(look);
        let early = if is_early { self.young() } else { f64::NEG_INFINITY };
        let goes_on = self.has_risen_for_long(look) && !is_over;
        let compared = Compared {
            baseline: look.baseline.clone(),
            beside: true,
            value: old.and_then(Finite::new),
            samples: look.old.samples,
            bound: bound.and_then(Finite::new),
            evidence: of_log(early.max(grown)),
            differing: differing(&look.followed.apart(look.release, look.baseline), self.comparison.confidence.get())
                .filter(|_| look.signal.unit == Unit::Ratio),
            bursts: self.own_bursts(look),
            without_pauses: false,
        };
        if let Some(worse) = self.calm.outlasts(look, self.comparison)
            && !self.is_over(look, Some(worse.bound.get()))
        {
            let (value, bound) = (Some(worse.old.value), Some(worse.bound));
            let (samples, evidence) = (worse.old.samples, of_log(worse.evidence));
            let compared = Compared { value, samples, bound, evidence, without_pauses: true, ..compared };
            return (Finding::Proven, Judgement::Bad, Some(compared));
        }
        let speaks = early.max(if is_worse { grown } else { f64::NEG_INFINITY });
        let is_proven = early >= needed || (speaks >= needed && goes_on);
        let (finding, judgement) = if is_proven {
            match compared.bursts.as_ref().and_then(OwnBursts::as_reason) {
                Some(reason) => (Finding::Likely, Judgement::Straddled(reason)),
                None => (Finding::Proven, Judgement::Bad),
            }
        } else if speaks >= needed / 2.0 {
            (Finding::Likely, Judgement::Unproven)
        } else {
            match &look.grown.value {
                Ok(_) => (Finding::Alike, Judgement::Good),
                Err(lack) => (Finding::Unknown, Judgement::Unknown(lack.clone())),
            }
        };
        (finding, judgement, Some(compared))
    }

    /// What single targets do by themselves; where it was proven before that they do more, only what says so.
    fn own_bursts(&self, look: &Look<'_>) -> Option<OwnBursts> {
        let own = look.followed.own_bursts(look.release, look.baseline, (look.now, look.interval));
        match self.life.state() {
            TriggerState::Firing { .. } => own.filter(|own| !own.explain()),
            TriggerState::Inactive | TriggerState::Pending { .. } => own,
        }
    }

    /// Whether the evidence of grown processes has risen over a third look, up to the last one that brought something.
    fn has_risen_for_long(&self, look: &Look<'_>) -> bool {
        let (intervals, most) = RISING;
        let needed = (look.interval.as_secs_f64() * intervals).min(most.as_secs_f64());
        let last = self.open.since.unwrap_or(look.now);
        self.risen.is_some_and(|risen| last.since(risen).as_secs_f64() >= needed)
    }

    /// Evidence that was enough says nothing of what comes once the fault is over, and a bad minute by chance would bring it
    /// back. The newest requests may be those of a few targets that are well: a whole interval of them must say so.
    fn withdraw_what_is_over(&mut self, look: &Look<'_>, is_over: bool) {
        self.over = if is_over { self.over.or(Some(look.now)) } else { None };
        let is_sure = self.over.is_some_and(|since| look.now.since(since) >= look.interval);
        if is_sure && self.grown() >= self.needed() {
            self.yardsticks.iter_mut().for_each(Yardstick::withdraw);
            self.risen = None;
        }
    }

    /// Whether the newest requests say that what was worse than `bound` is over, though the window still has it.
    fn is_over(&self, look: &Look<'_>, bound: Option<f64>) -> bool {
        let condition = bound.and_then(Finite::new).map(Condition::Above);
        let known = condition.zip(look.followed.candidate.as_ref());
        known.is_some_and(|(condition, candidate)| {
            let window = Tally::of(&look.grown.basis, condition);
            window.is_some_and(|window| look.followed.latest.is_over(candidate, condition, window))
        })
    }

    /// Whether young processes are beyond the policy's threshold now, while the old release beside them is well.
    fn is_early_fault(&self, look: &Look<'_>) -> bool {
        let (Some(threshold), Ok(all), Ok(old)) = (look.threshold, &look.all.value, &look.old.value) else {
            return false;
        };
        all.get() > threshold && old.get() < self.well(threshold, look)
    }

    /// The share of errors up to which the old release is well: half the threshold, or what it is used to.
    fn well(&self, threshold: f64, look: &Look<'_>) -> f64 {
        let candidate = look.followed.candidate.as_ref();
        let before = candidate.and_then(|candidate| look.followed.past.pooled(look.baseline).value(candidate));
        self.comparison.bound(before.unwrap_or(0.0)).max(threshold / 2.0).min(threshold)
    }

    fn past(&mut self, look: &Look<'_>) -> (Finding, Judgement, Option<Compared>) {
        let past = &look.followed.past;
        let grown = in_common(look.grown, &past.pooled(look.baseline));
        let bounds = match &grown.basis {
            Basis::Buckets { buckets, .. } => buckets.as_slice(),
            Basis::Plain | Basis::Counts { .. } => &[],
        };
        let known = look
            .followed
            .candidate
            .as_ref()
            .and_then(|candidate| Some((past.worst(look.baseline, candidate, bounds, look.now)?, candidate)));
        let Some((worst, candidate)) = known else {
            let lack = Lack::of(UnknownReason::NoBaseline);
            return (Finding::Unknown, Judgement::Unknown(lack), None);
        };
        let reference = self.settled.map_or(worst.value, |settled| settled.max(worst.value));
        // That few requests had no error does not say that there are none.
        let reference = reference.max(past.pooled(look.baseline).at_most().unwrap_or(0.0));
        // What fails at its own pace, whatever the traffic, is a larger share of less.
        let reference = match candidate.formula {
            Formula::Ratio { .. } => {
                past.as_many_errors(look.release, look.baseline).map_or(reference, |share| reference.max(share))
            }
            Formula::Histogram { .. }
            | Formula::Summary { .. }
            | Formula::Gauge { .. }
            | Formula::Rate { .. }
            | Formula::Builtin(_)
            | Formula::Query => reference,
        };
        // The more it went up and down, the further it goes the next time.
        let bound = self.comparison.bound(reference * worst.unrest.exp());
        let mut compared = Compared {
            baseline: look.baseline.clone(),
            beside: false,
            value: Finite::new(reference),
            samples: worst.requests as u64,
            bound: Finite::new(bound),
            evidence: None,
            differing: None,
            bursts: None,
            without_pauses: false,
        };
        let Some(limit) = Finite::new(bound) else {
            return (Finding::Unknown, Judgement::Unknown(Lack::of(UnknownReason::NotFinite)), Some(compared));
        };
        let condition = Condition::Above(limit);
        self.weigh_past(look, candidate, condition);
        compared.evidence = of_log(self.than_before());
        let mut judgement = judge::judge(&grown, look.signal, condition, true);
        if matches!(judgement, Judgement::Bad | Judgement::Unproven) {
            // A window that proves something is one of many that were looked at. What was proven of an earlier one says nothing
            // of a request that fails by itself later.
            let is_few = Tally::of(&grown.basis, condition).is_some_and(|tally| tally.part < FEW);
            let is_proven = self.than_before() >= self.needed() && !is_few;
            let by_tail = tail_beyond(&grown.basis, condition);
            judgement = if by_tail.is_some_and(|tail| tail.part <= tail.bound * tail.all) {
                Judgement::Good
            } else if is_proven {
                Judgement::Bad
            } else {
                Judgement::Unproven
            };
        }
        let is_over = self.is_over(&Look { grown: &grown, ..*look }, Some(bound));
        let finding = match &judgement {
            Judgement::Good | Judgement::AssumedGood => Finding::Good,
            Judgement::Bad | Judgement::AssumedBad if is_over => Finding::Unproven,
            // One that failed of few is a large share of them, and runs no clock.
            Judgement::Unproven if Tally::of(&grown.basis, condition).is_some_and(|tally| tally.part < FEW) => {
                Finding::Good
            }
            Judgement::Bad | Judgement::AssumedBad => Finding::Worse,
            Judgement::Unproven | Judgement::Straddled(_) => Finding::Unproven,
            Judgement::Unknown(_) => Finding::Unknown,
        };
        if finding == Finding::Good && self.life.since().is_none() {
            self.settle(look, candidate);
        }
        (finding, judgement, Some(compared))
    }

    /// What came in since the last look, against what would be worse than the past.
    fn weigh_past(&mut self, look: &Look<'_>, candidate: &Candidate, condition: Condition) {
        let Some(new) = look.added.iter().find(|added| added.release == *look.release) else { return };
        let basis = new.grown.basis(candidate);
        if let Some(tally) = tail_beyond(&basis, condition).or_else(|| Tally::of(&basis, condition)) {
            let cap = self.cap(look.interval, look.interval, PART);
            self.against_past.exceed(Count { bad: tally.part, all: tally.all }, tally.bound, cap);
        }
    }

    /// What the new release was like a while ago, when nothing was wrong, becomes a part of the past.
    fn settle(&mut self, look: &Look<'_>, candidate: &Candidate) {
        if let Some(worst) = look.followed.past.worst(look.release, candidate, &[], look.now - SETTLED) {
            self.settled = Some(self.settled.map_or(worst.value, |settled| settled.max(worst.value)));
        }
    }
}

/// Logarithm of the evidence that is asked for.
fn needed(comparison: Comparison) -> f64 {
    -(1.0 - comparison.confidence.get()).ln()
}

/// What a look after `passed` may gain, where so much is `needed`.
fn cap(needed: f64, passed: Span, interval: Span, part: f64) -> f64 {
    let share = (passed.as_secs_f64() / interval.as_secs_f64()).min(1.0);
    MOST.min((needed + PRICE) * part) * share
}

/// Whether both have served since the last step, with enough requests to tell what hits both.
fn are_beside(open: &Open, least: u64) -> bool {
    let (new, old) = (open.new.all, open.old.all);
    new > 0.0 && old > 0.0 && !is_trickle(old, new, least)
}

/// Evidence from its logarithm, at most what a number holds.
fn of_log(evidence: f64) -> Option<Finite> {
    Finite::new(evidence.exp().min(1e300))
}
