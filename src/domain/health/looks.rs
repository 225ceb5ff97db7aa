//! How looks at an address ended, and what a health endpoint says.

use std::collections::VecDeque;

use super::attribution::{Era, Serves, Told};
use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::observation::{Answer, Fault};
use crate::domain::time::Timestamp;

/// Looks whose outcome is kept, and so the most answers in a row that a gate can ask for.
pub(super) const MAX_LOOKS: usize = 16;

/// How one look ended.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Outcome {
    /// As it should be.
    Good,
    /// The peer is at fault; what was seen, in one line.
    Bad(String),
    /// This side could not look; why, in one line.
    Unseen(String),
}

/// One look and its outcome.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Look {
    pub(super) at: Timestamp,
    pub(super) outcome: Outcome,
    /// The release that said it answered.
    pub(super) revision: Option<RevisionId>,
}

/// The newest looks at one address.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks {
    /// Oldest first.
    kept: VecDeque<Look>,
    /// Whether it was well when that was noted last.
    pub(super) was_well: bool,
}

impl Looks {
    pub(super) fn push(&mut self, look: Look) {
        if self.kept.len() == MAX_LOOKS {
            self.kept.pop_front();
        }
        self.kept.push_back(look);
    }

    /// The newest look.
    pub(super) fn last(&self) -> Option<&Look> {
        self.kept.back()
    }

    /// Whether the newest `count` looks were bad, each of them.
    pub(super) fn are_bad(&self, count: usize) -> bool {
        let newest = self.kept.iter().rev().take(count);
        newest.filter(|look| matches!(look.outcome, Outcome::Bad(_))).count() == count
    }

    /// Notes whether the newest `count` looks were good, each of them that there was.
    pub(super) fn note_well(&mut self, count: usize) {
        let mut newest = self.kept.iter().rev().take(count);
        self.was_well = !self.kept.is_empty() && newest.all(|look| look.outcome == Outcome::Good);
    }

    /// The newest after `since`.
    pub(super) fn newest_since(&self, since: Timestamp) -> Option<&Look> {
        self.after(since).next()
    }

    /// Looks after `since`, newest first.
    pub(super) fn after(&self, since: Timestamp) -> impl Iterator<Item = &Look> {
        self.kept.iter().rev().take_while(move |look| look.at > since)
    }
}

impl Outcome {
    pub(super) fn of_fault(fault: &Fault) -> Self {
        if fault.kind.is_peers() { Outcome::Bad(fault.to_string()) } else { Outcome::Unseen(fault.to_string()) }
    }
}

/// A probed health endpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct Probed {
    pub(super) instance: Option<InstanceId>,
    pub(super) era: Era,
    pub(super) told: Option<Told>,
    pub(super) looks: Looks,
}

impl Probed {
    /// Takes in an answer or its absence.
    pub(super) fn take_in(&mut self, result: &Result<Answer, Fault>, at: Timestamp) {
        let (outcome, revision) = match result {
            Ok(answer) if answer.healthy => (Outcome::Good, answer.revision.clone()),
            Ok(answer) => (Outcome::Bad(answer.detail.clone()), answer.revision.clone()),
            Err(fault) => (Outcome::of_fault(fault), None),
        };
        if let Some(revision) = &revision {
            self.told = Some(Told { revision: revision.clone(), at });
        }
        self.looks.push(Look { at, outcome, revision });
    }

    /// Notes which release is served; answers of another one don't count.
    pub(super) fn turn(&mut self, serves: Serves, at: Timestamp) {
        self.era.turn(serves, at);
    }

    /// The newest look at the release that is served now.
    pub(super) fn last(&self) -> Option<&Look> {
        let since = self.era.changed;
        self.looks.last().filter(|look| since.is_none_or(|since| look.at >= since))
    }
}
