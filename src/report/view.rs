//! A report in words: every number with its unit, every time as it is read.

use serde::Serialize;

use crate::domain::health::verdict::{CheckStatus, TriggerState, TriggerStatus, Verdict};
use crate::domain::incident::recording::{Change, Log, Recording, SeenContainer, SeenEvent, SeenPod};
use crate::domain::incident::report::{Attempt, AttemptStep, Measure, NamedRelease, Receipt, ReceiptState, Report};
use crate::domain::policy::Condition;
use crate::domain::response::plan::{Outcome, Purpose};
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::Unit;

/// What the templates are given.
#[derive(Serialize)]
pub(super) struct View {
    incident: String,
    workload: String,
    outcome: &'static str,
    tone: &'static str,
    open: bool,
    summary: String,
    trigger: String,
    cause: String,
    severity: String,
    mode: String,
    strategy: String,
    from: Option<Named>,
    to: Option<Named>,
    began: String,
    ended: Option<String>,
    lasted: Option<String>,
    measures: Vec<MeasureLine>,
    evidence: Vec<TriggerLine>,
    recording: Option<RecordingBlock>,
    holds: Vec<HoldLine>,
    forced: Vec<String>,
    attempts: Vec<AttemptBlock>,
    checks: Vec<CheckLine>,
    smoke: Option<SmokeLine>,
    timeline: Vec<Line>,
    alerts: Vec<AlertLine>,
}

#[derive(Serialize)]
struct Named {
    revision: String,
    image: Option<String>,
    since: Option<String>,
}

#[derive(Serialize)]
struct MeasureLine {
    name: &'static str,
    meaning: &'static str,
    value: Option<String>,
    target: String,
    met: Option<bool>,
    /// Share of the target that was used, in percent, at most 100; for the bar.
    share: u32,
}

#[derive(Serialize)]
struct TriggerLine {
    name: String,
    signal: String,
    severity: String,
    state: &'static str,
    value: Option<String>,
    interval: Option<String>,
    bound: Option<String>,
    hold_for: String,
    samples: u64,
    window: String,
    verdict: String,
}

#[derive(Serialize)]
struct RecordingBlock {
    from: Option<String>,
    to: Option<String>,
    changes: Vec<Change>,
    containers: Vec<ContainerLine>,
    events: Vec<EventLine>,
    logs: Vec<LogBlock>,
    missing: Vec<String>,
}

#[derive(Serialize)]
struct ContainerLine {
    pod: String,
    phase: String,
    name: String,
    state: String,
    last_end: Option<String>,
    restarts: u32,
}

#[derive(Serialize)]
struct EventLine {
    at: Option<String>,
    about: String,
    tone: &'static str,
    reason: String,
    message: String,
    count: u32,
}

#[derive(Serialize)]
struct LogBlock {
    title: String,
    lines: Vec<String>,
}

#[derive(Serialize)]
struct HoldLine {
    at: String,
    lasted: Option<String>,
    guard: String,
    reason: String,
}

#[derive(Serialize)]
struct AttemptBlock {
    number: u32,
    purpose: &'static str,
    from: String,
    to: String,
    decided: String,
    deadline: String,
    result: Option<String>,
    lasted: Option<String>,
    proof: Option<String>,
    steps: Vec<StepLine>,
}

#[derive(Serialize)]
struct StepLine {
    title: String,
    timeout: String,
    tone: &'static str,
    outcome: String,
    took: Option<String>,
}

#[derive(Serialize)]
struct CheckLine {
    name: String,
    tone: &'static str,
    verdict: &'static str,
    detail: String,
}

#[derive(Serialize)]
struct SmokeLine {
    passed: bool,
    detail: String,
}

#[derive(Serialize)]
struct Line {
    at: String,
    after: Option<String>,
    tone: &'static str,
    title: String,
    detail: String,
}

#[derive(Serialize)]
struct AlertLine {
    sequence: u64,
    at: String,
    phase: &'static str,
    tone: &'static str,
    summary: String,
    receipts: Vec<String>,
}

impl View {
    pub(super) fn of(report: &Report) -> Self {
        Self {
            incident: report.incident.to_string(),
            workload: report.workload.to_string(),
            outcome: report.outcome.as_str(),
            tone: tone(report.outcome.as_str()),
            open: report.open,
            summary: report.summary.clone(),
            trigger: report.trigger.clone(),
            cause: report.cause.clone(),
            severity: report.severity.to_string(),
            mode: report.mode.to_string(),
            strategy: report.strategy.to_string(),
            from: report.from.as_ref().map(Named::of),
            to: report.to.as_ref().map(Named::of),
            began: moment(report.began),
            ended: report.ended.map(moment),
            lasted: report.ended.map(|ended| ended.since(report.began).rounded()),
            measures: report.measures.iter().map(MeasureLine::of).collect(),
            evidence: report.evidence.iter().map(TriggerLine::of).collect(),
            recording: report.recording.as_ref().map(RecordingBlock::of),
            holds: report
                .holds
                .iter()
                .map(|hold| HoldLine {
                    at: moment(hold.at),
                    lasted: hold.until.map(|until| until.since(hold.at).rounded()),
                    guard: hold.guard.clone(),
                    reason: hold.reason.clone(),
                })
                .collect(),
            forced: report.forced.clone(),
            attempts: report.attempts.iter().map(AttemptBlock::of).collect(),
            checks: report.checks.iter().map(CheckLine::of).collect(),
            smoke: report.smoke.as_ref().map(|smoke| SmokeLine { passed: smoke.passed, detail: smoke.detail.clone() }),
            timeline: report
                .timeline
                .iter()
                .map(|line| Line {
                    at: moment(line.at),
                    after: line.after_s.map(offset),
                    tone: tone(line.event),
                    title: line.title.clone(),
                    detail: line.detail.clone(),
                })
                .collect(),
            alerts: report
                .alerts
                .iter()
                .map(|told| AlertLine {
                    sequence: told.sequence,
                    at: moment(told.at),
                    phase: told.phase.as_str(),
                    tone: tone(told.phase.as_str()),
                    summary: told.summary.clone(),
                    receipts: told.receipts.iter().map(receipt).collect(),
                })
                .collect(),
        }
    }
}

impl Named {
    fn of(release: &NamedRelease) -> Self {
        Self { revision: release.revision.to_string(), image: release.image.clone(), since: release.since.map(moment) }
    }
}

impl MeasureLine {
    fn of(measure: &Measure) -> Self {
        let share = measure.seconds.map_or(0.0, |seconds| (100.0 * seconds / measure.target_s).clamp(1.0, 100.0));
        Self {
            name: measure.name,
            meaning: measure.meaning,
            value: measure.seconds.map(seconds),
            target: seconds(measure.target_s),
            met: measure.is_met(),
            share: share.round() as u32,
        }
    }
}

impl TriggerLine {
    fn of(trigger: &TriggerStatus) -> Self {
        let evidence = &trigger.evidence;
        let unit = evidence.unit;
        Self {
            name: trigger.name.to_string(),
            signal: evidence.signal.to_string(),
            severity: trigger.severity.to_string(),
            state: match trigger.state {
                TriggerState::Inactive => "inactive",
                TriggerState::Pending { .. } => "pending",
                TriggerState::Firing { .. } => "firing",
            },
            value: evidence.value.map(|value| unit.format(value.get())),
            interval: evidence
                .interval
                .map(|(low, high)| format!("{} to {}", unit.format(low.get()), unit.format(high.get()))),
            bound: evidence.condition.map(|condition| bound(condition, unit)),
            hold_for: trigger.hold_for.rounded(),
            samples: evidence.samples,
            window: evidence.window.rounded(),
            verdict: verdict(&evidence.verdict),
        }
    }
}

impl RecordingBlock {
    fn of(recording: &Recording) -> Self {
        let of_pod = |pod: &SeenPod| -> Vec<ContainerLine> {
            let ready = if pod.is_ready { "in service" } else { "not in service" };
            let line = |container: &SeenContainer| ContainerLine {
                pod: pod.name.clone(),
                phase: format!("{}, {ready}", pod.phase),
                name: container.name.clone(),
                state: container.state.clone(),
                last_end: container.last_end.clone(),
                restarts: container.restarts,
            };
            // One that no node took has none yet.
            let bare = || ContainerLine {
                pod: pod.name.clone(),
                phase: format!("{}, {ready}", pod.phase),
                name: String::new(),
                state: "not there yet".to_owned(),
                last_end: None,
                restarts: 0,
            };
            if pod.containers.is_empty() { vec![bare()] } else { pod.containers.iter().map(line).collect() }
        };
        let event = |event: &SeenEvent| EventLine {
            at: event.at.map(moment),
            about: event.about.clone(),
            tone: if event.kind == "Warning" { "bad" } else { "calm" },
            reason: event.reason.clone(),
            message: event.message.clone(),
            count: event.count,
        };
        let log = |log: &Log| {
            let which = if log.is_previous { "before it was started again" } else { "as it ended" };
            let cut = if log.is_cut { ", its last lines" } else { "" };
            LogBlock { title: format!("{} in {}, {which}{cut}", log.container, log.pod), lines: log.lines.clone() }
        };
        Self {
            from: recording.from.as_ref().map(ToString::to_string),
            to: recording.to.as_ref().map(ToString::to_string),
            changes: recording.changes.clone(),
            containers: recording.pods.iter().flat_map(of_pod).collect(),
            events: recording.events.iter().map(event).collect(),
            logs: recording.logs.iter().map(log).collect(),
            missing: recording.missing.clone(),
        }
    }
}

impl AttemptBlock {
    fn of(attempt: &Attempt) -> Self {
        Self {
            number: attempt.number,
            purpose: match attempt.purpose {
                Purpose::First => "to the last known good release",
                Purpose::Retry => "the same release once more",
                Purpose::OlderKnownGood => "one hop to an older known good release",
                Purpose::Whole => "as it was before, for a human to take over",
            },
            from: attempt.from.to_string(),
            to: attempt.to.to_string(),
            decided: moment(attempt.decided),
            deadline: moment(attempt.deadline),
            result: attempt.result.clone(),
            lasted: attempt.ended.map(|ended| ended.since(attempt.decided).rounded()),
            proof: attempt.verifying.zip(attempt.ended).map(|(began, ended)| ended.since(began).rounded()),
            steps: attempt.steps.iter().map(StepLine::of).collect(),
        }
    }
}

impl StepLine {
    fn of(step: &AttemptStep) -> Self {
        let (tone, outcome) = match (&step.outcome, step.started) {
            (Some(Outcome::Applied), _) => ("good", "done".to_owned()),
            (Some(Outcome::AlreadyInEffect), _) => ("good", "was in effect already".to_owned()),
            (Some(Outcome::Conflict(detail)), _) => ("bad", format!("met someone else's change: {detail}")),
            (Some(Outcome::Transient(detail)), _) => ("bad", format!("failed: {detail}")),
            (Some(Outcome::Denied(detail)), _) => ("bad", format!("refused: {detail}")),
            (Some(Outcome::TimedOut(detail)), _) => ("bad", format!("ran out of time: {detail}")),
            (Some(Outcome::NotBegun(detail)), _) => ("bad", format!("not begun: {detail}")),
            (Some(Outcome::Stopped(detail)), _) => ("busy", format!("halted, and still to be done: {detail}")),
            (None, Some(_)) => ("busy", "under way".to_owned()),
            (None, None) => ("calm", "not begun".to_owned()),
        };
        Self {
            title: step.title.clone(),
            timeout: step.timeout.rounded(),
            tone,
            outcome,
            took: step.took().map(Span::rounded),
        }
    }
}

impl CheckLine {
    fn of(check: &CheckStatus) -> Self {
        let (tone, verdict) = match check.verdict {
            Verdict::Ok => ("good", "passed"),
            Verdict::Breach => ("bad", "failed"),
            Verdict::Unknown(_) => ("busy", "not proven"),
        };
        Self { name: check.name.clone(), tone, verdict, detail: check.detail.clone() }
    }
}

/// The colour of a phase or event: good, bad, busy or calm.
pub(crate) fn tone(word: &str) -> &'static str {
    match word {
        "restored" | "approved" => "good",
        "detected" | "failed" | "escalated" => "bad",
        "suspected" | "still-pending" | "held" | "awaiting-approval" | "rejected" => "busy",
        _ => "calm",
    }
}

/// What became of a message for one receiver, in words.
fn receipt(receipt: &Receipt) -> String {
    let Receipt { receiver, state, at, attempts, error } = receipt;
    let at = at.map(|at| format!(" {}", moment(at))).unwrap_or_default();
    let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    match state {
        ReceiptState::Delivered => format!("{receiver}: delivered{at}"),
        ReceiptState::Waiting if *attempts == 0 => format!("{receiver}: waits"),
        ReceiptState::Waiting => format!("{receiver}: still tried, attempts so far {attempts}{error}"),
        ReceiptState::GivenUp => format!("{receiver}: given up{at}{error}"),
    }
}

/// A bound in words.
fn bound(condition: Condition, unit: Unit) -> String {
    condition.describe(unit)
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Ok => "ok".to_owned(),
        Verdict::Breach => "breach".to_owned(),
        Verdict::Unknown(reason) => format!("unknown: {reason}"),
    }
}

/// `2026-11-28 16:29:17.123 UTC`.
pub(crate) fn moment(at: Timestamp) -> String {
    at.to_string().replacen('T', " ", 1).replacen('Z', " UTC", 1)
}

fn seconds(seconds: f64) -> String {
    Span::from_millis((seconds.max(0.0) * 1000.0).round() as u64).rounded()
}

fn offset(after: f64) -> String {
    let sign = if after < 0.0 { '−' } else { '+' };
    format!("{sign}{}", seconds(after.abs()))
}
