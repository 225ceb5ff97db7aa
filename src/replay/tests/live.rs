use std::sync::Arc;

use super::scene::{POLICY, Pod, Scene, pod, subject};
use crate::domain::controller::{Answer, Input, JobResult, Output, Work};
use crate::domain::fleet::Fleet;
use crate::domain::incident::record::Event;
use crate::domain::incident::state::WorkloadState;
use crate::domain::observation::Observation;
use crate::domain::time::Timestamp;
use crate::replay::drive::known_good;
use crate::replay::lane::Lane;
use crate::replay::{Kind, Options, Recording, Subject, replay};

/// Halfway through comes a version with these errors.
fn recording(errors: f64) -> Recording {
    let mut scene = Scene::new((0..3).map(|n| pod(&format!("old-{n}"), "v1", 0.001)).collect());
    scene.run(1_200);
    for index in 0..3 {
        scene.pods[index] = Pod { started: scene.now, ..pod(&format!("new-{index}"), "v2", errors) };
        scene.run(45);
    }
    scene.run(900);
    scene.recorder.finish()
}

/// Everything that the daemon's edges would have handed to its loop.
fn looks(recording: &Recording, subject: &Subject) -> (Lane, Vec<Observation>) {
    let mut lane = Lane::new(subject.id.clone(), Arc::clone(&subject.policy), recording, &Options::default());
    let mut cursor = recording.cursor();
    let mut points = Vec::new();
    while let Some(point) = cursor.next().unwrap() {
        points.push(point);
    }
    let mut seen = Vec::new();
    for moment in points.chunk_by(|a, b| a.at == b.at) {
        lane.observe(moment[0].at, moment, &mut seen);
    }
    (lane, seen)
}

/// The daemon's own loop over them, in mode `enforce`: one look after another, ticks when they are due, nothing in the
/// way of a plan. When the first rollback is planned.
fn live(recording: &Recording, subject: &Subject) -> Option<Timestamp> {
    let (lane, seen) = looks(recording, subject);
    let mut state = WorkloadState::default();
    for record in known_good(&subject.id, &"v1".into(), seen[0].at) {
        state.apply(&record).unwrap();
    }
    let mut fleet = Fleet::default();
    fleet.add(Arc::clone(&lane.policy), state);
    for observation in seen {
        let at = observation.at;
        let mut inputs = Vec::new();
        while let (Some(next), _) = fleet.due(Timestamp::from_millis(i64::MIN)) {
            if next >= at {
                break;
            }
            inputs.push((next, Input::Tick));
            if let Some(planned) = feed(&mut fleet, subject, &mut inputs) {
                return Some(planned);
            }
        }
        inputs.push((at, Input::Observed(observation)));
        if let Some(planned) = feed(&mut fleet, subject, &mut inputs) {
            return Some(planned);
        }
    }
    None
}

fn feed(fleet: &mut Fleet, subject: &Subject, inputs: &mut Vec<(Timestamp, Input)>) -> Option<Timestamp> {
    while let Some((now, input)) = inputs.pop() {
        let mut out = Output::default();
        fleet.handle(&subject.id, input, now, &mut out);
        assert_eq!(out.refused, []);
        if out.records.iter().any(|record| matches!(record.event, Event::Planned { .. })) {
            return Some(now);
        }
        for job in out.jobs {
            assert!(matches!(job.work, Work::Preflight(_)), "{job:?}");
            let result = JobResult::Preflight(Vec::new());
            inputs.push((now, Input::Done(Answer { ticket: job.ticket, result })));
        }
    }
    None
}

#[test]
fn the_daemon_decides_what_the_replay_says_and_when() {
    let subject = subject(POLICY);
    for errors in [0.0, 0.08, 0.12, 0.4, 1.0] {
        let recording = recording(errors);
        let outcome = replay(&recording, std::slice::from_ref(&subject), &Options::default(), &mut ()).unwrap();
        let told = outcome.decisions.iter().find(|one| one.decision == Kind::Rollback).map(|one| one.fired_at);
        let lived = live(&recording, &subject);
        assert_eq!(lived.is_some(), errors > 0.1, "{errors}");
        match (told, lived) {
            (Some(told), Some(lived)) => {
                // The loop judges at each look, the replay once all looks of a moment are in.
                let apart = told.since(lived).max(lived.since(told));
                assert!(apart.as_millis() <= 15_000, "{errors}: {told} and {lived}");
            }
            (told, lived) => assert_eq!(told, lived, "{errors}"),
        }
    }
}
