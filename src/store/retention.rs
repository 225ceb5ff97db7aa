//! Bounded growth: what is over and old goes; what is open stays, and so does all that was learned.

use rusqlite::{Connection, Transaction, params};

use super::entry::{self, integer, snapshot_key};
use super::error::StoreError;
use super::fold::snapshot;
use super::reader::record;
use crate::domain::incident::state::WorkloadState;
use crate::domain::time::{Span, Timestamp};

/// How long records, readings and settled messages are kept: a year, and a month to look back at it.
pub const RETENTION: Span = Span::from_secs(400 * 24 * 3600);

/// What a pruning took away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pruned {
    /// Records, folded into their workload's snapshot.
    pub records: u64,
    /// Incidents, all of whose records are gone.
    pub incidents: u64,
    /// Messages that were sent or parked everywhere.
    pub messages: u64,
}

/// Takes away messages that were settled before `before`.
pub(super) fn prune_messages(connection: &mut Connection, before: Timestamp) -> Result<u64, StoreError> {
    let pruning = StoreError::failed("pruning messages");
    let transaction = connection.transaction().map_err(&pruning)?;
    transaction
        .execute("DELETE FROM deliveries WHERE state <> 0 AND settled_at < ?1", [before.as_millis()])
        .map_err(&pruning)?;
    let gone = transaction
        .execute("DELETE FROM messages WHERE NOT EXISTS (SELECT 1 FROM deliveries WHERE message = messages.id)", [])
        .map_err(&pruning)?;
    transaction.commit().map_err(&pruning)?;
    Ok(gone as u64)
}

/// Folds a workload's records from before `before` into its snapshot, up to the last one after which no incident was
/// open, and takes them away with the incidents that they tell of.
pub(super) fn prune_workload(
    connection: &mut Connection,
    workload: &str,
    before: Timestamp,
) -> Result<Pruned, StoreError> {
    let pruning = StoreError::failed("pruning records");
    let transaction = connection.transaction().map_err(&pruning)?;
    let Some(state) = state_at_cut(&transaction, workload, before)? else { return Ok(Pruned::default()) };
    let cut = integer(state.sequence);
    let written = entry::write(&snapshot_key(workload, cut), &state)?;
    transaction
        .execute(
            "INSERT OR REPLACE INTO snapshots (workload, sequence, body, digest) VALUES (?1, ?2, ?3, ?4)",
            params![workload, cut, written.body, written.digest],
        )
        .map_err(&pruning)?;
    let records = transaction
        .execute("DELETE FROM records WHERE workload = ?1 AND sequence <= ?2", params![workload, cut])
        .map_err(&pruning)?;
    let untold = "open = 0 AND workload = ?1 AND NOT EXISTS (SELECT 1 FROM records WHERE incident = incidents.id)";
    transaction
        .execute(&format!("DELETE FROM points WHERE incident IN (SELECT id FROM incidents WHERE {untold})"), [workload])
        .map_err(&pruning)?;
    let incidents =
        transaction.execute(&format!("DELETE FROM incidents WHERE {untold}"), [workload]).map_err(&pruning)?;
    transaction.commit().map_err(&pruning)?;
    Ok(Pruned { records: records as u64, incidents: incidents as u64, messages: 0 })
}

/// The state after the last record before `before` that leaves no incident open; none where there is no such record.
fn state_at_cut(
    transaction: &Transaction<'_>,
    workload: &str,
    before: Timestamp,
) -> Result<Option<WorkloadState>, StoreError> {
    let reading = StoreError::failed("reading what to prune");
    let mut state = snapshot(transaction, workload)?;
    let mut cut = None;
    let sql = "SELECT workload, sequence, body, digest, at FROM records WHERE workload = ?1 AND sequence > ?2
               ORDER BY sequence";
    let mut statement = transaction.prepare_cached(sql).map_err(&reading)?;
    let mut rows = statement.query(params![workload, integer(state.sequence)]).map_err(&reading)?;
    while let Some(row) = rows.next().map_err(&reading)? {
        if row.get::<_, i64>(4).map_err(&reading)? >= before.as_millis() {
            break;
        }
        state.apply(&record(row)?)?;
        if state.incident.is_none() {
            cut = Some(state.clone());
        }
    }
    Ok(cut)
}

/// Gives freed pages back to the file system.
pub(super) fn shrink(connection: &Connection) -> Result<(), StoreError> {
    let shrinking = StoreError::failed("shrinking the journal");
    let mut statement = connection.prepare("PRAGMA incremental_vacuum").map_err(&shrinking)?;
    let mut rows = statement.query([]).map_err(&shrinking)?;
    while rows.next().map_err(&shrinking)?.is_some() {}
    Ok(())
}

impl std::ops::AddAssign for Pruned {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.incidents += other.incidents;
        self.messages += other.messages;
    }
}
