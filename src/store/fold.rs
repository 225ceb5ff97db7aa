//! From entries to state: the snapshot, where older records were pruned, and every record after it.

use rusqlite::{Connection, params};

use super::entry::{self, count, integer, snapshot_key};
use super::error::StoreError;
use super::reader::record;
use crate::domain::id::WorkloadId;
use crate::domain::incident::state::WorkloadState;

/// A workload's state, or why its records give none.
pub type Folded = Result<WorkloadState, StoreError>;

/// Every workload's state, by name. A read that fails says nothing of the workload whose turn it was.
pub(super) fn all(connection: &Connection) -> Result<Vec<(WorkloadId, Folded)>, StoreError> {
    let reading = StoreError::failed("reading the journal");
    let sql = "SELECT workload FROM records UNION SELECT workload FROM snapshots ORDER BY 1";
    let mut statement = connection.prepare_cached(sql).map_err(&reading)?;
    let names: Result<Vec<String>, _> = statement.query_map([], |row| row.get(0)).map_err(&reading)?.collect();
    let names = names.map_err(&reading)?;
    let fold = |name: String| match one(connection, &name) {
        Err(error) if error.is_of_the_read() => Err(error),
        folded => Ok((WorkloadId::new(&name), folded)),
    };
    names.into_iter().map(fold).collect()
}

/// One workload's state; the empty one where it is not known. Records that another replica's state stands for are history.
pub(super) fn one(connection: &Connection, workload: &str) -> Folded {
    let reading = StoreError::failed("reading the journal");
    let mut state = snapshot(connection, workload)?;
    let sql = "SELECT workload, sequence, body, digest FROM records WHERE workload = ?1 AND sequence > ?2
               ORDER BY sequence";
    let mut statement = connection.prepare_cached(sql).map_err(&reading)?;
    let mut rows = statement.query(params![workload, integer(state.sequence)]).map_err(&reading)?;
    while let Some(row) = rows.next().map_err(&reading)? {
        state.apply(&record(row)?)?;
    }
    Ok(state)
}

/// The state that pruned records had folded into; the empty one where nothing was pruned.
pub(super) fn snapshot(connection: &Connection, workload: &str) -> Result<WorkloadState, StoreError> {
    let reading = StoreError::failed("reading a snapshot");
    let sql = "SELECT sequence, body, digest FROM snapshots WHERE workload = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(&reading)?;
    let mut rows = statement.query([workload]).map_err(&reading)?;
    let Some(row) = rows.next().map_err(&reading)? else { return Ok(WorkloadState::default()) };
    let columns = || -> rusqlite::Result<(i64, String, Vec<u8>)> { Ok((row.get(0)?, row.get(1)?, row.get(2)?)) };
    let (sequence, body, digest) = columns().map_err(&reading)?;
    let key = snapshot_key(workload, sequence);
    let state: WorkloadState = entry::read(&key, &body, &digest)?;
    if state.sequence == count(sequence) {
        Ok(state)
    } else {
        Err(StoreError::Damaged { what: key, why: format!("it holds the state after record {}", state.sequence) })
    }
}
