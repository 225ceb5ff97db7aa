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

/// Only the new release was ever recorded.
fn new_alone(labels: fn(&Pod) -> Vec<(&'static str, String)>) -> Scene {
    let mut scene = Scene::new((0..3).map(|n| pod(&new_pod(n), "v2", 0.4)).collect());
    scene.labels = labels;
    scene.pods.iter_mut().for_each(|pod| pod.started = DAWN - 10);
    scene.run(900);
    scene
}

#[test]
fn the_release_before_is_gone_back_to_although_nothing_of_it_is_recorded() {
    let rollouts = |seconds: i64| vec![(Timestamp::from_millis((DAWN + seconds) * 1000), "v2".into())];
    for (labels, new) in [(by_label as fn(&Pod) -> _, "v2"), (by_pod, "v2"), (unlabelled, "v2")] {
        for seconds in [-20, 20] {
            let schedule = Schedule { rollouts: rollouts(seconds), before: Some("v1".into()) };
            let outcome = new_alone(labels).play(&Options { schedule, ..Options::default() });
            let all: Vec<(&str, Kind)> = outcome.decisions.iter().map(|one| (&*one.trigger, one.decision)).collect();
            assert_eq!(all, [("error rate", Kind::Rollback)], "{seconds} {outcome:?}");
            let one = &outcome.decisions[0];
            assert_eq!([one.from.as_ref().unwrap().as_str(), one.to.as_ref().unwrap().as_str()], [new, "v1"]);
        }
    }
    let alone = new_alone(by_label).play(&Options::default());
    assert!(alone.decisions.iter().all(|one| one.decision == Kind::Alert), "nothing tells of a rollout: {alone:?}");
    let (schedule, first_is_good) = (Schedule { rollouts: rollouts(-20), before: None }, false);
    let unproven = new_alone(by_label).play(&Options { schedule, first_is_good, ..Options::default() });
    let hold: Vec<Option<&str>> = unproven.decisions.iter().map(|one| one.hold.as_deref()).collect();
    assert_eq!(hold, [Some("no-known-good")], "{unproven:?}");
}

#[test]
fn a_label_whose_values_are_the_releases_tells_them() {
    let labels = |pod: &Pod| vec![("instance", pod.name.clone()), ("image_tag", pod.revision.clone())];
    let schedule = Schedule {
        rollouts: vec![(Timestamp::from_millis((DAWN + 1_795) * 1000), "v2".into())],
        before: Some("v1".into()),
    };
    let scene = rolling(labels, new_pod);
    let outcome = scene.play(&Options { schedule, ..Options::default() });
    assert!(outcome.notes.iter().any(|note| note.contains("the label `image_tag`")), "{:?}", outcome.notes);
    assert_eq!(told(&outcome).iter().map(|one| one.2).collect::<Vec<_>>(), [Kind::Rollback]);
}

/// A page for each release at one address, looked at in turn.
#[test]
fn two_releases_that_go_on_to_speak_at_one_address_are_both_there() {
    let mut scene = Scene::new(Vec::new());
    let (v1, v2) = (pod("a", "v1", 0.0), pod("b", "v2", 0.4));
    scene.labels = |pod| vec![("revision", pod.revision.clone())];
    scene.pods = vec![v1];
    scene.run(900);
    let mut apart = vec![Pod { started: scene.now, ..v2 }];
    for _ in 0..30 {
        scene.run_with(15, |scene| {
            scene.now += 7;
            std::mem::swap(&mut scene.pods, &mut apart);
            scene.look_at(0);
            std::mem::swap(&mut scene.pods, &mut apart);
            scene.now -= 7;
        });
    }
    let outcome = scene.play(&Options::default());
    assert_eq!(outcome.releases.len(), 2, "{:?}", outcome.releases);
    assert!(outcome.decisions.iter().any(|one| one.decision == Kind::Rollback), "{outcome:?}");
}

/// The one page that all pods have in common goes with the schedule, whatever exporters tell of the pods.
#[test]
fn a_page_of_the_whole_turns_with_the_rollout_although_pods_come_and_go_beside_it() {
    let mut scene = Scene::new(vec![pod("all", "", 0.0)]);
    scene.labels = |_| Vec::new();
    let begin = scene.now;
    let pods = |scene: &mut Scene| {
        let hash = if scene.now < DAWN + 1_800 { "7d9c5bcb6d" } else { "6f8b9c7d5f" };
        let name = format!("api-{hash}-x2v4b");
        scene.put("kube_pod_container_status_restarts_total", &[("namespace", "prod"), ("pod", &name)], 0.0);
    };
    scene.run_with(1_800, pods);
    scene.pods[0].errors = 0.4;
    scene.run_with(900, pods);
    let schedule = Schedule {
        rollouts: vec![(Timestamp::from_millis((begin + 1_795) * 1000), "v2".into())],
        before: Some("v1".into()),
    };
    let outcome = scene.play(&Options { schedule, ..Options::default() });
    let all = told(&outcome);
    assert!(all.iter().any(|one| one.1 == "error rate" && one.2 == Kind::Rollback), "{outcome:?}");
}

#[test]
fn pods_that_came_shortly_before_their_rollout_was_told_belong_to_it() {
    let schedule = Schedule {
        rollouts: vec![(Timestamp::from_millis((DAWN + 1_825) * 1000), "v2".into())],
        before: Some("v1".into()),
    };
    found(rolling(unlabelled, new_pod), &Options { schedule, ..Options::default() }, ["v1", "v2"]);
}

/// Each release has a Deployment of its own, and nothing else tells of the new one.
#[test]
fn a_deployment_whose_series_tell_a_release_is_that_releases() {
    let mut scene = Scene::new(vec![pod("a", "v1", 0.0)]);
    let count = |scene: &mut Scene, revision: &str, all: f64, available: f64| {
        let labels = [("deployment", revision), ("revision", revision)];
        scene.put("kube_deployment_status_replicas", &labels, all);
        scene.put("kube_deployment_status_replicas_available", &labels, available);
    };
    scene.run_with(900, |scene| count(scene, "v1", 3.0, 3.0));
    scene.run_with(900, |scene| {
        count(scene, "v2", 3.0, 0.0);
        count(scene, "v1", 3.0, 3.0);
    });
    let outcome = scene.play(&Options::default());
    let rollback = outcome.decisions.iter().find(|one| one.decision == Kind::Rollback);
    assert_eq!(rollback.and_then(|one| one.from.as_ref()).map(|from| from.as_str()), Some("v2"), "{outcome:?}");
}
