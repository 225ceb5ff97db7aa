//! What runs in a container: a service of one process, which does what its image says, under traffic of its own.
//!
//! The traffic is arithmetic: requests are counted as if they came evenly from the start on, so a page is what a scrape of a
//! busy service gives, without the work. Requests that do come are counted as well.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use rustix::process::{Signal, getpid, kill_process, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use super::image::{End, Image};

/// The environment of a container's process.
pub(super) const IMAGE: &str = "CONTAINER_IMAGE";
pub(super) const LISTEN: &str = "CONTAINER_LISTEN";
pub(super) const LOG: &str = "CONTAINER_LOG";
pub(super) const POD: &str = "CONTAINER_POD";
/// More words about what the image does, in a template or a ConfigMap.
pub(super) const BEHAVIOUR: &str = "BEHAVIOUR";
/// The header that says which version answered.
pub(crate) const VERSION_HEADER: &str = "x-version";

/// Upper bounds of the latency histogram, in seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// How long answers take, in seconds.
const QUICK: f64 = 0.004;
const SLOW: f64 = 6.0;
/// Of a slow image, one answer in so many is slow.
const SLOW_ONE_IN: f64 = 5.0;
/// How long a process lives at least, so that each start is seen by whoever looks twice a second.
const SHORT_LIFE: Duration = Duration::from_millis(800);
/// What a process may use of memory before it is killed, in bytes, and how much it takes at a time.
const MEMORY: usize = 64 * 1024 * 1024;
const GULP: usize = 4 * 1024 * 1024;

struct Service {
    image: Image,
    version: String,
    pod: String,
    begun: Instant,
    started: f64,
    good: AtomicU64,
    bad: AtomicU64,
}

/// The process of a container: started by the little kubelet, never by hand.
#[tokio::test]
#[ignore = "it is no test but a process that tests start"]
async fn process() {
    let told = |key| std::env::var(key).unwrap_or_else(|_| panic!("{key} is set by the little kubelet"));
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let mut name = told(IMAGE);
    if let Ok(words) = std::env::var(BEHAVIOUR) {
        name = format!("{name}-{words}");
    }
    let mut log = std::fs::OpenOptions::new().create(true).append(true).open(told(LOG)).unwrap();
    let listen: SocketAddr = told(LISTEN).parse().unwrap();
    writeln!(log, "{name} listens on {listen}").unwrap();
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let service = Arc::new(Service {
        image: Image::of(&name),
        version: Image::version(&name).to_owned(),
        pod: told(POD),
        begun: Instant::now(),
        started,
        good: AtomicU64::new(0),
        bad: AtomicU64::new(0),
    });
    let listener = tokio::net::TcpListener::bind(listen).await.unwrap();
    let router = Router::new()
        .route("/", get(work))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(&service));
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let (why, code) = tokio::select! {
        served = axum::serve(listener, router) => (format!("{served:?}"), 2),
        _ = terminate.recv() => ("terminated".to_owned(), 0),
        end = service.run_its_course() => end,
    };
    writeln!(log, "{why}").unwrap();
    if code == OUT_OF_MEMORY {
        kill_process(getpid(), Signal::KILL).unwrap();
    }
    std::process::exit(code);
}

/// Stands for the kernel's kill.
const OUT_OF_MEMORY: i32 = 137;

impl Service {
    /// Time for which the image has done what it does.
    fn afflicted(&self) -> Duration {
        self.begun.elapsed().saturating_sub(self.image.after)
    }

    async fn run_its_course(&self) -> (String, i32) {
        sleep_until(self.begun + self.image.after.max(SHORT_LIFE)).await;
        match self.image.ends {
            None => std::future::pending().await,
            Some(End::Crash) => ("fatal: the image is broken".to_owned(), 1),
            Some(End::Oom) => {
                let mut hoard = Vec::new();
                while hoard.len() * GULP < MEMORY {
                    // Written to, so that it is memory and not only a promise.
                    hoard.push(vec![1_u8; GULP]);
                    sleep(Duration::from_millis(10)).await;
                }
                ("killed: out of memory".to_owned(), OUT_OF_MEMORY)
            }
        }
    }

    fn is_afflicted(&self) -> bool {
        self.begun.elapsed() >= self.image.after
    }

    fn answer(&self, status: StatusCode, word: &str) -> Response {
        let body = Json(serde_json::json!({ "status": word, "version": self.version, "pod": self.pod }));
        (status, [(VERSION_HEADER, self.version.clone())], body).into_response()
    }

    fn page(&self) -> String {
        let rate = if self.image.never_ready { 0.0 } else { self.image.rate };
        let requests = (rate * self.begun.elapsed().as_secs_f64()).floor();
        let afflicted = rate * self.afflicted().as_secs_f64();
        let failed = (afflicted * self.image.errors).floor();
        let slow = if self.image.slow { (afflicted / SLOW_ONE_IN).floor() } else { 0.0 };
        #[allow(clippy::cast_precision_loss, reason = "no test sends so many requests")]
        let [good, bad] = [&self.good, &self.bad].map(|count| count.load(Ordering::Relaxed) as f64);
        let all = requests + good + bad;
        let mut page = format!(
            "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds {}\n\
             # TYPE http_requests_total counter\nhttp_requests_total{{code=\"200\"}} {}\n\
             http_requests_total{{code=\"500\"}} {}\n# TYPE http_request_duration_seconds histogram\n",
            self.started,
            requests - failed + good,
            failed + bad
        );
        for bound in BUCKETS {
            let within = if bound >= SLOW { all } else { all - slow };
            page.push_str(&format!("http_request_duration_seconds_bucket{{le=\"{bound}\"}} {within}\n"));
        }
        let sum = (all - slow) * QUICK + slow * SLOW;
        page.push_str(&format!(
            "http_request_duration_seconds_bucket{{le=\"+Inf\"}} {all}\nhttp_request_duration_seconds_sum {sum}\n\
             http_request_duration_seconds_count {all}\n"
        ));
        page
    }
}

async fn work(State(service): State<Arc<Service>>) -> Response {
    let [good, bad] = [&service.good, &service.bad].map(|count| count.load(Ordering::Relaxed));
    #[allow(clippy::cast_precision_loss, reason = "no test sends so many requests")]
    let due = (good + bad + 1) as f64 * service.image.errors - bad as f64;
    if service.is_afflicted() && due >= 1.0 {
        service.bad.fetch_add(1, Ordering::Relaxed);
        return service.answer(StatusCode::INTERNAL_SERVER_ERROR, "Failed");
    }
    let count = service.good.fetch_add(1, Ordering::Relaxed);
    let is_slow = service.image.slow && service.is_afflicted() && count.is_multiple_of(5);
    sleep(Duration::from_secs_f64(if is_slow { SLOW } else { QUICK })).await;
    service.answer(StatusCode::OK, "Done")
}

async fn health(State(service): State<Arc<Service>>) -> Response {
    if service.image.unhealthy && service.is_afflicted() {
        return service.answer(StatusCode::SERVICE_UNAVAILABLE, "Unhealthy");
    }
    service.answer(StatusCode::OK, "Healthy")
}

async fn ready(State(service): State<Arc<Service>>) -> Response {
    if service.image.never_ready && service.is_afflicted() {
        return service.answer(StatusCode::SERVICE_UNAVAILABLE, "NotReady");
    }
    service.answer(StatusCode::OK, "Ready")
}

async fn metrics(State(service): State<Arc<Service>>) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], service.page()).into_response()
}
