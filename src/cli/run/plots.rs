//! Keeps the signals' values around an incident, for its report's plots: saved when the trigger fires and when it is over.

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::clock::Turns;
use crate::domain::id::{IncidentId, WorkloadId};
use crate::domain::incident::alert::{Alert, Phase};
use crate::engine::Handle;
use crate::store::{Point, Store};
use crate::telemetry::Announcement;

/// Saves the curves of every incident until `stop`.
pub(super) async fn keep(
    engine: Handle,
    store: Store,
    mut events: broadcast::Receiver<Announcement>,
    turns: Turns,
    stop: CancellationToken,
) {
    let work = async {
        loop {
            match turns.while_waiting(events.recv()).await {
                Ok(event) => {
                    if let Some(alert) = worth_a_plot(&event) {
                        save(&engine, &store, &alert.workload, &alert.incident).await;
                    }
                }
                // What was missed costs a plot some of its points, nothing else.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    };
    stop.run_until_cancelled(work).await;
    stop.cancelled().await;
}

fn worth_a_plot(event: &Announcement) -> Option<Alert> {
    if event.kind != "alert" {
        return None;
    }
    let alert: Alert = serde_json::from_str(&event.data).ok()?;
    match alert.phase {
        Phase::Detected | Phase::Restored | Phase::Escalated | Phase::Closed => Some(alert),
        Phase::Suspected
        | Phase::Held
        | Phase::AwaitingApproval
        | Phase::Started
        | Phase::Verifying
        | Phase::Failed => None,
    }
}

async fn save(engine: &Handle, store: &Store, workload: &WorkloadId, incident: &IncidentId) {
    let Ok(curves) = engine.curves(workload.clone()).await else { return };
    let points: Vec<Point> = curves
        .into_iter()
        .flat_map(|curve| {
            let signal = curve.signal;
            curve
                .points
                .into_iter()
                .filter_map(move |(at, value)| Some(Point { signal: signal.clone(), at, value: value? }))
        })
        .collect();
    if let Err(error) = store.save_points(incident, points).await {
        tracing::warn!(incident = incident.as_str(), %error, "the report will have no plot");
    }
}
