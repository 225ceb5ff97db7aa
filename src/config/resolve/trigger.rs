//! Triggers: a signal that exists, a threshold that it can be compared with, a time that makes sense.

use std::collections::BTreeMap;

use super::signal::{Known, Needs, Signals};
use super::{Resolver, comparison, locate, name, terms};
use crate::config::raw;
use crate::config::raw::decode::{At, value};
use crate::config::raw::trigger::Reference;
use crate::config::source::Place;
use crate::config::suggest;
use crate::config::units::{self, Quantity};
use crate::domain::id::{SignalName, TriggerName};
use crate::domain::policy::{Combine, Condition, Severity, Trigger};
use crate::domain::time::Span;
use crate::domain::units::{Finite, Unit};

/// What can be seen of a workload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    /// Exposition pages.
    pub(super) scrape: bool,
    /// Health endpoints.
    pub(super) health: bool,
    /// Pods and rollouts.
    pub(super) cluster: bool,
}

impl Sight {
    pub(super) const fn covers(self, needs: Needs) -> bool {
        match needs {
            Needs::Scrape => self.scrape,
            Needs::Health => self.health,
            Needs::Nothing => true,
        }
    }
}

/// The triggers of a workload that names none, from the procedures' list: errors above 10 % for five minutes, p99 above
/// five seconds, memory kills; and what a host sees by itself.
const DEFAULTS: [(&str, f64, Span); 5] = [
    ("error_rate", 0.1, Span::from_secs(300)),
    ("p99_latency", 5.0, Span::from_secs(120)),
    ("oom_kills", 0.0, Span::ZERO),
    ("crash_loops", 0.0, Span::ZERO),
    ("health", 0.5, Span::from_secs(120)),
];

/// In a cluster besides: a deployment that fails. A pod that is not ready may still be starting, for as long as a
/// Deployment takes by default to give its rollout up.
const CLUSTER_DEFAULTS: [(&str, f64, Span); 3] = [
    ("image_pull_failures", 0.0, Span::from_secs(60)),
    ("progress_deadline", 0.0, Span::ZERO),
    ("unavailable", 0.5, Span::from_secs(600)),
];

/// The default triggers on what can be seen.
pub(super) fn defaults(signals: &Signals, sight: Sight) -> Vec<Trigger> {
    let cluster = CLUSTER_DEFAULTS.into_iter().filter(|_| sight.cluster);
    DEFAULTS
        .into_iter()
        .chain(cluster)
        .filter(|(signal, ..)| {
            let known = signals.known.get(*signal).and_then(Option::as_ref);
            known.is_some_and(|known| sight.covers(known.needs))
        })
        .filter_map(|(signal, above, hold_for)| {
            Some(Trigger {
                name: TriggerName::new(title(signal)),
                signal: SignalName::new(signal),
                condition: Condition::Above(Finite::new(above)?),
                combined: None,
                confirm_with: None,
                hold_for,
                severity: Severity::Critical,
            })
        })
        .collect()
}

/// When a signal is bad by the trigger that judges it by default.
pub(super) fn default_bound(signal: &str) -> Option<Condition> {
    let (_, above, _) = DEFAULTS.into_iter().chain(CLUSTER_DEFAULTS).find(|(name, ..)| *name == signal)?;
    Finite::new(above).map(Condition::Above)
}

/// A signal's name as prose.
pub(super) fn title(signal: &str) -> String {
    signal.replace('_', " ")
}

pub(super) fn resolve_all(
    r: &mut Resolver<'_>,
    written: &[At<raw::trigger::Trigger>],
    signals: &Signals,
    sight: Sight,
    probation: Span,
) -> Vec<Trigger> {
    let mut names: BTreeMap<String, Place> = BTreeMap::new();
    let resolved: Vec<(Trigger, Option<&At<String>>)> = written
        .iter()
        .filter_map(|at| {
            let raw = &at.value;
            let judged = terms::judged(r, raw, at.key)?;
            let name = value(&raw.name).unwrap_or_else(|| judged.title());
            let place = raw.name.as_ref().map_or(judged.place(), |at| at.at);
            name::check_title(r, "a trigger", &name, place);
            if let Some(first) = names.insert(name.clone(), place) {
                let first = locate(r.sources, first);
                r.problems
                    .wrong(place, format!("a second trigger named {}", suggest::quoted(&name)))
                    .hint(format!("the first is in {first}; give each a `name` of its own"));
            }
            let confirm_with = raw.confirm_with.as_ref();
            let trigger = match judged {
                Judged::One(signal) => resolve(r, raw, signal, &name, signals, sight, probation),
                Judged::Several(how, written) => {
                    let terms = terms::resolve(r, raw, how, written, signals, sight);
                    let times = Times::of(r, raw, probation);
                    terms.map(|terms| terms.into_trigger(&name, &times))
                }
            };
            trigger.map(|trigger| (trigger, confirm_with))
        })
        .collect();
    terms::confirm(r, resolved, signals, sight)
}

/// How long a trigger must hold, where it says so, and what it leads to.
pub(super) struct Times {
    pub(super) hold_for: Option<Span>,
    pub(super) severity: Severity,
}

impl Times {
    fn of(r: &mut Resolver<'_>, raw: &raw::trigger::Trigger, probation: Span) -> Self {
        let severity = value(&raw.severity).unwrap_or(Severity::Critical);
        if let Some(hold_for) = raw.hold_for.as_ref().filter(|at| at.value > probation && severity != Severity::Alert) {
            r.problems
                .wrong(hold_for.at, format!("`for` is longer than the probation of {probation}"))
                .hint("by then a fault is no longer put down to the rollout, and nothing is rolled back");
        }
        Self { hold_for: value(&raw.hold_for), severity }
    }
}

fn resolve(
    r: &mut Resolver<'_>,
    raw: &raw::trigger::Trigger,
    signal: &At<String>,
    name: &str,
    signals: &Signals,
    sight: Sight,
    probation: Span,
) -> Option<Trigger> {
    let known = look_up(r, &signal.value, signal.at, signals, sight, &[]);
    let bad = one_way(r, raw, signal);
    check_companions(r, raw);
    let times = Times::of(r, raw, probation);
    let known = known?;
    let condition = match bad? {
        Bad::Beyond(side, quantity) => beyond(r, known, side, quantity)?,
        Bad::Worse(place) => Condition::WorseThanBaseline(comparison::resolve(r, raw, known, place)?),
    };
    let hold_for = match condition {
        Condition::Above(_) | Condition::Below(_) => Span::ZERO,
        Condition::WorseThanBaseline(_) => comparison::HOLD_FOR.min(probation),
    };
    Some(Trigger {
        name: TriggerName::new(name),
        signal: known.signal.name.clone(),
        condition,
        combined: None,
        confirm_with: None,
        hold_for: times.hold_for.unwrap_or(hold_for),
        severity: times.severity,
    })
}

/// A fixed bound.
pub(super) fn beyond(r: &mut Resolver<'_>, known: &Known, side: Side, quantity: &At<Quantity>) -> Option<Condition> {
    let bound = compare(r, known, quantity)?;
    check_reach(r, known, side, bound, quantity.at);
    Some(match side {
        Side::Above => Condition::Above(bound),
        Side::Below => Condition::Below(bound),
    })
}

/// What a trigger judges.
pub(super) enum Judged<'a> {
    /// One signal.
    One(&'a At<String>),
    /// Several.
    Several(Combine, &'a At<Vec<At<raw::trigger::Term>>>),
}

impl Judged<'_> {
    /// The trigger's name where it has none.
    fn title(&self) -> String {
        match self {
            Judged::One(signal) => title(&signal.value),
            Judged::Several(how, terms) => {
                let names = terms.value.iter().filter_map(|term| term.value.signal.as_ref());
                let names: Vec<String> = names.map(|signal| title(&signal.value)).collect();
                names.join(match how {
                    Combine::All => " and ",
                    Combine::Any => " or ",
                })
            }
        }
    }

    fn place(&self) -> Place {
        match self {
            Judged::One(signal) => signal.at,
            Judged::Several(_, terms) => terms.at,
        }
    }
}

/// When a signal is bad.
enum Bad<'a> {
    /// Beyond a bound.
    Beyond(Side, &'a At<Quantity>),
    /// Worse than the release before, as is said there.
    Worse(Place),
}

/// Which side of the bound is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Above,
    Below,
}

fn one_way<'a>(r: &mut Resolver<'_>, raw: &'a raw::trigger::Trigger, signal: &At<String>) -> Option<Bad<'a>> {
    let above = raw.above.as_ref().map(|at| (at.key, "`above`", Bad::Beyond(Side::Above, at)));
    let below = raw.below.as_ref().map(|at| (at.key, "`below`", Bad::Beyond(Side::Below, at)));
    let worse = raw.worse_than.as_ref().map(|at| match at.value {
        Reference::Baseline => (at.key, "`worse_than`", Bad::Worse(at.key)),
    });
    let mut ways: Vec<_> = [above, below, worse].into_iter().flatten().collect();
    if let [(first, name, _), (second, other, _), ..] = ways.as_slice() {
        r.problems
            .wrong(*first.max(second), format!("{name} and {other} in one trigger"))
            .hint("write two triggers, each with its own name; or `all` or `any` with a term for each");
        return None;
    }
    if ways.is_empty() && !raw.lost.may_be(&["above", "below", "worse_than"]) {
        r.problems
            .absent(signal.key, format!("nothing says when {} is bad", suggest::quoted(&signal.value)))
            .hint("add `above`, `below` or `worse_than`");
    }
    ways.pop().map(|(_, _, bad)| bad)
}

/// Keys that only go with a comparison.
fn check_companions(r: &mut Resolver<'_>, raw: &raw::trigger::Trigger) {
    if raw.worse_than.is_some() || raw.lost.may_be(&["worse_than"]) {
        return;
    }
    if let Some(confidence) = &raw.confidence {
        r.problems
            .wrong(confidence.key, "`confidence` without `worse_than`")
            .hint("write `confidence` in the signal's section");
    }
    if let Some(min_effect) = &raw.min_effect {
        r.problems
            .wrong(min_effect.key, "`min_effect` without `worse_than`")
            .hint("with a fixed bound the bound itself says how much is too much");
    }
}

/// The signal of this name, if it exists and can be seen. `others` are names that are not signals but might be meant.
pub(super) fn look_up<'s>(
    r: &mut Resolver<'_>,
    name: &str,
    place: Place,
    signals: &'s Signals,
    sight: Sight,
    others: &[&str],
) -> Option<&'s Known> {
    let Some(known) = signals.known.get(name) else {
        let names = signals.known.keys().map(String::as_str).chain(others.iter().copied());
        r.problems
            .absent(place, format!("there is no signal {}", suggest::quoted(name)))
            .maybe_hint(suggest::hint(name, names));
        return None;
    };
    let known = known.as_ref()?;
    if !sight.covers(known.needs) {
        let key = if known.needs == Needs::Health { "health" } else { "scrape" };
        r.problems
            .absent(place, format!("`{name}` can't be seen: the workload has no `{key}`"))
            .hint(format!("add {key} = {{ port = … }} or {key} = {{ url = \"http://…\" }}"));
        return None;
    }
    Some(known)
}

/// The bound in the signal's base unit.
pub(super) fn compare(r: &mut Resolver<'_>, known: &Known, quantity: &At<Quantity>) -> Option<Finite> {
    match units::threshold(&quantity.value, known.signal.name.as_str(), known.unit) {
        Ok(bound) => Some(bound),
        Err(refusal) => {
            r.problems.wrong(quantity.at, refusal.message).maybe_hint(refusal.hint);
            None
        }
    }
}

/// A ratio is from 0 to 1, and what is counted or timed is not negative: a bound outside of that is never, or always, crossed.
pub(super) fn check_reach(r: &mut Resolver<'_>, known: &Known, side: Side, bound: Finite, place: Place) {
    let is_ratio = known.unit == Some(Unit::Ratio);
    let most = if is_ratio { 1.0 } else { f64::INFINITY };
    let is_within = match side {
        Side::Above => (0.0..most).contains(&bound.get()),
        Side::Below => bound.get() > 0.0 && bound.get() <= most,
    };
    if is_within || !(is_ratio || known.is_never_negative()) {
        return;
    }
    let what = if is_ratio {
        "a ratio is from 0% to 100%".to_owned()
    } else {
        format!("`{}` is never negative", known.signal.name)
    };
    r.problems.wrong(place, what).hint("this bound would be crossed always or never");
}
