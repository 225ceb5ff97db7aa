//! What happens, to those who listen now. Nobody waits for a slow listener: it misses what it can't take, and is told.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use tokio::sync::broadcast;

use crate::domain::id::WorkloadId;
use crate::domain::incident::record::Record;
use crate::domain::time::Timestamp;

/// Announcements that a listener may be behind; an incident has a few dozen.
pub const LIVE_QUEUE: usize = 512;

/// Where a record stands in the journal, so that a listener who comes back may be told what it missed. Written as
/// `<milliseconds>/<sequence>/<workload>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The record's time.
    pub at: Timestamp,
    /// Its place among the workload's records.
    pub sequence: u64,
    /// Whose record it is.
    pub workload: WorkloadId,
}

impl Position {
    /// That of a record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self { at: record.at, sequence: record.sequence, workload: record.workload.clone() }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.at.as_millis(), self.sequence, self.workload)
    }
}

/// Not what a position looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not `<milliseconds>/<sequence>/<workload>`")]
pub struct NotAPosition;

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let mut parts = text.splitn(3, '/');
        let mut part = || parts.next().ok_or(NotAPosition);
        let at = part()?.parse().map_err(|_| NotAPosition)?;
        let sequence = part()?.parse().map_err(|_| NotAPosition)?;
        Ok(Self { at: Timestamp::from_millis(at), sequence, workload: WorkloadId::new(part()?) })
    }
}

/// One thing that happened, as it goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Where it stands in the journal; records alone have a place there.
    pub position: Option<Position>,
    /// `record`, `alert` or `journal`.
    pub kind: &'static str,
    /// One line of JSON.
    pub data: Arc<str>,
}

/// Where announcements are made and listened to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stream(broadcast::Sender<Announcement>);

impl Default for Stream {
    fn default() -> Self {
        Self(broadcast::channel(LIVE_QUEUE).0)
    }
}

impl Stream {
    /// Announces, where anybody listens; otherwise nothing is even written.
    pub(super) fn announce(&self, kind: &'static str, data: impl FnOnce() -> Result<String, serde_json::Error>) {
        self.send(kind, None, data);
    }

    /// Announces a record.
    pub(super) fn announce_record(&self, record: &Record) {
        self.send("record", Some(record), || serde_json::to_string(record));
    }

    fn send(
        &self,
        kind: &'static str,
        record: Option<&Record>,
        data: impl FnOnce() -> Result<String, serde_json::Error>,
    ) {
        if self.0.receiver_count() == 0 {
            return;
        }
        match data() {
            // The last listener may have gone meanwhile: then nobody needs it.
            Ok(data) => {
                let position = record.map(Position::of);
                drop(self.0.send(Announcement { position, kind, data: data.into() }));
            }
            Err(error) => tracing::error!(%error, kind, "an event could not be written as JSON"),
        }
    }

    /// Listens from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Announcement> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        let position = Position { at: Timestamp::from_millis(17), sequence: 4, workload: "a/b".into() };
        assert_eq!(position.to_string(), "17/4/a/b");
        assert_eq!("17/4/a/b".parse(), Ok(position));
        for text in ["", "17", "17/4", "x/4/a", "17/-4/a"] {
            assert_eq!(text.parse::<Position>(), Err(NotAPosition), "{text}");
        }
    }
}
