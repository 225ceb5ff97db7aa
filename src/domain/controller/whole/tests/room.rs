//! What finds no room, and what is made of that.

use super::*;

/// The Deployment as it is while v1 can't come up beside five pods of v2, or takes up all the room that there is.
fn crowded(five_at: &str, replicas: u32, absent: u32) -> ReleaseView {
    let pods = ["a", "b", "c", "d", "e"].map(InstanceId::from);
    let mut view = view("v1", replicas);
    view.instances = pods.iter().map(|pod| (pod.clone(), five_at.into())).collect();
    view.available.push(Release { revision: "v0".into(), image: None });
    let orchestrated = view.orchestrated.as_mut().unwrap();
    orchestrated.kept.insert("v0".into(), Pin { name: "v0".to_owned(), uid: "v0".to_owned() });
    orchestrated.serving = pods.to_vec();
    orchestrated.absent = absent;
    orchestrated.refused = Some("exceeded quota: q".to_owned());
    orchestrated.rollout = Rollout::UnderWay { left: format!("0 of {replicas} pods are at v1") };
    view
}

/// A rollback to v1, before which v0 was good, as it is seen from then on.
fn begun(view: ReleaseView) -> World {
    let mut world = World::begun(Strategy::Rolling, Vec::new(), view);
    world.is_willing = true;
    let ledger = &mut world.controller.state.ledger;
    ledger.became_current(&"v0".into(), None, at(0));
    ledger.known_good(&"v0".into(), at(0));
    world
}

fn failed(world: &World) -> Vec<(&str, bool)> {
    let failed = world.events.iter().filter_map(|event| match event {
        Event::Failed { reason, no_room, .. } => Some((reason.as_str(), *no_room)),
        _ => None,
    });
    failed.collect()
}

fn until_escalated(world: &mut World) -> String {
    for _ in 0..3_000 {
        world.second();
        if let [page] = world.pages()[..] {
            return page.to_owned();
        }
    }
    panic!("it is never over: {:#?}", world.events);
}

/// Six are asked for, of which none may be missing besides the one that finds no room beside the five bad ones.
#[test]
fn an_attempt_that_finds_no_room_says_nothing_against_its_goal() {
    let stalled = Rollout::Stalled { why: "v1 has timed out progressing".to_owned() };
    for rollout in [None, Some(stalled)] {
        let mut view = crowded("v2", 6, 1);
        if let Some(rollout) = rollout {
            view.orchestrated.as_mut().unwrap().rollout = rollout;
        }
        let mut world = begun(view);
        let page = until_escalated(&mut world);
        assert!(page.contains("1 find no room: exceeded quota: q"), "{page}");
        assert!(page.ends_with("an older release would need the same room"), "{page}");
        assert!(failed(&world).iter().all(|(_, no_room)| *no_room), "{:?}", failed(&world));
        let purposes: Vec<Purpose> = world.plans().values().map(|(purpose, _)| *purpose).collect();
        assert_eq!(purposes, [Purpose::Retry]);
        let state = world.controller.state();
        assert_eq!(state.ledger.get(&"v1".into()).unwrap().failed_as_goal, None);
        assert!(state.incident.as_ref().unwrap().tried.is_empty());
    }
}

/// A pod of the goal that a node took up and that is not in service may be why.
#[test]
fn where_the_goal_does_not_come_up_either_it_is_not_for_want_of_room() {
    let mut view = crowded("v2", 6, 1);
    view.instances.push(("f".into(), "v1".into()));
    let mut unplaced = view.clone();
    unplaced.orchestrated.as_mut().unwrap().unplaced = ["f".into()].into();
    for (view, expected) in [(view, false), (unplaced, true)] {
        let mut world = begun(view);
        for _ in 0..3_000 {
            world.second();
            if !world.pages().is_empty() || world.plans().contains_key(&3) {
                break;
            }
        }
        assert!(failed(&world)[..2].iter().all(|(_, no_room)| *no_room == expected), "{:?}", failed(&world));
        let third = world.plans().get(&3).map(|(purpose, _)| *purpose);
        assert_eq!(third, (!expected).then_some(Purpose::OlderKnownGood));
    }
}

/// It is asked for more once the rollback has begun.
#[test]
fn what_served_when_it_was_decided_is_enough_whenever_more_are_asked_for() {
    let mut world = World::begun_from(&crowded("v2", 3, 0), Strategy::Rolling, Vec::new(), crowded("v1", 12, 7));
    world.is_willing = true;
    (0..90).for_each(|_| world.second());
    assert!(world.events.contains(&Event::Verifying), "{:#?}", world.events);
}
