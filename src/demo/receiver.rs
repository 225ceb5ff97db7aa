//! The demo's receiver of alerts: a webhook on loopback that checks every signature, as a user's own would.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::domain::incident::alert::Alert;

/// Alerts that may wait to be told; an incident has about ten.
const QUEUE: usize = 256;

/// A webhook on loopback.
pub(super) struct Receiver {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// What it got.
    pub(super) alerts: mpsc::Receiver<Alert>,
}

struct Inbox {
    secret: Vec<u8>,
    alerts: mpsc::Sender<Alert>,
}

impl Receiver {
    /// Listens until `stop`; alerts whose signature is not by `secret` are refused.
    pub(super) async fn start(secret: &[u8], stop: CancellationToken) -> std::io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let address = listener.local_addr()?;
        let (sender, alerts) = mpsc::channel(QUEUE);
        let inbox = Arc::new(Inbox { secret: secret.to_vec(), alerts: sender });
        let router = Router::new().route("/", post(receive)).with_state(inbox);
        tokio::spawn(async move {
            let serving = axum::serve(listener, router);
            stop.run_until_cancelled(async { serving.await }).await;
        });
        Ok(Self { address, alerts })
    }
}

async fn receive(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if !is_signed(&inbox.secret, &headers, &body) {
        return StatusCode::UNAUTHORIZED;
    }
    match serde_json::from_slice(&body) {
        Ok(alert) => {
            // A full queue makes the sender try again, as any busy receiver's would.
            let sent = inbox.alerts.try_send(alert);
            if sent.is_ok() { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE }
        }
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

/// As the Standard Webhooks specification says: HMAC-SHA256 over `id.timestamp.body`.
fn is_signed(secret: &[u8], headers: &HeaderMap, body: &[u8]) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(id), Some(at), Some(signatures)) =
        (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"))
    else {
        return false;
    };
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret) else { return false };
    let mac = mac.chain_update(format!("{id}.{at}.")).chain_update(body);
    signatures
        .split(' ')
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .any(|signature| mac.clone().verify_slice(&signature).is_ok())
}
