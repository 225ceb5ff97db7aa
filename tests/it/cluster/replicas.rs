//! Two replicas: whatever happens to the one that leads, the other goes on to the same end, nothing is done twice, and
//! nobody is told anything twice in different words.

use std::io::Write;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams};
use rollbackd::cluster::record_names::record_name;
use rollbackd::domain::incident::alert::{Alert, Phase};
use rollbackd::domain::incident::record::{Event, Record};
use rollbackd::domain::incident::state::WorkloadState;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::namespace::{Cluster, Needs, deployment, on_cluster};
use super::pair::{LEASE, Pair};
use super::proxy::{Ask, Fault, Proxy};
use super::rolling::{on_errors, template};
use super::stage::MEASURED;

const BAD: &str = "shop:v2-errors40";

/// A ConfigMap that releases name.
const MAP: &str = "shop-config";

/// Long enough for a busy machine to renew it.
const SHORT: &str = "duration = \"4s\"";

/// As it is by default.
const USUAL: &str = "";

/// Within which the other one goes on where the leader is killed,
const AFTER_KILL: Duration = Duration::from_secs(20);
/// and where it is told to stop. Three seconds are promised, and one and a half are usual; tests share their machine with
/// others. One that did not give the lease back would be waited for until it has run out: for ten seconds at least.
const AFTER_STOP: Duration = Duration::from_secs(5);

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
    assert_eq!(plans(records), 1, "{records:?}");
}

fn plans(records: &[Record]) -> usize {
    records.iter().filter(|record| matches!(record.event, Event::Planned { .. })).count()
}

async fn is_restored(pair: &Pair<'_>) {
    let told = pair.told_to_the_end().await;
    let last = told.last().unwrap();
    assert_eq!(last.phase, Phase::Restored, "{}", last.summary);
}

/// Waits until the other one goes on from what is on record, which takes no longer than is promised.
async fn goes_on_within(pair: &Pair<'_>, leader: usize, what: &str, limit: Duration) -> usize {
    let since = Instant::now();
    let other = pair.until_another_leads(leader).await;
    pair.until("leading", async || pair.log(other).contains("this replica leads")).await;
    let taken = since.elapsed();
    let line = format!("{MEASURED}{what}: the other replica goes on after {:.1} s\n", taken.as_secs_f64());
    std::io::stdout().write_all(line.as_bytes()).unwrap();
    assert!(taken < limit, "{what}: {taken:?}");
    other
}

/// The leader is killed once an event is on record; the other one comes to the same end.
fn killed_at(event: &'static str) -> impl AsyncFnOnce(&Cluster) {
    async move |cluster| {
        let before = good_release(cluster).await;
        let mut pair = Pair::that_know_a_goal(cluster, USUAL, &on_errors()).await;
        let leader = pair.leader().await.expect("one leads");
        cluster.set_image("shop", BAD).await;
        pair.until_recorded(event).await;
        pair.signal(leader, Signal::KILL);
        let other = goes_on_within(&pair, leader, &format!("killed at {event}"), AFTER_KILL).await;
        pair.ends(leader).await;
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

#[test]
fn the_leader_is_killed_while_nothing_happens() {
    on_cluster(Needs::Pods, async |cluster| {
        good_release(cluster).await;
        let pair = Pair::that_know_a_goal(cluster, USUAL, &on_errors()).await;
        let leader = pair.leader().await.expect("one leads");
        pair.signal(leader, Signal::KILL);
        goes_on_within(&pair, leader, "killed at rest", AFTER_KILL).await;
    });
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over_in_the_middle() {
    on_cluster(Needs::Pods, async |cluster| {
        let before = good_release(cluster).await;
        let mut pair = Pair::that_know_a_goal(cluster, USUAL, &on_errors()).await;
        let leader = pair.leader().await.expect("one leads");
        cluster.set_image("shop", BAD).await;
        pair.until_recorded("step-started").await;
        pair.signal(leader, Signal::TERM);
        let other = goes_on_within(&pair, leader, "told to stop at step-started", AFTER_STOP).await;
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

/// Whoever leads does nothing for the one, and what is to be done for the other, until a human has put it right.
#[test]
fn a_record_that_can_not_be_read_holds_its_own_workload_whoever_leads() {
    on_cluster(Needs::Pods, async |cluster| {
        let before = good_release(cluster).await;
        cluster.deploy("other", 2, "shop:v1").await;
        cluster.rolled_out("other").await;
        let place = format!("kubernetes = {{ namespace = \"{}\", deployment = \"other\" }}", cluster.namespace());
        let paces = "interval = \"500ms\"\nknown_good_after = \"2s\"\nnotify = [\"test\"]";
        let other = on_errors().replace("workload.shop", "workload.other");
        let more = format!("{}\n[workload.other]\n{place}\n{paces}\n{other}", on_errors());
        let mut pair = Pair::that_know_a_goal(cluster, SHORT, &more).await;
        let view = async |pair: &Pair<'_>, workload: &str| match pair.leader().await {
            Some(leader) => pair.get(leader, &format!("/api/v1/workloads/{workload}")).await,
            None => json!(null),
        };
        let known_good = |view: &Value| {
            view["releases"].as_array().into_iter().flatten().any(|release| !release["known_good_since"].is_null())
        };
        pair.until("sure of another goal", async || known_good(&view(&pair, "other").await)).await;

        let name = record_name(LEASE, &"shop".into());
        let record = cluster.api::<ConfigMap>();
        let patch = async |state: &str| {
            let patch = Patch::Merge(json!({ "data": { "state": state } }));
            record.patch(&name, &PatchParams::default(), &patch).await.unwrap();
        };
        let as_it_was = record.get(&name).await.unwrap().data.unwrap()["state"].clone();
        patch("{").await;
        cluster.set_image("shop", BAD).await;
        let is_held = async |pair: &Pair<'_>| {
            let reason = view(pair, "shop").await["standstill"]["reason"].clone();
            reason.as_str().is_some_and(|reason| reason.contains(&name))
        };
        pair.until("held", async || is_held(&pair).await).await;
        pair.until("told", async || is_told(&pair, Phase::Held)).await;
        let leader = pair.leader().await.expect("one leads");
        pair.signal(leader, Signal::KILL);
        pair.ends(leader).await;
        pair.until_another_leads(leader).await;
        pair.until("held again", async || is_held(&pair).await).await;
        cluster.set_image("other", BAD).await;
        is_restored(&pair).await;
        let left: Deployment = cluster.api().get("shop").await.unwrap();
        assert_ne!(template(&left), template(&before));
        assert!(is_held(&pair).await && is_told(&pair, Phase::Held));
        patch(&as_it_was).await;
        // It has its goal from the record. Of two workloads one may be taken back within the hour.
        let is_judged = |alert: &Alert| {
            let detected = alert.phase == Phase::Detected && alert.workload.as_str() == "shop";
            detected && alert.to.is_some()
        };
        pair.until("judged", async || pair.told().iter().any(is_judged)).await;
        pair.until("told that it is over", async || is_told(&pair, Phase::Closed)).await;
    });
}

/// Whether this is the last that was told of a record that can't be read.
fn is_told(pair: &Pair<'_>, phase: Phase) -> bool {
    let told = pair.told();
    told.iter()
        .rfind(|alert| alert.incident.as_str() == "rollbackd-records-shop")
        .is_some_and(|last| last.phase == phase)
}

/// Killed while it puts a ConfigMap back: before the API server has the write, or after.
async fn is_killed_while_it_puts_a_map_back(cluster: &Cluster, is_done: bool) {
    let map = |behaviour: &str| json!({ "metadata": { "name": MAP }, "data": { "BEHAVIOUR": behaviour } });
    let behaviour = async || {
        let map: ConfigMap = cluster.api().get(MAP).await.unwrap();
        map.data.unwrap()["BEHAVIOUR"].clone()
    };
    cluster.create::<ConfigMap>(map("rate20")).await;
    let mut shop = deployment("shop", 2, "shop:v1");
    shop["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{ "configMapRef": { "name": MAP } }]);
    cluster.create::<Deployment>(shop).await;
    let before = cluster.rolled_out("shop").await;
    let proxy = Proxy::before(cluster.client()).await;
    let behind = cluster.with(proxy.path().to_owned());
    let mut pair = Pair::that_keep_maps(&behind, &on_errors()).await;
    let leader = pair.leader().await.expect("one leads");
    proxy.next(Ask::Write, "configmaps/shop-config", [Fault::NoAnswer { is_done }]);
    cluster.api::<ConfigMap>().patch(MAP, &PatchParams::default(), &Patch::Merge(map("errors40"))).await.unwrap();
    cluster.set_image("shop", "shop:v2").await;
    let is_written = async || proxy.is_through() && (behaviour().await == "rate20") == is_done;
    pair.until("putting the map back", is_written).await;
    pair.signal(leader, Signal::KILL);
    pair.ends(leader).await;
    let other = pair.until_another_leads(leader).await;
    is_restored(&pair).await;
    is_taken_back_once(cluster, &before).await;
    assert_eq!(behaviour().await, "rate20");
    assert!(pair.state().await.expect("it is on record").incident.is_none());
    assert_eq!(plans(&pair.records(other).await), 1);
}

#[test]
fn the_leader_is_killed_before_a_map_is_put_back() {
    on_cluster(Needs::Pods, async |cluster| is_killed_while_it_puts_a_map_back(cluster, false).await);
}

#[test]
fn the_leader_is_killed_after_a_map_was_put_back_and_before_it_knows() {
    on_cluster(Needs::Pods, async |cluster| is_killed_while_it_puts_a_map_back(cluster, true).await);
}
