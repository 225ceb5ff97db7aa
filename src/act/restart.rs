//! Making an instance run what its link names: by a systemd unit or by the operator's own command.

use std::time::Duration;

use crate::domain::id::{InstanceId, WorkloadId};
use crate::domain::policy::Restart;
use crate::domain::response::plan::Outcome;
use crate::host::command::{MAX_DETAIL, shown, variables};
use crate::host::process::{self, End, Invocation, Leftovers, StartError};
use crate::host::text::check_unit_name;

/// `systemctl`'s exit status where it may not do what is asked: LSB's "insufficient privilege".
const NO_PRIVILEGE: i32 = 4;
/// `systemctl`'s exit status where the unit is not there: LSB's "not installed".
const NO_SUCH_UNIT: i32 = 5;

/// Restarts an instance. Safe to do twice.
pub(super) async fn restart(
    systemctl: &str,
    workload: &WorkloadId,
    instance: &InstanceId,
    how: &Restart,
    limit: Duration,
) -> Outcome {
    let argv = match how {
        Restart::Command(argv) => argv.clone(),
        Restart::Unit(unit) => {
            if let Err(problem) = check_unit_name(unit) {
                return Outcome::Denied(problem);
            }
            ["restart", "--no-ask-password", "--", unit].iter().fold(
                vec![systemctl.to_owned()],
                |mut argv, argument| {
                    argv.push((*argument).to_owned());
                    argv
                },
            )
        }
    };
    let run = process::run(&Invocation {
        argv: &argv,
        variables: variables(workload, None, Some(instance)),
        directory: None,
        limit,
        leftovers: Leftovers::Stay,
    })
    .await;
    let run = match run {
        Ok(run) => run,
        Err(error) => return Outcome::Denied(error.line()),
    };
    let told = format!("{}: {}", shown(&argv), run.summary(MAX_DETAIL));
    match (run.end, how) {
        (End::Exited(0), _) => Outcome::Applied,
        (End::Exited(NO_PRIVILEGE | NO_SUCH_UNIT), Restart::Unit(_)) => Outcome::Denied(told),
        (End::Exited(_) | End::Signalled(_), _) => Outcome::Transient(told),
        (End::TimedOut, _) => Outcome::TimedOut(told),
    }
}

/// What stands in the way of a restart, if anything. Changes nothing.
pub(super) async fn problem(systemctl: &str, workload: &WorkloadId, how: &Restart, limit: Duration) -> Option<String> {
    match how {
        Restart::Command(argv) => match argv.first() {
            Some(program) => process::find_program(program, None).err().map(|error| error.line()),
            None => Some(StartError::Empty.line()),
        },
        Restart::Unit(unit) => unit_problem(systemctl, workload, unit, limit).await,
    }
}

async fn unit_problem(systemctl: &str, workload: &WorkloadId, unit: &str, limit: Duration) -> Option<String> {
    if let Err(problem) = check_unit_name(unit) {
        return Some(problem);
    }
    let argv = [systemctl, "show", "--property=LoadState", "--value", "--", unit].map(str::to_owned);
    let reply = process::ask(&Invocation {
        argv: &argv,
        variables: variables(workload, None, None),
        directory: None,
        limit,
        leftovers: Leftovers::Killed,
    })
    .await;
    match reply {
        Err(error) => Some(error.line()),
        Ok(reply) if reply.end == End::Exited(0) => {
            let answer = reply.text();
            let state = answer.trim().lines().next().unwrap_or("unknown");
            (state != "loaded").then(|| format!("unit {unit} is {state}, not loaded"))
        }
        Ok(reply) => Some(format!("{}: {}", shown(&argv), reply.summary(MAX_DETAIL))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn ids() -> (WorkloadId, InstanceId) {
        (WorkloadId::new("api"), InstanceId::new("a"))
    }

    /// A stand-in for `systemctl` that notes its arguments and answers as told.
    fn systemctl(dir: &tempfile::TempDir, body: &str) -> String {
        let file = dir.path().join("systemctl");
        let log = dir.path().join("log");
        fs::write(&file, format!("#!/bin/sh\necho \"$*\" >> {}\n{body}\n", log.display())).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file.display().to_string()
    }

    /// A program that was just written may still be open for writing in a child that another test is starting.
    async fn restarted(program: &str, unit: &str) -> Outcome {
        let (workload, instance) = ids();
        let how = Restart::Unit(unit.to_owned());
        loop {
            match restart(program, &workload, &instance, &how, LONG).await {
                Outcome::Denied(text) if text.contains("Text file busy") => {
                    tokio::task::yield_now().await;
                }
                outcome => return outcome,
            }
        }
    }

    #[tokio::test]
    async fn a_unit_is_restarted_by_systemctl() {
        let dir = tempfile::tempdir().unwrap();
        let outcome = restarted(&systemctl(&dir, "exit 0"), "api@a.service").await;
        assert_eq!(outcome, Outcome::Applied);
        assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "restart --no-ask-password -- api@a.service\n");
    }

    #[tokio::test]
    async fn what_systemctl_says_is_classified() {
        for (status, kind) in [(1, "transient"), (4, "denied"), (5, "denied")] {
            let dir = tempfile::tempdir().unwrap();
            let program = systemctl(&dir, &format!("echo why >&2; exit {status}"));
            let text = match restarted(&program, "api").await {
                Outcome::Transient(text) if kind == "transient" => text,
                Outcome::Denied(text) if kind == "denied" => text,
                outcome => panic!("{status}: {outcome:?}"),
            };
            assert!(text.ends_with(&format!("exit status {status}: why")), "{text}");
        }
    }

    #[tokio::test]
    async fn an_option_is_not_a_unit() {
        for unit in ["--force", "", "a b", "a;b", "../x", "a/b", "a\n"] {
            assert_eq!(
                restarted("/bin/false", unit).await,
                Outcome::Denied(format!("{unit:?} is not the name of a unit"))
            );
        }
    }

    #[tokio::test]
    async fn a_command_is_told_which_instance() {
        let (workload, instance) = ids();
        let run = async |script: &str, limit| {
            let how = Restart::Command(["/bin/sh", "-c", script].map(str::to_owned).to_vec());
            restart("systemctl", &workload, &instance, &how, limit).await
        };
        let script = "test \"$ROLLBACKD_WORKLOAD $ROLLBACKD_INSTANCE\" = 'api a'";
        assert_eq!(run(script, LONG).await, Outcome::Applied);
        assert!(matches!(run("exit 3", LONG).await, Outcome::Transient(t) if t.ends_with("exit status 3")));
        assert!(matches!(run("sleep 60", Duration::from_millis(100)).await, Outcome::TimedOut(_)));
    }

    #[tokio::test]
    async fn an_unknown_unit_or_program_is_found_beforehand() {
        let (workload, _) = ids();
        let dir = tempfile::tempdir().unwrap();
        let ask = async |program: &str, how: &Restart| loop {
            match problem(program, &workload, how, LONG).await {
                Some(text) if text.contains("Text file busy") => tokio::task::yield_now().await,
                found => return found,
            }
        };
        let unit = Restart::Unit("api".to_owned());
        let program = systemctl(&dir, "echo loaded");
        assert_eq!(ask(&program, &unit).await, None);
        let program = systemctl(&dir, "echo not-found");
        assert_eq!(ask(&program, &unit).await.unwrap(), "unit api is not-found, not loaded");
        let command = Restart::Command(vec!["/no/such/program".to_owned()]);
        assert_eq!(
            ask(&program, &command).await.unwrap(),
            "\"/no/such/program\" is not an executable program, as a path or in PATH"
        );
        assert_eq!(ask(&program, &Restart::Command(Vec::new())).await.unwrap(), "the command is empty");
    }
}
