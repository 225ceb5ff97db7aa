//! A real Alertmanager takes what is sent to it, and shows an incident as one alert from its onset to its end.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollbackd::config::model::{HttpOptions, Receiver, ReceiverKind, UrlSource};
use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::policy::Severity;
use rollbackd::domain::time::{Span, Timestamp};
use rollbackd::notify::{Attempt, Sender};

use crate::alert::alert;

/// Bound on the start of Alertmanager and on each change there.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long an alert fires where nothing more is heard of it: longer than any incident waits for a human.
const FIRES_FOR: Span = Span::from_secs(30 * 24 * 3600);

/// Severity and phase of each alert that fires.
type Firing = &'static [(&'static str, &'static str)];

struct Alertmanager {
    child: Child,
    url: String,
}

impl Alertmanager {
    fn start(dir: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let config = dir.join("alertmanager.yml");
        std::fs::write(
            &config,
            "global: { resolve_timeout: 1s }\nroute: { receiver: none }\nreceivers: [{ name: none }]\n",
        )
        .expect("it is written");
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", dir.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                panic!("prometheus-alertmanager is not installed: apt-get install prometheus-alertmanager")
            }
            Err(e) => panic!("prometheus-alertmanager can't be started: {e}"),
        };
        Self { child, url: format!("http://127.0.0.1:{port}") }
    }

    async fn ready(&self) {
        let begun = Instant::now();
        while reqwest::get(format!("{}/-/ready", self.url)).await.is_err() {
            assert!(begun.elapsed() < PATIENCE, "Alertmanager does not become ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Severity and phase of each alert that fires, in order, once they are as expected. Each fires until it is said to be
    /// over: Alertmanager's own `resolve_timeout` must not end it.
    async fn firing(&self, expected: &[(&str, &str)], told: Timestamp) {
        let begun = Instant::now();
        loop {
            let url = format!("{}/api/v2/alerts?filter=alertname=RollbackdIncident", self.url);
            let body = reqwest::get(url).await.expect("it answers").text().await.expect("with text");
            let alerts: serde_json::Value = serde_json::from_str(&body).expect("in JSON");
            let list = alerts.as_array().expect("a list");
            let mut found: Vec<(&str, &str)> = list
                .iter()
                .map(|alert| {
                    let text = |part: &str, key: &str| alert[part][key].as_str().unwrap_or("none");
                    (text("labels", "severity"), text("annotations", "phase"))
                })
                .collect();
            found.sort_unstable();
            if found == expected {
                for alert in list {
                    let ends: Timestamp = serde_json::from_value(alert["endsAt"].clone()).expect("a time");
                    assert_eq!(ends, told + FIRES_FOR, "{alert}");
                }
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{found:?} fire where {expected:?} are expected");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn an_incident_is_one_alert_from_onset_to_end() {
    rollbackd::net::tls::install();
    let dir = tempfile::tempdir().unwrap();
    let alertmanager = Alertmanager::start(dir.path());
    alertmanager.ready().await;
    let url = UrlSource::Plain(format!("{}/", alertmanager.url));
    let kind = ReceiverKind::Alertmanager { url };
    let sender = Sender::new(&Receiver { name: "am".into(), kind, http: Arc::new(HttpOptions::default()) });
    let story: [(Phase, Severity, Firing); 6] = [
        (Phase::Suspected, Severity::Alert, &[]),
        (Phase::Detected, Severity::Alert, &[("alert", "detected")]),
        // It grows graver: the alert of the other severity is over.
        (Phase::Detected, Severity::Critical, &[("critical", "detected")]),
        (Phase::Started, Severity::Critical, &[("critical", "started")]),
        (Phase::Escalated, Severity::Critical, &[("critical", "escalated")]),
        (Phase::Closed, Severity::Critical, &[]),
    ];
    for (sequence, (phase, severity, firing)) in (1..).zip(story) {
        let mut message = alert("api-1", sequence);
        (message.phase, message.severity) = (phase, severity);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now = Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap());
        // A suspicion pages nobody there.
        let expected = if phase == Phase::Suspected { Attempt::NotTold } else { Attempt::Delivered };
        assert_eq!(sender.send(&message, now).await, expected, "{phase}");
        alertmanager.firing(firing, now).await;
    }
}
