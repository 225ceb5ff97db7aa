//! The journal and the outbox: one SQLite file in the state directory, written by one thread.
//!
//! A commit is a transaction in WAL mode with `synchronous = FULL`: when it is acknowledged it survives a power cut, and
//! a message enters the outbox together with the record that causes it, or not at all. Every entry carries a digest, so
//! that a flipped bit is an error and never a decision. The file is checked whole before its first byte is changed; one
//! that is damaged, foreign or from a newer version is refused, never overwritten. An exclusive `flock` keeps a second
//! daemon out for as long as the process lives. Where one of these files was moved away or replaced meanwhile, nothing counts
//! as written.
//!
//! Growth is bounded: [`Store::prune`] folds what is older than [`RETENTION`] into a snapshot of each workload's state.

mod anchor;
mod append;
mod entry;
mod error;
mod fold;
mod import;
mod memory;
mod outbox;
mod points;
mod reader;
mod retention;
mod schema;
mod shared;
mod shelf;
mod state_dir;
mod worker;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

pub use error::StoreError;
pub use fold::Folded;
pub use outbox::{OutboxStats, ParkedMessage, Undelivered};
pub use points::{POINTS_PER_INCIDENT, Point};
pub use reader::{INCIDENT_RECORDS_LIMIT, IncidentSummary, Reader};
pub use retention::{Pruned, RETENTION};
pub use shared::{Books, Place, States, Withheld};
pub use state_dir::{JOURNAL_FILE, LOCK_FILE};

use crate::domain::health::memory::Memory;
use crate::domain::id::{IncidentId, ReceiverName, WorkloadId};
use crate::domain::time::Timestamp;
use crate::engine::ports::{Batch, Delivery, Journal, JournalError, NotCommitted, Outbox, Settlement};
use anchor::Anchor;
use reader::bound;
use state_dir::StateDir;
use worker::Worker;

/// The journal, for the daemon. Cheap to clone; when the last clone is gone the file is closed and unlocked.
#[derive(Clone, Debug)]
pub struct Store {
    // Before `writer`, so that the writer's connection is the last to close and tidies up the log.
    reader: Reader,
    /// What is to be sent, and whether the journal answers, waits for no report.
    outbox: Reader,
    writer: Arc<Worker>,
    anchor: Arc<Anchor>,
    messages: Arc<watch::Sender<u64>>,
}

impl Store {
    /// Opens the journal in a state directory, both made where they are missing, and locks it. Blocks for as long as
    /// the check of the whole file takes.
    ///
    /// # Errors
    /// [`StoreError`] where another daemon holds the directory, or the file is damaged, foreign or too new.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let claimed = StateDir::claim(state_dir)?;
        let file = claimed.journal()?;
        let connection = schema::open_writer(&file)?;
        let starting = |source| StoreError::StateDir { path: state_dir.to_owned(), doing: "starting a thread", source };
        let reading = Worker::start("journal-read", schema::open_reader(&file)?, ()).map_err(starting)?;
        let sending = Worker::start("outbox-read", schema::open_reader(&file)?, ()).map_err(starting)?;
        let anchor = Arc::new(Anchor::drop_at(state_dir)?);
        let writer = Arc::new(Worker::start("journal", connection, claimed).map_err(starting)?);
        let (reader, outbox) = (Reader::new(reading), Reader::new(sending));
        Ok(Self { reader, outbox, writer, anchor, messages: Arc::new(watch::Sender::new(0)) })
    }

    /// Opens the journal of a state directory for reading, whether or not a daemon runs.
    ///
    /// # Errors
    /// [`StoreError`] where there is none, or it is damaged, foreign or too new.
    pub fn open_read_only(state_dir: &Path) -> Result<Reader, StoreError> {
        let connection = schema::open_reader(&state_dir::existing_journal(state_dir)?)?;
        let worker = Worker::start("journal-read", connection, ()).map_err(|source| StoreError::StateDir {
            path: state_dir.to_owned(),
            doing: "starting a thread",
            source,
        })?;
        Ok(Reader::new(worker))
    }

    /// For reading; see [`Reader`].
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// How much waits in the outbox, and since when; asked for beside whatever else is being read.
    ///
    /// # Errors
    /// [`StoreError`] where the journal can't be read.
    pub async fn outbox(&self) -> Result<OutboxStats, StoreError> {
        self.outbox.outbox().await
    }

    /// Keeps readings for an incident's report, [`POINTS_PER_INCIDENT`] at most; gives the number kept.
    ///
    /// # Errors
    /// [`StoreError`] where they can't be written; none of them is then kept.
    pub async fn save_points(&self, incident: &IncidentId, points: Vec<Point>) -> Result<u64, StoreError> {
        let incident = incident.clone();
        self.writer.call(move |connection| points::save(connection, &incident, &points)).await
    }

    /// Keeps what was seen of a workload lately, in the place of what was kept before.
    ///
    /// # Errors
    /// [`StoreError`] where it can't be written; what was kept before then stays.
    pub async fn save_memory(&self, workload: &WorkloadId, memory: Memory, at: Timestamp) -> Result<(), StoreError> {
        let workload = workload.clone();
        self.writer.call(move |connection| memory::save(connection, &workload, &memory, at)).await
    }

    /// Takes away what is over and older than `before`: records, with their incidents and readings, and settled
    /// messages. What is open stays. A workload whose records can't be folded is left alone.
    ///
    /// # Errors
    /// [`StoreError`] where the journal can't be written; what was taken away before stays so.
    pub async fn prune(&self, before: Timestamp) -> Result<Pruned, StoreError> {
        let messages = self.writer.call(move |connection| retention::prune_messages(connection, before)).await?;
        let mut pruned = Pruned { messages, ..Pruned::default() };
        // One transaction for each workload, so that records of others get in between.
        for workload in self.reader.workloads().await? {
            let name = workload.clone();
            let job = move |connection: &mut _| retention::prune_workload(connection, name.as_str(), before);
            match self.writer.call(job).await {
                Ok(more) => pruned += more,
                Err(StoreError::Damaged { what, why }) => {
                    tracing::warn!(%workload, %what, %why, "damaged records are not pruned");
                }
                Err(StoreError::Illegal(illegal)) => {
                    tracing::warn!(%workload, %illegal, "contradictory records are not pruned");
                }
                Err(other) => return Err(other),
            }
        }
        self.writer.call(move |connection| memory::prune(connection, before)).await?;
        self.writer.call(|connection| shelf::prune(connection)).await?;
        self.writer.call(|connection| retention::shrink(connection)).await?;
        Ok(pruned)
    }
}

impl Journal for Store {
    async fn commit(&self, batch: Batch) -> Result<(), NotCommitted> {
        if batch.is_empty() {
            return Ok(());
        }
        let tells = !batch.notices.is_empty();
        let anchor = Arc::clone(&self.anchor);
        self.writer.call(move |connection| append::commit(connection, &batch, &anchor)).await?;
        if tells {
            self.messages.send_modify(|n| *n = n.wrapping_add(1));
        }
        Ok(())
    }

    async fn probe(&self) -> Result<(), JournalError> {
        let anchor = Arc::clone(&self.anchor);
        Ok(self.writer.call(move |connection| append::probe(connection, &anchor)).await?)
    }
}

impl Outbox for Store {
    async fn due(&self, receiver: &ReceiverName, now: Timestamp, limit: usize) -> Result<Vec<Delivery>, JournalError> {
        let receiver = receiver.clone();
        Ok(self.outbox.call(move |connection| outbox::due(connection, &receiver, now, bound(limit))).await?)
    }

    async fn next_due(&self, receiver: &ReceiverName) -> Result<Option<Timestamp>, JournalError> {
        let receiver = receiver.clone();
        Ok(self.outbox.call(move |connection| outbox::next_due(connection, &receiver)).await?)
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), JournalError> {
        Ok(self.writer.call(move |connection| outbox::settle(connection, &settlements)).await?)
    }

    async fn hasten(&self, receiver: &ReceiverName, now: Timestamp) -> Result<(), JournalError> {
        let receiver = receiver.clone();
        Ok(self.writer.call(move |connection| outbox::hasten(connection, &receiver, None, now)).await?)
    }

    async fn park_others(&self, known: Vec<ReceiverName>, at: Timestamp, why: String) -> Result<u64, JournalError> {
        Ok(self.writer.call(move |connection| outbox::park_others(connection, &known, at, &why)).await?)
    }

    fn committed(&self) -> watch::Receiver<u64> {
        self.messages.subscribe()
    }
}

#[cfg(test)]
mod tests;
