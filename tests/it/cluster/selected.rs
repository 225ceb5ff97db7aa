//! Workloads that are named by a label: new ones join, those that go leave, and each is taken back by itself.

use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::api::DeleteParams;
use rollbackd::domain::incident::alert::{Alert, Phase};
use rollbackd::domain::time::Timestamp;
use serde_json::json;

use super::manifests::{Account, objects};
use super::namespace::{Cluster, Needs, deployment, on_cluster, template};
use super::rights::{less, set_rules};
use super::rolling::on_errors;
use super::watch::Watch;

/// The selector `shop`, which takes whatever has a label of that name.
const LABEL: &str = "shop";

async fn labelled(cluster: &Cluster, name: &str, image: &str) {
    let mut object = deployment(name, 2, image);
    object["metadata"]["labels"][LABEL] = "yes".into();
    cluster.create::<Deployment>(object).await;
}

async fn until_watched(watch: &mut Watch, expected: &[&str]) {
    let so = async |watch: &Watch| watch.workloads().await == expected;
    watch.until(&format!("watching {expected:?}"), so).await;
}

#[test]
fn what_has_the_label_joins_and_what_loses_it_leaves() {
    on_cluster(Needs::Pods, async |cluster| {
        labelled(cluster, "cart", "shop:v1").await;
        cluster.deploy("stranger", 1, "shop:v1").await;
        let mut watch = Watch::begin(cluster, "selector", &on_errors()).await;
        until_watched(&mut watch, &["shop.cart"]).await;
        let set = json!({
            "metadata": { "name": "cart", "labels": { "shop": "yes" } },
            "spec": {
                "replicas": 1, "serviceName": "cart", "selector": { "matchLabels": { "app": "set" } },
                "template": template("set", "shop:v1"),
            },
        });
        cluster.create::<StatefulSet>(set).await;
        labelled(cluster, "late", "shop:v1").await;
        until_watched(&mut watch, &["shop.cart", "shop.late", "shop.statefulset.cart"]).await;
        cluster.api::<Deployment>().delete("cart", &DeleteParams::default()).await.unwrap();
        until_watched(&mut watch, &["shop.late", "shop.statefulset.cart"]).await;
        cluster.patch("late", &json!({ "metadata": { "labels": { "shop": null } } })).await;
        until_watched(&mut watch, &["shop.statefulset.cart"]).await;
    });
}

#[test]
fn one_that_joined_is_taken_back_by_itself_and_a_daemon_that_dies_meanwhile_knows_it_again() {
    on_cluster(Needs::Pods, async |cluster| {
        labelled(cluster, "cart", "shop:v1").await;
        let mut watch = Watch::begin(cluster, "selector", &on_errors()).await;
        until_watched(&mut watch, &["shop.cart"]).await;
        labelled(cluster, "late", "shop:v1").await;
        let good = cluster.rolled_out("late").await;
        let untouched = cluster.rolled_out("cart").await;
        let knows = async |watch: &Watch| {
            let view = watch.view_of("shop.late").await;
            view["releases"].as_array().into_iter().flatten().any(|release| !release["known_good_since"].is_null())
        };
        watch.until("sure of a goal", knows).await;
        cluster.set_image("late", "shop:v2-errors40").await;
        let started = async |watch: &Watch| watch.alerts().iter().any(|alert| alert.phase == Phase::Started);
        watch.until("taking it back", started).await;
        watch.dies_and_starts_again(cluster).await;
        let alerts = watch.told_to_the_end().await;
        let last = alerts.last().unwrap();
        assert_eq!((last.phase, last.workload.as_str()), (Phase::Restored, "shop.late"), "{}", last.summary);
        let after = cluster.rolled_out("late").await;
        assert_eq!(after.spec, good.spec);
        let cart: Deployment = cluster.api().get("cart").await.unwrap();
        assert_eq!(cart.metadata.generation, untouched.metadata.generation, "the other one was written to");
    });
}

#[test]
fn a_selection_that_cant_be_seen_is_told_as_a_workload_that_cant_be_until_it_can() {
    on_cluster(Needs::Pods, async |cluster| {
        let account = Account::install(cluster, &[]).await;
        let role = objects("namespace").swap_remove(0);
        let list = ("apps".to_owned(), "daemonsets".to_owned(), "list".to_owned());
        set_rules(cluster, &less(&role, &list)).await;
        labelled(cluster, "cart", "shop:v1").await;
        let mut watch = Watch::begin(&cluster.with(account.kubeconfig()), "selector", &on_errors()).await;
        until_watched(&mut watch, &["shop"]).await;
        let why = "daemonsets with shop in ";
        let told = async |watch: &Watch| {
            let is_it = |alert: &Alert| alert.phase == Phase::Held && alert.reason.contains(why);
            watch.alerts().iter().any(is_it)
        };
        watch.until("telling people why", told).await;
        let rule = "resources: [\\\"daemonsets\\\"], verbs: [\\\"list\\\"]";
        let metrics =
            ["rollbackd_blind_workloads 1", "rollbackd_workload_readiness{workload=\"shop\",need=\"rights\"} 0"];
        let named = async |watch: &Watch| {
            let (plan, told) = (watch.ask("/api/v1/workloads/shop/plan").await, watch.ask("/metrics").await);
            plan.contains(rule) && metrics.iter().all(|metric| told.contains(metric))
        };
        watch.until("naming the rule that grants it", named).await;
        assert!(watch.ask("/").await.contains(why), "{}", watch.ask("/").await);
        set_rules(cluster, &role).await;
        until_watched(&mut watch, &["shop.cart"]).await;
        let closed = async |watch: &Watch| watch.alerts().iter().any(|alert| alert.phase == Phase::Closed);
        watch.until("done with it", closed).await;
    });
}

#[test]
fn what_was_kept_of_one_is_known_again_when_it_joins() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("late", 1, "shop:v1").await;
        let mut watch = Watch::begin(cluster, "selector", &on_errors()).await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let earlier = Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap() - 3_600_000);
        let kills = json!([["v1", [[earlier, 1, 0]]]]);
        let memory = serde_json::from_value(json!({ "signals": [], "events": kills })).unwrap();
        watch.dies_and_knows(cluster, "shop.late", memory, earlier).await;
        for (label, watched) in [(json!("yes"), &["shop.late"][..]), (json!(null), &[])] {
            cluster.patch("late", &json!({ "metadata": { "labels": { "shop": label } } })).await;
            until_watched(&mut watch, watched).await;
        }
        let (kept, at) = watch.memory("shop.late").await;
        assert!(at > earlier, "nothing was kept when it left");
        assert_eq!(kept["events"], kills);
    });
}
