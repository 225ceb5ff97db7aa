//! Taking in what another replica recorded: its records as one's own, so that recovery, history and reports need not know
//! who wrote them.

use std::collections::BTreeSet;

use rusqlite::{Connection, Transaction, params};

use super::append;
use super::entry::{self, integer, record_key, snapshot_key};
use super::error::StoreError;
use super::schema::optional;
use super::shared::Untold;
use crate::domain::id::ReceiverName;
use crate::domain::incident::record::Record;
use crate::domain::incident::state::WorkloadState;
use crate::engine::ports::Notice;

/// What another replica recorded of one workload.
#[derive(Clone, Debug)]
pub(super) struct Import {
    /// The state before the first of the records.
    pub(super) base: WorkloadState,
    /// In order, without gaps.
    pub(super) records: Vec<Record>,
    /// The workload's name.
    pub(super) workload: String,
    /// The open incident after them all.
    pub(super) open: Option<String>,
}

/// Takes in what is not there yet. What contradicts it goes: this is what replicas agreed on.
pub(super) fn import(connection: &mut Connection, imports: &[Import]) -> Result<(), StoreError> {
    let importing = StoreError::failed("taking in records of another replica");
    let transaction = connection.transaction().map_err(&importing)?;
    for import in imports {
        one(&transaction, import)?;
    }
    transaction.commit().map_err(&importing)
}

fn one(transaction: &Transaction<'_>, import: &Import) -> Result<(), StoreError> {
    let importing = StoreError::failed("taking in records of another replica");
    let Import { base, records, workload, open } = import;
    let kept = records.iter().take_while(|record| is_known(transaction, workload, record).unwrap_or(false)).count();
    let last = integer(base.sequence) + integer(kept as u64);
    let gone = transaction
        .execute("DELETE FROM records WHERE workload = ?1 AND sequence > ?2", params![workload, last])
        .map_err(&importing)?;
    if gone > 0 {
        tracing::warn!(%workload, records = gone, "records that the other replicas do not have are taken off the journal");
    }
    if base.sequence > 0 && (gone > 0 || !reaches(transaction, workload, integer(base.sequence))?) {
        let written = entry::write(&snapshot_key(workload, integer(base.sequence)), base)?;
        transaction
            .execute(
                "INSERT OR REPLACE INTO snapshots (workload, sequence, body, digest) VALUES (?1, ?2, ?3, ?4)",
                params![workload, integer(base.sequence), written.body, written.digest],
            )
            .map_err(&importing)?;
    }
    for record in records.iter().skip(kept) {
        append::append(transaction, record)?;
    }
    // An incident whose last records were missed would stay open for ever.
    transaction
        .execute(
            "UPDATE incidents SET open = 0 WHERE workload = ?1 AND open = 1 AND id IS NOT ?2",
            params![workload, open],
        )
        .map_err(&importing)?;
    Ok(())
}

/// Whether the journal has this very record.
fn is_known(transaction: &Transaction<'_>, workload: &str, record: &Record) -> Result<bool, StoreError> {
    let sequence = integer(record.sequence);
    let sql = "SELECT digest FROM records WHERE workload = ?1 AND sequence = ?2";
    let known: Option<Vec<u8>> =
        optional(transaction, sql, params![workload, sequence]).map_err(StoreError::failed("reading records"))?;
    let written = entry::write(&record_key(workload, sequence), record)?;
    Ok(known.is_some_and(|digest| digest == written.digest))
}

/// Whether the journal knows the state at this point: by its records, or by a snapshot.
fn reaches(transaction: &Transaction<'_>, workload: &str, sequence: i64) -> Result<bool, StoreError> {
    let sql = "SELECT max(sequence) FROM (SELECT max(sequence) AS sequence FROM records WHERE workload = ?1
               UNION ALL SELECT sequence FROM snapshots WHERE workload = ?1)";
    let last: Option<i64> =
        optional(transaction, sql, [workload]).map(Option::flatten).map_err(StoreError::failed("reading records"))?;
    Ok(last.is_some_and(|last| last >= sequence))
}

/// Puts the messages of these incidents into the outbox that have not arrived anywhere yet, where they are not in it. All
/// others of these incidents have arrived: they are not sent again.
pub(super) fn enqueue(connection: &mut Connection, notices: &[Notice], incidents: &[String]) -> Result<(), StoreError> {
    let enqueueing = StoreError::failed("queueing messages of another replica");
    let transaction = connection.transaction().map_err(&enqueueing)?;
    for notice in notices {
        append::enqueue_missing(&transaction, notice)?;
    }
    let is_untold = |(message, receiver): &(String, String)| {
        let named = |known: &ReceiverName| known.as_str() == receiver;
        notices.iter().any(|notice| notice.alert.id == *message && notice.receivers.iter().any(named))
    };
    for incident in incidents {
        for (message, receiver) in waiting_of(&transaction, incident)?.iter().filter(|delivery| !is_untold(delivery)) {
            transaction
                .execute(
                    "UPDATE deliveries SET state = 1, settled_at = next_attempt_at, error = NULL
                     WHERE message = ?1 AND receiver = ?2 AND state = 0",
                    params![message, receiver],
                )
                .map_err(&enqueueing)?;
        }
    }
    transaction.commit().map_err(&enqueueing)
}

fn waiting_of(transaction: &Transaction<'_>, incident: &str) -> Result<Vec<(String, String)>, StoreError> {
    let reading = StoreError::failed("reading the outbox");
    let sql = "SELECT message, receiver FROM deliveries WHERE incident = ?1 AND state = 0";
    let mut statement = transaction.prepare_cached(sql).map_err(&reading)?;
    let rows = statement.query_map([incident], |row| Ok((row.get(0)?, row.get(1)?))).map_err(&reading)?;
    rows.collect::<Result<_, _>>().map_err(&reading)
}

/// Which of these messages, by id and receiver, still wait.
pub(super) fn waiting(connection: &Connection, deliveries: &[Untold]) -> Result<BTreeSet<Untold>, StoreError> {
    let reading = StoreError::failed("reading the outbox");
    let sql = "SELECT 1 FROM deliveries WHERE message = ?1 AND receiver = ?2 AND state = 0";
    let mut waiting = BTreeSet::new();
    for untold in deliveries {
        let row: Option<i64> =
            optional(connection, sql, params![untold.message, untold.receiver.as_str()]).map_err(&reading)?;
        if row.is_some() {
            waiting.insert(untold.clone());
        }
    }
    Ok(waiting)
}

#[cfg(test)]
mod tests;
