//! Who else writes the workload, and what was paused for a rollback: put back once the pause is of no more use.

use super::{Controller, Output, Work};
use crate::domain::incident::record::Event;
use crate::domain::incident::state::PausedOwner;
use crate::domain::policy::{Owner, OwnerObject};
use crate::domain::response::plan::{Outcome, Plan, StepKind};
use crate::domain::time::{Span, Timestamp};

/// How long putting back may take.
const TIMEOUT: Span = Span::from_secs(10);

/// Shortest and longest time before it is tried again.
const PAUSES: (Span, Span) = (Span::from_secs(60), Span::from_secs(3600));

/// Attempts to put owners back that were in vain, one after another.
#[derive(Debug, Default)]
pub(super) struct PutBacks {
    failed: u32,
    not_before: Timestamp,
}

pub(super) fn put_back(owner: OwnerObject) -> Work {
    Work::Step { kind: StepKind::PutBackOwner { owner }, timeout: TIMEOUT }
}

impl Controller {
    /// Who besides people writes what a rollback would write, as last seen.
    pub(super) fn owners(&self) -> &[Owner] {
        let orchestrated = self.view().ok().and_then(|view| view.orchestrated.as_ref());
        orchestrated.map(|orchestrated| orchestrated.owners.as_slice()).unwrap_or_default()
    }

    /// What an earlier attempt of this incident paused is not paused a second time: whoever lets it go on meanwhile wants
    /// it so.
    pub(super) fn note_paused(&self, plan: &mut Plan) {
        let decided = self.state.incident.as_ref().and_then(|incident| incident.times.decided);
        for step in &mut plan.steps {
            let StepKind::PauseOwner { owner, is_paused, .. } = &mut step.kind else { continue };
            let mut before = self.state.owners_paused.iter().filter(|paused| paused.owner == *owner && paused.is_sure);
            *is_paused = before.any(|paused| decided.is_some_and(|decided| paused.since >= decided));
        }
    }

    /// The next owner that is to be let go on now. An operator's pause holds that as well.
    pub(super) fn owner_to_put_back(&self, now: Timestamp) -> Option<OwnerObject> {
        if self.state.paused.is_some() || now < self.put_backs.not_before {
            return None;
        }
        let mut due = self.state.owners_paused.iter().filter(|paused| !self.is_of_use(paused, now));
        due.next().map(|paused| paused.owner.clone())
    }

    /// While a rollback is under way; then until its limit, unless what was taken back is in place all the same.
    fn is_of_use(&self, paused: &PausedOwner, now: Timestamp) -> bool {
        let is_back = self.state.current.as_ref().is_some_and(|current| current.revision == paused.from);
        self.is_acting() || (now < paused.until && !is_back)
    }

    /// A first failure may pass, and is tried again before anybody is told.
    pub(super) fn note_put_back(&mut self, owner: OwnerObject, outcome: Outcome, now: Timestamp, out: &mut Output) {
        let PutBacks { failed, not_before } = &mut self.put_backs;
        if outcome.is_done() {
            self.put_backs = PutBacks::default();
        } else {
            let (shortest, longest) = PAUSES;
            *not_before = now + shortest.times(1 << (*failed).min(10)).min(longest);
            *failed = failed.saturating_add(1);
            if *failed == 1 {
                return;
            }
        }
        let (mode, strategy) = (self.policy.mode, self.policy.strategy);
        let id = self.new_incident_id(now);
        self.write(Some(id), Event::OwnerPutBack { owner, outcome, mode, strategy }, now, out);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::domain::controller::{Answer, Input, JobResult, owes};
    use crate::domain::health::verdict::Assessment;
    use crate::domain::incident::record::{Cause, Closing, Goal, Record};
    use crate::domain::incident::state::WorkloadState;
    use crate::domain::policy::{GitopsTool, Habitat, Keep, Kubernetes, KubernetesSubject, Mode, ObjectKind, Strategy};
    use crate::domain::response::guard::FleetView;
    use crate::domain::response::plan::{Purpose, Step};
    use crate::domain::testing;

    const LIMIT: Span = Span::from_secs(600);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000) + Span::from_secs(seconds)
    }

    fn owner() -> OwnerObject {
        let (namespace, name) = ("argocd".to_owned(), "web".to_owned());
        OwnerObject { context: None, tool: GitopsTool::ArgoCd, namespace, name }
    }

    fn plan(attempt: u32) -> Plan {
        let pause = StepKind::PauseOwner { owner: owner(), limit: LIMIT, is_paused: false };
        Plan {
            attempt,
            purpose: Purpose::First,
            strategy: Strategy::Rolling,
            from: "v2".into(),
            to: "v1".into(),
            steps: vec![Step { kind: pause, timeout: Span::from_secs(30) }],
            deadline: at(300),
        }
    }

    fn release(revision: &str) -> Event {
        let (revision, older_faults) = (revision.into(), Vec::new());
        Event::ReleaseObserved {
            revision,
            image: None,
            previous: None,
            by_rollback: false,
            older_faults,
            instances: [].into(),
        }
    }

    /// A controller after v2 was detected, with these events since: one a second, from the tenth on.
    fn after(events: Vec<Event>) -> Controller {
        let subject = KubernetesSubject::Object { kind: ObjectKind::Deployment, name: "app".to_owned() };
        let (argocd_namespace, keep) = ("argocd".to_owned(), Keep::default());
        let place = Kubernetes { context: None, namespace: None, subject, argocd_namespace, keep };
        let policy = testing::policy(Strategy::Rolling, Habitat::Kubernetes(place));
        let cause =
            Cause::External { by: "ops".to_owned(), kind: "security".to_owned(), reason: "leak".to_owned(), key: None };
        let assessment = Box::new(Assessment::nothing(at(9)));
        let (mode, strategy) = (Mode::Enforce, Strategy::Rolling);
        let begin = [
            release("v2"),
            Event::Detected { cause, from: None, onset: at(9), goal: None, mode, strategy, assessment },
        ];
        let mut state = WorkloadState::default();
        for (sequence, event) in (1..).zip(begin.into_iter().chain(events)) {
            let is_own = matches!(event, Event::ReleaseObserved { .. } | Event::Paused { .. } | Event::Resumed { .. });
            let incident = (!is_own).then(|| "i1".into());
            let record = Record { workload: "app".into(), sequence, incident, at: at(7 + sequence), event };
            state.apply(&record).unwrap();
        }
        Controller::new(Arc::new(policy), state)
    }

    fn planned(attempt: u32) -> Event {
        let goal = Goal { revision: "v1".into(), image: None, known_good_since: None };
        Event::Planned { plan: Box::new(plan(attempt)), goal, forced: Vec::new(), grounds: None }
    }

    fn begun(outcome: Option<Outcome>) -> Vec<Event> {
        let finished = outcome.map(|outcome| Event::StepFinished { step: 0, outcome });
        [planned(1), Event::StepStarted { step: 0 }].into_iter().chain(finished).collect()
    }

    fn then(mut events: Vec<Event>, more: Vec<Event>) -> Vec<Event> {
        events.extend(more);
        events
    }

    fn escalated() -> Event {
        Event::Escalated { reason: "no more".to_owned(), grounds: None }
    }

    fn is_due(controller: &Controller, seconds: u64) -> bool {
        controller.owner_to_put_back(at(seconds)).is_some()
    }

    #[test]
    fn a_pause_lasts_while_it_is_of_use_and_no_longer_than_its_limit() {
        let paused = || begun(Some(Outcome::Applied));
        assert!(!is_due(&after(paused()), 10_000), "the rollback is under way");
        let elsewhere = after(then(paused(), vec![release("v1"), escalated()]));
        assert!(!is_due(&elsewhere, 600) && is_due(&elsewhere, 611));
        let theirs = vec![
            Event::Closed { how: Closing::Superseded { by: "v3".into(), others: BTreeMap::new() } },
            release("v3"),
        ];
        let by_hand = after(then(paused(), theirs));
        assert!(!is_due(&by_hand, 600) && is_due(&by_hand, 611), "the owner would write over it");
        assert!(is_due(&after(then(paused(), vec![escalated()])), 20), "nothing was taken back");
        let stopped = Event::Paused { by: "ops".to_owned(), reason: "stop".to_owned() };
        assert!(!is_due(&after(then(paused(), vec![escalated(), stopped])), 10_000));
    }

    #[test]
    fn an_owner_goes_on_by_its_limit_though_the_workload_left_the_policy() {
        let mut controller = after(then(begun(Some(Outcome::Applied)), vec![release("v1")]));
        assert!(owes(controller.state()));
        controller.leave();
        let mut handle = |input, seconds| {
            let mut out = Output::default();
            controller.handle(input, at(seconds), &FleetView::default(), &mut out);
            (out, controller.has_left())
        };
        let (out, has_left) = handle(Input::Tick, 20);
        assert!(matches!(out.records[0].event, Event::Closed { how: Closing::Forgotten { .. } }), "{:?}", out.records);
        assert!(!has_left && handle(Input::Tick, 600).0.jobs.is_empty(), "it would write over the rollback");
        let (out, has_left) = handle(Input::Tick, 611);
        let [job] = &out.jobs[..] else { panic!("{out:?}") };
        assert!(job.work == put_back(owner()) && !has_left);
        let answer = Answer { ticket: job.ticket, result: JobResult::Step(Outcome::Applied) };
        let (out, has_left) = handle(Input::Done(answer), 612);
        assert!(out.alerts[0].reason.contains("goes on again") && has_left, "{:?}", out.alerts);
    }

    #[test]
    fn what_may_have_been_paused_is_put_back_and_somebody_elses_pause_is_not() {
        let is_left = |outcome| is_due(&after(then(begun(outcome), vec![escalated()])), 20);
        assert!(is_left(Some(Outcome::TimedOut(String::new()))) && is_left(None));
        assert!(!is_left(Some(Outcome::AlreadyInEffect)) && !is_left(Some(Outcome::Denied(String::new()))));
    }

    #[test]
    fn what_an_earlier_attempt_paused_is_only_looked_at() {
        let is_paused = |controller: &Controller| {
            let mut plan = plan(2);
            controller.note_paused(&mut plan);
            matches!(plan.steps[0].kind, StepKind::PauseOwner { is_paused: true, .. })
        };
        assert!(is_paused(&after(begun(Some(Outcome::Applied)))));
        assert!(!is_paused(&after(begun(Some(Outcome::TimedOut(String::new()))))), "it may not be");
        assert!(!is_paused(&after(Vec::new())));
    }

    #[test]
    fn a_failure_is_told_once_it_does_not_pass() {
        let mut controller = after(then(begun(Some(Outcome::Applied)), vec![escalated()]));
        let denied = || Outcome::Denied("forbidden".to_owned());
        let mut out = Output::default();
        controller.note_put_back(owner(), denied(), at(20), &mut out);
        assert!(out.records.is_empty() && !is_due(&controller, 79) && is_due(&controller, 80));
        controller.note_put_back(owner(), denied(), at(80), &mut out);
        assert!(!is_due(&controller, 199) && is_due(&controller, 200));
        let [alert] = &out.alerts[..] else { panic!("{:?}", out.alerts) };
        assert!(alert.summary.contains("needs a human now") && alert.reason.contains("forbidden"), "{alert:?}");
        controller.note_put_back(owner(), Outcome::Applied, at(200), &mut out);
        assert!(!is_due(&controller, 10_000));
        assert_eq!(out.records.len(), 2);
        assert!(out.alerts[1].reason.contains("goes on again"), "{:?}", out.alerts[1]);
        let ids: Vec<_> = out.alerts.iter().map(|alert| &alert.id).collect();
        assert_ne!(ids[0], ids[1]);
    }
}
