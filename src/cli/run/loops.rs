//! The daemon's loops, for the watchdog: one that no longer turns is not to look alive.

use std::time::Duration;

use crate::clock::Turns;
use crate::systemd::Duty;

/// Loops that nobody asks anything, each with how long it may be without a turn.
#[derive(Default)]
pub(super) struct Loops(Vec<(&'static str, Turns, Duration)>);

impl Loops {
    /// Turns to be noted by a loop that is watched from now on.
    pub(super) fn watch(&mut self, name: &'static str, patience: Duration) -> Turns {
        let turns = Turns::default();
        self.0.push((name, turns.clone(), patience));
        turns
    }

    /// What the watchdog asks of each.
    pub(super) fn duties(self) -> impl Iterator<Item = Duty> {
        let of_loop = |(name, turns, patience): (_, Turns, _)| Duty::of_loop(name, move || turns.count(), patience);
        self.0.into_iter().map(of_loop)
    }
}

/// An attempt to tell somebody takes ten seconds at most, and everything else between two turns of such a loop less.
pub(super) const LOOP_PATIENCE: Duration = Duration::from_secs(20);

/// For what asks a cluster or the journal between two turns.
pub(super) const WORK_PATIENCE: Duration = Duration::from_secs(300);
