//! The machine under random stories and deaths. Each seed is one story; `ROLLBACKD_SEED=N cargo test simulation` replays
//! one. The invariants are checked after every event by `world::invariants`.

use rollbackd::domain::controller::RequestKind;
use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::policy::Strategy;
use rollbackd::domain::time::{Span, Timestamp};

use crate::world::{Behaviour, Script, WELL, World, policy};

/// Stories in one run.
const SEEDS: u64 = 80;

/// SplitMix64, by Sebastiano Vigna: small, seeded, and good enough to shuffle stories.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).expect("short")]
    }
}

const BAD: [Behaviour; 4] = [
    Behaviour { errors: 0.4, ..WELL },
    Behaviour { errors: 1.0, ..WELL },
    Behaviour { healthy: false, ..WELL },
    Behaviour { errors: 0.5, healthy: false, ..WELL },
];

const NAMES: [&[&str]; 3] = [&["a"], &["a", "b"], &["a", "b", "c"]];

/// One story: v1 serves, v2 comes and may go bad, things happen, and in the end every incident is over.
fn play(seed: u64) {
    let mut dice = Dice(seed);
    let strategy = dice.pick(&[Strategy::Direct, Strategy::Rolling]);
    let instances = dice.pick(&NAMES);
    let bad = dice.pick(&BAD);
    let goal_turns_bad = dice.one_in(6);
    let sight_lost = dice.one_in(5);
    let onset = 70 + i64::try_from(dice.below(40)).expect("small");
    let flaps = dice.one_in(4);
    let script: Script = Box::new(move |revision, now| {
        let second = (now.as_millis() - 1_800_000_000_000) / 1000;
        let burning = second >= onset && !(flaps && second % 20 < 6);
        match revision {
            "v2" if burning => bad,
            "v1" if goal_turns_bad && second >= onset => Behaviour { healthy: false, ..WELL },
            _ if sight_lost && (onset + 5..onset + 25).contains(&second) => Behaviour { readable: false, ..WELL },
            _ => WELL,
        }
    });
    let mut world = World::new(policy(strategy, instances), script);
    world.job_delay = Span::from_millis(100 + dice.below(3_000));
    world.crashes = (0..dice.below(5)).map(|_| dice.below(30)).collect();
    world.run(Span::from_secs(60));
    world.deploy("v2");
    let mut paused = false;
    for _ in 0..40 {
        world.run(Span::from_secs(1 + dice.below(6)));
        match dice.below(60) {
            0 => world.crash(true),
            1 => world.crash(false),
            2 => {
                let _ = world.ask(RequestKind::Pause { reason: "looking".to_owned() });
                paused = true;
            }
            3 | 4 if paused => {
                let _ = world.ask(RequestKind::Resume);
                paused = false;
            }
            5 => {
                world.publish("v3");
                world.deploy("v3");
            }
            6 => {
                let _ = world.ask(RequestKind::Rollback { reason: "by hand".to_owned(), to: None, force: Vec::new() });
            }
            _ => {}
        }
    }
    let _ = world.ask(RequestKind::Resume);
    world.crashes.clear();
    let settled = world.run_until(Span::from_secs(600), |world| {
        let incident = world.fleet.get(&world.policy.id).and_then(|controller| controller.state().incident.as_ref());
        incident.is_none_or(|incident| incident.plan.is_none() || incident.phase == Phase::Escalated)
    });
    assert!(settled, "an incident is never over: {:?}", world.phases());
    // Half way is an end only where going on would have made it worse, and a human was called.
    let escalated = world.phases().contains(&Phase::Escalated);
    assert!(world.running().is_some() || escalated, "instances at different releases: {:?}", world.phases());
    assert_eq!(crate::again::other_decision(&world.journal), None);
}

#[test]
fn whatever_happens_the_invariants_hold_and_every_incident_ends() {
    let replay = std::env::var("ROLLBACKD_SEED").ok().and_then(|text| text.parse().ok());
    let seeds = replay.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| play(seed));
        assert!(outcome.is_ok(), "replay with ROLLBACKD_SEED={seed} cargo test simulation");
    }
}

fn rolling_story(crashes: &[u64]) -> World {
    let script: Script = Box::new(
        |revision: &str, _: Timestamp| if revision == "v2" { Behaviour { errors: 0.4, ..WELL } } else { WELL },
    );
    let mut world = World::new(policy(Strategy::Rolling, &["a", "b"]), script);
    world.run(Span::from_secs(60));
    world.deploy("v2");
    world.crash_points = 0;
    world.crashes = crashes.iter().copied().collect();
    let ended = world.run_until(Span::from_secs(300), |world| {
        world.alerts.last().is_some_and(|alert| matches!(alert.phase, Phase::Restored | Phase::Escalated))
    });
    assert!(ended, "killed at {crashes:?}: {:?}", world.phases());
    world
}

/// Crash equivalence: killed before or after any record or effect, once or twice, the end is that of the run without.
#[test]
fn killed_before_or_after_any_record_or_effect_the_end_is_the_same() {
    let undisturbed = rolling_story(&[]);
    let points = undisturbed.crash_points;
    assert!(points > 20, "only {points} moments to die at");
    for first in 0..points {
        for second in [None, Some(0), Some(3)] {
            let crashes: Vec<u64> = [Some(first), second].into_iter().flatten().collect();
            let world = rolling_story(&crashes);
            assert_eq!(world.last_alert().phase, Phase::Restored, "killed at {crashes:?}: {:?}", world.phases());
            assert_eq!(world.running(), Some("v1"), "killed at {crashes:?}");
        }
    }
}

/// A fault is suspected; the daemon is killed so many seconds later, again and again, and each time takes it up where it was.
fn killed_while_suspected(after: &[u64]) {
    let script: Script = Box::new(
        |revision: &str, _: Timestamp| if revision == "v2" { Behaviour { errors: 0.4, ..WELL } } else { WELL },
    );
    let mut policy = policy(Strategy::Direct, &["a"]);
    policy.triggers.iter_mut().for_each(|trigger| trigger.hold_for = Span::from_secs(120));
    let mut world = World::new(policy, script);
    world.run(Span::from_secs(60));
    world.deploy("v2");
    assert!(world.run_until(Span::from_secs(60), |world| world.phases().last() == Some(&Phase::Suspected)));
    let suspected = world.now;
    for seconds in after {
        world.run(Span::from_secs(*seconds));
        world.crash(true);
        assert_eq!(world.phases(), [Phase::Suspected], "{} later", world.now.since(suspected));
    }
    assert!(world.run_until(Span::from_secs(300), |world| world.phases().last() == Some(&Phase::Restored)));
    let first = &world.alerts[0].incident;
    assert!(world.alerts.iter().all(|alert| alert.incident == *first), "{:?}", world.phases());
}

#[test]
fn killed_as_soon_as_a_fault_is_suspected_it_is_still_one_incident() {
    killed_while_suspected(&[0, 1]);
}

#[test]
fn killed_while_a_fault_is_suspected_it_is_still_one_incident() {
    killed_while_suspected(&[11, 7]);
}
