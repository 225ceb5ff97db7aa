//! Strategies beside rolling, and what stands in a rollback's way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use rollbackd::act::Hands;
use rollbackd::domain::incident::alert::{Alert, Phase};
use rollbackd::domain::incident::record::{Event, Record};
use rollbackd::domain::policy::{ClusterObject, ObjectKind, Pin};
use rollbackd::domain::response::plan::{Outcome, StepKind};
use rollbackd::domain::time::Span;
use rollbackd::engine::ports::Actuator;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::manifests::{Account, objects};
use super::namespace::{Cluster, LOOK_EVERY, Needs, PATIENCE, deployment, is_ready, on_cluster, template};
use super::rights::set_rules;
use super::rolling::on_errors;
use super::settings;
use super::watch::Watch;

/// What is not ready is bad soon.
pub(super) const ON_UNREADY: &str = "[workload.shop.verify]\nstable_for = \"2s\"\n\
    [[workload.shop.trigger]]\nsignal = \"unavailable\"\nabove = \"50%\"\nfor = \"3s\"\n";

pub(super) fn image(pod: &Pod) -> String {
    pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap_or_default()
}

pub(super) fn all_at<'a>(image_of_all: &'a str, count: usize) -> impl Fn(&[Pod]) -> bool + 'a {
    move |pods| pods.len() == count && pods.iter().all(|pod| image(pod) == image_of_all && is_ready(pod))
}

pub(super) fn of(alerts: &[Alert], phase: Phase) -> &Alert {
    alerts.iter().find(|alert| alert.phase == phase).unwrap_or_else(|| panic!("{phase} is not told: {alerts:#?}"))
}

#[test]
fn a_paused_deployment_is_left_alone_and_the_reason_is_told() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 1, "shop:v1").await;
        cluster.rolled_out("shop").await;
        let mut watch = Watch::over(cluster, &on_errors()).await;
        cluster.set_image("shop", "shop:v2-errors40").await;
        cluster.hash("shop").await;
        cluster.patch("shop", &json!({ "spec": { "paused": true } })).await;
        let is_held = async |watch: &Watch| {
            watch.alerts().iter().any(|alert| alert.phase == Phase::Held && alert.reason.contains("is paused"))
        };
        watch.until("held by the pause", is_held).await;
        let image = |found: &Deployment| json!(found.spec)["template"]["spec"]["containers"][0]["image"].clone();
        cluster.until("shop", "left alone", |found: &Deployment| image(found) == "shop:v2-errors40").await;
    });
}

#[test]
fn a_statefulset_that_waits_for_a_pod_that_is_never_ready_is_freed() {
    on_cluster(Needs::Pods, async |cluster| {
        let set = json!({
            "metadata": { "name": "shop" },
            "spec": {
                "replicas": 2, "serviceName": "shop", "selector": { "matchLabels": { "app": "shop" } },
                "template": template("shop", "shop:v1"),
            },
        });
        cluster.create::<StatefulSet>(set).await;
        cluster.until_pods("shop", "at v1", all_at("shop:v1", 2)).await;
        let mut watch = Watch::over_kind(cluster, "statefulset", ON_UNREADY).await;
        let container = json!({ "name": "app", "image": "shop:v2-never-ready" });
        let patch = json!({ "spec": { "template": { "spec": { "containers": [container] } } } });
        let sets = cluster.api::<StatefulSet>();
        sets.patch("shop", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
        let alerts = watch.told_to_the_end().await;
        assert!(of(&alerts, Phase::Started).reason.contains("delete the pods of statefulset"), "{alerts:#?}");
        of(&alerts, Phase::Restored);
        cluster.until_pods("shop", "back at v1", all_at("shop:v1", 2)).await;
    });
}

/// Pods that take their time to end are waited for: two releases never run side by side.
#[test]
fn a_direct_rollback_starts_nothing_while_a_bad_pod_is_there() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 2, "shop:v1").await;
        cluster.rolled_out("shop").await;
        let mut watch = Watch::over(cluster, &format!("strategy = \"direct\"\n{}", on_errors())).await;
        cluster.set_image("shop", "shop:v2-errors40-stuck").await;
        let is_waiting = |record: &Record| match &record.event {
            Event::StepStarted { step } => *step == 2,
            _ => false,
        };
        watch.until("waiting", async |watch| watch.records().await.iter().any(is_waiting)).await;
        cluster
            .until_pods("shop", "about to end", |pods| pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_some()))
            .await;
        // For as long as it takes to start others.
        let since = k8s_openapi::jiff::Timestamp::now() + Duration::from_secs(3);
        let is_later = async |watch: &Watch| {
            let view: Value = serde_json::from_str(&watch.ask("/api/v1/workloads/shop").await).unwrap_or_default();
            let at = view["assessment"]["at"].as_str().and_then(|at| at.parse::<k8s_openapi::jiff::Timestamp>().ok());
            at.is_some_and(|at| at > since)
        };
        watch.until("three seconds on", is_later).await;
        let pods = cluster.pods("shop").await;
        assert!(!pods.is_empty() && pods.iter().all(|pod| image(pod) == "shop:v2-errors40-stuck"), "{pods:#?}");
        for pod in &pods {
            let at_once = DeleteParams::default().grace_period(0);
            cluster.api::<Pod>().delete(&pod.name_any(), &at_once).await.unwrap();
        }
        of(&watch.told_to_the_end().await, Phase::Restored);
        cluster.until_pods("shop", "back at v1", all_at("shop:v1", 2)).await;
    });
}

/// Where the template is refused half way, whatever the reason, a human finds pods at work.
#[test]
fn a_direct_rollback_that_is_refused_half_way_leaves_as_many_pods_as_there_were() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 2, "shop:v1").await;
        cluster.deploy("probe", 0, "shop:v1").await;
        cluster.rolled_out("shop").await;
        let mut watch = Watch::over(cluster, &format!("strategy = \"direct\"\n{}", on_errors())).await;
        refuse_releases_without_pods(cluster).await;
        cluster.set_image("shop", "shop:v2-errors40").await;
        watch
            .until("escalated", async |watch| watch.alerts().iter().any(|alert| alert.phase == Phase::Escalated))
            .await;
        let alerts = watch.alerts();
        assert!(of(&alerts, Phase::Escalated).reason.contains("it has its instances back"), "{alerts:#?}");
        cluster.until_pods("shop", "at work", all_at("shop:v2-errors40", 2)).await;
        let records = watch.records().await;
        let refused = records
            .iter()
            .any(|record| matches!(&record.event, Event::Failed { reason, .. } if reason.contains("no pods")));
        assert!(refused, "{records:#?}");
        cluster
            .everywhere::<ValidatingAdmissionPolicyBinding>()
            .delete(cluster.namespace(), &DeleteParams::default())
            .await
            .unwrap();
        cluster
            .everywhere::<ValidatingAdmissionPolicy>()
            .delete(cluster.namespace(), &DeleteParams::default())
            .await
            .unwrap();
    });
}

/// From here on no Deployment of the test takes another image while it has no pods to run.
async fn refuse_releases_without_pods(cluster: &Cluster) {
    let name = cluster.namespace();
    let here = json!({ "matchLabels": { "kubernetes.io/metadata.name": name } });
    let deployments = json!({
        "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"],
    });
    let image = "spec.template.spec.containers[0].image";
    let expression = format!("oldObject.spec.replicas > 0 || object.{image} == oldObject.{image}");
    let policy = json!({
        "metadata": { "name": name },
        "spec": {
            "matchConstraints": { "namespaceSelector": here, "resourceRules": [deployments] },
            "validations": [{ "expression": expression, "message": "no pods" }],
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
    // It takes the API server a moment to take it up.
    let image = json!([{ "op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "shop:v2" }]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(image).unwrap());
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let deadline = Instant::now() + PATIENCE;
    while cluster.api::<Deployment>().patch("probe", &dry, &patch).await.is_ok() {
        assert!(Instant::now() < deadline, "what has no pods takes a release all the same");
        sleep(LOOK_EVERY).await;
    }
}

#[test]
fn a_bad_canary_goes_and_stable_serves_on() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 1, "shop:v1").await;
        cluster.deploy("try", 0, "shop:v1").await;
        let mut stable = cluster.rolled_out("shop").await;
        let policy = format!("strategy = \"canary\"\n{}", on_errors());
        let mut watch = Watch::over_kind(cluster, "canary = \"try\", deployment", &policy).await;
        let container = json!({ "name": "app", "image": "shop:v2-errors40" });
        let patch = json!({ "spec": { "replicas": 2, "template": { "spec": { "containers": [container] } } } });
        cluster.patch("try", &patch).await;
        cluster.until_pods("try", "in service", all_at("shop:v2-errors40", 2)).await;
        let least = Arc::new(AtomicUsize::new(usize::MAX));
        let counting = tokio::spawn(count_ready(cluster.api(), Arc::clone(&least)));
        let alerts = watch.told_to_the_end().await;
        counting.abort();
        let started = &of(&alerts, Phase::Started).reason;
        assert!(started.contains("/shop to 3 while it is at "), "{started}");
        of(&alerts, Phase::Restored);
        assert_eq!(least.load(Ordering::Relaxed), 3, "there were fewer in service");
        cluster.until_pods("try", "gone", <[Pod]>::is_empty).await;
        stable.spec.as_mut().unwrap().replicas = Some(3);
        assert_eq!(cluster.rolled_out("shop").await.spec, stable.spec);
    });
}

/// The canary's Deployment is never without pods, so that what serves beside it is never the release in question.
#[test]
fn a_canary_that_always_has_pods_gives_way_to_what_serves_beside_it() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 2, "shop:v1").await;
        cluster.deploy("try", 1, "shop:v1").await;
        cluster.rolled_out("shop").await;
        let (stable, first) = (cluster.hash("shop").await, cluster.hash("try").await);
        let policy = format!("strategy = \"canary\"\n{}", on_errors());
        let mut watch = Watch::over_kind(cluster, "canary = \"try\", deployment", &policy).await;
        let is_known_good = |record: &Record, release: &str| match &record.event {
            Event::KnownGood { revision, .. } => revision.as_str() == release,
            _ => false,
        };
        for release in [&stable, &first] {
            let is_known = async |watch: &Watch| watch.records().await.iter().any(|one| is_known_good(one, release));
            watch.until("known to be good", is_known).await;
        }
        cluster.set_image("try", "shop:v2-errors40").await;
        let alerts = watch.told_to_the_end().await;
        let restored = of(&alerts, Phase::Restored);
        assert_eq!(restored.to.as_ref().map(|to| to.revision.as_str()), Some(stable.as_str()));
        cluster.until_pods("try", "gone", <[Pod]>::is_empty).await;
        cluster.until_pods("shop", "at v1", all_at("shop:v1", 3)).await;
    });
}

/// What is wrong with the canary says nothing of what serves beside it.
#[test]
fn what_serves_beside_a_bad_canary_becomes_known_good_all_the_same() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 1, "shop:v1").await;
        cluster.deploy("try", 1, "shop:v1").await;
        cluster.rolled_out("shop").await;
        cluster.rolled_out("try").await;
        let policy = format!("strategy = \"canary\"\n{}", on_errors());
        let place = "canary = \"try\", deployment";
        let mut watch = Watch::begin_every(cluster, place, ["500ms", "12s"], &policy).await;
        let is_seen = |record: &Record| matches!(record.event, Event::ReleaseObserved { .. });
        watch.until("seen", async |watch| watch.records().await.iter().any(is_seen)).await;
        cluster.set_image("try", "shop:v2-errors40").await;
        let alerts = watch.told_to_the_end().await;
        assert!(of(&alerts, Phase::Held).reason.contains("never seen healthy for long enough"), "{alerts:#?}");
        of(&alerts, Phase::Restored);
        cluster.until_pods("try", "gone", <[Pod]>::is_empty).await;
    });
}

/// None of its pods serves, so that nothing of it can be asked.
#[test]
fn what_is_down_beside_a_canary_is_told_and_not_put_down_to_the_canary() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 2, "shop:v1").await;
        cluster.deploy("try", 1, "shop:v1").await;
        cluster.rolled_out("shop").await;
        cluster.rolled_out("try").await;
        let at_once = json!({ "spec": { "strategy": { "type": "Recreate", "rollingUpdate": null } } });
        cluster.patch("shop", &at_once).await;
        let policy = format!("strategy = \"canary\"\n{ON_UNREADY}");
        let mut watch = Watch::over_kind(cluster, "canary = \"try\", deployment", &policy).await;
        cluster.set_image("shop", "shop:v3-never-ready").await;
        let told = format!(" that is bad, and not {}, the release in question", cluster.hash("try").await);
        let is_held = async |watch: &Watch| {
            watch.alerts().iter().any(|alert| alert.phase == Phase::Held && alert.reason.contains(&told))
        };
        watch.until("told", is_held).await;
        assert!(!watch.alerts().iter().any(|alert| alert.phase == Phase::Started), "{:#?}", watch.alerts());
        cluster.until_pods("try", "left alone", all_at("shop:v1", 1)).await;
    });
}

/// The Deployment says that the release arrived, to a daemon that did not see it.
#[test]
fn pods_that_find_no_room_after_a_start_are_not_put_down_to_a_release_that_had_arrived() {
    on_cluster(Needs::Pods, async |cluster| {
        let quota = json!({ "metadata": { "name": "few" }, "spec": { "hard": { "pods": "4" } } });
        cluster.create::<ResourceQuota>(quota).await;
        cluster.deploy("shop", 2, "shop:v1").await;
        cluster.rolled_out("shop").await;
        let mut watch = Watch::begin_every(cluster, "deployment", ["500ms", "15s"], ON_UNREADY).await;
        let is_known = |record: &Record| matches!(record.event, Event::KnownGood { .. });
        watch.until("known good", async |watch| watch.records().await.iter().any(is_known)).await;
        cluster.set_image("shop", "shop:v2").await;
        cluster.rolled_out("shop").await;
        cluster.patch("shop", &json!({ "spec": { "replicas": 9 } })).await;
        watch.dies_and_starts_again(cluster).await;
        let since = k8s_openapi::jiff::Timestamp::now() + Duration::from_secs(6);
        let is_later = async |watch: &Watch| {
            let view = watch.view().await;
            let at = view["assessment"]["at"].as_str().and_then(|at| at.parse::<k8s_openapi::jiff::Timestamp>().ok());
            at.is_some_and(|at| at > since)
        };
        watch.until("longer than the trigger asks for", is_later).await;
        assert!(!watch.alerts().iter().any(|alert| alert.phase == Phase::Started), "{:#?}", watch.alerts());
        cluster.until("shop", "left alone", |found: &Deployment| json!(found.spec)["replicas"] == 9).await;
        cluster.until_pods("shop", "at v2", |pods| pods.iter().all(|pod| image(pod) == "shop:v2")).await;
    });
}

/// The controller would tell nobody that it may not make the pods that are waited for.
#[test]
fn a_canary_stays_until_there_is_room_for_the_pods_in_its_place() {
    on_cluster(Needs::Pods, async |cluster| {
        let quota = json!({ "metadata": { "name": "tight" }, "spec": { "hard": { "pods": "3" } } });
        cluster.create::<ResourceQuota>(quota).await;
        cluster.deploy("shop", 2, "shop:v1").await;
        cluster.deploy("try", 0, "shop:v1").await;
        let stable = cluster.rolled_out("shop").await;
        let policy = format!("strategy = \"canary\"\n{}", on_errors());
        let mut watch = Watch::over_kind(cluster, "canary = \"try\", deployment", &policy).await;
        let container = json!({ "name": "app", "image": "shop:v2-errors40" });
        let patch = json!({ "spec": { "replicas": 1, "template": { "spec": { "containers": [container] } } } });
        cluster.patch("try", &patch).await;
        let lack =
            format!("quota tight leaves 0 of pods, and scaling deployment {}/shop to 3 takes 1", cluster.namespace());
        let is_held = async |watch: &Watch| {
            watch.alerts().iter().any(|alert| alert.phase == Phase::Held && alert.reason.contains(&lack))
        };
        watch.until("held for lack of room", is_held).await;
        let plan = watch.view_of("shop/plan").await;
        let needs = plan["readiness"].as_array().expect("needs");
        let need = json!({ "need": "quota", "is": "no", "why": lack });
        assert!(needs.contains(&need), "{plan:#}");
        assert_eq!(cluster.rolled_out("shop").await.spec, stable.spec, "nothing was written");
        let room = json!({ "spec": { "hard": { "pods": "4" } } });
        let quotas = cluster.api::<ResourceQuota>();
        quotas.patch("tight", &PatchParams::default(), &Patch::Merge(room)).await.unwrap();
        of(&watch.told_to_the_end().await, Phase::Restored);
        cluster.until_pods("try", "gone", <[Pod]>::is_empty).await;
        cluster.until_pods("shop", "at v1", all_at("shop:v1", 3)).await;
    });
}

/// With the shipped rights and under the shipped bounds.
#[test]
fn a_bad_canary_is_deleted_at_last_where_the_policy_says_so() {
    on_cluster(Needs::Pods, async |cluster| {
        let account = Account::install(cluster, &["scale", "canary"]).await;
        name_the_canary(cluster, "try").await;
        cluster.deploy("shop", 1, "shop:v1").await;
        cluster.deploy("try", 0, "shop:v1").await;
        cluster.rolled_out("shop").await;
        let policy = format!("strategy = \"canary\"\n{}", on_errors());
        let place = "retire = true, canary = \"try\", deployment";
        let mut watch = Watch::over_kind(&cluster.with(account.kubeconfig()), place, &policy).await;
        let container = json!({ "name": "app", "image": "shop:v2-errors40" });
        let patch = json!({ "spec": { "replicas": 1, "template": { "spec": { "containers": [container] } } } });
        cluster.patch("try", &patch).await;
        let alerts = watch.told_to_the_end().await;
        of(&alerts, Phase::Restored);
        let there = cluster.api::<Deployment>().list(&ListParams::default()).await.unwrap();
        let there: Vec<String> = there.iter().map(ResourceExt::name_any).collect();
        assert_eq!(there, ["shop"], "{alerts:#?}");
        cluster.until_pods("shop", "at v1", all_at("shop:v1", 2)).await;
        assert!(!watch.log().contains("\"missing\":\"rights\""), "{}", watch.log());
    });
}

/// The extra is applied as it is shipped, with the name of its example in it.
#[test]
fn a_bad_canary_that_may_not_be_deleted_is_taken_back_all_the_same() {
    on_cluster(Needs::Pods, async |cluster| {
        let account = Account::install(cluster, &["scale", "canary"]).await;
        cluster.deploy("shop", 1, "shop:v1").await;
        cluster.deploy("try", 0, "shop:v1").await;
        cluster.rolled_out("shop").await;
        let policy = format!("strategy = \"canary\"\n{}", on_errors());
        let place = "retire = true, canary = \"try\", deployment";
        let mut watch = Watch::over_kind(&cluster.with(account.kubeconfig()), place, &policy).await;
        let lacks = async |watch: &Watch| watch.log().contains("may not delete deployments try in ");
        watch.until("told what it lacks", lacks).await;
        assert!(watch.log().contains("resourceNames: [\\\"try\\\"]"), "{}", watch.log());
        let container = json!({ "name": "app", "image": "shop:v2-errors40" });
        let patch = json!({ "spec": { "replicas": 1, "template": { "spec": { "containers": [container] } } } });
        cluster.patch("try", &patch).await;
        let alerts = watch.told_to_the_end().await;
        let restored = of(&alerts, Phase::Restored);
        assert!(restored.reason.contains("taken back, not deleted: "), "{alerts:#?}");
        cluster.until_pods("try", "gone", <[Pod]>::is_empty).await;
        cluster.until_pods("shop", "at v1", all_at("shop:v1", 2)).await;
        assert!(cluster.api::<Deployment>().get_opt("try").await.unwrap().is_some());
    });
}

#[test]
fn only_the_canary_that_was_judged_is_deleted_and_only_without_pods() {
    on_cluster(Needs::Api, async |cluster| {
        let account = Account::install(cluster, &["scale", "canary"]).await;
        name_the_canary(cluster, "shop").await;
        let created = cluster.create::<Deployment>(deployment("shop", 1, "shop:v1")).await;
        cluster.create::<Deployment>(deployment("other", 0, "shop:v1")).await;
        let expect = cluster.hash("shop").await;
        // The API server asks no less: by the account's rights, and by the bounds on them.
        let deployments = Api::<Deployment>::namespaced(account.client.clone(), cluster.namespace());
        let delete = async |name: &str| deployments.delete(name, &DeleteParams::default()).await;
        let refused = delete("other").await.unwrap_err().to_string();
        assert!(refused.contains("cannot delete resource"), "{refused}");
        let refused = delete("shop").await.unwrap_err().to_string();
        assert!(refused.contains("deletes only a Deployment without pods"), "{refused}");
        let ours = object(&created, cluster);
        let delete = async |object: &ClusterObject, expect: &str| {
            let step = StepKind::DeleteCanary { object: object.clone(), expect: expect.into() };
            Hands::default().execute(&"shop".into(), &step, Span::from_secs(30)).await
        };
        let scaled = delete(&ours, &expect).await;
        assert!(matches!(&scaled, Outcome::Conflict(why) if why.contains("pods to run")), "{scaled:?}");
        cluster.patch("shop", &json!({ "spec": { "replicas": 0 } })).await;
        cluster.set_image("shop", "shop:v2").await;
        cluster.hash("shop").await;
        let changed = delete(&ours, &expect).await;
        assert!(matches!(&changed, Outcome::Conflict(why) if why.contains("another template")), "{changed:?}");
        cluster.set_image("shop", "shop:v1").await;
        let another = ClusterObject { uid: "another".to_owned(), ..ours.clone() };
        assert_eq!(delete(&another, &expect).await, Outcome::AlreadyInEffect);
        cluster.until("shop", "left alone", |found: &Deployment| found.uid() == created.uid()).await;
        assert_eq!(
            [delete(&ours, &expect).await, delete(&ours, &expect).await],
            [Outcome::Applied, Outcome::AlreadyInEffect]
        );
        assert!(cluster.api::<Deployment>().get_opt("shop").await.unwrap().is_none());
    });
}

/// The extra is about the Deployment of this name.
async fn name_the_canary(cluster: &Cluster, name: &str) {
    let mut role = objects("extras/canary").swap_remove(0);
    role["rules"][0]["resourceNames"] = json!([name]);
    set_rules(cluster, &role).await;
}

/// How few pods of a namespace are ready at any time.
async fn count_ready(pods: Api<Pod>, least: Arc<AtomicUsize>) {
    loop {
        if let Ok(all) = pods.list(&ListParams::default()).await {
            least.fetch_min(all.items.iter().filter(|pod| is_ready(pod)).count(), Ordering::Relaxed);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Stable goes on as it began; but whichever pod of it starts next reads what the ConfigMap says.
#[test]
fn a_configmap_that_was_changed_for_a_canary_goes_back_with_it() {
    on_cluster(Needs::Pods, async |cluster| {
        settings::create(cluster, "shop-config", "rate20").await;
        cluster.create::<Deployment>(settings::shop("shop:v1", "shop-config")).await;
        cluster.create::<Deployment>(settings::naming(deployment("try", 0, "shop:v1"), "shop-config")).await;
        let stable = cluster.rolled_out("shop").await;
        let policy = format!("strategy = \"canary\"\n{}", on_errors());
        let place = "keep = [\"configmaps\"], canary = \"try\", deployment";
        let mut watch = settings::watch_in(cluster, place, &policy).await;
        settings::change(cluster, "shop-config", "errors40").await;
        let container = json!({ "name": "app", "image": "shop:v2" });
        let patch = json!({ "spec": { "replicas": 1, "template": { "spec": { "containers": [container] } } } });
        cluster.patch("try", &patch).await;
        of(&watch.told_to_the_end().await, Phase::Restored);
        cluster.until_pods("try", "gone", <[Pod]>::is_empty).await;
        assert_eq!(settings::behaviour(cluster, "shop-config").await.as_deref(), Some("rate20"));
        let template = |shop: &Deployment| json!(shop.spec)["template"].clone();
        assert_eq!(template(&cluster.rolled_out("shop").await), template(&stable), "stable has another template");
    });
}

/// Two daemons that both believe to lead write the same at once, and somebody scales all the while: each time the template
/// goes back by one write, and whoever did not write it says so.
#[test]
fn of_two_that_take_a_release_back_at_once_one_writes() {
    on_cluster(Needs::Pods, async |cluster| {
        let mut shop = deployment("shop", 0, "shop:v1");
        shop["spec"]["revisionHistoryLimit"] = 2.into();
        let object = object(&cluster.create::<Deployment>(shop).await, cluster);
        let (mut applied, mut idle) = (0, 0);
        let v1 = cluster.hash("shop").await;
        let source = pin(cluster, &v1).await;
        for round in 0..20 {
            cluster.set_image("shop", "shop:v2").await;
            let expect = cluster.hash("shop").await.as_str().into();
            let step = StepKind::RestoreTemplate {
                object: object.clone(),
                expect,
                to: v1.as_str().into(),
                source: source.clone(),
            };
            let hands = [Hands::default(), Hands::default()];
            let workload = "shop".into();
            let replicas = json!({ "spec": { "replicas": round % 2 } });
            let scale = cluster.patch("shop", &replicas);
            let limit = Span::from_secs(30);
            let (first, second, _) = tokio::join!(
                hands[0].execute(&workload, &step, limit),
                hands[1].execute(&workload, &step, limit),
                scale
            );
            for outcome in [first, second] {
                match outcome {
                    Outcome::Applied => applied += 1,
                    Outcome::AlreadyInEffect => idle += 1,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(cluster.hash("shop").await, v1);
        }
        assert_eq!((applied, idle), (20, 20));
    });
}

#[test]
fn what_is_not_as_it_was_judged_is_not_written() {
    on_cluster(Needs::Pods, async |cluster| {
        let created = cluster.create::<Deployment>(deployment("shop", 0, "shop:v1")).await;
        let v1 = cluster.hash("shop").await;
        let source = pin(cluster, &v1).await;
        cluster.set_image("shop", "shop:v2").await;
        let v2 = cluster.hash("shop").await;
        cluster.set_image("shop", "shop:v3").await;
        cluster.hash("shop").await;
        let ours = object(&created, cluster);
        let write = async |object: &ClusterObject, expect: &str, source: &Pin| {
            let step = StepKind::RestoreTemplate {
                object: object.clone(),
                expect: expect.into(),
                to: v1.as_str().into(),
                source: source.clone(),
            };
            Hands::default().execute(&"shop".into(), &step, Span::from_secs(30)).await
        };
        let human = write(&ours, &v2, &source).await;
        assert!(matches!(&human, Outcome::Conflict(why) if why.contains("somebody else")), "{human:?}");
        let other = ClusterObject { uid: "another".to_owned(), ..ours.clone() };
        let other = write(&other, &v2, &source).await;
        assert!(matches!(&other, Outcome::Conflict(why) if why.contains("same name")), "{other:?}");
        let gone = Pin { name: "shop-gone".to_owned(), ..source.clone() };
        let gone = write(&ours, &v2, &gone).await;
        assert!(matches!(&gone, Outcome::Denied(why) if why.contains("is gone")), "{gone:?}");
        let image =
            |found: &Deployment| json!(found.spec.as_ref().unwrap().template)["spec"]["containers"][0]["image"].clone();
        cluster.until("shop", "left alone", |found: &Deployment| image(found) == "shop:v3").await;
    });
}

pub(super) fn object(found: &Deployment, cluster: &Cluster) -> ClusterObject {
    ClusterObject {
        context: None,
        namespace: cluster.namespace().to_owned(),
        kind: ObjectKind::Deployment,
        name: found.name_any(),
        uid: found.uid().expect("it exists"),
    }
}

async fn pin(cluster: &Cluster, hash: &str) -> Pin {
    let sets = cluster.replica_sets("shop").await;
    let set = sets.iter().find(|set| set.labels()["pod-template-hash"] == hash).expect("a ReplicaSet of it");
    Pin { name: set.name_any(), uid: set.uid().expect("it exists") }
}
