//! A real Prometheus evaluates expressions, and each way in which it can fail to give one number is told apart.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollbackd::clock::Clock;
use rollbackd::config;
use rollbackd::domain::health::selector::Selector;
use rollbackd::domain::observation::{FaultKind, Observation, Seen};
use rollbackd::observe::{ObserveStats, Observers};
use tokio::sync::mpsc;

/// Bound on the start of Prometheus and on each answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Prometheus that scrapes itself.
pub(crate) struct Prometheus {
    child: Child,
    pub(crate) url: String,
}

impl Prometheus {
    pub(crate) fn start(dir: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let config = dir.join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs: [{{ job_name: self, static_configs: [{{ targets: ['127.0.0.1:{port}'] }}] }}]\n"
        );
        std::fs::write(&config, text).expect("it is written");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                panic!("prometheus is not installed: apt-get install prometheus")
            }
            Err(e) => panic!("prometheus can't be started: {e}"),
        };
        Self { child, url: format!("http://127.0.0.1:{port}") }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is seen of each signal, in few words.
fn words(seen: Seen) -> Option<(String, String)> {
    let Seen::Query { signal, result } = seen else { return None };
    let words = match result {
        Ok(answer) => answer.value.map_or("no series".to_owned(), |value| value.to_string()),
        Err(fault) if fault.kind == FaultKind::Malformed && fault.detail.contains("series, where one number") => {
            "several series".to_owned()
        }
        Err(fault) => fault.kind.to_string(),
    };
    Some((signal.to_string(), words))
}

async fn until(seen: &mut mpsc::Receiver<Observation>, expected: &BTreeMap<String, String>) {
    let begun = Instant::now();
    let mut newest = BTreeMap::new();
    while newest != *expected {
        assert!(begun.elapsed() < PATIENCE, "{newest:?} is seen where {expected:?} is expected");
        let next = tokio::time::timeout(PATIENCE, seen.recv()).await.expect("an observation is due").unwrap();
        newest.extend(words(next.seen));
    }
}

#[tokio::test]
async fn a_real_prometheus_answers_with_one_number_or_is_said_not_to() {
    let dir = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(dir.path());
    let cases = [
        ("one", "sum(up) * 2", "2"),
        ("scalar", "scalar(count(up))", "1"),
        ("several", "prometheus_tsdb_time_retentions_total or prometheus_http_requests_total", "several series"),
        ("none", "a_series_that_nobody_has", "no series"),
        ("nan", "vector(0) / vector(0)", "NaN"),
        (
            "no_errors",
            "sum(rate(prometheus_http_requests_total{code=\"599\"}[10s])) / sum(rate(prometheus_http_requests_total[10s]))",
            "0",
        ),
        ("refused", "label_replace(up, \"a\", \"b\", \"c\", \"[\")", "status"),
    ];
    let signals: String = cases
        .iter()
        .map(|(name, promql, _)| format!("[workload.shop.signal.{name}]\npromql = '''{promql}'''\n"))
        .collect();
    let text = format!(
        "[workload.shop]\ninterval = \"1s\"\nprometheus = \"{}/\"\nrelease_dir = {{ path = \"{}\", restart = [\"/bin/true\"] }}\n{signals}",
        prometheus.url,
        dir.path().display()
    );
    let config = config::parse(&[(PathBuf::from("test.toml"), text)]).unwrap_or_else(|problems| panic!("{problems}"));
    let (sender, mut seen) = mpsc::channel(64);
    let observers = Observers::new(Clock::start(None), sender, Arc::new(ObserveStats::default()));
    observers.apply(&config);
    until(&mut seen, &cases.map(|(name, _, words)| (name.to_owned(), words.to_owned())).into()).await;
    // Its death is a loss of sight for all of them.
    drop(prometheus);
    until(&mut seen, &cases.map(|(name, _, _)| (name.to_owned(), "refused".to_owned())).into()).await;
}

/// Which of these texts a pattern matches, by Prometheus; none where it refuses the pattern.
fn matched<'a>(prometheus: &Prometheus, pattern: &str, texts: &[&'a str]) -> Option<Vec<&'a str>> {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let each = texts.iter().map(|text| format!("label_replace(vector(1), \"a\", {}, \"\", \"\")", quoted(text)));
    let all = each.collect::<Vec<String>>().join(" or ");
    let query = format!("label_replace({all}, \"hit\", \"yes\", \"a\", {})", quoted(pattern));
    let run = Command::new("promtool").args(["query", "instant", &prometheus.url, &query]).output();
    let run = run.expect("promtool comes with prometheus");
    let told = String::from_utf8_lossy(&run.stdout);
    let is_hit = |text: &&&str| told.contains(&format!("{{a=\"{text}\", hit=\"yes\"}}"));
    run.status.success().then(|| texts.iter().filter(is_hit).copied().collect())
}

#[test]
fn a_selectors_regular_expressions_are_read_as_prometheus_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(dir.path());
    let begun = Instant::now();
    while matched(&prometheus, "a", &["a", "b"]) != Some(vec!["a"]) {
        assert!(begun.elapsed() < PATIENCE, "it does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    let patterns = [
        r"a++",
        r"a+?",
        r"a{2}{3}",
        r"a{2,3}",
        r"a{,3}",
        r"a{1001}",
        r"\Qa+\E",
        r"\Qa",
        r"\Qa.\E+",
        r"\d",
        r"\D",
        r"\w+",
        r"[\D]",
        r"[a&&b]+",
        r"[[a]+",
        r"[+--]",
        r"[]a]",
        r"[a-]",
        r"[[:alpha:]]+",
        r"[[:nope:]]",
        r"\<a\>",
        r"\x61",
        r"\141",
        r"\1",
        r"(?i)A",
        r"(?x)a",
        r"(?P<n>a)",
        r"a|",
        r"(",
        r"a\b.b",
        r"{a}",
    ];
    let texts = ["a", "aa", "a+", "a.", "a{,3}", "é", "5", "[a", "<a>", "]", "-", "&", "a-b", "{a}"];
    for pattern in patterns {
        let selector = Selector::parse(&format!("up{{a=~\"{}\"}}", pattern.replace('\\', "\\\\")));
        let is_hit = |selector: &Selector, text: &str| selector.matches("up", |name| (name == "a").then_some(text));
        let ours = selector
            .as_ref()
            .ok()
            .map(|selector| texts.iter().filter(|text| is_hit(selector, text)).copied().collect::<Vec<&str>>());
        assert_eq!(ours, matched(&prometheus, pattern, &texts), "{pattern}: {selector:?}");
    }
}
