//! What a thousand workloads with five thousand pods cost: memory of the daemon, and what it asks of the API server.
//!
//! `cargo test --test it cluster::scale -- --ignored --nocapture` takes half an hour of a machine that does nothing else,
//! and prints the figures; `ROLLBACKD_TEST_BINARY` names another build of the daemon than that of the tests.
//!
//! The objects are those that the real controllers make of real Deployments, with all that is noted of who wrote what. No
//! node has the pods, and no process is behind them: their status is written as a kubelet writes it.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::namespace::{Cluster, Needs, PORT, is_ready, is_rolled_out, on_cluster};
use super::proxy::{Ask, Proxy};
use super::stage::MEASURED;
use super::watch::Watch;

const WORKLOADS: usize = 1_000;
const REPLICAS: usize = 5;

/// Memory of the daemon at most.
const MOST_MIB: f64 = 128.0;
/// Requests a second at most, while nothing happens.
const MOST_REQUESTS: f64 = 1.0;
/// For how long they are counted: rights are asked for anew within it.
const STEADY: Duration = Duration::from_secs(330);
/// How long the daemon may take to see everything, and to settle.
const SETTLES: Duration = Duration::from_secs(45);
/// No machine is so slow.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// Requests of the test that are under way at a time.
const AT_ONCE: usize = 16;
/// Time between two releases: what a small machine that runs the whole cluster besides can roll out.
const RELEASE_EVERY: Duration = Duration::from_millis(200);
/// Time between two looks at everything.
const LOOK_EVERY: Duration = Duration::from_secs(2);

#[test]
#[ignore = "it takes half an hour"]
fn a_thousand_workloads_with_five_thousand_pods() {
    on_cluster(Needs::Fleet, async |cluster| {
        let kubelet = keep_pods_ready(cluster.api());
        let _kubelet = AbortOnDropHandle::new(tokio::spawn(kubelet));
        let begun = Instant::now();
        create_all(cluster).await;
        all_are_at(cluster, "v1").await;
        say(&format!("{WORKLOADS} Deployments with {REPLICAS} pods each are there after {:.0?}", begun.elapsed()));

        let proxy = Proxy::before(cluster.client()).await;
        let begun = Instant::now();
        let lease = format!("[daemon.lease]\nnamespace = \"{}\"", cluster.namespace());
        let behind = cluster.with(proxy.path().to_owned());
        let mut watch = Watch::begin_every(&behind, "selector", ["5s", "30s"], &lease).await;
        let usage = Usage(watch.process());
        let mut last = begun;
        let mut since = |what: &str| {
            let counts = proxy.counts(last);
            say(&format!("{what}: {}; {}", usage.told(), told(&counts, last.elapsed())));
            usage.forget_peak();
            last = Instant::now();
        };
        seen_by(&mut watch, "adopted", |view| !view["current"].is_null()).await;
        since(&format!("all adopted after {:.1?}", begun.elapsed()));
        sleep(SETTLES).await;
        since("after the start");

        let begun = Instant::now();
        release_all(cluster, "v2").await;
        all_are_at(cluster, "v2").await;
        since(&format!("all rolled out within {:.0?}", begun.elapsed()));
        let follows = |view: &Value| {
            view["current"]["image"].as_str().is_some_and(|image| image.contains("v2"))
                && view["releases"].as_array().into_iter().flatten().all(|one| !one["known_good_since"].is_null())
        };
        seen_by(&mut watch, "following", follows).await;
        since(&format!("both releases known good {:.0?} after the rollout began", begun.elapsed()));
        sleep(SETTLES).await;
        since("after the rollout");

        let (before, counted) = (usage.seconds(), Instant::now());
        sleep(STEADY).await;
        let elapsed = counted.elapsed();
        let counts = proxy.counts(counted);
        let cores = (usage.seconds() - before) / elapsed.as_secs_f64() * 100.0;
        since(&format!("steady for {elapsed:.0?}, at {cores:.1} % of a core"));
        let opened = watch.alerts();
        assert!(opened.is_empty(), "nothing was wrong: {}", opened[0].summary);
        let rate = counts.values().sum::<usize>() as f64 / elapsed.as_secs_f64();
        assert!(rate <= MOST_REQUESTS, "{rate:.2} requests a second");
        let resident = usage.mib("VmRSS:");
        assert!(resident <= MOST_MIB, "{resident:.0} MiB");
    });
}

fn say(line: &str) {
    std::io::stdout().write_all(format!("{MEASURED}{line}\n").as_bytes()).unwrap();
}

/// How often what was asked, by how often a second.
fn told(counts: &BTreeMap<(Ask, String), usize>, time: Duration) -> String {
    let all: usize = counts.values().sum();
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let each: Vec<String> =
        counts.into_iter().map(|((ask, resource), count)| format!("{count} {ask:?} {resource}")).collect();
    format!("{:.2} requests a second ({})", all as f64 / time.as_secs_f64(), each.join(", "))
}

fn name(number: usize) -> String {
    format!("service-{number:04}")
}

fn template(name: &str, version: &str) -> Value {
    let variables: Vec<Value> = (0..15)
        .map(|number| json!({ "name": format!("SETTING_{number}"), "value": format!("value-{number}-of-{name}") }))
        .collect();
    let probe = |path: &str| json!({ "httpGet": { "path": path, "port": "http" }, "periodSeconds": 10 });
    json!({
        "metadata": {
            "labels": { "app": name, "team": "payments", "app.kubernetes.io/name": name },
            "annotations": { "prometheus.io/scrape": "true", "prometheus.io/port": PORT.to_string() },
        },
        "spec": {
            // Nobody of that name is there: no node has them, and no process is started.
            "schedulerName": "nobody",
            "terminationGracePeriodSeconds": 30,
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "app",
                "image": format!("registry.example.com/payments/{name}:{version}"),
                "env": variables,
                "ports": [{ "name": "http", "containerPort": PORT }],
                "readinessProbe": probe("/ready"),
                "livenessProbe": probe("/live"),
                "resources": {
                    "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" },
                },
                "volumeMounts": [{ "name": "scratch", "mountPath": "/tmp" }],
            }],
            "volumes": [{ "name": "scratch", "emptyDir": {} }],
        },
    })
}

/// A Deployment as `kubectl apply` leaves it behind.
fn deployment(number: usize) -> Deployment {
    let name = name(number);
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "labels": { "app": name, "shop": "yes", "team": "payments" } },
        "spec": {
            "replicas": REPLICAS,
            "selector": { "matchLabels": { "app": name } },
            // All at once: what is measured is what comes of it, not how long it takes.
            "strategy": { "rollingUpdate": { "maxSurge": "100%", "maxUnavailable": 0 } },
            "template": template(&name, "v1"),
        },
    });
    let applied = object.to_string();
    object["metadata"]["annotations"] = json!({ "kubectl.kubernetes.io/last-applied-configuration": applied });
    serde_json::from_value(object).unwrap()
}

async fn create_all(cluster: &Cluster) {
    let (api, params): (Api<Deployment>, _) = (cluster.api(), PostParams::default());
    let params = PostParams { field_manager: Some("kubectl-client-side-apply".to_owned()), ..params };
    let creations = (0..WORKLOADS).map(|number| {
        let (api, params) = (api.clone(), params.clone());
        async move { api.create(&params, &deployment(number)).await }
    });
    stream::iter(creations).buffer_unordered(AT_ONCE).try_for_each(async |_| Ok(())).await.expect("Deployments");
}

/// One after another, as fast as a cluster may see it.
async fn release_all(cluster: &Cluster, version: &str) {
    let api: Api<Deployment> = cluster.api();
    let mut round = interval(RELEASE_EVERY);
    for name in (0..WORKLOADS).map(name) {
        round.tick().await;
        let patch = json!({ "spec": { "template": template(&name, version) } });
        api.patch(&name, &PatchParams::default(), &Patch::Strategic(patch)).await.expect("a release");
    }
}

/// Waits until every Deployment has rolled a release out.
async fn all_are_at(cluster: &Cluster, version: &str) {
    let is_at = |found: &&Deployment| {
        let containers = found.spec.iter().filter_map(|spec| spec.template.spec.as_ref()).map(|spec| &spec.containers);
        let mut images = containers.flatten().filter_map(|container| container.image.as_deref());
        is_rolled_out(found) && images.all(|image| image.ends_with(version))
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = cluster.api::<Deployment>().list(&ListParams::default()).await.unwrap().items;
        let at = all.iter().filter(is_at).count();
        if at == WORKLOADS {
            return;
        }
        assert!(Instant::now() < deadline, "{at} of {WORKLOADS} are at {version}");
        sleep(LOOK_EVERY * 2).await;
    }
}

/// Waits until the daemon sees each workload so.
async fn seen_by(watch: &mut Watch, what: &str, so: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer: Value = serde_json::from_str(&watch.ask("/api/v1/workloads").await).unwrap_or_default();
        let views = answer.as_array().or_else(|| answer["workloads"].as_array());
        let count = views.into_iter().flatten().filter(|view| so(view)).count();
        if count == WORKLOADS {
            return;
        }
        assert!(Instant::now() < deadline, "{count} of {WORKLOADS} are {what}:\n{}", watch.log());
        sleep(LOOK_EVERY).await;
    }
}

/// Says of every pod that it runs and is ready, as a kubelet does.
async fn keep_pods_ready(api: Api<Pod>) {
    let params = PatchParams { field_manager: Some("kubelet".to_owned()), ..PatchParams::default() };
    let fresh = watcher(api.clone(), watcher::Config::default()).default_backoff().applied_objects();
    let fresh = fresh.filter_map(async |pod| pod.ok().filter(|pod| !is_ready(pod)));
    let each = fresh.for_each_concurrent(AT_ONCE, async |pod| {
        let patch = json!({ "metadata": { "uid": pod.uid() }, "status": status(&pod) });
        // One that is gone needs none.
        let _ = api.patch_status(&pod.name_any(), &params, &Patch::Strategic(&patch)).await;
    });
    each.await;
}

fn status(pod: &Pod) -> Value {
    let now = k8s_openapi::jiff::Timestamp::now();
    let now = json!(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    let kinds = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let conditions = kinds.map(|kind| json!({ "type": kind, "status": "True", "lastTransitionTime": now }));
    // Whichever: nobody looks there.
    let ip = format!("10.42.{}.7", pod.name_any().bytes().map(u32::from).sum::<u32>() % 256);
    let container = &pod.spec.as_ref().expect("a pod has a spec").containers[0];
    let digest = "4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1";
    json!({
        "phase": "Running",
        "startTime": now,
        "hostIP": "10.42.0.1", "hostIPs": [{ "ip": "10.42.0.1" }],
        "podIP": ip, "podIPs": [{ "ip": ip }],
        "conditions": conditions,
        "containerStatuses": [{
            "name": container.name, "image": container.image, "imageID": format!("registry.example.com/app@sha256:{digest}"),
            "containerID": format!("containerd://{digest}"), "ready": true, "started": true, "restartCount": 0,
            "lastState": {}, "state": { "running": { "startedAt": now } },
        }],
    })
}

/// What the system says of the daemon's process.
struct Usage(u32);

impl Usage {
    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.0)).expect("it runs")
    }

    fn mib(&self, key: &str) -> f64 {
        let status = self.file("status");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }

    /// Processor time so far.
    fn seconds(&self) -> f64 {
        let stat = self.file("stat");
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2);
        fields.map(|field| field.parse::<f64>().unwrap()).sum::<f64>() / 100.0
    }

    fn told(&self) -> String {
        let [resident, peak] = ["VmRSS:", "VmHWM:"].map(|key| self.mib(key));
        format!("RSS {resident:.0} MiB, at most {peak:.0} MiB; {:.1} s of a processor so far", self.seconds())
    }

    /// The next peak is that from now on.
    fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.0), "5").unwrap();
    }
}
