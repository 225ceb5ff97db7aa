//! The real binary: as a daemon under a service manager of the test's own, and as a command that asks it.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rollbackd::domain::incident::record::Record;
use rollbackd::store::Store;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::host::Host;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The token of the tests' daemons.
const TOKEN: &str = "t0ken-of-this-test";

/// Time within which the service manager wants a sign of life, in microseconds.
const WATCHDOG_USEC: &str = "2000000";

/// A daemon that watches a host.
pub(crate) struct Daemon {
    pub(crate) host: Host,
    pub(crate) url: String,
    pub(super) child: Child,
    manager: UnixDatagram,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The one JSON document that was printed.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Daemon {
    /// A daemon with a token, on any free port, with more keys for its workload `app`.
    pub(crate) async fn start(more: &str) -> Self {
        let host = Host::start().await;
        std::fs::write(host.path("token"), TOKEN).unwrap();
        let token = format!("token_file = \"{}\"", host.path("token").display());
        Self::start_on(host, &token, more).await
    }

    /// A daemon on this host, with more keys for `[daemon]`.
    pub(crate) async fn start_on(host: Host, daemon: &str, more: &str) -> Self {
        rollbackd::net::tls::install();
        let manager = UnixDatagram::bind(host.path("notify")).unwrap();
        let listen = format!("listen = \"127.0.0.1:0\"\n{daemon}");
        std::fs::write(host.path("policy.toml"), host.policy(&listen, "app", more)).unwrap();
        let child = spawn(&host);
        let mut daemon = Self { host, url: String::new(), child, manager };
        daemon.becomes_ready().await;
        daemon
    }

    async fn becomes_ready(&mut self) {
        self.hears("READY=1").await;
        let log = self.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ready = lines.rfind(|line| line["message"] == "ready").unwrap_or_else(|| panic!("{log}"));
        self.url = format!("http://{}", ready["listen"].as_str().unwrap());
    }

    /// The daemon again, after it ended.
    pub(crate) async fn start_again(&mut self) {
        self.child = spawn(&self.host);
        self.becomes_ready().await;
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.host.path("log")).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the daemon's end: its exit code.
    pub(crate) async fn ends(&mut self) -> i32 {
        let status = timeout(PATIENCE, self.child.wait()).await.unwrap_or_else(|_| panic!("no end:\n{}", self.log()));
        let status = status.unwrap();
        status.code().unwrap_or_else(|| panic!("ended by signal {:?}", status.signal()))
    }

    /// Waits until the service manager is told something that begins like this; gives all of it.
    pub(crate) async fn hears(&self, beginning: &str) -> String {
        let listening = async {
            loop {
                let mut buffer = [0; 2048];
                let length = self.manager.recv(&mut buffer).await.unwrap();
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if text.starts_with(beginning) {
                    return text;
                }
            }
        };
        let heard = timeout(PATIENCE, listening).await;
        heard.unwrap_or_else(|_| panic!("{beginning} is not told:\n{}", self.log()))
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, so: impl AsyncFn(&Self) -> bool) {
        let waiting = async {
            while !so(self).await {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            panic!("not {what}: {:?}\n{}", self.host.alerts(), self.log());
        }
    }

    /// Waits until v1 is a goal to go back to, then puts v2 in place.
    pub(crate) async fn deploys_a_bad_release(&self) {
        let known = async |daemon: &Self| {
            let view = daemon.get("/api/v1/workloads/app").await;
            view["releases"].as_array().into_iter().flatten().any(|release| !release["known_good_since"].is_null())
        };
        self.until("known good", known).await;
        self.host.deploy("v2");
    }

    /// What a GET gives; null where it gives no JSON.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let Ok(answer) = reqwest::get(format!("{}{path}", self.url)).await else { return Value::Null };
        answer.json().await.unwrap_or_default()
    }

    /// Runs a command against this daemon, with its token.
    pub(crate) async fn asked(&self, args: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollbackd"));
        command.args(args);
        ended(self.at_hand(&mut command)).await
    }

    /// Runs a command line in a shell, as an operator would type it.
    pub(crate) async fn typed(&self, line: &str) -> Ended {
        let programs = Path::new(env!("CARGO_BIN_EXE_rollbackd")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).env("PATH", path);
        ended(self.at_hand(&mut command)).await
    }

    fn at_hand<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("ROLLBACKD_URL", &self.url).env("ROLLBACKD_TOKEN_FILE", self.host.path("token"))
    }

    /// Everything on record about the workload, from the disk.
    pub(crate) async fn records(&self) -> Vec<Record> {
        let reader = Store::open_read_only(&self.host.path("state")).unwrap();
        reader.records(&"app".into(), 10_000).await.unwrap()
    }
}

/// A command's end.
pub(crate) async fn ended(command: &mut Command) -> Ended {
    let output = timeout(PATIENCE, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
    let output = output.expect("it ends in time").unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Ended { code: output.status.code().expect("an exit code"), out: text(&output.stdout), err: text(&output.stderr) }
}

fn spawn(host: &Host) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(host.path("log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_rollbackd"))
        .args(["run", "--log-format", "json", "--config"])
        .arg(host.path("policy.toml"))
        .env("NOTIFY_SOCKET", host.path("notify"))
        .env("WATCHDOG_USEC", WATCHDOG_USEC)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}
