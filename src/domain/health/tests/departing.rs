//! What pods of the old release are like among themselves, and in the last looks at them.

use super::comparison::{Like, ROLLOUT, Rollout, worse};
use crate::domain::health::around::Around;
use crate::domain::health::fixtures::{finite, trigger};
use crate::domain::policy::Condition;

/// When the comparison of errors fires on a rollout whose second pod comes late, and what it rests on in the end; one pod of the
/// old release has always so many times the others' errors, and the first new one has so many.
fn beside_an_odd_one(times: f64, errors: f64) -> (Option<i64>, String) {
    let (usual, mut words) = (0.01, String::new());
    let like = |_: &str, pod: i64, _: i64| match pod {
        0..5 => Like { errors: usual, ..Like::WELL },
        5 => Like { errors: usual * times, ..Like::WELL },
        _ => Like { errors, ..Like::WELL },
    };
    let fired = Rollout::new(6, 1_000, 3).watch(vec![worse("error_rate", 1.3, 0.001)], ROLLOUT + 900, like, |status| {
        words = status.evidence.comparison_in_words().unwrap_or_default();
    });
    (fired[0], words)
}

#[test]
fn old_pods_that_differ_hold_back_as_far_as_they_do_and_it_is_said() {
    let (as_bad, words) = beside_an_odd_one(4.0, 0.04);
    assert_eq!(as_bad, None, "{words}");
    assert!(words.contains("; its targets differ by ") && words.contains(" times its share is no worse"), "{words}");
    let (worse, words) = beside_an_odd_one(4.0, 0.15);
    assert!(worse.is_some_and(|at| at <= 200), "{worse:?} {words}");
    let (_, words) = beside_an_odd_one(1.0, 0.01);
    assert!(!words.contains("differ"), "{words}");
}

/// What is seen around a fault that sets in so many seconds before the last old pod is gone, of both or of the new release alone.
fn as_it_goes(before: i64, is_common: bool) -> Around {
    let (gone, mut around) = (ROLLOUT + 10 + 6 * 60, None);
    let like = |release: &str, _: i64, now: i64| {
        let is_bad = now >= gone - before && (is_common || release == "new");
        if is_bad { Like { errors: 0.4, ..Like::WELL } } else { Like::WELL }
    };
    let above = vec![trigger("error_rate", Condition::Above(finite(0.1)), 60)];
    Rollout::new(6, 60, 1).watch(above, ROLLOUT + 600, like, |status| {
        around = status.evidence.around.as_deref().cloned().or(around.take());
    });
    around.unwrap()
}

#[test]
fn a_fault_of_both_that_sets_in_as_the_old_release_goes_shows_in_its_last_looks() {
    for before in [10, 15, 20, 30, 45] {
        let shown = as_it_goes(before, true).until_gone.unwrap();
        assert!(shown.value > finite(0.3), "{before} s: {shown:?}");
        let own = as_it_goes(before, false).until_gone;
        assert!(own.is_none_or(|own| own.value < finite(0.05)), "{before} s: {own:?}");
    }
    let after = as_it_goes(-10, true).until_gone;
    assert!(after.is_none_or(|after| after.value < finite(0.05)), "{after:?}");
}
