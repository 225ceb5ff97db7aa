//! The kernel's counts of processes killed for memory, by control group.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::domain::observation::{Fault, FaultKind};
use crate::domain::time::{Span, Timestamp};

/// Most of `memory.events` that is read, in bytes; it has a handful of short lines.
const MAX_EVENTS_FILE: u64 = 4096;

/// How long after a kill in its slice a unit's restart is put down to it. systemd may be asked ten seconds later, and
/// once before it has restarted the unit.
const RESTART_FOLLOWS: Span = Span::from_secs(30);

/// A count of kills that goes on when the control group is made anew with its own at zero.
#[derive(Debug, Default)]
pub(super) struct Kills {
    total: Option<u64>,
    last: u64,
}

impl Kills {
    /// Takes in what the control group says now; `None` where there is none. The count so far, and by how much it grew.
    pub(super) fn note(&mut self, count: Option<u64>) -> (Option<u64>, u64) {
        let grown = match (count, self.total) {
            // The next one begins at zero.
            (None, _) => {
                self.last = 0;
                0
            }
            (Some(count), None) => {
                (self.total, self.last) = (Some(count), count);
                0
            }
            (Some(count), Some(_)) => {
                let grown = count.checked_sub(self.last).unwrap_or(count);
                self.last = count;
                self.add(grown);
                grown
            }
        };
        (self.total, grown)
    }

    /// Counts kills that the group itself did not live to show.
    pub(super) fn add(&mut self, kills: u64) {
        self.total = self.total.map(|total| total.saturating_add(kills));
    }
}

/// Kills that a unit's own group can't show: systemd removes the group when the last process of the unit is gone, and
/// the count with it. The slice above counts all kills beneath and stays. A kill in the slice that no group of this unit
/// shows, and after which systemd restarted the unit, is taken for the unit's.
#[derive(Debug, Default)]
pub(super) struct SliceKills {
    path: Option<PathBuf>,
    last: Option<u64>,
    /// Kills that may be the unit's, and when the newest was seen.
    open: u64,
    at: Timestamp,
    restarts: Option<u64>,
}

impl SliceKills {
    /// Takes in what is known now: the unit's group, if there is one, by how much its own count grew, and the unit's
    /// restarts. The kills that are to be added.
    pub(super) fn note(
        &mut self,
        group: Option<&Path>,
        grown: u64,
        restarts: Option<u64>,
        now: Timestamp,
    ) -> Result<u64, Fault> {
        if let Some(slice) = group.and_then(Path::parent)
            && self.path.as_deref() != Some(slice)
        {
            (self.path, self.last, self.open) = (Some(slice.to_owned()), None, 0);
        }
        let count = match &self.path {
            Some(slice) => oom_kills(&slice.join("memory.events"))?,
            None => None,
        };
        Ok(self.weigh(count, grown, restarts, now))
    }

    fn weigh(&mut self, count: Option<u64>, grown: u64, restarts: Option<u64>, now: Timestamp) -> u64 {
        let beside = match (self.last, count) {
            (Some(last), Some(count)) => count.saturating_sub(last).saturating_sub(grown),
            (None, _) | (_, None) => 0,
        };
        self.last = count;
        if beside > 0 {
            (self.open, self.at) = (self.open.saturating_add(beside), now);
        } else if now.since(self.at) > RESTART_FOLLOWS {
            self.open = 0;
        }
        let restarted = match (self.restarts, restarts) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            (None, _) | (_, None) => 0,
        };
        self.restarts = restarts.or(self.restarts);
        let own = self.open.min(restarted);
        self.open -= own;
        own
    }
}

/// The kernel's count; `None` where there is no such group now, or the kernel does not count.
pub(super) fn oom_kills(path: &Path) -> Result<Option<u64>, Fault> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_EVENTS_FILE).read_to_string(&mut text));
    match read {
        Ok(_) => {}
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => {
            return Err(Fault { kind: FaultKind::Local, detail: format!("{}: {error}", path.display()) });
        }
    }
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    match count.map(|count| count.trim().parse()) {
        None => Ok(None),
        Some(Ok(count)) => Ok(Some(count)),
        Some(Err(_)) => {
            let detail = format!("{}: oom_kill is not a number", path.display());
            Err(Fault { kind: FaultKind::Malformed, detail })
        }
    }
}

/// The group is not there, or vanished while its file was read.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_go_on_where_the_group_is_made_anew() {
        let mut kills = Kills::default();
        for (count, total, grown) in [
            (None, None, 0),
            (Some(3), Some(3), 0),
            (Some(4), Some(4), 1),
            (Some(1), Some(5), 1),
            (None, Some(5), 0),
            (Some(2), Some(7), 2),
            (Some(2), Some(7), 0),
        ] {
            assert_eq!(kills.note(count), (total, grown), "{count:?}");
        }
    }

    #[test]
    fn a_kill_that_went_with_its_group_is_found_in_the_slice_once_the_unit_restarts() {
        let mut slice = SliceKills::default();
        for (seconds, count, grown, restarts, own, why) in [
            (0, Some(7), 0, Some(0), 0, "where to count from"),
            (5, Some(8), 0, Some(0), 0, "somebody's kill, no restart so far"),
            (15, Some(8), 0, Some(1), 1, "the restart that belongs to it"),
            (25, Some(8), 0, Some(2), 0, "a restart without a kill"),
            (30, Some(9), 1, Some(2), 0, "a kill that the group itself shows"),
            (35, Some(9), 0, Some(3), 0, "which is not counted twice"),
            (40, Some(11), 0, Some(3), 0, "two kills"),
            (45, Some(11), 0, Some(4), 1, "and one restart"),
            (90, Some(11), 0, Some(5), 0, "too late to belong to the other"),
        ] {
            let now = Timestamp::from_millis(seconds * 1000);
            assert_eq!(slice.weigh(count, grown, restarts, now), own, "{why}");
        }
    }

    #[test]
    fn the_kernels_file_is_read_for_one_count() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory.events");
        assert_eq!(oom_kills(&file).unwrap(), None);
        let full = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        for (text, count) in [(full, Some(2)), ("low 0\n", None), ("oom 1\noom_group_kill 5\n", None)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(oom_kills(&file).unwrap(), count, "{text}");
        }
        std::fs::write(&file, "oom_kill many\n").unwrap();
        assert_eq!(oom_kills(&file).unwrap_err().kind, FaultKind::Malformed);
        assert_eq!(oom_kills(dir.path()).unwrap_err().kind, FaultKind::Local);
    }
}
