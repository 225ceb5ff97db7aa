//! Two replicas of the real daemon, or two sidecars, which watch one Deployment of a test's namespace and tell one receiver.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use futures::TryStreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use rollbackd::domain::incident::alert::{Alert, Phase};
use rollbackd::domain::incident::record::Record;
use rollbackd::domain::incident::state::WorkloadState;
use rollbackd::store::Store;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::namespace::{Cluster, LOOK_EVERY, PATIENCE};

/// The workload's name in the policy.
const WORKLOAD: &str = "shop";
/// The lease's name where the policy says nothing else.
pub(super) const LEASE: &str = "rollbackd";
/// That of the shipped sidecars.
const SIDECARS: &str = "rollbackd-shop";

/// Both replicas, and all that they have told.
pub(super) struct Pair<'c> {
    cluster: &'c Cluster,
    replicas: [Replica; 2],
    /// What each is called.
    names: [String; 2],
    /// The Lease by which they agree.
    lease: &'static str,
    inbox: Arc<Inbox>,
}

/// What a receiver was told, while it listens.
#[derive(Default)]
struct Inbox {
    told: Mutex<Vec<Value>>,
    is_deaf: AtomicBool,
}

/// The two places of a policy that say who acts, and for what.
struct Place {
    lease: String,
    kubernetes: String,
}

struct Replica {
    dir: TempDir,
    child: Child,
}

impl<'c> Pair<'c> {
    /// Two replicas, one of which leads, with more keys for the Lease and for the workload.
    pub(super) async fn start(cluster: &'c Cluster, leases: [&str; 2], more: &str) -> Self {
        Self::over(cluster, "", leases, more).await
    }

    async fn over(cluster: &'c Cluster, place: &str, leases: [&str; 2], more: &str) -> Self {
        let namespace = cluster.namespace();
        let places = leases.map(|lease| Place {
            lease: format!("namespace = \"{namespace}\"\n{lease}"),
            kubernetes: format!("{place}namespace = \"{namespace}\", deployment = \"shop\""),
        });
        Self::run(cluster, [0, 1].map(|number| format!("replica-{number}")), LEASE, places, more).await
    }

    /// Two that keep the ConfigMaps that a release names, once the release that runs is a goal to go back to.
    pub(super) async fn that_keep_maps(cluster: &'c Cluster, more: &str) -> Self {
        let pair = Self::over(cluster, "keep = [\"configmaps\"], ", ["", ""], more).await;
        pair.knows_a_goal().await;
        pair
    }

    /// A sidecar in each of two pods, which know of the workload only their own pod, with more keys said beside that and for
    /// the workload.
    pub(super) async fn of_sidecars(cluster: &'c Cluster, pods: [String; 2], beside: &str, more: &str) -> Self {
        let place = || Place {
            lease: format!("name = \"{SIDECARS}\"\nnamespace = \"{}\"\n", cluster.namespace()),
            kubernetes: format!("{beside}owner = \"self\""),
        };
        Self::run(cluster, pods, SIDECARS, [place(), place()], more).await
    }

    async fn run(
        cluster: &'c Cluster,
        names: [String; 2],
        lease: &'static str,
        places: [Place; 2],
        more: &str,
    ) -> Self {
        let inbox: Arc<Inbox> = Arc::default();
        let receiver = receive(Arc::clone(&inbox)).await;
        let replicas = [0, 1].map(|number| {
            let dir = tempfile::tempdir().unwrap();
            let text = policy(dir.path(), receiver, &places[number], more);
            std::fs::write(dir.path().join("policy.toml"), text).unwrap();
            let child = run(dir.path(), &names[number], cluster);
            Replica { dir, child }
        });
        Self { cluster, replicas, names, lease, inbox }
    }

    /// The same, once the release that runs is a goal to go back to and one replica leads.
    pub(super) async fn that_know_a_goal(cluster: &'c Cluster, lease: &str, more: &str) -> Self {
        let pair = Self::start(cluster, [lease, lease], more).await;
        pair.knows_a_goal().await;
        pair
    }

    /// Waits until the release that runs is a goal to go back to, and one leads.
    pub(super) async fn knows_a_goal(&self) {
        self.until("sure of a goal", async || {
            let state = self.state().await;
            state.is_some_and(|state| state.ledger.iter().any(|(_, standing)| standing.known_good_since.is_some()))
        })
        .await;
    }

    /// Which replica the Lease names.
    pub(super) async fn leader(&self) -> Option<usize> {
        let lease: Option<Lease> = self.cluster.api().get_opt(self.lease).await.unwrap();
        let holder = lease?.spec?.holder_identity?;
        [0, 1].into_iter().find(|number| holder.starts_with(&format!("{}_", self.names[*number])))
    }

    /// Waits until another replica than this one leads.
    pub(super) async fn until_another_leads(&self, than: usize) -> usize {
        let other = 1 - than;
        self.until("led by the other", async || self.leader().await == Some(other)).await;
        other
    }

    pub(super) fn signal(&self, number: usize, signal: Signal) {
        let id = self.replicas[number].child.id().expect("it runs");
        kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), signal).unwrap();
    }

    /// Waits for the end of a replica.
    pub(super) async fn ends(&mut self, number: usize) {
        let ended = timeout(PATIENCE, self.replicas[number].child.wait()).await;
        ended.unwrap_or_else(|_| panic!("replica {number} does not end:\n{}", self.log(number))).unwrap();
    }

    pub(super) fn log(&self, number: usize) -> String {
        std::fs::read_to_string(self.replicas[number].dir.path().join("log")).unwrap_or_default()
    }

    /// The ConfigMap of the workload.
    async fn map(&self) -> Option<ConfigMap> {
        let all = self.cluster.api::<ConfigMap>().list(&labelled(self.lease)).await.unwrap();
        all.items.into_iter().find(|map| map.data.as_ref().is_some_and(|data| data["workload"] == WORKLOAD))
    }

    /// What the cluster has on record, folded.
    pub(super) async fn state(&self) -> Option<WorkloadState> {
        let (base, records) = shared(&self.map().await?);
        let mut state: WorkloadState = base;
        for record in &records {
            state.apply(record).expect("it can follow");
        }
        Some(state)
    }

    /// Waits until the cluster has an event on record.
    pub(super) async fn until_recorded(&self, event: &str) {
        let named = watcher::Config::default().labels(&format!("rollbackd-lease={}", self.lease));
        let maps = watcher(self.cluster.api::<ConfigMap>(), named).applied_objects();
        let found = maps.try_filter(|map| {
            let (_, records) = shared(map);
            futures::future::ready(records.iter().any(|record| record.event.name() == event))
        });
        let mut found = Box::pin(found);
        if timeout(PATIENCE, found.try_next()).await.is_err() {
            panic!("{event} is not on record:\n{}", self.scene());
        }
    }

    /// Makes the receiver refuse everything, or listen again.
    pub(super) fn deafen(&self, is_deaf: bool) {
        self.inbox.is_deaf.store(is_deaf, Ordering::SeqCst);
    }

    /// Everything that was told, as it came.
    pub(super) fn told(&self) -> Vec<Alert> {
        let bodies = self.inbox.told.lock().unwrap().clone();
        bodies.into_iter().map(|body| serde_json::from_value(body).expect("an alert")).collect()
    }

    /// Waits until an incident that was detected has come to its end: all of its messages, each once. No message came
    /// twice with different content, none is missing, and all came in order.
    pub(super) async fn told_to_the_end(&self) -> Vec<Alert> {
        let is_end = |alert: &Alert| matches!(alert.phase, Phase::Restored | Phase::Escalated | Phase::Closed);
        let ended = || {
            let told = self.told();
            let detected = told.iter().find(|alert| alert.phase == Phase::Detected)?.incident.clone();
            let told: Vec<Alert> = told.into_iter().filter(|alert| alert.incident == detected).collect();
            told.iter().any(is_end).then_some(told)
        };
        self.until("at an end", async || ended().is_some()).await;
        let mut once: BTreeMap<u64, Alert> = BTreeMap::new();
        let mut highest = 0;
        for alert in ended().unwrap() {
            match once.get(&alert.sequence) {
                Some(first) => assert_eq!(*first, alert, "told twice, and differently"),
                None => {
                    assert_eq!(alert.sequence, highest + 1, "told out of order: {}", self.scene());
                    highest = alert.sequence;
                    once.insert(alert.sequence, alert);
                }
            }
        }
        once.into_values().collect()
    }

    /// Everything on record about the workload, from a replica's disk.
    pub(super) async fn records(&self, number: usize) -> Vec<Record> {
        let reader = Store::open_read_only(&self.replicas[number].dir.path().join("state")).unwrap();
        reader.records(&WORKLOAD.into(), 10_000).await.unwrap()
    }

    /// What a replica answers; null where it gives no JSON.
    pub(super) async fn get(&self, number: usize, path: &str) -> Value {
        let Some(url) = self.listens(number) else { return Value::Null };
        let Ok(answer) = reqwest::get(format!("{url}{path}")).await else { return Value::Null };
        answer.json().await.unwrap_or_default()
    }

    /// Where a replica listens, once it is ready.
    pub(super) fn listens(&self, number: usize) -> Option<String> {
        let log = self.log(number);
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ready = lines.find(|line| line["message"] == "ready")?;
        Some(format!("http://{}", ready["listen"].as_str()?))
    }

    /// Waits until something is so.
    pub(super) async fn until(&self, what: &str, so: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !so().await {
            assert!(Instant::now() < deadline, "not {what}: {}", self.scene());
            sleep(LOOK_EVERY).await;
        }
    }

    fn scene(&self) -> String {
        let told: Vec<String> = self.told().iter().map(|alert| format!("{} {}", alert.id, alert.phase)).collect();
        format!("{told:#?}\nfirst:\n{}\nsecond:\n{}", self.log(0), self.log(1))
    }
}

fn labelled(lease: &str) -> kube::api::ListParams {
    kube::api::ListParams::default().labels(&format!("rollbackd-lease={lease}"))
}

/// What a ConfigMap holds: a state, and the records since.
fn shared(map: &ConfigMap) -> (WorkloadState, Vec<Record>) {
    let data = map.data.as_ref().unwrap_or_else(|| panic!("{} is empty", map.name_any()));
    let records = data["records"].lines().map(|line| serde_json::from_str(line).expect("a record"));
    (serde_json::from_str(&data["state"]).expect("a state"), records.collect())
}

fn policy(dir: &Path, receiver: u16, place: &Place, more: &str) -> String {
    let Place { lease, kubernetes } = place;
    format!(
        "[daemon]\nlisten = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n[daemon.lease]\n{lease}\n\n\
         [notify.test]\nwebhook = \"http://127.0.0.1:{receiver}/\"\n\n\
         [workload.{WORKLOAD}]\nkubernetes = {{ {kubernetes} }}\n\
         interval = \"500ms\"\nknown_good_after = \"2s\"\ndeadline = \"90s\"\nnotify = [\"test\"]\n{more}\n",
        dir.join("state").display(),
    )
}

fn run(dir: &Path, name: &str, cluster: &Cluster) -> Child {
    let log = std::fs::File::create(dir.join("log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_rollbackd"))
        .args(["run", "--log-format", "json", "--config"])
        .arg(dir.join("policy.toml"))
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("POD_NAME", name)
        .env("POD_NAMESPACE", cluster.namespace())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn receive(inbox: Arc<Inbox>) -> u16 {
    let take = async |State(inbox): State<Arc<Inbox>>, body: String| {
        if inbox.is_deaf.load(Ordering::SeqCst) {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        inbox.told.lock().unwrap().push(serde_json::from_str(&body).expect("JSON"));
        StatusCode::OK
    };
    let router = Router::new().route("/", post(take)).with_state(inbox);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}
