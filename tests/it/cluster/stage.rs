//! Where the cluster lives: a network namespace and a process namespace of its own, so that every address is free, nothing
//! outside is touched, and everything in it ends with its first process.
//!
//! One cluster serves all tests of one run. The first that needs it starts it; each runs itself again inside.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::kubelet::Kubelet;
use super::plane::{self, Plane};
use super::services;

/// Bound on the start of the cluster where its program is built already.
const START: Duration = Duration::from_secs(120);
/// The cluster's files are in this directory; the process that finds it set holds the cluster.
const DIRECTORY: &str = "ROLLBACKD_CLUSTER_DIRECTORY";
/// Tells a test that it runs inside, and with which kubeconfig.
pub(super) const INSIDE: &str = "ROLLBACKD_CLUSTER_KUBECONFIG";
/// A line that begins so is for people who ask how long it took.
pub(super) const MEASURED: &str = "measured: ";
/// Set by people: another cluster to use.
const ELSEWHERE: &str = "ROLLBACKD_TEST_KUBECONFIG";

/// Where a test finds itself.
pub(super) enum Place {
    /// With a cluster at hand, by its kubeconfig.
    Inside(PathBuf),
    /// With a cluster that has no little kubelet.
    Elsewhere(PathBuf),
    /// Still outside: run the test again in this namespace.
    Outside(&'static Held),
}

/// A cluster, held by a process that ends with this one.
pub(super) struct Held {
    holder: u32,
    kubeconfig: PathBuf,
    /// The holder ends when this is closed.
    _child: Child,
}

pub(super) fn place() -> Place {
    if let Some(inside) = std::env::var_os(INSIDE) {
        return Place::Inside(inside.into());
    }
    if let Some(elsewhere) = std::env::var_os(ELSEWHERE) {
        return Place::Elsewhere(elsewhere.into());
    }
    static HELD: OnceLock<Result<Held, String>> = OnceLock::new();
    match HELD.get_or_init(Held::start) {
        Ok(held) => Place::Outside(held),
        Err(why) => panic!("no cluster: {why}"),
    }
}

impl Held {
    /// Where it can't be started: why. No other test tries again.
    fn start() -> Result<Self, String> {
        let binary = plane::binary()?;
        let dir = tempfile::Builder::new().prefix("rollbackd-cluster-").tempdir().unwrap();
        let log = std::fs::File::create(dir.path().join("holder.log")).unwrap();
        let mut child = program("unshare")
            .args(["--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--"])
            .args(["/bin/sh", "-c", "ip link set lo up && ip route add local 10.42.0.0/15 dev lo && exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "cluster::stage::hold", "--ignored", "--nocapture"])
            .env(DIRECTORY, dir.path())
            .env("CONTROL_PLANE", binary)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("unshare: {error}; it comes with `apt-get install util-linux`"))?;
        let kubeconfig = dir.path().join("kubeconfig");
        let begun = Instant::now();
        while !kubeconfig.exists() {
            let log = || std::fs::read_to_string(dir.path().join("holder.log")).unwrap_or_default();
            if let Some(status) = child.try_wait().unwrap() {
                return Err(format!("its first process ended, {status}:\n{}", log()));
            }
            if begun.elapsed() > START {
                return Err(format!("it is not there after {} s:\n{}", START.as_secs(), log()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // From here on it is the holder's, which removes it.
        let _ = dir.keep();
        Ok(Self { holder: child.id(), kubeconfig, _child: child })
    }

    /// Runs one test of this binary inside.
    pub(super) fn run(&self, test: &str) {
        let output = program("nsenter")
            .args(["--preserve-credentials", "--user", "--net", "--target", &self.holder.to_string(), "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--include-ignored", "--nocapture"])
            .env(INSIDE, &self.kubeconfig)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("nsenter: {error}; it comes with `apt-get install util-linux`"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "inside the cluster's namespace:\n{out}\n{err}");
        assert!(out.contains("1 passed"), "{test} did not run:\n{out}\n{err}");
        for measured in out.lines().filter(|line| line.starts_with(MEASURED)) {
            std::io::stdout().write_all(format!("{measured}\n").as_bytes()).unwrap();
        }
    }
}

fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    // Where administrators' programs are, which not everyone has on the path.
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    command
}

/// The process that holds a cluster, until its standard input ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is no test but a process that tests start"]
async fn hold() {
    let told = |key| std::env::var_os(key).unwrap_or_else(|| panic!("{key} says what to do: tests/control-plane/up"));
    let dir = PathBuf::from(told(DIRECTORY));
    let mut plane = Plane::start(&dir, Path::new(&told("CONTROL_PLANE"))).await;
    let client = plane::client(&plane.kubeconfig).await;
    let kubelet = Kubelet::start(client.clone(), dir.clone()).await;
    let fresh = dir.join("fresh");
    std::fs::write(&fresh, &plane.kubeconfig).unwrap();
    std::fs::rename(&fresh, dir.join("kubeconfig")).unwrap();
    tokio::select! {
        () = kubelet.run() => {}
        () = services::route(client) => {}
        failure = plane.fails() => panic!("{failure}"),
        _ = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())) => {}
    }
    drop(plane);
    std::fs::remove_dir_all(&dir).unwrap();
}
