//! Whether a rollout makes no more progress, by the word of the orchestrator that carries it out.

use super::reading::{Basis, Reading, Scope};
use super::verdict::UnknownReason;
use crate::domain::id::RevisionId;
use crate::domain::time::Timestamp;

/// What was last seen of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) at: Timestamp,
    pub(super) desired: RevisionId,
    pub(super) is_stalled: bool,
}

/// 1 where the rollout of the release in question is past its progress deadline, 0 where it is not.
pub(super) fn read(seen: Option<&Seen>, scope: Scope<'_>) -> Reading {
    match seen {
        None => Reading::unknown(UnknownReason::NotOffered),
        Some(seen) if scope.revision.is_some_and(|revision| *revision != seen.desired) => {
            Reading::unknown(UnknownReason::NoTarget)
        }
        Some(seen) if !scope.is_fresh(seen.at) => Reading::unknown(UnknownReason::Stale { newest: seen.at }),
        Some(seen) => Reading::of(f64::from(u8::from(seen.is_stalled)), 1, Some(seen.at), Basis::Plain),
    }
}
