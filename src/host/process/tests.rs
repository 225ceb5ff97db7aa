use std::fs;

use super::*;

fn sh(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

fn invocation(argv: &[String], limit: Duration) -> Invocation<'_> {
    Invocation {
        argv,
        variables: vec![("ROLLBACKD_WORKLOAD", "api".to_owned())],
        directory: None,
        limit,
        leftovers: Leftovers::Stay,
    }
}

const LONG: Duration = Duration::from_secs(30);

/// Whether the process lives whose number a program printed first.
fn alive(output: &str) -> bool {
    let pid: u32 = output.lines().next().unwrap().parse().unwrap();
    // A zombie that nobody has waited for is dead all the same.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits until a condition holds, for as long as a loaded machine may need.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come about");
}

#[tokio::test]
async fn output_and_errors_come_in_order_with_the_status() {
    let argv = sh("echo one; echo two >&2; echo three; exit 7");
    let run = run(&invocation(&argv, LONG)).await.unwrap();
    assert_eq!(run.end, End::Exited(7));
    assert_eq!(run.output, "one\ntwo\nthree\n");
    assert_eq!(run.summary(200), "exit status 7: one two three");
}

#[tokio::test]
async fn arguments_are_not_interpreted() {
    let hostile = ["a b", "; touch /tmp/owned", "$(id)", "line\nbreak", "*", "--", "'\""];
    let mut argv = sh("printf '<%s>' \"$@\"");
    argv.push("sh".to_owned());
    argv.extend(hostile.map(str::to_owned));
    let reply = ask(&invocation(&argv, LONG)).await.unwrap();
    let expected: String = hostile.iter().map(|a| format!("<{a}>")).collect();
    assert_eq!(reply.text(), expected);
}

#[tokio::test]
async fn only_a_minimal_environment_is_passed_on() {
    let argv = ["/usr/bin/env".to_owned()];
    let reply = ask(&invocation(&argv, LONG)).await.unwrap();
    let answer = reply.text();
    let mut names: Vec<&str> = answer
        .lines()
        .filter_map(|line| line.split_once('=').map(|(name, _)| name))
        .filter(|name| *name != "HOME")
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["LANG", "PATH", "ROLLBACKD_WORKLOAD"]);
}

#[tokio::test]
async fn a_flood_is_drained_and_its_ends_are_kept() {
    let argv = sh("echo begin; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end");
    let run = run(&invocation(&argv, LONG)).await.unwrap();
    assert_eq!(run.end, End::Exited(0));
    assert!(run.output.starts_with("begin\nxxx"), "beginning lost");
    assert!(run.output.ends_with("xxx\nend\n"), "end lost");
    assert!(run.output.contains("bytes left out]"));
    assert!(run.output.len() < MAX_OUTPUT + 64, "{}", run.output.len());
}

#[tokio::test]
async fn a_daemon_that_keeps_the_pipe_does_not_hold_up_the_caller() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let argv = sh(&format!("sleep 300 & echo $! > {}; echo started", file.display()));
    let what = invocation(&argv, LONG);
    let run = tokio::time::timeout(LONG / 2, run(&what)).await.unwrap().unwrap();
    assert_eq!((run.end, run.output.as_str()), (End::Exited(0), "started\n"));
    let pid = fs::read_to_string(&file).unwrap();
    assert!(alive(&pid), "a service that a restart leaves behind must live");
    let raw = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(raw, Signal::KILL).unwrap();
}

#[tokio::test]
async fn nothing_of_a_test_outlives_it() {
    let argv = sh("sleep 300 & echo $!");
    let what = Invocation { leftovers: Leftovers::Killed, ..invocation(&argv, LONG) };
    let run = run(&what).await.unwrap();
    assert_eq!(run.end, End::Exited(0));
    eventually("death of the leftover", || !alive(&run.output)).await;
}

/// A child in a session of its own is in no group that could be told.
#[tokio::test]
async fn what_leaves_the_group_is_found_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let child =
        format!("setsid sh -c 'echo $$ > {0}; sleep 300' & while [ ! -s {0} ]; do sleep 0.01; done", file.display());
    let (ends, hangs) = (sh(&child), sh(&format!("{child}; sleep 300")));
    for (argv, leftovers, limit) in [
        (&ends, Leftovers::Hunted, LONG),
        (&hangs, Leftovers::Killed, Duration::from_millis(700)),
        (&hangs, Leftovers::Hunted, Duration::from_millis(700)),
    ] {
        let _ = fs::remove_file(&file);
        let run = run(&Invocation { leftovers, ..invocation(argv, limit) }).await.unwrap();
        assert_eq!(run.succeeded(), limit == LONG, "{run:?}");
        let pid = fs::read_to_string(&file).unwrap();
        eventually("death of the child that left", || !alive(&pid)).await;
    }
}

#[tokio::test]
async fn one_that_ignores_sigterm_is_killed_with_its_grandchildren() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let script = format!(
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >> {0}; while :; do sleep 1; done' & echo $$ >> {0}; echo hanging; while :; do sleep 1; done",
        file.display()
    );
    let argv = sh(&script);
    let run = run(&invocation(&argv, Duration::from_millis(700))).await.unwrap();
    assert_eq!(run.end, End::TimedOut);
    assert_eq!(run.output, "hanging\n");
    let pids = fs::read_to_string(&file).unwrap();
    assert_eq!(pids.lines().count(), 2);
    for pid in pids.lines() {
        eventually("death of the group", || !alive(pid)).await;
    }
}

#[tokio::test]
async fn a_grandchild_that_ignores_sigterm_dies_after_its_obedient_parent() {
    let argv = sh(
        "sh -c 'trap \"\" TERM; while :; do sleep 1; done' & echo $!; trap 'exit 1' TERM; while :; do sleep 0.05; done",
    );
    let run = run(&invocation(&argv, Duration::from_millis(700))).await.unwrap();
    assert_eq!(run.end, End::TimedOut);
    eventually("death of the grandchild", || !alive(&run.output)).await;
}

#[tokio::test]
async fn a_cancelled_caller_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let argv = sh(&format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 300 & wait", file.display()));
    let what = invocation(&argv, LONG);
    let mut running = Box::pin(run(&what));
    eventually("start", || {
        let poll =
            std::pin::Pin::as_mut(&mut running).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        assert!(poll.is_pending());
        file.exists()
    })
    .await;
    let pid = fs::read_to_string(&file).unwrap();
    assert!(alive(&pid));
    drop(running);
    eventually("death of the cancelled program", || !alive(&pid)).await;
}

#[tokio::test]
async fn what_can_not_be_run_is_said_plainly() {
    for (argv, text) in [
        (&[][..], "the command is empty"),
        (&["no-such-program".to_owned()], "\"no-such-program\" is not an executable program, as a path or in PATH"),
        (&["/etc/passwd".to_owned()], "\"/etc/passwd\" is not an executable program, as a path or in PATH"),
    ] {
        let error = run(&invocation(argv, LONG)).await.unwrap_err();
        assert_eq!(error.line(), text);
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("not-a-program");
    fs::write(&file, "\u{7f}ELF nonsense").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&file, mode).unwrap();
    let argv = [file.display().to_string()];
    let error = run(&invocation(&argv, LONG)).await.unwrap_err();
    assert!(error.line().contains("could not be started: Exec format error"), "{}", error.line());
}

#[tokio::test]
async fn a_relative_program_is_found_in_the_working_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/bin/pwd", dir.path().join("where")).unwrap();
    let argv = ["./where".to_owned()];
    let what = Invocation { directory: Some(dir.path().to_owned()), ..invocation(&argv, LONG) };
    let reply = ask(&what).await.unwrap();
    let real = dir.path().canonicalize().unwrap();
    assert_eq!(reply.text().trim(), real.to_str().unwrap());
}

/// A restart command that starts the service as its child: the child's next lines must not kill it.
#[tokio::test]
async fn what_stays_can_go_on_printing() {
    let place = tempfile::tempdir().unwrap();
    let [go, done] = ["go", "done"].map(|name| place.path().join(name));
    let script = format!(
        "( while [ ! -e '{go}' ]; do sleep 0.01; done; echo one; echo two; echo three; touch '{done}' ) & echo begun",
        go = go.display(),
        done = done.display()
    );
    let argv = sh(&script);
    let run = run(&invocation(&argv, LONG)).await.unwrap();
    assert_eq!((run.end, run.output.as_str()), (End::Exited(0), "begun\n"));
    fs::write(&go, "").unwrap();
    eventually("the child's last line", || done.exists()).await;
}
