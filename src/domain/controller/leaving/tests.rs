use std::sync::Arc;

use super::*;
use crate::domain::controller::Request;
use crate::domain::controller::whole::tests::World;
use crate::domain::policy::WorkloadPolicy;
use crate::domain::response::plan::StepKind;

/// A direct rollback that has scaled everything down, of a workload that leaves the policy then.
fn leaving() -> World {
    let mut world = World::scaled_down();
    world.controller.leave();
    world
}

/// Everything that is done until it has left.
fn until_left(world: &mut World) -> Vec<String> {
    for _ in 0..20 {
        world.second();
        if world.controller.has_left() {
            return world.done.iter().map(StepKind::title).collect();
        }
    }
    panic!("it never leaves: {:#?}", world.events);
}

fn is_forgotten(world: &World) -> bool {
    matches!(world.events.last(), Some(Event::Closed { how: Closing::Forgotten { .. } }))
}

#[test]
fn what_was_scaled_down_comes_up_at_the_goal_and_no_more_is_done() {
    let mut world = leaving();
    world.is_willing = true;
    let done = until_left(&mut world);
    assert_eq!(done.len(), 2, "{done:#?}");
    assert_eq!(done[1], "scale deployment prod/app from 0 to 3, last known to be at v1");
    assert_eq!(world.replicas(), 3);
    assert!(is_forgotten(&world), "{:#?}", world.events);
}

#[test]
fn where_the_goal_can_not_be_reached_it_gets_its_instances_back_as_it_is() {
    let mut world = leaving();
    let done = until_left(&mut world);
    assert_eq!(done[1..], ["scale deployment prod/app from 0 to 3, last known to be at v2"], "{done:#?}");
    assert_eq!(world.replicas(), 3);
    assert!(is_forgotten(&world), "{:#?}", world.events);
    let told = world.events.iter().any(|event| matches!(event, Event::Failed { reason, .. } if reason == "no"));
    assert!(told, "{:#?}", world.events);
}

#[test]
fn what_can_not_be_given_back_stays_a_humans_business() {
    let mut world = leaving();
    world.scales = false;
    until_left(&mut world);
    let Some(Event::Escalated { reason, .. }) = world.events.last() else { panic!("{:#?}", world.events) };
    assert!(reason.contains("could not be given its instances back: not any more"), "{reason}");
    let before = world.events.len();
    world.second();
    assert_eq!(world.events.len(), before, "the page stays open");
}

#[test]
fn a_start_that_finds_it_on_record_goes_on_without_its_policy() {
    let World { controller, .. } = World::scaled_down();
    assert!(owes(controller.state()));
    let mut world = World::scaled_down();
    let policy = WorkloadPolicy::of_the_departed("app".into(), Vec::new());
    world.controller = Controller::new(Arc::new(policy), controller.state().clone());
    world.controller.leave();
    world.is_willing = true;
    assert_eq!(until_left(&mut world).len(), 2);
    assert_eq!(world.replicas(), 3);
    assert!(!owes(world.controller.state()));
    // Long after the plan's deadline what called for the goal may be over.
    let mut late = leaving();
    late.is_willing = true;
    late.now = 10_000;
    assert_eq!(until_left(&mut late), ["scale deployment prod/app from 0 to 3, last known to be at v2"]);
}

#[test]
fn what_an_operator_paused_waits_for_the_operator() {
    let mut world = leaving();
    let ask = |world: &mut World, kind| world.feed(Input::Asked(Request { by: "ops".to_owned(), kind }));
    ask(&mut world, RequestKind::Pause { reason: "mine".to_owned() }).unwrap().unwrap();
    for _ in 0..20 {
        world.second();
    }
    assert!(world.done.is_empty() && !world.controller.has_left(), "{:#?}", world.done);
    let refused = ask(&mut world, RequestKind::Rollback { reason: String::new(), to: None, force: Vec::new() });
    assert!(matches!(refused, Some(Err(Refusal::NotFound(_)))), "{refused:?}");
    ask(&mut world, RequestKind::Resume).unwrap().unwrap();
    until_left(&mut world);
    assert_eq!(world.replicas(), 3);
}

#[test]
fn what_is_put_into_the_policy_again_is_gone_on_with() {
    let mut world = leaving();
    world.is_willing = true;
    let policy = Arc::clone(world.controller.policy());
    world.controller.adopt(policy);
    for _ in 0..3 {
        world.second();
    }
    assert!(!world.controller.has_left() && !is_forgotten(&world), "{:#?}", world.events);
}

#[test]
fn settings_that_went_back_ahead_go_forward_or_are_followed_by_their_template() {
    let leaving = || {
        let mut world = World::with_settings_back();
        world.controller.leave();
        world
    };
    let mut followed = leaving();
    followed.is_willing = true;
    until_left(&mut followed);
    assert_eq!(followed.says.0.as_str(), "1", "{:#?}", followed.done);
    assert!(matches!(followed.done.last(), Some(StepKind::RestoreTemplate { .. })) && is_forgotten(&followed));
    let mut refused = leaving();
    until_left(&mut refused);
    assert_eq!(refused.says.0.as_str(), "2", "{:#?}", refused.done);
    assert!(is_forgotten(&refused), "{:#?}", refused.events);
    let mut sealed = leaving();
    sealed.says.1 = false;
    until_left(&mut sealed);
    let Some(Event::Escalated { reason, .. }) = sealed.events.last() else { panic!("{:#?}", sealed.events) };
    assert!(reason.contains("ConfigMap m in prod may say"), "{reason}");
}
