//! Connections: as many as are bearable, each with a bounded time for its heads, all of them ended at shutdown.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::shield::Ends;
use super::{AppState, router};
use crate::clock::Turns;

/// Connections at one time; more wait until one ends.
const CONNECTION_LIMIT: usize = 512;

/// How long a peer may leave untaken what is sent to it, in milliseconds.
const UNTAKEN_LIMIT: u32 = 30_000;

/// How long a peer may take for a request's head, or be silent between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest head of a request, in bytes.
const HEAD_LIMIT: usize = 16 * 1024;

/// How long requests under way may take to end once the daemon is told to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Time to wait where a connection can't be taken: no file descriptor is left, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`, then lets requests under way end. `turns` counts while connections are taken, or wait for room.
pub async fn serve(listener: TcpListener, state: Arc<AppState>, turns: Turns, stop: CancellationToken) {
    let app = router(state);
    let room = Arc::new(Semaphore::new(CONNECTION_LIMIT));
    let mut connections = JoinSet::new();
    loop {
        turns.note();
        while connections.try_join_next().is_some() {}
        let taken = tokio::select! {
            () = stop.cancelled() => break,
            taken = take(&listener, &room) => taken,
            () = tokio::time::sleep(Turns::PERIOD) => continue,
        };
        match taken {
            Ok((stream, permit)) => {
                connections.spawn(attend(stream, app.clone(), stop.clone(), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_LIMIT, drained).await.is_err() {
        tracing::warn!(limit = ?DRAIN_LIMIT, open = connections.len(), "connections were cut off at shutdown");
    }
}

async fn take(listener: &TcpListener, room: &Arc<Semaphore>) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

/// One connection, from its first byte to its last. What goes wrong on it is the peer's affair.
async fn attend(stream: TcpStream, app: Router, stop: CancellationToken, permit: OwnedSemaphorePermit) {
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
    // Small answers go out at once.
    let _ = stream.set_nodelay(true);
    // A peer that takes no more of its answer does not keep its place for ever.
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNTAKEN_LIMIT);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Ends { peer, local });
        let answer = app.clone().oneshot(request.map(Body::new));
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection broke off");
    }
    drop(permit);
}
