//! What the daemon says of itself: metrics, one log line for each change of state, and the stream of events.

mod exposition;
mod log;
mod metrics;
mod process;
mod stream;

use std::sync::Arc;

use crate::domain::incident::alert::{Alert, Phase};
use crate::domain::incident::record::{Event, Record};
use crate::domain::response::plan::Purpose;
use crate::domain::time::Span;
use crate::engine::ports::{Batch, JournalError, Witness};

pub use exposition::Exposition;
pub use log::{LogFormat, LogSetupError, init};
pub use metrics::{Metrics, OutboxLevel};
pub use stream::{Announcement, LIVE_QUEUE, NotAPosition, Position, Stream};

/// Tells of everything that became durable. Never blocks.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Arc<Metrics>,
    stream: Stream,
}

impl Telemetry {
    /// Counts in `metrics` and announces on `stream`.
    #[must_use]
    pub const fn new(metrics: Arc<Metrics>, stream: Stream) -> Self {
        Self { metrics, stream }
    }
}

impl Witness for Telemetry {
    fn committed(&self, batch: &Batch) {
        for record in &batch.records {
            log_record(record);
            self.metrics.record(record);
            self.stream.announce_record(record);
        }
        for notice in &batch.notices {
            let alert = &notice.alert;
            self.metrics.transition(alert);
            if alert.phase == Phase::Started && batch.records.iter().any(|record| is_first_plan(record, alert)) {
                self.metrics.decided(alert);
            }
            tracing::info!(
                workload = alert.workload.as_str(),
                incident = alert.incident.as_str(),
                phase = alert.phase.as_str(),
                severity = %alert.severity,
                trigger = alert.trigger.name,
                from = alert.from.as_ref().map(|from| from.revision.as_str()),
                to = alert.to.as_ref().map(|to| to.revision.as_str()),
                reason = alert.reason,
                "incident"
            );
            self.stream.announce("alert", || serde_json::to_string(alert));
        }
    }

    fn journal(&self, error: Option<&JournalError>) {
        self.metrics.journal_broken(error.is_some());
        let state = serde_json::json!({ "broken": error.is_some(), "reason": error.map(ToString::to_string) });
        self.stream.announce("journal", || Ok(state.to_string()));
    }

    fn lag(&self, lag: Span) {
        self.metrics.set_lag(lag);
    }
}

/// Whether this record is the decision that the message tells of.
fn is_first_plan(record: &Record, alert: &Alert) -> bool {
    record.incident.as_ref() == Some(&alert.incident)
        && matches!(&record.event, Event::Planned { plan, .. } if plan.purpose == Purpose::First)
}

/// Facts that no message tells of. The incident's own transitions are logged by their message.
fn log_record(record: &Record) {
    let workload = record.workload.as_str();
    let incident = record.incident.as_ref().map(|incident| incident.as_str());
    match &record.event {
        Event::ReleaseObserved { revision, previous, by_rollback, .. } => tracing::info!(
            workload,
            revision = revision.as_str(),
            previous = previous.as_ref().map(|previous| previous.as_str()),
            by_rollback,
            "release observed"
        ),
        Event::KnownGood { revision, since } => {
            tracing::info!(workload, revision = revision.as_str(), %since, "release known good");
        }
        Event::SettingsKept { revision, settings } => {
            let unkept =
                settings.iter().filter_map(|kept| Some(format!("{}: {}", kept.setting, kept.unkept.as_ref()?)));
            let unkept = unkept.collect::<Vec<_>>().join("; ");
            tracing::info!(workload, revision = revision.as_str(), kept = settings.len(), unkept, "settings kept");
        }
        Event::Paused { by, reason } => tracing::warn!(workload, by, reason, "paused"),
        Event::Resumed { by } => tracing::info!(workload, by, "resumed"),
        Event::OwnerPutBack { owner, outcome, .. } => match outcome.why() {
            None => tracing::info!(workload, %owner, ?outcome, "owner put back"),
            Some(why) => tracing::warn!(workload, %owner, why, "owner not put back"),
        },
        Event::Approved { by } => tracing::info!(workload, incident, by, "approved"),
        Event::Rejected { by, reason } => tracing::info!(workload, incident, by, reason, "rejected"),
        Event::Continued { .. } => tracing::info!(workload, incident, "goes on"),
        Event::StepStarted { step } => tracing::info!(workload, incident, step = step + 1, "step started"),
        Event::StepFinished { step, outcome } => {
            tracing::info!(workload, incident, step = step + 1, ?outcome, "step finished");
        }
        Event::SmokeFinished { passed, detail } => {
            tracing::info!(workload, incident, passed, detail, "smoke test finished");
        }
        Event::Recorded { recording } => {
            let missing = recording.missing.join("; ");
            tracing::info!(workload, incident, pods = recording.pods.len(), missing, "kept what there was to see");
        }
        Event::SmokeStarted
        | Event::StillPending { .. }
        | Event::FoundBeside { .. }
        | Event::Suspected { .. }
        | Event::Detected { .. }
        | Event::Refused { .. }
        | Event::Held { .. }
        | Event::Planned { .. }
        | Event::Verifying
        | Event::Restored { .. }
        | Event::Failed { .. }
        | Event::Escalated { .. }
        | Event::Closed { .. } => {}
    }
}
