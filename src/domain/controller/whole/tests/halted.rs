//! What holds a rollback in the middle, and what it does not wait for.

use super::*;

#[test]
fn a_policy_that_only_observes_by_now_halts_what_is_under_way() {
    let mut world = World::scaled_down();
    world.is_willing = true;
    let under = |world: &mut World, mode| {
        let policy = WorkloadPolicy { mode, ..policy(Strategy::Direct) };
        world.controller.adopt(Arc::new(policy));
        (0..3).for_each(|_| world.second());
    };
    under(&mut world, Mode::Observe);
    let held: Vec<&Event> = world.events.iter().collect();
    assert!(matches!(held[..], [Event::Held { hold: Hold::ObserveMode, .. }]), "{held:?}");
    assert!(world.done.is_empty());
    under(&mut world, Mode::Enforce);
    assert!(matches!(world.done[..], [StepKind::RestoreTemplate { .. }, ..]), "{:?}", world.done);
}

#[test]
fn a_pause_halts_though_no_incident_is_open() {
    let mut controller = Controller::new(Arc::new(policy(Strategy::Direct)), WorkloadState::default());
    assert_eq!(controller.halt(), None);
    let pause = RequestKind::Pause { reason: "maintenance".to_owned() };
    let mut out = Output::default();
    let asked = Input::Asked(Request { by: "ops".to_owned(), kind: pause });
    controller.handle(asked, at(1), &FleetView::default(), &mut out).unwrap().unwrap();
    assert!(matches!(controller.halt(), Some(Hold::Paused { .. })), "{:?}", controller.halt());
}

/// Nothing else ends it, and the time is none of the plan's all the same.
#[test]
fn what_is_halted_is_told_again_every_hour() {
    let mut world = World::scaled_down();
    let incident = |world: &World| world.controller.state.incident.clone().unwrap();
    let deadline = incident(&world).plan.unwrap().deadline;
    world.ask(RequestKind::Pause { reason: "looking".to_owned() });
    let (told, since) = (incident(&world).notices, world.now);
    for hour in 1..4 {
        world.now = since + hour * 3_600 - 2;
        world.second();
        assert_eq!(incident(&world).notices, told + hour - 1, "{:?}", world.events);
        world.second();
        assert_eq!(incident(&world).notices, told + hour, "{:?}", world.events);
    }
    world.ask(RequestKind::Resume);
    assert_eq!(incident(&world).plan.unwrap().deadline, deadline + Span::from_secs(world.now - since));
}

#[test]
fn what_is_halted_with_nothing_running_can_be_left_so() {
    let mut world = World::scaled_down();
    world.ask(RequestKind::Pause { reason: "looking".to_owned() });
    world.second();
    world.ask(RequestKind::Reject { incident: "i1".into(), reason: "mine".to_owned() });
    let reason = "mine; left: it has no instances".to_owned();
    let closed = Event::Closed { how: Closing::ByOperator { by: "ops".to_owned(), reason } };
    assert_eq!(world.events.last(), Some(&closed));
    world.ask(RequestKind::Resume);
    world.second();
    assert!(world.done.is_empty(), "{:?}", world.done);
}

/// What its settings say is of no release that is in place: somebody must see to that first.
#[test]
fn what_is_halted_with_settings_of_another_release_is_escalated_when_it_is_left_so() {
    let mut world = World::with_settings_back();
    world.ask(RequestKind::Pause { reason: "looking".to_owned() });
    world.second();
    let reject = || RequestKind::Reject { incident: "i1".into(), reason: "mine".to_owned() };
    world.ask(reject());
    assert!(world.pages()[0].starts_with("closed by ops: mine; ConfigMap m in prod may say"), "{:?}", world.pages());
    world.ask(reject());
    assert!(matches!(world.events.last(), Some(Event::Closed { how: Closing::ByOperator { .. } })));
}

#[test]
fn time_in_which_nothing_could_be_recorded_is_none_of_a_rollbacks() {
    let mut world = World::scaled_down();
    world.is_willing = true;
    let deadline = |world: &World| world.controller.state.incident.as_ref().unwrap().plan.as_ref().unwrap().deadline;
    let (before, began) = (deadline(&world), at(world.now));
    world.now += 3_000;
    world.feed(Input::StoodStill(began, Hold::JournalBroken { reason: "full".to_owned() }));
    assert_eq!(deadline(&world), before + Span::from_secs(3_000));
    let told =
        matches!(world.events[..], [Event::Held { hold: Hold::JournalBroken { .. }, .. }, Event::Continued { .. }, ..]);
    assert!(told, "{:#?}", world.events);
    world.second();
    assert!(matches!(world.done[..], [StepKind::RestoreTemplate { .. }, ..]), "{:?}", world.done);
}

/// Six are asked for, four found room before, and four are at the goal.
#[test]
fn pods_that_found_no_room_before_are_not_waited_for() {
    for (absent, is_over) in [(2, true), (1, false)] {
        let pods = ["a", "b", "c", "d"].map(InstanceId::from);
        let mut view = view("v1", 6);
        view.instances = pods.iter().map(|pod| (pod.clone(), "v1".into())).collect();
        let orchestrated = view.orchestrated.as_mut().unwrap();
        orchestrated.serving = pods.to_vec();
        orchestrated.absent = absent;
        orchestrated.rollout = Rollout::UnderWay { left: "4 of 6 pods are in service".to_owned() };
        let mut world = World::begun(Strategy::Rolling, Vec::new(), view);
        let plan = world.controller.state.incident.as_mut().unwrap().plan.as_mut().unwrap();
        for step in &mut plan.steps {
            if let StepKind::AwaitRollout { enough, .. } = &mut step.kind {
                *enough = Some(4);
            }
        }
        (0..90).for_each(|_| world.second());
        assert_eq!(world.events.contains(&Event::Verifying), is_over, "{absent}: {:#?}", world.events);
    }
}
