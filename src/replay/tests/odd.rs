use super::scene::{DAWN, POLICY, Pod, Scene, by_label, pod, subject, told};
use crate::domain::time::Timestamp;
use crate::replay::{Kind, Options, STALE, Schedule, TextReader, replay};

const KILLS: &str = "container_oom_events_total";

fn calm() -> Scene {
    let mut scene = Scene::new(vec![pod("a", "v1", 0.0), pod("b", "v1", 0.0)]);
    scene.run(600);
    scene.pods = vec![Pod { started: scene.now, ..pod("c", "v2", 0.0) }];
    scene
}

#[test]
fn a_kill_is_an_increase_and_a_first_sight_is_none() {
    for (values, fires) in [
        ([0.0, 0.0, 0.0, 1.0], true),
        ([f64::NAN, f64::NAN, 3.0, 3.0], false),
        ([0.0, 0.0, 0.0, 0.0], false),
        ([5.0, 5.0, 1.0, 1.0], true),
    ] {
        let mut scene = calm();
        let begin = scene.now;
        scene.run_with(600, |scene| {
            let part = usize::try_from((scene.now - begin) / 150).unwrap();
            if values[part].is_finite() {
                scene.put(KILLS, &[("pod", "c"), ("container", "app"), ("revision", "v2")], values[part]);
            }
        });
        let kinds: Vec<(String, Kind)> =
            told(&scene.play(&Options::default())).into_iter().map(|(_, trigger, kind)| (trigger, kind)).collect();
        let expected = [("oom kills".to_owned(), Kind::Rollback)];
        assert_eq!(kinds, expected[..usize::from(fires)], "{values:?}");
    }
}

#[test]
fn counts_of_pods_without_the_label_are_of_the_pods_release() {
    let mut scene = calm();
    let begin = scene.now;
    scene.run_with(300, |scene| {
        let killed = scene.now - begin > 120;
        // Another workload's, another namespace's.
        scene.put(KILLS, &[("pod", "other-1"), ("namespace", "prod")], (scene.now - DAWN) as f64);
        scene.put(KILLS, &[("pod", "c"), ("namespace", "prod")], f64::from(killed));
    });
    let all = told(&scene.play(&Options::default()));
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!((all[0].1.as_str(), all[0].2), ("oom kills", Kind::Rollback));
    assert!((720..=765).contains(&all[0].0), "{all:?}");
}

#[test]
fn restarts_make_a_crash_loop() {
    let mut scene = calm();
    let begin = scene.now;
    scene.run_with(600, |scene| {
        let restarts = (scene.now - begin) / 60;
        let labels =
            [("pod", "c"), ("namespace", "prod"), ("instance", "10.9.9.9:8080"), ("job", "kube-state-metrics")];
        scene.put("kube_pod_container_status_restarts_total", &labels, restarts as f64);
    });
    let outcome = scene.play(&Options::default());
    let all = told(&outcome);
    assert!(all.iter().any(|one| one.1 == "crash loops" && one.2 == Kind::Rollback), "{outcome:?}");
}

#[test]
fn nothing_recorded_for_a_while_is_no_fault() {
    let mut scene = calm();
    scene.run(300);
    scene.now += 1_800;
    scene.run(300);
    let all = told(&scene.play(&Options::default()));
    assert!(all.iter().all(|one| one.2 == Kind::Alert), "{all:?}");
}

#[test]
fn series_that_end_and_values_that_are_none_are_no_fault() {
    for value in [STALE, f64::NAN] {
        let mut scene = calm();
        scene.run(300);
        for (code, name) in [("200", "http_requests_total"), ("500", "http_requests_total")] {
            let labels = by_label(&scene.pods[0]);
            let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
            scene.put(name, &[labels.as_slice(), &[("code", code)]].concat(), value);
        }
        scene.pods = vec![Pod { started: scene.now, ..pod("d", "v2", 0.0) }];
        scene.now += 15;
        scene.run(600);
        assert_eq!(told(&scene.play(&Options::default())), [], "{value}");
    }
}

#[test]
fn text_gives_the_very_same_outcome() {
    let mut text = String::from("# TYPE http_requests counter\n");
    let mut scene = Scene::new(vec![pod("a", "v1", 0.0)]);
    // Family after family: the file as a whole is not in the order of time.
    for (code, bad) in [("200", false), ("500", true)] {
        for (name, revision, from) in [("a", "v1", 0), ("b", "v2", 600)] {
            let mut count = 0;
            for age in (from..from + 900).step_by(15) {
                let share = if revision == "v2" { 120 } else { 0 };
                count += if bad { share } else { 300 - share };
                let at = DAWN + age;
                text += &format!(
                    "http_requests_total{{code=\"{code}\",instance=\"{name}\",revision=\"{revision}\"}} {count} {at}.25 \
                     # {{trace_id=\"x\"}} 0.1\n"
                );
                scene.now = at;
                let labels = [("revision", revision), ("instance", name), ("code", code)];
                let series = scene.recorder.series("http_requests_total", &labels).unwrap();
                let at = crate::domain::time::Timestamp::from_millis(at * 1000 + 250);
                scene.recorder.point(series, at, f64::from(count)).unwrap();
            }
        }
    }
    text += "# EOF\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let subject = subject(POLICY);
    let mut reader = TextReader::new([&*subject.policy]);
    reader.file(file.path(), &|_| ()).unwrap();
    let recording = reader.into_recorder().finish();
    let from_text = replay(&recording, &[subject], &Options::default(), &mut ()).unwrap();
    let straight = scene.play(&Options::default());
    assert_eq!(from_text.decisions, straight.decisions);
    assert_eq!(from_text.near, straight.near);
    assert_eq!(told(&straight).iter().map(|one| one.2).collect::<Vec<_>>(), [Kind::Rollback]);
}

#[test]
fn up_that_is_zero_is_a_look_that_failed() {
    let mut scene = calm();
    let begin = scene.now;
    scene.pods.clear();
    scene.run_with(300, |scene| {
        scene.put("up", &[("instance", "c:5000"), ("pod", "c"), ("revision", "v2")], 0.0);
        scene.put("probe_success", &[("instance", "http://c:5000/health"), ("pod", "c")], f64::from(scene.now < begin));
    });
    let policy = r#"
[workload.api]
kubernetes = { namespace = "prod", deployment = "api" }
scrape = { port = 5000 }
health = { port = 5000 }
"#;
    let outcome = scene.play_with(policy, &Options::default());
    assert!(outcome.decisions.iter().any(|one| one.decision == Kind::Rollback), "{outcome:?}");
}

#[test]
fn pods_that_follow_each_other_at_one_address_are_two_targets() {
    let mut scene = Scene::new(vec![pod("api-0", "v1", 0.0)]);
    scene.labels = |pod| {
        vec![("instance", "10.0.0.1:5000".to_owned()), ("pod", pod.name.clone()), ("revision", pod.revision.clone())]
    };
    // The old pod's address is asked for a while after it went.
    let up = |scene: &mut Scene| {
        let now = scene.pods[0].name.clone();
        for pod in ["api-0", "api-1"].into_iter().filter(|pod| *pod <= now.as_str()) {
            let labels = [("instance", "10.0.0.1:5000"), ("pod", pod), ("job", "api")];
            scene.put("up", &labels, f64::from(now == pod));
        }
    };
    scene.run_with(900, up);
    scene.pods = vec![Pod { started: scene.now, ..pod("api-1", "v2", 0.4) }];
    scene.run_with(900, up);
    let outcome = scene.play(&Options::default());
    let all = told(&outcome);
    assert!(all.iter().any(|one| one.1 == "error rate" && one.2 == Kind::Rollback), "{outcome:?}");
    assert!(all.iter().all(|one| one.1 != "blind"), "{outcome:?}");
}

#[test]
fn a_pod_that_comes_after_the_rollout_and_never_serves_is_of_the_new_release() {
    let mut scene = Scene::new(vec![pod("api-7d9c5bcb6d-x2v4b", "v1", 0.0), pod("api-7d9c5bcb6d-x2v4c", "v1", 0.0)]);
    let look = |scene: &mut Scene| {
        let old: Vec<String> = scene.pods.iter().map(|pod| pod.name.clone()).collect();
        for pod in &old {
            scene.put("kube_pod_container_status_restarts_total", &[("namespace", "prod"), ("pod", pod)], 0.0);
        }
    };
    scene.run_with(900, look);
    let begin = scene.now;
    scene.run_with(900, |scene| {
        look(scene);
        let restarts = (scene.now - begin) / 40;
        let pod = ("pod", "api-6f8b9c7d5f-zbzzz");
        scene.put("up", &[("instance", "10.0.0.9:5000"), pod], 0.0);
        scene.put("kube_pod_container_status_restarts_total", &[("namespace", "prod"), pod], restarts as f64);
        scene.put(
            "kube_pod_container_status_restarts_total",
            &[("namespace", "prod"), ("pod", "db-0")],
            restarts as f64,
        );
    });
    let schedule = Schedule {
        rollouts: vec![(Timestamp::from_millis((begin - 5) * 1000), "v2".into())],
        before: Some("v1".into()),
    };
    let outcome = scene.play(&Options { schedule, ..Options::default() });
    let crash =
        outcome.decisions.iter().find(|one| one.trigger == "crash loops").unwrap_or_else(|| panic!("{outcome:?}"));
    assert_eq!(crash.from.as_ref().map(|from| from.as_str()), Some("v2"), "{crash:?}");
    assert_eq!(crash.decision, Kind::Rollback, "{crash:?}");
}

#[test]
fn who_speaks_last_after_a_gap_over_the_deployment_has_not_come_back() {
    let mut scene = Scene::new(vec![pod("a", "v1", 0.0)]);
    scene.run(600);
    scene.now += 600;
    let old = std::mem::replace(&mut scene.pods, vec![Pod { started: scene.now, ..pod("b", "v2", 0.4) }]);
    scene.run(15);
    scene.pods.extend(old);
    scene.run(300);
    let outcome = scene.play(&Options::default());
    let releases: Vec<&str> = outcome.releases.iter().map(|(_, _, release)| release.as_str()).collect();
    assert_eq!(releases, ["v1", "v2"]);
}

/// The old ones speak on meanwhile: it is the pod that was there all the time, and no new rollout after the fault.
#[test]
fn a_pod_that_is_not_looked_at_for_a_while_has_not_come_again() {
    let mut scene = Scene::new(vec![pod("a", "v1", 0.0), pod("b", "v1", 0.0)]);
    scene.run(600);
    scene.pods.push(Pod { started: scene.now, ..pod("c", "v2", 0.0) });
    scene.run(90);
    for _ in 0..4 {
        let new = scene.pods.pop().unwrap();
        scene.run(150);
        scene.pods.push(new);
        scene.run(45);
    }
    let outcome = scene.play(&Options::default());
    let releases: Vec<&str> = outcome.releases.iter().map(|(_, _, release)| release.as_str()).collect();
    assert_eq!(releases, ["v1", "v2"]);
}

/// Its pages are read and have nothing of it any more: the policy says what that counts as.
#[test]
fn silence_takes_a_release_back_where_the_policy_says_that_it_is_bad() {
    for (no_data, decided) in [("hold", None), ("ok", None), ("breach", Some(Kind::Rollback))] {
        let mut scene = calm();
        scene.run(300);
        let begin = scene.now;
        scene.pods.clear();
        scene.run_with(900, |scene| {
            scene.put("up", &[("instance", "c:5000"), ("pod", "c"), ("revision", "v2")], 1.0);
        });
        let policy = format!("{POLICY}[workload.api.signal.error_rate]\nno_data = \"{no_data}\"\n");
        let outcome = scene.play_with(&policy, &Options::default());
        let mut decisions = outcome.decisions.iter().filter(|one| one.trigger == "error rate");
        let decision = decisions.find(|one| one.fired_at.as_millis() / 1000 > begin);
        assert_eq!(decision.map(|one| one.decision), decided, "{no_data} {outcome:?}");
    }
}
