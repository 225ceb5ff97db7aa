//! The loop that every look runs in: wait for the grid, look, hand over, show a sign of life.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;

use super::grid::{Grid, SHORTEST_PACE};
use super::pulse::Pulse;
use super::room::Lane;
use super::shared::Site;
use crate::domain::observation::{Observation, Seen};
use crate::domain::time::{Span, Timestamp};

/// Something that is looked at again and again.
pub(super) trait Duty: Send + 'static {
    /// Where it waits for room to look; `None` where it asks no address.
    fn lane(&self) -> Option<Lane> {
        None
    }

    /// Looks once. Takes no longer than a bound of its own.
    fn look(&mut self, due: Due) -> impl Future<Output = Vec<Seen>> + Send;
}

/// Why a look is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    /// Somebody asked for it.
    pub(super) nudged: bool,
    /// Whether looks come at the fast pace.
    pub(super) is_fast: bool,
    /// When it begins.
    pub(super) now: Timestamp,
}

/// What a workload's looks are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Beat {
    /// Whether an incident is being acted upon.
    pub(super) fast: bool,
    /// How often somebody asked for a look at once.
    pub(super) nudges: u64,
}

/// How often something is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Paces {
    /// As the policy says.
    pub(super) usual: Span,
    /// While an incident is acted upon.
    pub(super) fast: Span,
}

/// Looks until the engine is gone or the future is dropped.
pub(super) async fn keep(mut duty: impl Duty, mut rhythm: Rhythm, site: Site, pulse: Pulse) {
    loop {
        let (due, missed) = rhythm.wait(&site, &pulse).await;
        site.shared.stats.skip(missed);
        if site.shared.out.capacity() == 0 {
            site.shared.stats.skip(1);
            continue;
        }
        let place = match duty.lane() {
            Some(lane) => pulse.through(site.shared.room.place(lane)).await,
            None => None,
        };
        let seen = duty.look(due).await;
        drop(place);
        for seen in seen {
            let at = site.shared.clock.now();
            let observation = Observation { workload: site.workload.clone(), at, seen };
            if site.shared.out.send(observation).await.is_err() {
                return;
            }
        }
    }
}

/// When the looks at one thing are due.
#[derive(Debug)]
pub(super) struct Rhythm {
    grid: Grid,
    paces: Paces,
    beat: watch::Receiver<Beat>,
    is_fast: bool,
    nudges: u64,
    /// The next point of the grid is the first after this: the last look, or a change of pace.
    since: Timestamp,
    last: Timestamp,
}

impl Rhythm {
    pub(super) fn new(grid: Grid, paces: Paces, beat: watch::Receiver<Beat>, now: Timestamp) -> Self {
        let Beat { fast, nudges } = *beat.borrow();
        Self { grid, paces, beat, is_fast: fast, nudges, since: now, last: now }
    }

    /// Waits until a look is due. Also gives the number of rounds that went by unseen.
    async fn wait(&mut self, site: &Site, pulse: &Pulse) -> (Due, u64) {
        loop {
            pulse.beat();
            let now = site.shared.clock.now();
            let beat = *self.beat.borrow_and_update();
            match self.due(beat, now) {
                Next::Now(due, missed) => return (due, missed),
                Next::At(time) => {
                    let sleep = tokio::time::sleep(Duration::from(time.since(now)));
                    tokio::select! {
                        () = sleep => {}
                        changed = self.beat.changed() => {
                            if changed.is_err() {
                                // Whoever told the pace is gone, and this task with it in a moment.
                                tokio::time::sleep(SHORTEST_PACE.into()).await;
                            }
                        }
                    }
                }
            }
        }
    }

    fn due(&mut self, beat: Beat, now: Timestamp) -> Next {
        if beat.fast != self.is_fast {
            self.is_fast = beat.fast;
            self.since = now;
        }
        let pace = if beat.fast { self.paces.fast } else { self.paces.usual };
        let grid = self.grid.at(pace);
        let on_grid = grid.next(self.since);
        let nudged = beat.nudges != self.nudges;
        let due = if nudged { on_grid.min(self.last + SHORTEST_PACE) } else { on_grid };
        if now < due {
            return Next::At(due);
        }
        let missed = if now >= on_grid { grid.missed(on_grid, now) } else { 0 };
        (self.nudges, self.since, self.last) = (beat.nudges, now, now);
        Next::Now(Due { nudged, is_fast: beat.fast, now }, missed)
    }
}

#[derive(Debug)]
enum Next {
    Now(Due, u64),
    At(Timestamp),
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::mpsc;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::clock::Clock;
    use crate::cluster::settings::Keyring;
    use crate::domain::id::InstanceId;
    use crate::domain::observation::HostReading;
    use crate::observe::cluster::Crowd;
    use crate::observe::pulse::Pulses;
    use crate::observe::shared::Shared;

    const PACES: Paces = Paces { usual: Span::from_secs(5), fast: Span::from_secs(1) };

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000 + millis)
    }

    /// A grid of five seconds that begins at `at(0)`, and a rhythm that starts there.
    fn rhythm() -> Rhythm {
        let (_, beat) = watch::channel(Beat::default());
        let seed = (0_u64..).find(|seed| Grid::new(PACES.usual, seed).phase() == Span::ZERO).unwrap();
        Rhythm::new(Grid::new(PACES.usual, &seed), PACES, beat, at(0))
    }

    fn told(rhythm: &mut Rhythm, fast: bool, nudges: u64, millis: i64) -> String {
        match rhythm.due(Beat { fast, nudges }, at(millis)) {
            Next::Now(due, missed) => format!("now nudged={} missed={missed}", due.nudged),
            Next::At(time) => format!("at {}", time.as_millis() - at(0).as_millis()),
        }
    }

    #[test]
    fn looks_come_on_the_grid_and_missed_ones_are_left_out() {
        let mut rhythm = rhythm();
        for (now, expected) in [
            (0, "at 5000"),
            (4_999, "at 5000"),
            (5_001, "now nudged=false missed=0"),
            (5_002, "at 10000"),
            (21_000, "now nudged=false missed=2"),
            (21_001, "at 25000"),
        ] {
            assert_eq!(told(&mut rhythm, false, 0, now), expected, "{now}");
        }
    }

    #[test]
    fn a_nudge_is_followed_at_once_but_not_in_a_herd() {
        let mut rhythm = rhythm();
        for (nudges, now, expected) in [
            (1, 1_000, "now nudged=true missed=0"),
            (1, 1_001, "at 5000"),
            (2, 1_010, "at 1200"),
            (9, 1_200, "now nudged=true missed=0"),
            (9, 1_201, "at 5000"),
            (9, 5_000, "now nudged=false missed=0"),
        ] {
            assert_eq!(told(&mut rhythm, false, nudges, now), expected, "{now}");
        }
    }

    #[test]
    fn a_faster_pace_neither_looks_at_once_nor_counts_rounds_that_never_were() {
        let mut rhythm = rhythm();
        for (fast, now, expected) in [
            (false, 4_100, "at 5000"),
            (true, 4_200, "at 5000"),
            (true, 5_000, "now nudged=false missed=0"),
            (true, 5_001, "at 6000"),
            (true, 8_000, "now nudged=false missed=2"),
            (false, 8_001, "at 10000"),
        ] {
            assert_eq!(told(&mut rhythm, fast, 0, now), expected, "{now}");
        }
    }

    /// Sees three things at a look, each under the number of the look.
    struct Three(Arc<AtomicU64>);

    impl Duty for Three {
        async fn look(&mut self, _due: Due) -> Vec<Seen> {
            let look = self.0.fetch_add(1, Ordering::SeqCst);
            let seen = |part| Seen::Host {
                instance: InstanceId::new(format!("{look}.{part}")),
                result: Ok(HostReading::default()),
            };
            (0..3).map(seen).collect()
        }
    }

    #[tokio::test]
    async fn what_was_seen_waits_for_its_place_and_only_looks_are_left_out() {
        let (out, mut observations) = mpsc::channel(2);
        let (_pace, beat) = watch::channel(Beat::default());
        let shared =
            Arc::new(Shared::new(Clock::start(None), out, Arc::default(), Keyring::default(), Crowd::default()));
        let site = Site { shared: Arc::clone(&shared), workload: "shop".into(), beat: beat.clone() };
        let pace = Span::from_millis(10);
        let rhythm = Rhythm::new(Grid::new(pace, &1), Paces { usual: pace, fast: pace }, beat, shared.clock.now());
        let pulse = Pulses::new().register("shop".into(), "three".to_owned(), Duration::from_secs(60));
        let looks: Arc<AtomicU64> = Arc::default();
        let duty = keep(Three(Arc::clone(&looks)), rhythm, site, pulse);
        let _duty = AbortOnDropHandle::new(tokio::spawn(duty));
        // The third of the first look finds no place, and nobody takes anything for many rounds.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(looks.load(Ordering::SeqCst), 1);
        let mut told = Vec::new();
        while told.len() < 9 {
            let Seen::Host { instance, .. } = observations.recv().await.unwrap().seen else { panic!("only this") };
            told.push(instance.to_string());
        }
        let expected: Vec<String> = (0..3).flat_map(|look| (0..3).map(move |part| format!("{look}.{part}"))).collect();
        assert_eq!(told, expected);
        assert!(shared.stats.skipped() > 0, "rounds were left out, and counted");
    }
}
