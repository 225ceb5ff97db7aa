//! What stands between a firing trigger and a rollback. Every guard is asked, so that all of them can be explained;
//! the first that holds is the reason given.

use serde::{Deserialize, Serialize};

use super::attribution;
use super::goal;
use super::hold::Hold;
use super::ladder;
use crate::domain::health::verdict::{Assessment, TriggerState, TriggerStatus, Verdict};
use crate::domain::id::{RevisionId, WorkloadId};
use crate::domain::incident::ledger::OSCILLATION_GUARD;
use crate::domain::incident::record::{Cause, Goal, Running};
use crate::domain::incident::state::{Incident, Rejection, WorkloadState};
use crate::domain::policy::{Gitops, Mode, Owner, Release, Severity, WorkloadPolicy};
use crate::domain::time::{Span, Timestamp};

/// How long the daily limit looks back.
const DAY: Span = Span::from_secs(24 * 3600);

/// What the brakes over all workloads say, from where one workload stands.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FleetView {
    /// Workloads watched.
    pub workloads: u32,
    /// Rollbacks started within the last hour, over all workloads.
    pub started_last_hour: u32,
    /// Workloads whose trigger fired within the last five minutes.
    pub turned_bad: u32,
    /// Others that are in breach without a rollout of their own, and since when.
    #[serde(default)]
    pub bad_without_rollout: Vec<(WorkloadId, Timestamp)>,
    /// Another workload of the same namespace whose rollback is under way.
    pub in_flight: Option<WorkloadId>,
    /// Whether the daemon does not keep up with what it sees, so that nothing fresh is known of any workload.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_late: bool,
}

impl FleetView {
    /// Rollbacks that may start within an hour: 10 % of the workloads, at least one.
    #[must_use]
    pub const fn hourly_budget(&self) -> u32 {
        let tenth = self.workloads / 10;
        if tenth > 1 { tenth } else { 1 }
    }

    /// Whether so many turned bad at once that no single release can be the cause: three or more, and 30 %.
    #[must_use]
    pub const fn is_storm(&self) -> bool {
        self.turned_bad >= 3 && self.turned_bad * 10 >= self.workloads * 3
    }
}

/// What a policy allows, as far as the guards ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// How far the daemon may go.
    pub mode: Mode,
    /// Time between two looks.
    pub interval: Span,
    /// How long after a rollout a fault is put down to it.
    pub probation: Span,
    /// Time between two rollbacks.
    pub cooldown: Span,
    /// Rollbacks within 24 hours.
    pub per_day: u32,
    /// What is done where a GitOps tool owns the workload.
    #[serde(default)]
    pub gitops: Gitops,
}

impl Limits {
    /// Those of a policy.
    #[must_use]
    pub const fn of(policy: &WorkloadPolicy) -> Self {
        let WorkloadPolicy { mode, interval, probation, cooldown, per_day, gitops, .. } = policy;
        Self {
            mode: *mode,
            interval: *interval,
            probation: *probation,
            cooldown: *cooldown,
            per_day: *per_day,
            gitops: *gitops,
        }
    }
}

/// Everything that the guards look at.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// What the policy in force allows.
    pub limits: Limits,
    /// What the journal says.
    pub state: &'a WorkloadState,
    /// The incident in question.
    pub incident: &'a Incident,
    /// What is known of the workload's health.
    pub assessment: &'a Assessment,
    /// The releases that exist, or why that is not known.
    pub available: Result<&'a [Release], &'a str>,
    /// Who besides people writes what a rollback would write.
    pub owners: &'a [Owner],
    /// The brakes over all workloads.
    pub fleet: &'a FleetView,
    /// When the fault was last seen not to be the release's, since this daemon looks; none where it has not looked yet.
    pub attributed_at: Option<Timestamp>,
    /// The present.
    pub now: Timestamp,
}

impl<'a> Situation<'a> {
    /// The trigger that the incident is about, now.
    pub(super) fn trigger(&self) -> Option<&'a TriggerStatus> {
        let Cause::Trigger { name, .. } = &self.incident.cause else { return None };
        self.assessment.triggers.iter().find(|trigger| trigger.name == *name)
    }
}

/// One guard's word.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Guard {
    /// Its name, as `--force` takes it.
    pub name: String,
    /// Why it holds; none: it lets pass.
    pub hold: Option<Hold>,
    /// Whether an operator's `--force` skips it.
    pub forced: bool,
}

/// What all guards say together.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ruling {
    /// Every guard, in order.
    pub guards: Vec<Guard>,
    /// The release to go back to, where there is one.
    pub goal: Option<Goal>,
    /// Whether the fault is, by what is seen now, not the release's.
    #[serde(default)]
    pub attributed: bool,
}

impl Ruling {
    /// The first guard that holds and is not forced.
    #[must_use]
    pub fn hold(&self) -> Option<&Hold> {
        self.guards.iter().filter(|guard| !guard.forced).find_map(|guard| guard.hold.as_ref())
    }

    /// Names of the guards that were skipped although they held.
    #[must_use]
    pub fn forced(&self) -> Vec<String> {
        let skipped = self.guards.iter().filter(|guard| guard.forced && guard.hold.is_some());
        skipped.map(|guard| guard.name.clone()).collect()
    }
}

/// The guards that `--force` may name. The others protect against harm that no operator can have meant.
pub const FORCIBLE: [&str; 10] = [
    "past-probation",
    "no-rollout",
    "goal-refused",
    "rolled-back-before",
    "gitops-owner",
    "cooldown",
    "daily-limit",
    "fleet-storm",
    "fleet-budget",
    "observe-mode",
];

/// Asks every guard.
#[must_use]
pub fn rule(situation: &Situation<'_>) -> Ruling {
    let force: &[String] = match &situation.incident.cause {
        Cause::Manual { force, .. } => force,
        Cause::Trigger { .. } | Cause::Blind { .. } | Cause::External { .. } => &[],
    };
    let goal = find_goal(situation, force);
    let holds: Vec<(&str, Option<Hold>)> = vec![
        // Nothing is done about it in any case.
        ("aside", aside(situation)),
        ("paused", paused(situation)),
        ("rejected", rejected(situation)),
        ("alert-only", alert_only(situation)),
        ("blind", blind(situation)),
        ("revision-unknown", revision_unknown(situation)),
        ("stale-evidence", stale_evidence(situation)),
        ("evidence-unknown", evidence_unknown(situation)),
        ("fault-ebbs", fault_ebbs(situation)),
        ("no-rollout", no_rollout(situation)),
        ("fault-before-rollout", fault_before_rollout(situation)),
        ("old-release-alike", attribution::old_release_alike(situation)),
        ("rising-before", attribution::rising_before(situation)),
        ("goal-worse", goal.as_ref().ok().and_then(|goal| attribution::goal_worse(situation, goal))),
        ("one-target", attribution::one_target(situation)),
        ("load", attribution::load(situation)),
        ("shared-fault", attribution::shared_fault(situation)),
        ("past-probation", past_probation(situation)),
        ("unconfirmed", unconfirmed(situation)),
        ("rolled-back-before", rolled_back_before(situation)),
        ("rollouts-owner", rollouts_owner(situation)),
        ("gitops-owner", gitops_owner(situation)),
        (goal_guard_name(situation), goal.as_ref().err().cloned()),
        ("cooldown", cooldown(situation)),
        ("daily-limit", daily_limit(situation)),
        ("fleet-storm", fleet_storm(situation)),
        ("fleet-budget", fleet_budget(situation)),
        ("in-flight", in_flight(situation)),
        ("observe-mode", observe_mode(situation)),
        ("needs-approval", needs_approval(situation, goal.as_ref().ok())),
    ];
    let attributed = holds.iter().any(|(_, hold)| hold.as_ref().is_some_and(Hold::is_attribution));
    let guards = holds.into_iter().map(|(name, hold)| {
        let hold = hold.or_else(|| attribution::stands(situation, name));
        // What was named and is still no goal, no word makes one.
        let is_no_goal = name == "goal-refused" && goal.is_err();
        let forced = FORCIBLE.contains(&name) && !is_no_goal && force.iter().any(|f| f == name);
        Guard { name: name.to_owned(), hold, forced }
    });
    Ruling { guards: guards.collect(), goal: goal.ok(), attributed }
}

pub(super) fn is_by_trigger(situation: &Situation<'_>) -> bool {
    matches!(situation.incident.cause, Cause::Trigger { .. })
}

fn is_manual(situation: &Situation<'_>) -> bool {
    matches!(situation.incident.cause, Cause::Manual { .. })
}

fn current<'a>(situation: &Situation<'a>) -> Option<&'a Running> {
    situation.state.current.as_ref()
}

/// Why it is not known which release is current, where which there are is known.
const UNSEEN: &str = "no release was seen yet";

fn find_goal(situation: &Situation<'_>, force: &[String]) -> Result<Goal, Hold> {
    let unknown = |reason: &str| Hold::RevisionUnknown { reason: reason.to_owned() };
    let available = situation.available.map_err(unknown)?;
    let current: &RevisionId = &current(situation).ok_or_else(|| unknown(UNSEEN))?.revision;
    let (ledger, beside) = (&situation.state.ledger, &situation.assessment.worse_beside());
    match &situation.incident.cause {
        Cause::Manual { to: Some(wanted), .. } => {
            let forced = force.iter().any(|f| f == "goal-refused");
            goal::named(ledger, available, current, wanted, (beside, forced), situation.now)
        }
        Cause::Manual { .. } | Cause::Trigger { .. } | Cause::Blind { .. } | Cause::External { .. } => {
            goal::last_known_good(ledger, available, current, &situation.incident.tried, beside, situation.now)
        }
    }
}

fn goal_guard_name(situation: &Situation<'_>) -> &'static str {
    match &situation.incident.cause {
        Cause::Manual { to: Some(_), .. } => "goal-refused",
        Cause::Manual { .. } | Cause::Trigger { .. } | Cause::Blind { .. } | Cause::External { .. } => "no-known-good",
    }
}

fn paused(situation: &Situation<'_>) -> Option<Hold> {
    situation.state.paused.as_ref().map(ladder::paused)
}

fn rejected(situation: &Situation<'_>) -> Option<Hold> {
    let current = current(situation).map(|current| &current.revision);
    let no = situation.state.rejection.as_ref().filter(|no| Some(&no.release) == current);
    let status = |trigger: &str| situation.assessment.triggers.iter().find(|status| status.name.as_str() == trigger);
    // A fault that was over and came anew is another one.
    let goes_on = |no: &Rejection, trigger: &str| {
        status(trigger).is_some_and(|status| match status.state {
            TriggerState::Firing { since, .. } | TriggerState::Pending { since, .. } => since <= no.at,
            TriggerState::Inactive => false,
        })
    };
    let stands = no.filter(|no| match &situation.incident.cause {
        // What was there by then, and is no graver, was not worth a rollback either.
        Cause::Trigger { name, severity, .. } => {
            let is_no_graver = || status(&no.trigger).is_some_and(|rejected| *severity <= rejected.severity);
            (name.as_str() == no.trigger || is_no_graver()) && goes_on(no, name.as_str())
        }
        // A program that reports what it sees knows of no word.
        Cause::External { key, .. } => key.is_some() && goes_on(no, &no.trigger),
        Cause::Blind { .. } | Cause::Manual { .. } => false,
    });
    let incident = situation.incident;
    let of_this = incident.rejected.as_ref().map(|by| (by, &incident.rejected_because));
    let (by, reason) = of_this.or_else(|| stands.map(|no| (&no.by, &no.reason)))?;
    Some(Hold::Rejected { by: by.clone(), reason: reason.clone() })
}

fn alert_only(situation: &Situation<'_>) -> Option<Hold> {
    let alert = is_by_trigger(situation) && situation.incident.cause.severity() == Severity::Alert;
    alert.then_some(Hold::AlertOnly)
}

fn blind(situation: &Situation<'_>) -> Option<Hold> {
    match &situation.incident.cause {
        Cause::Blind { reason } => {
            let present = situation.assessment.blind.as_ref().map_or(reason, |blind| &blind.reason);
            Some(Hold::Blind { reason: present.clone() })
        }
        Cause::Trigger { .. } | Cause::Manual { .. } | Cause::External { .. } => None,
    }
}

/// Nothing is taken back for what the release in question did not bring.
fn aside(situation: &Situation<'_>) -> Option<Hold> {
    let release = situation.incident.cause.aside()?.clone();
    Some(Hold::Aside { release, current: current(situation)?.revision.clone() })
}

fn revision_unknown(situation: &Situation<'_>) -> Option<Hold> {
    match (situation.available, current(situation)) {
        (Err(reason), _) => Some(Hold::RevisionUnknown { reason: reason.to_owned() }),
        (Ok(_), None) => Some(Hold::RevisionUnknown { reason: UNSEEN.to_owned() }),
        (Ok(_), Some(_)) => None,
    }
}

/// Evidence counts while its newest sample is at most two intervals old.
fn stale_evidence(situation: &Situation<'_>) -> Option<Hold> {
    if !is_by_trigger(situation) {
        return None;
    }
    let newest = situation.trigger().and_then(|trigger| trigger.evidence.newest);
    let limit = situation.limits.interval.times(2);
    let fresh = newest.is_some_and(|newest| situation.now.since(newest) <= limit);
    (!fresh).then_some(Hold::StaleEvidence { newest })
}

/// A trigger goes on firing while nothing is known, and after a restart it fires from the first look on: that alone is no
/// ground to act.
fn evidence_unknown(situation: &Situation<'_>) -> Option<Hold> {
    match &situation.trigger()?.evidence.verdict {
        Verdict::Unknown(reason) => Some(Hold::EvidenceUnknown { reason: reason.to_string() }),
        Verdict::Ok | Verdict::Breach => None,
    }
}

fn fault_ebbs(situation: &Situation<'_>) -> Option<Hold> {
    let status = situation.trigger()?;
    let was_firing = situation.incident.times.detected.is_some();
    (was_firing && matches!(status.state, TriggerState::Pending { .. })).then_some(Hold::FaultEbbs)
}

fn no_rollout(situation: &Situation<'_>) -> Option<Hold> {
    (is_by_trigger(situation) && situation.state.previous.is_none()).then_some(Hold::NoRollout)
}

fn fault_before_rollout(situation: &Situation<'_>) -> Option<Hold> {
    let rollout = current(situation)?.since;
    let onset = situation.incident.times.onset?;
    (is_by_trigger(situation) && onset < rollout).then_some(Hold::FaultBeforeRollout { onset, rollout })
}

/// Judged by the onset: a fault that began within probation stays the release's own, however long it was held. A good release
/// that was gone back to has been on probation before.
fn past_probation(situation: &Situation<'_>) -> Option<Hold> {
    let current = current(situation)?;
    let standing = situation.state.ledger.get(&current.revision);
    let rollout = standing.and_then(|standing| standing.rolled_out).unwrap_or(current.since);
    let probation = situation.limits.probation;
    let onset = situation.incident.times.onset?;
    (is_by_trigger(situation) && onset > rollout + probation).then_some(Hold::PastProbation { rollout, probation })
}

/// A second signal has to agree where the trigger asks for it; what is not known of it does not.
fn unconfirmed(situation: &Situation<'_>) -> Option<Hold> {
    let status = situation.trigger()?;
    let second = status.confirmation.as_ref()?;
    let like = second.unconfirmed()?;
    let fault = status.evidence.as_breach();
    Some(Hold::Unconfirmed { fault, signal: second.signal.clone(), like })
}

fn rolled_back_before(situation: &Situation<'_>) -> Option<Hold> {
    let revision = &current(situation)?.revision;
    let (at, incident) = situation.state.ledger.get(revision)?.taken_back.as_ref()?;
    let recent = situation.now.since(*at) < OSCILLATION_GUARD && *incident != situation.incident.id;
    recent.then(|| Hold::RolledBackBefore { revision: revision.clone(), incident: incident.clone() })
}

fn rollouts_owner(situation: &Situation<'_>) -> Option<Hold> {
    situation.owners.iter().find_map(|owner| match owner {
        Owner::Rollouts { tool } => Some(Hold::RolloutsOwner { tool: *tool }),
        Owner::Gitops { .. } => None,
    })
}

/// An owner that goes on would undo a rollback within seconds.
fn gitops_owner(situation: &Situation<'_>) -> Option<Hold> {
    situation.owners.iter().find_map(|owner| {
        let why = match (owner, situation.limits.gitops) {
            (Owner::Rollouts { .. }, _) | (Owner::Gitops { name: Some(_), .. }, Gitops::Pause) => return None,
            (Owner::Gitops { .. }, Gitops::Alert) => "`gitops = \"pause\"` would pause it for a time",
            (Owner::Gitops { name: None, .. }, Gitops::Pause) => "no mark says which object to pause",
        };
        Some(Hold::GitopsOwner { owner: owner.clone(), why: why.to_owned() })
    })
}

/// Rollbacks of earlier incidents: retries of the same incident are the escalation ladder's business.
fn earlier_rollbacks<'a>(situation: &Situation<'a>) -> impl DoubleEndedIterator<Item = Timestamp> + 'a {
    let decided = situation.incident.times.decided.unwrap_or(situation.now);
    situation.state.rollbacks.iter().copied().filter(move |at| *at < decided)
}

fn cooldown(situation: &Situation<'_>) -> Option<Hold> {
    let until = earlier_rollbacks(situation).next_back()? + situation.limits.cooldown;
    (situation.now < until).then_some(Hold::Cooldown { until })
}

fn daily_limit(situation: &Situation<'_>) -> Option<Hold> {
    let within: Vec<Timestamp> = earlier_rollbacks(situation).filter(|at| situation.now.since(*at) < DAY).collect();
    let limit = usize::try_from(situation.limits.per_day).unwrap_or(usize::MAX);
    let over = within.len().checked_sub(limit)?;
    let started = u32::try_from(within.len()).unwrap_or(u32::MAX);
    within.get(over).map(|at| Hold::DailyLimit { started, until: *at + DAY })
}

fn fleet_storm(situation: &Situation<'_>) -> Option<Hold> {
    let fleet = situation.fleet;
    let storm = is_by_trigger(situation) && fleet.is_storm();
    storm.then_some(Hold::FleetStorm { bad: fleet.turned_bad, of: fleet.workloads })
}

fn fleet_budget(situation: &Situation<'_>) -> Option<Hold> {
    let fleet = situation.fleet;
    let allowed = fleet.hourly_budget();
    let spent = fleet.started_last_hour >= allowed && situation.incident.times.decided.is_none();
    spent.then_some(Hold::FleetBudget { started: fleet.started_last_hour, allowed })
}

fn in_flight(situation: &Situation<'_>) -> Option<Hold> {
    situation.fleet.in_flight.as_ref().map(|workload| Hold::InFlight { workload: workload.clone() })
}

fn observe_mode(situation: &Situation<'_>) -> Option<Hold> {
    (situation.limits.mode == Mode::Observe).then_some(Hold::ObserveMode)
}

/// A rollback asked for by hand is approved by whoever asked. Who said yes said it to one goal.
fn needs_approval(situation: &Situation<'_>, goal: Option<&Goal>) -> Option<Hold> {
    let incident = situation.incident;
    let is_its = |to: &RevisionId| goal.is_none_or(|goal| goal.revision == *to);
    let is_approved = incident.approved.is_some() && incident.approved_for.as_ref().is_none_or(is_its);
    if is_approved || is_manual(situation) {
        return None;
    }
    asks_for_approval(situation).map(|because| Hold::NeedsApproval { because: because.to_owned() })
}

/// Why nothing is begun without a human's yes, where that is so.
pub(super) fn asks_for_approval(situation: &Situation<'_>) -> Option<&'static str> {
    match (situation.limits.mode, situation.incident.cause.severity()) {
        (Mode::Approve, _) => Some("the mode is approve"),
        (Mode::Observe | Mode::Enforce, Severity::Scheduled) => Some("the trigger's severity is scheduled"),
        (Mode::Observe | Mode::Enforce, Severity::Critical | Severity::Alert) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::{GitopsTool, Habitat, ReleaseDir, RolloutTool, Strategy};
    use crate::domain::testing;

    /// The guards about owners that hold, forced ones marked.
    fn held(owners: &[Owner], gitops: Gitops, force: &[&str]) -> Vec<String> {
        let (root, releases) = ("/srv/app".into(), "releases".into());
        let dir = ReleaseDir { root, releases, instances: Vec::new() };
        let policy = testing::policy(Strategy::Rolling, Habitat::ReleaseDir(dir));
        let force = force.iter().map(|name| (*name).to_owned()).collect();
        let cause = Cause::Manual { by: String::new(), reason: String::new(), to: None, force };
        let now = Timestamp::default();
        let assessment = Assessment::nothing(now);
        let ruling = rule(&Situation {
            limits: Limits { gitops, ..Limits::of(&policy) },
            state: &WorkloadState::default(),
            incident: &Incident::hypothetical(cause, None, Mode::Enforce, Strategy::Rolling, now),
            assessment: &assessment,
            available: Ok(&[]),
            owners,
            fleet: &FleetView::default(),
            attributed_at: None,
            now,
        });
        let about = ruling.guards.iter().filter(|guard| guard.hold.is_some() && guard.name.ends_with("-owner"));
        about.map(|guard| format!("{}{}", guard.name, if guard.forced { ", forced" } else { "" })).collect()
    }

    #[test]
    fn an_owner_holds_unless_it_can_be_paused_and_may_be() {
        let gitops = |name: Option<&str>| Owner::Gitops {
            tool: GitopsTool::ArgoCd,
            namespace: None,
            name: name.map(str::to_owned),
        };
        let [named, unnamed] = [[gitops(Some("web"))], [gitops(None)]];
        assert_eq!(held(&[], Gitops::Alert, &[]), [""; 0]);
        assert_eq!(held(&named, Gitops::Alert, &[]), ["gitops-owner"]);
        assert_eq!(held(&named, Gitops::Pause, &[]), [""; 0]);
        assert_eq!(held(&unnamed, Gitops::Pause, &[]), ["gitops-owner"]);
        assert_eq!(held(&unnamed, Gitops::Alert, &["gitops-owner"]), ["gitops-owner, forced"]);
        let flagger = [Owner::Rollouts { tool: RolloutTool::Flagger }];
        assert_eq!(held(&flagger, Gitops::Pause, &[]), ["rollouts-owner"]);
    }
}
