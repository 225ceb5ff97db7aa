//! Having the bad release recorded before anything is touched, without letting that hold anything up.

use super::{Controller, Job, Output, Work};
use crate::domain::id::RevisionId;
use crate::domain::incident::alert::Phase;
use crate::domain::incident::record::{Cause, Event};
use crate::domain::incident::recording::{RECORDING_LIMIT, Recording, Wanted};
use crate::domain::observation::Orchestrated;
use crate::domain::policy::ClusterObject;
use crate::domain::time::Timestamp;

/// A recording that was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    ticket: u64,
    at: Timestamp,
}

impl Controller {
    /// Asks for a recording as soon as a fault is detected, once an incident.
    pub(super) fn ask_recording(&mut self, now: Timestamp, out: &mut Output) {
        if self.recording.is_some() {
            return;
        }
        let Some(wanted) = self.wanted(now) else { return };
        self.tickets += 1;
        self.recording = Some(Asked { ticket: self.tickets, at: now });
        let work = Work::Record(Box::new(wanted));
        out.jobs.push(Job { workload: self.policy.id.clone(), ticket: self.tickets, work });
    }

    /// Whether a plan must wait for the recording; `Some(true)` where something was written about it.
    pub(super) fn wait_for_recording(&mut self, now: Timestamp, out: &mut Output) -> Option<bool> {
        let asked = self.recording.as_ref()?;
        let is_there = self.state.incident.as_ref().is_some_and(|incident| incident.recorded.is_some());
        if is_there {
            return None;
        }
        if now.since(asked.at) < RECORDING_LIMIT {
            return Some(false);
        }
        let missing = vec![format!("nothing could be kept: no answer within {RECORDING_LIMIT}")];
        let recording = Box::new(Recording { missing, ..Recording::default() });
        Some(self.record(Event::Recorded { recording }, now, out))
    }

    /// Takes the answer in, unless it comes after all is over; whether it was one to a recording.
    pub(super) fn take_recording(&mut self, ticket: u64, recording: Box<Recording>, now: Timestamp, out: &mut Output) {
        let phase = self.state.incident.as_ref().map(|incident| incident.phase);
        let is_open = phase.is_some_and(|phase| is_before_the_end(phase) || phase == Phase::Started);
        if is_open && self.recording.as_ref().is_some_and(|asked| asked.ticket == ticket) {
            self.record(Event::Recorded { recording }, now, out);
        }
    }

    fn wanted(&self, now: Timestamp) -> Option<Wanted> {
        let incident = self.state.incident.as_ref()?;
        // What is not seen can't be recorded either.
        let is_seen = !matches!(incident.cause, Cause::Blind { .. });
        if !is_seen || incident.recorded.is_some() || incident.plan.is_some() || !is_before_the_end(incident.phase) {
            return None;
        }
        let from = &self.state.current.as_ref()?.revision;
        let view = self.view().ok()?;
        let orchestrated = view.orchestrated.as_deref()?;
        let goal = incident.goal.clone().or_else(|| self.present_goal(now).ok());
        let is_serving = |name: &_| orchestrated.serving.contains(name);
        let at = view.instances.iter().filter(|(_, revision)| revision == from).map(|(name, _)| name.clone());
        let (serving, mut instances): (Vec<_>, Vec<_>) = at.partition(is_serving);
        instances.extend(serving);
        Some(Wanted {
            from: (object_of(orchestrated, from), from.clone()),
            to: goal.map(|goal| (object_of(orchestrated, &goal.revision), goal.revision)),
            keeper: orchestrated.kept.get(from).cloned(),
            instances,
        })
    }
}

/// What runs a release.
fn object_of(orchestrated: &Orchestrated, release: &RevisionId) -> ClusterObject {
    let canary = orchestrated.canary.iter().map(|canary| (&canary.object, &canary.release));
    let idle = orchestrated.idle.iter().map(|idle| (&idle.object, &idle.release));
    let beside = canary.chain(idle).find(|(_, at)| *at == release);
    beside.map_or(&orchestrated.object, |(object, _)| object).clone()
}

/// Whether it is detected, and nothing was done about it yet.
const fn is_before_the_end(phase: Phase) -> bool {
    match phase {
        Phase::Detected | Phase::Held | Phase::AwaitingApproval => true,
        Phase::Suspected
        | Phase::Started
        | Phase::Verifying
        | Phase::Restored
        | Phase::Failed
        | Phase::Escalated
        | Phase::Closed => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::controller::{Answer, Input, JobResult};
    use crate::domain::health::verdict::Assessment;
    use crate::domain::incident::record::{Goal, Record};
    use crate::domain::incident::state::WorkloadState;
    use crate::domain::observation::{Observation, ReleaseView, Seen};
    use crate::domain::policy::{
        Habitat, Keep, Kubernetes, KubernetesSubject, Mode, ObjectKind, Pin, Release, Strategy, WorkloadPolicy,
    };
    use crate::domain::response::guard::FleetView;
    use crate::domain::response::plan::Outcome;
    use crate::domain::testing;
    use crate::domain::time::Span;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000) + Span::from_secs(seconds)
    }

    fn policy() -> WorkloadPolicy {
        let subject = KubernetesSubject::Object { kind: ObjectKind::Deployment, name: "app".to_owned() };
        let (argocd_namespace, keep) = ("argocd".to_owned(), Keep::default());
        let place = Kubernetes { context: None, namespace: Some("prod".to_owned()), subject, argocd_namespace, keep };
        testing::policy(Strategy::Rolling, Habitat::Kubernetes(place))
    }

    fn view() -> ReleaseView {
        let kept = ["v1", "v2"].map(|release| (release.into(), Pin { name: release.to_owned(), uid: release.into() }));
        let orchestrated =
            Orchestrated { serving: vec!["well".into()], kept: kept.into(), ..testing::orchestrated("v2", 2) };
        ReleaseView {
            instances: vec![("well".into(), "v2".into()), ("bad".into(), "v2".into()), ("old".into(), "v1".into())],
            available: ["v2", "v1"].map(|release| Release { revision: release.into(), image: None }).to_vec(),
            orchestrated: Some(Box::new(orchestrated)),
            ..ReleaseView::default()
        }
    }

    /// A controller of which a human has just said that the release is bad.
    fn detected() -> Controller {
        let goal = Goal { revision: "v1".into(), image: None, known_good_since: Some(at(0)) };
        let known = |revision: &str, previous: Option<&str>| Event::ReleaseObserved {
            revision: revision.into(),
            image: None,
            previous: previous.map(Into::into),
            by_rollback: false,
            older_faults: Vec::new(),
            instances: [].into(),
        };
        let assessment = Assessment::nothing(at(9));
        let cause =
            Cause::External { by: "ops".to_owned(), kind: "security".to_owned(), reason: "leak".to_owned(), key: None };
        let events = [
            known("v1", None),
            Event::KnownGood { revision: "v1".into(), since: at(0) },
            known("v2", Some("v1")),
            Event::Detected {
                cause,
                from: None,
                onset: at(9),
                goal: Some(goal),
                mode: Mode::Enforce,
                strategy: Strategy::Rolling,
                assessment: Box::new(assessment),
            },
        ];
        let mut state = WorkloadState::default();
        for (sequence, event) in (1..).zip(events) {
            let incident = (sequence > 3).then(|| "i1".into());
            state.apply(&Record { workload: "app".into(), sequence, incident, at: at(10), event }).unwrap();
        }
        Controller::new(Arc::new(policy()), state)
    }

    /// What is recorded by when, with whatever else is asked for done at once, where the recording takes so many seconds;
    /// and what was to be recorded.
    fn course(recorder: u64) -> (Vec<(u64, &'static str)>, Vec<Wanted>) {
        let mut controller = detected();
        let (mut events, mut wanted, mut late) = (Vec::new(), Vec::new(), Vec::new());
        for second in 11..20 {
            let seen = Seen::Releases(Ok(view()));
            let mut inputs = vec![Input::Observed(Observation { workload: "app".into(), at: at(second), seen })];
            inputs.extend(late.extract_if(.., |(due, _)| *due <= second).map(|(_, input)| input));
            while let Some(input) = inputs.pop() {
                let mut out = Output::default();
                controller.handle(input, at(second), &FleetView::default(), &mut out);
                assert!(out.refused.is_empty(), "{:?}", out.refused);
                events.extend(out.records.iter().map(|record| (second - 10, record.event.name())));
                for Job { ticket, work, .. } in out.jobs {
                    let (due, result) = match work {
                        Work::Preflight(_) => (second, JobResult::Preflight(Vec::new())),
                        Work::Step { .. } => (second, JobResult::Step(Outcome::Applied)),
                        Work::Keep(_) => (second, JobResult::Kept(Err("no".to_owned()))),
                        Work::Smoke(_) => (second, JobResult::Smoke(true, String::new())),
                        Work::Record(what) => {
                            wanted.push(*what);
                            (second + recorder, JobResult::Recorded(Box::default()))
                        }
                    };
                    let input = Input::Done(Answer { ticket, result });
                    if due <= second { inputs.push(input) } else { late.push((due, input)) }
                }
            }
        }
        events.truncate(4);
        (events, wanted)
    }

    #[test]
    fn what_goes_bad_is_recorded_before_it_is_planned_about() {
        let (events, wanted) = course(0);
        assert_eq!(events[..3], [(1, "recorded"), (1, "planned"), (1, "step-started")]);
        let [wanted] = &wanted[..] else { panic!("{wanted:?}") };
        assert_eq!(wanted.from.1.as_str(), "v2");
        assert_eq!(wanted.to.as_ref().unwrap().1.as_str(), "v1");
        assert_eq!(wanted.instances, ["bad".into(), "well".into()]);
    }

    #[test]
    fn no_recorder_holds_a_rollback_up_for_longer_than_its_limit() {
        let (events, _) = course(1_000);
        assert_eq!(events[..3], [(4, "recorded"), (4, "planned"), (4, "step-started")]);
        let (late, _) = course(5);
        assert!(late[..3] == events[..3], "{late:?}");
    }
}
