//! StatefulSets and DaemonSets are taken back like Deployments, from the revisions that their controller keeps.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::core::v1::{Node, Pod, ResourceQuota};
use kube::Resource;
use kube::api::{Patch, PatchParams};
use rollbackd::domain::incident::alert::Phase;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::kubelet::NODE;
use super::manifests::Account;
use super::namespace::{Cluster, Needs, is_ready, on_cluster, template};
use super::rolling::on_errors;
use super::strategies::{ON_UNREADY, all_at};
use super::watch::Watch;

/// Takes back a release of a workload whose controller is done when the status says so, with the rights that are shipped and
/// within the bounds that are.
async fn is_taken_back<K>(cluster: &Cluster, kind: &str, more: &Value, pods: usize, done: impl Fn(&Value) -> bool)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Serialize
        + Debug
        + Send
        + 'static,
{
    let mut spec = json!({ "selector": { "matchLabels": { "app": "shop" } }, "template": template("shop", "shop:v1") });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    cluster.create::<K>(json!({ "metadata": { "name": "shop" }, "spec": spec })).await;
    let is_done = |found: &K| {
        let found = json!(found);
        found["status"]["observedGeneration"] == found["metadata"]["generation"] && done(&found["status"])
    };
    let before = json!(cluster.until::<K>("shop", "rolled out", is_done).await);
    let account = Account::install(cluster, &[]).await;
    let mut watch = Watch::over_kind(&cluster.with(account.kubeconfig()), kind, &on_errors()).await;
    let containers = json!([{ "name": "app", "image": "shop:v2-errors40" }]);
    let patch = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
    cluster.api::<K>().patch("shop", &PatchParams::default(), &Patch::Strategic(&patch)).await.unwrap();
    let alerts = watch.told_to_the_end().await;
    let last = alerts.last().unwrap();
    assert_eq!(last.phase, Phase::Restored, "{}", last.summary);
    let after = json!(cluster.until::<K>("shop", "rolled out", is_done).await);
    assert_eq!(after["spec"], before["spec"]);
    let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    let all_good =
        |found: &[Pod]| found.len() == pods && found.iter().all(|pod| is_ready(pod) && image(pod) == "shop:v1");
    cluster.until_pods("shop", "those of the good release", all_good).await;
}

#[test]
fn a_stateful_set() {
    on_cluster(Needs::Pods, async |cluster| {
        let more = json!({ "serviceName": "shop", "replicas": 2 });
        let done =
            |status: &Value| status["readyReplicas"] == 2 && status["updateRevision"] == status["currentRevision"];
        is_taken_back::<StatefulSet>(cluster, "statefulset", &more, 2, done).await;
    });
}

#[test]
fn a_daemon_set() {
    on_cluster(Needs::Pods, async |cluster| {
        let done = |status: &Value| status["numberAvailable"] == 1 && status["updatedNumberScheduled"] == 1;
        is_taken_back::<DaemonSet>(cluster, "daemonset", &json!({}), 1, done).await;
    });
}

/// Nobody is there of the new release who could be unready, and its controller knows no deadline.
#[test]
fn a_stateful_set_whose_new_pods_are_refused() {
    on_cluster(Needs::Pods, async |cluster| {
        let container = json!({ "name": "app", "image": "shop:v2", "resources": { "requests": { "cpu": "500m" } } });
        let mut good = template("shop", "shop:v1");
        good["spec"]["containers"][0]["resources"] = json!({ "requests": { "cpu": "10m" } });
        let set = json!({
            "metadata": { "name": "shop" },
            "spec": {
                "replicas": 2, "serviceName": "shop", "selector": { "matchLabels": { "app": "shop" } }, "template": good,
            },
        });
        cluster.create::<StatefulSet>(set).await;
        cluster.until_pods("shop", "ready", all_at("shop:v1", 2)).await;
        let room = json!({ "metadata": { "name": "room" }, "spec": { "hard": { "requests.cpu": "100m" } } });
        cluster.create::<ResourceQuota>(room).await;
        let account = Account::install(cluster, &[]).await;
        let mut watch = Watch::over_kind(&cluster.with(account.kubeconfig()), "statefulset", ON_UNREADY).await;
        let greedy = json!({ "spec": { "template": { "spec": { "containers": [container] } } } });
        let api = cluster.api::<StatefulSet>();
        api.patch("shop", &PatchParams::default(), &Patch::Strategic(&greedy)).await.unwrap();
        let alerts = watch.told_to_the_end().await;
        assert_eq!(alerts.last().unwrap().phase, Phase::Restored, "{}", alerts.last().unwrap().summary);
        let detected = &alerts.iter().find(|alert| alert.phase == Phase::Detected).unwrap().trigger;
        assert_eq!(detected.name.as_str(), "unavailable");
        cluster.until_pods("shop", "those of the good release", all_at("shop:v1", 2)).await;
    });
}

/// The node has room for one pod less by the time that the release is taken back: nothing of that is the goal's fault.
#[test]
fn a_stateful_set_whose_node_has_no_room_for_the_goal_any_more() {
    on_cluster(Needs::Pods, async |cluster| {
        let place = format!("example.com/{}", cluster.namespace());
        let has_places = async |count: &str| {
            let places = json!({ place.clone(): count });
            let status = Patch::Merge(json!({ "status": { "capacity": places, "allocatable": places } }));
            cluster.everywhere::<Node>().patch_status(NODE, &PatchParams::default(), &status).await.unwrap();
        };
        has_places("2").await;
        let mut good = template("shop", "shop:v1");
        good["spec"]["containers"][0]["resources"] = json!({ "limits": { place.clone(): "1" } });
        let set = json!({
            "metadata": { "name": "shop" },
            "spec": {
                "replicas": 2, "minReadySeconds": 5, "serviceName": "shop",
                "selector": { "matchLabels": { "app": "shop" } }, "template": good,
            },
        });
        cluster.create::<StatefulSet>(set).await;
        cluster.until_pods("shop", "ready", all_at("shop:v1", 2)).await;
        let policy = format!("deadline = \"20s\"\n{}", on_errors());
        let mut watch = Watch::over_kind(cluster, "statefulset", &policy).await;
        let container = json!({ "name": "app", "image": "shop:v2-errors40" });
        let bad = json!({ "spec": { "template": { "spec": { "containers": [container] } } } });
        let api = cluster.api::<StatefulSet>();
        api.patch("shop", &PatchParams::default(), &Patch::Strategic(&bad)).await.unwrap();
        let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        let one_is_bad = |pods: &[Pod]| pods.iter().any(|pod| image(pod) == "shop:v2-errors40" && is_ready(pod));
        cluster.until_pods("shop", "on their way to v2", one_is_bad).await;
        has_places("1").await;
        let is_told = |watch: &Watch, phase| watch.alerts().iter().any(|alert| alert.phase == phase);
        watch.until("short of room", async |watch| is_told(watch, Phase::Failed)).await;
        watch.until("left to a human", async |watch| is_told(watch, Phase::Escalated)).await;
        let alerts = watch.alerts();
        let page = &alerts.iter().find(|alert| alert.phase == Phase::Escalated).unwrap().reason;
        assert!(page.contains("1 find no room: no node takes them up"), "{page}");
        let view = watch.view().await;
        let releases = view["releases"].as_array().cloned().unwrap_or_default();
        assert!(releases.iter().all(|release| release["failed_as_goal"].is_null()), "{view:#}");
        has_places("2").await;
        cluster.until_pods("shop", "those of the good release", all_at("shop:v1", 2)).await;
    });
}

/// More pods than there is room for are nobody's release, also where a start finds them missing.
#[test]
fn what_is_asked_for_after_a_release_arrived_is_not_put_down_to_it() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 2, "shop:v1").await;
        cluster.rolled_out("shop").await;
        let mut watch = Watch::over(cluster, ON_UNREADY).await;
        cluster.set_image("shop", "shop:v2").await;
        cluster.rolled_out("shop").await;
        let all_are_good = async |watch: &Watch| {
            let view: Value = serde_json::from_str(&watch.ask("/api/v1/workloads/shop").await).unwrap_or_default();
            let releases = view["releases"].as_array().cloned().unwrap_or_default();
            releases.len() == 2 && releases.iter().all(|release| !release["known_good_since"].is_null())
        };
        watch.until("sure of both", all_are_good).await;
        let room = json!({ "metadata": { "name": "room" }, "spec": { "hard": { "pods": "2" } } });
        cluster.create::<ResourceQuota>(room).await;
        cluster.patch("shop", &json!({ "spec": { "replicas": 8 } })).await;
        watch.dies_and_starts_again(cluster).await;
        let all_are_well = async |watch: &Watch| {
            let view: Value = serde_json::from_str(&watch.ask("/api/v1/workloads/shop").await).unwrap_or_default();
            let signals = view["assessment"]["signals"].as_array().cloned().unwrap_or_default();
            let unavailable = signals.into_iter().find(|signal| signal["signal"] == "unavailable");
            unavailable.is_some_and(|signal| signal["value"] == 0.0 && signal["samples"] == 2)
        };
        watch.until("judged by what is there", all_are_well).await;
        let told: Vec<Phase> = watch.alerts().iter().map(|alert| alert.phase).collect();
        assert!(!told.contains(&Phase::Detected), "{told:?}");
    });
}
