//! What is to be sent, to whom, and when again.

use super::*;

#[tokio::test]
async fn each_incident_is_told_in_order_to_each_receiver() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for (sequence, (incident, position)) in (1..).zip([("a", 1), ("a", 2), ("b", 1), ("a", 3)]) {
        let batch = with_notice(released("api", sequence), alert(incident, position), &["x", "y"]);
        store.commit(batch).await.unwrap();
    }
    assert_eq!(due_ids(&store, "x", at(9)).await, ["a_1", "b_1"]);
    settle(&store, "a_1", "x", Settled::Sent).await;
    assert_eq!(due_ids(&store, "x", at(9)).await, ["a_2", "b_1"]);
    assert_eq!(due_ids(&store, "y", at(9)).await, ["a_1", "b_1"]);
    let again = Settled::Again { at: at(100), asked: None, error: "HTTP 500".to_owned() };
    settle(&store, "a_2", "x", again).await;
    assert_eq!(due_ids(&store, "x", at(99)).await, ["b_1"]);
    settle(&store, "b_1", "x", Settled::Sent).await;
    assert_eq!(store.next_due(&ReceiverName::new("x")).await.unwrap(), Some(at(100)));
    assert_eq!(due_ids(&store, "x", at(100)).await, ["a_2"]);
    settle(&store, "a_2", "x", Settled::Parked { why: "HTTP 410".to_owned() }).await;
    assert_eq!(due_ids(&store, "x", at(100)).await, ["a_3"]);
    // A late settlement changes nothing.
    settle(&store, "a_2", "x", Settled::Again { at: at(1), asked: None, error: String::new() }).await;
    assert_eq!(due_ids(&store, "x", at(100)).await, ["a_3"]);
    let stats = store.reader().outbox().await.unwrap();
    assert_eq!(stats, OutboxStats { waiting: 5, parked: 1, oldest: Some(at(1)) });
    let parked = store.reader().parked(9).await.unwrap();
    assert_eq!((parked[0].id.as_str(), parked[0].why.as_str(), parked[0].at), ("a_2", "HTTP 410", at(50)));
    let receipts = store.reader().receipts(&"a".into()).await.unwrap();
    let receipts: Vec<_> = receipts.iter().map(|(sequence, to)| (*sequence, to.receiver.as_str(), to.state)).collect();
    let first = [(1, "x", Delivered), (1, "y", Waiting), (2, "x", GivenUp), (2, "y", Waiting)];
    assert_eq!(receipts[..4], first, "of its own messages alone");
    assert_eq!(receipts.len(), 6);
}

#[tokio::test]
async fn what_waits_for_hours_is_tried_when_more_happens_or_the_receiver_is_well() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let x = ReceiverName::new("x");
    let again = |until, asked| Settled::Again { at: at(until), asked, error: "HTTP 500".to_owned() };
    for (sequence, incident) in (1..).zip(["a", "b", "c"]) {
        store.commit(with_notice(released("api", sequence), alert(incident, 1), &["x"])).await.unwrap();
    }
    settle(&store, "a_1", "x", again(9_000, None)).await;
    settle(&store, "b_1", "x", again(9_000, None)).await;
    settle(&store, "c_1", "x", again(9_000, Some(at(200)))).await;
    assert!(due_ids(&store, "x", at(99)).await.is_empty());
    // More happens in one incident; a message more or less, the schedule goes on where it was.
    store.commit(with_notice(released("api", 4), alert("a", 2), &["x"])).await.unwrap();
    let due = store.due(&x, at(99), 10).await.unwrap();
    let due: Vec<_> = due.iter().map(|delivery| (delivery.id.as_str(), delivery.attempts)).collect();
    assert_eq!(due, [("a_1", 0)]);
    // The receiver is well, but for what it asked to wait with.
    store.hasten(&x, at(99)).await.unwrap();
    assert_eq!(due_ids(&store, "x", at(99)).await, ["a_1", "b_1"]);
    store.hasten(&x, at(200)).await.unwrap();
    assert_eq!(due_ids(&store, "x", at(200)).await, ["a_1", "b_1", "c_1"]);
}

#[tokio::test]
async fn what_is_to_be_sent_waits_for_no_report() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.commit(with_notice(released("api", 1), alert("i", 1), &["oncall"])).await.unwrap();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let reader = store.reader().clone();
    // A report that takes as long as it wants.
    let report = tokio::spawn(async move {
        let read = move |_: &mut Connection| {
            let _ = ended.recv();
            Ok(())
        };
        reader.call(read).await
    });
    tokio::task::yield_now().await;
    let patience = std::time::Duration::from_secs(30);
    assert_eq!(tokio::time::timeout(patience, due_ids(&store, "oncall", at(9))).await.unwrap(), ["i_1"]);
    assert_eq!(tokio::time::timeout(patience, store.outbox()).await.unwrap().unwrap().waiting, 1);
    drop(end);
    report.await.unwrap().unwrap();
}

#[tokio::test]
async fn messages_for_receivers_that_are_gone_are_parked() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.commit(with_notice(released("api", 1), alert("a", 1), &["kept", "gone"])).await.unwrap();
    let known = vec![ReceiverName::new("kept")];
    assert_eq!(store.park_others(known, at(5), "not in the policy".to_owned()).await.unwrap(), 1);
    assert_eq!(due_ids(&store, "kept", at(9)).await, ["a_1"]);
    assert!(due_ids(&store, "gone", at(9)).await.is_empty());
}

#[tokio::test]
async fn what_nobody_else_gets_goes_to_the_receivers_that_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let to_all = with_notice(released("api", 1), alert("a", 1), &["gone", "other"]);
    store.commit(to_all).await.unwrap();
    settle(&store, "a_1", "other", Settled::Sent).await;
    store.commit(with_notice(released("api", 2), alert("a", 2), &["gone"])).await.unwrap();
    store.commit(with_notice(released("api", 3), alert("a", 3), &["gone"])).await.unwrap();
    let known = vec![ReceiverName::new("other"), ReceiverName::new("renamed")];
    assert_eq!(store.park_others(known.clone(), at(5), "not in the policy".to_owned()).await.unwrap(), 3);
    for receiver in ["other", "renamed"] {
        assert_eq!(due_ids(&store, receiver, at(9)).await, ["a_2"], "in order, and not what `other` has");
        settle(&store, "a_2", receiver, Settled::Sent).await;
        assert_eq!(due_ids(&store, receiver, at(9)).await, ["a_3"]);
    }
    assert_eq!(store.park_others(known, at(6), "not in the policy".to_owned()).await.unwrap(), 0);
    let receipts = store.reader().receipts(&"a".into()).await.unwrap();
    assert!(receipts.iter().all(|(_, to)| to.receiver != "gone".into()), "nobody is left to be told: {receipts:?}");
    assert_eq!(store.reader().parked(9).await.unwrap(), []);
    // A receiver that would take none of it any more gives up for good what is for nobody else.
    settle(&store, "a_3", "other", Settled::Parked { why: "HTTP 410".to_owned() }).await;
    let only = vec![ReceiverName::new("other")];
    assert_eq!(store.park_others(only, at(7), "not in the policy".to_owned()).await.unwrap(), 1);
    assert_eq!(store.reader().outbox().await.unwrap().parked, 2);
}

#[tokio::test]
async fn without_any_receiver_it_waits_for_one_and_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let park = async |known: &[&str], now| {
        let known = known.iter().map(ReceiverName::new).collect();
        store.park_others(known, now, "not in the policy".to_owned()).await.unwrap()
    };
    let attempts = async || {
        let due = store.due(&"x".into(), at(20), 10).await.unwrap();
        due.iter().map(|delivery| (delivery.id.clone(), delivery.attempts)).collect::<Vec<_>>()
    };
    for (sequence, incident) in (1..).zip(["a", "b", "c"]) {
        store.commit(with_notice(released("api", sequence), alert(incident, 1), &["x"])).await.unwrap();
    }
    let again = |asked| Settled::Again { at: at(9_000), asked, error: "HTTP 500".to_owned() };
    settle(&store, "b_1", "x", again(None)).await;
    settle(&store, "c_1", "x", again(Some(at(200)))).await;
    assert_eq!(park(&[], at(10)).await, 3);
    let told = store.reader().undelivered().await.unwrap();
    assert_eq!((told[0].waiting, told[0].why.as_str()), (3, "there is no receiver in the policy"));
    assert_eq!(store.reader().outbox().await.unwrap().parked, 0);
    // The same one is back: at once, but for what it asked to wait with.
    assert_eq!(park(&["x"], at(20)).await, 0);
    assert_eq!(attempts().await, [("a_1".to_owned(), 0), ("b_1".to_owned(), 0)]);
    assert_eq!(store.reader().undelivered().await.unwrap(), [], "nothing was tried since");
    // Another one.
    assert_eq!(park(&[], at(30)).await, 3);
    assert_eq!(park(&["y"], at(40)).await, 3);
    assert_eq!(due_ids(&store, "y", at(40)).await, ["a_1", "b_1", "c_1"]);
    let two_days = 48 * 3600;
    assert_eq!(park(&[], at(two_days)).await, 3);
    assert_eq!(park(&[], at(two_days + 2)).await, 2, "a_1 is too old");
    assert_eq!(store.reader().outbox().await.unwrap().parked, 1);
}

#[tokio::test]
async fn what_a_receiver_did_not_take_yet_is_told_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for sequence in 1..=3 {
        let batch = with_notice(released("api", sequence), alert("a", sequence), &["x", "y"]);
        store.commit(batch).await.unwrap();
    }
    assert_eq!(store.reader().undelivered().await.unwrap(), [], "nothing was tried yet");
    settle(&store, "a_1", "x", Settled::Sent).await;
    settle(&store, "a_2", "x", Settled::Again { at: at(100), asked: None, error: "HTTP 500".to_owned() }).await;
    let told = Undelivered { receiver: "x".into(), waiting: 2, oldest_at: at(2), why: "HTTP 500".to_owned() };
    assert_eq!(store.reader().undelivered().await.unwrap(), [told]);
}
