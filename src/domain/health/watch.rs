//! One trigger, watched.

use super::compare::Comparer;
use super::judge::Judgement;
use super::trigger::Lifecycle;
use super::verdict::{TriggerState, UnknownReason};
use crate::domain::policy::{Condition, Trigger};
use crate::domain::time::Timestamp;

/// One trigger's life, and since when it can't be judged for want of sight.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) lifecycle: Lifecycle,
    /// What takes the lifecycle's place where the trigger compares.
    pub(super) comparer: Option<Comparer>,
    pub(super) sightless_since: Option<Timestamp>,
}

impl Watch {
    pub(super) fn new(trigger: &Trigger) -> Self {
        let comparer = match trigger.condition {
            Condition::WorseThanBaseline(comparison) => Some(Comparer::new(comparison)),
            Condition::Above(_) | Condition::Below(_) => None,
        };
        Self { lifecycle: Lifecycle::new(trigger.terms().count()), comparer, sightless_since: None }
    }

    pub(super) fn restore(&mut self, state: TriggerState, last_seen: Timestamp) {
        match &mut self.comparer {
            Some(comparer) => comparer.life.restore(state, last_seen),
            None => self.lifecycle.restore(state, last_seen),
        }
    }

    pub(super) fn reset(&mut self) {
        self.lifecycle.reset();
        self.sightless_since = None;
        if let Some(comparer) = &mut self.comparer {
            comparer.reset();
        }
    }

    pub(super) fn state(&self) -> TriggerState {
        self.comparer.as_ref().map_or(self.lifecycle.state(), |comparer| comparer.life.state())
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.comparer
            .as_ref()
            .map_or(self.lifecycle.is_quiet(), |comparer| comparer.life.state() == TriggerState::Inactive)
    }

    /// Notes whether there is sight at all.
    pub(super) fn note_sight(&mut self, judgement: &Judgement, now: Timestamp) {
        self.sightless_since = match judgement {
            Judgement::Unknown(lack) if is_sightless(&lack.reason) => self.sightless_since.or(Some(now)),
            Judgement::Unknown(_)
            | Judgement::Good
            | Judgement::Bad
            | Judgement::Unproven
            | Judgement::Straddled(_)
            | Judgement::AssumedGood
            | Judgement::AssumedBad => None,
        };
    }
}

/// Whether the reason is that nothing can be seen, rather than that there is little to see.
fn is_sightless(reason: &UnknownReason) -> bool {
    match reason {
        UnknownReason::NoTarget
        | UnknownReason::NoReading
        | UnknownReason::NoSuchSeries { .. }
        | UnknownReason::Stale { .. }
        | UnknownReason::OffTheScale { .. }
        | UnknownReason::NoHistogram
        | UnknownReason::NotFinite
        | UnknownReason::Partial { .. }
        | UnknownReason::Blind { .. } => true,
        UnknownReason::TooFewRequests { .. }
        | UnknownReason::NotProven
        | UnknownReason::WarmingUp
        | UnknownReason::NoBaseline
        | UnknownReason::CoarseBucket { .. }
        | UnknownReason::NothingCounted
        | UnknownReason::OwnBurst { .. }
        | UnknownReason::NotOffered => false,
    }
}
