//! What happens on the way between a plan and its end: the operator's hand, other writers, a death, a failed attempt.

use std::sync::Arc;

use rollbackd::domain::controller::{Input, Output, RequestKind, StepStanding};
use rollbackd::domain::fleet::Fleet;
use rollbackd::domain::id::{InstanceId, TargetId, WorkloadId};
use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::incident::record::{Closing, Event};
use rollbackd::domain::incident::state::WorkloadState;
use rollbackd::domain::observation::{Answer, Observation, ReleaseView, Seen};
use rollbackd::domain::policy::{Mode, Release, SmokeTest, Strategy, WorkloadPolicy};
use rollbackd::domain::response::plan::{Aspect, Finding, Purpose};
use rollbackd::domain::time::{Span, Timestamp};

use crate::world::{Behaviour, DAWN, Script, WELL, World, policy};

mod between;
mod sight;

fn v2_is_bad() -> Script {
    Box::new(|revision: &str, _: Timestamp| if revision == "v2" { Behaviour { errors: 0.4, ..WELL } } else { WELL })
}

/// v1 is known good, v2 is in place and bad; whatever is rolled back to fails its smoke test while `smoke_passes` is off.
fn world(strategy: Strategy, instances: &[&str]) -> World {
    let mut policy = policy(strategy, instances);
    policy.verify.smoke = Some(SmokeTest { argv: vec!["smoke".to_owned()], timeout: Span::from_secs(5) });
    let mut world = World::new(policy, v2_is_bad());
    world.run(Span::from_secs(60));
    world.deploy("v2");
    world
}

fn until(world: &mut World, phase: Phase) {
    let came = world.run_until(Span::from_secs(300), |world| world.phases().last() == Some(&phase));
    let told: Vec<String> =
        world.alerts.iter().zip(&world.alert_times).map(|(a, at)| format!("{at} {} {}", a.phase, a.reason)).collect();
    assert!(came, "never {phase}: {told:#?}");
}

#[test]
fn killed_after_a_failed_attempt_the_ladder_is_climbed_on() {
    for lost in [true, false] {
        let mut world = world(Strategy::Direct, &["a"]);
        world.smoke_passes = false;
        until(&mut world, Phase::Failed);
        world.crash(lost);
        world.smoke_passes = true;
        until(&mut world, Phase::Restored);
        assert_eq!(world.purposes(), [Purpose::First, Purpose::Retry]);
        assert!(!world.phases().contains(&Phase::Held), "{:?}", world.phases());
    }
}

#[test]
fn paused_after_a_failed_attempt_nothing_is_closed_until_it_is_resumed() {
    let mut world = world(Strategy::Direct, &["a"]);
    world.smoke_passes = false;
    until(&mut world, Phase::Failed);
    world.ask(RequestKind::Pause { reason: "looking".to_owned() }).unwrap();
    world.run(Span::from_secs(120));
    assert_eq!(world.phases().last(), Some(&Phase::Held), "{:?}", world.phases());
    world.smoke_passes = true;
    world.ask(RequestKind::Resume).unwrap();
    until(&mut world, Phase::Restored);
}

#[test]
fn what_stands_in_the_way_of_the_next_attempt_for_long_is_a_humans_to_judge() {
    let mut world = world(Strategy::Direct, &["a"]);
    world.smoke_passes = false;
    until(&mut world, Phase::Failed);
    world.findings = vec![Finding {
        aspect: Aspect::Place,
        check: "release v1".to_owned(),
        problem: "it is gone".to_owned(),
        passing: false,
    }];
    until(&mut world, Phase::Escalated);
    assert!(world.last_alert().reason.contains("it is gone"), "{}", world.last_alert().reason);
}

#[test]
fn what_stands_in_the_way_of_the_first_attempt_for_an_hour_is_a_humans_to_judge() {
    let mut world = world(Strategy::Direct, &["a"]);
    let finding = Finding {
        aspect: Aspect::Place,
        check: "release v1".to_owned(),
        problem: "it is gone".to_owned(),
        passing: false,
    };
    world.findings = vec![finding];
    until(&mut world, Phase::Held);
    world.run(Span::from_secs(3_500));
    assert_eq!(world.phases().last(), Some(&Phase::Held));
    until(&mut world, Phase::Escalated);
    let reason = &world.last_alert().reason;
    assert!(reason.starts_with("held for 1h: the plan does not pass its preflight: "), "{reason}");
    world.findings.clear();
    world.run(Span::from_secs(300));
    assert_eq!((world.switches.len(), world.phases().last()), (0, Some(&Phase::Escalated)), "a human has it");
    assert_eq!(crate::again::other_decision(&world.journal), None);
}

#[test]
fn a_rollout_that_is_half_way_is_followed_once() {
    let mut world = World::new(policy(Strategy::Rolling, &["a", "b", "c"]), v2_is_bad());
    world.run(Span::from_secs(60));
    let before = world.journal.len();
    for (instance, revision) in [("a", "v2"), ("b", "v3"), ("a", "v3"), ("c", "v3")] {
        world.publish(revision);
        world.deploy_to(instance, revision);
        world.run(Span::from_secs(3));
    }
    let seen: Vec<&str> = world.journal[before..]
        .iter()
        .filter_map(|record| match &record.event {
            Event::ReleaseObserved { revision, .. } => Some(revision.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(seen, ["v2", "v3"]);
}

#[test]
fn a_start_in_the_middle_of_a_rollout_takes_neither_release_for_news() {
    let mut world = World::new(policy(Strategy::Rolling, &["a", "b"]), Box::new(|_, _| WELL));
    world.run(Span::from_secs(60));
    for instance in ["b", "a"] {
        world.deploy_to(instance, "v2");
        world.run(Span::from_secs(3));
        world.crash(true);
        world.run(Span::from_secs(3));
        let state = world.fleet.get(&world.policy.id).unwrap().state();
        assert_eq!(state.current.as_ref().unwrap().revision.as_str(), "v2");
        assert_eq!(state.previous.as_ref().unwrap().as_str(), "v1");
    }
}

#[test]
fn a_start_takes_no_release_that_stayed_behind_for_news() {
    let mut world = World::new(policy(Strategy::Rolling, &["a", "b", "c"]), Box::new(|_, _| WELL));
    world.publish("v3");
    world.run(Span::from_secs(30));
    for (instances, release) in [(&["b", "c"][..], "v2"), (&["c"], "v3")] {
        for instance in instances {
            world.deploy_to(instance, release);
        }
        world.run(Span::from_secs(30));
    }
    let current = |world: &World| {
        let state = world.fleet.get(&world.policy.id).unwrap().state();
        state.current.as_ref().unwrap().revision.as_str().to_owned()
    };
    assert_eq!(current(&world), "v3");
    for lost in [false, true] {
        world.crash(lost);
        world.run(Span::from_secs(30));
        assert_eq!(current(&world), "v3", "a is at v1 and b at v2 as before");
    }
    // What came while nobody looked is news.
    world.publish("v4");
    world.deploy_to("a", "v4");
    world.crash(false);
    world.run(Span::from_secs(30));
    assert_eq!(current(&world), "v4");
}

#[test]
fn whoever_puts_the_bad_release_back_during_a_retry_is_the_one_to_decide() {
    let mut world = world(Strategy::Direct, &["a"]);
    world.smoke_passes = false;
    until(&mut world, Phase::Failed);
    world.deploy("v2");
    world.run(Span::from_secs(60));
    let superseded = world.journal.iter().any(
        |record| matches!(&record.event, Event::Closed { how: Closing::Superseded { by, .. } } if by.as_str() == "v2"),
    );
    assert!(superseded, "{:?}", world.phases());
    assert_eq!(world.running(), Some("v2"));
}

/// What answers does not say which release it is.
#[test]
fn whoever_puts_the_bad_release_back_on_one_instance_ends_the_rollback_there() {
    for paused in [true, false] {
        let mut world = world(Strategy::Rolling, &["a", "b", "c"]);
        let is_begun = |world: &World| world.switches.len() == 1 && world.runs_at("a") == "v1";
        assert!(world.run_until(Span::from_secs(300), is_begun), "{:?}", world.phases());
        if paused {
            world.ask(RequestKind::Pause { reason: "looking".to_owned() }).unwrap();
        }
        world.deploy_to("a", "v2");
        world.run(Span::from_secs(5));
        if paused {
            let _over = world.ask(RequestKind::Resume);
        }
        world.run(Span::from_secs(60));
        let closed = world.alerts.iter().find(|alert| alert.phase == Phase::Closed).expect("it is over");
        assert!(closed.reason.starts_with("v2 was put in place by someone else"), "{}", closed.reason);
        assert_eq!((world.switches.len(), world.running()), (1, Some("v2")));
    }
}

#[test]
fn where_others_are_is_told_when_somebody_ends_a_rollback_half_way() {
    let mut world = world(Strategy::Rolling, &["a", "b", "c"]);
    let is_half_way = |world: &World| world.switches.len() == 1;
    assert!(world.run_until(Span::from_secs(300), is_half_way), "{:?}", world.phases());
    world.publish("v9");
    world.deploy_to("c", "v9");
    until(&mut world, Phase::Closed);
    let reason = &world.last_alert().reason;
    assert!(reason.contains("v9 was put in place by someone else"), "{reason}");
    assert!(reason.ends_with("others are left as they are: a at v1; b at v2"), "{reason}");
}

#[test]
fn each_plan_is_looked_over_itself() {
    let mut world = World::new(policy(Strategy::Direct, &["a"]), v2_is_bad());
    world.run(Span::from_secs(60));
    world.publish("v3");
    world.deploy("v3");
    world.run(Span::from_secs(60));
    world.deploy("v2");
    world.job_delay = Span::from_secs(2);
    // Phase detected, the plan to v3 is being looked over.
    until(&mut world, Phase::Detected);
    let to = Some("v1".into());
    world.ask(RequestKind::Rollback { reason: "v3 is no good".to_owned(), to, force: Vec::new() }).unwrap();
    until(&mut world, Phase::Started);
    let looked_over = world.preflights.last().map(|plan| plan.to.as_str());
    assert_eq!((looked_over, world.last_alert().to.as_ref().unwrap().revision.as_str()), (Some("v1"), "v1"));
}

#[test]
fn a_report_from_outside_that_is_rejected_is_over() {
    let mut world = World::new(policy(Strategy::Direct, &["a"]), v2_is_bad());
    world.run(Span::from_secs(60));
    // Nothing to go back to: it is held.
    world.ask(RequestKind::Trigger { kind: "security".to_owned(), reason: "a leak".to_owned(), key: None }).unwrap();
    world.run(Span::from_secs(5));
    let incident = world.incident().expect("it is open");
    world.ask(RequestKind::Reject { incident, reason: "false alarm".to_owned() }).unwrap();
    world.run(Span::from_secs(5));
    assert_eq!(world.phases().last(), Some(&Phase::Closed), "{:?}", world.phases());
    assert!(world.last_alert().reason.contains("false alarm"), "{}", world.last_alert().reason);
}

#[test]
fn what_only_the_smoke_test_found_stays_a_humans() {
    let mut world = world(Strategy::Direct, &["a"]);
    world.smoke_passes = false;
    until(&mut world, Phase::Escalated);
    world.run(Span::from_secs(300));
    assert_eq!(world.phases().last(), Some(&Phase::Escalated), "{:?}", world.phases());
    let incident = world.incident().expect("it is open");
    world.ask(RequestKind::Reject { incident, reason: "repaired".to_owned() }).unwrap();
    assert_eq!(world.phases().last(), Some(&Phase::Closed));
}

#[test]
fn an_escalated_incident_is_over_only_when_the_service_stays_well() {
    // v1 is bad as well for a while, then both are repaired by other means.
    let script: Script = Box::new(|_: &str, now: Timestamp| {
        let second = (now.as_millis() - 1_800_000_000_000) / 1000;
        if (62..400).contains(&second) { Behaviour { errors: 0.4, healthy: false, ..WELL } } else { WELL }
    });
    let mut world = World::new(policy(Strategy::Direct, &["a"]), script);
    world.run(Span::from_secs(60));
    world.deploy("v2");
    until(&mut world, Phase::Escalated);
    world.run(Span::from_secs(200));
    until(&mut world, Phase::Closed);
    let healthy_again = world.alert_times.last().unwrap().since(crate::world::DAWN);
    let earliest = Span::from_secs(400) + world.policy.known_good_after;
    assert!(healthy_again >= earliest, "closed after {healthy_again}, {earliest} at the earliest");
}

#[test]
fn an_operators_no_is_over_with_the_fault() {
    let script: Script = Box::new(|release: &str, now: Timestamp| {
        let second = now.since(DAWN).as_millis() / 1000;
        if release == "v2" && !(100..160).contains(&second) { Behaviour { errors: 0.4, ..WELL } } else { WELL }
    });
    let mut world = World::new(policy(Strategy::Direct, &["a"]), script);
    world.run(Span::from_secs(60));
    world.deploy("v2");
    world.ask(RequestKind::Pause { reason: "looking".to_owned() }).unwrap();
    until(&mut world, Phase::Held);
    let reject = |world: &mut World| {
        let incident = world.incident().expect("it is open");
        world.ask(RequestKind::Reject { incident, reason: "no".to_owned() }).unwrap();
    };
    reject(&mut world);
    // Another report has the incident while the fault ends.
    world.ask(RequestKind::Trigger { kind: "data".to_owned(), reason: "lost".to_owned(), key: None }).unwrap();
    world.run(Span::from_secs(60));
    reject(&mut world);
    world.ask(RequestKind::Resume).unwrap();
    assert_eq!(world.switches, []);
    until(&mut world, Phase::Restored);
}

/// No trigger asks for it.
#[test]
fn a_release_whose_health_endpoint_fails_is_not_known_to_be_good() {
    let mut policy = policy(Strategy::Direct, &["a"]);
    policy.triggers.retain(|trigger| trigger.signal.as_str() != "health");
    let script: Script = Box::new(|release: &str, _: Timestamp| Behaviour { healthy: release != "v2", ..WELL });
    let mut world = World::new(policy, script);
    world.run(Span::from_secs(60));
    world.deploy("v2");
    world.run(Span::from_secs(600));
    let good = world.journal.iter().filter_map(|record| match &record.event {
        Event::KnownGood { revision, .. } => Some(revision.as_str()),
        _ => None,
    });
    assert_eq!(good.collect::<Vec<_>>(), ["v1"]);
}

/// Whatever is reported besides, and whoever or whatever reports it: the fault that an operator said no to goes on.
#[test]
fn an_operators_no_to_a_fault_lasts_as_long_as_the_fault() {
    let mut world = world(Strategy::Direct, &["a"]);
    world.ask(RequestKind::Pause { reason: "looking".to_owned() }).unwrap();
    until(&mut world, Phase::Held);
    let reject = |world: &mut World, reason: &str| {
        let incident = world.incident().expect("it is open");
        world.ask(RequestKind::Reject { incident, reason: reason.to_owned() }).unwrap();
    };
    reject(&mut world, "no way back: a migration");
    world.ask(RequestKind::Resume).unwrap();
    let report = |key: Option<&str>| RequestKind::Trigger {
        kind: "data".to_owned(),
        reason: "too many errors".to_owned(),
        key: key.map(str::to_owned),
    };
    // A program that sees the same.
    world.ask(report(Some("HighErrorRate"))).unwrap();
    world.run(Span::from_secs(60));
    assert_eq!(world.switches, []);
    reject(&mut world, "known");
    world.run(Span::from_secs(60));
    assert_eq!(world.switches, []);
    world.crash(false);
    world.run(Span::from_secs(60));
    assert_eq!(world.switches, [], "{:?}", world.phases());
    // A human has the last word.
    world.ask(report(None)).unwrap();
    until(&mut world, Phase::Restored);
}

#[test]
fn what_was_reported_and_escalated_is_over_when_a_human_says_so() {
    let mut world = World::new(policy(Strategy::Direct, &["a"]), Box::new(|_, _| WELL));
    world.run(Span::from_secs(60));
    world.ask(RequestKind::Trigger { kind: "security".to_owned(), reason: "a leak".to_owned(), key: None }).unwrap();
    // There is no release to go back to.
    world.run(Span::from_secs(3_660));
    assert_eq!(world.phases().last(), Some(&Phase::Escalated));
    world.run(Span::from_secs(600));
    assert_eq!(world.phases().last(), Some(&Phase::Escalated), "that it is well says nothing of a leak");
    let incident = world.incident().expect("it is open");
    world.ask(RequestKind::Reject { incident, reason: "v2 is patched".to_owned() }).unwrap();
    until(&mut world, Phase::Closed);
}

/// The release that is gone back to takes a few seconds to come up, and its page can't be read for a few more: a trigger fires
/// on that, and fires on while nothing is known.
#[test]
fn a_goal_that_is_coming_up_is_not_bad_as_well() {
    let script: Script = Box::new(|revision: &str, now: Timestamp| {
        let second = now.since(DAWN).as_millis() / 1000;
        match revision {
            "v2" => Behaviour { errors: 0.4, ..WELL },
            _ if (62..68).contains(&second) => Behaviour { readable: false, hangs: true, healthy: false, ..WELL },
            _ if (68..75).contains(&second) => Behaviour { readable: false, ..WELL },
            _ => WELL,
        }
    });
    let mut policy = policy(Strategy::Direct, &["a"]);
    let name = policy.triggers[0].signal.clone();
    policy.signals.get_mut(&name).expect("its signal").window = Span::from_secs(2);
    policy.triggers[0].hold_for = Span::from_secs(1);
    let mut world = World::new(policy, script);
    world.run(Span::from_secs(60));
    world.deploy("v2");
    until(&mut world, Phase::Restored);
    assert!(!world.phases().contains(&Phase::Failed), "{:?}", world.phases());
    assert_eq!(world.purposes(), [Purpose::First]);
}

#[test]
fn a_smoke_test_that_does_not_end_is_named_and_stays_a_humans() {
    let mut world = world(Strategy::Direct, &["a"]);
    world.smoke_hangs = true;
    until(&mut world, Phase::Escalated);
    assert!(world.last_alert().reason.ends_with("the smoke test has not ended"), "{}", world.last_alert().reason);
    world.run(Span::from_secs(300));
    assert_eq!(world.phases().last(), Some(&Phase::Escalated), "{:?}", world.phases());
}

#[test]
fn a_smoke_test_is_not_begun_while_it_is_paused() {
    let mut world = world(Strategy::Direct, &["a"]);
    until(&mut world, Phase::Verifying);
    world.ask(RequestKind::Pause { reason: "wait".to_owned() }).unwrap();
    world.run(world.policy.deadline + Span::from_secs(60));
    assert_eq!(world.phases().last(), Some(&Phase::Held), "{:?}", world.phases());
    assert!(!world.journal.iter().any(|record| record.event == Event::SmokeStarted));
    world.ask(RequestKind::Resume).unwrap();
    until(&mut world, Phase::Restored);
    assert_eq!(world.purposes(), [Purpose::First]);
}

/// Twice for longer than it has.
#[test]
fn the_time_in_which_it_is_paused_is_none_of_the_plans() {
    let mut world = World::new(policy(Strategy::Rolling, &["a", "b", "c"]), v2_is_bad());
    world.run(Span::from_secs(60));
    world.deploy("v2");
    until(&mut world, Phase::Started);
    for _ in 0..2 {
        world.run(Span::from_secs(2));
        world.ask(RequestKind::Pause { reason: "looking".to_owned() }).unwrap();
        world.run(world.policy.deadline + Span::from_secs(10));
        assert_eq!(world.phases().last(), Some(&Phase::Held), "{:?}", world.phases());
        let preview = world.fleet.preview(&world.policy.id, world.now).unwrap();
        assert!(preview.plan.is_some_and(|plan| plan.deadline > world.now), "what is left of it is told");
        assert_eq!(preview.steps.first(), Some(&StepStanding::Done));
        assert_eq!(preview.steps.last(), Some(&StepStanding::ToDo));
        world.ask(RequestKind::Resume).unwrap();
    }
    until(&mut world, Phase::Restored);
    assert_eq!(world.purposes(), [Purpose::First]);
    assert!(!world.phases().contains(&Phase::Failed), "{:?}", world.phases());
    assert_eq!(crate::again::other_decision(&world.journal), None);
    let held = world.alerts.iter().find(|alert| alert.phase == Phase::Held).unwrap();
    assert!(held.reason.ends_with(": looking"), "{}", held.reason);
}

#[test]
fn a_step_that_fails_past_the_deadline_says_why_it_failed() {
    let mut world = world(Strategy::Direct, &["a"]);
    world.restarts_fail = true;
    until(&mut world, Phase::Started);
    world.job_delay = world.policy.deadline;
    until(&mut world, Phase::Failed);
    assert_eq!(world.last_alert().reason, "no such unit");
}

#[test]
fn the_second_attempt_is_judged_by_what_it_brings() {
    // The goal is sick at first, and well from its second start on.
    let mut world = World::new(
        policy(Strategy::Direct, &["a"]),
        Box::new(|revision: &str, now: Timestamp| {
            let second = (now.as_millis() - 1_800_000_000_000) / 1000;
            match revision {
                "v2" => Behaviour { errors: 0.4, ..WELL },
                _ if (65..83).contains(&second) => Behaviour { healthy: false, ..WELL },
                _ => WELL,
            }
        }),
    );
    world.run(Span::from_secs(60));
    world.deploy("v2");
    until(&mut world, Phase::Failed);
    let failed = world.now;
    until(&mut world, Phase::Started);
    assert!(world.now.since(failed) >= world.policy.interval, "at once");
    until(&mut world, Phase::Restored);
    assert_eq!(world.purposes(), [Purpose::First, Purpose::Retry]);
}

/// v2 is bad until that time, and well from then on.
fn v2_is_bad_until(end: u64) -> Script {
    Box::new(move |revision: &str, now: Timestamp| {
        let is_bad = revision == "v2" && now < DAWN + Span::from_secs(end);
        if is_bad { Behaviour { errors: 0.4, ..WELL } } else { WELL }
    })
}

#[test]
fn a_step_that_died_with_the_daemon_is_not_taken_up_after_the_plans_deadline() {
    let mut world = World::new(policy(Strategy::Direct, &["a"]), v2_is_bad_until(100));
    world.run(Span::from_secs(60));
    world.deploy("v2");
    // The plan is looked over in no time, its first step is not done in any.
    let begun = |world: &World| world.journal.iter().any(|record| matches!(record.event, Event::StepStarted { .. }));
    assert!(world.run_until(Span::from_secs(60), begun));
    assert_eq!(world.switches, [], "the step has only begun");
    world.now = world.now + Span::from_secs(120);
    world.crash(true);
    until(&mut world, Phase::Escalated);
    assert_eq!(world.switches, [], "a release that is well again was taken back");
    let reason = &world.last_alert().reason;
    assert!(reason.contains("meanwhile v2 is well again, and nothing more is done"), "{reason}");
}

#[test]
fn what_the_pause_met_half_way_is_not_done_again_by_the_next_start() {
    let mut world = World::new(policy(Strategy::Direct, &["a"]), v2_is_bad());
    world.run(Span::from_secs(60));
    world.deploy("v2");
    until(&mut world, Phase::Started);
    world.ask(RequestKind::Pause { reason: "looking".to_owned() }).unwrap();
    world.crash(true);
    world.run(Span::from_secs(30));
    assert_eq!(world.switches, []);
    world.ask(RequestKind::Resume).unwrap();
    until(&mut world, Phase::Restored);
    assert_eq!(world.running(), Some("v1"));
}

#[test]
fn a_trigger_that_fires_on_no_proof_is_no_ground_to_act() {
    let script = |revision: &str, now: Timestamp| match revision {
        "v2" if now < DAWN + Span::from_secs(90) => Behaviour { errors: 0.4, ..WELL },
        // One of seven a second: beyond the bound, and never proven within the window.
        "v2" => Behaviour { errors: 0.15, rate: 1.0, ..WELL },
        _ => WELL,
    };
    let mut world = World::new(policy(Strategy::Direct, &["a"]), Box::new(script));
    world.run(Span::from_secs(60));
    world.deploy("v2");
    world.ask(RequestKind::Pause { reason: "looking".to_owned() }).unwrap();
    until(&mut world, Phase::Held);
    world.run(Span::from_secs(40));
    world.crash(true);
    world.ask(RequestKind::Resume).unwrap();
    world.run(Span::from_secs(10));
    assert_eq!(world.switches, [], "{:?}", world.last_alert());
    assert!(world.journal.iter().any(|record| {
        matches!(&record.event, Event::Held { hold, .. } if matches!(hold.as_str(), "evidence-unknown" | "stale-evidence"))
    }));
}

#[test]
fn no_word_makes_a_goal_of_what_is_not_there() {
    let mut world = world(Strategy::Direct, &["a"]);
    let request = |to: &str| RequestKind::Rollback {
        reason: "by hand".to_owned(),
        to: Some(to.into()),
        force: vec!["goal-refused".to_owned()],
    };
    world.run(Span::from_secs(3));
    for to in ["nowhere", "v2"] {
        let refusal = world.ask(request(to)).unwrap_err().to_string();
        assert!(refusal.starts_with("held by goal-refused: "), "{refusal}");
    }
    until(&mut world, Phase::Restored);
}

#[test]
fn nothing_is_held_without_an_end() {
    let mut world = World::new(policy(Strategy::Direct, &["a"]), Box::new(|_: &str, _: Timestamp| WELL));
    world.run(Span::from_secs(30));
    let leak = RequestKind::Trigger { kind: "security".to_owned(), reason: "a leak".to_owned(), key: None };
    world.ask(leak).unwrap();
    world.run(Span::from_secs(3500));
    assert_eq!(world.phases().last(), Some(&Phase::Held));
    world.run(Span::from_secs(200));
    let told = world.alerts.iter().find(|alert| alert.phase == Phase::Escalated).expect("somebody is told");
    assert!(told.reason.starts_with("held for 1h: "), "{}", told.reason);
}

#[test]
fn workloads_that_turn_bad_together_are_a_storm_before_the_first_of_them_is_acted_upon() {
    let mut fleet = Fleet::default();
    let names = ["a1", "a2", "a3"].map(WorkloadId::new);
    let target = || TargetId::new("a:80");
    for name in &names {
        let mut policy = policy(Strategy::Direct, &["a"]);
        (policy.id, policy.namespace) = (name.clone(), name.as_str().to_owned());
        policy.triggers.retain(|trigger| trigger.name.as_str() == "health");
        fleet.add(Arc::new(policy), WorkloadState::default());
    }
    let mut told = Vec::new();
    for second in 0..120 {
        let now = DAWN + Span::from_secs(second);
        // The third is a look behind the others, so that they fire before it.
        for (late, name) in names.iter().enumerate() {
            let release = if second < 60 { "v1" } else { "v2" };
            let view = ReleaseView {
                instances: vec![(InstanceId::new("a"), release.into())],
                available: ["v1", "v2"].map(|revision| Release { revision: revision.into(), image: None }).to_vec(),
                ..ReleaseView::default()
            };
            let is_bad = second >= 70 + late as u64;
            let answer = Answer { healthy: !is_bad, detail: String::new(), revision: None };
            let probe = Seen::Probe { target: target(), instance: Some(InstanceId::new("a")), result: Ok(answer) };
            for seen in [Seen::Releases(Ok(view)), probe] {
                let mut out = Output::default();
                let observation = Observation { workload: name.clone(), at: now, seen };
                fleet.handle(name, Input::Observed(observation), now, &mut out);
                told.extend(out.records);
            }
        }
    }
    let holds: Vec<&str> = told
        .iter()
        .filter_map(|record| match &record.event {
            Event::Held { hold, .. } => Some(hold.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(holds, ["fleet-storm"; 3]);
}

#[test]
fn a_policy_that_observes_again_holds_what_was_begun_meanwhile() {
    let under = |world: &mut World, mode| world.adopt(WorkloadPolicy { mode, ..WorkloadPolicy::clone(&world.policy) });
    let mut world = World::new(policy(Strategy::Rolling, &["a", "b", "c"]), v2_is_bad());
    under(&mut world, Mode::Observe);
    world.run(Span::from_secs(60));
    world.deploy("v2");
    under(&mut world, Mode::Enforce);
    assert!(world.run_until(Span::from_secs(300), |world| world.switches.len() == 1), "{:?}", world.phases());
    under(&mut world, Mode::Observe);
    world.run(Span::from_secs(60));
    assert_eq!((world.switches.len(), world.phases().last()), (1, Some(&Phase::Held)), "{:?}", world.phases());
    under(&mut world, Mode::Enforce);
    until(&mut world, Phase::Restored);
    assert_eq!(world.purposes(), [Purpose::First]);
}

#[test]
fn an_instance_that_leaves_the_policy_in_the_middle_is_left_as_it_is_and_spends_no_attempt() {
    for left in ["b", "c"] {
        let mut world = World::new(policy(Strategy::Rolling, &["a", "b", "c"]), v2_is_bad());
        world.run(Span::from_secs(60));
        world.deploy("v2");
        assert!(world.run_until(Span::from_secs(300), |world| world.switches.len() == 1), "{:?}", world.phases());
        world.leave(left);
        let steps = world.fleet.preview(&world.policy.id, world.now).unwrap().steps;
        assert_eq!(steps.iter().filter(|step| **step == StepStanding::PassedOver).count(), 3, "{steps:?}");
        until(&mut world, Phase::Restored);
        assert_eq!(world.purposes(), [Purpose::First]);
        assert!(!world.switches.iter().any(|(_, instance, _)| instance.as_str() == left), "{:?}", world.switches);
    }
}

/// The restart takes longer than a trigger's `for` and `warmup`: the outage that it is itself fires.
#[test]
fn a_goal_is_not_condemned_for_the_outage_that_its_own_restart_was() {
    for strategy in [Strategy::Direct, Strategy::Rolling] {
        let policy = WorkloadPolicy { warmup: Span::from_secs(2), ..policy(strategy, &["a"]) };
        let mut world = World::new(policy, v2_is_bad());
        world.publish("v0");
        world.run(Span::from_secs(60));
        world.deploy("v2");
        world.outage = Some(Span::from_secs(25));
        until(&mut world, Phase::Restored);
        assert_eq!((world.purposes().as_slice(), world.running()), ([Purpose::First].as_slice(), Some("v1")));
    }
}

#[test]
fn what_left_the_policy_half_way_while_no_daemon_ran_is_told_with_its_places() {
    let mut world = World::new(policy(Strategy::Rolling, &["a", "b", "c"]), v2_is_bad());
    world.run(Span::from_secs(60));
    for instance in ["a", "b", "c"] {
        world.deploy_to(instance, "v2");
        world.run(Span::from_secs(2));
    }
    assert!(world.run_until(Span::from_secs(300), |world| world.switches.len() == 1), "{:?}", world.phases());
    world.run(Span::from_secs(1));
    world.start_without_it();
    until(&mut world, Phase::Closed);
    assert_eq!(world.last_alert().reason, "the workload is no longer in the policy; left: a at v1; b, c at v2");
    assert_eq!(world.switches.len(), 1);
}

#[test]
fn an_instance_that_leaves_between_its_switch_and_its_restart_is_said_to_have_left() {
    use StepStanding::{Done, PassedOver, ToDo, UnderWay};
    let mut world = World::new(policy(Strategy::Direct, &["a", "b"]), v2_is_bad());
    world.run(Span::from_secs(60));
    world.deploy("v2");
    assert!(world.run_until(Span::from_secs(300), |world| world.switches.len() == 2), "{:?}", world.phases());
    world.leave("b");
    let steps = |world: &mut World| world.fleet.preview(&world.policy.id, world.now).unwrap().steps;
    assert_eq!(steps(&mut world), [Done, Done, UnderWay, PassedOver, ToDo]);
    until(&mut world, Phase::Verifying);
    assert_eq!(steps(&mut world), [Done, Done, Done, PassedOver, Done]);
}
