//! Server-sent events: every record and every message, as they become durable.
//!
//! Records carry an id. Who comes back with the last one in `Last-Event-ID` is told the records since, from the journal;
//! messages are not told again, receivers are for that.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt, stream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use super::{AppState, LISTENER_LIMIT};
use crate::domain::id::WorkloadId;
use crate::domain::incident::record::Record;
use crate::telemetry::{Announcement, Position};

/// Time between two comments on a quiet stream, so that nobody between takes it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Records that are told again at most: more than a night of incidents.
const AGAIN_LIMIT: usize = 2_000;

/// Where a listener was when it left.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// `GET /api/v1/events`.
pub(super) async fn events(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let last = last_seen(&headers)?;
    let permit = Arc::clone(&state.internal.listeners)
        .try_acquire_owned()
        .map_err(|_| Problem::unavailable(format!("{LISTENER_LIMIT} listeners are there already")))?;
    let stop = state.internal.stop.clone();
    // Before the journal is read, so that nothing falls between.
    let mut listening = Listening { receiver: state.stream.listen(), stop, told: BTreeMap::new() };
    let (is_cut, again) = match last {
        Some(last) => listening.again(&state, &last).await?,
        None => (false, Vec::new()),
    };
    let told =
        stream::unfold(
            listening,
            |mut listening| async move { listening.next().await.map(|event| (Ok(event), listening)) },
        );
    // The permit lives as long as the stream.
    let told = told.inspect(move |_| {
        let _ = &permit;
    });
    let hello = stream::once(async { Ok(Event::default().comment("listening")) });
    let cut = is_cut.then(|| lagged("null"));
    // Each is written down in its turn: together they may be long.
    let again = again.into_iter().map(|record| told_again(&record));
    let all = hello.chain(stream::iter(cut.into_iter().chain(again).map(Ok))).chain(told);
    Ok(Sse::new(all).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("still here")))
}

fn last_seen(headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let Some(header) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let wrong = |why: String| Problem::bad_request(format!("Last-Event-ID {header:?}: {why}"));
    let text = header.to_str().map_err(|error| wrong(error.to_string()))?;
    text.parse().map(Some).map_err(|error: crate::telemetry::NotAPosition| wrong(error.to_string()))
}

struct Listening {
    receiver: Receiver<Announcement>,
    stop: CancellationToken,
    /// The newest record of each workload that was told from the journal; the stream may hold it as well.
    told: BTreeMap<WorkloadId, u64>,
}

impl Listening {
    /// The records since `last`, and whether there are older ones too. Of those with the very same time none is left out, and one
    /// may come twice.
    async fn again(&mut self, state: &AppState, last: &Position) -> Result<(bool, Vec<Record>), Problem> {
        let (mut records, is_cut) = state.history.records_from(last.at, AGAIN_LIMIT).await?;
        records.retain(|record| record.workload != last.workload || record.sequence > last.sequence);
        for record in &records {
            self.told.insert(record.workload.clone(), record.sequence);
        }
        Ok((is_cut, records))
    }

    fn is_told(&self, position: &Position) -> bool {
        self.told.get(&position.workload).is_some_and(|told| position.sequence <= *told)
    }

    /// The next event; none once the daemon stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let received = tokio::select! {
                () = self.stop.cancelled() => return None,
                received = self.receiver.recv() => received,
            };
            return match received {
                Ok(Announcement { position: Some(position), .. }) if self.is_told(&position) => continue,
                Ok(Announcement { position, kind, data }) => {
                    let event = Event::default().event(kind).data(&data);
                    Some(position.iter().fold(event, with_id))
                }
                Err(RecvError::Lagged(missed)) => Some(lagged(missed)),
                Err(RecvError::Closed) => None,
            };
        }
    }
}

fn told_again(record: &Record) -> Event {
    let Ok(data) = serde_json::to_string(record) else { return lagged(1) };
    with_id(Event::default().event("record").data(data), &Position::of(record))
}

/// So many were missed, or `null` where nobody knows how many.
fn lagged(missed: impl Display) -> Event {
    Event::default().event("lagged").data(format!("{{\"missed\":{missed}}}"))
}

/// An id is one line; a workload whose name is not has no id.
fn with_id(event: Event, position: &Position) -> Event {
    let id = position.to_string();
    if id.contains(['\n', '\r', '\0']) { event } else { event.id(id) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn position(workload: &str, sequence: u64) -> Position {
        Position { at: Timestamp::from_millis(1), sequence, workload: WorkloadId::new(workload) }
    }

    /// A record may become durable between the moment that somebody listens and the moment that the journal is read.
    #[tokio::test]
    async fn what_the_journal_told_is_not_told_again() {
        let (sender, receiver) = tokio::sync::broadcast::channel(8);
        let told = BTreeMap::from([(WorkloadId::new("shop"), 2)]);
        let mut listening = Listening { receiver, stop: CancellationToken::new(), told };
        for (workload, sequence) in [("shop", 1), ("shop", 2), ("cart", 1), ("shop", 3)] {
            let position = Some(position(workload, sequence));
            let data = format!("{workload} {sequence}").into();
            sender.send(Announcement { position, kind: "record", data }).unwrap();
        }
        drop(sender);
        let mut heard = Vec::new();
        while let Some(event) = listening.next().await {
            heard.push(format!("{event:?}"));
        }
        assert_eq!(heard.len(), 2, "{heard:?}");
        assert!(heard[0].contains("cart 1") && heard[1].contains("shop 3"), "{heard:?}");
    }
}
