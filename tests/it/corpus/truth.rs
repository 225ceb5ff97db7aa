//! What is right for a story, and the earliest moment at which a rollback can be defended: the hold has passed, and a
//! sequential probability ratio test (Wald 1945) at 1 % that knows both distributions would have decided.

use super::deployment::Version;
use super::exporters::Told;
use super::latency::Latency;
use super::nature::Nature;
use super::record::Look;

/// The logarithm of Wald's upper bound at 1 % for both errors.
const DECIDED: f64 = 4.595;

/// Seconds of a pod's life that count only for what no cold start explains.
const COLD: f64 = 90.0;

/// Seconds of a pod's life that an absolute latency leaves out.
const WARMUP: f64 = 60.0;

/// The absolute triggers: share of errors and seconds that they hold; share above 5 s and seconds that it holds.
const ERRORS: (f64, f64) = (0.10, 300.0);
const SLOW: (f64, f64) = (0.01, 120.0);

/// What ought to happen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Right {
    /// It must be rolled back; the fault began then.
    Must(f64),
    /// It must not.
    MustNot,
    /// Both can be defended. The time before which it may not be, where there is one.
    Either(f64),
}

/// Whether a user feels the difference: the usual request half as slow again and by 50 ms, or the slow ones twice as
/// slow and by 200 ms.
pub(super) fn is_felt(new: &Latency, old: &Latency) -> bool {
    let further = |share: f64, times: f64, by: f64| {
        // Cheaper than a quantile of both: where the old one's is, and what the new one has above the shifted place.
        let old = old.quantile(share);
        new.above((old * times).max(old + by)) > 1.0 - share
    };
    further(0.5, 1.5, 0.05) || further(0.95, 2.0, 0.2) || further(0.99, 2.0, 0.2)
}

/// The earliest moment at which a rollback can be defended for a fault that began at `from`, and by which rule.
pub(super) fn earliest(nature: &Nature<'_>, looks: &[Look], told: Told, from: f64) -> Option<(f64, &'static str)> {
    let story = nature.story;
    let looks: Vec<&Look> = looks.iter().filter(|look| look.at >= from).collect();
    let old_killed = story.pods.iter().any(|pod| pod.version == Version::Old && !pod.ooms.is_empty());
    let rules = [
        (beside_errors(&looks), "errors beside"),
        (beside_latency(&looks), "latency beside"),
        (cold_errors(&looks), "errors beyond the threshold beside"),
        (held(nature, &looks, from, ERRORS, Kind::Errors), "errors"),
        (held(nature, &looks, from, SLOW, Kind::Slow), "latency"),
        (told.killed.filter(|_| !old_killed), "killed"),
        (told.looped.filter(|_| all_loop(nature)), "crash loop"),
    ];
    let known = rules.into_iter().filter_map(|(at, rule)| Some((at?, rule)));
    known.filter(|(at, _)| *at < story.end).min_by(|a, b| a.0.total_cmp(&b.0))
}

/// A loop takes the service down where most of the new pods are in it.
fn all_loop(nature: &Nature<'_>) -> bool {
    let news = || nature.story.pods.iter().filter(|pod| pod.version == Version::New);
    2 * news().filter(|pod| pod.lives.len() > 3).count() > news().count()
}

/// The first time at which the sum of what each look says reaches the bound.
fn decide<'l>(looks: impl Iterator<Item = (&'l Look, f64)>) -> Option<f64> {
    let mut sum = 0.0_f64;
    for (look, gain) in looks {
        sum += gain;
        if sum >= DECIDED {
            return Some(look.at);
        }
    }
    None
}

/// What so many of so many say for one share against another.
fn gain(of: u64, failed: u64, new: f64, old: f64) -> f64 {
    let (new, old) = (new.clamp(1e-9, 1.0 - 1e-9), old.clamp(1e-9, 1.0 - 1e-9));
    failed as f64 * (new / old).ln() + (of - failed) as f64 * ((1.0 - new) / (1.0 - old)).ln()
}

fn is_worse(look: &Look) -> bool {
    let [new, old] = look.errors;
    new >= 1.3 * old && new >= old + 0.001
}

fn beside_errors(looks: &[&Look]) -> Option<f64> {
    let grown = looks.iter().filter(|look| look.beside && look.age >= COLD && is_worse(look));
    decide(grown.map(|look| (*look, gain(look.requests, look.failed, look.errors[0], look.errors[1]))))
}

fn cold_errors(looks: &[&Look]) -> Option<f64> {
    let (threshold, _) = ERRORS;
    let beyond = looks.iter().filter(|look| look.beside && look.errors[0] > threshold && look.errors[1] < threshold);
    decide(beyond.map(|look| (*look, gain(look.requests, look.failed, look.errors[0], threshold))))
}

fn beside_latency(looks: &[&Look]) -> Option<f64> {
    let felt = looks.iter().filter(|look| look.beside && look.age >= COLD && look.is_felt);
    decide(felt.map(|look| {
        let ratios = look.shares[0].iter().zip(&look.shares[1]);
        let gains = look.buckets.iter().zip(ratios);
        let gain = gains.map(|(count, (new, old))| *count as f64 * (new.max(1e-9) / old.max(1e-9)).ln()).sum();
        (*look, gain)
    }))
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Errors,
    Slow,
}

/// Beyond a bound for so long, and proven to be so. Time of a fault that comes and goes adds up.
fn held(nature: &Nature<'_>, looks: &[&Look], from: f64, (bound, hold): (f64, f64), kind: Kind) -> Option<f64> {
    let mut held = 0.0;
    let mut t = from.ceil();
    let mut dead = 0.0;
    while held < hold {
        if t >= nature.story.end {
            return None;
        }
        let value = beyond(nature, t, kind);
        dead += f64::from(value == Some(f64::INFINITY));
        held += f64::from(value.is_some_and(|value| value > bound));
        t += 1.0;
    }
    // That nobody is in service needs no requests as a proof.
    if dead >= hold {
        return Some(t);
    }
    let proven = decide(looks.iter().filter(|look| kind == Kind::Errors || look.age >= WARMUP).filter_map(|look| {
        let (count, share) = match kind {
            Kind::Errors => (look.failed, look.errors[0]),
            Kind::Slow => (look.slow, look.slow_share),
        };
        (share > bound).then(|| (*look, gain(look.requests, count, share, bound)))
    }))?;
    Some(proven.max(t))
}

/// The true share over the new version's pods that are in service; without any, all requests fail. Nothing while it has
/// no traffic by design.
fn beyond(nature: &Nature<'_>, t: f64, kind: Kind) -> Option<f64> {
    let story = nature.story;
    let rates = nature.rates(t);
    let news = story.pods.iter().zip(&rates).filter(|(pod, _)| pod.version == Version::New && pod.created <= t);
    let (mut sum, mut weight, mut serving, mut any) = (0.0, 0.0, false, false);
    for (pod, rate) in news {
        any = true;
        serving |= pod.serves(t);
        if *rate <= 0.0 || (kind == Kind::Slow && pod.age(t).is_none_or(|age| age < WARMUP)) {
            continue;
        }
        let share = match kind {
            Kind::Errors => nature.errors(Some(pod), t),
            Kind::Slow => nature.latency(Some(pod), t).above(5.0),
        };
        sum += share * rate;
        weight += rate;
    }
    if any && !serving && kind == Kind::Errors {
        return Some(f64::INFINITY);
    }
    (weight > 0.0).then(|| sum / weight)
}
