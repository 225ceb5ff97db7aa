//! The daemon's own metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::{Exposition, process};
use crate::domain::controller::{Preview, WorkloadView};
use crate::domain::id::WorkloadId;
use crate::domain::incident::alert::{Alert, Phase};
use crate::domain::incident::record::{Event, Record};
use crate::domain::response::plan::Purpose;
use crate::domain::response::readiness::{Met, NEEDS, Need, Readiness};
use crate::domain::time::Span;

/// Seconds from a fault to its detection, decision, rollback and recovery. The targets of the procedures are bounds
/// of buckets: 300, 600, 900 and 1,800.
const STORY_BUCKETS: [f64; 13] =
    [0.1, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 14_400.0];

type Labels<const N: usize> = [(&'static str, String); N];
type Histograms = Family<Labels<1>, Histogram, fn() -> Histogram>;
type Seconds = Gauge<f64, AtomicU64>;

/// What waits in the outbox.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct OutboxLevel {
    /// Messages that were not delivered yet.
    pub waiting: u64,
    /// Messages that were given up.
    pub parked: u64,
    /// Age of the oldest waiting one.
    pub oldest_seconds: f64,
}

/// All of them. Label values are names of the policy or words of enums; nothing that a peer sent is one.
pub struct Metrics {
    registry: Registry,
    detect: Histograms,
    decide: Histograms,
    roll_back: Histograms,
    recover: Histograms,
    decisions: Family<Labels<3>, Counter>,
    incidents: Family<Labels<2>, Counter>,
    known: Mutex<Vec<WorkloadId>>,
    readiness: Mutex<BTreeMap<WorkloadId, Vec<Readiness>>>,
    ready: Family<Labels<1>, Gauge>,
    needs: Family<Labels<2>, Gauge>,
    paused: Family<Labels<1>, Gauge>,
    open: Family<Labels<1>, Gauge>,
    blind: Gauge,
    outbox_depth: Gauge,
    outbox_parked: Gauge,
    outbox_oldest: Seconds,
    journal_broken: Gauge,
    leading: Gauge,
    lag: Seconds,
    clock_drift: Seconds,
    cpu: Counter<f64, AtomicU64>,
    memory: Gauge,
    files: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn story_histogram() -> Histogram {
    Histogram::new(STORY_BUCKETS)
}

fn histograms() -> Histograms {
    Family::new_with_constructor(story_histogram)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("rollbackd"),
            detect: histograms(),
            decide: histograms(),
            roll_back: histograms(),
            recover: histograms(),
            decisions: Family::default(),
            incidents: Family::default(),
            known: Mutex::default(),
            readiness: Mutex::default(),
            ready: Family::default(),
            needs: Family::default(),
            paused: Family::default(),
            open: Family::default(),
            blind: Gauge::default(),
            outbox_depth: Gauge::default(),
            outbox_parked: Gauge::default(),
            outbox_oldest: Seconds::default(),
            journal_broken: Gauge::default(),
            leading: Gauge::default(),
            lag: Seconds::default(),
            clock_drift: Seconds::default(),
            cpu: Counter::default(),
            memory: Gauge::default(),
            files: Gauge::default(),
        };
        metrics.register_story();
        metrics.register_state();
        metrics
    }
}

impl Metrics {
    fn register_story(&mut self) {
        let info = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let all = &mut self.registry;
        all.register("build", "The version that runs", info);
        let mut seconds =
            |name, help, family: &Histograms| all.register_with_unit(name, help, Unit::Seconds, family.clone());
        seconds("time_to_detect", "First breach to detection; target 300", &self.detect);
        seconds("time_to_decide", "Detection to decision; target 600", &self.decide);
        seconds("time_to_roll_back", "Decision to the proof that the service is well; target 900", &self.roll_back);
        seconds("time_to_recover", "First breach to the proof that the service is well; target 1800", &self.recover);
        let decisions = "Decisions by outcome (rollback, hold, escalate) and reason";
        all.register("decisions", decisions, self.decisions.clone());
        all.register("incidents", "Incidents that entered a phase", self.incidents.clone());
    }

    fn register_state(&mut self) {
        let all = &mut self.registry;
        all.register("blind_workloads", "Workloads of which a critical trigger can't be judged", self.blind.clone());
        let ready = "Whether a release is known good that could be gone back to now, and nothing that a rollback needs is known to be missing";
        all.register("workload_ready", ready, self.ready.clone());
        let needs = "Whether what a rollback needs is there: known-good, kept, settings, rights, rehearsal, quota, owner; absent while unknown";
        all.register("workload_readiness", needs, self.needs.clone());
        all.register("workload_paused", "Whether an operator has the workload paused", self.paused.clone());
        all.register("workload_incident_open", "Whether an incident is open", self.open.clone());
        all.register("outbox_depth", "Messages that wait for delivery", self.outbox_depth.clone());
        all.register("outbox_parked", "Messages that were given up", self.outbox_parked.clone());
        let oldest = "Age of the oldest message that waits for delivery";
        all.register_with_unit("outbox_oldest", oldest, Unit::Seconds, self.outbox_oldest.clone());
        let broken = "Whether the journal can't be written, so that nothing is rolled back";
        all.register("journal_broken", broken, self.journal_broken.clone());
        let leading = "1 where this daemon acts: it is alone, or of several the one that leads";
        all.register("leading", leading, self.leading.clone());
        let lag = "How long ago what was judged last had been seen";
        all.register_with_unit("judgement_lag", lag, Unit::Seconds, self.lag.clone());
        let drift = "Wall clock less the daemon's own timeline";
        all.register_with_unit("clock_drift", drift, Unit::Seconds, self.clock_drift.clone());
        let cpu = "Time on a processor, user and system together";
        all.register_with_unit("process_cpu", cpu, Unit::Seconds, self.cpu.clone());
        all.register_with_unit("process_resident_memory", "Resident memory", Unit::Bytes, self.memory.clone());
        all.register("process_open_fds", "Open files", self.files.clone());
    }

    /// Adds what another part counts by itself, read whenever the metrics are.
    pub fn add(&mut self, collector: Box<dyn Collector>) {
        self.registry.register_collector(collector);
    }

    /// Notes how far the wall clock has gone from the daemon's own timeline, in seconds.
    pub fn set_clock_drift(&self, seconds: f64) {
        self.clock_drift.set(seconds);
    }

    /// Notes what waits in the outbox.
    pub fn set_outbox(&self, level: OutboxLevel) {
        self.outbox_depth.set(i64::try_from(level.waiting).unwrap_or(i64::MAX));
        self.outbox_parked.set(i64::try_from(level.parked).unwrap_or(i64::MAX));
        self.outbox_oldest.set(level.oldest_seconds);
    }

    /// Notes how all workloads are, by what was noted of what a rollback needs; those that are no longer among them are
    /// forgotten.
    pub fn set_workloads(&self, views: &[WorkloadView]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in known.iter().filter(|id| !views.iter().any(|view| view.workload == **id)) {
            let labels = workload(gone);
            self.ready.remove(&labels);
            for need in NEEDS {
                self.needs.remove(&of_need(gone, need));
            }
            self.readiness.lock().unwrap_or_else(PoisonError::into_inner).remove(gone);
            self.paused.remove(&labels);
            self.open.remove(&labels);
        }
        let readiness = self.readiness.lock().unwrap_or_else(PoisonError::into_inner);
        for view in views {
            let labels = workload(&view.workload);
            let noted = readiness.get(&view.workload).map(Vec::as_slice).unwrap_or_default();
            self.ready.get_or_create(&labels).set(i64::from(view.is_ready_by(noted)));
            self.paused.get_or_create(&labels).set(i64::from(view.paused.is_some()));
            self.open.get_or_create(&labels).set(i64::from(view.incident.is_some()));
        }
        let blind = views.iter().filter(|view| view.assessment.blind.is_some() || view.standstill.is_some()).count();
        self.blind.set(i64::try_from(blind).unwrap_or(i64::MAX));
        *known = views.iter().map(|view| view.workload.clone()).collect();
    }

    /// What was noted last of what a rollback needs; empty where nothing was.
    #[must_use]
    pub fn readiness(&self, id: &WorkloadId) -> Vec<Readiness> {
        self.readiness.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned().unwrap_or_default()
    }

    /// Notes what of a rollback's needs is there. While one is under way, what was noted before stays.
    pub fn set_readiness(&self, preview: &Preview) {
        let Preview { workload: id, readiness, .. } = preview;
        if preview.is_under_way() {
            return;
        }
        self.readiness.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), readiness.clone());
        for Readiness { need, met, note: _ } in readiness {
            let labels = of_need(id, *need);
            match met {
                Met::Yes => {
                    self.needs.get_or_create(&labels).set(1);
                }
                Met::No(_) => {
                    self.needs.get_or_create(&labels).set(0);
                }
                Met::Unknown(_) => {
                    self.needs.remove(&labels);
                }
            }
        }
    }

    /// Everything, as it was asked for.
    #[must_use]
    pub fn encode(&self, exposition: Exposition) -> String {
        let reading = process::read();
        self.cpu.inner().store(reading.cpu_seconds.to_bits(), std::sync::atomic::Ordering::Relaxed);
        self.memory.set(i64::try_from(reading.resident_bytes).unwrap_or(i64::MAX));
        self.files.set(i64::try_from(reading.open_files).unwrap_or(i64::MAX));
        let mut text = String::with_capacity(16 * 1024);
        // A `String` takes every write.
        let _ = text::encode(&mut text, &self.registry);
        exposition.of(text)
    }

    /// Whether the journal can be written.
    #[must_use]
    pub fn is_journal_broken(&self) -> bool {
        self.journal_broken.get() != 0
    }

    /// Whether this daemon acts, or stands by for another replica.
    pub fn set_leading(&self, leading: bool) {
        self.leading.set(i64::from(leading));
    }

    pub(super) fn set_lag(&self, lag: Span) {
        self.lag.set(lag.as_secs_f64());
    }

    pub(super) fn journal_broken(&self, broken: bool) {
        self.journal_broken.set(i64::from(broken));
    }

    pub(super) fn record(&self, record: &Record) {
        let decision = |decision: &str, reason: &str| {
            let labels = [
                ("workload", record.workload.to_string()),
                ("decision", decision.to_owned()),
                ("reason", reason.to_owned()),
            ];
            self.decisions.get_or_create(&labels).inc();
        };
        match &record.event {
            Event::Held { hold, .. } | Event::Refused { hold, .. } => decision("hold", hold.as_str()),
            Event::Planned { plan, .. } => decision("rollback", purpose(plan.purpose)),
            Event::Escalated { .. } => decision("escalate", "escalated"),
            Event::ReleaseObserved { .. }
            | Event::KnownGood { .. }
            | Event::SettingsKept { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::OwnerPutBack { .. }
            | Event::Suspected { .. }
            | Event::StillPending { .. }
            | Event::FoundBeside { .. }
            | Event::Detected { .. }
            | Event::Approved { .. }
            | Event::Rejected { .. }
            | Event::Continued { .. }
            | Event::StepStarted { .. }
            | Event::StepFinished { .. }
            | Event::Verifying
            | Event::Recorded { .. }
            | Event::SmokeStarted
            | Event::SmokeFinished { .. }
            | Event::Restored { .. }
            | Event::Failed { .. }
            | Event::Closed { .. } => {}
        }
    }

    /// Notes how long the decision took that this message tells of. Not for a retry, nor for a plan that goes on after
    /// a pause: those were decided no second time.
    pub(super) fn decided(&self, alert: &Alert) {
        if let Some(seconds) = alert.times.ttdec_s {
            self.decide.get_or_create(&workload(&alert.workload)).observe(seconds);
        }
    }

    pub(super) fn transition(&self, alert: &Alert) {
        let labels = [("workload", alert.workload.to_string()), ("phase", alert.phase.as_str().to_owned())];
        self.incidents.get_or_create(&labels).inc();
        let observe = |histograms: &Histograms, seconds: Option<f64>| {
            if let Some(seconds) = seconds {
                histograms.get_or_create(&workload(&alert.workload)).observe(seconds);
            }
        };
        let times = &alert.times;
        match alert.phase {
            Phase::Detected => observe(&self.detect, times.ttd_s),
            Phase::Restored => {
                observe(&self.roll_back, times.ttr_s);
                observe(&self.recover, times.mttr_s);
            }
            Phase::Started
            | Phase::Suspected
            | Phase::Held
            | Phase::AwaitingApproval
            | Phase::Verifying
            | Phase::Failed
            | Phase::Escalated
            | Phase::Closed => {}
        }
    }
}

fn workload(id: &WorkloadId) -> Labels<1> {
    [("workload", id.to_string())]
}

fn of_need(id: &WorkloadId, need: Need) -> Labels<2> {
    [("workload", id.to_string()), ("need", need.as_str().to_owned())]
}

/// A purpose as a label value.
const fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::First => "rollback",
        Purpose::Retry => "retry",
        Purpose::OlderKnownGood => "older-known-good",
        Purpose::Whole => "whole",
    }
}
