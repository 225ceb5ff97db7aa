//! The command line held against pages: how signals are found, what is missing, and how the command exits.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const POLICY: &str = r#"
[daemon]
mode = "observe"

[workload.api]
release_dir = { path = "/srv/api", unit = "api.service" }
scrape = { port = 5000 }

[workload.web]
release_dir = { path = "/srv/web", unit = "web.service" }
scrape = { port = 5001 }

[workload.web.signal.error_rate]
bad = 'web_hits_total{outcome="bad"}'
total = 'web_hits_total'

[[workload.web.trigger]]
name = "errors"
signal = "error_rate"
above = "10%"
"#;

const CLIENT_LIBRARIES: &str = "\
# TYPE http_requests_total counter
http_requests_total{code=\"200\"} 100
http_requests_total{code=\"500\"} 3
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le=\"0.1\"} 90
http_request_duration_seconds_bucket{le=\"+Inf\"} 103
http_request_duration_seconds_sum 12
http_request_duration_seconds_count 103
";

const MESH: &str = "\
# TYPE response_total counter
response_total{direction=\"inbound\",classification=\"success\"} 100
# TYPE response_latency_ms histogram
response_latency_ms_bucket{direction=\"inbound\",le=\"10\"} 90
response_latency_ms_bucket{direction=\"inbound\",le=\"+Inf\"} 100
";

const STRANGE: &str = "\
# TYPE http_request_total counter
http_request_total{code=\"200\"} 100
# TYPE web_hit_total counter
web_hit_total{outcome=\"bad\"} 1
";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write("policy.toml", POLICY);
        place
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `check` of the policy against a page, for one workload.
    fn check(&self, page: &str, workload: &str, more: &[&str]) -> Output {
        let page = self.write("page", page);
        let policy = self.0.path().join("policy.toml");
        rollbackd(&["check", text(&policy), "--against", text(&page), "--workload", workload], more, "")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn rollbackd(arguments: &[&str], more: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rollbackd"))
        .args(arguments)
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn told(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

fn signal<'a>(signals: &'a Value, name: &str) -> &'a Value {
    signals.as_array().unwrap().iter().find(|signal| signal["signal"] == name).unwrap()
}

#[test]
fn a_page_that_follows_a_convention_is_named_by_it() {
    let place = Place::new();
    let output = place.check(CLIENT_LIBRARIES, "api", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).starts_with("ok: 2 workloads, 0 receivers\n\napi against "), "{}", said(&output));
    let answer = told(&place.check(CLIENT_LIBRARIES, "api", &["--json"]));
    assert_eq!(answer["valid"], true);
    let signals = &answer["against"][0]["signals"];
    assert_eq!(
        signal(signals, "error_rate")["source"],
        serde_json::json!({
            "convention": "Prometheus client libraries", "unit": "count",
            "series": ["http_requests_total{code=~\"5..\"}", "http_requests_total{code!=\"\"}"],
        })
    );
    let latency = signal(signals, "p99_latency");
    assert_eq!((&latency["source"]["unit"], &latency["matches"]), (&"s".into(), &2.into()));
    assert_eq!(answer["against"][0]["unknown"], serde_json::json!([]));
}

#[test]
fn of_two_conventions_the_first_of_the_table_wins_and_the_other_is_named() {
    let place = Place::new();
    let output = place.check(&format!("{MESH}{CLIENT_LIBRARIES}"), "api", &[]);
    let line = "p99_latency: Linkerd matches too, on response_latency_ms{direction=\"inbound\"}; \
                Prometheus client libraries is used, the first of the table";
    assert!(said(&output).contains(line), "{}", said(&output));
    assert_eq!(output.status.code(), Some(0));
    let alone = told(&place.check(MESH, "api", &["--json"]));
    let latency = &signal(&alone["against"][0]["signals"], "p95_latency");
    assert_eq!(latency["source"]["unit"], "ms");
    assert_eq!(latency["others"], serde_json::json!([]));
}

#[test]
fn a_trigger_that_would_stay_unknown_is_a_no() {
    let place = Place::new();
    let output = place.check(STRANGE, "api", &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    for line in [
        "error_rate: no convention matches; nearest families: http_request_total",
        "can't be judged by such pages: p99_latency is not found",
    ] {
        assert!(said(&output).contains(line), "{line}: {}", said(&output));
    }
    let output = place.check(STRANGE, "web", &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    for line in [
        "error_rate: nothing matches web_hits_total{outcome=\"bad\"}; nearest families: web_hit_total",
        "trigger \"errors\" can't be judged by such pages: error_rate is not found",
    ] {
        assert!(said(&output).contains(line), "{line}: {}", said(&output));
    }
}

#[test]
fn errors_that_never_happened_are_said_and_are_no_fault() {
    let place = Place::new();
    let output = place.check("web_hits_total{outcome=\"good\"} 5\n", "web", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("error_rate: nothing matches web_hits_total{outcome=\"bad\"}"), "{}", said(&output));
}

#[test]
fn wrong_usage_is_told_from_a_no() {
    let place = Place::new();
    assert_eq!(place.check(MESH, "apy", &[]).status.code(), Some(2));
    assert_eq!(place.check("no page {", "api", &[]).status.code(), Some(1));
    let policy = place.0.path().join("policy.toml");
    assert_eq!(rollbackd(&["check", text(&policy), "--against", "/nowhere"], &[], "").status.code(), Some(2));
    assert_eq!(rollbackd(&["check", text(&policy), "--workload", "api"], &[], "").status.code(), Some(2));
}

#[test]
fn a_page_may_come_by_standard_input() {
    let output = rollbackd(&["inspect", "-", "--select", "http_requests_total"], &["--json"], CLIENT_LIBRARIES);
    let answer = told(&output);
    assert_eq!(answer["matches"][0]["series"].as_array().map(Vec::len), Some(2));
    assert_eq!(signal(&answer["signals"], "request_rate")["source"]["convention"], "Prometheus client libraries");
    let place = Place::new();
    let policy = place.0.path().join("policy.toml");
    let output = rollbackd(&["check", text(&policy), "--against", "-", "--workload", "api"], &[], CLIENT_LIBRARIES);
    assert!(said(&output).contains("api against standard input"), "{}", said(&output));
    let output = rollbackd(&["inspect", "-"], &[], CLIENT_LIBRARIES);
    assert!(said(&output).contains("error_rate"), "{}", said(&output));
    let output = rollbackd(&["inspect", "-"], &[], "no page {");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard input"));
}
