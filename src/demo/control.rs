//! What an operator's own tools do, for the demo: restart an instance, switch the traffic, ask what is in service.
//!
//! The service side runs with the stage; the client side is the hidden `demo-ctl` command, which the demo's policy names
//! as anyone's policy names their own tools.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};

use super::app::RELEASE_HEADER;
use super::proxy::Routes;
use super::supervisor::{Order, Supervisor};

/// How long a call may take, on either side.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Answers in a row that prove which release is in service, or that the service works.
const PROOF: usize = 10;

/// Arguments of the hidden `demo-ctl` command.
#[derive(Clone, Debug, clap::Args)]
pub struct ControlOptions {
    /// Address of the demo's control service.
    #[arg(long)]
    pub control: SocketAddr,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be asked for.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Action {
    /// Restart an instance.
    Restart {
        /// Its name.
        instance: String,
    },
    /// Print the release in service.
    Current,
    /// Print the releases, newest first.
    Releases,
    /// Fail unless a release is up and healthy.
    Check {
        /// The release.
        release: String,
    },
    /// Give all traffic to a release.
    Rollback {
        /// The release.
        release: String,
    },
    /// Fail unless all traffic is answered by a release.
    Status {
        /// The release.
        release: String,
    },
    /// Stop the instances of a release.
    Retire {
        /// The release.
        release: String,
    },
    /// Fail unless the service answers well.
    Smoke,
}

/// Why something that was asked for was not done.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The control service can't be reached.
    #[error("the demo's control service does not answer")]
    Call(#[source] reqwest::Error),
    /// It said no.
    #[error("{0}")]
    Refused(String),
}

/// Asks the demo's control service and returns what it says.
///
/// # Errors
///
/// Where it can't be reached, or says no.
pub async fn call(options: ControlOptions) -> Result<String, ControlError> {
    let client = super::client(CALL_TIMEOUT).map_err(ControlError::Call)?;
    let (is_change, path) = match options.action {
        Action::Restart { instance } => (true, vec!["restart".to_owned(), instance]),
        Action::Current => (false, vec!["current".to_owned()]),
        Action::Releases => (false, vec!["releases".to_owned()]),
        Action::Check { release } => (false, vec!["check".to_owned(), release]),
        Action::Rollback { release } => (true, vec!["rollback".to_owned(), release]),
        Action::Status { release } => (false, vec!["status".to_owned(), release]),
        Action::Retire { release } => (true, vec!["retire".to_owned(), release]),
        Action::Smoke => (false, vec!["smoke".to_owned()]),
    };
    let mut url = address(options.control);
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.clear().extend(path);
    }
    let request = if is_change { client.post(url) } else { client.get(url) };
    let answer = request.send().await.map_err(ControlError::Call)?;
    let is_done = answer.status().is_success();
    let text = answer.text().await.map_err(ControlError::Call)?;
    if is_done { Ok(text) } else { Err(ControlError::Refused(text.trim().to_owned())) }
}

/// `http://ADDRESS/`.
pub(super) fn address(of: SocketAddr) -> reqwest::Url {
    reqwest::Url::parse(&format!("http://{of}/")).expect("a socket address is a valid authority")
}

/// What the service side acts on.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) supervisor: Arc<Supervisor>,
    pub(super) routes: Arc<Routes>,
    /// Where the service answers: the proxy, or each instance.
    pub(super) front: Vec<reqwest::Url>,
    pub(super) client: reqwest::Client,
}

impl Site {
    pub(super) fn client() -> reqwest::Result<reqwest::Client> {
        super::client(CALL_TIMEOUT)
    }

    /// Whether every front answers well, several times in a row, and from one release where one is named.
    pub(super) async fn answers_well(&self, release: Option<&str>) -> Result<(), String> {
        for front in &self.front {
            for _ in 0..PROOF {
                let answer = self.client.get(front.clone()).send().await;
                let answer = answer.map_err(|error| format!("{front} does not answer: {}", error.without_url()))?;
                let status = answer.status();
                let from = answer.headers().get(RELEASE_HEADER).and_then(|value| value.to_str().ok()).unwrap_or("?");
                if !status.is_success() {
                    return Err(format!("{front} answers {status} from {from}"));
                }
                if release.is_some_and(|release| release != from) {
                    return Err(format!("{front} is answered by {from}"));
                }
            }
        }
        Ok(())
    }
}

type Answer = Result<String, (StatusCode, String)>;

fn refuse(text: String) -> (StatusCode, String) {
    (StatusCode::CONFLICT, text)
}

/// The control service.
pub(super) fn router(site: Site) -> Router {
    Router::new()
        .route("/restart/{instance}", post(restart))
        .route("/current", get(current))
        .route("/releases", get(releases))
        .route("/check/{release}", get(check))
        .route("/rollback/{release}", post(rollback))
        .route("/status/{release}", get(status))
        .route("/retire/{release}", post(retire))
        .route("/smoke", get(smoke))
        .with_state(site)
}

async fn restart(State(site): State<Site>, Path(instance): Path<String>) -> Answer {
    match site.supervisor.order(&instance, Order::Restart).await {
        Ok(()) => Ok(format!("{instance} restarted\n")),
        Err(error) => Err(refuse(error.to_string())),
    }
}

async fn current(State(site): State<Site>) -> Answer {
    let current = site.routes.current().ok_or_else(|| refuse("no backend is in service".to_owned()))?;
    Ok(format!("{current}\n"))
}

async fn releases(State(site): State<Site>) -> Answer {
    let mut list = String::new();
    for backend in site.routes.backends().iter().rev() {
        // Writing to a string can't fail.
        let _written = writeln!(list, "{} at {}", backend.release, backend.address);
    }
    Ok(list)
}

async fn check(State(site): State<Site>, Path(release): Path<String>) -> Answer {
    let backends = site.routes.backends();
    let backend = backends.iter().find(|backend| backend.release == release);
    let backend = backend.ok_or_else(|| refuse(format!("{release} does not run")))?;
    let health = address(backend.address).join("health").map_err(|error| refuse(error.to_string()))?;
    match site.client.get(health).send().await {
        Ok(answer) if answer.status().is_success() => Ok(format!("{release} is healthy\n")),
        Ok(answer) => Err(refuse(format!("{release} answers {}", answer.status()))),
        Err(error) => Err(refuse(format!("{release} does not answer: {}", error.without_url()))),
    }
}

async fn rollback(State(site): State<Site>, Path(release): Path<String>) -> Answer {
    if site.routes.give_all_to(&release) {
        Ok(format!("all traffic goes to {release}\n"))
    } else {
        Err(refuse(format!("{release} does not run")))
    }
}

async fn status(State(site): State<Site>, Path(release): Path<String>) -> Answer {
    site.answers_well(Some(&release)).await.map_err(refuse)?;
    Ok(format!("{release} answers\n"))
}

async fn retire(State(site): State<Site>, Path(release): Path<String>) -> Answer {
    let mut backends = site.routes.backends();
    if backends.iter().any(|backend| backend.release == release && backend.weight > 0) {
        return Err(refuse(format!("{release} still gets traffic")));
    }
    for backend in backends.iter().filter(|backend| backend.release == release) {
        site.supervisor.order(&backend.name, Order::Stop).await.map_err(|error| refuse(error.to_string()))?;
    }
    backends.retain(|backend| backend.release != release);
    site.routes.set(backends);
    Ok(format!("{release} stopped\n"))
}

async fn smoke(State(site): State<Site>) -> Answer {
    site.answers_well(None).await.map_err(refuse)?;
    Ok("every answer is good\n".to_owned())
}
