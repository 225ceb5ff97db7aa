//! A signal's value over a window, from all targets that serve the release in question.
//!
//! What a target said while it was in service counts for as long as its window reaches, as in Prometheus; the newest
//! look over all of them decides whether the whole is fresh. Gauges and summaries have no window: only fresh ones count.

use super::candidate;
use super::looks::Outcome;
use super::offered::Offered;
use super::quantile::{self, Bucket};
use super::ring::{Ring, Start};
use super::rules::Rules;
use super::series::Level;
use super::target::Scraped;
use super::verdict::UnknownReason;
use crate::domain::id::RevisionId;
use crate::domain::policy::{Aggregate, Formula, OperandId, Operands, Signal};
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::Finite;

/// What is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    /// The release; whatever runs where none is named.
    pub(super) revision: Option<&'a RevisionId>,
    pub(super) now: Timestamp,
    /// A newest look older than this is stale.
    pub(super) fresh: Span,
    /// Nothing seen before this counts.
    pub(super) since: Option<Timestamp>,
}

impl Scope<'_> {
    /// Whether a look at `at` is recent enough to speak of now.
    pub(super) fn is_fresh(&self, at: Timestamp) -> bool {
        self.now.since(at) <= self.fresh && self.since.is_none_or(|since| at > since)
    }

    /// The stretch of `window`, cut where nothing older counts.
    pub(super) fn window(&self, window: Span) -> Start {
        let edge = self.now - window;
        match self.since {
            Some(since) if since >= edge => Start::Within(since),
            Some(_) | None => Start::After(edge),
        }
    }
}

/// The targets that serve the release in question.
#[derive(Clone, Debug)]
pub(super) struct Sight<'a> {
    pub(super) targets: Vec<&'a Scraped>,
    /// Whether there are targets at all.
    pub(super) any: bool,
    /// Operand by operand, whether some target has a series of it.
    pub(super) seen: Vec<bool>,
    pub(super) scope: Scope<'a>,
    pub(super) operands: &'a Operands,
    /// Processes that began with or after this rollout are left out for so long.
    pub(super) settling: Option<Settling<'a>>,
    /// Families of the newest page that told them.
    pub(super) families: &'a [String],
    /// What the pages of each release offered.
    pub(super) offered: &'a Offered,
}

/// What is left out of young processes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settling<'a> {
    pub(super) rollout: Timestamp,
    pub(super) span: Span,
    pub(super) rules: &'a Rules,
}

/// Why a reading has no value.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Lack {
    pub(super) reason: UnknownReason,
    /// Whether this side's own sight is at fault, in which case no policy makes it count.
    pub(super) is_own: bool,
}

impl Lack {
    pub(super) fn of(reason: UnknownReason) -> Self {
        Self { reason, is_own: false }
    }
}

/// The numbers that a value was made of, to tell how sure it is.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Basis {
    /// The value is what it is.
    Plain,
    /// Counts.
    Counts { bad: f64, total: f64 },
    /// Tidy buckets in the exporter's unit, the quantile asked for, and the factor to the base unit.
    Buckets { buckets: Vec<Bucket>, quantile: f64, scale: f64 },
}

/// A signal, read.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Reading {
    pub(super) value: Result<Finite, Lack>,
    /// Requests, or readings where no requests are counted.
    pub(super) samples: u64,
    pub(super) newest: Option<Timestamp>,
    pub(super) convention: Option<&'static str>,
    pub(super) basis: Basis,
    /// Whether a part of the bad could not be counted, so that a value on the good side is no proof.
    pub(super) is_understated: bool,
    /// Nobody was there to answer: nothing was counted.
    pub(super) is_unanswered: bool,
}

impl Reading {
    pub(super) fn lack(lack: Lack) -> Self {
        let (value, basis) = (Err(lack), Basis::Plain);
        Self { value, samples: 0, newest: None, convention: None, basis, is_understated: false, is_unanswered: false }
    }

    pub(super) fn unknown(reason: UnknownReason) -> Self {
        Self::lack(Lack::of(reason))
    }

    pub(super) fn of(value: f64, samples: u64, newest: Option<Timestamp>, basis: Basis) -> Self {
        let value = Finite::new(value).ok_or_else(|| Lack::of(UnknownReason::NotFinite));
        Self { value, samples, newest, convention: None, basis, is_understated: false, is_unanswered: false }
    }
}

impl<'a> Sight<'a> {
    /// Reads a signal that is computed from series over `from`; fewer than `need` requests are too few.
    pub(super) fn read(&self, signal: &Signal, from: Start, need: u64) -> Reading {
        if self.targets.is_empty() {
            let reason = if self.any { UnknownReason::NoTarget } else { UnknownReason::NoReading };
            return Reading::unknown(reason);
        }
        let Some(candidate) = candidate::in_use(&signal.candidates, |operand| self.is_seen(operand)) else {
            if !self.targets.iter().any(|target| target.page.is_some_and(|page| self.counts(page))) {
                return Reading::lack(self.blind().unwrap_or(Lack::of(UnknownReason::NoReading)));
            }
            return Reading::unknown(self.without_series(signal, need));
        };
        let scale = candidate.scale;
        let read = match candidate.formula {
            Formula::Ratio { bad, total } => self.ratio(bad, total, scale, from, need),
            Formula::Histogram { buckets, quantile } => self.histogram(buckets, quantile, scale, from, need),
            Formula::Summary { quantiles, quantile } => self.summary(quantiles, quantile, scale, need),
            Formula::Gauge { gauge, aggregate } => self.gauge(gauge, aggregate, scale),
            Formula::Rate { counter } => self.rate(counter, scale, from),
            Formula::Query | Formula::Builtin(_) => Err(Lack::of(UnknownReason::NotOffered)),
        };
        let mut reading = read.unwrap_or_else(|lack| Reading::lack(self.put_down_to_settling(lack)));
        reading.convention = candidate.convention;
        reading
    }

    /// Pages are read, and have no series of the signal.
    fn without_series(&self, signal: &Signal, need: u64) -> UnknownReason {
        let release = self.scope.revision;
        let gone = release.and_then(|release| self.offered.gone(release, &signal.candidates, self.operands));
        if let (Some(release), Some(gone)) = (release, &gone)
            && signal.candidates.iter().any(|candidate| candidate::counts(candidate.formula))
            && self.offered.may_come(release, gone, self.scope.now)
        {
            return UnknownReason::TooFewRequests { have: 0, need: need.max(1) };
        }
        let nearest = candidate::nearest(&signal.candidates, self.operands, self.families);
        UnknownReason::NoSuchSeries { nearest, gone: gone.map(Box::new) }
    }

    /// Few requests where some were left out are no lack of traffic.
    fn put_down_to_settling(&self, lack: Lack) -> Lack {
        match lack.reason {
            UnknownReason::TooFewRequests { .. } if self.is_settling() => Lack::of(UnknownReason::WarmingUp),
            _ => lack,
        }
    }

    fn counts(&self, at: Timestamp) -> bool {
        self.scope.since.is_none_or(|since| at > since)
    }

    pub(super) fn is_seen(&self, operand: OperandId) -> bool {
        self.seen.get(usize::from(operand.0)).is_some_and(|seen| *seen)
    }

    /// The newest fault, where every target's newest look failed.
    fn blind(&self) -> Option<Lack> {
        let mut newest: Option<(Timestamp, &str, bool)> = None;
        for target in &self.targets {
            let look = target.looks.last()?;
            let (fault, is_own) = match &look.outcome {
                Outcome::Good => return None,
                Outcome::Bad(fault) => (fault, false),
                Outcome::Unseen(fault) => (fault, true),
            };
            if newest.is_none_or(|(at, _, _)| look.at >= at) {
                newest = Some((look.at, fault, is_own));
            }
        }
        newest.map(|(_, fault, is_own)| Lack { reason: UnknownReason::Blind { fault: fault.to_owned() }, is_own })
    }

    fn rings(&self, operand: OperandId) -> impl Iterator<Item = &Ring> {
        self.targets.iter().filter_map(move |target| target.ring(operand))
    }

    /// The newest look at an operand's increases, where it is fresh. That nobody counts in numbers is only told while it is
    /// what was seen last.
    fn newest(&self, operand: OperandId) -> Result<Timestamp, Lack> {
        let sound = self.rings(operand).filter(|ring| !ring.is_odd_in_part()).filter_map(|ring| ring.valid).max();
        let odd = self.rings(operand).filter(|ring| ring.is_odd_in_part()).filter_map(|ring| ring.odd).max();
        match (sound, odd) {
            (None, Some(odd)) => self.fresh(Some(odd), operand).and(Err(Lack::of(UnknownReason::NotFinite))),
            (sound, _) => self.fresh(sound, operand),
        }
    }

    fn fresh(&self, newest: Option<Timestamp>, operand: OperandId) -> Result<Timestamp, Lack> {
        match newest {
            Some(newest) if self.scope.is_fresh(newest) => Ok(newest),
            Some(newest) if self.counts(newest) => {
                Err(self.blind().unwrap_or_else(|| Lack::of(self.stale(newest, operand))))
            }
            Some(_) | None => Err(self.blind().unwrap_or(Lack::of(UnknownReason::NoReading))),
        }
    }

    /// Nothing new of an operand: its series have vanished from pages that are read, or nothing is read.
    fn stale(&self, newest: Timestamp, operand: OperandId) -> UnknownReason {
        let is_fresh = |at: Timestamp| self.scope.is_fresh(at);
        let gone = self
            .scope
            .revision
            .and_then(|revision| self.offered.vanished(revision, operand, self.operands, is_fresh).map(Box::new));
        match gone {
            Some(gone) => UnknownReason::NoSuchSeries { nearest: Vec::new(), gone: Some(gone) },
            None => UnknownReason::Stale { newest },
        }
    }

    fn ratio(&self, bad: OperandId, total: OperandId, scale: f64, from: Start, need: u64) -> Result<Reading, Lack> {
        let newest = self.newest(total)?;
        let basis = self.counts_of(bad, total, from);
        let Basis::Counts { bad: part, total: all } = basis else { return Err(Lack::of(UnknownReason::NotFinite)) };
        let samples = enough(all, need)?;
        let mut reading = Reading::of(part / all * scale, samples, Some(newest), basis);
        reading.is_understated = self.rings(bad).any(Ring::is_odd_in_part);
        Ok(reading)
    }

    /// From where on a target's increases count.
    fn from(&self, target: &Scraped, from: Start) -> Start {
        let born = self
            .settling
            .and_then(|settling| Some(target.born(Some(settling.rollout), settling.rules)? + settling.span));
        match (born, from) {
            (Some(settled), Start::After(edge)) if settled > edge => Start::Within(settled),
            (Some(settled), Start::Within(edge)) => Start::Within(edge.max(settled)),
            (Some(_) | None, from) => from,
        }
    }

    /// Whether some target is left out whole, because it has not settled yet.
    fn is_settling(&self) -> bool {
        self.settling.is_some_and(|settling| {
            let Settling { rollout, span, rules } = settling;
            self.targets.iter().any(|target| target.is_young(Some(rollout), rules, span, self.scope.now))
        })
    }

    /// Errors and requests of the targets whose requests can be counted: where a part of them is no number the rest would
    /// make the share of errors too high.
    fn counts_of(&self, bad: OperandId, total: OperandId, from: Start) -> Basis {
        let mut counts = (0.0, 0.0);
        for target in &self.targets {
            let Some(ring) = target.ring(total).filter(|ring| !ring.is_odd_in_part()) else { continue };
            let from = self.from(target, from);
            counts.0 += target.ring(bad).and_then(|ring| ring.increase(0, from)).unwrap_or(0.0);
            counts.1 += ring.increase(0, from).unwrap_or(0.0);
        }
        Basis::Counts { bad: counts.0, total: counts.1 }
    }

    /// The numbers behind `signal` over `from`, however few.
    pub(super) fn basis(&self, signal: &Signal, from: Start) -> Basis {
        match candidate::in_use(&signal.candidates, |operand| self.is_seen(operand)) {
            Some(candidate) => match candidate.formula {
                Formula::Ratio { bad, total } => self.counts_of(bad, total, from),
                Formula::Histogram { buckets, quantile } => {
                    let mut buckets = self.buckets(buckets, from);
                    if !quantile::tidy(&mut buckets) {
                        return Basis::Plain;
                    }
                    Basis::Buckets { buckets, quantile, scale: candidate.scale }
                }
                Formula::Summary { .. }
                | Formula::Gauge { .. }
                | Formula::Rate { .. }
                | Formula::Query
                | Formula::Builtin(_) => Basis::Plain,
            },
            None => Basis::Plain,
        }
    }

    fn histogram(&self, operand: OperandId, q: f64, scale: f64, from: Start, need: u64) -> Result<Reading, Lack> {
        let newest = self.newest(operand)?;
        let mut buckets = self.buckets(operand, from);
        if !quantile::tidy(&mut buckets) {
            return Err(Lack::of(UnknownReason::NoHistogram));
        }
        let samples = enough(buckets.last().map_or(0.0, |last| last.count), need)?;
        let value = quantile::quantile(q, &buckets) * scale;
        Ok(Reading::of(value, samples, Some(newest), Basis::Buckets { buckets, quantile: q, scale }))
    }

    /// Adds up the targets' buckets. Where their bounds differ only those that all have count, since the sum of a bucket
    /// that some lack would be too low; the result is coarser and still right. A target of which a bucket is no number
    /// stands aside whole.
    fn buckets(&self, operand: OperandId, from: Start) -> Vec<Bucket> {
        let of = |target: &&'a Scraped| Some((target.ring(operand)?, self.from(target, from)));
        let rings: Vec<_> = self.targets.iter().filter_map(of).filter(|(ring, _)| !ring.is_odd_in_part()).collect();
        let Some((first, _)) = rings.first() else { return Vec::new() };
        let others: Vec<_> = rings.iter().filter(|(ring, _)| ring.bounds() != first.bounds()).collect();
        let is_common = |bound: &f64| others.iter().all(|(ring, _)| ring.slot(*bound).is_some());
        let bounds = first.bounds().iter().copied().filter(is_common);
        let mut buckets: Vec<Bucket> = bounds.map(|bound| Bucket { bound, count: 0.0 }).collect();
        for (ring, from) in rings {
            let mut increases = ring.increases(from);
            for bucket in &mut buckets {
                let increase = increases.find(|(bound, _)| *bound == bucket.bound);
                bucket.count += increase.map_or(0.0, |(_, increase)| increase);
            }
        }
        buckets
    }

    fn summary(&self, operand: OperandId, quantile: f64, scale: f64, need: u64) -> Result<Reading, Lack> {
        let (level, newest) = self.level(operand, quantile)?;
        let Some(level) = level else {
            return Err(Lack::of(UnknownReason::NoSuchSeries { nearest: Vec::new(), gone: None }));
        };
        if level.infinite > 0 {
            return Err(Lack::of(UnknownReason::NotFinite));
        }
        if level.count == 0 {
            // A summary that saw nothing for its maximal age says NaN, as the client libraries do.
            return Err(Lack::of(UnknownReason::TooFewRequests { have: 0, need: need.max(1) }));
        }
        Ok(Reading::of(level.max * scale, u64::from(level.count), Some(newest), Basis::Plain))
    }

    fn gauge(&self, operand: OperandId, aggregate: Aggregate, scale: f64) -> Result<Reading, Lack> {
        let (level, newest) = self.level(operand, 0.0)?;
        let Some(level) = level.filter(|level| level.count > 0) else { return Err(Lack::of(UnknownReason::NotFinite)) };
        let is_spoilt = level.nan + level.infinite > 0;
        let value = match aggregate {
            Aggregate::Sum | Aggregate::Avg if is_spoilt => return Err(Lack::of(UnknownReason::NotFinite)),
            // As PromQL's min and max: NaN stands aside, an infinity does not.
            Aggregate::Min | Aggregate::Max if level.infinite > 0 => return Err(Lack::of(UnknownReason::NotFinite)),
            Aggregate::Sum => level.sum,
            Aggregate::Avg => level.sum / f64::from(level.count),
            Aggregate::Min => level.min,
            Aggregate::Max => level.max,
        };
        Ok(Reading::of(value * scale, u64::from(level.count), Some(newest), Basis::Plain))
    }

    /// The fresh values with this bound over all targets.
    fn level(&self, operand: OperandId, bound: f64) -> Result<(Option<Level>, Timestamp), Lack> {
        let is_settled = |target: &&&Scraped| {
            self.settling.is_none_or(|s| !target.is_young(Some(s.rollout), s.rules, s.span, self.scope.now))
        };
        let any_settled = self.targets.iter().any(|target| is_settled(&target));
        if !any_settled {
            return Err(Lack::of(UnknownReason::WarmingUp));
        }
        let latest = || self.targets.iter().filter(is_settled).filter_map(|target| target.latest(operand));
        let newest = self.fresh(latest().filter_map(|latest| latest.at).max(), operand)?;
        let mut merged: Option<Level> = None;
        for latest in latest().filter(|latest| latest.at.is_some_and(|at| self.scope.is_fresh(at))) {
            for level in latest.levels.iter().filter(|level| (level.bound - bound).abs() < 1e-9) {
                match &mut merged {
                    Some(merged) => merged.merge(level),
                    None => merged = Some(*level),
                }
            }
        }
        Ok((merged, newest))
    }

    fn rate(&self, operand: OperandId, scale: f64, from: Start) -> Result<Reading, Lack> {
        let newest = self.newest(operand)?;
        let (mut rate, mut total, mut covered) = (0.0, 0.0, false);
        for ring in self.rings(operand).filter(|ring| !ring.is_odd_in_part()) {
            let (Some(increase), Some(cover)) = (ring.increase(0, from), ring.cover(from)) else { continue };
            rate += increase / cover.observed.as_secs_f64();
            total += increase;
            covered = true;
        }
        if !covered {
            return Err(Lack::of(UnknownReason::NoReading));
        }
        Ok(Reading::of(rate * scale, whole(total), Some(newest), Basis::Plain))
    }
}

/// The requests as a whole number, or that there are fewer than `need`, or none.
fn enough(requests: f64, need: u64) -> Result<u64, Lack> {
    let (have, need) = (whole(requests), need.max(1));
    if have < need { Err(Lack::of(UnknownReason::TooFewRequests { have, need })) } else { Ok(have) }
}

fn whole(count: f64) -> u64 {
    // Saturates; a count is never negative here.
    count.round() as u64
}
