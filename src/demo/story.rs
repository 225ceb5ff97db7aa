//! `rollbackd demo`: a bad release goes out, is noticed, taken back, proven well, and told about, all of it for real.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::policy::Surroundings;
use super::receiver::Receiver;
use super::teller::Teller;
use super::{BAD, DemoArgs, GOOD, Stage, WORKLOAD};
use crate::domain::controller::WorkloadView;
use crate::domain::incident::alert::{Alert, Phase};

/// The whole story must be over by then.
const LIMIT: Duration = Duration::from_secs(58);
/// How long the good release may take to become known good.
const TRUST_LIMIT: Duration = Duration::from_secs(20);
/// The bad release serves well for so long before its fault begins.
const FAULT_AFTER: Duration = Duration::from_secs(2);
/// Time between two looks at the daemon.
const POLL: Duration = Duration::from_millis(100);
/// How long the daemon may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The demo's world, which runs until it is taken down or dropped.
pub(super) struct World {
    daemon: Daemon,
    stage: Stage,
    stop: CancellationToken,
    _dir: TempDir,
}

impl World {
    /// Where the daemon answers.
    pub(super) fn url(&self) -> &str {
        &self.daemon.url
    }

    /// Ends everything, in order.
    pub(super) async fn take_down(self) {
        self.daemon.stop().await;
        self.stage.shut_down().await;
        self.stop.cancel();
    }
}

/// How the story ended.
#[derive(Debug)]
pub(super) struct Ending {
    /// Whether the service is well again, by its own answers.
    pub(super) restored: bool,
    /// The last alert.
    pub(super) last: Option<Alert>,
    /// The incident, as `GET /api/v1/incidents/ID` gives it.
    pub(super) incident: Option<serde_json::Value>,
    /// What is still wrong with the service, where something is.
    pub(super) wrong: Option<String>,
}

/// Tells the whole story; its world still runs then.
pub(super) async fn tell(args: &DemoArgs, teller: &Teller) -> anyhow::Result<(Ending, World)> {
    let dir = tempfile::Builder::new().prefix("rollbackd-demo-").tempdir().context("no temporary directory")?;
    let stop = CancellationToken::new();
    let program = std::env::current_exe().context("this program's path is not known")?;
    let secret = secret()?;
    let mut receiver = Receiver::start(secret.as_bytes(), stop.clone()).await.context("no receiver")?;
    let stage = Stage::start(&program, args.strategy.into(), args.fault, dir.path()).await?;
    let front: Vec<&str> = stage.front().iter().map(reqwest::Url::as_str).collect();
    teller.scene(&format!("{WORKLOAD} {GOOD} serves at {}; strategy {}", front.join(" "), stage.strategy()));
    let mut daemon = Daemon::start(&program, dir.path(), &stage, &receiver, &secret).await?;
    let mut ending = acts(args, teller, &stage, &mut receiver, &mut daemon).await?;
    if let Some(alert) = &ending.last {
        ending.incident = daemon.incident(alert).await.ok();
        teller.report(&daemon.report(alert).await.unwrap_or_else(|error| format!("{error:#}\n")));
    }
    Ok((ending, World { daemon, stage, stop, _dir: dir }))
}

async fn acts(
    args: &DemoArgs,
    teller: &Teller,
    stage: &Stage,
    receiver: &mut Receiver,
    daemon: &mut Daemon,
) -> anyhow::Result<Ending> {
    let end = Instant::now() + LIMIT;
    daemon.until_known_good().await?;
    teller.scene(&format!("{GOOD} was seen healthy under traffic: it is known good"));
    stage.deploy(FAULT_AFTER).await?;
    let fault = args.fault;
    teller.scene(&format!("{BAD} is rolled out; in {} s it will go bad: {fault}", FAULT_AFTER.as_secs()));
    let mut last = None;
    while let Ok(Some(alert)) = timeout(end.saturating_duration_since(Instant::now()), receiver.alerts.recv()).await {
        teller.alert(&alert);
        let over = matches!(alert.phase, Phase::Restored | Phase::Escalated);
        last = Some(alert);
        if over {
            break;
        }
    }
    let wrong = stage.restored().await.err();
    let said_so = last.as_ref().is_some_and(|alert| alert.phase == Phase::Restored);
    let tally = stage.tally();
    teller.scene(&format!(
        "of the users' requests {} went well ({} slowly), {} failed, {} got no answer",
        tally.good, tally.slow, tally.errors, tally.unanswered
    ));
    Ok(Ending { restored: said_so && wrong.is_none(), last, incident: None, wrong })
}

/// A signing secret for this run only.
fn secret() -> anyhow::Result<String> {
    use std::fmt::Write;
    let mut bytes = [0_u8; 24];
    let mut random = std::fs::File::open("/dev/urandom").context("no randomness")?;
    std::io::Read::read_exact(&mut random, &mut bytes).context("no randomness")?;
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// The real daemon, as a process of its own.
struct Daemon {
    process: Child,
    url: String,
    log: PathBuf,
    client: reqwest::Client,
}

impl Daemon {
    async fn start(
        program: &Path,
        dir: &Path,
        stage: &Stage,
        receiver: &Receiver,
        secret: &str,
    ) -> anyhow::Result<Self> {
        let (secret_file, token_file) = (dir.join("webhook-secret"), dir.join("token"));
        write_private(&secret_file, secret)?;
        write_private(&token_file, secret)?;
        let listen = free_address().context("no free port")?;
        let policy = stage.policy_toml(&Surroundings {
            listen,
            state_dir: &dir.join("state"),
            token_file: Some(&token_file),
            webhook: &format!("http://{}/", receiver.address),
            secret_file: Some(&secret_file),
        });
        let file = dir.join("rollbackd.toml");
        std::fs::write(&file, &policy).context("the policy can't be written")?;
        let log = dir.join("rollbackd.log");
        let output = std::fs::File::create(&log).context("the log can't be written")?;
        let process = Command::new(program)
            .args(["run", "--log-format", "json", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("the log can't be written")?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .context("the daemon can't be started")?;
        let client = super::client(Duration::from_secs(5)).context("no HTTP client")?;
        Ok(Self { process, url: format!("http://{listen}"), log, client })
    }

    async fn until_known_good(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + TRUST_LIMIT;
        while Instant::now() < end {
            if let Some(status) = self.process.try_wait().context("the daemon is lost")? {
                bail!("the daemon ended with {status}:\n{}", self.log_tail());
            }
            if self.is_known_good().await {
                return Ok(());
            }
            sleep(POLL).await;
        }
        bail!("{GOOD} was not seen healthy within {} s:\n{}", TRUST_LIMIT.as_secs(), self.log_tail())
    }

    async fn is_known_good(&self) -> bool {
        let Ok(answer) = self.client.get(format!("{}/api/v1/workloads/{WORKLOAD}", self.url)).send().await else {
            return false;
        };
        let Ok(view) = answer.json::<WorkloadView>().await else { return false };
        view.releases.iter().any(|r| r.revision.as_str() == GOOD && r.standing.known_good_since.is_some())
    }

    async fn incident(&self, alert: &Alert) -> anyhow::Result<serde_json::Value> {
        let url = format!("{}/api/v1/incidents/{}", self.url, alert.incident);
        let answer =
            self.client.get(url).send().await.context("no incident")?.error_for_status().context("no incident")?;
        answer.json().await.context("no incident")
    }

    async fn report(&self, alert: &Alert) -> anyhow::Result<String> {
        let url = format!("{}/api/v1/incidents/{}/report?format=md", self.url, alert.incident);
        let answer = self.client.get(url).send().await.context("no report")?;
        answer.text().await.context("no report")
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        crate::host::text::tail(&log, 4096).to_owned()
    }

    async fn stop(mut self) {
        if let Some(pid) =
            self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
        {
            // A daemon that has ended by itself needs no signal.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if timeout(STOP_LIMIT, self.process.wait()).await.is_err() {
            let _ = self.process.kill().await;
        }
    }
}

fn write_private(path: &Path, content: &str) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{} can't be written", path.display()))?;
    file.write_all(content.as_bytes()).with_context(|| format!("{} can't be written", path.display()))
}

fn free_address() -> std::io::Result<std::net::SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// The last line of `--json`; `kept` is where the daemon goes on answering.
pub(super) fn last_line(args: &DemoArgs, ending: &Ending, kept: Option<&str>) -> serde_json::Value {
    let times = ending.last.as_ref().map(|alert| &alert.times);
    let mut line = json!({
        "outcome": if ending.restored { "restored" } else { "failed" },
        "strategy": args.strategy,
        "fault": args.fault,
        "ttd_s": times.and_then(|times| times.ttd_s),
        "ttr_s": times.and_then(|times| times.ttr_s),
        "incident": ending.incident,
        "wrong": ending.wrong,
    });
    if let Some(url) = kept {
        line["url"] = url.into();
    }
    line
}
