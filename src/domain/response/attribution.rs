//! Whether a fault can be put down to the release: what hits the old one alike, was there or growing before it, is one
//! target's, came with a crowd, or hits others as well, is not. Each holds and says by which figures.

use super::guard::{Situation, is_by_trigger};
use super::hold::Hold;
use crate::domain::health::around::{Amount, Around, Outage};
use crate::domain::health::rise::Rise;
use crate::domain::health::verdict::{Evidence, UnknownReason, Verdict};
use crate::domain::id::WorkloadId;
use crate::domain::incident::record::{Cause, Goal};
use crate::domain::policy::{Combine, Comparison, Condition};
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::{Finite, Unit};

/// Requests, of a share or a quantile, below which the old release says too little to speak for the new one.
const TELLING: u64 = 20;

/// So many times the most good requests that there were before are a crowd.
const CROWD: f64 = 1.6;

/// The same for a latency that is held against the past: it grows with the load long before anything fails.
const BUSY: f64 = 1.3;

/// Part of what is too much that may be the other targets' where one has all the rest.
const OF_THE_REST: f64 = 0.15;

/// Kills or restarts of the old release excuse so many times as many of the new one's.
const EVENTS_ALIKE: f64 = 3.0;

/// An outage that the old release was in as it went excuses so many times as much of it: it swells and ebbs, and nobody is left
/// to show that it does so for all.
const SWELLS: f64 = 3.0;

/// The part of a fault's present value with which a stretch of time shows it, where not all of that was as bad.
const SHOWN: f64 = 0.5;

/// Other workloads that turn bad at once, from which on their cause is a common one.
const OTHERS: usize = 2;

/// How near two faults must begin for that.
const AT_ONCE: Span = Span::from_secs(300);

/// Asks about each signal that is bad, with what else is seen. Where all of several must be bad, one that is not put down to
/// the release is enough; where any is enough, none may be.
fn ask_of_each<'a>(situation: &Situation<'a>, ask: impl Fn(&'a Evidence, &'a Around) -> Option<Hold>) -> Option<Hold> {
    let status = situation.trigger()?;
    let of = |evidence: &'a Evidence| ask(evidence, evidence.around.as_deref()?);
    let Some(combined) = &status.combined else { return of(&status.evidence) };
    let bad = combined.terms.iter().filter(|term| is_bad(&term.verdict));
    let holds: Vec<Option<Hold>> = bad.map(of).collect();
    match combined.how {
        Combine::All => holds.into_iter().flatten().next(),
        Combine::Any => holds.into_iter().collect::<Option<Vec<Hold>>>()?.into_iter().next(),
    }
}

/// Whether a signal lies beyond its bound, proven or not.
fn is_bad(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Breach => true,
        Verdict::Unknown(reason) => {
            matches!(reason, UnknownReason::NotProven | UnknownReason::CoarseBucket { .. })
        }
        Verdict::Ok => false,
    }
}

/// What makes a value materially worse than another one; none where higher is not worse.
fn margin(evidence: &Evidence) -> Option<Comparison> {
    match evidence.condition? {
        Condition::Above(_) => Some(Comparison::usual(evidence.unit)),
        Condition::WorseThanBaseline(comparison) => Some(comparison),
        Condition::Below(_) => None,
    }
}

fn is_share(evidence: &Evidence) -> bool {
    match evidence.unit {
        Unit::Ratio | Unit::Seconds => true,
        Unit::Bytes | Unit::PerSecond | Unit::Plain => false,
    }
}

/// Windows for which a fault stays someone else's after it was last seen to be, and how long they may be in all.
const STANDS: (u64, Span) = (2, AT_ONCE);

/// What was once not put down to the release stays so for a while, unless its figures are materially worse than they were
/// at detection: as a fault that is someone else's ends, it ends here and there at different moments, and looks like the
/// release's in between. What goes on for longer after the others are well is its own.
pub(super) fn stands(situation: &Situation<'_>, guard: &str) -> Option<Hold> {
    let hold = situation.incident.attributed.as_ref().filter(|hold| hold.as_str() == guard)?;
    let Cause::Trigger { evidence: then, .. } = &situation.incident.cause else { return None };
    let status = situation.trigger()?;
    status.evidence.around.as_ref()?;
    let (windows, most) = STANDS;
    let stands = status.evidence.window.times(windows).min(most);
    if situation.attributed_at.is_some_and(|at| situation.now.since(at) > stands) {
        return None;
    }
    let terms = status.combined.iter().flat_map(|combined| &combined.terms);
    let now = terms.chain([&status.evidence]).find(|now| now.signal == then.signal)?;
    let (then, now, margin) = (then.value?, now.value?, margin(then)?);
    (now.get() <= margin.bound(then.get())).then(|| hold.clone())
}

pub(super) fn old_release_alike(situation: &Situation<'_>) -> Option<Hold> {
    ask_of_each(situation, old_release_alike_in)
}

fn old_release_alike_in(evidence: &Evidence, around: &Around) -> Option<Hold> {
    let margin = margin(evidence)?;
    let is_alike = |new: Finite, old: &Amount| {
        if is_share(evidence) {
            old.samples >= TELLING && new.get() <= margin.bound(old.value.get())
        } else {
            old.value > Finite::ZERO && new.get() <= EVENTS_ALIKE * old.value.get()
        }
    };
    let hold = |new: Finite, old: &Amount, place: &str| Hold::OldReleaseAlike {
        new: evidence.unit.format(new.get()),
        old: evidence.unit.format(old.value.get()),
        place: place.to_owned(),
    };
    let value = evidence.value?;
    if let Some(old) = around.beside.as_ref().filter(|old| is_alike(value, old)) {
        return Some(hold(value, old, "beside it"));
    }
    // A stretch that does not show this one's fault shows no like of it.
    let is_shown = |new: &Amount| new.samples >= TELLING && new.value.get() >= SHOWN * value.get();
    let are_alike = |(new, old): &&(Amount, Amount)| is_shown(new) && is_alike(new.value, old);
    if let Some((new, old)) = around.since_onset.as_ref().filter(are_alike) {
        return Some(hold(new.value, old, "beside it since the fault set in"));
    }
    let bound = evidence.condition.and_then(Condition::threshold).filter(|_| is_share(evidence));
    let is_outage = |old: &Amount| {
        let is_beyond = bound.is_some_and(|bound| old.value.get() > bound) && old.samples >= TELLING;
        is_beyond && value.get() <= SWELLS * old.value.get()
    };
    let was_alike = |old: &&Amount| is_alike(value, old) || is_outage(old);
    if let Some(old) = around.until_gone.as_ref().filter(was_alike) {
        return Some(hold(value, old, "beside it until it was gone"));
    }
    if let Some(old) = around.before.as_ref().filter(was_alike) {
        return Some(hold(value, old, "before the rollout"));
    }
    if let Some(old) = around.usual.as_ref().filter(|old| is_alike(value, old)) {
        return Some(hold(value, old, "in the usual minute before the rollout"));
    }
    let recurred: Vec<&Outage> = around.outages.iter().filter(|outage| is_alike(value, &outage.amount)).collect();
    let [_, .., last] = recurred.as_slice() else { return None };
    let times: Vec<String> = recurred.iter().map(|o| format!("for {} from {} on", o.lasted, o.from)).collect();
    Some(hold(value, &last.amount, &format!("in outages before the rollout, {}", times.join(" and "))))
}

pub(super) fn rising_before(situation: &Situation<'_>) -> Option<Hold> {
    ask_of_each(situation, rising_before_in)
}

fn rising_before_in(evidence: &Evidence, around: &Around) -> Option<Hold> {
    let rise = around.rise.filter(Rise::explains)?;
    let words = |value: Finite| evidence.unit.format(value.get());
    Some(Hold::RisingBefore {
        from: words(rise.from),
        to: words(rise.to),
        over: rise.over,
        most: words(rise.most),
        seen: words(rise.seen.value),
    })
}

pub(super) fn goal_worse(situation: &Situation<'_>, goal: &Goal) -> Option<Hold> {
    let is_before = situation.state.previous.as_ref() == Some(&goal.revision);
    ask_of_each(situation, |evidence, around| goal_worse_in(evidence, around, goal, is_before))
}

/// How a goal that serves beside this release is now says more than what it was like, which may have been an outage of all.
/// One that is beyond the bound itself is no better where this release is not materially worse.
fn goal_worse_in(evidence: &Evidence, around: &Around, goal: &Goal, is_before: bool) -> Option<Hold> {
    let margin = margin(evidence)?;
    let value = evidence.value?;
    let now = around.beside.as_ref().filter(|beside| is_before && beside.samples >= TELLING);
    let lately = || around.typical.iter().find(|(release, _)| *release == goal.revision).map(|(_, typical)| typical);
    let goal_is = now.or_else(lately)?;
    let is_beyond = evidence.condition.and_then(Condition::threshold).is_some_and(|bound| goal_is.value.get() > bound);
    let is_alike = is_beyond && value.get() <= margin.bound(goal_is.value.get());
    let is_worse = goal_is.samples >= TELLING && (goal_is.value >= value || is_alike);
    is_worse.then(|| Hold::GoalWorse {
        goal: goal.revision.clone(),
        new: evidence.unit.format(value.get()),
        old: evidence.unit.format(goal_is.value.get()),
    })
}

pub(super) fn one_target(situation: &Situation<'_>) -> Option<Hold> {
    ask_of_each(situation, one_target_in)
}

fn one_target_in(evidence: &Evidence, around: &Around) -> Option<Hold> {
    let (target, of, without) = around.worst.as_ref()?;
    let is_well = match evidence.condition? {
        Condition::Above(bound) => without.value <= bound,
        Condition::Below(bound) => without.value >= bound,
        Condition::WorseThanBaseline(_) => {
            let compared = evidence.compared.as_ref()?;
            let (bound, usual) = (compared.bound?, compared.value?.get());
            let excess = |value: Finite| value.get() - usual;
            without.value <= bound || excess(without.value) <= OF_THE_REST * excess(evidence.value?)
        }
    };
    is_well.then(|| Hold::OneTarget {
        target: target.clone(),
        of: *of,
        without: evidence.unit.format(without.value.get()),
    })
}

pub(super) fn load(situation: &Situation<'_>) -> Option<Hold> {
    ask_of_each(situation, load_in)
}

fn load_in(evidence: &Evidence, around: &Around) -> Option<Hold> {
    let (now, before) = around.traffic?;
    let is_by_past = evidence.unit == Unit::Seconds && evidence.compared.as_ref().is_some_and(|c| !c.beside);
    let least = if is_by_past { BUSY } else { CROWD };
    let is_crowd = before > Finite::ZERO && now.get() >= least * before.get();
    is_crowd
        .then(|| Hold::Load { now: Unit::PerSecond.format(now.get()), before: Unit::PerSecond.format(before.get()) })
}

pub(super) fn shared_fault(situation: &Situation<'_>) -> Option<Hold> {
    let onset = situation.incident.times.onset.filter(|_| is_by_trigger(situation))?;
    let is_at_once = |since: Timestamp| since.since(onset).max(onset.since(since)) <= AT_ONCE;
    let others = situation.fleet.bad_without_rollout.iter().filter(|(_, since)| is_at_once(*since));
    let others: Vec<WorkloadId> = others.map(|(other, _)| other.clone()).collect();
    (others.len() >= OTHERS).then_some(Hold::SharedFault { others })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::health::verdict::TriggerStatus;
    use crate::domain::health::verdict::{Assessment, TriggerState};
    use crate::domain::id::{RevisionId, TargetId, TriggerName};
    use crate::domain::incident::state::{Incident, WorkloadState};
    use crate::domain::policy::{Mode, Severity, Strategy};
    use crate::domain::response::guard::{FleetView, Limits};
    use crate::domain::testing;

    fn finite(value: f64) -> Finite {
        Finite::new(value).unwrap()
    }

    fn amount(value: f64, samples: u64) -> Amount {
        Amount { value: finite(value), samples }
    }

    fn evidence(value: f64, unit: Unit, around: Around) -> Evidence {
        Evidence {
            signal: "s".into(),
            unit,
            verdict: Verdict::Breach,
            value: Some(finite(value)),
            interval: None,
            proof: None,
            condition: Some(Condition::Above(finite(0.1))),
            samples: 500,
            unanswered: false,
            window: Span::from_secs(60),
            newest: None,
            convention: None,
            compared: None,
            around: Some(Box::new(around)),
        }
    }

    /// Asks about an incident with the figures of its detection, while these are the present ones.
    fn asked<T>(now: Evidence, incident: &Incident, others: &[&str], ask: impl FnOnce(&Situation<'_>) -> T) -> T {
        asked_since(None, now, incident, others, ask)
    }

    /// The same, of a fault that was last seen to be someone else's so many seconds ago.
    fn asked_since<T>(
        ago: Option<u64>,
        now: Evidence,
        incident: &Incident,
        others: &[&str],
        ask: impl FnOnce(&Situation<'_>) -> T,
    ) -> T {
        let habitat = crate::domain::policy::Habitat::ReleaseDir(crate::domain::policy::ReleaseDir {
            root: "/srv".into(),
            releases: "releases".into(),
            instances: Vec::new(),
        });
        let policy = testing::policy(Strategy::Direct, habitat);
        let at = Timestamp::from_millis(0);
        let attributed_at = ago.map(|ago| at - Span::from_secs(ago));
        let state = TriggerState::Firing { since: at, at };
        let (name, severity) = (TriggerName::from("t"), Severity::Critical);
        let status = TriggerStatus {
            name,
            severity,
            hold_for: Span::ZERO,
            state,
            evidence: now,
            combined: None,
            confirmation: None,
        };
        let assessment = Assessment {
            at,
            revision: None,
            triggers: vec![status],
            signals: Vec::new(),
            blind: None,
            healthy: false,
            asides: Vec::new(),
        };
        let bad_without_rollout = others.iter().map(|other| (WorkloadId::from(*other), at)).collect();
        ask(&Situation {
            limits: Limits::of(&policy),
            state: &WorkloadState::default(),
            incident,
            assessment: &assessment,
            available: Ok(&[]),
            owners: &[],
            fleet: &FleetView { bad_without_rollout, ..FleetView::default() },
            attributed_at,
            now: at,
        })
    }

    fn incident(evidence: Evidence) -> Incident {
        let (name, severity) = (TriggerName::from("t"), Severity::Critical);
        let cause = Cause::Trigger { name, severity, hold_for: Span::ZERO, evidence, combined: None, aside: None };
        Incident::hypothetical(cause, None, Mode::Enforce, Strategy::Direct, Timestamp::from_millis(0))
    }

    /// The names of the guards that hold.
    fn holding(evidence: Evidence, others: &[&str]) -> Vec<&'static str> {
        let goal = Goal { revision: RevisionId::from("good"), image: None, known_good_since: None };
        let holds = asked(evidence.clone(), &incident(evidence), others, |situation| {
            [
                old_release_alike(situation),
                rising_before(situation),
                goal_worse(situation, &goal),
                one_target(situation),
                load(situation),
                shared_fault(situation),
            ]
        });
        holds.iter().flatten().map(Hold::as_str).collect()
    }

    #[test]
    fn what_was_not_the_releases_stays_so_for_a_while_unless_it_is_materially_worse() {
        let plain = |value: f64| evidence(value, Unit::Ratio, Around::default());
        let held = Hold::SharedFault { others: vec![WorkloadId::from("a"), WorkloadId::from("b")] };
        let known = Incident { attributed: Some(held.clone()), hold: None, ..incident(plain(0.4)) };
        let at = |value: f64, guard: &str| asked(plain(value), &known, &[], |situation| stands(situation, guard));
        assert_eq!(at(0.2, "shared-fault"), Some(held.clone()), "the others are well again already");
        assert_eq!(at(0.5, "shared-fault"), Some(held.clone()));
        assert_eq!(at(0.6, "shared-fault"), None);
        assert_eq!(at(0.2, "load"), None);
        let after =
            |ago| asked_since(Some(ago), plain(0.2), &known, &[], |situation| stands(situation, "shared-fault"));
        assert_eq!(after(120), Some(held), "within two windows of a minute");
        assert_eq!(after(121), None, "the others have been well for long");
    }

    #[test]
    fn each_guard_holds_by_its_figures_and_no_other() {
        let none = Around::default;
        let target = || TargetId::from("pod-3");
        let since = |new: f64, old: f64| Around { since_onset: Some((amount(new, 90), amount(old, 90))), ..none() };
        let beside = |old: f64, samples| Around { beside: Some(amount(old, samples)), ..none() };
        let gone = |old: f64| Around { until_gone: Some(amount(old, 90)), ..none() };
        let worst = |without: f64| Around { worst: Some((target(), 20, amount(without, 900))), ..none() };
        let crowd = |now: f64, before: f64| Around { traffic: Some((finite(now), finite(before))), ..none() };
        let typical =
            |name: &str, value: f64| Around { typical: vec![(RevisionId::from(name), amount(value, 900))], ..none() };
        let rising = |most: f64| {
            let (began, over) = (Timestamp::from_millis(0), Span::from_secs(1200));
            let [from, to, expected, most] = [0.01, 0.1, 0.3, most].map(finite);
            let rise = Rise { began, over, from, to, expected, most, seen: amount(0.4, 900) };
            Around { rise: Some(rise), ..none() }
        };
        let usual = |old: f64, samples| Around { usual: Some(amount(old, samples)), ..none() };
        let outage = |old: f64| Outage {
            from: Timestamp::from_millis(0),
            lasted: Span::from_secs(300),
            amount: amount(old, 900),
        };
        let outages = |old: &[f64]| Around { outages: old.iter().copied().map(outage).collect(), ..none() };
        let unseen = Around { since_onset: Some((amount(0.3, 3), amount(0.25, 90))), ..none() };
        let cases: [(&str, Around, &[&str]); 32] = [
            ("the new one not seen to be bad, and the old one well", since(0.0, 0.0011), &[]),
            ("the new one hardly seen", unseen, &[]),
            ("the old one bad, and not yet the new one", since(0.02, 0.12), &[]),
            ("half as bad for both at times", since(0.2, 0.16), &["old-release-alike"]),
            ("the old one usually as bad", usual(0.32, 900), &["old-release-alike"]),
            ("the old one usually less bad", usual(0.3, 900), &[]),
            ("usually as bad by too few requests", usual(0.35, 19), &[]),
            ("one outage before", outages(&[0.4]), &[]),
            ("two outages before", outages(&[0.4, 0.32]), &["old-release-alike"]),
            ("two outages before, one of them less bad", outages(&[0.4, 0.3]), &[]),
            ("the goal was hardly better, and bad", typical("good", 0.32), &["goal-worse"]),
            ("the old one as bad until it was gone", gone(0.35), &["old-release-alike"]),
            ("the old one well until it was gone", gone(0.02), &[]),
            ("rising before, and no worse than it would be", rising(0.41), &["rising-before"]),
            ("rising before, and worse than it would be", rising(0.39), &[]),
            ("nothing else", none(), &[]),
            ("the old one well", beside(0.01, 900), &[]),
            ("the old one as bad", beside(0.35, 900), &["old-release-alike"]),
            ("of too few requests to tell", beside(0.35, 19), &[]),
            ("half as bad", beside(0.2, 900), &[]),
            ("as bad since the fault set in", since(0.4, 0.38), &["old-release-alike"]),
            ("not so since the fault set in", since(0.4, 0.1), &[]),
            ("there before", Around { before: Some(amount(0.4, 900)), ..none() }, &["old-release-alike"]),
            (
                "an outage before, that swells",
                Around { before: Some(amount(0.15, 900)), ..none() },
                &["old-release-alike"],
            ),
            ("well within the bound before", Around { before: Some(amount(0.09, 900)), ..none() }, &[]),
            ("one of twenty", worst(0.01), &["one-target"]),
            ("all of twenty", worst(0.39), &[]),
            ("a crowd", crowd(300.0, 100.0), &["load"]),
            ("a busy hour", crowd(150.0, 100.0), &[]),
            ("the goal was worse", typical("good", 0.5), &["goal-worse"]),
            ("the goal was better", typical("good", 0.3), &[]),
            ("another one was worse", typical("older", 0.5), &[]),
        ];
        for (name, around, expected) in cases {
            assert_eq!(holding(evidence(0.4, Unit::Ratio, around), &[]), expected, "{name}");
        }
        assert_eq!(holding(evidence(0.4, Unit::Ratio, none()), &["a", "b"]), ["shared-fault"]);
        assert_eq!(holding(evidence(0.4, Unit::Ratio, none()), &["a"]), [""; 0]);
    }

    #[test]
    fn what_was_rising_before_is_said_with_its_figures() {
        let [from, to, expected, most] = [0.01, 0.06, 0.09, 0.12].map(finite);
        let (began, over) = (Timestamp::from_millis(0), Span::from_secs(1200));
        let rise = Rise { began, over, from, to, expected, most, seen: amount(0.11, 900) };
        let evidence = evidence(0.11, Unit::Ratio, Around { rise: Some(rise), ..Around::default() });
        let hold = asked(evidence.clone(), &incident(evidence), &[], rising_before).unwrap();
        assert_eq!(
            hold.to_string(),
            "it was rising before the release came, from 1 % to 6 % within 20m; at that pace up to 12 % is to be expected \
             now, and 11 % is seen"
        );
        assert!(hold.is_attribution());
    }

    #[test]
    fn a_goal_that_serves_beside_is_as_good_as_it_is_now() {
        let goal = Goal { revision: RevisionId::from("good"), image: None, known_good_since: None };
        let around = |beside: f64| Around {
            beside: Some(amount(beside, 900)),
            typical: vec![(RevisionId::from("good"), amount(0.5, 900))],
            ..Around::default()
        };
        for (beside, previous, holds) in [(0.01, "good", false), (0.45, "good", true), (0.01, "other", true)] {
            let evidence = evidence(0.4, Unit::Ratio, around(beside));
            let state = WorkloadState { previous: Some(RevisionId::from(previous)), ..WorkloadState::default() };
            let hold = asked(evidence.clone(), &incident(evidence), &[], |situation| {
                goal_worse(&Situation { state: &state, ..*situation }, &goal)
            });
            assert_eq!(hold.is_some(), holds, "{beside} of {previous}");
        }
    }

    #[test]
    fn kills_of_the_old_release_excuse_as_many_of_the_new_one() {
        let before = |kills: f64| Around { before: Some(amount(kills, 1)), ..Around::default() };
        let cases: [(f64, f64, &[&str]); 4] =
            [(1.0, 0.0, &[]), (1.0, 1.0, &["old-release-alike"]), (3.0, 1.0, &["old-release-alike"]), (4.0, 1.0, &[])];
        for (new, old, expected) in cases {
            assert_eq!(holding(evidence(new, Unit::Plain, before(old)), &[]), expected, "{new} after {old}");
        }
    }
}
