//! How far the targets of one release lie apart in their errors, more than chance has it.
//!
//! Requests of one target in one minute fail together: a node is short of memory, a connection pool runs dry, a customer with
//! odd requests is pinned there. A thousand requests of one target say less than a thousand of ten, and a test that takes
//! them for a thousand tosses of a coin calls a target's bad minute proof. The variance of targets' own factors is estimated by
//! moments (Williams, "Extra-binomial variation in logistic linear models", Applied Statistics 31, 1982; DerSimonian and
//! Laird, Controlled Clinical Trials 7, 1986), minute by minute so that what hits all of them alike is no part of it, and
//! drawn towards what is usual, but to no more than the upper end of what the targets themselves leave possible (Viechtbauer,
//! "Confidence intervals for the amount of heterogeneity in meta-analysis", Statistics in Medicine 26, 2007): of many targets
//! that were chance alone for long nothing wide is taken for likely any more. What it costs a comparison is its design effect
//! (Kish, "Survey Sampling", 1965; Rao and Scott, "A simple method for the analysis of clustered binary data", Biometrics 48,
//! 1992).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lasting::{OneMore, Run, Runs};
use super::past::Sum;
use crate::domain::id::TargetId;
use crate::domain::time::{Span, Timestamp};

/// For so long a target's own factor is about the same.
pub(super) const MINUTE: Span = Span::from_secs(60);

/// The variance of the factors that is taken for likely before any is seen, by so many degrees of freedom: a target's
/// errors within a minute are usually within a fifth or so of the others'.
const USUAL: f64 = 0.05;
const USUAL_FREEDOM: f64 = 8.0;

/// Standard deviations of the upper end of what is possible: one in ten is beyond it.
const UPPER: f64 = 1.28;

/// The most that one minute may say, so that a burst which the looks at some targets have seen and at others not is not all.
const MOST: f64 = 0.5;

/// The most that a minute may pass on to the next: what lasts for longer is told from it by [`Runs`].
const MOST_PASSED_ON: f64 = 0.6;

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
    /// In the last minute, errors beyond those of the whole, and those that its part of the requests would have had.
    last: Option<(f64, f64)>,
    run: Run,
}

/// What one minute says.
#[derive(Clone, Copy, Debug)]
struct Minute {
    /// Of the targets' factors; chance may leave it below zero.
    variance: f64,
    /// With those of the minute before.
    covariance: f64,
    /// What chance adds to the variance of what is seen.
    by_chance: f64,
    freedom: f64,
}

/// What targets do by themselves, as a variance of the logarithm of one share of errors over another.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Apart {
    /// As a minute of several counts.
    pub(super) over_minutes: f64,
    /// For as long as they are there.
    pub(super) for_good: OneMore,
}

/// What was learned of a release's targets, whichever they are.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Learned {
    weight: f64,
    weighted: f64,
    #[serde(default)]
    passed_on: f64,
    #[serde(default)]
    by_chance: f64,
    #[serde(default)]
    freedom: f64,
    runs: Runs,
}

/// One release's targets.
#[derive(Clone, Debug, Default)]
pub(super) struct Dispersion {
    targets: BTreeMap<TargetId, Served>,
    begin: Option<Timestamp>,
    /// Weights of the minutes, and their variances times these.
    weight: f64,
    weighted: f64,
    /// Covariances of the minutes with those before them, likewise.
    passed_on: f64,
    /// What chance makes of the variances, likewise.
    by_chance: f64,
    /// Degrees of freedom of the minutes.
    freedom: f64,
    /// Of targets that are gone.
    gone: Runs,
}

impl Dispersion {
    /// What is worth keeping.
    pub(super) fn learned(&self) -> Learned {
        let Self { weight, weighted, passed_on, by_chance, freedom, .. } = *self;
        Learned { weight, weighted, passed_on, by_chance, freedom, runs: self.runs() }
    }

    /// From what was kept; none where it can't be.
    pub(super) fn recalled(learned: Learned) -> Option<Self> {
        let Learned { weight, weighted, passed_on, by_chance, freedom, runs } = learned;
        let are_sound = [weight, by_chance, freedom].into_iter().all(|sum| sum.is_finite() && sum >= 0.0);
        let is_known = are_sound && runs.is_sound() && weighted.is_finite() && passed_on.is_finite();
        is_known.then(|| Self { weight, weighted, passed_on, by_chance, freedom, gone: runs, ..Self::default() })
    }

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
        for sum in [&mut self.weight, &mut self.weighted, &mut self.passed_on, &mut self.by_chance, &mut self.freedom] {
            *sum *= MEMORY;
        }
        if let Some(Minute { variance, covariance, by_chance, freedom }) = self.minute() {
            // The inverse of the variance's own variance but for a factor.
            let weight = freedom / (USUAL + by_chance).powi(2);
            self.weight += weight;
            self.weighted += weight * variance.min(MOST);
            self.passed_on += weight * covariance.clamp(-MOST, MOST);
            self.by_chance += weight * by_chance;
            self.freedom += freedom;
        }
        let served = || self.targets.values().filter(|served| served.all > 0.0);
        let (bad, all) = served().fold((0.0, 0.0), |(bad, all), one| (bad + one.bad, all + one.all));
        let is_told = served().count() >= 2 && bad > 0.0;
        let Self { targets, gone, .. } = self;
        targets.retain(|_, served| {
            let mut last = None;
            if is_told && served.all > 0.0 {
                let expected = served.all * bad / all;
                served.run.add(served.all, served.bad / expected);
                last = Some((served.bad - expected, expected));
            }
            let before = served.before * PART + served.all;
            *served = Served { before, last, run: served.run, ..Served::default() };
            let stays = served.before >= 0.5;
            if !stays {
                *gone = gone.plus(&served.run);
            }
            stays
        });
    }

    /// What the open minute says.
    fn minute(&self) -> Option<Minute> {
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
        let centred = |one: &Served| 1.0 - 2.0 * one.all / all + squares;
        let unit: f64 = served().map(|one| (one.all * share).powi(2) * centred(one)).sum();
        let products = served().filter_map(|one| {
            let (excess, expected) = one.last?;
            Some((excess * (one.bad - one.all * share), expected * one.all * share * centred(one)))
        });
        let (product, both) = products.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let covariance = if both > 0.0 { product / both } else { 0.0 };
        let (by_chance, freedom) = (count / bad, count - 1.0);
        (unit > 0.0).then(|| Minute { variance: excess / unit, covariance, by_chance, freedom })
    }

    /// The variance of a target's factor in one minute.
    fn variance(&self) -> f64 {
        let usual = USUAL_FREEDOM / (USUAL * USUAL);
        let drawn = ((self.weighted + usual * USUAL) / (self.weight + usual)).max(0.0);
        self.possible().map_or(drawn, |possible| drawn.min(possible))
    }

    /// The upper end of what the minutes leave possible: all that was seen, chance included, is a chi-square times what there
    /// is. Its quantile is that of Wilson and Hilferty (Proceedings of the National Academy of Sciences 17, 1931). None where
    /// that is zero: nothing is too wide then.
    fn possible(&self) -> Option<f64> {
        let spread = 2.0 / (9.0 * self.freedom);
        let least = (1.0 - spread - UPPER * spread.sqrt()).powi(3);
        let (seen, by_chance) = (self.weighted / self.weight, self.by_chance / self.weight);
        (least > 0.0 && by_chance > 0.0).then(|| ((by_chance + seen) / least - by_chance).max(0.0))
    }

    /// The same as it counts where several minutes are added up: a bad one is followed by bad ones, and two of them say little
    /// more than one. The variance in the long run (Newey, West, Econometrica 55, 1987), as of a first-order autoregression
    /// (Parzen, Annals of Mathematical Statistics 28, 1957); what lasts for good is no part of that.
    fn over_minutes(&self) -> f64 {
        let usual = USUAL_FREEDOM / (USUAL * USUAL);
        let variance = self.variance();
        let lasting = self.runs().variance().min(variance);
        let passing = variance - lasting;
        if passing <= 0.0 {
            return variance;
        }
        let covariance = self.passed_on / (self.weight + usual) - lasting;
        let passed_on = (covariance / passing).clamp(0.0, MOST_PASSED_ON);
        variance + passing * 2.0 * passed_on / (1.0 - passed_on)
    }

    fn runs(&self) -> Runs {
        self.targets.values().fold(self.gone, |runs, served| runs.plus(&served.run))
    }

    /// How far they are apart for good; `parts` is one over the number of the targets on either side, both added up.
    pub(super) fn apart(&self, parts: f64) -> Apart {
        Apart { over_minutes: self.over_minutes() * parts, for_good: self.runs().one_more(parts) }
    }

    #[cfg(test)]
    fn lasting(&self) -> f64 {
        self.runs().variance()
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

    /// What lasts is told from what passes and from chance, and goes on being known once the targets are gone.
    #[test]
    fn what_lasts_is_told_from_what_passes() {
        let lasting = |of: &dyn Fn(u64) -> Dispersion| (0..20).map(|seed| of(seed).lasting()).sum::<f64>() / 20.0;
        let equal = [2000; 5];
        let alike = lasting(&|seed| half_an_hour(seed, equal, |_, _| 0.03));
        assert!(alike < 0.0002, "{alike}");
        let coin = |chance: &mut Chance, _| if chance.uniform() < 0.5 { 0.021 } else { 0.039 };
        let passes = lasting(&|seed| half_an_hour(seed, equal, coin));
        assert!(passes < 0.0008, "{passes}");
        let few = lasting(&|seed| half_an_hour(seed, [20; 5], |_, _| 0.01));
        assert!(few < 0.3, "{few}");
        // The first two of five are at 1.3 times the others' 0.8, with a variance of 0.075.
        let mut turn = 0;
        let mut apart = half_an_hour(1, equal, |_, _| {
            turn += 1;
            if turn % 5 < 2 { 0.039 } else { 0.024 }
        });
        let lasts = apart.lasting();
        assert!((0.05..0.1).contains(&lasts), "{lasts}");
        let mut alone = apart.clone();
        for minute in 31..60 {
            let sum = Sum { bad: 60.0, all: 2000.0, buckets: Vec::new() };
            alone.add(&TargetId::new("pod-9"), Timestamp::from_millis(minute * 60_000), &sum);
        }
        let later = alone.lasting();
        assert!((lasts / 3.0..lasts * 1.5).contains(&later), "{later} after {lasts}");
        apart.close();
        let kept = Dispersion::recalled(apart.learned()).unwrap();
        let pairs = [kept.lasting(), kept.variance(), kept.over_minutes()].into_iter().zip([
            apart.lasting(),
            apart.variance(),
            apart.over_minutes(),
        ]);
        assert!(pairs.into_iter().all(|(kept, known)| (kept - known).abs() < 1e-12));
        for broken in
            [Learned { weight: f64::NAN, ..apart.learned() }, Learned { passed_on: f64::INFINITY, ..apart.learned() }]
        {
            assert!(Dispersion::recalled(broken).is_none());
        }
    }

    /// A target's factor that is 0.7 or 1.3 has a variance of 0.09 in each minute. In the long run of minutes of which each turns
    /// with a chance of a quarter, three times as much: the correlation with the next is a half.
    #[test]
    fn minutes_that_are_like_the_ones_before_them_count_as_fewer() {
        let over_minutes = |turn: f64| {
            let of = |seed| {
                let mut bad = [false; 5];
                let mut index = 0;
                let targets = half_an_hour(seed, [2000; 5], |chance, _| {
                    let target = index % 5;
                    index += 1;
                    bad[target] ^= chance.uniform() < turn;
                    if bad[target] { 0.039 } else { 0.021 }
                });
                targets.over_minutes()
            };
            (0..20).map(of).sum::<f64>() / 20.0
        };
        let (apart, alike) = (over_minutes(0.5), over_minutes(0.25));
        assert!((0.08..0.13).contains(&apart), "{apart}");
        assert!((0.17..0.3).contains(&alike), "{alike}");
        assert!((Dispersion::default().over_minutes() - USUAL).abs() < 1e-9);
    }

    #[test]
    fn few_errors_say_little_and_the_usual_stands() {
        let few = mean(|seed| half_an_hour(seed, [20; 5], |_, _| 0.01));
        assert!((few - USUAL).abs() < 0.005, "{few}");
        assert!((Dispersion::default().variance() - USUAL).abs() < 1e-9);
    }

    /// So do few targets; of many that are chance alone nothing wide is likely any more.
    #[test]
    fn what_the_targets_leave_possible_is_the_most() {
        let calm = |seed| half_an_hour(seed, [2000; 5], |_, _| 0.05);
        let held = mean(calm);
        assert!(held < 0.004, "{held}");
        let drawn = mean(|seed| Dispersion { freedom: 0.0, ..calm(seed) });
        assert!(drawn > 0.006, "{drawn}");
        let apart = |seed| half_an_hour(seed, [2000; 5], |chance, _| 0.05 * (0.9 + 0.2 * chance.uniform()));
        let least = (0..20).map(|seed| apart(seed).variance()).fold(f64::INFINITY, f64::min);
        assert!(least > 0.04 / 12.0 * 0.9, "{least}");
        let restless =
            |seed| half_an_hour(seed, [2000; 5], |chance, _| if chance.uniform() < 0.5 { 0.035 } else { 0.065 });
        let wider = mean(restless) / mean(|seed| Dispersion { freedom: 0.0, ..restless(seed) });
        assert!((wider - 1.0).abs() < 0.01, "{wider}");
        let kept = Dispersion::recalled(calm(1).learned()).map(|kept| kept.variance());
        assert_eq!(kept, Some(calm(1).variance()));
    }

    #[test]
    fn targets_count_by_their_part_of_the_requests() {
        let targets = |requests| half_an_hour(1, requests, |_, _| 0.01).targets();
        assert_eq!(targets([100; 5]), 5.0);
        assert!((targets([1000, 10, 10, 10, 10]) - 1.08).abs() < 0.01);
        assert_eq!(Dispersion::default().targets(), 1.0);
    }
}
