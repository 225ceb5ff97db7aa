//! Sidecars: each knows its own pod, finds the workload that owns it, and of all siblings one acts, with the shipped rights.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use rollbackd::cluster::own::OwnPod;
use rollbackd::cluster::rights;
use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::policy::ObjectKind;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::manifests::{Account, documents};
use super::namespace::{Cluster, LOOK_EVERY, Needs, PATIENCE, on_cluster, template as pods_of};
use super::pair::Pair;
use super::rolling::{on_errors, template};
use super::settings;

/// A ConfigMap that the template names, and the shipped extra as well.
const SETTINGS: &str = "shop-settings";

/// The names of a workload's pods.
async fn pods(cluster: &Cluster, app: &str) -> Vec<String> {
    let labelled = ListParams::default().labels(&format!("app={app}"));
    let pods = cluster.api::<Pod>().list(&labelled).await.unwrap();
    pods.iter().map(ResourceExt::name_any).collect()
}

#[test]
fn of_the_siblings_one_takes_a_bad_release_back() {
    on_cluster(Needs::Pods, async |cluster| {
        let account = Account::of_sidecars(cluster, "shop", &[]).await;
        cluster.deploy("shop", 2, "shop:v1").await;
        let before = cluster.rolled_out("shop").await;
        let pods: [String; 2] = pods(cluster, "shop").await.try_into().expect("two pods");
        let with_account = cluster.with(account.kubeconfig());
        let pair = Pair::of_sidecars(&with_account, pods, "", &on_errors()).await;
        pair.knows_a_goal().await;
        cluster.set_image("shop", "shop:v2-errors40").await;
        let told = pair.told_to_the_end().await;
        let last = told.last().unwrap();
        assert_eq!((last.phase, last.workload.as_str()), (Phase::Restored, "shop"), "{}", last.summary);
        let after = cluster.rolled_out("shop").await;
        assert_eq!(template(&after), template(&before));
        assert_eq!(after.metadata.generation.unwrap() - before.metadata.generation.unwrap(), 2, "taken back once");
        assert!(!pair.log(0).contains("\"missing\":\"rights\""), "{}", pair.log(0));
    });
}

#[test]
fn with_the_shipped_extras_what_the_release_names_is_kept_and_goes_back() {
    on_cluster(Needs::Pods, async |cluster| {
        let account = Account::of_sidecars(cluster, "shop", &["configmaps", "logs"]).await;
        settings::create(cluster, SETTINGS, "rate20").await;
        cluster.create::<Deployment>(settings::shop("shop:v1", SETTINGS)).await;
        let before = cluster.rolled_out("shop").await;
        let pods: [String; 2] = pods(cluster, "shop").await.try_into().expect("two pods");
        let with_account = cluster.with(account.kubeconfig());
        let pair = Pair::of_sidecars(&with_account, pods, "keep = [\"configmaps\", \"logs\"], ", &on_errors()).await;
        pair.knows_a_goal().await;
        let is_kept = async || {
            let state = pair.state().await;
            state.is_some_and(|state| state.ledger.iter().any(|(_, standing)| standing.settings.is_some()))
        };
        pair.until("keeping what the release names", is_kept).await;
        settings::change(cluster, SETTINGS, "errors40").await;
        cluster.set_image("shop", "shop:v2").await;
        let told = pair.told_to_the_end().await;
        assert_eq!(told.last().unwrap().phase, Phase::Restored, "{told:#?}");
        assert_eq!(settings::behaviour(cluster, SETTINGS).await.as_deref(), Some("rate20"));
        assert_eq!(template(&cluster.rolled_out("shop").await), template(&before));
        assert!(!pair.log(0).contains("\"missing\":\"rights\""), "{}", pair.log(0));
    });
}

#[test]
fn of_settings_the_api_server_lets_a_sidecar_write_the_content_alone_and_its_own_record() {
    on_cluster(Needs::Api, async |cluster| {
        let account = Account::of_sidecars(cluster, "shop", &["configmaps"]).await;
        settings::create(cluster, SETTINGS, "rate20").await;
        let maps = Api::<ConfigMap>::namespaced(account.client.clone(), cluster.namespace());
        let write = async |name: &str, patch: Value| {
            let written = maps.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
            written.err().map(|error| error.to_string()).unwrap_or_default()
        };
        let labels = json!({ "metadata": { "labels": { "a": "b" } } });
        // A policy that was just made takes a moment to be in force.
        let deadline = Instant::now() + PATIENCE;
        while !write(SETTINGS, labels.clone()).await.contains("nothing else") {
            assert!(Instant::now() < deadline, "the policy is not in force");
            let clean = json!({ "metadata": { "labels": { "a": null } } });
            let own = cluster.api::<ConfigMap>();
            own.patch(SETTINGS, &PatchParams::default(), &Patch::Merge(clean)).await.unwrap();
            sleep(LOOK_EVERY).await;
        }
        assert_eq!(write(SETTINGS, json!({ "data": { "BEHAVIOUR": "rate40" } })).await, "");
        let told = write("shop-rollbackd-2", labels).await;
        assert!(told.contains("is forbidden"), "what the template does not name: {told}");
        let make = async |metadata: Value| {
            let object = serde_json::from_value(json!({ "metadata": metadata, "data": { "a": "1" } })).unwrap();
            let made = maps.create(&PostParams::default(), &object).await;
            made.err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(make(json!({ "name": "made" })).await, "");
        let told = make(json!({ "name": "labelled", "labels": { "rollbackd-lease": "x" } })).await;
        assert!(told.contains("a name and a content"), "{told}");
        let record = json!({ "name": "rollbackd-shop-x", "labels": { "rollbackd-lease": "rollbackd-shop" } });
        assert_eq!(make(record).await, "");
        let told = make(json!({ "name": "rollbackd-shop-y", "labels": { "app": "x" } })).await;
        assert!(told.contains("its own label"), "{told}");
    });
}

#[test]
fn the_owner_of_a_pod_is_what_has_its_releases() {
    on_cluster(Needs::Pods, async |cluster| {
        let owner = async |pod: &str| {
            let own = OwnPod { namespace: cluster.namespace().to_owned(), name: pod.to_owned() };
            own.owner(cluster.client(), PATIENCE).await
        };
        cluster.deploy("shop", 1, "shop:v1").await;
        cluster.rolled_out("shop").await;
        let pod = pods(cluster, "shop").await.remove(0);
        assert_eq!(owner(&pod).await, Ok((ObjectKind::Deployment, "shop".to_owned())));
        let set = json!({
            "metadata": { "name": "db" },
            "spec": {
                "replicas": 1, "serviceName": "db", "selector": { "matchLabels": { "app": "db" } },
                "template": pods_of("db", "shop:v1"),
            },
        });
        cluster.create::<StatefulSet>(set).await;
        while pods(cluster, "db").await.is_empty() {
            sleep(LOOK_EVERY).await;
        }
        assert_eq!(owner("db-0").await, Ok((ObjectKind::StatefulSet, "db".to_owned())));
        let mut bare = pods_of("bare", "shop:v1");
        bare["metadata"]["name"] = "bare".into();
        let bare = serde_json::from_value(bare).unwrap();
        cluster.api::<Pod>().create(&PostParams::default(), &bare).await.unwrap();
        let told = owner("bare").await.unwrap_err();
        assert_eq!(told, format!("nothing controls the pod bare in {}", cluster.namespace()));
        let account = Account::of_sidecars(cluster, "other", &[]).await;
        let far = OwnPod { namespace: "kube-system".to_owned(), name: "x".to_owned() };
        let told = far.owner(&account.client, PATIENCE).await.unwrap_err();
        let [pods, sets] = rights::to_find_owner().map(|right| right.rule());
        assert!(told.ends_with(&format!("a Role in kube-system with {pods} and {sets} grants it")), "{told}");
    });
}

#[test]
fn the_shipped_sidecar_is_admitted_and_its_token_is_its_own() {
    on_cluster(Needs::Api, async |cluster| {
        let _account = Account::of_sidecars(cluster, "hotswap-api", &[]).await;
        let [deployment] = documents("sidecar/deployment.yaml").try_into().unwrap();
        let pod = &deployment["spec"]["template"];
        let looked = PostParams { dry_run: true, ..PostParams::default() };
        let mut named = pod.clone();
        named["metadata"]["name"] = "hotswap-api".into();
        cluster.api::<Pod>().create(&looked, &serde_json::from_value(named).unwrap()).await.unwrap();
        let mounts = |container: &Value| -> BTreeSet<String> {
            let mounts = container["volumeMounts"].as_array().into_iter().flatten();
            mounts.map(|mount| mount["name"].as_str().unwrap().to_owned()).collect()
        };
        assert!(mounts(&pod["spec"]["initContainers"][0]).contains("token"));
        assert!(!mounts(&pod["spec"]["containers"][0]).contains("token"));
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    });
}
