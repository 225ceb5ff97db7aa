//! Reading: on a connection of its own, so that a long report never holds up a record.

use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use super::entry::{self, record_key};
use super::error::StoreError;
use super::fold::{self, Folded};
use super::memory;
use super::outbox::{self, OutboxStats, ParkedMessage, Undelivered};
use super::points::{self, Point};
use super::worker::Worker;
use crate::domain::health::memory::Memory;
use crate::domain::id::{IncidentId, WorkloadId};
use crate::domain::incident::record::Record;
use crate::domain::incident::report::Receipt;
use crate::domain::time::Timestamp;

/// Records of one incident that are read at most; a thousand times what an ordinary one has.
pub const INCIDENT_RECORDS_LIMIT: usize = 20_000;

/// The journal, for those who only read. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    worker: Arc<Worker>,
}

/// An incident in a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IncidentSummary {
    /// Its name.
    pub id: IncidentId,
    /// Whose.
    pub workload: WorkloadId,
    /// Time of its first record.
    pub first_at: Timestamp,
    /// Time of its newest record.
    pub last_at: Timestamp,
    /// Name of its newest record's event.
    pub last_event: String,
    /// Whether it is still open.
    pub open: bool,
}

impl Reader {
    pub(super) fn new(worker: Worker) -> Self {
        Self { worker: Arc::new(worker) }
    }

    /// The newest `limit` records of a workload, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] where the journal can't be read or an entry is damaged.
    pub async fn records(&self, workload: &WorkloadId, limit: usize) -> Result<Vec<Record>, StoreError> {
        let workload = workload.clone();
        self.worker
            .call(move |connection| {
                let sql = "SELECT workload, sequence, body, digest FROM records WHERE workload = ?1
                           ORDER BY sequence DESC LIMIT ?2";
                let mut records = select(connection, sql, params![workload.as_str(), bound(limit)])?;
                records.reverse();
                Ok(records)
            })
            .await
    }

    /// The newest records of all workloads that are not older than `from`, oldest first, at most `limit`; and whether there
    /// are more of them.
    ///
    /// # Errors
    /// [`StoreError`] where the journal can't be read or an entry is damaged.
    pub async fn records_from(&self, from: Timestamp, limit: usize) -> Result<(Vec<Record>, bool), StoreError> {
        let workloads = self.workloads().await?;
        self.worker.call(move |connection| records_from(connection, &workloads, from, limit)).await
    }

    /// The records of an incident, oldest first, [`INCIDENT_RECORDS_LIMIT`] at most; empty where it is not known.
    ///
    /// # Errors
    /// [`StoreError`] where the journal can't be read or an entry is damaged.
    pub async fn incident_records(&self, incident: &IncidentId) -> Result<Vec<Record>, StoreError> {
        let incident = incident.clone();
        self.worker
            .call(move |connection| {
                let sql = "SELECT workload, sequence, body, digest FROM records WHERE incident = ?1
                           ORDER BY sequence LIMIT ?2";
                select(connection, sql, params![incident.as_str(), bound(INCIDENT_RECORDS_LIMIT)])
            })
            .await
    }

    /// Every workload that has records, by name.
    ///
    /// # Errors
    /// [`StoreError`] where the journal can't be read.
    pub async fn workloads(&self) -> Result<Vec<WorkloadId>, StoreError> {
        self.worker
            .call(|connection| {
                let reading = StoreError::failed("reading the workloads");
                let sql = "SELECT workload FROM records UNION SELECT workload FROM snapshots ORDER BY 1";
                let mut statement = connection.prepare_cached(sql).map_err(&reading)?;
                let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(&reading)?;
                rows.map(|name| name.map(WorkloadId::new)).collect::<Result<_, _>>().map_err(&reading)
            })
            .await
    }

    /// Incidents, newest first: of one workload or of all, at most `limit`, those after `after` in that order where
    /// a list goes on.
    ///
    /// # Errors
    /// [`StoreError`] where the journal can't be read.
    pub async fn incidents(
        &self,
        workload: Option<&WorkloadId>,
        limit: usize,
        after: Option<&IncidentId>,
    ) -> Result<Vec<IncidentSummary>, StoreError> {
        let (workload, after) = (workload.cloned(), after.cloned());
        self.worker
            .call(move |connection| {
                let reading = StoreError::failed("reading the incidents");
                // Two texts, so that each has an index of its own to walk.
                let whose = if workload.is_some() { "workload = ?1" } else { "?1 IS NULL" };
                let sql = format!(
                    "SELECT id, workload, first_at, last_at, last_event, open FROM incidents WHERE {whose}
                     AND (?2 IS NULL OR (first_at, id) < (SELECT first_at, id FROM incidents WHERE id = ?2))
                     ORDER BY first_at DESC, id DESC LIMIT ?3"
                );
                let mut statement = connection.prepare_cached(&sql).map_err(&reading)?;
                let parameters = params![
                    workload.as_ref().map(WorkloadId::as_str),
                    after.as_ref().map(IncidentId::as_str),
                    bound(limit)
                ];
                let rows = statement.query_map(parameters, summary).map_err(&reading)?;
                rows.collect::<Result<_, _>>().map_err(&reading)
            })
            .await
    }

    /// One incident's line; none where it is not known.
    ///
    /// # Errors
    /// [`StoreError`] where the journal can't be read.
    pub async fn incident(&self, id: &IncidentId) -> Result<Option<IncidentSummary>, StoreError> {
        let id = id.clone();
        self.worker
            .call(move |connection| {
                let reading = StoreError::failed("reading an incident");
                let sql = "SELECT id, workload, first_at, last_at, last_event, open FROM incidents WHERE id = ?1";
                let mut statement = connection.prepare_cached(sql).map_err(&reading)?;
                let mut rows = statement.query_map([id.as_str()], summary).map_err(&reading)?;
                rows.next().transpose().map_err(&reading)
            })
            .await
    }

    /// Each workload's state: the fold of all its records. A workload whose records are damaged or contradict one
    /// another has its error in its place; the others are not held up by it.
    ///
    /// # Errors
    /// [`StoreError`] where the journal can't be read at all.
    pub async fn fold(&self) -> Result<Vec<(WorkloadId, Folded)>, StoreError> {
        self.worker.call(|connection| fold::all(connection)).await
    }

    /// The kept readings of an incident's signals, by signal and time.
    ///
    /// # Errors
    /// [`StoreError`] where the journal can't be read.
    pub async fn points(&self, incident: &IncidentId) -> Result<Vec<Point>, StoreError> {
        let incident = incident.clone();
        self.worker.call(move |connection| points::load(connection, &incident)).await
    }

    /// What was kept of a workload's windows, where anything was.
    ///
    /// # Errors
    /// [`StoreError`] where the journal can't be read, or the memory is damaged.
    pub async fn memory(&self, workload: &WorkloadId) -> Result<Option<Memory>, StoreError> {
        let workload = workload.clone();
        self.worker.call(move |connection| memory::load(connection, &workload)).await
    }

    /// How much waits in the outbox, and since when.
    ///
    /// # Errors
    /// [`StoreError`] where the journal can't be read.
    pub async fn outbox(&self) -> Result<OutboxStats, StoreError> {
        self.worker.call(|connection| outbox::stats(connection)).await
    }

    /// What became of an incident's messages, by position and receiver; without those that were pruned.
    ///
    /// # Errors
    /// [`StoreError`] where the journal can't be read.
    pub async fn receipts(&self, incident: &IncidentId) -> Result<Vec<(u64, Receipt)>, StoreError> {
        let incident = incident.clone();
        self.worker.call(move |connection| outbox::receipts(connection, &incident)).await
    }

    /// What could not be delivered yet, by receiver.
    ///
    /// # Errors
    /// [`StoreError`] where the journal can't be read.
    pub async fn undelivered(&self) -> Result<Vec<Undelivered>, StoreError> {
        self.worker.call(|connection| outbox::undelivered(connection)).await
    }

    /// The newest `limit` messages that were given up, newest first.
    ///
    /// # Errors
    /// [`StoreError`] where the journal can't be read.
    pub async fn parked(&self, limit: usize) -> Result<Vec<ParkedMessage>, StoreError> {
        self.worker.call(move |connection| outbox::parked(connection, bound(limit))).await
    }

    pub(super) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.worker.call(job).await
    }
}

/// A caller's limit as SQLite counts.
pub(super) fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The newest records of several workloads, no matter how many are offered.
struct Newest {
    limit: usize,
    /// What is older is left out.
    from: Timestamp,
    found: Vec<Record>,
}

impl Newest {
    /// Whether older records of the same workload may matter.
    fn offer(&mut self, record: Record) -> bool {
        if record.at < self.from {
            return false;
        }
        self.found.push(record);
        if self.found.len() > self.limit.saturating_add(1).saturating_mul(2) {
            self.cut_to(self.limit + 1);
            self.from = self.found.last().map_or(self.from, |oldest| oldest.at);
        }
        true
    }

    fn cut_to(&mut self, limit: usize) {
        self.found.sort_by_key(|record| std::cmp::Reverse((record.at, record.sequence)));
        self.found.truncate(limit);
    }

    /// They, oldest first, and whether there are more.
    fn into_records(mut self) -> (Vec<Record>, bool) {
        let is_cut = self.found.len() > self.limit;
        self.cut_to(self.limit);
        self.found.reverse();
        (self.found, is_cut)
    }
}

/// A workload's records are in the order of their times, so that each is walked from its newest back.
fn records_from(
    connection: &Connection,
    workloads: &[WorkloadId],
    from: Timestamp,
    limit: usize,
) -> Result<(Vec<Record>, bool), StoreError> {
    let reading = StoreError::failed("reading records");
    let sql =
        "SELECT workload, sequence, body, digest FROM records WHERE workload = ?1 ORDER BY sequence DESC LIMIT ?2";
    let mut statement = connection.prepare_cached(sql).map_err(&reading)?;
    let mut newest = Newest { limit, from, found: Vec::new() };
    for workload in workloads {
        let mut rows = statement.query(params![workload.as_str(), bound(limit.saturating_add(1))]).map_err(&reading)?;
        while let Some(row) = rows.next().map_err(&reading)? {
            if !newest.offer(record(row)?) {
                break;
            }
        }
    }
    Ok(newest.into_records())
}

/// Rows of workload, sequence, body and digest.
fn select(connection: &Connection, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<Record>, StoreError> {
    let reading = StoreError::failed("reading records");
    let mut statement = connection.prepare_cached(sql).map_err(&reading)?;
    let mut rows = statement.query(parameters).map_err(&reading)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next().map_err(&reading)? {
        records.push(record(row)?);
    }
    Ok(records)
}

/// A row of workload, sequence, body and digest.
pub(super) fn record(row: &Row<'_>) -> Result<Record, StoreError> {
    let columns = || -> rusqlite::Result<(String, i64, String, Vec<u8>)> {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    };
    let (workload, sequence, body, digest) = columns().map_err(StoreError::failed("reading records"))?;
    entry::read(&record_key(&workload, sequence), &body, &digest)
}

fn summary(row: &Row<'_>) -> rusqlite::Result<IncidentSummary> {
    Ok(IncidentSummary {
        id: IncidentId::new(row.get::<_, String>(0)?),
        workload: WorkloadId::new(row.get::<_, String>(1)?),
        first_at: Timestamp::from_millis(row.get(2)?),
        last_at: Timestamp::from_millis(row.get(3)?),
        last_event: row.get(4)?,
        open: row.get(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::incident::record::Event;

    #[test]
    fn however_many_records_there_are_few_are_held_and_the_newest_come_out() {
        let record = |workload: i64, sequence: i64| Record {
            workload: WorkloadId::new(format!("w{workload}")),
            sequence: sequence.unsigned_abs(),
            incident: None,
            at: Timestamp::from_millis(sequence * 100 + workload),
            event: Event::Resumed { by: "ops".to_owned() },
        };
        let mut newest = Newest { limit: 10, from: Timestamp::from_millis(200), found: Vec::new() };
        let (mut most, mut offered) = (0, 0);
        for workload in 0..100 {
            for sequence in (0..=1_000).rev() {
                offered += 1;
                if !newest.offer(record(workload, sequence)) {
                    break;
                }
                most = most.max(newest.found.len());
            }
        }
        assert!(most <= 22, "{most} are held at once");
        assert!(offered <= 1_500, "{offered} are looked at");
        let (records, is_cut) = newest.into_records();
        let times: Vec<i64> = records.iter().map(|record| record.at.as_millis()).collect();
        assert_eq!((times, is_cut), ((100_090..100_100).collect(), true));
        let mut few = Newest { limit: 10, from: Timestamp::from_millis(200), found: Vec::new() };
        let offered: Vec<bool> = (0..5).rev().map(|sequence| few.offer(record(0, sequence))).collect();
        assert_eq!(offered, [true, true, true, false, false]);
        assert_eq!(few.into_records(), ((2..5).map(|sequence| record(0, sequence)).collect(), false));
    }
}
