//! What is not seen is neither well nor bad: no proof, and no reason to try anything else.

use super::*;

/// v0 and v1 are known good; v2 is bad, and is being taken back.
fn taken_back() -> World {
    let mut world = World::new(policy(Strategy::Direct, &["a"]), v2_is_bad());
    world.publish("v0");
    world.deploy("v0");
    world.run(Span::from_secs(60));
    world.deploy("v1");
    world.run(Span::from_secs(60));
    world.deploy("v2");
    until(&mut world, Phase::Started);
    world
}

#[test]
fn with_nothing_left_to_look_at_nothing_is_proven() {
    let mut world = taken_back();
    until(&mut world, Phase::Verifying);
    world.unlist();
    until(&mut world, Phase::Escalated);
    assert!(!world.phases().contains(&Phase::Restored), "{:?}", world.phases());
    let told = &world.last_alert().reason;
    assert!(told.contains("not proven well") && told.contains("no page and no health endpoint is looked at"), "{told}");
}

#[test]
fn a_release_that_nobody_can_look_at_is_not_left_for_an_older_one() {
    let mut world = taken_back();
    world.unlist();
    until(&mut world, Phase::Escalated);
    assert_eq!(world.purposes(), [Purpose::First], "{:?}", world.phases());
    assert_eq!(world.running(), Some("v1"));
    let told = &world.last_alert().reason;
    assert!(told.contains("v1 is in place, but it is not proven well"), "{told}");
}
