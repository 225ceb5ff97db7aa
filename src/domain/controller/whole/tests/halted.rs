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
