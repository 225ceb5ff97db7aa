//! What outlasts the pauses of single targets, against the old release outside of them.
//!
//! Where each target pauses now and then, one of a fleet does so at almost any time, and a high quantile of the whole is that
//! of its pauses: a release whose every request is several times as slow is hardly worse by it. A target that is slow for longer
//! than any pause that is known ([`bursts`](crate::domain::health::bursts)) does not pause. It is held against the old
//! release's targets while they don't, by the same evidence as all is.

use super::evidence::ALIKE;
use super::sides::common;
use super::yardstick::{self, Step, Yardstick, yardsticks};
use super::{LATENCY_PART, Look, OUTSIDE_OF_PAUSES, Open, are_beside, cap, needed};
use crate::domain::health::around::Amount;
use crate::domain::health::quantile::{self, Bucket};
use crate::domain::health::reading::Basis;
use crate::domain::policy::Comparison;
use crate::domain::time::Span;
use crate::domain::units::{Finite, Unit};

/// All that the new release does, against the old one's targets outside of their pauses.
#[derive(Clone, Debug, Default)]
pub(super) struct Calm {
    yardsticks: Vec<Yardstick>,
    open: Open,
}

/// A new release that is worse by that.
pub(super) struct Worse {
    /// The old release outside of pauses.
    pub(super) old: Amount,
    /// From where on the new one is materially worse.
    pub(super) bound: Finite,
    /// Logarithm of the evidence, as a part of the whole bet.
    pub(super) evidence: f64,
}

impl Calm {
    pub(super) fn take_in(&mut self, look: &Look<'_>, comparison: Comparison) {
        let (calm, all) = (look.followed.calm.pooled(look.baseline), look.followed.past.pooled(look.baseline));
        if calm.all >= all.all {
            // Nobody pauses: it is what all of it is.
            self.open = Open::default();
            return;
        }
        for added in look.added {
            if added.release == *look.release {
                self.open.new.add(&added.grown);
            } else if added.release == *look.baseline {
                self.open.old.add(&added.calm);
            }
        }
        let passed = self.open.since.map_or(look.interval, |since| look.now.since(since));
        if passed == Span::ZERO || !are_beside(&self.open, look.signal.min_requests) {
            return;
        }
        let Open { new, old, .. } =
            std::mem::replace(&mut self.open, Open { since: Some(look.now), ..Open::default() });
        let margin = Comparison::usual(Unit::Ratio);
        if self.yardsticks.is_empty() {
            self.yardsticks = yardsticks(&new, &old, &calm, margin, comparison.factor.get());
        }
        let cap = cap(needed(comparison), passed, look.interval, LATENCY_PART);
        for yardstick in &mut self.yardsticks {
            yardstick.weigh(&new, &old, &calm, margin, &Step { cap, apart: 0.0, alike: ALIKE, passed });
        }
    }

    /// Whether the new release has been slow for longer than pauses explain, and is proven and seen to be materially worse.
    pub(super) fn outlasts(&self, look: &Look<'_>, comparison: Comparison) -> Option<Worse> {
        let (beside, beyond) = yardstick::evidence(&self.yardsticks);
        let evidence = beside.min(beyond) + OUTSIDE_OF_PAUSES.ln();
        let followed = look.followed;
        if evidence < needed(comparison)
            || !followed.outlasts_pauses(look.release, look.baseline, look.now, look.interval)
        {
            return None;
        }
        let Basis::Buckets { buckets, quantile, scale } = &look.grown.basis else { return None };
        let lately = followed.calm.since(look.baseline, look.now - look.signal.window);
        let is_thin = lately.all < look.signal.min_requests as f64;
        let old = if is_thin { followed.calm.pooled(look.baseline) } else { lately };
        let value = |of: &[Bucket], with: &[Bucket]| quantile::quantile(*quantile, &common(of, with)) * scale;
        let (new, was) = (value(buckets, &old.buckets), value(&old.buckets, buckets));
        let bound = Finite::new(comparison.bound(was))?;
        let old = Amount { value: Finite::new(was)?, samples: old.all as u64 };
        (new > bound.get()).then_some(Worse { old, bound, evidence })
    }
}
