//! What every request passes before it is looked at, and every answer carries.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::problem::Problem;
use super::{AppState, REQUEST_TIMEOUT};
use crate::markup;
use crate::report;

/// Header by which a caller says who asks.
const BY: &str = "x-rollbackd-by";

/// Longest name of a caller, in characters.
const BY_LIMIT: usize = 64;

/// No script, no frame, no form, no other origin: only the one style sheet that the pages carry.
static CONTENT_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = STANDARD.encode(Sha256::digest(report::STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// Who asks.
    pub(super) peer: SocketAddr,
    /// Where the daemon was reached.
    pub(super) local: SocketAddr,
}

/// Every answer says what a browser may do with it.
pub(super) async fn mark(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, CONTENT_POLICY.clone());
    response
}

/// Bounds the time until the answer's head.
pub(super) async fn hurry(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::unavailable("the answer took too long").into_response(),
    }
}

/// A browser that another site has led here is turned away: by name (DNS rebinding), or by origin (forged calls).
pub(super) async fn same_site(
    State(state): State<Arc<AppState>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let local = request.extensions().get::<Ends>().map(|ends| ends.local.ip());
    if !may_be_called(host_name(host), local, state.external_host.as_deref()) {
        let detail = "this name is not the daemon's: it listens on loopback only. Behind a proxy, set `external_url`";
        return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail));
    }
    if request.method() == Method::POST && !is_same_origin(headers, host) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "a page of another origin can't ask for a change"));
    }
    Ok(next.run(request).await)
}

fn is_same_origin(headers: &HeaderMap, host: &str) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let from_here = text("origin").is_none_or(|origin| {
        origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
    });
    from_here && text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"))
}

/// A daemon on loopback answers to loopback's names and to its own. One that the network can reach is no target of
/// rebinding, since whoever leads a browser to it could go there himself.
fn may_be_called(name: &str, local: Option<IpAddr>, external: Option<&str>) -> bool {
    let is_loopback_only = local.is_none_or(|address| address.to_canonical().is_loopback());
    let lower = name.to_ascii_lowercase();
    !is_loopback_only
        || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
        || lower == "localhost"
        || lower.ends_with(".localhost")
        || external.is_some_and(|external| lower == external.to_ascii_lowercase())
}

/// The name without its port.
fn host_name(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => host.get(..colon).unwrap_or(host),
        _ => host,
    }
}

/// Every call that changes something: with the token, and at a bounded pace. Calls without it have a pace of their own, so
/// that nobody behind the same address keeps an operator from a pause.
pub(super) async fn permit(
    State(state): State<Arc<AppState>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let peer = peer(request.extensions()).ip();
    let checked = state.token.check(request.headers()).await;
    let limiter = if checked.is_ok() { &state.internal.rate } else { &state.internal.refused };
    limiter.take(peer, (state.now)()).map_err(|seconds| {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "more than 10 requests a second from one source")
            .with(header::RETRY_AFTER, HeaderValue::from(seconds))
    })?;
    checked?;
    Ok(next.run(request).await)
}

fn peer(extensions: &axum::http::Extensions) -> SocketAddr {
    extensions.get::<Ends>().map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |ends| ends.peer)
}

/// Who asks, as the record names them: what the caller says, else where it comes from.
pub(super) fn caller(headers: &HeaderMap, extensions: &axum::http::Extensions) -> String {
    let said = headers.get(BY).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let said = said.map(|said| markup::plain(&said).trim().chars().take(BY_LIMIT).collect::<String>());
    said.filter(|said| !said.is_empty()).unwrap_or_else(|| peer(extensions).ip().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_loopback_only_loopbacks_names_are_answered() {
        let loopback = Some(IpAddr::from([127, 0, 0, 1]));
        for (host, expected) in [
            ("localhost:9477", true),
            ("LOCALHOST", true),
            ("127.0.0.1:9477", true),
            ("[::1]:9477", true),
            ("[::1]", true),
            ("app.localhost:1", true),
            ("rollbackd.example.com", true),
            ("evil.example.com:9477", false),
            ("localhost.evil.com", false),
            ("", false),
        ] {
            let external = Some("Rollbackd.example.com");
            assert_eq!(may_be_called(host_name(host), loopback, external), expected, "{host}");
        }
        assert!(may_be_called("rollbackd.prod.svc", Some(IpAddr::from([10, 0, 0, 7])), None));
    }

    #[test]
    fn a_page_of_another_origin_is_told_apart() {
        for (name, value, expected) in [
            ("origin", "http://localhost:9477", true),
            ("origin", "http://evil.example.com", false),
            ("origin", "null", false),
            ("sec-fetch-site", "same-origin", true),
            ("sec-fetch-site", "cross-site", false),
            ("accept", "x", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(is_same_origin(&headers, "localhost:9477"), expected, "{name}: {value}");
        }
    }
}
