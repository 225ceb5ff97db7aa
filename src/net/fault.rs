//! Which sort of failure a failed request is: the peer's, or this side's own sight.

use std::error::Error;
use std::io;

use super::resolve::Unresolved;
use crate::domain::observation::{Fault, FaultKind};
use crate::host::text::{one_line, printable};

/// Longest particulars, in bytes, before they are cut.
const DETAIL_LIMIT: usize = 256;

/// Classifies a failed request. The text names neither the URL nor anything sent, since both may hold secrets.
///
/// Behind a proxy (`proxied`), a connection that fails is this side's loss of sight: nothing was learned of the peer.
#[must_use]
pub fn classify(error: reqwest::Error, proxied: bool) -> Fault {
    let error = error.without_url();
    let kind = match kind(&error) {
        FaultKind::Refused | FaultKind::Timeout if proxied && error.is_connect() => FaultKind::Unreachable,
        kind => kind,
    };
    Fault { kind, detail: detail(&error) }
}

/// Classifies the failure of a request over a [`super::Line`], of its answer or of the answer's body.
#[must_use]
pub fn classify_answer(error: &(dyn Error + 'static)) -> Fault {
    // Whatever has no sort of its own closed the connection before its answer was whole.
    Fault { kind: cause(error).unwrap_or(FaultKind::Refused), detail: detail(error) }
}

fn detail(error: &(dyn Error + 'static)) -> String {
    let mut detail = one_line(&printable(innermost(error).to_string().as_bytes()));
    if detail.len() > DETAIL_LIMIT {
        detail.truncate(detail.floor_char_boundary(DETAIL_LIMIT));
        detail.push('…');
    }
    detail
}

fn kind(error: &reqwest::Error) -> FaultKind {
    if error.is_builder() {
        return FaultKind::Local;
    }
    if let Some(kind) = cause(error) {
        return kind;
    }
    if error.is_timeout() {
        FaultKind::Timeout
    } else if error.is_status() {
        FaultKind::Status
    } else if error.is_decode() {
        FaultKind::Malformed
    } else if error.is_connect() || error.is_request() || error.is_body() {
        // What is left closed the connection before its answer was whole.
        FaultKind::Refused
    } else {
        FaultKind::Local
    }
}

/// The sort of the first error in the chain that has one. An error that only carries another one in is asked last.
fn cause(error: &(dyn Error + 'static)) -> Option<FaultKind> {
    let mut carrier = None;
    for cause in chain(error) {
        let kind = if cause.is::<Unresolved>() {
            Some(FaultKind::Unreachable)
        } else if cause.is::<rustls::Error>() {
            Some(FaultKind::Tls)
        } else if let Some(io) = cause.downcast_ref::<io::Error>() {
            let kind = io_kind(io.kind());
            if io.get_ref().is_some() {
                carrier = carrier.or(kind);
                continue;
            }
            kind
        } else {
            match cause.downcast_ref::<hyper::Error>() {
                Some(http) if http.is_parse_too_large() => Some(FaultKind::TooLarge),
                Some(http) if http.is_parse() => Some(FaultKind::Malformed),
                Some(_) | None => None,
            }
        };
        if kind.is_some() {
            return kind;
        }
    }
    carrier
}

fn io_kind(kind: io::ErrorKind) -> Option<FaultKind> {
    match kind {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(FaultKind::Refused),
        io::ErrorKind::TimedOut => Some(FaultKind::Timeout),
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable => Some(FaultKind::Unreachable),
        io::ErrorKind::PermissionDenied => Some(FaultKind::Local),
        // hyper's words for a chunk that is none.
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Some(FaultKind::Malformed),
        _ => None,
    }
}

/// An error and all below it. `io::Error::source` skips the error that it carries: a TLS error lies in two of them.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&e| match e.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(carried) => Some(carried),
        None => e.source(),
    })
}

fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    chain(error).last().unwrap_or(error)
}
