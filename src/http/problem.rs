//! Errors as RFC 9457 problem documents: what is wrong, with what, and what would help.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::history::HistoryError;
use crate::domain::controller::Refusal;
use crate::engine::{STANDBY, STOPPING, Unavailable};

/// The guard's name where the journal can't be written: the daemon's own trouble, unlike all other guards.
const JOURNAL_BROKEN: &str = "journal-broken";

/// A problem document. `type` is `about:blank`, so that the title is the status' own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem(Box<Particulars>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Particulars {
    status: StatusCode,
    detail: String,
    guard: Option<String>,
    header: Option<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    guard: Option<&'a str>,
}

impl Problem {
    /// A problem of a status, with the particulars.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self(Box::new(Particulars { status, detail: detail.into(), guard: None, header: None }))
    }

    /// With a header that belongs to it.
    #[must_use]
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }

    /// Whether it is the daemon's own trouble, which passes: whoever asked should ask again.
    pub(super) fn is_passing(&self) -> bool {
        self.0.status == StatusCode::SERVICE_UNAVAILABLE
    }

    fn of_guard(mut self, guard: String) -> Self {
        self.0.guard = Some(guard);
        self
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// A defect: logged, and told without particulars.
    pub(super) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "an answer could not be made");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be made; the log says why")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Particulars { status, detail, guard, header } = *self.0;
        let document = Document {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: &detail,
            guard: guard.as_deref(),
        };
        let mut response = (status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = header {
            headers.insert(name, value);
        }
        response
    }
}

impl From<Unavailable> for Problem {
    fn from(error: Unavailable) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Self {
        tracing::warn!(error = &error as &dyn std::error::Error, "the journal could not be read");
        Self::unavailable(error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::NotFound(_) => Self::not_found(detail),
            Refusal::Conflict(_) | Refusal::Repeated => Self::new(StatusCode::CONFLICT, detail),
            Refusal::Invalid(_) => Self::unprocessable(detail),
            Refusal::Held { guard, .. } if [JOURNAL_BROKEN, STANDBY, STOPPING].contains(&guard.as_str()) => {
                Self::unavailable(detail).of_guard(guard)
            }
            Refusal::Held { guard, .. } => Self::new(StatusCode::CONFLICT, detail).of_guard(guard),
        }
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}
