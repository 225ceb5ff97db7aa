//! Keeps what was seen of each workload lately, so that a daemon that is restarted does not begin blind: now and then, and
//! when it stops.

use tokio::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::domain::fleet::Fleet;
use crate::engine::{Handle, Now};
use crate::store::Store;

/// Time between two rounds: what a crash loses at most of the past half hour.
const ROUND: Duration = Duration::from_secs(300);

/// Hands each workload what was kept of it. What can't be read is told, and done without.
pub(super) async fn recall(fleet: &mut Fleet, store: &Store) {
    match store.reader().memories().await {
        Ok(memories) => {
            for (workload, memory) in memories {
                match memory {
                    Ok(memory) => fleet.recall(&workload, memory),
                    Err(error) => tracing::warn!(%workload, %error, "what was seen before the start is lost"),
                }
            }
        }
        Err(error) => tracing::warn!(%error, "what was seen before the start is lost"),
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
    pub(super) async fn keep(self, stop: CancellationToken) {
        let work = async {
            let mut round = tokio::time::interval(ROUND);
            round.tick().await;
            loop {
                round.tick().await;
                self.round().await;
            }
        };
        stop.run_until_cancelled(work).await;
        stop.cancelled().await;
    }

    /// The last round, while the engine still answers.
    pub(super) async fn finish(self, limit: Duration) {
        if tokio::time::timeout(limit, self.round()).await.is_err() {
            tracing::warn!(?limit, "not all that was seen lately could be kept in time");
        }
    }

    /// One workload after the other, so that what all of them know is never copied at once.
    async fn round(&self) {
        let Ok(views) = self.engine.list().await else { return };
        for workload in views.into_iter().map(|view| view.workload) {
            let Ok(Some(memory)) = self.engine.memory(workload.clone()).await else { continue };
            if memory.is_empty() {
                continue;
            }
            if let Err(error) = self.store.save_memory(&workload, memory, (self.now)()).await {
                tracing::warn!(%error, "what was seen lately could not be kept");
                return;
            }
        }
    }
}
