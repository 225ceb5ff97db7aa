//! What proves that a release serves: its instances, as the orchestrator sees them.

use super::*;

/// The Deployment at v1, with three pods of which so many are ready.
fn at_v1(ready: usize, replicas: u32) -> ReleaseView {
    let pods = ["a", "b", "c"].map(InstanceId::from);
    let mut view = view("v1", replicas);
    view.instances = pods.iter().map(|pod| (pod.clone(), "v1".into())).collect();
    let orchestrated = view.orchestrated.as_mut().unwrap();
    orchestrated.serving = pods[..ready].to_vec();
    orchestrated.absent = replicas.saturating_sub(3);
    if ready < pods.len() && replicas > 0 {
        orchestrated.rollout = Rollout::UnderWay { left: format!("{ready} of {replicas} pods are in service") };
    }
    view
}

/// Three pods of v2 were taken back to v1, which serves; then it is seen like this, and what answers is healthy.
fn proven_with(then: &ReleaseView) -> World {
    let mut before = at_v1(3, 3);
    before.instances.iter_mut().for_each(|(_, release)| *release = "v2".into());
    before.orchestrated.as_mut().unwrap().desired = "v2".into();
    let mut world = World::begun_from(&before, Strategy::Rolling, Vec::new(), at_v1(3, 3));
    world.is_willing = true;
    let mut policy = policy(Strategy::Rolling);
    policy.verify.checks.clear();
    world.controller.adopt(Arc::new(policy));
    for _ in 0..3_000 {
        world.second();
        if world.events.contains(&Event::Verifying) {
            world.view = then.clone();
        }
        let healthy = HealthAnswer { healthy: true, detail: String::new(), revision: None };
        let (target, instance) = ("a:80".into(), Some("a".into()));
        world.see(Seen::Probe { target, instance, result: Ok(healthy) });
        if world.events.iter().any(|event| matches!(event, Event::Restored { .. } | Event::Failed { .. }))
            || !world.pages().is_empty()
        {
            return world;
        }
    }
    panic!("it is never over: {:#?}", world.events);
}

fn told(world: &World) -> String {
    let told = world.events.iter().find_map(|event| match event {
        Event::Restored { checks } => {
            let capacity = checks.iter().find(|check| check.name == "capacity").unwrap();
            Some(format!("restored: {}", capacity.detail))
        }
        Event::Failed { reason, .. } => Some(format!("failed: {reason}")),
        Event::Escalated { reason, .. } => Some(format!("escalated: {reason}")),
        _ => None,
    });
    told.unwrap()
}

#[test]
fn a_release_is_not_well_while_its_instances_are_not_in_service() {
    let seen = |ready, replicas| told(&proven_with(&at_v1(ready, replicas)));
    assert_eq!(seen(3, 3), "restored: 3 of 3 instances of v1 in service");
    assert_eq!(seen(3, 5), "restored: 3 of 5 instances of v1 in service", "as many as there were");
    let mut coming = at_v1(3, 5);
    coming.orchestrated.as_mut().unwrap().absent = 1;
    coming.orchestrated.as_mut().unwrap().rollout = Rollout::UnderWay { left: "3 of 5 pods are in service".to_owned() };
    let coming = told(&proven_with(&coming));
    assert!(coming.contains("3 of 5 instances of v1 in service") && coming.starts_with("escalated: "), "{coming}");
    let part = seen(1, 3);
    assert!(part.starts_with("escalated: v1 is in place, but it is not proven well"), "{part}");
    assert!(part.contains("1 of 3 instances of v1 in service"), "{part}");
    let none = seen(0, 3);
    assert!(none.starts_with("failed: not well by") && none.contains("0 of 3 instances of v1 in service"), "{none}");
    let nobody = seen(0, 0);
    assert!(nobody.starts_with("escalated: ") && nobody.contains("no instances are asked for"), "{nobody}");
}
