//! Evidence that may be looked at at any time: e-processes for one share against another, and for one against a bound.
//!
//! An e-process under a hypothesis has an expectation of at most 1 whenever one stops to look, so that it ever reaches
//! 1/a with a chance of at most a (Ville 1939; Ramdas, Grünwald, Vovk, Shafer, "Game-theoretic statistics and safe
//! anytime-valid inference", Statistical Science 38, 2023). The parts:
//!
//! - One step's factor is that of Turner and Grünwald ("Exact anytime-valid confidence intervals for contingency tables and
//!   beyond", Statistics & Probability Letters 198, 2023; Turner, Ly, Grünwald, "Generic E-variables for exact sequential
//!   k-sample tests that allow for optional stopping", 2021): the likelihood of an alternative over that of its projection,
//!   in relative entropy, onto the hypothesis. It is exact for any numbers of requests and any convex hypothesis, step by
//!   step, whatever the shares do over time, and whatever was chosen before the step.
//! - "Materially worse" takes two of them. One is against the release beside: that the new share is at most a fifth above
//!   the old one's now, whatever hits both. The other is against a fixed bound: that it does not come near what would be
//!   materially worse than the old one's known share. Each alone is fooled by something; both must be refuted. How much worse it
//!   is its value says: to prove that half as many errors again are beyond what is materially worse takes several times as many
//!   requests as that they are beyond what is alike.
//! - How much worse is not known: a mixture over a grid of alternatives (Robbins 1970; Johari et al., "Always valid
//!   inference", Operations Research 70, 2022).
//! - When it begins is not known: a mixture over the step at which the process starts to bet (Shin, Ramdas, Rinaldo,
//!   "E-detectors", New England Journal of Statistics in Data Science 2, 2023), with weights that sum to one, so that it
//!   stays an e-process over the whole probation.
//! - A factor that is cut stays one: no single look may decide.
//! - A root of a factor stays one (Jensen's inequality). Where the requests of one target fail together, so many of them say as
//!   much as one ([`dispersion`](crate::domain::health::dispersion)): the likelihood is a quasi-likelihood (Wedderburn,
//!   Biometrika 61, 1974; McCullagh, Nelder, "Generalized Linear Models", 1989, section 4.5), and the further the alternative
//!   is away the higher the root, so that it stays a factor where targets' own factors are gamma distributed.

/// How many times beyond the bound the alternatives are.
const GRID: [f64; 9] = [1.1, 1.25, 1.7, 2.5, 5.0, 12.0, 40.0, 150.0, 1000.0];

/// The largest share that is betted on: one that is never wrong would be ruined by a single good request.
const HIGHEST: f64 = 0.98;

/// "No worse" is up to a fifth above: so much two halves of one fleet may differ by for no reason of the release's.
pub(super) const ALIKE: f64 = 1.2;

/// Rounds of Newton's method, with a bracket, in which a projection is found; it takes six or so.
const ROUNDS: u32 = 60;

/// Part of the weight that is on a fault from the first step on.
const AT_ONCE: f64 = 0.5;

/// Some of many, in one step.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Count {
    pub(super) bad: f64,
    pub(super) all: f64,
}

impl Count {
    pub(super) fn plus(self, other: Self) -> Self {
        Self { bad: self.bad + other.bad, all: self.all + other.all }
    }

    pub(super) fn times(self, factor: f64) -> Self {
        Self { bad: self.bad * factor, all: self.all * factor }
    }

    /// The share, of few requests a little towards a half.
    pub(super) fn guess(self) -> f64 {
        (self.bad + 0.5) / (self.all + 1.0)
    }
}

/// An e-process of one step after another.
#[derive(Clone, Debug)]
pub(super) struct Process {
    /// Logarithm of what each alternative's bets have come to.
    logs: [f64; GRID.len()],
    /// Steps so far.
    steps: u32,
    /// Weight that is already at stake.
    spent: f64,
}

impl Process {
    pub(super) fn new() -> Self {
        Self { logs: [f64::NEG_INFINITY; GRID.len()], steps: 0, spent: 0.0 }
    }

    /// Two shares side by side. `guess` is what the old one's share was before this step, `bound` what a materially worse
    /// one's would be, and up to `alike` times the old one's, at least 1, is no worse; targets vary by themselves by so many
    /// times the variance of chance, `excess`; a gain counts for at most `cap` (natural logarithm).
    pub(super) fn compare(
        &mut self,
        new: Count,
        old: Count,
        (guess, alike): (f64, f64),
        bound: f64,
        (excess, cap): (f64, f64),
    ) {
        if new.all > 0.0 && old.all > 0.0 {
            let no_worse = guess * alike;
            self.step(bound.max(no_worse), cap, |share| {
                log_factor((share, guess), alike, new, old) / design_effect(share / no_worse, excess)
            });
        }
    }

    /// One share against a fixed bound.
    pub(super) fn exceed(&mut self, new: Count, bound: f64, cap: f64) {
        if new.all > 0.0 {
            self.step(bound, cap, |share| log_ratio(new, share, bound));
        }
    }

    fn step(&mut self, bound: f64, cap: f64, log_factor: impl Fn(f64) -> f64) {
        let weight = weight(self.steps);
        self.steps = self.steps.saturating_add(1);
        self.spent += weight;
        for (times, log) in GRID.iter().zip(&mut self.logs) {
            let share = (bound * times).min(HIGHEST);
            let gain = if share > bound { log_factor(share).min(cap) } else { 0.0 };
            *log = log_sum(*log, weight.ln()) + gain;
        }
    }

    /// Gives up what was staked so far. It stays an e-process: what later steps stake is a part of the mixture.
    pub(super) fn withdraw(&mut self) {
        self.logs = [f64::NEG_INFINITY; GRID.len()];
    }

    /// Logarithm of the evidence.
    pub(super) fn log_evidence(&self) -> f64 {
        let unspent = (1.0 - self.spent).max(f64::MIN_POSITIVE).ln();
        let each = 1.0 / GRID.len() as f64;
        log_sum(unspent, log_total(self.logs.iter().map(|log| log + each.ln())))
    }
}

/// The logarithm of the sum of what these are logarithms of.
pub(super) fn log_total(logs: impl Iterator<Item = f64>) -> f64 {
    logs.fold(f64::NEG_INFINITY, log_sum)
}

/// The weight of a fault that begins with this step: all of them together are 1.
fn weight(step: u32) -> f64 {
    let after = |step: u32| 1.0 / (std::f64::consts::E + f64::from(step)).ln();
    let late = (1.0 - AT_ONCE) * (after(step) - after(step.saturating_add(1)));
    if step == 0 { AT_ONCE + late } else { late }
}

fn log_sum(a: f64, b: f64) -> f64 {
    let (high, low) = (a.max(b), a.min(b));
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// How many requests say as much as one would by chance alone, for an alternative so many `times` what is no worse: one more
/// error counts for as much as it does in the likelihood of a negative binomial distribution.
fn design_effect(times: f64, excess: f64) -> f64 {
    let beyond = (times - 1.0).max(1e-6);
    beyond.ln_1p() / (beyond.ln_1p() - (beyond * excess / (1.0 + excess)).ln_1p())
}

/// The logarithm of the alternative's likelihood over that of its projection onto "no worse". The alternative is worse.
fn log_factor((new_share, old_share): (f64, f64), alike: f64, new: Count, old: Count) -> f64 {
    let nearest = project((new_share, old_share), alike, new.all, old.all);
    log_ratio(new, new_share, alike * nearest) + log_ratio(old, old_share, nearest)
}

/// The old share of the nearest point of "no worse": where the derivative of the weighted relative entropies is zero. It
/// rises, and its zero lies between the alternative's own old share and the one that would leave the new share as it is.
fn project((new_share, old_share): (f64, f64), alike: f64, new_all: f64, old_all: f64) -> f64 {
    let rise = |share: f64, truth: f64| (share - truth) / (share * (1.0 - share));
    let bend = |share: f64, truth: f64| truth / (share * share) + (1.0 - truth) / ((1.0 - share) * (1.0 - share));
    let (mut low, mut high) = (old_share, new_share / alike);
    let mut share = (new_all * new_share + old_all * old_share) / (new_all * alike + old_all);
    for _ in 0..ROUNDS {
        let slope = new_all * alike * rise(alike * share, new_share) + old_all * rise(share, old_share);
        if slope < 0.0 {
            low = share
        } else {
            high = share
        }
        let curve = new_all * alike * alike * bend(alike * share, new_share) + old_all * bend(share, old_share);
        let step = share - slope / curve;
        let next = if step > low && step < high { step } else { low + (high - low) / 2.0 };
        let is_there = (next - share).abs() <= share * 1e-13;
        share = next;
        if is_there {
            break;
        }
    }
    share
}

fn log_ratio(count: Count, share: f64, other: f64) -> f64 {
    let good = count.all - count.bad;
    count.bad * (share / other).ln() + good * ((1.0 - share) / (1.0 - other)).ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::health::compare::chance::Chance;

    /// What would be materially worse than a share.
    fn bound(share: f64) -> f64 {
        (share * 1.3).max(share + 0.001)
    }

    fn chance_of(bad: u32, all: u32, share: f64) -> f64 {
        let ways = (0..bad).fold(1.0, |ways, i| ways * f64::from(all - i) / f64::from(i + 1));
        ways * share.powi(bad.cast_signed()) * (1.0 - share).powi((all - bad).cast_signed())
    }

    fn count(bad: u32, all: u32) -> Count {
        Count { bad: f64::from(bad), all: f64::from(all) }
    }

    proptest! {
        /// The defining property, computed exactly from every outcome of a small step: no truth that is no worse expects
        /// to gain.
        #[test]
        fn no_truth_that_is_no_worse_expects_to_gain(
            sizes in (1u32..12, 1u32..12),
            old in 0.0..1.0f64,
            below in 0.0..=1.0f64,
            guess in 0.0005..0.8f64,
            beyond in 0.001..0.999f64,
        ) {
            let truth = (below * (ALIKE * old).min(1.0), old);
            let edge = ALIKE * guess;
            let alternative = (edge + (0.999 - edge) * beyond, guess);
            let mut expected = 0.0;
            for new in 0..=sizes.0 {
                for old in 0..=sizes.1 {
                    let factor = log_factor(alternative, ALIKE, count(new, sizes.0), count(old, sizes.1)).exp();
                    expected += chance_of(new, sizes.0, truth.0) * chance_of(old, sizes.1, truth.1) * factor;
                }
            }
            prop_assert!(expected <= 1.0 + 1e-9, "{expected}");
        }
    }

    /// Errors of so many on average, of targets whose own factors are gamma distributed: the expectation of a step's factor,
    /// by the generating function of the negative binomial distribution.
    #[test]
    fn what_targets_do_by_themselves_is_no_gain() {
        let expected = |times: f64, mean: f64, excess: f64, effect: f64| {
            let (freedom, root) = (mean / excess, times.powf(1.0 / effect) - 1.0);
            (-freedom * (-excess * root).max(-1.0).ln_1p() - mean * (times - 1.0) / effect).exp()
        };
        let mut highest: f64 = 0.0;
        for times in GRID {
            for mean in [0.3, 3.0, 30.0, 300.0] {
                for excess in [0.01, 0.3, 1.0, 5.0, 40.0] {
                    let factor = expected(times, mean, excess, design_effect(times, excess));
                    assert!(factor <= 1.0 + 1e-9, "{times} {mean} {excess}: {factor}");
                    highest = highest.max(expected(times, mean, excess, 1.0 + excess));
                }
            }
        }
        assert!(highest > 2.0, "{highest}: one root for all would do");
    }

    #[test]
    fn the_weights_are_one_in_all() {
        let sum: f64 = (0..1_000_000).map(weight).sum();
        assert!((0.96..=1.0).contains(&sum), "{sum}");
    }

    /// Both processes over one life of two releases side by side: the step at which both have said so.
    fn alarm(seed: u64, steps: u32, all: (u32, u32), known: f64, share: impl Fn(u32) -> (f64, f64)) -> Option<u32> {
        let mut chance = Chance::new(seed);
        let (mut beside, mut beyond, mut seen) = (Process::new(), Process::new(), (known * 1e4, 1e4));
        for step in 0..steps {
            let (new_share, old_share) = share(step);
            let new = Count { bad: chance.binomial(all.0, new_share), all: f64::from(all.0) };
            let old = Count { bad: chance.binomial(all.1, old_share), all: f64::from(all.1) };
            let guess = (seen.0 + 0.5) / (seen.1 + 1.0);
            beside.compare(new, old, (guess, ALIKE), bound(guess), (0.0, 6.0));
            beyond.exceed(new, bound(known), 6.0);
            seen = (seen.0 * 0.95 + old.bad, seen.1 * 0.95 + old.all);
            if beside.log_evidence().min(beyond.log_evidence()) >= 100f64.ln() {
                return Some(step);
            }
        }
        None
    }

    /// Over 200 looks each, at the edge of what is not materially worse, where a false alarm is likeliest. With a
    /// confidence of 99 % at most 1 % may alarm.
    #[test]
    fn false_alarms_stay_below_what_the_confidence_says() {
        type Shares = fn(u32) -> (f64, f64);
        let cases: [(&str, (u32, u32), f64, Shares); 6] = [
            ("alike", (60, 60), 0.01, |_| (0.01, 0.01)),
            ("on the edge of materially worse", (60, 60), 0.05, |_| (0.065, 0.05)),
            ("on the edge of a tenth of a point", (200, 200), 0.0001, |_| (0.0011, 0.0001)),
            ("few beside many", (10, 200), 0.01, |_| (0.013, 0.01)),
            ("outages of both", (60, 60), 0.002, |step| if step % 50 < 10 { (0.5, 0.5) } else { (0.002, 0.002) }),
            ("both grow worse", (60, 60), 0.001, |step| {
                let share = 0.001 + f64::from(step) * 0.001;
                (share * 1.1, share)
            }),
        ];
        for (name, all, known, share) in cases {
            let alarms = (0..200).filter(|seed| alarm(*seed, 200, all, known, share).is_some()).count();
            assert!(alarms <= 2, "{name}: {alarms} of 200");
        }
    }

    /// Steps until the evidence is there, at the median of 25 lives. At 50 requests a second and a look every 5 s there
    /// are 250 requests a step; late is an hour after the rollout.
    #[test]
    fn hard_faults_are_found_in_two_looks_and_soft_ones_soon() {
        let cases = [
            ("all fail", 250, (1.0, 0.001), 0, 2),
            ("40 %", 250, (0.4, 0.001), 0, 2),
            ("5 %", 250, (0.05, 0.001), 0, 2),
            ("all fail, late", 250, (1.0, 0.001), 720, 4),
            ("2 % instead of 0.5 %", 250, (0.02, 0.005), 0, 9),
            ("2 % instead of 1 %", 250, (0.02, 0.01), 0, 45),
            ("40 % at a fiftieth of the traffic", 5, (0.4, 0.001), 0, 6),
        ];
        for (name, all, (new, old), onset, most) in cases {
            let share = |step: u32| if step < onset { (old, old) } else { (new, old) };
            let mut delays: Vec<u32> = (0..25)
                .map(|seed| alarm(seed, onset + 500, (all, all), old, share).map_or(500, |at| at + 1 - onset))
                .collect();
            delays.sort_unstable();
            assert!(delays[12] <= most, "{name}: {} steps", delays[12]);
        }
    }
}
