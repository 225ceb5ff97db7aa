//! The quantile of a classic histogram, as Prometheus computes it, and the share of requests beyond a bound.
//!
//! Borrowed from Prometheus' `histogram_quantile` (promql/quantile.go, `BucketQuantile` and
//! `ensureMonotonicAndIgnoreSmallDeltas`): linear within a bucket, the second highest bound where the quantile lies in
//! `+Inf`, the first bound where that is not above zero, NaN where there is nothing to say.

/// Relative difference between neighbouring buckets that is put down to rounding (promql/quantile.go, `smallDeltaTolerance`).
const SMALL_DELTA: f64 = 1e-12;

/// A bucket: upper bound, and how many observations are at or below it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Bucket {
    pub(super) bound: f64,
    pub(super) count: f64,
}

/// Makes `buckets` usable: sorted, equal bounds merged, counts never falling. `false` where they are no histogram:
/// fewer than two, or none with the bound `+Inf`.
#[must_use]
pub(super) fn tidy(buckets: &mut Vec<Bucket>) -> bool {
    buckets.sort_by(|a, b| a.bound.total_cmp(&b.bound));
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return false;
    }
    buckets.dedup_by(|later, earlier| {
        let same = later.bound == earlier.bound;
        if same {
            earlier.count += later.count;
        }
        same
    });
    let mut before = buckets[0].count;
    for bucket in buckets.iter_mut().skip(1) {
        if is_almost_equal(before, bucket.count) || bucket.count < before {
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
    buckets.len() >= 2
}

/// The `quantile` of tidy buckets. NaN where there are no observations or a count is NaN; -Inf below 0, +Inf above 1.
#[must_use]
pub(super) fn quantile(quantile: f64, buckets: &[Bucket]) -> f64 {
    if quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    let [finite @ .., last] = buckets else { return f64::NAN };
    let (Some(highest), false) = (finite.last(), last.count == 0.0 || last.count.is_nan()) else { return f64::NAN };
    let rank = quantile * last.count;
    let index = finite.partition_point(|bucket| bucket.count < rank);
    let Some(bucket) = finite.get(index) else { return highest.bound };
    if index == 0 && bucket.bound <= 0.0 {
        return bucket.bound;
    }
    let below = index.checked_sub(1).map_or(Bucket { bound: 0.0, count: 0.0 }, |below| finite[below]);
    below.bound + (bucket.bound - below.bound) * ((rank - below.count) / (bucket.count - below.count))
}

/// How many observations of tidy buckets lie above `bound`, linear within a bucket as the quantile is: the quantile is
/// above `bound` exactly where this is more than its share. Those in `+Inf` are above every finite bound that the
/// histogram has, and not above a bound that is higher still, of which it can't tell.
#[must_use]
pub(super) fn above(bound: f64, buckets: &[Bucket]) -> f64 {
    let Some(last) = buckets.last() else { return 0.0 };
    let index = buckets.partition_point(|bucket| bucket.bound < bound);
    let Some(bucket) = buckets.get(index) else { return 0.0 };
    let below = match index.checked_sub(1) {
        Some(below) => buckets[below],
        None if bucket.bound <= 0.0 => return last.count - bucket.count,
        None => Bucket { bound: 0.0, count: 0.0 },
    };
    if bucket.bound == f64::INFINITY {
        return 0.0;
    }
    let part = ((bound - below.bound) / (bucket.bound - below.bound)).clamp(0.0, 1.0);
    last.count - (below.count + (bucket.count - below.count) * part)
}

/// Equal but for rounding (util/almost/almost.go).
fn is_almost_equal(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        difference < SMALL_DELTA * f64::MIN_POSITIVE
    } else {
        difference / sum.min(f64::MAX) < SMALL_DELTA
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bound and count.
    type Pairs = &'static [(f64, f64)];

    fn histogram(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs.iter().map(|(bound, count)| Bucket { bound: *bound, count: *count }).collect()
    }

    fn quantile_of(q: f64, pairs: &[(f64, f64)]) -> f64 {
        let mut buckets = histogram(pairs);
        if tidy(&mut buckets) { quantile(q, &buckets) } else { f64::NAN }
    }

    const INF: f64 = f64::INFINITY;

    /// Worked by hand from the rules that promql/promqltest/testdata/histograms.test holds.
    #[test]
    fn quantiles_are_those_of_prometheus() {
        let three: Pairs = &[(0.1, 50.0), (0.2, 70.0), (1.0, 110.0), (INF, 110.0)];
        let negative: Pairs = &[(-0.2, 10.0), (-0.1, 20.0), (0.3, 20.0), (INF, 20.0)];
        let cases: &[(&str, f64, Pairs, f64)] = &[
            ("lowest", 0.0, three, 0.0),
            ("in the first bucket, from zero", 0.2, three, 0.1 * 22.0 / 50.0),
            ("on a bound", 0.5 / 1.1, three, 0.1),
            ("in the middle", 0.8, three, 0.2 + 0.8 * 18.0 / 40.0),
            ("highest", 1.0, three, 1.0),
            ("below the scale", -0.1, three, f64::NEG_INFINITY),
            ("above the scale", 1.01, three, INF),
            ("in +Inf: the second highest bound", 0.9, &[(0.1, 5.0), (0.5, 8.0), (INF, 10.0)], 0.5),
            ("first bound not above zero", 0.3, negative, -0.2),
            ("between negative bounds", 0.75, negative, -0.15),
            ("order does not matter", 0.8, &[(INF, 110.0), (1.0, 110.0), (0.1, 50.0), (0.2, 70.0)], 0.65 - 0.09),
            ("equal bounds add up", 0.5, &[(1.0, 2.0), (1.0, 2.0), (INF, 4.0)], 0.5),
            ("falling counts are levelled", 0.5, &[(1.0, 10.0), (2.0, 8.0), (INF, 20.0)], 1.0),
            ("only +Inf in use", 0.5, &[(1.0, 0.0), (INF, 10.0)], 1.0),
        ];
        for (name, q, pairs, expected) in cases {
            let value = quantile_of(*q, pairs);
            assert!(value == *expected || (value - expected).abs() < 1e-12, "{name}: {value}, not {expected}");
        }
    }

    #[test]
    fn what_is_no_histogram_has_no_quantile() {
        let cases: &[(&str, f64, Pairs)] = &[
            ("nothing", 0.5, &[]),
            ("only +Inf", 0.5, &[(INF, 4.0)]),
            ("no +Inf", 0.5, &[(1.0, 4.0), (2.0, 4.0)]),
            ("no observations", 0.5, &[(1.0, 0.0), (INF, 0.0)]),
            ("quantile is NaN", f64::NAN, &[(1.0, 1.0), (INF, 2.0)]),
            ("observations are NaN", 0.5, &[(1.0, f64::NAN), (INF, f64::NAN)]),
        ];
        for (name, q, pairs) in cases {
            assert!(quantile_of(*q, pairs).is_nan(), "{name}");
        }
    }

    #[test]
    fn small_deltas_are_rounding() {
        let pairs = [(1.0, 10.0), (2.0, 10.0 + 1e-12), (INF, 10.0)];
        let mut buckets = histogram(&pairs);
        assert!(tidy(&mut buckets));
        assert_eq!(buckets, histogram(&[(1.0, 10.0), (2.0, 10.0), (INF, 10.0)]));
    }

    #[test]
    fn the_quantile_is_beyond_a_bound_where_more_than_its_share_is() {
        let pairs = [(0.1, 50.0), (0.5, 90.0), (1.0, 97.0), (5.0, 99.0), (INF, 100.0)];
        let mut buckets = histogram(&pairs);
        assert!(tidy(&mut buckets));
        for q in [0.01, 0.3, 0.5, 0.77, 0.9, 0.95, 0.985] {
            let value = quantile(q, &buckets);
            for bound in [0.02, 0.1, 0.3, 0.5, 0.8, 1.0, 3.0, 5.0] {
                let more = above(bound, &buckets) > (1.0 - q) * 100.0 + 1e-9;
                assert_eq!(value > bound + 1e-9, more, "q {q}: {value} against {bound}");
            }
        }
        assert_eq!(above(5.0, &buckets), 1.0);
        assert_eq!(above(6.0, &buckets), 0.0);
    }
}
