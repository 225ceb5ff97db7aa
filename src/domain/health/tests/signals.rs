//! What each signal reads from what went in.

use crate::domain::health::fixtures::*;
use crate::domain::health::verdict::{UnknownReason, Verdict};
use crate::domain::observation::{FaultKind, HostReading};

const INF: f64 = f64::INFINITY;

fn unknown(reason: UnknownReason) -> (Option<f64>, Verdict) {
    (None, Verdict::Unknown(reason))
}

fn value(value: f64) -> (Option<f64>, Verdict) {
    (Some(value), Verdict::Ok)
}

#[test]
fn a_ratio_is_of_the_increases_in_the_window_over_all_targets() {
    let mut scene = Scene::new(policy());
    for step in 0..=20 {
        let seconds = step * 5;
        scene.scrape(seconds, "a:1", requests(1000.0 + 10.0 * step as f64, 7.0));
        scene.scrape(seconds, "b:1", requests(30.0 * step as f64, 3.0 * step as f64));
    }
    assert_eq!(scene.signal(100, "error_rate"), value(36.0 / 480.0));
    assert_eq!(scene.signal(100, "request_rate"), value(8.0));
}

#[test]
fn absent_bad_series_are_no_errors_and_a_late_one_counts_from_zero() {
    let mut scene = Scene::new(policy());
    scene.scrape(0, "a:1", page(vec![sample(TOTAL, 1, 0.0, 500.0)]));
    scene.scrape(5, "a:1", page(vec![sample(TOTAL, 1, 0.0, 540.0)]));
    assert_eq!(scene.signal(5, "error_rate"), value(0.0));
    scene.scrape(10, "a:1", requests(580.0, 4.0));
    assert_eq!(scene.signal(10, "error_rate"), value(0.05));
}

#[test]
fn the_first_page_says_nothing_of_increases() {
    let mut scene = Scene::new(policy());
    scene.scrape(0, "a:1", requests(100_000.0, 99_000.0));
    assert_eq!(scene.signal(0, "error_rate"), unknown(UnknownReason::TooFewRequests { have: 0, need: 20 }));
}

#[test]
fn a_reset_counts_the_new_value_and_a_restart_all_of_it() {
    let mut scene = Scene::new(policy());
    scene.scrape(0, "a:1", requests(1000.0, 10.0));
    scene.scrape(5, "a:1", requests(60.0, 3.0));
    assert_eq!(scene.signal(5, "error_rate"), value(0.05));

    let mut scene = Scene::new(policy());
    scene.scrape(0, "a:1", started(requests(10.0, 0.0), -50));
    // More than before, and yet all of it since the restart.
    scene.scrape(5, "a:1", started(requests(40.0, 20.0), 2));
    assert_eq!(scene.signal(5, "error_rate"), value(0.5));
    // Another process, but older than the page before: nothing to measure from.
    scene.scrape(10, "a:1", started(requests(9_000.0, 9_000.0), -400));
    assert_eq!(scene.signal(10, "error_rate"), value(0.5));
    scene.scrape(15, "a:1", started(requests(9_040.0, 9_000.0), -400));
    assert_eq!(scene.signal(15, "error_rate"), value(0.25));
}

#[test]
fn after_a_long_gap_counting_begins_anew() {
    let mut scene = Scene::new(policy());
    scene.scrape(0, "a:1", requests(0.0, 0.0));
    scene.scrape(5, "a:1", requests(50.0, 0.0));
    scene.scrape(31, "a:1", requests(5_000.0, 5_000.0));
    assert_eq!(scene.signal(31, "error_rate"), value(0.0));
    // The time that nobody looked does not thin the rate.
    scene.scrape(36, "a:1", requests(5_050.0, 5_000.0));
    assert_eq!(scene.signal(36, "request_rate"), value(10.0));
}

#[test]
fn a_series_that_leaves_and_returns_is_not_new() {
    let mut scene = Scene::new(policy());
    scene.scrape(0, "a:1", requests(1_000.0, 900.0));
    for step in 1..9 {
        scene.scrape(step * 5, "a:1", page(vec![sample(TOTAL, 1, 0.0, 1_000.0 + 10.0 * step as f64)]));
    }
    scene.scrape(45, "a:1", requests(1_090.0, 900.0));
    assert_eq!(scene.signal(45, "error_rate"), value(0.0));
}

#[test]
fn duplicates_count_once_and_order_does_not_matter() {
    let mut scene = Scene::new(policy());
    scene.scrape(0, "a:1", requests(0.0, 0.0));
    let doubled = vec![
        sample(BAD, 2, 0.0, 10.0),
        sample(TOTAL, 1, 0.0, 100.0),
        sample(TOTAL, 1, 0.0, 100.0),
        sample(BAD, 2, 0.0, 99.0),
    ];
    scene.scrape(5, "a:1", page(doubled.clone()));
    assert_eq!(scene.signal(5, "error_rate"), value(0.1));
    scene.scrape(10, "a:1", page(doubled));
    assert_eq!(scene.signal(10, "error_rate"), value(0.1));
}

#[test]
fn what_is_no_number_is_never_good() {
    for odd in [f64::NAN, INF, -1.0] {
        let mut scene = Scene::new(policy());
        scene.scrape(0, "a:1", requests(0.0, 0.0));
        scene.scrape(5, "a:1", requests(odd, 0.0));
        assert_eq!(scene.signal(5, "error_rate"), unknown(UnknownReason::NotFinite), "{odd}");
        scene.scrape(10, "a:1", requests(100.0, 0.0));
        assert_eq!(scene.signal(10, "error_rate"), value(0.0), "{odd}");
    }
}

#[test]
fn what_is_no_number_is_told_while_it_is_what_was_seen_last() {
    let mut scene = Scene::new(policy());
    scene.scrape(0, "a:1", requests(0.0, 0.0));
    scene.scrape(5, "a:1", requests(f64::NAN, f64::NAN));
    assert_eq!(scene.signal(15, "error_rate"), unknown(UnknownReason::NotFinite));
    assert_eq!(scene.signal(16, "error_rate"), unknown(UnknownReason::Stale { newest: at(5) }));
    scene.scrape_result(20, "a:1", None, Err(fault(FaultKind::Timeout)));
    let blind = UnknownReason::Blind { fault: "timeout: as told".to_owned() };
    assert_eq!(scene.signal(20, "error_rate"), unknown(blind));
}

#[test]
fn one_target_that_counts_no_numbers_stands_aside() {
    let mut scene = Scene::new(policy());
    for (target, seconds) in [("a:1", 0), ("b:1", 1)] {
        scene.scrape(seconds, target, requests(0.0, 0.0));
    }
    scene.scrape(5, "a:1", requests(100.0, 10.0));
    scene.scrape(6, "b:1", requests(f64::NAN, 90.0));
    assert_eq!(scene.signal(6, "error_rate"), value(0.1));
}

#[test]
fn a_part_of_the_requests_is_not_taken_for_all_of_them() {
    let mut scene = Scene::new(policy());
    let counts = |well: f64, bad: f64| {
        page(vec![sample(TOTAL, 1, 0.0, well), sample(TOTAL, 2, 0.0, bad), sample(BAD, 2, 0.0, bad)])
    };
    scene.scrape(0, "a:1", counts(0.0, 0.0));
    scene.scrape(5, "a:1", counts(f64::NAN, 30.0));
    assert_eq!(scene.signal(5, "error_rate"), unknown(UnknownReason::NotFinite));
    assert_eq!(scene.signal(5, "request_rate"), unknown(UnknownReason::NotFinite));
    scene.scrape(10, "a:1", counts(970.0, 30.0));
    assert_eq!(scene.signal(10, "error_rate"), value(0.03));
}

#[test]
fn a_frozen_exporter_is_idle_by_its_values_and_stale_by_its_own_time() {
    let mut scene = Scene::new(policy());
    let mut stamped = Scene::new(policy());
    for step in 0..20 {
        scene.scrape(step * 5, "a:1", requests(70.0, 0.0));
        let mut page = requests(70.0 + 10.0 * step as f64, 0.0);
        for sample in &mut page.samples {
            sample.timestamp = Some(at((step * 5).min(40)));
        }
        stamped.scrape(step * 5, "a:1", page);
    }
    let idle = UnknownReason::TooFewRequests { have: 0, need: 20 };
    assert_eq!(scene.signal(95, "error_rate"), unknown(idle));
    assert_eq!(stamped.signal(95, "error_rate"), unknown(UnknownReason::Stale { newest: at(40) }));
}

#[test]
fn silence_is_stale_and_a_fault_is_told() {
    let mut scene = Scene::new(policy());
    assert_eq!(scene.signal(0, "error_rate"), unknown(UnknownReason::NoReading));
    scene.scrape(0, "a:1", requests(0.0, 0.0));
    scene.scrape(5, "a:1", requests(100.0, 0.0));
    assert_eq!(scene.signal(15, "error_rate"), value(0.0));
    assert_eq!(scene.signal(16, "error_rate"), unknown(UnknownReason::Stale { newest: at(5) }));
    scene.scrape_result(16, "a:1", None, Err(fault(FaultKind::Refused)));
    let blind = UnknownReason::Blind { fault: "refused: as told".to_owned() };
    assert_eq!(scene.signal(17, "error_rate"), unknown(blind));
}

#[test]
fn the_nearest_families_are_named_where_no_series_matches() {
    let mut scene = Scene::new(policy());
    let families = ["http_requests_totals", "go_goroutines", "http_request_total", "up"];
    let mut page = page(vec![sample(QUEUE, 9, 0.0, 1.0)]);
    page.families = Some(families.iter().map(|name| (*name).to_owned()).collect());
    scene.scrape(0, "a:1", page);
    let nearest = vec!["http_requests_totals".to_owned(), "http_request_total".to_owned()];
    let (_, verdict) = scene.signal(0, "error_rate");
    let Verdict::Unknown(UnknownReason::NoSuchSeries { nearest: mut told, .. }) = verdict else {
        panic!("{verdict:?}")
    };
    told.sort();
    let mut nearest = nearest;
    nearest.sort();
    assert_eq!(told, nearest);
}

fn buckets(series: u32, pairs: &[(f64, f64)]) -> Vec<crate::domain::observation::Sample> {
    pairs.iter().enumerate().map(|(i, (bound, count))| sample(BUCKETS, series + i as u32, *bound, *count)).collect()
}

#[test]
fn a_histogram_adds_up_over_targets_and_keeps_the_bounds_that_all_have() {
    let mut scene = Scene::new(policy());
    scene.scrape(0, "a:1", page(buckets(10, &[(0.1, 0.0), (0.5, 0.0), (1.0, 0.0), (INF, 0.0)])));
    scene.scrape(0, "b:1", page(buckets(20, &[(0.1, 5.0), (1.0, 5.0), (INF, 5.0)])));
    scene.scrape(5, "a:1", page(buckets(10, &[(0.1, 50.0), (0.5, 90.0), (1.0, 100.0), (INF, 100.0)])));
    scene.scrape(5, "b:1", page(buckets(20, &[(0.1, 55.0), (1.0, 105.0), (INF, 105.0)])));
    let (p99, _) = scene.signal(5, "p99_latency");
    assert!((p99.unwrap() - (0.1 + 0.9 * 98.0 / 100.0)).abs() < 1e-12, "{p99:?}");
}

#[test]
fn a_histogram_has_the_bounds_of_its_newest_page() {
    let old = |count: f64| buckets(10, &[(0.1, count), (2.5, count), (5.0, count), (10.0, count), (INF, count)]);
    let new = |count: f64| {
        let fast = 0.98 * count;
        buckets(20, &[(0.1, fast), (2.5, fast), (INF, count)])
    };
    for process_start in [None, Some(4.0)] {
        let mut scene = Scene::new(policy());
        scene.scrape(
            0,
            "a:1",
            crate::domain::observation::Page { process_start: process_start.map(|_| 0.0), ..page(old(0.0)) },
        );
        scene.scrape(
            3,
            "a:1",
            crate::domain::observation::Page { process_start: process_start.map(|_| 0.0), ..page(old(100.0)) },
        );
        for (second, count) in [(6, 100.0), (9, 200.0), (12, 300.0)] {
            scene.scrape(second, "a:1", crate::domain::observation::Page { process_start, ..page(new(count)) });
        }
        let (p99, verdict) = scene.signal(12, "p99_latency");
        assert!(p99.is_none_or(|p99| p99 <= 2.5), "nothing is known beyond 2.5: {p99:?} {verdict:?}");
    }
}

#[test]
fn gauges_and_summaries_are_their_fresh_values() {
    let mut scene = Scene::new(policy());
    let both = |queue: f64, p99: f64| {
        page(vec![sample(QUEUE, 1, 0.0, queue), sample(SUMMARY, 2, 0.5, 0.01), sample(SUMMARY, 3, 0.99, p99)])
    };
    scene.scrape(0, "a:1", both(90.0, 4.0));
    scene.scrape(12, "b:1", both(3.0, 0.2));
    scene.scrape(12, "c:1", both(f64::NAN, f64::NAN));
    assert_eq!(scene.signal(12, "queue"), value(3.0));
    assert_eq!(scene.signal(12, "rpc_p99"), value(0.2));
    assert_eq!(scene.signal(23, "queue"), unknown(UnknownReason::Stale { newest: at(12) }));
    scene.scrape(23, "c:1", both(f64::NAN, f64::NAN));
    assert_eq!(scene.signal(24, "queue"), unknown(UnknownReason::NotFinite));
    assert_eq!(scene.signal(24, "rpc_p99"), unknown(UnknownReason::TooFewRequests { have: 0, need: 20 }));
}

#[test]
fn health_is_the_share_that_answers_badly() {
    let mut scene = Scene::new(policy());
    assert_eq!(scene.signal(0, "health"), unknown(UnknownReason::NoReading));
    scene.probe(1, "a:1", true, None);
    scene.probe(1, "b:1", false, None);
    scene.probe_result(1, "c:1", None, Err(fault(FaultKind::Refused)));
    scene.probe_result(1, "d:1", None, Err(fault(FaultKind::Tls)));
    assert_eq!(scene.signal(1, "health"), value(2.0 / 3.0));
    let mut blind = Scene::new(policy());
    blind.probe_result(1, "d:1", None, Err(fault(FaultKind::Tls)));
    assert_eq!(blind.signal(1, "health"), unknown(UnknownReason::Blind { fault: "tls: as told".to_owned() }));
}

#[test]
fn the_host_counts_kills_and_restarts_from_its_first_reading_on() {
    let reading = |kills, restarts| HostReading {
        oom_kills: Some(kills),
        restarts: Some(restarts),
        active: Some(true),
        ..HostReading::default()
    };
    let mut scene = Scene::new(policy());
    scene.host(0, "a", reading(7, 40));
    assert_eq!(scene.signal(0, "oom_kills"), value(0.0));
    scene.host(5, "a", reading(8, 41));
    scene.host(10, "a", reading(1, 43));
    assert_eq!(scene.signal(10, "oom_kills"), value(2.0));
    assert_eq!(scene.signal(10, "restarts"), value(3.0));
    assert_eq!(scene.signal(10, "crash_loops"), value(1.0));
    assert_eq!(scene.signal(66, "restarts"), value(2.0));
    scene.host(10, "b", HostReading { active: Some(false), ..HostReading::default() });
    assert_eq!(scene.signal(11, "unavailable"), value(0.5));
    assert_eq!(scene.signal(11, "progress_deadline"), unknown(UnknownReason::NotOffered));
    let mut mute = Scene::new(policy());
    mute.host(0, "a", HostReading::default());
    assert_eq!(mute.signal(0, "oom_kills"), unknown(UnknownReason::NotOffered));
}

#[test]
fn an_image_that_one_has_can_be_had() {
    let reading = |active, image_missing| HostReading {
        active: Some(active),
        image_missing: Some(image_missing),
        ..HostReading::default()
    };
    let mut scene = Scene::new(policy());
    scene.host(0, "a", reading(false, true));
    scene.host(0, "b", reading(false, true));
    assert_eq!(scene.signal(0, "image_pull_failures"), value(2.0));
    scene.host(5, "b", reading(true, false));
    assert_eq!(scene.signal(5, "image_pull_failures"), value(0.0));
}

#[test]
fn process_start_times_tell_restarts_where_no_manager_does() {
    let mut scene = Scene::new(policy());
    for (seconds, start) in [(100, 0), (105, 101), (110, 106), (115, 112), (120, 112)] {
        scene.scrape(seconds, "a:1", started(requests(0.0, 0.0), start));
    }
    assert_eq!(scene.signal(120, "restarts"), value(3.0));
    assert_eq!(scene.signal(120, "crash_loops"), value(1.0));
}

#[test]
fn processes_that_answer_in_turn_at_one_address_do_not_restart() {
    let mut scene = Scene::new(policy());
    for step in 0..12 {
        let start = [-50, -20, -80][usize::try_from(step % 3).unwrap()];
        scene.scrape(step * 5, "a:1", started(requests(step as f64, 0.0), start));
    }
    // The younger one came into sight once; which of them answers says nothing more.
    assert_eq!(scene.signal(55, "restarts"), value(1.0));
    assert_eq!(scene.signal(55, "crash_loops"), value(0.0));
}
