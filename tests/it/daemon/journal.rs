//! The state directory, moved away under a daemon that runs.

use rollbackd::domain::incident::alert::Phase;

use super::process::Daemon;

/// What it would record nobody would find: nothing is done, people are told, and put back it goes on where it was.
#[tokio::test]
async fn without_its_state_directory_nothing_is_rolled_back_until_it_is_put_back() {
    let daemon = Daemon::start("").await;
    let (state, away) = (daemon.host.path("state"), daemon.host.path("state.moved"));
    let is_ready = async |daemon: &Daemon| daemon.get("/readyz").await["ready"] == true;
    daemon.until("ready", is_ready).await;
    let known = async |daemon: &Daemon| {
        let view = daemon.get("/api/v1/workloads/app").await;
        view["releases"].as_array().into_iter().flatten().any(|release| !release["known_good_since"].is_null())
    };
    daemon.until("known good", known).await;
    std::fs::rename(&state, &away).unwrap();
    daemon.host.deploy("v2");
    let why = format!("{} was moved or removed: what is written now would be lost", state.display());
    let says_why = async |daemon: &Daemon| daemon.get("/readyz").await["detail"].to_string().contains(&why);
    daemon.until("known to be gone", says_why).await;
    let told = |alert: &rollbackd::domain::incident::alert::Alert| {
        alert.incident.as_str() == "rollbackd-journal" && alert.reason.contains(&why)
    };
    daemon.until("told", async |daemon| daemon.host.has(told)).await;
    assert!(reqwest::get(format!("{}/livez", daemon.url)).await.unwrap().status().is_success());
    // Whoever decides by hand sees how it is.
    let is_seen = async |daemon: &Daemon| {
        let view = daemon.get("/api/v1/workloads/app").await;
        let triggers = view["assessment"]["triggers"].as_array().cloned().unwrap_or_default();
        view["current"]["revision"] == "v2" && triggers.iter().any(|trigger| trigger["state"] == "firing")
    };
    daemon.until("seen to be bad", is_seen).await;
    let decision = daemon.get("/api/v1/workloads/app/explain").await["decision"].to_string();
    assert!(decision.starts_with("\"nothing is done since ") && decision.contains(&why), "{decision}");
    // Something else in its place is not it.
    std::fs::create_dir(&state).unwrap();
    assert!(says_why(&daemon).await);
    std::fs::remove_dir(&state).unwrap();
    assert!(!daemon.host.has(|alert| alert.phase == Phase::Started), "{:?}", daemon.host.alerts());
    assert_eq!(daemon.host.at("a"), ["v2", "v2"]);
    std::fs::rename(&away, &state).unwrap();
    daemon.until("ready again", is_ready).await;
    let over = |alert: &rollbackd::domain::incident::alert::Alert| {
        alert.incident.as_str() == "rollbackd-journal" && alert.phase == Phase::Closed
    };
    daemon.until("told that it is over", async |daemon| daemon.host.has(over)).await;
    daemon.until("over", async |daemon| daemon.host.has(|alert| alert.phase == Phase::Restored)).await;
}
