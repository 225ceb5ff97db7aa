//! Which address leads where.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use super::problem::Problem;
use super::{AppState, BODY_LIMIT, alertmanager, events, page, read, shield, write};

/// An address, in OpenAPI's notation, and the one method that it takes.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `get` or `post`.
    pub method: &'static str,
    /// With `{…}` where a name stands.
    pub path: &'static str,
    handler: fn() -> MethodRouter<Arc<AppState>>,
}

const fn tells(path: &'static str, handler: fn() -> MethodRouter<Arc<AppState>>) -> Route {
    Route { method: "get", path, handler }
}

const fn does(path: &'static str, handler: fn() -> MethodRouter<Arc<AppState>>) -> Route {
    Route { method: "post", path, handler }
}

/// Every address. Those that do something are guarded by `shield::permit`.
pub const ROUTES: [Route; 22] = [
    tells("/", || get(page::page)),
    tells("/livez", || get(read::livez)),
    tells("/readyz", || get(read::readyz)),
    tells("/metrics", || get(read::metrics)),
    tells("/api/v1/openapi.json", || get(openapi)),
    tells("/api/v1/leadership", || get(read::leadership)),
    tells("/api/v1/outbox", || get(read::outbox)),
    tells("/api/v1/workloads", || get(read::workloads)),
    tells("/api/v1/workloads/{workload}", || get(read::workload)),
    tells("/api/v1/workloads/{workload}/explain", || get(read::explain)),
    tells("/api/v1/workloads/{workload}/plan", || get(read::plan)),
    tells("/api/v1/incidents", || get(read::incidents)),
    tells("/api/v1/incidents/{incident}", || get(read::incident)),
    tells("/api/v1/incidents/{incident}/report", || get(read::report)),
    tells("/api/v1/events", || get(events::events)),
    does("/api/v1/workloads/{workload}/rollback", || post(write::rollback)),
    does("/api/v1/workloads/{workload}/pause", || post(write::pause)),
    does("/api/v1/workloads/{workload}/resume", || post(write::resume)),
    does("/api/v1/incidents/{incident}/approve", || post(write::approve)),
    does("/api/v1/incidents/{incident}/reject", || post(write::reject)),
    does("/api/v1/triggers", || post(write::trigger)),
    does("/api/v1/alertmanager", || post(alertmanager::webhook)),
];

/// The contract, as it is shipped.
const OPENAPI: &str = include_str!("../../config/openapi.json");

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// The whole application.
pub fn router(state: Arc<AppState>) -> Router {
    ROUTES
        .iter()
        .fold(Router::new(), |router, route| {
            let handler = (route.handler)();
            let guarded = from_fn_with_state(Arc::clone(&state), shield::permit);
            router.route(route.path, if route.method == "post" { handler.route_layer(guarded) } else { handler })
        })
        .fallback(|| async { Problem::not_found("nothing is at this address") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this address does not take this method")
        })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(Arc::clone(&state), shield::same_site))
        .layer(from_fn(shield::hurry))
        .layer(from_fn(shield::mark))
        .with_state(state)
}
