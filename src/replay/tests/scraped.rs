//! What only the way of scraping brings into a recording.

use super::scene::{DAWN, POLICY, Pod, Scene, pod, subject};
use crate::domain::observation::{Observation, Seen};
use crate::domain::time::{Span, Timestamp};
use crate::replay::lane::Lane;
use crate::replay::moments::Moments;
use crate::replay::{Near, Options, Outcome, Recorder, replay};

const RESTARTS: &str = "kube_pod_container_status_restarts_total";
const KILLS: &str = "container_oom_events_total";

fn near<'o>(outcome: &'o Outcome, trigger: &str) -> &'o Near {
    outcome.near.iter().find(|near| near.trigger == trigger).unwrap()
}

/// A pod of v2 with two restarts and two kills, counted by these exporters, each from a time on until another.
fn counted(exporters: &[(&str, i64, i64)]) -> Outcome {
    let mut scene = Scene::new(vec![pod("a", "v1", 0.0)]);
    scene.run(600);
    scene.pods = vec![Pod { started: scene.now, ..pod("c", "v2", 0.0) }];
    scene.run_with(900, |scene| {
        let age = scene.now - DAWN - 600;
        let events = f64::from(u8::from(age >= 400) + u8::from(age >= 460));
        for (exporter, ..) in exporters.iter().filter(|(_, from, to)| (*from..*to).contains(&age)) {
            for name in [RESTARTS, KILLS] {
                for (container, share) in [("app", 1.0), ("sidecar", 0.0)] {
                    let labels =
                        [("pod", "c"), ("container", container), ("namespace", "prod"), ("instance", *exporter)];
                    scene.put(name, &labels, 3.0 + events * share);
                }
            }
        }
    });
    scene.play(&Options::default())
}

#[test]
fn what_several_exporters_count_happened_once() {
    let worst = |exporters: &[(&str, i64, i64)]| {
        let outcome = counted(exporters);
        ["crash loops", "oom kills"].map(|trigger| near(&outcome, trigger).worst.map(|(_, value)| value))
    };
    let once = worst(&[("10.9.9.1:8080", 0, 900)]);
    assert_eq!(once, [Some(0.0), Some(2.0)], "two restarts are no loop");
    assert_eq!(worst(&[("10.9.9.1:8080", 0, 900), ("10.9.9.2:8080", 0, 900)]), once);
    // One follows the other, between the two events.
    assert_eq!(worst(&[("10.9.9.1:8080", 0, 440), ("10.9.9.2:8080", 420, 900)]), once);
}

#[test]
fn replicas_that_several_exporters_count_are_there_once() {
    let most = |exporters: &[&str]| {
        let mut scene = Scene::new(vec![pod("a", "v1", 0.0)]);
        scene.run_with(300, |scene| {
            for (name, count) in [("replicas", 2.0), ("replicas_available", 1.0)] {
                for exporter in exporters {
                    let labels = [("deployment", "api"), ("namespace", "prod"), ("instance", *exporter)];
                    scene.put(&format!("kube_deployment_status_{name}"), &labels, count);
                }
            }
        });
        let (recording, subject) = (scene.recorder.finish(), subject(POLICY));
        let mut lane = Lane::new(subject.id, subject.policy, &recording, &Options::default());
        let mut moments = Moments::new(&recording, Span::from_secs(15));
        let mut seen = Vec::new();
        while let Some((at, points)) = moments.next().unwrap() {
            lane.observe(at, &points, &mut seen);
        }
        let replicas = |observation: &Observation| match &observation.seen {
            Seen::Releases(Ok(view)) => {
                view.instances.iter().filter(|(id, _)| id.as_str().starts_with("replica")).count()
            }
            _ => 0,
        };
        let down = |observation: &&Observation| match &observation.seen {
            Seen::Host { result: Ok(reading), .. } => reading.active == Some(false),
            _ => false,
        };
        (seen.iter().map(replicas).max().unwrap(), seen.iter().filter(down).count())
    };
    let once = most(&["10.9.9.1:8080"]);
    assert_eq!(once, (2, 20));
    assert_eq!(most(&["10.9.9.1:8080", "10.9.9.2:8080"]), once);
}

/// Each series of a page has its own milliseconds, and nothing was recorded for a minute.
#[test]
fn series_of_a_target_that_are_milliseconds_apart_are_one_page() {
    let outcome = |apart: i64| {
        let mut recorder = Recorder::new();
        let labels = |code| [("instance", "a"), ("revision", "v1"), ("code", code)];
        let good = recorder.series("http_requests_total", &labels("200")).unwrap();
        let bad = recorder.series("http_requests_total", &labels("500")).unwrap();
        for age in (0..3_600).step_by(5).filter(|age| !(1_500..1_560).contains(age)) {
            let at = (DAWN + age) * 1000;
            for (series, at, value) in [(good, at, 9_000_000 + age * 50), (bad, at + apart, 40_000 + age / 5)] {
                recorder.point(series, Timestamp::from_millis(at), value as f64).unwrap();
            }
        }
        replay(&recorder.finish(), &[subject(POLICY)], &Options::default(), &mut ()).unwrap()
    };
    let together = outcome(0);
    assert!(near(&together, "error rate").worst.unwrap().1 < 0.02, "{together:?}");
    for apart in [1, 30, 240] {
        let outcome = outcome(apart);
        assert_eq!(near(&outcome, "error rate"), near(&together, "error rate"), "{apart} ms");
        assert_eq!(outcome.decisions, together.decisions, "{apart} ms");
    }
}
