//! One incident, as its records fold into it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Incident, Progress, Smoke};
use crate::domain::id::{IncidentId, RevisionId, TriggerName};
use crate::domain::incident::alert::{Phase, Times};
use crate::domain::incident::record::{Cause, Event, Goal, Record, Running};
use crate::domain::policy::{Mode, OwnerObject, Severity, Strategy};
use crate::domain::response::hold::Hold;
use crate::domain::response::ladder;
use crate::domain::response::plan::{Outcome, Plan, Purpose, StepKind};
use crate::domain::time::{Span, Timestamp};

impl Incident {
    /// An incident that is not recorded: for asking the guards what they would say.
    #[must_use]
    pub fn hypothetical(cause: Cause, from: Option<Running>, mode: Mode, strategy: Strategy, now: Timestamp) -> Self {
        Self {
            id: IncidentId::new("none"),
            phase: Phase::Suspected,
            cause,
            from,
            goal: None,
            mode,
            strategy,
            hold: None,
            attributed: None,
            is_doubted: false,
            was_blind: false,
            word_until: None,
            approved: None,
            approved_for: None,
            rejected: None,
            rejected_because: String::new(),
            plan: None,
            progress: Progress::Idle,
            tried: Vec::new(),
            unspent: Vec::new(),
            trouble: None,
            no_room: false,
            checks: Vec::new(),
            smoke_owed: false,
            left_undone: None,
            attempt_since: now,
            steps_done: 0,
            passed_over: BTreeSet::new(),
            brought: BTreeMap::new(),
            restarted_by_others: Vec::new(),
            found_beside: BTreeSet::new(),
            moved: Vec::new(),
            made: Vec::new(),
            times: Times { onset: Some(now), ..Times::default() },
            phase_since: now,
            pending: None,
            recorded: None,
            notices: 0,
            told_as: BTreeSet::new(),
        }
    }

    /// Whether a release has a part in the incident: it went, or was gone back to.
    #[must_use]
    pub fn knows(&self, release: &RevisionId) -> bool {
        let plan = self.plan.as_ref();
        self.tried.contains(release)
            || self.from.as_ref().is_some_and(|from| from.revision == *release)
            || self.goal.as_ref().is_some_and(|goal| goal.revision == *release)
            || plan.is_some_and(|plan| plan.from == *release || (plan.to == *release && plan.purpose != Purpose::Whole))
    }

    /// Whether a critical fault was detected that nothing speaks against being that of the release in question.
    pub(super) fn is_its_own_fault(&self) -> bool {
        let is_critical = matches!(&self.cause, Cause::Trigger { severity: Severity::Critical, aside: None, .. });
        let began = self.times.onset.zip(self.from.as_ref()).is_some_and(|(onset, from)| onset >= from.since);
        let is_doubted =
            self.is_doubted || self.attributed.is_some() || self.hold.as_ref().is_some_and(Hold::doubts_the_cause);
        is_critical && began && self.times.detected.is_some() && !is_doubted
    }

    /// Whether it set in later than a fault is put down to the release.
    fn set_in_past(&self, probation: Span) -> bool {
        self.times.onset.zip(self.from.as_ref()).is_some_and(|(onset, from)| onset > from.since + probation)
    }

    /// Whether a hold waits for approval of another goal than people were told of.
    #[must_use]
    pub fn is_another_to_approve(&self, hold: &Hold, goal: Option<&Goal>) -> bool {
        let revision = |goal: Option<&Goal>| goal.map(|goal| goal.revision.clone());
        let is_asked = self.phase == Phase::AwaitingApproval && matches!(hold, Hold::NeedsApproval { .. });
        is_asked && revision(self.goal.as_ref()) != revision(goal)
    }

    pub(super) fn asks_for_another(&self, event: &Event) -> bool {
        matches!(event, Event::Held { hold, goal, .. } if self.is_another_to_approve(hold, goal.as_ref()))
    }

    pub(super) fn begin(id: IncidentId, record: &Record, current: Option<&Running>) -> Result<Self, String> {
        let (cause, from, onset, mode, strategy) = match &record.event {
            Event::Suspected { cause, from, onset, mode, strategy, .. }
            | Event::Detected { cause, from, onset, mode, strategy, .. } => {
                (cause.clone(), from.clone(), *onset, *mode, *strategy)
            }
            Event::Refused { cause, from, mode, strategy, .. } => {
                (cause.clone(), from.clone(), record.at, *mode, *strategy)
            }
            Event::OwnerPutBack { owner, mode, strategy, .. } => {
                (put_back_cause(owner), current.cloned(), record.at, *mode, *strategy)
            }
            Event::ReleaseObserved { .. }
            | Event::KnownGood { .. }
            | Event::SettingsKept { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::StillPending { .. }
            | Event::FoundBeside { .. }
            | Event::Held { .. }
            | Event::Approved { .. }
            | Event::Rejected { .. }
            | Event::Planned { .. }
            | Event::Continued { .. }
            | Event::StepStarted { .. }
            | Event::StepFinished { .. }
            | Event::Verifying
            | Event::Recorded { .. }
            | Event::SmokeStarted
            | Event::SmokeFinished { .. }
            | Event::Restored { .. }
            | Event::Failed { .. }
            | Event::Escalated { .. }
            | Event::Closed { .. } => return Err("no incident is open".to_owned()),
        };
        let fresh = Self::hypothetical(cause, from, mode, strategy, record.at);
        let times = Times { onset: Some(onset), ..Times::default() };
        Ok(Self { id, times, ..fresh })
    }

    pub(super) fn take_in(&mut self, record: &Record) {
        let at = record.at;
        let keeps_hold = matches!(
            record.event,
            Event::Held { .. }
                | Event::Recorded { .. }
                | Event::StepFinished { .. }
                | Event::Approved { .. }
                | Event::Closed { .. }
        );
        if !keeps_hold {
            self.hold = None;
        }
        // By what was decided from, the policy may say something else by now.
        if let Event::Held { grounds, .. } | Event::Planned { grounds, .. } | Event::Escalated { grounds, .. } =
            &record.event
        {
            self.mode = grounds.as_ref().map_or(self.mode, |grounds| grounds.mode());
            self.is_doubted |= grounds.as_ref().is_some_and(|grounds| self.set_in_past(grounds.probation()));
        }
        match &record.event {
            Event::Suspected { goal, .. } => self.goal.clone_from(goal),
            Event::StillPending { held } => self.pending = Some((*held, at)),
            Event::Detected { cause, from, onset, goal, .. } => {
                self.from.clone_from(from);
                self.goal.clone_from(goal);
                self.attributed = None;
                self.is_doubted = false;
                self.was_blind |= matches!(cause, Cause::Blind { .. });
                self.detected(cause, *onset, at);
            }
            Event::FoundBeside { cause } => self.found_beside.extend(beside(cause)),
            Event::Held { hold, goal, .. } | Event::Refused { hold, goal, .. } => {
                if self.hold.as_ref().is_some_and(ladder::is_an_operators) {
                    self.word_until = Some(at);
                }
                if hold.is_attribution() {
                    self.attributed = Some(hold.clone());
                }
                // Whatever else holds it later.
                self.is_doubted |= matches!(hold, Hold::PastProbation { .. } | Hold::NoRollout);
                self.was_halted(at);
                // Another goal is asked for anew.
                if matches!(hold, Hold::NeedsApproval { .. }) {
                    self.approved = None;
                    self.approved_for = None;
                }
                self.hold = Some(hold.clone());
                self.goal.clone_from(goal);
            }
            Event::Recorded { recording } => self.recorded = Some(recording.brief()),
            Event::Approved { by } => {
                self.approved = Some(by.clone());
                self.approved_for = self.goal.as_ref().map(|goal| goal.revision.clone());
            }
            Event::Rejected { by, reason } => {
                self.rejected = Some(by.clone());
                self.rejected_because.clone_from(reason);
                self.hold = Some(Hold::Rejected { by: by.clone(), reason: reason.clone() });
            }
            Event::Planned { plan, goal, .. } => self.planned(plan, goal, at),
            Event::Continued { mode } => {
                self.mode = *mode;
                self.was_halted(at);
                if let Progress::Running { since, .. } = &mut self.progress {
                    *since = at;
                }
            }
            Event::StepStarted { step } => {
                self.passed_over.extend(self.steps_done..*step);
                self.progress = Progress::Running { step: *step, since: at };
            }
            Event::StepFinished { step, outcome } => {
                self.note_passed_over(*step, outcome);
                self.note_restarted_by_others(*step);
                self.note_unspent(outcome);
                let is_spared = self.is_spared(*step, outcome);
                if is_spared {
                    self.left_undone = outcome.why().map(|why| format!("taken back, not deleted: {why}"));
                }
                let is_over = !matches!(outcome, Outcome::Stopped(_));
                self.progress = if is_over && (is_spared || self.goes_on(*step)) {
                    Progress::Next { step: step + 1 }
                } else {
                    after_step(*step, outcome, at)
                };
                if let Progress::Next { step: next } = self.progress {
                    self.steps_done = next;
                    if is_over {
                        self.note_brought(*step, at);
                    }
                }
            }
            Event::Verifying => self.progress = Progress::Proving { since: at, smoke: Smoke::Waiting },
            Event::SmokeStarted => {
                self.set_smoke(Smoke::Running);
                self.smoke_owed = true;
            }
            Event::SmokeFinished { passed: true, .. } => {
                self.set_smoke(Smoke::Passed);
                self.smoke_owed = false;
            }
            Event::SmokeFinished { passed: false, detail } => self.set_smoke(Smoke::Failed { detail: detail.clone() }),
            Event::Restored { checks } => {
                self.checks.clone_from(checks);
                self.restored(at);
            }
            Event::Failed { reason, checks, no_room } => {
                self.trouble = Some(reason.clone());
                self.checks.clone_from(checks);
                self.progress = Progress::Idle;
                self.no_room = *no_room;
                if let Some(plan) = self.plan.as_ref().filter(|_| !no_room)
                    && !self.is_unspent()
                    && !self.tried.contains(&plan.to)
                {
                    self.tried.push(plan.to.clone());
                }
            }
            Event::Escalated { reason, .. } => {
                self.trouble = Some(reason.clone());
                self.progress = Progress::Idle;
            }
            Event::Closed { .. } => self.progress = Progress::Idle,
            Event::ReleaseObserved { .. }
            | Event::KnownGood { .. }
            | Event::SettingsKept { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::OwnerPutBack { .. } => {}
        }
    }

    fn detected(&mut self, cause: &Cause, onset: Timestamp, at: Timestamp) {
        self.cause = cause.clone();
        self.pending = None;
        self.word_until = None;
        self.rejected = None;
        self.rejected_because.clear();
        self.approved = None;
        self.approved_for = None;
        self.plan = None;
        self.tried.clear();
        self.unspent.clear();
        self.times = Times::default();
        self.times.onset = Some(onset);
        self.times.detected = Some(at);
        self.times.ttd_s = Some(at.since(onset).as_secs_f64());
    }

    fn planned(&mut self, plan: &Plan, goal: &Goal, at: Timestamp) {
        if self.times.decided.is_none() {
            self.times.decided = Some(at);
            self.times.ttdec_s = self.times.detected.map(|detected| at.since(detected).as_secs_f64());
        }
        // The message that says so leaves with this record; the first step's own follows at once.
        self.times.started.get_or_insert(at);
        self.plan = Some(plan.clone());
        self.smoke_owed = false;
        self.no_room = false;
        self.left_undone = None;
        self.attempt_since = at;
        self.steps_done = 0;
        self.passed_over.clear();
        self.restarted_by_others.clear();
        self.goal = Some(goal.clone());
        self.progress = Progress::Next { step: 0 };
    }

    /// Since when it is held by what passes, or waits for approval: the time in which an operator's word held it is none of
    /// that.
    #[must_use]
    pub fn waits_since(&self) -> Timestamp {
        // Asked for another attempt.
        if self.plan.is_some() {
            return self.phase_since;
        }
        let detected = self.times.detected.unwrap_or(self.phase_since);
        self.word_until.map_or(detected, |until| until.max(detected))
    }

    /// When what was begun must be done, as it is by then: the time in which it is halted is none of it.
    #[must_use]
    pub fn deadline_by(&self, at: Timestamp) -> Option<Timestamp> {
        let deadline = self.plan.as_ref()?.deadline;
        let is_halted = self.phase == Phase::Held && self.progress != Progress::Idle;
        Some(if is_halted { deadline + at.since(self.phase_since) } else { deadline })
    }

    fn was_halted(&mut self, at: Timestamp) {
        if let (Some(deadline), Some(plan)) = (self.deadline_by(at), &mut self.plan) {
            plan.deadline = deadline;
        }
    }

    fn note_brought(&mut self, step: u32, at: Timestamp) {
        let Some(plan) = &self.plan else { return };
        if let Some(StepKind::SwitchLink { instance, .. } | StepKind::Command { instance: Some(instance), .. }) =
            plan.step(step).map(|step| &step.kind)
        {
            self.brought.insert(instance.clone(), (plan.to.clone(), at));
        }
    }

    /// What lies between two steps was about what had left, and so was a gate that had nobody left to wait for.
    fn note_passed_over(&mut self, step: u32, outcome: &Outcome) {
        let is_left_gate =
            matches!((self.step(step), outcome), (Some(StepKind::Gate { .. }), Outcome::AlreadyInEffect));
        let until = if is_left_gate { step + 1 } else { step };
        self.passed_over.extend(self.steps_done..until);
    }

    fn note_unspent(&mut self, outcome: &Outcome) {
        if let (Outcome::NotBegun(_), Some(plan)) = (outcome, &self.plan) {
            self.unspent.push(plan.attempt);
        }
    }

    /// Whether the last attempt ended before it was a trial of anything.
    #[must_use]
    pub fn is_unspent(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| self.unspent.contains(&plan.attempt))
    }

    /// What was over before it was begun here.
    fn note_restarted_by_others(&mut self, step: u32) {
        if let (Progress::Next { .. }, Some(StepKind::Restart { instance, .. })) = (&self.progress, self.step(step)) {
            self.restarted_by_others.push(instance.clone());
        }
    }

    /// Whether the steps after this one are done whatever comes of it: what can't be put forward keeps nobody down.
    fn goes_on(&self, step: u32) -> bool {
        let is_whole = self.plan.as_ref().is_some_and(|plan| plan.purpose == Purpose::Whole);
        let is_setting = matches!(self.step(step), Some(StepKind::RestoreSetting { .. }));
        is_whole && is_setting
    }

    /// Whether a step failed without which the rollback is whole: the good release serves, and what is left has no pods. That
    /// somebody changed it meanwhile is another matter.
    fn is_spared(&self, step: u32, outcome: &Outcome) -> bool {
        let is_failed =
            matches!(outcome, Outcome::Denied(_) | Outcome::Transient(_) | Outcome::TimedOut(_) | Outcome::NotBegun(_));
        is_failed && matches!(self.step(step), Some(StepKind::DeleteCanary { .. }))
    }

    fn step(&self, step: u32) -> Option<&StepKind> {
        self.plan.as_ref()?.step(step).map(|step| &step.kind)
    }

    fn set_smoke(&mut self, to: Smoke) {
        if let Progress::Proving { smoke, .. } = &mut self.progress {
            *smoke = to;
        }
    }

    fn restored(&mut self, at: Timestamp) {
        self.progress = Progress::Idle;
        self.times.restored = Some(at);
        self.times.ttr_s = self.times.decided.map(|decided| at.since(decided).as_secs_f64());
        self.times.mttr_s = self.times.onset.map(|onset| at.since(onset).as_secs_f64());
    }
}

/// The release that shows a fault, where that is one beside the one in question, and the trigger that tells it.
#[must_use]
pub fn beside(cause: &Cause) -> Option<(RevisionId, TriggerName)> {
    let Cause::Trigger { name, aside: Some(release), .. } = cause else { return None };
    Some((release.clone(), name.clone()))
}

fn after_step(step: u32, outcome: &Outcome, at: Timestamp) -> Progress {
    match outcome {
        Outcome::Applied | Outcome::AlreadyInEffect => Progress::Next { step: step + 1 },
        Outcome::Stopped(_) => Progress::Next { step },
        Outcome::Conflict(detail) => Progress::Conflicted { step, at, detail: detail.clone() },
        Outcome::Transient(why) | Outcome::Denied(why) | Outcome::TimedOut(why) | Outcome::NotBegun(why) => {
            Progress::Broken { reason: why.clone() }
        }
    }
}

fn put_back_cause(owner: &OwnerObject) -> Cause {
    let reason = format!("{owner} was paused for a rollback");
    Cause::External { by: "rollbackd".to_owned(), kind: "gitops".to_owned(), reason, key: None }
}
