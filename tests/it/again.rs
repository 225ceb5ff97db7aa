//! Decisions made again from their records: the same as they were, and not the same where a record was tampered with.

use rollbackd::domain::incident::grounds::{Again, again};
use rollbackd::domain::incident::record::{Event, Record};
use rollbackd::domain::policy::{Mode, Strategy, WorkloadPolicy};
use rollbackd::domain::time::{Span, Timestamp};
use serde_json::{Value, json};

use crate::world::{Behaviour, Script, WELL, World, policy};

/// As they come back from the journal.
fn read_back(records: &[Record]) -> Vec<Record> {
    records.iter().map(|record| serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap()).collect()
}

/// A decision of a journal that does not come out as it was; what was no decision of the guards is no ground.
pub(crate) fn other_decision(journal: &[Record]) -> Option<String> {
    let differs = |again: &Again| again.differences.as_ref().is_some_and(|differences| !differences.is_empty());
    again(&read_back(journal)).into_iter().find(differs).map(|again| format!("{again:?}"))
}

/// v2 fails 40 % of its requests and is taken back, or held where the mode is observe.
fn story(mode: Mode) -> World {
    let script: Script = Box::new(|revision: &str, _: Timestamp| match revision {
        "v2" => Behaviour { errors: 0.4, ..WELL },
        _ => WELL,
    });
    let mut world = World::new(WorkloadPolicy { mode, ..policy(Strategy::Direct, &["a"]) }, script);
    world.run(Span::from_secs(60));
    world.deploy("v2");
    world.run(Span::from_secs(40));
    world
}

/// The one record that `is` so, changed, made again: its differences in one line.
fn changed(world: &World, is: fn(&Event) -> bool, change: &[(&str, Value)]) -> String {
    let record = world.journal.iter().find(|record| is(&record.event)).expect("it is on record");
    let mut written = serde_json::to_value(record).unwrap();
    for (place, value) in change {
        *written.pointer_mut(place).unwrap_or_else(|| panic!("no {place}")) = value.clone();
    }
    let mut all = again(&[serde_json::from_value(written).unwrap()]);
    all.remove(0).differences.expect("its grounds are on record").join("; ")
}

#[test]
fn a_decision_comes_out_as_it_was() {
    for mode in [Mode::Enforce, Mode::Observe] {
        let world = story(mode);
        let decisions = again(&read_back(&world.journal));
        assert!(decisions.len() >= 2, "{decisions:?}");
        assert!(decisions.iter().all(|decision| decision.differences == Some(Vec::new())), "{decisions:?}");
    }
}

#[test]
fn a_rollback_whose_record_was_tampered_with_does_not() {
    let world = story(Mode::Enforce);
    let planned = |event: &Event| matches!(event, Event::Planned { .. });
    let first = "/event/grounds/assessment/triggers/0";
    let cases: [(&str, Value, &str); 7] = [
        ("/event/grounds/assessment/at", json!("2027-01-15T08:00:00Z"), ""),
        (&format!("{first}/evidence/value"), json!(0.05), "\"error_rate\": error_rate: 5 % is not above 10 %"),
        (
            &format!("{first}/evidence/proof/part"),
            json!(1.0),
            "\"error_rate\": error_rate: its requests don't prove it",
        ),
        ("/event/goal/known_good_since", json!("2027-01-15T08:00:00Z"), "the release to go back to is v1, not v1"),
        ("/event/forced", json!(["cooldown"]), "skipped guards: "),
        (
            "/event/grounds/fleet/started_last_hour",
            json!(9),
            "held, fleet-budget: 9 rollbacks started within the hour over all workloads, 1 allowed",
        ),
        (
            "/event/grounds/state/paused",
            json!({ "by": "ops", "reason": "x", "since": "2027-01-15T08:00:00Z" }),
            "held, paused: paused by ops",
        ),
    ];
    for (place, value, expected) in cases {
        assert_eq!(changed(&world, planned, &[(place, value)]), expected, "{place}");
    }
}

#[test]
fn neither_does_a_hold_nor_a_detection() {
    let world = story(Mode::Observe);
    let held = |event: &Event| matches!(event, Event::Held { .. });
    assert_eq!(changed(&world, held, &[]), "");
    let other = changed(&world, held, &[("/event/hold", json!({ "hold": "paused", "by": "ops" }))]);
    assert_eq!(other, "held, observe-mode: the mode is observe: nothing is changed");
    assert_eq!(changed(&world, held, &[("/event/grounds/limits/mode", json!("enforce"))]), "nothing holds");
    let detected = |event: &Event| matches!(event, Event::Detected { .. });
    assert_eq!(changed(&world, detected, &[]), "");
    let longer = changed(&world, detected, &[("/event/assessment/triggers/0/hold_for", json!("1h"))]);
    assert!(longer.starts_with("\"error_rate\" fires after ") && longer.ends_with(", and asks for 1h"), "{longer}");
}
