//! What can be asked about a workload: how it is, and why.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

use super::Controller;
use super::found::Found;
use crate::domain::health::survey::SignalSource;
use crate::domain::health::verdict::{Assessment, CheckStatus, Evidence, TriggerState, TriggerStatus, Unseen, Verdict};
use crate::domain::id::{IncidentId, InstanceId, RevisionId, WorkloadId};
use crate::domain::incident::alert::{Phase, Times};
use crate::domain::incident::ledger::Standing;
use crate::domain::incident::narrate;
use crate::domain::incident::record::{Cause, Goal, Running};
use crate::domain::incident::recording::Brief;
use crate::domain::incident::state::{Incident, Pause, PausedOwner, Progress};
use crate::domain::observation::ReleaseView;
use crate::domain::policy::{Combine, Mode, Owner, Severity, Strategy};
use crate::domain::response::goal;
use crate::domain::response::guard::{FleetView, Guard, Ruling};
use crate::domain::response::hold::Hold;
use crate::domain::response::ladder;
use crate::domain::response::plan::{Aspect, Finding, Plan, Purpose, Step};
use crate::domain::response::readiness::{self, Readiness, readiness};
use crate::domain::time::{Span, Timestamp};

/// A workload, now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WorkloadView {
    /// Which.
    pub workload: WorkloadId,
    /// How far the daemon may go.
    pub mode: Mode,
    /// How a bad release is taken back.
    pub strategy: Strategy,
    /// The release in service.
    pub current: Option<Running>,
    /// The releases that serve beside it, with the instances that are still, or already, at them; none where a cluster's
    /// controller brings all instances to one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub beside: BTreeMap<RevisionId, Vec<InstanceId>>,
    /// Where a rollback would go to now.
    pub goal: Option<Goal>,
    /// Why it would go nowhere.
    pub no_goal: Option<Hold>,
    /// What must be so for any rollback, and whether it was at the last look at the place, which may be minutes ago; empty
    /// before the first.
    #[serde(default)]
    pub readiness: Vec<Readiness>,
    /// Set while paused.
    pub paused: Option<Pause>,
    /// Who besides people writes what a rollback would write.
    #[serde(default)]
    pub owners: Vec<Owner>,
    /// What is paused for a rollback, and until when.
    #[serde(default)]
    pub owners_paused: Vec<PausedOwner>,
    /// Set while nothing new is begun, whatever the workload's state calls for.
    #[serde(default)]
    pub standstill: Option<Standstill>,
    /// The open incident.
    pub incident: Option<IncidentView>,
    /// The latest judgement.
    pub assessment: Assessment,
    /// Where each signal that is read from pages gets its value from.
    pub sources: Vec<SignalSource>,
    /// Every release that is known.
    pub releases: Vec<ReleaseStanding>,
}

impl WorkloadView {
    /// Whether, by all that is known, a rollback could be made now.
    #[must_use]
    pub fn could_be_rolled_back(&self) -> bool {
        self.is_ready_by(&self.readiness)
    }

    /// The same, by what was found at another look.
    #[must_use]
    pub fn is_ready_by(&self, readiness: &[Readiness]) -> bool {
        self.goal.is_some() && readiness::lacks(readiness).next().is_none()
    }

    /// Whether it can't be read by now which release is in service: the one that is told was the last to be seen.
    #[must_use]
    pub fn is_release_unread(&self) -> bool {
        let is_blind = self.assessment.blind.as_ref().is_some_and(|blind| blind.unseen == Unseen::Releases);
        self.current.is_some() && (is_blind || matches!(self.no_goal, Some(Hold::RevisionUnknown { .. })))
    }

    /// The release in service, and those beside it with the instances that are at them.
    #[must_use]
    pub fn release_in_words(&self) -> Option<String> {
        let mut words = self.current.as_ref()?.revision.to_string();
        if self.is_release_unread() {
            return Some(format!("unknown, last {words}"));
        }
        for (release, instances) in &self.beside {
            let instances: Vec<&str> = instances.iter().map(InstanceId::as_str).collect();
            let _infallible = write!(words, ", {release} on {}", instances.join(", "));
        }
        Some(words)
    }
}

/// That nothing new is begun: the daemon itself is not able to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Standstill {
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub reason: String,
}

/// A release and what is known of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReleaseStanding {
    /// Its name.
    pub revision: RevisionId,
    /// Whether it can be gone back to: it still exists.
    pub available: bool,
    /// What the ledger says.
    #[serde(flatten)]
    pub standing: Standing,
}

/// An incident, now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct IncidentView {
    /// Which.
    pub incident: IncidentId,
    /// Where it is.
    pub phase: Phase,
    /// What set it off, in words.
    pub cause: String,
    /// How grave it is.
    pub severity: Severity,
    /// The release in question.
    pub from: Option<Running>,
    /// The release to go back to.
    pub goal: Option<Goal>,
    /// Why nothing is done.
    pub hold: Option<Hold>,
    /// The plan.
    pub plan: Option<Plan>,
    /// How far it has come.
    pub progress: Progress,
    /// Checks of the last verification.
    pub checks: Vec<CheckStatus>,
    /// Why the last attempt failed.
    pub trouble: Option<String>,
    /// What was kept of the bad release before anything was touched, in a few lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Brief>,
    /// When what happened.
    pub times: Times,
}

impl From<&Incident> for IncidentView {
    fn from(incident: &Incident) -> Self {
        Self {
            incident: incident.id.clone(),
            phase: incident.phase,
            cause: narrate::describe(&incident.cause),
            severity: incident.cause.severity(),
            from: incident.from.clone(),
            goal: incident.goal.clone(),
            hold: incident.hold.clone(),
            plan: incident.plan.clone(),
            progress: incident.progress.clone(),
            checks: incident.checks.clone(),
            trouble: incident.trouble.clone(),
            recorded: incident.recorded.clone(),
            times: incident.times.clone(),
        }
    }
}

/// Why things are as they are.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// Which workload.
    pub workload: WorkloadId,
    /// When it was made.
    pub at: Timestamp,
    /// In one sentence.
    pub decision: String,
    /// Every signal's numbers and every trigger's state.
    pub assessment: Assessment,
    /// Every guard, as it stands for an incident now; a rollback by hand is assumed where none is open.
    pub guards: Vec<Guard>,
    /// What would be done if nothing held.
    pub plan: Option<Plan>,
    /// What would have to change for the decision to change.
    pub would_change: Vec<String>,
    /// What was kept of the bad release of the open incident, in a few lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Brief>,
}

/// What a rollback by hand would do now, and what would stop it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Preview {
    /// Which workload.
    pub workload: WorkloadId,
    /// The plan; none where there is no goal. Of a rollback under way its own, with the deadline as it is by now.
    pub plan: Option<Plan>,
    /// Where there is none, and an orchestrator has a release in place: what would put that back, to be tried and never done.
    #[serde(skip)]
    pub trial: Option<Plan>,
    /// Where each step of a rollback under way is; empty where none is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepStanding>,
    /// Every guard.
    pub guards: Vec<Guard>,
    /// Who besides people writes what a rollback would write.
    #[serde(default)]
    pub owners: Vec<Owner>,
    /// Where each signal that is read from pages, and so judges the outcome, gets its value from.
    pub sources: Vec<SignalSource>,
    /// What a look at the place found in the plan's way.
    pub findings: Vec<Finding>,
    /// What must be so for any rollback, and whether it is.
    pub readiness: Vec<Readiness>,
    /// Who would do it instead, where this replica stands by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standby: Option<Standby>,
}

/// That this replica does not act.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Standby {
    /// The replica that leads, and acts; none where none is known to.
    pub leader: Option<String>,
    /// In words.
    pub reason: String,
}

/// Where a step of a rollback under way is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepStanding {
    /// It ended well.
    Done,
    /// It is being done, or was met half way.
    UnderWay,
    /// It is about what left the policy.
    PassedOver,
    /// Somebody else has done it: it will be left out.
    DoneByOthers,
    /// It comes yet.
    ToDo,
}

impl fmt::Display for StepStanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StepStanding::Done => "done",
            StepStanding::UnderWay => "under way",
            StepStanding::PassedOver => "passed over, since it left the policy",
            StepStanding::DoneByOthers => "done by someone else, and left out",
            StepStanding::ToDo => "to do",
        })
    }
}

impl Preview {
    /// Whether it is of a rollback under way: the place is not as its plan found it.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        !self.steps.is_empty()
    }

    /// Whether nothing would stop it, here or at the replica that leads.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        let has_leader = self.standby.as_ref().is_none_or(|standby| standby.leader.is_some());
        has_leader
            && self.plan.is_some()
            && self.findings.is_empty()
            && self.guards.iter().all(|guard| guard.hold.is_none())
    }

    /// What a look at the place tries.
    #[must_use]
    pub fn tried(&self) -> Option<&Plan> {
        self.plan.as_ref().or(self.trial.as_ref())
    }

    /// Adds what a look at the place found in the way of what was tried, and what is missing beside that.
    pub fn note(&mut self, findings: Vec<Finding>, missing: &[Finding]) {
        if self.tried().is_some_and(Plan::is_trial) {
            readiness::tried_in_place(&mut self.readiness);
        }
        let mut all = findings.clone();
        // What a whole rollout takes is no news where its first pod finds no room.
        let is_told = |finding: &Finding| {
            let is_same = |found: &Finding| found.aspect == Aspect::Quota && finding.aspect == Aspect::Quota;
            findings.contains(finding) || findings.iter().any(is_same)
        };
        all.extend(missing.iter().filter(|finding| !is_told(finding)).cloned());
        readiness::refine(&mut self.readiness, &all);
        // What nothing leads to has nothing in its way.
        self.findings = if self.plan.is_some() { findings } else { Vec::new() };
    }
}

/// The instances of a host that are at other releases than this one, by release.
pub(super) fn at_others(view: &ReleaseView, than: Option<&RevisionId>) -> BTreeMap<RevisionId, Vec<InstanceId>> {
    let placed = view.instances.iter().filter(|_| view.orchestrated.is_none());
    by_release(placed.map(|(instance, release)| (instance, release)), than)
}

/// The same of instances that are at these releases.
pub(super) fn by_release<'a>(
    placed: impl IntoIterator<Item = (&'a InstanceId, &'a RevisionId)>,
    than: Option<&RevisionId>,
) -> BTreeMap<RevisionId, Vec<InstanceId>> {
    let mut others: BTreeMap<RevisionId, Vec<InstanceId>> = BTreeMap::new();
    for (instance, release) in placed.into_iter().filter(|(_, release)| Some(*release) != than) {
        others.entry(release.clone()).or_default().push(instance.clone());
    }
    others
}

impl Controller {
    /// What a rollback by hand would do now. What the edges find is noted later.
    #[must_use]
    pub fn preview(&self, now: Timestamp, fleet: &FleetView) -> Preview {
        let probe = self.begun().cloned().unwrap_or_else(|| self.what_if(now));
        let ruling = self.rule_now(&probe, now, fleet);
        let anew = || ruling.goal.as_ref().and_then(|goal| self.build_plan(Purpose::First, 1, goal, now));
        // Between two attempts the last plan is none that is to be done.
        let next = self.begun().and_then(|begun| self.next_plan(begun, now, fleet));
        let in_force = self.begun().filter(|_| next.is_none());
        let steps = in_force.map(|begun| self.standings(begun, now)).unwrap_or_default();
        let deadline = in_force.and_then(|begun| begun.deadline_by(now));
        let plan =
            next.or(probe.plan).or_else(anew).map(|plan| Plan { deadline: deadline.unwrap_or(plan.deadline), ..plan });
        let orchestrated = self.view().ok().and_then(|view| view.orchestrated.as_deref());
        Preview {
            workload: self.policy.id.clone(),
            readiness: readiness(plan.as_ref(), &ruling.guards, &self.state.ledger, orchestrated),
            trial: if plan.is_none() { self.trial(now) } else { None },
            plan,
            steps,
            guards: ruling.guards,
            owners: self.owners().to_vec(),
            sources: self.health.sources(now),
            findings: Vec::new(),
            standby: None,
        }
    }

    /// The workload, now.
    #[must_use]
    pub fn view_of(&self, now: Timestamp) -> WorkloadView {
        let available: Vec<RevisionId> = self.view().map_or_else(|_| Vec::new(), available_names);
        let releases = self.state.ledger.iter().map(|(revision, standing)| ReleaseStanding {
            revision: revision.clone(),
            available: available.contains(revision),
            // One that never was the current one has none on record.
            standing: Standing {
                image: standing.image.clone().or_else(|| self.image_of(revision)),
                ..standing.clone()
            },
        });
        let (goal, no_goal) = match (self.begun().and_then(|begun| begun.goal.clone()), self.present_goal(now)) {
            (Some(goal), _) | (None, Ok(goal)) => (Some(goal), None),
            (None, Err(hold)) => (None, Some(hold)),
        };
        WorkloadView {
            workload: self.policy.id.clone(),
            mode: self.policy.mode,
            strategy: self.policy.strategy,
            current: self.in_place().cloned(),
            beside: self.beside_by_instance(),
            goal,
            no_goal,
            readiness: Vec::new(),
            paused: self.state.paused.clone(),
            owners: self.owners().to_vec(),
            owners_paused: self.state.owners_paused.clone(),
            standstill: None,
            incident: self.state.incident.as_ref().map(IncidentView::from),
            assessment: self.assessment.clone(),
            sources: self.health.sources(now),
            releases: releases.collect(),
        }
    }

    pub(super) fn beside_by_instance(&self) -> BTreeMap<RevisionId, Vec<InstanceId>> {
        let current = self.in_place().map(|running| &running.revision);
        self.view().map(|view| at_others(view, current)).unwrap_or_default()
    }

    /// Why things are as they are, and the plan that would be carried out if nothing held.
    #[must_use]
    pub fn explain(&self, now: Timestamp, fleet: &FleetView) -> Explanation {
        let probe = self.state.incident.clone().unwrap_or_else(|| self.what_if(now));
        let ruling = self.rule_now(&probe, now, fleet);
        let next = self.begun().and_then(|begun| self.next_plan(begun, now, fleet));
        let plan = match next.or_else(|| probe.plan.clone()) {
            Some(plan) => Some(plan),
            None => ruling.goal.as_ref().and_then(|goal| self.build_plan(Purpose::First, 1, goal, now)),
        };
        Explanation {
            workload: self.policy.id.clone(),
            at: now,
            decision: self.decision_in_words(&ruling),
            assessment: self.assessment.clone(),
            would_change: self.what_would_change(&ruling.guards),
            recorded: probe.recorded,
            guards: ruling.guards,
            plan,
        }
    }

    /// The release that a rollback would go to now.
    ///
    /// # Errors
    /// The hold that stands in the way.
    pub(super) fn present_goal(&self, now: Timestamp) -> Result<Goal, Hold> {
        let unknown = |reason: String| Hold::RevisionUnknown { reason };
        let current = self.in_place().ok_or_else(|| unknown("no release was seen yet".to_owned()))?;
        let view = self.view().map_err(unknown)?;
        let beside = &self.assessment.worse_beside();
        goal::last_known_good(&self.state.ledger, &view.available, &current.revision, &[], beside, now)
    }

    /// The incident whose rollback was begun, and is not over.
    fn begun(&self) -> Option<&Incident> {
        let incident = self.state.incident.as_ref()?;
        (incident.plan.is_some() && incident.phase != Phase::Escalated).then_some(incident)
    }

    /// Where each step of a rollback that was begun is.
    fn standings(&self, begun: &Incident, now: Timestamp) -> Vec<StepStanding> {
        let Some(plan) = &begun.plan else { return Vec::new() };
        let under_way = match begun.progress {
            Progress::Running { step, .. } | Progress::Conflicted { step, .. } => Some(step),
            Progress::Idle | Progress::Next { .. } | Progress::Broken { .. } | Progress::Proving { .. } => None,
        };
        let next = under_way.unwrap_or(begun.steps_done);
        let standing = |(index, step): (u32, &Step)| match &step.kind {
            _ if under_way == Some(index) => StepStanding::UnderWay,
            _ if begun.passed_over.contains(&index) => StepStanding::PassedOver,
            _ if index < next => StepStanding::Done,
            kind if self.is_about_those_gone(kind) => StepStanding::PassedOver,
            _ if matches!(self.would_be_found(plan, index, now), Found::Done) => StepStanding::DoneByOthers,
            _ => StepStanding::ToDo,
        };
        (0..).zip(&plan.steps).map(standing).collect()
    }

    /// What the guards say. A rollback that was begun has passed those that are not asked again, but for what it is held by.
    fn rule_now(&self, probe: &Incident, now: Timestamp, fleet: &FleetView) -> Ruling {
        let mut ruling = self.rule(probe, now, fleet);
        if let Some(begun) = self.begun() {
            let held = |name: &str| begun.hold.clone().filter(|hold| hold.as_str() == name && begun.approved.is_none());
            let passed = ruling.guards.iter_mut().filter(|guard| !ladder::asks(&guard.name));
            passed.for_each(|guard| guard.hold = held(&guard.name));
            ruling.goal = begun.goal.clone().or(ruling.goal);
        }
        ruling
    }

    /// The incident that a rollback by hand would open.
    fn what_if(&self, now: Timestamp) -> Incident {
        let cause = Cause::Manual { by: String::new(), reason: String::new(), to: None, force: Vec::new() };
        Incident::hypothetical(cause, self.in_place().cloned(), self.policy.mode, self.policy.strategy, now)
    }

    /// A hold is told as it stands now: the numbers in it may have moved since it was recorded.
    fn decision_in_words(&self, ruling: &Ruling) -> String {
        let Some(incident) = &self.state.incident else {
            let pending = self.assessment.triggers.iter().any(|t| t.state != TriggerState::Inactive);
            return match (&self.assessment.blind, pending) {
                (Some(blind), _) => format!("nothing is done: own sight is lost, {}", blind.reason),
                (None, true) => "nothing is done yet: a trigger is pending".to_owned(),
                (None, false) => "nothing is done: no trigger is pending or firing".to_owned(),
            };
        };
        match (&incident.hold, &incident.trouble) {
            (Some(hold), _) => {
                let mut holds = ruling.guards.iter().filter_map(|guard| guard.hold.as_ref());
                let present = holds.find(|present| present.as_str() == hold.as_str());
                format!("held: {}", present.unwrap_or(hold))
            }
            (None, Some(trouble)) if matches!(incident.phase, Phase::Failed | Phase::Escalated) => {
                format!("{}: {trouble}", incident.phase)
            }
            (None, _) => format!("{}: {}", incident.phase, narrate::describe(&incident.cause)),
        }
    }

    fn what_would_change(&self, guards: &[Guard]) -> Vec<String> {
        let mut changes: Vec<String> = Vec::new();
        for trigger in &self.assessment.triggers {
            changes.extend(to_fire(trigger));
            changes.extend(to_confirm(trigger));
        }
        let holding = guards.iter().filter(|guard| !guard.forced).filter_map(|guard| guard.hold.as_ref());
        // What a look at the place found is no guard's.
        let found = self.state.incident.as_ref().and_then(|incident| incident.hold.as_ref());
        let found = found.filter(|hold| matches!(hold, Hold::Preflight { .. }));
        changes.extend(holding.chain(found).map(|hold| format!("no rollback while {}: {hold}", hold.as_str())));
        changes
    }
}

/// What would make a trigger fire that does not.
fn to_fire(trigger: &TriggerStatus) -> Option<String> {
    let evidence = &trigger.evidence;
    match (&trigger.state, &evidence.verdict) {
        (TriggerState::Firing { .. }, _) => None,
        (TriggerState::Pending { held, .. }, _) => Some(format!(
            "\"{}\" fires once breached for {} ({} so far)",
            trigger.name,
            trigger.hold_for,
            held.rounded()
        )),
        (TriggerState::Inactive, Verdict::Unknown(reason)) => {
            Some(format!("\"{}\" can't be judged: {}: {reason}", trigger.name, evidence.signal))
        }
        (TriggerState::Inactive, Verdict::Ok | Verdict::Breach) => {
            let needed = needed(trigger);
            let hold =
                if trigger.hold_for == Span::ZERO { String::new() } else { format!(" for {}", trigger.hold_for) };
            Some(format!("\"{}\" fires if {needed}{hold}", trigger.name))
        }
    }
}

/// Each term with its bound and what it is now; of a comparison the evidence that decides.
fn needed(trigger: &TriggerStatus) -> String {
    let word = match trigger.combined.as_ref().map(|combined| combined.how) {
        Some(Combine::Any) => " or ",
        Some(Combine::All) | None => " and ",
    };
    let of = |term: &Evidence| {
        let evidence = term.comparison_in_words().map(|words| format!("; {words}")).unwrap_or_default();
        format!("{} is {} (now {}{evidence})", term.signal, term.bound_in_words(), term.value_in_words())
    };
    trigger.terms().iter().map(of).collect::<Vec<_>>().join(word)
}

/// What a second signal would have to be for a trigger to lead to a rollback.
fn to_confirm(trigger: &TriggerStatus) -> Option<String> {
    let second = trigger.confirmation.as_ref()?;
    second.unconfirmed()?;
    let (signal, bound) = (&second.signal, second.bound_in_words());
    Some(format!(
        "\"{}\" leads to no rollback unless {signal} is {bound} (now {})",
        trigger.name,
        second.value_in_words()
    ))
}

fn available_names(view: &ReleaseView) -> Vec<RevisionId> {
    view.available.iter().map(|release| release.revision.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::controller::{Input, Output};
    use crate::domain::incident::state::WorkloadState;
    use crate::domain::observation::{Observation, Orchestrated, Seen};
    use crate::domain::policy::{Habitat, Keep, Kubernetes, KubernetesSubject, ObjectKind, Pin, Release};
    use crate::domain::response::readiness::{Met, Need};
    use crate::domain::testing;

    /// A Deployment that was never at another release.
    fn newcomer(strategy: Strategy) -> Controller {
        let place = Kubernetes {
            context: None,
            namespace: Some("prod".to_owned()),
            subject: KubernetesSubject::Object { kind: ObjectKind::Deployment, name: "app".to_owned() },
            argocd_namespace: "argocd".to_owned(),
            keep: Keep::default(),
        };
        let policy = testing::policy(strategy, Habitat::Kubernetes(place));
        let kept = [("v1".into(), Pin { name: "app-v1".to_owned(), uid: "r1".to_owned() })];
        let view = ReleaseView {
            available: vec![Release { revision: "v1".into(), image: None }],
            orchestrated: Some(Box::new(Orchestrated { kept: kept.into(), ..testing::orchestrated("v1", 2) })),
            ..ReleaseView::default()
        };
        let mut controller = Controller::new(Arc::new(policy), WorkloadState::default());
        let (at, seen) = (Timestamp::from_millis(1_000), Seen::Releases(Ok(view)));
        let seen = Input::Observed(Observation { workload: "app".into(), at, seen });
        controller.handle(seen, at, &FleetView::default(), &mut Output::default());
        controller
    }

    #[test]
    fn without_a_goal_it_is_tried_with_the_release_in_place() {
        let look = |strategy| newcomer(strategy).preview(Timestamp::from_millis(2_000), &FleetView::default());
        let titles = |preview: &Preview| {
            let tried = preview.tried().filter(|plan| plan.is_trial()).expect("a trial");
            tried.steps.iter().map(|step| step.kind.title()).collect::<Vec<_>>()
        };
        let rolling = titles(&look(Strategy::Rolling));
        assert!(rolling.len() == 2 && rolling[0].contains("v1"), "{rolling:?}");
        assert_eq!(titles(&look(Strategy::Direct)).len(), 5);
        let mut preview = look(Strategy::Rolling);
        let met = |preview: &Preview, wanted: Need| {
            let one = preview.readiness.iter().find(|one| one.need == wanted).expect("every need");
            (one.met.clone(), one.note.clone())
        };
        let none = "there is no release to go back to".to_owned();
        assert_eq!(met(&preview, Need::Quota), (Met::Unknown(none.clone()), None), "nobody looked yet");
        let refused = Finding {
            aspect: Aspect::Place,
            check: "deployment prod/app".to_owned(),
            problem: "denied".to_owned(),
            passing: false,
        };
        preview.note(vec![refused], &[]);
        let note = Some(format!("{none}: looked at with the one in place"));
        assert_eq!(met(&preview, Need::Quota), (Met::Yes, note));
        assert_eq!(met(&preview, Need::Rehearsal).0, Met::No("denied".to_owned()));
        assert_eq!(met(&preview, Need::Kept).0, Met::Unknown(none));
        assert!(preview.plan.is_none() && preview.findings.is_empty() && !preview.is_clear(), "{preview:?}");
    }

    #[test]
    fn what_finds_no_room_is_told_once() {
        let finding = |aspect, problem: &str| Finding {
            aspect,
            check: "quota".to_owned(),
            problem: problem.to_owned(),
            passing: false,
        };
        let first = finding(Aspect::Quota, "no room for the first pod");
        let missing = [finding(Aspect::Quota, "no room for a rollout"), finding(Aspect::Rights, "may not patch")];
        let noted = |findings: &[Finding]| {
            let mut preview = Preview {
                workload: "app".into(),
                plan: None,
                trial: None,
                steps: Vec::new(),
                guards: Vec::new(),
                owners: Vec::new(),
                sources: Vec::new(),
                findings: Vec::new(),
                readiness: [Need::Rights, Need::Quota].map(|need| Readiness { need, met: Met::Yes, note: None }).into(),
                standby: None,
            };
            preview.note(findings.to_vec(), &missing);
            preview.readiness.into_iter().map(|one| one.met).collect::<Vec<_>>()
        };
        let no = |why: &str| Met::No(why.to_owned());
        assert_eq!(noted(&[first]), [no("may not patch"), no("no room for the first pod")]);
        assert_eq!(noted(&[]), [no("may not patch"), no("no room for a rollout")]);
    }
}
