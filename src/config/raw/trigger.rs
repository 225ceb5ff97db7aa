//! `[[workload.NAME.trigger]]`.

use super::section::section;
use crate::config::units::Quantity;
use crate::domain::policy::Severity;
use crate::domain::time::Span;

section! {
    /// Signal, threshold, duration, severity.
    Trigger {
        /// Its name in alerts; that of the signal where there is none.
        name: String,
        /// The signal that it judges.
        signal: String = required,
        /// Bad when larger than this.
        above: Quantity,
        /// Bad when smaller than this.
        below: Quantity,
        /// How long it must be bad without a break.
        hold_for as "for": Span,
        /// What firing leads to: critical, scheduled or alert.
        severity: Severity,
    }
    unsupported {
        "worse_than": "compare with a fixed number: `above` or `below`",
        "min_effect": "it goes with `worse_than`; compare with a fixed number: `above` or `below`",
    }
    refused {
        "confidence": "write `confidence` in the signal's section",
    }
}
