//! What a plain host says of a workload's instances: kills for memory, restarts, and whether they are up.
//!
//! Kills come from the control group's `memory.events`, restarts and state from systemd. Asking systemd means running
//! a program, so that is done more rarely, and once for all units of a workload.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::change::Outlook;
use super::duty::{Due, Duty, Paces};
use super::grid::fast;
use super::shared::Shared;
use super::systemd::{self, UnitState};
use crate::domain::id::{InstanceId, WorkloadId};
use crate::domain::observation::{Fault, FaultKind, HostReading, Seen};
use crate::domain::policy::{ReleaseDir, ReleaseInstance, Restart};
use crate::domain::time::{Span, Timestamp};

/// systemd is asked no more often than this, looks at a faster pace included; at the usual pace,
const SYSTEMD_FAST: Span = Span::from_secs(1);
/// no more often than this.
const SYSTEMD_USUAL: Span = Span::from_secs(10);
/// Most of `memory.events` that is read, in bytes; it has a handful of short lines.
const MAX_EVENTS_FILE: u64 = 4096;

/// The readings of all instances of a workload.
#[derive(Debug)]
pub(super) struct Hosts {
    workload: WorkloadId,
    instances: Vec<Instance>,
    usual: Span,
    units: BTreeMap<String, Result<UnitState, Fault>>,
    asked: Option<Timestamp>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Instance {
    id: InstanceId,
    unit: Option<String>,
    /// Named by the policy.
    cgroup: Option<PathBuf>,
    kills: Kills,
    outlook: Outlook,
}

/// A count of kills that goes on when the control group is made anew with its own at zero.
#[derive(Debug, Default)]
struct Kills {
    total: Option<u64>,
    last: u64,
}

/// How often a host is read.
pub(super) fn paces(interval: Span) -> Paces {
    Paces { usual: interval, fast: fast(interval) }
}

/// Longest time that one look may take.
pub(super) const PATIENCE: Duration = systemd::LIMIT;

impl Duty for Hosts {
    async fn look(&mut self, due: Due) -> Vec<Seen> {
        self.ask_systemd(due).await;
        let began = Instant::now();
        let (units, cgroups) = (&self.units, &self.shared.cgroups);
        let mut seen = Vec::with_capacity(self.instances.len());
        for instance in &mut self.instances {
            let result = instance.read(units, cgroups);
            let fault = result.as_ref().err();
            self.shared.stats.hosts.note(fault.map(|fault| fault.kind), began.elapsed());
            instance.outlook.note(fault);
            seen.push(Seen::Host { instance: instance.id.clone(), result });
        }
        seen
    }
}

impl Hosts {
    /// `None` where the host can say nothing of any instance.
    pub(super) fn new(workload: WorkloadId, place: &ReleaseDir, interval: Span, shared: Arc<Shared>) -> Option<Self> {
        let instances: Vec<Instance> =
            place.instances.iter().filter_map(|instance| Instance::new(&workload, instance)).collect();
        let units = BTreeMap::new();
        let usual = interval.max(SYSTEMD_USUAL);
        (!instances.is_empty()).then_some(Self { workload, instances, usual, units, asked: None, shared })
    }

    async fn ask_systemd(&mut self, due: Due) {
        let units: Vec<&str> = self.instances.iter().filter_map(|instance| instance.unit.as_deref()).collect();
        // A pace faster than usual says that something is going on.
        let pace = if due.is_fast || due.nudged { SYSTEMD_FAST } else { self.usual };
        if units.is_empty() || self.asked.is_some_and(|at| due.now.since(at) < pace) {
            return;
        }
        self.asked = Some(due.now);
        self.units = systemd::show(&self.shared.systemctl, &self.workload, &units).await;
    }
}

impl Instance {
    fn new(workload: &WorkloadId, instance: &ReleaseInstance) -> Option<Self> {
        let unit = match &instance.restart {
            Restart::Unit(unit) => Some(unit.clone()),
            Restart::Command(_) => None,
        };
        if unit.is_none() && instance.cgroup.is_none() {
            return None;
        }
        let outlook = Outlook::new(workload, format!("host readings of {}", instance.id));
        let cgroup = instance.cgroup.clone();
        Some(Self { id: instance.id.clone(), unit, cgroup, kills: Kills::default(), outlook })
    }

    fn read(
        &mut self,
        units: &BTreeMap<String, Result<UnitState, Fault>>,
        cgroups: &Path,
    ) -> Result<HostReading, Fault> {
        let unit = match self.unit.as_ref().and_then(|unit| units.get(unit)) {
            Some(state) => Some(state.as_ref().map_err(Clone::clone)?),
            None => None,
        };
        let group = match (&self.cgroup, unit.and_then(|unit| unit.control_group.as_deref())) {
            (Some(path), _) => Some(path.clone()),
            (None, Some(group)) => Some(cgroups.join(group.trim_start_matches('/'))),
            (None, None) => None,
        };
        let count = match &group {
            Some(group) => oom_kills(&group.join("memory.events"))?,
            None => None,
        };
        Ok(HostReading {
            oom_kills: self.kills.note(count),
            restarts: unit.and_then(|unit| unit.restarts),
            active: unit.map(|unit| unit.active),
        })
    }
}

impl Kills {
    /// Takes in what the control group says now; `None` where there is none.
    fn note(&mut self, count: Option<u64>) -> Option<u64> {
        match (count, self.total) {
            (None, total) => {
                // The next one begins at zero.
                self.last = 0;
                total
            }
            (Some(count), None) => {
                (self.total, self.last) = (Some(count), count);
                self.total
            }
            (Some(count), Some(total)) => {
                let grown = count.checked_sub(self.last).unwrap_or(count);
                (self.total, self.last) = (Some(total.saturating_add(grown)), count);
                self.total
            }
        }
    }
}

/// The kernel's count; `None` where there is no such group now, or the kernel does not count.
fn oom_kills(path: &Path) -> Result<Option<u64>, Fault> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_EVENTS_FILE).read_to_string(&mut text));
    match read {
        Ok(_) => {}
        // A group that vanishes while its file is read.
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(NO_DEVICE) => {
            return Ok(None);
        }
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

/// ENODEV, which reading a file of a removed control group gives.
const NO_DEVICE: i32 = rustix::io::Errno::NODEV.raw_os_error();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_go_on_where_the_group_is_made_anew() {
        let mut kills = Kills::default();
        for (count, total) in [
            (None, None),
            (Some(3), Some(3)),
            (Some(4), Some(4)),
            (Some(1), Some(5)),
            (None, Some(5)),
            (Some(2), Some(7)),
            (Some(2), Some(7)),
        ] {
            assert_eq!(kills.note(count), total, "{count:?}");
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
