//! What all looks share: the clock, the way to the engine, the clients, the room for looks under way.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::cluster::{Clusters, Crowd};
use super::duty::Beat;
use super::exposition::SeriesTable;
use super::pulse::Pulses;
use super::room::Room;
use super::stats::ObserveStats;
use crate::clock::Clock;
use crate::cluster::settings::Keyring;
use crate::config::model::HttpOptions;
use crate::domain::id::WorkloadId;
use crate::domain::observation::Observation;
use crate::domain::time::Span;
use crate::net::Caller;

/// Longest time for one look at an address, however long its interval.
const LONGEST_LOOK: Span = Span::from_secs(10);

/// What all looks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) out: mpsc::Sender<Observation>,
    pub(super) stats: Arc<ObserveStats>,
    pub(super) room: Room,
    pub(super) tasks: TaskTracker,
    pub(super) pulses: Pulses,
    /// The program that asks the service manager.
    pub(super) systemctl: String,
    /// Where the kernel shows its control groups.
    pub(super) cgroups: PathBuf,
    /// What is watched in clusters.
    pub(super) clusters: Clusters,
    callers: Mutex<HashMap<Arc<HttpOptions>, Weak<Caller>>>,
}

/// The series of one workload, shared by the readers of its pages, which each hold it for one piece of a page at a time.
pub(super) type SharedTable = Arc<Mutex<SeriesTable>>;

/// What the looks at one workload share besides.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) shared: Arc<Shared>,
    pub(super) workload: WorkloadId,
    pub(super) beat: watch::Receiver<Beat>,
}

impl Shared {
    pub(super) fn new(
        clock: Clock,
        out: mpsc::Sender<Observation>,
        stats: Arc<ObserveStats>,
        keyring: Keyring,
        crowd: Crowd,
    ) -> Self {
        Self {
            clock,
            out,
            stats,
            room: Room::new(),
            tasks: TaskTracker::new(),
            pulses: Pulses::new(),
            systemctl: "systemctl".to_owned(),
            cgroups: PathBuf::from("/sys/fs/cgroup"),
            clusters: Clusters::new(keyring, crowd),
            callers: Mutex::default(),
        }
    }

    /// The one client for these options.
    pub(super) fn caller(&self, options: &Arc<HttpOptions>) -> Arc<Caller> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = callers.get(options).and_then(Weak::upgrade) {
            return known;
        }
        callers.retain(|_, caller| caller.strong_count() > 0);
        let caller = Arc::new(Caller::new(Arc::clone(options)));
        callers.insert(Arc::clone(options), Arc::downgrade(&caller));
        caller
    }
}

/// How long one look at an address may take.
pub(super) fn deadline(interval: Span) -> Duration {
    interval.min(LONGEST_LOOK).into()
}
