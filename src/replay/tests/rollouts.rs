use super::scene::{DAWN, POLICY, Pod, Scene, by_label, pod, releases, told};
use crate::domain::time::Timestamp;
use crate::replay::{Kind, Options, Schedule};

/// Half an hour of v1, then v2 pod by pod, with errors.
fn rolling(labels: fn(&Pod) -> Vec<(&'static str, String)>, new_name: impl Fn(usize) -> String) -> Scene {
    let mut scene = Scene::new((0..3).map(|n| pod(&old_pod(n), "v1", 0.0)).collect());
    scene.labels = labels;
    scene.run(1_800);
    for index in 0..3 {
        scene.pods[index] = Pod { started: scene.now, ..pod(&new_name(index), "v2", 0.4) };
        scene.run(30);
    }
    scene.run(900);
    scene
}

fn old_pod(index: usize) -> String {
    format!("api-7d9c5bcb6d-x2v4{}", ["b", "c", "d"][index])
}

fn new_pod(index: usize) -> String {
    format!("api-6f8b9c7d5f-z{}zzz", ["b", "c", "d"][index])
}

fn unlabelled(pod: &Pod) -> Vec<(&'static str, String)> {
    vec![("instance", format!("{}:5000", pod.name))]
}

fn by_pod(pod: &Pod) -> Vec<(&'static str, String)> {
    vec![("pod", pod.name.clone())]
}

fn found(scene: Scene, options: &Options, names: [&str; 2]) {
    let outcome = scene.play(options);
    let all = told(&outcome);
    let [(at, trigger, Kind::Rollback)] = all.as_slice() else { panic!("{outcome:?}") };
    assert_eq!(trigger, "error rate");
    assert!((2_100..=2_190).contains(at), "five minutes of breach after the rollout: {at}");
    let one = &outcome.decisions[0];
    assert_eq!([one.from.as_ref().unwrap().as_str(), one.to.as_ref().unwrap().as_str()], [names[1], names[0]]);
    let releases = releases(&outcome);
    assert_eq!(releases[names[0]], 0);
    assert!((1_800..=1_830).contains(&releases[names[1]]), "{releases:?}");
}

#[test]
fn a_label_tells_the_release() {
    found(rolling(by_label, new_pod), &Options::default(), ["v1", "v2"]);
}

#[test]
fn the_label_may_have_any_name() {
    let labels = |pod: &Pod| vec![("instance", pod.name.clone()), ("version", pod.revision.clone())];
    let options = Options { revision_label: "version".to_owned(), ..Options::default() };
    found(rolling(labels, new_pod), &options, ["v1", "v2"]);
}

#[test]
fn names_of_pods_tell_the_release() {
    found(rolling(by_pod, new_pod), &Options::default(), ["7d9c5bcb6d", "6f8b9c7d5f"]);
}

#[test]
fn a_schedule_tells_the_release_of_new_instances() {
    let schedule = Schedule {
        rollouts: vec![(Timestamp::from_millis((DAWN + 1_795) * 1000), "v2".into())],
        before: Some("v1".into()),
    };
    found(rolling(unlabelled, new_pod), &Options { schedule, ..Options::default() }, ["v1", "v2"]);
}

#[test]
fn a_schedule_and_new_processes_tell_the_release_in_place() {
    let schedule =
        Schedule { rollouts: vec![(Timestamp::from_millis((DAWN + 1_795) * 1000), "v2".into())], before: None };
    found(rolling(unlabelled, old_pod), &Options { schedule, ..Options::default() }, ["before", "v2"]);
}

#[test]
fn new_processes_everywhere_are_a_rollout_where_nothing_else_tells() {
    let outcome = rolling(unlabelled, old_pod).play(&Options::default());
    assert_eq!(told(&outcome).iter().map(|one| one.2).collect::<Vec<_>>(), [Kind::Rollback], "{outcome:?}");
    assert_eq!(releases(&outcome).len(), 2);
}

#[test]
fn a_generation_is_a_rollout_unless_it_only_scales() {
    let mut scene = rolling(unlabelled, new_pod);
    let end = scene.now;
    scene.now = DAWN;
    scene.pods.clear();
    scene.run_with(end - DAWN, |scene| {
        let age = scene.now - DAWN;
        let generation = 7 + i64::from(age >= 600) + i64::from(age >= 1_790);
        let replicas = 2 + i64::from(age >= 600);
        scene.put("kube_deployment_status_observed_generation", &[("deployment", "api")], generation as f64);
        scene.put("kube_deployment_spec_replicas", &[("deployment", "api")], replicas as f64);
    });
    found(scene, &Options::default(), ["before", "generation-9"]);
}

#[test]
fn old_pods_that_are_replaced_meanwhile_bring_no_release() {
    let mut scene = Scene::new((0..3).map(|n| pod(&format!("old-{n}"), "v1", 0.0)).collect());
    scene.run(1_800);
    scene.pods.push(Pod { started: scene.now, ..pod("new-0", "v2", 0.4) });
    for n in 3..8 {
        scene.run(60);
        scene.pods[0] = Pod { started: scene.now, ..pod(&format!("old-{n}"), "v1", 0.0) };
    }
    scene.run(900);
    let outcome = scene.play(&Options::default());
    assert_eq!(releases(&outcome).len(), 2);
    assert!(outcome.decisions.iter().any(|one| one.decision == Kind::Rollback), "{outcome:?}");
}

#[test]
fn a_first_release_that_must_be_seen_good_is_no_goal_before() {
    let mut scene = Scene::new(vec![pod("a", "v1", 0.0)]);
    scene.run(120);
    scene.pods = vec![Pod { started: scene.now, ..pod("b", "v2", 0.4) }];
    scene.run(600);
    let options = Options { first_is_good: false, ..Options::default() };
    let outcome = scene.play_with(POLICY, &options);
    let hold: Vec<Option<&str>> = outcome.decisions.iter().map(|one| one.hold.as_deref()).collect();
    assert_eq!(hold, [Some("no-known-good")], "{outcome:?}");
}

#[test]
fn a_deployed_release_that_never_speaks_is_in_place_all_the_same() {
    let mut scene = Scene::new(vec![pod("a", "v1", 0.0)]);
    scene.run(1_200);
    let schedule = Schedule {
        rollouts: vec![(Timestamp::from_millis((DAWN + 600) * 1000), "v2".into())],
        before: Some("v1".into()),
    };
    let outcome = scene.play(&Options { schedule, ..Options::default() });
    assert_eq!(releases(&outcome), [("v1".to_owned(), 0), ("v2".to_owned(), 600)].into());
}
