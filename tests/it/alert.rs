//! A message for tests that need one.

use rollbackd::domain::incident::alert::Alert;

/// A complete message of the given incident and position.
pub(crate) fn alert(incident: &str, sequence: u64) -> Alert {
    let json = serde_json::json!({
        "schema": "rollbackd/alert/v1", "id": format!("{incident}_{sequence}"), "sequence": sequence,
        "incident": incident, "workload": "api", "phase": "detected", "severity": "critical", "mode": "enforce",
        "trigger": {"name": "error rate", "signal": "error_rate", "value": 0.41, "threshold": 0.1, "for_s": 300.0,
                    "window_s": 60.0, "samples": 5321},
        "from": {"revision": "v2", "image": "/srv/api/releases/v2", "since": "2026-01-02T03:00:00.000Z"},
        "to": {"revision": "v1", "image": null, "known_good_since": "2026-01-01T00:00:00.000Z"},
        "strategy": "direct", "reason": "error rate 41 % > 10 % for 5m", "times": {"onset": "2026-01-02T03:04:05.000Z"},
        "next": {"action": "roll back", "deadline": null}, "stop": {"command": "rollbackd pause api"},
        "summary": "api: error rate 41 % > 10 % for 5m on v2; rolling back to v1"
    });
    serde_json::from_value(json).expect("the message is valid")
}
