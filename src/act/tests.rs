use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::*;
use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::policy::{ReleaseDir, ReleaseInstance, Restart};
use crate::domain::response::plan::Pointed;

const LONG: Span = Span::from_secs(40);

fn id() -> WorkloadId {
    WorkloadId::new("api")
}

fn app(current: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["v1", "v2"] {
        fs::create_dir_all(dir.path().join("releases").join(name)).unwrap();
    }
    symlink(format!("releases/{current}"), dir.path().join("current")).unwrap();
    dir
}

fn switch_step(root: &Path) -> StepKind {
    StepKind::SwitchLink {
        instance: InstanceId::new("a"),
        root: root.to_owned(),
        link: PathBuf::from("current"),
        releases: PathBuf::from("releases"),
        expect: RevisionId::new("v2"),
        to: RevisionId::new("v1"),
    }
}

fn sh(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

fn restart_step(script: &str) -> StepKind {
    StepKind::Restart { instance: InstanceId::new("a"), how: Restart::Command(sh(script)), pointed: None }
}

#[tokio::test]
async fn each_kind_of_step_is_done_by_its_own_means() {
    let dir = app("v2");
    let actuator = Hands::default();
    let step = switch_step(dir.path());
    assert_eq!(actuator.execute(&id(), &step, LONG).await, Outcome::Applied);
    assert_eq!(actuator.execute(&id(), &step, LONG).await, Outcome::AlreadyInEffect);
    assert_eq!(actuator.execute(&id(), &restart_step("exit 0"), LONG).await, Outcome::Applied);
    let gate = StepKind::Gate { instances: Vec::new(), release: RevisionId::new("v1"), answers: 2 };
    assert!(matches!(actuator.execute(&id(), &gate, LONG).await, Outcome::Denied(_)));
}

/// Somebody put another release in place between the switch and the restart, or while no daemon ran.
#[tokio::test]
async fn what_was_switched_elsewhere_meanwhile_is_not_restarted() {
    let dir = app("v1");
    let file = dir.path().join("restarted");
    let restart = |to: &str| StepKind::Restart {
        instance: InstanceId::new("a"),
        how: Restart::Command(sh(&format!("touch {}", file.display()))),
        pointed: Some(Pointed {
            root: dir.path().to_owned(),
            link: PathBuf::from("current"),
            releases: PathBuf::from("releases"),
            to: RevisionId::new(to),
        }),
    };
    let actuator = Hands::default();
    let elsewhere = Outcome::Conflict("the symlink names v1, not v2: someone else changed it".to_owned());
    assert_eq!(actuator.execute(&id(), &restart("v2"), LONG).await, elsewhere);
    assert!(!file.exists());
    assert_eq!(actuator.execute(&id(), &restart("v1"), LONG).await, Outcome::Applied);
    assert!(file.exists());
}

#[tokio::test]
async fn steps_of_one_workload_are_done_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let actuator = Hands::default();
    // Each notes its begin and its end; done at once, two begins would stand side by side.
    let script = format!("cd {}; echo begin >> log; sleep 0.05; echo end >> log", dir.path().display());
    let step = restart_step(&script);
    let workload = id();
    let steps = (0..4).map(|_| actuator.execute(&workload, &step, LONG));
    let outcomes = futures::future::join_all(steps).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Applied), "{outcomes:?}");
    assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "begin\nend\n".repeat(4));
}

#[tokio::test]
async fn a_step_that_waits_too_long_for_its_turn_is_not_begun() {
    let actuator = Hands::default();
    let held = actuator.lane(&id()).await;
    let outcome = actuator.execute(&id(), &restart_step("exit 0"), Span::from_millis(20)).await;
    assert_eq!(outcome, Outcome::Transient("an earlier step of api still runs".to_owned()));
    let other = WorkloadId::new("web");
    assert_eq!(actuator.execute(&other, &restart_step("exit 0"), LONG).await, Outcome::Applied);
    drop(held);
    assert_eq!(actuator.execute(&id(), &restart_step("exit 0"), LONG).await, Outcome::Applied);
}

fn habitat(root: &Path) -> Habitat {
    Habitat::ReleaseDir(ReleaseDir {
        root: root.to_owned(),
        releases: PathBuf::from("releases"),
        instances: vec![ReleaseInstance {
            id: InstanceId::new("a"),
            current: PathBuf::from("current"),
            restart: Restart::Unit("api".to_owned()),
            cgroup: None,
        }],
    })
}

#[tokio::test]
async fn a_smoke_test_passes_by_its_exit_status_and_tells_its_end() {
    let dir = app("v1");
    let actuator = Hands::default();
    let run = async |script: &str, timeout| {
        let test = SmokeTest { argv: sh(script), timeout };
        actuator.smoke(&id(), &habitat(dir.path()), &test).await
    };
    let (passed, said) = run("pwd; echo \"$ROLLBACKD_WORKLOAD\"", LONG).await;
    let release = dir.path().canonicalize().unwrap().join("releases/v1");
    assert!(passed);
    assert_eq!(said, format!("exit status 0\n{}\napi", release.display()));
    assert_eq!(run("exit 0", LONG).await, (true, "exit status 0".to_owned()));

    let (passed, said) = run("seq 1 100000; echo 'assertion \u{1b}[31mfailed'; exit 3", LONG).await;
    assert!(!passed && said.starts_with("exit status 3\n"), "{said}");
    assert!(said.ends_with("\n100000\nassertion failed") && said.len() < 2100, "{said}");

    let (passed, said) = run("exec sleep 300", Span::from_millis(50)).await;
    assert_eq!((passed, said.as_str()), (false, "not done in its time and killed"));
}

#[tokio::test]
async fn a_smoke_test_that_can_not_be_run_does_not_pass() {
    let dir = app("v1");
    let actuator = Hands::default();
    let test = SmokeTest { argv: vec!["./scripts/smoke-tests.sh".to_owned()], timeout: LONG };
    let (passed, said) = actuator.smoke(&id(), &habitat(dir.path()), &test).await;
    assert!(!passed);
    assert_eq!(said, "not run: \"./scripts/smoke-tests.sh\" is not an executable program, as a path or in PATH");
    fs::remove_file(dir.path().join("current")).unwrap();
    let (passed, said) = actuator.smoke(&id(), &habitat(dir.path()), &test).await;
    assert!(!passed && said.starts_with("not run: local: "), "{said}");
}
