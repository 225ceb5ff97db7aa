//! The past, as the server needs it.

use futures::future::BoxFuture;
use serde::Serialize;

use crate::domain::id::{IncidentId, WorkloadId};
use crate::domain::incident::alert::Phase;
use crate::domain::incident::record::Record;
use crate::domain::incident::report::{Readings, Receipt};
use crate::domain::time::Timestamp;
use crate::store::{IncidentSummary, ParkedMessage, Reader, StoreError, Undelivered};
use crate::telemetry::OutboxLevel;

/// The journal could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the journal can't be read")]
pub struct HistoryError(#[from] StoreError);

/// An incident in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct IncidentEntry {
    /// Its name.
    pub incident: IncidentId,
    /// Whose.
    pub workload: WorkloadId,
    /// Where it is, or ended.
    pub phase: Phase,
    /// Whether it is still open.
    pub open: bool,
    /// Time of its first record.
    pub began: Timestamp,
    /// Time of its newest record.
    pub updated: Timestamp,
}

/// Reads the past.
pub trait History: Send + Sync + 'static {
    /// Incidents, newest first: of one workload or of all, at most `limit`, those before `before` where a list goes on.
    fn incidents(
        &self,
        workload: Option<WorkloadId>,
        limit: usize,
        before: Option<IncidentId>,
    ) -> BoxFuture<'_, Result<Vec<IncidentEntry>, HistoryError>>;

    /// The records of an incident, oldest first; empty where it is not known.
    fn records(&self, incident: IncidentId) -> BoxFuture<'_, Result<Vec<Record>, HistoryError>>;

    /// The newest records of all workloads that are not older than `from`, oldest first, at most `limit`; and whether there
    /// are more of them.
    fn records_from(&self, from: Timestamp, limit: usize) -> BoxFuture<'_, Result<(Vec<Record>, bool), HistoryError>>;

    /// The kept readings of an incident's signals.
    fn readings(&self, incident: IncidentId) -> BoxFuture<'_, Result<Readings, HistoryError>>;

    /// What became of an incident's messages, by position and receiver.
    fn receipts(&self, incident: IncidentId) -> BoxFuture<'_, Result<Vec<(u64, Receipt)>, HistoryError>>;

    /// What waits in the outbox.
    fn outbox(&self, now: Timestamp) -> BoxFuture<'_, Result<OutboxLevel, HistoryError>>;

    /// What could not be delivered yet, by receiver.
    fn undelivered(&self) -> BoxFuture<'_, Result<Vec<Undelivered>, HistoryError>>;

    /// The newest `limit` messages that were given up, newest first.
    fn given_up(&self, limit: usize) -> BoxFuture<'_, Result<Vec<ParkedMessage>, HistoryError>>;
}

impl History for Reader {
    fn incidents(
        &self,
        workload: Option<WorkloadId>,
        limit: usize,
        before: Option<IncidentId>,
    ) -> BoxFuture<'_, Result<Vec<IncidentEntry>, HistoryError>> {
        Box::pin(async move {
            let found = Reader::incidents(self, workload.as_ref(), limit, before.as_ref()).await?;
            Ok(found.into_iter().map(IncidentEntry::from).collect())
        })
    }

    fn records(&self, incident: IncidentId) -> BoxFuture<'_, Result<Vec<Record>, HistoryError>> {
        Box::pin(async move { Ok(self.incident_records(&incident).await?) })
    }

    fn records_from(&self, from: Timestamp, limit: usize) -> BoxFuture<'_, Result<(Vec<Record>, bool), HistoryError>> {
        Box::pin(async move { Ok(Reader::records_from(self, from, limit).await?) })
    }

    fn readings(&self, incident: IncidentId) -> BoxFuture<'_, Result<Readings, HistoryError>> {
        Box::pin(async move {
            let mut readings = Readings::default();
            for point in self.points(&incident).await? {
                let reading = (point.at, Some(point.value));
                match readings.signals.last_mut() {
                    Some((signal, points)) if *signal == point.signal => points.push(reading),
                    Some(_) | None => readings.signals.push((point.signal, vec![reading])),
                }
            }
            Ok(readings)
        })
    }

    fn receipts(&self, incident: IncidentId) -> BoxFuture<'_, Result<Vec<(u64, Receipt)>, HistoryError>> {
        Box::pin(async move { Ok(Reader::receipts(self, &incident).await?) })
    }

    fn undelivered(&self) -> BoxFuture<'_, Result<Vec<Undelivered>, HistoryError>> {
        Box::pin(async move { Ok(Reader::undelivered(self).await?) })
    }

    fn given_up(&self, limit: usize) -> BoxFuture<'_, Result<Vec<ParkedMessage>, HistoryError>> {
        Box::pin(async move { Ok(Reader::parked(self, limit).await?) })
    }

    fn outbox(&self, now: Timestamp) -> BoxFuture<'_, Result<OutboxLevel, HistoryError>> {
        Box::pin(async move {
            let stats = Reader::outbox(self).await?;
            Ok(OutboxLevel {
                waiting: stats.waiting,
                parked: stats.parked,
                oldest_seconds: stats.oldest.map_or(0.0, |oldest| now.since(oldest).as_secs_f64()),
            })
        })
    }
}

impl From<IncidentSummary> for IncidentEntry {
    fn from(summary: IncidentSummary) -> Self {
        Self {
            phase: phase_after(&summary.last_event),
            incident: summary.id,
            workload: summary.workload,
            open: summary.open,
            began: summary.first_at,
            updated: summary.last_at,
        }
    }
}

/// The phase that a record of this name leaves an incident in; the journal keeps the name of the newest.
fn phase_after(event: &str) -> Phase {
    match event {
        "detected" => Phase::Detected,
        "held" | "rejected" => Phase::Held,
        "approved" => Phase::AwaitingApproval,
        "planned" | "step-started" | "step-finished" => Phase::Started,
        "verifying" | "smoke-started" | "smoke-finished" => Phase::Verifying,
        "restored" => Phase::Restored,
        "failed" => Phase::Failed,
        "escalated" => Phase::Escalated,
        "closed" | "refused" => Phase::Closed,
        _ => Phase::Suspected,
    }
}
