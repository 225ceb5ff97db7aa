//! The time in which no record can be written: nothing is done, people are told, and the same batch is tried again.

use std::collections::BTreeSet;

use tokio::time::{Duration, Instant};

use super::ports::{Actuator, Batch, Journal, JournalError, Notice};
use super::{Engine, Input};
use crate::domain::controller::{Answer, Job};
use crate::domain::id::{ReceiverName, WorkloadId};
use crate::domain::incident::narrate;

/// Time between two tries of the batch that could not be written.
const RETRY: Duration = Duration::from_secs(2);

/// Time between two proofs that the journal can be written, where nothing else was.
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(10);

/// Time between two direct messages about it.
pub(super) const PAGE_AGAIN: Duration = Duration::from_secs(900);

/// A job that waited no longer than this is begun as if nothing had been; after that what called for it may be over.
const FRESH: Duration = Duration::from_secs(5);

/// What waits until the journal can be written again.
pub(super) struct Broken {
    pub(super) error: JournalError,
    workload: WorkloadId,
    batch: Batch,
    jobs: Vec<Job>,
    pub(super) answers: Vec<(WorkloadId, Answer)>,
    since: Instant,
    retry_at: Instant,
    page_at: Instant,
    pages: u64,
}

impl<J: Journal, A: Actuator> Engine<J, A> {
    /// Keeps what could not be written; nothing that depends on it is done.
    pub(super) fn break_down(&mut self, id: &WorkloadId, batch: Batch, jobs: Vec<Job>, error: JournalError) {
        tracing::error!(%error, "the journal can't be written: nothing is changed until it can");
        self.edges.witness.journal(Some(&error));
        let now = Instant::now();
        self.broken = Some(Broken {
            error,
            workload: id.clone(),
            batch,
            jobs,
            answers: Vec::new(),
            since: now,
            retry_at: now + RETRY,
            page_at: now,
            pages: 0,
        });
        self.page_about_journal();
    }

    /// Tries the batch again when it is time, and goes on where things were left.
    pub(super) async fn mend(&mut self) {
        if self.broken.is_some() && !self.leads() {
            // Nothing of it is on record, so whoever leads does not know of it.
            self.broken = None;
            self.edges.witness.journal(None);
        }
        self.page_about_journal();
        let Some(broken) = &mut self.broken else { return };
        if Instant::now() < broken.retry_at {
            return;
        }
        broken.retry_at = Instant::now() + RETRY;
        let batch = broken.batch.clone();
        match self.write(batch.clone()).await {
            Err(error) => {
                if let Some(broken) = &mut self.broken {
                    broken.error = error;
                }
            }
            Ok(()) => {
                let Some(broken) = self.broken.take() else { return };
                tracing::info!(workload = %broken.workload, "the journal can be written again");
                self.edges.witness.journal(None);
                if broken.since.elapsed() <= FRESH || broken.jobs.is_empty() {
                    self.after_commit(&batch, broken.jobs);
                } else {
                    self.after_commit(&batch, Vec::new());
                    let why = "it could not be recorded in time, and was not begun".to_owned();
                    self.feed(&broken.workload, Input::NotBegun(why)).await;
                }
                self.catch_up(broken.answers).await;
            }
        }
    }

    /// Finds out whether the journal can still be written when nothing was for a while: at the next incident is too late.
    pub(super) async fn probe(&mut self) {
        if self.broken.is_some() || !self.leads() || Instant::now() < self.probe_at {
            return;
        }
        self.probe_at = Instant::now() + PROBE_EVERY;
        let Err(error) = self.edges.journal.probe().await else { return };
        let first = self.fleet.iter().next().map(|(id, _)| id.clone());
        if let Some(id) = first {
            self.break_down(&id, Batch::default(), Vec::new(), error);
        }
    }

    async fn write(&self, batch: Batch) -> Result<(), JournalError> {
        if batch.is_empty() { self.edges.journal.probe().await } else { self.edges.journal.commit(batch).await }
    }

    /// Takes the answers that came meanwhile. Where the journal breaks again, the rest of them waits again.
    async fn catch_up(&mut self, answers: Vec<(WorkloadId, Answer)>) {
        for (id, answer) in answers {
            match &mut self.broken {
                Some(broken) => broken.answers.push((id, answer)),
                None => {
                    self.feed(&id, Input::Done(answer)).await;
                }
            }
        }
    }

    /// Whoever is told of any workload.
    pub(super) fn everybody(&self) -> Vec<ReceiverName> {
        let all = self.fleet.iter().flat_map(|(_, controller)| controller.policy().notify.iter().cloned());
        let all: BTreeSet<ReceiverName> = all.collect();
        all.into_iter().collect()
    }

    fn page_about_journal(&mut self) {
        let now = (self.edges.now)();
        let receivers = self.everybody();
        let Some(broken) = &mut self.broken else { return };
        if Instant::now() < broken.page_at {
            return;
        }
        broken.page_at = Instant::now() + PAGE_AGAIN;
        broken.pages += 1;
        let Some(controller) = self.fleet.get(&broken.workload) else { return };
        let alert = narrate::journal_broken(controller.policy(), &broken.error.to_string(), broken.pages, now);
        self.edges.pager.page(Notice { alert, receivers });
    }
}
