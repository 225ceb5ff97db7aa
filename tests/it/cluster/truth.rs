//! The cluster is what it is taken for: its rollouts, faults and races are those of any Kubernetes.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Pod, Service};
use kube::ResourceExt;
use kube::api::{DeleteParams, LogParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::container::{BEHAVIOUR, VERSION_HEADER};
use super::namespace::{LOOK_EVERY, Needs, PATIENCE, PORT, deployment, is_ready, on_cluster};

fn container(pod: &Pod) -> ContainerStatus {
    let mut statuses = pod.status.iter().flat_map(|status| &status.container_statuses).flatten();
    statuses.next().cloned().unwrap_or_default()
}

/// Why a container waits.
fn waits(pod: &Pod) -> Option<String> {
    container(pod).state?.waiting?.reason
}

/// Why a container's previous life ended.
fn ended(pod: &Pod) -> Option<String> {
    container(pod).last_state?.terminated?.reason
}

async fn ask(pod: &Pod, path: &str) -> reqwest::Response {
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()).expect("a pod has an address");
    reqwest::get(format!("http://{ip}:{PORT}{path}")).await.unwrap()
}

#[test]
fn a_deployment_rolls_out_and_its_pods_answer() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 2, "shop:v1").await;
        cluster.rolled_out("shop").await;
        let first = cluster.hash("shop").await;
        cluster.set_image("shop", "shop:v2").await;
        cluster.rolled_out("shop").await;
        assert_ne!(cluster.hash("shop").await, first);
        let all_new = |pods: &[Pod]| pods.len() == 2 && pods.iter().all(is_ready);
        for pod in cluster.until_pods("shop", "only the new ones", all_new).await {
            assert_ne!(pod.labels()["pod-template-hash"], first);
            let answer = ask(&pod, "/").await;
            assert_eq!(answer.headers()[VERSION_HEADER], "v2");
            let health: Value = serde_json::from_str(&ask(&pod, "/health").await.text().await.unwrap()).unwrap();
            assert_eq!([&health["status"], &health["version"]], ["Healthy", "v2"]);
            assert_eq!(health["pod"], pod.name_any());
        }
    });
}

#[test]
fn requests_come_by_themselves_and_fail_as_the_image_says() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 1, "shop:v2-errors40-rate1000").await;
        cluster.rolled_out("shop").await;
        let pod = cluster.pods("shop").await.remove(0);
        let counts = async || {
            let page = ask(&pod, "/metrics").await.text().await.unwrap();
            let count = |code: u16| -> f64 {
                let name = format!("http_requests_total{{code=\"{code}\"}} ");
                page.lines().find_map(|line| line.strip_prefix(&name)).expect("a count").parse().unwrap()
            };
            [count(200), count(500)]
        };
        let begun = counts().await;
        let [good, bad] = loop {
            let now = counts().await;
            if now[0] - begun[0] > 500.0 {
                break [now[0] - begun[0], now[1] - begun[1]];
            }
            sleep(LOOK_EVERY).await;
        };
        let share = bad / (good + bad);
        assert!((share - 0.4).abs() < 0.01, "{share}");
    });
}

#[test]
fn a_service_leads_to_the_ready_pods_that_it_selects() {
    on_cluster(Needs::Pods, async |cluster| {
        for (name, image) in [("blue", "shop:v1"), ("green", "shop:v2")] {
            cluster.deploy(name, 2, image).await;
        }
        let spec = json!({ "selector": { "app": "blue" }, "ports": [{ "port": 80, "targetPort": "http" }] });
        let service: Service = cluster.create(json!({ "metadata": { "name": "shop" }, "spec": spec })).await;
        let url = format!("http://{}/", service.spec.unwrap().cluster_ip.unwrap());
        for name in ["blue", "green"] {
            cluster.rolled_out(name).await;
        }
        // A client of its own for each request: one connection stays with one pod.
        let version = async || match reqwest::get(&url).await {
            Ok(answer) => answer.headers()[VERSION_HEADER].to_str().unwrap().to_owned(),
            Err(_) => "no answer".to_owned(),
        };
        for (colour, expected) in [("blue", "v1"), ("green", "v2")] {
            let patch = json!({ "spec": { "selector": { "app": colour } } });
            cluster.api::<Service>().patch("shop", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
            let deadline = Instant::now() + PATIENCE;
            while version().await != expected {
                assert!(Instant::now() < deadline, "{expected} does not answer");
                sleep(LOOK_EVERY).await;
            }
            for _ in 0..10 {
                assert_eq!(version().await, expected);
            }
        }
    });
}

#[test]
fn of_two_fenced_writers_one_wins() {
    on_cluster(Needs::Api, async |cluster| {
        let mut paused = deployment("shop", 0, "shop:v1");
        paused["spec"]["paused"] = true.into();
        let mut newest: Deployment = cluster.create(paused).await;
        let write = async |fences: Vec<Value>, image: String| {
            let mut patch = fences;
            let path = "/spec/template/spec/containers/0/image";
            patch.push(json!({ "op": "replace", "path": path, "value": image }));
            let patch: Patch<()> = Patch::Json(serde_json::from_value(Value::Array(patch)).unwrap());
            cluster.api::<Deployment>().patch("shop", &PatchParams::default(), &patch).await
        };
        for race in 0..50 {
            let fences = vec![
                json!({ "op": "test", "path": "/metadata/uid", "value": newest.metadata.uid }),
                json!({ "op": "test", "path": "/metadata/generation", "value": newest.metadata.generation }),
            ];
            let (one, other) = tokio::join!(
                write(fences.clone(), format!("shop:v{race}-after1")),
                write(fences, format!("shop:v{race}-after2")),
            );
            let (winner, loser) = if one.is_ok() { (one, other) } else { (other, one) };
            newest = winner.expect("one of them wins");
            let refusal = loser.expect_err("and one only").to_string();
            assert!(refusal.contains("422") || refusal.contains("test"), "race {race}: {refusal}");
        }
        // Without fences both have their way, so it is the fences that decide above.
        let (one, other) =
            tokio::join!(write(Vec::new(), "shop:v1".to_owned()), write(Vec::new(), "shop:v2".to_owned()));
        assert!(one.is_ok() && other.is_ok());
    });
}

#[test]
fn a_pod_out_of_memory_is_said_to_be_oom_killed() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 1, "shop:v2-oom").await;
        let killed = |pods: &[Pod]| pods.iter().any(|pod| ended(pod).as_deref() == Some("OOMKilled"));
        let pods = cluster.until_pods("shop", "killed", killed).await;
        let last = container(&pods[0]).last_state.unwrap().terminated.unwrap();
        assert_eq!(last.exit_code, 137);
        assert!(last.started_at.is_some() && last.finished_at >= last.started_at, "{last:?}");
    });
}

#[test]
fn a_crash_loop_counts_its_restarts_and_backs_off() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 1, "shop:v2-crash").await;
        let looping = |pods: &[Pod]| {
            let in_loop = |pod: &Pod| waits(pod).as_deref() == Some("CrashLoopBackOff");
            pods.iter().any(|pod| container(pod).restart_count >= 2 && in_loop(pod))
        };
        let pods = cluster.until_pods("shop", "in a crash loop", looping).await;
        let last = container(&pods[0]).last_state.unwrap().terminated.unwrap();
        assert_eq!((last.exit_code, last.reason.as_deref()), (1, Some("Error")));
        let before = LogParams { previous: true, tail_lines: Some(1), ..LogParams::default() };
        let log = cluster.api::<Pod>().logs(&pods[0].name_any(), &before).await.unwrap();
        assert_eq!(log, "fatal: the image is broken\n");
    });
}

#[test]
fn an_image_that_no_registry_has_is_not_pulled() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 1, "shop:v2-missing").await;
        let reasons = ["ErrImagePull", "ImagePullBackOff"];
        for reason in reasons {
            let waiting = |pods: &[Pod]| pods.iter().any(|pod| waits(pod).as_deref() == Some(reason));
            let pods = cluster.until_pods("shop", reason, waiting).await;
            assert_eq!(pods[0].status.as_ref().unwrap().phase.as_deref(), Some("Pending"));
        }
    });
}

#[test]
fn a_config_map_is_waited_for_and_reaches_the_process() {
    on_cluster(Needs::Pods, async |cluster| {
        let mut shop = deployment("shop", 1, "shop:v1");
        let from = json!([{ "configMapRef": { "name": "settings" } }]);
        shop["spec"]["template"]["spec"]["containers"][0]["envFrom"] = from;
        cluster.create::<Deployment>(shop).await;
        let waiting = |pods: &[Pod]| pods.iter().any(|pod| waits(pod).as_deref() == Some("CreateContainerConfigError"));
        cluster.until_pods("shop", "waiting for the ConfigMap", waiting).await;
        let settings = json!({ "metadata": { "name": "settings" }, "data": { BEHAVIOUR: "unhealthy" } });
        cluster.create::<ConfigMap>(settings).await;
        cluster.rolled_out("shop").await;
        let answer = ask(&cluster.pods("shop").await[0], "/health").await;
        assert_eq!(answer.status(), 503);
    });
}

#[test]
fn pods_that_are_never_ready_stop_a_rollout_at_its_deadline() {
    on_cluster(Needs::Pods, async |cluster| {
        let mut shop = deployment("shop", 2, "shop:v1");
        shop["spec"]["progressDeadlineSeconds"] = 3.into();
        cluster.create::<Deployment>(shop).await;
        cluster.rolled_out("shop").await;
        cluster.set_image("shop", "shop:v2-never-ready").await;
        cluster
            .until("shop", "past its deadline", |found: &Deployment| {
                let mut conditions = found.status.iter().flat_map(|status| &status.conditions).flatten();
                conditions.any(|condition| condition.reason.as_deref() == Some("ProgressDeadlineExceeded"))
            })
            .await;
        let pods = cluster.pods("shop").await;
        let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        let (new, old): (Vec<_>, Vec<_>) = pods.iter().partition(|pod| image(pod) == "shop:v2-never-ready");
        assert!(
            !new.is_empty() && new.iter().all(|pod| !is_ready(pod) && container(pod).state.unwrap().running.is_some())
        );
        assert!(old.len() == 2 && old.iter().all(|pod| is_ready(pod)));
    });
}

#[test]
fn a_deleted_pod_ends_unless_it_is_stuck() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("well", 1, "shop:v1").await;
        cluster.deploy("stuck", 1, "shop:v1-stuck").await;
        for name in ["well", "stuck"] {
            cluster.rolled_out(name).await;
        }
        let [well, stuck] = [cluster.pods("well").await.remove(0), cluster.pods("stuck").await.remove(0)];
        for pod in [&stuck, &well] {
            let soon = DeleteParams::default().grace_period(1);
            cluster.api::<Pod>().delete(&pod.name_any(), &soon).await.unwrap();
        }
        let has = |pods: &[Pod], pod: &Pod| pods.iter().any(|found| found.metadata.uid == pod.metadata.uid);
        cluster.until_pods("well", "replaced", |pods| !has(pods, &well)).await;
        let pods = cluster.pods("stuck").await;
        let found = pods.iter().find(|pod| pod.metadata.uid == stuck.metadata.uid).expect("it does not go");
        assert!(found.metadata.deletion_timestamp.is_some());
        assert!(ask(&stuck, "/health").await.status().is_success(), "its process does not end");
        let force = DeleteParams::default().grace_period(0);
        cluster.api::<Pod>().delete(&stuck.name_any(), &force).await.unwrap();
        cluster.until_pods("stuck", "gone", |pods| !has(pods, &stuck)).await;
    });
}
