//! `[[workload.NAME.trigger]]`.

use serde_json::Value;

use super::decode::At;
use super::scalar::{FromText, Refusal, choice};
use super::section::section;
use crate::config::suggest;
use crate::config::units::Quantity;
use crate::domain::policy::Severity;
use crate::domain::time::Span;

section! {
    /// Signal, threshold or comparison, duration, severity.
    Trigger {
        /// Its name in alerts; that of the signal where there is none.
        name: String,
        /// The signal that it judges. Instead of it: `all` or `any`.
        signal: String,
        /// Bad when larger than this.
        above: Quantity,
        /// Bad when smaller than this.
        below: Quantity,
        /// Bad when worse than the release before: beside it while both serve, else than it was in its last half hour. Compares error ratios, histograms, OOM kills, restarts and crash loops.
        worse_than: Reference,
        /// With `worse_than`: that no release which is not materially worse is called so over its whole probation, between 0.5 and 1.
        confidence: f64,
        /// With `worse_than`: how much worse is materially worse. Of a ratio, percentage points, and at least 1.3 times as much; of a latency, a share of it such as 30% and at least 50ms more, or a time.
        min_effect: Quantity,
        /// Several signals with their bounds: bad while all of them are.
        all: Vec<At<Term>>,
        /// Several signals with their bounds: bad while any of them is.
        any: Vec<At<Term>>,
        /// A second, independent signal that must be bad as well before anything is rolled back: beyond the bound of the first trigger that judges it, else of the trigger that is there by default. Until then the incident is held and people are told.
        confirm_with: String,
        /// How long it must be bad without a break. With `worse_than` only where the past is the measure, 5m by default: a break then turns the clock back half as fast, so that a fault that comes and goes is a fault.
        hold_for as "for": Span,
        /// What firing leads to: critical, scheduled or alert.
        severity: Severity,
    }
}

section! {
    /// A signal and its bound, one of several that a trigger judges together.
    Term {
        /// The signal.
        signal: String = required,
        /// Bad when larger than this.
        above: Quantity,
        /// Bad when smaller than this.
        below: Quantity,
    }
    refused {
        "worse_than": "a comparison decides by itself: give it a trigger of its own, and `confirm_with` if need be",
        "for": "how long all of them hold together is the trigger's: write it beside `all` or `any`",
    }
}

/// What a release is compared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reference {
    /// The release before.
    Baseline,
}

choice!(Reference, "something to compare with", { "baseline" => Reference::Baseline, });
