//! Alertmanager's API v2: an incident is an alert that fires from its onset until it is restored or closed.
//!
//! The labels are the alert's identity there. Since severity is one of them (people route by it), each message also ends
//! the alerts of the other severities that messages before it let fire: an incident that grew graver leaves nothing behind. A
//! mere suspicion is not told, nor the end of what never fired.

use serde_json::{Value, json};

use super::Rendered;
use super::shorten::shorten;
use crate::domain::incident::alert::{Alert, Phase};
use crate::domain::policy::Severity;
use crate::domain::time::{Span, Timestamp};

/// Under the receiver's base URL.
pub const PATH: &str = "/api/v2/alerts";

/// How long an alert of the outbox fires where nothing more is heard. Alertmanager would end it after five minutes by
/// itself, and an incident that waits for a human can wait long; a daemon that is gone for good is forgotten after this.
pub const FIRES_FOR: Span = Span::from_secs(30 * 24 * 3600);

/// Longest annotation, in bytes.
const ANNOTATION_LIMIT: usize = 4_000;

/// Headers and body; none where Alertmanager is not told of the phase. Where nothing more is heard, the alert ends
/// `fires_for` after `now`.
#[must_use]
pub fn render(alert: &Alert, now: Timestamp, fires_for: Span) -> Option<Rendered> {
    if alert.phase == Phase::Suspected {
        return None;
    }
    let firing = Some(alert.severity).filter(|_| alert.phase.is_wrong());
    // Alertmanager refuses an alert that ends before it starts.
    let starts = alert.times.onset.or(alert.times.detected).unwrap_or(now).min(now);
    let alerts: Vec<Value> = [Severity::Critical, Severity::Scheduled, Severity::Alert]
        .into_iter()
        .filter(|severity| Some(*severity) == firing || alert.earlier_severities.contains(severity))
        .map(|severity| {
            let ends = if Some(severity) == firing { now + fires_for } else { now };
            json!({
                "labels": {
                    "alertname": "RollbackdIncident",
                    "workload": alert.workload.as_str(),
                    "incident": alert.incident.as_str(),
                    "severity": severity.to_string(),
                },
                "annotations": annotations(alert),
                "startsAt": starts,
                "endsAt": ends,
            })
        })
        .collect();
    (!alerts.is_empty()).then(|| Rendered { headers: Vec::new(), body: Value::from(alerts).to_string() })
}

fn annotations(alert: &Alert) -> Value {
    let text = |text: &str| shorten(text, ANNOTATION_LIMIT);
    let revision = |name: Option<&str>| name.map_or_else(String::new, text);
    json!({
        "summary": text(&alert.summary),
        "description": text(&alert.reason),
        "phase": alert.phase,
        "trigger": text(&alert.trigger.name),
        "mode": alert.mode,
        "strategy": alert.strategy,
        "from": revision(alert.from.as_ref().map(|from| from.revision.as_str())),
        "to": revision(alert.to.as_ref().map(|to| to.revision.as_str())),
        "next": text(&alert.next.action),
        "stop": text(&alert.stop.command),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::receiver::fixture::alert;

    fn now() -> Timestamp {
        serde_json::from_str("\"2026-01-02T03:10:00Z\"").unwrap()
    }

    fn rendered(phase: Phase) -> Option<Value> {
        let alert = Alert { phase, ..alert() };
        let rendered = render(&alert, now(), FIRES_FOR);
        rendered.map(|rendered| serde_json::from_str(&rendered.body).unwrap())
    }

    #[test]
    fn an_alert_reads_as_expected() {
        insta::assert_json_snapshot!(rendered(Phase::Detected).unwrap());
    }

    #[test]
    fn each_phase_fires_or_ends_it() {
        for phase in Phase::ALL {
            let expected = match phase {
                Phase::Suspected => None,
                Phase::Restored | Phase::Closed => Some("2026-01-02T03:10:00.000Z"),
                _ => Some("2026-02-01T03:10:00.000Z"),
            };
            let alerts = rendered(phase);
            assert_eq!(alerts.as_ref().and_then(|alerts| alerts[0]["endsAt"].as_str()), expected, "{phase}");
            let others = alerts.iter().flat_map(|alerts| [&alerts[1], &alerts[2]]);
            assert!(others.into_iter().all(|other| other["endsAt"] == "2026-01-02T03:10:00.000Z"), "{phase}");
        }
    }

    #[test]
    fn only_what_fired_is_ended() {
        use Severity::{Alert as Told, Critical, Scheduled};
        for (phase, earlier, expected) in [
            (Phase::Detected, &[][..], &[("critical", true)][..]),
            (Phase::Detected, &[Told], &[("critical", true), ("alert", false)]),
            (Phase::Held, &[Critical, Scheduled], &[("critical", true), ("scheduled", false)]),
            (Phase::Restored, &[Critical], &[("critical", false)]),
            (Phase::Closed, &[Told], &[("alert", false)]),
            (Phase::Closed, &[], &[]),
            (Phase::Suspected, &[Told], &[]),
        ] {
            let alert = Alert { phase, earlier_severities: earlier.iter().copied().collect(), ..alert() };
            let rendered = render(&alert, now(), FIRES_FOR);
            let body: Value = rendered.map_or(json!([]), |rendered| serde_json::from_str(&rendered.body).unwrap());
            let told = body.as_array().unwrap().iter().map(|one| {
                let fires = one["endsAt"] != "2026-01-02T03:10:00.000Z";
                (one["labels"]["severity"].as_str().unwrap(), fires)
            });
            assert_eq!(told.collect::<Vec<_>>(), expected, "{phase} after {earlier:?}");
        }
    }

    #[test]
    fn an_alert_never_ends_before_it_starts() {
        let mut alert = alert();
        alert.times.onset = Some(now() + Span::from_secs(5));
        let rendered = render(&alert, now(), FIRES_FOR).unwrap();
        let body: Value = serde_json::from_str(&rendered.body).unwrap();
        assert_eq!(body[1]["startsAt"], body[1]["endsAt"]);
    }
}
