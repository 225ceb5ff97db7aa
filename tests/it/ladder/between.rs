//! What counts between two attempts, and for others meanwhile.

use rollbackd::domain::incident::report::{Readings, Report};
use rollbackd::domain::policy::Severity;
use rollbackd::domain::response::hold::Hold;
use rollbackd::report;

use super::*;

#[test]
fn a_step_that_was_stopped_before_it_wrote_anything_is_the_next_one_once_it_is_resumed() {
    let mut world = world(Strategy::Direct, &["a"]);
    until(&mut world, Phase::Started);
    let told = |world: &World| {
        let records: Vec<_> = world.journal.iter().filter(|record| record.incident.is_some()).cloned().collect();
        report::markdown(&Report::from_records(&records, Readings::default()).unwrap()).unwrap()
    };
    // Each longer than the whole rollback may take.
    for _ in 0..3 {
        world.ask(RequestKind::Pause { reason: "looking".to_owned() }).unwrap();
        world.stopped();
        world.run(Span::from_secs(1200));
        assert_eq!(world.phases().last(), Some(&Phase::Held), "{:?}", world.phases());
        let text = told(&world);
        assert!(text.contains("| halted, and still to be done: api: stopped before it was written to |"), "{text}");
        world.ask(RequestKind::Resume).unwrap();
        assert!(told(&world).contains("| under way |"), "{}", told(&world));
    }
    assert_eq!(world.switches, [], "nothing was written");
    until(&mut world, Phase::Restored);
    assert_eq!((world.purposes(), world.running()), (vec![Purpose::First], Some("v1")));
    assert!(!world.phases().contains(&Phase::Failed), "{:?}", world.phases());
    let text = told(&world);
    assert!(text.contains("step 1 was halted, and is still to be done"), "{text}");
    assert!(!text.contains("| halted"), "in the end it was done: {text}");
}

#[test]
fn time_in_which_nothing_is_judged_proves_nothing() {
    let mut world = World::new(policy(Strategy::Direct, &["a"]), v2_is_bad());
    world.run(Span::from_secs(60));
    world.deploy("v2");
    until(&mut world, Phase::Verifying);
    world.run(Span::from_secs(3));
    let began = world.now;
    world.unwritten = true;
    world.run(Span::from_secs(600));
    world.unwritten = false;
    world.feed(Input::StoodStill(began, Hold::JournalBroken { reason: "full".to_owned() }));
    world.run(Span::from_secs(3));
    assert_ne!(world.phases().last(), Some(&Phase::Restored), "{:?}", world.phases());
    until(&mut world, Phase::Restored);
}

#[test]
fn what_was_asked_for_by_hand_is_tried_again_under_a_policy_that_observes_by_then() {
    let mut world = world(Strategy::Direct, &["a"]);
    world.smoke_passes = false;
    world.run(Span::from_secs(1));
    world.ask(RequestKind::Rollback { reason: "by hand".to_owned(), to: None, force: Vec::new() }).unwrap();
    until(&mut world, Phase::Failed);
    world.adopt(WorkloadPolicy { mode: Mode::Observe, ..WorkloadPolicy::clone(&world.policy) });
    world.smoke_passes = true;
    until(&mut world, Phase::Restored);
    assert_eq!(world.purposes(), [Purpose::First, Purpose::Retry]);
}

#[test]
fn a_rollback_that_is_held_between_two_attempts_is_under_way_to_others() {
    let mut world = world(Strategy::Direct, &["a"]);
    let (mut beside, id) = (WorkloadPolicy::clone(&world.policy), world.policy.id.clone());
    beside.id = WorkloadId::new("beside");
    world.fleet.add(Arc::new(beside), WorkloadState::default());
    let in_flight = |world: &mut World| world.fleet.view_for(&WorkloadId::new("beside"), world.now).in_flight;
    world.smoke_passes = false;
    until(&mut world, Phase::Failed);
    world.ask(RequestKind::Pause { reason: "looking".to_owned() }).unwrap();
    until(&mut world, Phase::Held);
    world.run(Span::from_secs(5));
    assert_eq!(in_flight(&mut world), Some(id.clone()));
    let incident = world.incident().unwrap();
    world.ask(RequestKind::Reject { incident, reason: "mine".to_owned() }).unwrap();
    assert_eq!(in_flight(&mut world), None);
}

#[test]
fn what_is_only_for_people_to_know_brakes_no_other_workload() {
    let mut fleet = Fleet::default();
    let names = ["a1", "a2", "a3"].map(WorkloadId::new);
    for name in &names {
        let mut policy = policy(Strategy::Direct, &["a"]);
        (policy.id, policy.namespace) = (name.clone(), name.as_str().to_owned());
        policy.triggers.retain(|trigger| ["health", "error_rate"].contains(&trigger.name.as_str()));
        for trigger in policy.triggers.iter_mut().filter(|trigger| trigger.name.as_str() == "health") {
            trigger.severity = Severity::Alert;
        }
        fleet.add(Arc::new(policy), WorkloadState::default());
    }
    for second in 0..120 {
        let now = DAWN + Span::from_secs(second);
        for name in &names[..2] {
            let view = ReleaseView {
                instances: vec![(InstanceId::new("a"), "v1".into())],
                available: vec![Release { revision: "v1".into(), image: None }],
                ..ReleaseView::default()
            };
            let answer = Answer { healthy: second < 70, detail: String::new(), revision: None };
            let (target, instance) = (TargetId::new("a:80"), Some(InstanceId::new("a")));
            for seen in [Seen::Releases(Ok(view)), Seen::Probe { target, instance, result: Ok(answer) }] {
                let observation = Observation { workload: name.clone(), at: now, seen };
                fleet.handle(name, Input::Observed(observation), now, &mut Output::default());
            }
        }
        let view = fleet.view_for(&names[2], now);
        assert_eq!((view.turned_bad, view.bad_without_rollout), (0, Vec::new()), "{second}");
    }
    assert!(names[..2].iter().all(|name| fleet.get(name).unwrap().is_tense()), "it fires");
}

#[test]
fn what_stands_in_a_plans_way_now_is_told_where_it_was_something_else_before() {
    let finding = |check: &str, passing| Finding {
        aspect: Aspect::Quota,
        check: check.to_owned(),
        problem: "it does not do".to_owned(),
        passing,
    };
    let mut world = world(Strategy::Direct, &["a"]);
    world.findings = vec![finding("API", true)];
    until(&mut world, Phase::Held);
    world.findings = vec![finding("quota", false)];
    world.run(Span::from_secs(60));
    assert!(world.last_alert().reason.contains("quota"), "{}", world.last_alert().reason);
    let told = world.alerts.len();
    world.findings = vec![finding("API", true)];
    world.run(Span::from_secs(60));
    assert_eq!(world.alerts.len(), told, "that it could not be looked at is no news");
}
