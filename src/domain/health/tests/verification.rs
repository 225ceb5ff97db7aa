//! After a rollback: checks and gates on what was seen since.

use crate::domain::health::fixtures::*;
use crate::domain::health::verdict::{CheckStatus, UnknownReason, Verdict};
use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::observation::{Answer, Fault, FaultKind, Sample};
use crate::domain::policy::{Condition, Formula, WorkloadPolicy};
use crate::domain::units::Unit;

const INF: f64 = f64::INFINITY;

fn verify(scene: &Scene, since: i64, now: i64) -> Vec<(String, Verdict, String)> {
    let checks = scene.health.verify(&RevisionId::from("v1"), at(since), at(now));
    checks.into_iter().map(|CheckStatus { name, verdict, detail }| (name, verdict, detail)).collect()
}

fn one(scene: &Scene, since: i64, now: i64, name: &str) -> (Verdict, String) {
    let found = verify(scene, since, now).into_iter().find(|(known, _, _)| known == name);
    found.map(|(_, verdict, detail)| (verdict, detail)).unwrap()
}

fn no_reading() -> Verdict {
    Verdict::Unknown(UnknownReason::NoReading)
}

/// Bad until 100 s, when v1 is put back; its process begins at 101 s.
fn rolled_back(policy: WorkloadPolicy) -> Scene {
    let mut scene = Scene::new(policy);
    scene.releases(0, &[("api", "v2")]);
    scene.probe(0, "a:1", false, Some("v2"));
    for step in 0..20 {
        scene.scrape(step * 5, "a:1", started(requests(100.0 * step as f64, 60.0 * step as f64), -9));
    }
    scene.releases(100, &[("api", "v1")]);
    scene
}

#[test]
fn nothing_seen_is_no_pass() {
    let scene = rolled_back(policy());
    assert_eq!(one(&scene, 100, 101, "health").0, no_reading());
    assert_eq!(one(&scene, 100, 101, "release").0, no_reading());
    assert_eq!(one(&scene, 100, 101, "error_rate").0, Verdict::Unknown(UnknownReason::NoTarget));
}

#[test]
fn with_nothing_to_look_at_nothing_passes() {
    let mut scene = rolled_back(policy());
    scene.releases(101, &[("api", "v1")]);
    assert!(verify(&scene, 100, 102).iter().all(|(name, _, _)| name != "sight"));
    scene.page_gone(102, "a:1");
    scene.endpoint_gone(102, "a:1");
    let sight = (Verdict::Unknown(UnknownReason::NoTarget), "no page and no health endpoint is looked at".to_owned());
    assert_eq!(one(&scene, 100, 103, "sight"), sight);
    assert_ne!(one(&scene, 100, 103, "error_rate").0, Verdict::Ok, "the release may well offer it");
}

/// What it answers reaches back to before the rollback.
#[test]
fn where_only_a_server_is_asked_its_answer_is_the_proof() {
    let mut policy = policy_with(vec![trigger("checkout", Condition::Above(finite(0.1)), 20)]);
    let checkout = signal("checkout", Unit::Ratio, Formula::Query);
    policy.signals.insert(checkout.name.clone(), checkout);
    policy.is_asked = false;
    let asked = WorkloadPolicy { is_asked: true, ..policy.clone() };
    let mut scene = Scene::new(policy);
    scene.releases(103, &[("api", "v1")]);
    let mut verdict = |seconds, value| {
        scene.answer(seconds, "checkout", value);
        one(&scene, 100, seconds, "checkout")
    };
    let bad = "14 % in 1 samples; at most 10 % asked".to_owned();
    assert_eq!(verdict(105, 0.14), (Verdict::Unknown(UnknownReason::NotProven), bad));
    assert_eq!(verdict(110, 0.02).0, Verdict::Ok);
    assert_eq!(one(&scene, 120, 125, "checkout").0, no_reading());
    assert!(verify(&Scene::new(asked), 100, 105).iter().all(|(name, _, _)| name != "checkout"));
}

#[test]
fn all_is_well_once_the_release_was_seen_well() {
    let mut scene = rolled_back(policy());
    scene.scrape(105, "a:1", started(requests(0.0, 0.0), 101));
    scene.scrape(110, "a:1", started(requests(400.0, 1.0), 101));
    scene.probe(111, "a:1", true, Some("v1"));
    scene.releases(112, &[("api", "v1")]);
    let seen = verify(&scene, 102, 113);
    let expected = [
        ("error_rate", "0.25 % in 400 samples; at most 1 % asked"),
        ("health", "1 of 1 endpoints healthy"),
        ("release", "1 endpoint answers as v1"),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(name, detail)| ((*name).to_owned(), Verdict::Ok, (*detail).to_owned())).collect();
    assert_eq!(seen, expected);
}

#[test]
fn the_increase_that_straddles_the_end_of_the_steps_does_not_count() {
    let mut scene = rolled_back(policy());
    scene.scrape(105, "a:1", started(requests(0.0, 0.0), 101));
    scene.scrape(110, "a:1", started(requests(400.0, 300.0), 101));
    scene.scrape(115, "a:1", started(requests(800.0, 300.0), 101));
    let (verdict, detail) = one(&scene, 107, 115, "error_rate");
    assert_eq!((verdict, detail.as_str()), (Verdict::Ok, "0 % in 400 samples; at most 1 % asked"));
}

#[test]
fn too_few_requests_are_no_pass_and_add_up_beyond_the_window() {
    let mut scene = rolled_back(policy());
    for step in 0..20 {
        scene.scrape(105 + step * 5, "a:1", started(requests(step as f64 * 1.5, 0.0), 101));
    }
    let few = UnknownReason::TooFewRequests { have: 9, need: 20 };
    assert_eq!(one(&scene, 102, 135, "error_rate").0, Verdict::Ok);
    let mut scene = rolled_back(policy());
    for step in 0..7 {
        scene.scrape(105 + step * 5, "a:1", started(requests(step as f64 * 1.5, 0.0), 101));
    }
    assert_eq!(one(&scene, 102, 135, "error_rate").0, Verdict::Unknown(few));
}

#[test]
fn still_bad_is_bad_and_unproven_is_neither() {
    for (bad, expected) in [(2.0, Verdict::Unknown(UnknownReason::NotProven)), (20.0, Verdict::Breach)] {
        let mut scene = rolled_back(policy());
        scene.scrape(105, "a:1", started(requests(0.0, 0.0), 101));
        scene.scrape(110, "a:1", started(requests(100.0, bad), 101));
        assert_eq!(one(&scene, 102, 110, "error_rate").0, expected, "{bad}");
    }
}

#[test]
fn a_default_check_without_series_is_left_out_but_one_asked_for_is_not() {
    let mut policy = policy();
    policy.verify.checks = vec![check("p99_latency", 0.5, false), check("queue", 5.0, true)];
    let mut scene = rolled_back(policy);
    scene.scrape(105, "a:1", started(requests(0.0, 0.0), 101));
    let names: Vec<_> = verify(&scene, 102, 105).into_iter().map(|(name, _, _)| name).collect();
    assert_eq!(names, ["queue", "health", "release"]);
    let (verdict, _) = one(&scene, 102, 105, "queue");
    assert!(matches!(verdict, Verdict::Unknown(UnknownReason::NoSuchSeries { .. })), "{verdict:?}");
}

#[test]
fn latency_is_checked_where_it_is_offered() {
    let buckets = |fast: f64, all: f64| -> Vec<Sample> {
        vec![sample(BUCKETS, 1, 0.5, fast), sample(BUCKETS, 2, 5.0, all), sample(BUCKETS, 3, INF, all)]
    };
    for (fast, expected) in [(1000.0, Verdict::Ok), (900.0, Verdict::Breach)] {
        let mut scene = rolled_back(policy());
        scene.scrape(105, "a:1", started(page(buckets(0.0, 0.0)), 101));
        scene.scrape(110, "a:1", started(page(buckets(fast, 1000.0)), 101));
        assert_eq!(one(&scene, 102, 110, "p99_latency").0, expected);
    }
}

#[test]
fn the_wrong_release_is_a_failure_whoever_says_it() {
    let mut scene = rolled_back(policy());
    scene.releases(103, &[("api", "v1")]);
    scene.probe(104, "a:1", true, Some("v2"));
    let (verdict, detail) = one(&scene, 102, 105, "release");
    assert_eq!((verdict, detail.as_str()), (Verdict::Breach, "a:1 answers as v2, v1 is expected"));
    scene.probe(106, "a:1", true, Some("v1"));
    assert_eq!(one(&scene, 102, 107, "release").0, Verdict::Ok);
    scene.releases(108, &[("api", "v3")]);
    let (verdict, detail) = one(&scene, 102, 109, "release");
    assert_eq!((verdict, detail.as_str()), (Verdict::Breach, "api is at v3, v1 is expected"));
}

#[test]
fn one_bad_endpoint_fails_health_and_old_answers_do_not_count() {
    let mut scene = rolled_back(policy());
    scene.probe(103, "a:1", true, Some("v1"));
    scene.probe_result(103, "b:1", None, Err(fault(FaultKind::Timeout)));
    let (verdict, detail) = one(&scene, 102, 104, "health");
    assert_eq!((verdict, detail.as_str()), (Verdict::Breach, "b:1: timeout: as told"));
    scene.probe(105, "b:1", true, None);
    assert_eq!(one(&scene, 102, 106, "health").0, Verdict::Ok);
    let (verdict, _) = one(&scene, 102, 116, "health");
    assert!(matches!(verdict, Verdict::Unknown(UnknownReason::Stale { .. })), "{verdict:?}");
}

fn gate(scene: &Scene, instances: &[&str], answers: u32, since: i64, now: i64) -> Verdict {
    let instances: Vec<_> = instances.iter().map(|name| InstanceId::from(*name)).collect();
    scene.health.gate(&instances, &RevisionId::from("v1"), answers, at(since), at(now))
}

fn answer(scene: &mut Scene, seconds: i64, target: &str, instance: &str, healthy: bool, revision: Option<&str>) {
    let revision = revision.map(RevisionId::from);
    let answer = Answer { healthy, detail: "status 503".to_owned(), revision };
    scene.probe_result(seconds, target, Some(instance), Ok(answer));
}

#[test]
fn a_gate_asks_for_good_answers_in_a_row() {
    let mut scene = Scene::new(policy());
    let few = |have| Verdict::Unknown(UnknownReason::TooFewRequests { have, need: 3 });
    assert_eq!(gate(&scene, &["one"], 3, 0, 1), Verdict::Unknown(UnknownReason::NoTarget));
    let steps = [
        (5, true, Some("v1"), few(1)),
        (10, true, None, few(2)),
        (15, false, Some("v1"), Verdict::Breach),
        (20, true, Some("v1"), few(1)),
        (25, true, Some("v2"), Verdict::Breach),
        (30, true, Some("v1"), few(1)),
        (35, true, Some("v1"), few(2)),
        (40, true, Some("v1"), Verdict::Ok),
    ];
    for (seconds, healthy, revision, expected) in steps {
        answer(&mut scene, seconds, "a:1", "one", healthy, revision);
        assert_eq!(gate(&scene, &["one"], 3, 0, seconds), expected, "{seconds}");
    }
    assert_eq!(gate(&scene, &["one"], 3, 30, 40), few(2));
    assert_eq!(gate(&scene, &["one"], 3, 40, 41), no_reading());
    assert!(matches!(gate(&scene, &["one"], 3, 0, 51), Verdict::Unknown(UnknownReason::Stale { .. })));
}

#[test]
fn what_a_gate_waits_for_is_told() {
    let mut scene = Scene::new(policy());
    let one = [InstanceId::from("one")];
    let mut keeps = |seconds, healthy, revision| {
        answer(&mut scene, seconds, "a:1", "one", healthy, revision);
        scene.health.what_keeps(&one, &RevisionId::from("v1"), at(0))
    };
    assert_eq!(keeps(5, true, Some("v9")), "a:1 answers as v9, v1 is expected");
    assert_eq!(keeps(6, false, Some("v1")), "a:1: status 503");
    assert_eq!(keeps(7, true, Some("v1")), "");
    assert_eq!(scene.health.what_keeps(&one, &RevisionId::from("v1"), at(9)), "a:1 has not answered yet");
    assert_eq!(scene.health.what_keeps(&["two".into()], &RevisionId::from("v1"), at(9)), "");
}

#[test]
fn a_gate_takes_all_instances_where_none_is_named_and_pages_where_none_is_probed() {
    let mut scene = Scene::new(policy());
    answer(&mut scene, 5, "a:1", "one", true, None);
    scene.scrape_result(5, "a:2", Some("one"), Err(fault(FaultKind::Refused)));
    assert_eq!(gate(&scene, &[], 1, 0, 6), Verdict::Ok);
    scene.scrape_result(5, "b:2", Some("two"), Err(fault(FaultKind::Refused)));
    assert_eq!(gate(&scene, &[], 1, 0, 6), Verdict::Breach);
    assert_eq!(gate(&scene, &["two"], 1, 0, 6), Verdict::Breach);
    scene.scrape_result(6, "b:2", Some("two"), Ok(requests(0.0, 0.0)));
    assert_eq!(gate(&scene, &[], 1, 0, 6), Verdict::Ok);
    assert_eq!(gate(&scene, &["one", "two"], 1, 0, 6), Verdict::Ok);
    assert_eq!(gate(&scene, &["one", "three"], 1, 0, 6), Verdict::Unknown(UnknownReason::NoTarget));
}

type Told<'a> = (bool, Option<&'a str>);

/// Three instances of which the first is at v1, and addresses of which nobody knows whose they are: what the gate says of one
/// more instance after they answered so, before the step and since.
fn among(before: &[Told<'_>], since: &[Told<'_>]) -> Verdict {
    let mut scene = Scene::new(policy());
    scene.releases(0, &[("one", "v1"), ("two", "v2"), ("three", "v2")]);
    for (seconds, answers) in [(5, before), (15, since)] {
        for (target, (healthy, revision)) in ["a:1", "b:1", "c:1"].iter().zip(answers) {
            scene.probe(seconds, target, *healthy, *revision);
        }
        if seconds == 5 {
            scene.health.note_well();
        }
    }
    gate(&scene, &["two"], 1, 10, 16)
}

#[test]
fn a_gate_on_the_way_asks_for_as_many_addresses_as_there_are_instances_at_the_release() {
    let (bad, old, new) = ((false, Some("v2")), (true, Some("v2")), (true, Some("v1")));
    let (down, well) = ((false, None), (true, None));
    let cases = [
        ("two of three from the goal", vec![bad, new, bad], vec![new, new, bad], true),
        ("one of three", vec![bad, new, bad], vec![bad, new, bad], false),
        ("the others well at the bad release", vec![old, new, old], vec![new, new, old], true),
        ("one that was well is not any more", vec![old, new, old], vec![bad, new, new], false),
        ("nobody says which, all are well", vec![well, well, well], vec![well, well, well], true),
        ("nobody says which, and what came is down", vec![well, well, well], vec![down, well, well], false),
        ("what was bad before may be so still", vec![down, well, down], vec![well, well, down], true),
    ];
    for (name, before, since, passes) in cases {
        assert_eq!(among(&before, &since) == Verdict::Ok, passes, "{name}");
    }
    let mut scene = Scene::new(policy());
    scene.releases(0, &[("one", "v1"), ("two", "v1"), ("three", "v1")]);
    scene.probe(5, "a:1", true, Some("v1"));
    scene.probe(5, "b:1", false, Some("v1"));
    assert_eq!(gate(&scene, &["three"], 1, 1, 6), Verdict::Breach, "at last all of them");
}

/// One address stands for all, each in turn, and those at the bad release are not well.
#[test]
fn the_answers_of_an_address_that_stands_for_several_need_not_be_in_a_row() {
    let mut scene = Scene::new(policy());
    scene.releases(0, &[("one", "v2"), ("two", "v2")]);
    scene.probe(1, "a:1", false, None);
    assert_eq!(gate(&scene, &["one"], 2, 0, 1), Verdict::Breach, "after a start");
    scene.health.note_well();
    let mut verdicts = Vec::new();
    for (seconds, healthy) in [(11, true), (12, false), (13, true)] {
        scene.probe(seconds, "a:1", healthy, None);
        verdicts.push(gate(&scene, &["one"], 2, 10, seconds) == Verdict::Ok);
    }
    assert_eq!(verdicts, [false, false, true]);
}

/// Two instances, the link of both switched back to v1 at 101; only `one` was restarted.
fn half_restarted() -> Scene {
    let mut scene = Scene::new(policy_with(vec![trigger("error_rate", Condition::Above(finite(0.1)), 0)]));
    scene.releases(0, &[("one", "v2"), ("two", "v2")]);
    for seconds in (0..=100).step_by(5) {
        for (target, instance) in [("a:1", "one"), ("b:1", "two")] {
            let page = started(requests(10.0 * seconds as f64, 0.0), -50);
            scene.scrape_result(seconds, target, Some(instance), Ok(page));
        }
    }
    scene.releases(101, &[("one", "v1"), ("two", "v1")]);
    for seconds in (105..=130).step_by(5) {
        let page = started(requests(20.0 * (seconds - 100) as f64, 0.0), 102);
        scene.scrape_result(seconds, "a:1", Some("one"), Ok(page));
        let page = started(requests(10.0 * seconds as f64, 0.0), -50);
        scene.scrape_result(seconds, "b:1", Some("two"), Ok(page));
    }
    scene.releases(130, &[("one", "v1"), ("two", "v1")]);
    scene
}

#[test]
fn an_instance_whose_process_was_not_replaced_does_not_serve_the_release() {
    let mut scene = half_restarted();
    let (verdict, detail) = one(&scene, 102, 131, "release");
    assert_eq!(verdict, no_reading());
    assert_eq!(detail, "two still runs the process from before v1 was put in its place: its restart had no effect");
    assert_eq!(gate(&scene, &["one"], 1, 102, 131), Verdict::Ok);
    for instances in [&["two"][..], &[]] {
        assert_eq!(gate(&scene, instances, 1, 102, 131), no_reading(), "{instances:?}");
    }
    let keeps = |of: &str| scene.health.what_keeps(&[of.into()], &RevisionId::from("v1"), at(102));
    assert_eq!(keeps("two"), detail);
    assert_eq!(keeps("one"), "");
    let dark = Err(Fault { kind: FaultKind::Refused, detail: "no listener".to_owned() });
    scene.scrape_result(132, "b:1", Some("two"), dark);
    let keeps = scene.health.what_keeps(&["two".into()], &RevisionId::from("v1"), at(102));
    assert_eq!(keeps, "b:1: refused: no listener", "nobody says that the old process answers");
    scene.about("v1", 101);
    assert!(!scene.assess(131).healthy, "half of it is another release");
    for seconds in [135, 140, 145, 150] {
        for (target, instance) in [("a:1", "one"), ("b:1", "two")] {
            let page = started(requests(20.0 * (seconds - 100) as f64, 0.0), if instance == "one" { 102 } else { 132 });
            scene.scrape_result(seconds, target, Some(instance), Ok(page));
        }
    }
    scene.releases(150, &[("one", "v1"), ("two", "v1")]);
    assert_eq!(one(&scene, 102, 151, "release").0, Verdict::Ok);
    assert_eq!(gate(&scene, &["one", "two"], 1, 132, 151), Verdict::Ok);
    assert!(scene.assess(151).healthy);
}
