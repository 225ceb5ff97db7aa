//! What the daemon can be asked to do. The answer comes once what was asked for is durable.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::AppState;
use super::body::{Body, text};
use super::problem::Problem;
use super::shield::caller;
use crate::domain::controller::{Accepted, Request as Ask, RequestKind};
use crate::domain::id::{IncidentId, RevisionId, WorkloadId};
use crate::domain::incident::record::Record;
use axum::extract::FromRequest;

/// Longest reason, in characters.
pub(super) const REASON_LIMIT: usize = 2_000;

/// Longest kind of a trigger from outside, in characters.
pub(super) const KIND_LIMIT: usize = 64;

/// Longest name of a release, in characters.
const REVISION_LIMIT: usize = 256;

type Name = Result<Path<String>, PathRejection>;
type Answer = Result<(StatusCode, Json<Accepted>), Problem>;

/// What the record says where the caller gives no reason.
const NO_REASON: &str = "no reason given";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollback {
    reason: String,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    force: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Approval {
    #[serde(default)]
    to: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trigger {
    workload: String,
    kind: String,
    reason: String,
}

/// Who asks, and for what.
async fn asked<T: DeserializeOwned>(request: Request) -> Result<(String, T), Problem> {
    let by = caller(request.headers(), request.extensions());
    let Body(body) = Body::from_request(request, &()).await?;
    Ok((by, body))
}

async fn ask(state: &AppState, workload: WorkloadId, by: String, kind: RequestKind) -> Answer {
    let accepted = state.engine.ask(workload, Ask { by, kind }).await??;
    Ok((StatusCode::OK, Json(accepted)))
}

/// `POST /api/v1/workloads/NAME/rollback`.
pub(super) async fn rollback(State(state): State<Arc<AppState>>, name: Name, request: Request) -> Answer {
    let workload = WorkloadId::new(name?.0);
    let (by, body): (_, Rollback) = asked(request).await?;
    let to = release(body.to)?;
    let kind = RequestKind::Rollback { reason: text("reason", &body.reason, REASON_LIMIT)?, to, force: body.force };
    ask(&state, workload, by, kind).await
}

/// `POST /api/v1/workloads/NAME/pause`.
pub(super) async fn pause(State(state): State<Arc<AppState>>, name: Name, request: Request) -> Answer {
    let workload = WorkloadId::new(name?.0);
    let (by, body): (_, Reason) = asked(request).await?;
    ask(&state, workload, by, RequestKind::Pause { reason: reason(body)? }).await
}

/// `POST /api/v1/workloads/NAME/resume`.
pub(super) async fn resume(State(state): State<Arc<AppState>>, name: Name, request: Request) -> Answer {
    let workload = WorkloadId::new(name?.0);
    let (by, Nothing {}) = asked(request).await?;
    ask(&state, workload, by, RequestKind::Resume).await
}

/// `POST /api/v1/incidents/ID/approve`.
pub(super) async fn approve(State(state): State<Arc<AppState>>, id: Name, request: Request) -> Answer {
    let incident = IncidentId::new(id?.0);
    let (by, body): (_, Approval) = asked(request).await?;
    let to = release(body.to)?;
    let workload = workload_of(&state, &incident).await?;
    ask(&state, workload, by, RequestKind::Approve { incident, to }).await
}

/// `POST /api/v1/incidents/ID/reject`.
pub(super) async fn reject(State(state): State<Arc<AppState>>, id: Name, request: Request) -> Answer {
    let incident = IncidentId::new(id?.0);
    let (by, body): (_, Reason) = asked(request).await?;
    let workload = workload_of(&state, &incident).await?;
    ask(&state, workload, by, RequestKind::Reject { incident, reason: reason(body)? }).await
}

/// `POST /api/v1/triggers`.
pub(super) async fn trigger(State(state): State<Arc<AppState>>, request: Request) -> Answer {
    let (by, body): (_, Trigger) = asked(request).await?;
    let kind = RequestKind::Trigger {
        kind: text("kind", &body.kind, KIND_LIMIT)?,
        reason: text("reason", &body.reason, REASON_LIMIT)?,
        key: None,
    };
    ask(&state, WorkloadId::new(body.workload), by, kind).await
}

fn release(named: Option<String>) -> Result<Option<RevisionId>, Problem> {
    Ok(named.map(|to| text("to", &to, REVISION_LIMIT)).transpose()?.map(RevisionId::new))
}

fn reason(body: Reason) -> Result<String, Problem> {
    body.reason.map_or_else(|| Ok(NO_REASON.to_owned()), |given| text("reason", &given, REASON_LIMIT))
}

/// Whose incident it is: open ones are the engine's to know, closed ones the journal's, so that a late word gets a
/// conflict and a wrong name a 404.
async fn workload_of(state: &AppState, incident: &IncidentId) -> Result<WorkloadId, Problem> {
    let views = state.engine.list().await?;
    let is_it = |view: &&crate::domain::controller::WorkloadView| {
        view.incident.as_ref().is_some_and(|open| open.incident == *incident)
    };
    if let Some(view) = views.iter().find(is_it) {
        return Ok(view.workload.clone());
    }
    let records: Vec<Record> = state.history.records(incident.clone()).await?;
    match records.last() {
        None => Err(Problem::not_found(format!("no incident {:?}", incident.as_str()))),
        Some(record) if record.event.ends_incident() => {
            Err(Problem::new(StatusCode::CONFLICT, format!("{incident} is over")))
        }
        Some(record) => Ok(record.workload.clone()),
    }
}
