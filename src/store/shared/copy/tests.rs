use super::*;
use crate::domain::id::{IncidentId, RevisionId};
use crate::domain::incident::record::{Cause, Closing, Event};
use crate::domain::policy::{Mode, Strategy};
use crate::domain::time::Timestamp;

fn record(sequence: u64, incident: Option<&str>, event: Event) -> Record {
    let at = Timestamp::from_millis(sequence.cast_signed() * 1000);
    Record { workload: "api".into(), sequence, incident: incident.map(IncidentId::new), at, event }
}

fn good(sequence: u64, revision: &str) -> Record {
    let since = Timestamp::from_millis(1);
    record(sequence, None, Event::KnownGood { revision: RevisionId::new(revision), since })
}

fn released(sequence: u64, revision: &str) -> Record {
    let (revision, previous) = (RevisionId::new(revision), None);
    let event = Event::ReleaseObserved {
        revision,
        image: None,
        previous,
        by_rollback: false,
        older_faults: Vec::new(),
        instances: [].into(),
    };
    record(sequence, None, event)
}

fn suspected(sequence: u64, incident: &str, reason: &str) -> Record {
    let event = Event::Suspected {
        cause: Cause::Blind { reason: reason.to_owned() },
        from: None,
        goal: None,
        onset: Timestamp::from_millis(1),
        mode: Mode::Enforce,
        strategy: Strategy::Rolling,
    };
    record(sequence, Some(incident), event)
}

fn closed(sequence: u64, incident: &str) -> Record {
    record(sequence, Some(incident), Event::Closed { how: Closing::Subsided })
}

/// What the engine commits of a record, told to `oncall`.
fn committed(copy: &Copy, record: Record) -> Copy {
    let mut state = copy.state().unwrap();
    let notice = match state.apply(&record).unwrap() {
        Applied::Silent => None,
        Applied::Transition(incident) => {
            let alert = narrate::alert(&copy.workload, &incident, &record.event);
            Some(Notice { alert, receivers: vec!["oncall".into()] })
        }
    };
    copy.with(&[record], notice.as_slice()).unwrap()
}

fn decoded(copy: &Copy) -> Result<Copy, String> {
    let data = copy.encode().unwrap();
    Copy::decode(|key| data.get(key).map(String::as_str))
}

/// v1 is known good; an incident is open.
fn open() -> Copy {
    let fresh = Copy::new("api".into(), WorkloadState::default());
    let records = [released(1, "v1"), good(2, "v1"), suspected(3, "i", "no route")];
    records.into_iter().fold(fresh, |copy, record| committed(&copy, record))
}

#[test]
fn what_is_read_back_is_what_was_written() {
    let copy = open();
    assert_eq!(decoded(&copy), Ok(copy));
}

#[test]
fn half_a_copy_is_none() {
    let mut data = open().encode().unwrap();
    data.insert(RECORDS, String::new());
    let read = |data: &BTreeMap<&str, String>| Copy::decode(|key| data.get(key).map(String::as_str));
    // The state alone can be followed: it only knows less.
    assert!(read(&data).unwrap().state().unwrap().incident.is_none());
    data.insert(RECORDS, serde_json::to_string(&closed(9, "i")).unwrap());
    assert!(read(&data).unwrap_err().contains("can't follow"), "{:?}", read(&data));
    data.remove(STATE);
    assert_eq!(read(&data).unwrap_err(), "it has no `state`");
}

#[test]
fn a_new_leader_knows_the_goal_and_what_is_open_and_tells_the_same_words() {
    let copy = decoded(&open()).unwrap();
    let state = copy.state().unwrap();
    assert!(state.ledger.get(&RevisionId::new("v1")).unwrap().known_good_since.is_some());
    assert_eq!(state.incident.unwrap().id.as_str(), "i");
    let untold = Untold { message: "i_1".to_owned(), receiver: "oncall".into() };
    assert_eq!(copy.untold, [untold]);
    assert!(copy.alerts().unwrap()["i_1"].summary.contains("no route"));
}

#[test]
fn a_story_stays_until_it_is_over_and_told() {
    let over = committed(&open(), closed(4, "i"));
    let next = committed(&over, released(5, "v2"));
    assert_eq!(next.records.len(), 3, "two messages have not arrived: {:?}", next.untold);
    let mut told = over;
    assert!(told.tell("i_1", &"oncall".into()));
    assert!(told.tell("i_2", &"oncall".into()));
    assert!(!told.tell("i_2", &"oncall".into()), "that is no news");
    let next = committed(&told, released(5, "v2"));
    assert_eq!((next.base.sequence, next.records.len()), (4, 1));
    assert_eq!(next.state().unwrap().sequence, 5);
}

#[test]
fn a_batch_that_is_written_again_is_known() {
    let copy = open();
    assert!(copy.holds(&[suspected(3, "i", "no route")]));
    assert!(!copy.holds(&[suspected(3, "i", "something else")]));
    assert!(!copy.holds(&[closed(4, "i")]));
}

#[test]
fn a_copy_is_bounded_and_keeps_the_state() {
    let mut copy = committed(&open(), closed(4, "i"));
    let state = copy.state().unwrap();
    let newest = line(&copy.records[copy.records.len() - 1]).len() + 1;
    copy.shrink(newest).unwrap();
    assert_eq!(copy.records.len(), 1);
    assert_eq!(copy.state().unwrap(), state);
    // The first message can't be made again; the last one can.
    assert_eq!(copy.untold.iter().map(|untold| untold.message.as_str()).collect::<Vec<_>>(), ["i_2"]);
    assert!(copy.alerts().unwrap().contains_key("i_2"));
    copy.shrink(0).unwrap();
    assert_eq!((copy.records.len(), copy.state().unwrap()), (0, state));
}
