//! A connection to one plain HTTP peer that is kept for its next request.
//!
//! Hundreds of pages are read every few seconds, and a pooled client costs more than the pages do: a read buffer that
//! grows with the largest page and stays, a lookup, a spare connection. Here each peer has one connection with one
//! buffer of a known size. TLS and proxies are for [`super::Caller`].

use std::io;

use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::caller::CONNECT_TIMEOUT;
use super::fault::classify_answer;
use super::resolve::Unresolved;
use crate::domain::observation::{Fault, FaultKind};

/// Read buffer of a connection, in bytes, and the longest head of an answer. A page of usual size comes in ten pieces.
const READ_BUFFER: usize = 16 * 1024;

/// One peer, and the connection to it while there is one.
#[derive(Debug)]
pub struct Line {
    host: String,
    port: u16,
    authority: HeaderValue,
    path: Uri,
    open: Option<Open>,
    opened: u64,
}

/// An open connection and the task that moves its bytes, which ends with it.
#[derive(Debug)]
struct Open {
    sender: SendRequest<String>,
    _mover: AbortOnDropHandle<()>,
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
            open: None,
            opened: 0,
        })
    }

    /// How many connections were opened so far.
    #[must_use]
    pub const fn opened(&self) -> u64 {
        self.opened
    }

    /// Asks for the URL's page. A kept connection that the peer has closed in the meantime is opened anew, once. The
    /// deadline is for the caller to set; when the returned future is dropped, the connection is closed.
    ///
    /// # Errors
    /// What the failure was.
    pub async fn get(&mut self, headers: HeaderMap) -> Result<Response<Incoming>, Fault> {
        if let Some(open) = self.open.take()
            && let Some(answer) = self.again(open, headers.clone()).await
        {
            return answer;
        }
        let mut open = self.connect().await?;
        let answer = open.sender.send_request(self.request(headers)).await;
        let answer = answer.map_err(|error| classify_answer(&error))?;
        self.open = Some(open);
        Ok(answer)
    }

    /// Asks over a kept connection; `None` where it turned out to be closed.
    async fn again(&mut self, mut open: Open, headers: HeaderMap) -> Option<Result<Response<Incoming>, Fault>> {
        open.sender.ready().await.ok()?;
        match open.sender.send_request(self.request(headers)).await {
            Ok(answer) => {
                self.open = Some(open);
                Some(Ok(answer))
            }
            Err(error) => Some(classify_answer(&error)).filter(|fault| fault.kind != FaultKind::Refused).map(Err),
        }
    }

    fn request(&self, headers: HeaderMap) -> Request<String> {
        let mut request = Request::new(String::new());
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = headers;
        request.headers_mut().entry(HOST).or_insert_with(|| self.authority.clone());
        request
    }

    async fn connect(&mut self) -> Result<Open, Fault> {
        self.opened += 1;
        let stream = self.dial(Instant::now() + CONNECT_TIMEOUT).await?;
        // Requests are one small write each; a socket that can't be told so still works.
        let _as_it_is = stream.set_nodelay(true);
        let (sender, connection) = Builder::new()
            .read_buf_exact_size(Some(READ_BUFFER))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| classify_answer(&error))?;
        // The request that fails with the connection says why.
        let mover = tokio::spawn(async move { drop(connection.await) });
        Ok(Open { sender, _mover: AbortOnDropHandle::new(mover) })
    }

    async fn dial(&self, deadline: Instant) -> Result<TcpStream, Fault> {
        let lookup = timeout_at(deadline, tokio::net::lookup_host((self.host.as_str(), self.port))).await;
        let addresses = match lookup {
            Ok(found) => found.map_err(|error| classify_answer(&Unresolved(error)))?,
            Err(_) => return Err(late(FaultKind::Unreachable, "the name was not resolved")),
        };
        let mut last = None;
        for address in addresses {
            match timeout_at(deadline, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = Some(error),
                Err(_) => return Err(late(FaultKind::Timeout, "no connection")),
            }
        }
        Err(match last {
            Some(error) => classify_answer(&error),
            None => classify_answer(&Unresolved(io::ErrorKind::NotFound.into())),
        })
    }
}

fn late(kind: FaultKind, what: &str) -> Fault {
    Fault { kind, detail: format!("{what} within {} s", CONNECT_TIMEOUT.as_secs()) }
}
