//! What each sort of receiver wants to be sent: pure, from the alert to headers and body.

pub mod alertmanager;
pub mod pagerduty;
mod shorten;
pub mod slack;
pub mod webhook;

use crate::config::form::Malformed;

/// A request's own part: what the receiver's address and credentials do not decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Beside the content type, which is JSON always.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: String,
}

/// Why an alert can't be rendered. Free of secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The secret file holds something else.
    #[error("the secret file {0}")]
    Secret(&'static str),
    /// It does not become JSON.
    #[error("the alert can't be written as JSON")]
    Json,
    /// It can't be brought under the receiver's limit.
    #[error("the alert is over {0} bytes and can't be shortened any more")]
    TooLarge(usize),
}

impl From<Malformed> for RenderError {
    fn from(malformed: Malformed) -> Self {
        Self::Secret(malformed.what)
    }
}

#[cfg(test)]
pub(crate) mod fixture {
    //! A message for tests that need one.

    use crate::domain::incident::alert::Alert;

    /// A complete message.
    pub(crate) fn alert() -> Alert {
        let json = serde_json::json!({
            "schema": "rollbackd/alert/v1", "id": "hotswap-api-20260102T030405Z-7_2", "sequence": 2,
            "incident": "hotswap-api-20260102T030405Z-7", "workload": "hotswap-api", "phase": "detected",
            "severity": "critical", "mode": "enforce",
            "trigger": {"name": "error rate", "signal": "error_rate", "value": 0.41, "threshold": 0.1, "unit": "ratio", "for_s": 300.0,
                        "window_s": 60.0, "samples": 5321},
            "from": {"revision": "v2", "image": "/srv/api/releases/v2", "since": "2026-01-02T03:00:00.000Z"},
            "to": {"revision": "v1", "image": null, "known_good_since": "2026-01-01T00:00:00.000Z"},
            "strategy": "rolling", "reason": "error rate 41 % > 10 % for 5m over 5321 requests",
            "times": {"onset": "2026-01-02T03:04:05.000Z", "detected": "2026-01-02T03:09:05.000Z", "ttd_s": 300.0},
            "next": {"action": "roll back to v1", "deadline": "2026-01-02T03:24:05.000Z"},
            "stop": {"command": "rollbackd pause hotswap-api"},
            "summary": "hotswap-api: error rate 41 % > 10 % for 5m on v2; rolling back to v1"
        });
        serde_json::from_value(json).expect("the message is valid")
    }
}
