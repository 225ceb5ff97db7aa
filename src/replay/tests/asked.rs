//! Recordings in which no instance speaks: of expressions, and of what only stands for the whole.

use super::scene::{DAWN, Scene, releases, told};
use crate::domain::time::Timestamp;
use crate::replay::{Kind, Options, STALE, Schedule};

const POLICY: &str = r#"
[workload.api]
interval = "15s"
command = { current = ["true"], releases = ["true"], rollback = ["true", "{release}"] }

[workload.api.signal.checkout]
promql = "checkout"
prometheus = "http://127.0.0.1:1"
unit = "ratio"

[[workload.api.trigger]]
name = "checkout"
signal = "checkout"
above = "10%"
for = "1m"
"#;

/// Ten minutes of a good value, ten of a bad one.
fn scene(labels: &'static [(&'static str, &'static str)], mut also: impl FnMut(&mut Scene)) -> Scene {
    let mut scene = Scene::new(Vec::new());
    scene.run_with(1_200, |scene| {
        let bad = scene.now >= DAWN + 600;
        let with = |revision: &'static str| [labels, &[("signal", "checkout"), ("revision", revision)]].concat();
        let revision = if labels.is_empty() { "" } else { ["v1", "v2"][usize::from(bad)] };
        scene.put("rollbackd:query", &with(revision), if bad { 0.5 } else { 0.001 });
        also(scene);
    });
    scene
}

fn v2() -> Schedule {
    let at = Timestamp::from_millis((DAWN + 590) * 1000);
    Schedule { rollouts: vec![(at, "v2".into())], before: Some("v1".into()) }
}

#[test]
fn expressions_alone_are_judged_whatever_tells_the_releases() {
    let given = Options { schedule: v2(), ..Options::default() };
    let generation = |scene: &mut Scene| {
        let age = scene.now - DAWN;
        scene.put("kube_deployment_status_observed_generation", &[("deployment", "api")], f64::from(age >= 590));
        scene.put("kube_deployment_spec_replicas", &[("deployment", "api")], 2.0);
    };
    for (scene, options, expected) in [
        (scene(&[], |_| ()), &Options::default(), Kind::Alert),
        (scene(&[], |_| ()), &given, Kind::Rollback),
        (scene(&[], generation), &Options::default(), Kind::Rollback),
        (scene(&[("job", "rules")], |_| ()), &Options::default(), Kind::Rollback),
    ] {
        let outcome = scene.play_with(POLICY, options);
        let kinds: Vec<Kind> = told(&outcome).into_iter().map(|one| one.2).collect();
        assert_eq!(kinds, [expected], "{outcome:?}");
        assert!(outcome.judgements > 80 && outcome.unseen.is_empty(), "{outcome:?}");
        assert_eq!(releases(&outcome).len(), if expected == Kind::Rollback { 2 } else { 1 }, "{outcome:?}");
    }
}

#[test]
fn replicas_of_a_number_are_of_the_release_that_the_schedule_tells() {
    let replicas = |scene: &mut Scene| {
        for name in ["kube_deployment_status_replicas", "kube_deployment_status_replicas_available"] {
            scene.put(name, &[("deployment", "api")], 2.0);
        }
    };
    let outcome = scene(&[], replicas).play_with(POLICY, &Options { schedule: v2(), ..Options::default() });
    let rollback = outcome.decisions.iter().find(|one| one.decision == Kind::Rollback);
    assert_eq!(rollback.and_then(|one| one.from.as_ref()).map(|from| from.as_str()), Some("v2"), "{outcome:?}");
}

/// That nothing fires where nothing is judged is no good news.
#[test]
fn what_is_never_judged_is_not_seen() {
    let mut scene = Scene::new(Vec::new());
    scene.run_with(600, |scene| scene.put("http_requests_total", &[("instance", "a"), ("code", "200")], STALE));
    let outcome = scene.play(&Options::default());
    assert_eq!(outcome.judgements, 0, "{outcome:?}");
    assert_eq!(outcome.unseen.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["api"], "{outcome:?}");
    assert!(
        outcome.notes.iter().any(|note| note == "api: nothing of it is seen, and nothing was judged"),
        "{outcome:?}"
    );
}
