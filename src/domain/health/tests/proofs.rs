//! How much traffic it takes to call something bad.

use crate::domain::health::fixtures::*;
use crate::domain::health::verdict::{TriggerState, UnknownReason, Verdict};
use crate::domain::observation::Page;
use crate::domain::policy::{Condition, WorkloadPolicy};

const INF: f64 = f64::INFINITY;

fn error_rate(min_requests: u64, hold_for: u64) -> WorkloadPolicy {
    let mut policy = policy_with(vec![trigger("error_rate", Condition::Above(finite(0.1)), hold_for)]);
    for signal in policy.signals.values_mut() {
        signal.min_requests = min_requests;
    }
    policy
}

/// Requests and errors per interval, for so many seconds; when it first was pending and fired.
fn run(policy: WorkloadPolicy, seconds: i64, mut traffic: impl FnMut(i64) -> (f64, f64)) -> (Option<i64>, Option<i64>) {
    let mut scene = Scene::new(policy);
    let (mut total, mut bad, mut pending, mut fired) = (0.0, 0.0, None, None);
    for step in 0..seconds / 5 {
        let (requests_now, errors) = if step == 0 { (0.0, 0.0) } else { traffic(step) };
        total += requests_now;
        bad += errors;
        scene.scrape(step * 5, "a:1", requests(total, bad));
        match scene.trigger(step * 5).state {
            TriggerState::Inactive => {}
            TriggerState::Pending { .. } => pending = pending.or(Some(step * 5)),
            TriggerState::Firing { .. } => fired = fired.or(Some(step * 5)),
        }
    }
    (pending, fired)
}

#[test]
fn one_error_in_five_requests_is_no_proof_of_ten_percent() {
    let mut scene = Scene::new(error_rate(0, 0));
    scene.scrape(0, "a:1", requests(0.0, 0.0));
    scene.scrape(5, "a:1", requests(5.0, 1.0));
    let status = scene.trigger(5);
    assert_eq!(status.state, TriggerState::Inactive);
    assert_eq!(status.evidence.verdict, Verdict::Unknown(UnknownReason::NotProven));
    assert_eq!(status.evidence.value, Some(finite(0.2)));
    let (low, high) = status.evidence.interval.unwrap();
    assert!(low.get() < 0.1 && high.get() > 0.6, "{low:?} {high:?}");
}

#[test]
fn below_the_minimum_of_requests_nothing_is_said() {
    let mut scene = Scene::new(error_rate(20, 0));
    scene.scrape(0, "a:1", requests(0.0, 0.0));
    scene.scrape(5, "a:1", requests(19.0, 19.0));
    let few = UnknownReason::TooFewRequests { have: 19, need: 20 };
    assert_eq!(scene.trigger(5).evidence.verdict, Verdict::Unknown(few));
    assert_eq!(scene.trigger(5).evidence.samples, 19);
}

#[test]
fn low_traffic_stretches_the_time_to_proof() {
    // 24 requests a minute with every sixth failing: 4 of 24 in a window prove nothing, 200 requests do.
    let (_, fired) = run(error_rate(20, 60), 1800, |step| (2.0, f64::from(u8::from(step % 3 == 0))));
    let fired = fired.expect("a real fault is found in the end");
    assert!((120..900).contains(&fired), "{fired}");
    // The same fault under traffic needs no longer than its duration.
    let (pending, fired) = run(error_rate(20, 60), 1800, |_| (200.0, 34.0));
    assert_eq!((pending, fired), (Some(5), Some(65)));
}

#[test]
fn what_could_not_be_counted_decides_neither_way() {
    // The share of what ends well, under a bound from below: what is no number may be the part that is missing.
    for (condition, counted, verdict) in [
        (Condition::Below(finite(0.9)), 50.0, Verdict::Unknown(UnknownReason::NotFinite)),
        (Condition::Below(finite(0.9)), 95.0, Verdict::Ok),
        (Condition::Above(finite(0.1)), 5.0, Verdict::Unknown(UnknownReason::NotFinite)),
        (Condition::Above(finite(0.1)), 50.0, Verdict::Breach),
    ] {
        let mut scene = Scene::new(policy_with(vec![trigger("error_rate", condition, 0)]));
        let counts = |total: f64, part: f64, rest: f64| {
            page(vec![sample(TOTAL, 1, 0.0, total), sample(BAD, 2, 0.0, part), sample(BAD, 3, 0.0, rest)])
        };
        scene.scrape(0, "a:1", counts(0.0, 0.0, 0.0));
        scene.scrape(5, "a:1", counts(100.0, counted, f64::NAN));
        assert_eq!(scene.trigger(5).evidence.verdict, verdict, "{condition:?} {counted}");
    }
}

#[test]
fn at_the_threshold_nothing_fires() {
    // 9 % for an hour, in lumps that pass 10 % now and then.
    let (_, fired) = run(error_rate(20, 60), 3600, |step| (10.0, if step % 10 < 3 { 3.0 } else { 0.0 }));
    assert_eq!(fired, None);
}

fn latencies(fast: f64, slow: f64, hung: f64) -> Page {
    let counts = [(0.1, fast), (5.0, fast + slow), (10.0, fast + slow + hung), (INF, fast + slow + hung)];
    page(counts.iter().enumerate().map(|(i, (le, count))| sample(BUCKETS, 10 + i as u32, *le, *count)).collect())
}

#[test]
fn a_quantile_is_proven_by_the_requests_beyond_its_bound() {
    let p99 = || policy_with(vec![trigger("p99_latency", Condition::Above(finite(5.0)), 0)]);
    let cases = [
        // One slow request in 25 is 4 %, and may well be chance.
        ((24.0, 0.0, 1.0), Verdict::Unknown(UnknownReason::NotProven)),
        ((22.0, 0.0, 3.0), Verdict::Breach),
        ((980.0, 0.0, 20.0), Verdict::Breach),
        ((985.0, 0.0, 15.0), Verdict::Unknown(UnknownReason::NotProven)),
        ((900.0, 95.0, 5.0), Verdict::Ok),
    ];
    for ((fast, slow, hung), expected) in cases {
        let mut scene = Scene::new(p99());
        scene.scrape(0, "a:1", latencies(0.0, 0.0, 0.0));
        scene.scrape(5, "a:1", latencies(fast, slow, hung));
        assert_eq!(scene.trigger(5).evidence.verdict, expected, "{fast} {slow} {hung}");
    }
}

#[test]
fn beyond_the_last_bucket_nobody_can_tell_how_slow() {
    let all_in_inf = || page(vec![sample(BUCKETS, 1, 2.5, 0.0), sample(BUCKETS, 2, INF, 500.0)]);
    let highest = finite(2.5);
    let nobody_can_tell = Verdict::Unknown(UnknownReason::OffTheScale { highest });
    let cases = [(2.5, Verdict::Breach), (5.0, nobody_can_tell), (1.0, Verdict::Breach)];
    for (bound, expected) in cases {
        let mut scene = Scene::new(policy_with(vec![trigger("p99_latency", Condition::Above(finite(bound)), 0)]));
        scene.scrape(0, "a:1", page(vec![sample(BUCKETS, 1, 2.5, 0.0), sample(BUCKETS, 2, INF, 0.0)]));
        scene.scrape(5, "a:1", all_in_inf());
        assert_eq!(scene.trigger(5).evidence.verdict, expected, "{bound}");
    }
}

#[test]
fn buckets_without_infinity_are_no_histogram() {
    let mut scene = Scene::new(policy_with(vec![trigger("p99_latency", Condition::Above(finite(2.0)), 0)]));
    scene.scrape(0, "a:1", page(vec![sample(BUCKETS, 1, 1.0, 0.0), sample(BUCKETS, 2, 2.5, 0.0)]));
    scene.scrape(5, "a:1", page(vec![sample(BUCKETS, 1, 1.0, 90.0), sample(BUCKETS, 2, 2.5, 100.0)]));
    assert_eq!(scene.trigger(5).evidence.verdict, Verdict::Unknown(UnknownReason::NoHistogram));
}

#[test]
fn errors_that_could_not_be_counted_are_never_good() {
    let mut scene = Scene::new(error_rate(20, 0));
    scene.scrape(0, "a:1", requests(0.0, 0.0));
    scene.scrape(5, "a:1", requests(100.0, f64::NAN));
    assert_eq!(scene.trigger(5).evidence.verdict, Verdict::Unknown(UnknownReason::NotFinite));
    assert!(!scene.assess(5).healthy);
}

#[test]
fn a_signal_may_be_bad_when_low() {
    let mut scene = Scene::new(policy_with(vec![trigger("request_rate", Condition::Below(finite(2.0)), 0)]));
    scene.scrape(0, "a:1", requests(0.0, 0.0));
    scene.scrape(5, "a:1", requests(50.0, 0.0));
    assert_eq!(scene.trigger(5).evidence.verdict, Verdict::Ok);
    for step in 2..=40 {
        scene.scrape(step * 5, "a:1", requests(50.0, 0.0));
    }
    assert_eq!(scene.trigger(200).evidence.verdict, Verdict::Breach);
}
