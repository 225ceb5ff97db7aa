//! What happens, to those who listen now. Nobody waits for a slow listener: it misses what it can't take, and is told.

use std::sync::Arc;

use tokio::sync::broadcast;

/// Announcements that a listener may be behind; an incident has a few dozen.
pub const LIVE_QUEUE: usize = 512;

/// One thing that happened, as it goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
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
        if self.0.receiver_count() == 0 {
            return;
        }
        match data() {
            // The last listener may have gone meanwhile: then nobody needs it.
            Ok(data) => drop(self.0.send(Announcement { kind, data: data.into() })),
            Err(error) => tracing::error!(%error, kind, "an event could not be written as JSON"),
        }
    }

    /// Listens from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Announcement> {
        self.0.subscribe()
    }
}
