//! The commands: their exit codes, their JSON, who may change something, and whether what a message tells to type works.

use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::incident::record::Event;
use rustix::process::Signal;
use serde_json::Value;
use tokio::process::Command;
use wiremock::matchers::{path, path_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::host::Host;
use super::process::{Daemon, Ended, ended};

/// Every command that asks a daemon.
const ASKING: [&[&str]; 14] = [
    &["status"],
    &["status", "app"],
    &["history"],
    &["history", "app"],
    &["explain", "app"],
    &["explain", "--replay", "app-1"],
    &["plan", "app"],
    &["report", "app-1"],
    &["rollback", "app", "--reason", "x"],
    &["pause", "app"],
    &["resume", "app"],
    &["approve", "app-1"],
    &["reject", "app-1"],
    &["trigger", "app", "--kind", "data", "--reason", "x"],
];

async fn run(args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollbackd"));
    command.env_remove("ROLLBACKD_URL").env_remove("ROLLBACKD_TOKEN_FILE");
    ended(command.args(args)).await
}

#[tokio::test]
async fn without_a_daemon_every_command_that_asks_one_exits_with_3() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    for args in ASKING {
        let answer = run(&[args, &["--url", &url]].concat()).await;
        assert_eq!((answer.code, answer.out.as_str()), (3, ""), "{args:?}: {answer:?}");
        assert!(answer.err.contains(&format!("no daemon answers at {url}")), "{args:?}: {answer:?}");
    }
}

#[tokio::test]
async fn the_exit_code_tells_yes_no_and_wrong_usage_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good.toml"), dir.path().join("bad.toml"));
    let workload = "[workload.api]\nscrape.port = 80\nrelease_dir = { path = \"/srv/api\", unit = \"api.service\" }\n";
    std::fs::write(&good, workload).unwrap();
    std::fs::write(&bad, "[workload.api]\nnonsense = 1\n").unwrap();
    // What a unit that is started again may find there a moment later.
    let late = dir.path().join("late.toml");
    std::fs::write(&late, format!("[daemon]\ntoken_file = \"comes\"\n{workload}")).unwrap();
    let (good, bad, late) = (good.to_str().unwrap(), bad.to_str().unwrap(), late.to_str().unwrap());
    for (code, args) in [
        (0, &["--version"][..]),
        (0, &["check", good]),
        (1, &["check", bad]),
        (2, &["check", "/no/such/file"]),
        (2, &["run", "--config", "/no/such/file"]),
        (2, &["run", "--config", bad]),
        (1, &["run", "--config", late]),
        (2, &["nonsense"]),
        (2, &["plan"]),
    ] {
        let answer = run(args).await;
        assert_eq!(answer.code, code, "{args:?}: {answer:?}");
    }
    let report = run(&["check", good, "--json"]).await.json();
    assert_eq!(report["valid"], true);
    let warning = report["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with(good) && warning.contains("no `token_file` in [daemon]"), "{warning}");
}

#[tokio::test]
async fn only_a_missing_incident_is_looked_up_as_a_workload() {
    let broken = MockServer::start().await;
    let problem = r#"{"title":"Internal Server Error","detail":"the journal can't be read"}"#;
    let answer = ResponseTemplate::new(500).set_body_raw(problem, "application/problem+json");
    Mock::given(path("/api/v1/incidents/app")).respond_with(answer).expect(1).mount(&broken).await;
    let answer = run(&["explain", "app", "--url", &broken.uri()]).await;
    assert_eq!((answer.code, answer.err.as_str()), (1, "rollbackd: the journal can't be read\n"), "{answer:?}");
    assert_eq!(broken.received_requests().await.unwrap().len(), 1, "nothing else was asked");
}

#[tokio::test]
async fn where_there_is_no_such_incident_those_that_there_are_are_named() {
    let server = MockServer::start().await;
    let problem = ResponseTemplate::new(404).set_body_raw(r#"{"detail":"no incident"}"#, "application/problem+json");
    let of =
        |workload: &str, n: usize| serde_json::json!({ "incident": format!("{workload}-{n}"), "workload": workload });
    let all: Vec<Value> = (1..=10).map(|n| of("app", n)).chain([of("web", 1)]).collect();
    let list = ResponseTemplate::new(200).set_body_json(all);
    Mock::given(path("/api/v1/incidents")).respond_with(list).mount(&server).await;
    Mock::given(path_regex("^/api/v1/incidents/.")).respond_with(problem).mount(&server).await;
    let first = "app-1, app-2, app-3, app-4, app-5, app-6, app-7, app-8";
    for (sought, named) in [
        ("web", "web-1".to_owned()),
        ("app-1", "app-1, app-10".to_owned()),
        ("app", format!("{first} and 2 more")),
        ("nobody", format!("{first} and 3 more")),
    ] {
        let answer = run(&["explain", "--replay", sought, "--url", &server.uri()]).await;
        let told = format!("rollbackd: no incident; there is {named}\n");
        assert_eq!((answer.code, answer.err), (1, told), "{sought}");
    }
}

#[tokio::test]
async fn a_change_needs_the_token() {
    let daemon = Daemon::start("").await;
    let pause = format!("{}/api/v1/workloads/app/pause", daemon.url);
    let client = reqwest::Client::new();
    let post = async |token: Option<&str>, url: &str| {
        let request = client.post(url).json(&serde_json::json!({}));
        let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!((post(None, &pause).await, post(Some("wrong"), &pause).await), (401, 401));
    let wrong = daemon.host.path("wrong");
    std::fs::write(&wrong, "wrong").unwrap();
    for (more, why) in [
        (&[][..], "rollbackd: the bearer token is missing\n"),
        (&["--token-file", wrong.to_str().unwrap()], "rollbackd: the bearer token is wrong\n"),
    ] {
        let answer = run(&[&["pause", "app", "--url", &daemon.url], more].concat()).await;
        assert_eq!((answer.code, answer.err.as_str()), (1, why));
    }
    assert!(daemon.get("/api/v1/workloads/app").await["paused"].is_null());
    assert_eq!(daemon.asked(&["pause", "app"]).await.code, 0);
    assert!(daemon.get("/api/v1/workloads/app").await["paused"].is_object());

    let locked = Daemon::start_on(Host::start().await, "", "").await;
    let pause = format!("{}/api/v1/workloads/app/pause", locked.url);
    assert_eq!(post(Some("any"), &pause).await, 403);
    let warning = "no `token_file` in [daemon]: nobody can pause, approve or reject what this daemon does";
    let warned = |ready: &Value| ready["warnings"].as_array().into_iter().flatten().any(|given| given == warning);
    locked.until("warned", async |locked| warned(&locked.get("/readyz").await)).await;
    let page = reqwest::get(&locked.url).await.unwrap().text().await.unwrap();
    assert!(page.contains("nobody can pause, approve or reject what this daemon does"), "{page}");
}

#[tokio::test]
async fn a_workload_that_nobody_knows_has_no_history() {
    let daemon = Daemon::start("").await;
    for more in [&[][..], &["--json"]] {
        let answer = daemon.asked(&[&["history", "ap"], more].concat()).await;
        let told = (answer.code, answer.out.as_str(), answer.err.as_str());
        assert_eq!(told, (1, "", "rollbackd: no workload `ap`; did you mean `app`?\n"));
    }
    assert_eq!(daemon.asked(&["history", "app", "--json"]).await.json(), serde_json::json!([]));
}

#[tokio::test]
async fn each_command_prints_one_json_document() {
    let daemon = Daemon::start("mode = \"approve\"").await;
    let page = daemon.host.path("page");
    std::fs::write(&page, "up 1\n").unwrap();
    let one = async |args: &[&str]| daemon.asked(&[args, &["--json"]].concat()).await.json();
    assert_eq!(one(&["inspect", page.to_str().unwrap(), "--select", "up"]).await["matches"][0]["selector"], "up");
    daemon.deploys_a_bad_release().await;
    let waits =
        async |daemon: &Daemon| daemon.get("/api/v1/workloads/app").await["incident"]["phase"] == "awaiting-approval";
    daemon.until("awaiting approval", waits).await;
    let view = one(&["status", "app"]).await;
    let incident = view["incident"]["incident"].as_str().unwrap();
    assert_eq!(one(&["status"]).await[0]["workload"], "app");
    assert_eq!(one(&["plan", "app"]).await["plan"]["to"], "v1");
    assert_eq!(one(&["history"]).await[0]["incident"], incident);
    assert_eq!(one(&["history", "app"]).await[0]["phase"], "awaiting-approval");
    assert_eq!(one(&["explain", "app"]).await["workload"], "app");
    assert_eq!(one(&["explain", incident]).await["incident"], incident);
    assert_eq!(one(&["report", incident]).await["incident"], incident);
    assert_eq!(one(&["pause", "app"]).await["incident"], incident);
    assert_eq!(one(&["resume", "app"]).await["incident"], incident);
    assert_eq!(one(&["reject", incident]).await["incident"], incident);
    assert_eq!(one(&["trigger", "app", "--kind", "data", "--reason", "rows"]).await["incident"], incident);
    daemon.until("awaiting approval", waits).await;
    assert_eq!(one(&["approve", incident]).await["incident"], incident);
    daemon.until("restored", async |daemon| daemon.host.has(|alert| alert.phase == Phase::Restored)).await;
    let again = one(&["explain", "--replay", incident]).await;
    let decided = again["decisions"].as_array().unwrap();
    assert_eq!((&again["same"], decided.is_empty()), (&Value::from(true), false), "{again}");
    let told = daemon.asked(&["explain", "--replay", incident]).await;
    assert_eq!((told.code, told.out.matches("    same decision\n").count()), (0, decided.len()), "{told:?}");

    daemon.host.deploy("v2");
    daemon.until("v2", async |daemon| daemon.get("/api/v1/workloads/app").await["current"]["revision"] == "v2").await;
    let by_hand =
        ["rollback", "app", "--reason", "x", "--force", "rolled-back-before,cooldown,fleet-budget,no-rollout"];
    let end = one(&by_hand).await;
    let route = [&end["outcome"], &end["from"]["revision"], &end["to"]["revision"]];
    assert_eq!(route, [&Value::from("restored"), &Value::from("v2"), &Value::from("v1")], "{end}");
    assert!(!end.to_string().contains("unknown release"), "{end:#}");
    assert_eq!(daemon.host.at("b"), ["v1", "v1"]);
}

#[tokio::test]
async fn the_stop_that_a_message_names_stops_all_further_steps() {
    let daemon = Daemon::start("").await;
    std::fs::write(daemon.host.path("hold"), "").unwrap();
    daemon.deploys_a_bad_release().await;
    daemon.until("in a step", async |daemon| daemon.host.path("restarting-a").exists()).await;
    daemon.until("started", async |daemon| daemon.host.has(|alert| alert.phase == Phase::Started)).await;
    let alerts = daemon.host.alerts();
    let started = alerts.iter().find(|alert| alert.phase == Phase::Started).unwrap();
    let typed = daemon.typed(&started.stop.command).await;
    assert_eq!(typed.code, 0, "{}: {typed:?}", started.stop.command);
    std::fs::remove_file(daemon.host.path("hold")).unwrap();
    // What would follow from the step's end is recorded together with it.
    let step_ended = |event: &Event| matches!(event, Event::StepFinished { step: 1, .. });
    daemon.until("done with the step", async |daemon| since_the_pause(daemon).await.iter().any(step_ended)).await;
    let after = since_the_pause(&daemon).await;
    assert!(!after.iter().any(|event| matches!(event, Event::StepStarted { .. })), "{after:?}");
    assert_eq!(daemon.get("/api/v1/workloads/app").await["incident"]["hold"]["hold"], "paused");
    assert_eq!(daemon.host.at("a"), ["v1", "v1"]);
    assert_eq!(daemon.host.at("b"), ["v2", "v2"]);
}

/// What is on record from the pause on.
async fn since_the_pause(daemon: &Daemon) -> Vec<Event> {
    let events = daemon.records().await.into_iter().map(|record| record.event);
    events.skip_while(|event| !matches!(event, Event::Paused { .. })).collect()
}

/// What stands in the way of a rollback is told while all is well, wherever one looks.
#[tokio::test]
async fn a_goal_that_could_not_be_gone_to_is_told_with_what_is_missing() {
    let daemon = Daemon::start("mode = \"observe\"").await;
    let policy = daemon.host.path("policy.toml");
    let written = std::fs::read_to_string(&policy).unwrap().replace("/bin/sh", "/no/such/shell");
    std::fs::write(&policy, written).unwrap();
    daemon.signal(Signal::HUP);
    daemon.hears("RELOADING=1").await;
    daemon.hears("READY=1").await;
    daemon.deploys_a_bad_release().await;
    let metrics = async || reqwest::get(format!("{}/metrics", daemon.url)).await.unwrap().text().await.unwrap();
    daemon.until("a goal", async |daemon| daemon.get("/api/v1/workloads/app").await["goal"]["revision"] == "v1").await;
    assert_eq!(daemon.asked(&["plan", "app"]).await.code, 1);
    let warnings = daemon.get("/readyz").await["warnings"].to_string();
    assert!(warnings.contains("app: could not be rolled back now: rehearsal: "), "{warnings}");
    assert!(warnings.contains("/no/such/shell"), "{warnings}");
    let ready = "rollbackd_workload_ready{workload=\"app\"} ";
    let page = metrics().await;
    assert!(page.contains(&format!("{ready}0")), "{page}");
    let status = daemon.asked(&["status", "app"]).await.out;
    assert!(status.contains("v1, but lacks: rehearsal"), "{status}");
    assert!(status.contains("Could not be rolled back now: rehearsal: "), "{status}");
    let page = reqwest::get(&daemon.url).await.unwrap().text().await.unwrap();
    assert!(page.contains("but lacks:</span> rehearsal: "), "{page}");

    let mended = std::fs::read_to_string(&policy).unwrap().replace("/no/such/shell", "/bin/sh");
    std::fs::write(&policy, mended).unwrap();
    daemon.signal(Signal::HUP);
    daemon.hears("RELOADING=1").await;
    daemon.hears("READY=1").await;
    daemon.asked(&["plan", "app"]).await;
    let page = metrics().await;
    assert!(page.contains(&format!("{ready}1")), "{page}");
}

/// Nobody is told that all is well with a release whose link is not there.
#[tokio::test]
async fn a_release_whose_link_is_gone_is_told_to_be_unknown() {
    let daemon = Daemon::start("").await;
    let says = async |daemon: &Daemon, what: &str| daemon.asked(&["status"]).await.out.contains(what);
    daemon.until("healthy", async |daemon| says(daemon, " healthy ").await).await;
    std::fs::remove_file(daemon.host.path("current-a")).unwrap();
    daemon.until("told", async |daemon| says(daemon, "unknown, last v1").await).await;
    let status = daemon.asked(&["status", "app"]).await.out;
    assert!(!status.contains(" healthy "), "{status}");
    let page = reqwest::get(&daemon.url).await.unwrap().text().await.unwrap();
    assert!(page.contains("unknown, last v1") && page.contains("current-a: No such file or directory"), "{page}");
    assert!(daemon.host.alerts().is_empty() || says(&daemon, "blind").await, "{:?}", daemon.host.alerts());
}

#[tokio::test]
async fn who_was_not_told_is_told() {
    let daemon = Daemon::start("mode = \"observe\"").await;
    let gone = MockServer::start().await;
    Mock::given(path("/")).respond_with(ResponseTemplate::new(410)).mount(&gone).await;
    let policy = daemon.host.path("policy.toml");
    let written = std::fs::read_to_string(&policy).unwrap();
    let more = format!("[notify.gone]\nwebhook = \"{}/\"\n\n[workload.app]", gone.uri());
    let written = written.replace("[workload.app]", &more).replace("[\"test\"]", "[\"test\", \"gone\"]");
    std::fs::write(&policy, written).unwrap();
    daemon.signal(Signal::HUP);
    daemon.hears("RELOADING=1").await;
    daemon.hears("READY=1").await;
    daemon.deploys_a_bad_release().await;
    daemon.until("given up", async |daemon| daemon.get("/api/v1/outbox").await["parked"].as_u64() > Some(0)).await;
    let status = daemon.asked(&["status"]).await.out;
    assert!(status.contains("messages that were given up: ") && status.contains(" for gone: "), "{status}");
    let has_got = async |daemon: &Daemon| {
        let incident = daemon.get("/api/v1/workloads/app").await["incident"]["incident"].clone();
        let report = daemon.asked(&["report", incident.as_str().unwrap_or_default()]).await.out;
        report.contains("gone: given up ") && report.contains("; test: delivered ")
    };
    daemon.until("the report says who got it", has_got).await;
}
