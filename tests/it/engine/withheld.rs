//! A workload whose shared record can't be read is held, and no other is.

use rollbackd::domain::health::memory::Memory;
use rollbackd::engine::Adoption;

use super::*;

const WHY: &str = "the ConfigMap rollbackd-app can't be read: its `state` is damaged";

fn damaged() -> BTreeMap<WorkloadId, String> {
    [("app".into(), WHY.to_owned())].into()
}

fn on_record(workload: &str) -> (WorkloadId, WorkloadState) {
    let mut policy = policy(Strategy::Direct, &["a"]);
    policy.id = workload.into();
    (policy.id.clone(), state(&policy))
}

fn adoption(workload: &str) -> Adoption {
    let mut policy = policy(Strategy::Direct, &["a"]);
    policy.id = workload.into();
    let state = Ok(state(&policy));
    Adoption { policy: Arc::new(policy), state, memory: Memory::default() }
}

impl Stage {
    async fn is_held(&self) {
        for kind in [RequestKind::Pause { reason: "looking".to_owned() }, leak(), RequestKind::Resume] {
            let Refusal::Held { guard, reason } = self.ask("app", kind).await.unwrap_err() else { panic!("not held") };
            assert_eq!([guard.as_str(), reason.as_str()], ["record-unreadable", WHY]);
        }
        self.seen.send(at("app", "v3")).await.unwrap();
        self.settle().await;
        assert_eq!(self.journal.names("app"), [""; 0]);
    }
}

#[tokio::test]
async fn a_workload_whose_shared_record_can_not_be_read_is_held_and_no_other() {
    let stage = stage_as(Role::Leader { term: 1 }, &["app", "other"]).await;
    assert!(stage.engine.lead(1, vec![on_record("other")], damaged()).await.unwrap());
    stage.is_held().await;
    stage.until("it is told", |stage| stage.open_pages() == ["rollbackd-records-app"]).await;
    let told = stage.pages.0.lock().unwrap()[0].alert.clone();
    assert_eq!([told.reason.as_str(), told.workload.as_str()], [WHY, "app"]);
    assert_eq!(told.summary, "rollbackd does nothing for app: what its replicas share of it can't be read.");
    let view = stage.engine.view("app".into()).await.unwrap().unwrap();
    assert_eq!(view.standstill.unwrap().reason, WHY);
    let explanation = stage.engine.explain("app".into()).await.unwrap().unwrap();
    assert!(explanation.decision.ends_with(WHY), "{}", explanation.decision);
    assert_eq!(explanation.would_change[0], format!("nothing is done while record-unreadable: {WHY}"));
    assert_eq!(stage.guards_that_hold("app").await[0], format!("record-unreadable: {WHY}"));
    let view = stage.engine.view("other".into()).await.unwrap().unwrap();
    assert_eq!(view.standstill, None);
    stage.pause("other").await.unwrap();
    assert_eq!(stage.journal.names("other"), ["paused"]);
}

/// So it is however the policy changes meanwhile, and while the journal can't be written.
#[tokio::test]
async fn it_is_held_until_the_term_is_over() {
    let stage = stage_as(Role::Leader { term: 1 }, &["app", "other"]).await;
    assert!(stage.engine.lead(1, vec![on_record("other")], damaged()).await.unwrap());
    stage.until("it is told", |stage| stage.open_pages() == ["rollbackd-records-app"]).await;
    stage.engine.adopt(vec![adoption("app"), adoption("other")]).await.unwrap();
    stage.is_held().await;
    stage.engine.adopt(vec![adoption("other")]).await.unwrap();
    assert!(stage.engine.view("app".into()).await.unwrap().is_none());
    stage.until("nobody is told of what is not watched", |stage| stage.open_pages().is_empty()).await;
    stage.engine.adopt(vec![adoption("app"), adoption("other")]).await.unwrap();
    stage.is_held().await;
    stage.until("it is told anew", |stage| stage.open_pages() == ["rollbackd-records-app"]).await;
    stage.journal.full.store(true, Ordering::SeqCst);
    stage.pause("other").await.unwrap();
    stage.is_held().await;
    stage.journal.full.store(false, Ordering::SeqCst);
    stage.until("the other is paused", |stage| stage.journal.names("other") == ["paused"]).await;
    stage.sits(STANDBY);
    stage.is_told_to_ask_the_leader().await;
    stage.until("the page is over", |stage| stage.open_pages().is_empty()).await;
    // What is on record can be read by now.
    stage.sits(Role::Leader { term: 2 });
    assert!(stage.engine.lead(2, vec![on_record("app"), on_record("other")], BTreeMap::new()).await.unwrap());
    stage.pause("app").await.unwrap();
    assert_eq!(stage.journal.names("app"), ["release-observed", "paused"]);
}

/// It may be under way for all that anybody knows: that is its own affair.
#[tokio::test]
async fn what_was_under_way_of_it_holds_no_other_of_its_namespace() {
    let stage = stage_as(Role::Leader { term: 1 }, &[]).await;
    stage.engine.adopt(vec![adoption("app"), adoption("other")]).await.unwrap();
    assert!(stage.engine.lead(1, vec![on_record("app"), on_record("other")], BTreeMap::new()).await.unwrap());
    for workload in ["app", "other"] {
        stage.seen.send(at(workload, "v2")).await.unwrap();
    }
    stage.settle().await;
    stage.hands.plans.add_permits(1);
    stage.roll_back("app").await.unwrap();
    stage.until("a step is under way", |stage| Arc::strong_count(&stage.hands.under_way) == 2).await;
    let in_flight = |held: &[String]| held.iter().any(|guard| guard.starts_with("in-flight"));
    assert!(in_flight(&stage.guards_that_hold("other").await));
    stage.sits(Role::Leader { term: 2 });
    assert!(stage.engine.lead(2, vec![on_record("other")], damaged()).await.unwrap());
    stage.until("it is cut off", |stage| Arc::strong_count(&stage.hands.under_way) == 1).await;
    assert!(!in_flight(&stage.guards_that_hold("other").await));
}
