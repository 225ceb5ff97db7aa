//! Rollouts that were most likely given too late.

use std::fmt;

use super::bind::{Revision, Spot};
use crate::domain::id::RevisionId;
use crate::domain::time::{Span, Timestamp};

/// What comes by so much before the time of a rollout after which nothing comes is most likely the rollout's own.
const LATE: i64 = 600_000;

/// A rollout after whose time nothing new came, though something did shortly before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Late {
    at: Timestamp,
    revision: RevisionId,
    spot: String,
    before: Span,
}

impl Late {
    /// Of a rollout at `time` after which nothing was seen to come; what comes before `early` does not count for it.
    pub(super) fn of<'s>(
        time: i64,
        revision: &Revision,
        (early, begin): (i64, i64),
        spots: impl Iterator<Item = &'s Spot>,
    ) -> Option<Self> {
        let came = spots.filter_map(|spot| Some((spot.came_within(time.saturating_sub(LATE)..early, begin)?, spot)));
        let (came, spot) = came.min_by_key(|(came, _)| *came)?;
        let at = Timestamp::from_millis(time);
        let before = at.since(Timestamp::from_millis(came));
        Some(Self { at, revision: revision.id.clone(), spot: spot.name.clone(), before })
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Late { at, revision, spot, before } = self;
        write!(
            f,
            "{at}, when {revision} comes, may be late: {spot} appeared or was started {before} before it, and nothing after"
        )
    }
}
