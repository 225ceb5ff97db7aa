//! JSON bodies: of a bounded size, of the right type, with known fields only.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;

use super::problem::Problem;
use super::{BODY_LIMIT, BODY_TIMEOUT};
use crate::markup;

/// A request's JSON body. No body at all counts as `{}`.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = request.headers().get(header::CONTENT_TYPE).map(is_json);
        // What is announced as too large is not waited for.
        if announced(request.headers()).is_some_and(|bytes| bytes > BODY_LIMIT as u64) {
            return Err(too_large());
        }
        let bytes = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state)).await;
        let bytes = bytes.map_err(|_| too_slow())?.map_err(unreadable)?;
        match is_json {
            None if bytes.is_empty() => return parse(b"{}"),
            Some(true) => {}
            None | Some(false) => {
                let detail = "the body must be JSON, with `content-type: application/json`";
                return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
            }
        }
        parse(if bytes.is_empty() { b"{}" } else { &bytes })
    }
}

/// How many bytes a body is said to have.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large() -> Problem {
    untaken(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {BODY_LIMIT} bytes"))
}

fn too_slow() -> Problem {
    untaken(StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {} s", BODY_TIMEOUT.as_secs()))
}

/// What is left of the body would be taken for the next request.
fn untaken(status: StatusCode, detail: String) -> Problem {
    Problem::new(status, detail).with(header::CONNECTION, HeaderValue::from_static("close"))
}

fn is_json(value: &HeaderValue) -> bool {
    let text = value.to_str().unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

fn unreadable(rejection: BytesRejection) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => Problem::bad_request("the body could not be read"),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<Body<T>, Problem> {
    match Json::<T>::from_bytes(bytes) {
        Ok(Json(value)) => Ok(Body(value)),
        Err(rejection) => Err(Problem::bad_request(markup::plain(&rejection.body_text()))),
    }
}

/// What a caller wrote, fit for the record: one line, nothing that steers a terminal, not longer than `limit` characters.
///
/// # Errors
/// 422 where it is empty or too long.
pub(super) fn text(field: &str, value: &str, limit: usize) -> Result<String, Problem> {
    let value = markup::plain(value).trim().to_owned();
    let length = value.chars().count();
    if value.is_empty() {
        return Err(Problem::unprocessable(format!("`{field}` must not be empty")));
    }
    if length > limit {
        return Err(Problem::unprocessable(format!("`{field}` has {length} characters, {limit} at most")));
    }
    Ok(value)
}
