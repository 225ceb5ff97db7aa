//! Whether a workload could be rolled back is told while all is well: by `plan`, by a metric and in the log.

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::manifests::Account;
use super::namespace::{Cluster, LOOK_EVERY, Needs, PATIENCE, deployment, is_ready, on_cluster, template};
use super::rolling::on_errors;
use super::watch::Watch;

/// What `plan` answers, need by need.
async fn readiness(watch: &Watch) -> Vec<String> {
    let plan: Value = serde_json::from_str(&watch.ask("/api/v1/workloads/shop/plan").await).unwrap_or_default();
    let needs = plan["readiness"].as_array().cloned().unwrap_or_default();
    let line = |need: &Value| format!("{}={}", need["need"].as_str().unwrap(), need["is"].as_str().unwrap());
    needs.iter().map(line).collect()
}

#[test]
fn what_a_rollback_needs_is_told_while_all_is_well() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 3, "shop:v1").await;
        cluster.rolled_out("shop").await;
        let mut watch = Watch::over(cluster, &on_errors()).await;
        cluster.set_image("shop", "shop:v2").await;
        cluster.rolled_out("shop").await;
        let all =
            ["known-good=yes", "kept=yes", "settings=yes", "rights=yes", "rehearsal=yes", "quota=yes", "owner=yes"];
        watch.until("ready for a rollback", async |watch| readiness(watch).await == all).await;
        // No pod may go before another has come, and there is no room for one more.
        let quota = json!({ "metadata": { "name": "tight" }, "spec": { "hard": { "pods": "3" } } });
        cluster.create::<ResourceQuota>(quota).await;
        let tight = async |watch: &Watch| {
            let plan = watch.ask("/api/v1/workloads/shop/plan").await;
            plan.contains("quota tight leaves 0 of pods, and the first pod of the goal takes 1")
        };
        watch.until("short of room", tight).await;
        let metric = "rollbackd_workload_readiness{workload=\"shop\",need=\"rights\"} 1";
        watch.until("told as a metric", async |watch| watch.ask("/metrics").await.contains(metric)).await;
    });
}

/// It was deployed once, so there is nothing to go back to.
#[test]
fn what_would_refuse_a_rollback_is_told_before_there_is_a_goal() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 3, "shop:v1").await;
        cluster.rolled_out("shop").await;
        // No pod may go before another has come, and there is no room for one more.
        let quota = json!({ "metadata": { "name": "tight" }, "spec": { "hard": { "pods": "3" } } });
        cluster.create::<ResourceQuota>(quota).await;
        refuse_images_of_others(cluster).await;
        let mut watch = Watch::begin(cluster, "deployment", &on_errors()).await;
        let none = [
            "known-good=no",
            "kept=unknown",
            "settings=unknown",
            "rights=yes",
            "rehearsal=no",
            "quota=no",
            "owner=yes",
        ];
        watch.until("told", async |watch| readiness(watch).await == none).await;
        let plan = watch.view_of("shop/plan").await;
        let why = |need: &str| {
            let needs = plan["readiness"].as_array().into_iter().flatten();
            needs.filter(|one| one["need"] == need).map(|one| one["why"].to_string()).collect::<String>()
        };
        assert!(why("rehearsal").contains("images of example.com only"), "{plan:#}");
        assert!(why("quota").contains("quota tight leaves 0 of pods, and a rollout of what is in place takes 1"));
        assert!(plan["plan"].is_null() && plan["findings"] == json!([]), "{plan:#}");
        let is_warned = async |watch: &Watch| {
            let log = watch.log();
            let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let is_told = |need: &str| {
                lines
                    .iter()
                    .any(|line| line["level"] == "WARN" && line["missing"] == need && line["workload"] == "shop")
            };
            is_told("rehearsal") && is_told("quota")
        };
        watch.until("warning of both", is_warned).await;
        for need in ["rehearsal", "quota"] {
            let metric = format!("rollbackd_workload_readiness{{workload=\"shop\",need=\"{need}\"}} 0");
            assert!(watch.ask("/metrics").await.contains(&metric), "{need}");
        }
        refuse_no_images(cluster).await;
        let room = Patch::Merge(json!({ "spec": { "hard": { "pods": "4" } } }));
        cluster.api::<ResourceQuota>().patch("tight", &PatchParams::default(), &room).await.unwrap();
        let is_free = async |watch: &Watch| {
            let needs = readiness(watch).await;
            ["rehearsal=yes", "quota=yes"].iter().all(|need| needs.contains(&(*need).to_owned()))
        };
        watch.until("free to go", is_free).await;
        let deployed = cluster.rolled_out("shop").await;
        assert_eq!(deployed.metadata.generation, Some(1), "it was only tried");
    });
}

/// From here on no Deployment of the test may be written to that has an image of somebody else's.
async fn refuse_images_of_others(cluster: &Cluster) {
    let name = cluster.namespace();
    let here = json!({ "matchLabels": { "kubernetes.io/metadata.name": name } });
    let deployments = json!({
        "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"],
    });
    let expression = "object.spec.template.spec.containers.all(one, one.image.startsWith('example.com/'))";
    let policy = json!({
        "metadata": { "name": name },
        "spec": {
            "matchConstraints": { "namespaceSelector": here, "resourceRules": [deployments] },
            "validations": [{ "expression": expression, "message": "images of example.com only" }],
        },
    });
    let binding = json!({
        "metadata": { "name": name },
        "spec": {
            "policyName": name, "validationActions": ["Deny"], "matchResources": { "namespaceSelector": here },
        },
    });
    let params = PostParams::default();
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(policy).unwrap();
    cluster.everywhere().create(&params, &policy).await.unwrap();
    let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(binding).unwrap();
    cluster.everywhere().create(&params, &binding).await.unwrap();
    until_written(cluster, false).await;
}

async fn refuse_no_images(cluster: &Cluster) {
    let (params, name) = (DeleteParams::default(), cluster.namespace());
    cluster.everywhere::<ValidatingAdmissionPolicyBinding>().delete(name, &params).await.unwrap();
    cluster.everywhere::<ValidatingAdmissionPolicy>().delete(name, &params).await.unwrap();
    until_written(cluster, true).await;
}

/// It takes the API server a moment to take a policy up.
async fn until_written(cluster: &Cluster, is_written: bool) {
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "probe": "a" } } }));
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let deadline = Instant::now() + PATIENCE;
    while cluster.api::<Deployment>().patch("shop", &dry, &patch).await.is_ok() != is_written {
        assert!(Instant::now() < deadline, "the policy is not taken up");
        sleep(LOOK_EVERY).await;
    }
}

/// Six are asked for and five find room: of those none may go, and none may come.
#[test]
fn a_rollback_that_could_never_move_is_told_of_until_there_is_room() {
    on_cluster(Needs::Pods, async |cluster| {
        let quota = json!({ "metadata": { "name": "tight" }, "spec": { "hard": { "pods": "5" } } });
        cluster.create::<ResourceQuota>(quota).await;
        cluster.deploy("shop", 4, "shop:v1").await;
        cluster.rolled_out("shop").await;
        let mut watch = Watch::over(cluster, &on_errors()).await;
        cluster.set_image("shop", "shop:v2").await;
        cluster.rolled_out("shop").await;
        cluster.patch("shop", &json!({ "spec": { "replicas": 6 } })).await;
        let lack = "quota tight leaves 0 of pods, and the first pod of the goal takes 1";
        let found = async |watch: &Watch| {
            let plan = watch.view_of("shop/plan").await;
            let found = plan["findings"].as_array().cloned().unwrap_or_default();
            (!plan["plan"].is_null()).then(|| found.iter().map(|one| one["problem"].to_string()).collect::<String>())
        };
        let is_told = async |watch: &Watch| found(watch).await.is_some_and(|found| found.contains(lack));
        watch.until("told", is_told).await;
        let room = Patch::Merge(json!({ "spec": { "hard": { "pods": "8" } } }));
        cluster.api::<ResourceQuota>().patch("tight", &PatchParams::default(), &room).await.unwrap();
        watch.until("free to go", async |watch| found(watch).await.is_some_and(|found| found.is_empty())).await;
    });
}

/// None of its pods is in the way while all is well.
#[test]
fn that_stuck_pods_may_not_be_deleted_is_told_while_all_is_well() {
    on_cluster(Needs::Pods, async |cluster| {
        let set = json!({
            "metadata": { "name": "shop" },
            "spec": {
                "replicas": 1, "serviceName": "shop", "selector": { "matchLabels": { "app": "shop" } },
                "template": template("shop", "shop:v1"),
            },
        });
        cluster.create::<StatefulSet>(set).await;
        cluster.until_pods("shop", "ready", |pods| pods.len() == 1 && pods.iter().all(is_ready)).await;
        let account = Account::install(cluster, &[]).await;
        let mut watch = Watch::over_kind(&cluster.with(account.kubeconfig()), "statefulset", &on_errors()).await;
        let container = json!({ "name": "app", "image": "shop:v2" });
        let patch = json!({ "spec": { "template": { "spec": { "containers": [container] } } } });
        let sets = cluster.api::<StatefulSet>();
        sets.patch("shop", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
        let is_told = async |watch: &Watch| {
            let plan = watch.ask("/api/v1/workloads/shop/plan").await;
            plan.contains("may not delete pods in ") && readiness(watch).await.contains(&"rights=no".to_owned())
        };
        watch.until("told of the right", is_told).await;
    });
}

/// The release before the partition is at every pod.
#[test]
fn what_a_partition_keeps_from_going_back_is_told_while_all_is_well() {
    on_cluster(Needs::Pods, async |cluster| {
        let set = json!({
            "metadata": { "name": "shop" },
            "spec": {
                "replicas": 2, "serviceName": "shop", "selector": { "matchLabels": { "app": "shop" } },
                "template": template("shop", "shop:v1"),
            },
        });
        cluster.create::<StatefulSet>(set).await;
        cluster.until_pods("shop", "ready", |pods| pods.len() == 2 && pods.iter().all(is_ready)).await;
        let mut watch = Watch::over_kind(cluster, "statefulset", &on_errors()).await;
        let container = json!({ "name": "app", "image": "shop:v2" });
        let patch = json!({ "spec": { "template": { "spec": { "containers": [container] } } } });
        let sets = cluster.api::<StatefulSet>();
        sets.patch("shop", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
        let is_ready_to = async |watch: &Watch| readiness(watch).await.contains(&"rehearsal=yes".to_owned());
        watch.until("ready for a rollback", is_ready_to).await;
        cluster
            .until_pods("shop", "at v2", |pods| pods.len() == 2 && pods.iter().all(|pod| is_at(pod, "shop:v2")))
            .await;
        let strategy = json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 1 } });
        let staged = Patch::Merge(json!({ "spec": { "updateStrategy": strategy } }));
        sets.patch("shop", &PatchParams::default(), &staged).await.unwrap();
        let is_told = async |watch: &Watch| {
            let plan = watch.ask("/api/v1/workloads/shop/plan").await;
            plan.contains("its partition 1 keeps shop-0 at ")
                && readiness(watch).await.contains(&"rehearsal=no".to_owned())
        };
        watch.until("told of the partition", is_told).await;
    });
}

fn is_at(pod: &Pod, image: &str) -> bool {
    is_ready(pod) && pod.spec.as_ref().is_some_and(|spec| spec.containers[0].image.as_deref() == Some(image))
}

#[test]
fn a_workload_that_keeps_no_history_is_warned_of_as_soon_as_it_is_seen() {
    on_cluster(Needs::Pods, async |cluster| {
        let mut shop = deployment("shop", 1, "shop:v1");
        shop["spec"]["revisionHistoryLimit"] = 0.into();
        cluster.create::<Deployment>(shop).await;
        cluster.rolled_out("shop").await;
        let mut watch = Watch::begin(cluster, "deployment", &on_errors()).await;
        let is_warned = async |watch: &Watch| {
            let log = watch.log();
            let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.any(|line| line["level"] == "WARN" && line["missing"] == "kept" && line["workload"] == "shop")
        };
        watch.until("warning of it", is_warned).await;
        let metric = "rollbackd_workload_readiness{workload=\"shop\",need=\"kept\"} 0";
        assert!(watch.ask("/metrics").await.contains(metric));
    });
}
