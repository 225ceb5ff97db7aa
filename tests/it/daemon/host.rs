//! A service on a plain host: two instances, two releases, and a receiver of alerts. v2 fails half of its requests.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use rollbackd::domain::incident::alert::Alert;
use tokio::net::TcpListener;

/// The service: what each instance runs is in a file that its restart command writes.
struct Service {
    dir: PathBuf,
    instance: &'static str,
}

impl Service {
    fn running(&self) -> (String, f64) {
        let file = self.dir.join(format!("running-{}", self.instance));
        let release =
            std::fs::read_to_string(&file).unwrap_or_default().trim().rsplit('/').next().unwrap_or("").to_owned();
        let started = std::fs::metadata(&file).and_then(|meta| meta.modified()).unwrap_or(UNIX_EPOCH);
        (release, started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
    }

    /// A hundred requests a second, of which v2 fails half.
    fn page(&self) -> String {
        let (release, started) = self.running();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let served = (100.0 * (now - started)).floor();
        let bad = if release == "v2" { (served / 2.0).floor() } else { 0.0 };
        format!(
            "process_start_time_seconds {started}\nhttp_requests_total{{code=\"200\"}} {}\nhttp_requests_total{{code=\"500\"}} {bad}\n",
            served - bad
        )
    }

    fn health(&self) -> String {
        format!("{{\"status\": \"Healthy\", \"version\": \"{}\"}}", self.running().0)
    }
}

async fn serve(router: Router) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

async fn serve_instance(dir: &Path, instance: &'static str) -> u16 {
    let service = Arc::new(Service { dir: dir.to_owned(), instance });
    let router = Router::new()
        .route("/metrics", get(|State(service): State<Arc<Service>>| async move { service.page() }))
        .route("/health", get(|State(service): State<Arc<Service>>| async move { service.health() }))
        .with_state(service);
    serve(router).await
}

type Inbox = Arc<Mutex<Vec<Alert>>>;

async fn serve_receiver(inbox: Inbox) -> u16 {
    let router = Router::new()
        .route(
            "/",
            post(|State(inbox): State<Inbox>, body: String| async move {
                inbox.lock().unwrap().push(serde_json::from_str(&body).expect("an alert"));
            }),
        )
        .with_state(inbox);
    serve(router).await
}

/// The host, with v1 in place.
pub(crate) struct Host {
    dir: tempfile::TempDir,
    inbox: Inbox,
    receiver: u16,
    instances: [(&'static str, u16); 2],
}

impl Host {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for release in ["v1", "v2"] {
            std::fs::create_dir_all(dir.path().join("releases").join(release)).unwrap();
        }
        let instances = [("a", serve_instance(dir.path(), "a").await), ("b", serve_instance(dir.path(), "b").await)];
        let inbox = Inbox::default();
        let receiver = serve_receiver(Arc::clone(&inbox)).await;
        let host = Self { dir, inbox, receiver, instances };
        host.deploy("v1");
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Every link and every process at this release.
    pub(crate) fn deploy(&self, release: &str) {
        for (instance, _) in self.instances {
            let fresh = self.path(&format!("fresh-{instance}"));
            symlink(Path::new("releases").join(release), &fresh).unwrap();
            std::fs::rename(&fresh, self.path(&format!("current-{instance}"))).unwrap();
            std::fs::write(self.path(&format!("running-{instance}")), release).unwrap();
        }
    }

    /// Alerts so far.
    pub(crate) fn alerts(&self) -> Vec<Alert> {
        self.inbox.lock().unwrap().clone()
    }

    pub(crate) fn has(&self, wanted: impl Fn(&Alert) -> bool) -> bool {
        self.inbox.lock().unwrap().iter().any(wanted)
    }

    /// Where an instance's link leads, and what its process runs.
    pub(crate) fn at(&self, instance: &str) -> [String; 2] {
        let link = std::fs::read_link(self.path(&format!("current-{instance}"))).unwrap();
        let running = std::fs::read_to_string(self.path(&format!("running-{instance}"))).unwrap();
        let release = |text: &str| text.trim().rsplit('/').next().unwrap_or_default().to_owned();
        [release(&link.to_string_lossy()), release(&running)]
    }

    /// A policy for the service as this workload, with more keys for it. Restarts wait while there is a file `hold`.
    pub(crate) fn policy(&self, daemon: &str, workload: &str, more: &str) -> String {
        let root = self.dir.path().display();
        let instances = self.instances.map(|(name, port)| {
            format!(
                "[[workload.{workload}.release_dir.instances]]\nname = \"{name}\"\ncurrent = \"current-{name}\"\n\
                 restart = [\"/bin/sh\", \"-c\", \"touch {root}/restarting-{name}; \
                 while [ -e {root}/hold ]; do sleep 0.02; done; \
                 readlink {root}/current-{name} > {root}/running-{name}\"]\n\
                 scrape = \"http://127.0.0.1:{port}/metrics\"\nhealth = \"http://127.0.0.1:{port}/health\"\n"
            )
        });
        format!(
            "[daemon]\nstate_dir = \"{root}/state\"\n{daemon}\n\n\
             [notify.test]\nwebhook = \"http://127.0.0.1:{}/\"\n\n\
             [workload.{workload}]\nstrategy = \"rolling\"\ninterval = \"200ms\"\nknown_good_after = \"500ms\"\n\
             deadline = \"45s\"\nnotify = [\"test\"]\n{more}\n\n\
             [workload.{workload}.health]\nexpect = {{ status = \"Healthy\" }}\nrevision_json = \"version\"\n\n\
             [workload.{workload}.signal.error_rate]\nwindow = \"1s\"\nmin_requests = 10\n\n\
             [[workload.{workload}.trigger]]\nname = \"errors\"\nsignal = \"error_rate\"\nabove = \"10%\"\nfor = \"200ms\"\n\n\
             [workload.{workload}.verify]\nstable_for = \"400ms\"\nerror_rate = {{ below = \"1%\" }}\n\n\
             [workload.{workload}.release_dir]\npath = \"{root}\"\n\n{}",
            self.receiver,
            instances.join("\n")
        )
    }
}
