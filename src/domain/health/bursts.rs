//! Bursts of errors, or of slow requests, that single targets of a release have by themselves.
//!
//! Where one target fails for half a minute now and then, at a hundred times its usual share, a canary's target does so as
//! well, and side by side that is proof within seconds: how far targets lie apart from minute to minute (`dispersion`) knows
//! nothing of such rare ones. What the targets of the release before are known to have had explains a burst of the new one
//! that is no higher and has lasted no longer; what goes on beyond that is proof.
//!
//! When a burst begins and ends is told by two cumulative sums (Page, Biometrika 41, 1954) of likelihood ratios. Its length is
//! a clock that runs while it lasts and runs back half as fast after it, so that bursts that follow each other closely are one
//! longer one: for the old release's as for the new one's.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::interval::Share;
pub use super::own::OwnBursts;
use super::usual::Usual;
use crate::domain::id::TargetId;
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::Finite;

/// Bursts that are remembered of a release, and for how long.
const MAX_KNOWN: usize = 32;
const REMEMBERED: Span = Span::from_secs(24 * 3600);

/// A share of errors that is nothing unusual, of the usual one: so many times, and so much more.
const CALM: (f64, f64) = (2.0, 0.002);

/// A burst is so many times what is nothing unusual, and at least so much.
const BURST: (f64, f64) = (4.0, 0.03);

/// Logarithm of the likelihood ratio that tells one from the other, and the one from which on a burst is remembered, with so
/// many errors.
pub(super) const TOLD: f64 = 3.0;
const SURE: (f64, f64) = (8.0, 5.0);

/// A burst that is over runs its clock back at this part of the pace.
const LEAK: f64 = 0.5;

/// The longest that a burst has to last before it is proof.
const MOST: Span = Span::from_secs(180);

/// The next burst is up to so many times as long as the longest of those that are about as high, and as high as the highest, where
/// many are known; the fewer, the more by this over their number.
const LONGER: f64 = 1.4;
const HIGHER: f64 = 1.5;
const FEW: f64 = 1.0;

/// Targets in a burst at the same time that are no single ones, and how sure it is that so many are so by no chance.
const TOGETHER: (usize, f64) = (3, 0.99);

/// What is left after each look of how often targets are in bursts.
const OFTEN: f64 = 0.999;

/// One burst of one target.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Burst {
    /// When it was over.
    pub(super) at: Timestamp,
    pub(super) lasted: Span,
    /// Share of errors, or of requests above a bound, while it lasted.
    pub(super) share: f64,
    /// That bound, in the exporter's unit, and the share of requests above one so far below it as the next burst may be slower;
    /// none for errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) above: Option<(f64, f64)>,
}

impl Burst {
    /// The share that it explains.
    fn explains(&self) -> f64 {
        self.above.map_or(self.share, |(_, share)| share.max(self.share))
    }

    fn is_sound(&self) -> bool {
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        is_share(self.share) && self.above.is_none_or(|(bound, share)| bound.is_finite() && is_share(share))
    }
}

/// What one look at a target added.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Served {
    /// Errors, or requests above a bound.
    pub(super) bad: f64,
    pub(super) all: f64,
    /// That bound, and the requests above the one below it.
    pub(super) above: Option<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    served: Served,
    /// Logarithm of the likelihood ratio.
    told: f64,
}

impl Count {
    fn take(&mut self, other: &mut Count) {
        let Count { served, told } = std::mem::take(other);
        let Served { bad, all, above } = &mut self.served;
        (*bad, *all, self.told) = (*bad + served.bad, *all + served.all, self.told + told);
        *above = served.above.map(|(bound, lower)| (bound, lower + above.map_or(0.0, |(_, lower)| lower)));
    }
}

/// Logarithm of the likelihood of a burst over that of none, of so many bad ones of all; none where what is usual is so much
/// that nothing would be a burst.
pub(super) fn likelihood((bad, all): (f64, f64), usual: f64) -> Option<f64> {
    let calm = usual * CALM.0 + CALM.1;
    let high = (calm * BURST.0).max(BURST.1);
    (high < 1.0).then(|| bad * (high / calm).ln() + (all - bad) * ((1.0 - high) / (1.0 - calm)).ln())
}

/// One target.
#[derive(Clone, Copy, Debug)]
struct Target {
    is_up: bool,
    /// The cumulative sum towards the other state.
    sum: f64,
    /// Until when the clock is right.
    counted: Timestamp,
    /// Seconds.
    clock: f64,
    longest: f64,
    burst: Count,
    /// Since `counted`.
    open: Count,
    /// Whether half of the targets had it together.
    is_common: bool,
}

impl Target {
    fn new(now: Timestamp) -> Self {
        let none = Count::default();
        let (burst, open) = (none, none);
        Self { is_up: false, sum: 0.0, counted: now, clock: 0.0, longest: 0.0, burst, open, is_common: false }
    }

    /// One look. `usual` is the share of errors outside of bursts.
    fn look(&mut self, now: Timestamp, served: Served, usual: f64) {
        let passed = now.since(self.counted).as_secs_f64();
        let Some(told) = likelihood((served.bad, served.all), usual) else {
            (self.is_up, self.sum, self.counted) = (false, 0.0, now);
            return self.leak(passed);
        };
        self.open.take(&mut Count { served, told });
        self.sum = if self.is_up { (self.sum + told).min(0.0) } else { (self.sum + told).max(0.0) };
        let turns = self.sum.abs() >= TOLD;
        if self.is_up != turns {
            // It goes on, or it has begun with the first look that spoke for it.
            if self.is_up && self.sum < 0.0 {
                return;
            }
            self.clock += passed;
            self.longest = self.longest.max(self.clock);
            self.burst.take(&mut self.open);
        } else {
            if !self.is_up && self.sum > 0.0 {
                return;
            }
            self.leak(passed);
        }
        self.counted = now;
        if turns {
            (self.is_up, self.sum) = (!self.is_up, 0.0);
        }
    }

    fn leak(&mut self, passed: f64) {
        self.clock = (self.clock - passed * LEAK).max(0.0);
        self.open = Count::default();
    }

    fn share(&self) -> f64 {
        self.burst.served.bad / self.burst.served.all
    }

    /// Its burst so far, or that which is just over, where it is sure and its own.
    fn own(&self, at: Timestamp) -> Option<Burst> {
        let (told, bad) = SURE;
        let is_sure = self.burst.told >= told && self.burst.served.bad >= bad && !self.is_common;
        let lasted = self.held();
        let above = self.burst.served.above.map(|(bound, lower)| (bound, lower / self.burst.served.all));
        is_sure.then(|| Burst { at, lasted, share: self.share(), above })
    }

    /// Whether there is a burst, or one was there a short while ago.
    fn is_in_burst(&self) -> bool {
        self.burst.served.all > 0.0
    }
}

/// One release's targets, and the bursts that single ones of them had.
#[derive(Clone, Debug, Default)]
pub(super) struct Bursts {
    targets: BTreeMap<TargetId, Target>,
    known: VecDeque<Burst>,
    usual: Usual,
    /// Looks at targets in bursts of their own, and all, fading.
    often: (f64, f64),
}

impl Bursts {
    /// What is worth keeping.
    pub(super) fn learned(&self) -> impl Iterator<Item = Burst> {
        self.known.iter().copied()
    }

    /// From what was kept; what can't be is left out.
    pub(super) fn recalled(known: impl Iterator<Item = Burst>) -> Self {
        let known = known.filter(Burst::is_sound).take(MAX_KNOWN).collect();
        Self { known, ..Self::default() }
    }

    /// The share of errors outside of bursts; none where too little is known.
    pub(super) fn usual(&self) -> Option<f64> {
        self.usual.share()
    }

    /// What one target added; `usual` is what is usual for the release before, where there is one.
    pub(super) fn add(&mut self, id: &TargetId, now: Timestamp, served: Served, usual: Option<f64>) {
        let Some(usual) = usual.or_else(|| self.usual()) else { return self.usual.learn(now, served) };
        if !self.targets.contains_key(id) {
            self.targets.insert(id.clone(), Target::new(now));
        }
        let Some(target) = self.targets.get_mut(id) else { return };
        target.look(now, served, usual);
        let is_own = target.is_up && !target.is_common;
        self.often = (self.often.0 * OFTEN + f64::from(u8::from(is_own)), self.often.1 * OFTEN + 1.0);
        let (is_up, is_over) = (target.is_up, target.clock <= 0.0 && !target.is_up && target.is_in_burst());
        if is_over {
            let burst = target.own(now);
            *target = Target::new(now);
            if self.known.len() == MAX_KNOWN {
                self.known.pop_front();
            }
            self.known.extend(burst);
        }
        if is_up {
            self.mark_common();
        }
        if !is_up || self.targets.get(id).is_some_and(|target| target.is_common) {
            self.usual.learn(now, served);
        }
    }

    /// What half of all targets have together is none's own; two of more may be so by chance.
    fn mark_common(&mut self) {
        let (together, _) = TOGETHER;
        let up = self.targets.values().filter(|target| target.is_up).count();
        if up >= together.min(self.targets.len()).max(2) && 2 * up >= self.targets.len() {
            self.targets.values_mut().filter(|target| target.is_up).for_each(|target| target.is_common = true);
        }
    }

    /// Forgets targets that are gone.
    pub(super) fn retain(&mut self, keep: impl Fn(&TargetId) -> bool) {
        self.targets.retain(|id, _| keep(id));
    }

    /// Those that are over, and those that go on.
    fn known(&self, now: Timestamp) -> Vec<Burst> {
        let lately = self.known.iter().copied().filter(|burst| now.since(burst.at) <= REMEMBERED);
        lately.chain(self.targets.values().filter_map(|target| target.own(target.counted))).collect()
    }

    /// Whether one of these targets is in a burst of its own that lasts no longer than those that are over explain.
    pub(super) fn is_in_usual_one(&self, id: &TargetId) -> bool {
        let target = self.targets.get(id).filter(|target| target.is_up && !target.is_common);
        target.is_some_and(|one| one.longest_alike(self.known.iter()).is_some_and(|(longest, _)| one.held() <= longest))
    }

    /// The longest of those known, and how many they are.
    pub(super) fn longest_known(&self, now: Timestamp) -> Option<(Span, usize)> {
        let known = self.known(now);
        known.iter().map(|burst| burst.lasted).max().map(|longest| (longest, known.len()))
    }

    /// Whether one of these targets is in a burst that has lasted for so long.
    pub(super) fn is_any_for(&self, least: Span) -> bool {
        self.targets.values().any(|target| target.is_up && target.held() >= least)
    }

    /// Whether so many of these targets are in a burst that they are no single ones; where each is in one often, as those of
    /// the release before were, several are by chance.
    fn are_together(&self, before: &Bursts) -> bool {
        let ((together, confidence), (own, all)) = (TOGETHER, before.often);
        let up = self.targets.values().filter(|target| target.is_up).count();
        let is_chance = Share::new(up as f64, self.targets.len() as f64)
            .is_none_or(|share| !share.is_proven_above(own / all.max(1.0), confidence));
        up >= together && 2 * up >= self.targets.len() && !is_chance
    }

    /// What these targets do, beside what single ones of the release before are known to have done; none where none of these
    /// is in a burst, several are at once, or nothing is known.
    pub(super) fn beside(&self, before: &Bursts, now: Timestamp, interval: Span) -> Option<OwnBursts> {
        let known = before.known(now);
        if known.is_empty() || self.are_together(before) {
            return None;
        }
        let bursts = self.targets.iter().filter(|(_, target)| target.is_in_burst());
        OwnBursts::telling(bursts.filter_map(|(id, target)| target.beside(id, &known, interval)))
    }
}

/// For how long a burst has to last to be proof, where the longest of so many that are known was so long.
pub(super) fn needed((longest, known): (Span, usize), interval: Span) -> Span {
    let millis = longest.as_secs_f64() * (LONGER + FEW / known as f64) * 1000.0;
    Span::from_millis(millis.round() as u64).min(MOST) + interval
}

impl Target {
    fn held(&self) -> Span {
        Span::from_millis((self.longest * 1000.0).round() as u64)
    }

    /// The longest of those known that are about as high, and how many they are.
    fn longest_alike<'a>(&self, known: impl ExactSizeIterator<Item = &'a Burst>) -> Option<(Span, usize)> {
        let higher = HIGHER + FEW / known.len() as f64;
        let alike = known.filter(|burst| self.share() <= higher * burst.explains()).map(|burst| burst.lasted);
        alike.fold(None, |longest, lasted| {
            let (longest, count) = longest.unwrap_or((lasted, 0));
            Some((longest.max(lasted), count + 1))
        })
    }

    fn beside(&self, id: &TargetId, known: &[Burst], interval: Span) -> Option<OwnBursts> {
        let longest = self.longest_alike(known.iter());
        let needed = longest.map(|longest| needed(longest, interval));
        Some(OwnBursts {
            target: id.clone(),
            value: Finite::new(self.share())?,
            above: None,
            held: self.held(),
            known: u32::try_from(known.len()).ok()?,
            highest: Finite::new(known.iter().map(|burst| burst.share).fold(0.0, f64::max))?,
            longest: longest.map_or(Span::ZERO, |(longest, _)| longest),
            needed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::units::Unit;

    const INTERVAL: u64 = 10;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_millis((second * 1000).cast_signed())
    }

    /// A burst of one target: from when on, for how many seconds, its share of errors.
    type Drawn = (usize, u64, u64, f64);

    /// Looks at so many targets of 20 requests a second each, one in 500 of which fails outside of bursts.
    fn serve(bursts: &mut Bursts, targets: usize, seconds: std::ops::Range<u64>, drawn: &[Drawn], usual: Option<f64>) {
        for second in seconds.step_by(INTERVAL as usize) {
            for target in 0..targets {
                let burst = drawn
                    .iter()
                    .find(|(one, from, lasts, _)| *one == target && (*from..from + lasts).contains(&second));
                let share = burst.map_or(0.002, |(.., share)| *share);
                // Whole requests in the long run.
                let bad = if share > 0.01 {
                    200.0 * share
                } else {
                    f64::from(u8::from((second / INTERVAL).is_multiple_of(3)))
                };
                let served = Served { bad, all: 200.0, above: None };
                bursts.add(&TargetId::new(format!("pod-{target}")), at(second), served, usual);
            }
        }
    }

    fn old(drawn: &[Drawn]) -> Bursts {
        let mut bursts = Bursts::default();
        serve(&mut bursts, 4, 0..1800, drawn, None);
        bursts
    }

    /// What a canary's only target does with a burst of so much for so long, up to its end.
    fn canary(old: &Bursts, share: f64, lasts: u64) -> Option<OwnBursts> {
        let mut new = Bursts::default();
        serve(&mut new, 1, 2000..2300 + lasts, &[(0, 2300, lasts, share)], old.usual());
        new.beside(old, at(2300 + lasts), Span::from_secs(INTERVAL))
    }

    const RESTLESS: [Drawn; 4] = [(0, 400, 40, 0.1), (1, 700, 60, 0.15), (0, 1000, 30, 0.2), (3, 1500, 50, 0.08)];

    #[test]
    fn what_single_targets_were_known_to_do_explains_as_much_for_as_long() {
        let old = old(&RESTLESS);
        assert_eq!(old.known.len(), 4);
        let own = canary(&old, 0.15, 60).unwrap();
        assert_eq!((own.known, own.held, own.longest), (4, Span::from_secs(60), Span::from_secs(60)));
        assert!((own.value.get() - 0.15).abs() < 1e-9 && (own.highest.get() - 0.2).abs() < 1e-9);
        assert_eq!(
            own.needed,
            Some(Span::from_secs(114)),
            "1.73 times the longest of three that are about as high, and a look"
        );
        assert_eq!(
            own.in_words(Unit::Ratio),
            "a burst of pod-0, 15 % for 1m: single targets had 4 bursts before, up to 20 %, about as high for up to 1m, so that \
             it is proof from 1m54s on"
        );
        assert!(own.explain());
        assert!(canary(&old, 0.15, 100).unwrap().explain());
        assert!(!canary(&old, 0.15, 120).unwrap().explain(), "it lasts for longer");
        assert!(canary(&old, 0.3, 30).unwrap().explain());
        let higher = canary(&old, 0.4, 30).unwrap();
        assert_eq!((higher.explain(), higher.needed), (false, None), "higher than any of them explains");
        assert_eq!(canary(&old, 0.002, 60), None, "there is none");
        let alike = canary(&old, 0.28, 40).unwrap();
        assert_eq!(alike.longest, Span::from_secs(30), "of those that are about as high");
    }

    #[test]
    fn calm_targets_explain_nothing_nor_does_what_hit_them_all() {
        assert_eq!(canary(&old(&[]), 0.1, 20), None);
        let all: Vec<Drawn> = (0..4).map(|target| (target, 900, 60, 0.15)).collect();
        assert_eq!(canary(&old(&all), 0.1, 20), None);
        let two: Vec<Drawn> = (0..2).map(|target| (target, 900, 60, 0.15)).collect();
        assert!(canary(&old(&two), 0.1, 20).is_some_and(|own| own.explain()), "two of four may be so by chance");
        let restless = old(&[(2, 900, 60, 0.15)]);
        assert!(canary(&restless, 0.1, 20).is_some_and(|own| own.explain()));
    }

    #[test]
    fn a_burst_ends_slowly_and_the_next_one_soon_after_adds_to_it() {
        let old = old(&RESTLESS);
        let held = |drawn: &[Drawn], until: u64| {
            let mut new = Bursts::default();
            serve(&mut new, 1, 2000..until, drawn, old.usual());
            new.beside(&old, at(until), Span::from_secs(INTERVAL)).map(|own| own.held)
        };
        assert_eq!(held(&[(0, 2100, 40, 0.1)], 2180), Some(Span::from_secs(40)));
        assert_eq!(held(&[(0, 2100, 40, 0.1)], 2250), None);
        let twice = [(0, 2100, 40, 0.1), (0, 2160, 60, 0.1)];
        assert_eq!(held(&twice, 2220), Some(Span::from_secs(90)));
    }

    #[test]
    fn many_at_once_are_no_single_ones() {
        let old = old(&RESTLESS);
        let together = |count: usize| {
            let (mut new, drawn) = (Bursts::default(), [0, 1, 2, 3].map(|target| (target, 2100, 60, 0.1)));
            serve(&mut new, 5, 2000..2140, &drawn[..count], old.usual());
            new.beside(&old, at(2140), Span::from_secs(INTERVAL)).is_some()
        };
        assert_eq!([1, 2, 3, 4].map(together), [true, true, false, false]);
    }

    #[test]
    fn where_each_is_in_a_burst_often_several_are_at_once_by_chance() {
        let drawn: Vec<Drawn> = (0..32).map(|nth| (nth % 4, 30 + 50 * nth as u64, 40, 0.1)).collect();
        let old = old(&drawn);
        assert!(old.known.len() > 20, "{:?}", old.known);
        let together = |count: usize| {
            let (mut new, drawn) = (Bursts::default(), [0, 1, 2, 3, 4].map(|target| (target, 2100, 60, 0.1)));
            serve(&mut new, 5, 2000..2140, &drawn[..count], old.usual());
            new.beside(&old, at(2140), Span::from_secs(INTERVAL)).is_some()
        };
        assert_eq!([2, 3, 5].map(together), [true, true, false]);
    }

    #[test]
    fn the_clock_runs_back_where_nothing_would_be_a_burst() {
        let old = old(&RESTLESS);
        let mut new = Bursts::default();
        serve(&mut new, 1, 2000..2140, &[(0, 2100, 40, 0.1)], old.usual());
        serve(&mut new, 1, 2140..2400, &[], Some(0.2));
        serve(&mut new, 1, 2400..2430, &[(0, 2400, 30, 0.1)], old.usual());
        let own = new.beside(&old, at(2430), Span::from_secs(INTERVAL)).unwrap();
        assert_eq!(own.held, Span::from_secs(30));
    }

    #[test]
    fn a_burst_at_the_very_beginning_hides_none_of_those_that_follow() {
        let together: Vec<Drawn> = (0..2).map(|target| (target, 0, 40, 0.6)).collect();
        let old = old(&[&together[..], &RESTLESS].concat());
        assert!(old.usual().is_some_and(|usual| usual < 0.003), "{:?}", old.usual());
        assert!(old.known.len() >= RESTLESS.len(), "{:?}", old.known);
    }

    #[test]
    fn what_goes_on_for_longer_than_any_burst_outlasts_them() {
        let old = old(&RESTLESS);
        let outlasts = |share: f64, lasts: u64, until: u64| {
            let mut new = Bursts::default();
            serve(&mut new, 1, 2000..until, &[(0, 2300, lasts, share)], old.usual());
            new.is_any_for(needed(old.longest_known(at(until)).unwrap(), Span::from_secs(INTERVAL)))
        };
        assert!(!outlasts(0.1, 100, 2400) && outlasts(0.1, 110, 2410) && outlasts(0.9, 110, 2410));
        assert!(!outlasts(0.9, 60, 2360), "higher than any, and no longer");
        assert!(!outlasts(0.1, 110, 2460), "it is over");
        let usual = |lasts: u64| {
            let mut old = old.clone();
            serve(&mut old, 4, 1800..2000 + lasts, &[(2, 2000, lasts, 0.1)], None);
            [1, 2].map(|target| old.is_in_usual_one(&TargetId::new(format!("pod-{target}"))))
        };
        assert_eq!((usual(40), usual(60), usual(80)), ([false, true], [false, true], [false; 2]));
    }

    #[test]
    fn what_is_known_is_kept() {
        let old = old(&RESTLESS);
        let kept = Bursts::recalled(old.learned());
        assert_eq!(kept.known, old.known);
        let broken = old.learned().map(|burst| Burst { share: 2.0, ..burst });
        assert!(Bursts::recalled(broken).known.is_empty());
    }
}
