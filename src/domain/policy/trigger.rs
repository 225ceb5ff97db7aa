//! When a workload is in trouble: a signal beyond a bound or several of them, for how long, and who must agree.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Condition, Severity};
use crate::domain::id::{SignalName, TriggerName};
use crate::domain::time::Span;

/// Signal, threshold, duration, severity.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// Its name.
    pub name: TriggerName,
    /// The signal that it judges; the first of them where there are several.
    pub signal: SignalName,
    /// When the signal is bad.
    pub condition: Condition,
    /// Further terms, each a fixed bound, and how all of them come to one; none where it judges one signal.
    pub combined: Option<Combination>,
    /// A second, independent signal that must be bad as well before anything is rolled back, and when it is.
    pub confirm_with: Option<Term>,
    /// How long it must be bad without a break. Zero: at once. A comparison holds so long only against the past.
    pub hold_for: Span,
    /// What firing leads to.
    pub severity: Severity,
}

impl Trigger {
    /// Each signal that it judges and when that is bad, in the order of the policy. At least one.
    pub fn terms(&self) -> impl Iterator<Item = (&SignalName, Condition)> {
        let others = self.combined.iter().flat_map(|combined| &combined.others);
        std::iter::once((&self.signal, self.condition)).chain(others.map(|term| (&term.signal, term.condition)))
    }

    /// The terms' bounds, to be changed.
    pub fn bounds_mut(&mut self) -> impl Iterator<Item = (&SignalName, &mut Condition)> {
        let others = self.combined.iter_mut().flat_map(|combined| &mut combined.others);
        let others = others.map(|term| (&term.signal, &mut term.condition));
        std::iter::once((&self.signal, &mut self.condition)).chain(others)
    }

    /// Whether one of its terms is enough by itself.
    #[must_use]
    pub fn is_by_any(&self) -> bool {
        self.combined.as_ref().is_none_or(|combined| combined.how == Combine::Any)
    }
}

/// A signal, and when it is bad.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// The signal.
    pub signal: SignalName,
    /// When it is bad: a fixed bound.
    pub condition: Condition,
}

/// Several terms of one trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct Combination {
    /// How they come to one.
    pub how: Combine,
    /// All but the first.
    pub others: Vec<Term>,
}

/// How several terms come to one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// Bad while all of them are; good as soon as one is.
    All,
    /// Bad while any of them is; good while all are.
    Any,
}

impl fmt::Display for Combine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Combine::All => "all",
            Combine::Any => "any",
        })
    }
}
