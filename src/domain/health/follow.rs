//! What each look added to a signal, release by release: every increase once, however often one judges.

use std::collections::{BTreeMap, VecDeque};

use super::bursts::OwnBursts;
use super::candidate;
use super::compare;
use super::departure::Departure;
use super::dispersion::{Apart, Dispersion};
use super::judge::Tally;
use super::past::{Past, Sum};
use super::quantile::{self, Bucket};
use super::ring::{Ring, Start};
use super::rules::Rules;
use super::single::Single;
use super::target::Scraped;
use super::verdict::Subject;
use crate::domain::id::{RevisionId, TargetId};
use crate::domain::policy::{Candidate, Condition, Formula, OperandId, Signal};
use crate::domain::time::{Span, Timestamp};

/// What a process does in its first so long is put down to its start: caches are cold, connections are built up.
pub(super) const YOUNG: Span = Span::from_secs(90);

/// A fault that is over is taken to leave this part of what its bound allows.
const WELL: f64 = 0.6;

/// Logarithm of the likelihood ratio at which the newest requests have told one from the other: twenty to one. To be wrong
/// costs a look.
const TOLD: f64 = 3.0;

/// The share of bad ones that a fault is taken to leave at most: one good request is no end of it.
const HIGHEST: f64 = 0.95;

/// Looks that are kept for that, of at least an interval each.
const MAX_LATEST: usize = 12;

/// What the targets of one release added since the last time.
#[derive(Clone, Debug)]
pub(super) struct Added {
    pub(super) release: RevisionId,
    /// By processes that began with or after the rollout, not long ago.
    pub(super) young: Sum,
    /// By all others.
    pub(super) grown: Sum,
    /// Of a latency, the part of that outside of pauses as single targets of the release had before.
    pub(super) calm: Sum,
}

impl Added {
    fn none(release: RevisionId) -> Self {
        Self { release, young: Sum::default(), grown: Sum::default(), calm: Sum::default() }
    }
}

impl Added {
    fn whole(&self) -> Sum {
        let mut sum = self.young.clone();
        sum.add(&self.grown);
        sum
    }
}

/// A release's newest requests, look by look: a window shows a burst for as long as the window is after its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Latest {
    release: Option<RevisionId>,
    /// Oldest first, each with its begin.
    looks: VecDeque<(Timestamp, Sum)>,
}

impl Latest {
    /// Turns to a release; of another one than before nothing is known yet.
    fn turn(&mut self, release: Option<&RevisionId>) {
        if self.release.as_ref() != release {
            *self = Self { release: release.cloned(), ..Self::default() };
        }
    }

    fn take_in(&mut self, added: &Added, now: Timestamp, interval: Span) {
        let is_open = |(begin, _): &&mut (Timestamp, Sum)| now.since(*begin) < interval;
        if added.young.all + added.grown.all <= 0.0 {
            return;
        }
        if let Some((_, open)) = self.looks.back_mut().filter(is_open) {
            open.add(&added.young);
            open.add(&added.grown);
            return;
        }
        if self.looks.len() == MAX_LATEST {
            self.looks.pop_front();
        }
        self.looks.push_back((now, added.whole()));
    }

    /// Whether the newest requests say that a fault is over which the window, with this share of bad ones, still has. A
    /// sequential probability ratio test (Wald 1945) back in time, from the newest look on: of few requests one that failed
    /// says little either way, and those before are asked as well.
    pub(super) fn is_over(&self, candidate: &Candidate, condition: Condition, window: Tally) -> bool {
        let (well, ill) = (window.bound * WELL, (window.part / window.all).min(HIGHEST));
        if !(well > 0.0 && well < ill) {
            return false;
        }
        let mut told = 0.0;
        for (_, sum) in self.looks.iter().rev() {
            let Some(newest) = Tally::of(&sum.basis(candidate), condition) else { continue };
            let good = newest.all - newest.part;
            told += newest.part * (ill / well).ln() + good * ((1.0 - ill) / (1.0 - well)).ln();
            if told.abs() >= TOLD {
                return told < 0.0;
            }
        }
        false
    }
}

/// One signal, followed.
#[derive(Clone, Debug, Default)]
pub(super) struct Followed {
    until: BTreeMap<TargetId, Timestamp>,
    pub(super) past: Past,
    /// Of a latency, outside of pauses as single targets had before.
    pub(super) calm: Past,
    /// How far the targets of each release that is remembered lie apart in their errors.
    dispersions: BTreeMap<RevisionId, Dispersion>,
    /// Bursts that single targets of each of them had.
    bursts: BTreeMap<RevisionId, Single>,
    /// Of the release in question.
    pub(super) latest: Latest,
    /// The last looks at it beside the release before.
    pub(super) departure: Departure,
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
        (now, interval): (Timestamp, Span),
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
                    all.push(Added::none(release.clone()));
                    let last = all.len() - 1;
                    &mut all[last]
                }
            };
            let is_young = target.is_young(rollout, rules, YOUNG, now);
            // A cold start is no pause: of a latency nothing young is weighed.
            if sum.buckets.is_empty() || !is_young {
                let before = subject.filter(|subject| subject.revision == *release);
                let mut own = self.bursts.remove(release).unwrap_or_default();
                own.add(id, now, &sum, before.and_then(|subject| self.bursts.get(subject.baseline.as_ref()?)));
                if !sum.buckets.is_empty() && !own.is_in_usual_one(id) {
                    added.calm.add(&sum);
                }
                self.bursts.insert(release.clone(), own);
            }
            if is_young {
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
            self.latest.take_in(added, now, interval);
        }
        // What still comes to a release that is out of service is no past of one in service, and would take its place.
        let judged = all.iter().find(is_judged).map_or(0.0, |added| added.young.all + added.grown.all);
        let is_out = |added: &&Added| {
            let is_baseline = subject.is_some_and(|subject| subject.baseline.as_ref() == Some(&added.release));
            is_baseline && compare::is_trickle(added.young.all + added.grown.all, judged, signal.min_requests)
        };
        if let Some((subject, baseline)) = subject.and_then(|subject| Some((subject, subject.baseline.as_ref()?))) {
            let of = |added: Option<&Added>| added.map(Added::whole).unwrap_or_default();
            let is_old = |added: &&Added| added.release == *baseline && !is_out(added);
            let both = [of(all.iter().find(is_judged)), of(all.iter().find(is_old))];
            self.departure.take_in([&subject.revision, baseline], both, now, interval);
        }
        for added in all.iter().filter(|added| added.grown.all > 0.0 && !is_out(added)) {
            self.past.add(&added.release, now, &added.grown);
            if added.calm.all > 0.0 {
                self.calm.add(&added.release, now, &added.calm);
            }
        }
        self.dispersions.retain(|release, _| self.past.minutes(release).next().is_some());
        let is_judged = |release: &RevisionId| subject.is_some_and(|subject| subject.revision == *release);
        self.bursts.retain(|release, _| is_judged(release) || self.past.minutes(release).next().is_some());
        for (release, bursts) in &mut self.bursts {
            bursts.retain(|id| scraped.get(id).is_some_and(|target| target.era.release() == Some(release)));
        }
        all
    }

    /// How far the targets of each release lie apart that is remembered.
    pub(super) fn dispersions(&self) -> impl Iterator<Item = (&RevisionId, &Dispersion)> {
        self.dispersions.iter()
    }

    /// Takes up what was learned of a release of which there is a past.
    pub(super) fn recall(&mut self, release: RevisionId, dispersion: Dispersion) {
        if self.past.minutes(&release).next().is_some() {
            self.dispersions.entry(release).or_insert(dispersion);
        }
    }

    /// The bursts of single targets of each release that is remembered.
    pub(super) fn bursts(&self) -> impl Iterator<Item = (&RevisionId, &Single)> {
        self.bursts.iter()
    }

    /// Takes up what was known of a release of which there is a past.
    pub(super) fn recall_bursts(&mut self, release: RevisionId, bursts: Single) {
        if self.past.minutes(&release).next().is_some() {
            self.bursts.entry(release).or_insert(bursts);
        }
    }

    /// What single targets of one release do, beside what those of another one are known to have done by themselves.
    pub(super) fn own_bursts(
        &self,
        new: &RevisionId,
        old: &RevisionId,
        (now, interval): (Timestamp, Span),
    ) -> Option<OwnBursts> {
        let scale = self.candidate.as_ref()?.scale;
        self.bursts.get(new)?.beside(self.bursts.get(old)?, now, interval, scale)
    }

    /// Whether single targets of one release are slow for longer than the pauses explain that those of another one are known to
    /// have had.
    pub(super) fn outlasts_pauses(&self, new: &RevisionId, old: &RevisionId, now: Timestamp, interval: Span) -> bool {
        let both = self.bursts.get(new).zip(self.bursts.get(old));
        both.is_some_and(|(new, old)| new.outlast(old, now, interval))
    }

    /// How far the targets of two releases put their shares of errors apart: of the release before is known what its kind is
    /// like.
    pub(super) fn apart(&self, new: &RevisionId, old: &RevisionId) -> Apart {
        let targets = |release: &RevisionId| self.dispersions.get(release).map_or(1.0, Dispersion::targets);
        let usual = Dispersion::default();
        let kind = self.dispersions.get(old).unwrap_or(&usual);
        kind.apart(1.0 / targets(new) + 1.0 / targets(old))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::health::reading::Basis;
    use crate::domain::units::Finite;

    fn candidate() -> Candidate {
        let formula = Formula::Ratio { bad: OperandId(0), total: OperandId(1) };
        Candidate { convention: None, formula, scale: 1.0 }
    }

    /// Whether looks with so many bad ones of so many, ten seconds apart, say that a fault beyond 1 % is over of which the window
    /// has so many of so many.
    fn is_over(looks: &[(f64, f64)], window: (f64, f64)) -> bool {
        let mut latest = Latest::default();
        for (index, (bad, all)) in looks.iter().enumerate() {
            let grown = Sum { bad: *bad, all: *all, buckets: Vec::new() };
            let added = Added { grown, ..Added::none(RevisionId::from("new")) };
            let now = Timestamp::from_millis(index as i64 * 10_000);
            latest.take_in(&added, now, Span::from_secs(10));
        }
        let condition = Condition::Above(Finite::new(0.01).unwrap());
        let window = Tally::of(&Basis::Counts { bad: window.0, total: window.1 }, condition).unwrap();
        latest.is_over(&candidate(), condition, window)
    }

    #[test]
    fn a_fault_is_over_where_the_newest_requests_are_not_like_it() {
        type Case = (&'static str, &'static [(f64, f64)], (f64, f64), bool);
        let cases: [Case; 11] = [
            ("nothing is known", &[], (30.0, 300.0), false),
            ("it goes on", &[(10.0, 100.0), (9.0, 100.0)], (30.0, 300.0), false),
            ("none fails any more", &[(10.0, 100.0), (0.0, 100.0)], (30.0, 300.0), true),
            ("one of many fails, as ever", &[(20.0, 100.0), (1.0, 100.0)], (60.0, 300.0), true),
            ("one of a few fails, of many before it none", &[(0.0, 200.0), (1.0, 20.0)], (30.0, 300.0), true),
            (
                "more fail than the bound allows, and far fewer than did",
                &[(60.0, 100.0), (4.0, 300.0)],
                (64.0, 300.0),
                true,
            ),
            ("a few are well by chance", &[(10.0, 100.0), (0.0, 10.0)], (30.0, 300.0), false),
            ("looks without requests say nothing", &[(10.0, 100.0), (0.0, 0.0), (0.0, 0.0)], (30.0, 300.0), false),
            ("all fail, but for one", &[(50.0, 50.0), (49.0, 50.0)], (299.0, 300.0), false),
            ("hardly beyond the bound", &[(1.0, 100.0), (2.0, 100.0)], (4.0, 300.0), false),
            ("hardly beyond it, of many", &[(206.0, 20_000.0), (206.0, 20_000.0)], (412.0, 40_000.0), false),
        ];
        for (name, looks, window, expected) in cases {
            assert_eq!(is_over(looks, window), expected, "{name}");
        }
    }
}
