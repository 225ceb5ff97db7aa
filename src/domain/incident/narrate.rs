//! From an incident's state to the message that people get: which rule, which value, from which release to which,
//! what happens next, and how to stop it.

use std::collections::{BTreeMap, BTreeSet};

use super::alert::{Alert, AlertFrom, AlertTo, AlertTrigger, Next, Phase, SCHEMA, Stop, Times};
use super::record::{Cause, Closing, Event};
use super::state::{Incident, difference};
use crate::domain::health::verdict::{Combined, Evidence};
use crate::domain::id::{IncidentId, InstanceId, RevisionId, WorkloadId};
use crate::domain::policy::{Combine, Condition, OwnerObject, Severity, WorkloadPolicy};
use crate::domain::response::hold::Hold;
use crate::domain::response::ladder;
use crate::domain::response::plan::{Outcome, Plan, StepKind};
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::Finite;

/// Longest reason in a message, in characters; what is longer ends in an ellipsis.
const REASON_LIMIT: usize = 2_000;

/// Longest summary, in characters: it is read on a telephone at night.
const SUMMARY_LIMIT: usize = 400;

/// The message for an incident that `event` has just brought where it is.
#[must_use]
pub fn alert(workload: &WorkloadId, incident: &Incident, event: &Event) -> Alert {
    let reason = reason(incident, event);
    let cause = if let Event::FoundBeside { cause } = event { cause } else { &incident.cause };
    Alert {
        schema: SCHEMA.to_owned(),
        id: message_id(&incident.id, &[incident.notices.to_string()]),
        sequence: incident.notices,
        incident: incident.id.clone(),
        workload: workload.clone(),
        phase: incident.phase,
        severity: severity(incident, event),
        earlier_severities: incident.told_as.clone(),
        mode: incident.mode,
        trigger: trigger(cause),
        from: incident.from.as_ref().map(|from| AlertFrom {
            revision: from.revision.clone(),
            image: from.image.clone(),
            since: from.since,
        }),
        to: incident.goal.as_ref().map(|goal| AlertTo {
            revision: goal.revision.clone(),
            image: goal.image.clone(),
            known_good_since: goal.known_good_since,
        }),
        strategy: incident.strategy,
        summary: shorten(&one_line(&summary(workload, incident, &reason)), SUMMARY_LIMIT),
        reason: shorten(&reason, REASON_LIMIT),
        times: incident.times.clone(),
        next: next(incident),
        stop: stop(workload, incident),
    }
}

/// A refusal was told to whoever asked; neither it nor an owner that goes on as planned asks anything of anybody.
pub(super) fn severity(incident: &Incident, event: &Event) -> Severity {
    match event {
        Event::OwnerPutBack { outcome, .. } if outcome.is_done() => Severity::Alert,
        Event::Refused { .. } => Severity::Alert,
        Event::FoundBeside { cause } => cause.severity(),
        _ => incident.cause.severity(),
    }
}

/// The message that is sent without the outbox while the journal can't be written; `count` tells repeats apart.
#[must_use]
pub fn journal_broken(policy: &WorkloadPolicy, error: &str, count: u64, now: Timestamp) -> Alert {
    let reason = shorten(&format!("{error}; nothing is rolled back until it can be written again"), REASON_LIMIT);
    own_trouble(policy, "journal", reason, "try to write it again", count, now)
}

/// The message that is sent without the outbox while no replica acts; `count` tells repeats apart.
#[must_use]
pub fn nobody_leads(policy: &WorkloadPolicy, count: u64, now: Timestamp) -> Alert {
    let reason = "the Lease can't be held, and no other replica holds it; nothing is rolled back until one does";
    own_trouble(policy, "lease", reason.to_owned(), "try to hold it again", count, now)
}

/// The message that is sent without the outbox while what is seen is judged so late that it is not fresh any more; `count`
/// tells repeats apart.
#[must_use]
pub fn late(policy: &WorkloadPolicy, lag: Span, count: u64, now: Timestamp) -> Alert {
    let reason = format!(
        "it is behind: what it judges now was seen {lag} ago; nothing is rolled back on what is that old, and of no workload \
         is told that it is out of sight"
    );
    own_trouble(policy, "late", reason, "catch up", count, now)
}

/// The message that is sent without the outbox where the daemon can't start: nothing is watched.
#[must_use]
pub fn not_started(policy: &WorkloadPolicy, error: &str, now: Timestamp) -> Alert {
    let reason =
        shorten(&format!("{error}; nothing is watched, and nothing rolled back, until it starts"), REASON_LIMIT);
    let summary = shorten(&one_line(&format!("rollbackd does not start: {reason}.")), SUMMARY_LIMIT);
    Alert { summary, ..own_trouble(policy, "start", reason, "start again, where its service manager says so", 1, now) }
}

/// The message that ends those about a trouble of the daemon's own, of which `last` was the last one: by the same name, so that
/// whoever keeps an account of what is open closes it.
#[must_use]
pub fn over(last: &Alert, why: &str, now: Timestamp) -> Alert {
    let sequence = last.sequence + 1;
    let reason = shorten(why, REASON_LIMIT);
    Alert {
        id: message_id(&last.incident, &[now.as_millis().to_string(), sequence.to_string()]),
        sequence,
        phase: Phase::Closed,
        earlier_severities: BTreeSet::from([last.severity]),
        summary: shorten(&one_line(&format!("rollbackd: closed, {reason}.")), SUMMARY_LIMIT),
        reason,
        next: Next { action: "watch".to_owned(), deadline: None },
        ..last.clone()
    }
}

fn own_trouble(policy: &WorkloadPolicy, what: &str, reason: String, action: &str, count: u64, now: Timestamp) -> Alert {
    let incident = IncidentId::new(format!("rollbackd-{what}"));
    Alert {
        schema: SCHEMA.to_owned(),
        id: message_id(&incident, &[now.as_millis().to_string(), count.to_string()]),
        sequence: count,
        incident,
        workload: policy.id.clone(),
        phase: Phase::Held,
        severity: Severity::Critical,
        earlier_severities: BTreeSet::new(),
        mode: policy.mode,
        trigger: AlertTrigger { name: what.to_owned(), ..AlertTrigger::default() },
        from: None,
        to: None,
        strategy: policy.strategy,
        summary: shorten(&one_line(&format!("rollbackd can't act: {reason}.")), SUMMARY_LIMIT),
        reason,
        times: Times { detected: Some(now), ..Times::default() },
        next: Next { action: action.to_owned(), deadline: None },
        stop: Stop { command: "systemctl stop rollbackd".to_owned() },
    }
}

/// A message's name. A signature is over `<id>.<timestamp>.<body>`, in which no dot may be of the id: one of the workload's
/// name becomes `_`, which is in no name of a workload.
fn message_id(incident: &IncidentId, numbers: &[String]) -> String {
    format!("{}_{}", incident.as_str().replace('.', "_"), numbers.join("_"))
}

/// What helps where a workload's records can't be followed.
pub const RECORDS_REMEDY: &str = "stop the daemon first, since a journal that is copied over one in use is destroyed; then move \
     journal.db, journal.db-wal and journal.db-shm away, restore journal.db from a backup or begin anew, and start the daemon";

/// What helps where a workload's records are whole, and are not those that the daemon went by.
pub const READ_ANEW: &str = "reload the policy: its records are read anew then, and it is watched again";

/// A workload's records can't be followed, so that nobody knows what was begun: it is not watched. `remedy` is what helps;
/// `count` tells repeats apart.
#[must_use]
pub fn records_damaged(policy: &WorkloadPolicy, error: &str, remedy: &str, count: u64, now: Timestamp) -> Alert {
    let incident = IncidentId::new(format!("rollbackd-records-{}", policy.id));
    let reason = shorten(error, REASON_LIMIT);
    let id = message_id(&incident, &[now.as_millis().to_string(), count.to_string()]);
    let summary = format!("rollbackd does not watch {}: its records can't be followed.", policy.id);
    let next = Next { action: remedy.to_owned(), deadline: None };
    Alert { id, incident, reason, summary, next, ..journal_broken(policy, error, count, now) }
}

/// The same of a workload that is watched: it goes on by what is in memory, until a restart.
#[must_use]
pub fn records_damaged_in_use(policy: &WorkloadPolicy, error: &str, remedy: &str, count: u64, now: Timestamp) -> Alert {
    let summary = format!(
        "rollbackd goes on watching {} by what it has in memory: its records can't be followed, and after a restart it is not \
         watched.",
        policy.id
    );
    Alert { summary, ..records_damaged(policy, error, remedy, count, now) }
}

/// What replicas share of a workload can't be read, so that nobody knows what was begun: nothing is done for it.
#[must_use]
pub fn record_unreadable(policy: &WorkloadPolicy, error: &str, count: u64, now: Timestamp) -> Alert {
    let summary = format!("rollbackd does nothing for {}: what its replicas share of it can't be read.", policy.id);
    let remedy =
        "put the ConfigMap right, or delete it: then the journal of the replica that leads next is what counts";
    Alert { summary, ..records_damaged(policy, error, remedy, count, now) }
}

fn trigger(cause: &Cause) -> AlertTrigger {
    match cause {
        Cause::Trigger { name, hold_for, evidence, .. } => AlertTrigger {
            name: name.to_string(),
            signal: Some(evidence.signal.to_string()),
            value: evidence.value.map(f64::from),
            threshold: threshold(evidence),
            unit: Some(evidence.unit),
            for_s: Some(hold_for.as_secs_f64()),
            window_s: Some(evidence.window.as_secs_f64()),
            samples: Some(evidence.samples),
        },
        Cause::Blind { .. } | Cause::Manual { .. } | Cause::External { .. } => {
            AlertTrigger { name: cause.name().to_owned(), ..AlertTrigger::default() }
        }
    }
}

/// The bound of a trigger: fixed, or what the release before made of it.
fn threshold(evidence: &Evidence) -> Option<f64> {
    let compared = || evidence.compared.as_ref()?.bound.map(Finite::get);
    evidence.condition.and_then(Condition::threshold).or_else(compared)
}

/// Each further term of a trigger, in words.
fn other_terms(evidence: &Evidence, combined: &Combined) -> String {
    let word = match combined.how {
        Combine::All => "and",
        Combine::Any => "or",
    };
    let is_lead = |term: &Evidence| term.signal == evidence.signal && term.condition == evidence.condition;
    let others = combined.terms.iter().filter(|term| !is_lead(term));
    others
        .map(|term| format!(", {word} {} is {}, {}", term.signal, term.value_in_words(), term.bound_in_words()))
        .collect()
}

/// What set the incident off, in words.
#[must_use]
pub fn describe(cause: &Cause) -> String {
    match cause {
        Cause::Trigger { name, hold_for, evidence, combined, aside, .. } => {
            let bound = evidence.condition.map(|_| format!(", {}", evidence.bound_in_words())).unwrap_or_default();
            let others = combined.as_ref().map(|combined| other_terms(evidence, combined)).unwrap_or_default();
            let hold = if hold_for.as_millis() == 0 { String::new() } else { format!(" for {hold_for}") };
            let counted = if evidence.unanswered {
                "no instance in service".to_owned()
            } else {
                let samples = if evidence.samples == 1 { "sample" } else { "samples" };
                format!("{} {samples} in {}", evidence.samples, evidence.window)
            };
            let value = evidence.value_in_words();
            let at = aside.as_ref().map(|release| format!(" where {release} serves")).unwrap_or_default();
            format!("\"{name}\": {} is {value}{at}{bound}{others}{hold} ({counted})", evidence.signal)
        }
        Cause::Blind { reason } => format!("nothing can be judged: {reason}"),
        Cause::Manual { by, reason, .. } => format!("rollback asked for by {by}: {reason}"),
        Cause::External { by, kind, reason, .. } => format!("{kind} reported by {by}: {reason}"),
    }
}

fn reason(incident: &Incident, event: &Event) -> String {
    let trouble = || incident.trouble.clone().unwrap_or_default();
    match event {
        Event::Held { hold, .. } => hold.to_string(),
        Event::Refused { hold, .. } => format!("{}; refused: {hold}", describe(&incident.cause)),
        Event::OwnerPutBack { owner, outcome, .. } => put_back(owner, outcome),
        Event::Rejected { by, reason } => format!("rejected by {by}: {reason}"),
        Event::Failed { .. } | Event::Escalated { .. } => trouble(),
        Event::Closed { how } => closing(incident, how),
        Event::Restored { checks } => {
            let all: Vec<&str> = checks.iter().map(|check| check.detail.as_str()).collect();
            let left = incident.left_undone.as_ref().map(|left| format!("; {left}")).unwrap_or_default();
            format!("proven well: {}{}{left}", all.join("; "), pauses(incident))
        }
        Event::Planned { plan, .. } => {
            let steps: Vec<String> = plan.steps.iter().map(|step| step.kind.title()).collect();
            format!("{}; attempt {}: {}", describe(&incident.cause), plan.attempt, steps.join(", then "))
        }
        Event::Verifying => format!("every step is done{}; the proof begins", done_by_others(incident)),
        Event::Continued { .. } => format!("{}; what held it holds no more, and it goes on", describe(&incident.cause)),
        Event::FoundBeside { cause } => format!("beside it, {}", describe(cause)),
        Event::Suspected { .. }
        | Event::Detected { .. }
        | Event::StillPending { .. }
        | Event::Approved { .. }
        | Event::StepStarted { .. }
        | Event::StepFinished { .. }
        | Event::Recorded { .. }
        | Event::SmokeStarted
        | Event::SmokeFinished { .. }
        | Event::ReleaseObserved { .. }
        | Event::KnownGood { .. }
        | Event::SettingsKept { .. }
        | Event::Paused { .. }
        | Event::Resumed { .. } => describe(&incident.cause),
    }
}

/// Why an incident is over, and what it leaves behind all the same.
#[must_use]
pub fn closing(incident: &Incident, how: &Closing) -> String {
    let why = match how {
        Closing::Subsided if matches!(incident.cause, Cause::Blind { .. }) => "sight is back".to_owned(),
        Closing::Subsided => "the fault is gone".to_owned(),
        Closing::Unseen { why } => format!("whether the fault goes on can't be seen ({why}); it is judged anew"),
        Closing::Superseded { by, others } => {
            format!("{by} was put in place by someone else; nothing more is begun{}", left_at(others))
        }
        Closing::ByOperator { by, reason } => format!("closed by {by}: {reason}"),
        Closing::Refused => incident.hold.as_ref().map_or_else(|| "refused".to_owned(), Hold::to_string),
        // A section whose workloads nobody could name, or any other.
        Closing::Forgotten { .. } if matches!(incident.cause, Cause::Blind { .. }) => {
            "nothing is watched under this name any more".to_owned()
        }
        Closing::Forgotten { left } => {
            let left = if left.is_empty() { String::new() } else { format!("{LEFT}{}", places(left)) };
            format!("the workload is no longer in the policy{left}{}", brought(incident))
        }
    };
    difference(incident).map_or(why.clone(), |difference| format!("{why}; {difference}"))
}

/// The release that it was brought to, where the present plan came that far.
fn brought(incident: &Incident) -> String {
    let turned = |plan: &&Plan| {
        plan.turns_at().is_some_and(|turn| usize::try_from(incident.steps_done).is_ok_and(|done| done > turn))
    };
    let plan = incident.plan.as_ref().filter(turned);
    plan.map(|plan| format!("; it was brought to {}, which is not proven well", plan.to)).unwrap_or_default()
}

/// Which instances are left at other releases.
fn left_at(others: &BTreeMap<RevisionId, Vec<InstanceId>>) -> String {
    if others.is_empty() { String::new() } else { format!(", and others are left as they are: {}", places(others)) }
}

/// What begins the places of instances in the reason of an escalation.
pub const LEFT: &str = "; left: ";

/// Which instances are at which release.
#[must_use]
pub fn places(all: &BTreeMap<RevisionId, Vec<InstanceId>>) -> String {
    let each = all.iter().map(|(release, instances)| {
        let instances: Vec<&str> = instances.iter().map(InstanceId::as_str).collect();
        format!("{} at {release}", instances.join(", "))
    });
    each.collect::<Vec<String>>().join("; ")
}

fn put_back(owner: &OwnerObject, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Applied => format!("{owner} goes on again, and what its repository says comes back"),
        Outcome::AlreadyInEffect => format!("{owner} was let go on by someone else"),
        Outcome::Conflict(why)
        | Outcome::Transient(why)
        | Outcome::Denied(why)
        | Outcome::TimedOut(why)
        | Outcome::NotBegun(why)
        | Outcome::Stopped(why) => {
            format!("{owner} was paused for a rollback and can't be let go on: {why}")
        }
    }
}

/// What a plan paused, and for how long.
fn pauses(incident: &Incident) -> String {
    let steps = incident.plan.iter().flat_map(|plan| &plan.steps);
    let told = steps.filter_map(|step| {
        let StepKind::PauseOwner { owner, limit, .. } = &step.kind else { return None };
        Some(format!("; {owner} stays paused for {limit} at most: take the release back in its repository before that"))
    });
    told.collect()
}

/// Which instances were restarted by others, where some were.
fn done_by_others(incident: &Incident) -> String {
    let names: Vec<&str> = incident.restarted_by_others.iter().map(InstanceId::as_str).collect();
    if names.is_empty() { String::new() } else { format!(", {} restarted by someone else already", names.join(", ")) }
}

fn route(incident: &Incident) -> String {
    let from = incident.from.as_ref().map_or("an unknown release", |from| from.revision.as_str());
    match &incident.goal {
        Some(goal) => format!("{from} → {}", goal.revision),
        None => from.to_owned(),
    }
}

fn summary(workload: &WorkloadId, incident: &Incident, reason: &str) -> String {
    let route = route(incident);
    match incident.phase {
        Phase::Suspected => format!("{workload} at {route}: suspected, {reason}."),
        Phase::Detected => match &incident.cause {
            Cause::Manual { .. } => format!("{workload} ({route}): {reason}."),
            Cause::Blind { .. } => format!("{workload} at {route} can't be watched: {reason}."),
            Cause::Trigger { aside: Some(release), .. } => {
                format!("{workload} has gone bad at {release}, which serves beside {route}, {reason}.")
            }
            Cause::Trigger { .. } | Cause::External { .. } => {
                format!("{workload} at {route} has gone bad, {reason}.")
            }
        },
        Phase::Held if incident.plan.is_some() => {
            let cause = describe(&incident.cause);
            format!("{workload} ({route}) is held in the middle of its rollback: {reason}; cause: {cause}.")
        }
        Phase::Held => {
            format!("{workload} ({route}) is not rolled back: {reason}; cause: {}.", describe(&incident.cause))
        }
        Phase::AwaitingApproval => {
            let (approve, cause) = (approve(incident), describe(&incident.cause));
            let trouble = incident.trouble.as_ref().filter(|_| incident.plan.is_some());
            let trouble = trouble.map(|trouble| format!("; {trouble}")).unwrap_or_default();
            format!("{workload} ({route}) waits for approval by {approve}{trouble}; cause: {cause}.")
        }
        // The reason lists the plan's steps as well: too many for one sentence.
        Phase::Started => {
            let cause = describe(&incident.cause);
            format!("{workload} is being rolled back, {route} ({}): {cause}.", incident.strategy)
        }
        Phase::Verifying => {
            let (goal, others) = (goal_name(incident), done_by_others(incident));
            format!("{workload} is back at {goal}{others}; proving that it is well.")
        }
        Phase::Restored => format!("{workload} is well again at {}: {reason}.", goal_name(incident)),
        Phase::Failed => format!("Rolling back {workload} ({route}) did not bring it back: {reason}."),
        Phase::Escalated => format!("{workload} ({route}) needs a human now: {reason}."),
        Phase::Closed => format!("{workload} ({route}): closed, {reason}."),
    }
}

fn goal_name(incident: &Incident) -> &str {
    incident.goal.as_ref().map_or("an unknown release", |goal| goal.revision.as_str())
}

fn next(incident: &Incident) -> Next {
    if incident.phase == Phase::Held && incident.plan.is_some() {
        let id = &incident.id;
        let action = format!("nothing, until the hold is lifted, or rollbackd reject {id} leaves it to a human");
        return Next { action, deadline: hold_deadline(incident) };
    }
    let plan_deadline: Option<Timestamp> = incident.plan.as_ref().map(|plan| plan.deadline);
    let (action, deadline) = match incident.phase {
        Phase::Suspected => {
            let deadline = match &incident.cause {
                Cause::Trigger { hold_for, .. } => incident.times.onset.map(|onset| onset + *hold_for),
                Cause::Blind { .. } | Cause::Manual { .. } | Cause::External { .. } => None,
            };
            ("detect, if it holds", deadline)
        }
        Phase::Detected => ("decide", None),
        Phase::Held => ("nothing, until the hold is lifted or the fault is gone", hold_deadline(incident)),
        Phase::AwaitingApproval => ("wait for approval", Some(ladder::held_until(incident))),
        Phase::Started => ("roll back, then verify", plan_deadline),
        Phase::Verifying => ("verify", plan_deadline),
        Phase::Restored => ("watch", None),
        Phase::Failed => ("climb the escalation ladder", None),
        Phase::Escalated => ("nothing: a human must", None),
        Phase::Closed => ("watch", None),
    };
    Next { action: action.to_owned(), deadline }
}

/// How to say yes, and to what: by the time that somebody does it may be another goal. A name that a shell would not take as
/// one word is left out.
fn approve(incident: &Incident) -> String {
    let is_word = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || "._-:@+/".contains(c));
    let goal = incident.goal.as_ref().map(|goal| goal.revision.as_str()).filter(is_word);
    let to = goal.map(|goal| format!(" --to {goal}")).unwrap_or_default();
    format!("rollbackd approve {}{to}", incident.id)
}

fn hold_deadline(incident: &Incident) -> Option<Timestamp> {
    incident.hold.as_ref().and_then(Hold::until)
}

fn stop(workload: &WorkloadId, incident: &Incident) -> Stop {
    let command = match incident.phase {
        Phase::AwaitingApproval => format!("rollbackd reject {}", incident.id),
        Phase::Suspected
        | Phase::Detected
        | Phase::Held
        | Phase::Started
        | Phase::Verifying
        | Phase::Restored
        | Phase::Failed
        | Phase::Escalated
        | Phase::Closed => format!("rollbackd pause {workload}"),
    };
    Stop { command }
}

/// The words alone, whatever a program's output had between them.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(limit - 1).collect();
    short.push('…');
    short
}
