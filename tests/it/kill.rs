//! The real binary, killed with SIGKILL at random moments of a rollback on a host, and started again: the end is always
//! right. `ROLLBACKD_SEED=N` replays the round with that seed.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use futures::stream::{FuturesUnordered, StreamExt};
use rollbackd::domain::incident::alert::{Alert, Phase};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// Rounds in one run.
const ROUNDS: u64 = 50;
/// Rounds at a time.
const AT_ONCE: usize = 4;
/// How long one round's incident may take to be over, kills included.
const LIMIT: Duration = Duration::from_secs(60);

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

struct Round {
    dir: tempfile::TempDir,
    port: u16,
    inbox: Inbox,
    daemon: Child,
}

impl Round {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for release in ["v1", "v2"] {
            std::fs::create_dir_all(dir.path().join("releases").join(release)).unwrap();
        }
        deploy(dir.path(), "v1");
        let (a, b) = (serve_instance(dir.path(), "a").await, serve_instance(dir.path(), "b").await);
        let inbox = Inbox::default();
        let receiver = serve_receiver(Arc::clone(&inbox)).await;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        std::fs::write(dir.path().join("policy.toml"), policy(dir.path(), port, receiver, a, b)).unwrap();
        let daemon = spawn(dir.path());
        Self { dir, port, inbox, daemon }
    }

    async fn kill(&mut self) {
        self.daemon.kill().await.unwrap();
        self.daemon = spawn(self.dir.path());
    }

    fn has(&self, wanted: impl Fn(&Alert) -> bool) -> bool {
        self.inbox.lock().unwrap().iter().any(wanted)
    }

    async fn until(&self, what: &str, done: impl AsyncFn(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !done(self).await {
            let phases: Vec<Phase> = self.inbox.lock().unwrap().iter().map(|alert| alert.phase).collect();
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "not {what} within {LIMIT:?}: {phases:?}\n{log}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn knows_a_good_release(&self) -> bool {
        let url = format!("http://127.0.0.1:{}/api/v1/workloads/app", self.port);
        let Ok(answer) = reqwest::get(url).await else { return false };
        answer.text().await.is_ok_and(|text| text.contains("\"known_good_since\":\""))
    }
}

/// Every link and every process at this release.
fn deploy(dir: &Path, release: &str) {
    for instance in ["a", "b"] {
        let fresh = dir.join(format!("fresh-{instance}"));
        symlink(Path::new("releases").join(release), &fresh).unwrap();
        std::fs::rename(&fresh, dir.join(format!("current-{instance}"))).unwrap();
        std::fs::write(dir.join(format!("running-{instance}")), release).unwrap();
    }
}

fn spawn(dir: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_rollbackd"))
        .args(["run", "--config"])
        .arg(dir.join("policy.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn policy(dir: &Path, port: u16, receiver: u16, a: u16, b: u16) -> String {
    let root = dir.display();
    let instance = |name: &str, port: u16| {
        format!(
            "[[workload.app.release_dir.instances]]\nname = \"{name}\"\ncurrent = \"current-{name}\"\n\
             restart = [\"/bin/sh\", \"-c\", \"readlink {root}/current-{name} > {root}/running-{name}\"]\n\
             scrape = \"http://127.0.0.1:{port}/metrics\"\nhealth = \"http://127.0.0.1:{port}/health\"\n"
        )
    };
    format!(
        "[daemon]\nlisten = \"127.0.0.1:{port}\"\nstate_dir = \"{root}/state\"\n\n\
         [notify.test]\nwebhook = \"http://127.0.0.1:{receiver}/\"\n\n\
         [workload.app]\nstrategy = \"rolling\"\ninterval = \"100ms\"\nknown_good_after = \"500ms\"\ndeadline = \"20s\"\n\
         notify = [\"test\"]\n\n\
         [workload.app.health]\nexpect = {{ status = \"Healthy\" }}\nrevision_json = \"version\"\n\n\
         [workload.app.signal.error_rate]\nwindow = \"1s\"\nmin_requests = 10\n\n\
         [[workload.app.trigger]]\nname = \"errors\"\nsignal = \"error_rate\"\nabove = \"10%\"\nfor = \"200ms\"\n\n\
         [workload.app.verify]\nstable_for = \"400ms\"\nerror_rate = {{ below = \"1%\" }}\n\n\
         [workload.app.release_dir]\npath = \"{root}\"\n\n{}\n{}",
        instance("a", a),
        instance("b", b)
    )
}

/// A number below `n`, the same for the same seed: SplitMix64.
fn roll(seed: &mut u64, n: u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % n
}

async fn play(seed: u64) {
    let mut dice = seed;
    let mut round = Round::start().await;
    round.until("known good", Round::knows_a_good_release).await;
    deploy(round.dir.path(), "v2");
    round.until("suspected", async |round| round.has(|_| true)).await;
    for _ in 0..=roll(&mut dice, 2) {
        sleep(Duration::from_millis(roll(&mut dice, 1_500))).await;
        round.kill().await;
    }
    let over = |alert: &Alert| matches!(alert.phase, Phase::Restored | Phase::Escalated);
    round.until("over", async |round| round.has(over)).await;
    assert!(round.has(|alert| alert.phase == Phase::Restored), "seed {seed}: escalated");
    for instance in ["a", "b"] {
        let link = std::fs::read_link(round.dir.path().join(format!("current-{instance}"))).unwrap();
        assert_eq!(link, Path::new("releases/v1"), "seed {seed}");
        let running = std::fs::read_to_string(round.dir.path().join(format!("running-{instance}"))).unwrap();
        assert!(running.trim().ends_with("v1"), "seed {seed}: {instance} runs {running}");
    }
    messages_are_in_order(&round.inbox.lock().unwrap(), seed);
}

/// At least once, in order per incident, one id for one message.
fn messages_are_in_order(alerts: &[Alert], seed: u64) {
    let mut seen: Vec<&Alert> = Vec::new();
    for alert in alerts {
        match seen.iter().find(|known| known.id == alert.id) {
            Some(known) => assert_eq!(*known, alert, "seed {seed}: two messages under one id"),
            None => {
                let before = seen.iter().filter(|known| known.incident == alert.incident).count() as u64;
                assert_eq!(alert.sequence, before + 1, "seed {seed}: {} out of order", alert.id);
                seen.push(alert);
            }
        }
    }
}

#[tokio::test]
async fn killed_at_random_moments_the_end_is_always_right() {
    rollbackd::net::tls::install();
    let replay = std::env::var("ROLLBACKD_SEED").ok().and_then(|text| text.parse().ok());
    let mut seeds = replay.map_or(0..ROUNDS, |seed: u64| seed..seed + 1);
    let mut rounds = FuturesUnordered::new();
    loop {
        while rounds.len() < AT_ONCE
            && let Some(seed) = seeds.next()
        {
            rounds.push(async move {
                play(seed).await;
                seed
            });
        }
        if rounds.next().await.is_none() {
            return;
        }
    }
}
