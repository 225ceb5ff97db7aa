//! The outbox: which message goes to whom, how often that was tried, and when it is tried again.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;

use super::entry::{self, message_key};
use super::error::StoreError;
use crate::domain::id::{IncidentId, ReceiverName};
use crate::domain::incident::alert::Alert;
use crate::domain::incident::report::{Receipt, ReceiptState};
use crate::domain::time::{Span, Timestamp};
use crate::engine::ports::{Delivery, Settled, Settlement};

/// A next attempt that is this near is left to its time.
const SOON: Span = Span::from_secs(60);

/// Longest time that a message waits where there is no receiver at all: about as long as one that does not take it is tried.
const NOBODY_LIMIT: Span = Span::from_secs(48 * 3600);

/// Why such a message is not delivered yet.
const NOBODY: &str = "there is no receiver in the policy";

/// How much waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OutboxStats {
    /// Deliveries that are neither sent nor parked.
    pub waiting: u64,
    /// Deliveries that were given up and not yet pruned.
    pub parked: u64,
    /// When the oldest waiting message was caused.
    pub oldest: Option<Timestamp>,
}

/// A message that was given up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParkedMessage {
    /// Its id.
    pub id: String,
    /// For whom it was.
    pub receiver: ReceiverName,
    /// When it was given up.
    pub at: Timestamp,
    /// Attempts made.
    pub attempts: u32,
    /// Why.
    pub why: String,
}

/// What could not be delivered to a receiver yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Undelivered {
    /// For whom it is.
    pub receiver: ReceiverName,
    /// How many messages wait.
    pub waiting: u64,
    /// When the oldest of them was caused.
    pub oldest_at: Timestamp,
    /// Why the one that was tried most often did not get there.
    pub why: String,
}

/// Of each incident, the first message that is neither sent nor parked, where its time has come.
pub(super) fn due(
    connection: &Connection,
    receiver: &ReceiverName,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<Delivery>, StoreError> {
    let reading = StoreError::failed("reading the outbox");
    let sql = "SELECT d.message, d.attempts, m.body, m.digest
               FROM deliveries d JOIN messages m ON m.id = d.message
               WHERE d.state = 0 AND d.receiver = ?1 AND d.next_attempt_at <= ?2
               AND NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.state = 0 AND e.receiver = d.receiver
                               AND e.incident = d.incident AND e.sequence < d.sequence)
               ORDER BY d.next_attempt_at, d.incident LIMIT ?3";
    let mut statement = connection.prepare_cached(sql).map_err(&reading)?;
    let rows = statement
        .query_map(params![receiver.as_str(), now.as_millis(), limit], |row| {
            let id: String = row.get(0)?;
            let (body, digest): (String, Vec<u8>) = (row.get(2)?, row.get(3)?);
            let alert = entry::read::<Alert>(&message_key(&id), &body, &digest);
            let alert = alert.map(Box::new).map_err(|e| e.to_string());
            Ok(Delivery { id, alert, attempts: row.get(1)? })
        })
        .map_err(&reading)?;
    rows.collect::<Result<_, _>>().map_err(&reading)
}

/// When the next message of this receiver is to be sent.
pub(super) fn next_due(connection: &Connection, receiver: &ReceiverName) -> Result<Option<Timestamp>, StoreError> {
    let sql = "SELECT d.next_attempt_at FROM deliveries d
               WHERE d.state = 0 AND d.receiver = ?1
               AND NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.state = 0 AND e.receiver = d.receiver
                               AND e.incident = d.incident AND e.sequence < d.sequence)
               ORDER BY d.next_attempt_at LIMIT 1";
    connection
        .prepare_cached(sql)
        .and_then(|mut s| s.query_row([receiver.as_str()], |row| row.get(0)).optional())
        .map(|at| at.map(Timestamp::from_millis))
        .map_err(StoreError::failed("reading the outbox"))
}

/// Keeps how attempts ended. What was settled before stays as it is.
pub(super) fn settle(connection: &mut Connection, settlements: &[Settlement]) -> Result<(), StoreError> {
    let settling = StoreError::failed("settling deliveries");
    let transaction = connection.transaction().map_err(&settling)?;
    for settlement in settlements {
        let at = settlement.at.as_millis();
        let (state, next, asked, settled, error) = match &settlement.outcome {
            Settled::Sent => (1, at, None, Some(at), None),
            Settled::Again { at: next, asked, error } => (0, next.as_millis(), *asked, None, Some(error)),
            Settled::Parked { why } => (2, at, None, Some(at), Some(why)),
        };
        let not_before = asked.map_or(0, |asked| asked.as_millis());
        transaction
            .prepare_cached(
                "UPDATE deliveries SET state = ?3, attempts = ?4, next_attempt_at = ?5, settled_at = ?6, error = ?7,
                 not_before = ?8
                 WHERE message = ?1 AND receiver = ?2 AND state = 0",
            )
            .and_then(|mut s| {
                let receiver = settlement.receiver.as_str();
                s.execute(params![
                    settlement.id,
                    receiver,
                    state,
                    settlement.attempts,
                    next,
                    settled,
                    error,
                    not_before
                ])
            })
            .map_err(&settling)?;
    }
    transaction.commit().map_err(&settling)
}

/// What waits for more than a minute to be tried again for this receiver is due now, of one incident or of all, but for what
/// it asked to wait with.
/// An attempt ahead of its time is none of the schedule's: it brings no message nearer to being given up.
pub(super) fn hasten(
    connection: &Connection,
    receiver: &ReceiverName,
    incident: Option<&IncidentId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE deliveries SET next_attempt_at = ?2, attempts = max(attempts - 1, 0)
               WHERE state = 0 AND receiver = ?1 AND (?3 IS NULL OR incident = ?3)
               AND attempts > 0 AND next_attempt_at > ?2 + ?4 AND not_before <= ?2";
    let (now, soon) = (now.as_millis(), SOON.as_millis().cast_signed());
    connection
        .prepare_cached(sql)
        .and_then(|mut s| s.execute(params![receiver.as_str(), now, incident.map(IncidentId::as_str), soon]))
        .map(|_| ())
        .map_err(StoreError::failed("hastening deliveries"))
}

/// What waits for receivers other than these is taken from them: a message that none of these was sent, or waits for, goes to
/// all of them, since of whose workload it is they tell, and a page that nobody gets is worse than one too many. What none of
/// them is to get all the same is parked. Where there is no receiver at all, everything waits for one, for [`NOBODY_LIMIT`] at
/// most. Gives the number of deliveries that were taken from their receivers, or that wait for one.
pub(super) fn park_others(
    connection: &mut Connection,
    known: &[ReceiverName],
    at: Timestamp,
    why: &str,
) -> Result<u64, StoreError> {
    let parking = StoreError::failed("parking messages");
    let transaction = connection.transaction().map_err(&parking)?;
    let concerned = match known {
        [] => wait_for_anybody(&transaction, at, why),
        known => readdress(&transaction, known, at, why),
    };
    let concerned = concerned.map_err(&parking)?;
    transaction.commit().map_err(&parking)?;
    Ok(concerned as u64)
}

fn readdress(
    transaction: &Transaction<'_>,
    known: &[ReceiverName],
    at: Timestamp,
    why: &str,
) -> rusqlite::Result<usize> {
    let known = serde_json::Value::from_iter(known.iter().map(ReceiverName::as_str)).to_string();
    let at = at.as_millis();
    transaction
        .prepare_cached(
            "INSERT INTO deliveries (message, receiver, incident, sequence, next_attempt_at)
             SELECT DISTINCT d.message, k.value, d.incident, d.sequence, ?2 FROM deliveries d, json_each(?1) k
             WHERE d.state = 0 AND d.receiver NOT IN (SELECT value FROM json_each(?1))
             AND NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.message = d.message AND e.state IN (0, 1)
                             AND e.receiver IN (SELECT value FROM json_each(?1)))
             ON CONFLICT (message, receiver) DO NOTHING",
        )?
        .execute(params![known, at])?;
    // Whoever has it, or gets it, is told of it.
    let moved = transaction
        .prepare_cached(
            "DELETE FROM deliveries AS d WHERE d.state = 0 AND d.receiver NOT IN (SELECT value FROM json_each(?1))
             AND EXISTS (SELECT 1 FROM deliveries e WHERE e.message = d.message AND e.state IN (0, 1)
                         AND e.receiver IN (SELECT value FROM json_each(?1)))",
        )?
        .execute([&known])?;
    let parked = transaction
        .prepare_cached(
            "UPDATE deliveries SET state = 2, settled_at = ?2, error = ?3
             WHERE state = 0 AND receiver NOT IN (SELECT value FROM json_each(?1))",
        )?
        .execute(params![known, at, why])?;
    // What is left was waiting for one of these to be there again. As above, that is none of the schedule's.
    transaction
        .prepare_cached(
            "UPDATE deliveries SET error = NULL, next_attempt_at = max(not_before, ?1), attempts = max(attempts - 1, 0)
             WHERE state = 0 AND error = ?2",
        )?
        .execute(params![at, NOBODY])?;
    Ok(moved + parked)
}

fn wait_for_anybody(transaction: &Transaction<'_>, at: Timestamp, why: &str) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "UPDATE deliveries SET state = 2, settled_at = ?1, error = ?2
             WHERE state = 0 AND message IN (SELECT id FROM messages WHERE created_at < ?3)",
        )?
        .execute(params![at.as_millis(), why, (at - NOBODY_LIMIT).as_millis()])?;
    transaction.prepare_cached("UPDATE deliveries SET error = ?1 WHERE state = 0")?.execute([NOBODY])
}

/// How much waits, and since when.
pub(super) fn stats(connection: &Connection) -> Result<OutboxStats, StoreError> {
    let reading = StoreError::failed("reading the outbox");
    let (waiting, oldest): (i64, Option<i64>) = connection
        .query_row(
            "SELECT count(*), min(m.created_at) FROM deliveries d JOIN messages m ON m.id = d.message
             WHERE d.state = 0",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .map_err(&reading)?;
    let parked: i64 = connection
        .query_row("SELECT count(*) FROM deliveries WHERE state = 2", [], |row| row.get(0))
        .map_err(&reading)?;
    Ok(OutboxStats {
        waiting: entry::count(waiting),
        parked: entry::count(parked),
        oldest: oldest.map(Timestamp::from_millis),
    })
}

/// What waits for receivers that did not take it, by receiver.
pub(super) fn undelivered(connection: &Connection) -> Result<Vec<Undelivered>, StoreError> {
    let reading = StoreError::failed("reading the outbox");
    let sql = "SELECT d.receiver, count(*), min(m.created_at),
                      (SELECT e.error FROM deliveries e WHERE e.state = 0 AND e.receiver = d.receiver
                       AND e.error IS NOT NULL ORDER BY e.attempts DESC LIMIT 1) AS why
               FROM deliveries d JOIN messages m ON m.id = d.message
               WHERE d.state = 0 GROUP BY d.receiver HAVING why IS NOT NULL ORDER BY d.receiver";
    let mut statement = connection.prepare_cached(sql).map_err(&reading)?;
    let rows = statement
        .query_map([], |row| {
            Ok(Undelivered {
                receiver: ReceiverName::new(row.get::<_, String>(0)?),
                waiting: entry::count(row.get(1)?),
                oldest_at: Timestamp::from_millis(row.get(2)?),
                why: row.get(3)?,
            })
        })
        .map_err(&reading)?;
    rows.collect::<Result<_, _>>().map_err(&reading)
}

/// The newest messages that were given up, newest first.
pub(super) fn parked(connection: &Connection, limit: i64) -> Result<Vec<ParkedMessage>, StoreError> {
    let reading = StoreError::failed("reading the outbox");
    let sql = "SELECT message, receiver, settled_at, attempts, error FROM deliveries
               WHERE state = 2 ORDER BY settled_at DESC, message LIMIT ?1";
    let mut statement = connection.prepare_cached(sql).map_err(&reading)?;
    let rows = statement
        .query_map([limit], |row| {
            Ok(ParkedMessage {
                id: row.get(0)?,
                receiver: ReceiverName::new(row.get::<_, String>(1)?),
                at: Timestamp::from_millis(row.get(2)?),
                attempts: row.get(3)?,
                why: row.get::<_, Option<String>>(4)?.unwrap_or_default(),
            })
        })
        .map_err(&reading)?;
    rows.collect::<Result<_, _>>().map_err(&reading)
}

/// What became of an incident's messages, by position and receiver.
pub(super) fn receipts(connection: &Connection, incident: &IncidentId) -> Result<Vec<(u64, Receipt)>, StoreError> {
    let reading = StoreError::failed("reading the outbox");
    // A message's id begins with its incident's, so that the key leads there: '`' comes after '_'.
    let sql = "SELECT sequence, receiver, state, settled_at, attempts, error FROM deliveries
               WHERE message > ?1 || '_' AND message < ?1 || '`' AND incident = ?1 ORDER BY sequence, receiver";
    let mut statement = connection.prepare_cached(sql).map_err(&reading)?;
    let rows = statement
        .query_map([incident.as_str()], |row| {
            let receipt = Receipt {
                receiver: ReceiverName::new(row.get::<_, String>(1)?),
                state: match row.get(2)? {
                    0_u8 => ReceiptState::Waiting,
                    1 => ReceiptState::Delivered,
                    _ => ReceiptState::GivenUp,
                },
                at: row.get::<_, Option<i64>>(3)?.map(Timestamp::from_millis),
                attempts: row.get(4)?,
                error: row.get(5)?,
            };
            Ok((entry::count(row.get(0)?), receipt))
        })
        .map_err(&reading)?;
    rows.collect::<Result<_, _>>().map_err(&reading)
}
