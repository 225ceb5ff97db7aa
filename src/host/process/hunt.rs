//! Finding processes by a mark in their environment, which every child inherits: what left its process group, since a child
//! that calls `setsid` is reached by no signal to the group, and what a daemon that was killed had under way.
//!
//! One that was started with another environment is not found; nothing short of a control group of its own would hold that
//! one.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

use super::{GRACE, Leftovers};

/// The variable that holds the mark where nothing is to outlive the program,
const MARK: &str = "ROLLBACKD_RUN";
/// and where its children may stay: then only the program itself is looked for.
const MARK_OF_STEP: &str = "ROLLBACKD_STEP";

/// Times that `/proc` is gone through: what was forked meanwhile is found the next time.
const ROUNDS: usize = 5;

/// Time between two looks at whether what was told to end has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What the marks of this process begin with.
static HOUSE: OnceLock<String> = OnceLock::new();

/// A mark that no other run has: a variable and its value.
pub(super) fn mark(leftovers: Leftovers) -> (&'static str, String) {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let name = match leftovers {
        Leftovers::Stay => MARK_OF_STEP,
        Leftovers::Killed | Leftovers::Hunted => MARK,
    };
    let house = HOUSE.get().map_or("", String::as_str);
    (name, format!("{house}{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed)))
}

/// Names this process's runs by a directory that no other process uses, and ends what bears that name already: programs that
/// one before it was running when it was killed. A program's children that are to outlive it are left alone, unless it is
/// still running itself. Gives the number of programs. Blocks on `/proc`, and for as long as a program may take to end.
pub(super) fn take_house(directory: &Path) -> usize {
    let house = HOUSE.get_or_init(|| format!("{}#", directory.display()));
    let wanted = format!("{MARK_OF_STEP}={house}");
    let is_one = |pid: &Pid| is_marked(*pid, |one| one.starts_with(wanted.as_bytes())) && leads_a_group(*pid);
    let running = || processes().filter(is_one);
    let found: Vec<Pid> = running().collect();
    let tell = |signal: Signal| {
        for pid in running().filter(|pid| found.contains(pid)) {
            // Gone meanwhile is what is wanted.
            let _gone = kill_process_group(pid, signal);
        }
    };
    tell(Signal::TERM);
    for _ in 0..GRACE.as_millis() / LOOK_AGAIN.as_millis() {
        if !running().any(|pid| found.contains(&pid)) {
            break;
        }
        sleep(LOOK_AGAIN);
    }
    tell(Signal::KILL);
    let wanted = format!("{MARK}={house}");
    found.len() + kill_where(|one| one.starts_with(wanted.as_bytes()))
}

/// Kills everything that bears the mark and that this process may see. Blocks on `/proc`.
pub(super) fn kill_marked((name, mark): &(&'static str, String)) {
    let wanted = format!("{name}={mark}");
    kill_where(|one| one == wanted.as_bytes());
}

/// Kills every process with a variable that fits; how many there were.
fn kill_where(fits: impl Fn(&[u8]) -> bool) -> usize {
    let mut killed = 0;
    for _ in 0..ROUNDS {
        let found: Vec<Pid> = processes().filter(|pid| is_marked(*pid, &fits)).collect();
        if found.is_empty() {
            break;
        }
        for pid in found {
            // Gone already, or the number is another's by now: either way there is nothing to kill.
            let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if is_marked(pid, &fits) {
                killed += usize::from(pidfd_send_signal(process, Signal::KILL).is_ok());
            }
        }
    }
    killed
}

fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

/// Whether a process leads a group in the session of whoever started it. A service that such a one left behind does not: it
/// is in that group, or has a session of its own.
fn leads_a_group(pid: Pid) -> bool {
    let pid = pid.as_raw_nonzero().get();
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // proc_pid_stat(5): the name is in parentheses and may hold any; then state, parent, group, session.
    let Some((_, after_name)) = stat.rsplit_once(')') else { return false };
    let mut ids = after_name.split_ascii_whitespace().skip(2).map(|id| id.parse::<i32>().ok());
    ids.next().flatten() == Some(pid) && ids.next().flatten().is_some_and(|session| session != pid)
}

fn is_marked(pid: Pid, fits: impl Fn(&[u8]) -> bool) -> bool {
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()));
    environment.is_ok_and(|all| all.split(|byte| *byte == 0).any(fits))
}
