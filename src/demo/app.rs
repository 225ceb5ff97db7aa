//! The demo's service: answers requests, tells its health and exposes the usual metrics, until its release goes bad.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use rustix::process::{Resource, Rlimit, Signal};
use serde::Deserialize;
use tokio::time::Instant;

use super::Fault;
use super::fault::Affliction;

/// The header that says which release answered.
pub(super) const RELEASE_HEADER: &str = "x-release";
/// What the service may use of data memory, in bytes: enough for its work, soon reached by a leak.
const MEMORY_LIMIT: u64 = 96 * 1024 * 1024;
/// Upper bounds of the latency histogram, in seconds: those of Prometheus' client libraries.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Clock ticks a second in `/proc`; fixed in the kernel's interface to user space (`USER_HZ`).
const TICKS_A_SECOND: f64 = 100.0;
/// Bytes a page in `/proc/self/statm` on the platforms that the demo runs on.
const PAGE: u64 = 4096;

/// What a release's `release.toml` says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReleaseFile {
    pub(super) version: String,
    pub(super) fault: Option<Fault>,
}

impl ReleaseFile {
    /// Name of the file in a release directory.
    pub(super) const NAME: &str = "release.toml";

    /// The file's text.
    pub(super) fn text(&self) -> String {
        let fault = self.fault.map(|fault| format!("fault = \"{fault}\"\n")).unwrap_or_default();
        format!("version = \"{}\"\n{fault}", self.version)
    }

    fn read(path: &Path) -> Result<Self, AppError> {
        let text = std::fs::read_to_string(path).map_err(|source| AppError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| AppError::Parse { path: path.to_owned(), source: Box::new(source) })
    }
}

/// Arguments of the hidden `demo-app` command.
#[derive(Clone, Debug, clap::Args)]
pub struct AppOptions {
    /// Address to listen on.
    #[arg(long)]
    pub listen: SocketAddr,
    /// The release file that says what to run.
    #[arg(long)]
    pub release: PathBuf,
    /// Milliseconds from now until the release's fault begins, if it has one.
    #[arg(long, default_value_t = 0)]
    pub fault_in: u64,
    /// The process without which this one ends.
    #[arg(long)]
    pub parent: i32,
}

/// Why the service could not run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The release file can't be read.
    #[error("{path} can't be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The release file is not as it should be.
    #[error("{path} is not a release file")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The system refused something.
    #[error("the system refuses {what}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Serves until the process ends.
///
/// # Errors
///
/// Where the release can't be read or the address not be listened on.
pub async fn run(options: AppOptions) -> Result<(), AppError> {
    die_with(options.parent)?;
    limit_memory()?;
    let release = ReleaseFile::read(&options.release)?;
    let affliction = Affliction::new(release.fault, Duration::from_millis(options.fault_in));
    let app = Arc::new(App { version: release.version, affliction, metrics: Metrics::new() });
    let listener = tokio::net::TcpListener::bind(options.listen)
        .await
        .map_err(|source| AppError::System { what: "to listen", source })?;
    let router = Router::new()
        .route("/", get(work))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(&app));
    tokio::select! {
        served = axum::serve(listener, router) => served.map_err(|source| AppError::System { what: "to serve", source }),
        () = app.affliction.run_its_course() => Ok(()),
    }
}

/// Ends this process when its parent ends, however that comes about. The parent may be gone already.
fn die_with(parent: i32) -> Result<(), AppError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| AppError::System { what: "to end with the parent", source: error.into() })?;
    let is_orphan = rustix::process::getppid().is_none_or(|pid| pid.as_raw_nonzero().get() != parent);
    if is_orphan {
        let source = std::io::ErrorKind::NotFound.into();
        return Err(AppError::System { what: "a parent that is gone", source });
    }
    Ok(())
}

/// A limit as a container has one, and no core file when it is reached.
fn limit_memory() -> Result<(), AppError> {
    let limits = [(Resource::Data, MEMORY_LIMIT), (Resource::Core, 0)];
    for (resource, limit) in limits {
        rustix::process::setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
            .map_err(|error| AppError::System { what: "a memory limit", source: error.into() })?;
    }
    Ok(())
}

struct App {
    version: String,
    affliction: Affliction,
    metrics: Metrics,
}

impl App {
    fn answer(&self, status: StatusCode, body: impl IntoResponse) -> Response {
        let mut response = (status, body).into_response();
        if let Ok(version) = HeaderValue::from_str(&self.version) {
            response.headers_mut().insert(RELEASE_HEADER, version);
        }
        response
    }
}

async fn work(State(app): State<Arc<App>>) -> Response {
    let begun = Instant::now();
    let (well, time) = app.affliction.next_answer();
    tokio::time::sleep(time).await;
    let status = if well { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    app.metrics.requests.get_or_create(&Code { code: status.as_u16() }).inc();
    app.metrics.latency.observe(begun.elapsed().as_secs_f64());
    app.answer(status, "ok\n")
}

async fn health(State(app): State<Arc<App>>) -> Response {
    let (status, word) = if app.affliction.is_healthy() {
        (StatusCode::OK, "Healthy")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "Unhealthy")
    };
    app.answer(status, Json(serde_json::json!({ "status": word, "version": app.version })))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    match app.metrics.page() {
        Ok(page) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            app.answer(StatusCode::OK, ([(header::CONTENT_TYPE, kind)], page))
        }
        Err(error) => app.answer(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: u16,
}

struct Metrics {
    registry: Registry,
    requests: Family<Code, Counter>,
    latency: Histogram,
    memory: Gauge,
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::<Code, Counter>::default();
        // Both exist from the start, so that the first error is an increase.
        for code in [200, 500] {
            drop(requests.get_or_create(&Code { code }));
        }
        let latency = Histogram::new(BUCKETS);
        let memory = Gauge::default();
        let start = Gauge::<f64, AtomicU64>::default();
        start.set(process_start().unwrap_or(0.0));
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register("http_request_duration_seconds", "Time to answer a request", latency.clone());
        registry.register("process_start_time_seconds", "Start of the process since the Unix epoch", start);
        registry.register("process_resident_memory_bytes", "Resident memory", memory.clone());
        Self { registry, requests, latency, memory }
    }

    fn page(&self) -> Result<String, std::fmt::Error> {
        self.memory.set(resident_memory().and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(0));
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

/// When this process started, in seconds since the Unix epoch, as Prometheus' client libraries compute it.
fn process_start() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name, in parentheses, may hold anything; the start time is the 20th field after it.
    let ticks: f64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks / TICKS_A_SECOND)
}

fn resident_memory() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_offers_what_triggers_read() {
        let metrics = Metrics::new();
        metrics.requests.get_or_create(&Code { code: 200 }).inc();
        metrics.latency.observe(6.0);
        let page = metrics.page().unwrap();
        for line in [
            "http_requests_total{code=\"200\"} 1",
            "http_requests_total{code=\"500\"} 0",
            "http_request_duration_seconds_bucket{le=\"5.0\"} 0",
            "http_request_duration_seconds_bucket{le=\"10.0\"} 1",
            "# EOF",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        let value = |name: &str| -> f64 {
            let line = page.lines().find(|line| line.starts_with(name)).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("process_start_time_seconds ") > 1.6e9);
        assert!(value("process_resident_memory_bytes ") > 1e6);
    }

    #[test]
    fn a_release_file_says_version_and_fault() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ReleaseFile::NAME);
        for file in [
            ReleaseFile { version: "v1".to_owned(), fault: None },
            ReleaseFile { version: "v2".to_owned(), fault: Some(Fault::Oom) },
        ] {
            std::fs::write(&path, file.text()).unwrap();
            assert_eq!(ReleaseFile::read(&path).unwrap(), file);
        }
        std::fs::write(&path, "version = 2").unwrap();
        assert!(matches!(ReleaseFile::read(&path), Err(AppError::Parse { .. })));
    }
}
