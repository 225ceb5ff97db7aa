//! Carrying a plan out, proving that it helped, and climbing the ladder where it did not.

use std::collections::BTreeMap;

use super::found::Found;
use super::view::{at_others, by_release};
use super::{Controller, Output};
use crate::domain::health::verdict::{CheckStatus, Verdict};
use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::incident::alert::Phase;
use crate::domain::incident::grounds::Question;
use crate::domain::incident::narrate::{self, LEFT};
use crate::domain::incident::record::Event;
use crate::domain::incident::state::{Incident, Progress, Smoke};
use crate::domain::observation::{ReleaseView, Rollout};
use crate::domain::policy::{ClusterObject, Habitat, Mode};
use crate::domain::response::guard::{self, FleetView};
use crate::domain::response::hold::Hold;
use crate::domain::response::ladder::{self, Footing, Rung};
use crate::domain::response::plan::{Outcome, Plan, Purpose, StepKind};
use crate::domain::time::{Span, Timestamp};

/// How long a conflict waits for a look that shows what the other writer did.
const CONFLICT_SETTLES: Span = Span::from_secs(10);

/// How long a rollout that was just begun may be called stalled.
const STALL_SETTLES: Span = Span::from_secs(30);

/// How long after it was to have ended an instance is waited for: its node would have killed it by then.
const OVERDUE: Span = Span::from_secs(30);

/// How long what was written may go unseen before somebody else must have written over it: longer than a watch that fell
/// silent takes to be noticed.
const UNSEEN_SETTLES: Span = Span::from_secs(60);

/// The same within a step: half its time where that is shorter.
pub(super) fn unseen_settles(timeout: Span) -> Span {
    UNSEEN_SETTLES.min(Span::from_millis(timeout.as_millis() / 2))
}

/// What a step that is waited for has come to.
pub(super) enum Wait {
    Over,
    /// What is still to come, where that can be told.
    For(String),
    /// Nothing that was seen says how it is: checks without a proof, and without anything against it.
    Unseen(Vec<CheckStatus>),
    /// It will not come, and why.
    Vain(String),
    /// Somebody else undid what was done for it.
    Undone(String),
}

impl Controller {
    /// Started, or halted in the middle: does the next thing of the plan.
    pub(super) fn drive(&mut self, now: Timestamp, out: &mut Output) -> bool {
        let Some((plan, progress)) = self.plan_in_force() else { return false };
        if let Some(hold) = self.halt() {
            // The goal is judged all the same, and people are told of it.
            return match self.why_the_goal_is_bad(now).filter(|_| matches!(progress, Progress::Proving { .. })) {
                Some(why) => self.fail(format!("{} is bad as well: {why}", plan.to), Vec::new(), now, out),
                None => self.halted(hold, now, out),
            };
        }
        if self.state.incident.as_ref().is_some_and(|incident| incident.phase == Phase::Held) {
            return self.record(Event::Continued { mode: self.policy.mode }, now, out);
        }
        if let Some((step, outcome)) = self.too_late_to_resume(&plan, &progress, now) {
            return self.record(Event::StepFinished { step, outcome }, now, out);
        }
        // What runs is ended by its own limit, and what broke says why.
        if now > plan.deadline && !matches!(progress, Progress::Running { .. } | Progress::Broken { .. }) {
            let reason = format!("not done by its deadline, {}", plan.deadline);
            return self.fail(reason, Vec::new(), now, out);
        }
        match self.without_those_gone(&plan, progress) {
            Progress::Next { step } if usize::try_from(step).is_ok_and(|step| step >= plan.steps.len()) => {
                if plan.purpose == Purpose::Whole {
                    return self.hand_over(&plan, now, out);
                }
                self.stable_since = None;
                self.record(Event::Verifying, now, out)
            }
            Progress::Next { step } => match self.found(&plan, step, now) {
                Found::Nothing => self.record(Event::StepStarted { step }, now, out),
                Found::Unseen => false,
                Found::Done => {
                    let outcome = Outcome::AlreadyInEffect;
                    self.record(Event::StepFinished { step, outcome }, now, out)
                }
            },
            Progress::Running { step, since } => self.watch_step(&plan, step, since, now, out),
            Progress::Conflicted { step, at, detail } => self.settle_conflict(&plan, step, at, detail, now, out),
            Progress::Broken { reason } => self.break_off(&plan, reason, now, out),
            Progress::Idle | Progress::Proving { .. } => false,
        }
    }

    /// The next step that is about an instance of the policy: what left it in the middle is left as it is.
    fn without_those_gone(&self, plan: &Plan, progress: Progress) -> Progress {
        let Progress::Next { step } = progress else { return progress };
        let is_left = |step: &u32| {
            let kind = usize::try_from(*step).ok().and_then(|index| plan.steps.get(index)).map(|step| &step.kind);
            kind.is_none_or(|kind| !self.is_about_those_gone(kind))
        };
        Progress::Next { step: (step..).find(is_left).unwrap_or(step) }
    }

    pub(super) fn is_about_those_gone(&self, kind: &StepKind) -> bool {
        let about = kind.instances();
        !about.is_empty() && !self.is_leaving && self.known(about).is_empty()
    }

    /// Those of these instances that are in the policy.
    fn known(&self, instances: &[InstanceId]) -> Vec<InstanceId> {
        let is_known = |instance: &&InstanceId| match &self.policy.habitat {
            Habitat::ReleaseDir(dir) => dir.instances.iter().any(|known| known.id == **instance),
            Habitat::Command(command) => command.instances.contains(instance),
            Habitat::Kubernetes(_) => true,
        };
        instances.iter().filter(is_known).cloned().collect()
    }

    /// A step that was under way when the daemon ended, and that nobody does now: after the plan's deadline it is not taken
    /// up again, since what called for it may be over.
    pub(super) fn too_late_to_resume(
        &self,
        plan: &Plan,
        progress: &Progress,
        now: Timestamp,
    ) -> Option<(u32, Outcome)> {
        let Progress::Running { step, .. } = progress else { return None };
        let kind = &plan.steps.get(usize::try_from(*step).ok()?)?.kind;
        let is_adrift = self.in_flight.is_none() && !kind.is_judged();
        let why = || format!("{}: the daemon was not there until after the plan's deadline", kind.title());
        (is_adrift && now > plan.deadline).then(|| (*step, Outcome::TimedOut(why())))
    }

    /// Gates are passed by judgement; every other step by its job's answer.
    fn watch_step(&mut self, plan: &Plan, step: u32, since: Timestamp, now: Timestamp, out: &mut Output) -> bool {
        let Some(current) = usize::try_from(step).ok().and_then(|index| plan.steps.get(index)) else { return false };
        let wait = match &current.kind {
            // Nobody is left to wait for.
            kind if kind.is_judged() && self.is_about_those_gone(kind) => {
                let outcome = Outcome::AlreadyInEffect;
                return self.record(Event::StepFinished { step, outcome }, now, out);
            }
            StepKind::Gate { instances, release, answers } => {
                let known = if self.is_leaving { instances.clone() } else { self.known(instances) };
                self.at_gate(&known, release, *answers, since, now)
            }
            StepKind::AwaitRollout { release, at_least, enough, is_short: _ } => {
                match self.at_rollout(release, *at_least, since, now) {
                    Wait::For(_) if self.is_written_back(plan, current.timeout, since, now) => {
                        Wait::Undone(format!("{} is asked for again", plan.from))
                    }
                    Wait::For(_) if self.fills_the_room(release, *enough, current.timeout, since, now) => Wait::Over,
                    Wait::For(left) => match self.want_of_room(&current.kind, since) {
                        Some(want) => Wait::For(format!("{left}; {want}")),
                        None => Wait::For(left),
                    },
                    wait => wait,
                }
            }
            StepKind::AwaitCapacity { release, at_least, answers } => {
                self.at_capacity(release, *at_least, *answers, since, now)
            }
            StepKind::AwaitGone { release } => self.at_gone(release, current.timeout, since, now),
            StepKind::AwaitWell { .. } => self.at_well(plan, since, now),
            StepKind::SwitchLink { .. }
            | StepKind::Restart { .. }
            | StepKind::Command { .. }
            | StepKind::RestoreTemplate { .. }
            | StepKind::RestoreSetting { .. }
            | StepKind::Scale { .. }
            | StepKind::SwitchService { .. }
            | StepKind::ProveTraffic { .. }
            | StepKind::PauseOwner { .. }
            | StepKind::PutBackOwner { .. }
            | StepKind::DeleteStuck { .. }
            | StepKind::DeleteCanary { .. } => return false,
        };
        let is_late = now > plan.deadline || now.since(since) > current.timeout;
        let outcome = match wait {
            Wait::Over => Outcome::Applied,
            Wait::For(left) if is_late => {
                let left = if left.is_empty() { left } else { format!(": {left}") };
                Outcome::TimedOut(format!("{}: not within {}{left}", current.kind.title(), now.since(since).rounded()))
            }
            // What nobody sees is not bad: nothing is tried again for it, and no other release.
            Wait::Unseen(checks) if is_late => {
                return match ladder::unproven(&plan.to, &checks, &Smoke::Waiting) {
                    Some(reason) => self.leave_unproven(reason, checks, now, out),
                    None => false,
                };
            }
            Wait::Vain(why) => Outcome::Denied(why),
            Wait::Undone(why) => Outcome::Conflict(why),
            Wait::For(_) | Wait::Unseen(_) => return false,
        };
        self.record(Event::StepFinished { step, outcome }, now, out)
    }

    fn at_gate(
        &self,
        instances: &[InstanceId],
        release: &RevisionId,
        answers: u32,
        since: Timestamp,
        now: Timestamp,
    ) -> Wait {
        match self.health.gate(instances, release, answers, since, now) {
            Verdict::Ok => match self.elsewhere(instances, release, since) {
                Some(why) => Wait::For(why),
                None => Wait::Over,
            },
            Verdict::Breach => match self.why_the_goal_is_bad_since(since, now) {
                Some(why) => Wait::Vain(format!("{release} does not come up healthy either: {why}")),
                None => Wait::For(self.health.what_keeps(instances, release, since)),
            },
            Verdict::Unknown(reason) => {
                let left = self.health.what_keeps(instances, release, since);
                let detail = if left.is_empty() { reason.to_string() } else { left };
                if self.health.is_seen(instances, release, &reason) {
                    return Wait::For(detail);
                }
                Wait::Unseen(vec![CheckStatus { name: "gate".to_owned(), verdict: Verdict::Unknown(reason), detail }])
            }
        }
    }

    /// Why instances that answer well may not do so as the release: what answers may not say which it is. Only where a look
    /// at the links takes no time worth the name; programs may take longer to say it than the way there does.
    fn elsewhere(&self, instances: &[InstanceId], release: &RevisionId, since: Timestamp) -> Option<String> {
        if !matches!(self.policy.habitat, Habitat::ReleaseDir(_)) {
            return None;
        }
        let Some((_, Ok(view))) = self.releases.as_ref().filter(|(seen, _)| *seen > since) else {
            return Some("which release is in place was not seen since".to_owned());
        };
        let at = |id: &InstanceId| view.instances.iter().find(|(known, _)| known == id).map(|(_, at)| at);
        let other = instances.iter().find_map(|id| Some((id, at(id).filter(|at| *at != release)?)));
        other.map(|(id, at)| format!("{id} is at {at}"))
    }

    /// A rollout that is said to be stalled counts once it has had time to move: what is said at first may be of the
    /// one before.
    fn at_rollout(&self, release: &RevisionId, at_least: u32, since: Timestamp, now: Timestamp) -> Wait {
        let Some((seen, Ok(view))) = &self.releases else { return Wait::For("not seen".to_owned()) };
        let ours = view.orchestrated.as_ref().filter(|orchestrated| *seen > since && orchestrated.desired == *release);
        match ours.map(|orchestrated| &orchestrated.rollout) {
            Some(Rollout::Complete) if view.orchestrated.as_ref().is_some_and(|o| o.replicas < at_least) => {
                Wait::For("no instances are asked for".to_owned())
            }
            Some(Rollout::Complete) => Wait::Over,
            // What finds no room says nothing of the release.
            Some(Rollout::Stalled { why })
                if now.since(since) > STALL_SETTLES && view.want_of_room(release, None).is_none() =>
            {
                Wait::Vain(format!("{release} does not come up either: {why}"))
            }
            Some(Rollout::Stalled { why: left } | Rollout::UnderWay { left }) => Wait::For(left.clone()),
            None => Wait::For("the rollout was not seen to begin".to_owned()),
        }
    }

    /// What the plan leads away from is still, or again, what is asked for, long after the steps before were done.
    fn is_written_back(&self, plan: &Plan, timeout: Span, since: Timestamp, now: Timestamp) -> bool {
        let seen = self.releases.as_ref().filter(|(seen, _)| *seen > since);
        let orchestrated = seen.and_then(|(_, view)| view.as_ref().ok()?.orchestrated.as_ref());
        orchestrated.is_some_and(|orchestrated| orchestrated.desired == plan.from)
            && now.since(since) > unseen_settles(timeout)
    }

    /// What waits for the traffic is judged by its own instances, wherever it is: before the switch it gets none.
    fn at_capacity(&self, release: &RevisionId, at_least: u32, answers: u32, since: Timestamp, now: Timestamp) -> Wait {
        let Some((_, Ok(view))) = &self.releases else { return Wait::For("not seen".to_owned()) };
        let idle = view.orchestrated.as_ref().and_then(|orchestrated| orchestrated.idle.as_ref());
        if let Some(why) = idle.filter(|idle| idle.release == *release).and_then(|idle| idle.stalled.as_ref())
            && now.since(since) > STALL_SETTLES
        {
            return Wait::Vain(format!("{release} does not come up either: {why}"));
        }
        let ready = view.in_service_at(release);
        // Beside a canary whoever scales what serves, as an autoscaler does, decides how many are enough.
        let asked_for = view.orchestrated.as_ref().filter(|it| it.canary.is_some() && now.since(since) > STALL_SETTLES);
        let at_least = asked_for.map_or(at_least, |it| at_least.min(it.replicas.max(1)));
        if u32::try_from(ready.len()).is_ok_and(|ready| ready < at_least) {
            let refused = view.orchestrated.as_ref().and_then(|orchestrated| orchestrated.refused.clone());
            let why = refused.or_else(|| view.want_of_room(release, Some(at_least)));
            let why = why.map(|refused| format!("; {refused}")).unwrap_or_default();
            return Wait::For(format!("{} of {at_least} are ready{why}", ready.len()));
        }
        match self.health.gate(&ready, release, answers, since, now) {
            _ if answers == 0 => Wait::Over,
            Verdict::Ok => Wait::Over,
            Verdict::Breach => Wait::For("not all of them are healthy".to_owned()),
            Verdict::Unknown(reason) => Wait::For(reason.to_string()),
        }
    }

    /// Half of its time: that nothing runs is worse than what the wait is for.
    fn at_gone(&self, release: &RevisionId, timeout: Span, since: Timestamp, now: Timestamp) -> Wait {
        if now.since(since).as_millis() >= timeout.as_millis() / 2 {
            return Wait::Over;
        }
        let Some((_, Ok(view))) = self.releases.as_ref().filter(|(seen, _)| *seen > since) else {
            return Wait::For("not seen since".to_owned());
        };
        let there = view.instances.iter().filter(|(_, at)| at == release).count();
        let leaving = view.orchestrated.as_ref().and_then(|orchestrated| orchestrated.leaving.get(release));
        let ending = leaving.filter(|leaving| now <= leaving.until + OVERDUE).map_or(0, |leaving| leaving.instances);
        match (there, ending) {
            (0, 0) => Wait::Over,
            (there, ending) => Wait::For(format!("{there} instances of {release} are there, {ending} are ending")),
        }
    }

    /// Someone else wrote. Where the next look shows a third release, the incident ends as superseded (see `releases`);
    /// where it shows ours, the step is done; where it shows nothing new in time, the attempt fails.
    fn settle_conflict(
        &mut self,
        plan: &Plan,
        step: u32,
        at: Timestamp,
        detail: String,
        now: Timestamp,
        out: &mut Output,
    ) -> bool {
        let seen_since = self.releases.as_ref().is_some_and(|(seen, view)| *seen > at && view.is_ok());
        let at_goal = self.view().is_ok_and(|view| view.is_bound_for(&plan.to));
        if seen_since && at_goal {
            return self.record(Event::StepFinished { step, outcome: Outcome::AlreadyInEffect }, now, out);
        }
        now.since(at) > CONFLICT_SETTLES && self.fail(format!("somebody else writes: {detail}"), Vec::new(), now, out)
    }

    /// Failed: the next rung of the ladder.
    pub(super) fn climb(&mut self, now: Timestamp, fleet: &FleetView, out: &mut Output) -> bool {
        let Some(incident) = &self.state.incident else { return false };
        let Some(last) = &incident.plan else { return false };
        let footing = self.footing(last);
        let (ruling, rung) = self.within(incident, now, fleet, |situation| {
            let ruling = guard::rule(situation);
            let rung = ladder::next(situation, &ruling, &footing);
            (ruling, rung)
        });
        let (attempt, goal) = (last.attempt + 1, incident.goal.clone());
        self.ruling = Some(ruling);
        self.asked = (fleet.clone(), Question::Ladder(footing));
        match rung {
            Rung::Wait => false,
            Rung::Hold(hold) => self.hold(hold, goal, now, out),
            Rung::Ask(hold, goal) => self.hold(hold, Some(goal), now, out),
            Rung::Revive => self.make_whole(now, out),
            Rung::Attempt(purpose, goal) => self.plan(purpose, attempt, goal, Vec::new(), now, out),
            Rung::Escalate(reason) => self.escalate(reason, now, out),
        }
    }

    /// The plan of the attempt that follows the last one once nothing holds it.
    pub(super) fn next_plan(&self, begun: &Incident, now: Timestamp, fleet: &FleetView) -> Option<Plan> {
        let last = begun.plan.as_ref().filter(|_| begun.progress == Progress::Idle)?;
        let footing = self.footing(last);
        let (purpose, goal) = self.within(begun, now, fleet, |situation| ladder::next_attempt(situation, &footing))?;
        self.build_plan(purpose, last.attempt + 1, &goal, now)
    }

    fn footing(&self, last: &Plan) -> Footing {
        Footing {
            deadline: self.policy.deadline,
            healthy_since: self.healthy_since,
            looked_at: self.releases.as_ref().map(|(seen, _)| *seen),
            is_untouched: !self.is_apart() && self.view().is_ok_and(|view| is_untouched(view, last)),
            may_be_down: self.may_be_down(),
            down: self.left_down().map(|down| down.desired.clone()),
            apart: self.bound_apart().cloned(),
        }
    }

    pub(super) fn escalate(&mut self, reason: String, now: Timestamp, out: &mut Output) -> bool {
        self.preflight_asked = None;
        let grounds = self.grounds(now);
        let reason = format!("{reason}{}", self.left_apart());
        self.record(Event::Escalated { reason, grounds }, now, out)
    }

    /// Which instance of a host is at which release, where a rollback was begun and they differ: by the record where nobody
    /// has looked.
    pub(super) fn apart(&self) -> BTreeMap<RevisionId, Vec<InstanceId>> {
        let is_begun = self.state.incident.as_ref().is_some_and(|incident| incident.plan.is_some());
        let all = match &self.releases {
            _ if !is_begun => BTreeMap::new(),
            Some((_, seen)) => seen.as_ref().map(|view| at_others(view, None)).unwrap_or_default(),
            None => by_release(&self.state.placed, None),
        };
        if all.len() > 1 { all } else { BTreeMap::new() }
    }

    pub(super) fn left_apart(&self) -> String {
        let all = self.apart();
        if all.is_empty() { String::new() } else { format!("{LEFT}{}", narrate::places(&all)) }
    }

    pub(super) fn fail(&mut self, reason: String, checks: Vec<CheckStatus>, now: Timestamp, out: &mut Output) -> bool {
        self.stable_since = None;
        self.record(Event::Failed { reason, checks, no_room: false }, now, out)
    }

    /// What keeps anything further of what was begun from being done. What left the policy is brought to its end under any
    /// mode.
    #[must_use]
    pub fn halt(&self) -> Option<Hold> {
        let mode = if self.is_leaving { Mode::Enforce } else { self.policy.mode };
        ladder::halted(&self.state, mode)
    }

    pub(super) fn halted(&mut self, hold: Hold, now: Timestamp, out: &mut Output) -> bool {
        let goal = self.state.incident.as_ref().and_then(|incident| incident.goal.clone());
        self.asked.1 = Question::Operator;
        self.hold(hold, goal, now, out)
    }

    pub(super) fn plan_in_force(&self) -> Option<(Plan, Progress)> {
        let incident = self.state.incident.as_ref()?;
        Some((incident.plan.clone()?, incident.progress.clone()))
    }
}

/// Whether everything is still at the release that a plan leads away from, and as large as it was.
fn is_untouched(view: &ReleaseView, plan: &Plan) -> bool {
    let least = |object: &ClusterObject| if plan.scales_down(object) { plan.most_replicas().unwrap_or(1) } else { 1 };
    view.is_bound_for(&plan.from)
        && view.orchestrated.as_ref().is_none_or(|there| there.replicas >= least(&there.object))
}
