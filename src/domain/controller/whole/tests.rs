mod halted;
mod proof;
mod room;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::controller::{Answer, Controller, Input, JobResult, Output, Reply, Request, RequestKind, Work};
use crate::domain::health::verdict::Assessment;
use crate::domain::id::InstanceId;
use crate::domain::incident::grounds::again;
use crate::domain::incident::record::{Cause, Closing, Event, Goal, Record};
use crate::domain::incident::state::WorkloadState;
use crate::domain::observation::{Answer as HealthAnswer, Observation, Orchestrated, ReleaseView, Rollout, Seen};
use crate::domain::policy::{
    Habitat, Keep, Kubernetes, KubernetesSubject, Mode, ObjectKind, Pin, Release, Strategy, WorkloadPolicy,
};
use crate::domain::response::guard::{FORCIBLE, FleetView};
use crate::domain::response::hold::Hold;
use crate::domain::response::plan::{Aspect, Finding, Outcome, Plan, Purpose, Step, StepKind};
use crate::domain::response::strategy::{self, Ground};
use crate::domain::settings::{ContentId, Setting, SettingKind};
use crate::domain::testing;
use crate::domain::time::{Span, Timestamp};

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000) + Span::from_secs(seconds)
}

fn policy(strategy: Strategy) -> WorkloadPolicy {
    let subject = KubernetesSubject::Object { kind: ObjectKind::Deployment, name: "app".to_owned() };
    let place = Kubernetes {
        context: None,
        namespace: Some("prod".to_owned()),
        subject,
        argocd_namespace: "argocd".to_owned(),
        keep: Keep::default(),
    };
    testing::policy(strategy, Habitat::Kubernetes(place))
}

/// The Deployment, on its way to a release, with so many pods to run; v1 and v2 are kept.
fn view(desired: &str, replicas: u32) -> ReleaseView {
    let kept = ["v1", "v2"].map(|release| (release.into(), Pin { name: release.to_owned(), uid: release.to_owned() }));
    ReleaseView {
        instances: Vec::new(),
        available: ["v2", "v1"].map(|release| Release { revision: release.into(), image: None }).to_vec(),
        orchestrated: Some(Box::new(Orchestrated { kept: kept.into(), ..testing::orchestrated(desired, replicas) })),
        ..ReleaseView::default()
    }
}

/// Why no attempt can be made.
fn gone() -> Finding {
    Finding { aspect: Aspect::Place, check: "template".to_owned(), problem: "gone".to_owned(), passing: false }
}

/// As it was before the rollback.
fn whole() -> ReleaseView {
    view("v2", 3)
}

/// A controller whose rollback has begun: its first step is done, and the template is about to go back.
pub(in crate::domain::controller) struct World {
    pub(in crate::domain::controller) controller: Controller,
    pub(in crate::domain::controller) now: u64,
    view: ReleaseView,
    /// What each preflight finds of a plan that gives a template back.
    findings: Vec<Finding>,
    /// Whether a template may be given back.
    pub(in crate::domain::controller) is_willing: bool,
    /// Whether anything may be scaled up.
    pub(in crate::domain::controller) scales: bool,
    /// What the ConfigMap says, and whether anybody may write it.
    pub(in crate::domain::controller) says: (ContentId, bool),
    /// Kills the daemon after so many more inputs: before the jobs that follow are done, or before their answers come.
    kill: Option<(usize, bool)>,
    pub(in crate::domain::controller) events: Vec<Event>,
    pub(in crate::domain::controller) done: Vec<StepKind>,
}

impl World {
    /// Of a direct rollback: everything is scaled down.
    pub(in crate::domain::controller) fn scaled_down() -> Self {
        Self::begun(Strategy::Direct, Vec::new(), view("v2", 0))
    }

    /// Of a rolling one: what v1 named says what it said with it, and said something else with v2.
    pub(in crate::domain::controller) fn with_settings_back() -> Self {
        Self::with_setting(Some("2"))
    }

    /// The same, where what v1 named said this with v2, or was not there.
    fn with_setting(before: Option<&str>) -> Self {
        let step = Step { kind: setting_back(before), timeout: Span::from_secs(30) };
        Self::begun(Strategy::Rolling, vec![step], view("v2", 3))
    }

    fn begun(strategy: Strategy, first: Vec<Step>, view: ReleaseView) -> Self {
        Self::begun_from(&whole(), strategy, first, view)
    }

    fn begun_from(before: &ReleaseView, strategy: Strategy, first: Vec<Step>, view: ReleaseView) -> Self {
        let policy = Arc::new(policy(strategy));
        let goal = Goal { revision: "v1".into(), image: None, known_good_since: Some(at(0)) };
        let mut plan = {
            let ground =
                Ground { from: &"v2".into(), goal: &goal, view: before, well: &[], capacity: None, served: None };
            strategy::build(&policy, Purpose::First, 1, ground, at(10))
        };
        plan.begin_with(first);
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
                goal: Some(goal.clone()),
                mode: Mode::Enforce,
                strategy,
                assessment: Box::new(assessment),
            },
            Event::Planned { plan: Box::new(plan), goal, forced: Vec::new(), grounds: None },
            Event::StepStarted { step: 0 },
            Event::StepFinished { step: 0, outcome: Outcome::Applied },
        ];
        let mut state = WorkloadState::default();
        for (sequence, event) in (1..).zip(events) {
            let incident = (sequence > 3).then(|| "i1".into());
            state.apply(&Record { workload: "app".into(), sequence, incident, at: at(10), event }).unwrap();
        }
        let controller = Controller::new(policy, state);
        Self {
            controller,
            now: 10,
            view,
            findings: Vec::new(),
            is_willing: false,
            scales: true,
            says: (ContentId::new("1"), true),
            kill: None,
            events: Vec::new(),
            done: Vec::new(),
        }
    }

    /// A second goes by: it is looked, and every job is done. Giving a template back is denied, unless it is said otherwise.
    pub(in crate::domain::controller) fn second(&mut self) {
        self.now += 1;
        self.see(Seen::Releases(Ok(self.view.clone())));
    }

    fn see(&mut self, seen: Seen) {
        self.feed(Input::Observed(Observation { workload: "app".into(), at: at(self.now), seen }));
    }

    /// Somebody asks for a rollback whatever holds it.
    fn ask_for_rollback(&mut self) {
        let force = FORCIBLE.map(str::to_owned).into();
        let kind = RequestKind::Rollback { reason: "by hand".to_owned(), to: Some("v1".into()), force };
        self.feed(Input::Asked(Request { by: "ops".to_owned(), kind })).unwrap().unwrap();
    }

    fn pages(&self) -> Vec<&str> {
        let pages = self.events.iter().filter_map(|event| match event {
            Event::Escalated { reason, .. } => Some(reason.as_str()),
            _ => None,
        });
        pages.collect()
    }

    /// One input, and every job that follows from it is done.
    pub(in crate::domain::controller) fn feed(&mut self, input: Input) -> Option<Reply> {
        let (mut inputs, mut first) = (vec![input], None);
        while let Some(input) = inputs.pop() {
            let mut out = Output::default();
            let reply = self.controller.handle(input, at(self.now), &FleetView::default(), &mut out);
            first = first.or(reply);
            assert!(out.refused.is_empty(), "{:?}", out.refused);
            for again in again(&out.records) {
                let differences = again.differences.unwrap_or_default();
                assert!(differences.is_empty(), "{} is decided otherwise: {differences:?}", again.decided);
            }
            self.events.extend(out.records.into_iter().map(|record| record.event));
            let is_killed_before_jobs = self.kill == Some((0, true));
            if !is_killed_before_jobs {
                for job in out.jobs {
                    let result = self.result_of(job.work);
                    inputs.push(Input::Done(Answer { ticket: job.ticket, result }));
                }
            }
            if self.kill.is_some_and(|(left, _)| left == 0) {
                self.kill = None;
                self.controller =
                    Controller::new(Arc::clone(self.controller.policy()), self.controller.state().clone());
                inputs.clear();
            }
            self.kill = self.kill.map(|(left, when)| (left - 1, when));
        }
        first
    }

    fn ask(&mut self, kind: RequestKind) {
        let reply = self.feed(Input::Asked(Request { by: "ops".to_owned(), kind }));
        assert!(reply.unwrap().is_ok());
    }

    fn result_of(&mut self, work: Work) -> JobResult {
        match work {
            Work::Preflight(plan) => {
                let rehearsed = plan.rehearsed();
                let restores = rehearsed.iter().any(|kind| matches!(kind, StepKind::RestoreTemplate { .. }));
                let mut findings = if restores { self.findings.clone() } else { Vec::new() };
                let (says, is_writable) = &self.says;
                let refuses = |kind: &&StepKind| match kind {
                    StepKind::RestoreSetting { expect, content, .. } => {
                        says != content && (!is_writable || expect.as_ref() != Some(says))
                    }
                    _ => false,
                };
                if rehearsed.iter().any(refuses) {
                    let (check, problem) = ("settings".to_owned(), "it can't be written".to_owned());
                    findings.push(Finding { check, problem, aspect: Aspect::Settings, passing: false });
                }
                JobResult::Preflight(findings)
            }
            Work::Step { kind, .. } => {
                let outcome = match &kind {
                    StepKind::RestoreTemplate { .. } if self.is_willing => Outcome::Applied,
                    StepKind::RestoreTemplate { .. } => Outcome::Denied("no".to_owned()),
                    StepKind::Scale { .. } if !self.scales => Outcome::Denied("not any more".to_owned()),
                    StepKind::Scale { replicas, .. } => {
                        self.view.orchestrated.as_mut().unwrap().replicas = *replicas;
                        Outcome::Applied
                    }
                    StepKind::RestoreSetting { expect, content, .. } => self.give(expect.as_ref(), content),
                    other => panic!("{other:?}"),
                };
                self.done.push(kind);
                JobResult::Step(outcome)
            }
            Work::Smoke(_) => JobResult::Smoke(true, String::new()),
            Work::Keep(_) => JobResult::Kept(Err("no".to_owned())),
            Work::Record(_) => JobResult::Recorded(Box::default()),
        }
    }

    fn give(&mut self, expect: Option<&ContentId>, content: &ContentId) -> Outcome {
        let (says, is_writable) = &mut self.says;
        match expect {
            _ if says == content => Outcome::AlreadyInEffect,
            Some(_) if !*is_writable => Outcome::Denied("it is sealed".to_owned()),
            Some(expect) if says == expect => {
                *says = content.clone();
                Outcome::Applied
            }
            Some(_) | None => Outcome::Conflict("somebody changed it".to_owned()),
        }
    }

    fn until_over(&mut self) -> Event {
        for _ in 0..60 {
            self.second();
            let over = |event: &&Event| matches!(event, Event::Escalated { .. } | Event::Closed { .. });
            if let Some(event) = self.events.iter().find(over) {
                return event.clone();
            }
        }
        panic!("it is never over: {:#?}", self.events);
    }

    fn plans(&self) -> BTreeMap<u32, (Purpose, &Plan)> {
        let plans = self.events.iter().filter_map(|event| match event {
            Event::Planned { plan, .. } => Some((plan.attempt, (plan.purpose, &**plan))),
            _ => None,
        });
        plans.collect()
    }

    pub(in crate::domain::controller) fn replicas(&self) -> u32 {
        self.view.orchestrated.as_ref().unwrap().replicas
    }
}

fn setting_back(before: Option<&str>) -> StepKind {
    StepKind::RestoreSetting {
        object: view("v2", 3).orchestrated.unwrap().object,
        setting: Setting { kind: SettingKind::ConfigMap, name: "m".to_owned() },
        expect: before.map(ContentId::new),
        content: ContentId::new("1"),
        release: "v1".into(),
        unless_at: None,
    }
}

fn is_given_back(world: &World, release: &str) {
    let last = world.done.last().unwrap();
    let StepKind::Scale { expect, replicas: 3, only_from: Some(0), at_any: true, .. } = last else {
        panic!("{last:?}")
    };
    assert_eq!(expect.as_str(), release);
    assert_eq!(world.replicas(), 3);
}

#[test]
fn where_every_attempt_fails_half_way_it_has_its_instances_before_a_human_has_it() {
    let mut world = World::scaled_down();
    let over = world.until_over();
    assert!(
        matches!(&over, Event::Escalated { reason, .. } if reason.contains("no; it has its instances back, at v2")),
        "{over:?}"
    );
    is_given_back(&world, "v2");
    let purposes: Vec<Purpose> = world.plans().values().map(|(purpose, _)| *purpose).collect();
    assert_eq!(purposes, [Purpose::Retry, Purpose::Whole]);
}

#[test]
fn an_attempt_that_can_not_be_made_is_not_waited_for_while_nothing_runs() {
    let mut world = World::scaled_down();
    world.findings = vec![gone()];
    let over = world.until_over();
    assert!(matches!(over, Event::Escalated { .. }), "{over:?}");
    is_given_back(&world, "v2");
    assert!(world.now < 20, "it took until second {}", world.now);
}

/// That nobody answered says nothing of the attempt.
#[test]
fn what_nobody_could_look_at_is_looked_at_again_and_the_goal_gets_the_instances() {
    let mut world = World::scaled_down();
    world.findings = vec![Finding {
        aspect: Aspect::Place,
        check: "API server".to_owned(),
        problem: "did not answer".to_owned(),
        passing: true,
    }];
    for _ in 0..20 {
        world.second();
    }
    assert_eq!((world.replicas(), world.plans().len()), (0, 0), "{:#?}", world.events);
    world.findings.clear();
    world.is_willing = true;
    let answered = world.now;
    while world.replicas() == 0 && world.now < answered + 60 {
        world.second();
    }
    assert!(world.now <= answered + 10, "it took until second {}, from {answered} on", world.now);
    let purposes: Vec<Purpose> = world.plans().values().map(|(purpose, _)| *purpose).collect();
    assert_eq!(purposes, [Purpose::Retry]);
}

#[test]
fn what_somebody_puts_there_meanwhile_gets_its_instances_and_is_theirs() {
    let mut world = World::scaled_down();
    world.view.orchestrated.as_mut().unwrap().desired = "v3".into();
    let over = world.until_over();
    let superseded = |by: &str| Event::Closed { how: Closing::Superseded { by: by.into(), others: BTreeMap::new() } };
    assert_eq!(over, superseded("v3"));
    is_given_back(&world, "v3");
    world.second();
    let current = world.controller.state().current.as_ref().unwrap();
    assert_eq!(current.revision.as_str(), "v3");
    let own = world.events.iter().any(|event| matches!(event, Event::ReleaseObserved { by_rollback: true, .. }));
    assert!(!own, "nobody else's release is put down to the rollback: {:#?}", world.events);

    let mut scaled = World::scaled_down();
    scaled.view = view("v3", 5);
    assert_eq!(scaled.until_over(), superseded("v3"));
    assert_eq!(scaled.replicas(), 5, "whoever scaled it meant that");
}

#[test]
fn what_somebody_puts_there_while_it_is_paused_half_way_is_recorded_and_judged() {
    for mut world in [World::scaled_down(), World::with_settings_back()] {
        world.ask(RequestKind::Pause { reason: "wait".to_owned() });
        world.view.orchestrated.as_mut().unwrap().desired = "v3".into();
        for _ in 0..5 {
            world.second();
        }
        assert_eq!(world.done, [], "nothing is begun while it is paused");
        let came =
            |event: &&Event| matches!(event, Event::ReleaseObserved { revision, .. } if revision.as_str() == "v3");
        assert_eq!(world.events.iter().filter(came).count(), 1, "{:#?}", world.events);
        assert_eq!(world.controller.assessment().revision.as_ref().unwrap().as_str(), "v3");
        world.ask(RequestKind::Resume);
        let over = world.until_over();
        assert_eq!(over, Event::Closed { how: Closing::Superseded { by: "v3".into(), others: BTreeMap::new() } });
        assert_eq!(world.events.iter().filter(came).count(), 1, "{:#?}", world.events);
        assert_eq!(world.replicas(), 3);
    }
}

/// It is over, and what the ConfigMap says is as expected.
fn ends(mut world: World, says: &str) -> (Event, World) {
    let over = world.until_over();
    assert_eq!(world.says.0.as_str(), says, "{over:?}: {:#?}", world.done);
    (over, world)
}

#[test]
fn settings_that_went_back_ahead_of_a_template_that_never_did_are_put_forward() {
    let (over, world) = ends(World::with_settings_back(), "2");
    let Event::Escalated { reason, .. } = &over else { panic!("{over:?}") };
    assert!(reason.contains("its settings are as before") && !reason.contains("may say"), "{reason}");
    let purposes: Vec<Purpose> = world.plans().values().map(|(purpose, _)| *purpose).collect();
    assert_eq!(purposes, [Purpose::Retry, Purpose::Whole]);
    let Some(StepKind::RestoreSetting { unless_at: Some(goal), .. }) = world.done.last() else { panic!() };
    assert_eq!(goal.as_str(), "v1");
    let mut willing = World::with_settings_back();
    willing.is_willing = true;
    for _ in 0..20 {
        willing.second();
    }
    assert_eq!(willing.says.0.as_str(), "1", "it belongs to what is in place: {:#?}", willing.done);
}

#[test]
fn killed_anywhere_the_end_is_the_same() {
    for kill in (0..30).flat_map(|after| [(after, false), (after, true)]) {
        let mut world = World::with_settings_back();
        world.kill = Some(kill);
        let (over, _) = ends(world, "2");
        assert!(matches!(over, Event::Escalated { .. }), "{kill:?}: {over:?}");
    }
}

#[test]
fn whoever_puts_another_release_there_meanwhile_has_its_settings() {
    let mut world = World::with_settings_back();
    world.view.orchestrated.as_mut().unwrap().desired = "v3".into();
    let (over, world) = ends(world, "2");
    assert_eq!(over, Event::Closed { how: Closing::Superseded { by: "v3".into(), others: BTreeMap::new() } });
    assert!(!world.done.iter().any(|kind| matches!(kind, StepKind::RestoreTemplate { .. })), "{:#?}", world.done);
}

#[test]
fn what_somebody_wrote_meanwhile_stays() {
    let mut world = World::with_settings_back();
    world.says.0 = ContentId::new("3");
    let (over, _) = ends(world, "3");
    assert!(matches!(&over, Event::Escalated { reason, .. } if !reason.contains("may say")), "{over:?}");
}

#[test]
fn what_can_not_be_put_forward_is_named_and_stays_open() {
    let expected = "ConfigMap m in prod may say what it said with v1, not what it said with v2";
    let mut world = World::with_settings_back();
    world.says.1 = false;
    let (over, _) = ends(world, "1");
    assert!(matches!(&over, Event::Escalated { reason, .. } if reason.ends_with(expected)), "{over:?}");

    let mut theirs = World::with_settings_back();
    theirs.says.1 = false;
    theirs.view.orchestrated.as_mut().unwrap().desired = "v3".into();
    let (over, mut theirs) = ends(theirs, "1");
    assert!(matches!(&over, Event::Escalated { reason, .. } if reason.ends_with(expected)), "{over:?}");
    for _ in 0..5 {
        theirs.second();
    }
    let state = theirs.controller.state();
    assert_eq!(state.current.as_ref().unwrap().revision.as_str(), "v3");
    assert!(state.incident.is_some(), "the page stays open");
}

#[test]
fn what_is_held_back_for_long_is_put_forward_too() {
    let mut world = World::with_settings_back();
    world.findings = vec![gone()];
    let limit = world.controller.policy().deadline.as_millis() / 1000 + 60;
    while world.now < 10 + limit && !world.events.iter().any(|event| matches!(event, Event::Escalated { .. })) {
        world.second();
    }
    assert_eq!(world.says.0.as_str(), "2", "{:#?}", world.events);
    let incident = world.controller.state().incident.as_ref().unwrap().id.clone();
    assert!(world.events.iter().any(|event| matches!(event, Event::Escalated { .. })), "{incident}");
}

#[test]
fn whoever_is_paged_again_is_told_of_settings_again() {
    let expected = "ConfigMap m in prod may say what it said with v1, not what it said with v2";
    let mut world = World::with_settings_back();
    world.says.1 = false;
    world.until_over();
    world.findings = vec![gone()];
    world.ask_for_rollback();
    for _ in 0..5 {
        world.second();
    }
    let pages = world.pages();
    assert!(pages.len() == 2 && pages.iter().all(|page| page.ends_with(expected)), "{pages:#?}");
    assert!(pages[1].contains("gone"), "{pages:#?}");

    world.findings.clear();
    world.is_willing = true;
    world.now += 60;
    world.second();
    world.ask_for_rollback();
    for _ in 0..5 {
        world.second();
    }
    let incident = world.controller.state().incident.as_ref().unwrap();
    assert!(incident.moved.is_empty(), "it belongs to what is put in place: {:#?}", world.events);
}

#[test]
fn what_is_held_by_hand_ends_by_the_word_of_whoever_holds_it() {
    let mut world = World::with_settings_back();
    world.says.1 = false;
    world.until_over();
    let report = RequestKind::Trigger { kind: "security".to_owned(), reason: "again".to_owned(), key: None };
    world.feed(Input::Asked(Request { by: "ops".to_owned(), kind: report })).unwrap().unwrap();
    world.second();
    let incident = world.controller.state().incident.as_ref().unwrap();
    assert!(incident.plan.is_none() && !incident.moved.is_empty(), "{:#?}", world.events);
    let incident = incident.id.clone();
    let close = RequestKind::Reject { incident, reason: "seen to".to_owned() };
    world.feed(Input::Asked(Request { by: "ops".to_owned(), kind: close })).unwrap().unwrap();
    assert!(world.controller.state().incident.is_none());
}

#[test]
fn what_leaves_the_policy_while_it_is_held_by_hand_is_a_humans_still() {
    let mut world = World::with_settings_back();
    world.says.1 = false;
    world.until_over();
    let report = RequestKind::Trigger { kind: "security".to_owned(), reason: "again".to_owned(), key: None };
    world.feed(Input::Asked(Request { by: "ops".to_owned(), kind: report })).unwrap().unwrap();
    world.controller.leave();
    for _ in 0..3 {
        world.now += 1;
        world.feed(Input::Tick);
    }
    let pages = world.pages();
    assert!(pages.len() == 2 && pages[1].contains("ConfigMap m in prod may say"), "{pages:#?}");
    assert!(world.controller.state().incident.is_some(), "the page stays open: {:#?}", world.events);
}

#[test]
fn what_was_made_anew_is_named_when_the_rollback_is_given_up() {
    let expected = "ConfigMap m in prod may be there again, as it was with v1, and is not taken away";
    let (over, _) = ends(World::with_setting(None), "1");
    assert!(matches!(&over, Event::Escalated { reason, .. } if reason.ends_with(expected)), "{over:?}");
}

#[test]
fn a_fault_of_a_release_that_came_since_is_news_though_a_page_is_open() {
    let mut world = World::with_settings_back();
    world.says.1 = false;
    world.view.orchestrated.as_mut().unwrap().desired = "v3".into();
    world.until_over();
    world.view.instances = vec![("pod".into(), "v3".into())];
    world.view.orchestrated.as_mut().unwrap().serving = vec!["pod".into()];
    world.view.available.insert(0, Release { revision: "v3".into(), image: None });
    for _ in 0..20 {
        world.second();
        let answer = HealthAnswer { healthy: false, detail: "500".to_owned(), revision: None };
        let (target, instance) = ("pod:80".into(), Some("pod".into()));
        world.see(Seen::Probe { target, instance, result: Ok(answer) });
    }
    let detected = world.events.iter().find_map(|event| match event {
        Event::Detected { cause, from, .. } => Some((cause.name(), from.as_ref().unwrap().revision.as_str())),
        _ => None,
    });
    let by_rollback =
        world.events.iter().any(|event| matches!(event, Event::ReleaseObserved { by_rollback: true, .. }));
    assert!(!by_rollback, "it is somebody else's");
    assert_eq!(detected, Some(("health", "v3")), "{:#?}", world.controller.assessment());
    let from = world.controller.state().incident.as_ref().and_then(|incident| incident.from.clone());
    assert_eq!(from.unwrap().revision.as_str(), "v3", "it is in question now");
}
