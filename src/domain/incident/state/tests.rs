use super::*;
use crate::domain::health::verdict::Assessment;
use crate::domain::incident::narrate;
use crate::domain::incident::record::Closing;
use crate::domain::policy::{Habitat, Pin, ReleaseDir};
use crate::domain::response::plan::{Outcome, Purpose, Step, StepKind};
use crate::domain::settings::{ContentId, Setting, SettingKind};
use crate::domain::testing;

const T0: i64 = 1_800_000_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(T0 + seconds * 1000)
}

fn cause() -> Cause {
    Cause::External { by: "ops".to_owned(), kind: "security".to_owned(), reason: "reported".to_owned(), key: None }
}

fn goal() -> Goal {
    Goal { revision: "v1".into(), image: None, known_good_since: Some(at(0)) }
}

fn plan() -> Plan {
    let gate = StepKind::Gate { instances: Vec::new(), release: "v1".into(), answers: 2 };
    Plan {
        attempt: 1,
        purpose: Purpose::First,
        strategy: Strategy::Direct,
        from: "v2".into(),
        to: "v1".into(),
        steps: vec![Step { kind: gate, timeout: Span::from_secs(60) }],
        deadline: at(600),
    }
}

/// One event of every sort that an incident knows.
fn events() -> Vec<Event> {
    let (mode, strategy, onset) = (Mode::Enforce, Strategy::Direct, at(1));
    let assessment = Box::new(Assessment::nothing(at(1)));
    let asks = Hold::NeedsApproval { because: "the mode is approve".to_owned() };
    let text = || "why".to_owned();
    vec![
        Event::Suspected { cause: cause(), from: None, goal: None, onset, mode, strategy },
        Event::StillPending { held: Span::from_secs(5) },
        Event::Detected {
            cause: cause(),
            from: None,
            onset,
            goal: None,
            mode,
            strategy,
            assessment: assessment.clone(),
        },
        Event::Held { hold: Hold::AlertOnly, goal: None, grounds: None },
        Event::Held { hold: asks, goal: Some(goal()), grounds: None },
        Event::Approved { by: text() },
        Event::Rejected { by: text(), reason: text() },
        Event::Planned { plan: Box::new(plan()), goal: goal(), forced: Vec::new(), grounds: None },
        Event::Continued { mode: Mode::Enforce },
        Event::StepStarted { step: 0 },
        Event::StepFinished { step: 0, outcome: Outcome::Applied },
        Event::Verifying,
        Event::SmokeStarted,
        Event::SmokeFinished { passed: true, detail: text() },
        Event::Restored { checks: Vec::new() },
        Event::Failed { reason: text(), checks: Vec::new(), no_room: false },
        Event::Escalated { reason: text(), grounds: None },
        Event::FoundBeside { cause: cause() },
        Event::Closed { how: Closing::Subsided },
        Event::Refused { cause: cause(), from: None, hold: Hold::AlertOnly, goal: None, mode, strategy, assessment },
    ]
}

fn record(state: &WorkloadState, event: &Event) -> Record {
    Record {
        workload: "app".into(),
        sequence: state.sequence + 1,
        incident: Some(IncidentId::new("app-1")),
        at: at(10),
        event: event.clone(),
    }
}

/// Every state that events lead to, by phase, found by trying all of them from the beginning.
fn reachable() -> Vec<(Option<Phase>, WorkloadState)> {
    let phase = |state: &WorkloadState| state.incident.as_ref().map(|incident| incident.phase);
    let mut found = vec![(None, WorkloadState::default())];
    let mut next = 0;
    while next < found.len() {
        let (_, from) = found[next].clone();
        next += 1;
        for event in events() {
            let mut state = from.clone();
            if state.apply(&record(&from, &event)).is_ok() && !found.iter().any(|(known, _)| *known == phase(&state)) {
                found.push((phase(&state), state));
            }
        }
    }
    found
}

/// Which events may follow in each phase, and to which phase each leads: the table as people read it.
#[test]
fn the_legality_table_is_as_expected() {
    let mut table = String::new();
    for (phase, from) in reachable() {
        let name = phase.map_or("none", Phase::as_str);
        for event in events() {
            let mut state = from.clone();
            if let Ok(applied) = state.apply(&record(&from, &event)) {
                let to = match &applied {
                    Applied::Transition(incident) => format!("{} (told)", incident.phase),
                    Applied::Silent => state.incident.as_ref().map_or("none", |i| i.phase.as_str()).to_owned(),
                };
                table.push_str(&format!("{name:<18} {:<15} {to}\n", event.name()));
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn every_transition_is_told_with_all_that_a_person_needs() {
    let mut told = std::collections::BTreeSet::new();
    for (phase, from) in reachable() {
        for event in events() {
            let mut state = from.clone();
            let Ok(applied) = state.apply(&record(&from, &event)) else { continue };
            let ended = matches!(event, Event::Restored { .. } | Event::Closed { .. } | Event::Refused { .. });
            let changed = ended || state.incident.as_ref().map(|incident| incident.phase) != phase;
            match applied {
                Applied::Silent => assert!(!changed, "{} from {phase:?} is not told", event.name()),
                Applied::Transition(incident) => {
                    let alert = narrate::alert(&"app".into(), &incident, &event);
                    assert_eq!((alert.sequence, alert.phase), (incident.notices, incident.phase));
                    for text in [&alert.summary, &alert.reason, &alert.next.action, &alert.stop.command, &alert.id] {
                        assert!(!text.is_empty(), "{}: {alert:?}", event.name());
                    }
                    assert!(serde_json::to_string(&alert).unwrap().len() <= 20_000);
                    told.insert(alert.phase);
                }
            }
        }
    }
    assert_eq!(told.into_iter().collect::<Vec<_>>(), Phase::ALL, "a phase that nobody is ever told of");
}

#[test]
fn a_record_that_can_not_follow_changes_nothing() {
    let mut state = WorkloadState::default();
    let events = events();
    state.apply(&record(&state.clone(), &events[2])).unwrap();
    let before = state.clone();
    let gap = Record { sequence: 9, ..record(&state, &events[3]) };
    let other = Record { incident: Some(IncidentId::new("app-2")), ..record(&state, &events[3]) };
    let early = record(&state, &Event::Restored { checks: Vec::new() });
    for illegal in [gap, other, early] {
        assert!(state.apply(&illegal).is_err(), "{illegal:?}");
        assert_eq!(state, before);
    }
}

#[test]
fn what_is_held_for_long_is_told_again_once_it_is_recorded_again() {
    let mut state = WorkloadState::default();
    let held = || Event::Held { hold: Hold::ObserveMode, goal: None, grounds: None };
    let detected = events().into_iter().find(|event| matches!(event, Event::Detected { .. })).unwrap();
    let mut told = |event: Event, seconds: i64| {
        let record = Record { at: at(seconds), ..record(&state, &event) };
        matches!(state.apply(&record).unwrap(), Applied::Transition(_))
    };
    assert!(told(detected, 1) && told(held(), 2));
    assert!(!told(held(), 3_601) && told(held(), 3_602), "an hour");
    assert!(!told(held(), 7_201) && told(held(), 7_202), "and another one");
}

/// What is left has no pods, and the good release serves.
#[test]
fn what_is_left_of_a_fault_of_others_is_no_new_one_of_the_release() {
    let hold = Hold::SharedFault { others: vec!["a".into(), "b".into()] };
    let running = |name: &str| Running { revision: name.into(), image: None, since: at(0) };
    let detected = |release: &str, onset| Event::Detected {
        cause: cause(),
        from: Some(running(release)),
        onset,
        goal: None,
        mode: Mode::Enforce,
        strategy: Strategy::Direct,
        assessment: Box::new(Assessment::nothing(onset)),
    };
    let attributed = |release: &str, seconds: i64, is_attributed: bool| {
        let held = if is_attributed { hold.clone() } else { Hold::AlertOnly };
        let mut state = WorkloadState::default();
        let events = [
            (1, "first", detected("v2", at(1))),
            (2, "first", Event::Held { hold: held, goal: None, grounds: None }),
            (100, "first", Event::Closed { how: Closing::Subsided }),
            (100 + seconds, "second", detected(release, at(100 + seconds))),
        ];
        for (second, incident, event) in events {
            let mut next = record(&state, &event);
            (next.at, next.incident) = (at(second), Some(IncidentId::new(incident)));
            state.apply(&next).unwrap();
        }
        state.incident.unwrap().attributed
    };
    assert_eq!(attributed("v2", 5, true), Some(hold.clone()));
    assert_eq!(attributed("v3", 5, true), None, "another release");
    assert_eq!(attributed("v2", 400, true), None, "long over");
    assert_eq!(attributed("v2", 5, false), None);
}

#[test]
fn a_canary_that_may_not_be_deleted_is_taken_back_all_the_same() {
    let delete = StepKind::DeleteCanary { object: testing::orchestrated("v2", 0).object, expect: "v2".into() };
    let with = Plan { steps: vec![Step { kind: delete, timeout: Span::from_secs(1) }], ..plan() };
    let ends = [Outcome::Denied("it is forbidden".to_owned()), Outcome::TimedOut("no answer".to_owned())];
    for outcome in ends {
        let why = outcome.why().unwrap().to_owned();
        let mut state = WorkloadState::default();
        let detected = events().into_iter().find(|event| matches!(event, Event::Detected { .. })).unwrap();
        let planned = Event::Planned { plan: Box::new(with.clone()), goal: goal(), forced: Vec::new(), grounds: None };
        for event in [detected, planned, Event::StepStarted { step: 0 }, Event::StepFinished { step: 0, outcome }] {
            state.apply(&record(&state, &event)).unwrap();
        }
        assert_eq!(state.incident.as_ref().unwrap().progress, Progress::Next { step: 1 });
        state.apply(&record(&state, &Event::Verifying)).unwrap();
        let restored = Event::Restored { checks: Vec::new() };
        let Applied::Transition(incident) = state.apply(&record(&state, &restored)).unwrap() else { panic!() };
        let told = narrate::alert(&"app".into(), &incident, &restored).reason;
        assert!(told.ends_with(&format!("taken back, not deleted: {why}")), "{told}");
    }
}

fn trigger(severity: Severity) -> Cause {
    let evidence = crate::domain::health::verdict::Evidence {
        signal: "errors".into(),
        unit: crate::domain::units::Unit::Ratio,
        verdict: crate::domain::health::verdict::Verdict::Breach,
        value: None,
        interval: None,
        proof: None,
        condition: None,
        samples: 0,
        unanswered: false,
        window: Span::from_secs(60),
        newest: None,
        convention: None,
        compared: None,
        around: None,
    };
    let (hold_for, combined, aside) = (Span::ZERO, None, None);
    Cause::Trigger { name: "errors".into(), severity, hold_for, evidence, combined, aside }
}

/// Each message of an incident of that name.
fn told(incident: &str, events: &[Event]) -> Vec<crate::domain::incident::alert::Alert> {
    let mut state = WorkloadState::default();
    let mut alerts = Vec::new();
    for event in events {
        let record = Record { incident: Some(IncidentId::new(incident)), ..record(&state, event) };
        if let Applied::Transition(incident) = state.apply(&record).unwrap() {
            alerts.push(narrate::alert(&record.workload, &incident, event));
        }
    }
    alerts
}

#[test]
fn each_message_knows_how_grave_it_was_by_those_before_it() {
    let (mode, strategy, onset) = (Mode::Enforce, Strategy::Direct, at(1));
    let assessment = || Box::new(Assessment::nothing(at(1)));
    let detected = |severity| {
        let (cause, from, goal, assessment) = (trigger(severity), None, None, assessment());
        Event::Detected { cause, from, onset, goal, mode, strategy, assessment }
    };
    let suspected =
        Event::Suspected { cause: trigger(Severity::Scheduled), from: None, goal: None, onset, mode, strategy };
    let closed = Event::Closed { how: Closing::Subsided };
    let earlier = |events: &[Event]| -> Vec<Vec<Severity>> {
        told("app-1", events).into_iter().map(|alert| alert.earlier_severities.into_iter().collect()).collect()
    };
    use Severity::{Alert, Critical};
    assert_eq!(earlier(&[suspected.clone(), closed.clone()]), [Vec::new(), Vec::new()]);
    let held = Event::Held { hold: Hold::AlertOnly, goal: None, grounds: None };
    let story = [suspected, detected(Alert), held, detected(Critical), closed];
    assert_eq!(earlier(&story), [vec![], vec![], vec![Alert], vec![Alert], vec![Alert, Critical]]);
}

#[test]
fn no_message_has_a_dot_in_its_id() {
    let ids: Vec<String> = told("web.cart-1", &events()[..1]).into_iter().map(|alert| alert.id).collect();
    assert_eq!(ids, ["web_cart-1_1"]);
    let dir = ReleaseDir { root: "/srv".into(), releases: "releases".into(), instances: Vec::new() };
    let mut policy = testing::policy(Strategy::Direct, Habitat::ReleaseDir(dir));
    policy.id = "web.cart".into();
    let damaged = narrate::records_damaged(&policy, "x", "y", 2, at(0));
    assert_eq!(damaged.id, format!("rollbackd-records-web_cart_{}_2", at(0).as_millis()));
    assert_eq!(narrate::over(&damaged, "z", at(1)).id, format!("rollbackd-records-web_cart_{}_3", at(1).as_millis()));
}

/// What follows a plan of one step that ended like that, and what people were told last.
fn after_step(kind: StepKind, purpose: Purpose, outcome: Outcome, then: &[Event]) -> (Option<Incident>, String) {
    let plan = Plan { purpose, steps: vec![Step { kind, timeout: Span::from_secs(1) }], ..plan() };
    let mut state = WorkloadState::default();
    let detected = events().into_iter().find(|event| matches!(event, Event::Detected { .. })).unwrap();
    let planned = Event::Planned { plan: Box::new(plan), goal: goal(), forced: Vec::new(), grounds: None };
    let events = [detected, planned, Event::StepStarted { step: 0 }, Event::StepFinished { step: 0, outcome }];
    let mut told = String::new();
    for event in events.iter().chain(then) {
        if let Applied::Transition(incident) = state.apply(&record(&state, event)).unwrap() {
            told = narrate::alert(&"app".into(), &incident, event).reason;
        }
    }
    (state.incident, told)
}

fn restore_template() -> StepKind {
    let source = Pin { name: "app-v1".to_owned(), uid: "u".to_owned() };
    StepKind::RestoreTemplate {
        object: testing::orchestrated("v2", 0).object,
        expect: "v2".into(),
        to: "v1".into(),
        source,
    }
}

#[test]
fn after_a_step_that_was_stopped_the_same_one_is_next() {
    let object = testing::orchestrated("v2", 0).object;
    let setting = StepKind::RestoreSetting {
        object: object.clone(),
        setting: Setting { kind: SettingKind::ConfigMap, name: "m".to_owned() },
        expect: None,
        content: ContentId::new("1"),
        release: "v1".into(),
        unless_at: None,
    };
    // Two of which a failure holds nothing up.
    let canary = StepKind::DeleteCanary { object, expect: "v2".into() };
    for (kind, purpose) in
        [(restore_template(), Purpose::First), (setting, Purpose::Whole), (canary, Purpose::OlderKnownGood)]
    {
        let stopped = Outcome::Stopped("stopped".to_owned());
        let incident = after_step(kind, purpose, stopped, &[]).0.unwrap();
        assert_eq!((&incident.progress, incident.steps_done), (&Progress::Next { step: 0 }, 0), "{purpose:?}");
        assert!(!incident.is_unspent() && incident.left_undone.is_none() && incident.trouble.is_none());
    }
}

#[test]
fn what_leaves_the_policy_is_told_with_what_it_was_brought_to() {
    let forgotten = [Event::Closed { how: Closing::Forgotten { left: BTreeMap::new() } }];
    let told = |outcome| after_step(restore_template(), Purpose::First, outcome, &forgotten).1;
    let left = "the workload is no longer in the policy";
    assert_eq!(told(Outcome::Applied), format!("{left}; it was brought to v1, which is not proven well"));
    assert_eq!(told(Outcome::Denied("no".to_owned())), left);
}
