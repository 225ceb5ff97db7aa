//! Triggers of more than one signal: what several terms come to, and what a second signal says.

use crate::domain::health::fixtures::*;
use crate::domain::health::verdict::{TriggerState, TriggerStatus, UnknownReason, Verdict};
use crate::domain::id::SignalName;
use crate::domain::policy::{Combination, Combine, Condition, NoData, Term, Trigger, WorkloadPolicy};
use crate::domain::time::Span;

fn term(signal: &str, above: f64) -> Term {
    Term { signal: SignalName::from(signal), condition: Condition::Above(finite(above)) }
}

/// Errors above 10 % together with a queue above 50.
fn errors_and_queue(how: Combine, seconds: u64) -> WorkloadPolicy {
    let combined = Some(Combination { how, others: vec![term("queue", 50.0)] });
    policy_with(vec![Trigger { combined, ..trigger("error_rate", Condition::Above(finite(0.1)), seconds) }])
}

/// One look every five seconds at a page with 100 more requests, so many of them errors, and a queue; none: it is not told.
fn play(policy: WorkloadPolicy, looks: &[(f64, Option<f64>)]) -> Vec<TriggerStatus> {
    let mut scene = Scene::new(policy);
    let (mut total, mut bad) = (0.0, 0.0);
    let mut seen = Vec::new();
    for (step, (errors, queue)) in looks.iter().enumerate() {
        let seconds = 5 * step as i64;
        total += 100.0;
        bad += errors;
        let mut page = requests(total, bad);
        page.samples.extend(queue.map(|queue| sample(QUEUE, 3, 0.0, queue)));
        scene.scrape(seconds, "a:1", page);
        seen.push(scene.trigger(seconds));
    }
    seen
}

fn letters(statuses: &[TriggerStatus]) -> String {
    let letter = |status: &TriggerStatus| match status.state {
        TriggerState::Inactive => '-',
        TriggerState::Pending { .. } => 'p',
        TriggerState::Firing { .. } => 'F',
    };
    statuses.iter().map(letter).collect()
}

#[test]
fn all_fires_while_all_are_bad_and_any_while_any_is() {
    let looks = [
        (0.0, Some(0.0)),
        (60.0, Some(10.0)),
        (60.0, Some(80.0)),
        (60.0, Some(80.0)),
        (60.0, Some(80.0)),
        (60.0, Some(10.0)),
        (60.0, Some(10.0)),
    ];
    assert_eq!(letters(&play(errors_and_queue(Combine::All, 10), &looks)), "--ppF--");
    assert_eq!(letters(&play(errors_and_queue(Combine::Any, 10), &looks)), "-ppFFFF");
    let queue_only = looks.map(|(_, queue)| (0.0, queue));
    assert_eq!(letters(&play(errors_and_queue(Combine::Any, 10), &queue_only)), "--ppF--");
    assert_eq!(letters(&play(errors_and_queue(Combine::All, 10), &queue_only)), "-------");
}

#[test]
fn the_numbers_are_those_of_the_term_that_decides() {
    let looks = [(0.0, Some(0.0)), (60.0, Some(10.0)), (60.0, Some(80.0))];
    let lead = |how| -> Vec<String> {
        play(errors_and_queue(how, 10), &looks).iter().map(|status| status.evidence.signal.to_string()).collect()
    };
    assert_eq!(lead(Combine::All), ["queue", "queue", "error_rate"], "the queue is good from the first look on");
    assert_eq!(lead(Combine::Any), ["error_rate", "error_rate", "error_rate"]);
    let last = play(errors_and_queue(Combine::All, 10), &looks).pop().unwrap();
    let combined = last.combined.unwrap();
    let values: Vec<_> = combined.terms.iter().map(|term| (term.value.unwrap().get(), &term.verdict)).collect();
    assert_eq!(values, [(0.6, &Verdict::Breach), (80.0, &Verdict::Breach)]);
}

#[test]
fn what_is_not_known_of_one_pauses_all_and_leaves_any_to_the_others() {
    let looks = [(0.0, Some(0.0)), (60.0, Some(80.0)), (60.0, None), (60.0, None), (60.0, None), (60.0, Some(80.0))];
    let all = play(errors_and_queue(Combine::All, 15), &looks);
    assert_eq!(letters(&all), "-ppppp");
    // The gauge is fresh for two intervals more.
    let Verdict::Unknown(UnknownReason::Stale { .. }) = &all[4].evidence.verdict else { panic!("{:?}", all[4]) };
    assert_eq!(all[4].state, TriggerState::Pending { since: at(5), held: Span::from_secs(10) });
    assert_eq!(letters(&play(errors_and_queue(Combine::Any, 15), &looks)), "-pppFF");
}

fn confirmed_by_health(no_data: NoData) -> WorkloadPolicy {
    let errors = trigger("error_rate", Condition::Above(finite(0.1)), 0);
    let mut policy = policy_with(vec![Trigger { confirm_with: Some(term("health", 0.5)), ..errors }]);
    policy.signals.get_mut(&SignalName::from("health")).unwrap().no_data = no_data;
    policy
}

/// What the second signal says of a firing trigger: nothing where it confirms. Its last look is long ago where it has none
/// now.
fn said(no_data: NoData, healthy: Option<bool>) -> Option<String> {
    let mut scene = Scene::new(confirmed_by_health(no_data));
    for second in [0, 20, 40] {
        scene.scrape(second, "a:1", requests(10_000.0 + 100.0 * second as f64, 14.0 * second as f64));
        if second == 0 || healthy.is_some() {
            scene.probe(second, "a:1", healthy == Some(true), None);
        }
        scene.assess(second);
    }
    let status = scene.trigger(40);
    assert_eq!(letters(std::slice::from_ref(&status)), "F");
    status.confirmation.unwrap().unconfirmed()
}

#[test]
fn a_second_signal_confirms_only_what_it_shows_itself() {
    let told = |text: &str| Some(text.to_owned());
    assert_eq!(said(NoData::Hold, Some(false)), None);
    assert_eq!(said(NoData::Hold, Some(true)), told("it is 0 % failing, not above 50 %"));
    let stale = "it is unknown, the newest sample is from 1970-01-01T00:00:00.000Z";
    assert_eq!(said(NoData::Hold, None), told(stale));
    assert_eq!(said(NoData::Ok, None), told("it is unknown, which counts as good"));
    assert_eq!(said(NoData::Breach, None), None);
}
