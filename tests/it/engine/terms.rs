//! What is left of a term that is over.

use super::*;

#[tokio::test]
async fn what_was_never_written_of_a_workload_is_written_from_the_beginning_in_the_next_term() {
    let stage = stage_as(Role::Leader { term: 1 }, &["app"]).await;
    stage.journal.is_empty.store(true, Ordering::SeqCst);
    stage.journal.full.store(true, Ordering::SeqCst);
    stage.engine.lead(1, Vec::new(), BTreeMap::new()).await.unwrap();
    stage.seen.send(at("app", "v2")).await.unwrap();
    stage.until_decided("the release could not be recorded", |decision| decision.contains("disk full")).await;
    stage.sits(STANDBY);
    stage.is_told_to_ask_the_leader().await;
    stage.journal.full.store(false, Ordering::SeqCst);
    stage.sits(Role::Leader { term: 2 });
    assert!(stage.engine.lead(2, Vec::new(), BTreeMap::new()).await.unwrap());
    stage.seen.send(at("app", "v2")).await.unwrap();
    stage.settle().await;
    stage.pause("app").await.unwrap();
    assert_eq!(stage.journal.names("app"), ["release-observed", "paused"]);
}

/// The lead may come back sooner than what was begun ends: by then another replica may have gone on with it.
#[tokio::test]
async fn a_step_does_not_go_on_in_another_term() {
    let stage = stage_as(Role::Leader { term: 1 }, &["app"]).await;
    assert!(stage.engine.lead(1, known(), BTreeMap::new()).await.unwrap());
    stage.hands.plans.add_permits(1);
    stage.roll_back("app").await.unwrap();
    stage.until("the step is under way", |stage| Arc::strong_count(&stage.hands.under_way) == 2).await;
    stage.sits(Role::Leader { term: 2 });
    stage.until("it is cut off", |stage| Arc::strong_count(&stage.hands.under_way) == 1).await;
}
