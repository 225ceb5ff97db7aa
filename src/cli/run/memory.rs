//! Keeps what was seen of each workload lately, so that a daemon that is restarted does not begin blind, nor a workload that
//! comes back under watch: now and then, when a workload leaves, and when the daemon stops.

use tokio::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::clock::Turns;
use crate::domain::health::memory::Memory;
use crate::domain::id::WorkloadId;
use crate::engine::{Handle, Now};
use crate::store::Store;

/// Time between two rounds: what a crash loses at most of the past half hour.
const ROUND: Duration = Duration::from_secs(300);

/// What was kept of a workload. What can't be read is told, and done without.
pub(super) async fn kept(store: &Store, workload: &WorkloadId) -> Memory {
    match store.reader().memory(workload).await {
        Ok(memory) => memory.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%workload, %error, "what was seen before the start is lost");
            Memory::default()
        }
    }
}

/// Where memories come from and go to.
#[derive(Clone)]
pub(super) struct Keeper {
    pub(super) engine: Handle,
    pub(super) store: Store,
    pub(super) now: Now,
}

impl Keeper {
    /// Keeps everything, round after round, until `stop`.
    pub(super) async fn keep(self, turns: Turns, stop: CancellationToken) {
        let work = async {
            let mut round = tokio::time::interval(ROUND);
            round.tick().await;
            loop {
                turns.while_waiting(round.tick()).await;
                self.round(&turns).await;
            }
        };
        stop.run_until_cancelled(work).await;
        stop.cancelled().await;
    }

    /// The last round, while the engine still answers.
    pub(super) async fn finish(self, limit: Duration) {
        if tokio::time::timeout(limit, self.round(&Turns::default())).await.is_err() {
            tracing::warn!(?limit, "not all that was seen lately could be kept in time");
        }
    }

    /// One workload after the other, so that what all of them know is never copied at once.
    async fn round(&self, turns: &Turns) {
        let Ok(views) = self.engine.list().await else { return };
        for workload in views.into_iter().map(|view| view.workload) {
            turns.note();
            if !self.keep_of(workload).await {
                return;
            }
        }
    }

    /// What is known of one workload; `false` where it could not be kept.
    pub(super) async fn keep_of(&self, workload: WorkloadId) -> bool {
        let Ok(Some(memory)) = self.engine.memory(workload.clone()).await else { return true };
        if memory.is_empty() {
            return true;
        }
        let kept = self.store.save_memory(&workload, memory, (self.now)()).await;
        if let Err(error) = &kept {
            tracing::warn!(%error, "what was seen lately could not be kept");
        }
        kept.is_ok()
    }
}
