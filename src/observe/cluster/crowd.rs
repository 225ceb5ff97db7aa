//! How long a watch stays open: longer the more of them there are, so that together they ask the API server for no more than
//! one in two seconds, and each that matters now no longer than half a minute.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a watch stays open at least.
const SHORTEST: Duration = Duration::from_secs(30);

/// How much longer with each that is open beside it.
const EACH: Duration = Duration::from_secs(2);

/// How long at most, however many there are.
const LONGEST: Duration = Duration::from_secs(1_800);

/// All watches that share the API servers.
#[derive(Clone, Debug)]
pub struct Crowd {
    seats: Arc<AtomicU32>,
    shortest: Duration,
}

/// One watch's place among them, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat(Crowd);

impl Default for Crowd {
    fn default() -> Self {
        Self::no_shorter_than(SHORTEST)
    }
}

impl Crowd {
    pub(super) fn no_shorter_than(shortest: Duration) -> Self {
        Self { seats: Arc::default(), shortest }
    }

    pub(super) fn join(&self) -> Seat {
        self.seats.fetch_add(1, Ordering::Relaxed);
        Seat(self.clone())
    }
}

impl Seat {
    /// How long a watch stays open that is to be begun now.
    pub(super) fn turn(&self, is_heeded: bool) -> Duration {
        let Crowd { seats, shortest } = &self.0;
        if is_heeded {
            return *shortest;
        }
        EACH.saturating_mul(seats.load(Ordering::Relaxed)).min(LONGEST).max(*shortest)
    }

    /// What is younger is not begun anew as soon as it is heeded, however often that comes and goes.
    pub(super) fn young(&self) -> Duration {
        self.0.shortest / 6
    }

    /// How long one on which bookmarks come may be silent. An API server sends one about once a minute.
    pub(super) fn silent(&self) -> Duration {
        self.0.shortest * 5
    }

    /// How long one that is being heeded stays open, whatever was asked for.
    pub(super) const fn shortest(&self) -> Duration {
        self.0.shortest
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seats.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_watches_ask_no_more_often_than_few() {
        let crowd = Crowd::default();
        let mut seats = vec![crowd.join()];
        for namespaces in 1..=500 {
            seats.resize_with(6 * namespaces, || crowd.join());
            let each = seats[0].turn(false).as_secs_f64();
            let most = if namespaces <= 150 { 0.5 } else { seats.len() as f64 / LONGEST.as_secs_f64() };
            assert!(seats.len() as f64 / each <= most, "{namespaces}: {each} s");
            assert_eq!(seats[0].turn(true), SHORTEST);
        }
        seats.truncate(1);
        assert_eq!(seats[0].turn(false), SHORTEST);
        assert_eq!(seats[0].silent(), Duration::from_secs(150));
    }
}
