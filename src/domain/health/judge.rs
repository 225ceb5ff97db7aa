//! From a reading to a judgement against a bound.
//!
//! A share of requests (errors, or requests slower than a latency bound) is bad only when its value is beyond the bound
//! *and* the requests are enough to prove it. Everything else is bad as soon as its value is beyond.

use super::interval::Share;
use super::quantile;
use super::reading::{Basis, Lack, Reading};
use super::verdict::{Proof, UnknownReason};
use crate::domain::policy::{Condition, NoData, Signal};
use crate::domain::units::Finite;

/// A reading against a bound.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Judgement {
    /// On the good side.
    Good,
    /// On the bad side, and proven.
    Bad,
    /// On the bad side, but the window's requests are too few to prove it.
    Unproven,
    /// On the bad side by its value, but that is no proof: the histogram's bucket is too coarse to tell, or one target has a
    /// burst of its own.
    Straddled(UnknownReason),
    /// Nothing was seen, and the policy says that this counts as good.
    AssumedGood,
    /// Nothing was seen, and the policy says that this counts as bad.
    AssumedBad,
    /// Nothing can be said.
    Unknown(Lack),
}

/// A count that decides on which side of a bound a signal is: beyond where more than `bound` of `all` are `part`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Tally {
    pub(super) part: f64,
    pub(super) all: f64,
    pub(super) bound: f64,
    is_above: bool,
}

impl Tally {
    /// What `basis` counts towards `condition`; none where it counts nothing, or where no bound is fixed.
    pub(super) fn of(basis: &Basis, condition: Condition) -> Option<Self> {
        let (bound, is_above) = match condition {
            Condition::Above(bound) => (bound.get(), true),
            Condition::Below(bound) => (bound.get(), false),
            Condition::WorseThanBaseline(_) => return None,
        };
        match basis {
            Basis::Plain => None,
            Basis::Counts { bad, total } => Some(Self { part: *bad, all: *total, bound, is_above }),
            Basis::Buckets { buckets, quantile, scale } => {
                let part = quantile::above(bound / scale, buckets);
                let all = buckets.last()?.count;
                Some(Self { part, all, bound: 1.0 - quantile, is_above })
            }
        }
    }

    /// The same, of a histogram whose bound lies within a bucket: only requests above the whole bucket are certain. None
    /// where the bound is one of the histogram's own, or nothing is counted.
    pub(super) fn certain(basis: &Basis, condition: Condition) -> Option<(Self, UnknownReason)> {
        let (Basis::Buckets { buckets, quantile, scale }, Condition::Above(bound)) = (basis, condition) else {
            return None;
        };
        let inside = bound.get() / scale;
        let index = buckets.partition_point(|bucket| bucket.bound < inside);
        let bucket = buckets.get(index).filter(|bucket| !is_same_bound(bucket.bound, inside))?;
        let below = index.checked_sub(1).and_then(|below| buckets.get(below));
        if below.is_some_and(|below| is_same_bound(below.bound, inside)) {
            return None;
        }
        let all = buckets.last()?.count;
        let reason = UnknownReason::CoarseBucket {
            from: Finite::new(below.map_or(0.0, |below| below.bound * scale))?,
            to: Finite::new(bucket.bound * scale),
        };
        Some((Self { part: all - bucket.count, all, bound: 1.0 - quantile, is_above: true }, reason))
    }

    /// The same with at most so many that are bad.
    pub(super) fn at_most(self, part: f64) -> Self {
        Self { part: self.part.min(part), ..self }
    }

    /// The same question over more requests.
    pub(super) fn plus(self, part: f64, all: f64) -> Self {
        Self { part: self.part + part, all: self.all + all, ..self }
    }

    /// The same, to be kept.
    pub(super) fn proof(self, confidence: f64) -> Option<Proof> {
        let (part, all) = (Finite::new(self.part)?, Finite::new(self.all)?);
        let (bound, confidence) = (Finite::new(self.bound)?, Finite::new(confidence)?);
        Some(Proof { part, all, bound, above: self.is_above, confidence })
    }

    /// What was kept.
    pub(super) fn kept(proof: &Proof) -> Self {
        Self { part: proof.part.get(), all: proof.all.get(), bound: proof.bound.get(), is_above: proof.above }
    }

    pub(super) fn is_proven(self, confidence: f64) -> bool {
        let Some(share) = Share::new(self.part, self.all) else { return false };
        if self.is_above {
            share.is_proven_above(self.bound, confidence)
        } else {
            share.is_proven_below(self.bound, confidence)
        }
    }
}

/// Judges `reading`. In the `grace` after a start or a rollout the absence of data is not yet held against anyone.
pub(super) fn judge(reading: &Reading, signal: &Signal, condition: Condition, grace: bool) -> Judgement {
    let value = match &reading.value {
        Ok(value) => *value,
        Err(lack) => return without_data(lack, signal.no_data, grace),
    };
    if let Some(highest) = off_the_scale(&reading.basis, condition) {
        return Judgement::Unknown(Lack::of(UnknownReason::OffTheScale { highest }));
    }
    let tally = Tally::of(&reading.basis, condition);
    // A quantile in +Inf reads as the highest finite bound, though it lies above it: the counts know.
    let is_beyond =
        condition.is_breached_by(value) || tally.is_some_and(|tally| is_saturated_beyond(&reading.basis, tally));
    // What could not be counted only lifts the share: it may lie above a bound that is not crossed, and not below one that is.
    let may_be_otherwise = reading.is_understated
        && match condition {
            Condition::Above(_) | Condition::WorseThanBaseline(_) => !is_beyond,
            Condition::Below(_) => is_beyond,
        };
    match (is_beyond, tally) {
        _ if may_be_otherwise => Judgement::Unknown(Lack::of(UnknownReason::NotFinite)),
        (false, _) => Judgement::Good,
        (true, Some(tally)) if !tally.is_proven(signal.confidence) => Judgement::Unproven,
        (true, Some(_) | None) => Judgement::Bad,
    }
}

/// Equal but for the rounding of a unit's factor.
fn is_same_bound(a: f64, b: f64) -> bool {
    (a - b).abs() <= b.abs() * 1e-9
}

fn without_data(lack: &Lack, policy: NoData, grace: bool) -> Judgement {
    let is_missing = match &lack.reason {
        UnknownReason::NoReading
        | UnknownReason::NoSuchSeries { .. }
        | UnknownReason::Stale { .. }
        | UnknownReason::NothingCounted => true,
        UnknownReason::TooFewRequests { have, .. } => *have == 0,
        // A peer that refuses is silent of itself; lost sight of this side's own is never anyone's fault.
        UnknownReason::Blind { .. } => !lack.is_own,
        UnknownReason::NoTarget
        | UnknownReason::Partial { .. }
        | UnknownReason::NotProven
        | UnknownReason::WarmingUp
        | UnknownReason::NoBaseline
        | UnknownReason::CoarseBucket { .. }
        | UnknownReason::OwnBurst { .. }
        | UnknownReason::OffTheScale { .. }
        | UnknownReason::NoHistogram
        | UnknownReason::NotFinite
        | UnknownReason::NotOffered => false,
    };
    match policy {
        NoData::Ok if is_missing => Judgement::AssumedGood,
        NoData::Breach if is_missing && !grace => Judgement::AssumedBad,
        NoData::Hold | NoData::Ok | NoData::Breach => Judgement::Unknown(lack.clone()),
    }
}

/// The highest finite bound in the base unit, where the quantile lies above it and the threshold higher still, so that
/// nobody can tell the side.
fn off_the_scale(basis: &Basis, condition: Condition) -> Option<Finite> {
    let Basis::Buckets { buckets, quantile, scale } = basis else { return None };
    let [.., highest, last] = buckets.as_slice() else { return None };
    let is_higher = condition.threshold().is_some_and(|bound| bound / scale > highest.bound);
    Finite::new(highest.bound * scale).filter(|_| highest.count < quantile * last.count && is_higher)
}

fn is_saturated_beyond(basis: &Basis, tally: Tally) -> bool {
    let Basis::Buckets { buckets, quantile, .. } = basis else { return false };
    let [.., highest, last] = buckets.as_slice() else { return false };
    tally.is_above && highest.count < quantile * last.count && tally.part > tally.bound * tally.all
}
