//! Where signals get their values from.

use crate::domain::health::fixtures::*;
use crate::domain::health::survey::{SignalSource, Survey, survey};
use crate::domain::observation::Sample;
use crate::domain::policy::{Candidate, Formula, OperandId, WorkloadPolicy};

/// The policy with two further ways to tell p99 latency, in milliseconds: a summary, then a gauge.
fn with_choice() -> WorkloadPolicy {
    let mut policy = policy();
    let latency = policy.signals.get_mut(&"p99_latency".into()).unwrap();
    let summary = Formula::Summary { quantiles: OperandId(SUMMARY), quantile: 0.99 };
    latency.candidates[0].convention = Some("first");
    latency.candidates.push(Candidate { convention: Some("second"), formula: summary, scale: 0.001 });
    policy
}

fn offered(samples: Vec<Sample>, families: &[&str], signal: &str) -> Survey {
    let policy = with_choice();
    let families: Vec<String> = families.iter().map(|family| (*family).to_owned()).collect();
    let all = survey(policy.signals.values(), &policy.operands, &page(samples), &families);
    assert!(all.iter().all(|survey| survey.signal.as_str() != "restarts"), "the daemon sees restarts by itself");
    all.into_iter().find(|survey| survey.signal.as_str() == signal).unwrap()
}

#[test]
fn the_first_way_wins_and_the_second_is_named() {
    let (bucket, quantile) = (sample(BUCKETS, 1, 0.1, 1.0), sample(SUMMARY, 2, 0.99, 120.0));
    let both = offered(vec![bucket, quantile], &[], "p99_latency");
    let source = both.source.unwrap();
    assert_eq!((source.convention.as_deref(), &*source.unit, both.matches), (Some("first"), "s", 1));
    assert_eq!(source.series, ["http_request_duration_seconds"]);
    assert_eq!(both.others.len(), 1);
    assert_eq!((both.others[0].convention.as_deref(), &*both.others[0].unit), (Some("second"), "ms"));
    let second = offered(vec![quantile], &[], "p99_latency");
    assert_eq!(second.source.unwrap().convention.as_deref(), Some("second"));
    assert!(second.others.is_empty());
}

#[test]
fn a_summary_without_the_quantile_is_no_source() {
    let offered = offered(vec![sample(SUMMARY, 2, 0.5, 120.0)], &["rpc_duration_seconds"], "rpc_p99");
    assert_eq!(offered.source, None);
    assert_eq!(offered.unmatched[0].nearest, ["rpc_duration_seconds"]);
}

#[test]
fn what_the_policy_spells_and_the_page_lacks_is_named_with_the_nearest_family() {
    let some = offered(vec![sample(TOTAL, 1, 0.0, 5.0)], &["http_requests_total"], "error_rate");
    let source = some.source.unwrap();
    assert_eq!(source.series, ["http_requests_total{code=~\"5..\"}", "http_requests_total"]);
    assert_eq!((source.convention, &*source.unit), (None, "count"));
    assert_eq!(some.unmatched.len(), 1);
    assert_eq!(some.unmatched[0].selector, "http_requests_total{code=~\"5..\"}");
    let none = offered(Vec::new(), &["go_goroutines", "queue_dept"], "queue");
    assert_eq!((none.source, none.matches), (None, 0));
    assert_eq!(none.unmatched[0].nearest, ["queue_dept"]);
    assert_eq!(none.nearest, ["queue_dept"]);
}

#[test]
fn the_watch_says_what_it_reads() {
    let mut scene = Scene::new(with_choice());
    let source = |scene: &Scene, name: &str| {
        let sources = scene.health.sources(at(100));
        assert_eq!(sources.len(), 5, "{sources:?}");
        let SignalSource { source, .. } = sources.into_iter().find(|found| found.signal.as_str() == name).unwrap();
        source.and_then(|source| source.convention)
    };
    assert_eq!(source(&scene, "p99_latency"), None);
    scene.scrape(100, "a:1", page(vec![sample(SUMMARY, 2, 0.99, 120.0)]));
    assert_eq!(source(&scene, "p99_latency").as_deref(), Some("second"));
    scene.scrape(105, "a:1", page(vec![sample(BUCKETS, 1, 0.1, 1.0), sample(SUMMARY, 2, 0.99, 120.0)]));
    assert_eq!(source(&scene, "p99_latency").as_deref(), Some("first"));
}
