//! Others write as well: people, scalers. Nothing of theirs is undone, and the human wins.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::incident::record::Event;
use rollbackd::domain::response::plan::Outcome;
use serde_json::json;
use tokio::time::interval;

use super::namespace::{Cluster, Needs, deployment, on_cluster};
use super::rolling::{on_errors, template};
use super::watch::Watch;

/// Bound on how long a scaler is at work.
const MOST_SCALINGS: usize = 300;

const BAD: &str = "shop:v2-errors40";

/// A good release, known to the daemon, whose pods count only after a while: there is time to do something meanwhile.
async fn slow_to_roll_out(cluster: &Cluster) -> (Watch, Deployment) {
    let mut shop = deployment("shop", 2, "shop:v1");
    shop["spec"]["minReadySeconds"] = 3.into();
    cluster.create::<Deployment>(shop).await;
    let before = cluster.rolled_out("shop").await;
    (Watch::over(cluster, &on_errors()).await, before)
}

fn has(watch: &Watch, phase: Phase) -> bool {
    watch.alerts().iter().any(|alert| alert.phase == phase)
}

/// How often a template was given back.
async fn plans(watch: &Watch) -> usize {
    watch.records().await.iter().filter(|record| matches!(record.event, Event::Planned { .. })).count()
}

#[test]
fn a_release_that_somebody_deploys_meanwhile_stays() {
    on_cluster(Needs::Pods, async |cluster| {
        let (mut watch, _) = slow_to_roll_out(cluster).await;
        cluster.set_image("shop", BAD).await;
        watch.until("taking it back", async |watch| has(watch, Phase::Started)).await;
        let third = cluster.set_image("shop", "shop:v3").await;
        let alerts = watch.told_to_the_end().await;
        let last = alerts.last().unwrap();
        assert_eq!(last.phase, Phase::Closed, "{}", last.summary);
        let after = cluster.rolled_out("shop").await;
        assert_eq!(template(&after), template(&third));
        assert_eq!(plans(&watch).await, 1);
    });
}

#[test]
fn a_scaler_at_work_is_left_alone_and_does_not_stand_in_the_way() {
    on_cluster(Needs::Pods, async |cluster| {
        let (mut watch, before) = slow_to_roll_out(cluster).await;
        cluster.set_image("shop", BAD).await;
        let mut tick = interval(Duration::from_millis(200));
        let mut numbers = (2..=3).cycle().take(MOST_SCALINGS);
        let replicas = loop {
            tick.tick().await;
            let replicas = numbers.next().unwrap_or_else(|| panic!("it is never taken back: {:?}", watch.alerts()));
            let found = cluster.patch("shop", &json!({ "spec": { "replicas": replicas } })).await;
            // From here on the number stays: pods that come and go for ever prove nothing.
            if template(&found) == template(&before) {
                break replicas;
            }
        };
        let alerts = watch.told_to_the_end().await;
        let last = alerts.last().unwrap();
        assert_eq!(last.phase, Phase::Restored, "{}", last.summary);
        let after = cluster.rolled_out("shop").await;
        assert_eq!(template(&after), template(&before));
        assert_eq!(after.spec.unwrap().replicas, Some(replicas));
    });
}

/// Sees a fault told to a human, and the Deployment left as it is.
async fn is_left_to_a_human(cluster: &Cluster, watch: &mut Watch, before: &Deployment) {
    let is_left = |phase| matches!(phase, Phase::Held | Phase::Escalated);
    watch.until("held", async |watch| watch.alerts().iter().any(|alert| is_left(alert.phase))).await;
    let after: Deployment = cluster.api().get("shop").await.unwrap();
    assert_eq!(after.spec, before.spec);
    assert_eq!(after.metadata.generation, before.metadata.generation, "nothing was written");
    let records = watch.records().await;
    let written =
        records.iter().any(|record| matches!(record.event, Event::StepFinished { outcome: Outcome::Applied, .. }));
    assert!(!written, "{records:?}");
}

/// The bad release in full, before anything is detected.
async fn bad_and_rolled_out(cluster: &Cluster, watch: &Watch) -> Deployment {
    cluster.set_image("shop", BAD).await;
    let bad = cluster.rolled_out("shop").await;
    assert!(!has(watch, Phase::Detected), "it came too early: {:?}", watch.alerts());
    bad
}

/// A policy under which there is time to do something after a bad release was rolled out.
fn patient() -> String {
    let policy = on_errors();
    let patient = policy.replace("for = \"1s\"", "for = \"10s\"");
    assert_ne!(patient, policy);
    patient
}

#[test]
fn a_first_release_that_is_bad_is_left_to_a_human() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 2, BAD).await;
        let before = cluster.rolled_out("shop").await;
        let mut watch = Watch::begin(cluster, "deployment", &on_errors()).await;
        is_left_to_a_human(cluster, &mut watch, &before).await;
    });
}

#[test]
fn a_paused_deployment_is_left_to_a_human() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 2, "shop:v1").await;
        cluster.rolled_out("shop").await;
        let mut watch = Watch::over(cluster, &patient()).await;
        bad_and_rolled_out(cluster, &watch).await;
        let paused = cluster.patch("shop", &json!({ "spec": { "paused": true } })).await;
        is_left_to_a_human(cluster, &mut watch, &paused).await;
    });
}

#[test]
fn where_no_revision_is_kept_it_is_left_to_a_human() {
    on_cluster(Needs::Pods, async |cluster| {
        let mut shop = deployment("shop", 2, "shop:v1");
        shop["spec"]["revisionHistoryLimit"] = 0.into();
        cluster.create::<Deployment>(shop).await;
        cluster.rolled_out("shop").await;
        let mut watch = Watch::over(cluster, &patient()).await;
        let bad = bad_and_rolled_out(cluster, &watch).await;
        is_left_to_a_human(cluster, &mut watch, &bad).await;
    });
}

#[test]
fn a_daemon_that_is_killed_meanwhile_comes_to_the_same_end() {
    on_cluster(Needs::Pods, async |cluster| {
        let (mut watch, before) = slow_to_roll_out(cluster).await;
        cluster.set_image("shop", BAD).await;
        watch.until("taking it back", async |watch| has(watch, Phase::Started)).await;
        watch.dies_and_starts_again(cluster).await;
        let alerts = watch.told_to_the_end().await;
        let last = alerts.last().unwrap();
        assert_eq!(last.phase, Phase::Restored, "{}", last.summary);
        let after = cluster.rolled_out("shop").await;
        assert_eq!(after.spec, before.spec);
        assert_eq!(plans(&watch).await, 1);
        let written = after.metadata.generation.unwrap() - before.metadata.generation.unwrap();
        assert_eq!(written, 2, "the bad release was deployed, and taken back once");
    });
}
