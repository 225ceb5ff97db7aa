//! What a plain host says of a workload's instances: kills for memory, restarts, and whether they are up.
//!
//! Kills come from the control groups' `memory.events`, restarts and state from systemd. Asking systemd means running
//! a program, so that is done more rarely, and once for all units of a workload.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cgroup::{Kills, SliceKills, oom_kills};
use super::change::Outlook;
use super::duty::{Due, Duty, Paces};
use super::grid::fast;
use super::shared::Shared;
use super::systemd::{self, UnitState};
use crate::domain::id::{InstanceId, WorkloadId};
use crate::domain::observation::{Fault, HostReading, Seen, Teller};
use crate::domain::policy::{ReleaseDir, ReleaseInstance, Restart};
use crate::domain::time::{Span, Timestamp};

/// systemd is asked no more often than this, looks at a faster pace included; at the usual pace,
const SYSTEMD_FAST: Span = Span::from_secs(1);
/// no more often than this.
const SYSTEMD_USUAL: Span = Span::from_secs(10);

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
    /// For one whose group goes with its process.
    slice: SliceKills,
    outlook: Outlook,
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
            let result = instance.read(units, cgroups, due.now);
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
        Some(Self {
            id: instance.id.clone(),
            unit,
            cgroup,
            kills: Kills::default(),
            slice: SliceKills::default(),
            outlook,
        })
    }

    fn read(
        &mut self,
        units: &BTreeMap<String, Result<UnitState, Fault>>,
        cgroups: &Path,
        now: Timestamp,
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
        let restarts = unit.and_then(|unit| unit.restarts);
        let (total, grown) = self.kills.note(count);
        let lost = match (&self.cgroup, &group) {
            (Some(_), _) => 0,
            (None, group) => self.slice.note(group.as_deref(), grown, restarts, now)?,
        };
        self.kills.add(lost);
        Ok(HostReading {
            oom_kills: total.map(|total| total.saturating_add(lost)),
            restarts,
            active: unit.map(|unit| unit.active),
            image_missing: None,
            teller: Teller::ServiceManager,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::observation::FaultKind;

    #[test]
    fn a_reading_is_made_of_what_the_unit_and_its_group_say() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("system.slice/shop.service");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("memory.events"), "oom_kill 2\n").unwrap();
        let policy = ReleaseInstance {
            id: InstanceId::new("a"),
            current: "current".into(),
            restart: Restart::Unit("shop.service".to_owned()),
            cgroup: None,
        };
        let mut instance = Instance::new(&WorkloadId::new("shop"), &policy).unwrap();
        let state = |active, restarts, group: Option<&str>| UnitState {
            active,
            restarts: Some(restarts),
            control_group: group.map(str::to_owned),
        };
        let mut read = |answer| {
            let units = BTreeMap::from([("shop.service".to_owned(), answer)]);
            instance.read(&units, dir.path(), Timestamp::from_millis(0))
        };
        let reading = |oom_kills, restarts, active| HostReading {
            oom_kills: Some(oom_kills),
            restarts: Some(restarts),
            active: Some(active),
            image_missing: None,
            teller: Teller::ServiceManager,
        };
        assert_eq!(read(Ok(state(true, 0, Some("/system.slice/shop.service")))), Ok(reading(2, 0, true)));
        // Between two runs there is no group; the count stays.
        assert_eq!(read(Ok(state(false, 1, None))), Ok(reading(2, 1, false)));
        std::fs::write(group.join("memory.events"), "oom_kill 1\n").unwrap();
        assert_eq!(read(Ok(state(true, 1, Some("/system.slice/shop.service")))), Ok(reading(3, 1, true)));
        let fault = Fault { kind: FaultKind::Local, detail: "no bus".to_owned() };
        assert_eq!(read(Err(fault.clone())), Err(fault));
    }

    #[test]
    fn a_host_that_can_say_nothing_of_an_instance_is_not_asked() {
        let policy = |cgroup: Option<PathBuf>| ReleaseInstance {
            id: InstanceId::new("a"),
            current: "current".into(),
            restart: Restart::Command(vec!["true".to_owned()]),
            cgroup,
        };
        assert!(Instance::new(&WorkloadId::new("shop"), &policy(None)).is_none());
        assert!(Instance::new(&WorkloadId::new("shop"), &policy(Some("/sys/fs/cgroup/shop".into()))).is_some());
    }
}
