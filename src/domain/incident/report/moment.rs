//! The timeline: each record as a line that a person can read.

use serde::Serialize;

use super::attempt::closed;
use crate::domain::incident::alert::Phase;
use crate::domain::incident::narrate;
use crate::domain::incident::record::{Event, Record};
use crate::domain::incident::state::Incident;
use crate::domain::response::plan::Outcome;
use crate::domain::time::Timestamp;

/// One line of the timeline.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// Seconds since the first breach; negative before it.
    pub after_s: Option<f64>,
    /// The record's name in the journal.
    pub event: &'static str,
    /// Where the incident is from then on.
    pub phase: Phase,
    /// What happened, in a few words.
    pub title: String,
    /// The particulars.
    pub detail: String,
}

/// Takes one record of the incident in. Notes that a trigger is still pending take each other's place.
pub(super) fn take(timeline: &mut Vec<Moment>, record: &Record, incident: &Incident) {
    let Some((title, detail)) = words(&record.event, incident) else { return };
    let event = record.event.name();
    if matches!(record.event, Event::StillPending { .. }) && timeline.last().is_some_and(|last| last.event == event) {
        timeline.pop();
    }
    let millis = |at: Timestamp| at.as_millis();
    let after_s = incident.times.onset.map(|onset| (millis(record.at).saturating_sub(millis(onset))) as f64 / 1000.0);
    timeline.push(Moment { at: record.at, after_s, event, phase: incident.phase, title, detail });
}

/// Title and particulars; none for what is not about an incident.
fn words(event: &Event, incident: &Incident) -> Option<(String, String)> {
    let line = |title: &str, detail: String| Some((title.to_owned(), detail));
    match event {
        Event::Suspected { cause, .. } => line("suspected", narrate::describe(cause)),
        Event::StillPending { held } => line("still pending", format!("breached for {held}")),
        Event::Detected { cause, .. } => line("detected", narrate::describe(cause)),
        Event::FoundBeside { cause } => line("found beside it", narrate::describe(cause)),
        Event::Recorded { recording } => {
            let [changes, pods, events, logs] =
                [recording.changes.len(), recording.pods.len(), recording.events.len(), recording.logs.len()];
            let had = format!("{changes} changed fields, {pods} pods, {events} events, {logs} logs");
            let missing = recording.missing.iter().map(|why| format!("; {why}"));
            line("recorded what there was to see", [had].into_iter().chain(missing).collect())
        }
        Event::Held { hold, .. } => Some((format!("held: {}", hold.as_str()), hold.to_string())),
        Event::Refused { cause, hold, .. } => {
            Some((format!("refused: {}", hold.as_str()), format!("{}: {hold}", narrate::describe(cause))))
        }
        Event::Approved { by } => line("approved", format!("by {by}")),
        Event::Rejected { by, reason } => line("rejected", format!("by {by}: {reason}")),
        Event::Planned { plan, forced, .. } => {
            let forced = if forced.is_empty() { String::new() } else { format!("; forced: {}", forced.join(", ")) };
            let steps = plan.steps.len();
            let detail = format!(
                "{} → {}, {}, {steps} steps, to be done by {}{forced}",
                plan.from,
                plan.to,
                plan.purpose.title(),
                plan.deadline
            );
            Some((format!("decided: attempt {}", plan.attempt), detail))
        }
        Event::Continued { .. } => line("goes on", "what held it holds no more".to_owned()),
        Event::StepStarted { step } => Some((format!("step {} begins", step + 1), step_title(incident, *step))),
        Event::StepFinished { step, outcome: how } => {
            let (word, detail) = outcome(how);
            let title = step_title(incident, *step);
            let detail = if detail.is_empty() { title } else { format!("{title}: {detail}") };
            Some((format!("step {} {word}", step + 1), detail))
        }
        Event::Verifying => line("verifying", "every step is done; the proof begins".to_owned()),
        Event::SmokeStarted => line("smoke test begins", String::new()),
        Event::SmokeFinished { passed: true, detail } => line("smoke test passed", detail.clone()),
        Event::SmokeFinished { passed: false, detail } => line("smoke test failed", detail.clone()),
        Event::Restored { checks } => {
            let all: Vec<String> = checks.iter().map(|check| format!("{}: {}", check.name, check.detail)).collect();
            line("restored", all.join("; "))
        }
        Event::Failed { reason, .. } => line("failed", reason.clone()),
        Event::Escalated { reason, .. } => line("escalated", reason.clone()),
        Event::Closed { how } => line("closed", closed(how)),
        Event::OwnerPutBack { owner, outcome: how, .. } => {
            let (word, detail) = outcome(how);
            line("owner put back", format!("{owner}: {word} {detail}").trim_end().to_owned())
        }
        Event::ReleaseObserved { .. }
        | Event::KnownGood { .. }
        | Event::SettingsKept { .. }
        | Event::Paused { .. }
        | Event::Resumed { .. } => None,
    }
}

fn step_title(incident: &Incident, step: u32) -> String {
    let index = usize::try_from(step).unwrap_or(usize::MAX);
    let plan = incident.plan.as_ref();
    plan.and_then(|plan| plan.steps.get(index)).map(|step| step.kind.title()).unwrap_or_default()
}

/// How a step ended, in a word, and its particulars.
fn outcome(outcome: &Outcome) -> (&'static str, &str) {
    match outcome {
        Outcome::Applied => ("done", ""),
        Outcome::AlreadyInEffect => ("was in effect already", ""),
        Outcome::Conflict(detail) => ("met someone else's change", detail),
        Outcome::Transient(detail) => ("failed", detail),
        Outcome::Denied(detail) => ("was refused", detail),
        Outcome::TimedOut(detail) => ("ran out of time", detail),
        Outcome::NotBegun(detail) => ("was not begun", detail),
        Outcome::Stopped(detail) => ("was halted, and is still to be done", detail),
    }
}
