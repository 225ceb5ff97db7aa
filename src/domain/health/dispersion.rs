//! How far the targets of one release lie apart in their errors, more than chance has it.
//!
//! Requests of one target in one minute fail together: a node is short of memory, a connection pool runs dry, a customer with
//! odd requests is pinned there. A thousand requests of one target say less than a thousand of ten, and a test that takes
//! them for a thousand tosses of a coin calls a target's bad minute proof. The variance of targets' own factors is estimated by
//! moments (Williams, "Extra-binomial variation in logistic linear models", Applied Statistics 31, 1982; DerSimonian and
//! Laird, Controlled Clinical Trials 7, 1986), minute by minute so that what hits all of them alike is no part of it, and
//! drawn towards what is usual. What it costs a comparison is its design effect (Kish, "Survey Sampling", 1965; Rao and Scott,
//! "A simple method for the analysis of clustered binary data", Biometrics 48, 1992).

use std::collections::BTreeMap;

use super::past::Sum;
use crate::domain::id::TargetId;
use crate::domain::time::{Span, Timestamp};

/// For so long a target's own factor is about the same.
pub(super) const MINUTE: Span = Span::from_secs(60);

/// The variance of the factors that is taken for likely before any is seen, by so many degrees of freedom: a target's
/// errors within a minute are usually within a fifth or so of the others'.
const USUAL: f64 = 0.05;
const USUAL_FREEDOM: f64 = 8.0;

/// The most that one minute may say, so that a burst which the looks at some targets have seen and at others not is not all.
const MOST: f64 = 0.5;

/// What is left of what was learned after each minute.
const MEMORY: f64 = 0.97;

/// What is left of a target's part of the requests after each minute.
const PART: f64 = 0.5;

/// Requests of one target.
#[derive(Clone, Copy, Debug, Default)]
struct Served {
    /// In the open minute.
    bad: f64,
    all: f64,
    /// In those before, fading.
    before: f64,
}

/// One release's targets.
#[derive(Clone, Debug, Default)]
pub(super) struct Dispersion {
    targets: BTreeMap<TargetId, Served>,
    begin: Option<Timestamp>,
    /// Weights of the minutes, and their variances times these.
    weight: f64,
    weighted: f64,
}

impl Dispersion {
    /// What one target added.
    pub(super) fn add(&mut self, target: &TargetId, at: Timestamp, sum: &Sum) {
        if at.since(*self.begin.get_or_insert(at)) >= MINUTE {
            self.close();
            self.begin = Some(at);
        }
        if !self.targets.contains_key(target) {
            self.targets.insert(target.clone(), Served::default());
        }
        if let Some(served) = self.targets.get_mut(target) {
            (served.bad, served.all) = (served.bad + sum.bad, served.all + sum.all);
        }
    }

    fn close(&mut self) {
        (self.weight, self.weighted) = (self.weight * MEMORY, self.weighted * MEMORY);
        if let Some((variance, weight)) = self.minute() {
            self.weight += weight;
            self.weighted += weight * variance.min(MOST);
        }
        self.targets.retain(|_, served| {
            *served = Served { before: served.before * PART + served.all, ..Served::default() };
            served.before >= 0.5
        });
    }

    /// The variance of the targets' factors in the open minute, which chance may leave below zero, and its weight: the
    /// inverse of its own variance but for a factor.
    fn minute(&self) -> Option<(f64, f64)> {
        let served = || self.targets.values().filter(|served| served.all > 0.0);
        let (bad, all) = served().fold((0.0, 0.0), |(bad, all), one| (bad + one.bad, all + one.all));
        let count = served().count() as f64;
        if count < 2.0 || bad <= 0.0 {
            return None;
        }
        let share = bad / all;
        let squares: f64 = served().map(|one| (one.all / all).powi(2)).sum();
        let by_chance = |one: &Served| one.all * share * (1.0 - share) * (1.0 - one.all / all);
        let excess: f64 = served().map(|one| (one.bad - one.all * share).powi(2) - by_chance(one)).sum();
        let unit: f64 = served().map(|one| (one.all * share).powi(2) * (1.0 - 2.0 * one.all / all + squares)).sum();
        (unit > 0.0).then(|| (excess / unit, (count - 1.0) / (USUAL + count / bad).powi(2)))
    }

    /// The variance of a target's factor.
    pub(super) fn variance(&self) -> f64 {
        let usual = USUAL_FREEDOM / (USUAL * USUAL);
        ((self.weighted + usual * USUAL) / (self.weight + usual)).max(0.0)
    }

    /// To how many targets with equal parts of the requests these come (Kish); one at least.
    pub(super) fn targets(&self) -> f64 {
        let parts = self.targets.values().map(|served| served.before + served.all);
        let (sum, squares) = parts.fold((0.0, 0.0), |(sum, squares), part| (sum + part, squares + part * part));
        if squares > 0.0 { (sum * sum / squares).max(1.0) } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::health::compare::chance::Chance;

    /// Half an hour of five targets, each with so many requests a minute and the shares that are drawn for it.
    fn half_an_hour(seed: u64, requests: [u32; 5], mut share: impl FnMut(&mut Chance, i64) -> f64) -> Dispersion {
        let (mut dispersion, mut chance) = (Dispersion::default(), Chance::new(seed));
        for minute in 0..30 {
            for (target, all) in requests.into_iter().enumerate() {
                let share = share(&mut chance, minute);
                let sum = Sum { bad: chance.binomial(all, share), all: f64::from(all), buckets: Vec::new() };
                let at = Timestamp::from_millis(minute * 60_000);
                dispersion.add(&TargetId::new(format!("pod-{target}")), at, &sum);
            }
        }
        dispersion
    }

    fn mean(of: impl Fn(u64) -> Dispersion) -> f64 {
        (0..20).map(|seed| of(seed).variance()).sum::<f64>() / 20.0
    }

    #[test]
    fn what_is_more_than_chance_is_found_and_what_hits_all_is_not() {
        let equal = [2000; 5];
        let alike = mean(|seed| half_an_hour(seed, equal, |_, _| 0.03));
        assert!(alike < 0.015, "{alike}");
        let together = |minute: i64| if minute % 3 == 0 { 0.06 } else { 0.02 };
        let common = mean(|seed| half_an_hour(seed, equal, |_, minute| together(minute)));
        assert!(common < 0.015, "{common}");
        // A factor that is 0.7 or 1.3 has a variance of 0.09.
        let coin = |chance: &mut Chance, _| if chance.uniform() < 0.5 { 0.021 } else { 0.039 };
        let apart = mean(|seed| half_an_hour(seed, equal, coin));
        assert!((0.075..0.095).contains(&apart), "{apart}");
        let lopsided = mean(|seed| half_an_hour(seed, [6000, 2000, 1000, 500, 500], coin));
        assert!((0.07..0.1).contains(&lopsided), "{lopsided}");
    }

    #[test]
    fn few_errors_say_little_and_the_usual_stands() {
        let few = mean(|seed| half_an_hour(seed, [20; 5], |_, _| 0.01));
        assert!((few - USUAL).abs() < 0.005, "{few}");
        assert!((Dispersion::default().variance() - USUAL).abs() < 1e-9);
    }

    #[test]
    fn targets_count_by_their_part_of_the_requests() {
        let targets = |requests| half_an_hour(1, requests, |_, _| 0.01).targets();
        assert_eq!(targets([100; 5]), 5.0);
        assert!((targets([1000, 10, 10, 10, 10]) - 1.08).abs() < 0.01);
        assert_eq!(Dispersion::default().targets(), 1.0);
    }
}
