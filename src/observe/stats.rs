//! Counts of what the looks did, for the daemon's own metrics: plain atomics, so that whoever exposes them needs nothing
//! of this module's inside.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::observation::FaultKind;

/// Every sort of fault, in the order of its slot.
pub const FAULT_KINDS: [FaultKind; 8] = [
    FaultKind::Refused,
    FaultKind::Timeout,
    FaultKind::Status,
    FaultKind::Unreachable,
    FaultKind::Tls,
    FaultKind::TooLarge,
    FaultKind::Malformed,
    FaultKind::Local,
];

/// Upper bounds of the duration buckets, in seconds; one more bucket takes what is longer.
pub const DURATION_BOUNDS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// What all looks of one sort did since the start.
#[derive(Debug, Default)]
pub struct Looked {
    good: AtomicU64,
    faults: [AtomicU64; FAULT_KINDS.len()],
    durations: [AtomicU64; DURATION_BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Looked {
    /// Notes a look that took `took`.
    pub fn note(&self, fault: Option<FaultKind>, took: Duration) {
        match fault {
            None => add(&self.good, 1),
            Some(kind) => add(&self.faults[slot(kind)], 1),
        }
        let seconds = took.as_secs_f64();
        let bucket = DURATION_BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(DURATION_BOUNDS.len());
        add(&self.durations[bucket], 1);
        add(&self.micros, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Looks that saw something.
    #[must_use]
    pub fn good(&self) -> u64 {
        self.good.load(Ordering::Relaxed)
    }

    /// Looks that failed so.
    #[must_use]
    pub fn faults(&self, kind: FaultKind) -> u64 {
        self.faults[slot(kind)].load(Ordering::Relaxed)
    }

    /// Looks in each bucket of [`DURATION_BOUNDS`], not cumulative; the last is what took longer than all bounds.
    #[must_use]
    pub fn durations(&self) -> [u64; DURATION_BOUNDS.len() + 1] {
        std::array::from_fn(|bucket| self.durations[bucket].load(Ordering::Relaxed))
    }

    /// What all looks took together, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64()
    }
}

/// What the looks did since the start.
#[derive(Debug, Default)]
pub struct ObserveStats {
    /// Exposition pages.
    pub scrapes: Looked,
    /// Health endpoints.
    pub probes: Looked,
    /// Expressions asked of Prometheus servers.
    pub queries: Looked,
    /// Looks at which releases are in place.
    pub releases: Looked,
    /// Readings of what the host says of instances.
    pub hosts: Looked,
    bytes: AtomicU64,
    samples: AtomicU64,
    connections: AtomicU64,
    skipped: AtomicU64,
}

impl ObserveStats {
    /// Bytes of pages received, as they came over the wire.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Samples kept of pages.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Connections opened for plain HTTP.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Rounds that were left out, because the look before them took too long or the engine was behind.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    pub(super) fn page(&self, bytes: u64, samples: usize) {
        add(&self.bytes, bytes);
        add(&self.samples, samples as u64);
    }

    pub(super) fn connected(&self, opened: u64) {
        add(&self.connections, opened);
    }

    pub(super) fn skip(&self, rounds: u64) {
        add(&self.skipped, rounds);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

const fn slot(kind: FaultKind) -> usize {
    match kind {
        FaultKind::Refused => 0,
        FaultKind::Timeout => 1,
        FaultKind::Status => 2,
        FaultKind::Unreachable => 3,
        FaultKind::Tls => 4,
        FaultKind::TooLarge => 5,
        FaultKind::Malformed => 6,
        FaultKind::Local => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_own_slot() {
        for (place, kind) in FAULT_KINDS.into_iter().enumerate() {
            assert_eq!(slot(kind), place);
        }
    }

    #[test]
    fn looks_are_counted_by_outcome_and_length() {
        let looked = Looked::default();
        looked.note(None, Duration::from_millis(5));
        looked.note(None, Duration::from_millis(6));
        looked.note(Some(FaultKind::Timeout), Duration::from_secs(11));
        assert_eq!((looked.good(), looked.faults(FaultKind::Timeout), looked.faults(FaultKind::Tls)), (2, 1, 0));
        assert_eq!(looked.durations(), [1, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!((looked.seconds() - 11.011).abs() < 1e-9);
    }
}
