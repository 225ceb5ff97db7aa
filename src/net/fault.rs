//! Which sort of failure a failed request is: the peer's, or this side's own sight.

use std::error::Error;
use std::io;

use super::resolve::Unresolved;
use crate::domain::observation::{Fault, FaultKind};
use crate::host::text::one_line;

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
    let mut detail = one_line(&innermost(&error).to_string());
    if detail.len() > DETAIL_LIMIT {
        detail.truncate(detail.floor_char_boundary(DETAIL_LIMIT));
        detail.push('…');
    }
    Fault { kind, detail }
}

fn kind(error: &reqwest::Error) -> FaultKind {
    if error.is_builder() {
        return FaultKind::Local;
    }
    for cause in chain(error) {
        if cause.is::<Unresolved>() {
            return FaultKind::Unreachable;
        }
        if cause.is::<rustls::Error>() {
            return FaultKind::Tls;
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            // A TLS error travels inside an io::Error, whose `source` skips it.
            if io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
                return FaultKind::Tls;
            }
            if let Some(kind) = io_kind(io.kind()) {
                return kind;
            }
        }
    }
    if error.is_timeout() {
        FaultKind::Timeout
    } else if error.is_status() {
        FaultKind::Status
    } else if error.is_decode()
        || chain(error).filter_map(|e| e.downcast_ref::<hyper::Error>()).any(hyper::Error::is_parse)
    {
        FaultKind::Malformed
    } else if error.is_connect() || error.is_request() || error.is_body() {
        // What is left closed the connection before its answer was whole.
        FaultKind::Refused
    } else {
        FaultKind::Local
    }
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
        _ => None,
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}

fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    chain(error).last().unwrap_or(error)
}
