//! Two replicas: whatever happens to the one that leads, the other goes on to the same end, nothing is done twice, and
//! nobody is told anything twice in different words.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, Patch, PatchParams};
use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::incident::record::{Event, Record};
use rollbackd::domain::incident::state::WorkloadState;
use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

use super::namespace::{Cluster, Needs, deployment, on_cluster};
use super::pair::{LEASE, Pair};
use super::rolling::{on_errors, template};

const BAD: &str = "shop:v2-errors40";

/// Long enough for a busy machine to renew it.
const SHORT: &str = "duration = \"4s\"";

/// So long that only one who gives it back lets the other go on within a test.
const LONG: &str = "duration = \"60s\"";

/// A good release whose pods count only after a while: there is time to do something meanwhile.
async fn good_release(cluster: &Cluster) -> Deployment {
    let mut shop = deployment("shop", 2, "shop:v1");
    shop["spec"]["minReadySeconds"] = 2.into();
    cluster.create::<Deployment>(shop).await;
    cluster.rolled_out("shop").await
}

/// The bad release was taken back, by one write.
async fn is_taken_back_once(cluster: &Cluster, before: &Deployment) {
    let after = cluster.rolled_out("shop").await;
    assert_eq!(template(&after), template(before));
    assert_eq!(after.spec, before.spec);
    let written = after.metadata.generation.unwrap() - before.metadata.generation.unwrap();
    assert_eq!(written, 2, "the bad release was deployed, and taken back once");
}

/// The records tell one whole story: one plan, and every step begun was ended.
fn is_one_story(records: &[Record]) {
    let mut state = WorkloadState::default();
    for record in records {
        state.apply(record).expect("it can follow");
    }
    assert!(state.incident.is_none(), "{:?}", state.incident);
    let plans = records.iter().filter(|record| matches!(record.event, Event::Planned { .. })).count();
    assert_eq!(plans, 1, "{records:?}");
}

async fn is_restored(pair: &Pair<'_>) {
    let told = pair.told_to_the_end().await;
    let last = told.last().unwrap();
    assert_eq!(last.phase, Phase::Restored, "{}", last.summary);
}

/// The leader is killed once an event is on record; the other one comes to the same end.
fn killed_at(event: &'static str) -> impl AsyncFnOnce(&Cluster) {
    async move |cluster| {
        let before = good_release(cluster).await;
        let mut pair = Pair::that_know_a_goal(cluster, SHORT, &on_errors()).await;
        let leader = pair.leader().await.expect("one leads");
        cluster.set_image("shop", BAD).await;
        pair.until_recorded(event).await;
        pair.signal(leader, Signal::KILL);
        pair.ends(leader).await;
        let other = pair.until_another_leads(leader).await;
        is_restored(&pair).await;
        is_taken_back_once(cluster, &before).await;
        is_one_story(&pair.records(other).await);
    }
}

#[test]
fn the_leader_is_killed_when_a_fault_is_suspected() {
    on_cluster(Needs::Pods, async |cluster| killed_at("suspected")(cluster).await);
}

#[test]
fn the_leader_is_killed_when_a_fault_is_detected() {
    on_cluster(Needs::Pods, async |cluster| killed_at("detected")(cluster).await);
}

#[test]
fn the_leader_is_killed_when_the_plan_is_made() {
    on_cluster(Needs::Pods, async |cluster| killed_at("planned")(cluster).await);
}

#[test]
fn the_leader_is_killed_when_a_step_begins() {
    on_cluster(Needs::Pods, async |cluster| killed_at("step-started")(cluster).await);
}

#[test]
fn the_leader_is_killed_when_a_step_is_done() {
    on_cluster(Needs::Pods, async |cluster| killed_at("step-finished")(cluster).await);
}

#[test]
fn the_leader_is_killed_when_the_proof_begins() {
    on_cluster(Needs::Pods, async |cluster| killed_at("verifying")(cluster).await);
}

#[test]
fn the_leader_is_killed_when_all_is_well() {
    on_cluster(Needs::Pods, async |cluster| killed_at("restored")(cluster).await);
}

/// With the lease as it is by default: the other leads within the time that is promised.
#[test]
fn a_killed_leader_is_followed_within_twenty_seconds() {
    on_cluster(Needs::Pods, async |cluster| {
        good_release(cluster).await;
        let pair = Pair::that_know_a_goal(cluster, "", &on_errors()).await;
        let leader = pair.leader().await.expect("one leads");
        pair.signal(leader, Signal::KILL);
        let killed = Instant::now();
        let other = pair.until_another_leads(leader).await;
        assert!(killed.elapsed() < Duration::from_secs(20), "{:?}", killed.elapsed());
        let leads = async || pair.log(other).contains("this replica leads");
        pair.until("leading", leads).await;
    });
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over_in_the_middle() {
    on_cluster(Needs::Pods, async |cluster| {
        let before = good_release(cluster).await;
        let mut pair = Pair::that_know_a_goal(cluster, LONG, &on_errors()).await;
        let leader = pair.leader().await.expect("one leads");
        cluster.set_image("shop", BAD).await;
        pair.until_recorded("step-started").await;
        pair.signal(leader, Signal::TERM);
        let told = Instant::now();
        let other = pair.until_another_leads(leader).await;
        assert!(told.elapsed() < Duration::from_secs(20), "it was given back: {:?}", told.elapsed());
        pair.ends(leader).await;
        is_restored(&pair).await;
        is_taken_back_once(cluster, &before).await;
        is_one_story(&pair.records(other).await);
    });
}

/// A process that is stopped in the middle believes to lead when it goes on.
#[test]
fn a_leader_that_is_stopped_for_a_while_writes_nothing_more() {
    on_cluster(Needs::Pods, async |cluster| {
        let before = good_release(cluster).await;
        let pair = Pair::that_know_a_goal(cluster, SHORT, &on_errors()).await;
        let leader = pair.leader().await.expect("one leads");
        cluster.set_image("shop", BAD).await;
        pair.until_recorded("planned").await;
        pair.signal(leader, Signal::STOP);
        let other = pair.until_another_leads(leader).await;
        is_restored(&pair).await;
        is_taken_back_once(cluster, &before).await;
        let story = pair.records(other).await;

        pair.signal(leader, Signal::CONT);
        // It takes in what the other did: it has the same records, and none of its own.
        let follows = async || pair.records(leader).await == story;
        pair.until("following", follows).await;
        is_restored(&pair).await;
        is_taken_back_once(cluster, &before).await;
        is_one_story(&story);
        assert_eq!(pair.leader().await, Some(other));

        // It answers all the same, and says who leads.
        let leads = pair.get(other, "/api/v1/leadership").await;
        assert_eq!(leads["role"], "leader");
        let expected = json!({ "role": "standby", "leader": leads["leader"] });
        let knows = async || pair.get(leader, "/api/v1/leadership").await == expected;
        pair.until("sure of who leads", knows).await;
        let [mine, theirs] = [leader, other].map(|number| pair.get(number, "/api/v1/incidents"));
        let (mine, theirs) = tokio::join!(mine, theirs);
        assert!(!mine.as_array().unwrap().is_empty(), "{mine}");
        assert_eq!(mine, theirs);
    });
}

/// The receiver comes back only after the leader is gone: the other one tells everything, from the first message on.
#[test]
fn what_a_killed_leader_could_not_tell_is_told_by_the_other() {
    on_cluster(Needs::Pods, async |cluster| {
        let before = good_release(cluster).await;
        let mut pair = Pair::that_know_a_goal(cluster, SHORT, &on_errors()).await;
        let leader = pair.leader().await.expect("one leads");
        pair.deafen(true);
        cluster.set_image("shop", BAD).await;
        pair.until_recorded("planned").await;
        pair.signal(leader, Signal::KILL);
        pair.ends(leader).await;
        pair.deafen(false);
        is_restored(&pair).await;
        is_taken_back_once(cluster, &before).await;
    });
}

#[test]
fn a_lease_that_is_deleted_in_the_middle_changes_nothing() {
    on_cluster(Needs::Pods, async |cluster| {
        let before = good_release(cluster).await;
        let pair = Pair::that_know_a_goal(cluster, SHORT, &on_errors()).await;
        cluster.set_image("shop", BAD).await;
        pair.until_recorded("planned").await;
        cluster.api::<Lease>().delete(LEASE, &DeleteParams::default()).await.unwrap();
        is_restored(&pair).await;
        is_taken_back_once(cluster, &before).await;
    });
}

#[test]
fn a_lease_that_is_stolen_in_the_middle_is_taken_back_later() {
    on_cluster(Needs::Pods, async |cluster| {
        let before = good_release(cluster).await;
        let pair = Pair::that_know_a_goal(cluster, SHORT, &on_errors()).await;
        cluster.set_image("shop", BAD).await;
        pair.until_recorded("planned").await;
        let thief = json!({ "spec": { "holderIdentity": "thief", "renewTime": "2020-01-01T00:00:00.000000Z" } });
        cluster.api::<Lease>().patch(LEASE, &PatchParams::default(), &Patch::Merge(&thief)).await.unwrap();
        is_restored(&pair).await;
        is_taken_back_once(cluster, &before).await;
    });
}

/// Each with a Lease of its own: nothing but the fence of every write keeps them apart.
#[test]
fn two_that_both_lead_write_once() {
    on_cluster(Needs::Pods, async |cluster| {
        let before = good_release(cluster).await;
        let pair = Pair::start(cluster, [SHORT, "name = \"other\"\nduration = \"4s\""], &on_errors()).await;
        let known = async |number| {
            let view = pair.get(number, "/api/v1/workloads/shop").await;
            view["releases"].as_array().into_iter().flatten().any(|release| !release["known_good_since"].is_null())
        };
        pair.until("sure of a goal, both", async || known(0).await && known(1).await).await;
        cluster.set_image("shop", BAD).await;
        let over = async |number| {
            let view = pair.get(number, "/api/v1/workloads/shop").await;
            let back = view["current"]["image"] == "shop:v1";
            back && view["incident"].is_null() && pair.told().iter().any(|alert| alert.phase == Phase::Restored)
        };
        pair.until("over, for both", async || over(0).await && over(1).await).await;
        is_taken_back_once(cluster, &before).await;
    });
}
