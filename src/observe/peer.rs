//! One address that is asked again and again, over a kept connection where it is plain HTTP.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use reqwest::{Method, StatusCode, Url};

use super::stats::ObserveStats;
use crate::domain::observation::{Fault, FaultKind};
use crate::net::{Caller, Line, classify_answer};

/// One address.
#[derive(Debug)]
pub(super) struct Peer {
    url: Url,
    caller: Arc<Caller>,
    line: Option<Line>,
}

impl Peer {
    /// Nothing is opened yet.
    pub(super) fn new(url: Url, caller: Arc<Caller>) -> Self {
        Self { line: Line::to(&url), url, caller }
    }

    /// Asks for the page. The head of the answer is there when this returns; its body comes with [`Reply::chunk`].
    pub(super) async fn get(&mut self, extra: HeaderMap, stats: &ObserveStats) -> Result<Reply, Fault> {
        if let Some(line) = &mut self.line
            && let Some(mut headers) = self.caller.plain_headers()?
        {
            headers.extend(extra);
            let before = line.opened();
            let answer = line.get(headers).await;
            stats.connected(line.opened() - before);
            return answer.map(Reply::Plain);
        }
        let request = self.caller.request(Method::GET, self.url.clone())?.headers(extra);
        let answer = request.send().await.map_err(|error| self.caller.fault(error))?;
        Ok(Reply::Called(answer, Arc::clone(&self.caller)))
    }
}

/// An answer whose body is still on its way.
#[derive(Debug)]
pub(super) enum Reply {
    /// Over a connection of our own.
    Plain(hyper::Response<Incoming>),
    /// Over TLS or a proxy.
    Called(reqwest::Response, Arc<Caller>),
}

impl Reply {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Reply::Plain(answer) => answer.status(),
            Reply::Called(answer, _) => answer.status(),
        }
    }

    fn headers(&self) -> &HeaderMap {
        match self {
            Reply::Plain(answer) => answer.headers(),
            Reply::Called(answer, _) => answer.headers(),
        }
    }

    /// A header's text, where it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    fn known(&self, name: &HeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    pub(super) fn content_type(&self) -> Option<&str> {
        self.known(&CONTENT_TYPE)
    }

    pub(super) fn content_encoding(&self) -> Option<&str> {
        self.known(&CONTENT_ENCODING)
    }

    /// How long the body says that it is.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Reply::Plain(answer) => answer.body().size_hint().exact(),
            Reply::Called(answer, _) => answer.content_length(),
        }
    }

    /// The next piece of the body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        match self {
            Reply::Called(answer, caller) => answer.chunk().await.map_err(|error| caller.fault(error)),
            Reply::Plain(answer) => loop {
                let body = answer.body_mut();
                let frame = std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context)).await;
                match frame {
                    None => return Ok(None),
                    Some(Err(error)) => return Err(classify_answer(&error)),
                    Some(Ok(frame)) => {
                        // Trailers say nothing that is asked for.
                        if let Ok(data) = frame.into_data() {
                            return Ok(Some(data));
                        }
                    }
                }
            },
        }
    }
}

/// What an answer that is not a success says of the peer. One that refuses this side's credentials says nothing about how
/// the service is: it is this side's sight that is lost.
pub(super) fn status_fault(status: StatusCode) -> Fault {
    let kind = if refuses_credentials(status) { FaultKind::Local } else { FaultKind::Status };
    let detail = match kind {
        FaultKind::Local => format!("answered {status}: the peer refuses these credentials"),
        _ => format!("answered {status}"),
    };
    Fault { kind, detail }
}

/// Whether the answer is about who asks.
pub(super) fn refuses_credentials(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED)
}
