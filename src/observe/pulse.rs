//! Signs of life: whoever pings the service manager's watchdog asks here whether every duty made progress.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::domain::id::WorkloadId;

/// All duties that must show signs of life.
#[derive(Debug)]
pub(super) struct Pulses {
    began: Instant,
    duties: Mutex<Register>,
}

#[derive(Debug, Default)]
struct Register {
    next: u64,
    known: BTreeMap<u64, Arc<Sign>>,
}

#[derive(Debug)]
struct Sign {
    what: String,
    workload: WorkloadId,
    limit: Duration,
    /// Milliseconds since the beginning.
    last: AtomicU64,
}

/// One duty's own sign. A duty that ends without saying so is missed.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    id: u64,
    sign: Arc<Sign>,
    began: Instant,
}

/// A duty that made no progress in its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stalled {
    /// Whose it is.
    pub workload: WorkloadId,
    /// What it looks at.
    pub duty: String,
    /// How long it has been silent.
    pub silent_for: Duration,
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} made no progress for {} s", self.duty, self.workload, self.silent_for.as_secs())
    }
}

impl Pulses {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), duties: Mutex::default() }
    }

    /// Takes in a duty that shows a sign at least every `limit`.
    pub(super) fn register(&self, workload: WorkloadId, what: String, limit: Duration) -> Pulse {
        let sign = Arc::new(Sign { what, workload, limit, last: AtomicU64::new(millis(self.began)) });
        let mut register = self.duties.lock().unwrap_or_else(PoisonError::into_inner);
        register.next += 1;
        let id = register.next;
        register.known.insert(id, Arc::clone(&sign));
        Pulse { id, sign, began: self.began }
    }

    /// The duty has ended as it was told to.
    pub(super) fn release(&self, pulse: &Pulse) {
        self.duties.lock().unwrap_or_else(PoisonError::into_inner).known.remove(&pulse.id);
    }

    /// The duty that has been silent for longest beyond its limit.
    pub(super) fn stalled(&self) -> Option<Stalled> {
        self.stalled_at(millis(self.began))
    }

    fn stalled_at(&self, now: u64) -> Option<Stalled> {
        let register = self.duties.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = |sign: &Sign| Duration::from_millis(now.saturating_sub(sign.last.load(Ordering::Relaxed)));
        let late = register.known.values().filter(|sign| silent(sign) > sign.limit);
        late.max_by_key(|sign| silent(sign)).map(|sign| Stalled {
            workload: sign.workload.clone(),
            duty: sign.what.clone(),
            silent_for: silent(sign),
        })
    }
}

impl Pulse {
    pub(super) fn beat(&self) {
        self.beat_at(millis(self.began));
    }

    /// Waits for what comes once others are done, and shows signs of life meanwhile: those others have signs of their own.
    pub(super) async fn through<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        loop {
            let done = timeout(self.sign.limit / 2, wait.as_mut()).await;
            self.beat();
            if let Ok(done) = done {
                return done;
            }
        }
    }

    fn beat_at(&self, now: u64) {
        self.sign.last.store(now, Ordering::Relaxed);
    }
}

fn millis(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_duty_is_named_and_one_that_ended_in_order_is_not() {
        let pulses = Pulses::new();
        let [lively, silent, ended] = ["a", "b", "c"]
            .map(|what| pulses.register(WorkloadId::new("shop"), what.to_owned(), Duration::from_secs(10)));
        silent.beat_at(0);
        pulses.release(&ended);
        lively.beat_at(9_000);
        assert_eq!(pulses.stalled_at(10_000), None);
        assert_eq!(pulses.stalled_at(12_000).unwrap().to_string(), "b of shop made no progress for 12 s");
        lively.beat_at(30_000);
        silent.beat_at(30_000);
        assert_eq!(pulses.stalled_at(30_001), None);
    }

    #[tokio::test]
    async fn one_that_waits_for_others_is_not_silent() {
        let pulse = Pulses::new().register(WorkloadId::new("shop"), "a".to_owned(), Duration::from_millis(20));
        let signs = async {
            while pulse.sign.last.load(Ordering::Relaxed) < 100 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = pulse.through(std::future::pending()) => {}
            seen = timeout(Duration::from_secs(60), signs) => seen.expect("signs of life"),
        }
    }
}
