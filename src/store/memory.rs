//! What was seen of each workload lately, kept for the next start: the past that the next release is compared with.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::entry;
use super::error::StoreError;
use crate::domain::health::memory::Memory;
use crate::domain::id::WorkloadId;
use crate::domain::time::Timestamp;

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

/// A workload's, where one was kept.
pub(super) fn load(connection: &Connection, workload: &WorkloadId) -> Result<Option<Memory>, StoreError> {
    let reading = StoreError::failed("reading what was seen");
    let row: Option<(String, Vec<u8>)> = connection
        .prepare_cached("SELECT body, digest FROM memories WHERE workload = ?1")
        .and_then(|mut s| s.query_row([workload.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional())
        .map_err(&reading)?;
    row.map(|(body, digest)| entry::read(&key(workload.as_str()), &body, &digest)).transpose()
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
