//! What proves that the service is well again.

use super::Resolver;
use super::signal::Signals;
use super::trigger::{self, Side, Sight};
use crate::config::raw;
use crate::config::raw::decode::{Entry, value};
use crate::domain::id::SignalName;
use crate::domain::policy::{Check, Condition, SmokeTest, Verify};
use crate::domain::time::Span;
use crate::domain::units::{Finite, Unit};

/// How long all must be well, where the deadline leaves room for it.
const STABLE_FOR: Span = Span::from_secs(120);

/// How long a smoke test may run; the limit for hooks.
const SMOKE_TIMEOUT: Span = Span::from_secs(60);

/// Shortest and longest smoke test.
const SMOKE_TIMEOUTS: (Span, Span) = (Span::from_secs(1), Span::from_secs(3600));

/// The procedures' metrics check: error rate below 1 %, p95 below 500 ms.
const DEFAULTS: [(&str, f64); 2] = [("error_rate", 0.01), ("p95_latency", 0.5)];

/// Keys of the section that are no signals.
const KEYS: [&str; 4] = ["stable_for", "health", "smoke", "smoke_timeout"];

pub(super) fn resolve(
    r: &mut Resolver<'_>,
    raw: &raw::verify::Verify,
    signals: &Signals,
    sight: Sight,
    deadline: Span,
) -> Verify {
    if let Some(stable_for) = raw.stable_for.as_ref().filter(|at| at.value >= deadline) {
        r.problems
            .wrong(stable_for.at, format!("`stable_for` does not fit into the deadline of {deadline}"))
            .hint("the deadline covers rollback and verification: make it longer, or this shorter");
    }
    if let Some(health) = raw.health.as_ref().filter(|at| at.value && !sight.health) {
        r.problems
            .absent(health.key, "`health` can't be verified: the workload has no `health`")
            .hint("add health = { port = … } or health = { url = \"http://…\" } to the workload");
    }
    if let Some(timeout) = &raw.smoke_timeout {
        r.within("smoke_timeout", timeout, SMOKE_TIMEOUTS);
        if raw.smoke.is_none() && !raw.lost.may_be(&["smoke"]) {
            r.problems
                .absent(timeout.key, "`smoke_timeout` without `smoke`")
                .hint("add smoke = [\"program\", \"argument\"]");
        }
    }
    let smoke = raw.smoke.as_ref().map(|argv| SmokeTest {
        argv: argv.value.0.clone(),
        timeout: value(&raw.smoke_timeout).unwrap_or(SMOKE_TIMEOUT),
    });
    Verify {
        stable_for: value(&raw.stable_for).unwrap_or(STABLE_FOR.min(Span::from_millis(deadline.as_millis() / 2))),
        checks: checks(r, raw, signals, sight),
        health: value(&raw.health).unwrap_or(true),
        smoke,
    }
}

/// The default checks that nothing replaces, then those of the file in its order.
fn checks(r: &mut Resolver<'_>, raw: &raw::verify::Verify, signals: &Signals, sight: Sight) -> Vec<Check> {
    let defaults = DEFAULTS.into_iter().filter(|(name, _)| raw.checks.get(name).is_none() && sight.scrape);
    let mut checks: Vec<Check> = defaults
        .filter_map(|(name, below)| {
            let bad_when = Condition::Above(Finite::new(below)?);
            Some(Check { signal: SignalName::new(name), bad_when, explicit: false })
        })
        .collect();
    let explicit: Vec<_> = raw.checks.0.iter().filter_map(|entry| check(r, entry, signals, sight)).collect();
    checks.extend(explicit);
    checks
}

fn check(r: &mut Resolver<'_>, entry: &Entry<raw::verify::Bound>, signals: &Signals, sight: Sight) -> Option<Check> {
    let known = trigger::look_up(r, &entry.name, entry.key, signals, sight, &KEYS);
    let raw = &entry.value;
    let (side, quantity) = match (&raw.below, &raw.above) {
        (Some(below), None) => (Side::Above, below),
        (None, Some(above)) => (Side::Below, above),
        (Some(below), Some(above)) => {
            let later = below.key.max(above.key);
            r.problems.wrong(later, "`below` and `above` in one check").hint("a check has one bound");
            return None;
        }
        (None, None) => {
            if !raw.lost.may_be(&["below", "above"]) {
                r.problems
                    .absent(entry.key, format!("the check of `{}` has no bound", entry.name))
                    .hint("write { below = … } or { above = … }");
            }
            return None;
        }
    };
    let known = known?;
    let bound = trigger::compare(r, known, quantity)?;
    trigger::check_reach(r, known, side, bound, quantity.at);
    if known.unit == Some(Unit::Seconds) && known.is_never_negative() && raw.below.is_some() && bound.get() == 0.0 {
        r.problems.wrong(quantity.at, "nothing takes no time").hint("this check would never pass");
    }
    let bad_when = match side {
        Side::Above => Condition::Above(bound),
        Side::Below => Condition::Below(bound),
    };
    Some(Check { signal: known.signal.name.clone(), bad_when, explicit: true })
}
