//! When to look: on a fixed grid, so that looks neither drift nor come in herds.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::domain::time::{Span, Timestamp};

/// While an incident is acted upon, looks come this many times as often.
const FAST_FACTOR: u64 = 5;

/// Phases there are: what wakes the daemon costs more than what it then reads, so that looks at many things share a moment,
/// and there are enough moments for no herd to come of it.
const PHASES: u64 = 20;

/// Looks are never closer than this.
pub(super) const SHORTEST_PACE: Span = Span::from_millis(200);

/// The points in time at which something is looked at: every `pace`, moved by a phase of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Grid {
    pace: u64,
    seed: u64,
}

impl Grid {
    /// A grid whose phase follows from `what` alone, so that the looks at many things spread evenly over the pace and
    /// stay where they are over a restart.
    pub(super) fn new(pace: Span, what: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        Self { pace: pace.as_millis().max(1), seed: hasher.finish() }
    }

    /// The same seed at another pace.
    pub(super) fn at(self, pace: Span) -> Self {
        Self { pace: pace.as_millis().max(1), ..self }
    }

    /// How far the grid is moved, less than the pace.
    pub(super) const fn phase(self) -> Span {
        Span::from_millis(self.seed % PHASES * self.pace / PHASES)
    }

    /// The first point after `time`.
    pub(super) fn next(self, time: Timestamp) -> Timestamp {
        let into = self.into_cell(time);
        time + Span::from_millis(self.pace - into)
    }

    /// How many points lie after `due` up to `now`.
    pub(super) fn missed(self, due: Timestamp, now: Timestamp) -> u64 {
        now.since(due).as_millis() / self.pace
    }

    /// Milliseconds since the last point at or before `time`.
    fn into_cell(self, time: Timestamp) -> u64 {
        let (pace, phase) = (i128::from(self.pace), i128::from(self.phase().as_millis()));
        let into = (i128::from(time.as_millis()) - phase).rem_euclid(pace);
        u64::try_from(into).unwrap_or(0)
    }
}

/// The pace while an incident is acted upon: a fifth of `interval`, but no less than [`SHORTEST_PACE`] and no slower than
/// `interval` itself.
pub(super) fn fast(interval: Span) -> Span {
    Span::from_millis(interval.as_millis() / FAST_FACTOR).max(SHORTEST_PACE).min(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Span = Span::from_secs(5);

    #[test]
    fn phases_spread_evenly_and_do_not_change() {
        let mut tenths = [0_u32; 10];
        for target in 0..10_000 {
            let grid = Grid::new(INTERVAL, &("shop", format!("10.0.0.{target}:9100")));
            assert_eq!(grid, Grid::new(INTERVAL, &("shop", format!("10.0.0.{target}:9100"))));
            tenths[usize::try_from(grid.phase().as_millis() / 500).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }

    #[test]
    fn looks_stay_on_the_grid_however_late_they_are_seen() {
        let grid = Grid::new(INTERVAL, &"a");
        let mut time = Timestamp::from_millis(1_764_300_720_123);
        let first = grid.next(time);
        for late in [0, 1, 17, 4_999, 5_000, 12_345, 3] {
            let due = grid.next(time);
            assert!(due > time && due.since(time) <= INTERVAL);
            assert_eq!(due.since(first).as_millis() % INTERVAL.as_millis(), 0, "{late}");
            time = due + Span::from_millis(late);
        }
    }

    #[test]
    fn rounds_that_went_by_are_counted() {
        let grid = Grid::new(INTERVAL, &"a");
        let due = grid.next(Timestamp::from_millis(0));
        for (late, missed) in [(0, 0), (4_999, 0), (5_000, 1), (14_999, 2), (15_000, 3)] {
            assert_eq!(grid.missed(due, due + Span::from_millis(late)), missed, "{late}");
        }
    }

    #[test]
    fn the_fast_pace_is_a_fifth_within_bounds() {
        for (interval, pace) in [(5_000, 1_000), (15_000, 3_000), (500, 200), (1_000, 200), (100, 100)] {
            assert_eq!(fast(Span::from_millis(interval)), Span::from_millis(pace), "{interval}");
        }
    }

    #[test]
    fn times_before_the_epoch_have_a_grid_too() {
        let grid = Grid::new(INTERVAL, &"a");
        let before = Timestamp::from_millis(-12_345);
        assert_eq!((grid.next(before).as_millis() - grid.phase().as_millis() as i64).rem_euclid(5_000), 0);
    }
}
