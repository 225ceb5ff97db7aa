//! Programs under way, on file: what a daemon was running when it was killed is found by the next one.
//!
//! A file names a process by its number and its start, which together are never another one's (proc_pid_stat(5)). It is
//! there only while the program itself runs, so that a service which that one leaves behind is never meant. Without its file
//! a program runs all the same: what that costs is that nobody would end it, and it is in the log.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::{GRACE, hunt};

/// Where the files are, beneath the state directory.
const DIRECTORY: &str = "runs";

/// Time between two looks at whether what was told to end has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

static PLACE: OnceLock<PathBuf> = OnceLock::new();

/// A program on file, until this is dropped.
#[derive(Default)]
pub(super) struct OnFile(Option<PathBuf>);

impl Drop for OnFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // What can't be removed names a process that is gone.
            let _gone = fs::remove_file(path);
        }
    }
}

/// Puts a program on file that was just started and leads a group, with the mark that its children inherit, if any.
pub(super) fn put_on_file(pid: Pid, mark: Option<&str>) -> OnFile {
    // One that is gone already needs none.
    let (Some(place), Some(identity)) = (PLACE.get(), identity(pid)) else { return OnFile::default() };
    let path = place.join(pid.as_raw_nonzero().to_string());
    if let Err(error) = fs::write(&path, format!("{identity}\n{}\n", mark.unwrap_or_default())) {
        tracing::warn!(path = %path.display(), %error, "a program that is run could not be put on file");
    }
    OnFile(Some(path))
}

/// Ends every program that is on file in a state directory, with its group, and what bears its mark; from here on this
/// process's own go on file there. Gives their number. Blocks for as long as they may take to end.
pub(super) fn end_those_on_file(state_dir: &Path) -> usize {
    let place = state_dir.join(DIRECTORY);
    let entries = fs::create_dir_all(&place).and_then(|()| fs::read_dir(&place));
    if let Err(error) = &entries {
        tracing::warn!(path = %place.display(), %error, "what was running before can't be looked for");
    }
    let entries = entries.into_iter().flatten().flatten();
    let found: Vec<(Pid, String)> = entries.filter_map(|entry| take(&entry.path())).collect();
    let running = || found.iter().filter(|(pid, content)| identity(*pid).as_deref() == content.lines().next());
    let count = running().count();
    let tell = |signal: Signal| {
        for (pid, _) in running() {
            // Gone meanwhile is what is wanted.
            let _gone = kill_process_group(*pid, signal);
        }
    };
    tell(Signal::TERM);
    for _ in 0..GRACE.as_millis() / LOOK_AGAIN.as_millis() {
        if running().next().is_none() {
            break;
        }
        sleep(LOOK_AGAIN);
    }
    tell(Signal::KILL);
    for mark in found.iter().filter_map(|(_, content)| content.lines().nth(1)).filter(|mark| !mark.is_empty()) {
        hunt::kill_marked(mark);
    }
    let _first = PLACE.set(place);
    count
}

fn take(path: &Path) -> Option<(Pid, String)> {
    let content = fs::read_to_string(path).ok();
    let _gone = fs::remove_file(path);
    let pid = path.file_name()?.to_str()?.parse().ok().and_then(Pid::from_raw)?;
    Some((pid, content?))
}

/// The boot, and the clock tick of it at which a process was started; none where there is no such process.
fn identity(pid: Pid) -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name is in parentheses and may hold any; the state is the third field, the start the 22nd.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    let is_alive = fields.next()? != "Z";
    let started = fields.nth(18)?;
    is_alive.then(|| format!("{} {started}", boot.trim()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use super::*;

    fn sleeper() -> (Child, Pid) {
        let child = Command::new("sleep").arg("300").process_group(0).spawn().unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        (child, pid)
    }

    #[test]
    fn only_what_is_on_file_as_it_was_started_is_ended() {
        let state = tempfile::tempdir().unwrap();
        let place = state.path().join(DIRECTORY);
        fs::create_dir(&place).unwrap();
        let [(mut named, ours), (mut other, theirs)] = [sleeper(), sleeper()];
        fs::write(place.join(ours.as_raw_nonzero().to_string()), identity(ours).unwrap()).unwrap();
        // The number is another process's by now.
        fs::write(place.join(theirs.as_raw_nonzero().to_string()), identity(ours).unwrap() + "1").unwrap();
        fs::write(place.join("nonsense"), "").unwrap();
        assert_eq!(end_those_on_file(state.path()), 1);
        assert!(!named.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none(), "it is nobody's");
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let (mut child, pid) = sleeper();
        assert_eq!(identity(pid), identity(pid));
        let own = Pid::from_raw(std::process::id().try_into().unwrap()).unwrap();
        assert_ne!(identity(pid), identity(own));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(identity(pid), None);
    }
}
