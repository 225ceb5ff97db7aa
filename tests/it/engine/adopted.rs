//! Which records a workload goes on from when a policy is put in force, and what becomes of one whose records can't go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rollbackd::domain::controller::{Refusal, RequestKind};
use rollbackd::domain::health::memory::Memory;
use rollbackd::domain::id::WorkloadId;
use rollbackd::domain::incident::record::{Event, Record};
use rollbackd::domain::incident::state::WorkloadState;
use rollbackd::domain::policy::Strategy;
use rollbackd::engine::Adoption;
use rollbackd::engine::ports::Role;

use super::{STANDBY, Stage, known, stage, stage_as, state};
use crate::world::{DAWN, policy};

/// A workload comes back into the policy, and this was read of it.
fn back(workload: &str, state: Result<WorkloadState, String>) -> Adoption {
    let mut policy = policy(Strategy::Direct, &["a"]);
    policy.id = WorkloadId::new(workload);
    Adoption { policy: Arc::new(policy), state, memory: Memory::default() }
}

impl Stage {
    async fn watched(&self) -> Vec<String> {
        self.engine.list().await.unwrap().into_iter().map(|view| view.workload.to_string()).collect()
    }
}

/// The journal is read before a policy is put in force: what was under way may end between the two.
#[tokio::test]
async fn a_workload_that_comes_back_goes_on_from_its_newest_record() {
    let stage = stage(&["app"]).await;
    stage.roll_back("app").await.unwrap();
    stage.hands.plans.add_permits(1);
    stage.until("a step runs", |stage| stage.hands.begun.load(Ordering::SeqCst) == 1).await;
    stage.engine.adopt(Vec::new()).await.unwrap();
    assert_eq!(stage.watched().await, ["app"], "what was begun for it is ended first");
    let read = state(&policy(Strategy::Direct, &["a"]));
    stage.hands.steps.add_permits(9);
    stage.until("it is ended", |stage| stage.journal.names("app").last() == Some(&"closed")).await;
    stage.settle().await;
    assert_eq!(stage.watched().await, [""; 0]);
    let steps = stage.hands.begun.load(Ordering::SeqCst);
    stage.engine.adopt(vec![back("app", Ok(read))]).await.unwrap();
    stage.pause("app").await.unwrap();
    stage.settle().await;
    assert_eq!(stage.journal.names("app").last(), Some(&"paused"));
    assert_eq!(stage.hands.begun.load(Ordering::SeqCst), steps, "nothing is done again");
}

/// So may another replica's word that is read between the two.
#[tokio::test]
async fn a_workload_that_comes_as_the_term_begins_goes_on_from_its_newest_record() {
    let stage = stage_as(STANDBY, &[]).await;
    let mut known = known();
    for (sequence, name) in [(4, "a"), (5, "b")] {
        let event = Event::Paused { by: name.to_owned(), reason: "looking".to_owned() };
        let record = Record { workload: "app".into(), sequence, incident: None, at: DAWN, event };
        known[0].1.apply(&record).unwrap();
        stage.journal.records.lock().unwrap().push(record);
    }
    stage.sits(Role::Leader { term: 1 });
    assert!(stage.engine.lead(1, known, BTreeMap::new()).await.unwrap());
    let read = state(&policy(Strategy::Direct, &["a"]));
    stage.engine.adopt(vec![back("app", Ok(read))]).await.unwrap();
    stage.ask("app", RequestKind::Resume).await.unwrap();
    assert_eq!(stage.journal.names("app"), ["paused", "paused", "resumed"]);
}

/// What is on record of `app` after somebody else paused it, there as well.
fn somebody_else_writes(stage: &Stage) -> WorkloadState {
    let event = Event::Paused { by: "else".to_owned(), reason: "another hand".to_owned() };
    let record = Record { workload: "app".into(), sequence: 4, incident: None, at: DAWN, event };
    let mut state = state(&policy(Strategy::Direct, &["a"]));
    state.apply(&record).unwrap();
    stage.journal.records.lock().unwrap().push(record);
    state
}

/// What it has in memory is newer than any reading of the journal.
#[tokio::test]
async fn a_watched_workload_stays_watched_though_its_records_can_not_be_followed() {
    let stage = stage(&["app"]).await;
    let damaged = || Err("record 2 of app is damaged: its digest does not fit".to_owned());
    let mut adoption = back("app", damaged());
    let policy = Arc::make_mut(&mut adoption.policy);
    policy.notify = vec!["night".into()];
    stage.engine.adopt(vec![adoption, back("new", damaged())]).await.unwrap();
    stage.settle().await;
    assert_eq!(stage.watched().await, ["app", "new"]);
    let view = |workload: &str| stage.engine.view(WorkloadId::new(workload));
    assert_eq!(view("app").await.unwrap().unwrap().standstill, None);
    assert!(view("new").await.unwrap().unwrap().standstill.is_some(), "nothing is known of it");
    stage.pause("app").await.unwrap();
    assert_eq!(stage.journal.names("app"), ["paused"]);
    assert_eq!(stage.open_pages(), ["rollbackd-records-app", "rollbackd-records-new"]);
    let told = stage.pages.0.lock().unwrap()[0].clone();
    assert!(told.alert.summary.starts_with("rollbackd goes on watching app by what it has in memory"), "{told:?}");
    assert_eq!(told.receivers, ["night".into()], "the new policy is in force");
    stage.engine.adopt(vec![back("app", Ok(WorkloadState::default()))]).await.unwrap();
    assert_eq!(stage.open_pages(), [""; 0]);
}

/// That one workload's records can't go on is no reason to do nothing for all others.
#[tokio::test]
async fn a_record_that_can_never_be_written_costs_its_workload_only() {
    let stage = stage(&["app", "other"]).await;
    let on_record = somebody_else_writes(&stage);
    let Refusal::Held { guard, reason } = stage.pause("app").await.unwrap_err() else { panic!("not held") };
    assert_eq!(guard, "records-damaged");
    assert!(reason.ends_with("so it is not watched: record 4 where 5 is next"), "{reason}");
    stage.pause("other").await.unwrap();
    assert_eq!(stage.journal.names("other"), ["paused"]);
    assert_eq!(stage.open_pages(), ["rollbackd-records-app"]);
    let explanation = stage.engine.explain(WorkloadId::new("app")).await.unwrap().unwrap();
    assert!(explanation.would_change[0].starts_with("reload the policy"), "{:?}", explanation.would_change);
    // As it says.
    let other = back("other", Ok(WorkloadState::default()));
    stage.engine.adopt(vec![back("app", Ok(on_record)), other]).await.unwrap();
    assert_eq!(stage.open_pages(), [""; 0]);
    stage.ask("app", RequestKind::Resume).await.unwrap();
    assert_eq!(stage.journal.names("app"), ["paused", "resumed"]);
}

/// The same where it is found out only once the journal can be written again.
#[tokio::test]
async fn a_record_that_can_never_be_written_holds_up_nothing_that_waits() {
    let stage = stage(&["app", "other"]).await;
    stage.journal.full.store(true, Ordering::SeqCst);
    for workload in ["app", "other"] {
        stage.pause(workload).await.unwrap();
    }
    somebody_else_writes(&stage);
    stage.journal.full.store(false, Ordering::SeqCst);
    stage.until("the other is paused", |stage| stage.journal.names("other").contains(&"paused")).await;
    stage.settle().await;
    assert_eq!(stage.open_pages(), ["rollbackd-records-app"]);
    assert_eq!(stage.journal.names("app"), ["paused"], "nothing of it was written");
}
