//! What a daemon waits for, and what is heard meanwhile.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use super::super::{NO, YES};

/// The signals that end a daemon.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    /// Waits until it is told to stop.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

pub(super) fn on(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("signals can't be handled")
}

/// What `work` comes to, or with which exit code the daemon ends: it is told to, or one of its duties has ended by itself.
pub(super) async fn until_end<T>(
    work: impl Future<Output = T>,
    stop: impl Future<Output = ()>,
    duties: &mut JoinSet<&'static str>,
) -> Result<T, u8> {
    tokio::select! {
        done = work => Ok(done),
        () = stop => Err(YES),
        Some(ended) = duties.join_next() => {
            let duty = ended.unwrap_or("a duty that panicked");
            tracing::error!(duty, "a duty ended by itself: the daemon stops");
            Err(NO)
        }
    }
}

/// What `start` comes to, however long it takes; `late` is done once where that is longer than `patience`.
pub(super) async fn within<T>(patience: Duration, start: impl Future<Output = T>, late: impl AsyncFnOnce()) -> T {
    let mut start = std::pin::pin!(start);
    match tokio::time::timeout(patience, &mut start).await {
        Ok(begun) => begun,
        Err(_) => tokio::join!(start, late()).0,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_start_that_takes_long_is_told_once_and_waited_for() {
        let told = Cell::new(0);
        let note = async || told.set(told.get() + 1);
        assert_eq!(within(Duration::from_secs(3600), async { 1 }, note).await, 1);
        assert_eq!(told.get(), 0);
        let until_told = async {
            while told.get() == 0 {
                tokio::task::yield_now().await;
            }
            2
        };
        assert_eq!(within(Duration::from_millis(1), until_told, note).await, 2);
        assert_eq!(told.get(), 1);
    }

    /// A policy that is put in force may wait for an API server or for a disk that hangs.
    #[tokio::test]
    async fn whatever_goes_on_the_end_is_heard() {
        let hangs = std::future::pending::<()>;
        let mut duties = JoinSet::new();
        assert_eq!(until_end(async { 1 }, hangs(), &mut duties).await, Ok(1));
        assert_eq!(until_end(hangs(), async {}, &mut duties).await, Err(YES));
        duties.spawn(async { "engine" });
        assert_eq!(until_end(hangs(), hangs(), &mut duties).await, Err(NO));
    }
}
