//! Signals that a Prometheus server computes: the newest answer, and whether it can be relied on.
//!
//! The server is this side's sight. Where it is silent, late, partial or ambiguous nothing is known, and no policy makes
//! that count against a release.

use super::reading::{Basis, Lack, Reading, Scope};
use super::verdict::UnknownReason;
use crate::domain::observation::{Fault, QueryAnswer};
use crate::domain::time::Timestamp;

/// The answers to one expression.
#[derive(Clone, Debug, Default)]
pub(super) struct Queried {
    newest: Option<(Timestamp, QueryAnswer)>,
    /// Why the newest look failed, where it did.
    fault: Option<String>,
    at: Option<Timestamp>,
}

impl Queried {
    /// Takes in an answer or its absence; an older one than the newest is left out.
    pub(super) fn take_in(&mut self, result: &Result<QueryAnswer, Fault>, at: Timestamp) {
        if self.at.is_some_and(|last| last >= at) {
            return;
        }
        self.at = Some(at);
        match result {
            Ok(answer) => {
                self.newest = Some((at, answer.clone()));
                self.fault = None;
            }
            Err(fault) => self.fault = Some(fault.to_string()),
        }
    }

    /// When the server answered last, with a value or without.
    pub(super) fn answered(&self) -> Option<Timestamp> {
        self.newest.as_ref().map(|(at, _)| *at)
    }

    /// The value, where it speaks of now. The time that the server evaluated for must be fresh as well: a cache in
    /// between, or a server whose clock stands still, answers at once and says something old.
    pub(super) fn read(&self, scope: Scope<'_>, scale: f64) -> Reading {
        let own = |reason| Reading::lack(Lack { reason, is_own: true });
        if let Some(fault) = &self.fault {
            return own(UnknownReason::Blind { fault: fault.clone() });
        }
        let Some((at, answer)) = &self.newest else { return Reading::unknown(UnknownReason::NoReading) };
        let spoken = answer.evaluated.map_or(*at, |evaluated| evaluated.min(*at));
        if scope.since.is_some_and(|since| spoken <= since) {
            return Reading::unknown(UnknownReason::NoReading);
        }
        if !scope.is_fresh(spoken) {
            return own(UnknownReason::Stale { newest: spoken });
        }
        if let Some(warning) = &answer.warning {
            return own(UnknownReason::Partial { warning: warning.clone() });
        }
        match answer.value {
            Some(value) if value.is_nan() => Reading::unknown(UnknownReason::NothingCounted),
            Some(value) => Reading::of(value * scale, 1, Some(spoken), Basis::Plain),
            None => Reading::unknown(UnknownReason::NoSuchSeries { nearest: Vec::new(), gone: None }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::at;
    use super::*;
    use crate::domain::observation::FaultKind;
    use crate::domain::time::Span;

    fn answer(value: Option<f64>, evaluated: i64, warning: Option<&str>) -> QueryAnswer {
        QueryAnswer { value, evaluated: value.map(|_| at(evaluated)), warning: warning.map(str::to_owned) }
    }

    fn read(
        results: &[(i64, Result<QueryAnswer, Fault>)],
        now: i64,
        since: Option<i64>,
    ) -> Result<f64, (String, bool)> {
        let mut queried = Queried::default();
        for (seconds, result) in results {
            queried.take_in(result, at(*seconds));
        }
        let scope = Scope { revision: None, now: at(now), fresh: Span::from_secs(10), since: since.map(at) };
        queried.read(scope, 1.0).value.map(|value| value.get()).map_err(|lack| (lack.reason.to_string(), lack.is_own))
    }

    #[test]
    fn an_answer_counts_while_it_speaks_of_now() {
        let good = |value, evaluated| Ok(answer(Some(value), evaluated, None));
        let down = || Err(Fault { kind: FaultKind::Refused, detail: "connection refused".to_owned() });
        let lack = |reason: &str, is_own| Err((reason.to_owned(), is_own));
        assert_eq!(read(&[(10, good(0.5, 10))], 12, None), Ok(0.5));
        assert_eq!(read(&[(10, good(0.5, 10)), (15, good(0.7, 15))], 15, None), Ok(0.7));
        assert_eq!(read(&[(15, good(0.7, 15)), (10, good(0.5, 10))], 15, None), Ok(0.7), "an older one is left out");
        assert_eq!(read(&[], 12, None), lack("nothing observed in the window yet", false));
        assert_eq!(
            read(&[(10, good(0.5, 10)), (15, down())], 15, None),
            lack("nothing can be observed: refused: connection refused", true)
        );
        let stale = "the newest sample is from 1970-01-01T00:00:10.000Z";
        assert_eq!(read(&[(10, good(0.5, 10))], 21, None), lack(stale, true));
        assert_eq!(read(&[(30, good(0.5, 10))], 30, None), lack(stale, true), "evaluated for long ago");
        assert_eq!(read(&[(10, good(0.5, 10))], 12, Some(10)), lack("nothing observed in the window yet", false));
        assert_eq!(read(&[(10, Ok(answer(None, 10, None)))], 10, None), lack("no series matches", false));
        assert_eq!(
            read(&[(10, Ok(answer(Some(0.5), 10, Some("store down"))))], 10, None),
            lack("the answer is not whole: store down", true)
        );
        assert_eq!(read(&[(10, good(f64::INFINITY, 10))], 10, None), lack("the value is not a finite number", false));
        let nothing = "the answer is NaN, as 0 of 0 is: nothing was counted";
        assert_eq!(read(&[(10, good(f64::NAN, 10))], 10, None), lack(nothing, false));
    }
}
