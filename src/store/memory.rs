//! What was seen of each workload lately, kept for the next start: the past that the next release is compared with.

use rusqlite::{Connection, params};

use super::entry;
use super::error::StoreError;
use crate::domain::health::memory::Memory;
use crate::domain::id::WorkloadId;
use crate::domain::time::Timestamp;

/// A workload's memory, or why it can't be read.
pub type Remembered = Result<Memory, StoreError>;

/// Keeps one, in the place of an older one.
pub(super) fn save(
    connection: &mut Connection,
    workload: &WorkloadId,
    memory: &Memory,
    at: Timestamp,
) -> Result<(), StoreError> {
    let saving = StoreError::failed("keeping what was seen");
    let written = entry::write(&key(workload.as_str()), memory)?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO memories (workload, at, body, digest) VALUES (?1, ?2, ?3, ?4)")
        .and_then(|mut s| s.execute(params![workload.as_str(), at.as_millis(), written.body, written.digest]))
        .map_err(&saving)?;
    Ok(())
}

/// That of every workload that has one, by name.
pub(super) fn load(connection: &Connection) -> Result<Vec<(WorkloadId, Remembered)>, StoreError> {
    let reading = StoreError::failed("reading what was seen");
    let mut statement =
        connection.prepare_cached("SELECT workload, body, digest FROM memories ORDER BY workload").map_err(&reading)?;
    let mut rows = statement.query([]).map_err(&reading)?;
    let mut memories = Vec::new();
    while let Some(row) = rows.next().map_err(&reading)? {
        let columns = || -> rusqlite::Result<(String, String, Vec<u8>)> { Ok((row.get(0)?, row.get(1)?, row.get(2)?)) };
        let (workload, body, digest) = columns().map_err(&reading)?;
        let memory = entry::read(&key(&workload), &body, &digest);
        memories.push((WorkloadId::new(workload), memory));
    }
    Ok(memories)
}

/// Takes away what was written before `before`.
pub(super) fn prune(connection: &mut Connection, before: Timestamp) -> Result<(), StoreError> {
    connection
        .execute("DELETE FROM memories WHERE at < ?1", [before.as_millis()])
        .map_err(StoreError::failed("pruning what was seen"))?;
    Ok(())
}

fn key(workload: &str) -> String {
    format!("memory of {workload}")
}
