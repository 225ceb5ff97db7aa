//! What each signal was over the last while, for the plot in a report.

use std::collections::VecDeque;

use crate::domain::time::{Span, Timestamp};
use crate::domain::units::Finite;

/// Points kept a signal.
const MAX_POINTS: usize = 720;

/// One value an interval, newest last. Single precision, as a plot shows no more.
#[derive(Clone, Debug)]
pub(super) struct History {
    interval: i64,
    /// The interval that the newest value belongs to.
    newest: i64,
    values: VecDeque<f32>,
}

impl History {
    pub(super) fn new(interval: Span) -> Self {
        let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        Self { interval, newest: 0, values: VecDeque::new() }
    }

    /// Notes the value at `now`; the last in an interval stays.
    pub(super) fn push(&mut self, now: Timestamp, value: Option<Finite>) {
        let slot = now.as_millis().div_euclid(self.interval);
        let value = value.map_or(f32::NAN, |value| value.get() as f32);
        if self.values.is_empty() {
            if value.is_nan() {
                return;
            }
            self.newest = slot;
            self.values.push_back(value);
            return;
        }
        let behind = slot.saturating_sub(self.newest);
        if behind <= 0 {
            if let (0, Some(last)) = (behind, self.values.back_mut()) {
                *last = value;
            }
            return;
        }
        let missing = usize::try_from(behind - 1).unwrap_or(MAX_POINTS).min(MAX_POINTS);
        self.values.extend(std::iter::repeat_n(f32::NAN, missing));
        self.values.push_back(value);
        self.newest = slot;
        let surplus = self.values.len().saturating_sub(MAX_POINTS);
        self.values.drain(..surplus);
    }

    /// The points, oldest first, each at the start of its interval.
    pub(super) fn points(&self) -> Vec<(Timestamp, Option<Finite>)> {
        let first = self.newest - self.values.len() as i64 + 1;
        let at = |index: usize| Timestamp::from_millis((first + index as i64) * self.interval);
        self.values.iter().enumerate().map(|(index, value)| (at(index), Finite::new(f64::from(*value)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_an_interval_and_nothing_where_nobody_looked() {
        let mut history = History::new(Span::from_secs(5));
        for (seconds, value) in [(1, None), (5, Some(1.0)), (9, Some(2.0)), (10, Some(3.0)), (22, Some(4.0))] {
            history.push(Timestamp::from_millis(seconds * 1000), value.and_then(Finite::new));
        }
        let points: Vec<_> =
            history.points().iter().map(|(at, value)| (at.as_millis() / 1000, value.map(Finite::get))).collect();
        assert_eq!(points, [(5, Some(2.0)), (10, Some(3.0)), (15, None), (20, Some(4.0))]);
    }

    #[test]
    fn the_oldest_goes() {
        let mut history = History::new(Span::from_secs(1));
        for second in 0..2_000 {
            history.push(Timestamp::from_millis(second * 1000), Finite::new(second as f64));
        }
        let points = history.points();
        assert_eq!(points.len(), MAX_POINTS);
        assert_eq!(points.first().map(|(at, _)| at.as_millis()), Some(1_280_000));
    }
}
