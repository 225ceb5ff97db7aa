//! The real binary, killed with SIGKILL at random moments of a rollback on a host, and started again: the end is always
//! right. `ROLLBACKD_SEED=N` replays the round with that seed.

use std::process::Stdio;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use rollbackd::domain::incident::alert::{Alert, Phase};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::daemon::host::Host;

/// Rounds in one run.
const ROUNDS: u64 = 50;
/// Rounds at a time.
const AT_ONCE: usize = 4;
/// How long one round's incident may take to be over, kills included.
const LIMIT: Duration = Duration::from_secs(90);

struct Round {
    seed: u64,
    host: Host,
    port: u16,
    daemon: Child,
}

impl Round {
    async fn start(seed: u64) -> Self {
        let host = Host::start().await;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let policy = host.policy(&format!("listen = \"127.0.0.1:{port}\""), "app", "");
        std::fs::write(host.path("policy.toml"), policy).unwrap();
        let daemon = spawn(&host);
        Self { seed, host, port, daemon }
    }

    async fn kill(&mut self) {
        self.daemon.kill().await.unwrap();
        self.daemon = spawn(&self.host);
    }

    async fn until(&self, what: &str, done: impl AsyncFn(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !done(self).await {
            let phases: Vec<Phase> = self.host.alerts().iter().map(|alert| alert.phase).collect();
            let log = std::fs::read_to_string(self.host.path("log")).unwrap_or_default();
            assert!(Instant::now() < end, "seed {}: not {what} within {LIMIT:?}: {phases:?}\n{log}", self.seed);
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn knows_a_good_release(&self) -> bool {
        let url = format!("http://127.0.0.1:{}/api/v1/workloads/app", self.port);
        let Ok(answer) = reqwest::get(url).await else { return false };
        answer.text().await.is_ok_and(|text| text.contains("\"known_good_since\":\""))
    }
}

fn spawn(host: &Host) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(host.path("log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_rollbackd"))
        .args(["run", "--config"])
        .arg(host.path("policy.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
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
    let mut round = Round::start(seed).await;
    round.until("known good", Round::knows_a_good_release).await;
    round.host.deploy("v2");
    round.until("suspected", async |round| round.host.has(|_| true)).await;
    for _ in 0..=roll(&mut dice, 2) {
        sleep(Duration::from_millis(roll(&mut dice, 1_500))).await;
        round.kill().await;
    }
    let over = |alert: &Alert| matches!(alert.phase, Phase::Restored | Phase::Escalated);
    round.until("over", async |round| round.host.has(over)).await;
    let told: Vec<String> = round.host.alerts().into_iter().map(|alert| alert.summary).collect();
    assert!(round.host.has(|alert| alert.phase == Phase::Restored), "seed {seed}: escalated: {told:#?}");
    for instance in ["a", "b"] {
        assert_eq!(round.host.at(instance), ["v1", "v1"], "seed {seed}: {instance}");
    }
    messages_are_in_order(&round.host.alerts(), seed);
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
