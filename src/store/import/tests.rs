use crate::domain::id::{IncidentId, RevisionId, WorkloadId};
use crate::domain::incident::record::{Cause, Closing, Event, Record};
use crate::domain::incident::state::WorkloadState;
use crate::domain::policy::{Mode, Strategy};
use crate::domain::time::Timestamp;
use crate::engine::ports::{Batch, Journal, Outbox};
use crate::store::Store;

use super::*;

fn record(sequence: u64, incident: Option<&str>, event: Event) -> Record {
    let at = Timestamp::from_millis(sequence.cast_signed() * 1000);
    Record { workload: "api".into(), sequence, incident: incident.map(IncidentId::new), at, event }
}

fn good(sequence: u64, revision: &str) -> Record {
    let since = Timestamp::from_millis(1);
    record(sequence, None, Event::KnownGood { revision: RevisionId::new(revision), since })
}

fn suspected(sequence: u64, incident: &str) -> Record {
    let event = Event::Suspected {
        cause: Cause::Blind { reason: "no route".to_owned() },
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

/// What the other replica recorded: a state after these, and the records that follow.
fn of_the_other(before: &[Record], records: &[Record]) -> Import {
    let mut base = WorkloadState::default();
    before.iter().for_each(|record| drop(base.apply(record).unwrap()));
    let mut last = base.clone();
    records.iter().for_each(|record| drop(last.apply(record).unwrap()));
    let open = last.incident.map(|incident| incident.id.as_str().to_owned());
    Import { base, records: records.to_vec(), workload: "api".to_owned(), open }
}

async fn take_in(store: &Store, import: Import) -> WorkloadState {
    store.writer.call(move |connection| super::import(connection, &[import])).await.unwrap();
    let mut folded = store.reader().fold().await.unwrap();
    folded.remove(0).1.unwrap()
}

async fn own(store: &Store, records: &[Record]) {
    store.commit(Batch { records: records.to_vec(), notices: Vec::new() }).await.unwrap();
}

async fn sequences(store: &Store) -> Vec<u64> {
    let records = store.reader().records(&WorkloadId::new("api"), 100).await.unwrap();
    records.iter().map(|record| record.sequence).collect()
}

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state")).unwrap();
    (dir, store)
}

#[tokio::test]
async fn a_replica_that_follows_has_every_record() {
    let (_dir, store) = open();
    let story = [good(1, "v1"), suspected(2, "i"), closed(3, "i"), good(4, "v2")];
    for end in 1..=story.len() {
        let state = take_in(&store, of_the_other(&story[..0], &story[..end])).await;
        assert_eq!(state.sequence, end as u64);
    }
    // The other one began a new copy.
    take_in(&store, of_the_other(&story[..3], &story[3..])).await;
    assert_eq!(sequences(&store).await, [1, 2, 3, 4]);
    own(&store, &[good(5, "v3")]).await;
    assert_eq!(sequences(&store).await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_replica_that_was_away_goes_on_from_the_state() {
    let (_dir, store) = open();
    own(&store, &[good(1, "v1"), suspected(2, "i")]).await;
    let story = [good(1, "v1"), suspected(2, "i"), closed(3, "i"), good(4, "v2"), suspected(5, "j")];
    let state = take_in(&store, of_the_other(&story[..4], &story[4..])).await;
    assert_eq!(state.incident.unwrap().id.as_str(), "j");
    assert_eq!(sequences(&store).await, [1, 2, 5]);
    // That the first one was closed was missed: it is over all the same.
    let incidents = store.reader().incidents(None, 10, None).await.unwrap();
    let open: Vec<_> = incidents.iter().filter(|incident| incident.open).map(|incident| incident.id.as_str()).collect();
    assert_eq!(open, ["j"]);
    store.prune(Timestamp::from_millis(1_000_000)).await.unwrap();
    own(&store, &[closed(6, "j")]).await;
}

#[tokio::test]
async fn what_the_others_do_not_have_goes() {
    let (_dir, store) = open();
    own(&store, &[good(1, "v1"), good(2, "mine"), suspected(3, "mine")]).await;
    let story = [good(1, "v1"), good(2, "theirs")];
    let state = take_in(&store, of_the_other(&[], &story)).await;
    assert_eq!((state.sequence, state.incident), (2, None));
    let records = store.reader().records(&WorkloadId::new("api"), 100).await.unwrap();
    assert_eq!(records, story);
    assert!(!store.reader().incidents(None, 10, None).await.unwrap()[0].open);
}

#[tokio::test]
async fn messages_that_arrived_elsewhere_are_not_sent_again_and_the_others_are() {
    let (_dir, store) = open();
    let notice = |sequence: u64| {
        let mut state = WorkloadState::default();
        let record = suspected(1, "i");
        let crate::domain::incident::state::Applied::Transition(mut incident) = state.apply(&record).unwrap() else {
            panic!("a transition")
        };
        incident.notices = sequence;
        let alert = crate::domain::incident::narrate::alert(&"api".into(), &incident, &record.event);
        Notice { alert, receivers: vec!["oncall".into()] }
    };
    // The first was told by the other one, since then; the third is not known here.
    store.commit(Batch { records: vec![suspected(1, "i")], notices: vec![notice(1), notice(2)] }).await.unwrap();
    let (untold, incidents) = (vec![notice(2), notice(3)], vec!["i".to_owned()]);
    for _ in 0..2 {
        let (untold, incidents) = (untold.clone(), incidents.clone());
        store.writer.call(move |connection| enqueue(connection, &untold, &incidents)).await.unwrap();
    }
    let asked: Vec<Untold> =
        (1..=3).map(|sequence| Untold { message: format!("i_{sequence}"), receiver: "oncall".into() }).collect();
    let all = asked.clone();
    let waiting = store.reader.call(move |connection| waiting(connection, &all)).await.unwrap();
    assert_eq!(waiting.into_iter().collect::<Vec<_>>(), asked[1..]);
    let due = store.due(&"oncall".into(), Timestamp::from_millis(10_000), 9).await.unwrap();
    assert_eq!(due[0].id, "i_2");
}
