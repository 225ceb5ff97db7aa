//! What is tested beside the other release: the share of errors, or a histogram's shares above its bounds.

use super::evidence::{Count, Process};
use crate::domain::health::dispersion::MINUTE;
use crate::domain::health::past::Sum;
use crate::domain::policy::Comparison;
use crate::domain::time::Span;

/// Bounds of a histogram that are tested, at most.
const MAX_BOUNDS: usize = 12;

/// What is left of the memory of the old release's share after each step, and the most requests that it starts with.
const MEMORY: (f64, f64) = (0.95, 2000.0);

/// One share that is tested: errors, or requests above a bound.
#[derive(Clone, Debug)]
pub(super) struct Yardstick {
    /// The bound, in the exporter's unit, and the one that would be as far up for a release that is just materially
    /// faster; none for errors.
    above: Option<(f64, f64)>,
    pub(super) beside: Process,
    pub(super) beyond: Process,
    /// The old release's share lately.
    seen: Count,
    /// Requests of the new release, and the old one's with those that were bad, within the last minute or so.
    lately: (f64, Count),
    /// Of a latency, the old release's share above the lower bound lately: were it materially slower, so many would be above
    /// the upper one. A bound in a flat or a steep part of the distribution says little by its share alone.
    slower: Count,
    /// What would be materially worse than the old release's share over its past, at its upper end; before the
    /// step that it is used in.
    known: f64,
}

/// What a step is weighed by.
pub(super) struct Step {
    /// The most that it may gain (natural logarithm).
    pub(super) cap: f64,
    /// The variance of the logarithm of the ratio of both shares that targets make by themselves.
    pub(super) apart: f64,
    /// Up to so many times the old release's share is no worse: what targets are like for as long as they are there adds to it.
    pub(super) alike: f64,
    /// Since the step before.
    pub(super) passed: Span,
}

impl Yardstick {
    pub(super) fn new(above: Option<(f64, f64)>, past: &Sum, margin: Comparison) -> Self {
        let (beside, beyond, none) = (Process::new(), Process::new(), Count::default());
        let mut yardstick = Self { above, beside, beyond, seen: none, lately: (0.0, none), slower: none, known: 1.0 };
        yardstick.learn(past, margin);
        let (_, most) = MEMORY;
        let lately = |count: Count| count.times((most / count.all).min(1.0));
        if let Some((seen, slower)) = yardstick.counts(past).filter(|(seen, _)| seen.all > 0.0) {
            (yardstick.seen, yardstick.slower) = (lately(seen), lately(slower));
        }
        yardstick
    }

    pub(super) fn weigh(&mut self, new: &Sum, old: &Sum, past: &Sum, margin: Comparison, step: &Step) {
        let (Some((new, _)), Some((old, slower))) = (self.counts(new), self.counts(old)) else { return };
        let (guess, if_slower) = (self.seen.guess(), self.slower.guess());
        let alike = if self.above.is_some() { step.alike * (if_slower / guess).max(1.0) } else { step.alike };
        let excess = self.excess(new, old, step);
        self.beside.compare(new, old, (guess, alike), margin.bound(guess), (excess, step.cap));
        self.beyond.exceed(new, self.known, step.cap);
        let keep = (-step.passed.as_secs_f64() / MINUTE.as_secs_f64()).exp();
        self.lately = (self.lately.0 * keep + new.all, self.lately.1.times(keep).plus(old));
        let (keep, _) = MEMORY;
        self.seen = self.seen.times(keep).plus(old);
        self.slower = self.slower.times(keep).plus(slower);
        self.learn(past, margin);
    }

    pub(super) fn withdraw(&mut self) {
        self.beside.withdraw();
        self.beyond.withdraw();
    }

    /// The variance of the logarithm of the ratio that targets make by themselves, in parts of that which chance makes of the
    /// errors of a minute in which the new release is no worse. By what was known before the step, so that the bet stays one.
    fn excess(&self, new: Count, old: Count, step: &Step) -> f64 {
        let (requests, lately) = self.lately;
        let errors = lately.bad + old.all * self.seen.guess() + 0.5;
        let as_many = errors * (requests + new.all) / (lately.all + old.all);
        step.apart / (1.0 / errors + 1.0 / as_many)
    }

    /// Those that are bad or above the bound, and those above the lower bound.
    fn counts(&self, sum: &Sum) -> Option<(Count, Count)> {
        let count = |bad: f64| Count { bad, all: sum.all };
        match self.above {
            Some((bound, lower)) => Some((count(sum.above(bound)?), count(sum.about_above(lower)))),
            None => Some((count(sum.bad), Count::default())),
        }
    }

    /// The upper end, by one standard deviation: with a short past little is known.
    fn learn(&mut self, past: &Sum, margin: Comparison) {
        if let Some((seen, slower)) = self.counts(past).filter(|(seen, _)| seen.all > 0.0) {
            let upper = |count: Count| ((count.bad + 0.5 + (count.bad + 0.5).sqrt()) / seen.all).min(1.0);
            self.known = margin.bound(upper(seen)).max(if self.above.is_some() { upper(slower) } else { 0.0 });
        }
    }
}

/// What is tested: errors, or a histogram's bounds that both sides have; `factor` times slower is materially slower.
pub(super) fn yardsticks(new: &Sum, old: &Sum, past: &Sum, margin: Comparison, factor: f64) -> Vec<Yardstick> {
    if new.buckets.is_empty() && old.buckets.is_empty() {
        return vec![Yardstick::new(None, past, margin)];
    }
    let is_common = |bound: f64| bound.is_finite() && old.buckets.iter().any(|bucket| bucket.bound == bound);
    let bounds: Vec<f64> = new.buckets.iter().map(|bucket| bucket.bound).filter(|bound| is_common(*bound)).collect();
    let stride = bounds.len().div_ceil(MAX_BOUNDS).max(1);
    let with_lower = |bound: f64| Yardstick::new(Some((bound, bound / factor)), past, margin);
    bounds.into_iter().step_by(stride).map(with_lower).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::health::compare::chance::Chance;
    use crate::domain::health::compare::evidence::ALIKE;
    use crate::domain::health::dispersion::Dispersion;
    use crate::domain::id::TargetId;
    use crate::domain::time::Timestamp;
    use crate::domain::units::Unit;

    const STEP: u64 = 10;

    /// A pod's own factor: the exponential of a first-order autoregression with so many seconds of memory, and mean 1.
    struct Own {
        at: f64,
        spread: f64,
        memory: f64,
    }

    impl Own {
        fn new((spread, memory): (f64, f64), chance: &mut Chance) -> Self {
            Self { at: normal(chance), spread, memory }
        }

        fn next(&mut self, chance: &mut Chance) -> f64 {
            let keep = (-(STEP as f64) / self.memory).exp();
            self.at = keep * self.at + (1.0 - keep * keep).sqrt() * normal(chance);
            (self.spread * self.at - self.spread * self.spread / 2.0).exp()
        }
    }

    fn normal(chance: &mut Chance) -> f64 {
        (-2.0 * (1.0 - chance.uniform()).ln()).sqrt() * (std::f64::consts::TAU * chance.uniform()).cos()
    }

    fn sum(bad: f64, all: u32) -> Sum {
        Sum { bad, all: f64::from(all), buckets: Vec::new() }
    }

    /// One new pod with half of the requests beside five old ones, after a quarter of an hour of these, with 3 % errors but for
    /// the factor of the new one: the step, of a quarter of an hour, at which the evidence at 99 % was there. `knows` is
    /// whether what the pods do by themselves is taken into account.
    fn canary(seed: u64, unrest: (f64, f64), factor: f64, knows: bool) -> Option<u64> {
        let (mut chance, margin) = (Chance::new(seed), Comparison::usual(Unit::Ratio));
        let mut own: Vec<Own> = (0..6).map(|_| Own::new(unrest, &mut chance)).collect();
        let (mut past, mut dispersion) = (Sum::default(), Dispersion::default());
        let mut yardstick = None;
        for step in 0..180 {
            let mut old = Sum::default();
            for (pod, own) in own.iter_mut().skip(1).enumerate() {
                let all = if step < 90 { 400 } else { 200 };
                let share = 0.03 * own.next(&mut chance);
                let served = sum(chance.binomial(all, share), all);
                let at = Timestamp::from_millis((step * STEP * 1000).cast_signed());
                dispersion.add(&TargetId::new(pod.to_string()), at, &served);
                old.add(&served);
            }
            let share = 0.03 * (own[0].next(&mut chance) + factor - 1.0);
            let new = sum(chance.binomial(1000, share.max(0.0)), 1000);
            if step >= 90 {
                let yardstick = yardstick.get_or_insert_with(|| Yardstick::new(None, &past, margin));
                let apart = if knows { dispersion.over_minutes() * (1.0 + 1.0 / dispersion.targets()) } else { 0.0 };
                let by = Step { cap: 4.0, apart, alike: ALIKE, passed: Span::from_secs(STEP) };
                yardstick.weigh(&new, &old, &past, margin, &by);
                if yardstick.beside.log_evidence().min(yardstick.beyond.log_evidence()) >= 100f64.ln() {
                    return Some(step - 90);
                }
            }
            past.add(&old);
        }
        None
    }

    /// One in a hundred is what 99 % allow; where the pods' own minutes are taken for chance it is many more.
    #[test]
    fn bad_minutes_of_one_pod_are_no_proof() {
        let alarms = |unrest, knows| (0..200).filter(|seed| canary(*seed, unrest, 1.0, knows).is_some()).count();
        let (known, unknown) = (alarms((0.3, 40.0), true), alarms((0.3, 40.0), false));
        assert!(known <= 2, "{known} of 200");
        assert!(unknown > 6, "{unknown} of 200 say nothing of the difference");
        let for_minutes = alarms((0.5, 120.0), true);
        assert!(for_minutes <= 2, "{for_minutes} of 200");
    }

    /// Steps of 10 s at the median of 25 canaries.
    #[test]
    fn what_is_worse_is_found_all_the_same() {
        for (name, spread, factor, most) in [
            ("ten times, of restless pods", 0.3, 10.0, 3),
            ("twice", 0.15, 2.0, 12),
            ("half as many again, of calm pods", 0.05, 1.6, 24),
        ] {
            let mut steps: Vec<u64> =
                (0..25).map(|seed| canary(seed, (spread, 40.0), factor, true).unwrap_or(90)).collect();
            steps.sort_unstable();
            assert!(steps[12] <= most, "{name}: {} steps", steps[12]);
        }
    }
}
