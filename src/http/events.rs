//! Server-sent events: every record and every message, as they become durable.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt, stream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use super::{AppState, LISTENER_LIMIT};
use crate::telemetry::Announcement;

/// Time between two comments on a quiet stream, so that nobody between takes it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /api/v1/events`.
pub(super) async fn events(
    State(state): State<Arc<AppState>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let permit = Arc::clone(&state.internal.listeners)
        .try_acquire_owned()
        .map_err(|_| Problem::unavailable(format!("{LISTENER_LIMIT} listeners are there already")))?;
    let stop = state.internal.stop.clone();
    let told = stream::unfold(Listening { receiver: state.stream.listen(), stop }, |mut listening| async move {
        listening.next().await.map(|event| (Ok(event), listening))
    });
    // The permit lives as long as the stream.
    let told = told.inspect(move |_| {
        let _ = &permit;
    });
    let hello = stream::once(async { Ok(Event::default().comment("listening")) });
    Ok(Sse::new(hello.chain(told)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("still here")))
}

struct Listening {
    receiver: Receiver<Announcement>,
    stop: CancellationToken,
}

impl Listening {
    /// The next event; none once the daemon stops.
    async fn next(&mut self) -> Option<Event> {
        tokio::select! {
            () = self.stop.cancelled() => None,
            received = self.receiver.recv() => match received {
                Ok(announcement) => Some(Event::default().event(announcement.kind).data(&announcement.data)),
                Err(RecvError::Lagged(missed)) => {
                    Some(Event::default().event("lagged").data(format!("{{\"missed\":{missed}}}")))
                }
                Err(RecvError::Closed) => None,
            },
        }
    }
}
