//! Finding what left its process group: a child that calls `setsid` is reached by no signal to the group.
//!
//! Every child inherits a mark in its environment, by which it is found in `/proc` wherever it went. One that was started
//! with another environment is not found; nothing short of a control group of its own would hold that one.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable that holds the mark.
pub(super) const MARK: &str = "ROLLBACKD_RUN";

/// Times that `/proc` is gone through: what was forked meanwhile is found the next time.
const ROUNDS: usize = 5;

/// A mark that no other run of this process has.
pub(super) fn mark() -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed))
}

/// Kills everything that bears the mark and that this process may see. Blocks on `/proc`.
pub(super) fn kill_marked(mark: &str) {
    let wanted = format!("{MARK}={mark}");
    for _ in 0..ROUNDS {
        let found: Vec<Pid> = processes().filter(|pid| is_marked(*pid, &wanted)).collect();
        if found.is_empty() {
            return;
        }
        for pid in found {
            // Gone already, or the number is another's by now: either way there is nothing to kill.
            let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if is_marked(pid, &wanted) {
                let _gone = pidfd_send_signal(process, Signal::KILL);
            }
        }
    }
}

fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

fn is_marked(pid: Pid, wanted: &str) -> bool {
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()));
    environment.is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes()))
}
