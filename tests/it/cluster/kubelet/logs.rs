//! What containers have written, as the API server asks for it on behalf of `kubectl logs`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path as Segments, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What is asked for of a log.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    #[serde(default)]
    previous: bool,
    tail_lines: Option<usize>,
    limit_bytes: Option<usize>,
}

/// Where a container's output goes. A pod that takes the name of another begins anew.
pub(super) fn file(logs: &Path, namespace: &str, pod: &str, container: &str) -> PathBuf {
    // No name has an underscore in it.
    logs.join(format!("{namespace}_{pod}_{container}.log"))
}

/// Where that of the life before is.
pub(super) fn previous(log: &Path) -> PathBuf {
    log.with_extension("previous")
}

/// Serves the logs in a directory on any free port of the loopback address.
pub(super) async fn serve(logs: PathBuf) -> (u16, impl Future<Output = ()>) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["node".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let listener = Tls { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
    let router = Router::new().route("/containerLogs/{namespace}/{pod}/{container}", get(log)).with_state(logs);
    (port, async move { axum::serve(listener, router).await.unwrap() })
}

async fn log(
    State(logs): State<PathBuf>,
    Segments([namespace, pod, container]): Segments<[String; 3]>,
    Query(wanted): Query<Wanted>,
) -> (StatusCode, String) {
    let file = file(&logs, &namespace, &pod, &container);
    let file = if wanted.previous { previous(&file) } else { file };
    let Ok(text) = std::fs::read_to_string(file) else {
        return (StatusCode::BAD_REQUEST, format!("no such container \"{container}\" in pod \"{pod}\" was found"));
    };
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let skipped = wanted.tail_lines.map_or(0, |tail| lines.len().saturating_sub(tail));
    let mut text = lines[skipped..].concat();
    if let Some(limit) = wanted.limit_bytes {
        text.truncate(text.floor_char_boundary(limit));
    }
    (StatusCode::OK, text)
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, from)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
