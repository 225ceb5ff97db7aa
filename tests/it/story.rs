//! Whole stories of one workload, from a release gone bad to its end, in a world without a clock.

use rollbackd::domain::controller::{Refusal, RequestKind};
use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::incident::record::{Event, Record};
use rollbackd::domain::policy::{Condition, Mode, Severity, Strategy, Trigger};
use rollbackd::domain::response::plan::{Aspect, Finding};
use rollbackd::domain::time::{Span, Timestamp};
use rollbackd::domain::units::Finite;

use crate::world::{Behaviour, Script, WELL, World, policy};

const SETTLE: Span = Span::from_secs(60);
const PATIENCE: Span = Span::from_secs(400);

fn only_bad(bad: &'static str, behaviour: Behaviour) -> Script {
    Box::new(move |revision: &str, _: Timestamp| if revision == bad { behaviour } else { WELL })
}

const ERRORS: Behaviour = Behaviour { errors: 0.4, ..WELL };
const SICK: Behaviour = Behaviour { healthy: false, ..WELL };

/// v1 has served well for a minute, then v2 is deployed.
fn after_deploy(strategy: Strategy, instances: &[&str], script: Script) -> World {
    let mut world = World::new(policy(strategy, instances), script);
    world.run(SETTLE);
    world.deploy("v2");
    world
}

fn ended(world: &World) -> bool {
    world.alerts.last().is_some_and(|a| matches!(a.phase, Phase::Restored | Phase::Escalated | Phase::Closed))
}

#[test]
fn a_bad_release_is_detected_taken_back_and_proven_well() {
    let mut world = after_deploy(Strategy::Direct, &["a"], only_bad("v2", ERRORS));
    assert!(world.run_until(PATIENCE, ended), "{:?}", world.phases());
    use Phase::{Detected, Restored, Started, Suspected, Verifying};
    assert_eq!(world.phases(), [Suspected, Detected, Started, Verifying, Restored]);
    assert_eq!(world.running(), Some("v1"));
    let detected = &world.alerts[1];
    assert!(
        detected.summary.contains("\"error_rate\": error_rate is 40 %, above 10 % for 10s"),
        "{}",
        detected.summary
    );
    let times = &world.last_alert().times;
    assert!(times.ttd_s.unwrap() <= 12.0, "{times:?}");
    assert_eq!(times.ttdec_s.map(|s| s < 1.0), Some(true), "{times:?}");
}

#[test]
fn rolling_takes_instances_back_one_at_a_time() {
    let mut world = after_deploy(Strategy::Rolling, &["a", "b", "c"], only_bad("v2", SICK));
    assert!(world.run_until(PATIENCE, ended), "{:?}", world.phases());
    assert_eq!(world.last_alert().phase, Phase::Restored);
    let times: Vec<_> = world.switches.iter().map(|(at, ..)| *at).collect();
    assert_eq!(times.len(), 3);
    assert!(times.windows(2).all(|w| w[1].since(w[0]) >= Span::from_secs(1)), "no gate between: {times:?}");
}

#[test]
fn a_daemon_killed_at_any_moment_comes_to_the_same_end() {
    for kill_at in 0..60 {
        for lost in [true, false] {
            let mut world = after_deploy(Strategy::Rolling, &["a", "b"], only_bad("v2", ERRORS));
            world.run(Span::from_secs(10) + Span::from_millis(400).times(kill_at));
            world.crash(lost);
            assert!(world.run_until(PATIENCE, ended), "kill at {kill_at}, lost {lost}: {:?}", world.phases());
            assert_eq!(
                world.last_alert().phase,
                Phase::Restored,
                "kill at {kill_at}, lost {lost}: {:?}",
                world.phases()
            );
            assert_eq!(world.running(), Some("v1"));
        }
    }
}

#[test]
fn a_goal_that_is_bad_as_well_leads_one_hop_back_then_to_a_human() {
    let script: Script = Box::new(|revision, now| match revision {
        "v1" => WELL,
        "v2" if now < Timestamp::from_millis(1_800_000_125_000) => WELL,
        _ => SICK,
    });
    let mut world = World::new(policy(Strategy::Direct, &["a"]), script);
    world.run(SETTLE);
    world.deploy("v2");
    world.run(SETTLE);
    world.publish("v3");
    world.deploy("v3");
    assert!(world.run_until(Span::from_secs(900), ended), "{:?}", world.phases());
    let goals: Vec<_> = world.switches.iter().map(|(_, _, to)| to.as_str()).collect();
    assert_eq!(goals, ["v2", "v1"], "{:?}", world.phases());
    assert_eq!(world.last_alert().phase, Phase::Restored, "{}", world.last_alert().summary);
}

#[test]
fn observe_mode_says_what_it_would_do_and_does_nothing() {
    let mut world = World::new(
        rollbackd::domain::policy::WorkloadPolicy { mode: Mode::Observe, ..policy(Strategy::Direct, &["a"]) },
        only_bad("v2", ERRORS),
    );
    world.run(SETTLE);
    world.deploy("v2");
    world.run(SETTLE);
    let held = world.last_alert();
    assert_eq!(held.phase, Phase::Held);
    assert_eq!(held.reason, "the mode is observe: nothing is changed");
    assert_eq!(held.to.as_ref().map(|to| to.revision.as_str()), Some("v1"));
    assert_eq!(world.switches, []);
}

#[test]
fn approve_mode_waits_for_a_human() {
    let mut world = World::new(
        rollbackd::domain::policy::WorkloadPolicy { mode: Mode::Approve, ..policy(Strategy::Direct, &["a"]) },
        only_bad("v2", ERRORS),
    );
    world.run(SETTLE);
    world.deploy("v2");
    world.run(SETTLE);
    assert_eq!(world.last_alert().phase, Phase::AwaitingApproval);
    assert_eq!(world.switches, []);
    let incident = world.incident().expect("open");
    assert!(world.ask(RequestKind::Approve { incident: incident.clone(), to: None }).is_ok());
    let again = world.ask(RequestKind::Approve { incident, to: None }).expect("two people may press at once");
    assert_eq!(again.message, "approved already, by ops: the rollback begins unless another guard holds");
    assert!(world.run_until(PATIENCE, ended));
    assert_eq!(world.last_alert().phase, Phase::Restored);
    let approvals = world.journal.iter().filter(|record| matches!(record.event, Event::Approved { .. }));
    assert_eq!(approvals.count(), 1);
}

/// By hand one instance of three is brought to v3, while the others stay at v1.
fn one_goes_ahead(script: Script) -> World {
    let mut world = World::new(policy(Strategy::Rolling, &["a", "b", "c"]), script);
    world.run(SETTLE);
    world.publish("v3");
    world.deploy_to("a", "v3");
    world
}

/// By hand one instance is brought to a new release, which is well; later the two that stay behind go bad.
#[test]
fn instances_that_stay_behind_are_watched_too() {
    let falls = Timestamp::from_millis(1_800_000_200_000);
    let recovers = Timestamp::from_millis(1_800_000_300_000);
    let script = move |revision: &str, now: Timestamp| {
        if revision == "v1" && now >= falls && now < recovers { ERRORS } else { WELL }
    };
    let mut world = one_goes_ahead(Box::new(script));
    assert!(world.run_until(PATIENCE, |world| world.phases().contains(&Phase::Held)), "{:?}", world.phases());
    let held = world.last_alert().clone();
    assert_eq!(held.reason, "it is v1 that is bad, and not v3, the release in question");
    assert!(held.summary.starts_with("app (v3) is not rolled back: "), "{}", held.summary);
    assert!(held.summary.contains("where v1 serves"), "{}", held.summary);
    assert_eq!((held.severity, held.to), (Severity::Critical, None));
    assert!(held.times.detected > Some(falls), "{:?}", held.times);
    assert_eq!(crate::again::other_decision(&world.journal), None);
    assert!(world.run_until(PATIENCE, ended), "{:?}", world.phases());
    assert_eq!(world.last_alert().reason, "the fault is gone");
    assert_eq!(world.switches, []);
}

/// A pause is not what keeps anybody from taking back a release that is not the one in question.
#[test]
fn while_paused_a_fault_beside_is_told_for_what_it_is() {
    let falls = Timestamp::from_millis(1_800_000_200_000);
    let script = move |revision: &str, now: Timestamp| if revision == "v1" && now >= falls { ERRORS } else { WELL };
    let mut world = one_goes_ahead(Box::new(script));
    world.ask(RequestKind::Pause { reason: "looking".to_owned() }).unwrap();
    assert!(world.run_until(PATIENCE, |world| world.phases().contains(&Phase::Held)), "{:?}", world.phases());
    assert_eq!(world.last_alert().reason, "it is v1 that is bad, and not v3, the release in question");
}

/// v3 is well on one instance, v1 bad on two from a time on.
fn two_stay_behind(falls: Timestamp, v3: Behaviour, from: Timestamp) -> World {
    let script = move |revision: &str, now: Timestamp| match revision {
        "v1" if now >= falls => ERRORS,
        "v3" if now >= from => v3,
        _ => WELL,
    };
    let mut world = one_goes_ahead(Box::new(script));
    assert!(world.run_until(PATIENCE, |world| world.phases().contains(&Phase::Held)), "{:?}", world.phases());
    world
}

#[test]
fn what_is_bad_beside_is_not_over_because_nobody_looks() {
    let falls = Timestamp::from_millis(1_800_000_200_000);
    let mut world = two_stay_behind(falls, WELL, falls);
    let told = world.phases();
    world.crash(false);
    world.run(SETTLE);
    assert_eq!(world.phases(), told, "{}", world.last_alert().summary);
    world.releases_hidden = true;
    world.run(Span::from_secs(3));
    world.releases_hidden = false;
    world.run(SETTLE);
    assert_eq!(world.phases(), told, "{}", world.last_alert().summary);
    let good = world
        .journal
        .iter()
        .any(|record| matches!(&record.event, Event::KnownGood { revision, .. } if revision.as_str() == "v3"));
    assert!(good, "the release in question is well all the while");
}

#[test]
fn a_fault_of_the_release_is_news_after_one_beside_it_was_handed_over() {
    let falls = Timestamp::from_millis(1_800_000_200_000);
    let mut world = two_stay_behind(falls, ERRORS, falls + Span::from_secs(3_700));
    let hour = Span::from_secs(3_650);
    assert!(world.run_until(hour, |world| world.phases().contains(&Phase::Escalated)), "{:?}", world.phases());
    let news = |world: &World| world.phases().iter().filter(|phase| **phase == Phase::Detected).count() == 2;
    assert!(world.run_until(PATIENCE, news), "{:?}", world.phases());
}

/// What the release in question brings itself is not hidden by what one beside it has.
#[test]
fn a_fault_of_the_release_goes_before_one_beside_it() {
    let falls = Timestamp::from_millis(1_800_000_200_000);
    let later = Timestamp::from_millis(1_800_000_260_000);
    let script = move |revision: &str, now: Timestamp| match revision {
        "v1" if now >= falls && now < later => ERRORS,
        "v3" if now >= later => ERRORS,
        _ => WELL,
    };
    let mut world = one_goes_ahead(Box::new(script));
    assert!(world.run_until(PATIENCE, |world| world.phases().contains(&Phase::Restored)), "{:?}", world.phases());
    let goals: Vec<_> = world.switches.iter().map(|(_, _, to)| to.as_str()).collect();
    assert_eq!((goals.as_slice(), world.running()), (["v1"].as_slice(), Some("v1")));
}

/// A third release that was there before is nobody's doing.
#[test]
fn of_three_releases_side_by_side_the_one_that_came_last_is_taken_back() {
    let mut world = World::new(policy(Strategy::Rolling, &["a", "b", "c"]), only_bad("v3", ERRORS));
    world.run(SETTLE);
    world.deploy_to("b", "v2");
    world.run(SETTLE);
    world.publish("v3");
    world.deploy_to("a", "v3");
    assert!(world.run_until(PATIENCE, ended), "{:?}", world.phases());
    assert_eq!(world.last_alert().phase, Phase::Restored, "{}", world.last_alert().summary);
    assert_eq!(world.running(), Some("v2"), "all instances are at the goal: {:?}", world.switches);
}

/// Nowhere is gone back to that is seen to be bad at the time.
#[test]
fn a_release_that_is_bad_beside_is_no_goal() {
    let falls = Timestamp::from_millis(1_800_000_200_000);
    let mut world = two_stay_behind(falls, SICK, falls + Span::from_secs(60));
    let none = |world: &World| world.last_alert().reason.contains("v1: bad now where it serves: error_rate breaches");
    assert!(world.run_until(PATIENCE, none), "{}", world.last_alert().reason);
    let by_hand = RequestKind::Rollback { reason: "now".to_owned(), to: Some("v1".into()), force: Vec::new() };
    let refused = world.ask(by_hand).unwrap_err().to_string();
    assert!(refused.contains("bad now where it serves"), "{refused}");
    world.run(SETTLE);
    assert_eq!(world.switches, []);
}

#[test]
fn a_release_that_was_bad_when_somebody_replaced_it_is_no_goal() {
    let falls = Timestamp::from_millis(1_800_000_200_000);
    let script: Script = Box::new(move |revision, now| match revision {
        "v2" if now >= falls => ERRORS,
        "v3" if now >= falls + Span::from_secs(120) => ERRORS,
        _ => WELL,
    });
    let mut world = after_deploy(Strategy::Direct, &["a"], script);
    world.ask(RequestKind::Pause { reason: "let me look".to_owned() }).expect("paused");
    let held = |world: &World| world.phases().last() == Some(&Phase::Held);
    assert!(world.run_until(PATIENCE, held), "{:?}", world.phases());
    world.publish("v3");
    world.deploy("v3");
    assert!(world.run_until(PATIENCE, ended), "{:?}", world.phases());
    world.ask(RequestKind::Resume).expect("resumed");
    assert!(world.run_until(PATIENCE, |world| world.phases().last() == Some(&Phase::Restored)), "{:?}", world.phases());
    let goals: Vec<_> = world.switches.iter().map(|(_, _, to)| to.as_str()).collect();
    assert_eq!(goals, ["v1"]);
}

/// What is only for people to know about the release in question hides nothing critical beside it, and takes its place not.
#[test]
fn a_critical_fault_beside_goes_before_one_that_is_only_told() {
    let falls = Timestamp::from_millis(1_800_000_200_000);
    let few = Behaviour { errors: 0.09, ..WELL };
    for first in ["v1", "v3"] {
        let later = falls + Span::from_secs(60);
        let script: Script = Box::new(move |revision, now| match revision {
            "v1" if now >= if first == "v1" { falls } else { later } => ERRORS,
            "v3" if now >= if first == "v3" { falls } else { later } => few,
            _ => WELL,
        });
        let mut policy = policy(Strategy::Rolling, &["a", "b", "c"]);
        policy.triggers.push(Trigger {
            name: "few errors".into(),
            condition: Condition::Above(Finite::new(0.02).unwrap()),
            severity: Severity::Alert,
            ..policy.triggers[0].clone()
        });
        let mut world = World::new(policy, script);
        world.run(SETTLE);
        world.publish("v3");
        world.deploy_to("a", "v3");
        let beside =
            |world: &World| world.alerts.last().is_some_and(|alert| alert.reason.starts_with("it is v1 that is bad"));
        assert!(world.run_until(PATIENCE, beside), "{first}: {}", world.last_alert().summary);
        world.run(SETTLE.times(2));
        assert!(beside(&world), "{first}: {}", world.last_alert().summary);
        assert!(world.phases().len() < 12, "{first}: {:?}", world.phases());
    }
}

#[test]
fn a_human_who_deploys_in_the_middle_wins() {
    let mut world = after_deploy(Strategy::Rolling, &["a", "b"], only_bad("v2", ERRORS));
    assert!(world.run_until(PATIENCE, |world| world.phases().contains(&Phase::Started)));
    world.publish("v3");
    world.deploy("v3");
    assert!(world.run_until(PATIENCE, ended));
    assert_eq!(world.last_alert().phase, Phase::Closed);
    assert!(
        world.last_alert().reason.starts_with("v3 was put in place by someone else"),
        "{}",
        world.last_alert().reason
    );
    world.run(SETTLE);
    assert_eq!(world.running(), Some("v3"));
}

/// While the rollback has brought one instance back, somebody brings another one to a third release: that is what comes now,
/// and not the rollback's own switch. What stays at the bad release is told.
#[test]
fn somebodys_release_on_one_instance_in_the_middle_is_the_one_in_question() {
    let mut world = after_deploy(Strategy::Rolling, &["a", "b", "c"], only_bad("v2", ERRORS));
    assert!(world.run_until(PATIENCE, |world| world.switches.len() == 1));
    world.publish("v3");
    world.deploy_to("c", "v3");
    assert!(world.run_until(PATIENCE, ended));
    assert!(world.last_alert().reason.starts_with("v3 was put in place"), "{}", world.last_alert().reason);
    let told = |world: &World| world.last_alert().phase == Phase::Held;
    assert!(world.run_until(PATIENCE, told), "{:?}", world.phases());
    assert_eq!(world.last_alert().reason, "it is v2 that is bad, and not v3, the release in question");
}

#[test]
fn a_pause_stops_the_next_write() {
    let mut world = after_deploy(Strategy::Rolling, &["a", "b"], only_bad("v2", ERRORS));
    assert!(world.run_until(PATIENCE, |world| world.switches.len() == 1));
    world.ask(RequestKind::Pause { reason: "let me look".to_owned() }).expect("paused");
    world.run(SETTLE);
    assert_eq!(world.switches.len(), 1);
    assert_eq!(world.last_alert().phase, Phase::Held);
    world.ask(RequestKind::Resume).expect("resumed");
    assert!(world.run_until(PATIENCE, ended));
    assert_eq!(world.last_alert().phase, Phase::Restored, "{:?}", world.phases());
}

#[test]
fn the_message_that_a_rollback_has_started_says_when() {
    let mut world = after_deploy(Strategy::Direct, &["a"], only_bad("v2", ERRORS));
    assert!(world.run_until(PATIENCE, ended));
    let started: Vec<_> = world.alerts.iter().filter(|alert| alert.phase == Phase::Started).collect();
    let [told] = started.as_slice() else { panic!("{:?}", world.phases()) };
    assert_eq!(told.times.started, told.times.decided);
    assert!(told.times.started.is_some());
    assert_eq!(world.last_alert().times.started, told.times.started);
}

#[test]
fn a_summary_is_one_sentence_and_the_steps_are_in_the_reason() {
    for mode in [Mode::Enforce, Mode::Approve, Mode::Observe] {
        let policy = rollbackd::domain::policy::WorkloadPolicy { mode, ..policy(Strategy::Rolling, &["a", "b"]) };
        let mut world = World::new(policy, only_bad("v2", ERRORS));
        world.run(SETTLE);
        world.deploy("v2");
        world.run(Span::from_secs(120));
        for alert in &world.alerts {
            let summary = alert.summary.as_str();
            assert!(summary.ends_with('.') && !summary.contains(". "), "{}: {summary}", alert.phase);
            let steps = alert.reason.contains("attempt 1: switch /srv/app/current-a from v2 to v1, then restart a");
            assert_eq!(steps, alert.phase == Phase::Started, "{}", alert.reason);
            assert!(!summary.contains("switch /srv/app"), "{summary}");
        }
    }
}

#[test]
fn a_step_that_ends_while_the_daemon_stops_is_noted_and_nothing_follows_until_it_is_back() {
    let mut world = after_deploy(Strategy::Rolling, &["a", "b"], only_bad("v2", ERRORS));
    let begun = |world: &World| matches!(world.journal.last(), Some(Record { event: Event::StepStarted { .. }, .. }));
    assert!(world.run_until(PATIENCE, begun));
    let records = world.journal.len();
    world.park();
    let noted: Vec<&str> = world.journal.iter().skip(records).map(|record| record.event.name()).collect();
    assert_eq!(noted, ["step-finished"]);
    world.crash(true);
    assert!(world.run_until(PATIENCE, ended));
    assert_eq!((world.running(), world.last_alert().phase), (Some("v1"), Phase::Restored));
}

#[test]
fn a_lost_sight_is_told_and_never_acted_upon() {
    let script: Script = Box::new(|revision, _| match revision {
        "v2" => Behaviour { readable: false, errors: 0.9, ..WELL },
        _ => WELL,
    });
    let mut world = after_deploy(Strategy::Direct, &["a"], script);
    world.run(Span::from_secs(120));
    assert_eq!(world.switches, []);
    assert!(world.alerts.iter().any(|alert| alert.trigger.name == "blind"), "{:?}", world.alerts);
}

#[test]
fn no_known_good_release_no_rollback() {
    let mut world = World::new(policy(Strategy::Direct, &["a"]), only_bad("v2", ERRORS));
    world.run(Span::from_secs(5));
    world.deploy("v2");
    world.run(SETTLE);
    assert_eq!(world.last_alert().phase, Phase::Held);
    assert!(
        world.last_alert().reason.starts_with("no other release is known to be good"),
        "{}",
        world.last_alert().reason
    );
    assert_eq!(world.switches, []);
}

#[test]
fn a_preflight_that_finds_something_holds_and_goes_on_once_it_is_mended() {
    let mut world = after_deploy(Strategy::Direct, &["a"], only_bad("v2", ERRORS));
    world.findings = vec![Finding {
        aspect: Aspect::Place,
        check: "goal".to_owned(),
        problem: "is missing".to_owned(),
        passing: false,
    }];
    world.run(Span::from_secs(30));
    assert_eq!(world.last_alert().reason, "the plan does not pass its preflight: goal: is missing");
    world.findings.clear();
    assert!(world.run_until(PATIENCE, ended));
    assert_eq!(world.last_alert().phase, Phase::Restored);
}

#[test]
fn by_hand_the_same_guards_hold_and_a_named_one_can_be_forced() {
    let mut world = World::new(policy(Strategy::Direct, &["a"]), Box::new(|_, _| WELL));
    world.run(SETTLE);
    world.deploy("v2");
    world.run(SETTLE);
    let ask = |force: &[&str]| RequestKind::Rollback {
        reason: "feature broken".to_owned(),
        to: None,
        force: force.iter().map(|s| (*s).to_owned()).collect(),
    };
    assert!(matches!(world.ask(ask(&["paused"])), Err(Refusal::Invalid(_))));
    world.ask(ask(&[])).expect("accepted");
    assert!(world.run_until(PATIENCE, ended));
    assert_eq!((world.running(), world.last_alert().phase), (Some("v1"), Phase::Restored));
    world.deploy("v2");
    world.run(Span::from_secs(5));
    let Err(Refusal::Held { guard, .. }) = world.ask(ask(&[])) else { panic!("not held") };
    assert_eq!(guard, "rolled-back-before");
    world.ask(ask(&["rolled-back-before", "cooldown", "fleet-budget"])).expect("forced");
    assert!(world.run_until(PATIENCE, ended));
    assert_eq!(world.running(), Some("v1"));
}

#[test]
fn a_refusal_by_hand_is_on_record_and_pages_nobody() {
    let observe = rollbackd::domain::policy::WorkloadPolicy { mode: Mode::Observe, ..policy(Strategy::Direct, &["a"]) };
    let mut world = World::new(observe, only_bad("v2", ERRORS));
    world.run(SETTLE);
    let ask = || RequestKind::Rollback { reason: "feature broken".to_owned(), to: None, force: Vec::new() };
    for open in [false, true] {
        if open {
            world.deploy("v2");
            world.run(SETTLE);
        }
        let (incident, told) = (world.incident(), world.alerts.len());
        assert_eq!(incident.is_some(), open);
        assert!(matches!(world.ask(ask()), Err(Refusal::Held { .. })));
        world.run(SETTLE);
        assert_eq!(world.incident(), incident, "what is open stays open");
        let [refusal] = &world.alerts[told..] else { panic!("{:?}", world.phases()) };
        assert_ne!(Some(&refusal.incident), incident.as_ref());
        assert_eq!((refusal.phase, refusal.severity), (Phase::Closed, Severity::Alert));
        assert!(
            refusal.reason.starts_with("rollback asked for by ops: feature broken; refused: "),
            "{}",
            refusal.reason
        );
        world.crash(true);
        assert_eq!(world.incident(), incident, "nor does a restart know otherwise");
    }
}

#[test]
fn a_burst_that_is_over_before_for_does_not_fire() {
    let script: Script = Box::new(|revision, now| {
        let burst = now > Timestamp::from_millis(1_800_000_090_000) && now < Timestamp::from_millis(1_800_000_094_000);
        if revision == "v2" && burst { Behaviour { errors: 0.2, ..WELL } } else { WELL }
    });
    let mut world = after_deploy(Strategy::Direct, &["a"], script);
    world.run(Span::from_secs(120));
    assert!(!world.phases().contains(&Phase::Detected), "{:?}", world.phases());
    assert_eq!(world.running(), Some("v2"));
}

#[test]
fn an_oom_kill_of_the_new_release_is_enough() {
    let mut world = after_deploy(Strategy::Direct, &["a"], Box::new(|_, _| WELL));
    world.run(Span::from_secs(10));
    world.oom_kill();
    assert!(world.run_until(PATIENCE, ended), "{:?}", world.phases());
    assert_eq!((world.running(), world.last_alert().phase), (Some("v1"), Phase::Restored));
    assert_eq!(world.last_alert().trigger.name, "oom_kills");
}

#[test]
fn a_known_good_release_that_is_gone_from_the_disk_is_no_goal() {
    let mut world = after_deploy(Strategy::Direct, &["a"], only_bad("v2", ERRORS));
    world.prune("v1");
    world.run(SETTLE);
    assert_eq!(world.last_alert().phase, Phase::Held);
    assert_eq!(
        world.last_alert().reason,
        "no other release is known to be good: v1: known good, but not there to go back to"
    );
    assert_eq!(world.switches, []);
}

fn report(reason: &str, key: Option<&str>) -> RequestKind {
    RequestKind::Trigger { kind: "data".to_owned(), reason: reason.to_owned(), key: key.map(str::to_owned) }
}

/// A source that repeats itself must not overrule who said no, nor may a restart make it.
#[test]
fn what_was_reported_under_a_key_is_taken_once() {
    let mut world = World::new(
        rollbackd::domain::policy::WorkloadPolicy { mode: Mode::Approve, ..policy(Strategy::Direct, &["a"]) },
        only_bad("v9", ERRORS),
    );
    world.run(SETTLE);
    world.deploy("v2");
    world.run(SETTLE);
    world.ask(report("rows are missing", Some("a 1"))).expect("it is taken");
    let incident = world.incident().expect("open");
    assert_eq!(world.ask(report("rows are missing", Some("a 1"))), Err(Refusal::Repeated));
    world.ask(RequestKind::Reject { incident, reason: "known".to_owned() }).expect("closed");
    world.crash(true);
    world.run(SETTLE);
    let told = world.alerts.len();
    assert_eq!(world.ask(report("rows are missing", Some("a 1"))), Err(Refusal::Repeated));
    assert_eq!(world.alerts.len(), told);
    world.ask(report("rows are missing", Some("a 2"))).expect("another report");
    assert!(world.incident().is_some());
}

#[test]
fn what_people_report_twice_is_told_once() {
    let mut world = World::new(
        rollbackd::domain::policy::WorkloadPolicy { mode: Mode::Approve, ..policy(Strategy::Direct, &["a"]) },
        only_bad("v9", ERRORS),
    );
    world.run(SETTLE);
    world.deploy("v2");
    world.run(SETTLE);
    let first = world.ask(report("rows are missing", None)).expect("it is taken");
    let told = world.alerts.len();
    let again = world.ask(report("rows are missing", None)).expect("it is known");
    assert_eq!(again.incident, first.incident);
    assert_eq!(again.message, "reported already; held: waiting for approval: the mode is approve");
    assert_eq!(world.alerts.len(), told);
    world.ask(report("columns as well", None)).expect("that is news");
    assert!(world.alerts.len() > told);
}

/// Healthy signals alone do not end an incident about releases that can't be read, and make none known good.
#[test]
fn what_release_serves_must_be_known_for_the_service_to_be_well() {
    let mut world = after_deploy(Strategy::Direct, &["a"], only_bad("v9", ERRORS));
    world.releases_hidden = true;
    world.run(Span::from_secs(4000));
    use Phase::{Closed, Detected, Escalated, Held};
    assert_eq!(world.phases(), [Detected, Held, Escalated]);
    assert!(
        world
            .journal
            .iter()
            .all(|record| !matches!(&record.event, Event::KnownGood { revision, .. } if revision.as_str() == "v2"))
    );
    let view = world.fleet.view_of(&world.policy.id, world.now).expect("it is watched");
    let blind = view.assessment.blind.expect("it is blind");
    assert_eq!(blind.unseen, rollbackd::domain::health::verdict::Unseen::Releases);
    world.releases_hidden = false;
    assert!(world.run_until(PATIENCE, |world| world.phases().last() == Some(&Closed)), "{:?}", world.phases());
}

/// What can't be read is not told as if it were so, long before it is an incident.
#[test]
fn a_release_that_can_not_be_read_is_told_to_be_unknown_at_once() {
    let mut world = World::new(policy(Strategy::Direct, &["a"]), only_bad("v9", ERRORS));
    world.run(SETTLE);
    let view = |world: &World| world.fleet.view_of(&world.policy.id, world.now).expect("it is watched");
    let told = |world: &World| (view(world).is_release_unread(), view(world).release_in_words());
    assert_eq!(told(&world), (false, Some("v1".to_owned())));
    world.releases_hidden = true;
    world.run(Span::from_secs(3));
    assert_eq!(told(&world), (true, Some("unknown, last v1".to_owned())));
    let why = view(&world).no_goal.expect("it goes nowhere").to_string();
    assert_eq!(why, "the current release is not known: local: /srv/app: Permission denied (os error 13)");
    assert_eq!((world.phases(), world.switches.len()), (Vec::new(), 0));
    world.releases_hidden = false;
    world.run(Span::from_secs(3));
    assert_eq!(told(&world), (false, Some("v1".to_owned())));
}

/// A held incident is held after a restart as before it: that nothing was seen yet is no news.
#[test]
fn a_restart_says_nothing_new_of_what_is_held() {
    for mode in [Mode::Observe, Mode::Approve] {
        let mut world = World::new(
            rollbackd::domain::policy::WorkloadPolicy { mode, ..policy(Strategy::Direct, &["a"]) },
            only_bad("v2", ERRORS),
        );
        world.run(SETTLE);
        world.deploy("v2");
        world.run(SETTLE);
        let told = world.phases();
        for lost in [true, false] {
            world.crash(lost);
            world.run(SETTLE);
            assert_eq!(world.phases(), told, "{mode}");
        }
    }
}
