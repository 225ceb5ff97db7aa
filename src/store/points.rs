//! Readings of signals around an incident, for the report's plot.

use rusqlite::{Connection, params};

use super::error::StoreError;
use crate::domain::id::{IncidentId, SignalName};
use crate::domain::time::Timestamp;
use crate::domain::units::Finite;

/// Readings kept per incident: a day of one signal every five seconds. Later ones are let go, since a report shows the
/// hours around the fault.
pub const POINTS_PER_INCIDENT: u64 = 17_280;

/// One reading.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    /// Of which signal.
    pub signal: SignalName,
    /// When.
    pub at: Timestamp,
    /// In the signal's base unit.
    pub value: Finite,
}

/// Keeps readings; a second one of the same signal and time takes the first one's place. Gives the number kept.
pub(super) fn save(connection: &mut Connection, incident: &IncidentId, new: &[Point]) -> Result<u64, StoreError> {
    let saving = StoreError::failed("keeping readings");
    let transaction = connection.transaction().map_err(&saving)?;
    let held: i64 = transaction
        .query_row("SELECT count(*) FROM points WHERE incident = ?1", [incident.as_str()], |row| row.get(0))
        .map_err(&saving)?;
    let room = POINTS_PER_INCIDENT.saturating_sub(super::entry::count(held));
    let mut kept = 0;
    for point in new.iter().take(usize::try_from(room).unwrap_or(usize::MAX)) {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO points (incident, signal, at, value) VALUES (?1, ?2, ?3, ?4)")
            .and_then(|mut s| {
                let at = point.at.as_millis();
                s.execute(params![incident.as_str(), point.signal.as_str(), at, point.value.get()])
            })
            .map_err(&saving)?;
        kept += 1;
    }
    transaction.commit().map_err(&saving)?;
    Ok(kept)
}

/// All readings of an incident, by signal and time.
pub(super) fn load(connection: &Connection, incident: &IncidentId) -> Result<Vec<Point>, StoreError> {
    let reading = StoreError::failed("reading readings");
    let sql = "SELECT signal, at, value FROM points WHERE incident = ?1 ORDER BY signal, at";
    let mut statement = connection.prepare_cached(sql).map_err(&reading)?;
    let rows = statement
        .query_map([incident.as_str()], |row| {
            let point = Finite::new(row.get(2)?).map(|value| (row.get::<_, String>(0), row.get(1), value));
            point
                .map(|(signal, at, value)| {
                    Ok(Point { signal: SignalName::new(signal?), at: Timestamp::from_millis(at?), value })
                })
                .transpose()
        })
        .map_err(&reading)?;
    // SQLite's REAL can hold infinities, but none is ever written.
    rows.filter_map(Result::transpose).collect::<Result<_, _>>().map_err(&reading)
}
