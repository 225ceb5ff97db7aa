//! Bursts and pauses of single pods, as others had before, and what outlasts them.

use super::comparison::{Like, ROLLOUT, Rollout, triggers};
use crate::domain::health::fixtures::finite;
use crate::domain::health::verdict::{Evidence, TriggerState, UnknownReason, Verdict};

/// A pod of the old release that fails by itself for a while, one after the other.
fn restless(pod: i64, now: i64) -> bool {
    let from = 60 + 90 * pod;
    (from..from + 25 + 5 * pod).contains(&now)
}

/// When the comparison of errors fires on a rollout whose second pod comes late, and whether it said that a burst is no proof;
/// single pods of the old release have had bursts of 15 % or not, and the first new one has so many errors for so long.
fn first_of_many(is_restless: bool, errors: f64, lasts: i64) -> (Option<i64>, bool) {
    let (bad, begins) = (Like { errors, ..Like::WELL }, ROLLOUT + 200);
    let mut is_own = false;
    let like = |_: &str, pod: i64, now: i64| match pod {
        0..6 if is_restless && restless(pod, now) => Like { errors: 0.15, ..Like::WELL },
        6 if (begins..begins + lasts).contains(&now) => bad,
        _ => Like::WELL,
    };
    let fired = Rollout::new(6, 900, 2).watch(triggers(), ROLLOUT + 800, like, |status| {
        assert_eq!(status.evidence.contradiction(), None);
        if matches!(status.evidence.verdict, Verdict::Unknown(UnknownReason::OwnBurst { .. })) {
            is_own = true;
            let otherwise = Evidence { verdict: Verdict::Breach, ..status.evidence.clone() };
            let why = otherwise.contradiction().unwrap_or_default();
            assert!(why.contains("a burst of new-0"), "{why}");
        }
    });
    (fired[0].map(|at| at + ROLLOUT - begins), is_own)
}

#[test]
fn a_burst_of_one_pod_as_others_had_before_is_no_proof_until_it_lasts_for_longer() {
    let (calm, is_own) = first_of_many(false, 0.15, 45);
    assert!(calm.is_some_and(|after| after <= 30) && !is_own, "{calm:?}");
    assert_eq!(first_of_many(true, 0.15, 45), (None, true));
    let (lasting, _) = first_of_many(true, 0.15, 600);
    assert!(lasting.is_some_and(|after| (60..=120).contains(&after)), "{lasting:?}");
    let (higher, _) = first_of_many(true, 0.6, 600);
    assert!(higher.is_some_and(|after| after <= 20), "{higher:?}");
}

/// When the comparison of latencies fires on a rollout whose second pod comes late, and whether it said that a pause is no
/// proof; single pods of the old release have paused or not, and the first new one, slow while it is cold, answers so slowly for
/// so long.
fn first_pauses(is_restless: bool, median: f64, lasts: i64) -> (Option<i64>, bool) {
    let (slow, begins) = (Like { median, ..Like::WELL }, ROLLOUT + 150);
    let mut is_own = false;
    let like = |_: &str, pod: i64, now: i64| match pod {
        0..6 if is_restless && restless(pod, now) => Like { median: 0.4, ..Like::WELL },
        6 if now < ROLLOUT + 95 || (begins..begins + lasts).contains(&now) => slow,
        _ => Like::WELL,
    };
    let fired = Rollout::new(6, 900, 2).watch(triggers(), ROLLOUT + 800, like, |status| {
        assert_eq!(status.evidence.contradiction(), None);
        if matches!(status.evidence.verdict, Verdict::Unknown(UnknownReason::OwnBurst { .. })) {
            is_own = true;
            let otherwise = Evidence { verdict: Verdict::Breach, ..status.evidence.clone() };
            let why = otherwise.contradiction().unwrap_or_default();
            assert!(why.contains("a burst of new-0") && why.contains(" above "), "{why}");
        }
        // What single pods do is no like of what outlasts it.
        let own = status.evidence.compared.as_ref().and_then(|compared| compared.bursts.as_ref());
        if let Some((own, around)) = own.zip(status.evidence.around.as_ref()) {
            assert_eq!(around.since_onset.is_some(), own.explain());
        }
    });
    (fired[1].map(|at| at + ROLLOUT - begins), is_own)
}

#[test]
fn a_pause_of_one_pod_as_others_had_before_is_no_proof_until_it_lasts_for_longer() {
    let (calm, is_own) = first_pauses(false, 0.4, 45);
    assert!(calm.is_some_and(|after| after <= 40) && !is_own, "{calm:?}");
    assert_eq!(first_pauses(true, 0.4, 45), (None, true));
    let (lasting, _) = first_pauses(true, 0.4, 600);
    assert!(lasting.is_some_and(|after| (60..=120).contains(&after)), "{lasting:?}");
}

/// When the comparison of latencies fires where each of six pods, old or new, pauses for 40 s of every 200 s, one after the other,
/// and all requests of the new release take so many times as long, and against what it was held.
fn all_pause(seed: u64, times: f64) -> Option<(i64, String)> {
    let mut held_against = String::new();
    let like = |release: &str, pod: i64, now: i64| {
        let is_paused = (now + 33 * pod) % 200 < 40;
        let median = if is_paused { 0.4 } else { 0.05 };
        Like { median: if release == "new" { median * times } else { median }, ..Like::WELL }
    };
    let fired = Rollout::new(6, 100, seed).watch(triggers(), ROLLOUT + 600, like, |status| {
        assert_eq!(status.evidence.contradiction(), None);
        if matches!(status.state, TriggerState::Firing { .. }) && held_against.is_empty() {
            held_against = status.evidence.bound_in_words();
            let beside = status.evidence.around.as_ref().and_then(|around| around.beside);
            assert!(beside.is_some_and(|old| old.value < finite(0.4)), "{beside:?}");
        }
    });
    fired[1].map(|at| (at, held_against))
}

/// The p99 of the old release is that of its pauses, which one or the other of its pods has at any time.
#[test]
fn a_release_that_is_slow_for_longer_than_pods_pause_is_held_against_those_that_do_not() {
    for seed in 0..3 {
        let (at, against) = all_pause(seed, 3.0).unwrap_or((i64::MAX, String::new()));
        assert!((150..=300).contains(&at), "seed {seed}: {at}");
        assert!(against.ends_with("beside it outside of pauses"), "seed {seed}: {against}");
        assert_eq!(all_pause(seed, 1.0), None, "seed {seed}");
    }
}
