//! What the daemon tells.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::history::IncidentEntry;
use super::problem::Problem;
use super::{AppState, MOST_INCIDENTS};
use crate::config::model::NO_TOKEN;
use crate::domain::controller::{Explanation, Preview, WorkloadView};
use crate::domain::health::verdict::{UnknownReason, Verdict};
use crate::domain::id::{IncidentId, ReceiverName, WorkloadId};
use crate::domain::incident::record::Record;
use crate::domain::incident::report::{NoReport, Readings, Report};
use crate::domain::policy::{Mode, Severity};
use crate::domain::response::readiness;
use crate::domain::time::Timestamp;
use crate::engine::{Curve, Unavailable};
use crate::report;
use crate::store::{ParkedMessage, Undelivered};
use crate::telemetry::{Exposition, OutboxLevel};

/// How long the engine may take to prove that it turns.
const TURN_LIMIT: Duration = Duration::from_secs(2);

/// Incidents of a list where the caller names no number.
const DEFAULT_LIMIT: usize = 50;

/// Messages that were given up, of which the outbox tells.
const GIVEN_UP_SHOWN: usize = 20;

type Name = Result<Path<String>, PathRejection>;

/// `GET /livez`: the loop turns, and what it waits for answers.
pub(super) async fn livez(State(state): State<Arc<AppState>>) -> Result<&'static str, Problem> {
    turning(&state).await.map(|()| "ok\n")
}

#[derive(Serialize)]
pub(super) struct Ready {
    ready: bool,
    workloads: usize,
    /// What is worth a look though the daemon can do its job.
    warnings: Vec<String>,
}

/// `GET /readyz`: the daemon can do its job, for every workload. A critical trigger that can never fire, because no series
/// matches, is a mistake of the policy and not told in a whisper.
pub(super) async fn readyz(State(state): State<Arc<AppState>>) -> Result<Json<Ready>, Problem> {
    turning(&state).await?;
    let views = all_workloads(&state).await?;
    if state.metrics.is_journal_broken() {
        let why = views.iter().find_map(|view| Some(view.standstill.as_ref()?.reason.as_str()));
        let why = why.unwrap_or("the journal can't be written");
        return Err(Problem::unavailable(format!("{why}; nothing is rolled back until it can be")));
    }
    let unwatched =
        views.iter().filter_map(|view| Some(format!("{}: {}", view.workload, view.standstill.as_ref()?.reason)));
    let dead: Vec<String> = unwatched.chain(views.iter().flat_map(dead_triggers)).collect();
    if !dead.is_empty() {
        return Err(Problem::unavailable(dead.join("; ")));
    }
    let warnings = without_token(&state, &views).into_iter().chain(views.iter().flat_map(warnings)).collect();
    Ok(Json(Ready { ready: true, workloads: views.len(), warnings }))
}

async fn turning(state: &AppState) -> Result<(), Problem> {
    match tokio::time::timeout(TURN_LIMIT, state.engine.ping()).await {
        Ok(answer) => answer?.map_or(Ok(()), |hangs| Err(Problem::unavailable(hangs.to_string()))),
        Err(_) => Err(Problem::unavailable("the engine does not answer")),
    }
}

fn dead_triggers(view: &WorkloadView) -> impl Iterator<Item = String> + '_ {
    view.assessment.triggers.iter().filter(|trigger| trigger.severity == Severity::Critical).filter_map(|trigger| {
        match &trigger.evidence.verdict {
            Verdict::Unknown(reason @ UnknownReason::NoSuchSeries { .. }) => {
                Some(format!("{}: trigger {:?} can't be judged: {reason}", view.workload, trigger.name.as_str()))
            }
            Verdict::Unknown(_) | Verdict::Ok | Verdict::Breach => None,
        }
    })
}

/// A daemon that may change something, and that nobody can stop through this server.
pub(super) fn without_token(state: &AppState, views: &[WorkloadView]) -> Option<String> {
    let acts = views.iter().any(|view| view.mode != Mode::Observe);
    (acts && !state.token.is_set_up()).then(|| NO_TOKEN.to_owned())
}

fn warnings(view: &WorkloadView) -> impl Iterator<Item = String> + '_ {
    let blind = view.assessment.blind.as_ref().map(|blind| format!("{}: blind: {}", view.workload, blind.reason));
    let goal = view.no_goal.as_ref().map(|hold| format!("{}: no goal: {hold}", view.workload));
    let lacks = readiness::lacks(&view.readiness);
    let lacks = lacks.map(|(need, why)| format!("{}: could not be rolled back now: {need}: {why}", view.workload));
    let left = readiness::left_over(&view.readiness).map(|why| format!("{}: {why}", view.workload));
    blind.into_iter().chain(goal).chain(lacks).chain(left)
}

/// All workloads, with what was found last of what a rollback needs.
pub(super) async fn all_workloads(state: &AppState) -> Result<Vec<WorkloadView>, Unavailable> {
    let mut views = state.engine.list().await?;
    views.iter_mut().for_each(|view| view.readiness = state.metrics.readiness(&view.workload));
    Ok(views)
}

/// Which of several replicas acts.
#[derive(Serialize)]
pub(super) struct Standing {
    /// `alone`, `leader` or `standby`: this one's role.
    role: &'static str,
    /// Who acts, where that is known and there are several.
    leader: Option<String>,
}

/// `GET /api/v1/leadership`.
pub(super) async fn leadership(State(state): State<Arc<AppState>>) -> Json<Standing> {
    Json(Standing { role: state.leadership.role().as_str(), leader: state.leadership.leader() })
}

/// Messages that wait for their receivers, and the newest of those that were given up.
#[derive(Serialize)]
pub(super) struct Outbox {
    waiting: u64,
    oldest_s: f64,
    undelivered: Vec<Undelivered>,
    parked: u64,
    given_up: Vec<GivenUp>,
}

#[derive(Serialize)]
struct GivenUp {
    message: String,
    receiver: ReceiverName,
    at: Timestamp,
    attempts: u32,
    why: String,
}

/// `GET /api/v1/outbox`.
pub(super) async fn outbox(State(state): State<Arc<AppState>>) -> Result<Json<Outbox>, Problem> {
    let level = state.history.outbox((state.now)()).await?;
    let undelivered = state.history.undelivered().await?;
    let given_up = state.history.given_up(GIVEN_UP_SHOWN).await?;
    let given_up = given_up.into_iter().map(|ParkedMessage { id: message, receiver, at, attempts, why }| GivenUp {
        message,
        receiver,
        at,
        attempts,
        why,
    });
    let OutboxLevel { waiting, parked, oldest_seconds: oldest_s } = level;
    Ok(Json(Outbox { waiting, oldest_s, undelivered, parked, given_up: given_up.collect() }))
}

/// `GET /metrics`, in the dialect that the caller accepts.
pub(super) async fn metrics(State(state): State<Arc<AppState>>, headers: HeaderMap) -> Response {
    state.metrics.set_leading(state.leadership.role().term().is_some());
    if let Ok(Ok(views)) = tokio::time::timeout(TURN_LIMIT, state.engine.list()).await {
        state.metrics.set_workloads(&views);
    }
    match tokio::time::timeout(TURN_LIMIT, state.history.outbox((state.now)())).await {
        Ok(Ok(level)) => state.metrics.set_outbox(level),
        Ok(Err(error)) => tracing::warn!(error = &error as &dyn std::error::Error, "the outbox could not be counted"),
        Err(_) => tracing::warn!(limit = ?TURN_LIMIT, "the outbox could not be counted in time"),
    }
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let exposition = Exposition::accepted(&accept.collect::<Vec<_>>().join(","));
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static(exposition.content_type()));
    let varies = (header::VARY, HeaderValue::from_static("accept"));
    ([kind, varies], state.metrics.encode(exposition)).into_response()
}

/// `GET /api/v1/workloads`.
pub(super) async fn workloads(State(state): State<Arc<AppState>>) -> Result<Json<Vec<WorkloadView>>, Problem> {
    Ok(Json(all_workloads(&state).await?))
}

fn workload_id(name: Name) -> Result<WorkloadId, Problem> {
    Ok(WorkloadId::new(name?.0))
}

fn no_workload(id: &WorkloadId) -> Problem {
    Problem::not_found(format!("no workload {:?}", id.as_str()))
}

/// `GET /api/v1/workloads/NAME`.
pub(super) async fn workload(State(state): State<Arc<AppState>>, name: Name) -> Result<Json<WorkloadView>, Problem> {
    let id = workload_id(name)?;
    let view = state.engine.view(id.clone()).await?.ok_or_else(|| no_workload(&id))?;
    Ok(Json(WorkloadView { readiness: state.metrics.readiness(&id), ..view }))
}

/// `GET /api/v1/workloads/NAME/explain`.
pub(super) async fn explain(State(state): State<Arc<AppState>>, name: Name) -> Result<Json<Explanation>, Problem> {
    let id = workload_id(name)?;
    state.engine.explain(id.clone()).await?.map(Json).ok_or_else(|| no_workload(&id))
}

/// `GET /api/v1/workloads/NAME/plan`.
pub(super) async fn plan(State(state): State<Arc<AppState>>, name: Name) -> Result<Json<Preview>, Problem> {
    let id = workload_id(name)?;
    match state.engine.preview(id.clone()).await? {
        Some(preview) => {
            state.metrics.set_readiness(&preview);
            Ok(Json(preview))
        }
        None => match state.engine.view(id.clone()).await?.and_then(|view| view.standstill) {
            Some(standstill) => Err(Problem::unavailable(format!("{id}: {}", standstill.reason))),
            None => Err(no_workload(&id)),
        },
    }
}

/// Which incidents to list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    workload: Option<String>,
    limit: Option<usize>,
    before: Option<String>,
}

/// `GET /api/v1/incidents`.
pub(super) async fn incidents(
    State(state): State<Arc<AppState>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Vec<IncidentEntry>>, Problem> {
    let Query(which) = which?;
    let limit = which.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=usize::from(MOST_INCIDENTS)).contains(&limit) {
        return Err(Problem::bad_request(format!("`limit` must be 1 to {MOST_INCIDENTS}")));
    }
    let (workload, before) = (which.workload.map(WorkloadId::new), which.before.map(IncidentId::new));
    let mut found = state.history.incidents(workload, limit, before).await?;
    correct_open(&state, &mut found).await?;
    Ok(Json(found))
}

/// An open incident's phase is what the engine says: the name of its last record leaves room for doubt.
pub(super) async fn correct_open(state: &AppState, entries: &mut [IncidentEntry]) -> Result<(), Problem> {
    if !entries.iter().any(|entry| entry.open) {
        return Ok(());
    }
    let views = state.engine.list().await?;
    for entry in entries.iter_mut().filter(|entry| entry.open) {
        let open = views.iter().filter_map(|view| view.incident.as_ref());
        if let Some(view) = open.into_iter().find(|view| view.incident == entry.incident) {
            entry.phase = view.phase;
        }
    }
    Ok(())
}

/// An incident with all its records.
#[derive(Serialize)]
pub(super) struct IncidentDetail {
    #[serde(flatten)]
    report: Report,
    records: Vec<Record>,
}

/// `GET /api/v1/incidents/ID`.
pub(super) async fn incident(State(state): State<Arc<AppState>>, id: Name) -> Result<Json<IncidentDetail>, Problem> {
    let id = IncidentId::new(id?.0);
    let records = records_of(&state, &id).await?;
    let report = tell(&records, Readings::default())?.with_receipts(state.history.receipts(id).await?);
    Ok(Json(IncidentDetail { report, records }))
}

async fn records_of(state: &AppState, id: &IncidentId) -> Result<Vec<Record>, Problem> {
    let records = state.history.records(id.clone()).await?;
    if records.is_empty() {
        return Err(Problem::not_found(format!("no incident {:?}", id.as_str())));
    }
    Ok(records)
}

fn tell(records: &[Record], readings: Readings) -> Result<Report, Problem> {
    Report::from_records(records, readings).map_err(|error| match error {
        NoReport::NoRecord => Problem::not_found(error.to_string()),
        NoReport::Illegal(_) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    })
}

#[derive(Clone, Copy, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Md,
    Html,
    Json,
}

/// How a report is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    format: Format,
}

/// `GET /api/v1/incidents/ID/report`.
pub(super) async fn report(
    State(state): State<Arc<AppState>>,
    id: Name,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let (id, Query(wanted)) = (IncidentId::new(id?.0), wanted?);
    let records = records_of(&state, &id).await?;
    let receipts = state.history.receipts(id.clone()).await?;
    let mut readings = state.history.readings(id).await?;
    if let (true, Some(first)) = (readings.signals.is_empty(), records.first()) {
        // An incident whose readings were not put aside yet: what is remembered has it, while it is young.
        let curves = state.engine.curves(first.workload.clone()).await.unwrap_or_default();
        readings.signals = curves.into_iter().map(|Curve { signal, points, .. }| (signal, points)).collect();
    }
    let told = tell(&records, readings)?.with_receipts(receipts);
    let (kind, text) = match wanted.format {
        Format::Md => ("text/markdown; charset=utf-8", report::markdown(&told)),
        Format::Html => ("text/html; charset=utf-8", report::html(&told)),
        Format::Json => ("application/json", report::json(&told)),
    };
    let text = text.map_err(|error| Problem::internal(&error))?;
    let kind: (HeaderName, &str) = (header::CONTENT_TYPE, kind);
    Ok(([kind], text).into_response())
}
