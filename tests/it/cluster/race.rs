//! Two that both believe to lead, a thousand times: both have read and compared before either writes, and one of the two
//! writes arrives.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use rollbackd::act::Hands;
use rollbackd::cluster::Clients;
use rollbackd::domain::id::RevisionId;
use rollbackd::domain::policy::{ClusterObject, ObjectKind, Pin};
use rollbackd::domain::response::plan::{Outcome, StepKind};
use rollbackd::domain::time::Span;
use rollbackd::engine::ports::Actuator;
use tokio::task::block_in_place;

use super::namespace::{Cluster, Needs, on_cluster};
use super::rolling::template;

const RACES: usize = 1_000;

/// Longest wait of one for the other.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where both wait for each other, before each pair of writes.
#[derive(Default)]
struct Meeting {
    arrived: Mutex<usize>,
    both: Condvar,
}

impl Meeting {
    /// Whether the other one came.
    fn meet(&self) -> Result<(), String> {
        let mut arrived = self.arrived.lock().unwrap();
        *arrived += 1;
        let wanted = arrived.next_multiple_of(2);
        self.both.notify_all();
        let (_arrived, late) = self.both.wait_timeout_while(arrived, PATIENCE, |arrived| *arrived < wanted).unwrap();
        if late.timed_out() { Err("nobody else writes".to_owned()) } else { Ok(()) }
    }
}

/// A release of the Deployment: its name, what keeps it, and its image.
struct Kept {
    release: RevisionId,
    source: Pin,
    image: String,
}

/// Three releases of a Deployment without pods, the last of which is in place.
async fn three_releases(cluster: &Cluster) -> Vec<Kept> {
    cluster.deploy("shop", 0, "shop:v1").await;
    let mut all = Vec::new();
    for image in ["shop:v1", "shop:v2", "shop:v3"] {
        cluster.set_image("shop", image).await;
        let hash = cluster.hash("shop").await;
        let sets = cluster.replica_sets("shop").await;
        let set = sets.iter().find(|set| set.labels()["pod-template-hash"] == hash).unwrap();
        let source = Pin { name: set.name_any(), uid: set.uid().unwrap() };
        all.push(Kept { release: RevisionId::new(hash), source, image: image.to_owned() });
    }
    all
}

#[test]
fn of_two_writers_one_writes() {
    on_cluster(Needs::Api, async |cluster| {
        let kept = three_releases(cluster).await;
        let before: Deployment = cluster.api().get("shop").await.unwrap();
        let object = ClusterObject {
            context: None,
            namespace: cluster.namespace().to_owned(),
            kind: ObjectKind::Deployment,
            name: "shop".to_owned(),
            uid: before.uid().unwrap(),
        };
        let meeting = Arc::new(Meeting::default());
        let writer = || {
            let meeting = Arc::clone(&meeting);
            Arc::new(Hands::default().with_clients(Clients::gated(Arc::new(move || block_in_place(|| meeting.meet())))))
        };
        let writers = [writer(), writer()];
        let (mut current, mut generation) = (kept.len() - 1, before.metadata.generation.unwrap());
        for race in 0..RACES {
            let [one, other] = [(current + 1) % kept.len(), (current + 1 + race % 2) % kept.len()];
            let write = |writer: &Arc<Hands>, goal: usize| {
                let step = StepKind::RestoreTemplate {
                    object: object.clone(),
                    expect: kept[current].release.clone(),
                    to: kept[goal].release.clone(),
                    source: kept[goal].source.clone(),
                };
                let writer = Arc::clone(writer);
                tokio::spawn(async move { writer.execute(&"shop".into(), &step, Span::from_secs(60)).await })
            };
            let (first, second) = tokio::join!(write(&writers[0], one), write(&writers[1], other));
            let outcomes = [first.unwrap(), second.unwrap()];
            let winner = outcomes.iter().position(|outcome| *outcome == Outcome::Applied);
            let winner = winner.unwrap_or_else(|| panic!("race {race}: nobody wrote: {outcomes:?}"));
            match &outcomes[1 - winner] {
                Outcome::AlreadyInEffect => assert_eq!(one, other, "race {race}: {outcomes:?}"),
                Outcome::Conflict(_) => assert_ne!(one, other, "race {race}: {outcomes:?}"),
                outcome => panic!("race {race}: {outcome:?}"),
            }
            current = [one, other][winner];
            generation += 1;
            let after: Deployment = cluster.api().get("shop").await.unwrap();
            assert_eq!(after.metadata.generation, Some(generation), "race {race}: written once");
            assert_eq!(template(&after)["spec"]["containers"][0]["image"], *kept[current].image);
        }
        assert_eq!(*meeting.arrived.lock().unwrap(), 2 * RACES, "both wrote in each");
    });
}
