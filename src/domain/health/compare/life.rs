//! A comparison's life: beside the other release the evidence fires it, against the past it must hold.
//!
//! Against the past a good look turns the clock back half as fast as a bad one turns it on, instead of resetting it: a
//! fault that is bad for three minutes of every five is a fault, and one burst that is shorter than the hold never fires.

use crate::domain::health::trigger::MAX_UNKNOWN_INTERVALS;
use crate::domain::health::verdict::TriggerState;
use crate::domain::time::{Span, Timestamp};

/// Intervals that one look vouches for.
const VOUCHED_INTERVALS: u64 = 2;

/// Good time takes back this part of it.
const LEAK: u64 = 2;

/// What one look at a comparison says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finding {
    /// Proven worse than the release beside it.
    Proven,
    /// Likely worse than the release beside it, not proven.
    Likely,
    /// No worse than the release beside it.
    Alike,
    /// Worse than the past, proven by what was seen since it began.
    Worse,
    /// Worse than the past by its value, not proven.
    Unproven,
    /// No worse than the past.
    Good,
    /// Nothing known.
    Unknown,
}

/// Where a comparison is in its life.
#[derive(Clone, Debug)]
pub(in crate::domain::health) struct Life {
    state: TriggerState,
    /// Time that it was worse than the past, less the leak.
    held: Span,
    /// When it began to be worse.
    since: Option<Timestamp>,
    before: Option<(Timestamp, Finding)>,
    unknown_since: Option<Timestamp>,
}

impl Life {
    pub(super) fn new() -> Self {
        Self { state: TriggerState::Inactive, held: Span::ZERO, since: None, before: None, unknown_since: None }
    }

    pub(in crate::domain::health) fn state(&self) -> TriggerState {
        self.state
    }

    /// Since when it has been worse than the past, breaks that did not end it included.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    pub(in crate::domain::health) fn restore(&mut self, state: TriggerState, last_seen: Timestamp) {
        (self.since, self.held) = match state {
            TriggerState::Inactive => (None, Span::ZERO),
            TriggerState::Pending { since, held } => (Some(since), held),
            TriggerState::Firing { since, at } => (Some(since), at.since(since)),
        };
        self.state = state;
        self.before = Some((last_seen, Finding::Unknown));
        self.unknown_since = None;
    }

    /// One look. `onset` is when the evidence beside the other release began to rise.
    pub(super) fn advance(
        &mut self,
        now: Timestamp,
        finding: Finding,
        onset: Timestamp,
        hold_for: Span,
        interval: Span,
    ) {
        let (last, before) = self.before.replace((now, finding)).unwrap_or((now, Finding::Unknown));
        let patience = interval.times(MAX_UNKNOWN_INTERVALS);
        if now.since(last) > patience {
            self.give_up();
        }
        let passed = now.since(last).min(interval.times(VOUCHED_INTERVALS));
        let unknown_since = self.unknown_since.take();
        match finding {
            Finding::Proven => self.fire(self.since.unwrap_or(onset).min(onset), now),
            Finding::Likely => {
                let since = *self.since.get_or_insert(onset);
                self.state = TriggerState::Pending { since, held: now.since(since) };
            }
            // What held against the past is no evidence beside the other release, and takes as long to be undone.
            Finding::Alike if self.held > Span::ZERO => self.leak(passed),
            Finding::Alike => self.end(),
            Finding::Worse | Finding::Unproven => {
                let since = *self.since.get_or_insert(now);
                if matches!(before, Finding::Worse | Finding::Unproven) {
                    self.held = self.held + passed;
                }
                if finding == Finding::Worse && self.held >= hold_for {
                    self.fire(since, now);
                } else {
                    self.pend(since);
                }
            }
            Finding::Good => self.leak(passed),
            Finding::Unknown => {
                let since = unknown_since.unwrap_or(now);
                self.unknown_since = Some(since);
                if now.since(since) > patience {
                    self.give_up();
                }
            }
        }
    }

    fn fire(&mut self, since: Timestamp, now: Timestamp) {
        self.since = Some(since);
        if !matches!(self.state, TriggerState::Firing { .. }) {
            self.state = TriggerState::Firing { since, at: now };
        }
    }

    fn pend(&mut self, since: Timestamp) {
        match self.state {
            TriggerState::Firing { .. } => {}
            TriggerState::Inactive | TriggerState::Pending { .. } => {
                self.state = TriggerState::Pending { since, held: self.held };
            }
        }
    }

    fn leak(&mut self, passed: Span) {
        let leaked = passed.as_millis() / LEAK;
        self.held = Span::from_millis(self.held.as_millis().saturating_sub(leaked));
        match self.since {
            Some(since) if self.held > Span::ZERO => self.state = TriggerState::Pending { since, held: self.held },
            Some(_) | None => self.end(),
        }
    }

    /// Too long without knowledge: what was only building up is void, what fires goes on.
    fn give_up(&mut self) {
        match self.state {
            TriggerState::Firing { .. } => {}
            TriggerState::Inactive | TriggerState::Pending { .. } => self.end(),
        }
    }

    fn end(&mut self) {
        self.state = TriggerState::Inactive;
        self.held = Span::ZERO;
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    /// Looks once a second; runs of letters: `b` worse, `u` unproven, `g` good, `?` unknown, `L` likely, `P` proven, `a` alike.
    fn live(runs: &[(char, i64)], hold_for: u64) -> (Life, Option<i64>) {
        let mut life = Life::new();
        let (mut second, mut fired) = (0, None);
        for (letter, seconds) in runs {
            for _ in 0..*seconds {
                let finding = match letter {
                    'b' => Finding::Worse,
                    'u' => Finding::Unproven,
                    'g' => Finding::Good,
                    'L' => Finding::Likely,
                    'P' => Finding::Proven,
                    'a' => Finding::Alike,
                    _ => Finding::Unknown,
                };
                let now = at(second);
                life.advance(now, finding, now, Span::from_secs(hold_for), Span::from_secs(1));
                if matches!(life.state(), TriggerState::Firing { .. }) {
                    fired.get_or_insert(second);
                }
                second += 1;
            }
        }
        (life, fired)
    }

    #[test]
    fn against_the_past_it_must_hold_and_breaks_only_turn_back() {
        type Case = (&'static str, &'static [(char, i64)], Option<i64>);
        let cases: [Case; 10] = [
            ("five minutes of it", &[('b', 400)], Some(300)),
            ("shorter", &[('b', 299), ('g', 700)], None),
            (
                "bad three minutes of every five",
                &[('b', 180), ('g', 120), ('b', 180), ('g', 120), ('b', 180)],
                Some(662),
            ),
            (
                "bad one minute of every five",
                &[('b', 60), ('g', 240), ('b', 60), ('g', 240), ('b', 60), ('g', 240)],
                None,
            ),
            ("unproven does not fire", &[('u', 900)], None),
            ("proof may come late", &[('u', 400), ('b', 1)], Some(400)),
            ("unknown pauses", &[('b', 200), ('?', 4), ('b', 200)], Some(305)),
            ("long unknown ends it", &[('b', 299), ('?', 60), ('b', 200)], None),
            ("a look beside the other turns back as well", &[('b', 200), ('a', 20), ('b', 130)], Some(331)),
            ("evidence needs no time", &[('a', 10), ('P', 1)], Some(10)),
        ];
        for (name, runs, expected) in cases {
            assert_eq!(live(runs, 300).1, expected, "{name}");
        }
    }

    #[test]
    fn what_nobody_looked_at_for_long_begins_anew() {
        let (since, held) = (at(-60), Span::from_secs(37));
        let (pending, firing) = (TriggerState::Pending { since, held }, TriggerState::Firing { since, at: at(-10) });
        let anew = TriggerState::Pending { since: at(50), held: Span::ZERO };
        let cases = [
            (pending, 5, Finding::Worse, pending),
            (pending, 50, Finding::Worse, anew),
            (pending, 50, Finding::Unknown, TriggerState::Inactive),
            (firing, 50, Finding::Worse, firing),
            (firing, 50, Finding::Unknown, firing),
        ];
        for (state, later, finding, expected) in cases {
            let mut life = Life::new();
            life.restore(state, at(0));
            life.advance(at(later), finding, at(later), Span::from_secs(60), Span::from_secs(1));
            assert_eq!(life.state(), expected, "{state:?} after {later} s: {finding:?}");
        }
    }

    #[test]
    fn a_firing_one_goes_on_through_silence_and_ends_with_the_first_good_look() {
        let (life, _) = live(&[('P', 2), ('?', 60)], 300);
        assert!(matches!(life.state(), TriggerState::Firing { .. }));
        let (life, _) = live(&[('P', 2), ('?', 60), ('a', 1)], 300);
        assert_eq!(life.state(), TriggerState::Inactive);
        let (life, _) = live(&[('b', 400), ('g', 1)], 300);
        assert!(matches!(life.state(), TriggerState::Pending { .. }));
        let (life, _) = live(&[('L', 3)], 300);
        assert_eq!(life.state(), TriggerState::Pending { since: at(0), held: Span::from_secs(2) });
    }
}
