//! One address that is asked again and again, over a kept connection where it is plain HTTP.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use reqwest::{Method, RequestBuilder, StatusCode, Url};

use super::stats::ObserveStats;
use crate::domain::observation::{Fault, FaultKind};
use crate::net::{Answer, Caller, Line};

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

    /// What will be asked. The peer's time begins after this: a file that does not come is this side's trouble.
    pub(super) async fn question(&mut self) -> Result<Question<'_>, Fault> {
        if let Some(line) = &mut self.line
            && let Some(headers) = self.caller.plain_headers().await?
        {
            return Ok(Question::Plain(line, headers));
        }
        let request = self.caller.request(Method::GET, self.url.clone()).await?;
        Ok(Question::Called(request, Arc::clone(&self.caller)))
    }
}

/// A question that has all that it needs.
#[derive(Debug)]
pub(super) enum Question<'p> {
    /// Over a connection of our own.
    Plain(&'p mut Line, HeaderMap),
    /// Over TLS or a proxy.
    Called(RequestBuilder, Arc<Caller>),
}

impl<'p> Question<'p> {
    /// Asks for the page. The head of the answer is there when this returns; its body comes with [`Reply::chunk`].
    pub(super) async fn ask(self, extra: HeaderMap, stats: &ObserveStats) -> Result<Reply<'p>, Fault> {
        match self {
            Question::Plain(line, mut headers) => {
                headers.extend(extra);
                let answer = line.get(headers, || stats.connected(1)).await?;
                Ok(Reply::Plain(Box::new(answer)))
            }
            Question::Called(request, caller) => {
                let answer = request.headers(extra).send().await.map_err(|error| caller.fault(error))?;
                Ok(Reply::Called(answer, caller))
            }
        }
    }
}

/// An answer whose body is still on its way.
#[derive(Debug)]
pub(super) enum Reply<'p> {
    /// Over a connection of our own.
    Plain(Box<Answer<'p>>),
    /// Over TLS or a proxy.
    Called(reqwest::Response, Arc<Caller>),
}

impl Reply<'_> {
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
            Reply::Plain(answer) => answer.length(),
            Reply::Called(answer, _) => answer.content_length(),
        }
    }

    /// The next piece of the body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        match self {
            Reply::Called(answer, caller) => answer.chunk().await.map_err(|error| caller.fault(error)),
            Reply::Plain(answer) => answer.chunk().await,
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
