use std::os::unix::fs::PermissionsExt;

use clap::Parser;

use super::*;
use crate::act::Hands;
use crate::demo::{app, control};
use crate::domain::id::{InstanceId, RevisionId, WorkloadId};
use crate::domain::policy::{Habitat, Restart};
use crate::domain::response::plan::{CommandPurpose, Outcome, StepKind};
use crate::domain::time::Span;
use crate::engine::ports::Actuator;

/// Where the arguments of a process are passed that is this test binary in the part of the product's binary.
const ARGUMENTS: &str = "ROLLBACKD_DEMO_ARGUMENTS";
const LONG: Duration = Duration::from_secs(40);

#[derive(Parser)]
enum Commands {
    #[command(name = "demo-app")]
    App(app::AppOptions),
    #[command(name = "demo-ctl")]
    Control(control::ControlOptions),
    /// Sets a stage up, notes where its instance listens, and stays.
    #[command(name = "demo-stage")]
    Stage { dir: PathBuf },
}

/// Not a test: the process that [`program`] starts.
#[tokio::test]
#[ignore = "run by the other tests as a process of its own"]
async fn as_a_process() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let arguments = std::iter::once("rollbackd").chain(arguments.split_whitespace());
    match Commands::parse_from(arguments) {
        Commands::App(options) => app::run(options).await.unwrap(),
        Commands::Control(options) => match control::call(options).await {
            Ok(text) => {
                // The harness has printed the test's name without a line break; the answer must be the first line.
                std::fs::write("/dev/stderr", &text).unwrap();
            }
            Err(error) => {
                eprintln!("{error}");
                std::process::exit(1);
            }
        },
        Commands::Stage { dir } => {
            let program = dir.join("rollbackd");
            let stage = Stage::start(&program, Strategy::Direct, Fault::Errors, &dir).await.unwrap();
            std::fs::write(dir.join("fresh"), stage.specs[0].listen.to_string()).unwrap();
            std::fs::rename(dir.join("fresh"), dir.join("listen")).unwrap();
            std::future::pending::<()>().await;
        }
    }
}

/// A program that takes the product's arguments and runs this test binary with them. Written by a process of its own, so
/// that no child of another test holds it open for writing while it is executed.
fn program(dir: &Path) -> PathBuf {
    let path = dir.join("rollbackd");
    let test = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\nexport {ARGUMENTS}=\"$*\"\nexec {} --exact demo::stage::tests::as_a_process --ignored --nocapture -q 2>&1 >/dev/null\n",
        test.display()
    );
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", "printf %s \"$0\" > \"$1\" && chmod 755 \"$1\"", &script])
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
    path
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while Instant::now() < deadline {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not come about");
}

/// Whether the fault shows from outside.
async fn shows(stage: &Stage, fault: Fault) -> bool {
    let tally = stage.tally();
    match fault {
        Fault::Errors => tally.errors > 10,
        Fault::Latency => tally.slow > 10,
        Fault::Oom => stage.specs.iter().any(|spec| {
            let events = std::fs::read_to_string(spec.cgroup.join("memory.events")).unwrap();
            events.lines().any(|line| line.starts_with("oom_kill ") && line != "oom_kill 0")
        }),
        // Without a proxy the connection is refused, behind one it answers with an error.
        Fault::Crash => tally.unanswered + tally.errors > 10,
        Fault::Unhealthy => {
            let spec = stage.specs.last().unwrap();
            let health = format!("{}health", address(spec.listen));
            let answer = stage.site.client.get(health).send().await.unwrap();
            answer.status() == 503 && answer.text().await.unwrap().contains("\"Unhealthy\"")
        }
    }
}

/// Takes the bad release back by the same steps as a plan would.
async fn roll_back(stage: &Stage) {
    let actuator = Hands::default();
    let workload = WorkloadId::new(WORKLOAD);
    let (expect, to) = (RevisionId::new(BAD), RevisionId::new(GOOD));
    let mut steps = Vec::new();
    if stage.proxy.is_some() {
        for (purpose, action) in [
            (CommandPurpose::Rollback, ["rollback", GOOD]),
            (CommandPurpose::AwaitStatus, ["status", GOOD]),
            (CommandPurpose::Retire, ["retire", BAD]),
        ] {
            steps.push(StepKind::Command {
                purpose,
                instance: None,
                argv: stage.control_command(&action),
                current: stage.control_command(&["current"]),
                expect: expect.clone(),
                to: to.clone(),
                each: Span::from_secs(60),
            });
        }
    } else {
        for spec in &stage.specs {
            let instance = InstanceId::new(&spec.name);
            steps.push(StepKind::SwitchLink {
                instance: instance.clone(),
                root: stage.root.clone(),
                link: spec.link.strip_prefix(&stage.root).unwrap().to_owned(),
                releases: PathBuf::from(RELEASES),
                expect: expect.clone(),
                to: to.clone(),
            });
            let how = Restart::Command(stage.control_command(&["restart", &spec.name]));
            steps.push(StepKind::Restart { instance, how, pointed: None });
        }
    }
    for step in steps {
        let outcome = actuator.execute(&workload, &step, Span::from_secs(40)).await;
        assert_eq!(outcome, Outcome::Applied, "{}", step.title());
    }
}

async fn play(strategy: Strategy, fault: Fault) {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::start(&program(dir.path()), strategy, fault, dir.path()).await.unwrap();
    eventually("traffic", async || stage.tally().good > 20).await;
    assert_eq!(stage.restored().await, Ok(()), "{strategy} {fault}");
    stage.deploy(Duration::from_millis(300)).await.unwrap();
    let bad = stage.restored().await.unwrap_err();
    assert!(bad.contains(BAD), "{strategy} {fault}: {bad}");
    eventually(&format!("{strategy}: {fault}"), async || shows(&stage, fault).await).await;
    roll_back(&stage).await;
    eventually("the good release", async || stage.restored().await.is_ok()).await;
    let before = stage.tally().good;
    eventually("traffic", async || stage.tally().good > before + 20).await;
    stage.shut_down().await;
}

#[tokio::test]
async fn a_single_instance_goes_bad_and_comes_back() {
    for fault in [Fault::Errors, Fault::Oom] {
        play(Strategy::Direct, fault).await;
    }
}

#[tokio::test]
async fn several_instances_go_bad_and_come_back() {
    play(Strategy::Rolling, Fault::Crash).await;
}

#[tokio::test]
async fn traffic_is_switched_between_colours() {
    for fault in [Fault::Unhealthy, Fault::Crash] {
        play(Strategy::BlueGreen, fault).await;
    }
}

#[tokio::test]
async fn a_canary_gets_a_share_of_the_traffic() {
    play(Strategy::Canary, Fault::Latency).await;
}

#[tokio::test]
async fn instances_end_with_the_stage() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::start(&program(dir.path()), Strategy::Direct, Fault::Errors, dir.path()).await.unwrap();
    let listen = stage.specs[0].listen;
    assert!(std::net::TcpStream::connect(listen).is_ok());
    stage.shut_down().await;
    assert!(std::net::TcpStream::connect(listen).is_err(), "still listening on {listen}");
}

#[tokio::test]
async fn instances_die_with_a_stage_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut stage = tokio::process::Command::new(program(dir.path()))
        .arg("demo-stage")
        .arg(dir.path())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let note = dir.path().join("listen");
    eventually("the stage", async || note.exists()).await;
    let listen: SocketAddr = std::fs::read_to_string(&note).unwrap().parse().unwrap();
    assert!(std::net::TcpStream::connect(listen).is_ok());
    stage.kill().await.unwrap();
    eventually("the instance's end", async || std::net::TcpStream::connect(listen).is_err()).await;
}

#[tokio::test]
async fn what_is_not_there_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::start(&program(dir.path()), Strategy::BlueGreen, Fault::Errors, dir.path()).await.unwrap();
    for (action, text) in [
        (control::Action::Rollback { release: "v9".to_owned() }, "v9 does not run"),
        (control::Action::Check { release: "../x".to_owned() }, "../x does not run"),
        (control::Action::Restart { instance: "nobody".to_owned() }, "there is no instance \"nobody\""),
        (control::Action::Retire { release: GOOD.to_owned() }, "v1 still gets traffic"),
    ] {
        let options = control::ControlOptions { control: stage.control, action };
        assert_eq!(control::call(options).await.unwrap_err().to_string(), text);
    }
    stage.shut_down().await;
}

#[tokio::test]
async fn every_strategy_has_a_policy() {
    for strategy in [Strategy::Direct, Strategy::Rolling, Strategy::BlueGreen, Strategy::Canary] {
        let dir = tempfile::tempdir().unwrap();
        let stage = Stage::start(&program(dir.path()), strategy, Fault::Errors, dir.path()).await.unwrap();
        let text = stage.policy_toml(&crate::demo::Surroundings {
            listen: SocketAddr::from(([127, 0, 0, 1], 9477)),
            state_dir: &dir.path().join("state"),
            token_file: None,
            webhook: "http://127.0.0.1:1/hook",
            secret_file: None,
        });
        let file = (dir.path().join("rollbackd.toml"), text.clone());
        let config = crate::config::parse(&[file]).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        let workload = &config.workloads[&WorkloadId::new(WORKLOAD)];
        assert_eq!(workload.policy.strategy, strategy);
        let (scrape, health) = (&workload.sources.scrape, &workload.sources.health);
        let observed = if stage.proxy.is_some() { 1 } else { stage.specs.len() };
        assert_eq!((scrape.len(), health.len()), (observed, observed), "{text}");
        match &workload.policy.habitat {
            Habitat::Command(_) => assert!(stage.proxy.is_some()),
            Habitat::Kubernetes(_) => panic!("a demo in a cluster"),
            Habitat::ReleaseDir(host) => {
                let names: Vec<&str> = host.instances.iter().map(|instance| instance.id.as_str()).collect();
                let specs: Vec<&str> = stage.specs.iter().map(|spec| spec.name.as_str()).collect();
                assert_eq!(names, specs);
                assert!(scrape.iter().all(|endpoint| endpoint.instance.is_some()), "{scrape:?}");
            }
        }
        assert!(health.iter().all(|health| health.revision.is_some() && !health.expect.is_empty()), "{health:?}");
        stage.shut_down().await;
    }
}
