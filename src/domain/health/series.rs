//! From the values of a page to increases: the last value of each series, resets, restarts, and series that come and go.
//!
//! A page mostly has the same series in the same order as the page before, so the last values lie in page order and a
//! sample finds its own by position. Only where the page differs are they looked up by name.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::domain::observation::{Sample, SeriesId};
use crate::domain::policy::{OperandId, OperandKind};
use crate::domain::time::Timestamp;

/// Series that left the page and whose last value is still kept, so that they don't count from zero when they return.
const MAX_ABSENT: usize = 4096;

/// What an operand is read for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Role {
    /// How its samples carry a bound.
    pub(super) kind: OperandKind,
    /// Whether a formula reads its increase.
    pub(super) counter: bool,
    /// Whether a formula reads its latest value.
    pub(super) level: bool,
}

/// How the values of a page relate to those of the page before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// Nothing is known of what went before: the values are only remembered.
    Baseline,
    /// The process began after the page before: its values are increases from zero.
    Zero,
    /// The same process: differences count. Lower than before means a reset, and then the whole value counts, as in
    /// Prometheus' `increase` (promql/functions.go, extrapolatedRate). A series that is new on a page of a process that
    /// was seen before began at zero.
    Previous,
}

/// Latest values of a gauge, or of one quantile of a summary, combined over a target's series.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Level {
    /// `quantile` of a summary; 0 for a gauge.
    pub(super) bound: f64,
    pub(super) sum: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    /// Series with a finite value.
    pub(super) count: u32,
    /// Series that are NaN.
    pub(super) nan: u32,
    /// Series that are infinite.
    pub(super) infinite: u32,
}

impl Level {
    fn new(bound: f64) -> Self {
        Self { bound, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, count: 0, nan: 0, infinite: 0 }
    }

    /// Takes in what another target says of the same.
    pub(super) fn merge(&mut self, other: &Level) {
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.count += other.count;
        self.nan += other.nan;
        self.infinite += other.infinite;
    }

    fn add(&mut self, value: f64) {
        if value.is_nan() {
            self.nan += 1;
        } else if value.is_infinite() {
            self.infinite += 1;
        } else {
            self.sum += value;
            self.min = self.min.min(value);
            self.max = self.max.max(value);
            self.count += 1;
        }
    }
}

/// What one page adds to one operand.
#[derive(Clone, Debug, Default)]
pub(super) struct Delta {
    /// Samples of the operand on the page.
    pub(super) samples: u32,
    /// Upper bounds of the slots, ascending; none for a plain counter, which has one slot.
    pub(super) bounds: Option<Arc<[f64]>>,
    /// Increase a slot.
    pub(super) increases: Vec<f64>,
    /// Samples with a value that a counter may have.
    pub(super) valid: u32,
    /// Samples with a value that no counter may have.
    pub(super) odd: u32,
    /// The newest of the exporter's own time stamps.
    pub(super) stamp: Option<Timestamp>,
    /// Latest values, for gauges and summaries.
    pub(super) levels: Vec<Level>,
}

impl Delta {
    fn clear(&mut self) {
        self.samples = 0;
        self.bounds = None;
        self.increases.clear();
        self.valid = 0;
        self.odd = 0;
        self.stamp = None;
        self.levels.clear();
    }
}

/// The last value of one series; NaN where none is known to measure from.
#[derive(Clone, Copy, Debug)]
struct Known {
    series: SeriesId,
    operand: OperandId,
    slot: u16,
    value: f64,
}

/// The last values of a target's series.
#[derive(Clone, Debug, Default)]
pub(super) struct SeriesTable {
    /// Those of the newest page in page order, then those that left it.
    known: Vec<Known>,
    present: usize,
    /// Whether a series that left was dropped, so that a new one may in truth be an old one.
    forgot: bool,
    /// Bucket bounds of the histograms on the newest page, ascending: those of earlier ones say nothing of it.
    bounds: Vec<(OperandId, Arc<[f64]>)>,
}

impl SeriesTable {
    /// Takes in a page and fills `deltas`, which has one entry an operand.
    pub(super) fn take_in(&mut self, samples: &[Sample], origin: Origin, roles: &[Role], deltas: &mut [Delta]) {
        deltas.iter_mut().for_each(Delta::clear);
        if origin == Origin::Previous && self.is_same_page(samples) {
            for (position, sample) in samples.iter().enumerate() {
                self.count(position, sample, origin, roles, deltas);
            }
        } else {
            let kept = self.rearrange(samples, origin, roles);
            for (position, sample) in kept.into_iter().enumerate() {
                self.count(position, &sample, origin, roles, deltas);
            }
        }
    }

    fn is_same_page(&self, samples: &[Sample]) -> bool {
        samples.len() == self.present
            && samples.iter().zip(&self.known).all(|(new, old)| new.series == old.series && new.operand == old.operand)
    }

    /// Puts the last values in the order of a page that differs from the one before, and returns the samples that
    /// count: of a duplicate the first, as Prometheus does, and none without a usable bound.
    fn rearrange(&mut self, samples: &[Sample], origin: Origin, roles: &[Role]) -> Vec<Sample> {
        let known_operand = |sample: &&Sample| {
            roles.get(usize::from(sample.operand.0)).is_some_and(|role| match role.kind {
                OperandKind::Value => true,
                OperandKind::Buckets | OperandKind::Quantiles => !sample.bound.is_nan(),
            })
        };
        self.learn_bounds(samples.iter().filter(known_operand), roles);
        let start = if origin == Origin::Previous && self.forgot { f64::NAN } else { 0.0 };
        let mut old: HashMap<(OperandId, SeriesId), f64> =
            self.known.iter().map(|known| ((known.operand, known.series), known.value)).collect();
        let mut seen = HashSet::with_capacity(samples.len());
        let mut known = Vec::with_capacity(samples.len());
        let mut kept = Vec::with_capacity(samples.len());
        for sample in samples.iter().filter(known_operand) {
            let key = (sample.operand, sample.series);
            if !seen.insert(key) {
                continue;
            }
            // A series that begins with a value that no counter has gives nothing to measure its next one from.
            let value = old.remove(&key).unwrap_or(if is_count(sample.value) { start } else { f64::NAN });
            let slot = self.slot(sample);
            known.push(Known { series: sample.series, operand: sample.operand, slot, value });
            kept.push(*sample);
        }
        self.present = known.len();
        if origin == Origin::Previous {
            let absent = self.known.iter().filter(|known| old.contains_key(&(known.operand, known.series)));
            let room = MAX_ABSENT.min(old.len());
            self.forgot |= room < old.len();
            known.extend(absent.take(room).copied());
        } else {
            self.forgot = false;
        }
        self.known = known;
        kept
    }

    fn learn_bounds<'a>(&mut self, samples: impl Iterator<Item = &'a Sample>, roles: &[Role]) {
        let mut found: Vec<(OperandId, Vec<f64>)> = Vec::new();
        for sample in samples.filter(|sample| roles[usize::from(sample.operand.0)].kind == OperandKind::Buckets) {
            match found.iter_mut().find(|(operand, _)| *operand == sample.operand) {
                Some((_, bounds)) => bounds.push(sample.bound),
                None => found.push((sample.operand, vec![sample.bound])),
            }
        }
        let ascending = |(operand, mut bounds): (OperandId, Vec<f64>)| {
            bounds.sort_unstable_by(f64::total_cmp);
            bounds.dedup_by(|a, b| a.total_cmp(b).is_eq());
            (operand, Arc::from(bounds))
        };
        self.bounds = found.into_iter().map(ascending).collect();
    }

    fn bounds_of(&self, operand: OperandId) -> Option<&Arc<[f64]>> {
        self.bounds.iter().find(|(known, _)| *known == operand).map(|(_, bounds)| bounds)
    }

    fn slot(&self, sample: &Sample) -> u16 {
        let place = self
            .bounds_of(sample.operand)
            .and_then(|bounds| bounds.binary_search_by(|bound| bound.total_cmp(&sample.bound)).ok());
        place.and_then(|place| u16::try_from(place).ok()).unwrap_or(0)
    }

    fn count(&mut self, position: usize, sample: &Sample, origin: Origin, roles: &[Role], deltas: &mut [Delta]) {
        let operand = usize::from(sample.operand.0);
        let (Some(role), Some(delta)) = (roles.get(operand), deltas.get_mut(operand)) else { return };
        delta.samples += 1;
        delta.stamp = delta.stamp.max(sample.timestamp);
        if role.level {
            let bound = if role.kind == OperandKind::Quantiles { sample.bound } else { 0.0 };
            match delta.levels.iter_mut().find(|level| level.bound.total_cmp(&bound).is_eq()) {
                Some(level) => level.add(sample.value),
                None => {
                    let mut level = Level::new(bound);
                    level.add(sample.value);
                    delta.levels.push(level);
                }
            }
        }
        if !role.counter {
            return;
        }
        if delta.increases.is_empty() {
            delta.bounds = self.bounds.iter().find(|(known, _)| *known == sample.operand).map(|(_, b)| Arc::clone(b));
            delta.increases.resize(delta.bounds.as_ref().map_or(1, |bounds| bounds.len()), 0.0);
        }
        let known = &mut self.known[position];
        if !is_count(sample.value) {
            delta.odd += 1;
            if origin != Origin::Previous {
                known.value = f64::NAN;
            }
            return;
        }
        delta.valid += 1;
        let increase = match origin {
            Origin::Baseline => 0.0,
            Origin::Zero => sample.value,
            Origin::Previous if known.value.is_nan() => 0.0,
            Origin::Previous if sample.value < known.value => sample.value,
            Origin::Previous => sample.value - known.value,
        };
        known.value = sample.value;
        delta.increases[usize::from(known.slot)] += increase;
    }
}

/// Whether a counter may have this value.
fn is_count(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}
