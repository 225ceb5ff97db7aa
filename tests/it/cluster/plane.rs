//! The control plane as processes: etcd, the API server, the controllers and the scheduler.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::pki;

/// Bound on the start of each component; 5 s for all of them is usual where nothing else runs.
const START: Duration = Duration::from_secs(90);
/// How often a component is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Addresses of Services.
const SERVICES: &str = "10.43.0.0/16";
/// What manages nodes that no cloud and no kubelet of the usual kind stands behind.
const CONTROLLERS: &str =
    "*,-nodelifecycle,-nodeipam,-cloud-node-lifecycle,-service-lb-controller,-node-route-controller";

/// A control plane; it ends with this value.
pub(super) struct Plane {
    /// An administrator's.
    pub(super) kubeconfig: String,
    parts: Vec<Part>,
}

struct Part {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Plane {
    /// Starts everything, with its files and logs in a directory, and waits until the API server is ready.
    pub(super) async fn start(dir: &Path, binary: &Path) -> Self {
        // For whichever client comes first.
        rollbackd::net::tls::install();
        let [store, peers, port] = free_ports();
        let mut etcd = Part::start(dir, "etcd", Command::new("etcd").args(etcd_flags(dir, store, peers)));
        etcd.is_ready(|| answers(format!("http://127.0.0.1:{store}/health"))).await;
        let kubeconfig = pki::write(dir, &format!("https://127.0.0.1:{port}"));
        std::fs::write(dir.join("administrator"), &kubeconfig).unwrap();
        let component = |name, flags| Part::start(dir, name, Command::new(binary).arg(name).args(flags));
        let mut server = component("kube-apiserver", server_flags(dir, store, port));
        let client = client(&kubeconfig).await;
        server.is_ready(|| serves(client.clone())).await;
        let controllers = component("kube-controller-manager", controller_flags(dir));
        let scheduler = component("kube-scheduler", scheduler_flags(dir));
        Self { kubeconfig, parts: vec![etcd, server, controllers, scheduler] }
    }

    /// The first part that is found to have ended, with the end of its log.
    pub(super) async fn fails(&mut self) -> String {
        loop {
            for part in &mut self.parts {
                if let Ok(Some(status)) = part.child.try_wait() {
                    return format!("{} ended, {status}:\n{}", part.name, part.last_words());
                }
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
}

impl Part {
    fn start(dir: &Path, name: &'static str, command: &mut Command) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .env_remove("NOTIFY_SOCKET")
            .kill_on_drop(true)
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound && name == "etcd" => {
                panic!("etcd is not installed: apt-get install etcd-server")
            }
            Err(error) => panic!("{name} can't be started: {error}"),
        };
        Self { name, child, log }
    }

    async fn is_ready<R: Future<Output = bool>>(&mut self, ready: impl Fn() -> R) {
        let deadline = Instant::now() + START;
        while !ready().await {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended, {status}:\n{}", self.name, self.last_words());
            }
            assert!(Instant::now() < deadline, "{} is not ready:\n{}", self.name, self.last_words());
            sleep(ASK_EVERY).await;
        }
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

fn etcd_flags(dir: &Path, port: u16, peers: u16) -> Vec<String> {
    let (clients, peers) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peers}"));
    vec![
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        // Nothing of it is to outlive the tests.
        "--unsafe-no-fsync".to_owned(),
        "--logger=zap".to_owned(),
    ]
}

fn server_flags(dir: &Path, store: u16, port: u16) -> Vec<String> {
    let file = |name: &str| dir.join(name).display().to_string();
    vec![
        format!("--etcd-servers=http://127.0.0.1:{store}"),
        "--bind-address=127.0.0.1".to_owned(),
        // It is told to nobody, but must not be a loopback one, and where there is no route none is found.
        "--advertise-address=10.42.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        "--authorization-mode=RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("accounts.pub")),
        format!("--service-account-signing-key-file={}", file("accounts.key")),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
    ]
}

fn controller_flags(dir: &Path) -> Vec<String> {
    let mut flags = scheduler_flags(dir);
    flags.extend([
        format!("--controllers={CONTROLLERS}"),
        format!("--service-account-private-key-file={}", dir.join("accounts.key").display()),
        "--concurrent-deployment-syncs=10".to_owned(),
        // A fleet is made in minutes.
        "--concurrent-replicaset-syncs=10".to_owned(),
        "--kube-api-qps=1000".to_owned(),
        "--kube-api-burst=1000".to_owned(),
    ]);
    flags
}

fn scheduler_flags(dir: &Path) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", dir.join("administrator").display()),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ]
}

/// Three ports, none of them twice.
fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

async fn answers(url: String) -> bool {
    reqwest::get(url).await.is_ok_and(|answer| answer.status().is_success())
}

async fn serves(client: Client) -> bool {
    let request = axum::http::Request::get("/readyz").body(Vec::new()).unwrap();
    client.request_text(request).await.is_ok_and(|text| text == "ok")
}

/// A client with the rights of a kubeconfig.
pub(super) async fn client(kubeconfig: &str) -> Client {
    rollbackd::net::tls::install();
    let file = Kubeconfig::from_yaml(kubeconfig).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a whole kubeconfig")).expect("a client")
}

/// The program of the control plane; it is built where there is none.
pub(super) fn binary() -> Result<PathBuf, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/control-plane/build");
    let output = std::process::Command::new(script).output().map_err(|error| format!("{script}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{script} fails:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}
