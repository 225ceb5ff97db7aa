//! What may lie between the daemon and an API server: a proxy that passes everything on, and on request answers in the
//! server's place, loses its answer, falls silent, or shows what was long ago.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{Method, Request, Response, StatusCode, Uri};
use futures::StreamExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What is asked of the API server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Ask {
    /// Read one object.
    Get,
    /// A list.
    List,
    /// A watch.
    Watch,
    /// A change, in earnest.
    Write,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Nothing yet: this one is let through.
    Nothing,
    /// The proxy answers, and nothing reaches the server.
    Answer(StatusCode, Value),
    /// The proxy answers this, with the seconds that are to be waited.
    Later(StatusCode, u64),
    /// The connection stays open, and no answer ever comes; what was asked for is done all the same, or is not.
    NoAnswer { is_done: bool },
    /// It reaches the server, and the connection breaks before the answer.
    LostAnswer,
    /// It reaches the server, and the proxy answers something else.
    OtherAnswer(StatusCode),
    /// A watch that is closed at once with an event that says so.
    GoneInStream,
    /// The answer to the first such request.
    AsAtFirst,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) ask: Ask,
    pub(super) resource: String,
    pub(super) at: Instant,
    /// What was answered; none where nothing was.
    pub(super) status: Option<StatusCode>,
}

#[derive(Default)]
struct State {
    faults: Mutex<Vec<(Ask, &'static str, Fault)>>,
    seen: Mutex<Vec<Seen>>,
    firsts: Mutex<BTreeMap<String, Bytes>>,
    /// Counts how often all open watches fell silent,
    silences: watch::Sender<u64>,
    /// and how often they were closed.
    cuts: watch::Sender<u64>,
}

/// The proxy; it ends with this value.
pub(super) struct Proxy {
    pub(super) kubeconfig: tempfile::NamedTempFile,
    state: Arc<State>,
    serves: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serves.abort();
    }
}

impl Proxy {
    /// Between whoever has its kubeconfig and the API server that this client leads to, with the rights of that client.
    pub(super) async fn before(client: &Client) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state: Arc<State> = Arc::default();
        let serves = tokio::spawn(serve(listener, client.clone(), Arc::clone(&state)));
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{ "name": "proxy", "cluster": { "server": format!("http://{address}") } }],
            "users": [{ "name": "nobody", "user": {} }],
            "contexts": [{ "name": "proxy", "context": { "cluster": "proxy", "user": "nobody" } }],
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), kubeconfig.to_string()).unwrap();
        Self { kubeconfig: file, state, serves }
    }

    pub(super) fn path(&self) -> &Path {
        self.kubeconfig.path()
    }

    /// The next such requests for these resources, or for `RESOURCE/NAME`, go wrong, one after another.
    pub(super) fn next(&self, ask: Ask, resource: &'static str, faults: impl IntoIterator<Item = Fault>) {
        let faults = faults.into_iter().map(|fault| (ask, resource, fault));
        self.state.faults.lock().unwrap().extend(faults);
    }

    /// No fault is left to come.
    pub(super) fn is_through(&self) -> bool {
        self.state.faults.lock().unwrap().is_empty()
    }

    /// Every watch that is open says nothing more, and stays open.
    pub(super) fn fall_silent(&self) {
        self.state.silences.send_modify(|silences| *silences += 1);
    }

    /// Every watch that is open is closed, as each is after a while.
    pub(super) fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How many requests of each sort came since.
    pub(super) fn counts(&self, since: Instant) -> BTreeMap<(Ask, String), usize> {
        let mut counts = BTreeMap::new();
        for seen in self.state.seen.lock().unwrap().iter().filter(|seen| seen.at >= since) {
            *counts.entry((seen.ask, seen.resource.clone())).or_default() += 1;
        }
        counts
    }

    /// All such requests so far.
    pub(super) fn seen(&self, ask: Ask, resource: &str) -> Vec<Seen> {
        let seen = self.state.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.ask == ask && seen.resource == resource).cloned().collect()
    }
}

async fn serve(listener: TcpListener, client: Client, state: Arc<State>) {
    loop {
        let Ok((connection, _)) = listener.accept().await else { return };
        // As the API server does: each answer would otherwise take 40 ms more.
        connection.set_nodelay(true).unwrap();
        tokio::spawn(connect(connection, client.clone(), Arc::clone(&state)));
    }
}

async fn connect(connection: TcpStream, client: Client, state: Arc<State>) {
    let answer = service_fn(move |request| pass(request, client.clone(), Arc::clone(&state)));
    // A fault that breaks the connection is an error here, and whoever asked has gone at times.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), answer).await;
}

async fn pass(
    request: Request<Incoming>,
    client: Client,
    state: Arc<State>,
) -> Result<Response<axum::body::Body>, io::Error> {
    let (ask, resource, name) = what(request.method(), request.uri());
    let fault = take_fault(&state, ask, [&resource, &format!("{resource}/{name}")]);
    let number = {
        let mut seen = state.seen.lock().unwrap();
        seen.push(Seen { ask, resource: resource.clone(), at: Instant::now(), status: None });
        seen.len() - 1
    };
    let answer = answer(request, &client, &state, (ask, &resource), fault).await;
    if let Ok(answer) = &answer {
        state.seen.lock().unwrap()[number].status = Some(answer.status());
    }
    answer
}

async fn answer(
    request: Request<Incoming>,
    client: &Client,
    state: &State,
    (ask, resource): (Ask, &str),
    fault: Option<Fault>,
) -> Result<Response<axum::body::Body>, io::Error> {
    let lost = || io::Error::from(io::ErrorKind::ConnectionReset);
    match fault {
        None | Some(Fault::Nothing) => {}
        Some(Fault::Answer(status, body)) => return Ok(own(status, &body)),
        Some(Fault::Later(status, seconds)) => {
            let mut answer = Response::new("Too many requests, please try again later.\n".into());
            *answer.status_mut() = status;
            answer.headers_mut().insert("Retry-After", seconds.into());
            return Ok(answer);
        }
        Some(Fault::NoAnswer { is_done }) => {
            if is_done {
                forward(request, client).await?;
            }
            return std::future::pending().await;
        }
        Some(Fault::LostAnswer) => {
            forward(request, client).await?;
            return Err(lost());
        }
        Some(Fault::OtherAnswer(code)) => {
            forward(request, client).await?;
            return Ok(own(code, &status(code, "InternalError", "an error on the server")));
        }
        Some(Fault::GoneInStream) => {
            let gone = status(StatusCode::GONE, "Expired", "too old resource version");
            let event = json!({ "type": "ERROR", "object": gone });
            return Ok(Response::new(format!("{event}\n").into()));
        }
        Some(Fault::AsAtFirst) => {
            let first = state.firsts.lock().unwrap().get(resource).cloned().expect("there was one");
            return Ok(Response::new(first.into()));
        }
    }
    let answer = forward(request, client).await?;
    match ask {
        Ask::Watch => Ok(until_silence(answer, state)),
        Ask::List => {
            let (parts, body) = answer.into_parts();
            let body = axum::body::to_bytes(axum::body::Body::new(body), usize::MAX).await.map_err(io::Error::other)?;
            state.firsts.lock().unwrap().entry(resource.to_owned()).or_insert_with(|| body.clone());
            Ok(Response::from_parts(parts, body.into()))
        }
        Ask::Get | Ask::Write => Ok(answer.map(axum::body::Body::new)),
    }
}

/// The events of a watch, until the next cut; from the next silence on nothing, and no end.
fn until_silence(answer: Response<Body>, state: &State) -> Response<axum::body::Body> {
    let (silences, cuts) = (state.silences.subscribe(), state.cuts.subscribe());
    let (parts, body) = answer.into_parts();
    let events = axum::body::Body::new(body).into_data_stream();
    let events = futures::stream::unfold(events, move |mut events| {
        let (mut silences, mut cuts) = (silences.clone(), cuts.clone());
        async move {
            tokio::select! {
                _ = cuts.changed() => None,
                _ = silences.changed() => {
                    let _ = cuts.changed().await;
                    None
                }
                event = events.next() => event.map(|event| (event, events)),
            }
        }
    });
    Response::from_parts(parts, axum::body::Body::from_stream(events))
}

async fn forward(request: Request<Incoming>, client: &Client) -> Result<Response<Body>, io::Error> {
    let (mut parts, body) = request.into_parts();
    parts.headers.remove("host");
    let body = axum::body::to_bytes(axum::body::Body::new(body), usize::MAX).await.map_err(io::Error::other)?;
    client.send(Request::from_parts(parts, Body::from(body.to_vec()))).await.map_err(io::Error::other)
}

fn take_fault(state: &State, ask: Ask, names: [&str; 2]) -> Option<Fault> {
    let mut faults = state.faults.lock().unwrap();
    let position = faults.iter().position(|(of, what, _)| *of == ask && names.contains(what))?;
    Some(faults.remove(position).2)
}

/// What a request asks for, of which resource, and of which object of it.
fn what(method: &Method, uri: &Uri) -> (Ask, String, String) {
    let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    // /api/v1/… or /apis/GROUP/VERSION/…, then namespaces/NAME/ where the resource is in one.
    let parts = &parts[if parts.first() == Some(&"apis") { 3 } else { 2 }.min(parts.len())..];
    let parts = if parts.first() == Some(&"namespaces") && parts.len() > 2 { &parts[2..] } else { parts };
    let [resource, name] = [0, 1].map(|place| parts.get(place).copied().unwrap_or_default().to_owned());
    let query = uri.query().unwrap_or_default();
    let is_set = |wanted: &str| query.split('&').any(|part| part == wanted);
    let ask = if method != Method::GET {
        let is_change = !is_set("dryRun=All") && !resource.ends_with("reviews");
        if is_change { Ask::Write } else { Ask::Get }
    } else if is_set("watch=true") {
        Ask::Watch
    } else if parts.len() > 1 {
        Ask::Get
    } else {
        Ask::List
    };
    (ask, resource, name)
}

fn own(code: StatusCode, body: &Value) -> Response<axum::body::Body> {
    let mut answer = Response::new(body.to_string().into());
    *answer.status_mut() = code;
    answer.headers_mut().insert("content-type", "application/json".parse().unwrap());
    answer
}

/// What the API server says of a failure.
pub(super) fn status(code: StatusCode, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code.as_u16(), "reason": reason, "message": message,
    })
}
