//! The real daemon, which watches one workload of a test's namespace and tells a receiver.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use rollbackd::domain::health::memory::Memory;
use rollbackd::domain::incident::alert::{Alert, Phase};
use rollbackd::domain::incident::record::Record;
use rollbackd::domain::time::Timestamp;
use rollbackd::store::Store;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::namespace::{Cluster, LOOK_EVERY, PATIENCE};

/// The workload's name in the policy.
const WORKLOAD: &str = "shop";

/// Set by people: another build of the daemon.
const BINARY: &str = "ROLLBACKD_TEST_BINARY";

/// A daemon, and what it has told.
pub(crate) struct Watch {
    dir: TempDir,
    url: String,
    inbox: Arc<Mutex<Vec<Alert>>>,
    child: Child,
}

impl Watch {
    /// Watches the Deployment `shop`, with more keys for the workload, until the release that runs is a goal to go back to.
    pub(crate) async fn over(cluster: &Cluster, more: &str) -> Self {
        Self::over_kind(cluster, "deployment", more).await
    }

    /// Watches the workload `shop` of some kind, until the release that runs is a goal to go back to.
    pub(crate) async fn over_kind(cluster: &Cluster, kind: &str, more: &str) -> Self {
        let mut watch = Self::begin(cluster, kind, more).await;
        watch.until("sure of a goal", async |watch| watch.knows_a_goal().await).await;
        watch
    }

    /// Watches the workload `shop` of some kind, as fast as a test wants it.
    pub(crate) async fn begin(cluster: &Cluster, kind: &str, more: &str) -> Self {
        Self::begin_every(cluster, kind, ["500ms", "2s"], more).await
    }

    /// Watches the workload `shop` of some kind, at this interval; a release is known good after so long.
    pub(super) async fn begin_every(
        cluster: &Cluster,
        kind: &str,
        [interval, known_good_after]: [&str; 2],
        more: &str,
    ) -> Self {
        let inbox: Arc<Mutex<Vec<Alert>>> = Arc::default();
        let receiver = receive(Arc::clone(&inbox)).await;
        let dir = tempfile::tempdir().unwrap();
        let deadline = if more.contains("deadline = ") { "" } else { "deadline = \"90s\"\n" };
        let policy = format!(
            "[daemon]\nlisten = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n\n\
             [notify.test]\nwebhook = \"http://127.0.0.1:{receiver}/\"\n\n\
             [workload.{WORKLOAD}]\nkubernetes = {{ namespace = \"{}\", {kind} = \"shop\" }}\n\
             interval = \"{interval}\"\nknown_good_after = \"{known_good_after}\"\n{deadline}notify = [\"test\"]\n{more}\n",
            dir.path().join("state").display(),
            cluster.namespace(),
        );
        std::fs::write(dir.path().join("policy.toml"), policy).unwrap();
        let child = run(dir.path(), cluster);
        let mut watch = Self { dir, url: String::new(), inbox, child };
        watch.becomes_ready().await;
        watch
    }

    async fn becomes_ready(&mut self) {
        self.until("ready", async |watch| watch.listens().is_some()).await;
        self.url = self.listens().unwrap();
    }

    /// Kills the daemon as the kernel would, and starts it again.
    pub(crate) async fn dies_and_starts_again(&mut self, cluster: &Cluster) {
        self.child.kill().await.unwrap();
        self.child = run(self.dir.path(), cluster);
        self.becomes_ready().await;
    }

    /// Puts another workload into the policy file in place of the one that is watched.
    pub(super) fn strike_out(&self) {
        let path = self.dir.path().join("policy.toml");
        let policy = std::fs::read_to_string(&path).unwrap();
        let (rest, _) = policy.split_once("[workload.").expect("a workload");
        let other = "[workload.other]\nkubernetes = { namespace = \"nowhere\", deployment = \"other\" }\n";
        std::fs::write(path, format!("{rest}{other}")).unwrap();
    }

    /// Has the daemon read its policy anew.
    pub(super) fn hang_up(&self) {
        let id = self.child.id().expect("it runs");
        kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), Signal::HUP).unwrap();
    }

    /// The same, with something that was kept of a workload meanwhile.
    pub(super) async fn dies_and_knows(&mut self, cluster: &Cluster, workload: &str, memory: Memory, at: Timestamp) {
        self.child.kill().await.unwrap();
        let store = Store::open(&self.dir.path().join("state")).unwrap();
        store.save_memory(&workload.into(), memory, at).await.unwrap();
        drop(store);
        self.child = run(self.dir.path(), cluster);
        self.becomes_ready().await;
    }

    /// Its process.
    pub(super) fn process(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Where it listens, once it is ready.
    fn listens(&self) -> Option<String> {
        let log = self.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ready = lines.find(|line| line["message"] == "ready")?;
        Some(format!("http://{}", ready["listen"].as_str()?))
    }

    /// How the daemon sees the workload; null where it does not answer.
    pub(crate) async fn view(&self) -> Value {
        self.view_of(WORKLOAD).await
    }

    /// How it sees one of several.
    pub(crate) async fn view_of(&self, workload: &str) -> Value {
        let Ok(answer) = reqwest::get(format!("{}/api/v1/workloads/{workload}", self.url)).await else {
            return Value::Null;
        };
        answer.json().await.unwrap_or_default()
    }

    /// The names of all workloads that the daemon watches, in order.
    pub(crate) async fn workloads(&self) -> Vec<String> {
        let Ok(answer) = reqwest::get(format!("{}/api/v1/workloads", self.url)).await else { return Vec::new() };
        let all: Value = answer.json().await.unwrap_or_default();
        let each = all.as_array().or_else(|| all["workloads"].as_array()).into_iter().flatten();
        each.filter_map(|view| Some(view["workload"].as_str()?.to_owned())).collect()
    }

    /// What the daemon answers at an address; empty where it does not.
    pub(super) async fn ask(&self, path: &str) -> String {
        match reqwest::get(format!("{}{path}", self.url)).await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    pub(super) async fn knows_a_goal(&self) -> bool {
        let view = self.view().await;
        view["releases"].as_array().into_iter().flatten().any(|release| !release["known_good_since"].is_null())
    }

    /// Waits until something is so.
    pub(crate) async fn until(&mut self, what: &str, so: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !so(self).await {
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                let (told, view, log) = (self.summaries(), self.view().await, self.log());
                panic!("the daemon is not {what} ({ended:?}): {told:#?}\n{view:#}\n{log}");
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until an incident in which a fault was not only suspected has come to its end: all that was told of it.
    pub(crate) async fn told_to_the_end(&mut self) -> Vec<Alert> {
        let is_end = |alert: &Alert| matches!(alert.phase, Phase::Restored | Phase::Escalated | Phase::Closed);
        let ended = |watch: &Self| {
            let alerts = watch.alerts();
            let detected = alerts.iter().find(|alert| alert.phase == Phase::Detected)?.incident.clone();
            let told: Vec<Alert> = alerts.into_iter().filter(|alert| alert.incident == detected).collect();
            told.iter().any(is_end).then_some(told)
        };
        self.until("at an end", async |watch| ended(watch).is_some()).await;
        ended(self).unwrap()
    }

    pub(crate) fn alerts(&self) -> Vec<Alert> {
        self.inbox.lock().unwrap().clone()
    }

    fn summaries(&self) -> Vec<String> {
        self.alerts().into_iter().map(|alert| format!("{}: {}", alert.phase, alert.summary)).collect()
    }

    /// What is kept of a workload's windows, from the disk, and since when.
    pub(super) async fn memory(&self, workload: &str) -> (Value, Timestamp) {
        let state = self.dir.path().join("state");
        let kept = Store::open_read_only(&state).unwrap().memory(&workload.into()).await.unwrap();
        let journal = rusqlite::Connection::open(state.join("journal.db")).unwrap();
        let at = journal.query_row("SELECT at FROM memories WHERE workload = ?1", [workload], |row| row.get(0));
        (serde_json::to_value(kept).unwrap(), Timestamp::from_millis(at.unwrap()))
    }

    /// Everything on record about the workload, from the disk.
    pub(crate) async fn records(&self) -> Vec<Record> {
        let reader = Store::open_read_only(&self.dir.path().join("state")).unwrap();
        reader.records(&WORKLOAD.into(), 10_000).await.unwrap()
    }
}

/// The daemon, with a new log.
fn run(dir: &Path, cluster: &Cluster) -> Child {
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let binary = std::env::var_os(BINARY).unwrap_or_else(|| env!("CARGO_BIN_EXE_rollbackd").into());
    Command::new(binary)
        .args(["run", "--log-format", "json", "--config"])
        .arg(dir.join("policy.toml"))
        .env("KUBECONFIG", cluster.kubeconfig())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn receive(inbox: Arc<Mutex<Vec<Alert>>>) -> u16 {
    let take = async |State(inbox): State<Arc<Mutex<Vec<Alert>>>>, body: String| {
        inbox.lock().unwrap().push(serde_json::from_str(&body).expect("an alert"));
    };
    let router = Router::new().route("/", post(take)).with_state(inbox);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}
