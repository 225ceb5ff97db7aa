//! What is kept of a bad release before anything is touched, and where people find it.

use k8s_openapi::api::apps::v1::Deployment;
use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::incident::record::{Event, Record};
use rollbackd::domain::incident::recording::Recording;
use serde_json::{Value, json};

use super::manifests::Account;
use super::namespace::{Cluster, Needs, deployment, on_cluster};
use super::watch::Watch;

/// No look into any pod.
const BARE: &str = "[workload.shop.verify]\nstable_for = \"2s\"\n";
/// Said before it is said which workload it is.
const WITH_LOGS: &str = "keep = [\"logs\"], deployment";
const PASSWORD: &str = "hunter2hunter2";

/// A Deployment with a secret in its environment, as people should not write it.
fn shop(image: &str, password: &str) -> Value {
    let mut shop = deployment("shop", 2, image);
    shop["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{ "name": "DB_PASSWORD", "value": password }]);
    shop
}

/// Has a bad release taken back: the recording, its place among the records' events, and the incident's report.
async fn taken_back(cluster: &Cluster, with: &Cluster, kind: &str, bad: &str, more: &str) -> (Recording, String) {
    cluster.create::<Deployment>(shop("shop:v1", "first-secret")).await;
    cluster.rolled_out("shop").await;
    let mut watch = Watch::over_kind(with, kind, &format!("{BARE}{more}")).await;
    cluster
        .patch("shop", &json!({ "spec": { "template": { "spec": shop(bad, PASSWORD)["spec"]["template"]["spec"] } } }))
        .await;
    let alerts = watch.told_to_the_end().await;
    assert_eq!(alerts.last().unwrap().phase, Phase::Restored, "{alerts:#?}");
    let records = watch.records().await;
    let position = |name: &str| records.iter().position(|record| record.event.name() == name).unwrap();
    assert!(position("recorded") < position("step-started"), "it is kept before anything is touched");
    let recording = records.iter().find_map(|Record { event, .. }| match event {
        Event::Recorded { recording } => Some((**recording).clone()),
        _ => None,
    });
    let incident = alerts[0].incident.to_string();
    let report = async |format: &str| watch.ask(&format!("/api/v1/incidents/{incident}/report?format={format}")).await;
    let (markdown, html) = (report("md").await, report("html").await);
    for text in [&markdown, &html] {
        assert!(text.contains("What was kept before anything was touched"), "{text}");
        assert!(!text.contains(PASSWORD) && !text.contains("first-secret"), "{text}");
    }
    let line = "| containers.app.env.DB_PASSWORD.value | (not shown) | (not shown) |";
    assert!(markdown.contains(line), "{markdown}");
    (recording.unwrap(), markdown)
}

#[test]
fn of_a_crash_loop_the_last_words_are_kept_with_what_the_release_changed() {
    on_cluster(Needs::Pods, async |cluster| {
        let account = Account::install(cluster, &["logs"]).await;
        let with = cluster.with(account.kubeconfig());
        let (recording, report) = taken_back(cluster, &with, WITH_LOGS, "shop:v2-crash", "").await;
        assert_eq!(recording.missing, [""; 0]);
        let [log] = &recording.logs[..] else { panic!("{recording:#?}") };
        assert!(log.is_previous && log.lines.iter().any(|line| line.contains("shop:v2-crash listens on")), "{log:?}");
        let containers: Vec<_> = recording.pods.iter().flat_map(|pod| &pod.containers).collect();
        assert!(containers.iter().any(|container| container.restarts > 0), "{containers:#?}");
        let ended = |end: &Option<String>| end.as_ref().is_some_and(|end| end.starts_with("Error, exit code 1"));
        assert!(containers.iter().any(|container| ended(&container.last_end)), "{containers:#?}");
        assert!(recording.events.iter().any(|event| event.reason == "SuccessfulCreate"), "{:#?}", recording.events);
        for part in ["| containers.app.image | shop:v2-crash | shop:v1 |", "shop:v2-crash listens on", "exit code 1"] {
            assert!(report.contains(part), "{part}: {report}");
        }
    });
}

#[test]
fn of_an_image_that_is_missing_it_is_kept_what_the_pods_wait_for() {
    on_cluster(Needs::Pods, async |cluster| {
        let trigger = "[[workload.shop.trigger]]\nsignal = \"image_pull_failures\"\nabove = 0\nfor = \"1s\"\n";
        let (recording, report) = taken_back(cluster, cluster, "deployment", "shop:v2-missing", trigger).await;
        assert!(recording.logs.is_empty() && recording.missing.is_empty(), "{recording:#?}");
        for part in
            ["Back-off pulling image", "| containers.app.image | shop:v2-missing | shop:v1 |", "ScalingReplicaSet"]
        {
            assert!(report.contains(part), "{part}: {report}");
        }
    });
}

#[test]
fn what_may_not_be_read_is_said_and_holds_nothing_up() {
    on_cluster(Needs::Pods, async |cluster| {
        let account = Account::install(cluster, &[]).await;
        let with = cluster.with(account.kubeconfig());
        let (recording, report) = taken_back(cluster, &with, WITH_LOGS, "shop:v2-crash", "").await;
        let rule = "apiGroups: [\"\"], resources: [\"pods/log\"], verbs: [\"get\"]";
        let [missing] = &recording.missing[..] else { panic!("{recording:#?}") };
        assert!(missing.contains("the log of app in ") && missing.contains(rule), "{missing}");
        assert!(report.contains("Not kept:"), "{report}");
        assert!(!recording.changes.is_empty() && !recording.events.is_empty(), "{recording:#?}");
    });
}
