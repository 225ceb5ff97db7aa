//! The last looks at which the release before served beside the new one: a fault of both that sets in as it goes shows in
//! few of them, and in no whole minute.

use std::collections::VecDeque;

use super::past::Sum;
use crate::domain::id::RevisionId;
use crate::domain::policy::Candidate;
use crate::domain::time::{Span, Timestamp};

/// Looks that are kept, of at least an interval each.
const MAX_LOOKS: usize = 12;

#[derive(Clone, Debug)]
struct Both {
    begin: Timestamp,
    new: Sum,
    old: Sum,
}

/// What both releases did in these looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Departure {
    releases: Option<[RevisionId; 2]>,
    /// Oldest first.
    looks: VecDeque<Both>,
}

/// A fault in which the release before went.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Overlap {
    /// When the release before was last seen in it.
    pub(super) last: Timestamp,
    /// Both releases since it set in.
    pub(super) new: Sum,
    pub(super) old: Sum,
    /// The release before without the first look at it, which is seldom whole; none where there is no other.
    pub(super) whole: Option<Sum>,
}

impl Departure {
    /// What one look at both added. Looks at single targets come one by one: those of an interval are one.
    pub(super) fn take_in(&mut self, releases: [&RevisionId; 2], both: [Sum; 2], now: Timestamp, interval: Span) {
        if self.releases.as_ref().is_none_or(|known| known.each_ref() != releases) {
            *self = Self { releases: Some(releases.map(Clone::clone)), ..Self::default() };
        }
        let [new, old] = both;
        if let Some(open) = self.looks.back_mut().filter(|open| now.since(open.begin) < interval) {
            open.new.add(&new);
            open.old.add(&old);
            return;
        }
        // The release before may be gone.
        self.looks.pop_back_if(|last| last.old.all <= 0.0);
        if self.looks.len() == MAX_LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back(Both { begin: now, new, old });
    }

    /// The fault beyond `bound` that the new release was in at the last of these looks that the one before was seen in.
    pub(super) fn overlap(&self, candidate: &Candidate, bound: f64) -> Option<Overlap> {
        let is_bad = |look: &&Both| look.new.value(candidate).is_none_or(|value| value > bound);
        let seen = self.looks.iter().rev().skip_while(|look| look.old.all <= 0.0);
        let bad: Vec<&Both> = seen.take_while(is_bad).collect();
        if bad.iter().all(|look| look.new.all <= 0.0) {
            return None;
        }
        let sum = |looks: &[&Both], of: fn(&Both) -> &Sum| {
            let mut sum = Sum::default();
            looks.iter().for_each(|look| sum.add(of(look)));
            sum
        };
        let (last, whole) = (bad.first()?.begin, bad.get(..bad.len() - 1).filter(|whole| !whole.is_empty()));
        Some(Overlap {
            last,
            new: sum(&bad, |look| &look.new),
            old: sum(&bad, |look| &look.old),
            whole: whole.map(|whole| sum(whole, |look| &look.old)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::{Formula, OperandId};

    /// In place of requests.
    const NONE: f64 = -1.0;

    /// What both had in common beyond 10 %, of looks at 100 requests each with so many bad, ten seconds apart.
    fn overlap(looks: &[(f64, f64)]) -> Option<(i64, [f64; 2], Option<f64>)> {
        let (mut departure, [new, old]) = (Departure::default(), ["new", "old"].map(RevisionId::from));
        let formula = Formula::Ratio { bad: OperandId(0), total: OperandId(1) };
        let candidate = Candidate { convention: None, formula, scale: 1.0 };
        for (index, (of_new, of_old)) in looks.iter().enumerate() {
            let sum = |bad: f64| match bad {
                NONE => Sum::default(),
                bad => Sum { bad, all: 100.0, buckets: Vec::new() },
            };
            let now = Timestamp::from_millis(index as i64 * 10_000);
            departure.take_in([&new, &old], [sum(*of_new), sum(*of_old)], now, Span::from_secs(10));
        }
        let overlap = departure.overlap(&candidate, 0.1)?;
        let share = |sum: &Sum| sum.bad / sum.all;
        let both = [share(&overlap.new), share(&overlap.old)];
        Some((overlap.last.as_millis() / 10_000, both, overlap.whole.as_ref().map(share)))
    }

    #[test]
    fn what_both_were_in_as_the_one_went_is_told_by_looks() {
        assert_eq!(overlap(&[]), None);
        assert_eq!(overlap(&[(0.0, 0.0), (20.0, 16.0), (40.0, 40.0)]), Some((2, [0.3, 0.28], Some(0.4))));
        assert_eq!(overlap(&[(0.0, 0.0), (20.0, 16.0)]), Some((1, [0.2, 0.16], None)), "one look");
        assert_eq!(overlap(&[(0.0, 0.0), (20.0, 0.0)]), Some((1, [0.2, 0.0], None)), "the old one is well");
        assert_eq!(overlap(&[(0.0, 0.0), (0.0, 60.0)]), None, "only the old one fails as it ends");
        assert_eq!(overlap(&[(40.0, 40.0), (0.0, 0.0)]), None, "it was over");
        let single = [(0.0, 0.0), (20.0, 16.0), (40.0, NONE), (40.0, 40.0), (NONE, 40.0), (40.0, NONE), (40.0, NONE)];
        assert_eq!(overlap(&single), Some((4, [0.3, 0.32], Some(0.4))), "targets are seen one by one");
        assert_eq!(overlap(&[(0.0, 0.0), (NONE, 60.0), (40.0, NONE)]), None, "nothing shows that it was of both");
    }

    #[test]
    fn looks_of_another_rollout_are_none_of_this_one() {
        let (mut departure, names) = (Departure::default(), ["v1", "v2", "v3"].map(RevisionId::from));
        let sum = |bad: f64| Sum { bad, all: 100.0, buckets: Vec::new() };
        let at = |second: i64| Timestamp::from_millis(second * 1000);
        for second in 0..30 {
            departure.take_in([&names[1], &names[0]], [sum(0.0), sum(0.0)], at(second), Span::from_secs(10));
        }
        assert_eq!(departure.looks.len(), 3, "of an interval each");
        departure.take_in([&names[2], &names[1]], [sum(0.0), sum(0.0)], at(100), Span::from_secs(10));
        assert_eq!(departure.looks.len(), 1);
    }
}
