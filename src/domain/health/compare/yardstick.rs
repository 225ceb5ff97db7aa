//! What is tested beside the other release: the share of errors, or a histogram's shares above its bounds.

use super::evidence::{self, ALIKE, Count, Process};
use crate::domain::health::dispersion::{Apart, MINUTE};
use crate::domain::health::lasting::Differing;
use crate::domain::health::past::Sum;
use crate::domain::policy::Comparison;
use crate::domain::time::Span;
use crate::domain::units::Finite;

/// Bounds of a histogram that are tested, at most.
const MAX_BOUNDS: usize = 12;

/// What is left of the memory of the old release's share after each step, and the most requests that it starts with.
const MEMORY: (f64, f64) = (0.95, 2000.0);

/// What is beyond this part of what would be materially worse comes near it: two halves of one fleet are not so far apart.
const NEAR: f64 = ALIKE / 1.3;

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
    /// What would be materially worse than the old release's share over its past, at its upper end, or near it; before the
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
            let worse = margin.bound(upper(seen));
            self.known = if self.above.is_some() { worse.max(upper(slower)) } else { worse * NEAR };
        }
    }
}

/// Up to so many times the old release's share is no worse: where targets differ for good, as far as one more of them is as
/// seldom beyond as the confidence says.
pub(super) fn alike(apart: &Apart, confidence: f64) -> f64 {
    ALIKE.max(apart.for_good.times(confidence))
}

/// What makes that more than it is for targets that are alike; none where nothing does.
pub(super) fn differing(apart: &Apart, confidence: f64) -> Option<Differing> {
    let alike = Finite::new(alike(apart, confidence)).filter(|alike| alike.get() > ALIKE)?;
    Some(Differing { apart: Finite::new(apart.for_good.differ())?, alike })
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

/// Logarithms of the evidence against the release beside and against the bound, over all bounds of a histogram.
pub(super) fn evidence(yardsticks: &[Yardstick]) -> (f64, f64) {
    let share = (yardsticks.len().max(1) as f64).ln();
    let over = |of: fn(&Yardstick) -> f64| evidence::log_total(yardsticks.iter().map(of)) - share;
    if yardsticks.is_empty() {
        return (0.0, 0.0);
    }
    (over(|one| one.beside.log_evidence()), over(|one| one.beyond.log_evidence()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::health::compare::BESIDE;
    use crate::domain::health::compare::chance::Chance;
    use crate::domain::health::dispersion::Dispersion;
    use crate::domain::id::TargetId;
    use crate::domain::time::Timestamp;
    use crate::domain::units::Unit;

    const STEP: u64 = 10;

    /// A pod's own factor: the exponential of what it is like for good and of a first-order autoregression with so many seconds
    /// of memory, and mean 1.
    struct Own {
        at: f64,
        spread: f64,
        memory: f64,
        lasting: f64,
    }

    impl Own {
        fn new(fleet: &Fleet, chance: &mut Chance) -> Self {
            let (spread, memory) = fleet.unrest;
            let at = normal(chance);
            Self { at, spread, memory, lasting: log_normal(fleet.lasting, normal(chance)) }
        }

        fn next(&mut self, chance: &mut Chance) -> f64 {
            let keep = (-(STEP as f64) / self.memory).exp();
            self.at = keep * self.at + (1.0 - keep * keep).sqrt() * normal(chance);
            self.lasting * log_normal(self.spread, self.at)
        }
    }

    fn log_normal(spread: f64, at: f64) -> f64 {
        (spread * at - spread * spread / 2.0).exp()
    }

    fn normal(chance: &mut Chance) -> f64 {
        (-2.0 * (1.0 - chance.uniform()).ln()).sqrt() * (std::f64::consts::TAU * chance.uniform()).cos()
    }

    fn sum(bad: f64, all: u32) -> Sum {
        Sum { bad, all: f64::from(all), buckets: Vec::new() }
    }

    /// New pods beside old ones.
    #[derive(Clone, Copy)]
    struct Fleet {
        pods: (u32, u32),
        /// Requests a step, of all; and which part of them the new pods have.
        requests: u32,
        part: f64,
        errors: f64,
        /// Of a pod's own factor, from step to step: standard deviation of the logarithm, and seconds of memory.
        unrest: (f64, f64),
        /// The same for good.
        lasting: f64,
        /// The last old pod has so many times the others' errors for good.
        odd: f64,
        /// At this step all requests of the first old pod fail.
        blip: Option<u64>,
        /// Steps of the old pods alone, and of both.
        steps: (u64, u64),
    }

    /// Half an hour, after twenty minutes of the old pods alone.
    const FLEET: Fleet = Fleet {
        pods: (1, 4),
        requests: 1000,
        part: 0.5,
        errors: 0.05,
        unrest: (0.0, 40.0),
        lasting: 0.0,
        odd: 1.0,
        blip: None,
        steps: (120, 180),
    };

    /// One new pod with half of the requests beside five old ones, for a quarter of an hour after such a one of these.
    const FIVE: Fleet = Fleet { pods: (1, 5), requests: 2000, errors: 0.03, steps: (90, 90), ..FLEET };

    /// One new pod with a tenth of the requests beside so many old ones that hardly fail.
    fn seldom(pods: u32) -> Fleet {
        Fleet { pods: (1, pods), requests: 1200, part: 0.1, errors: 0.002, unrest: (0.1, 40.0), ..FLEET }
    }

    /// The step at which the evidence at 99 %, as a part of the whole bet, was there where the new pods have so many times the old ones' errors. `knows` is
    /// whether what the pods do by themselves is taken into account.
    fn canary(seed: u64, fleet: &Fleet, factor: f64, knows: bool) -> Option<u64> {
        let (mut chance, margin) = (Chance::new(seed), Comparison::usual(Unit::Ratio));
        let (news, olds) = fleet.pods;
        let mut own: Vec<Own> = (0..news + olds).map(|_| Own::new(fleet, &mut chance)).collect();
        let (mut minutes, mut apart) = (Vec::<Sum>::new(), [Dispersion::default(), Dispersion::default()]);
        let mut yardstick = None;
        let (alone, beside) = fleet.steps;
        for step in 0..alone + beside {
            let at = Timestamp::from_millis((step * STEP * 1000).cast_signed());
            let part = if step < alone { 0.0 } else { fleet.part };
            let mut sums = [Sum::default(), Sum::default()];
            for (pod, own) in own.iter_mut().enumerate() {
                let is_old = pod >= news as usize;
                let (part, pods, times) = if is_old { (1.0 - part, olds, 0.0) } else { (part, news, factor - 1.0) };
                let all = (f64::from(fleet.requests) * part / f64::from(pods)).round() as u32;
                let odd = if pod as u32 + 1 == news + olds { fleet.odd } else { 1.0 };
                let is_blip = pod == news as usize && fleet.blip == Some(step);
                let share = fleet.errors * (own.next(&mut chance) * odd + times);
                let share = if is_blip { 1.0 } else { share };
                if all > 0 {
                    let served = sum(chance.binomial(all, share.clamp(0.0, 1.0)), all);
                    apart[usize::from(is_old)].add(&TargetId::new(pod.to_string()), at, &served);
                    sums[usize::from(is_old)].add(&served);
                }
            }
            if step >= alone {
                let mut past = Sum::default();
                minutes.iter().rev().take(10).for_each(|minute| past.add(minute));
                let yardstick = yardstick.get_or_insert_with(|| Yardstick::new(None, &past, margin));
                let parts = 1.0 / apart[0].targets() + 1.0 / apart[1].targets();
                let known = apart[1].apart(parts);
                let known = if knows { known } else { Apart::default() };
                let (apart, alike) = (known.over_minutes, alike(&known, 0.99));
                let by = Step { cap: 4.0, apart, alike, passed: Span::from_secs(STEP) };
                yardstick.weigh(&sums[0], &sums[1], &past, margin, &by);
                let evidence = yardstick.beside.log_evidence().min(yardstick.beyond.log_evidence());
                if evidence + BESIDE.ln() >= 100f64.ln() {
                    return Some(step - alone);
                }
            }
            if step % 6 == 0 {
                minutes.push(Sum::default());
            }
            minutes.last_mut().unwrap().add(&sums[1]);
        }
        None
    }

    /// One in a hundred is what 99 % allow; where the pods' own minutes are taken for chance it is many more.
    #[test]
    fn bad_minutes_of_one_pod_are_no_proof() {
        let alarms = |unrest, knows| {
            let fleet = Fleet { unrest, ..FIVE };
            (0..200).filter(|seed| canary(*seed, &fleet, 1.0, knows).is_some()).count()
        };
        let (known, unknown) = (alarms((0.3, 40.0), true), alarms((0.3, 40.0), false));
        assert!(known <= 2, "{known} of 200");
        assert!(unknown > 6, "{unknown} of 200 say nothing of the difference");
        let for_minutes = alarms((0.5, 120.0), true);
        assert!(for_minutes <= 2, "{for_minutes} of 200");
    }

    /// Over a whole probation, of few pods and of many, that are alike but for chance, restless, or different for good.
    #[test]
    fn false_alarms_of_a_probation_stay_below_what_the_confidence_says() {
        let many = |pods, requests, part| Fleet { pods, requests, part, ..FLEET };
        let (three, ten, fifty) = (many((1, 3), 1000, 0.3), many((2, 10), 2000, 0.2), many((5, 50), 5000, 0.1));
        let busy = many((1, 4), 4000, 0.5);
        let (few, odd) = (seldom(4), |pods, times| Fleet { odd: times, errors: 0.01, ..seldom(pods) });
        let fleets = [
            ("three alike", three, 1.0),
            ("four alike, a sixth more errors", busy, 1.15),
            ("ten alike, on the edge of alike", ten, 1.2),
            ("fifty alike", fifty, 1.0),
            ("four hardly restless", Fleet { unrest: (0.1, 120.0), ..busy }, 1.0),
            ("three restless", Fleet { unrest: (0.3, 40.0), ..three }, 1.0),
            ("three restless with little traffic", Fleet { unrest: (0.3, 120.0), requests: 100, ..three }, 1.0),
            ("ten restless for minutes", Fleet { unrest: (0.5, 120.0), ..ten }, 1.0),
            ("fifty restless", Fleet { unrest: (0.5, 40.0), ..fifty }, 1.0),
            ("three different", Fleet { lasting: 0.15, ..three }, 1.0),
            ("four hardly different", Fleet { lasting: 0.1, ..busy }, 1.0),
            ("four different", Fleet { lasting: 0.2, ..busy }, 1.0),
            ("ten very different", Fleet { lasting: 0.3, ..ten }, 1.0),
            ("fifty different", Fleet { lasting: 0.2, ..fifty }, 1.0),
            ("ten different and restless", Fleet { lasting: 0.15, unrest: (0.2, 40.0), ..ten }, 1.0),
            ("four, and a look in which all of one fails", Fleet { blip: Some(70), ..few }, 1.0),
            ("two, as bad as the one that is always twice as bad", odd(2, 2.0), 2.0),
            ("three, as bad as the one that is always thrice as bad", odd(3, 3.0), 3.0),
            ("five, as bad as the one that is always thrice as bad", odd(5, 3.0), 3.0),
            ("ten, as bad as the one that is always thrice as bad", odd(10, 3.0), 3.0),
            ("ten, as bad as the one that is always ten times as bad", odd(10, 10.0), 10.0),
        ];
        let alarms = |(name, fleet, factor)| {
            let alarms = (0..200).filter(|seed| canary(*seed, &fleet, factor, true).is_some()).count();
            (name, alarms)
        };
        let alarms = fleets.map(alarms);
        assert!(alarms.iter().all(|(_, alarms)| *alarms <= 2), "of 200 {alarms:?}");
    }

    /// Steps of 10 s, at the median of 25 canaries and of the third slowest.
    #[test]
    fn what_is_worse_is_found_all_the_same() {
        let (restless, usual) = (Fleet { unrest: (0.3, 40.0), ..FIVE }, Fleet { unrest: (0.15, 40.0), ..FIVE });
        let calm = Fleet { unrest: (0.05, 40.0), ..FIVE };
        let blip = |pods, at| Fleet { blip: Some(at), ..seldom(pods) };
        let odd = |pods, times| Fleet { odd: times, ..seldom(pods) };
        let fleets = [
            ("ten times, of restless pods", restless, 10.0, (3, 4)),
            ("twice", usual, 2.0, (12, 30)),
            ("half as many again, of calm pods", calm, 1.6, (24, 40)),
            ("half as many again, where chance is all", Fleet { requests: 3000, part: 0.2, ..FLEET }, 1.5, (15, 24)),
            ("the same at a sixth of the traffic", Fleet { requests: 500, ..FLEET }, 1.5, (70, 130)),
            ("thirty times, where hardly any fail", seldom(4), 30.0, (3, 4)),
            ("the same after a look in which all of one fails", blip(4, 70), 30.0, (3, 5)),
            ("shortly after it", blip(4, 100), 30.0, (3, 5)),
            ("after it of one of two", blip(2, 70), 30.0, (3, 5)),
            ("ten times, after it of one of ten", blip(10, 70), 10.0, (8, 16)),
            ("thirty times, where one of two is always twice as bad", odd(2, 2.0), 30.0, (4, 8)),
            ("where one of three is always thrice as bad", odd(3, 3.0), 30.0, (4, 8)),
            ("where one of five is always thrice as bad", odd(5, 3.0), 30.0, (4, 8)),
            ("ten times, where one of five is always thrice as bad", odd(5, 3.0), 10.0, (24, 45)),
        ];
        let steps = |(name, fleet, factor, most): (&'static str, Fleet, f64, (u64, u64))| {
            let steps = (0..25).map(|seed| canary(seed, &fleet, factor, true).unwrap_or(fleet.steps.1));
            let mut steps: Vec<u64> = steps.collect();
            steps.sort_unstable();
            (name, (steps[12], steps[22]), most)
        };
        let found = fleets.map(steps);
        assert!(found.iter().all(|(_, steps, most)| steps.0 <= most.0 && steps.1 <= most.1), "steps {found:#?}");
    }
}
