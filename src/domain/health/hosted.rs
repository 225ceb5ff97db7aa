//! What the host counts of an instance: kills and restarts.

use std::collections::VecDeque;

use super::ring::Keep;
use crate::domain::id::RevisionId;
use crate::domain::observation::{Fault, HostReading};
use crate::domain::time::Timestamp;

/// Times of one kind of event (restarts, kills) that are kept an instance.
const MAX_EVENTS: usize = 1024;

/// How often something happened, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Events(VecDeque<(Timestamp, u64)>);

impl Events {
    pub(super) fn push(&mut self, at: Timestamp, count: u64, keep: Keep) {
        if count == 0 {
            return;
        }
        if self.0.len() == MAX_EVENTS {
            self.0.pop_front();
        }
        self.0.push_back((at, count));
        let edge = at - keep.retention();
        while self.0.front().is_some_and(|(time, _)| *time <= edge) {
            self.0.pop_front();
        }
    }

    /// How many after `edge`.
    pub(super) fn after(&self, edge: Timestamp) -> u64 {
        self.0.iter().rev().take_while(|(time, _)| *time > edge).map(|(_, count)| count).sum()
    }
}

/// What the host says of one instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosted {
    reading: HostReading,
    /// When it was last read.
    pub(super) at: Option<Timestamp>,
    /// Why the newest reading failed.
    pub(super) fault: Option<String>,
    revision: Option<RevisionId>,
    /// Whether the next reading only sets where to count from.
    rebase: bool,
    pub(super) oom_kills: Events,
    pub(super) restarts: Events,
}

impl Hosted {
    /// Takes in a reading. Counters that fell began again at zero; the first reading, and the first after a change of
    /// release, are only where to count from. Gives the kills and restarts since the reading before.
    pub(super) fn take_in(&mut self, result: &Result<HostReading, Fault>, at: Timestamp, keep: Keep) -> (u64, u64) {
        if self.at.is_some_and(|last| last >= at) {
            return (0, 0);
        }
        let reading = match result {
            Ok(reading) => *reading,
            Err(fault) => {
                self.fault = Some(fault.to_string());
                return (0, 0);
            }
        };
        let growth = |before: Option<u64>, now: Option<u64>| match (before, now) {
            (Some(before), Some(now)) if now >= before => now - before,
            (Some(_), Some(now)) => now,
            (None, _) | (_, None) => 0,
        };
        let mut more = (0, 0);
        if self.at.is_some() && !self.rebase {
            more = (growth(self.reading.oom_kills, reading.oom_kills), growth(self.reading.restarts, reading.restarts));
            self.oom_kills.push(at, more.0, keep);
            self.restarts.push(at, more.1, keep);
        }
        self.rebase = false;
        self.reading = reading;
        self.at = Some(at);
        self.fault = None;
        more
    }

    /// The next reading only sets where to count from.
    pub(super) fn count_anew(&mut self) {
        self.rebase = true;
    }

    /// Notes the configured release; counts start anew when it changes.
    pub(super) fn turn(&mut self, revision: Option<&RevisionId>) {
        if self.revision.as_ref() == revision {
            return;
        }
        if self.revision.is_some() {
            self.rebase = true;
            self.oom_kills = Events::default();
            self.restarts = Events::default();
        }
        self.revision = revision.cloned();
    }

    pub(super) fn reading(&self) -> HostReading {
        self.reading
    }
}
