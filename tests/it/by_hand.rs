//! A human finishes by hand what is held, or ends it; and what they are told of meanwhile.

use std::sync::Arc;

use rollbackd::domain::controller::{RequestKind, StepStanding};
use rollbackd::domain::id::WorkloadId;
use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::incident::state::WorkloadState;
use rollbackd::domain::policy::{Mode, Strategy, WorkloadPolicy};
use rollbackd::domain::response::hold::Hold;
use rollbackd::domain::response::plan::{Purpose, StepKind};
use rollbackd::domain::time::{Span, Timestamp};

use crate::world::{Behaviour, DAWN, Script, WELL, World, policy};

fn v2_is_bad() -> Script {
    Box::new(|revision: &str, _: Timestamp| if revision == "v2" { Behaviour { errors: 0.4, ..WELL } } else { WELL })
}

/// A rollback from v2 to v1 has begun.
fn begun(strategy: Strategy) -> World {
    let mut world = World::new(policy(strategy, &["a", "b"]), v2_is_bad());
    world.run(Span::from_secs(60));
    world.deploy("v2");
    until(&mut world, Phase::Started);
    world
}

fn until(world: &mut World, phase: Phase) {
    let came = world.run_until(Span::from_secs(300), |world| world.phases().last() == Some(&phase));
    assert!(came, "never {phase}: {:?}", world.phases());
}

/// Holds a rollback, or lets it go on.
fn hold(world: &mut World, is_by_policy: bool, is_held: bool) {
    let mode = if is_held { Mode::Observe } else { Mode::Enforce };
    let pause = RequestKind::Pause { reason: "by hand".to_owned() };
    if is_by_policy {
        world.adopt(WorkloadPolicy { mode, ..WorkloadPolicy::clone(&world.policy) });
    } else {
        world.ask(if is_held { pause } else { RequestKind::Resume }).unwrap();
    }
}

/// What is told of each restart of the plan.
fn restarts(world: &mut World) -> Vec<StepStanding> {
    let preview = world.fleet.preview(&world.policy.id, world.now).unwrap();
    let steps = preview.plan.iter().flat_map(|plan| &plan.steps).zip(preview.steps);
    steps.filter(|(step, _)| matches!(step.kind, StepKind::Restart { .. })).map(|(_, standing)| standing).collect()
}

#[test]
fn what_a_human_restarted_at_the_goal_is_not_restarted_again() {
    for (strategy, is_by_policy) in [(Strategy::Direct, false), (Strategy::Rolling, false), (Strategy::Rolling, true)] {
        let mut world = begun(strategy);
        hold(&mut world, is_by_policy, true);
        world.run(Span::from_secs(5));
        world.point("v1");
        world.run(Span::from_secs(3));
        world.restart();
        let starts = world.starts();
        world.run(Span::from_secs(20));
        assert_eq!(world.phases().last(), Some(&Phase::Held), "{:?}", world.phases());
        assert_eq!(restarts(&mut world), [StepStanding::DoneByOthers; 2], "{strategy}");
        hold(&mut world, is_by_policy, false);
        until(&mut world, Phase::Restored);
        assert_eq!(world.starts(), starts, "{strategy}");
        let proving = world.alerts.iter().find(|alert| alert.phase == Phase::Verifying).unwrap();
        assert_eq!(
            proving.reason, "every step is done, a, b restarted by someone else already; the proof begins",
            "{strategy}"
        );
    }
}

#[test]
fn what_a_human_only_pointed_at_the_goal_is_restarted() {
    for strategy in [Strategy::Direct, Strategy::Rolling] {
        let mut world = begun(strategy);
        hold(&mut world, false, true);
        world.run(Span::from_secs(5));
        world.point("v1");
        world.run(Span::from_secs(20));
        let starts = world.starts();
        assert_eq!(restarts(&mut world), [StepStanding::ToDo; 2], "{strategy}");
        hold(&mut world, false, false);
        until(&mut world, Phase::Restored);
        assert!(world.starts().iter().zip(&starts).all(|(now, before)| now > before), "{strategy}");
        assert_eq!(world.running(), Some("v1"));
    }
}

#[test]
fn what_the_policy_holds_half_way_can_be_left_to_a_human() {
    let mut world = begun(Strategy::Rolling);
    let reject = |world: &mut World| {
        let incident = world.incident().unwrap();
        world.ask(RequestKind::Reject { incident, reason: "by hand".to_owned() })
    };
    let refused = reject(&mut world).unwrap_err().to_string();
    assert!(refused.ends_with("pause the workload to stop it"), "{refused}");
    hold(&mut world, true, true);
    world.run(Span::from_secs(30));
    let incident = world.incident().unwrap();
    let next = format!("nothing, until the hold is lifted, or rollbackd reject {incident} leaves it to a human");
    assert_eq!((world.last_alert().phase, &world.last_alert().next.action), (Phase::Held, &next));
    let accepted = reject(&mut world).unwrap();
    assert_eq!(accepted.message, "closed: the rollback is left as it is, to a human");
    let closed = world.alerts.iter().rfind(|alert| alert.incident == incident).unwrap();
    assert_eq!(
        (closed.phase, closed.reason.as_str()),
        (Phase::Closed, "closed by ops: by hand; left: a at v1; b at v2")
    );
    hold(&mut world, true, false);
    world.run(Span::from_secs(300));
    assert_eq!(world.switches.len(), 1, "{:?}", world.switches);
    assert_eq!(world.last_alert().reason, "rejected by ops: by hand", "the fault goes on, and he said no to it");
}

#[test]
fn each_word_of_a_rollback_by_hand_names_the_goal_that_was_asked_for() {
    let mut world = World::new(policy(Strategy::Direct, &["a"]), Box::new(|_: &str, _: Timestamp| WELL));
    world.publish("v3");
    for release in ["v2", "v3"] {
        world.run(Span::from_secs(60));
        world.deploy(release);
    }
    world.run(Span::from_secs(60));
    let to = Some("v1".into());
    world.ask(RequestKind::Rollback { reason: "a leak".to_owned(), to, force: Vec::new() }).unwrap();
    until(&mut world, Phase::Restored);
    let goals = world.alerts.iter().map(|alert| (alert.phase, alert.to.as_ref().unwrap().revision.as_str()));
    let phases = [Phase::Detected, Phase::Started, Phase::Verifying, Phase::Restored];
    assert_eq!(goals.collect::<Vec<_>>(), phases.map(|phase| (phase, "v1")));
    assert_eq!(world.alerts[0].summary, "app (v3 → v1): rollback asked for by ops: a leak.");
}

#[test]
fn why_a_human_said_no_is_told_for_as_long_as_it_holds() {
    let mut world = World::new(policy(Strategy::Direct, &["a"]), v2_is_bad());
    world.run(Span::from_secs(60));
    world.deploy("v2");
    until(&mut world, Phase::Suspected);
    let incident = world.incident().unwrap();
    world.ask(RequestKind::Reject { incident, reason: "a migration".to_owned() }).unwrap();
    world.crash(true);
    world.run(Span::from_secs(60));
    let explained = world.fleet.explain(&world.policy.id, world.now).unwrap();
    assert_eq!(explained.decision, "held: rejected by ops: a migration");
    // On records from before it was kept.
    let earlier: Hold = serde_json::from_value(serde_json::json!({ "hold": "rejected", "by": "ops" })).unwrap();
    assert_eq!(earlier.to_string(), "rejected by ops");
}

/// One instance is at v3 and well, the other stays at v1, which falls later.
#[test]
fn what_goes_bad_beside_while_a_human_has_the_incident_is_told_once() {
    let falls = Timestamp::from_millis(1_800_000_000_000) + Span::from_secs(3_900);
    let rises = falls + Span::from_secs(60);
    let script = move |revision: &str, now: Timestamp| match revision {
        "v1" if now >= falls && now < rises => Behaviour { errors: 0.4, ..WELL },
        _ => WELL,
    };
    let policy = WorkloadPolicy { mode: Mode::Approve, ..policy(Strategy::Rolling, &["a", "b"]) };
    let mut world = World::new(policy, Box::new(script));
    world.run(Span::from_secs(60));
    world.publish("v3");
    world.deploy_to("a", "v3");
    world.run(Span::from_secs(5));
    world.ask(RequestKind::Trigger { kind: "security".to_owned(), reason: "leak".to_owned(), key: None }).unwrap();
    let is_escalated = |world: &World| world.phases().last() == Some(&Phase::Escalated);
    assert!(world.run_until(Span::from_secs(3_700), is_escalated), "{:?}", world.phases());
    let told = world.alerts.len();
    let incident = world.incident();
    // It goes bad, is well again, and goes on.
    world.run(Span::from_secs(500));
    assert_eq!((world.alerts.len(), world.incident()), (told + 1, incident), "{:?}", world.phases());
    let alert = world.last_alert();
    assert_eq!((alert.phase, alert.trigger.name.as_str()), (Phase::Escalated, "error_rate"));
    assert!(
        alert.reason.starts_with("beside it, \"error_rate\": error_rate is 40 % where v1 serves"),
        "{}",
        alert.reason
    );
    assert!(alert.summary.starts_with("app (v3 → v1) needs a human now: beside it, "), "{}", alert.summary);
}

/// v2 is bad while the policy observes; an hour later it asks.
fn asked_after_an_hour() -> World {
    let policy = WorkloadPolicy { mode: Mode::Observe, ..policy(Strategy::Direct, &["a"]) };
    let mut world = World::new(policy, v2_is_bad());
    world.run(Span::from_secs(60));
    world.deploy("v2");
    until(&mut world, Phase::Held);
    world.run(Span::from_secs(3_700));
    world.adopt(WorkloadPolicy { mode: Mode::Approve, ..WorkloadPolicy::clone(&world.policy) });
    until(&mut world, Phase::AwaitingApproval);
    world
}

#[test]
fn whoever_may_approve_has_an_hour_from_when_they_are_asked() {
    let mut world = asked_after_an_hour();
    world.run(Span::from_secs(3_590));
    assert_eq!(world.phases().last(), Some(&Phase::AwaitingApproval), "{}", world.last_alert().reason);
    until(&mut world, Phase::Escalated);
    assert_eq!(world.last_alert().reason, "held for 1h: waiting for approval: the mode is approve");
    let mut world = asked_after_an_hour();
    world.run(Span::from_secs(3_000));
    let incident = world.incident().unwrap();
    world.ask(RequestKind::Approve { incident, to: None }).unwrap();
    until(&mut world, Phase::Restored);
}

#[test]
fn whoever_may_approve_is_told_until_when() {
    let mut world = asked_after_an_hour();
    let (deadline, asked) = (world.last_alert().next.deadline, *world.alert_times.last().unwrap());
    assert_eq!(deadline, Some(asked + Span::from_secs(3_600)));
    world.run(Span::from_secs(3_590));
    until(&mut world, Phase::Escalated);
    let late = world.alert_times.last().unwrap().since(deadline.unwrap());
    assert!(late <= Span::from_secs(2), "{late} after it");
}

#[test]
fn whoever_may_approve_is_told_from_which_release_to_which_and_says_yes_to_that_one() {
    let mut world = asked_after_an_hour();
    let incident = world.incident().unwrap();
    let alert = world.last_alert();
    let route = (alert.from.as_ref().unwrap().revision.as_str(), alert.to.as_ref().unwrap().revision.as_str());
    assert_eq!(route, ("v2", "v1"));
    let asked = format!("app (v2 → v1) waits for approval by rollbackd approve {incident} --to v1; cause: ");
    assert!(alert.summary.starts_with(&asked), "{}", alert.summary);
    let approve = |world: &mut World, to: &str| {
        let (incident, to) = (incident.clone(), Some(to.into()));
        world.ask(RequestKind::Approve { incident, to })
    };
    let refused = approve(&mut world, "v0").unwrap_err().to_string();
    assert_eq!(refused, format!("{incident} would go back to v1 by now, not to v0"));
    world.run(Span::from_secs(30));
    assert_eq!(world.phases().last(), Some(&Phase::AwaitingApproval));
    approve(&mut world, "v1").unwrap();
    until(&mut world, Phase::Restored);
}

/// v3 is bad, and so is v2, to which somebody said yes.
#[test]
fn whoever_may_approve_an_older_release_has_an_hour_for_it_and_holds_others_meanwhile() {
    let script: Script = Box::new(|revision: &str, now: Timestamp| {
        let is_bad = revision == "v3" || (revision == "v2" && now.since(DAWN) > Span::from_secs(100));
        if is_bad { Behaviour { errors: 0.4, ..WELL } } else { WELL }
    });
    let policy = WorkloadPolicy { mode: Mode::Approve, ..policy(Strategy::Direct, &["a"]) };
    let mut beside = policy.clone();
    beside.id = WorkloadId::new("beside");
    let mut world = World::new(policy, script);
    world.fleet.add(Arc::new(beside), WorkloadState::default());
    let in_flight = |world: &mut World| world.fleet.view_for(&WorkloadId::new("beside"), world.now).in_flight;
    world.publish("v3");
    world.run(Span::from_secs(30));
    world.deploy("v2");
    world.run(Span::from_secs(60));
    world.deploy("v3");
    until(&mut world, Phase::AwaitingApproval);
    assert_eq!(in_flight(&mut world), None);
    let incident = world.incident().unwrap();
    world.ask(RequestKind::Approve { incident: incident.clone(), to: Some("v2".into()) }).unwrap();
    until(&mut world, Phase::Failed);
    until(&mut world, Phase::AwaitingApproval);
    let (alert, asked) = (world.last_alert(), *world.alert_times.last().unwrap());
    let said = format!("app (v3 → v1) waits for approval by rollbackd approve {incident} --to v1; v2 is bad as well: ");
    assert!(alert.summary.starts_with(&said), "{}", alert.summary);
    assert_eq!(alert.next.deadline, Some(asked + Span::from_secs(3_600)));
    let explained = world.fleet.explain(&world.policy.id, world.now).unwrap();
    let holds = explained.would_change.iter().any(|line| line.starts_with("no rollback while needs-approval: "));
    assert!(holds, "{:?}", explained.would_change);
    let preview = world.fleet.preview(&world.policy.id, world.now).unwrap();
    for plan in [explained.plan.unwrap(), preview.plan.unwrap()] {
        assert_eq!((plan.purpose, plan.to.as_str(), plan.attempt), (Purpose::OlderKnownGood, "v1", 3));
    }
    world.run(Span::from_secs(3_590));
    assert_eq!(in_flight(&mut world), Some("app".into()));
    assert_eq!(world.phases().last(), Some(&Phase::AwaitingApproval));
    until(&mut world, Phase::Escalated);
    assert_eq!(in_flight(&mut world), None);
}
