use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::domain::incident::record::Goal;
use crate::domain::observation::ReleaseView;
use crate::domain::policy::{Mode, Operands, ReleaseDir, ReleaseInstance, Strategy, Verify};
use crate::domain::response::plan::Purpose;
use crate::domain::response::strategy::{self, Ground};
use crate::domain::time::{Span, Timestamp};

fn policy(habitat: Habitat) -> WorkloadPolicy {
    WorkloadPolicy {
        id: WorkloadId::new("api"),
        mode: Mode::Enforce,
        strategy: Strategy::Direct,
        interval: Span::from_secs(5),
        is_asked: true,
        probation: Span::from_secs(60),
        known_good_after: Span::from_secs(60),
        deadline: Span::from_secs(60),
        cooldown: Span::from_secs(60),
        per_day: 2,
        gitops: crate::domain::policy::Gitops::Alert,
        gitops_limit: Span::from_secs(3600),
        warmup: Span::from_secs(60),
        namespace: "host".to_owned(),
        operands: Operands::default(),
        signals: BTreeMap::new(),
        triggers: Vec::new(),
        verify: Verify { stable_for: Span::ZERO, checks: Vec::new(), health: false, smoke: None },
        notify: Vec::new(),
        habitat,
    }
}

async fn found(habitat: Habitat, dir: &tempfile::TempDir) -> Vec<String> {
    let policy = policy(habitat);
    let goal = Goal { revision: RevisionId::new("v1"), image: None, known_good_since: None };
    let from = RevisionId::new("v2");
    let plan = {
        let ground =
            Ground { from: &from, goal: &goal, view: &ReleaseView::default(), well: &[], capacity: None, served: None };
        strategy::build(&policy, Purpose::First, 1, ground, Timestamp::default())
    };
    findings("/no/systemctl", &Clients::default(), None, &policy, &plan)
        .await
        .into_iter()
        .map(|finding| finding.to_string().replace(&dir.path().display().to_string(), "ROOT"))
        .collect()
}

fn app() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["v1", "v2", "v3"] {
        fs::create_dir_all(dir.path().join("releases").join(name)).unwrap();
    }
    for link in ["a", "b"] {
        symlink("releases/v2", dir.path().join(link)).unwrap();
    }
    dir
}

fn on_host(dir: &tempfile::TempDir, restart: &Restart) -> Habitat {
    let instance = |name: &str| ReleaseInstance {
        id: InstanceId::new(name),
        current: PathBuf::from(name),
        restart: restart.clone(),
        cgroup: None,
    };
    Habitat::ReleaseDir(ReleaseDir {
        root: dir.path().to_owned(),
        releases: PathBuf::from("releases"),
        instances: vec![instance("a"), instance("b")],
    })
}

fn relink(dir: &tempfile::TempDir, link: &str, target: &str) {
    fs::remove_file(dir.path().join(link)).unwrap();
    symlink(target, dir.path().join(link)).unwrap();
}

#[tokio::test]
async fn a_host_that_is_as_planned_gives_no_finding() {
    let dir = app();
    let restart = Restart::Command(vec!["true".to_owned()]);
    assert_eq!(found(on_host(&dir, &restart), &dir).await, Vec::<String>::new());
    // Done already, as after a crash.
    relink(&dir, "a", "releases/v1");
    assert_eq!(found(on_host(&dir, &restart), &dir).await, Vec::<String>::new());
    assert_eq!(fs::read_link(dir.path().join("b")).unwrap(), PathBuf::from("releases/v2"));
}

#[tokio::test]
async fn everything_that_is_wrong_on_a_host_is_said_at_once() {
    let dir = app();
    relink(&dir, "a", "releases/v3");
    relink(&dir, "b", "/etc");
    fs::remove_dir(dir.path().join("releases/v1")).unwrap();
    let restart = Restart::Command(vec!["/no/program".to_owned()]);
    let mut all = found(on_host(&dir, &restart), &dir).await;
    all.sort();
    all.dedup();
    assert_eq!(
        all,
        [
            "link of a: ROOT/a names v3, neither v2 nor v1",
            "link of b: ROOT/b points at /etc, which is not a release in ROOT/releases",
            "release v1: ROOT/releases/v1: No such file or directory (os error 2)",
            "restart a: \"/no/program\" is not an executable program, as a path or in PATH",
            "restart b: \"/no/program\" is not an executable program, as a path or in PATH",
        ]
    );
    let gone = tempfile::tempdir().unwrap();
    let habitat = on_host(&gone, &Restart::Unit("api".to_owned()));
    let root = gone.path().display().to_string();
    gone.close().unwrap();
    let all = found(habitat, &dir).await;
    assert!(all.contains(&format!("release directory: {root}: No such file or directory (os error 2)")), "{all:?}");
    assert!(all.iter().any(|line| line.starts_with("restart a: \"/no/systemctl\" is not")), "{all:?}");
}

fn by_command(dir: &tempfile::TempDir, current: &str, releases: &str, check: &str) -> Habitat {
    let sh = |script: &str| {
        let script = format!("cd {}; {script}", dir.path().display());
        vec!["/bin/sh".to_owned(), "-c".to_owned(), script, "sh".to_owned(), "{release}".to_owned()]
    };
    Habitat::Command(CommandHabitat {
        current: sh(current),
        releases: sh(releases),
        rollback: sh("touch acted"),
        status: None,
        check: Some(sh(check)),
        retire: None,
        instances: Vec::new(),
        timeout: Span::from_secs(30),
    })
}

#[tokio::test]
async fn commands_are_asked_before_anything_is_done() {
    let dir = app();
    let good = by_command(&dir, "echo v2", "echo v2; echo v1", "test \"$1 $ROLLBACKD_RELEASE\" = 'v1 v1'");
    assert_eq!(found(good, &dir).await, Vec::<String>::new());

    let bad = by_command(&dir, "echo v3", "echo v2", "echo no capacity >&2; exit 1");
    let all = found(bad, &dir).await;
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(all[0], "current release: v3 is current, neither v2 nor v1");
    assert!(all[1].starts_with("release v1: /bin/sh -c ") && all[1].ends_with("does not list it"), "{all:?}");
    assert!(
        all[2].starts_with("check of v1: /bin/sh -c ") && all[2].ends_with("exit status 1: no capacity"),
        "{all:?}"
    );
    assert!(!dir.path().join("acted").exists(), "a preflight must change nothing");
}
