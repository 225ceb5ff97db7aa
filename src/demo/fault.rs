//! What goes wrong with the demo's second release.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How long a slow answer takes; well above the trigger's 5 s.
pub(super) const SLOW: Duration = Duration::from_secs(6);
/// How long a process lives at least once the fault has begun, so that each start is seen by whoever looks twice a second.
const SHORT_LIFE: Duration = Duration::from_millis(800);
/// Memory that the broken release takes at a time, in bytes.
const GULP: usize = 4 * 1024 * 1024;
/// Time between two gulps.
const GULP_EVERY: Duration = Duration::from_millis(20);
/// Exit status of a crash.
const CRASH_STATUS: i32 = 1;

/// A way for a release to be bad.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// 40 % of the answers are errors.
    Errors,
    /// A fifth of the answers takes 6 s.
    Latency,
    /// Memory grows until the limit; the process dies, and again after each start.
    Oom,
    /// The process ends by itself, and again soon after each start.
    Crash,
    /// The health endpoint says so.
    Unhealthy,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 5] = [Fault::Errors, Fault::Latency, Fault::Oom, Fault::Crash, Fault::Unhealthy];

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Fault::Errors => "errors",
            Fault::Latency => "latency",
            Fault::Oom => "oom",
            Fault::Crash => "crash",
            Fault::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A fault and when it begins.
#[derive(Debug)]
pub(super) struct Affliction {
    fault: Option<Fault>,
    started: Instant,
    begins: Instant,
    requests: AtomicU64,
}

impl Affliction {
    /// A fault that begins `after` now; none: the release is good.
    pub(super) fn new(fault: Option<Fault>, after: Duration) -> Self {
        let started = Instant::now();
        Self { fault, started, begins: started + after, requests: AtomicU64::new(0) }
    }

    fn now(&self) -> Option<Fault> {
        self.fault.filter(|_| Instant::now() >= self.begins)
    }

    /// How the next request is answered: whether well, and after what time.
    pub(super) fn next_answer(&self) -> (bool, Duration) {
        let count = self.requests.fetch_add(1, Ordering::Relaxed);
        let quick = Duration::from_millis(2 + count % 5);
        match self.now() {
            Some(Fault::Errors) => (count % 5 >= 2, quick),
            Some(Fault::Latency) if count.is_multiple_of(5) => (true, SLOW),
            Some(Fault::Latency | Fault::Oom | Fault::Crash | Fault::Unhealthy) | None => (true, quick),
        }
    }

    /// What the health endpoint says.
    pub(super) fn is_healthy(&self) -> bool {
        self.now() != Some(Fault::Unhealthy)
    }

    /// Lives until the fault ends the process, if it is one that does.
    pub(super) async fn run_its_course(&self) {
        tokio::time::sleep_until(self.begins.max(self.started + SHORT_LIFE)).await;
        match self.fault {
            Some(Fault::Crash) => std::process::exit(CRASH_STATUS),
            Some(Fault::Oom) => exhaust_memory().await,
            Some(Fault::Errors | Fault::Latency | Fault::Unhealthy) | None => std::future::pending().await,
        }
    }
}

/// Takes memory until there is no more, which ends the process as any failed allocation does.
async fn exhaust_memory() {
    let mut hoard = Vec::new();
    loop {
        // Written to, so that it is memory and not only a promise.
        hoard.push(vec![1_u8; GULP]);
        tokio::time::sleep(GULP_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(fault: Option<Fault>, after: Duration) -> (usize, usize) {
        let affliction = Affliction::new(fault, after);
        let all: Vec<_> = (0..100).map(|_| affliction.next_answer()).collect();
        let bad = all.iter().filter(|(well, _)| !well).count();
        let slow = all.iter().filter(|(_, time)| *time == SLOW).count();
        (bad, slow)
    }

    #[test]
    fn a_fault_begins_when_it_is_told_to() {
        assert_eq!(answers(Some(Fault::Errors), Duration::ZERO), (40, 0));
        assert_eq!(answers(Some(Fault::Latency), Duration::ZERO), (0, 20));
        for fault in Fault::ALL {
            assert_eq!(answers(Some(fault), Duration::from_secs(600)), (0, 0), "{fault}");
        }
        assert_eq!(answers(None, Duration::ZERO), (0, 0));
        assert!(!Affliction::new(Some(Fault::Unhealthy), Duration::ZERO).is_healthy());
        assert!(Affliction::new(Some(Fault::Unhealthy), SLOW).is_healthy());
    }
}
