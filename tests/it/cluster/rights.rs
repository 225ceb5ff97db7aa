//! The rights that are shipped are the rights that the daemon asks for: with them it does its work, without any one of
//! them it says so at once and changes nothing, and beyond them the API server lets it write nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use rollbackd::cluster::rights::{self, Right};
use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::policy::{GitopsTool, Keep, Kubernetes, KubernetesSubject, ObjectKind, Strategy};
use rollbackd::domain::settings::SettingKind;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::manifests::{Account, documents, extras, objects, roles};
use super::namespace::{Cluster, LOOK_EVERY, Needs, PATIENCE, on_cluster};
use super::rolling::{on_errors, template};
use super::watch::Watch;

/// Resource and verb pairs that the daemon may have without any extra.
const MOST_PAIRS: usize = 30;

pub(super) type Pair = (String, String, String);

/// Group, resource and verb of each rule of each Role among these objects.
fn pairs(objects: &[Value]) -> BTreeSet<Pair> {
    let mut all = BTreeSet::new();
    for role in objects.iter().filter(|object| object["kind"] == "Role") {
        for rule in role["rules"].as_array().unwrap() {
            let words = |key: &str| -> Vec<String> { serde_json::from_value(rule[key].clone()).unwrap() };
            for group in words("apiGroups") {
                for resource in words("resources") {
                    all.extend(words("verbs").into_iter().map(|verb| (group.clone(), resource.clone(), verb)));
                }
            }
        }
    }
    all
}

fn pair(right: &Right) -> Pair {
    let part = right.subresource.map(|part| format!("/{part}")).unwrap_or_default();
    (right.group.to_owned(), format!("{}{part}", right.resource), right.verb.to_owned())
}

fn asked_for(kind: ObjectKind, strategy: Strategy) -> BTreeSet<Pair> {
    let subject = KubernetesSubject::Object { kind, name: "shop".to_owned() };
    let cluster = Kubernetes {
        context: None,
        namespace: Some("prod".to_owned()),
        subject,
        argocd_namespace: "argocd".to_owned(),
        keep: Keep::default(),
    };
    rights::needed(&cluster, strategy).iter().map(pair).collect()
}

const KINDS: [ObjectKind; 3] = [ObjectKind::Deployment, ObjectKind::StatefulSet, ObjectKind::DaemonSet];

#[test]
fn the_base_grants_what_is_asked_for_and_nothing_else() {
    let base = pairs(&objects("namespace"));
    let asked: BTreeSet<Pair> = KINDS.iter().flat_map(|kind| asked_for(*kind, Strategy::Rolling)).collect();
    assert_eq!(base, asked);
    let all: BTreeSet<Pair> = base.union(&pairs(&objects("base"))).cloned().collect();
    assert!(all.len() <= MOST_PAIRS, "{} pairs: {all:#?}", all.len());
    for (_, resource, verb) in &all {
        assert!(verb != "delete" && verb != "*" && resource != "secrets" && resource != "*", "{verb} {resource}");
    }
}

#[test]
fn each_extra_grants_what_its_steps_ask_for() {
    assert_eq!(
        extras(),
        ["argo-cd", "blue-green", "canary", "configmaps", "flux", "logs", "scale", "secrets", "stuck-pods"]
    );
    let base = pairs(&objects("namespace"));
    let more =
        |rights: &[Right]| -> BTreeSet<Pair> { rights.iter().map(pair).filter(|pair| !base.contains(pair)).collect() };
    let scale = [ObjectKind::Deployment, ObjectKind::StatefulSet].map(Right::scale);
    assert_eq!(pairs(&objects("extras/scale")), more(&scale));
    assert_eq!(pairs(&objects("extras/stuck-pods")), more(&rights::to_delete_stuck()));
    assert_eq!(pairs(&objects("extras/canary")), more(&rights::to_delete()));
    assert_eq!(objects("extras/canary")[0]["rules"][0]["resourceNames"].as_array().map(Vec::len), Some(1));
    assert_eq!(pairs(&objects("extras/logs")), more(&[rights::to_read_logs()]));
    for (folder, kind) in [("configmaps", SettingKind::ConfigMap), ("secrets", SettingKind::Secret)] {
        let rights = [&rights::to_restore_setting(kind)[..], &rights::to_watch_settings(kind)].concat();
        assert_eq!(pairs(&objects(&format!("extras/{folder}"))), more(&rights));
    }
    let colours =
        [&rights::to_switch()[..], &[Right::new("", "services", "list"), Right::new("", "services", "watch")]];
    assert_eq!(pairs(&objects("extras/blue-green")), more(&colours.concat()));
    assert_eq!(pairs(&objects("extras/argo-cd")), more(&rights::to_pause(GitopsTool::ArgoCd)));
    let flux = [GitopsTool::FluxKustomization, GitopsTool::FluxHelmRelease].map(rights::to_pause);
    assert_eq!(pairs(&objects("extras/flux")), more(&flux.concat()));
    let no_secret = extras().iter().filter(|extra| *extra != "secrets").all(|extra| {
        let pairs = pairs(&objects(&format!("extras/{extra}")));
        pairs.iter().all(|(_, resource, _)| resource != "secrets")
    });
    assert!(no_secret);
}

#[test]
fn the_daemons_pods_pass_the_strictest_standard() {
    on_cluster(Needs::Api, async |cluster| {
        let account = Account::install(cluster, &[]).await;
        drop(account);
        let deployment = documents("base/deployment.yaml").swap_remove(0);
        assert_eq!(deployment["spec"]["replicas"], 2);
        let mut pod = deployment["spec"]["template"].clone();
        pod["metadata"]["name"] = "rollbackd".into();
        let pods = Api::<Pod>::namespaced(cluster.client().clone(), "rollbackd");
        let looked = PostParams { dry_run: true, ..PostParams::default() };
        let accepted = async |pod: &Value| pods.create(&looked, &serde_json::from_value(pod.clone()).unwrap()).await;
        accepted(&pod).await.unwrap();
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = true.into();
        let refused = accepted(&pod).await.unwrap_err().to_string();
        assert!(refused.contains("restricted"), "{refused}");
    });
}

#[test]
fn with_the_shipped_rights_a_bad_release_is_taken_back() {
    on_cluster(Needs::Pods, async |cluster| {
        let account = Account::install(cluster, &[]).await;
        cluster.deploy("shop", 2, "shop:v1").await;
        let before = cluster.rolled_out("shop").await;
        let mut watch = Watch::over(&cluster.with(account.kubeconfig()), &on_errors()).await;
        cluster.set_image("shop", "shop:v2-errors40").await;
        let alerts = watch.told_to_the_end().await;
        assert_eq!(alerts.last().unwrap().phase, Phase::Restored, "{alerts:#?}");
        assert_eq!(template(&cluster.rolled_out("shop").await), template(&before));
        assert!(!watch.log().contains("\"missing\":\"rights\""), "{}", watch.log());
    });
}

#[test]
fn beyond_templates_the_api_server_lets_the_daemon_write_nothing() {
    on_cluster(Needs::Api, async |cluster| {
        let account = Account::install(cluster, &[]).await;
        cluster.deploy("shop", 0, "shop:v1").await;
        let deployments = Api::<Deployment>::namespaced(account.client.clone(), cluster.namespace());
        let write =
            async |patch: Value| deployments.patch("shop", &PatchParams::default(), &Patch::Strategic(patch)).await;
        let in_template = |pod: Value| json!({ "spec": { "template": { "spec": pod } } });
        // A policy that was just made takes a moment to be in force.
        let deadline = Instant::now() + PATIENCE;
        while write(json!({ "metadata": { "labels": { "probe": Instant::now().elapsed().as_nanos().to_string() } } }))
            .await
            .is_ok()
        {
            assert!(Instant::now() < deadline, "the policy is not in force");
            sleep(LOOK_EVERY).await;
        }
        write(in_template(json!({ "containers": [{ "name": "app", "image": "shop:v2" }] }))).await.unwrap();
        write(json!({ "metadata": { "annotations": { "rollbackd.dev/mark": "x" } } })).await.unwrap();
        for (refused, why) in [
            (json!({ "spec": { "replicas": 1 } }), "number of pods"),
            (in_template(json!({ "serviceAccountName": "other" })), "whose account"),
            (in_template(json!({ "hostNetwork": true })), "namespaces of the host"),
            (json!({ "spec": { "paused": true } }), "no other part"),
            (json!({ "spec": { "progressDeadlineSeconds": 1 } }), "no other part"),
            (json!({ "metadata": { "labels": { "a": "b" } } }), "labels"),
            (json!({ "metadata": { "finalizers": ["a.example.com/b"] } }), "finalizers"),
            (json!({ "metadata": { "annotations": { "a": "b" } } }), "annotations"),
        ] {
            let answer = write(refused.clone()).await;
            let told = answer.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(told.contains("rollbackd-workloads") && told.contains(why), "{refused}: {told}");
        }
        let scale = objects("extras/scale");
        for mut object in scale {
            object["metadata"]["namespace"] = cluster.namespace().into();
            super::manifests::apply(cluster.client(), &object, cluster.namespace()).await;
        }
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = write(json!({ "spec": { "replicas": 0, "minReadySeconds": 0 } })).await {
            assert!(Instant::now() < deadline, "{error}");
            sleep(LOOK_EVERY).await;
        }
        let scaled = async || write(json!({ "spec": { "replicas": 1 } })).await;
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = scaled().await {
            assert!(Instant::now() < deadline, "with the right to: {error}");
            sleep(LOOK_EVERY).await;
        }
        // An administrator is not bound by it.
        cluster.patch("shop", &json!({ "spec": { "replicas": 0, "paused": true } })).await;
    });
}

#[test]
fn of_a_service_the_api_server_lets_the_daemon_write_the_selector_alone() {
    on_cluster(Needs::Api, async |cluster| {
        let account = Account::install(cluster, &["blue-green"]).await;
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "shop", "namespace": cluster.namespace() },
            "spec": { "selector": { "colour": "green" }, "ports": [{ "port": 80 }] },
        });
        super::manifests::apply(cluster.client(), &service, cluster.namespace()).await;
        let services = Api::<Service>::namespaced(account.client.clone(), cluster.namespace());
        let write = async |patch: Value| services.patch("shop", &PatchParams::default(), &Patch::Merge(patch)).await;
        let refused = async |patch: &Value| write(patch.clone()).await.err().map(|error| error.to_string());
        let labels = json!({ "metadata": { "labels": { "a": "b" } } });
        // A policy that was just made takes a moment to be in force.
        let deadline = Instant::now() + PATIENCE;
        while !refused(&labels).await.is_some_and(|told| told.contains("no other metadata")) {
            assert!(Instant::now() < deadline, "the policy is not in force");
            let clean = json!({ "metadata": { "labels": { "a": null } } });
            cluster_service(cluster).patch("shop", &PatchParams::default(), &Patch::Merge(clean)).await.unwrap();
            sleep(LOOK_EVERY).await;
        }
        let switched = write(json!({ "spec": { "selector": { "colour": "blue" } } })).await.unwrap();
        assert_eq!(switched.spec.unwrap().selector.unwrap()["colour"], "blue");
        for patch in [json!({ "spec": { "type": "NodePort" } }), json!({ "spec": { "ports": [{ "port": 81 }] } })] {
            let told = refused(&patch).await.unwrap_or_default();
            assert!(told.contains("rollbackd-services") && told.contains("no other part"), "{patch}: {told}");
        }
    });
}

#[test]
fn of_a_configmap_the_api_server_lets_the_daemon_write_the_content_alone() {
    on_cluster(Needs::Api, async |cluster| {
        let account = Account::install(cluster, &["configmaps"]).await;
        let map = |name: &str| json!({ "metadata": { "name": name }, "data": { "a": "1" } });
        cluster.create::<ConfigMap>(map("shop")).await;
        let maps = Api::<ConfigMap>::namespaced(account.client.clone(), cluster.namespace());
        let write = async |patch: Value| maps.patch("shop", &PatchParams::default(), &Patch::Merge(patch)).await;
        let refused = async |patch: &Value| write(patch.clone()).await.err().map(|error| error.to_string());
        let labels = json!({ "metadata": { "labels": { "a": "b" } } });
        // A policy that was just made takes a moment to be in force.
        let deadline = Instant::now() + PATIENCE;
        while !refused(&labels).await.is_some_and(|told| told.contains("nothing else")) {
            assert!(Instant::now() < deadline, "the policy is not in force");
            let clean = json!({ "metadata": { "labels": { "a": null } } });
            let own = cluster.api::<ConfigMap>();
            own.patch("shop", &PatchParams::default(), &Patch::Merge(clean)).await.unwrap();
            sleep(LOOK_EVERY).await;
        }
        let written = write(json!({ "data": { "a": "2" } })).await.unwrap();
        assert_eq!(written.data.unwrap()["a"], "2");
        let immutable = refused(&json!({ "immutable": true })).await.unwrap_or_default();
        assert!(immutable.contains("rollbackd-settings"), "{immutable}");
        let make = async |object: Value| {
            let object: ConfigMap = serde_json::from_value(object).unwrap();
            maps.create(&PostParams::default(), &object).await
        };
        make(map("made")).await.unwrap();
        let mut owned = map("owned");
        owned["metadata"]["labels"] = json!({ "a": "b" });
        let told = make(owned).await.unwrap_err().to_string();
        assert!(told.contains("a name and a content"), "{told}");
        let gone = maps.delete("made", &DeleteParams::default()).await;
        assert!(gone.is_err(), "there is no right to delete");
    });
}

/// The test's Services, as an administrator has them.
fn cluster_service(cluster: &Cluster) -> Api<Service> {
    Api::namespaced(cluster.client().clone(), cluster.namespace())
}

/// The daemon over one workload of each kind, none of which exists, with more in its own section; it ends with this value.
fn run(dir: &Path, kubeconfig: &Path, namespace: &str, more: &str) -> Child {
    let state = dir.join("state");
    let mut policy = format!("[daemon]\nlisten = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n{more}\n", state.display());
    for kind in KINDS.map(ObjectKind::as_str) {
        let place = format!("kubernetes = {{ namespace = \"{namespace}\", {kind} = \"shop\" }}");
        policy.push_str(&format!("[workload.{kind}]\n{place}\nstrategy = \"direct\"\n"));
    }
    std::fs::write(dir.join("policy.toml"), policy).unwrap();
    let log = std::fs::File::create(dir.join("log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_rollbackd"))
        .args(["run", "--log-format", "json", "--config"])
        .arg(dir.join("policy.toml"))
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Of what a log says, the workloads of which a right is missing, and the rights.
fn missing(log: &str) -> Vec<(String, String)> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let word = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    lines.filter(|line| line["missing"] == "rights").map(|line| (word(&line, "workload"), word(&line, "why"))).collect()
}

/// A role without one pair.
pub(super) fn less(role: &Value, (group, resource, verb): &Pair) -> Value {
    let mut role = role.clone();
    let rules = std::mem::take(role["rules"].as_array_mut().unwrap());
    for rule in rules {
        let words = |key: &str| -> Vec<String> { serde_json::from_value(rule[key].clone()).unwrap() };
        for one in words("resources") {
            let mut verbs = words("verbs");
            if words("apiGroups") == [group.clone()] && one == *resource {
                verbs.retain(|one| one != verb);
            }
            let mut left = rule.clone();
            (left["resources"], left["verbs"]) = (json!([one]), json!(verbs));
            // A rule without verbs is none.
            if !verbs_of(&left).is_empty() {
                role["rules"].as_array_mut().unwrap().push(left);
            }
        }
    }
    role
}

fn verbs_of(rule: &Value) -> Vec<String> {
    serde_json::from_value(rule["verbs"].clone()).unwrap()
}

/// Puts another set of rules into a role.
pub(super) async fn set_rules(cluster: &Cluster, role: &Value) {
    let name = role["metadata"]["name"].as_str().unwrap();
    let patch = json!({ "rules": role["rules"] });
    roles(cluster).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// Takes each right of a role away in turn: of just those workloads that need it, it is named with its rule.
async fn each_is_named(
    cluster: &Cluster,
    account: &Account,
    role: &Value,
    more: &str,
    needs_it: impl Fn(ObjectKind, &Pair) -> bool,
) {
    for pair in pairs(std::slice::from_ref(role)) {
        set_rules(cluster, &less(role, &pair)).await;
        let dir = tempfile::tempdir().unwrap();
        let mut daemon = run(dir.path(), &account.kubeconfig(), cluster.namespace(), more);
        let (group, resource, verb) = &pair;
        let rule = format!("apiGroups: [\"{group}\"], resources: [\"{resource}\"], verbs: [\"{verb}\"]");
        let expected = KINDS.iter().filter(|kind| needs_it(**kind, &pair));
        let expected: Vec<&str> = expected.map(|kind| kind.as_str()).collect();
        assert!(!expected.is_empty(), "{pair:?}");
        let deadline = Instant::now() + PATIENCE;
        let named = |log: &str| {
            let missing = missing(log);
            let has = |kind: &&str| missing.iter().any(|(of, why)| of == kind && why.contains(&rule));
            expected.iter().all(has)
        };
        loop {
            let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
            if named(&log) {
                let others = missing(&log);
                let others = others.iter().filter(|(of, why)| !expected.contains(&&**of) || why.contains("; "));
                assert_eq!(others.count(), 0, "{pair:?}: {log}");
                break;
            }
            assert!(Instant::now() < deadline, "{pair:?} is not named: {log}");
            sleep(LOOK_EVERY).await;
        }
        daemon.kill().await.unwrap();
    }
    set_rules(cluster, role).await;
}

#[test]
fn each_right_that_is_missing_is_named_at_the_start_with_the_rule_that_grants_it() {
    on_cluster(Needs::Api, async |cluster| {
        let account = Account::install(cluster, &["scale"]).await;
        for folder in ["namespace", "extras/scale"] {
            let role = objects(folder).swap_remove(0);
            let needs_it = |kind, pair: &Pair| asked_for(kind, Strategy::Direct).contains(pair);
            each_is_named(cluster, &account, &role, "", needs_it).await;
        }
    });
}

/// Those on the Lease and on the record of what is under way.
#[test]
fn each_right_in_its_own_namespace_that_is_missing_is_named_likewise() {
    on_cluster(Needs::Api, async |cluster| {
        let account = Account::install(cluster, &["scale"]).await;
        let is_its = |object: &Value| object["metadata"]["name"] == "rollbackd-leadership";
        let own: Vec<Value> = objects("base").into_iter().filter(is_its).collect();
        for object in &own {
            let mut object = object.clone();
            object["metadata"]["namespace"] = cluster.namespace().into();
            super::manifests::apply(cluster.client(), &object, cluster.namespace()).await;
        }
        let asked = [&rights::to_lead()[..], &rights::to_share()[..]].concat();
        assert_eq!(pairs(&own), asked.iter().map(pair).collect());
        let home = format!("[daemon.lease]\nnamespace = \"{}\"", cluster.namespace());
        each_is_named(cluster, &account, &own[0], &home, |_, _| true).await;
    });
}

/// Takes one right away once a good release is known, and sees a bad one left alone, with the reason told.
async fn is_held_without(cluster: &Cluster, folder: &str, pair: (&str, &str, &str)) {
    let pair = (pair.0.to_owned(), pair.1.to_owned(), pair.2.to_owned());
    let account = Account::install(cluster, &["scale"]).await;
    cluster.deploy("shop", 2, "shop:v1").await;
    cluster.rolled_out("shop").await;
    let policy = format!("strategy = \"direct\"\n{}", on_errors());
    let mut watch = Watch::over(&cluster.with(account.kubeconfig()), &policy).await;
    set_rules(cluster, &less(&objects(folder)[0], &pair)).await;
    let bad = cluster.set_image("shop", "shop:v2-errors40").await;
    let rule = format!("resources: [\"{}\"], verbs: [\"{}\"]", pair.1, pair.2);
    let is_told =
        |watch: &Watch| watch.alerts().iter().any(|alert| alert.phase == Phase::Held && alert.reason.contains(&rule));
    watch.until("held for want of a right", async |watch| is_told(watch)).await;
    let after: Deployment = cluster.api().get("shop").await.unwrap();
    assert_eq!(after.spec, bad.spec);
    assert_eq!(after.metadata.generation, bad.metadata.generation, "nothing was written");
}

#[test]
fn without_the_right_to_write_nothing_is_begun() {
    on_cluster(Needs::Pods, async |cluster| {
        is_held_without(cluster, "namespace", ("apps", "deployments", "patch")).await;
    });
}

#[test]
fn without_the_right_to_read_what_keeps_the_goal_nothing_is_begun() {
    on_cluster(Needs::Pods, async |cluster| {
        is_held_without(cluster, "namespace", ("apps", "replicasets", "get")).await;
    });
}

#[test]
fn without_the_right_to_scale_nothing_is_stopped() {
    on_cluster(Needs::Pods, async |cluster| {
        is_held_without(cluster, "extras/scale", ("apps", "deployments/scale", "patch")).await;
    });
}
