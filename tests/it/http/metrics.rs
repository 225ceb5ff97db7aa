//! Own metrics: what they say, and that readers of both dialects can read them.

use std::io::Write;
use std::process::{Command, Stdio};

use rollbackd::domain::health::selector::Selector;
use rollbackd::observe::exposition::{Format, Inspection, inspect};

use super::server::{Answer, Server};

const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";

impl Server {
    async fn metrics(&self, accept: &str) -> Answer {
        let host = self.address;
        let accept = if accept.is_empty() { String::new() } else { format!("accept: {accept}\r\n") };
        self.send(&format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\n{accept}connection: close\r\n\r\n")).await
    }
}

/// A server of which there is something to tell.
async fn eventful() -> Server {
    let server = Server::start().await;
    let body = "{\"workload\":\"app\",\"kind\":\"data\",\"reason\":\"rows are missing\"}";
    assert_eq!(server.post("/api/v1/triggers", body).await.status, 200);
    let phase = |answer: &Answer| answer.json()["incident"]["phase"].as_str().map(str::to_owned);
    server.until("/api/v1/workloads/app", |answer| phase(answer).as_deref() == Some("escalated")).await;
    server
}

#[tokio::test]
async fn own_metrics_say_what_happened() {
    let page = eventful().await.metrics(OPENMETRICS).await;
    assert!(page.head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{}", page.head);
    for line in [
        "rollbackd_build_info{version=\"0.1.0\"} 1",
        "rollbackd_time_to_detect_seconds_bucket{le=\"300.0\",workload=\"app\"} 1",
        "rollbackd_time_to_decide_seconds_count{workload=\"app\"} 1",
        "rollbackd_decisions_total{workload=\"app\",decision=\"rollback\",reason=\"rollback\"} 1",
        "rollbackd_decisions_total{workload=\"app\",decision=\"escalate\",reason=\"escalated\"} 1",
        "rollbackd_incidents_total{workload=\"app\",phase=\"detected\"} 1",
        "rollbackd_workload_ready{workload=\"gated\"} 1",
        "rollbackd_journal_broken 0",
        "rollbackd_leading 1",
        "rollbackd_outbox_depth ",
        "rollbackd_clock_drift_seconds 0.0",
        "rollbackd_process_resident_memory_bytes ",
        "# EOF",
    ] {
        assert!(page.body.lines().any(|found| found.starts_with(line)), "{line} is missing:\n{}", page.body);
    }
}

/// Every sample of a page without its value, and the type of every family.
fn offered(page: &str, format: Format) -> (Vec<String>, Vec<(String, &'static str)>) {
    let all = Selector::parse("{__name__=~\".+\"}").unwrap();
    let Inspection { families, matches } =
        inspect(page.as_bytes(), format, &[all]).unwrap_or_else(|error| panic!("{error}\n{page}"));
    let mut series: Vec<_> =
        matches[0].series.iter().map(|series| format!("{}{:?}", series.name, series.labels)).collect();
    series.sort();
    assert!(families.iter().all(|family| family.help.is_some()), "a family without help:\n{page}");
    (series, families.into_iter().map(|family| (family.name, family.kind)).collect())
}

#[tokio::test]
async fn both_dialects_say_the_same() {
    let server = eventful().await;
    let newer = server.metrics(OPENMETRICS).await;
    assert!(newer.head.contains("vary: accept"), "{}", newer.head);
    let (series, families) = offered(&newer.body, Format::OpenMetrics);
    assert!(series.len() > 30 && families.len() > 10, "{series:#?}");
    for accept in ["", "*/*", "text/plain;version=0.0.4"] {
        let older = server.metrics(accept).await;
        assert!(older.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{}", older.head);
        let (told, described) = offered(&older.body, Format::Text);
        assert_eq!(told, series, "{accept:?}");
        let renamed: Vec<_> = families
            .iter()
            .map(|(name, kind)| match *kind {
                "counter" => (format!("{name}_total"), "counter"),
                "info" => (format!("{name}_info"), "gauge"),
                kind => (name.clone(), kind),
            })
            .collect();
        assert_eq!(described, renamed, "{accept:?}");
    }
}

#[tokio::test]
async fn promtool_finds_nothing_to_improve() {
    let page = eventful().await.metrics("").await.body;
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = promtool.expect("promtool is there: apt-get install prometheus");
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.is_empty(), "{said}\n{page}");
}
