//! `[workload.NAME.verify]`.

use super::section::section;
use super::text::Argv;
use crate::config::units::Quantity;
use crate::domain::time::Span;

section! {
    /// What proves that the service is well again after a rollback. Any other key is a signal with its bound.
    Verify {
        /// How long all checks must hold without a break.
        stable_for: Span,
        /// Whether health probes must all be good.
        health: bool,
        /// Smoke test, run once everything else holds; exit status 0 is a pass.
        smoke: Argv,
        /// How long the smoke test may take.
        smoke_timeout: Span,
    }
    open { checks: Bound }
}

section! {
    /// A bound that a signal must keep to.
    Bound {
        /// Good when not larger than this.
        below: Quantity,
        /// Good when not smaller than this.
        above: Quantity,
    }
}
