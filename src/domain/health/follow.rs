//! What each look added to a signal, release by release: every increase once, however often one judges.

use std::collections::BTreeMap;

use super::candidate;
use super::dispersion::Dispersion;
use super::past::{Past, Sum};
use super::quantile::{self, Bucket};
use super::ring::{Ring, Start};
use super::rules::Rules;
use super::target::Scraped;
use super::verdict::Subject;
use crate::domain::id::{RevisionId, TargetId};
use crate::domain::policy::{Candidate, Formula, OperandId, Signal};
use crate::domain::time::{Span, Timestamp};

/// What a process does in its first so long is put down to its start: caches are cold, connections are built up.
pub(super) const YOUNG: Span = Span::from_secs(90);

/// Requests of one release that say something by themselves.
const TELLING: f64 = 20.0;

/// Below so much of a bound a value is clearly on the good side.
const CLEARLY: f64 = 0.75;

/// What the targets of one release added since the last time.
#[derive(Clone, Debug)]
pub(super) struct Added {
    pub(super) release: RevisionId,
    /// By processes that began with or after the rollout, not long ago.
    pub(super) young: Sum,
    /// By all others.
    pub(super) grown: Sum,
}

/// A release's newest requests, by themselves: a window shows a burst for as long as the window is after its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Latest {
    release: Option<RevisionId>,
    /// Too few by themselves so far.
    open: Sum,
    newest: Sum,
}

impl Latest {
    /// Turns to a release; of another one than before nothing is known yet.
    fn turn(&mut self, release: Option<&RevisionId>) {
        if self.release.as_ref() != release {
            *self = Self { release: release.cloned(), ..Self::default() };
        }
    }

    fn take_in(&mut self, added: &Added) {
        self.open.add(&added.young);
        self.open.add(&added.grown);
        if self.open.all >= TELLING {
            self.newest = std::mem::take(&mut self.open);
        }
    }

    /// Whether the newest requests are clearly on the good side of a bound, in the base unit, from above.
    pub(super) fn is_below(&self, candidate: &Candidate, bound: f64) -> bool {
        self.newest.value(candidate).is_some_and(|value| value < bound * CLEARLY)
    }
}

/// One signal, followed.
#[derive(Clone, Debug, Default)]
pub(super) struct Followed {
    until: BTreeMap<TargetId, Timestamp>,
    pub(super) past: Past,
    /// How far the targets of each release that is remembered lie apart in their errors.
    dispersions: BTreeMap<RevisionId, Dispersion>,
    /// Of the release in question.
    pub(super) latest: Latest,
    /// How the signal was computed last.
    pub(super) candidate: Option<Candidate>,
}

/// Whether a signal's requests can be followed.
pub(super) fn is_counted(signal: &Signal) -> bool {
    signal.candidates.iter().any(|candidate| operands(candidate).is_some())
}

fn operands(candidate: &Candidate) -> Option<(OperandId, Option<OperandId>)> {
    match candidate.formula {
        Formula::Ratio { bad, total } => Some((total, Some(bad))),
        Formula::Histogram { buckets, .. } => Some((buckets, None)),
        Formula::Summary { .. }
        | Formula::Gauge { .. }
        | Formula::Rate { .. }
        | Formula::Builtin(_)
        | Formula::Query => None,
    }
}

impl Followed {
    /// Takes up what was added since the last time, and remembers it.
    pub(super) fn take_in(
        &mut self,
        signal: &Signal,
        scraped: &BTreeMap<TargetId, Scraped>,
        subject: Option<&Subject>,
        rules: &Rules,
        now: Timestamp,
    ) -> Vec<Added> {
        let rollout = subject.map(|subject| subject.since);
        self.until.retain(|id, _| scraped.contains_key(id));
        let mut all: Vec<Added> = Vec::new();
        for (id, target) in scraped {
            let Some(release) = target.era.release() else { continue };
            let seen = |operand: OperandId| target.ring(operand).is_some();
            let Some(candidate) = candidate::in_use(&signal.candidates, seen) else { continue };
            let from = self.until.get(id).copied();
            let Some((sum, newest)) = increase(target, candidate, from) else { continue };
            self.until.insert(id.clone(), newest);
            if self.candidate.as_ref() != Some(candidate) {
                self.candidate = Some(candidate.clone());
            }
            let added = match all.iter_mut().find(|added| added.release == *release) {
                Some(added) => added,
                None => {
                    all.push(Added { release: release.clone(), young: Sum::default(), grown: Sum::default() });
                    let last = all.len() - 1;
                    &mut all[last]
                }
            };
            if target.is_young(rollout, rules, YOUNG, now) {
                added.young.add(&sum);
                continue;
            }
            added.grown.add(&sum);
            if sum.buckets.is_empty() {
                self.dispersions.entry(release.clone()).or_default().add(id, now, &sum);
            }
        }
        self.latest.turn(subject.map(|subject| &subject.revision));
        let is_judged = |added: &&Added| subject.is_some_and(|subject| subject.revision == added.release);
        if let Some(added) = all.iter().find(is_judged) {
            self.latest.take_in(added);
        }
        for added in all.iter().filter(|added| added.grown.all > 0.0) {
            self.past.add(&added.release, now, &added.grown);
        }
        self.dispersions.retain(|release, _| self.past.minutes(release).next().is_some());
        all
    }

    /// The variance of the logarithm of one release's share of errors over another's that their targets make by themselves,
    /// in one of their minutes: of the release before is known what its kind is like.
    pub(super) fn apart(&self, new: &RevisionId, old: &RevisionId) -> f64 {
        let targets = |release: &RevisionId| self.dispersions.get(release).map_or(1.0, Dispersion::targets);
        let variance = self.dispersions.get(old).map_or_else(|| Dispersion::default().variance(), Dispersion::variance);
        variance * (1.0 / targets(new) + 1.0 / targets(old))
    }
}

/// What a target added after `from`, and until when.
fn increase(target: &Scraped, candidate: &Candidate, from: Option<Timestamp>) -> Option<(Sum, Timestamp)> {
    let (base, bad) = operands(candidate)?;
    let ring = target.ring(base).filter(|ring| !ring.is_odd_in_part())?;
    let newest = ring.newest();
    let start = Start::After(from.unwrap_or_else(|| ring.oldest()));
    let sum = match bad {
        Some(bad) => {
            let all = ring.increase(0, start)?;
            let bad = target.ring(bad).and_then(|ring| ring.increase(0, start)).unwrap_or(0.0);
            Sum { bad: bad.min(all), all, buckets: Vec::new() }
        }
        None => Sum::of_buckets(buckets(ring, start)?),
    };
    Some((sum, newest))
}

fn buckets(ring: &Ring, start: Start) -> Option<Vec<Bucket>> {
    let mut buckets: Vec<Bucket> = ring.increases(start).map(|(bound, count)| Bucket { bound, count }).collect();
    quantile::tidy(&mut buckets).then_some(buckets)
}
