//! A reverse proxy in front of the demo's service, with a weight for each backend, as a load balancer has.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::app::RELEASE_HEADER;

/// How long a backend may take to answer.
const BACKEND_TIMEOUT: Duration = Duration::from_secs(10);
/// The header that leads a request to the canary while there is one.
pub(super) const CANARY_HEADER: &str = "x-canary";
/// Headers of a backend's answer that are passed on.
const PASSED_ON: [HeaderName; 2] = [header::CONTENT_TYPE, HeaderName::from_static(RELEASE_HEADER)];

/// One backend: an instance of one release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backend {
    pub(super) name: String,
    pub(super) release: String,
    pub(super) address: SocketAddr,
    /// Its share of the traffic; zero: none.
    pub(super) weight: u32,
}

#[derive(Debug, Default)]
struct Table {
    backends: Vec<Backend>,
    /// Smooth weighted round robin, as in nginx: the one with the most credit is next and pays for all.
    credit: Vec<i64>,
}

/// Who gets which share of the traffic. Backends are ordered by age: the newest release last.
#[derive(Debug, Default)]
pub(super) struct Routes(Mutex<Table>);

impl Routes {
    /// Puts backends in place of all there are, at once.
    pub(super) fn set(&self, backends: Vec<Backend>) {
        let credit = vec![0; backends.len()];
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Table { backends, credit };
    }

    /// All backends.
    pub(super) fn backends(&self) -> Vec<Backend> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).backends.clone()
    }

    /// Gives all traffic to the backends of one release. Whether there are any.
    pub(super) fn give_all_to(&self, release: &str) -> bool {
        let mut backends = self.backends();
        if !backends.iter().any(|backend| backend.release == release) {
            return false;
        }
        for backend in &mut backends {
            backend.weight = u32::from(backend.release == release);
        }
        self.set(backends);
        true
    }

    /// The newest release that gets traffic.
    pub(super) fn current(&self) -> Option<String> {
        self.newest_in_service().map(|backend| backend.release)
    }

    fn newest_in_service(&self) -> Option<Backend> {
        self.backends().into_iter().rfind(|backend| backend.weight > 0)
    }

    fn next(&self) -> Option<Backend> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Table { backends, credit } = &mut *table;
        for (credit, backend) in credit.iter_mut().zip(&*backends) {
            *credit += i64::from(backend.weight);
        }
        let all: i64 = backends.iter().map(|backend| i64::from(backend.weight)).sum();
        let richest = (0..backends.len()).filter(|&i| backends[i].weight > 0).max_by_key(|&i| credit[i])?;
        credit[richest] -= all;
        Some(backends[richest].clone())
    }
}

#[derive(Clone)]
struct Proxy {
    routes: Arc<Routes>,
    client: reqwest::Client,
}

/// The proxy as a service.
pub(super) fn router(routes: Arc<Routes>) -> reqwest::Result<Router> {
    let client = super::client(BACKEND_TIMEOUT)?;
    Ok(Router::new().fallback(pass_on).with_state(Proxy { routes, client }))
}

/// Requests of the demo have no body; none is passed on.
async fn pass_on(State(proxy): State<Proxy>, request: Request) -> Response {
    let wants_canary = request.headers().contains_key(CANARY_HEADER);
    let backend = if wants_canary { proxy.routes.newest_in_service() } else { proxy.routes.next() };
    let Some(backend) = backend else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no backend is in service\n").into_response();
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let url = format!("http://{}{path}", backend.address);
    match proxy.client.request(request.method().clone(), url).send().await {
        Ok(answer) => answered(answer).await,
        Err(error) => failed(&backend, &error),
    }
}

async fn answered(answer: reqwest::Response) -> Response {
    let status = answer.status();
    let mut headers = HeaderMap::new();
    for name in PASSED_ON {
        if let Some(value) = answer.headers().get(&name) {
            headers.insert(name, value.clone());
        }
    }
    (status, headers, Body::from_stream(answer.bytes_stream())).into_response()
}

fn failed(backend: &Backend, error: &reqwest::Error) -> Response {
    let status = if error.is_timeout() { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
    (status, format!("{} does not answer\n", backend.name)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(name: &str, release: &str, weight: u32) -> Backend {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        Backend { name: name.to_owned(), release: release.to_owned(), address, weight }
    }

    fn draw(routes: &Routes, count: usize) -> Vec<String> {
        (0..count).filter_map(|_| routes.next()).map(|backend| backend.name).collect()
    }

    #[test]
    fn each_backend_gets_its_share_and_no_one_comes_in_bursts() {
        let routes = Routes::default();
        assert!(routes.next().is_none());
        routes.set(vec![backend("stable", "v1", 7), backend("canary", "v2", 3)]);
        let drawn = draw(&routes, 1000);
        assert_eq!(drawn.iter().filter(|name| *name == "canary").count(), 300);
        assert!(drawn.windows(2).all(|pair| pair != ["canary", "canary"]));
        assert_eq!(routes.current().as_deref(), Some("v2"));
    }

    #[test]
    fn all_traffic_goes_to_one_release_at_once() {
        let routes = Routes::default();
        routes.set(vec![backend("blue", "v1", 0), backend("green", "v2", 1)]);
        assert_eq!(draw(&routes, 3), ["green"; 3]);
        assert!(routes.give_all_to("v1"));
        assert_eq!(draw(&routes, 3), ["blue"; 3]);
        assert_eq!(routes.current().as_deref(), Some("v1"));
        assert!(!routes.give_all_to("v9"));
        assert_eq!(draw(&routes, 3), ["blue"; 3]);
    }
}
