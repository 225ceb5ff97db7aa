//! HTTP as a server: what the daemon tells, and what it can be asked to do. The contract is `config/openapi.json`.
//!
//! Every answer that is no success is a problem document (RFC 9457). Whatever changes something takes the bearer token,
//! and costs its source a token of its own: ten a second. Bodies, connections, listeners and times are bounded.

mod alertmanager;
mod body;
mod connection;
mod events;
mod history;
mod page;
mod problem;
mod rate;
mod read;
mod routes;
mod shield;
mod token;
mod write;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::domain::time::Timestamp;
use crate::engine::ports::Leadership;
use crate::engine::{Handle, Now};
use crate::telemetry::{Metrics, Stream};

pub use connection::serve;
pub use history::{History, HistoryError, IncidentEntry};
pub use problem::Problem;
pub use routes::{ROUTES, Route, router};
pub use token::Token;

/// Largest body that is taken, in bytes.
pub const BODY_LIMIT: usize = 64 * 1024;

/// Longest time that a body may take once the head is there; less than [`REQUEST_TIMEOUT`], so that the answer says what was
/// waited for.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time from a request's head to its answer. Streams of events are not bound by it.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Listeners to events at one time.
pub const LISTENER_LIMIT: usize = 64;

/// Incidents of a list at most.
pub const MOST_INCIDENTS: u16 = 500;

/// What the server needs to answer.
pub struct AppState {
    /// The one that knows and decides.
    pub engine: Handle,
    /// Who acts.
    pub leadership: Arc<dyn Leadership>,
    /// The past.
    pub history: Arc<dyn History>,
    /// Own metrics.
    pub metrics: Arc<Metrics>,
    /// What happens, as it happens.
    pub stream: Stream,
    /// The token that calls which change something must bear.
    pub token: Token,
    /// The daemon's timeline.
    pub now: Now,
    /// What the timeline says where others' wall clocks say this.
    pub of_wall: Arc<dyn Fn(Timestamp) -> Timestamp + Send + Sync>,
    /// Names under which browsers may reach a daemon that listens on loopback only, besides loopback's own: the host
    /// of `external_url`.
    pub external_host: Option<String>,
    /// What the server keeps for itself.
    pub internal: Internal,
}

/// What the server keeps for itself: who asks how often, and who listens.
pub struct Internal {
    /// Requests for a change with the token.
    rate: rate::Limiter,
    /// Those without it, which take no room from the others.
    refused: rate::Limiter,
    listeners: Arc<Semaphore>,
    stop: tokio_util::sync::CancellationToken,
}

impl Internal {
    /// Nobody has asked yet. Streams of events end when `stop` is cancelled.
    #[must_use]
    pub fn new(stop: tokio_util::sync::CancellationToken) -> Self {
        let (rate, refused) = (rate::Limiter::default(), rate::Limiter::default());
        Self { rate, refused, listeners: Arc::new(Semaphore::new(LISTENER_LIMIT)), stop }
    }
}
