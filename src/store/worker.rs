//! A database connection on a thread of its own: SQLite blocks, and a blocked runtime thread would stall the daemon.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::error::StoreError;

/// Jobs that wait for the thread; the callers behind them wait for their turn.
const QUEUE: usize = 64;

/// How often, and how long apart, it is looked at the end whether the jobs already handed over are done, a second in all: a disk
/// that hangs must not keep the process from ending. Whatever is cut off then is as if it had been killed.
const END_LOOKS: usize = 1_000;
const END_LOOK: Duration = Duration::from_millis(1);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The thread, and the way to hand it jobs. Dropping it waits for the jobs already handed over, within bounds.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread. `held` is dropped after the connection is closed.
    pub(super) fn start(
        name: &'static str,
        mut connection: Connection,
        held: impl Send + 'static,
    ) -> Result<Self, std::io::Error> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut connection);
            }
            drop(connection);
            drop(held);
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs a job on the thread. Once handed over it runs to its end, even where the caller stops waiting.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // A caller that is gone wants no answer.
            drop(reply.send(job(connection)));
        });
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        let Some(thread) = self.thread.take() else { return };
        for _ in 0..END_LOOKS {
            if thread.is_finished() {
                // One that panicked has said so already.
                drop(thread.join());
                return;
            }
            thread::sleep(END_LOOK);
        }
        tracing::warn!("what is being read or written does not end: it is left to itself");
    }
}
