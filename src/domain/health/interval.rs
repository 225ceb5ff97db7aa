//! How sure a share is: exact binomial bounds, so that one error in five requests is no proof of more than 10 %.
//!
//! Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
//! Biometrika 26 (1934): the bounds are quantiles of beta distributions.

use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::beta::{checked_beta_reg, inv_beta_reg};

/// Above this many on the rarer side the incomplete beta function's continued fraction (statrs stops it after 140 terms)
/// no longer converges everywhere; Wilson's score interval (JASA 22, 1927) agrees to a few parts in a thousand there.
const EXACT_UP_TO: f64 = 4000.0;

/// Some of many.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Share {
    /// Those that count, in [0, `all`]; a histogram's share within a bucket need not be whole.
    pub(super) part: f64,
    /// All of them, above zero.
    pub(super) all: f64,
}

impl Share {
    /// A share; a part above the whole counts as the whole. `None` without anything to be a share of.
    #[must_use]
    pub(super) fn new(part: f64, all: f64) -> Option<Self> {
        (all.is_finite() && all > 0.0 && part.is_finite()).then(|| Self { part: part.clamp(0.0, all), all })
    }

    /// Whether the true share is above `bound`, at a one-sided `confidence`.
    #[must_use]
    pub(super) fn is_proven_above(self, bound: f64, confidence: f64) -> bool {
        if self.part <= 0.0 || bound >= 1.0 {
            return false;
        }
        if bound <= 0.0 {
            return true;
        }
        if self.is_many() {
            return self.wilson(confidence).0 > bound;
        }
        // The lower bound lies above `bound` exactly where so many would be rare were `bound` the truth.
        checked_beta_reg(self.part, self.all - self.part + 1.0, bound).is_ok_and(|chance| chance < 1.0 - confidence)
    }

    /// Whether the true share is below `bound`, at a one-sided `confidence`.
    #[must_use]
    pub(super) fn is_proven_below(self, bound: f64, confidence: f64) -> bool {
        Share { part: self.all - self.part, all: self.all }.is_proven_above(1.0 - bound, confidence)
    }

    /// The two-sided interval at `confidence`.
    #[must_use]
    pub(super) fn interval(self, confidence: f64) -> (f64, f64) {
        let tail = (1.0 - confidence) / 2.0;
        if self.is_many() {
            return self.wilson(1.0 - tail);
        }
        let Share { part, all } = self;
        let low = if part < f64::EPSILON { 0.0 } else { inv_beta_reg(part, all - part + 1.0, tail) };
        let rest = all - part;
        let high = if rest < f64::EPSILON { 1.0 } else { 1.0 - inv_beta_reg(rest, part + 1.0, tail) };
        (low, high)
    }

    fn is_many(self) -> bool {
        self.part.min(self.all - self.part) > EXACT_UP_TO
    }

    /// Bounds that are each passed with a chance of 1 - `one_sided`.
    fn wilson(self, one_sided: f64) -> (f64, f64) {
        let z = Normal::standard().inverse_cdf(one_sided);
        let (share, z2) = (self.part / self.all, z * z);
        let middle = share + z2 / (2.0 * self.all);
        let reach = z * (share * (1.0 - share) / self.all + z2 / (4.0 * self.all * self.all)).sqrt();
        let scale = 1.0 + z2 / self.all;
        ((middle - reach) / scale, (middle + reach) / scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(part: f64, all: f64) -> Share {
        Share::new(part, all).unwrap()
    }

    #[test]
    fn few_requests_prove_little() {
        let cases = [
            (1.0, 5.0, 0.10, 0.95, false),
            (1.0, 1.0, 0.10, 0.95, false),
            (1.0, 1.0, 0.04, 0.95, true),
            (2.0, 5.0, 0.10, 0.95, false),
            (3.0, 5.0, 0.10, 0.95, true),
            (6.0, 30.0, 0.10, 0.95, false),
            (7.0, 30.0, 0.10, 0.95, true),
            (0.0, 1e6, 0.0, 0.95, false),
            (1.0, 1e6, 0.0, 0.95, true),
            (5.0, 5.0, 1.0, 0.95, false),
            (1200.0, 10_000.0, 0.10, 0.999, true),
            (1010.0, 10_000.0, 0.10, 0.95, false),
            (120_000.0, 1_000_000.0, 0.10, 0.999, true),
            (100_100.0, 1_000_000.0, 0.10, 0.95, false),
        ];
        for (part, all, bound, confidence, expected) in cases {
            let proven = share(part, all).is_proven_above(bound, confidence);
            assert_eq!(proven, expected, "{part} of {all} above {bound} at {confidence}");
        }
    }

    /// Values of R's `binom.test`, which every table of Clopper-Pearson intervals agrees with.
    #[test]
    fn intervals_are_those_of_the_tables() {
        let cases = [
            (1.0, 5.0, 0.95, 0.005_05, 0.716_42),
            (0.0, 10.0, 0.95, 0.0, 0.308_50),
            (10.0, 10.0, 0.95, 0.691_50, 1.0),
            (5.0, 100.0, 0.95, 0.016_43, 0.112_83),
        ];
        for (part, all, confidence, low, high) in cases {
            let (l, h) = share(part, all).interval(confidence);
            assert!((l - low).abs() < 1e-4 && (h - high).abs() < 1e-4, "{part} of {all}: {l} to {h}");
        }
    }

    #[test]
    fn the_bound_and_the_test_against_it_agree_and_mirror() {
        for (part, all) in [(3.0, 40.0), (17.0, 50.0), (400.0, 4_000.0), (3_900.0, 9_000.0), (4_100.0, 9_000.0)] {
            let (low, high) = share(part, all).interval(0.9);
            assert!(
                share(part, all).is_proven_above(low - 1e-4, 0.95)
                    && share(part, all).is_proven_below(high + 1e-4, 0.95)
            );
            assert!(!share(part, all).is_proven_above(low + 1e-4, 0.95));
            assert!(!share(part, all).is_proven_below(high - 1e-4, 0.95));
        }
    }

    #[test]
    fn exact_and_score_bounds_meet_where_one_takes_over() {
        let exact = share(4_000.0, 40_000.0).interval(0.95);
        let score = share(4_001.0, 40_010.0).interval(0.95);
        assert!((exact.0 - score.0).abs() < 1e-4 && (exact.1 - score.1).abs() < 1e-4, "{exact:?} {score:?}");
    }

    #[test]
    fn there_is_no_share_of_nothing() {
        assert_eq!(Share::new(0.0, 0.0), None);
        assert_eq!(Share::new(f64::NAN, 1.0), None);
        assert_eq!(Share::new(7.0, 5.0), Share::new(5.0, 5.0));
    }
}
