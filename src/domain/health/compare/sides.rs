//! What is held against what: which requests of the two releases tell of the same time and the same bounds.

use super::Look;
use crate::domain::health::judge::Tally;
use crate::domain::health::past::Sum;
use crate::domain::health::quantile::{self, Bucket};
use crate::domain::health::reading::{Basis, Reading};
use crate::domain::policy::Condition;
use crate::domain::units::Finite;

/// A release that has less than the second share of the other one's requests is out of service, and so is one with too few to
/// be judged that has less than the first: what still comes to it may be nothing but somebody who asks whether it is up.
const TRICKLE: (f64, f64) = (0.1, 0.02);

/// Whether the old release serves beside the new one, with enough requests to tell what hits both.
pub(super) fn serves_beside(look: &Look<'_>) -> bool {
    let (old, new) = (look.old.samples as f64, look.all.samples as f64);
    look.old.value.is_ok() && !is_trickle(old, new, look.signal.min_requests)
}

/// Whether so many requests of the old release, beside so many of the new one, are none of a release in service.
pub(in crate::domain::health) fn is_trickle(old: f64, new: f64, least: u64) -> bool {
    let (few, hardly_any) = TRICKLE;
    old < new * hardly_any || (old < least as f64 && old < new * few)
}

/// The values to compare, in the base unit: over the bounds that both have, so that other bounds are no other latency.
/// Where the old release has few requests now, what it was like lately stands in.
pub(super) fn pair(look: &Look<'_>, pooled: &Sum) -> Option<(f64, f64)> {
    match (&look.grown.basis, &look.old.basis) {
        (Basis::Buckets { buckets: new, quantile, scale }, Basis::Buckets { buckets: old, .. }) => {
            let old = if is_thin(look) { &pooled.buckets } else { old };
            let (new, old) = (common(new, old), common(old, new));
            let value = |buckets: &[Bucket]| quantile::quantile(*quantile, buckets) * scale;
            Some((value(&new), value(&old))).filter(|(new, old)| new.is_finite() && old.is_finite())
        }
        (_, _) => Some((look.grown.value.as_ref().ok()?.get(), old_value(look, pooled)?)),
    }
}

pub(super) fn old_value(look: &Look<'_>, pooled: &Sum) -> Option<f64> {
    let candidate = look.followed.candidate.as_ref()?;
    if is_thin(look) { pooled.value(candidate) } else { Some(look.old.value.as_ref().ok()?.get()) }
}

fn is_thin(look: &Look<'_>) -> bool {
    look.old.samples < look.signal.min_requests
}

/// A reading over the bounds that the past has as well: a quantile that only other buckets make high is no other latency.
pub(super) fn in_common(reading: &Reading, past: &Sum) -> Reading {
    let Basis::Buckets { buckets, quantile, scale } = &reading.basis else { return reading.clone() };
    let (buckets, quantile, scale) = (common(buckets, &past.buckets), *quantile, *scale);
    let value = quantile::quantile(quantile, &buckets) * scale;
    let Some(value) = Finite::new(value).filter(|_| reading.value.is_ok()) else { return reading.clone() };
    Reading { value: Ok(value), basis: Basis::Buckets { buckets, quantile, scale }, ..reading.clone() }
}

/// How many requests of a histogram lie beyond a bound within a bucket, by how a tail falls: a few more above the bucket's
/// lower end make a quantile that takes it for evenly filled jump far into it.
pub(super) fn tail_beyond(basis: &Basis, condition: Condition) -> Option<Tally> {
    let (Basis::Buckets { buckets, scale, .. }, Condition::Above(bound)) = (basis, condition) else { return None };
    let even = Tally::of(basis, condition)?;
    let tail = Sum::of_buckets(buckets.clone()).about_above(bound.get() / scale);
    Some(even.at_most(tail))
}

pub(super) fn common(of: &[Bucket], with: &[Bucket]) -> Vec<Bucket> {
    of.iter().copied().filter(|bucket| with.iter().any(|theirs| theirs.bound == bucket.bound)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_requests_beside_many_are_none_of_a_release_in_service() {
        let cases = [
            (1.0, 3_000.0, true),
            (19.0, 200.0, true),
            (20.0, 200.0, false),
            (20.0, 3_000.0, true),
            (60.0, 3_000.0, false),
            (1.0, 10.0, false),
            (6.0, 0.0, false),
        ];
        for (old, new, expected) in cases {
            assert_eq!(is_trickle(old, new, 20), expected, "{old} beside {new}");
        }
    }

    /// One request of a hundred lies above 100 ms, or a few more do; hardly one above 250 ms.
    #[test]
    fn a_few_more_above_a_bucket_s_end_are_no_other_latency() {
        let beyond = |above: f64, far: f64, bound: f64| {
            let counts = [(0.05, 5_000.0), (0.1, 10_000.0 - above), (0.25, 10_000.0 - far), (f64::INFINITY, 10_000.0)];
            let buckets = counts.iter().map(|(bound, count)| Bucket { bound: *bound, count: *count }).collect();
            let basis = Basis::Buckets { buckets, quantile: 0.99, scale: 1.0 };
            let condition = Condition::Above(Finite::new(bound).unwrap());
            let (even, tail) = (Tally::of(&basis, condition).unwrap(), tail_beyond(&basis, condition).unwrap());
            [even, tail].map(|tally| tally.part > tally.bound * tally.all)
        };
        assert_eq!(beyond(230.0, 8.0, 0.15), [true, false], "evenly filled p99 would be 183 ms");
        assert_eq!(beyond(1_000.0, 90.0, 0.15), [true, true]);
        assert_eq!(beyond(100.0, 2.0, 0.15), [false, false]);
    }
}
