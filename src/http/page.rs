//! The page at `/`: every workload at a glance, as plain HTML that needs no script and loads nothing.

use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde::Serialize;

use super::AppState;
use super::history::IncidentEntry;
use super::problem::Problem;
use super::read::{all_workloads, correct_open, without_token};
use crate::domain::controller::{IncidentView, WorkloadView};
use crate::domain::health::verdict::{TriggerState, TriggerStatus, Verdict};
use crate::domain::response::readiness;
use crate::domain::time::{Span, Timestamp};
use crate::engine::ports::Role;
use crate::{markup, report};

/// Incidents on the page.
const INCIDENTS_SHOWN: usize = 15;

/// Workloads on the page in full; of more, the ones with something going on come first.
const WORKLOADS_SHOWN: usize = 200;

static ENVIRONMENT: LazyLock<Result<Environment<'static>, minijinja::Error>> =
    LazyLock::new(|| markup::environment(&[("page.html", include_str!("page.html.j2"))]));

#[derive(Serialize)]
struct Workload {
    name: String,
    mode: String,
    strategy: String,
    state: String,
    tone: &'static str,
    release: Option<String>,
    since: Option<String>,
    goal: Option<String>,
    no_goal: Option<String>,
    /// What a rollback there is known to lack.
    lacks: Vec<String>,
    paused: Option<String>,
    blind: Option<String>,
    incident: Option<Open>,
    triggers: Vec<Trigger>,
}

#[derive(Serialize)]
struct Open {
    id: String,
    phase: &'static str,
    tone: &'static str,
    cause: String,
    hold: Option<String>,
    trouble: Option<String>,
}

#[derive(Serialize)]
struct Trigger {
    name: String,
    severity: String,
    state: String,
    tone: &'static str,
    value: Option<String>,
    bound: Option<String>,
    samples: u64,
    verdict: String,
}

#[derive(Serialize)]
struct Past {
    id: String,
    workload: String,
    phase: &'static str,
    tone: &'static str,
    began: String,
    lasted: String,
}

/// `GET /`.
pub(super) async fn page(State(state): State<Arc<AppState>>) -> Result<Response, Problem> {
    let now = (state.now)();
    let mut views = all_workloads(&state).await?;
    views.sort_by_key(|view| (view.incident.is_none(), view.assessment.blind.is_none()));
    let left_out = views.len().saturating_sub(WORKLOADS_SHOWN);
    let workloads: Vec<Workload> = views.iter().take(WORKLOADS_SHOWN).map(|view| Workload::of(view, now)).collect();
    let mut past = state.history.incidents(None, INCIDENTS_SHOWN, None).await?;
    correct_open(&state, &mut past).await?;
    let past: Vec<Past> = past.iter().map(|entry| Past::of(entry, now)).collect();
    let context = context! {
        style => Value::from_safe_string(report::STYLE.to_owned()),
        now => report::moment(now),
        version => env!("CARGO_PKG_VERSION"),
        warning => without_token(&state, &views),
        standby => standby(&state),
        standstill => standstill(&state, &views),
        workloads => Value::from(Serde(workloads)),
        left_out => left_out,
        incidents => Value::from(Serde(past)),
    };
    let environment = ENVIRONMENT.as_ref().map_err(|error| Problem::internal(error))?;
    let text = environment
        .get_template("page.html")
        .and_then(|template| template.render(context))
        .map_err(|error| Problem::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response())
}

/// That nothing is begun, since when and why.
fn standstill(state: &AppState, views: &[WorkloadView]) -> Option<String> {
    let mut standing = views.iter().filter_map(|view| Some((view, view.standstill.as_ref()?)));
    match standing.next() {
        Some((view, still)) => {
            let others = standing.count();
            let whose = match others {
                _ if others + 1 == views.len() => String::new(),
                0 => format!(" for {}", view.workload),
                others => format!(" for {} and {others} more", view.workload),
            };
            Some(format!("Nothing is done{whose} since {}: {}.", report::moment(still.since), still.reason))
        }
        None => state.metrics.is_journal_broken().then(|| "The journal can't be written: nothing is done.".to_owned()),
    }
}

/// Who acts instead, where this is a replica that stands by.
fn standby(state: &AppState) -> Option<String> {
    match state.leadership.role() {
        Role::Alone | Role::Leader { .. } => None,
        Role::Standby { leader: Some(leader) } => Some(format!("This replica stands by: {leader} leads.")),
        Role::Standby { leader: None } => Some("This replica stands by, and nobody leads.".to_owned()),
    }
}

impl Workload {
    fn of(view: &WorkloadView, now: Timestamp) -> Self {
        let (state, tone) = state(view);
        Self {
            name: view.workload.to_string(),
            mode: view.mode.to_string(),
            strategy: view.strategy.to_string(),
            state,
            tone,
            release: view.release_in_words(),
            since: view.current.as_ref().map(|current| ago(current.since, now)),
            goal: view.goal.as_ref().map(|goal| goal.revision.to_string()),
            no_goal: view.no_goal.as_ref().map(ToString::to_string),
            lacks: readiness::lacks(&view.readiness).map(|(need, why)| format!("{need}: {why}")).collect(),
            paused: view
                .paused
                .as_ref()
                .map(|pause| format!("by {}, {}: {}", pause.by, ago(pause.since, now), pause.reason)),
            blind: view.assessment.blind.as_ref().map(|blind| format!("{}, {}", ago(blind.since, now), blind.reason)),
            incident: view.incident.as_ref().map(Open::of),
            triggers: view.assessment.told().map(|(name, trigger)| Trigger::of(name, trigger)).collect(),
        }
    }
}

/// The workload in a word, and its colour.
fn state(view: &WorkloadView) -> (String, &'static str) {
    match (&view.incident, &view.assessment.blind) {
        _ if view.standstill.is_some() => ("nothing is done".to_owned(), "bad"),
        (Some(incident), _) => (incident.phase.to_string(), report::tone(incident.phase.as_str())),
        (None, Some(_)) => ("blind".to_owned(), "bad"),
        (None, None) if view.is_release_unread() => ("release unknown".to_owned(), "bad"),
        (None, None) if view.paused.is_some() => ("paused".to_owned(), "busy"),
        (None, None) if view.assessment.healthy && view.current.is_some() => ("healthy".to_owned(), "good"),
        (None, None) => ("not judged yet".to_owned(), "calm"),
    }
}

impl Open {
    fn of(incident: &IncidentView) -> Self {
        Self {
            id: incident.incident.to_string(),
            phase: incident.phase.as_str(),
            tone: report::tone(incident.phase.as_str()),
            cause: incident.cause.clone(),
            hold: incident.hold.as_ref().map(ToString::to_string),
            trouble: incident.trouble.clone(),
        }
    }
}

impl Trigger {
    fn of(name: String, trigger: &TriggerStatus) -> Self {
        let evidence = &trigger.evidence;
        let (state, tone) = match trigger.state {
            TriggerState::Inactive => ("inactive".to_owned(), "calm"),
            TriggerState::Pending { held, .. } => {
                (format!("pending {} of {}", held.rounded(), trigger.hold_for.rounded()), "busy")
            }
            TriggerState::Firing { .. } => ("firing".to_owned(), "bad"),
        };
        Self {
            name,
            severity: trigger.severity.to_string(),
            state,
            tone,
            value: evidence.value.map(|value| evidence.unit.format(value.get())),
            bound: evidence.condition.map(|condition| condition.describe(evidence.unit)),
            samples: evidence.samples,
            verdict: match &evidence.verdict {
                Verdict::Ok => "ok".to_owned(),
                Verdict::Breach => "breach".to_owned(),
                Verdict::Unknown(reason) => format!("unknown: {reason}"),
            },
        }
    }
}

impl Past {
    fn of(entry: &IncidentEntry, now: Timestamp) -> Self {
        let end = if entry.open { now } else { entry.updated };
        Self {
            id: entry.incident.to_string(),
            workload: entry.workload.to_string(),
            phase: entry.phase.as_str(),
            tone: report::tone(entry.phase.as_str()),
            began: report::moment(entry.began),
            lasted: end.since(entry.began).rounded(),
        }
    }
}

/// How long ago, to the minute past the first one and to the hour past the first day.
fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(at).as_millis() / 1_000;
    let step = match seconds {
        0..60 => 1,
        60..86_400 => 60,
        _ => 3_600,
    };
    format!("{} ago", Span::from_secs(seconds / step * step))
}
