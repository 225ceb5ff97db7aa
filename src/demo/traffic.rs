//! Steady traffic for the demo's service, bounded so that slow answers don't pile up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Url;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time between two requests: 100 a second, enough for proof within a second or two.
const PERIOD: Duration = Duration::from_millis(10);
/// Requests under way at a time. A fifth of 100 a second, each 6 s long, are 120.
const MAX_UNDER_WAY: usize = 256;
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer that takes longer is counted as slow.
const SLOW: Duration = Duration::from_secs(1);

/// What became of the requests so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answered with a success, slowly or not.
    pub good: u64,
    /// Answered with an error.
    pub errors: u64,
    /// Not answered: refused, reset or out of time.
    pub unanswered: u64,
    /// Of the good ones, those that took longer than a second.
    pub slow: u64,
}

#[derive(Debug, Default)]
struct Counts {
    good: AtomicU64,
    errors: AtomicU64,
    unanswered: AtomicU64,
    slow: AtomicU64,
}

/// Traffic under way.
#[derive(Debug)]
pub(super) struct Traffic {
    counts: Arc<Counts>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Traffic {
    /// Sends to each address in turn.
    pub(super) fn start(targets: Vec<Url>) -> reqwest::Result<Self> {
        let client = super::client(REQUEST_TIMEOUT)?;
        let traffic = Self { counts: Arc::default(), stop: CancellationToken::new(), tasks: TaskTracker::new() };
        let (counts, stop, tasks) = (Arc::clone(&traffic.counts), traffic.stop.clone(), traffic.tasks.clone());
        traffic.tasks.spawn(async move {
            let sending = send_steadily(&client, &targets, &counts, &tasks, &stop);
            stop.run_until_cancelled(sending).await;
        });
        Ok(traffic)
    }

    /// What became of the requests so far.
    pub(super) fn tally(&self) -> Tally {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Tally {
            good: read(&self.counts.good),
            errors: read(&self.counts.errors),
            unanswered: read(&self.counts.unanswered),
            slow: read(&self.counts.slow),
        }
    }

    /// Ends the traffic; requests under way are dropped.
    pub(super) async fn shut_down(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn send_steadily(
    client: &reqwest::Client,
    targets: &[Url],
    counts: &Arc<Counts>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_UNDER_WAY));
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for target in targets.iter().cycle() {
        ticks.tick().await;
        // With all places taken this turn is left out: the service is slow enough as it is.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (request, counts, stop) = (client.get(target.clone()), Arc::clone(counts), stop.clone());
        tasks.spawn(async move {
            let _place = place;
            stop.run_until_cancelled(send(request, &counts)).await;
        });
    }
}

async fn send(request: reqwest::RequestBuilder, counts: &Counts) {
    let begun = Instant::now();
    let answer = async { request.send().await?.error_for_status()?.bytes().await }.await;
    let count = match answer {
        Ok(_) => &counts.good,
        Err(error) if error.is_status() => &counts.errors,
        Err(_) => &counts.unanswered,
    };
    let is_slow = begun.elapsed() > SLOW && std::ptr::eq(count, &counts.good);
    count.fetch_add(1, Ordering::Relaxed);
    counts.slow.fetch_add(u64::from(is_slow), Ordering::Relaxed);
}
