//! The room for looks under way, in lanes, so that what answers never waits for what hangs.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Addresses asked at once in each lane. As many as that hang are looked at in every interval all the same: a look that is
/// two intervals old says nothing of an address any more, and the share that fails would seem to be less than it is.
const MAX_UNDER_WAY: usize = 256;

/// Where a look finds its room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// For what was not asked yet. Many may come at once, and hang.
    New,
    /// For what answered the last time.
    Usual,
    /// For what used up its time.
    Slow,
}

/// The room for looks at addresses, over all workloads.
#[derive(Debug)]
pub(super) struct Room {
    new: Semaphore,
    usual: Semaphore,
    slow: Semaphore,
}

impl Room {
    pub(super) fn new() -> Self {
        let lane = || Semaphore::new(MAX_UNDER_WAY);
        Self { new: lane(), usual: lane(), slow: lane() }
    }

    /// A place in the lane, to be held while an address is asked. Those who wait get theirs in the order in which they came,
    /// so that each gets it.
    pub(super) async fn place(&self, lane: Lane) -> Option<SemaphorePermit<'_>> {
        let lane = match lane {
            Lane::New => &self.new,
            Lane::Usual => &self.usual,
            Lane::Slow => &self.slow,
        };
        lane.acquire().await.ok()
    }
}
