//! A trigger's life from observations: pending, firing, held back, reset.

use crate::domain::health::fixtures::*;
use crate::domain::health::verdict::{TriggerState, UnknownReason, Verdict};
use crate::domain::id::TriggerName;
use crate::domain::policy::{Condition, NoData, WorkloadPolicy};
use crate::domain::time::Span;

fn above_ten_percent(seconds: u64) -> WorkloadPolicy {
    policy_with(vec![trigger("error_rate", Condition::Above(finite(0.1)), seconds)])
}

fn pending(since: i64, held: u64) -> TriggerState {
    TriggerState::Pending { since: at(since), held: Span::from_secs(held) }
}

fn firing(since: i64, fired: i64) -> TriggerState {
    TriggerState::Firing { since: at(since), at: at(fired) }
}

/// Requests and errors of each interval from 0 s on, and the states seen at each assessment.
fn states(scene: &mut Scene, from: i64, intervals: &[(f64, f64)]) -> Vec<TriggerState> {
    let (mut total, mut bad) = (1_000_000.0 + 1_000.0 * from as f64, 500_000.0);
    let mut seen = Vec::new();
    for (step, (requests_now, errors)) in intervals.iter().enumerate() {
        let seconds = from + 5 * step as i64;
        total += requests_now;
        bad += errors;
        scene.scrape(seconds, "a:1", requests(total, bad));
        seen.push(scene.trigger(seconds).state);
    }
    seen
}

#[test]
fn a_fault_is_pending_for_its_time_then_fires_then_ends_with_the_first_good_look() {
    let mut scene = Scene::new(above_ten_percent(10));
    let faulty = [(0.0, 0.0), (100.0, 50.0), (100.0, 50.0), (100.0, 50.0)];
    let expected = [TriggerState::Inactive, pending(5, 0), pending(5, 5), firing(5, 15)];
    assert_eq!(states(&mut scene, 0, &faulty), expected);
    scene.scrape(20, "a:1", requests(3_000_000.0, 500_150.0));
    assert_eq!(scene.trigger(20).state, TriggerState::Inactive);
}

#[test]
fn without_a_duration_it_fires_at_once() {
    let mut scene = Scene::new(above_ten_percent(0));
    assert_eq!(states(&mut scene, 0, &[(0.0, 0.0), (100.0, 50.0)]), [TriggerState::Inactive, firing(5, 5)]);
}

#[test]
fn a_brief_spike_never_fires() {
    let mut policy = above_ten_percent(30);
    for signal in policy.signals.values_mut() {
        signal.window = Span::from_secs(10);
    }
    let mut scene = Scene::new(policy);
    let spike = [(0.0, 0.0), (100.0, 60.0), (100.0, 60.0), (100.0, 0.0), (100.0, 0.0), (100.0, 0.0)];
    let seen = states(&mut scene, 0, &spike);
    let inactive = TriggerState::Inactive;
    assert_eq!(seen, [inactive, pending(5, 0), pending(5, 5), pending(5, 10), inactive, inactive]);
}

#[test]
fn unknown_pauses_and_past_five_intervals_starts_anew() {
    let mut scene = Scene::new(above_ten_percent(60));
    states(&mut scene, 0, &[(0.0, 0.0), (100.0, 50.0), (100.0, 50.0)]);
    for (seconds, state) in [(15, pending(5, 10)), (20, pending(5, 15))] {
        assert_eq!(scene.trigger(seconds).state, state, "{seconds}");
    }
    for seconds in (25..=50).step_by(5) {
        let status = scene.trigger(seconds);
        assert_eq!(status.evidence.verdict, Verdict::Unknown(UnknownReason::Stale { newest: at(10) }), "{seconds}");
        assert_eq!(status.state, pending(5, 15), "{seconds}");
    }
    assert_eq!(scene.trigger(51).state, TriggerState::Inactive);
}

#[test]
fn a_firing_one_stays_while_nothing_is_known_and_says_so() {
    let mut scene = Scene::new(above_ten_percent(0));
    states(&mut scene, 0, &[(0.0, 0.0), (100.0, 50.0)]);
    for seconds in (10..=120).step_by(5) {
        let status = scene.trigger(seconds);
        assert_eq!(status.state, firing(5, 5), "{seconds}");
        let is_known = status.evidence.verdict == Verdict::Breach;
        assert_eq!(is_known, seconds <= 15, "{seconds}: {:?}", status.evidence.verdict);
    }
}

#[test]
fn another_release_has_a_clean_slate() {
    let mut scene = Scene::new(above_ten_percent(0));
    scene.releases(0, &[("api", "v1")]);
    scene.about("v1", 0);
    states(&mut scene, 0, &[(0.0, 0.0), (100.0, 50.0)]);
    assert_eq!(scene.trigger(5).state, firing(5, 5));
    scene.releases(6, &[("api", "v2")]);
    scene.about("v2", 6);
    let status = scene.trigger(6);
    assert_eq!(status.state, TriggerState::Inactive);
    assert_eq!(status.evidence.verdict, Verdict::Unknown(UnknownReason::NoReading));
}

#[test]
fn a_restart_takes_the_state_up_unless_it_was_long() {
    let name = TriggerName::from("error_rate");
    for (woke, kept) in [(20, true), (26, true), (36, false)] {
        let mut scene = Scene::new(above_ten_percent(60));
        scene.health.restore(&name, pending(-30, 40), at(10));
        let (mut total, mut bad) = (0.0, 0.0);
        let mut last = TriggerState::Inactive;
        for step in 0..3 {
            total += 100.0;
            bad += 50.0;
            scene.scrape(woke + 5 * step, "a:1", requests(total, bad));
            last = scene.trigger(woke + 5 * step).state;
        }
        let expected = if kept { pending(-30, 45) } else { pending(woke + 5, 5) };
        assert_eq!(last, expected, "woke at {woke}");
    }
}

#[test]
fn no_data_counts_as_the_policy_says() {
    let cases = [
        (NoData::Hold, Verdict::Unknown(UnknownReason::Stale { newest: at(5) }), TriggerState::Inactive),
        (NoData::Ok, Verdict::Ok, TriggerState::Inactive),
        (NoData::Breach, Verdict::Breach, pending(60, 0)),
    ];
    for (no_data, verdict, state) in cases {
        let mut policy = above_ten_percent(30);
        for signal in policy.signals.values_mut() {
            signal.no_data = no_data;
        }
        let mut scene = Scene::new(policy);
        states(&mut scene, 0, &[(0.0, 0.0), (100.0, 0.0)]);
        let status = scene.trigger(60);
        assert_eq!((status.evidence.verdict, status.state), (verdict, state), "{no_data:?}");
        assert!(!scene.assess(60).healthy, "{no_data:?}");
    }
}

#[test]
fn no_data_is_not_held_against_a_start() {
    let mut policy = above_ten_percent(0);
    for signal in policy.signals.values_mut() {
        signal.no_data = NoData::Breach;
    }
    let mut scene = Scene::new(policy);
    for seconds in [0, 10, 20, 25] {
        assert_eq!(scene.trigger(seconds).state, TriggerState::Inactive, "{seconds}");
    }
    assert_eq!(scene.trigger(30).state, firing(30, 30));
}
