//! Alertmanager as a source of triggers: its webhook, format version 4
//! (<https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>).
//!
//! Alertmanager repeats itself: at every change of a group, and every few hours. An alert is taken once, and that is on
//! record; told again, it would overrule a human's no. An alert that began before the release in service did is not that
//! release's. What can't be recorded now is answered with a 503, at which Alertmanager tries again.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use serde::{Deserialize, Serialize};

use super::AppState;
use super::body::Body;
use super::problem::Problem;
use super::write::{KIND_LIMIT, REASON_LIMIT};
use crate::domain::controller::{Refusal, Request as Ask, RequestKind};
use crate::domain::id::WorkloadId;
use crate::domain::time::Timestamp;
use crate::markup;

/// Alerts taken of one call, those that fire before those that are over.
const ALERT_LIMIT: usize = 64;

/// The webhook's body. Fields that nothing is made of are left out; new ones do no harm.
#[derive(Deserialize)]
struct Webhook {
    version: String,
    #[serde(default)]
    receiver: String,
    alerts: Vec<Alert>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    status: String,
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    starts_at: Timestamp,
    #[serde(default)]
    fingerprint: String,
}

impl Alert {
    fn is_firing(&self) -> bool {
        self.status == "firing"
    }
}

/// What became of one alert.
#[derive(Serialize)]
pub(super) struct Taken {
    alert: String,
    workload: Option<String>,
    /// `accepted`, `ignored` or `refused`.
    outcome: &'static str,
    message: String,
}

#[derive(Serialize)]
pub(super) struct AllTaken {
    alerts: Vec<Taken>,
}

/// `POST /api/v1/alertmanager`.
pub(super) async fn webhook(State(state): State<Arc<AppState>>, request: Request) -> Result<Json<AllTaken>, Problem> {
    let Body(body): Body<Webhook> = Body::from_request(request, &()).await?;
    if body.version != "4" {
        return Err(Problem::unprocessable(format!("format version {:?}; 4 is known here", body.version)));
    }
    let by = cut(&format!("alertmanager {}", body.receiver), KIND_LIMIT);
    let mut taken = Vec::with_capacity(body.alerts.len().min(ALERT_LIMIT));
    // Of what is over nothing is made: it takes no place of what is not.
    let firing = body.alerts.iter().filter(|alert| alert.is_firing()).count();
    let mut for_firing = firing.min(ALERT_LIMIT);
    let mut for_over = ALERT_LIMIT - for_firing;
    for alert in &body.alerts {
        let room = if alert.is_firing() { &mut for_firing } else { &mut for_over };
        if *room > 0 {
            *room -= 1;
            taken.push(take(&state, &by, alert).await?);
        }
    }
    // Refused as a whole they would all be lost: Alertmanager sends no message again that it was told is wrong.
    let left = firing.saturating_sub(ALERT_LIMIT);
    if left > 0 {
        tracing::warn!(
            left,
            limit = ALERT_LIMIT,
            "firing alerts of one message from Alertmanager are left out: group them by workload"
        );
    }
    Ok(Json(AllTaken { alerts: taken }))
}

async fn take(state: &AppState, by: &str, alert: &Alert) -> Result<Taken, Problem> {
    let label = |name: &str| alert.labels.get(name).filter(|value| !value.is_empty());
    let name = cut(label("alertname").map_or("unnamed", String::as_str), KIND_LIMIT);
    let workload = label("workload");
    let shown = workload.map(|name| cut(name, KIND_LIMIT));
    let taken = |outcome, message: String| Ok(Taken { alert: name.clone(), workload: shown.clone(), outcome, message });
    if !alert.is_firing() {
        return taken("ignored", "it is not firing".to_owned());
    }
    let Some(workload) = workload else {
        return taken("refused", "it has no label `workload`".to_owned());
    };
    let id = WorkloadId::new(workload);
    let Some(view) = state.engine.view(id.clone()).await? else {
        return taken("refused", format!("no workload {:?}", cut(workload, KIND_LIMIT)));
    };
    let began = (state.of_wall)(alert.starts_at);
    if let Some(current) = view.current.filter(|current| began < current.since) {
        let message = format!("it began at {}, before {} came at {}", alert.starts_at, current.revision, current.since);
        return taken("ignored", message);
    }
    let kind = cut(label("rollbackd_kind").unwrap_or(&name), KIND_LIMIT);
    let key = Some(format!("{kind} {} {}", cut(&alert.fingerprint, KIND_LIMIT), alert.starts_at));
    let said = ["summary", "description", "message"].iter().find_map(|key| alert.annotations.get(*key));
    let reason = cut(said.unwrap_or(&name), REASON_LIMIT);
    let request = Ask { by: by.to_owned(), kind: RequestKind::Trigger { kind, reason, key } };
    match state.engine.ask(id, request).await? {
        Ok(accepted) => taken("accepted", accepted.message),
        Err(refusal @ Refusal::Repeated) => taken("ignored", refusal.to_string()),
        Err(refusal) => {
            let message = refusal.to_string();
            let problem = Problem::from(refusal);
            if problem.is_passing() { Err(problem) } else { taken("refused", message) }
        }
    }
}

/// One line, cut where it is too long: the sender can't be asked to write it shorter.
fn cut(text: &str, limit: usize) -> String {
    let text = markup::plain(text);
    let text = text.trim();
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit - 1).chain(['…']).collect()
}
