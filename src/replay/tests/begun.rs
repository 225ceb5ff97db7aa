//! What a rollback that would have been begun means for those after it.

use super::scene::{POLICY, Pod, Scene, pod, subject};
use crate::domain::id::WorkloadId;
use crate::replay::{Decision, Kind, Options, Outcome, Subject, replay};

/// Ten minutes of v1, and of a bad v2; five of v1 again, and ten of a bad v3.
fn scene() -> Scene {
    let mut scene = Scene::new(vec![pod("a", "v1", 0.0)]);
    scene.run(600);
    for (name, revision, errors, seconds) in [("b", "v2", 0.4, 600), ("c", "v1", 0.0, 300), ("d", "v3", 0.4, 600)] {
        scene.pods = vec![Pod { started: scene.now, ..pod(name, revision, errors) }];
        scene.run(seconds);
    }
    scene
}

fn ruled(outcome: &Outcome) -> Vec<(Option<&str>, Kind, Option<&str>)> {
    let all = outcome.decisions.iter();
    all.map(|one| (one.from.as_ref().map(|from| from.as_str()), one.decision, one.hold.as_deref())).collect()
}

#[test]
fn a_rollback_that_would_have_been_begun_holds_the_next_one() {
    let outcome = scene().play(&Options::default());
    assert_eq!(
        ruled(&outcome),
        [(Some("v2"), Kind::Rollback, None), (Some("v3"), Kind::Hold, Some("cooldown"))],
        "{outcome:?}"
    );
    let often = format!("{POLICY}cooldown = \"1m\"\nper_day = 1\n");
    let outcome = scene().play_with(&often, &Options::default());
    assert_eq!(ruled(&outcome)[1], (Some("v3"), Kind::Hold, Some("daily-limit")), "{outcome:?}");
}

/// In the modes in which nothing would have been begun nothing counts.
#[test]
fn where_nothing_would_have_been_begun_nothing_is_held_for_it() {
    for (mode, hold) in [("observe", "observe-mode"), ("approve", "needs-approval")] {
        let outcome = scene().play_with(&format!("{POLICY}mode = \"{mode}\"\n"), &Options::default());
        let held = [Some("v2"), Some("v3")].map(|from| (from, Kind::Hold, Some(hold)));
        assert_eq!(ruled(&outcome), held, "{outcome:?}");
    }
}

/// The recording goes on with it, though the daemon would have taken it back.
#[test]
fn the_same_release_is_taken_back_once() {
    let mut scene = Scene::new(vec![pod("a", "v1", 0.0)]);
    scene.run(600);
    scene.pods = vec![Pod { started: scene.now, ..pod("b", "v2", 0.4) }];
    for errors in [0.4, 0.0, 0.4] {
        scene.pods[0].errors = errors;
        scene.run(900);
    }
    let outcome = scene.play(&Options::default());
    let ruled = ruled(&outcome);
    assert_eq!(
        ruled,
        [(Some("v2"), Kind::Rollback, None), (Some("v2"), Kind::Hold, Some("rolled-back-before"))],
        "{outcome:?}"
    );
}

#[test]
fn a_rollback_of_one_workload_counts_for_the_others() {
    let mut scene = Scene::new(vec![pod("shop-a", "v1", 0.0), pod("web-a", "v1", 0.0)]);
    scene.labels = |pod| {
        let app = if pod.name.starts_with("shop") { "shop" } else { "web" };
        vec![("instance", pod.name.clone()), ("revision", pod.revision.clone()), ("app", app.to_owned())]
    };
    scene.run(600);
    scene.pods[0] = Pod { started: scene.now, ..pod("shop-b", "v2", 0.4) };
    scene.run(900);
    scene.pods[1] = Pod { started: scene.now, ..pod("web-b", "v2", 0.4) };
    scene.run(900);
    let policy = subject(POLICY).policy;
    let subjects = ["shop", "web"].map(|id| Subject { id: WorkloadId::new(id), policy: policy.clone() });
    let options = Options { workload_label: Some("app".to_owned()), ..Options::default() };
    let outcome = replay(&scene.recorder.finish(), &subjects, &options, &mut ()).unwrap();
    let told: Vec<(&str, Kind, Option<&str>)> =
        outcome.decisions.iter().map(|one| (one.workload.as_str(), one.decision, one.hold.as_deref())).collect();
    let expected = [("shop", Kind::Rollback, None), ("web", Kind::Hold, Some("fleet-budget"))];
    assert_eq!(told, expected, "{outcome:?}");
}

/// It ebbs and comes again within one incident: people know of it.
#[test]
fn what_fires_again_is_not_beside_itself() {
    let mut scene = Scene::new(vec![pod("a", "v1", 0.0)]);
    scene.run(600);
    scene.pods = vec![Pod { started: scene.now, ..pod("b", "v2", 0.4) }];
    scene.run(600);
    for ebb in [60, 90, 120, 150, 180, 240] {
        scene.pods[0].errors = 0.0;
        scene.run(ebb);
        scene.pods[0].errors = 0.4;
        scene.run(600);
    }
    let outcome = scene.play(&Options::default());
    assert!(outcome.near.iter().any(|near| near.fired > 1), "{outcome:?}");
    let of_itself = |one: &&Decision| one.reason.contains(&format!("\"{}\" fired first", one.trigger));
    assert_eq!(outcome.decisions.iter().filter(of_itself).count(), 0, "{outcome:?}");
}
