//! Appending: records, and the messages that they cause, in one transaction.

use rusqlite::{Connection, Transaction, params};

use super::anchor::Anchor;
use super::entry::{self, integer, message_key, record_key};
use super::error::StoreError;
use super::outbox;
use super::schema::optional;
use crate::domain::incident::record::Record;
use crate::domain::time::Timestamp;
use crate::engine::ports::{Batch, Notice};

/// Writes a batch whole or not at all, and only where the next start would find it.
///
/// Where the operating system fails the last sync, SQLite reports the failure although the transaction may be found
/// after a power cut. An intent without its effect is what that leaves, and recovery proves each intent anyway.
pub(super) fn commit(connection: &mut Connection, batch: &Batch, anchor: &Anchor) -> Result<(), StoreError> {
    let committing = StoreError::failed("committing to the journal");
    let transaction = connection.transaction().map_err(&committing)?;
    for record in &batch.records {
        append(&transaction, record).map_err(|error| error.of(&record.workload))?;
    }
    let at = batch.records.iter().map(|record| record.at.as_millis()).max();
    for notice in &batch.notices {
        enqueue(&transaction, notice, at).map_err(|error| error.of(&notice.alert.workload))?;
    }
    anchor.holds()?;
    transaction.commit().map_err(&committing)
}

/// Writes the schema's version over itself: a transaction like any other, synced like any other.
pub(super) fn probe(connection: &mut Connection, anchor: &Anchor) -> Result<(), StoreError> {
    anchor.holds()?;
    let probing = StoreError::failed("writing to the journal");
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(&probing)?;
    connection.pragma_update(None, "user_version", version).map_err(&probing)
}

pub(super) fn append(transaction: &Transaction<'_>, record: &Record) -> Result<(), StoreError> {
    let appending = StoreError::failed("appending to the journal");
    let workload = record.workload.as_str();
    let last: Option<i64> = optional(
        transaction,
        "SELECT max(sequence) FROM (SELECT max(sequence) AS sequence FROM records WHERE workload = ?1
         UNION ALL SELECT sequence FROM snapshots WHERE workload = ?1)",
        [workload],
    )
    .map(Option::flatten)
    .map_err(&appending)?;
    let expected = entry::count(last.unwrap_or(0)) + 1;
    if record.sequence != expected {
        return Err(StoreError::OutOfOrder { workload: workload.to_owned(), sequence: record.sequence, expected });
    }
    let sequence = integer(record.sequence);
    let written = entry::write(&record_key(workload, sequence), record)?;
    let incident = record.incident.as_ref().map(|id| id.as_str());
    let at = record.at.as_millis();
    transaction
        .prepare_cached(
            "INSERT INTO records (workload, sequence, incident, at, body, digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .and_then(|mut s| s.execute(params![workload, sequence, incident, at, written.body, written.digest]))
        .map_err(&appending)?;
    if let Some(incident) = incident {
        let open = !record.event.ends_incident();
        transaction
            .prepare_cached(
                "INSERT INTO incidents (id, workload, first_at, last_at, last_event, open)
                 VALUES (?1, ?2, ?3, ?3, ?4, ?5)
                 ON CONFLICT (id) DO UPDATE
                 SET last_at = excluded.last_at, last_event = excluded.last_event, open = excluded.open",
            )
            .and_then(|mut s| s.execute(params![incident, workload, at, record.event.name(), open]))
            .map_err(&appending)?;
    }
    Ok(())
}

fn enqueue(transaction: &Transaction<'_>, notice: &Notice, at: Option<i64>) -> Result<(), StoreError> {
    if notice.receivers.is_empty() {
        return Ok(());
    }
    insert_message(transaction, notice, at)?;
    insert_deliveries(transaction, notice, at)?;
    // It waits behind what may be hours from its next attempt.
    let (incident, now) = (&notice.alert.incident, Timestamp::from_millis(at.unwrap_or(0)));
    notice.receivers.iter().try_for_each(|receiver| outbox::hasten(transaction, receiver, Some(incident), now))
}

/// Queues what is not in the outbox yet; what is stays as it is.
pub(super) fn enqueue_missing(transaction: &Transaction<'_>, notice: &Notice) -> Result<(), StoreError> {
    let known: Option<i64> = optional(transaction, "SELECT 1 FROM messages WHERE id = ?1", [&notice.alert.id])
        .map_err(StoreError::failed("reading the outbox"))?;
    if known.is_none() {
        insert_message(transaction, notice, None)?;
    }
    insert_deliveries(transaction, notice, None)
}

fn insert_message(transaction: &Transaction<'_>, notice: &Notice, at: Option<i64>) -> Result<(), StoreError> {
    let alert = &notice.alert;
    let (incident, sequence) = (alert.incident.as_str(), integer(alert.sequence));
    let written = entry::write(&message_key(&alert.id), alert)?;
    transaction
        .prepare_cached(
            "INSERT INTO messages (id, incident, sequence, created_at, body, digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .and_then(|mut s| s.execute(params![alert.id, incident, sequence, at, written.body, written.digest]))
        .map_err(StoreError::failed("queueing a message"))?;
    Ok(())
}

fn insert_deliveries(transaction: &Transaction<'_>, notice: &Notice, at: Option<i64>) -> Result<(), StoreError> {
    let enqueueing = StoreError::failed("queueing a message");
    let alert = &notice.alert;
    let (incident, sequence) = (alert.incident.as_str(), integer(alert.sequence));
    for receiver in &notice.receivers {
        transaction
            .prepare_cached(
                "INSERT INTO deliveries (message, receiver, incident, sequence, next_attempt_at)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (message, receiver) DO NOTHING",
            )
            .and_then(|mut s| s.execute(params![alert.id, receiver.as_str(), incident, sequence, at.unwrap_or(0)]))
            .map_err(&enqueueing)?;
    }
    Ok(())
}
