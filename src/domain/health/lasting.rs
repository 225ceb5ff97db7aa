//! What the targets of one release are like for good: how far they lie apart in their errors for as long as they are there.
//!
//! A target on a bad node, or with the customer that asks for odd things, fails more often than the others all the time. What
//! lasts of a target's errors is what one stretch of time has in common with the others: the covariance of means over batches
//! of minutes, since neighbouring minutes are alike by themselves (Conway, "Some tactical problems in digital simulation",
//! Management Science 10, 1963). A burst has nothing in common with any other time, however high it is. Nor does the minute in
//! which most fails say more than others: each counts by its requests, not by its errors.
//!
//! Of few targets it is known badly how far the next one lies from them. What is usual for a fleet counts for some more of them:
//! a variance drawn towards a prior one, with the degrees of freedom of both (Smyth, "Linear models and empirical Bayes methods
//! for assessing differential expression in microarray experiments", Statistical Applications in Genetics and Molecular
//! Biology 3, 2004).

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::domain::units::{Finite, Unit};

/// Minutes of one batch.
const BATCH: u32 = 3;

/// What is left of what was learned after each batch.
const MEMORY: f64 = 0.91;

/// The variance, of the logarithm of what a target is like for good, that is taken for likely before any is seen, by so many
/// degrees of freedom.
const USUAL: (f64, f64) = (0.02, 6.0);

/// One target's minutes, fading. Errors are counted as the requests by which they would have been as many as the whole has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    batch: Batch,
    minutes: u32,
    /// Of the batches before.
    before: Batch,
    sums: Runs,
}

#[derive(Clone, Copy, Debug, Default)]
struct Batch {
    /// Requests beyond those that it had.
    beyond: f64,
    all: f64,
}

impl Run {
    /// One minute: requests, and its share of errors as a multiple of the share that the whole had.
    pub(super) fn add(&mut self, all: f64, times: f64) {
        self.batch.beyond += all * (times - 1.0);
        self.batch.all += all;
        self.minutes += 1;
        if self.minutes >= BATCH {
            self.close();
        }
    }

    fn close(&mut self) {
        let Batch { beyond, all } = std::mem::take(&mut self.batch);
        let Self { before, sums, .. } = self;
        let squares = MEMORY * MEMORY;
        *before = Batch { beyond: before.beyond * MEMORY, all: before.all * MEMORY };
        *sums = Runs {
            targets: 1.0,
            in_common: sums.in_common * squares + beyond * before.beyond,
            at_most: sums.at_most * squares + all * before.all,
            error: (sums.error * squares + beyond * beyond * sums.beyond_squares) * squares,
            beyond_squares: sums.beyond_squares * squares + beyond * beyond,
            all_squares: sums.all_squares * squares + all * all,
        };
        *before = Batch { beyond: before.beyond + beyond, all: before.all + all };
        self.minutes = 0;
    }
}

/// What targets came to in all.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Runs {
    targets: f64,
    /// Products of what was beyond in two batches of one target, and of the requests of both.
    in_common: f64,
    at_most: f64,
    /// Squares of these products.
    error: f64,
    /// Squares of each batch.
    beyond_squares: f64,
    all_squares: f64,
}

impl Runs {
    pub(super) fn plus(self, run: &Run) -> Self {
        let of = &run.sums;
        if of.at_most <= 0.0 {
            return self;
        }
        Self {
            targets: self.targets + of.targets,
            in_common: self.in_common + of.in_common,
            at_most: self.at_most + of.at_most,
            error: self.error + of.error,
            beyond_squares: self.beyond_squares + of.beyond_squares,
            all_squares: self.all_squares + of.all_squares,
        }
    }

    /// Whether it can have been learned.
    pub(super) fn is_sound(&self) -> bool {
        let Self { targets, in_common, at_most, error, beyond_squares, all_squares } = *self;
        let sums = [targets, at_most, error, beyond_squares, all_squares];
        in_common.is_finite() && sums.into_iter().all(|sum| sum.is_finite() && sum >= 0.0)
    }

    /// The variance of the targets' factors that surely lasts. Less the standard error: targets are taken for alike in the long
    /// run until they say otherwise.
    pub(super) fn variance(&self) -> f64 {
        let Self { targets, in_common, at_most, error, beyond_squares, all_squares } = *self;
        if targets < 2.0 || at_most <= 0.0 {
            return 0.0;
        }
        // As many of them sum up to nothing, one is known from the others.
        let free = 1.0 - 1.0 / targets;
        let seen = in_common / at_most;
        // What lasts is a part of the squares, and no error.
        let passes = (1.0 - (seen * all_squares / beyond_squares).max(0.0)).max(0.0);
        ((seen - passes * (error / free).sqrt() / at_most) / free).max(0.0)
    }

    /// What one more target is like.
    pub(super) fn one_more(&self, parts: f64) -> OneMore {
        OneMore { variance: self.variance().ln_1p(), freedom: (self.targets - 1.0).max(0.0), parts }
    }
}

/// How far the targets of a release differ for good, where that holds a comparison with it back.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Differing {
    /// The standard deviation of their shares of errors, as a part of these; above 0.
    pub apart: Finite,
    /// Up to so many times the release's share is no worse; above 1.
    pub alike: Finite,
}

impl Differing {
    /// What is known and what it does.
    #[must_use]
    pub fn in_words(&self) -> String {
        let (apart, alike) = (Unit::Ratio.format(self.apart.get()), self.alike.get());
        format!("its targets differ by {apart} for good, so that up to {alike:.1} times its share is no worse")
    }
}

/// How far one more target, or several, lies from those that are known.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct OneMore {
    /// Of the logarithm of what a target is like for good; zero where nothing says that they differ.
    variance: f64,
    /// By which that is known.
    freedom: f64,
    /// One over the number of the targets on either side, both added up.
    parts: f64,
}

impl OneMore {
    /// How many times the others' errors it has as seldom more than as `confidence`, of (0.5, 1), says: no more than what is
    /// seen makes of it alone (Student, Biometrika 6, 1908) or drawn towards what is usual. Of two targets Student's quantile
    /// says nothing.
    pub(super) fn times(&self, confidence: f64) -> f64 {
        let Self { variance, freedom, parts } = *self;
        let (usual, of_usual) = USUAL;
        let drawn = (of_usual * usual + freedom * variance) / (of_usual + freedom);
        let reach = |variance: f64, freedom: f64| {
            let known = StudentsT::new(0.0, 1.0, freedom);
            known.map_or(0.0, |known| known.inverse_cdf(confidence) * (variance * parts).sqrt())
        };
        if variance > 0.0 { reach(variance, freedom).min(reach(drawn, of_usual + freedom)).exp() } else { 1.0 }
    }

    /// By how much the known ones differ for good: the standard deviation of their errors, as a part of these.
    pub(super) fn differ(&self) -> f64 {
        self.variance.exp_m1().sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What targets come to whose shares are so many times that of the whole, minute by minute.
    fn runs<const TARGETS: usize>(minutes: usize, times: impl Fn(usize) -> [f64; TARGETS]) -> Runs {
        let mut targets = [Run::default(); TARGETS];
        for minute in 0..minutes {
            for (run, times) in targets.iter_mut().zip(times(minute)) {
                run.add(1000.0, times);
            }
        }
        targets.iter().fold(Runs::default(), Runs::plus)
    }

    #[test]
    fn one_burst_of_one_target_lasts_for_none() {
        let unrest = |minute: usize| if minute.is_multiple_of(2) { 0.2 } else { -0.2 };
        let calm =
            |minute| [1.0 + unrest(minute), 1.0 - unrest(minute), 1.0 + unrest(minute + 1), 1.0 - unrest(minute + 1)];
        let burst = |from: usize, lasts: usize| {
            let bad = move |minute| (from..from + lasts).contains(&minute);
            runs(30, move |minute| if bad(minute) { [4.0, 0.0, 0.0, 0.0] } else { calm(minute) })
        };
        for from in 0..30 {
            let times = burst(from, 1).one_more(1.25).times(0.99);
            assert!(times <= 1.3, "in minute {from}: {times}");
        }
        assert!(burst(12, 3).one_more(1.25).times(0.99) <= 1.3);
        let again = runs(30, |minute| if minute % 3 == 0 { [4.0, 0.0, 0.0, 0.0] } else { calm(minute) });
        assert!(again.one_more(1.25).times(0.99) > 2.0, "over and over again is for good");
    }

    /// As far as the furthest of those that were seen, and not many times further.
    #[test]
    fn one_more_is_as_far_as_those_that_were_seen() {
        let times = |shares: &[f64], most: f64| {
            let (count, mean) = (shares.len() as f64, shares.iter().sum::<f64>() / shares.len() as f64);
            let mut targets = vec![Run::default(); shares.len()];
            (0..30)
                .for_each(|_| shares.iter().zip(&mut targets).for_each(|(share, run)| run.add(1000.0, share / mean)));
            let runs = targets.iter().fold(Runs::default(), Runs::plus);
            let times = runs.one_more(1.0 + 1.0 / count).times(0.99);
            let furthest = shares.iter().copied().fold(0.0, f64::max) / mean;
            assert!((furthest..=most).contains(&times), "{shares:?}: {times}, {furthest}");
        };
        times(&[1.0, 2.0], 2.5);
        times(&[1.0, 3.0], 3.5);
        times(&[1.0, 1.0, 3.0], 4.0);
        times(&[1.0, 1.0, 1.0, 1.0, 3.0], 4.0);
        times(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0], 4.0);
        times(&[1.0, 10.0], 6.0);
        assert_eq!(runs(30, |_| [1.0; 4]).one_more(1.25).times(0.99), 1.0, "none differs");
        assert_eq!(runs(30, |_| [1.0]).one_more(2.0).times(0.99), 1.0, "one alone");
        assert_eq!(Runs::default().one_more(2.0).times(0.99), 1.0);
    }

    #[test]
    fn what_holds_back_is_said() {
        let [apart, alike] = [0.64, 2.817].map(|value| Finite::new(value).unwrap());
        let words = Differing { apart, alike }.in_words();
        assert_eq!(words, "its targets differ by 64 % for good, so that up to 2.8 times its share is no worse");
    }
}
