//! `worse_than`: a signal that can be compared, and how much worse is materially worse.

use super::Resolver;
use super::signal::Known;
use crate::config::raw::trigger::Trigger;
use crate::config::source::Place;
use crate::config::units::Dimension;
use crate::domain::policy::{Builtin, Comparison, Formula};
use crate::domain::time::Span;
use crate::domain::units::{Finite, Unit};

/// How long a release must be worse than the past of the one before.
pub(super) const HOLD_FOR: Span = Span::from_secs(300);

/// At most one release of a hundred that are not materially worse is called so.
const CONFIDENCE: f64 = 0.99;

/// A ratio, or a count, is materially worse from so many times the other's on: less is what two halves of one fleet
/// differ by.
const FACTOR: f64 = 1.3;

/// A ratio is materially worse where it is higher by a tenth of a percentage point as well.
const RATIO_PLUS: f64 = 0.001;

/// A latency is materially worse where it is higher by this much as well, in seconds: less is not felt.
const LATENCY_PLUS: f64 = 0.05;

/// What a signal's comparison is about.
#[derive(Clone, Copy)]
enum Kind {
    /// A share of requests.
    Ratio,
    /// A quantile of a histogram.
    Quantile,
    /// Events of instances.
    Count,
}

pub(super) fn resolve(r: &mut Resolver<'_>, raw: &Trigger, known: &Known, place: Place) -> Option<Comparison> {
    let confidence = confidence(r, raw);
    let Some(kind) = kind(known) else {
        r.problems
            .wrong(place, format!("`{}` can't be compared with the release before", known.signal.name))
            .hint(why_not(known));
        return None;
    };
    let (factor, plus) = effect(r, raw, known, kind)?;
    Some(Comparison { confidence: Finite::new(confidence)?, factor: Finite::new(factor)?, plus: Finite::new(plus)? })
}

fn confidence(r: &mut Resolver<'_>, raw: &Trigger) -> f64 {
    let Some(written) = &raw.confidence else { return CONFIDENCE };
    if !(written.value > 0.5 && written.value < 1.0) {
        r.problems
            .wrong(written.at, "`confidence` is not between 0.5 and 1")
            .hint("0.99 calls at most one of a hundred releases worse that are not");
    }
    written.value
}

fn kind(known: &Known) -> Option<Kind> {
    let of = |formula: Formula| match formula {
        Formula::Ratio { .. } => Some(Kind::Ratio),
        Formula::Histogram { .. } => Some(Kind::Quantile),
        Formula::Builtin(Builtin::OomKills | Builtin::Restarts | Builtin::CrashLoops) => Some(Kind::Count),
        Formula::Builtin(
            Builtin::Health | Builtin::Unavailable | Builtin::ProgressDeadline | Builtin::ImagePullFailures,
        )
        | Formula::Summary { .. }
        | Formula::Gauge { .. }
        | Formula::Rate { .. }
        | Formula::Query => None,
    };
    known.signal.candidates.iter().find_map(|candidate| of(candidate.formula))
}

fn why_not(known: &Known) -> &'static str {
    match known.signal.candidates.first().map(|candidate| candidate.formula) {
        Some(Formula::Summary { .. }) => {
            "a summary's quantiles say nothing of how many requests they stand for: use a histogram, or `above`"
        }
        Some(Formula::Gauge { .. } | Formula::Rate { .. } | Formula::Query) => {
            "only what is counted can be told from chance: a ratio of counters, or a histogram; or use `above`"
        }
        Some(Formula::Builtin(_) | Formula::Ratio { .. } | Formula::Histogram { .. }) | None => {
            "it is a state of the new release by itself: use `above`"
        }
    }
}

/// How many times, and how much more.
fn effect(r: &mut Resolver<'_>, raw: &Trigger, known: &Known, kind: Kind) -> Option<(f64, f64)> {
    let floor = if known.unit == Some(Unit::Seconds) { LATENCY_PLUS } else { 0.0 };
    let Some(written) = &raw.min_effect else {
        return Some(match kind {
            Kind::Ratio => (FACTOR, RATIO_PLUS),
            Kind::Quantile => (FACTOR, floor),
            Kind::Count => (FACTOR, 0.0),
        });
    };
    let (value, dimension) = (written.value.value, written.value.dimension);
    let refuse = |r: &mut Resolver<'_>, message: &str, hint: &str| {
        r.problems.wrong(written.at, message).hint(hint);
        None
    };
    if value <= 0.0 {
        return refuse(r, "`min_effect` is not above zero", "what is not worse at all is no reason");
    }
    match (kind, dimension) {
        (Kind::Ratio, Dimension::Share) if value < 1.0 => Some((FACTOR, value)),
        (Kind::Ratio, Dimension::Share) => refuse(r, "a ratio is from 0% to 100%", "write percentage points: \"1%\""),
        (Kind::Quantile, Dimension::Share) => Some((1.0 + value, floor)),
        (Kind::Quantile, Dimension::Time) if known.unit == Some(Unit::Seconds) => Some((1.0, value)),
        (Kind::Ratio, _) => refuse(r, "`min_effect` of a ratio is in percentage points", "write \"1%\""),
        (Kind::Quantile, _) if known.unit == Some(Unit::Seconds) => {
            refuse(r, "`min_effect` of a latency is a share of it or a time", "write \"30%\" or \"100ms\"")
        }
        (Kind::Quantile, _) => refuse(r, "`min_effect` of a quantile is a share of it", "write \"30%\""),
        (Kind::Count, _) => refuse(r, "`min_effect` of a count", "leave it out: each kill or restart counts"),
    }
}
