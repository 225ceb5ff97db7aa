//! The record that replicas share, on a real API server: of two that write at once one does, and nothing is lost.

use std::sync::{Arc, Mutex};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use rollbackd::act::Hands;
use rollbackd::cluster::Clients;
use rollbackd::cluster::record_names::record_name;
use rollbackd::domain::id::WorkloadId;
use rollbackd::domain::incident::narrate;
use rollbackd::domain::incident::record::{Cause, Closing, Event, Record};
use rollbackd::domain::incident::state::{Applied, WorkloadState};
use rollbackd::domain::policy::{ClusterObject, Mode, ObjectKind, Strategy};
use rollbackd::domain::response::plan::{Outcome, StepKind};
use rollbackd::domain::settings::ContentId;
use rollbackd::domain::time::{Span, Timestamp};
use rollbackd::engine::ports::{Actuator, Batch, Journal, Leadership, Notice, Role, Shelf};
use rollbackd::store::{Books, Place, Store};
use serde_json::json;
use tempfile::TempDir;

use super::namespace::{Cluster, Needs, deployment, on_cluster};

/// Races for the same record.
const ROUNDS: u64 = 30;

/// Somebody who believes to lead until told otherwise.
struct Believer(Mutex<Role>);

impl Believer {
    fn leads(&self) -> bool {
        self.role().term().is_some()
    }
}

impl Leadership for Believer {
    fn role(&self) -> Role {
        self.0.lock().unwrap().clone()
    }

    fn leader(&self) -> Option<String> {
        None
    }

    fn forfeit(&self, _: u64) {
        *self.0.lock().unwrap() = Role::Standby { leader: None };
    }
}

struct Writer {
    books: Books,
    store: Store,
    chair: Arc<Believer>,
    _dir: TempDir,
}

impl Writer {
    fn new(cluster: &Cluster) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state")).unwrap();
        let chair = Arc::new(Believer(Mutex::new(Role::Leader { term: 1 })));
        let place = Place {
            client: cluster.client().clone(),
            namespace: cluster.namespace().to_owned(),
            lease: "rollbackd".to_owned(),
        };
        let books = Books::shared(store.clone(), place, Arc::clone(&chair) as Arc<dyn Leadership>);
        Self { books, store, chair, _dir: dir }
    }

    /// Begins a new term: with what is on record.
    async fn leads_again(&self) {
        *self.chair.0.lock().unwrap() = Role::Leader { term: 2 };
        assert_eq!(self.takes_over(&[]).await, [""; 0]);
    }

    /// Gives those whose record can't be read.
    async fn takes_over(&self, known: &[&str]) -> Vec<String> {
        *self.chair.0.lock().unwrap() = Role::Leader { term: 2 };
        let known: Vec<WorkloadId> = known.iter().map(|known| WorkloadId::new(*known)).collect();
        let withheld = self.books.take_over(&known).await.unwrap();
        assert!(withheld.values().all(|why| why.contains("can't be read")), "{withheld:?}");
        withheld.into_keys().map(|workload| workload.to_string()).collect()
    }

    /// Looks again at what could not be read; whether the term goes on.
    async fn still_leads(&self, known: &[&str]) -> bool {
        let known: Vec<WorkloadId> = known.iter().map(|known| WorkloadId::new(*known)).collect();
        self.books.look_again(&known).await.unwrap();
        self.chair.leads()
    }

    async fn writes(&self, record: Record) -> bool {
        self.books.commit(Batch { records: vec![record], notices: Vec::new() }).await.is_ok()
    }

    async fn records(&self) -> Vec<Record> {
        self.store.reader().records(&"shop".into(), 1_000).await.unwrap()
    }
}

fn paused(sequence: u64, by: &str) -> Record {
    let at = Timestamp::from_millis(sequence.cast_signed());
    let event = Event::Paused { by: by.to_owned(), reason: "a race".to_owned() };
    Record { workload: "shop".into(), sequence, incident: None, at, event }
}

async fn map(cluster: &Cluster) -> ConfigMap {
    let all = ListParams::default().labels("rollbackd-lease=rollbackd");
    let mut found = cluster.api::<ConfigMap>().list(&all).await.unwrap().items;
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[test]
fn of_two_that_both_believe_to_lead_one_records() {
    on_cluster(Needs::Api, async |cluster| {
        let writers = [Writer::new(cluster), Writer::new(cluster)];
        for sequence in 1..=ROUNDS {
            let (first, second) = tokio::join!(
                writers[0].writes(paused(sequence, "first")),
                writers[1].writes(paused(sequence, "second"))
            );
            assert!(first != second, "round {sequence}: {first} and {second}");
            for (writer, won) in writers.iter().zip([first, second]) {
                assert_eq!(writer.chair.leads(), won, "who did not write knows that he does not lead");
                if !won {
                    writer.leads_again().await;
                }
            }
        }
        assert_eq!(writers[0].records().await, writers[1].records().await);
        assert_eq!(writers[0].records().await.len(), ROUNDS as usize);
    });
}

/// Whoever notes what has arrived looks at the outbox, into which a message comes a moment after it is in the cluster.
#[test]
fn a_message_has_not_arrived_before_it_is_in_the_outbox() {
    on_cluster(Needs::Api, async |cluster| {
        let writer = Writer::new(cluster);
        let notes = async {
            loop {
                writer.books.note_told().await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let mut state = WorkloadState::default();
        let commits = async {
            let mut written = Vec::new();
            for sequence in 1..=ROUNDS {
                let (cause, reason) = (Cause::Blind { reason: "no route".to_owned() }, "looked at".to_owned());
                let (from, goal, onset) = (None, None, Timestamp::from_millis(1));
                let (mode, strategy) = (Mode::Enforce, Strategy::Rolling);
                let event = if sequence % 2 == 1 {
                    Event::Suspected { cause, from, goal, onset, mode, strategy }
                } else {
                    Event::Closed { how: Closing::ByOperator { by: "ops".to_owned(), reason } }
                };
                let incident = Some(format!("i{}", sequence.div_ceil(2)).as_str().into());
                let at = Timestamp::from_millis(sequence.cast_signed());
                let record = Record { workload: "shop".into(), sequence, incident, at, event };
                let Ok(Applied::Transition(incident)) = state.apply(&record) else { panic!("{record:?}") };
                let alert = narrate::alert(&record.workload, &incident, &record.event);
                written.push(alert.id.clone());
                let notice = Notice { alert, receivers: vec!["oncall".into()] };
                writer.books.commit(Batch { records: vec![record], notices: vec![notice] }).await.unwrap();
            }
            written
        };
        let written = tokio::select! {
            written = commits => written,
            () = notes => unreachable!("it goes on for ever"),
        };
        // Nobody takes anything out of the outbox.
        let untold = map(cluster).await.data.unwrap().remove("untold").unwrap();
        let lost: Vec<&String> = written.iter().filter(|id| !untold.contains(&format!("\"{id}\""))).collect();
        assert!(lost.is_empty(), "said to have arrived: {lost:?}");
    });
}

/// The record is in the cluster and not in the journal: its message is in no outbox, which looks as if it had arrived.
#[test]
fn a_message_that_never_came_into_the_outbox_has_not_arrived() {
    on_cluster(Needs::Api, async |cluster| {
        let writer = Writer::new(cluster);
        assert!(writer.writes(paused(1, "first")).await);
        // What stands in the journal by another hand lets nothing else into its place.
        let others = Batch { records: vec![paused(2, "others")], notices: Vec::new() };
        writer.store.commit(others).await.unwrap();
        let cause = Cause::Blind { reason: "no route".to_owned() };
        let (from, goal, onset) = (None, None, Timestamp::from_millis(1));
        let (mode, strategy) = (Mode::Enforce, Strategy::Rolling);
        let event = Event::Suspected { cause, from, goal, onset, mode, strategy };
        let at = Timestamp::from_millis(2);
        let record = Record { workload: "shop".into(), sequence: 2, incident: Some("i1".into()), at, event };
        let mut state = WorkloadState::default();
        state.apply(&paused(1, "first")).unwrap();
        let Ok(Applied::Transition(incident)) = state.apply(&record) else { panic!("{record:?}") };
        let alert = narrate::alert(&record.workload, &incident, &record.event);
        let id = alert.id.clone();
        let notice = Notice { alert, receivers: vec!["oncall".into()] };
        let batch = Batch { records: vec![record], notices: vec![notice] };
        assert!(writer.books.commit(batch).await.is_err(), "the journal took it");
        writer.books.note_told().await.unwrap();
        let untold = map(cluster).await.data.unwrap().remove("untold").unwrap();
        assert!(untold.contains(id.as_str()), "said to have arrived: {untold}");
    });
}

#[test]
fn what_somebody_labels_or_deletes_is_written_whole_again() {
    on_cluster(Needs::Api, async |cluster| {
        let writer = Writer::new(cluster);
        assert!(writer.writes(paused(1, "a")).await);
        let name = map(cluster).await.name_any();
        let label = json!({ "metadata": { "annotations": { "seen": "yes" } } });
        cluster.api::<ConfigMap>().patch(&name, &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
        assert!(writer.writes(paused(2, "a")).await);
        cluster.api::<ConfigMap>().delete(&name, &DeleteParams::default()).await.unwrap();
        assert!(writer.writes(paused(3, "a")).await && writer.chair.leads());
        let other = Writer::new(cluster);
        other.leads_again().await;
        assert!(other.writes(paused(4, "b")).await);
        let state = other.store.reader().fold().await.unwrap().remove(0).1.unwrap();
        assert_eq!(state.sequence, 4);
    });
}

#[test]
fn a_record_that_has_lost_its_label_is_found_by_the_next_term() {
    on_cluster(Needs::Api, async |cluster| {
        let writer = Writer::new(cluster);
        assert!(writer.writes(paused(1, "a")).await);
        let name = map(cluster).await.name_any();
        let unlabelled = json!({ "metadata": { "labels": null } });
        cluster.api::<ConfigMap>().patch(&name, &PatchParams::default(), &Patch::Merge(&unlabelled)).await.unwrap();
        let other = Writer::new(cluster);
        other.leads_again().await;
        assert!(!other.writes(paused(1, "b")).await && !other.chair.leads(), "it does not know what is there");
        other.leads_again().await;
        assert!(other.writes(paused(2, "b")).await);
        assert_eq!(other.records().await, [paused(1, "a"), paused(2, "b")]);
    });
}

#[test]
fn a_record_that_can_not_be_read_is_not_written_over() {
    on_cluster(Needs::Api, async |cluster| {
        let writer = Writer::new(cluster);
        assert!(writer.writes(paused(1, "a")).await);
        let name = map(cluster).await.name_any();
        let garbage = json!({ "data": { "state": "{" } });
        cluster.api::<ConfigMap>().patch(&name, &PatchParams::default(), &Patch::Merge(&garbage)).await.unwrap();
        let commit = writer.books.commit(Batch { records: vec![paused(2, "a")], notices: Vec::new() }).await;
        let why = commit.unwrap_err().to_string();
        assert!(why.contains(&name) && why.contains("put it right or delete it"), "{why}");
        assert_eq!(map(cluster).await.data.unwrap()["state"], "{");
    });
}

/// A record of somebody else.
fn others(sequence: u64) -> Record {
    Record { workload: "other".into(), ..paused(sequence, "a") }
}

async fn patch(cluster: &Cluster, name: &str, patch: serde_json::Value) {
    cluster.api::<ConfigMap>().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

#[test]
fn a_record_that_can_not_be_read_holds_its_own_workload_until_it_can_be_and_no_other() {
    on_cluster(Needs::Api, async |cluster| {
        let writer = Writer::new(cluster);
        assert!(writer.writes(paused(1, "a")).await);
        let (name, as_it_was) = (map(cluster).await.name_any(), map(cluster).await.data.unwrap());
        // Damaged while one leads, it ends the term, whoever had it; and whoever begins the next one knows of it.
        let damages = [
            json!({ "data": { "state": "{" } }),
            json!({ "data": { "records": "{" }, "metadata": { "labels": null } }),
            json!({ "data": { "workload": "another" } }),
            json!({ "data": null }),
        ];
        for (damage, sequence) in damages.into_iter().zip(1..) {
            patch(cluster, &name, damage.clone()).await;
            assert!(!writer.writes(paused(2, "a")).await && !writer.chair.leads(), "{damage}");
            let damaged = cluster.api::<ConfigMap>().get(&name).await.unwrap().data;
            for replica in [&Writer::new(cluster), &writer] {
                assert_eq!(replica.takes_over(&["shop", "other"]).await, ["shop"], "{damage}");
                assert!(replica.still_leads(&["shop", "other"]).await, "{damage}");
            }
            assert!(writer.writes(others(sequence)).await && writer.books.probe().await.is_ok(), "{damage}");
            assert_eq!(
                cluster.api::<ConfigMap>().get(&name).await.unwrap().data,
                damaged,
                "nothing is written over it"
            );
            patch(cluster, &name, json!({ "data": as_it_was })).await;
            assert!(!writer.still_leads(&["shop", "other"]).await, "the next term begins with it");
            writer.leads_again().await;
        }
        assert!(writer.writes(paused(2, "a")).await);
        // Where it is deleted, the journal has it all.
        patch(cluster, &name, json!({ "data": null })).await;
        assert_eq!(writer.takes_over(&["shop"]).await, ["shop"]);
        cluster.api::<ConfigMap>().delete(&name, &DeleteParams::default()).await.unwrap();
        assert!(!writer.still_leads(&["shop"]).await);
        writer.leads_again().await;
        assert!(writer.writes(paused(3, "a")).await);
        assert_eq!(writer.records().await, [paused(1, "a"), paused(2, "a"), paused(3, "a")]);
    });
}

#[test]
fn what_can_not_be_read_and_is_nobodys_holds_all_until_it_is_gone() {
    on_cluster(Needs::Api, async |cluster| {
        let writer = Writer::new(cluster);
        let lost = record_name("rollbackd", &"lost".into());
        for name in ["rollbackd-what", &lost] {
            let labels = json!({ "rollbackd-lease": "rollbackd" });
            let stray = json!({ "metadata": { "name": name, "labels": labels }, "data": { "state": "{" } });
            cluster.create::<ConfigMap>(stray).await;
        }
        assert_eq!(writer.takes_over(&["shop"]).await, [""; 0]);
        let why = writer.books.probe().await.unwrap_err().to_string();
        assert!(why.contains("no workload that is known") && why.contains(&lost), "{why}");
        assert!(!writer.writes(paused(1, "a")).await && writer.still_leads(&["shop"]).await);
        // Whose it is, is known by now.
        assert!(!writer.still_leads(&["shop", "lost"]).await);
        assert_eq!(writer.takes_over(&["shop", "lost"]).await, ["lost"]);
        let why = writer.books.probe().await.unwrap_err().to_string();
        assert!(why.contains("the ConfigMap rollbackd-what can't be read"), "{why}");
        cluster.api::<ConfigMap>().delete("rollbackd-what", &DeleteParams::default()).await.unwrap();
        assert!(writer.still_leads(&["shop", "lost"]).await, "nothing on record is another");
        assert!(writer.books.probe().await.is_ok() && writer.writes(paused(1, "a")).await);
    });
}

/// Whatever was decided before: at the moment of the write the lead is gone.
#[test]
fn hands_without_the_lead_change_nothing() {
    on_cluster(Needs::Api, async |cluster| {
        let created = cluster.create::<Deployment>(deployment("shop", 0, "shop:v1")).await;
        let object = ClusterObject {
            context: None,
            namespace: cluster.namespace().to_owned(),
            kind: ObjectKind::Deployment,
            name: "shop".to_owned(),
            uid: created.uid().unwrap(),
        };
        let expect = cluster.hash("shop").await.as_str().into();
        let step = StepKind::Scale { object, expect, replicas: 3, only_from: None, at_any: false };
        let open = Arc::new(Mutex::new(false));
        let gate = Arc::clone(&open);
        let gate = move || if *gate.lock().unwrap() { Ok(()) } else { Err("another leads".to_owned()) };
        let hands = Hands::default().with_clients(Clients::gated(Arc::new(gate)));
        let outcome = hands.execute(&"shop".into(), &step, Span::from_secs(30)).await;
        assert!(matches!(&outcome, Outcome::Transient(why) if why.contains("another leads")), "{outcome:?}");
        let found: Deployment = cluster.api().get("shop").await.unwrap();
        assert_eq!(found.metadata.generation, created.metadata.generation);
        *open.lock().unwrap() = true;
        assert_eq!(hands.execute(&"shop".into(), &step, Span::from_secs(30)).await, Outcome::Applied);
    });
}

#[test]
fn what_a_release_named_is_found_by_a_replica_that_never_saw_it() {
    on_cluster(Needs::Api, async |cluster| {
        let (one, other) = (Writer::new(cluster), Writer::new(cluster));
        let id = |text: &str| ContentId::new(text);
        let put = async |name: &str, bytes: usize, needed: &[&str]| {
            let needed = Some(needed.iter().map(|name| id(name)).collect());
            one.books.put("shop".into(), [(id(name), vec![7; bytes])].into(), needed).await
        };
        put("a", 10, &["a"]).await.unwrap();
        put("b", 20, &["a", "b"]).await.unwrap();
        let found = async |name: &str| other.books.find("shop".into(), id(name)).await.unwrap();
        assert_eq!((found("a").await, found("b").await), (Some(vec![7; 10]), Some(vec![7; 20])));
        put("c", 30, &["b", "c"]).await.unwrap();
        assert_eq!((found("a").await, found("c").await), (None, Some(vec![7; 30])));
        // Whatever became of the cluster's copy.
        let kept = cluster.api::<ConfigMap>().list(&ListParams::default()).await.unwrap().items;
        let kept = kept.iter().find(|map| map.name_any().ends_with("-kept")).unwrap();
        cluster.api::<ConfigMap>().delete(&kept.name_any(), &DeleteParams::default()).await.unwrap();
        assert_eq!(found("c").await, None);
        put("e", 40, &["b", "c", "e"]).await.unwrap();
        assert_eq!((found("b").await, found("c").await), (Some(vec![7; 20]), Some(vec![7; 30])));
        let told = put("d", 1_000_000, &["c", "d"]).await.unwrap_err().to_string();
        assert!(told.contains("more than the"), "{told}");
        assert!(found("b").await.is_some(), "nothing of it was written");
        one.chair.forfeit(1);
        let told = put("f", 10, &["f"]).await.unwrap_err().to_string();
        assert!(told.contains("does not lead") && found("b").await.is_some(), "{told}");
    });
}
