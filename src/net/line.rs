//! A connection to one plain HTTP peer that is kept for its next request.
//!
//! Hundreds of pages are read every few seconds, and a pooled client costs more than the pages do. Here each peer has one
//! connection, and what reads an answer from it lives no longer than the answer: the reader is asked for the next piece
//! and brings it in by itself, with no other task to wake, and between two answers nothing is left but the socket. TLS
//! and proxies are for [`super::Caller`].

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::caller::CONNECT_TIMEOUT;
use super::fault::classify_answer;
use super::resolve::{Unresolved, lookup};
use crate::domain::observation::{Fault, FaultKind};

/// How long an address may keep silent before the next one is asked as well.
const NEXT_AFTER: Duration = Duration::from_millis(300);

/// Read buffer of an answer, in bytes: a page of usual size comes in a few pieces, and they stay in the processor's cache.
const READ_BUFFER: usize = 64 * 1024;

/// Longest head of an answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// One peer, and the connection to it while there is one.
#[derive(Debug)]
pub struct Line {
    host: String,
    port: u16,
    authority: HeaderValue,
    path: Uri,
    idle: Option<TcpStream>,
}

/// An answer whose body is still on its way. Read to its end it gives its connection back to the line; dropped before
/// that, it closes it.
#[derive(Debug)]
pub struct Answer<'l> {
    response: Response<Incoming>,
    /// None once it is over.
    exchange: Option<Exchange>,
    idle: &'l mut Option<TcpStream>,
}

/// One request and its answer.
#[derive(Debug)]
struct Exchange {
    sender: SendRequest<String>,
    /// What moves the bytes; none once the peer has ended it.
    connection: Option<Connection<TokioIo<TcpStream>, String>>,
}

impl Line {
    /// A line to the address of a plain HTTP URL; nothing is opened yet. `None` for any other URL.
    #[must_use]
    pub fn to(url: &Url) -> Option<Self> {
        if url.scheme() != "http" {
            return None;
        }
        let host = url.host_str()?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Some(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port_or_known_default()?,
            authority: HeaderValue::try_from(authority).ok()?,
            path: Uri::try_from(path).ok()?,
            idle: None,
        })
    }

    /// Asks for the URL's page. A kept connection that the peer has closed in the meantime is opened anew, once;
    /// `opened` is called for each that is. The deadline is for the caller to set; when the returned future is dropped,
    /// the connection is closed.
    ///
    /// # Errors
    /// What the failure was.
    pub async fn get(&mut self, headers: HeaderMap, opened: impl FnOnce()) -> Result<Answer<'_>, Fault> {
        let kept = match self.idle.take().filter(is_quiet) {
            Some(stream) => again(stream, self.request(headers.clone())).await,
            None => None,
        };
        let (response, exchange) = match kept {
            Some(answer) => answer?,
            None => {
                let stream = self.connect().await?;
                opened();
                let asked = Exchange::begin(stream, self.request(headers)).await;
                asked.map_err(|error| classify_answer(&error))?
            }
        };
        Ok(Answer { response, exchange: Some(exchange), idle: &mut self.idle })
    }

    fn request(&self, headers: HeaderMap) -> Request<String> {
        let mut request = Request::new(String::new());
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = headers;
        request.headers_mut().entry(HOST).or_insert_with(|| self.authority.clone());
        request
    }

    async fn connect(&self) -> Result<TcpStream, Fault> {
        let stream = self.dial(Instant::now() + CONNECT_TIMEOUT).await?;
        // Requests are one small write each; a socket that can't be told so still works.
        let _as_it_is = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn dial(&self, deadline: Instant) -> Result<TcpStream, Fault> {
        let lookup = timeout_at(deadline, lookup(&self.host, self.port)).await;
        let addresses = match lookup {
            Ok(found) => found.map_err(|error| classify_answer(&error))?,
            Err(_) => return Err(late(FaultKind::Unreachable, "the name was not resolved")),
        };
        match timeout_at(deadline, first_of(addresses)).await {
            Ok(first) => first,
            Err(_) => Err(late(FaultKind::Timeout, "no connection")),
        }
    }
}

/// The first connection that one of the addresses takes, asked in this order: each as soon as those before it have failed,
/// or have kept silent for a while, as other clients do (RFC 8305).
pub(super) async fn first_of(addresses: Vec<SocketAddr>) -> Result<TcpStream, Fault> {
    let mut left = addresses.into_iter();
    let mut asked = FuturesUnordered::new();
    let mut fault = classify_answer(&Unresolved(io::ErrorKind::NotFound.into()));
    loop {
        asked.extend(left.next().map(TcpStream::connect));
        match timeout(NEXT_AFTER, asked.next()).await {
            Ok(Some(Ok(stream))) => return Ok(stream),
            Ok(Some(Err(error))) => fault = classify_answer(&error),
            Ok(None) => return Err(fault),
            Err(_) => {}
        }
    }
}

/// Whether nothing has come over a kept connection since its last answer: no end, and nothing that could pass for the
/// next answer.
fn is_quiet(stream: &TcpStream) -> bool {
    stream.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

type Begun = (Response<Incoming>, Exchange);

/// Asks over a kept connection; `None` where it turned out to be closed.
async fn again(stream: TcpStream, request: Request<String>) -> Option<Result<Begun, Fault>> {
    match Exchange::begin(stream, request).await {
        Ok(begun) => Some(Ok(begun)),
        Err(error) => Some(classify_answer(&error)).filter(|fault| fault.kind != FaultKind::Refused).map(Err),
    }
}

impl Exchange {
    /// Sends the request and waits for the head of the answer.
    async fn begin(stream: TcpStream, request: Request<String>) -> Result<Begun, hyper::Error> {
        let mut builder = Builder::new();
        builder.read_buf_exact_size(Some(READ_BUFFER)).max_header_size(MAX_HEAD);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let mut answer = std::pin::pin!(sender.send_request(request));
        let mut connection = Some(connection);
        let head = poll_fn(|context| {
            drive(&mut connection, context);
            answer.as_mut().poll(context)
        });
        let response = head.await?;
        Ok((response, Self { sender, connection }))
    }

    /// The socket, where another request may follow on it.
    async fn into_idle(mut self) -> Option<TcpStream> {
        poll_fn(|context| {
            drive(&mut self.connection, context);
            Poll::Ready(())
        })
        .await;
        let parts = self.connection.filter(|_| self.sender.is_ready())?.into_parts();
        parts.read_buf.is_empty().then(|| parts.io.into_inner())
    }
}

/// Moves what can be moved now. How a connection ended is told by the answer that ended with it.
fn drive(connection: &mut Option<Connection<TokioIo<TcpStream>, String>>, context: &mut Context<'_>) {
    if let Some(open) = connection
        && Pin::new(open).poll(context).is_ready()
    {
        *connection = None;
    }
}

impl Answer<'_> {
    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// How long the body says that it is, in bytes.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.response.body().size_hint().exact()
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// What the failure was.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            match poll_fn(|context| self.poll_frame(context)).await {
                None => {
                    if let Some(exchange) = self.exchange.take() {
                        *self.idle = exchange.into_idle().await;
                    }
                    return Ok(None);
                }
                Some(Err(error)) => return Err(classify_answer(&error)),
                Some(Ok(frame)) => {
                    // Trailers say nothing that is asked for.
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Asked twice, since what was asked for the first time is brought in between.
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let known = Pin::new(self.response.body_mut()).poll_frame(context);
        if known.is_ready() {
            return known;
        }
        if let Some(exchange) = &mut self.exchange {
            drive(&mut exchange.connection, context);
        }
        Pin::new(self.response.body_mut()).poll_frame(context)
    }
}

fn late(kind: FaultKind, what: &str) -> Fault {
    Fault { kind, detail: format!("{what} within {} s", CONNECT_TIMEOUT.as_secs()) }
}
