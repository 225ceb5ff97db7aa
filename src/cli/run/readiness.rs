//! Whether each workload could be rolled back, looked at again and again: what is missing is told while all is well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::reload::InForce;
use crate::clock::Turns;
use crate::domain::id::WorkloadId;
use crate::domain::response::readiness::{self, Met, Need, Readiness};
use crate::engine::{Handle, Unavailable};
use crate::telemetry::Metrics;

/// A round of all workloads takes at least so long,
const ROUND: Duration = Duration::from_secs(300);
/// and its looks are so far apart, so that however many workloads there are, a cluster is hardly asked anything.
const APART: Duration = Duration::from_secs(15);
/// A workload that is new is looked at at once, and once more when it has been seen for a while.
const SETTLES: Duration = Duration::from_secs(10);
/// Time between two looks where nothing can be tried yet, for which next to nothing is asked of the cluster.
const CHEAP_APART: Duration = Duration::from_millis(50);
/// Time between two looks at which workloads there are, and between two looks that try something in any case.
const TURN: Duration = Duration::from_secs(1);

/// A workload as it was last looked at.
struct Known {
    readiness: Vec<Readiness>,
    next: Instant,
    looks: u32,
}

/// Looks until told to stop.
pub(super) async fn keep(
    engine: Handle,
    policy: watch::Receiver<Arc<InForce>>,
    metrics: Arc<Metrics>,
    turns: Turns,
    stop: CancellationToken,
) {
    let work = async {
        let mut known: BTreeMap<WorkloadId, Known> = BTreeMap::new();
        let ids = || policy.borrow().config().workloads.keys().cloned().collect();
        while turn(&engine, ids(), &metrics, &turns, &mut known).await.is_ok() {
            sleep(TURN).await;
        }
        // The engine is gone, and the daemon with it in a moment.
        std::future::pending::<()>().await;
    };
    stop.run_until_cancelled(work).await;
}

async fn turn(
    engine: &Handle,
    ids: BTreeSet<WorkloadId>,
    metrics: &Metrics,
    turns: &Turns,
    known: &mut BTreeMap<WorkloadId, Known>,
) -> Result<(), Unavailable> {
    known.retain(|id, _| ids.contains(id));
    turns.note();
    let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let round = ROUND.max(APART * count);
    for (place, id) in (1..).zip(ids) {
        let now = Instant::now();
        if known.get(&id).is_some_and(|known| known.next > now) {
            continue;
        }
        turns.note();
        let Some(preview) = engine.preview(id.clone()).await? else { continue };
        let before = known.remove(&id);
        if preview.is_under_way() {
            let (readiness, looks) = before.map(|before| (before.readiness, before.looks)).unwrap_or_default();
            known.insert(id, Known { readiness, next: now + SETTLES, looks });
            continue;
        }
        let is_tried = preview.tried().is_some();
        let looks = before.as_ref().map_or(0, |before| before.looks);
        let last = before.map(|before| before.readiness).unwrap_or_default();
        tell(&id, &last, &preview.readiness);
        metrics.set_readiness(&preview);
        let readiness = preview.readiness.into_iter().map(|one| still_told(&last, one)).collect();
        let next = now + pause(looks, round, (place, count));
        known.insert(id, Known { readiness, next, looks: looks.saturating_add(1) });
        sleep(if is_tried { TURN } else { CHEAP_APART }).await;
    }
    Ok(())
}

/// How long after a look the next one comes, by how many there were before. All that came together are spread over the round
/// once, and stay so.
fn pause(looks: u32, round: Duration, (place, count): (u32, u32)) -> Duration {
    match looks {
        0 => SETTLES,
        1 => round / count.max(1) * place,
        _ => round,
    }
}

fn of(all: &[Readiness], need: Need) -> Option<&Met> {
    all.iter().find(|one| one.need == need).map(|one| &one.met)
}

/// What was told to be missing stays so while it can't be told: that it is there again is news then.
fn still_told(before: &[Readiness], now: Readiness) -> Readiness {
    match (of(before, now.need), &now.met) {
        (Some(missing @ Met::No(_)), Met::Unknown(_)) => Readiness { met: missing.clone(), ..now },
        (_, Met::Yes | Met::No(_) | Met::Unknown(_)) => now,
    }
}

/// One line for each need whose answer is news.
fn tell(workload: &WorkloadId, before: &[Readiness], now: &[Readiness]) {
    for Readiness { need, met, note: _ } in now {
        let known = of(before, *need);
        match met {
            Met::No(why) if known != Some(met) => {
                tracing::warn!(%workload, missing = need.as_str(), why, "could not be rolled back now");
            }
            Met::Yes if matches!(known, Some(Met::No(_))) => {
                tracing::info!(%workload, found = need.as_str(), "what a rollback needs is there again");
            }
            Met::Yes | Met::No(_) | Met::Unknown(_) => {}
        }
    }
    let known: Vec<&str> = readiness::left_over(before).collect();
    for why in readiness::left_over(now).filter(|why| !known.contains(why)) {
        tracing::warn!(%workload, why, "something would be left after a rollback");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_that_came_together_are_looked_at_one_after_another() {
        let round = Duration::from_secs(15_000);
        let third: Vec<u64> = (1..=1_000).map(|place| pause(1, round, (place, 1_000)).as_secs()).collect();
        assert!(third.windows(2).all(|two| two[1] - two[0] == APART.as_secs()), "{third:?}");
        assert_eq!((pause(0, round, (1, 1)), pause(2, round, (7, 1_000))), (SETTLES, round));
        assert_eq!(pause(1, ROUND, (1, 1)), ROUND);
    }
}
