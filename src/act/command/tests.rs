use std::fs;

use super::*;

const LONG: Duration = Duration::from_secs(40);

/// A switch as an operator would write one: a file that says which release is current.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new(current: &str) -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        site.set(current);
        site
    }

    fn set(&self, current: &str) {
        fs::write(self.dir.path().join("current"), format!("{current}\n")).unwrap();
    }

    fn sh(&self, script: &str) -> Vec<String> {
        let script = format!("cd {} && {script}", self.dir.path().display());
        ["/bin/sh".to_owned(), "-c".to_owned(), script].to_vec()
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.dir.path().join("runs")).unwrap_or_default().lines().count()
    }

    async fn execute(&self, purpose: CommandPurpose, script: &str, limit: Duration) -> (&'static str, String) {
        self.execute_each(purpose, script, limit, limit).await
    }

    async fn execute_each(
        &self,
        purpose: CommandPurpose,
        script: &str,
        each: Duration,
        limit: Duration,
    ) -> (&'static str, String) {
        let outcome = execute(
            Command {
                workload: &WorkloadId::new("api"),
                purpose,
                instance: None,
                argv: &self.sh(&format!("echo run >> runs; {script}")),
                current: &self.sh("cat current"),
                expect: &RevisionId::new("v2"),
                to: &RevisionId::new("v1"),
                each,
            },
            limit,
        )
        .await;
        match outcome {
            Outcome::Applied => ("applied", String::new()),
            Outcome::AlreadyInEffect => ("already", String::new()),
            Outcome::Conflict(text) => ("conflict", text),
            Outcome::Transient(text) => ("transient", text),
            Outcome::Denied(text) => ("denied", text),
            Outcome::TimedOut(text) => ("timed out", text),
            Outcome::NotBegun(text) => ("not begun", text),
            Outcome::Stopped(text) => ("stopped", text),
        }
    }

    async fn roll_back(&self, script: &str) -> (&'static str, String) {
        self.execute(CommandPurpose::Rollback, script, LONG).await
    }
}

#[tokio::test]
async fn a_command_runs_only_from_the_release_that_was_expected() {
    let site = Site::new("v2");
    assert_eq!(site.roll_back("echo v1 > current").await.0, "applied");
    assert_eq!(site.roll_back("echo v1 > current").await.0, "already");
    site.set("v3");
    assert_eq!(
        site.roll_back("echo v1 > current").await,
        ("conflict", "the current release is v3, neither v2 nor v1: someone else changed it".to_owned())
    );
    site.set("");
    let (kind, text) = site.roll_back("echo v1 > current").await;
    assert_eq!(kind, "transient");
    assert!(text.contains("release name \"\" is empty"), "{text}");
    assert_eq!(site.runs(), 1);
}

#[tokio::test]
async fn what_a_command_says_is_settled_by_reading() {
    // (what the command does, outcome, end of its text)
    let cases = [
        ("echo v1 > current; exit 9", "applied", ""),
        ("echo v1 > current; kill -9 $$", "applied", ""),
        ("echo no rights; exit 3", "denied", "exit status 3: no rights"),
        ("kill -9 $$", "transient", "killed by signal 9"),
        ("echo v7 > current", "conflict", "neither v2 nor v1: someone else changed it"),
        ("rm current; exit 0", "timed out", "No such file or directory"),
        ("(sleep 0.3; echo v1 > current) & exit 0", "applied", ""),
    ];
    for (script, kind, end) in cases {
        let (found, text) = Site::new("v2").roll_back(script).await;
        assert_eq!(found, kind, "{script}: {text}");
        assert!(text.ends_with(end), "{script}: {text}");
    }
}

#[tokio::test]
async fn a_lie_is_found_out() {
    let (kind, text) = Site::new("v2").execute(CommandPurpose::Rollback, "exit 0", Duration::from_secs(4)).await;
    assert_eq!(kind, "transient");
    assert!(text.ends_with("exit status 0, but v2 is still the current release"), "{text}");
}

#[tokio::test]
async fn one_that_hangs_is_ended_and_settled_by_reading() {
    let limit = Duration::from_secs(4);
    let (kind, text) = Site::new("v2").execute(CommandPurpose::Rollback, "exec sleep 300", limit).await;
    assert_eq!(kind, "timed out");
    assert!(text.ends_with("not done in its time and killed"), "{text}");
    let script = "echo v1 > current; exec sleep 300";
    assert_eq!(Site::new("v2").execute(CommandPurpose::Rollback, script, limit).await.0, "applied");
}

#[tokio::test]
async fn each_program_has_its_own_time() {
    let (site, each) = (Site::new("v2"), Duration::from_secs(1));
    let outcome = site.execute_each(CommandPurpose::Rollback, "sleep 5; echo v1 > current", each, LONG).await;
    assert_eq!(outcome.0, "timed out", "{}", outcome.1);
}

#[tokio::test]
async fn a_status_is_asked_until_it_is_good_or_the_time_is_over() {
    let site = Site::new("v1");
    let script = "test $(wc -l < runs) -ge 2";
    assert_eq!(site.execute(CommandPurpose::AwaitStatus, script, LONG).await.0, "applied");
    assert_eq!(site.runs(), 2);

    let (kind, text) =
        site.execute(CommandPurpose::AwaitStatus, "echo not yet; exit 1", Duration::from_millis(1500)).await;
    assert_eq!(kind, "timed out");
    assert!(text.starts_with("asked ") && text.ends_with("exit status 1: not yet"), "{text}");

    site.set("v3");
    assert_eq!(site.execute(CommandPurpose::AwaitStatus, "exit 1", LONG).await.0, "conflict");
}

#[tokio::test]
async fn only_a_release_that_no_longer_serves_is_retired() {
    let site = Site::new("v1");
    let retire = async |script: &str| site.execute(CommandPurpose::Retire, script, LONG).await;
    assert_eq!(retire("test \"$ROLLBACKD_RELEASE\" = v2").await.0, "applied");
    assert_eq!(retire("exit 1").await.0, "transient");
    site.set("v2");
    assert_eq!(retire("exit 0").await, ("denied", "v2 is still the current release".to_owned()));
    site.set("v3");
    assert_eq!(retire("exit 0").await.0, "conflict");
    assert_eq!(site.runs(), 2);
}

#[tokio::test]
async fn what_can_not_be_started_is_denied() {
    let site = Site::new("v2");
    let outcome = execute(
        Command {
            workload: &WorkloadId::new("api"),
            purpose: CommandPurpose::Rollback,
            instance: None,
            argv: &["/no/such/switch".to_owned()],
            current: &site.sh("cat current"),
            expect: &RevisionId::new("v2"),
            to: &RevisionId::new("v1"),
            each: LONG,
        },
        LONG,
    )
    .await;
    let text = "\"/no/such/switch\" is not an executable program, as a path or in PATH";
    assert_eq!(outcome, Outcome::Denied(text.to_owned()));
}
