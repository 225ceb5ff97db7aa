//! What share of errors, or of requests above a bound, is usual of a release's targets outside of their bursts.
//!
//! A mean would be drawn up by bursts that are not told yet, as at the beginning, where nothing is known of what is usual, and
//! then none would ever be told. A median holds as long as half of the looks are none of a burst (Hampel, Journal of the
//! American Statistical Association 69, 1974); of few requests it is zero, so it only says which looks are left out of the mean.

use std::collections::VecDeque;

use super::bursts::{self, Served};
use crate::domain::time::Timestamp;

/// Looks that are remembered, and how many with how many requests make it known.
const LOOKS: usize = 100;
const KNOWN: (usize, f64) = (10, 200.0);

/// The usual share, learned from looks at targets.
#[derive(Clone, Debug, Default)]
pub(super) struct Usual {
    /// Bad ones and all, oldest first.
    looks: VecDeque<(f64, f64)>,
    /// Of the looks before the newest time.
    share: Option<f64>,
    newest: Option<Timestamp>,
}

impl Usual {
    /// One look at one target.
    pub(super) fn learn(&mut self, now: Timestamp, served: Served) {
        if served.all <= 0.0 {
            return;
        }
        if self.newest.replace(now) != Some(now) {
            self.share = self.outside_of_bursts();
        }
        if self.looks.len() == LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back((served.bad, served.all));
    }

    /// The share; none where too little is known.
    pub(super) fn share(&self) -> Option<f64> {
        self.share
    }

    fn outside_of_bursts(&self) -> Option<f64> {
        let (least, requests) = KNOWN;
        if self.looks.len() < least || self.looks.iter().map(|(_, all)| all).sum::<f64>() < requests {
            return None;
        }
        let mut shares: Vec<f64> = self.looks.iter().map(|(bad, all)| bad / all).collect();
        let middle = shares.len() / 2;
        let (_, median, _) = shares.select_nth_unstable_by(middle, f64::total_cmp);
        let is_calm = |look: &&(f64, f64)| bursts::likelihood(**look, *median).is_none_or(|told| told < bursts::TOLD);
        let calm = self.looks.iter().filter(is_calm);
        let (bad, all) = calm.fold((0.0, 0.0), |sum, look| (sum.0 + look.0, sum.1 + look.1));
        Some(if all > 0.0 { bad / all } else { *median })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual(looks: impl IntoIterator<Item = (f64, f64)>) -> Option<f64> {
        let mut usual = Usual::default();
        let looks = (0..).zip(looks);
        looks.for_each(|(at, (bad, all))| usual.learn(Timestamp::from_millis(at), Served { bad, all, above: None }));
        usual.outside_of_bursts()
    }

    #[test]
    fn bursts_that_are_not_told_yet_are_no_part_of_it() {
        let of_ten =
            |burst: usize| (0..100).map(move |look| if look % 10 < burst { (80.0, 100.0) } else { (2.0, 100.0) });
        assert_eq!([0, 2, 4].map(|burst| usual(of_ten(burst))), [Some(0.02); 3]);
        assert!(usual(of_ten(6)).is_some_and(|share| share > 0.4), "what most are like is usual");
    }

    #[test]
    fn of_few_requests_single_errors_are_usual() {
        let share = usual((0..100).map(|look| (f64::from(u8::from(look % 10 == 0)), 20.0)));
        assert_eq!(share, Some(0.005));
    }

    #[test]
    fn little_makes_nothing_usual_and_what_is_long_ago_is_forgotten() {
        assert_eq!(usual([(1.0, 100.0); 9]), None);
        assert_eq!(usual([(1.0, 10.0); 19]), None);
        assert_eq!(usual([(1.0, 10.0); 20]), Some(0.1));
        assert_eq!(usual([(0.0, 0.0); 50]), None);
        assert_eq!(usual([(50.0, 100.0); 100].into_iter().chain([(1.0, 100.0); 100])), Some(0.01));
    }
}
