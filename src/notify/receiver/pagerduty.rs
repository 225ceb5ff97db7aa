//! PagerDuty's Events API v2: an incident of ours is one of theirs, by its name.
//!
//! The daemon never acknowledges. An acknowledged incident does not page again when it is triggered again, and an
//! escalation must page. What only informs (`started`, `verifying`) is a trigger too: it adds to the log of the incident
//! that is open already. A mere suspicion is not told, since it would page.

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::shorten::shorten;
use super::{RenderError, Rendered};
use crate::config::form;
use crate::domain::incident::alert::{Alert, Phase};
use crate::domain::policy::Severity;

/// PagerDuty's own address.
pub const DEFAULT_URL: &str = "https://events.pagerduty.com/v2/enqueue";

/// Longest summary, in bytes; PagerDuty allows 1024 characters.
const SUMMARY_LIMIT: usize = 1_024;

/// Longest deduplication key, in bytes; PagerDuty allows 255 characters.
const KEY_LIMIT: usize = 255;

/// Longest free text among the details, in bytes; an event may have 512 KiB.
const DETAIL_LIMIT: usize = 8_000;

/// Headers and body; none where PagerDuty is not told of the phase.
///
/// # Errors
/// [`RenderError::Secret`] where the routing key is not one word.
pub fn render(alert: &Alert, routing_key: &SecretString) -> Result<Option<Rendered>, RenderError> {
    let Some(action) = action(alert.phase) else { return Ok(None) };
    let key = form::routing_key(routing_key.expose_secret())?;
    let body = json!({
        "routing_key": key,
        "event_action": action,
        "dedup_key": shorten(alert.incident.as_str(), KEY_LIMIT),
        "client": "rollbackd",
        "payload": {
            "summary": shorten(&alert.summary, SUMMARY_LIMIT),
            "source": alert.workload.as_str(),
            "component": alert.workload.as_str(),
            "class": shorten(&alert.trigger.name, KEY_LIMIT),
            "severity": severity(alert),
            "timestamp": alert.times.restored.or(alert.times.started).or(alert.times.detected).or(alert.times.onset),
            "custom_details": {
                "id": alert.id,
                "phase": alert.phase,
                "mode": alert.mode,
                "strategy": alert.strategy,
                "reason": shorten(&alert.reason, DETAIL_LIMIT),
                "from": alert.from.as_ref().map(|from| from.revision.as_str()),
                "to": alert.to.as_ref().map(|to| to.revision.as_str()),
                "value": alert.trigger.value,
                "threshold": alert.trigger.threshold,
                "samples": alert.trigger.samples,
                "next": shorten(&alert.next.action, DETAIL_LIMIT),
                "stop": shorten(&alert.stop.command, DETAIL_LIMIT),
            },
        },
    });
    Ok(Some(Rendered { headers: Vec::new(), body: body.to_string() }))
}

const fn action(phase: Phase) -> Option<&'static str> {
    match phase {
        Phase::Suspected => None,
        Phase::Detected
        | Phase::Held
        | Phase::AwaitingApproval
        | Phase::Started
        | Phase::Verifying
        | Phase::Failed
        | Phase::Escalated => Some("trigger"),
        Phase::Restored | Phase::Closed => Some("resolve"),
    }
}

const fn severity(alert: &Alert) -> &'static str {
    match (alert.phase, alert.severity) {
        (Phase::Escalated, _) | (_, Severity::Critical) => "critical",
        (_, Severity::Scheduled | Severity::Alert) => "warning",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::notify::receiver::fixture::alert;

    fn rendered(phase: Phase, severity: Severity) -> Option<Value> {
        let mut alert = alert();
        (alert.phase, alert.severity) = (phase, severity);
        let rendered = render(&alert, &SecretString::from("R0UT1NG")).unwrap();
        rendered.map(|rendered| serde_json::from_str(&rendered.body).unwrap())
    }

    #[test]
    fn an_event_reads_as_expected() {
        insta::assert_json_snapshot!(rendered(Phase::Detected, Severity::Critical).unwrap());
    }

    #[test]
    fn each_phase_triggers_or_resolves_one_incident() {
        for phase in Phase::ALL {
            let expected = match phase {
                Phase::Suspected => None,
                Phase::Restored | Phase::Closed => Some("resolve"),
                _ => Some("trigger"),
            };
            let event = rendered(phase, Severity::Critical);
            assert_eq!(event.as_ref().and_then(|e| e["event_action"].as_str()), expected, "{phase}");
            assert!(event.is_none_or(|e| e["dedup_key"] == alert().incident.as_str()), "{phase}");
        }
    }

    #[test]
    fn an_escalation_is_critical_whatever_the_cause() {
        for (phase, severity, expected) in [
            (Phase::Detected, Severity::Critical, "critical"),
            (Phase::Detected, Severity::Scheduled, "warning"),
            (Phase::Held, Severity::Alert, "warning"),
            (Phase::Escalated, Severity::Alert, "critical"),
        ] {
            assert_eq!(rendered(phase, severity).unwrap()["payload"]["severity"], expected, "{phase} {severity}");
        }
    }

    #[test]
    fn texts_stay_within_what_pagerduty_takes() {
        let mut alert = alert();
        alert.summary = "ö".repeat(2000);
        let rendered = render(&alert, &SecretString::from("k")).unwrap().unwrap();
        let body: Value = serde_json::from_str(&rendered.body).unwrap();
        assert!(body["payload"]["summary"].as_str().unwrap().len() <= SUMMARY_LIMIT);
        let error = render(&alert, &SecretString::from("a\nb")).unwrap_err();
        assert_eq!(error.to_string(), "the secret file holds more than a routing key");
    }
}
