//! The last seconds, in which nothing is begun.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rollbackd::domain::controller::Refusal;

use super::stage;

/// What is begun in the last seconds is cut off.
#[tokio::test]
async fn told_to_stop_it_begins_nothing_that_an_operator_asks_for() {
    let stage = stage(&["app", "other"]).await;
    stage.engine.park().await.unwrap();
    let Refusal::Held { guard, reason } = stage.roll_back("app").await.unwrap_err() else { panic!("not held") };
    assert_eq!(
        [guard.as_str(), reason.as_str()],
        ["stopping", "the daemon is about to stop: nothing is begun any more"]
    );
    assert!(stage.journal.names("app").is_empty());
    stage.pause("app").await.unwrap();
    assert_eq!(stage.journal.names("app"), ["paused"]);
}

/// Nor what waited for the journal.
#[tokio::test]
async fn told_to_stop_it_begins_nothing_that_waited_for_the_journal() {
    let stage = stage(&["app"]).await;
    stage.roll_back("app").await.unwrap();
    stage.journal.next.lock().unwrap().push_back(false);
    stage.hands.plans.add_permits(1);
    stage.until_decided("what follows can't be written", |decision| decision.contains("disk full")).await;
    stage.engine.park().await.unwrap();
    stage.until("the plan is written", |stage| stage.journal.names("app").contains(&"planned")).await;
    stage.settle().await;
    assert_eq!(stage.hands.begun.load(Ordering::SeqCst), 0, "no step was begun");
}

/// A look changes nothing, and may be cut off.
#[tokio::test]
async fn told_to_stop_it_waits_for_no_look_at_a_place() {
    let stage = stage(&["app", "other"]).await;
    stage.roll_back("other").await.unwrap();
    let engine = stage.engine.clone();
    let asked = tokio::spawn(async move { engine.preview("app".into()).await });
    // It hangs, and so does the look before a rollback that was decided.
    stage.settle().await;
    stage.stop.cancel();
    // A step under way would have twice as long.
    let ended = tokio::time::timeout(Duration::from_secs(10), stage.engine.ping()).await;
    assert!(ended.expect("it ends").is_err());
    assert!(asked.await.unwrap().is_err(), "nobody answers any more");
}
