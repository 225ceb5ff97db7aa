//! What single targets of a release do by themselves: bursts of errors, or of requests above the bounds of a histogram.
//!
//! A pause (a garbage collection, a lock that is held) shows in latency alone: for half a minute most of one target's requests
//! are slow. It is a burst ([`bursts`]) of requests above each bound that it sends them across, and each bound
//! has its own ones: what is usual above the one is a pause above another.

use super::bursts::{self, Burst, Bursts, OwnBursts, Served};
use super::past::Sum;
use crate::domain::id::TargetId;
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::Finite;

/// Bounds of a histogram that are followed, at most.
const MAX_BOUNDS: usize = 12;

/// A pause up to so many times as slow is like one that was known.
const SLOWER: f64 = 1.5;

/// One release's bursts.
#[derive(Clone, Debug, Default)]
pub(super) struct Single {
    errors: Bursts,
    /// By bound in the exporter's unit, ascending.
    above: Vec<(f64, Bursts)>,
}

impl Single {
    /// What is worth keeping.
    pub(super) fn learned(&self) -> impl Iterator<Item = Burst> {
        self.errors.learned().chain(self.above.iter().flat_map(|(_, bursts)| bursts.learned()))
    }

    /// From what was kept; what can't be is left out.
    pub(super) fn recalled(known: &[Burst]) -> Self {
        let of = |bound: Option<f64>| {
            Bursts::recalled(known.iter().copied().filter(move |burst| burst.above.map(|(bound, _)| bound) == bound))
        };
        let bounds = known.iter().filter_map(|burst| burst.above).map(|(bound, _)| bound);
        let mut bounds: Vec<f64> = bounds.filter(|bound| bound.is_finite()).collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        bounds.truncate(MAX_BOUNDS);
        Self { errors: of(None), above: bounds.into_iter().map(|bound| (bound, of(Some(bound)))).collect() }
    }

    /// What one target added; `before` is the release before, which tells what is usual.
    pub(super) fn add(&mut self, id: &TargetId, now: Timestamp, sum: &Sum, before: Option<&Single>) {
        if sum.buckets.is_empty() {
            let usual = before.and_then(|before| before.errors.usual());
            return self.errors.add(id, now, Served { bad: sum.bad, all: sum.all, above: None }, usual);
        }
        if sum.all <= 0.0 {
            return;
        }
        self.follow_bounds(sum);
        for (bound, bursts) in &mut self.above {
            let Some(bad) = sum.above(*bound) else { continue };
            let usual = before.and_then(|before| before.above(*bound)?.usual());
            let above = Some((*bound, sum.about_above(*bound / SLOWER)));
            bursts.add(id, now, Served { bad, all: sum.all, above }, usual);
        }
    }

    fn above(&self, bound: f64) -> Option<&Bursts> {
        self.above.iter().find(|(one, _)| *one == bound).map(|(_, bursts)| bursts)
    }

    /// Those that were recalled are some of them.
    fn follow_bounds(&mut self, sum: &Sum) {
        if self.above.len() >= MAX_BOUNDS {
            return;
        }
        let bounds: Vec<f64> =
            sum.buckets.iter().map(|bucket| bucket.bound).filter(|bound| bound.is_finite()).collect();
        for bound in bounds.iter().step_by(bounds.len().div_ceil(MAX_BOUNDS).max(1)) {
            if let Err(place) = self.above.binary_search_by(|(one, _)| one.total_cmp(bound))
                && self.above.len() < MAX_BOUNDS
            {
                self.above.insert(place, (*bound, Bursts::default()));
            }
        }
    }

    /// Whether a target is in a burst as single ones of this release had before.
    pub(super) fn is_in_usual_one(&self, id: &TargetId) -> bool {
        self.errors.is_in_usual_one(id) || self.above.iter().any(|(_, bursts)| bursts.is_in_usual_one(id))
    }

    /// Whether one of these targets has been slow for longer than the pauses of single targets of the release before explain,
    /// however slow: a pause is known to its end at the bound where most of it shows.
    pub(super) fn outlast(&self, before: &Single, now: Timestamp, interval: Span) -> bool {
        let longest = before.above.iter().filter_map(|(_, bursts)| bursts.longest_known(now)).max();
        let needed = longest.map(|longest| bursts::needed(longest, interval));
        needed.is_some_and(|needed| self.above.iter().any(|(_, bursts)| bursts.is_any_for(needed)))
    }

    /// Forgets targets that are gone.
    pub(super) fn retain(&mut self, keep: impl Fn(&TargetId) -> bool) {
        self.errors.retain(&keep);
        self.above.iter_mut().for_each(|(_, bursts)| bursts.retain(&keep));
    }

    /// What these targets do, beside what single ones of the release before are known to have done; none where nothing of it
    /// is known to be like that. `scale` makes the exporter's unit the base unit.
    pub(super) fn beside(&self, before: &Single, now: Timestamp, interval: Span, scale: f64) -> Option<OwnBursts> {
        let above = self.above.iter().filter_map(|(bound, bursts)| {
            let own = bursts.beside(before.above(*bound)?, now, interval)?;
            Some(OwnBursts { above: Finite::new(bound * scale), ..own })
        });
        OwnBursts::telling(self.errors.beside(&before.errors, now, interval).into_iter().chain(above))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::health::past::Sum;
    use crate::domain::health::quantile::Bucket;

    const INTERVAL: Span = Span::from_secs(10);

    fn at(second: u64) -> Timestamp {
        Timestamp::from_millis((second * 1000).cast_signed())
    }

    /// 200 requests, so many of which are above each bound.
    fn requests(above: [(f64, f64); 4]) -> Sum {
        let all = 200.0;
        let below = above.iter().map(|(bound, above)| Bucket { bound: *bound, count: all - above });
        Sum::of_buckets(below.chain([Bucket { bound: f64::INFINITY, count: all }]).collect())
    }

    const CALM: [(f64, f64); 4] = [(0.1, 100.0), (0.25, 2.0), (0.5, 0.0), (1.0, 0.0)];
    const PAUSE: [(f64, f64); 4] = [(0.1, 190.0), (0.25, 150.0), (0.5, 60.0), (1.0, 4.0)];
    const SLOWER: [(f64, f64); 4] = [(0.1, 195.0), (0.25, 170.0), (0.5, 80.0), (1.0, 16.0)];
    const FAR_SLOWER: [(f64, f64); 4] = [(0.1, 200.0), (0.25, 200.0), (0.5, 199.0), (1.0, 180.0)];

    type Pauses = &'static [(usize, u64, u64)];

    fn serve(
        of: &mut Single,
        (name, targets): (&str, usize),
        seconds: std::ops::Range<u64>,
        pauses: &[(usize, u64, u64)],
        like: [(f64, f64); 4],
        before: Option<&Single>,
    ) {
        for second in seconds.step_by(10) {
            for target in 0..targets {
                let mut own = pauses.iter().filter(|(one, ..)| *one == target);
                let is_paused = own.any(|(_, from, lasts)| (*from..from + lasts).contains(&second));
                let sum = requests(if is_paused { like } else { CALM });
                of.add(&TargetId::new(format!("{name}-{target}")), at(second), &sum, before);
            }
        }
    }

    const OLD: Pauses = &[(0, 400, 40), (1, 700, 60), (0, 1000, 30), (3, 1500, 50)];

    fn old(pauses: &[(usize, u64, u64)]) -> Single {
        let mut old = Single::default();
        serve(&mut old, ("old", 4), 0..1800, pauses, PAUSE, None);
        old
    }

    /// What a canary's only target does with a pause like that for so long, up to its end.
    fn canary(old: &Single, like: [(f64, f64); 4], lasts: u64) -> Option<OwnBursts> {
        let mut new = Single::default();
        serve(&mut new, ("new", 1), 2000..2300 + lasts, &[(0, 2300, lasts)], like, Some(old));
        new.beside(old, at(2300 + lasts), INTERVAL, 1.0)
    }

    #[test]
    fn a_pause_as_single_targets_had_is_explained_until_it_lasts_for_longer() {
        let old = old(OLD);
        let own = canary(&old, PAUSE, 60).unwrap();
        assert_eq!((own.explain(), own.known, own.longest), (true, 4, Span::from_secs(60)));
        assert_eq!(own.above.map(Finite::get), Some(0.25), "where most of it shows");
        assert!(canary(&old, SLOWER, 60).unwrap().explain());
        assert!(!canary(&old, PAUSE, 110).unwrap().explain(), "it lasts for longer");
        let far = canary(&old, FAR_SLOWER, 30).unwrap();
        assert_eq!((far.explain(), far.needed), (false, None), "{far:?}");
        assert_eq!(canary(&old, CALM, 60), None);
    }

    #[test]
    fn calm_targets_explain_no_pause_nor_does_what_slowed_them_all() {
        assert_eq!(canary(&old(&[]), PAUSE, 20), None);
        assert_eq!(canary(&old(&[(0, 900, 60), (1, 900, 60), (2, 900, 60), (3, 900, 60)]), PAUSE, 20), None);
    }

    #[test]
    fn pauses_are_kept_by_their_bounds() {
        let old = old(OLD);
        let known: Vec<Burst> = old.learned().collect();
        let kept = Single::recalled(&known);
        assert_eq!(kept.learned().collect::<Vec<_>>(), known);
        assert_eq!(kept.above.iter().map(|(bound, _)| *bound).collect::<Vec<_>>(), [0.25, 0.5, 1.0]);
        let broken: Vec<Burst> = known.iter().map(|burst| Burst { above: Some((f64::NAN, 0.5)), ..*burst }).collect();
        assert_eq!(Single::recalled(&broken).learned().count(), 0);
        let later = requests(CALM);
        let mut goes_on = kept;
        goes_on.add(&TargetId::new("old-0"), at(3000), &later, None);
        assert_eq!(goes_on.above.iter().map(|(bound, _)| *bound).collect::<Vec<_>>(), [0.1, 0.25, 0.5, 1.0]);
        assert_eq!(goes_on.learned().collect::<Vec<_>>(), known);
    }
}
