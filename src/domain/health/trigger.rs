//! A trigger's life, in Prometheus' words: inactive → pending → firing → inactive.
//!
//! As in Prometheus (rules/alerting.go, `Eval`): a breach makes it pending, `for` later it fires, the first good look
//! makes it inactive. Added to that: unknown pauses the clock, and ends a pending one after five intervals; and a share
//! that is beyond its bound but not proven runs the clock without firing, so that low traffic stretches the time to
//! proof and never lowers the bar. A firing trigger stays firing while nothing is known: silence is no recovery. Whoever
//! acts on it must look at the verdict too, which then says unknown.

use super::judge::Tally;
use super::verdict::TriggerState;
use crate::domain::time::{Span, Timestamp};

/// Intervals without knowledge after which a pending trigger starts anew.
pub(super) const MAX_UNKNOWN_INTERVALS: u64 = 5;

/// Intervals that one look vouches for: time beyond that between two looks is not counted as breached.
const VOUCHED_INTERVALS: u64 = 2;

/// What one evaluation says. Ordered from good to bad, so that the least of several is what all of them come to, and the
/// greatest what any of them comes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Finding {
    /// Good.
    Good,
    /// Nothing known.
    Unknown,
    /// Beyond the bound, not proven.
    Unproven,
    /// Bad and proven.
    Bad,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Inactive,
    /// Beyond the bound since then, but never yet proven: shown as inactive.
    Suspected(Run),
    Pending(Run),
    Firing {
        since: Timestamp,
        at: Timestamp,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    since: Timestamp,
    held: Span,
}

/// Requests counted since the onset, to prove over a long time what a window can't.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Pool {
    part: f64,
    all: f64,
    until: Timestamp,
}

/// One trigger's place in its life.
#[derive(Clone, Debug)]
pub(super) struct Lifecycle {
    phase: Phase,
    /// The evaluation before, and whether it counts as breached up to the next.
    before: Option<(Timestamp, bool)>,
    unknown_since: Option<Timestamp>,
    /// One a term, while something is suspected.
    pools: Vec<Pool>,
    terms: usize,
}

impl Lifecycle {
    /// Nothing seen yet, of a trigger with so many terms.
    pub(super) fn new(terms: usize) -> Self {
        Self { phase: Phase::Inactive, before: None, unknown_since: None, pools: Vec::new(), terms }
    }

    /// Where it is, in the words for others.
    pub(super) fn state(&self) -> TriggerState {
        match self.phase {
            Phase::Inactive | Phase::Suspected(_) => TriggerState::Inactive,
            Phase::Pending(Run { since, held }) => TriggerState::Pending { since, held },
            Phase::Firing { since, at } => TriggerState::Firing { since, at },
        }
    }

    /// Whether nothing at all speaks against the signal.
    pub(super) fn is_quiet(&self) -> bool {
        match self.phase {
            Phase::Inactive => true,
            Phase::Suspected(_) | Phase::Pending(_) | Phase::Firing { .. } => false,
        }
    }

    /// Takes up the state from before a restart. As Prometheus (rules/group.go, `RestoreForState`) the time that nobody
    /// looked does not count as breached; past five intervals of it a pending trigger starts anew at the next evaluation.
    /// A firing one goes on until a good look ends it, since a pause of this side is no recovery of the other.
    pub(super) fn restore(&mut self, state: TriggerState, last_seen: Timestamp) {
        self.phase = match state {
            TriggerState::Inactive => Phase::Inactive,
            TriggerState::Pending { since, held } => Phase::Pending(Run { since, held }),
            TriggerState::Firing { since, at } => Phase::Firing { since, at },
        };
        self.before = Some((last_seen, false));
        self.unknown_since = None;
        self.pools.clear();
    }

    /// Until when a term's requests have been pooled; none while nothing is suspected.
    pub(super) fn pooled_until(&self, term: usize) -> Option<Timestamp> {
        self.pools.get(term).map(|pool| pool.until)
    }

    /// Adds a term's requests since [`Lifecycle::pooled_until`] and returns all since the onset.
    pub(super) fn pool(&mut self, term: usize, newer: Tally, now: Timestamp) -> Tally {
        let Some(pool) = self.pools.get_mut(term) else { return newer };
        let tally = newer.plus(pool.part, pool.all);
        *pool = Pool { part: tally.part, all: tally.all, until: now };
        tally
    }

    /// One evaluation.
    pub(super) fn advance(&mut self, now: Timestamp, finding: Finding, hold_for: Span, interval: Span) {
        let patience = interval.times(MAX_UNKNOWN_INTERVALS);
        let (last, was_breached) = self.before.unwrap_or((now, false));
        if now.since(last) > patience {
            self.give_up();
        }
        let breached = if was_breached { now.since(last).min(interval.times(VOUCHED_INTERVALS)) } else { Span::ZERO };
        self.before = Some((now, matches!(finding, Finding::Bad | Finding::Unproven)));
        let unknown_since = self.unknown_since.take();
        match finding {
            Finding::Good => self.end(),
            Finding::Bad => self.breach(now, breached, true, hold_for),
            Finding::Unproven => self.breach(now, breached, false, hold_for),
            Finding::Unknown => {
                let since = unknown_since.unwrap_or(now);
                self.unknown_since = Some(since);
                if now.since(since) > patience {
                    self.give_up();
                }
            }
        }
    }

    /// Forgets everything, as at the start.
    pub(super) fn reset(&mut self) {
        let before = self.before;
        *self = Self::new(self.terms);
        self.before = before.map(|(at, _)| (at, false));
    }

    fn breach(&mut self, now: Timestamp, breached: Span, is_proven: bool, hold_for: Span) {
        let (run, was_proven) = match self.phase {
            Phase::Inactive => (Run { since: now, held: Span::ZERO }, false),
            Phase::Suspected(run) => (Run { held: run.held + breached, ..run }, false),
            Phase::Pending(run) => (Run { held: run.held + breached, ..run }, true),
            Phase::Firing { .. } => return,
        };
        if self.pools.is_empty() {
            self.pools = vec![Pool { part: 0.0, all: 0.0, until: now }; self.terms];
        }
        self.phase = if is_proven && run.held >= hold_for {
            Phase::Firing { since: run.since, at: now }
        } else if is_proven || was_proven {
            Phase::Pending(run)
        } else {
            Phase::Suspected(run)
        };
    }

    /// Too long without knowledge: what was only building up is void, what fires goes on.
    fn give_up(&mut self) {
        match self.phase {
            Phase::Suspected(_) | Phase::Pending(_) => self.end(),
            Phase::Inactive | Phase::Firing { .. } => {}
        }
    }

    fn end(&mut self) {
        self.phase = Phase::Inactive;
        self.pools.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    /// One letter a finding: good, bad, unproven, unknown (`?`).
    fn finding(letter: char) -> Finding {
        match letter {
            'g' => Finding::Good,
            'b' => Finding::Bad,
            'u' => Finding::Unproven,
            '?' => Finding::Unknown,
            other => panic!("{other}"),
        }
    }

    /// A state in short: `-`, `s3` suspected or `p3` pending for 3 s, `F`.
    fn short(life: &Lifecycle) -> String {
        match life.phase {
            Phase::Inactive => "-".to_owned(),
            Phase::Suspected(run) => format!("s{}", run.held.as_millis() / 1000),
            Phase::Pending(run) => format!("p{}", run.held.as_millis() / 1000),
            Phase::Firing { .. } => "F".to_owned(),
        }
    }

    #[test]
    fn one_evaluation_a_second() {
        let cases = [
            ("fires once held", 3, "gbbbbbg", "- p0 p1 p2 F F -"),
            ("at once without a duration", 0, "gbg", "- F -"),
            ("good resets", 3, "bbgbb", "p0 p1 - p0 p1"),
            ("unknown pauses", 3, "bb?bb?bb", "p0 p1 p1 p1 p2 p2 p2 F"),
            ("unknown past five intervals resets", 9, "bb??????", "p0 p1 p1 p1 p1 p1 p1 p1"),
            ("and no sooner", 9, "bb???????b", "p0 p1 p1 p1 p1 p1 p1 p1 - p0"),
            ("firing outlasts the unknown", 0, "b????????b", "F F F F F F F F F F"),
            ("unproven alone never shows", 2, "uuuu", "s0 s1 s2 s3"),
            ("proof comes late and the time counts", 2, "uuuub", "s0 s1 s2 s3 F"),
            ("proven once, then carried by its value", 4, "buuuu", "p0 p1 p2 p3 p4"),
            ("and fires with proof only", 3, "buuuub", "p0 p1 p2 p3 p4 F"),
            ("unproven keeps a firing one", 0, "buug", "F F F -"),
        ];
        for (name, hold_for, findings, expected) in cases {
            let mut life = Lifecycle::new(1);
            let states: Vec<String> = findings
                .chars()
                .enumerate()
                .map(|(second, letter)| {
                    life.advance(at(second as i64), finding(letter), Span::from_secs(hold_for), Span::from_secs(1));
                    short(&life)
                })
                .collect();
            assert_eq!(states.join(" "), expected, "{name}");
        }
    }

    #[test]
    fn two_looks_far_apart_do_not_vouch_for_the_time_between() {
        let mut life = Lifecycle::new(1);
        for second in [0, 4, 8] {
            life.advance(at(second), Finding::Bad, Span::from_secs(60), Span::from_secs(1));
        }
        assert_eq!(short(&life), "p4");
        life.advance(at(14), Finding::Bad, Span::from_secs(60), Span::from_secs(1));
        assert_eq!(short(&life), "p0");
    }

    #[test]
    fn a_restart_gives_back_what_was() {
        let held = Span::from_secs(7);
        let pending = TriggerState::Pending { since: at(-7), held };
        let firing = TriggerState::Firing { since: at(-7), at: at(-1) };
        let cases = [
            (pending, 4, 'b', "p7"),
            (pending, 6, 'b', "p0"),
            (pending, 4, '?', "p7"),
            (pending, 6, '?', "-"),
            (firing, 600, '?', "F"),
            (firing, 600, 'g', "-"),
            (TriggerState::Inactive, 1, 'b', "p0"),
        ];
        for (state, later, letter, expected) in cases {
            let mut life = Lifecycle::new(1);
            life.restore(state, at(0));
            life.advance(at(later), finding(letter), Span::from_secs(60), Span::from_secs(1));
            assert_eq!(short(&life), expected, "{state:?} after {later} s: {letter}");
        }
    }
}
