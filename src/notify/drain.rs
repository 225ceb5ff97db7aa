//! Draining the outbox: each receiver by itself, so that one that is slow or down holds up no other.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::{join_all, join3};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::schedule::next_attempt;
use super::sender::{Attempt, Sender};
use super::{Clocks, Receivers};
use crate::clock::Turns;
use crate::domain::id::ReceiverName;
use crate::domain::time::{Span, Timestamp};
use crate::engine::ports::{Delivery, JournalError, Outbox, Settled, Settlement};

/// Messages on their way to one receiver at the same time; they are of different incidents.
const IN_FLIGHT: usize = 4;

/// A receiver that failed for this long was away; what waits for its next attempt is sent once it is back.
const AWAY: Span = Span::from_secs(60);

/// Time before the outbox is looked at again after it could not be read or written.
const OUTBOX_RETRY: Duration = Duration::from_secs(5);

/// Time between two looks while a message is under way: one that hangs holds up no other.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Time between two looks at what waits where there is no receiver: it does not wait for ever.
const NOBODY_LOOK: Duration = Duration::from_secs(3600);

/// Time that attempts under way have to end after the word to stop; what is cut off is sent again after the restart.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// The same for all that is done, an outbox that does not answer included.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// Sends what the outbox holds until `shutdown`, to the receivers as they are now; the channel brings new ones. What
/// waits for receivers that are there no more goes to those that are where nobody else would get it; where there are none, it
/// waits. `turns` counts while every receiver's loop turns.
pub async fn drain<O: Outbox>(
    outbox: &O,
    receivers: watch::Receiver<Receivers>,
    clocks: Clocks,
    turns: Turns,
    shutdown: CancellationToken,
) {
    let cut_off = async {
        shutdown.cancelled().await;
        sleep(STOP_LIMIT).await;
    };
    tokio::select! {
        () = drain_on(outbox, receivers, clocks, turns, &shutdown) => {}
        () = cut_off => {}
    }
}

async fn drain_on<O: Outbox>(
    outbox: &O,
    mut receivers: watch::Receiver<Receivers>,
    clocks: Clocks,
    turns: Turns,
    shutdown: &CancellationToken,
) {
    while !shutdown.is_cancelled() {
        let current = receivers.borrow_and_update().clone();
        park_forgotten(outbox, current.keys().cloned().collect(), (clocks.timeline)()).await;
        let stop = shutdown.child_token();
        let senders: Vec<Sender> = current.values().map(Sender::new).collect();
        let loops: Vec<Turns> = senders.iter().map(|_| Turns::default()).collect();
        let drains = senders
            .iter()
            .zip(&loops)
            .map(|(sender, turns)| Drain { outbox, sender, clocks: &clocks, turns, stop: &stop }.run());
        let until_changed = async {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = sleep(NOBODY_LOOK), if current.is_empty() => {}
                changed = receivers.changed() => {
                    if changed.is_err() {
                        // Nobody can change them any more.
                        shutdown.cancelled().await;
                    }
                }
            }
            stop.cancel();
        };
        let counting = stop.run_until_cancelled(turn_with(&loops, &turns));
        join3(join_all(drains), until_changed, counting).await;
    }
}

/// Turns for as long as all of these do.
async fn turn_with(all: &[Turns], turns: &Turns) {
    let mut known = counts(all);
    loop {
        sleep(Turns::PERIOD).await;
        if all_turned(all, &mut known) {
            turns.note();
        }
    }
}

fn counts(all: &[Turns]) -> Vec<u64> {
    all.iter().map(Turns::count).collect()
}

/// Whether each of these has turned since all of them had.
fn all_turned(all: &[Turns], known: &mut Vec<u64>) -> bool {
    let now = counts(all);
    let each = now.iter().zip(known.iter()).all(|(now, known)| now != known);
    if each {
        *known = now;
    }
    each
}

async fn park_forgotten<O: Outbox>(outbox: &O, known: Vec<ReceiverName>, now: Timestamp) {
    let is_nobody_there = known.is_empty();
    match outbox.park_others(known, now, "the receiver is no longer in the policy".to_owned()).await {
        Ok(0) => {}
        Ok(messages) if is_nobody_there => {
            tracing::warn!(messages, "messages wait: there is no receiver in the policy")
        }
        Ok(messages) => tracing::warn!(
            messages,
            "messages for receivers that are no longer in the policy: those that nobody else gets go to the others"
        ),
        Err(error) => tracing::error!(%error, "the outbox can't be written"),
    }
}

/// What one receiver's loop works with.
struct Drain<'a, O> {
    outbox: &'a O,
    sender: &'a Sender,
    clocks: &'a Clocks,
    turns: &'a Turns,
    stop: &'a CancellationToken,
}

/// An attempt that ended.
struct Ended {
    settlement: Settlement,
    /// Whether anything was sent: what this sort of receiver is not told of says nothing of its health.
    was_sent: bool,
}

impl<O: Outbox> Drain<'_, O> {
    async fn run(self) {
        let mut committed = self.outbox.committed();
        let mut health = Health::default();
        let mut attempts = FuturesUnordered::new();
        // Messages under way, which the outbox still calls due.
        let mut under_way = BTreeSet::new();
        while !self.stop.is_cancelled() {
            self.turns.note();
            // Before looking, so that what is committed while we look wakes us.
            committed.borrow_and_update();
            let pause = match self.next(&under_way).await {
                Ok((fresh, pause)) => {
                    under_way.extend(fresh.iter().map(|delivery| delivery.id.clone()));
                    attempts.extend(fresh.into_iter().map(|delivery| self.attempt(delivery)));
                    pause
                }
                Err(error) => {
                    tracing::error!(receiver = %self.sender.name(), %error, "the outbox can't be read");
                    OUTBOX_RETRY
                }
            };
            let waking = async {
                if committed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                Some(ended) = attempts.next() => {
                    under_way.remove(&ended.settlement.id);
                    self.take_in(ended, &mut health).await;
                }
                () = waking => {}
                // Whatever the outbox says: a bound on the harm of a wrong time in it as well.
                () = sleep(pause.min(Turns::PERIOD)) => {}
                () = self.stop.cancelled() => {}
            }
        }
        let rest = async {
            while let Some(ended) = attempts.next().await {
                self.take_in(ended, &mut health).await;
            }
        };
        // What is cut off is sent again.
        let _cut_off = timeout(STOP_GRACE, rest).await;
    }

    /// What is to be sent now beside what is under way, and when to look again.
    async fn next(&self, under_way: &BTreeSet<String>) -> Result<(Vec<Delivery>, Duration), JournalError> {
        let free = IN_FLIGHT.saturating_sub(under_way.len());
        let mut due = self.outbox.due(self.sender.name(), self.now(), IN_FLIGHT + under_way.len()).await?;
        due.retain(|delivery| !under_way.contains(&delivery.id));
        due.truncate(free);
        let pause = match (under_way.is_empty() && due.is_empty(), free - due.len()) {
            (true, _) => self.time_to_next().await?,
            // What is under way is overdue by the outbox's own account, so it can't say when the next one is.
            (false, 1..) => LOOK_AGAIN,
            (false, 0) => Turns::PERIOD,
        };
        Ok((due, pause))
    }

    async fn attempt(&self, delivery: Delivery) -> Ended {
        let attempts = delivery.attempts.saturating_add(1);
        let (attempt, alert) = match &delivery.alert {
            Ok(alert) => (self.sender.send(alert, (self.clocks.wall)()).await, alert),
            Err(why) => {
                let settlement = self.settlement(&delivery, attempts, Settled::Parked { why: why.clone() });
                return Ended { settlement, was_sent: false };
            }
        };
        let was_sent = attempt != Attempt::NotTold;
        let outcome = match attempt {
            Attempt::Delivered | Attempt::NotTold => Settled::Sent,
            Attempt::Gone => Settled::Parked { why: "the receiver says that it is gone (HTTP 410)".to_owned() },
            Attempt::Failed { error, retry_after } => {
                let now = self.now();
                match next_attempt(&alert.id, self.sender.name(), attempts, now, retry_after) {
                    Some(at) => Settled::Again { at, asked: retry_after.map(|asked| (now + asked).min(at)), error },
                    None => Settled::Parked { why: format!("given up after {attempts} attempts: {error}") },
                }
            }
        };
        Ended { settlement: self.settlement(&delivery, attempts, outcome), was_sent }
    }

    fn now(&self) -> Timestamp {
        (self.clocks.timeline)()
    }

    fn settlement(&self, delivery: &Delivery, attempts: u32, outcome: Settled) -> Settlement {
        let receiver = self.sender.name().clone();
        Settlement { id: delivery.id.clone(), receiver, at: self.now(), attempts, outcome }
    }

    /// Keeps how an attempt ended. While that fails nothing more is sent: what was sent would be sent again and again.
    async fn take_in(&self, Ended { settlement, was_sent }: Ended, health: &mut Health) {
        let is_back = health.note(self.sender.name(), &settlement, was_sent);
        // It waits for the disk, and to begin anew would not help.
        while let Err(error) = self.turns.while_waiting(self.outbox.settle(vec![settlement.clone()])).await {
            tracing::error!(receiver = %self.sender.name(), %error, "the outbox can't be written");
            tokio::select! {
                () = sleep(OUTBOX_RETRY) => {}
                () = self.stop.cancelled() => return,
            }
        }
        if is_back && let Err(error) = self.outbox.hasten(self.sender.name(), self.now()).await {
            tracing::error!(receiver = %self.sender.name(), %error, "what waits keeps its time");
        }
    }

    async fn time_to_next(&self) -> Result<Duration, JournalError> {
        let next = self.outbox.next_due(self.sender.name()).await?;
        Ok(next.map_or(Turns::PERIOD, |at| Duration::from(at.since(self.now()))))
    }
}

/// Whether a receiver takes messages; a change is a line in the log, what goes on is not.
#[derive(Default)]
struct Health {
    failing_since: Option<Timestamp>,
}

impl Health {
    /// Whether it takes messages again after it was away for a while. One that refuses single messages was not away.
    fn note(&mut self, receiver: &ReceiverName, settlement: &Settlement, was_sent: bool) -> bool {
        let Settlement { id, attempts, outcome, at: now, .. } = settlement;
        match outcome {
            Settled::Sent if was_sent => {
                let Some(since) = self.failing_since.take() else { return false };
                tracing::info!(%receiver, "receiver takes messages again");
                return now.since(since) >= AWAY;
            }
            Settled::Again { at, error, .. } if self.failing_since.is_none() => {
                self.failing_since = Some(*now);
                tracing::warn!(%receiver, message = %id, %error, next_attempt = %at, "receiver does not take a message");
            }
            Settled::Parked { why } => {
                tracing::error!(%receiver, message = %id, attempts, %why, "message is given up")
            }
            Settled::Sent | Settled::Again { .. } => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_receiver_whose_loop_stands_still_is_enough() {
        let receivers = [Turns::default(), Turns::default()];
        let mut known = counts(&receivers);
        for (turning, expected) in
            [(&receivers[..], true), (&receivers[..1], false), (&[], false), (&receivers[1..], true), (&[], false)]
        {
            turning.iter().for_each(Turns::note);
            assert_eq!(all_turned(&receivers, &mut known), expected, "{turning:?}");
        }
        assert!(all_turned(&[], &mut Vec::new()), "nobody is to be told");
    }
}
