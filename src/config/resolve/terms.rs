//! Triggers of more than one signal: `all`, `any`, and `confirm_with`.

use super::Resolver;
use super::signal::Signals;
use super::trigger::{Judged, Side, Sight, Times, beyond, default_bound, look_up};
use crate::config::raw;
use crate::config::raw::decode::At;
use crate::config::source::Place;
use crate::config::suggest;
use crate::domain::id::{SignalName, TriggerName};
use crate::domain::policy::{Combination, Combine, Condition, Term, Trigger};
use crate::domain::time::Span;

/// More terms are more than a person can follow at night.
const MOST_TERMS: usize = 8;

/// What a trigger judges; `None` once it was reported that it judges nothing, or too much.
pub(super) fn judged<'a>(r: &mut Resolver<'_>, raw: &'a raw::trigger::Trigger, key: Place) -> Option<Judged<'a>> {
    let one = raw.signal.as_ref().map(|at| (at.key, "`signal`", Judged::One(at)));
    let all = raw.all.as_ref().map(|at| (at.key, "`all`", Judged::Several(Combine::All, at)));
    let any = raw.any.as_ref().map(|at| (at.key, "`any`", Judged::Several(Combine::Any, at)));
    let mut ways: Vec<_> = [one, all, any].into_iter().flatten().collect();
    if let [(first, name, _), (second, other, _), ..] = ways.as_slice() {
        r.problems
            .wrong(*first.max(second), format!("{name} and {other} in one trigger"))
            .hint("one of them says what is judged; write the rest as a trigger of its own");
        return None;
    }
    if ways.is_empty() && !raw.lost.may_be(&["signal", "all", "any"]) {
        r.problems.absent(key, "`signal` is missing").hint("or `all` or `any`, with several signals");
    }
    ways.pop().map(|(_, _, judged)| judged)
}

/// The terms of one trigger.
pub(super) struct Terms {
    how: Combine,
    first: Term,
    others: Vec<Term>,
}

impl Terms {
    pub(super) fn into_trigger(self, name: &str, times: &Times) -> Trigger {
        Trigger {
            name: TriggerName::new(name),
            signal: self.first.signal,
            condition: self.first.condition,
            combined: Some(Combination { how: self.how, others: self.others }),
            confirm_with: None,
            hold_for: times.hold_for.unwrap_or(Span::ZERO),
            severity: times.severity,
        }
    }
}

pub(super) fn resolve(
    r: &mut Resolver<'_>,
    raw: &raw::trigger::Trigger,
    how: Combine,
    written: &At<Vec<At<raw::trigger::Term>>>,
    signals: &Signals,
    sight: Sight,
) -> Option<Terms> {
    refuse_beside(r, raw, how);
    let count = written.value.len();
    if count < 2 && !raw.damaged {
        r.problems
            .wrong(written.at, format!("`{how}` of {count} {}", if count == 1 { "signal" } else { "signals" }))
            .hint("it takes two or more; for one write `signal` with `above` or `below`");
    }
    if count > MOST_TERMS {
        r.problems
            .wrong(written.at, format!("`{how}` of {count} signals"))
            .hint(format!("it takes {MOST_TERMS} at most"));
    }
    let resolved: Vec<Option<Term>> = written.value.iter().map(|at| term(r, at, signals, sight)).collect();
    let terms: Vec<Term> = resolved.into_iter().collect::<Option<_>>()?;
    for (index, (term, at)) in terms.iter().zip(&written.value).enumerate() {
        if terms.iter().take(index).any(|before| before == term) {
            r.problems.wrong(at.at, format!("the same as another one in `{how}`")).hint("once is enough");
        }
    }
    let mut terms = terms.into_iter();
    Some(Terms { how, first: terms.next()?, others: terms.collect() })
}

/// Bounds and comparisons stand in the terms.
fn refuse_beside(r: &mut Resolver<'_>, raw: &raw::trigger::Trigger, how: Combine) {
    let bounds = [("above", raw.above.as_ref().map(|at| at.key)), ("below", raw.below.as_ref().map(|at| at.key))];
    for (key, place) in bounds {
        if let Some(place) = place {
            r.problems
                .wrong(place, format!("`{key}` beside `{how}`"))
                .hint(format!("each term has its own: {how} = [{{ signal = \"…\", {key} = … }}, …]"));
        }
    }
    let comparison = [
        ("worse_than", raw.worse_than.as_ref().map(|at| at.key)),
        ("confidence", raw.confidence.as_ref().map(|at| at.key)),
        ("min_effect", raw.min_effect.as_ref().map(|at| at.key)),
    ];
    for (key, place) in comparison {
        if let Some(place) = place {
            r.problems
                .wrong(place, format!("`{key}` beside `{how}`"))
                .hint("a comparison decides by itself: give it a trigger of its own, and `confirm_with` if need be");
        }
    }
}

fn term(r: &mut Resolver<'_>, at: &At<raw::trigger::Term>, signals: &Signals, sight: Sight) -> Option<Term> {
    let raw = &at.value;
    let signal = raw.signal.as_ref()?;
    let known = look_up(r, &signal.value, signal.at, signals, sight, &[]);
    let condition = match (&raw.above, &raw.below) {
        (Some(above), None) => beyond(r, known?, Side::Above, above)?,
        (None, Some(below)) => beyond(r, known?, Side::Below, below)?,
        (Some(_), Some(below)) => {
            r.problems.wrong(below.key, "`above` and `below` in one term").hint("write a term for each");
            return None;
        }
        (None, None) => {
            if !raw.lost.may_be(&["above", "below", "worse_than"]) {
                r.problems
                    .absent(signal.key, format!("nothing says when {} is bad", suggest::quoted(&signal.value)))
                    .hint("add `above` or `below`");
            }
            return None;
        }
    };
    Some(Term { signal: known?.signal.name.clone(), condition })
}

/// Adds to each trigger the second signal that it asks to agree. That signal's own bound says when it does, whether or not
/// it was bad for long enough; so two triggers may well confirm each other.
pub(super) fn confirm(
    r: &mut Resolver<'_>,
    resolved: Vec<(Trigger, Option<&At<String>>)>,
    signals: &Signals,
    sight: Sight,
) -> Vec<Trigger> {
    // What is bad only together with something else says nothing of a signal by itself.
    let alone = resolved.iter().filter(|(trigger, _)| trigger.is_by_any());
    let bounds: Vec<(SignalName, Condition)> =
        alone.flat_map(|(trigger, _)| trigger.terms()).map(|(name, bound)| (name.clone(), bound)).collect();
    let names: Vec<String> = resolved.iter().map(|(trigger, _)| trigger.name.to_string()).collect();
    let mut confirmed = |(trigger, wanted): (Trigger, Option<&At<String>>)| {
        let confirm_with = wanted.and_then(|wanted| second(r, &trigger, wanted, &bounds, &names, signals, sight));
        Trigger { confirm_with, ..trigger }
    };
    resolved.into_iter().map(&mut confirmed).collect()
}

fn second(
    r: &mut Resolver<'_>,
    trigger: &Trigger,
    wanted: &At<String>,
    bounds: &[(SignalName, Condition)],
    names: &[String],
    signals: &Signals,
    sight: Sight,
) -> Option<Term> {
    if !signals.known.contains_key(&wanted.value) && names.contains(&wanted.value) {
        r.problems
            .absent(wanted.at, format!("{} is a trigger", suggest::quoted(&wanted.value)))
            .hint("`confirm_with` takes the name of a signal");
        return None;
    }
    let known = look_up(r, &wanted.value, wanted.at, signals, sight, &[])?;
    let name = &known.signal.name;
    if trigger.terms().any(|(judged, _)| judged == name) {
        r.problems
            .wrong(wanted.at, format!("{} would confirm itself", suggest::quoted(&wanted.value)))
            .hint("a second signal must be seen in another way, such as `health`");
        return None;
    }
    let fixed = |condition: &Condition| condition.threshold().is_some();
    let own = bounds.iter().find(|(judged, condition)| judged == name && fixed(condition)).map(|(_, bound)| *bound);
    let Some(condition) = own.or_else(|| default_bound(name.as_str())) else {
        r.problems.absent(wanted.at, format!("nothing says when {} is bad", suggest::quoted(&wanted.value))).hint(
            "add a trigger on it with `above` or `below`; with severity = \"alert\" it rolls nothing back by itself",
        );
        return None;
    };
    Some(Term { signal: name.clone(), condition })
}
