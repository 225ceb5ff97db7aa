//! What each release did, minute by minute, over its last half hour in service: the measure where only one serves.

use std::collections::{BTreeMap, VecDeque};

use super::quantile::{self, Bucket};
use super::reading::Basis;
use crate::domain::id::RevisionId;
use crate::domain::policy::{Candidate, Formula};
use crate::domain::time::{Span, Timestamp};

/// Length of one entry.
const MINUTE: Span = Span::from_secs(60);

/// Entries a release.
const MAX_MINUTES: usize = 30;

/// Minutes that say how many requests there are now.
const LAST_MINUTES: usize = 3;

/// Releases that are remembered; the one that was seen longest ago goes first.
const MAX_RELEASES: usize = 4;

/// Requests that a stretch of the past must have before its value counts, and the most minutes that it may take to have
/// them: of few requests the highest of many values is chance.
const STRETCH: (f64, usize) = (500.0, 5);

/// A past of so many minutes has shown half of its unrest.
const SHORT_MINUTES: f64 = 10.0;

/// The unrest that is taken for likely before any is seen, of shares of errors and of latencies, and for how many stretches
/// it speaks: a few that lie close together by chance are not calm.
const USUAL_UNREST: (f64, f64) = (0.4, 0.12);
const USUAL_STRETCHES: f64 = 10.0;

/// What a past adds at most to its own bound for its unrest and for being short, as a logarithm: four and a half times.
const MAX_UNREST: f64 = 1.5;

/// The highest value of any stretch of a release's past.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Worst {
    /// In the base unit.
    pub(super) value: f64,
    /// Of that stretch.
    pub(super) requests: f64,
    /// How far its stretches lie apart: the standard deviation of the logarithms, and more of a short past, which did not
    /// show all of it; at most [`MAX_UNREST`].
    pub(super) unrest: f64,
}

/// Requests of a stretch of time.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Sum {
    pub(super) bad: f64,
    pub(super) all: f64,
    /// Tidy, in the exporter's unit; none where the signal is a ratio.
    pub(super) buckets: Vec<Bucket>,
}

impl Sum {
    pub(super) fn of_buckets(buckets: Vec<Bucket>) -> Self {
        Self { bad: 0.0, all: buckets.last().map_or(0.0, |last| last.count), buckets }
    }

    /// Adds up; of buckets those that both have. Nothing adds nothing.
    pub(super) fn add(&mut self, other: &Sum) {
        if other.all <= 0.0 && other.buckets.is_empty() {
            return;
        }
        if self.all <= 0.0 && self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
        } else {
            self.buckets.retain_mut(|bucket| {
                let same = other.buckets.iter().find(|theirs| theirs.bound == bucket.bound);
                bucket.count += same.map_or(0.0, |same| same.count);
                same.is_some()
            });
        }
        self.bad += other.bad;
        self.all += other.all;
    }

    /// Requests above one of the bounds, of all.
    pub(super) fn above(&self, bound: f64) -> Option<f64> {
        let bucket = self.buckets.iter().find(|bucket| bucket.bound == bound)?;
        Some(self.all - bucket.count)
    }

    /// About how many requests lie above a bound that may be within a bucket: there the tail falls as a power of the
    /// latency, since tails fall by factors.
    pub(super) fn about_above(&self, bound: f64) -> f64 {
        let index = self.buckets.partition_point(|bucket| bucket.bound <= bound);
        let (below, next) = (index.checked_sub(1).and_then(|below| self.buckets.get(below)), self.buckets.get(index));
        match (below, next) {
            (Some(below), Some(next)) if below.bound > 0.0 && next.bound.is_finite() => {
                let part = (bound / below.bound).ln() / (next.bound / below.bound).ln();
                let (from, to) = (self.all - below.count, self.all - next.count);
                from.powf(1.0 - part) * to.max(0.5).min(from).powf(part)
            }
            (Some(below), _) => self.all - below.count,
            (None, _) => quantile::above(bound, &self.buckets),
        }
    }

    /// What a reading of these requests would rest on.
    pub(super) fn basis(&self, candidate: &Candidate) -> Basis {
        match candidate.formula {
            Formula::Histogram { quantile, .. } => {
                Basis::Buckets { buckets: self.buckets.clone(), quantile, scale: candidate.scale }
            }
            Formula::Ratio { .. }
            | Formula::Summary { .. }
            | Formula::Gauge { .. }
            | Formula::Rate { .. }
            | Formula::Builtin(_)
            | Formula::Query => Basis::Counts { bad: self.bad, total: self.all },
        }
    }

    /// The share of errors that these requests leave possible, by two standard deviations: of none among n it is 3/n. None
    /// for a latency, and without requests.
    pub(super) fn at_most(&self) -> Option<f64> {
        let bad = self.bad + 1.0;
        (self.buckets.is_empty() && self.all > 0.0).then(|| ((bad + 2.0 * bad.sqrt()) / self.all).min(1.0))
    }

    /// The value in the base unit; none without requests.
    pub(super) fn value(&self, candidate: &Candidate) -> Option<f64> {
        let value = match candidate.formula {
            Formula::Ratio { .. } => self.bad / self.all,
            Formula::Histogram { quantile, .. } => quantile::quantile(quantile, &self.buckets),
            Formula::Summary { .. }
            | Formula::Gauge { .. }
            | Formula::Rate { .. }
            | Formula::Builtin(_)
            | Formula::Query => f64::NAN,
        };
        (value * candidate.scale).is_finite().then_some(value * candidate.scale)
    }
}

/// One minute, and what was seen in it.
#[derive(Clone, Debug)]
pub(super) struct Minute {
    pub(super) begin: Timestamp,
    pub(super) sum: Sum,
}

/// A stretch of bad minutes.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Stretch {
    pub(super) from: Timestamp,
    pub(super) lasted: Span,
    /// Of its minutes but the first and the last, which are seldom whole.
    pub(super) sum: Sum,
}

impl Stretch {
    fn of(minutes: &[&Minute]) -> Option<Self> {
        let (first, last) = (minutes.first()?, minutes.last()?);
        let inner = minutes.get(1..minutes.len() - 1).filter(|inner| !inner.is_empty()).unwrap_or(minutes);
        let mut sum = Sum::default();
        inner.iter().for_each(|minute| sum.add(&minute.sum));
        let seconds = (last.begin + MINUTE).since(first.begin).as_secs_f64();
        Some(Self { from: first.begin, lasted: Span::from_secs(seconds.round() as u64), sum })
    }
}

/// The past of each release, of one signal.
#[derive(Clone, Debug, Default)]
pub(super) struct Past(BTreeMap<RevisionId, VecDeque<Minute>>);

impl Past {
    pub(super) fn add(&mut self, release: &RevisionId, at: Timestamp, sum: &Sum) {
        if !self.0.contains_key(release) {
            self.make_room();
        }
        let minutes = self.0.entry(release.clone()).or_default();
        match minutes.back_mut().filter(|minute| at.since(minute.begin) < MINUTE) {
            Some(minute) => minute.sum.add(sum),
            None => {
                if minutes.len() == MAX_MINUTES {
                    minutes.pop_front();
                }
                minutes.push_back(Minute { begin: at, sum: sum.clone() });
            }
        }
    }

    fn make_room(&mut self) {
        if self.0.len() < MAX_RELEASES {
            return;
        }
        let oldest = self.0.iter().min_by_key(|(_, minutes)| minutes.back().map(|minute| minute.begin));
        if let Some(oldest) = oldest.map(|(release, _)| release.clone()) {
            self.0.remove(&oldest);
        }
    }

    /// Takes up a release's minutes, oldest first, where nothing is known of it yet.
    pub(super) fn recall(&mut self, release: RevisionId, minutes: impl Iterator<Item = Minute>) {
        let mut recalled: VecDeque<Minute> = VecDeque::new();
        for minute in minutes {
            let is_next = recalled.back().is_none_or(|last| last.begin < minute.begin);
            if is_next && recalled.len() < MAX_MINUTES {
                recalled.push_back(minute);
            }
        }
        if !recalled.is_empty() && self.0.len() < MAX_RELEASES {
            self.0.entry(release).or_insert(recalled);
        }
    }

    /// A release's minutes in service, oldest first.
    pub(super) fn minutes(&self, release: &RevisionId) -> impl DoubleEndedIterator<Item = &Minute> {
        self.0.get(release).into_iter().flatten()
    }

    /// All of a release's last half hour in service.
    pub(super) fn pooled(&self, release: &RevisionId) -> Sum {
        let mut pooled = Sum::default();
        self.minutes(release).for_each(|minute| pooled.add(&minute.sum));
        pooled
    }

    /// The middle one, by their values, of a release's minutes before `until` with so many requests; none where a quarter of
    /// them had less than half of its value, so that no minute is a usual one.
    pub(super) fn usual_minute(
        &self,
        release: &RevisionId,
        candidate: &Candidate,
        until: Timestamp,
        least: f64,
    ) -> Option<&Sum> {
        let minutes = self.minutes(release).filter(|minute| minute.begin < until && minute.sum.all >= least);
        let valued = minutes.filter_map(|minute| Some((minute.sum.value(candidate)?, &minute.sum)));
        let mut valued: Vec<(f64, &Sum)> = valued.collect();
        valued.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let (quarter, middle) = (valued.get(valued.len() / 4)?, valued.get(valued.len() / 2)?);
        (quarter.0 * 2.0 >= middle.0).then_some(middle.1)
    }

    /// The stretches before `until` in which a release's minutes with so many requests were beyond `bound`, oldest first;
    /// what was gone for no longer than `lull` went on.
    pub(super) fn outages(
        &self,
        release: &RevisionId,
        candidate: &Candidate,
        bound: f64,
        until: Timestamp,
        (least, lull): (f64, Span),
    ) -> Vec<Stretch> {
        let minutes = self.minutes(release).filter(|minute| minute.begin < until && minute.sum.all >= least);
        let bad = minutes.filter(|minute| minute.sum.value(candidate).is_some_and(|value| value > bound));
        let mut outages: Vec<Vec<&Minute>> = Vec::new();
        for minute in bad {
            let goes_on = |outage: &&mut Vec<&Minute>| {
                outage.last().is_some_and(|last| minute.begin.since(last.begin + MINUTE) <= lull)
            };
            match outages.last_mut().filter(goes_on) {
                Some(outage) => outage.push(minute),
                None => outages.push(vec![minute]),
            }
        }
        outages.iter().filter_map(|minutes| Stretch::of(minutes)).collect()
    }

    /// Requests a second of a release in its last half hour in service; of one that is not known yet, the most of any other.
    pub(super) fn usual_rate(&self, release: Option<&RevisionId>) -> Option<f64> {
        let rate = |release: &RevisionId| {
            let minutes = self.minutes(release).count();
            (minutes > 0).then(|| self.pooled(release).all / (MINUTE.as_secs_f64() * minutes as f64))
        };
        release.and_then(rate).or_else(|| self.releases().filter_map(rate).reduce(f64::max))
    }

    /// A release's last minutes in service that began before `until`: their sum.
    pub(super) fn last(&self, release: &RevisionId, minutes: usize, until: Timestamp) -> Sum {
        let mut sum = Sum::default();
        let before = self.minutes(release).rev().filter(|minute| minute.begin < until);
        before.take(minutes).for_each(|minute| sum.add(&minute.sum));
        sum
    }

    /// What was seen of a release since the minute of `from`.
    pub(super) fn since(&self, release: &RevisionId, from: Timestamp) -> Sum {
        let mut sum = Sum::default();
        self.minutes(release).filter(|minute| minute.begin + MINUTE > from).for_each(|minute| sum.add(&minute.sum));
        sum
    }

    /// A release's minutes that began from `from` on and before `until`: their sum.
    pub(super) fn between(&self, release: &RevisionId, from: Timestamp, until: Timestamp) -> Sum {
        let mut sum = Sum::default();
        let minutes = self.minutes(release).filter(|minute| minute.begin >= from && minute.begin < until);
        minutes.for_each(|minute| sum.add(&minute.sum));
        sum
    }

    /// The worst of a release's minutes that began from `from` on, of those with so many requests and with half as many as its
    /// minutes usually have: one that was cut short may be nothing but the end of its processes.
    pub(super) fn worst_minute(
        &self,
        release: &RevisionId,
        candidate: &Candidate,
        from: Timestamp,
        least: f64,
    ) -> Option<&Sum> {
        let usual = self.pooled(release).all / self.minutes(release).count().max(1) as f64;
        let is_whole = |minute: &&Minute| minute.sum.all >= least.max(usual / 2.0);
        let minutes = self.minutes(release).filter(|minute| minute.begin >= from).filter(is_whole);
        let valued = minutes.filter_map(|minute| Some((minute.sum.value(candidate)?, &minute.sum)));
        valued.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, sum)| sum)
    }

    /// A release's whole minutes from `from` to its end in service; the last one, which is seldom whole, only where there is
    /// no other.
    pub(super) fn whole_since(&self, release: &RevisionId, from: Timestamp) -> Sum {
        let minutes: Vec<&Minute> = self.minutes(release).filter(|minute| minute.begin >= from).collect();
        let whole = minutes.len().saturating_sub(1).max(1);
        let mut sum = Sum::default();
        minutes.into_iter().take(whole).for_each(|minute| sum.add(&minute.sum));
        sum
    }

    /// The releases that are remembered.
    pub(super) fn releases(&self) -> impl Iterator<Item = &RevisionId> {
        self.0.keys()
    }

    /// The rates, per second, of what is counted in each whole minute of a release's past, oldest first.
    fn rates(&self, release: &RevisionId, count: impl Fn(&Sum) -> f64) -> Vec<f64> {
        let ends = self.minutes(release).skip(1).map(|next| next.begin);
        let minutes = self.minutes(release).zip(ends);
        minutes.map(|(minute, end)| count(&minute.sum) / end.since(minute.begin).as_secs_f64()).collect()
    }

    /// The share of errors that a release would have with as many of them a second as another one had in all its past, in the
    /// busiest of its own last minutes; none where either has no whole minute.
    pub(super) fn as_many_errors(&self, release: &RevisionId, as_of: &RevisionId) -> Option<f64> {
        let errors = self.rates(as_of, |sum| sum.bad);
        let requests = self.rates(release, |sum| sum.all).into_iter().rev().take(LAST_MINUTES).reduce(f64::max)?;
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        let share = mean / requests;
        share.is_finite().then_some(share.min(1.0))
    }

    /// The highest rate of good requests, per second, of any whole minute of a release's past between two times.
    pub(super) fn load(&self, release: &RevisionId, from: Timestamp, until: Timestamp) -> Option<f64> {
        // Where looks are rare a minute may hold two of one target: then the next one begins the later.
        let ends = self.minutes(release).skip(1).map(|next| next.begin);
        let minutes = self.minutes(release).zip(ends);
        let whole = minutes.filter(|(minute, end)| minute.begin >= from && *end <= until);
        whole
            .map(|(minute, end)| (minute.sum.all - minute.sum.bad) / end.since(minute.begin).as_secs_f64())
            .reduce(f64::max)
    }

    /// The stretches of a release's past that end before `until`: value, and requests; over these bounds of a histogram, or
    /// over all of its own.
    fn stretches(
        &self,
        release: &RevisionId,
        candidate: &Candidate,
        bounds: &[Bucket],
        until: Timestamp,
    ) -> Vec<(f64, f64)> {
        let minutes: Vec<&Minute> = self.minutes(release).filter(|minute| minute.begin + MINUTE <= until).collect();
        let mut stretches = Vec::with_capacity(minutes.len());
        for (index, first) in minutes.iter().enumerate() {
            let mut sum = first.sum.clone();
            for minute in minutes.iter().skip(index + 1).take(STRETCH.1 - 1) {
                if sum.all >= STRETCH.0 {
                    break;
                }
                sum.add(&minute.sum);
            }
            if !bounds.is_empty() {
                sum.buckets.retain(|bucket| bounds.iter().any(|other| other.bound == bucket.bound));
            }
            // The tail of a past that has whole stretches is none.
            let is_short = sum.all < STRETCH.0 && index > 0 && index + STRETCH.1 > minutes.len();
            if let Some(value) = sum.value(candidate).filter(|_| !is_short) {
                stretches.push((value, sum.all));
            }
        }
        stretches
    }

    /// The worst of a release's past before `until`, over these bounds of a histogram or over all of its own.
    pub(super) fn worst(
        &self,
        release: &RevisionId,
        candidate: &Candidate,
        bounds: &[Bucket],
        until: Timestamp,
    ) -> Option<Worst> {
        let stretches = self.stretches(release, candidate, bounds, until);
        let (value, requests) = stretches.iter().copied().max_by(|(a, _), (b, _)| a.total_cmp(b))?;
        let minutes = self.minutes(release).filter(|minute| minute.begin + MINUTE <= until).count();
        let unseen = 1.0 + SHORT_MINUTES / minutes.max(1) as f64;
        let (of_errors, of_latency) = USUAL_UNREST;
        let usual = if matches!(candidate.formula, Formula::Histogram { .. }) { of_latency } else { of_errors };
        Some(Worst { value, requests, unrest: (unrest(&stretches, usual) * unseen).min(MAX_UNREST) })
    }
}

/// The standard deviation of the values' logarithms, drawn towards what is usual.
fn unrest(stretches: &[(f64, f64)], usual: f64) -> f64 {
    let logs: Vec<f64> = stretches.iter().filter(|(value, _)| *value > 0.0).map(|(value, _)| value.ln()).collect();
    let count = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / count.max(1.0);
    let squares: f64 = logs.iter().map(|log| (log - mean).powi(2)).sum();
    let seen = (count - 1.0).max(0.0);
    ((squares + USUAL_STRETCHES * usual * usual) / (seen + USUAL_STRETCHES)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::OperandId;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(minute * 60_000)
    }

    fn ratio() -> Candidate {
        let formula = Formula::Ratio { bad: OperandId(0), total: OperandId(1) };
        Candidate { convention: None, formula, scale: 1.0 }
    }

    fn requests(bad: f64, all: f64) -> Sum {
        Sum { bad, all, buckets: Vec::new() }
    }

    #[test]
    fn the_highest_is_of_stretches_with_enough_requests() {
        let old = RevisionId::from("old");
        let mut past = Past::default();
        for minute in 0..40 {
            let bad = if minute == 20 { 60.0 } else { 6.0 };
            past.add(&old, at(minute), &requests(bad, 600.0));
        }
        let worst = |release: &RevisionId, until: i64| {
            past.worst(release, &ratio(), &[], at(until)).map(|worst| (worst.value, worst.requests))
        };
        assert_eq!(worst(&old, 100), Some((0.1, 600.0)));
        assert_eq!(worst(&old, 20), Some((0.01, 600.0)));
        assert_eq!(past.pooled(&old).all, 30.0 * 600.0);
        let quiet = RevisionId::from("quiet");
        for minute in 0..10 {
            past.add(&quiet, at(minute), &requests(f64::from(minute == 3), 20.0));
        }
        let worst = past.worst(&quiet, &ratio(), &[], at(100)).map(|worst| (worst.value, worst.requests));
        assert_eq!(worst, Some((0.01, 100.0)));
    }

    #[test]
    fn a_short_past_shows_less_than_all_of_its_unrest_and_leaves_not_everything_possible() {
        let old = RevisionId::from("old");
        let unrest = |minutes: usize| {
            past_of(&old, &vec![6.0; minutes]).worst(&old, &ratio(), &[], at(100)).map_or(0.0, |worst| worst.unrest)
        };
        assert!(unrest(1) <= MAX_UNREST, "{}", unrest(1));
        assert!(unrest(1) > unrest(10) && unrest(10) > unrest(30), "{} {} {}", unrest(1), unrest(10), unrest(30));
    }

    #[test]
    fn of_fewer_requests_as_many_errors_are_a_larger_share() {
        let (old, new) = (RevisionId::from("old"), RevisionId::from("new"));
        let mut past = Past::default();
        for minute in 0..10 {
            past.add(&old, at(minute), &requests(6.0, 600.0));
        }
        assert_eq!(past.as_many_errors(&new, &old), None);
        for minute in 10..20 {
            past.add(&new, at(minute), &requests(9.0, if minute < 15 { 600.0 } else { 240.0 }));
        }
        let share = past.as_many_errors(&new, &old).unwrap();
        assert!((share - 0.025).abs() < 1e-9, "{share}");
    }

    #[test]
    fn a_minute_that_was_cut_short_is_not_the_worst() {
        let (old, mut past) = (RevisionId::from("old"), Past::default());
        for (minute, bad, all) in [(0, 90.0, 600.0), (1, 6.0, 600.0), (2, 60.0, 600.0), (3, 100.0, 200.0)] {
            past.add(&old, at(minute), &requests(bad, all));
        }
        let worst = |from: i64| past.worst_minute(&old, &ratio(), at(from), 20.0).map(|sum| sum.bad);
        assert_eq!((worst(0), worst(1), worst(3)), (Some(90.0), Some(60.0), None));
        assert_eq!(past.between(&old, at(1), at(3)).bad, 66.0);
    }

    /// A release's past of 600 requests a minute, of which so many are bad.
    fn past_of(release: &RevisionId, bad: &[f64]) -> Past {
        let mut past = Past::default();
        for (minute, bad) in (0..).zip(bad) {
            past.add(release, at(minute), &requests(*bad, 600.0));
        }
        past
    }

    #[test]
    fn an_outage_goes_on_through_a_lull_and_its_ends_do_not_dilute_it() {
        let old = RevisionId::from("old");
        let bad = [
            6.0, 90.0, 180.0, 180.0, 120.0, 6.0, 6.0, 6.0, 6.0, 6.0, 300.0, 6.0, 6.0, 300.0, 6.0, 6.0, 6.0, 6.0, 6.0,
            61.0,
        ];
        let past = past_of(&old, &bad);
        let outages = |lull: u64, until: i64| {
            let outages = past.outages(&old, &ratio(), 0.1, at(until), (20.0, Span::from_secs(60 * lull)));
            let told = |outage: &Stretch| (outage.from, outage.lasted.as_secs_f64() / 60.0, outage.sum.bad);
            outages.iter().map(told).collect::<Vec<_>>()
        };
        let first = (at(1), 4.0, 360.0);
        assert_eq!(outages(4, 19), [first, (at(10), 4.0, 600.0)]);
        assert_eq!(outages(1, 19), [first, (at(10), 1.0, 300.0), (at(13), 1.0, 300.0)]);
        assert_eq!(outages(4, 20).len(), 3);
        assert_eq!(outages(5, 19), [(at(1), 13.0, 780.0)]);
    }

    #[test]
    fn a_usual_minute_is_one_that_most_are_like() {
        let old = RevisionId::from("old");
        let usual = |bad: &[f64]| past_of(&old, bad).usual_minute(&old, &ratio(), at(8), 20.0).map(|sum| sum.bad);
        assert_eq!(usual(&[54.0, 60.0, 58.0, 300.0, 59.0, 57.0, 61.0, 56.0, 0.0]), Some(59.0));
        assert_eq!(usual(&[0.0, 180.0, 180.0, 180.0, 180.0, 180.0, 0.0, 0.0]), None, "it comes and goes");
        assert_eq!(usual(&[]), None);
    }

    #[test]
    fn a_release_that_is_not_known_has_the_requests_of_the_busiest() {
        let (old, new) = (RevisionId::from("old"), RevisionId::from("new"));
        let mut past = past_of(&old, &[0.0, 0.0]);
        assert_eq!(past.usual_rate(Some(&new)), Some(10.0));
        past.add(&new, at(2), &requests(0.0, 60.0));
        assert_eq!([past.usual_rate(Some(&new)), past.usual_rate(None)], [Some(1.0), Some(10.0)]);
        assert_eq!(Past::default().usual_rate(Some(&new)), None);
    }

    #[test]
    fn few_requests_leave_more_errors_possible() {
        assert_eq!(requests(0.0, 300.0).at_most(), Some(0.01));
        assert_eq!(requests(99.0, 12_000.0).at_most(), Some(0.01));
        assert_eq!((requests(0.0, 2.0).at_most(), requests(0.0, 0.0).at_most()), (Some(1.0), None));
    }

    #[test]
    fn only_bounds_that_all_have_are_added_up() {
        let buckets = |bounds: &[(f64, f64)]| {
            Sum::of_buckets(bounds.iter().map(|(bound, count)| Bucket { bound: *bound, count: *count }).collect())
        };
        let mut sum = Sum::default();
        sum.add(&buckets(&[(0.1, 5.0), (0.5, 8.0), (f64::INFINITY, 10.0)]));
        sum.add(&buckets(&[(0.1, 6.0), (1.0, 9.0), (f64::INFINITY, 10.0)]));
        assert_eq!(sum, buckets(&[(0.1, 11.0), (f64::INFINITY, 20.0)]));
        assert_eq!((sum.above(0.1), sum.above(0.5)), (Some(9.0), None));
        sum.add(&Sum::default());
        assert_eq!(sum.above(0.1), Some(9.0), "nothing adds nothing");
    }

    #[test]
    fn the_release_that_is_gone_the_longest_is_forgotten() {
        let mut past = Past::default();
        for (minute, release) in ["a", "b", "c", "d", "a", "e"].into_iter().enumerate() {
            past.add(&RevisionId::from(release), at(minute as i64), &requests(0.0, 1.0));
        }
        let known = ["a", "b", "c", "d", "e"].map(|release| past.pooled(&RevisionId::from(release)).all);
        assert_eq!(known, [2.0, 0.0, 1.0, 1.0, 1.0]);
    }
}
