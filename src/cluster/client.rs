//! Clients of API servers, one a context.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as Held, PoisonError};
use std::time::Duration;

use hyper::header::RETRY_AFTER;
use hyper::{Method, Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tower::BoxError;
use tower::filter::FilterLayer;
use tower::util::MapResponseLayer;

use super::ClusterError;

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// An API server that asks for a longer wait is asked again all the same.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Names the API server within a pod.
const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";

/// Reviews of rights are sent as if they were written.
const REVIEWS: &str = "/apis/authorization.k8s.io/";

/// Asks the API server only to look at a write.
const DRY_RUN: &str = "dryRun=All";

/// Whether anything may be changed at this moment, or why not.
pub type Gate = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The clients that were asked for so far.
#[derive(Default)]
pub struct Clients {
    known: Mutex<BTreeMap<Option<String>, Client>>,
    gate: Option<Gate>,
    courtesy: Courtesy,
}

/// When the API servers behind some clients want to be asked again.
#[derive(Clone, Debug, Default)]
pub struct Courtesy(Arc<Held<Option<Instant>>>);

impl Courtesy {
    /// How long one of them still asks to be left alone.
    #[must_use]
    pub fn wait(&self) -> Duration {
        let not_before = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
    }

    fn listen<B>(&self, response: &Response<B>) {
        if let Some(wait) = wait(response) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + wait);
        }
    }
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clients")
    }
}

impl Clients {
    /// Clients through which no change leaves while the gate is shut, whoever sends it and however long ago it was decided.
    #[must_use]
    pub fn gated(gate: Gate) -> Self {
        Self { gate: Some(gate), ..Self::default() }
    }

    /// With this one where no context is named.
    #[cfg(test)]
    pub(crate) fn of(client: Client) -> Self {
        Self { known: Mutex::new([(None, client)].into()), ..Self::default() }
    }

    /// The client for a context of the kubeconfig; for none: of the cluster that this process runs in, else of the
    /// kubeconfig's current context.
    ///
    /// # Errors
    /// [`ClusterError`]; the next call tries again.
    pub async fn get(&self, context: Option<&str>) -> Result<Client, ClusterError> {
        let mut known = self.known.lock().await;
        let key = context.map(str::to_owned);
        if let Some(client) = known.get(&key) {
            return Ok(client.clone());
        }
        let config = configuration(context).await?;
        let client = self.client(config).map_err(|error| ClusterError::Client(Box::new(error)))?;
        known.insert(key, client.clone());
        Ok(client)
    }

    /// When the API servers want to be asked again, as these clients were told.
    #[must_use]
    pub fn courtesy(&self) -> Courtesy {
        self.courtesy.clone()
    }

    fn client(&self, config: Config) -> Result<Client, kube::Error> {
        let courtesy = self.courtesy.clone();
        let listen = MapResponseLayer::new(move |response| {
            courtesy.listen(&response);
            response
        });
        let builder = ClientBuilder::try_from(config)?.with_layer(&listen);
        let Some(gate) = self.gate.clone() else { return Ok(builder.build()) };
        let layer = FilterLayer::new(move |request: Request<Body>| -> Result<Request<Body>, BoxError> {
            if is_change(&request) {
                gate()?;
            }
            Ok(request)
        });
        Ok(builder.with_layer(&layer).build())
    }
}

/// How long an answer asks to wait, in whole seconds.
fn wait<B>(response: &Response<B>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

fn is_change<B>(request: &Request<B>) -> bool {
    let is_dry = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == DRY_RUN));
    request.method() != Method::GET && !is_dry && !request.uri().path().starts_with(REVIEWS)
}

async fn configuration(context: Option<&str>) -> Result<Config, ClusterError> {
    let mut config = if context.is_none() && std::env::var_os(IN_CLUSTER).is_some() {
        Config::incluster().map_err(|error| ClusterError::InCluster(Box::new(error)))?
    } else {
        let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
        Config::from_kubeconfig(&options).await.map_err(|error| ClusterError::Kubeconfig(Box::new(error)))?
    };
    config.connect_timeout = Some(CONNECT_LIMIT);
    // Whoever asks knows what may be repeated.
    config.default_retry = false;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_something_needs_an_open_gate() {
        let table = [
            (Method::GET, "/apis/apps/v1/namespaces/a/deployments/b", false),
            (Method::PATCH, "/apis/apps/v1/namespaces/a/deployments/b", true),
            (Method::PATCH, "/apis/apps/v1/namespaces/a/deployments/b?fieldManager=rollbackd", true),
            (Method::PATCH, "/apis/apps/v1/namespaces/a/deployments/b?dryRun=All&fieldManager=rollbackd", false),
            (Method::PATCH, "/apis/apps/v1/namespaces/a/deployments/b?fieldManager=dryRun=Alles", true),
            (Method::DELETE, "/api/v1/namespaces/a/pods/b", true),
            (Method::POST, "/api/v1/namespaces/a/events", true),
            (Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", false),
        ];
        for (method, uri, expected) in table {
            let request = Request::builder().method(method.clone()).uri(uri).body(()).unwrap();
            assert_eq!(is_change(&request), expected, "{method} {uri}");
        }
    }
}
