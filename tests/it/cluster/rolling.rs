//! A bad release of a Deployment is taken back in a real cluster, and nothing but its template is changed.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::incident::record::Event;
use rollbackd::domain::response::plan::{Outcome, StepKind};
use serde_json::{Value, json};

use super::namespace::{Cluster, Needs, deployment, is_ready, on_cluster};
use super::watch::Watch;

/// Pages and health endpoints of the pods, beside what the cluster tells of them.
const LOOKS: &str = "scrape = { port = \"http\" }\nhealth = { port = 8080, expect = { status = \"Healthy\" } }\n\
                     [workload.shop.verify]\nstable_for = \"2s\"\n";
/// No look into any pod.
pub(super) const BARE: &str = "[workload.shop.verify]\nstable_for = \"2s\"\n";

/// A trigger that fires after a second, in place of those that exist by themselves.
fn trigger(signal: &str, above: &str) -> String {
    format!("[[workload.shop.trigger]]\nsignal = \"{signal}\"\nabove = {above}\nfor = \"1s\"\n")
}

/// A policy that looks at the share of errors and at nothing else.
pub(super) fn on_errors() -> String {
    let window = "[workload.shop.signal.error_rate]\nwindow = \"5s\"\n";
    format!("{LOOKS}{window}{}", trigger("error_rate", "\"10%\""))
}

/// What a rollback must leave as it is: everything but the template, and the controller's own count of revisions.
fn kept(found: &Deployment) -> Value {
    let mut spec = json!(found.spec);
    spec.as_object_mut().unwrap().remove("template");
    let annotations = found.annotations().iter().filter(|(key, _)| *key != "deployment.kubernetes.io/revision");
    let annotations: Vec<_> = annotations.collect();
    json!({ "uid": found.uid(), "labels": found.labels(), "annotations": annotations, "spec": spec })
}

pub(super) fn template(found: &Deployment) -> Value {
    json!(found.spec.as_ref().map(|spec| &spec.template))
}

/// Deploys a good release, lets the daemon know it, deploys a bad one, and sees it taken back for what this signal says.
async fn is_taken_back(cluster: &Cluster, bad: &str, signal: &str, policy: &str) {
    cluster.deploy("shop", 3, "shop:v1").await;
    cluster.rolled_out("shop").await;
    // Long enough for a busy machine to start three pods, short enough to wait for.
    let before = cluster.patch("shop", &json!({ "spec": { "progressDeadlineSeconds": 8 } })).await;
    let good = cluster.hash("shop").await;
    let mut watch = Watch::over(cluster, policy).await;
    cluster.set_image("shop", bad).await;
    let worse = cluster.hash("shop").await;
    let alerts = watch.told_to_the_end().await;

    // What is suspected at first may be another sign of the same fault.
    let alerts: Vec<_> = alerts.into_iter().filter(|alert| alert.phase != Phase::Suspected).collect();
    let phases: Vec<Phase> = alerts.iter().map(|alert| alert.phase).collect();
    let summaries: Vec<&String> = alerts.iter().map(|alert| &alert.summary).collect();
    assert_eq!(phases, [Phase::Detected, Phase::Started, Phase::Verifying, Phase::Restored], "{summaries:#?}");
    for alert in &alerts {
        assert_eq!(alert.trigger.signal.as_deref(), Some(signal), "{}", alert.summary);
        let [from, to] = [alert.from.as_ref().map(|from| &from.revision), alert.to.as_ref().map(|to| &to.revision)];
        assert_eq!([from.map(|id| id.as_str()), to.map(|id| id.as_str())], [Some(&*worse), Some(&*good)]);
    }

    let after = cluster.rolled_out("shop").await;
    assert_eq!(cluster.hash("shop").await, good);
    assert_eq!(template(&after), template(&before));
    assert_eq!(kept(&after), kept(&before));
    let only_good = |pods: &[Pod]| {
        pods.len() == 3 && pods.iter().all(|pod| pod.labels()["pod-template-hash"] == good && is_ready(pod))
    };
    cluster.until_pods("shop", "those of the good release", only_good).await;

    let records = watch.records().await;
    let plans: Vec<_> = records
        .iter()
        .filter_map(|record| if let Event::Planned { plan, .. } = &record.event { Some(plan) } else { None })
        .collect();
    let [plan] = plans[..] else { panic!("one plan: {plans:?}") };
    let kinds: Vec<_> = plan.steps.iter().map(|step| &step.kind).collect();
    let [StepKind::RestoreTemplate { expect, to, .. }, StepKind::AwaitRollout { release, .. }] = kinds[..] else {
        panic!("{kinds:?}")
    };
    assert_eq!([expect.as_str(), to.as_str(), release.as_str()], [&*worse, &*good, &*good]);
    let finished = records.iter().filter_map(|record| match &record.event {
        Event::StepFinished { step, outcome } => Some((*step, outcome)),
        _ => None,
    });
    assert_eq!(finished.collect::<Vec<_>>(), [(0, &Outcome::Applied), (1, &Outcome::Applied)]);
}

#[test]
fn forty_percent_errors() {
    on_cluster(Needs::Pods, async |cluster| {
        is_taken_back(cluster, "shop:v2-errors40", "error_rate", &on_errors()).await;
    });
}

#[test]
fn out_of_memory() {
    on_cluster(Needs::Pods, async |cluster| is_taken_back(cluster, "shop:v2-oom", "oom_kills", BARE).await);
}

#[test]
fn a_crash_loop() {
    on_cluster(Needs::Pods, async |cluster| is_taken_back(cluster, "shop:v2-crash", "crash_loops", BARE).await);
}

#[test]
fn an_image_that_is_missing() {
    on_cluster(Needs::Pods, async |cluster| {
        let policy = format!("{BARE}{}", trigger("image_pull_failures", "0"));
        is_taken_back(cluster, "shop:v2-missing", "image_pull_failures", &policy).await;
    });
}

#[test]
fn pods_that_are_never_ready() {
    on_cluster(Needs::Pods, async |cluster| {
        is_taken_back(cluster, "shop:v2-never-ready", "progress_deadline", BARE).await;
    });
}

/// Whoever applies on the server's side manages what was put back as they did before: they meet no conflict, and what the
/// restored release has and their next one has not does not stay. Who applies another part is given nothing of it.
async fn appliers_go_on_as_before(cluster: &Cluster, strategy: &str) {
    let apply = async |manager: &str, shop: Value| {
        let params = PatchParams::apply(manager);
        cluster.api::<Deployment>().patch("shop", &params, &Patch::Apply(shop)).await.unwrap()
    };
    let of = |more: Value| {
        let mut shop = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "shop" } });
        shop.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        shop
    };
    let release = |image: &str, replicas: u32, env: Value| {
        let mut shop = of(deployment("shop", replicas, image));
        shop["spec"]["template"]["spec"]["containers"][0]["env"] = env;
        shop
    };
    let labels = || of(json!({ "metadata": { "name": "shop", "labels": { "team": "payments" } } }));
    apply("pipeline", release("shop:v1", 2, json!([{ "name": "GHOST", "value": "1" }]))).await;
    apply("labeler", labels()).await;
    let before = cluster.rolled_out("shop").await;
    let mut watch = Watch::over(cluster, &format!("strategy = \"{strategy}\"\n{}", on_errors())).await;
    apply("pipeline", release("shop:v2-errors40", 2, json!([]))).await;
    let alerts = watch.told_to_the_end().await;
    assert_eq!(alerts.last().unwrap().phase, Phase::Restored, "{alerts:#?}");
    assert_eq!(template(&cluster.rolled_out("shop").await), template(&before));
    assert_eq!(template(&apply("labeler", labels()).await), template(&before));
    let after = json!(apply("pipeline", release("shop:v3", 3, json!([]))).await);
    assert!(after.pointer("/spec/template/spec/containers/0/env").is_none(), "{:#}", after["spec"]["template"]);
    assert_eq!(after["spec"]["replicas"], 3);
}

#[test]
fn the_next_server_side_apply_merges_no_ghosts() {
    on_cluster(Needs::Pods, async |cluster| appliers_go_on_as_before(cluster, "rolling").await);
}

#[test]
fn the_next_server_side_apply_after_a_direct_rollback_sets_the_number() {
    on_cluster(Needs::Pods, async |cluster| appliers_go_on_as_before(cluster, "direct").await);
}

/// Whoever restarted the pods or patched something beside what is applied manages that for ever, and nothing else.
#[test]
fn the_next_server_side_apply_after_a_restart_meets_no_conflict_and_merges_no_ghosts() {
    on_cluster(Needs::Pods, async |cluster| {
        let release = |image: &str, env: &[(&str, &str)], annotations: Value| {
            let mut shop = deployment("shop", 2, image);
            let each: Vec<Value> = env.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
            let template = &mut shop["spec"]["template"];
            template["spec"]["containers"][0]["env"] = json!(each);
            template["metadata"]["annotations"] = annotations;
            shop["apiVersion"] = "apps/v1".into();
            shop["kind"] = "Deployment".into();
            shop
        };
        let apply = async |shop: Value, is_dry: bool| {
            let params = PatchParams { dry_run: is_dry, ..PatchParams::apply("ci") };
            json!(cluster.api::<Deployment>().patch("shop", &params, &Patch::Apply(shop)).await.unwrap())
        };
        apply(release("shop:v1", &[("A", "1"), ("B", "1")], json!({ "x1": "one" })), false).await;
        let restarted = json!({ "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z" });
        let limits = json!([{ "name": "app", "resources": { "limits": { "memory": "64Mi" } } }]);
        let patch = json!({ "metadata": { "annotations": restarted }, "spec": { "containers": limits } });
        cluster.patch("shop", &json!({ "spec": { "template": patch } })).await;
        let before = cluster.rolled_out("shop").await;
        let mut watch = Watch::over(cluster, &on_errors()).await;
        apply(release("shop:v2-errors40", &[("A", "2")], json!({})), false).await;
        let alerts = watch.told_to_the_end().await;
        assert_eq!(alerts.last().unwrap().phase, Phase::Restored, "{alerts:#?}");
        assert_eq!(template(&cluster.rolled_out("shop").await), template(&before));
        let all = apply(release("shop:v3", &[("A", "3"), ("B", "3")], json!({ "x1": "three" })), true).await;
        let env = |shop: &Value| shop.pointer("/spec/template/spec/containers/0/env").cloned().unwrap_or_default();
        assert_eq!(env(&all), json!([{ "name": "A", "value": "3" }, { "name": "B", "value": "3" }]));
        let less = apply(release("shop:v3", &[("A", "3")], json!({})), false).await;
        assert_eq!(env(&less), json!([{ "name": "A", "value": "3" }]));
        let template = &less["spec"]["template"];
        assert_eq!(template["metadata"]["annotations"], restarted);
        assert_eq!(template["spec"]["containers"][0]["resources"], limits[0]["resources"]);
    });
}

/// What `kubectl apply` remembers of the manifest goes back with the release, and nothing that others put beside it.
#[test]
fn the_next_client_side_apply_leaves_what_is_somebody_elses() {
    on_cluster(Needs::Pods, async |cluster| {
        let manifest = |image: &str, env: &[&str]| {
            let mut shop = deployment("shop", 2, image);
            let each: Vec<Value> = env.iter().map(|name| json!({ "name": name, "value": "1" })).collect();
            shop["spec"]["template"]["spec"]["containers"][0]["env"] = json!(each);
            shop
        };
        // As kubectl does it, where a manifest differs from the one before in its template alone, and leaves out a variable.
        let apply = async |shop: Value, gone: Option<&str>| {
            let mut patch = json!({ "spec": { "template": shop["spec"]["template"] } });
            let annotation = json!({ "kubectl.kubernetes.io/last-applied-configuration": shop.to_string() });
            patch["metadata"] = json!({ "annotations": annotation });
            let env = patch["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut().unwrap();
            env.extend(gone.map(|name| json!({ "name": name, "$patch": "delete" })));
            cluster.patch("shop", &patch).await
        };
        cluster.deploy("shop", 2, "shop:v1").await;
        apply(manifest("shop:v1", &["KEPT", "GHOST"]), None).await;
        let limits = json!([{ "name": "app", "resources": { "limits": { "memory": "64Mi" } } }]);
        cluster.patch("shop", &json!({ "spec": { "template": { "spec": { "containers": limits } } } })).await;
        let before = cluster.rolled_out("shop").await;
        let mut watch = Watch::over(cluster, &on_errors()).await;
        apply(manifest("shop:v2-errors40", &["KEPT"]), Some("GHOST")).await;
        let alerts = watch.told_to_the_end().await;
        assert_eq!(alerts.last().unwrap().phase, Phase::Restored, "{alerts:#?}");
        let after = cluster.rolled_out("shop").await;
        assert_eq!(template(&after), template(&before));
        let remembered = &after.annotations()["kubectl.kubernetes.io/last-applied-configuration"];
        let remembered: Value = serde_json::from_str(remembered).unwrap();
        let container = &remembered["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "shop:v1");
        let names = |env: &Value| env.as_array().unwrap().iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
        assert_eq!(names(&container["env"]), ["KEPT", "GHOST"]);
        assert!(container["resources"].is_null(), "its limits are somebody else's: {container:#}");
    });
}

#[test]
fn direct_stops_everything_and_starts_as_many() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 3, "shop:v1").await;
        let before = cluster.rolled_out("shop").await;
        let mut watch = Watch::over(cluster, &format!("strategy = \"direct\"\n{}", on_errors())).await;
        cluster.set_image("shop", "shop:v2-errors40").await;
        let alerts = watch.told_to_the_end().await;
        let last = alerts.last().unwrap();
        assert_eq!(last.phase, Phase::Restored, "{}", last.summary);
        let after = cluster.rolled_out("shop").await;
        assert_eq!(after.spec, before.spec);
        // Down, the template, up: what the user's release added is one more.
        let written = after.metadata.generation.unwrap() - before.metadata.generation.unwrap();
        assert_eq!(written, 4);
    });
}
