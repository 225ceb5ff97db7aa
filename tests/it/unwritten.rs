//! The time in which no record can be written: nothing is done, and everybody sees how it is.

use rollbackd::domain::controller::WorkloadView;
use rollbackd::domain::health::verdict::TriggerState;
use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::incident::record::Event;
use rollbackd::domain::policy::Strategy;
use rollbackd::domain::response::plan::Purpose;
use rollbackd::domain::time::{Span, Timestamp};

use crate::world::{Behaviour, Script, WELL, World, policy};

/// A world in which v1 is known good, v2 fails 40 % of its requests, and so does v1 from `fault` on; then the journal breaks.
fn broken(fault: Option<Span>) -> World {
    let began = crate::world::DAWN;
    let script: Script = Box::new(move |revision: &str, now: Timestamp| {
        let is_bad = revision == "v2" || fault.is_some_and(|fault| now >= began + fault);
        if is_bad { Behaviour { errors: 0.4, ..WELL } } else { WELL }
    });
    let mut world = World::new(policy(Strategy::Direct, &["a"]), script);
    world.run(Span::from_secs(60));
    assert!(world.journal.iter().any(|record| matches!(record.event, Event::KnownGood { .. })));
    world.unwritten = true;
    world
}

fn view(world: &World) -> WorkloadView {
    world.fleet.view_of(&world.policy.id, world.now).unwrap()
}

fn is_firing(view: &WorkloadView) -> bool {
    view.assessment.triggers.iter().any(|trigger| matches!(trigger.state, TriggerState::Firing { .. }))
}

#[test]
fn a_release_that_comes_meanwhile_is_judged_and_shown_and_dealt_with_later() {
    let mut world = broken(None);
    let records = world.journal.len();
    world.deploy("v2");
    world.run(Span::from_secs(60));
    let seen = view(&world);
    assert_eq!(seen.current.as_ref().unwrap().revision.as_str(), "v2");
    assert_eq!(seen.goal.as_ref().unwrap().revision.as_str(), "v1");
    assert_eq!(seen.assessment.revision.as_ref().unwrap().as_str(), "v2");
    assert!(is_firing(&seen), "{seen:#?}");
    let explanation = world.fleet.explain(&world.policy.id.clone(), world.now).unwrap();
    let plan = explanation.plan.unwrap();
    assert_eq!((plan.from.as_str(), plan.to.as_str()), ("v2", "v1"));
    assert_eq!((world.journal.len(), world.switches.len()), (records, 0));
    // Put right by hand, and wrong again: what is seen is what is shown.
    world.deploy("v1");
    world.run(Span::from_secs(60));
    let seen = view(&world);
    assert_eq!(seen.current.as_ref().unwrap().revision.as_str(), "v1");
    assert!(!is_firing(&seen) && seen.assessment.healthy, "{seen:#?}");
    world.deploy("v2");
    world.run(Span::from_secs(60));
    assert_eq!((world.journal.len(), world.switches.len()), (records, 0));

    // Its faults are its own, however long they have been there.
    world.unwritten = false;
    let restored = |world: &World| world.phases().contains(&Phase::Restored);
    assert!(world.run_until(Span::from_secs(120), restored), "{:#?}", world.alerts);
    assert_eq!(world.running(), Some("v1"));
    let observed = world.journal.iter().filter_map(|record| match &record.event {
        Event::ReleaseObserved { revision, older_faults, .. } => Some((revision.as_str(), older_faults.len())),
        _ => None,
    });
    assert_eq!(observed.collect::<Vec<_>>(), [("v1", 0), ("v2", 0), ("v1", 0)]);
}

#[test]
fn a_fault_that_was_there_before_is_not_put_down_to_a_release_that_comes_meanwhile() {
    let mut world = broken(Some(Span::from_secs(65)));
    world.run(Span::from_secs(40));
    assert!(is_firing(&view(&world)));
    world.deploy("v2");
    world.run(Span::from_secs(60));
    world.unwritten = false;
    world.run(Span::from_secs(60));
    let observed = world.journal.iter().rev().find_map(|record| match &record.event {
        Event::ReleaseObserved { revision, older_faults, .. } => Some((revision.as_str(), older_faults.clone())),
        _ => None,
    });
    let (revision, older) = observed.unwrap();
    assert_eq!((revision, older[0].trigger.as_str()), ("v2", "error_rate"));
    assert!(world.switches.is_empty());
}

/// A rollback has begun, and its first step was asked for.
fn begun() -> World {
    let mut world = broken(None);
    world.unwritten = false;
    world.deploy("v2");
    let is_begun = |world: &World| world.phases().last() == Some(&Phase::Started);
    assert!(world.run_until(Span::from_secs(60), is_begun), "{:?}", world.phases());
    world
}

#[test]
fn what_waited_too_long_for_its_record_spends_no_attempt() {
    use Purpose::{First, Retry};
    let again = |world: &mut World| {
        world.not_begun();
        let plans = world.purposes().len();
        assert!(world.run_until(Span::from_secs(60), |world| world.purposes().len() > plans), "{:?}", world.phases());
    };
    // Nothing was done: it is the same rollback, and the goal has failed nobody.
    let mut world = begun();
    (0..3).for_each(|_| again(&mut world));
    assert_eq!(world.purposes(), [First, Retry, Retry, Retry]);
    let state = world.fleet.get(&world.policy.id).unwrap().state();
    assert_eq!(state.rollbacks.len(), 1);
    assert_eq!(state.ledger.get(&"v1".into()).unwrap().failed_as_goal, None);
    // Both attempts are left.
    world.restarts_fail = true;
    let escalated = |world: &World| world.phases().last() == Some(&Phase::Escalated);
    assert!(world.run_until(Span::from_secs(120), escalated), "{:?}", world.phases());
    assert_eq!(world.purposes(), [First, Retry, Retry, Retry, Retry]);

    // Nothing is tried without an end: ten are not counted, two are, and the hop that is left goes to the goal, which was
    // never tried.
    let mut world = begun();
    while world.phases().last() != Some(&Phase::Escalated) {
        assert!(world.purposes().len() < 20, "{:?}", world.phases());
        match world.phases().last() {
            Some(Phase::Started) => world.not_begun(),
            _ => world.step(),
        }
    }
    assert_eq!(world.purposes().len(), 13);

    // The link was switched already: the instance is restarted all the same.
    let mut world = begun();
    assert!(world.run_until(Span::from_secs(5), |world| world.switches.len() == 1));
    again(&mut world);
    let restored = |world: &World| world.phases().last() == Some(&Phase::Restored);
    assert!(world.run_until(Span::from_secs(120), restored), "{:?}", world.phases());
    assert_eq!((world.purposes(), world.running()), (vec![First, Retry], Some("v1")));
}
