//! The increases of one operand on one target, kept as a running total so that any window is a difference of two points.
//!
//! Counters arrive with their resets already taken out. A running total makes every window exact and costs two binary
//! searches to read, however long the window is.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::domain::time::{Span, Timestamp};

/// Most points that one ring keeps of what only long windows reach: where that holds more intervals than this, neighbouring
/// points are merged and long windows are exact to a 2,048th of the retention.
const MAX_POINTS: u64 = 2048;

/// Most points beside them, none of which is merged.
const MAX_EXACT: usize = 1024;

/// From where on increases count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Start {
    /// Every increase seen later than this.
    After(Timestamp),
    /// Only increases that began at or after this: the one that straddles it is left out.
    Within(Timestamp),
}

/// The stretch of time that a sum covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cover {
    /// The look that the first increase is measured from.
    pub(super) first: Timestamp,
    /// The newest look.
    pub(super) last: Timestamp,
    /// How much of it was in fact observed.
    pub(super) observed: Span,
}

/// How much a ring keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Keep {
    retention: Span,
    spacing: Span,
    exact: Span,
}

impl Keep {
    pub(super) fn new(retention: Span) -> Self {
        let spacing = Span::from_millis(retention.as_millis() / MAX_POINTS);
        Self { retention, spacing, exact: Span::ZERO }
    }

    /// Nothing that is younger is merged, up to 1,024 points.
    pub(super) fn exact_for(self, exact: Span) -> Self {
        Self { exact, ..self }
    }

    pub(super) fn retention(self) -> Span {
        self.retention
    }
}

/// Points in the order of their time, each with one total a slot.
#[derive(Clone, Debug, Default)]
struct Points {
    times: VecDeque<Timestamp>,
    totals: VecDeque<f64>,
}

impl Points {
    fn len(&self) -> usize {
        self.times.len()
    }

    fn drop_first(&mut self, width: usize) {
        self.times.pop_front();
        self.totals.drain(..width);
    }

    fn drop_last(&mut self, width: usize) {
        self.times.pop_back();
        self.totals.truncate(self.totals.len() - width);
    }
}

/// Increases over time: one slot for a plain counter, one a bucket bound for a histogram.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    bounds: Arc<[f64]>,
    /// What only long windows reach, thinned.
    coarse: Points,
    /// Every look after that, the newest at least: who asks for what came since the look before must not get more.
    exact: Points,
    /// Stretches that nobody looked at: when each ended, and how long it was.
    gaps: Vec<(Timestamp, Span)>,
    /// The exporter's own time stamp of the newest page, where it gives one.
    pub(super) stamp: Option<Timestamp>,
    /// The newest page that held a finite value.
    pub(super) valid: Option<Timestamp>,
    /// The newest page that held a value which is no counter's: NaN, infinite, negative.
    pub(super) odd: Option<Timestamp>,
}

impl Ring {
    /// A ring that measures from `base` on.
    pub(super) fn new(bounds: Arc<[f64]>, base: Timestamp) -> Self {
        let totals = std::iter::repeat_n(0.0, bounds.len()).collect();
        let exact = Points { times: VecDeque::from([base]), totals };
        Self { bounds, coarse: Points::default(), exact, gaps: Vec::new(), stamp: None, valid: None, odd: None }
    }

    /// Upper bounds of the slots, ascending.
    pub(super) fn bounds(&self) -> &Arc<[f64]> {
        &self.bounds
    }

    /// Whether something on the newest page was not a number that a counter may have.
    pub(super) fn is_odd_in_part(&self) -> bool {
        self.odd.is_some() && self.odd >= self.valid
    }

    /// The point that everything is measured from.
    pub(super) fn oldest(&self) -> Timestamp {
        self.time(0)
    }

    /// The newest point.
    pub(super) fn newest(&self) -> Timestamp {
        self.exact.times[self.exact.len() - 1]
    }

    fn time(&self, point: usize) -> Timestamp {
        let coarse = self.coarse.len();
        if point < coarse { self.coarse.times[point] } else { self.exact.times[point - coarse] }
    }

    fn total(&self, point: usize, slot: usize) -> f64 {
        let (coarse, width) = (self.coarse.len(), self.bounds.len());
        if point < coarse {
            self.coarse.totals[point * width + slot]
        } else {
            self.exact.totals[(point - coarse) * width + slot]
        }
    }

    /// The first point whose time is not so.
    fn partition_point(&self, is_before: impl Fn(Timestamp) -> bool) -> usize {
        let coarse = self.coarse.times.partition_point(|time| is_before(*time));
        if coarse < self.coarse.len() {
            return coarse;
        }
        coarse + self.exact.times.partition_point(|time| is_before(*time))
    }

    fn last(&self) -> usize {
        self.coarse.len() + self.exact.len() - 1
    }

    /// The slot of a bound.
    pub(super) fn slot(&self, bound: f64) -> Option<usize> {
        self.bounds.binary_search_by(|known| known.total_cmp(&bound)).ok()
    }

    /// Adds one look. `increases` has one value a slot.
    pub(super) fn push(&mut self, at: Timestamp, increases: &[f64], keep: Keep) {
        let start = self.exact.totals.len() - self.bounds.len();
        // Two looks in one moment are one.
        if self.newest() >= at {
            for (slot, increase) in increases.iter().enumerate() {
                self.exact.totals[start + slot] += increase;
            }
        } else {
            self.exact.times.push_back(at);
            for (slot, increase) in increases.iter().enumerate() {
                let total = self.exact.totals[start + slot] + increase;
                self.exact.totals.push_back(total);
            }
        }
        self.prune(at, keep);
    }

    /// Notes that what happened between the newest point and `at` is not known.
    pub(super) fn skip(&mut self, at: Timestamp, keep: Keep) {
        let last = self.newest();
        if at > last {
            self.gaps.push((at, at.since(last)));
            self.exact.times.push_back(at);
            let totals = &mut self.exact.totals;
            totals.extend(totals.range(totals.len() - self.bounds.len()..).copied().collect::<Vec<_>>());
            self.prune(at, keep);
        }
    }

    /// Drops what no window reaches any more; the newest point at or before the edge stays, as the point to measure from.
    pub(super) fn prune(&mut self, now: Timestamp, keep: Keep) {
        let young = now - keep.exact;
        while self.exact.len() > MAX_EXACT || (self.exact.len() > 1 && self.exact.times[0] <= young) {
            self.thin(keep.spacing);
        }
        let (edge, width) = (now - keep.retention, self.bounds.len());
        while self.last() > 0 && self.time(1) <= edge {
            if self.coarse.len() > 0 { self.coarse.drop_first(width) } else { self.exact.drop_first(width) }
        }
        let first = self.oldest();
        self.gaps.retain(|(end, _)| *end > first);
    }

    /// Moves the oldest exact point to the thinned ones: of three that lie close together the middle one goes.
    fn thin(&mut self, spacing: Span) {
        let (width, count) = (self.bounds.len(), self.coarse.len());
        let time = self.exact.times[0];
        if count >= 2 && time.since(self.coarse.times[count - 2]) < spacing {
            self.coarse.drop_last(width);
        }
        self.coarse.times.push_back(time);
        self.coarse.totals.extend(self.exact.totals.range(..width));
        self.exact.drop_first(width);
    }

    /// Whether these bounds have all of its own among them.
    pub(super) fn is_within(&self, bounds: &[f64]) -> bool {
        let is_there = |own: &f64| bounds.binary_search_by(|bound| bound.total_cmp(own)).is_ok();
        self.bounds.iter().all(is_there)
    }

    /// Takes over a wider set of slots; those that were not there before have counted nothing.
    pub(super) fn widen(&mut self, bounds: &Arc<[f64]>) {
        if **bounds == *self.bounds {
            return;
        }
        let old = self.bounds.len();
        let from: Vec<Option<usize>> =
            bounds.iter().map(|bound| self.bounds.iter().position(|known| known.total_cmp(bound).is_eq())).collect();
        for points in [&mut self.coarse, &mut self.exact] {
            let mut totals = VecDeque::with_capacity(points.len() * bounds.len());
            for point in 0..points.len() {
                totals.extend(from.iter().map(|slot| slot.map_or(0.0, |slot| points.totals[point * old + slot])));
            }
            points.totals = totals;
        }
        self.bounds = Arc::clone(bounds);
    }

    /// The total of slot `slot` since `from`, with the stretch that it covers; `None` where no increase lies in it.
    pub(super) fn increase(&self, slot: usize, from: Start) -> Option<f64> {
        let first = self.first_point(from)?;
        Some(self.total(self.last(), slot) - self.total(first, slot))
    }

    /// Bound and total of every slot since `from`; nothing where no increase lies in it.
    pub(super) fn increases(&self, from: Start) -> impl Iterator<Item = (f64, f64)> {
        let (first, last) = (self.first_point(from), self.last());
        self.bounds.iter().enumerate().filter_map(move |(slot, bound)| {
            first.map(|first| (*bound, self.total(last, slot) - self.total(first, slot)))
        })
    }

    /// The stretch that [`Ring::increase`] covers.
    pub(super) fn cover(&self, from: Start) -> Option<Cover> {
        let (first, last) = (self.time(self.first_point(from)?), self.newest());
        let unseen = self.gaps.iter().filter(|(end, _)| *end > first).map(|(_, gap)| gap.as_millis()).sum();
        let observed = Span::from_millis(last.since(first).as_millis().saturating_sub(unseen));
        (observed > Span::ZERO).then_some(Cover { first, last, observed })
    }

    fn first_point(&self, from: Start) -> Option<usize> {
        match from {
            Start::After(edge) => Some(self.partition_point(|time| time <= edge).saturating_sub(1)),
            Start::Within(edge) => {
                let inside = self.partition_point(|time| time < edge);
                (inside <= self.last()).then_some(inside)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn plain() -> Arc<[f64]> {
        Arc::from([0.0])
    }

    proptest! {
        /// The naive model keeps every increase for ever and adds up those in (now - window, now].
        #[test]
        fn a_window_is_the_sum_of_the_increases_in_it(
            steps in prop::collection::vec((150u64..9_000, 0u32..1_000), 1..400),
            windows in prop::collection::vec(1u64..300_000, 1..8),
        ) {
            let keep = Keep::new(Span::from_secs(300));
            let mut ring = Ring::new(plain(), at(0));
            let mut model: Vec<(Timestamp, f64)> = Vec::new();
            let mut now = at(0);
            for (step, increase) in steps {
                now = now + Span::from_millis(step);
                ring.push(now, &[f64::from(increase)], keep);
                model.push((now, f64::from(increase)));
                for window in &windows {
                    let edge = now - Span::from_millis(*window);
                    let naive: f64 = model.iter().filter(|(time, _)| *time > edge).map(|(_, value)| value).sum();
                    prop_assert_eq!(ring.increase(0, Start::After(edge)), Some(naive));
                }
            }
        }
    }

    proptest! {
        /// What came since the look before is counted once, and a short window on the same series stays exact.
        #[test]
        fn beside_a_long_window_each_increase_counts_once(
            steps in prop::collection::vec((1_000u64..9_000, 0u32..1_000), 1..400),
            every in 1usize..5,
        ) {
            let keep = Keep::new(Span::from_secs(86_400)).exact_for(Span::from_secs(85));
            let mut ring = Ring::new(plain(), at(0));
            let mut model: Vec<(Timestamp, f64)> = Vec::new();
            let (mut now, mut looked, mut counted) = (at(0), at(0), 0.0);
            for (index, (step, increase)) in steps.into_iter().enumerate() {
                now = now + Span::from_millis(step);
                ring.push(now, &[f64::from(increase)], keep);
                model.push((now, f64::from(increase)));
                let edge = now - Span::from_secs(60);
                let naive: f64 = model.iter().filter(|(time, _)| *time > edge).map(|(_, value)| value).sum();
                prop_assert_eq!(ring.increase(0, Start::After(edge)), Some(naive));
                if index % every == 0 {
                    counted += ring.increase(0, Start::After(looked)).unwrap_or(f64::NAN);
                    looked = ring.newest();
                    prop_assert_eq!(counted, model.iter().map(|(_, value)| value).sum::<f64>());
                }
            }
        }
    }

    #[test]
    fn an_increase_that_straddles_the_edge_is_left_out_where_asked() {
        let keep = Keep::new(Span::from_secs(60));
        let mut ring = Ring::new(plain(), at(0));
        for (time, increase) in [(10_000, 1.0), (20_000, 2.0), (30_000, 4.0)] {
            ring.push(at(time), &[increase], keep);
        }
        let cases = [
            (Start::After(at(10_000)), Some(6.0)),
            (Start::After(at(15_000)), Some(6.0)),
            (Start::Within(at(15_000)), Some(4.0)),
            (Start::Within(at(20_000)), Some(4.0)),
            (Start::Within(at(30_000)), Some(0.0)),
            (Start::Within(at(31_000)), None),
            (Start::After(at(99_000)), Some(0.0)),
        ];
        for (from, expected) in cases {
            assert_eq!(ring.increase(0, from), expected, "{from:?}");
        }
        let observed = Span::from_secs(20);
        assert_eq!(ring.cover(Start::After(at(15_000))), Some(Cover { first: at(10_000), last: at(30_000), observed }));
        assert_eq!(ring.cover(Start::Within(at(30_000))), None);
    }

    #[test]
    fn new_slots_start_from_nothing_and_old_ones_keep_their_totals() {
        let keep = Keep::new(Span::from_secs(60));
        let mut ring = Ring::new(Arc::from([0.1, f64::INFINITY]), at(0));
        ring.push(at(10), &[3.0, 5.0], keep);
        ring.widen(&Arc::from([0.1, 0.5, f64::INFINITY]));
        ring.push(at(20), &[1.0, 1.0, 2.0], keep);
        let sums: Vec<_> = (0..3).map(|slot| ring.increase(slot, Start::After(at(0)))).collect();
        assert_eq!(sums, [Some(4.0), Some(1.0), Some(7.0)]);
    }

    #[test]
    fn a_long_retention_stays_within_its_points() {
        let keep = Keep::new(Span::from_secs(86_400));
        let mut ring = Ring::new(plain(), at(0));
        for second in 1..=200_000 {
            ring.push(at(second * 1000), &[1.0], keep);
        }
        let points = ring.last() as u64 + 1;
        assert!(points <= MAX_POINTS + MAX_POINTS / 64, "{points} points");
        let day = ring.increase(0, Start::After(at(200_000_000) - Span::from_secs(86_400))).unwrap_or(0.0);
        assert!((day - 86_400.0).abs() <= 43.0, "{day}");
    }
}
