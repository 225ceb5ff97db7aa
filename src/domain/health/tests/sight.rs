//! Which release a sample is about, when sight is lost, and what counts as healthy.

use std::sync::Arc;

use crate::domain::health::fixtures::*;
use crate::domain::health::verdict::{TriggerState, UnknownReason, Verdict};
use crate::domain::observation::{
    Answer, FaultKind, HostReading, Observation, Orchestrated, Page, ReleaseView, Seen, Teller,
};
use crate::domain::policy::{Candidate, Condition, Formula, Habitat, OperandId, Severity, WorkloadPolicy};
use crate::domain::testing::orchestrated;
use crate::domain::time::Span;

fn errors() -> WorkloadPolicy {
    policy_with(vec![trigger("error_rate", Condition::Above(finite(0.1)), 0)])
}

fn no_target() -> Verdict {
    Verdict::Unknown(UnknownReason::NoTarget)
}

#[test]
fn what_the_old_process_says_is_not_about_the_new_release() {
    let mut scene = Scene::new(errors());
    scene.releases(0, &[("api", "v1")]);
    scene.about("v1", 0);
    for step in 0..4 {
        scene.scrape(100 + step * 5, "a:1", started(requests(100.0 * step as f64, 0.0), 1));
    }
    assert_eq!(scene.trigger(115).evidence.verdict, Verdict::Ok);
    // The link is switched; the old process breaks down before it is restarted.
    scene.releases(116, &[("api", "v2")]);
    scene.about("v2", 116);
    scene.scrape(120, "a:1", started(requests(1_000.0, 700.0), 1));
    assert_eq!(scene.trigger(120).evidence.verdict, no_target());
    // The new process is well, and all that it counted since it began counts.
    scene.scrape(125, "a:1", started(requests(40.0, 0.0), 122));
    let status = scene.trigger(125);
    assert_eq!((status.evidence.verdict, status.evidence.samples), (Verdict::Ok, 40));
}

/// The link is switched, and before anything is restarted the policy changes.
#[test]
fn under_another_policy_the_old_process_is_still_the_old_one() {
    let changed = |change: &dyn Fn(&mut WorkloadPolicy)| {
        let mut scene = Scene::new(errors());
        scene.releases(0, &[("api", "v1")]);
        scene.about("v1", 0);
        for step in 0..4 {
            scene.scrape(100 + step * 5, "a:1", started(requests(100.0 * step as f64, 0.0), 1));
            scene.probe_result(100 + step * 5, "a:1", None, Err(fault(FaultKind::Unreachable)));
        }
        scene.releases(116, &[("api", "v2")]);
        scene.about("v2", 116);
        let mut policy = errors();
        change(&mut policy);
        scene.health.adopt(Arc::new(policy));
        scene.releases(117, &[("api", "v2")]);
        scene.about("v2", 116);
        scene.scrape(120, "a:1", started(requests(1_000.0, 0.0), 1));
        scene.scrape(125, "a:1", started(requests(1_100.0, 0.0), 1));
        let old = scene.trigger(125).evidence.verdict;
        scene.scrape(130, "a:1", started(requests(40.0, 0.0), 127));
        let new = scene.trigger(130).evidence;
        (old, new.verdict, new.samples)
    };
    let as_before = (no_target(), Verdict::Ok, 40);
    assert_eq!(changed(&|policy| policy.interval = Span::from_secs(6)), as_before);
    assert_eq!(changed(&|policy| policy.cooldown = Span::from_secs(6)), as_before);
    // Elsewhere other instances have the same names.
    let (old, ..) = changed(&|policy| {
        let Habitat::ReleaseDir(place) = &mut policy.habitat else { panic!("{:?}", policy.habitat) };
        place.root = "/srv/other".into();
    });
    assert_eq!(old, Verdict::Ok);
}

/// Pages that don't say when their process began, of pods that answer too slowly to stay ready.
#[test]
fn a_pod_that_leaves_and_returns_is_warm_all_the_same() {
    let mut scene = Scene::new(policy_with(vec![trigger("p99_latency", Condition::Above(finite(1.0)), 0)]));
    let view = |scene: &mut Scene, second: i64, is_ready: bool| {
        let serving = if is_ready { vec!["a".into()] } else { Vec::new() };
        let orchestrated = Some(Box::new(Orchestrated { serving, ..orchestrated("v2", 1) }));
        let view = ReleaseView { instances: vec![("a".into(), "v2".into())], orchestrated, ..ReleaseView::default() };
        let seen = Seen::Releases(Ok(view));
        scene.health.observe(&Observation { workload: "api".into(), at: at(second), seen });
    };
    let slow = |second: i64| {
        let count = 10.0 * second as f64;
        page(vec![
            sample(BUCKETS, 1, 1.0, 0.0),
            sample(BUCKETS, 2, 10.0, count),
            sample(BUCKETS, 3, f64::INFINITY, count),
        ])
    };
    let look = |scene: &mut Scene, from: i64, until: i64| {
        for second in (from..=until).step_by(5) {
            scene.scrape_result(second, "a:1", Some("a"), Ok(slow(second)));
        }
        scene.trigger(until).evidence.verdict
    };
    scene.about("v2", 100);
    view(&mut scene, 100, true);
    assert_eq!(look(&mut scene, 105, 130), Verdict::Unknown(UnknownReason::WarmingUp));
    assert_eq!(look(&mut scene, 135, 190), Verdict::Breach);
    view(&mut scene, 191, false);
    view(&mut scene, 206, true);
    assert_eq!(look(&mut scene, 210, 230), Verdict::Breach);
    // What its host saw start again is cold again.
    view(&mut scene, 231, false);
    for restarts in [0, 1] {
        scene.host(
            232 + restarts,
            "a",
            HostReading { restarts: Some(restarts.cast_unsigned()), ..HostReading::default() },
        );
    }
    view(&mut scene, 246, true);
    assert_eq!(look(&mut scene, 250, 270), Verdict::Unknown(UnknownReason::WarmingUp));
}

#[test]
fn a_process_start_is_read_as_the_clocks_stand_to_one_another() {
    // The wall clock was set back by a minute while the daemon ran: what it says lies that far behind the timeline.
    let mut scene = Scene::new(errors());
    let page = |requests, start| Page { wall_ahead: -60_000, ..started(requests, start) };
    scene.releases(100, &[("api", "v1")]);
    scene.about("v1", 100);
    scene.scrape(110, "a:1", page(requests(100.0, 0.0), -20));
    scene.releases(116, &[("api", "v2")]);
    scene.about("v2", 116);
    scene.scrape(120, "a:1", page(requests(200.0, 50.0), -20));
    assert_eq!(scene.trigger(120).evidence.verdict, no_target(), "the old process");
    scene.scrape(125, "a:1", page(requests(40.0, 20.0), 62));
    let status = scene.trigger(125);
    assert_eq!((status.evidence.verdict, status.evidence.samples), (Verdict::Breach, 40));
}

#[test]
fn a_process_that_began_just_before_the_rollout_was_noticed_is_the_new_one() {
    let mut scene = Scene::new(errors());
    scene.releases(0, &[("api", "v1")]);
    scene.scrape(100, "a:1", started(requests(0.0, 0.0), 1));
    scene.releases(105, &[("api", "v2")]);
    scene.about("v2", 105);
    scene.scrape(106, "a:1", started(requests(50.0, 30.0), 101));
    let status = scene.trigger(106);
    assert_eq!((status.evidence.verdict, status.evidence.samples), (Verdict::Breach, 50));
}

#[test]
fn without_start_times_the_page_that_straddles_the_change_does_not_count() {
    let mut scene = Scene::new(errors());
    scene.releases(0, &[("api", "v1")]);
    scene.scrape(0, "a:1", requests(1_000.0, 0.0));
    scene.releases(4, &[("api", "v2")]);
    scene.about("v2", 4);
    scene.scrape(5, "a:1", requests(1_100.0, 90.0));
    let few = UnknownReason::TooFewRequests { have: 0, need: 20 };
    assert_eq!(scene.trigger(5).evidence.verdict, Verdict::Unknown(few));
    // A restart shows by the fall; from here on it is the new release.
    scene.scrape(10, "a:1", requests(50.0, 40.0));
    let status = scene.trigger(10);
    assert_eq!((status.evidence.verdict, status.evidence.samples), (Verdict::Breach, 50));
}

#[test]
fn the_answer_tells_the_release_before_the_configuration_does() {
    let mut scene = Scene::new(errors());
    scene.releases(0, &[("api", "v1")]);
    scene.probe(1, "a:1", true, Some("v1"));
    scene.scrape(2, "a:1", requests(0.0, 0.0));
    scene.probe(3, "a:1", true, Some("v2"));
    scene.scrape(4, "a:1", requests(100.0, 60.0));
    scene.scrape(9, "a:1", requests(200.0, 120.0));
    scene.about("v1", 0);
    assert_eq!(scene.trigger(9).evidence.verdict, no_target());
    scene.about("v2", 3);
    let status = scene.trigger(9);
    assert_eq!((status.evidence.verdict, status.evidence.samples), (Verdict::Breach, 100));
}

#[test]
fn a_release_that_never_answers_fails_all_that_is_asked_of_it() {
    let mut scene = Scene::new(errors());
    scene.releases(0, &[("old", "v1"), ("new", "v2")]);
    scene.about("v2", 0);
    for step in 0..4 {
        scene.scrape_result(step * 5, "a:1", Some("old"), Ok(requests(100.0 * step as f64, 0.0)));
        scene.scrape_result(step * 5, "b:1", Some("new"), Err(fault(FaultKind::Refused)));
        // The first time it may be a restart that is in the way.
        let verdict = scene.trigger(step * 5).evidence.verdict;
        assert_eq!(verdict == Verdict::Breach, step >= 1, "{step}: {verdict:?}");
    }
    let status = scene.trigger(15);
    assert_eq!((status.evidence.verdict, status.evidence.value), (Verdict::Breach, Some(finite(1.0))));
    // Where nothing answers, the sight itself may be lost.
    let mut scene = Scene::new(errors());
    scene.releases(0, &[("new", "v2")]);
    scene.about("v2", 0);
    scene.scrape_result(15, "b:1", Some("new"), Err(fault(FaultKind::Refused)));
    assert!(matches!(scene.trigger(15).evidence.verdict, Verdict::Unknown(UnknownReason::Blind { .. })));
}

fn up(teller: Teller, active: bool) -> HostReading {
    HostReading { active: Some(active), teller, ..HostReading::default() }
}

/// The old release answers, the new one's page refuses, and this is known of it besides.
fn refusing(besides: impl Fn(&mut Scene, i64)) -> Verdict {
    let mut scene = Scene::new(errors());
    let stand_ins = ["replica 1", "replica 2", "replica 3"].map(|name| (name, "v2"));
    scene.releases(0, &[[("old", "v1"), ("new", "v2")].as_slice(), stand_ins.as_slice()].concat());
    scene.about("v2", 0);
    for seconds in (0..30).step_by(5) {
        scene.scrape_result(seconds, "a:1", Some("old"), Ok(requests(100.0 * seconds as f64, 0.0)));
        scene.scrape_result(seconds, "b:1", Some("new"), Err(fault(FaultKind::Refused)));
        besides(&mut scene, seconds);
        scene.assess(seconds);
    }
    scene.trigger(25).evidence.verdict
}

#[test]
fn a_page_that_refuses_is_no_fault_while_somebody_says_that_the_release_is_in_service() {
    let well = |healthy| Answer { healthy, detail: String::new(), revision: None };
    let probed = |healthy: bool, until: i64| {
        refusing(|scene, seconds| {
            if seconds <= until {
                scene.probe_result(seconds, "b:2", Some("new"), Ok(well(healthy)));
            }
        })
    };
    let hosted = |teller| refusing(|scene, seconds| scene.host(seconds, "new", up(teller, true)));
    let counted = |available: i64| {
        refusing(|scene, seconds| {
            for number in 1..=3 {
                scene.host(seconds, &format!("replica {number}"), up(Teller::Number, number <= available));
            }
        })
    };
    let cases = [
        ("nobody says anything", refusing(|_, _| {}), false),
        ("its health endpoint answers well", probed(true, 30), true),
        ("its health endpoint answers, but not well", probed(false, 30), false),
        ("its health endpoint answered well until a while ago", probed(true, 10), false),
        ("the orchestrator has it in service", hosted(Teller::Orchestrator), true),
        ("its process runs", hosted(Teller::ServiceManager), false),
        ("all of three are in service", counted(3), true),
        ("one of three is not", counted(2), false),
    ];
    for (name, verdict, is_unknown) in cases {
        let expected = |verdict: &Verdict| match is_unknown {
            true => matches!(verdict, Verdict::Unknown(UnknownReason::Blind { .. })),
            false => *verdict == Verdict::Breach,
        };
        assert!(expected(&verdict), "{name}: {verdict:?}");
    }
}

#[test]
fn where_none_is_in_service_and_hardly_anything_is_asked_all_fails() {
    let read = |teller: Teller, available: i64, requests_a_second: f64| {
        let mut scene = Scene::new(errors());
        scene.releases(0, &[("one", "v1"), ("replica 1", "v1"), ("replica 2", "v1")]);
        scene.about("v1", 0);
        let mut count = 0.0;
        for seconds in (0..600).step_by(5) {
            let is_late = seconds >= 400;
            count += 5.0 * if is_late { requests_a_second } else { 10.0 };
            scene.scrape_result(seconds, "a:1", Some("one"), Ok(requests(count, 0.0)));
            for number in 1..=2 {
                let active = !is_late || number <= available;
                scene.host(seconds, &format!("replica {number}"), up(teller, active));
            }
            scene.assess(seconds);
        }
        let evidence = scene.trigger(595).evidence;
        (evidence.verdict, evidence.unanswered)
    };
    let out = (Verdict::Breach, true);
    assert_eq!(read(Teller::Number, 0, 0.0), out);
    assert_eq!(read(Teller::Number, 0, 1.0), out, "somebody looks at its health");
    assert_eq!(read(Teller::Number, 0, 8.0), (Verdict::Ok, false), "it has not been ready for long enough");
    assert_eq!(read(Teller::Number, 1, 1.0), (Verdict::Ok, false));
    assert_eq!(read(Teller::ServiceManager, 0, 1.0), (Verdict::Ok, false));
}

/// When a trigger first fires on a release of which no pod is ready yet, or any more where it was for `served` seconds.
fn fires_without_a_ready_pod(hold: u64, others_serve: bool, served: i64) -> Option<i64> {
    let mut scene = Scene::new(policy_with(vec![trigger("error_rate", Condition::Above(finite(0.1)), hold)]));
    scene.releases(0, &[("old", "v1"), ("new", "v2")]);
    scene.about("v2", 0);
    for seconds in (0..600).step_by(5) {
        scene.host(seconds, "old", up(Teller::Orchestrator, others_serve));
        scene.host(seconds, "new", up(Teller::Orchestrator, seconds < served));
        scene.scrape_result(seconds, "a:1", Some("old"), Ok(requests(50.0 * seconds as f64, 0.0)));
        match seconds - served {
            ..0 => scene.scrape_result(seconds, "b:1", Some("new"), Ok(requests(50.0 * seconds as f64, 0.0))),
            0 => scene.page_gone(seconds, "b:1"),
            _ => {}
        }
        if matches!(scene.trigger(seconds).state, TriggerState::Firing { .. }) {
            return Some(seconds);
        }
        assert_eq!(scene.assess(seconds).blind, None, "at {seconds}");
    }
    None
}

#[test]
fn pods_that_are_not_ready_yet_fail_nobody_while_others_serve() {
    assert_eq!(fires_without_a_ready_pod(15, true, 0), Some(300));
    assert_eq!(fires_without_a_ready_pod(300, true, 0), Some(300), "a longer hold is not made longer");
    assert_eq!(fires_without_a_ready_pod(15, false, 0), Some(60), "it has the time that any process has");
    assert_eq!(fires_without_a_ready_pod(15, true, 100), Some(115), "they were ready");
}

#[test]
fn two_releases_side_by_side_never_mix() {
    let mut scene = Scene::new(errors());
    scene.releases(0, &[("blue", "v1"), ("green", "v2")]);
    for step in 0..5 {
        let count = 100.0 * step as f64;
        scene.scrape_result(step * 5, "a:1", Some("blue"), Ok(requests(count, 0.0)));
        scene.scrape_result(step * 5, "b:1", Some("green"), Ok(requests(count, count / 2.0)));
        // Behind both, and so about neither.
        scene.scrape(step * 5, "proxy:1", requests(9.0 * count, count));
    }
    for (revision, verdict) in [("v1", Verdict::Ok), ("v2", Verdict::Breach), ("v3", no_target())] {
        scene.about(revision, 0);
        let status = scene.trigger(20);
        assert_eq!(status.evidence.verdict, verdict, "{revision}");
        let samples = if verdict == no_target() { 0 } else { 400 };
        assert_eq!(status.evidence.samples, samples, "{revision}");
    }
}

#[test]
fn after_the_daemons_own_restart_an_old_process_gives_way_to_the_one_of_the_rollout() {
    let mut scene = Scene::new(errors());
    scene.releases(200, &[("api", "v2")]);
    scene.about("v2", 195);
    scene.scrape(201, "a:1", started(requests(0.0, 0.0), 5));
    scene.scrape(206, "a:1", started(requests(100.0, 90.0), 5));
    scene.assess(206);
    scene.scrape(211, "a:1", started(requests(50.0, 0.0), 208));
    let status = scene.trigger(211);
    assert_eq!((status.evidence.verdict, status.evidence.samples), (Verdict::Ok, 50));
}

#[test]
fn counts_of_the_host_start_anew_with_a_release() {
    let mut scene = Scene::new(policy_with(vec![trigger("oom_kills", Condition::Above(finite(0.0)), 0)]));
    let kills = |oom_kills| HostReading { oom_kills: Some(oom_kills), ..HostReading::default() };
    scene.releases(0, &[("api", "v1")]);
    scene.host(1, "api", kills(0));
    scene.host(5, "api", kills(1));
    scene.about("v1", 0);
    assert_eq!(scene.trigger(5).evidence.verdict, Verdict::Breach);
    scene.releases(6, &[("api", "v2")]);
    scene.about("v2", 6);
    // Between two readings that straddle the change: nobody can tell whose it was.
    scene.host(10, "api", kills(2));
    assert_eq!(scene.trigger(10).evidence.verdict, Verdict::Ok);
    scene.host(15, "api", kills(3));
    assert_eq!(scene.trigger(15).evidence.verdict, Verdict::Breach);
}

#[test]
fn sight_is_lost_after_five_intervals_and_says_since_when() {
    let mut scene = Scene::new(errors());
    scene.scrape(0, "a:1", requests(0.0, 0.0));
    scene.scrape(5, "a:1", requests(100.0, 0.0));
    for step in 2..20 {
        scene.scrape_result(step * 5, "a:1", None, Err(fault(FaultKind::Unreachable)));
        let assessment = scene.assess(step * 5);
        assert_eq!(assessment.blind.is_some(), step * 5 > 45, "{step}");
        if let Some(blind) = assessment.blind {
            assert_eq!(blind.since, at(20));
            assert_eq!(blind.reason, "error_rate: nothing can be observed: unreachable: as told");
        }
    }
    scene.scrape(100, "a:1", requests(200.0, 0.0));
    assert_eq!(scene.assess(100).blind, None);
}

#[test]
fn what_comes_up_after_a_rest_is_given_time_to_be_seen() {
    let mut scene = Scene::new(errors());
    let view = |scene: &mut Scene, second: i64, replicas: u32| {
        let instances = (0..replicas).map(|number| (format!("p{number}").as_str().into(), "v1".into())).collect();
        let view = ReleaseView {
            instances,
            orchestrated: Some(Box::new(orchestrated("v1", replicas))),
            ..ReleaseView::default()
        };
        let seen = Seen::Releases(Ok(view));
        scene.health.observe(&Observation { workload: "api".into(), at: at(second), seen });
    };
    scene.about("v1", 0);
    view(&mut scene, 0, 0);
    for second in (0..=600).step_by(5) {
        assert_eq!(scene.assess(second).blind, None, "{second}");
        assert!(!scene.health.has_sight(), "nothing is seen all the same");
    }
    view(&mut scene, 605, 2);
    for second in (605..=630).step_by(5) {
        assert_eq!(scene.assess(second).blind, None, "{second}");
    }
    assert_eq!(scene.assess(635).blind.map(|blind| blind.since), Some(at(605)));
}

#[test]
fn little_traffic_is_not_blindness_and_not_health() {
    let mut scene = Scene::new(errors());
    for step in 0..30 {
        scene.scrape(step * 5, "a:1", requests(step as f64, 0.0));
        let assessment = scene.assess(step * 5);
        assert_eq!((assessment.blind, assessment.healthy), (None, false), "{step}");
    }
    scene.scrape(150, "a:1", requests(1_000.0, 0.0));
    assert!(scene.assess(150).healthy);
}

fn with_conventional_latency() -> WorkloadPolicy {
    let mut policy = errors();
    policy.triggers.push(trigger("p99_latency", Condition::Above(finite(5.0)), 0));
    if let Some(signal) = policy.signals.get_mut(&"p99_latency".into()) {
        let formula = Formula::Histogram { buckets: OperandId(BUCKETS), quantile: 0.99 };
        signal.candidates = vec![Candidate { convention: Some("prometheus"), formula, scale: 1.0 }];
    }
    policy
}

#[test]
fn a_latency_that_no_page_offers_is_no_obstacle_while_errors_are_counted() {
    let mut conventional = Scene::new(with_conventional_latency());
    let mut spelt_out = with_conventional_latency();
    for signal in spelt_out.signals.values_mut() {
        signal.candidates[0].convention = None;
    }
    let mut spelt_out = Scene::new(spelt_out);
    let mut nothing = Scene::new(with_conventional_latency());
    for step in 0..10 {
        conventional.scrape(step * 5, "a:1", requests(100.0 * step as f64, 0.0));
        spelt_out.scrape(step * 5, "a:1", requests(100.0 * step as f64, 0.0));
        nothing.scrape(step * 5, "a:1", page(vec![sample(QUEUE, 1, 0.0, 1.0)]));
        for scene in [&mut conventional, &mut spelt_out, &mut nothing] {
            scene.assess(step * 5);
        }
    }
    let (a, b, c) = (conventional.assess(50), spelt_out.assess(50), nothing.assess(50));
    assert_eq!((a.blind.is_some(), a.healthy), (false, true));
    assert_eq!((b.blind.is_some(), b.healthy), (true, false));
    let both: Vec<_> = c.blind.unwrap().triggers.iter().map(ToString::to_string).collect();
    assert_eq!(both, ["error_rate", "p99_latency"]);
    assert!(matches!(&c.triggers[0].evidence.verdict, Verdict::Unknown(UnknownReason::NoSuchSeries { .. })));
}

#[test]
fn what_a_host_does_not_offer_is_neither_blindness_nor_health() {
    let mut policy = policy_with(vec![trigger("oom_kills", Condition::Above(finite(0.0)), 0)]);
    let mut alone = Scene::new(policy.clone());
    policy.triggers.push(trigger("error_rate", Condition::Above(finite(0.1)), 0));
    let mut both = Scene::new(policy);
    for step in 0..20 {
        for scene in [&mut alone, &mut both] {
            scene.scrape(step * 5, "a:1", requests(100.0 * step as f64, 0.0));
            scene.assess(step * 5);
        }
    }
    let (alone, both) = (alone.assess(95), both.assess(95));
    assert_eq!((alone.blind, alone.healthy), (None, false));
    assert_eq!((both.blind, both.healthy), (None, true));
}

#[test]
fn only_critical_triggers_stand_in_the_way_of_health() {
    let mut policy = errors();
    policy.triggers.push(trigger("queue", Condition::Above(finite(5.0)), 0));
    policy.triggers[1].severity = Severity::Alert;
    let mut scene = Scene::new(policy);
    for step in 0..3 {
        let mut page = requests(100.0 * step as f64, 0.0);
        page.samples.push(sample(QUEUE, 9, 0.0, 7.0));
        scene.scrape(step * 5, "a:1", page);
    }
    let assessment = scene.assess(10);
    assert_eq!(assessment.triggers[1].evidence.verdict, Verdict::Breach);
    assert!(assessment.healthy);
}

#[test]
fn a_target_that_is_gone_is_forgotten() {
    let mut scene = Scene::new(errors());
    scene.scrape(0, "a:1", requests(0.0, 0.0));
    scene.scrape(5, "a:1", requests(100.0, 90.0));
    assert_eq!(scene.trigger(5).evidence.verdict, Verdict::Breach);
    scene.page_gone(5, "a:1");
    assert_eq!(scene.trigger(5).evidence.verdict, Verdict::Unknown(UnknownReason::NoReading));
}

#[test]
fn a_rollout_has_one_restart_of_its_own_and_a_crash_loop_right_after_it_counts() {
    let mut scene = Scene::new(policy_with(vec![trigger("crash_loops", Condition::Above(finite(0.0)), 0)]));
    scene.releases(0, &[("api", "v1")]);
    scene.scrape(1, "a:1", started(requests(0.0, 0.0), 0));
    scene.releases(10, &[("api", "v2")]);
    scene.about("v2", 10);
    for (seconds, start) in [(12, 11), (17, 16), (22, 21)] {
        scene.scrape(seconds, "a:1", started(requests(0.0, 0.0), start));
        assert_eq!(scene.trigger(seconds).evidence.verdict, Verdict::Ok, "at {seconds}");
    }
    scene.scrape(27, "a:1", started(requests(0.0, 0.0), 26));
    assert_eq!(scene.trigger(27).evidence.verdict, Verdict::Breach);
}

/// A watch on pods may be silent while the one on their workload is not: those that are seen last are gone, and what comes
/// of asking them is no word of the release that replaced them.
#[test]
fn what_is_seen_of_pods_that_were_replaced_is_put_down_to_no_other_release() {
    let mut scene = Scene::new(policy_with(vec![
        trigger("health", Condition::Above(finite(0.5)), 0),
        trigger("restarts", Condition::Above(finite(0.0)), 0),
    ]));
    let well = Answer { healthy: true, detail: String::new(), revision: None };
    scene.releases(0, &[("a", "v1"), ("b", "v1")]);
    scene.about("v1", 0);
    for second in [0, 5] {
        for (target, instance) in [("a:1", "a"), ("b:1", "b")] {
            scene.probe_result(second, target, Some(instance), Ok(well.clone()));
        }
    }
    scene.about("v2", 6);
    for second in [10, 15, 20] {
        for (target, instance) in [("a:1", "a"), ("b:1", "b")] {
            scene.probe_result(second, target, Some(instance), Err(fault(FaultKind::Refused)));
            let reading = HostReading { restarts: Some(second as u64), ..HostReading::default() };
            scene.host(second, instance, reading);
        }
        for trigger in scene.assess(second).triggers {
            assert!(matches!(trigger.evidence.verdict, Verdict::Unknown(_)), "{second}: {trigger:?}");
        }
    }
}
