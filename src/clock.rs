//! The only file that reads the operating system's clock; and how loops are seen to turn.
//!
//! Wall clocks step, and monotonic ones stand still while the machine is suspended. The daemon's timeline does neither:
//! it is anchored to the wall clock once and then advances with boot time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::domain::time::{Span, Timestamp};

/// The daemon's timeline. Copies share their anchor.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What the timeline said when it was anchored.
    origin: Timestamp,
    /// Milliseconds since boot at that moment.
    booted: i64,
}

impl Clock {
    /// Anchors the timeline to the wall clock, but never before `not_before`, the time of the newest record: where the
    /// wall clock was set back while the daemon was down, records keep their order.
    #[must_use]
    pub fn start(not_before: Option<Timestamp>) -> Self {
        let wall = wall();
        Self { origin: not_before.map_or(wall, |newest| wall.max(newest)), booted: boot_millis() }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.origin.as_millis().saturating_add(boot_millis().saturating_sub(self.booted)))
    }

    /// How far the wall clock is ahead of the timeline, in milliseconds; negative where it is behind.
    #[must_use]
    pub fn drift_millis(&self) -> i64 {
        wall().as_millis().saturating_sub(self.now().as_millis())
    }

    /// The same in whole seconds, so that it stays as it is from look to look; less than half of one is none.
    #[must_use]
    pub fn wall_ahead(&self) -> i64 {
        let drift = self.drift_millis();
        (drift + drift.signum() * 500) / 1_000 * 1_000
    }

    /// What the timeline says where a wall clock, of this machine or of one in step with it, says `wall`.
    #[must_use]
    pub fn of_wall(&self, wall: Timestamp) -> Timestamp {
        wall.moved(-self.wall_ahead())
    }

    /// The time from now until `due`; zero once it is past.
    #[must_use]
    pub fn until(&self, due: Timestamp) -> Span {
        due.since(self.now())
    }
}

/// How often a loop has turned, by which somebody else sees that it still does. Copies are of the same loop.
#[derive(Clone, Debug, Default)]
pub struct Turns(Arc<AtomicU64>);

impl Turns {
    /// The longest time between two turns of a loop that only waits.
    pub const PERIOD: Duration = Duration::from_secs(5);

    /// Counts one.
    pub fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for what may take long, and turns all the while.
    pub async fn while_waiting<T>(&self, awaited: impl Future<Output = T>) -> T {
        let mut awaited = std::pin::pin!(awaited);
        loop {
            self.note();
            if let Ok(outcome) = tokio::time::timeout(Self::PERIOD, &mut awaited).await {
                return outcome;
            }
        }
    }

    /// How often it has turned.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The wall clock, for what others compare with their own clocks: it steps when it is set. Records and retries are timed
/// by the timeline.
#[must_use]
pub fn wall() -> Timestamp {
    Timestamp::from_millis(millis(clock_gettime(ClockId::Realtime)))
}

fn boot_millis() -> i64 {
    millis(clock_gettime(ClockId::Boottime))
}

fn millis(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_starts_at_the_wall_clock_and_advances() {
        let clock = Clock::start(None);
        assert!(clock.drift_millis().abs() < 1_000, "{}", clock.drift_millis());
        let (first, copy) = (clock.now(), clock);
        while clock.now() == first {
            std::hint::spin_loop();
        }
        assert!(copy.now() > first);
        assert_eq!(clock.until(first), Span::ZERO);
    }

    #[test]
    fn the_timeline_never_starts_before_the_newest_record() {
        let newest = wall() + Span::from_secs(3_600);
        let clock = Clock::start(Some(newest));
        assert!(clock.now() >= newest && clock.now().since(newest) < Span::from_secs(60));
        assert!(clock.drift_millis() < -3_500_000, "{}", clock.drift_millis());
        let off = clock.of_wall(wall()).as_millis() - clock.now().as_millis();
        assert!(off.abs() < 1_000, "{off} ms");
        assert_eq!(clock.wall_ahead() % 1_000, 0);
        assert_eq!(Clock::start(None).of_wall(newest), newest, "a clock that was not set");
        let old = Timestamp::from_millis(1);
        assert!(Clock::start(Some(old)).drift_millis().abs() < 1_000);
    }
}
