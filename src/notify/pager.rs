//! Telling people past the outbox, for when the outbox can't be written: at once, without a record, and again for some
//! minutes where it does not arrive.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::sender::{Attempt, Sender};
use super::{Clock, Receivers};
use crate::clock::Turns;
use crate::domain::id::{IncidentId, ReceiverName};
use crate::domain::time::{Span, Timestamp};
use crate::engine::ports::{Notice, Pager};

/// Messages that wait to be sent; past this the newest are let go, since the first ones say what matters.
pub const PAGE_QUEUE: usize = 256;

/// Pauses between attempts at one receiver: 5 s, 15 s, 45 s and so on, less than eleven minutes in all.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);
const FACTOR: f32 = 3.0;
const RETRIES: usize = 5;

/// Time that what waits has, or is under way, after the word to stop.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// How long an Alertmanager keeps such an alert: longer than the time after which it is told again, so that it ends by
/// itself when the trouble is over and nobody can say so.
const FIRES_FOR: Span = Span::from_secs(3600);

/// Hands messages to [`pager`]'s task.
#[derive(Clone, Debug)]
pub struct DirectPager {
    queue: mpsc::Sender<Notice>,
}

impl Pager for DirectPager {
    fn page(&self, notice: Notice) {
        let id = notice.alert.id.clone();
        if self.queue.try_send(notice).is_err() {
            tracing::error!(message = %id, "a direct message is let go: too many wait");
        }
    }
}

/// The handle, and the task that sends until `shutdown` or until all handles are gone. `wall` is the wall clock; `turns` counts
/// while the task's loop turns.
pub fn pager(
    receivers: watch::Receiver<Receivers>,
    wall: Clock,
    turns: Turns,
    shutdown: CancellationToken,
) -> (DirectPager, impl Future<Output = ()> + Send) {
    let (queue, mut notices) = mpsc::channel::<Notice>(PAGE_QUEUE);
    let task = async move {
        let lines = Lines::default();
        let mut under_way = FuturesUnordered::new();
        loop {
            turns.note();
            let notice = tokio::select! {
                notice = notices.recv(), if under_way.len() < PAGE_QUEUE => notice,
                Some(()) = under_way.next() => continue,
                () = shutdown.cancelled() => break,
                () = sleep(Turns::PERIOD) => continue,
            };
            let Some(notice) = notice else { return };
            lines.note(&notice);
            under_way.push(tell_patiently(&receivers, notice, &wall, &lines));
        }
        while let Ok(notice) = notices.try_recv() {
            lines.note(&notice);
            under_way.push(tell_patiently(&receivers, notice, &wall, &lines));
        }
        let rest = async { while under_way.next().await.is_some() {} };
        // Each attempt that failed is in the log.
        let _cut_off = timeout(STOP_GRACE, rest).await;
    };
    (DirectPager { queue }, task)
}

/// What is told of one incident.
#[derive(Default)]
struct Line {
    /// The newest message's id. Once there is another one, nobody needs to hear the ones before: after the word that it is over
    /// they would open it anew.
    newest: String,
    /// Held during an attempt, so that one receiver hears one message after another.
    turns: BTreeMap<ReceiverName, Arc<tokio::sync::Mutex<()>>>,
}

/// What is told of each incident.
#[derive(Default)]
struct Lines(Mutex<BTreeMap<IncidentId, Line>>);

impl Lines {
    fn with<T>(&self, incident: &IncidentId, ask: impl FnOnce(&mut Line) -> T) -> T {
        // Nothing that is done with it can panic.
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ask(lines.entry(incident.clone()).or_default())
    }

    /// A message is to be told.
    fn note(&self, notice: &Notice) {
        self.with(&notice.alert.incident, |line| line.newest.clone_from(&notice.alert.id));
    }

    fn turn(&self, notice: &Notice, receiver: &ReceiverName) -> Arc<tokio::sync::Mutex<()>> {
        self.with(&notice.alert.incident, |line| Arc::clone(line.turns.entry(receiver.clone()).or_default()))
    }

    fn is_newest(&self, notice: &Notice) -> bool {
        self.with(&notice.alert.incident, |line| line.newest == notice.alert.id)
    }

    /// Forgets an incident of which the newest message was told.
    fn forget(&self, notice: &Notice) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.get(&notice.alert.incident).is_some_and(|line| line.newest == notice.alert.id) {
            lines.remove(&notice.alert.incident);
        }
    }
}

/// Tells each receiver that the notice names, by itself and as often as it takes within bounds, while there is no newer message
/// of the same incident. One that has left the policy meanwhile is not told.
async fn tell_patiently(receivers: &watch::Receiver<Receivers>, notice: Notice, wall: &Clock, lines: &Lines) {
    let pauses = ExponentialBuilder::default()
        .with_min_delay(SHORTEST_PAUSE)
        .with_factor(FACTOR)
        .with_max_delay(SHORTEST_PAUSE * 100)
        .with_max_times(RETRIES);
    let one = async |name: &ReceiverName| {
        let attempt = || async {
            let receiver = receivers.borrow().get(name).cloned();
            let Some(receiver) = receiver else { return Ok(()) };
            let turn = lines.turn(&notice, name);
            let _turn = turn.lock().await;
            if !lines.is_newest(&notice) {
                return Ok(());
            }
            match tell(&Sender::new(&receiver), &notice, wall()).await {
                Attempt::Delivered | Attempt::NotTold | Attempt::Gone => Ok(()),
                Attempt::Failed { .. } => Err(()),
            }
        };
        // Each attempt that failed is in the log.
        let _told = attempt.retry(pauses).await;
    };
    join_all(notice.receivers.iter().map(one)).await;
    lines.forget(&notice);
}

/// One attempt for each receiver that the notice names, all at the same time; `wall` is the wall clock's time. Takes as long
/// as one attempt may. What does not arrive is logged. Whether it has reached anyone.
pub async fn tell_at_once(receivers: &Receivers, notice: &Notice, wall: Timestamp) -> bool {
    let senders: Vec<Sender> =
        notice.receivers.iter().filter_map(|name| receivers.get(name)).map(Sender::new).collect();
    join_all(senders.iter().map(|sender| tell(sender, notice, wall))).await.contains(&Attempt::Delivered)
}

async fn tell(sender: &Sender, notice: &Notice, wall: Timestamp) -> Attempt {
    let (receiver, message) = (sender.name(), &notice.alert.id);
    let attempt = sender.attempt(&notice.alert, wall, FIRES_FOR).await;
    match &attempt {
        Attempt::Delivered => tracing::info!(%receiver, %message, "told directly"),
        Attempt::NotTold => {}
        Attempt::Failed { error, .. } => tracing::error!(%receiver, %message, error, "could not be told directly"),
        Attempt::Gone => tracing::error!(%receiver, %message, "could not be told directly: it is gone (HTTP 410)"),
    }
    attempt
}
