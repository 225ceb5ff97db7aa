//! How long a bad release of six pods lives: from its first pod ready to the undo, and until all pods are well.
//!
//! `cargo test --test it cluster::speed -- --test-threads=1 --nocapture` prints the figures, of a machine that does nothing
//! else. What is asserted is that they are of seconds, not of minutes.

use std::io::Write;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::namespace::{Cluster, LOOK_EVERY, Needs, is_ready, is_rolled_out, on_cluster};
use super::stage::MEASURED;
use super::watch::Watch;

const REPLICAS: u32 = 6;
/// How long the good release is looked at before the bad one comes.
const BEFORE: Duration = Duration::from_secs(30);
/// No machine that runs the tests is so slow.
const GENEROUS: Duration = Duration::from_secs(60);

const LOOKS: &str = "scrape = { port = \"http\" }\n[workload.shop.verify]\nstable_for = \"2s\"\n";

/// Puts a release in place of which 40 % of the requests fail, and sees it taken back.
async fn is_fast(cluster: &Cluster, what: &str, min_ready: u32, policy: &str) {
    cluster.deploy("shop", REPLICAS, "shop:v1").await;
    cluster.patch("shop", &json!({ "spec": { "minReadySeconds": min_ready } })).await;
    cluster.rolled_out("shop").await;
    let good = cluster.hash("shop").await;
    let mut watch = Watch::begin_every(cluster, "deployment", ["5s", "15s"], &format!("{LOOKS}{policy}")).await;
    watch.until("sure of a goal", async |watch| watch.knows_a_goal().await).await;
    sleep(BEFORE).await;
    cluster.set_image("shop", "shop:v2-errors40").await;

    let mut ready: Option<Instant> = None;
    let mut undone: Option<Duration> = None;
    let well = loop {
        let pods = cluster.pods("shop").await;
        let is_bad_ready = pods.iter().any(|pod| pod.labels()["pod-template-hash"] != good && is_ready(pod));
        let since =
            if is_bad_ready { *ready.get_or_insert_with(Instant::now) } else { ready.unwrap_or_else(Instant::now) };
        let found: Deployment = cluster.api().get("shop").await.unwrap();
        let image = found.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()?.containers[0].image.clone());
        if ready.is_some() && image.as_deref() == Some("shop:v1") {
            undone.get_or_insert(since.elapsed());
        }
        let only_good = pods.iter().filter(|pod| is_ready(pod)).all(|pod| pod.labels()["pod-template-hash"] == good);
        if undone.is_some() && only_good && is_rolled_out(&found) {
            break since.elapsed();
        }
        assert!(since.elapsed() < GENEROUS, "{what}: {}", watch.log());
        sleep(LOOK_EVERY).await;
    };
    let undone = undone.expect("it was undone");
    let [undone, well] = [undone, well].map(|time| time.as_secs_f64());
    let line = format!("{MEASURED}{what}: undo after {undone:.1} s, all pods well after {well:.1} s\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

#[test]
fn beside_the_release_before() {
    on_cluster(Needs::Pods, async |cluster| {
        let policy = "[[workload.shop.trigger]]\nsignal = \"error_rate\"\nabove = \"10%\"\nfor = \"5m\"\n\
                      [[workload.shop.trigger]]\nname = \"beside\"\nsignal = \"error_rate\"\nworse_than = \"baseline\"\n";
        // Pods that are ready at once would all be replaced within a second, with nothing left to compare with.
        is_fast(cluster, "40 % errors, against the release beside", 10, policy).await;
    });
}

#[test]
fn beyond_a_threshold_for_fifteen_seconds() {
    on_cluster(Needs::Pods, async |cluster| {
        let policy = "[workload.shop.signal.error_rate]\nwindow = \"30s\"\n\
                      [[workload.shop.trigger]]\nsignal = \"error_rate\"\nabove = \"10%\"\nfor = \"15s\"\n";
        is_fast(cluster, "40 % errors, over 10 % for 15 s in a window of 30 s", 0, policy).await;
    });
}
