//! From start to end: signals, the service manager, the state directory.

use rollbackd::domain::health::memory::Memory;
use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::incident::record::{Event, Record};
use rollbackd::store::Store;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixDatagram;
use tokio::process::Command;

use super::host::Host;
use super::process::{Daemon, ended};

/// A daemon in the middle of a step: the first instance's restart, which goes on for as long as there is a file `hold`.
async fn in_a_step() -> Daemon {
    let daemon = Daemon::start("").await;
    std::fs::write(daemon.host.path("hold"), "").unwrap();
    daemon.deploys_a_bad_release().await;
    daemon.until("in a step", async |daemon| daemon.host.path("restarting-a").exists()).await;
    daemon
}

/// The next start takes up what is left, and the end is that of a run that nobody disturbed.
async fn resumes_to_the_right_end(mut daemon: Daemon) {
    daemon.start_again().await;
    let over = |phase| matches!(phase, Phase::Restored | Phase::Escalated);
    daemon.until("over", async |daemon| daemon.host.has(|alert| over(alert.phase))).await;
    assert!(daemon.host.has(|alert| alert.phase == Phase::Restored), "{:?}", daemon.host.alerts());
    for instance in ["a", "b"] {
        assert_eq!(daemon.host.at(instance), ["v1", "v1"], "{instance}");
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ends().await, 0);
}

#[tokio::test]
async fn told_to_stop_in_a_step_it_lets_the_step_end_and_begins_nothing() {
    let mut daemon = in_a_step().await;
    daemon.signal(Signal::TERM);
    assert!(daemon.hears("STOPPING=1").await.contains("\nSTATUS=letting a running step end"));
    std::fs::remove_file(daemon.host.path("hold")).unwrap();
    assert_eq!(daemon.ends().await, 0);
    let records = daemon.records().await;
    let last: Vec<&Event> = records.iter().rev().take(2).map(|record| &record.event).collect();
    let [Event::StepFinished { step: ended, .. }, Event::StepStarted { step: begun }] = last[..] else {
        panic!("{last:?}")
    };
    assert_eq!(ended, begun);
    assert_eq!(daemon.host.at("b"), ["v2", "v2"], "the next instance is not touched");
    resumes_to_the_right_end(daemon).await;
}

/// The processes that restart the first instance.
fn restarts(daemon: &Daemon) -> Vec<u32> {
    let script = format!("> {}", daemon.host.path("running-a").display());
    let pids =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_one = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&script))
    };
    let all: Vec<u32> = pids.filter(is_one).collect();
    // What one of them has just forked looks like it until it runs its own program.
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    all.iter().copied().filter(|pid| !parent(*pid).is_some_and(|parent| all.contains(&parent))).collect()
}

#[tokio::test]
async fn killed_in_a_step_what_it_ran_does_not_go_on_beside_the_next_attempt() {
    let mut daemon = in_a_step().await;
    let [before] = restarts(&daemon)[..] else { panic!("one restart: {:?}", restarts(&daemon)) };
    daemon.signal(Signal::KILL);
    daemon.child.wait().await.unwrap();
    assert_eq!(restarts(&daemon), [before], "nobody is there to end it");
    daemon.start_again().await;
    let begins_anew = async |daemon: &Daemon| restarts(daemon).iter().any(|pid| *pid != before);
    daemon.until("settling the step", begins_anew).await;
    assert!(!restarts(&daemon).contains(&before), "two at a time");
    std::fs::remove_file(daemon.host.path("hold")).unwrap();
    daemon.until("over", async |daemon| daemon.host.has(|alert| alert.phase == Phase::Restored)).await;
    for instance in ["a", "b"] {
        assert_eq!(daemon.host.at(instance), ["v1", "v1"], "{instance}");
    }
}

/// The restart starts the service as its own child, in a group of its own: it is not the daemon's to end.
#[tokio::test]
async fn a_service_that_a_restart_left_behind_outlives_the_daemon() {
    let mut daemon = Daemon::start("").await;
    let service = daemon.host.path("service");
    let (policy, last) = (daemon.host.path("policy.toml"), daemon.host.path("running-a"));
    let (last, service_file) = (last.display(), service.display());
    let own_group = format!("bash -c 'set -m; sleep 300 & echo $! > {service_file}'");
    let before = std::fs::read_to_string(&policy).unwrap();
    let after = before.replace(&format!("> {last}\"]"), &format!("> {last}; {own_group}\"]"));
    assert_ne!(before, after);
    std::fs::write(&policy, after).unwrap();
    daemon.signal(Signal::HUP);
    daemon.hears("READY=1").await;
    daemon.deploys_a_bad_release().await;
    daemon.until("over", async |daemon| daemon.host.has(|alert| alert.phase == Phase::Restored)).await;
    let pid = std::fs::read_to_string(&service).unwrap();
    let lives = || std::fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| line.starts_with(b"sleep"));
    for signal in [Signal::TERM, Signal::KILL] {
        daemon.signal(signal);
        daemon.child.wait().await.unwrap();
        daemon.start_again().await;
        assert!(lives(), "ended after {signal:?}");
    }
    kill_process(Pid::from_raw(pid.trim().parse().unwrap()).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn told_to_stop_twice_it_ends_at_once_and_the_next_start_settles_the_step() {
    let mut daemon = in_a_step().await;
    daemon.signal(Signal::TERM);
    daemon.hears("STOPPING=1").await;
    daemon.signal(Signal::INT);
    daemon.ends().await;
    let last = daemon.records().await.pop();
    assert!(matches!(last, Some(Record { event: Event::StepStarted { .. }, .. })), "{last:?}");
    std::fs::remove_file(daemon.host.path("hold")).unwrap();
    resumes_to_the_right_end(daemon).await;
}

#[tokio::test]
async fn a_second_daemon_is_told_who_holds_the_state_directory() {
    let daemon = Daemon::start("").await;
    let same = daemon.url.strip_prefix("http://").unwrap();
    for listen in [same, "127.0.0.1:0"] {
        let policy = daemon.host.path("second.toml");
        std::fs::write(&policy, daemon.host.policy(&format!("listen = \"{listen}\""), "app", "")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollbackd"));
        let second = ended(command.args(["run", "--config"]).arg(&policy)).await;
        assert_eq!(second.code, 1, "{second:?}");
        assert!(second.err.contains(&format!("process {}", daemon.pid())), "{listen}: {second:?}");
        assert!(second.err.contains(&daemon.host.path("state").display().to_string()), "{second:?}");
    }
    assert_eq!(daemon.asked(&["status"]).await.code, 0, "the first one goes on");
}

#[tokio::test]
async fn a_hang_up_puts_a_good_policy_in_force_and_leaves_a_bad_one() {
    let daemon = Daemon::start("").await;
    let policy = daemon.host.path("policy.toml");
    let write = |workload: &str, more: &str| {
        std::fs::write(&policy, daemon.host.policy("listen = \"127.0.0.1:0\"", workload, more)).unwrap();
    };
    let hang_up = async || {
        daemon.signal(Signal::HUP);
        assert!(daemon.hears("RELOADING=1").await.contains("\nMONOTONIC_USEC="));
        daemon.hears("READY=1").await
    };
    write("app", "mode = \"observe\"");
    assert!(hang_up().await.contains("\nSTATUS=watching 1 workloads"));
    assert_eq!(daemon.get("/api/v1/workloads/app").await["mode"], "observe");

    std::fs::write(&policy, "[workload.app]\nnonsense = 1\n").unwrap();
    assert!(hang_up().await.contains("\nSTATUS=policy not valid, the old one stays"));
    assert!(daemon.log().contains("the new policy is not valid: nothing is changed"));
    assert!(daemon.log().contains("nonsense"), "the log says what is wrong:\n{}", daemon.log());
    assert_eq!(daemon.get("/api/v1/workloads/app").await["mode"], "observe");

    daemon.deploys_a_bad_release().await;
    daemon.until("held", async |daemon| daemon.host.has(|alert| alert.phase == Phase::Held)).await;
    // A file that is being written, or was cut off.
    for cut_off in ["", "[daemon]\n"] {
        std::fs::write(&policy, cut_off).unwrap();
        assert!(hang_up().await.contains("\nSTATUS=policy names no workload, the old one stays"));
    }
    assert_eq!(daemon.get("/api/v1/workloads/app").await["incident"]["phase"], "held");

    write("other", "mode = \"observe\"");
    hang_up().await;
    assert!(daemon.get("/api/v1/workloads/app").await["workload"].is_null());
    assert_eq!(daemon.get("/api/v1/workloads/other").await["workload"], "other");
    let closed = "the workload is no longer in the policy";
    daemon.until("closed", async |daemon| daemon.host.has(|alert| alert.reason == closed)).await;
}

#[tokio::test]
async fn a_hang_up_takes_the_token_at_once_and_says_what_waits_for_a_start() {
    let daemon = Daemon::start("").await;
    let hang_up = async |terms: &str| {
        let policy = daemon.host.policy(&format!("listen = \"127.0.0.1:0\"\n{terms}"), "app", "");
        std::fs::write(daemon.host.path("policy.toml"), policy).unwrap();
        daemon.signal(Signal::HUP);
        daemon.hears("RELOADING=1").await;
        daemon.hears("READY=1").await;
    };
    let pause = ["pause", "app", "--reason", "a look"];
    hang_up("").await;
    assert!(!daemon.log().contains("at the next start"), "{}", daemon.log());
    assert_eq!(daemon.asked(&pause).await.code, 1, "there is no token any more");
    let token = daemon.host.path("token");
    hang_up(&format!("token_file = \"{}\"\nexternal_url = \"http://rollbackd.example\"", token.display())).await;
    assert_eq!(daemon.asked(&pause).await.code, 0);
    let log = daemon.log();
    let told = log.lines().find(|line| line.contains("at the next start")).unwrap();
    assert!(told.contains("external_url") && !told.contains("token_file"), "{told}");
}

/// Two workloads are on record. What became of one of them nobody can follow any more.
#[tokio::test]
async fn damaged_records_take_the_watch_from_their_own_workload_alone() {
    let mut daemon = Daemon::start("").await;
    let hang_up = async |workload: &str, daemon: &Daemon| {
        let token = daemon.host.path("token");
        let terms = format!("listen = \"127.0.0.1:0\"\ntoken_file = \"{}\"", token.display());
        let policy = daemon.host.policy(&terms, workload, "");
        std::fs::write(daemon.host.path("policy.toml"), policy).unwrap();
        daemon.signal(Signal::HUP);
        daemon.hears("READY=1").await;
    };
    daemon.until("the release is on record", async |daemon| !daemon.records().await.is_empty()).await;
    hang_up("other", &daemon).await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ends().await, 0);
    let journal = rusqlite::Connection::open(daemon.host.path("state/journal.db")).unwrap();
    let mut statement = journal.prepare("SELECT sequence, body FROM records WHERE workload = 'app'").unwrap();
    let bodies = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))).unwrap();
    let bodies: Vec<(i64, String)> = bodies.map(Result::unwrap).collect();
    drop(statement);
    assert!(journal.execute("UPDATE records SET body = 'x' WHERE workload = 'app'", []).unwrap() > 0);
    drop(journal);

    daemon.start_again().await;
    assert_eq!(daemon.get("/api/v1/workloads/other").await["workload"], "other");
    assert!(daemon.log().contains("its records can't be followed: it is not watched"));
    hang_up("app", &daemon).await;
    let is_unwatched = async |daemon: &Daemon| {
        let view = daemon.get("/api/v1/workloads/app").await;
        assert!(view["current"].is_null(), "begun anew over what is on record: {view:#}");
        let why = view["standstill"]["reason"].as_str().unwrap().to_owned();
        assert!(why.starts_with("its records can't be followed, so it is not watched: record 1 of app is "), "{why}");
        assert_eq!(daemon.get("/api/v1/workloads").await.as_array().unwrap().len(), 1);
        assert_eq!(daemon.get("/readyz").await["detail"], format!("app: {why}"));
        assert_eq!(daemon.get("/api/v1/workloads/app/plan").await["detail"], format!("app: {why}"));
        let decision = daemon.get("/api/v1/workloads/app/explain").await["decision"].to_string();
        assert!(decision.contains(&why), "{decision}");
    };
    is_unwatched(&daemon).await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ends().await, 0);
    daemon.start_again().await;
    is_unwatched(&daemon).await;
    let told = |alert: &rollbackd::domain::incident::alert::Alert| {
        alert.summary == "rollbackd does not watch app: its records can't be followed."
    };
    daemon.until("it is told", async |daemon| daemon.host.has(told)).await;

    let journal = rusqlite::Connection::open(daemon.host.path("state/journal.db")).unwrap();
    for (sequence, body) in bodies {
        let mend = "UPDATE records SET body = ?1 WHERE workload = 'app' AND sequence = ?2";
        journal.execute(mend, rusqlite::params![body, sequence]).unwrap();
    }
    hang_up("app", &daemon).await;
    let views = daemon.get("/api/v1/workloads").await;
    assert_eq!((views.as_array().unwrap().len(), &views[0]["standstill"]), (1, &serde_json::Value::Null), "{views:#}");
    let over = |alert: &rollbackd::domain::incident::alert::Alert| {
        alert.incident.as_str() == "rollbackd-records-app"
            && alert.summary == "rollbackd: closed, app: its records can be followed, and it is watched again."
    };
    daemon.until("told that it is over", async |daemon| daemon.host.has(over)).await;
    assert_eq!(daemon.asked(&["pause", "app"]).await.code, 0, "what is watched can be stopped");
}

#[tokio::test]
async fn what_was_seen_of_a_workload_is_known_again_when_it_comes_back() {
    let mut daemon = Daemon::start("").await;
    let hang_up = async |workload: &str, daemon: &Daemon| {
        let policy = daemon.host.policy("listen = \"127.0.0.1:0\"", workload, "");
        std::fs::write(daemon.host.path("policy.toml"), policy).unwrap();
        daemon.signal(Signal::HUP);
        daemon.hears("READY=1").await;
    };
    daemon.until("the release is on record", async |daemon| !daemon.records().await.is_empty()).await;
    let earlier = daemon.records().await[0].at;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ends().await, 0);
    let kills = serde_json::json!({ "signals": [], "events": [["v1", [[earlier, 1, 0]]]] });
    let kept: Memory = serde_json::from_value(kills.clone()).unwrap();
    let store = Store::open(&daemon.host.path("state")).unwrap();
    store.save_memory(&"other".into(), kept, earlier).await.unwrap();
    drop(store);

    daemon.start_again().await;
    hang_up("other", &daemon).await;
    hang_up("app", &daemon).await;
    let reader = Store::open_read_only(&daemon.host.path("state")).unwrap();
    // It may have been looked at meanwhile.
    let known = serde_json::to_value(reader.memory(&"other".into()).await.unwrap()).unwrap();
    assert_eq!(known["events"], kills["events"]);
    let journal = rusqlite::Connection::open(daemon.host.path("state/journal.db")).unwrap();
    let written: i64 =
        journal.query_row("SELECT at FROM memories WHERE workload = 'other'", [], |row| row.get(0)).unwrap();
    assert!(written > earlier.as_millis(), "it is what the workload knew when it left");
}

#[tokio::test]
async fn the_service_manager_is_told_of_a_life() {
    let mut daemon = Daemon::start("").await;
    daemon.hears("WATCHDOG=1").await;
    daemon.hears("WATCHDOG=1").await;
    daemon.signal(Signal::TERM);
    daemon.hears("STOPPING=1").await;
    assert_eq!(daemon.ends().await, 0);
    daemon.start_again().await;
}

/// Nothing is watched where the journal can't be opened, and the outbox can't tell.
#[tokio::test]
async fn a_daemon_that_cant_start_tells_people_once_and_is_never_ready() {
    rollbackd::net::tls::install();
    let host = Host::start().await;
    let manager = UnixDatagram::bind(host.path("notify")).unwrap();
    let policy = host.path("policy.toml");
    std::fs::write(&policy, host.policy("listen = \"127.0.0.1:0\"", "app", "")).unwrap();
    std::fs::write(host.path("state"), "").unwrap();
    std::fs::create_dir(host.path("runtime")).unwrap();
    let start = async || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollbackd"));
        command.args(["run", "--config"]).arg(&policy);
        command.env("NOTIFY_SOCKET", host.path("notify")).env("RUNTIME_DIRECTORY", host.path("runtime"));
        ended(&mut command).await
    };
    for _ in 0..2 {
        let end = start().await;
        assert_eq!(end.code, 1, "{end:?}");
        assert!(end.err.contains("the journal can't be opened: state directory "), "{end:?}");
        let mut heard = [0; 2048];
        let length = manager.try_recv(&mut heard).unwrap();
        let heard = String::from_utf8_lossy(&heard[..length]);
        assert!(heard.starts_with("STATUS=does not start: the journal can't be opened"), "{heard}");
        assert!(manager.try_recv(&mut [0; 1]).is_err(), "and nothing else");
    }
    let told: Vec<String> = host.alerts().into_iter().map(|alert| alert.summary).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("rollbackd does not start: the journal can't be opened: state directory "), "{told:?}");

    drop(manager);
    for file in ["state", "notify"] {
        std::fs::remove_file(host.path(file)).unwrap();
    }
    let mut daemon = Daemon::start_on(host, "", "").await;
    assert!(daemon.log().contains("\"message\":\"ready\""));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ends().await, 0);
}

/// Whoever was told is told that it is over, and nobody else is.
#[tokio::test]
async fn a_daemon_that_starts_after_all_says_so() {
    rollbackd::net::tls::install();
    let host = Host::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let policy = host.path("policy.toml");
    let listen = format!("listen = \"{}\"", taken.local_addr().unwrap());
    std::fs::write(&policy, host.policy(&listen, "app", "")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollbackd"));
    command.args(["run", "--config"]).arg(&policy).env_remove("RUNTIME_DIRECTORY");
    assert_eq!(ended(&mut command).await.code, 1);
    let mut daemon = Daemon::start_on(host, "", "").await;
    let told = |daemon: &Daemon| {
        let own = daemon.host.alerts().into_iter().filter(|alert| alert.incident.as_str() == "rollbackd-start");
        own.map(|alert| (alert.phase, alert.reason)).collect::<Vec<_>>()
    };
    daemon.until("told that it has started", async |daemon| told(daemon).len() == 2).await;
    assert_eq!(told(&daemon)[1], (Phase::Closed, "it has started".to_owned()));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ends().await, 0);
    daemon.start_again().await;
    daemon.until("watching", async |daemon| daemon.get("/readyz").await["ready"] == true).await;
    assert_eq!(told(&daemon).len(), 2);
}

/// A container that starts again and again has no runtime directory, and keeps its state between two starts.
#[tokio::test]
async fn without_a_runtime_directory_the_state_says_who_was_told() {
    rollbackd::net::tls::install();
    let host = Host::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let policy = host.path("policy.toml");
    let listen = format!("listen = \"{}\"", taken.local_addr().unwrap());
    std::fs::write(&policy, host.policy(&listen, "app", "")).unwrap();
    for _ in 0..2 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollbackd"));
        command.args(["run", "--config"]).arg(&policy).env_remove("RUNTIME_DIRECTORY");
        let end = ended(&mut command).await;
        assert_eq!(end.code, 1, "{end:?}");
    }
    let told: Vec<String> = host.alerts().into_iter().map(|alert| alert.summary).collect();
    assert_eq!(told.len(), 1, "{told:?}");
}
