//! What a thousand workloads with five thousand pods cost: memory of the daemon, and what it asks of the API server; and
//! whether it sees and acts while several of them are rolled out each second.
//!
//! `cargo test --test it cluster::scale -- --ignored --nocapture` takes a quarter of an hour of a machine that does
//! nothing else, most of which the daemon takes for its first rehearsals, and prints the figures; `ROLLBACKD_TEST_BINARY` names
//! another build of the daemon than that of the tests, and `ROLLBACKD_TEST_WORKLOADS` another number of workloads. Of many
//! namespaces, each of which has watches of its own, only the steady load is counted.
//!
//! The objects are those that the real controllers make of real Deployments, with all that is noted of who wrote what. No
//! node has the pods, and no process is behind them: their status is written as a kubelet writes it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, PodSpec};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, ResourceExt};
use rollbackd::domain::incident::alert::Alert;
use serde_json::{Value, json};
use tokio::time::{Instant, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::namespace::{Cluster, Needs, PORT, is_ready, is_rolled_out, on_cluster};
use super::proxy::{Ask, Proxy};
use super::stage::MEASURED;
use super::watch::Watch;

/// Workloads where nothing else is said.
const WORKLOADS: usize = 1_000;
/// Set by people: another number of them.
const OTHER: &str = "ROLLBACKD_TEST_WORKLOADS";
const REPLICAS: usize = 5;

/// Memory of the daemon at most.
const MOST_MIB: f64 = 128.0;
/// Requests a second at most, while nothing happens.
const MOST_REQUESTS: f64 = 1.0;
/// Namespaces beside the test's own, where it is about many.
const NAMESPACES: usize = 50;
/// For how long requests are counted there: as long as a watch stays open.
const STEADY_OF_MANY: Duration = Duration::from_secs(620);
/// For how long they are counted.
const STEADY: Duration = Duration::from_secs(120);
/// Each workload's first rehearsal has a second of its own. They are through when there are no more within this time than
/// there are for good.
const REHEARSED: Duration = Duration::from_secs(30);
const REHEARSALS: usize = 3;
/// No machine is so slow.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// Requests of the test that are under way at a time.
const AT_ONCE: usize = 16;
/// For how long one workload after another is released,
const STORM: Duration = Duration::from_secs(90);
/// and how often one is: what a small machine that runs the whole cluster besides can roll out.
const RELEASE_EVERY: Duration = Duration::from_millis(180);
/// The workload that gets a bad release, and the one after whose release it does.
const BAD: usize = 0;
const BAD_AFTER: usize = 150;
/// Time between two kills of each of its pods.
const KILL_EVERY: Duration = Duration::from_secs(2);
/// Time between two looks at everything.
const LOOK_EVERY: Duration = Duration::from_secs(2);

#[test]
#[ignore = "it takes a quarter of an hour"]
fn a_thousand_workloads_with_five_thousand_pods() {
    on_cluster(Needs::Fleet, async |cluster| {
        let all = std::env::var(OTHER).map_or(WORKLOADS, |number| number.parse().expect("a number"));
        let kubelet = keep_pods_ready(cluster.api());
        let _kubelet = AbortOnDropHandle::new(tokio::spawn(kubelet));
        let begun = Instant::now();
        create_all(cluster, all).await;
        are_rolled_out(cluster, all).await;
        say(&format!("{all} Deployments with {REPLICAS} pods each are there after {:.0?}", begun.elapsed()));

        let proxy = Proxy::before(cluster.client()).await;
        let begun = Instant::now();
        let lease = format!("[daemon.lease]\nnamespace = \"{}\"", cluster.namespace());
        let behind = cluster.with(proxy.path().to_owned());
        let watch = Watch::begin_every(&behind, "selector", ["5s", "30s"], &lease).await;
        let usage = Usage(watch.process());
        let mut last = (begun, asked_of_all(cluster).await);
        let mut since = async |what: &str| {
            let (counts, of_all) = (proxy.counts(last.0), asked_of_all(cluster).await);
            let elapsed = last.0.elapsed();
            let rate = (of_all - last.1) / elapsed.as_secs_f64();
            say(&format!("{what}: {}; {}, of {rate:.0} that the server has", usage.told(), told(&counts, elapsed)));
            usage.forget_peak();
            last = (Instant::now(), of_all);
        };
        let is_adopted = |view: &Value| !view["current"].is_null();
        let seen = sights(&watch, all, "adopted", |sight| sight.count(is_adopted) == all).await;
        since(&format!("all adopted after {:.1?}; {seen}", begun.elapsed())).await;
        let seen = sights(&watch, all, "good", |sight| sight.count(is_good) == all && sight.blind() == 0).await;
        since(&format!("all known good after {:.1?}; {seen}", begun.elapsed())).await;

        let begun = Instant::now();
        let storm = async {
            let (released, undone) = release_one_after_another(cluster, all).await;
            are_rolled_out(cluster, all).await;
            (released, undone, begun.elapsed())
        };
        let over = AtomicBool::new(false);
        let storm = async {
            let storm = storm.await;
            over.store(true, Ordering::SeqCst);
            storm
        };
        let seen = sights(&watch, all, "there", |_| over.load(Ordering::SeqCst));
        let ((released, undone, elapsed), seen) = tokio::join!(storm, seen);
        let rate = released as f64 / STORM.as_secs_f64();
        since(&format!("{released} released, {rate:.1} a second, rolled out within {elapsed:.0?}; {seen}")).await;
        say(&format!("the bad one of them was undone {undone:.1?} after its first pod was killed"));
        let begun = Instant::now();
        let is_well = |sight: &Glance| sight.blind() == 0 && sight.count(is_good) == all;
        let seen = sights(&watch, all, "well again", is_well).await;
        since(&format!("all seen and known good {:.0?} after the last rollout; {seen}", begun.elapsed())).await;

        let begun = Instant::now();
        all_are_rehearsed(&proxy).await;
        since(&format!("all rehearsed {:.0?} after that", begun.elapsed())).await;

        let (before, counted) = (usage.seconds(), Instant::now());
        sleep(STEADY).await;
        let elapsed = counted.elapsed();
        let counts = proxy.counts(counted);
        let cores = (usage.seconds() - before) / elapsed.as_secs_f64() * 100.0;
        since(&format!("steady for {elapsed:.0?}, at {cores:.1} % of a core")).await;
        let alerts = watch.alerts();
        let others: Vec<&Alert> = alerts.iter().filter(|alert| alert.workload.as_str() != watched(BAD)).collect();
        let blind = others.iter().filter(|alert| alert.trigger.name == "blind").count();
        say(&format!("told: {}, of which {} not of the bad one, {blind} of blindness", alerts.len(), others.len()));
        assert!(others.is_empty(), "nothing was wrong: {}", others[0].summary);
        let rate = counts.values().sum::<usize>() as f64 / elapsed.as_secs_f64();
        assert!(rate <= MOST_REQUESTS, "{rate:.2} requests a second");
        let resident = usage.mib("VmRSS:");
        assert!(resident <= MOST_MIB, "{resident:.0} MiB");
    });
}

#[test]
#[ignore = "it takes twenty minutes"]
fn many_namespaces_are_watched_with_few_requests() {
    on_cluster(Needs::Fleet, async |cluster| {
        let own = cluster.namespace().to_owned();
        let others: Vec<String> = (0..NAMESPACES).map(|number| format!("{own}-{number}")).collect();
        let namespaces: Api<Namespace> = cluster.everywhere();
        for name in &others {
            let object = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
            namespaces.create(&PostParams::default(), &object).await.expect("a namespace");
        }
        let mut kubelets = Vec::new();
        for (number, name) in others.iter().chain([&own]).enumerate() {
            let client = cluster.client().clone();
            kubelets.push(AbortOnDropHandle::new(tokio::spawn(keep_pods_ready(Api::namespaced(client.clone(), name)))));
            let api: Api<Deployment> = Api::namespaced(client, name);
            api.create(&PostParams::default(), &deployment(number)).await.expect("a Deployment");
        }
        let proxy = Proxy::before(cluster.client()).await;
        let begun = Instant::now();
        let watched = others.iter().enumerate().map(|(number, name)| {
            format!(
                "[workload.shop-{number}]\nkubernetes = {{ namespace = \"{name}\", selector = \"shop\" }}\n\
                 interval = \"5s\"\nknown_good_after = \"30s\"\nnotify = [\"test\"]\n"
            )
        });
        let policy: String = watched.collect();
        let watch =
            Watch::begin_every(&cluster.with(proxy.path().to_owned()), "selector", ["5s", "30s"], &policy).await;
        let all = NAMESPACES + 1;
        sights(&watch, all, "good", |sight| sight.count(is_good) == all && sight.blind() == 0).await;
        say(&format!("all in {all} namespaces known good after {:.0?}", begun.elapsed()));
        all_are_rehearsed(&proxy).await;
        let (counted, asked) = (Instant::now(), asked_of_all(cluster).await);
        sleep(STEADY_OF_MANY).await;
        let (counts, elapsed) = (proxy.counts(counted), counted.elapsed());
        let of_all = (asked_of_all(cluster).await - asked) / elapsed.as_secs_f64();
        say(&format!("steady for {elapsed:.0?}: {}, of {of_all:.0} that the server has", told(&counts, elapsed)));
        for name in &others {
            namespaces.delete(name, &DeleteParams::default()).await.expect("the namespace goes");
        }
        let rate = counts.values().sum::<usize>() as f64 / elapsed.as_secs_f64();
        assert!(rate <= MOST_REQUESTS, "{rate:.2} requests a second");
    });
}

/// How the daemon sees everything at one moment.
struct Glance(Vec<Value>);

impl Glance {
    async fn at(watch: &Watch) -> Self {
        let answer: Value = serde_json::from_str(&watch.ask("/api/v1/workloads").await).unwrap_or_default();
        let views = answer.as_array().or_else(|| answer["workloads"].as_array());
        Self(views.cloned().unwrap_or_default())
    }

    fn count(&self, so: impl Fn(&Value) -> bool) -> usize {
        self.0.iter().filter(|view| so(view)).count()
    }

    fn blind(&self) -> usize {
        self.count(|view| !view["assessment"]["blind"].is_null())
    }

    /// Age of what is known of each workload, in seconds.
    fn ages(&self) -> Vec<f64> {
        let now = k8s_openapi::jiff::Timestamp::now();
        let newest = |view: &Value| {
            let signals = view["assessment"]["signals"].as_array().into_iter().flatten();
            let times = signals.filter_map(|signal| signal["newest"].as_str()?.parse().ok());
            times.max().map(|at: k8s_openapi::jiff::Timestamp| now.duration_since(at).as_secs_f64())
        };
        let mut ages: Vec<f64> = self.0.iter().filter_map(newest).collect();
        ages.sort_by(f64::total_cmp);
        ages
    }
}

/// Every release that is known of it is one to go back to, or known to be bad.
fn is_good(view: &Value) -> bool {
    let mut releases = view["releases"].as_array().into_iter().flatten();
    let is_settled = |one: &Value| !one["known_good_since"].is_null() || one["image"] == image(&name(BAD), "v2");
    !view["current"].is_null() && view["incident"].is_null() && releases.all(is_settled)
}

/// What the policy calls a workload of the selection.
fn watched(number: usize) -> String {
    format!("shop.{}", name(number))
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

fn image(name: &str, version: &str) -> String {
    format!("registry.example.com/payments/{name}:{version}")
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
                "image": image(name, version),
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

async fn create_all(cluster: &Cluster, all: usize) {
    let (api, params): (Api<Deployment>, _) = (cluster.api(), PostParams::default());
    let params = PostParams { field_manager: Some("kubectl-client-side-apply".to_owned()), ..params };
    let creations = (0..all).map(|number| {
        let (api, params) = (api.clone(), params.clone());
        async move { api.create(&params, &deployment(number)).await }
    });
    stream::iter(creations).buffer_unordered(AT_ONCE).try_for_each(async |_| Ok(())).await.expect("Deployments");
}

async fn release(api: &Api<Deployment>, name: &str) {
    let patch = json!({ "spec": { "template": template(name, "v2") } });
    api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await.expect("a release");
}

/// One after another, as fast as a cluster may see it, and among them a bad one. How many, and how long the bad one lived.
async fn release_one_after_another(cluster: &Cluster, all: usize) -> (usize, Duration) {
    let api: Api<Deployment> = cluster.api();
    let (due, begins) = tokio::sync::oneshot::channel();
    let storm = async {
        let mut due = Some(due);
        let (mut round, end) = (interval(RELEASE_EVERY), Instant::now() + STORM);
        let mut released = 0;
        for number in (0..all).filter(|number| *number != BAD) {
            round.tick().await;
            if Instant::now() > end {
                break;
            }
            release(&api, &name(number)).await;
            released += 1;
            if released >= BAD_AFTER.min(all / 2)
                && let Some(due) = due.take()
            {
                due.send(()).expect("somebody waits");
            }
        }
        released
    };
    let bad = async {
        begins.await.expect("it is told");
        release(&api, &name(BAD)).await;
        is_undone(cluster, &name(BAD)).await
    };
    tokio::join!(storm, bad)
}

/// Kills the pods of a bad release for their memory until it is taken back: how long after the first kill that is.
async fn is_undone(cluster: &Cluster, name: &str) -> Duration {
    let (pods, params): (Api<Pod>, _) = (cluster.api(), PatchParams::default());
    let params = PatchParams { field_manager: Some("kubelet".to_owned()), ..params };
    let bad = image(name, "v2");
    let image_of = |spec: Option<&PodSpec>| spec.and_then(|spec| spec.containers[0].image.clone());
    let mut first: Option<Instant> = None;
    let mut kills = interval(KILL_EVERY);
    loop {
        kills.tick().await;
        for pod in cluster.pods(name).await.iter().filter(|pod| image_of(pod.spec.as_ref()) == Some(bad.clone())) {
            if is_ready(pod) {
                let patch = json!({ "status": killed(pod) });
                let _ = pods.patch_status(&pod.name_any(), &params, &Patch::Strategic(&patch)).await;
                first.get_or_insert_with(Instant::now);
            }
        }
        let found: Deployment = cluster.api().get(name).await.expect("the bad one");
        let is_at = image_of(found.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()));
        match first {
            Some(first) if is_at != Some(bad.clone()) => return first.elapsed(),
            Some(first) => assert!(first.elapsed() < PATIENCE, "{name} is not taken back"),
            None => {}
        }
    }
}

/// Waits until no rollout is under way.
async fn are_rolled_out(cluster: &Cluster, all: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = cluster.api::<Deployment>().list(&ListParams::default()).await.unwrap().items;
        let count = found.iter().filter(|found| is_rolled_out(found)).count();
        if count == all {
            return;
        }
        assert!(Instant::now() < deadline, "{count} of {all} are rolled out");
        sleep(LOOK_EVERY * 2).await;
    }
}

/// Looks at everything until it is so: how many were blind meanwhile, and how old what was known was.
async fn sights(watch: &Watch, all: usize, what: &str, so: impl Fn(&Glance) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    let (mut blind, mut looks, mut oldest, mut middle) = (0, 0, 0.0_f64, 0.0_f64);
    loop {
        let glance = Glance::at(watch).await;
        let ages = glance.ages();
        blind = blind.max(glance.blind());
        oldest = oldest.max(ages.last().copied().unwrap_or_default());
        middle = middle.max(ages.get(ages.len() / 2).copied().unwrap_or_default());
        looks += 1;
        if so(&glance) {
            return format!(
                "in {looks} looks at most {blind} were blind, what was known was {middle:.1} s old at the median and \
                 {oldest:.1} s at most"
            );
        }
        assert!(Instant::now() < deadline, "of {all} not all are {what}:\n{}", watch.log());
        sleep(LOOK_EVERY).await;
    }
}

/// Waits until the first look at what a rollback of each needs is over.
async fn all_are_rehearsed(proxy: &Proxy) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let since = Instant::now();
        sleep(REHEARSED).await;
        let counts = proxy.counts(since);
        let looks = counts.get(&(Ask::List, "resourcequotas".to_owned())).copied().unwrap_or_default();
        if looks <= REHEARSALS {
            return;
        }
        assert!(Instant::now() < deadline, "{looks} rehearsals within {REHEARSED:?}");
    }
}

/// Requests that the API server had so far, from whomever.
async fn asked_of_all(cluster: &Cluster) -> f64 {
    let request = axum::http::Request::get("/metrics").body(Vec::new()).unwrap();
    let page = cluster.client().request_text(request).await.expect("the server's own metrics");
    let counts = page.lines().filter(|line| line.starts_with("apiserver_request_total{"));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
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

/// How a pod is whose process was killed for its memory and runs again.
fn killed(pod: &Pod) -> Value {
    let mut status = json!(pod.status);
    let container = &mut status["containerStatuses"][0];
    let kills = container["restartCount"].as_i64().unwrap_or_default() + 1;
    let now = container["state"]["running"]["startedAt"].clone();
    container["restartCount"] = json!(kills);
    let end = json!({ "exitCode": 137, "reason": "OOMKilled", "startedAt": now, "finishedAt": now });
    container["lastState"] = json!({ "terminated": end });
    status
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
