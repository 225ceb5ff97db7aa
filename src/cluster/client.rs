//! Clients of API servers, one a context.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use tokio::sync::Mutex;

use super::ClusterError;

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Names the API server within a pod.
const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";

/// The clients that were asked for so far.
#[derive(Default)]
pub struct Clients(Mutex<BTreeMap<Option<String>, Client>>);

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clients")
    }
}

impl Clients {
    /// The client for a context of the kubeconfig; for none: of the cluster that this process runs in, else of the
    /// kubeconfig's current context.
    ///
    /// # Errors
    /// [`ClusterError`]; the next call tries again.
    pub async fn get(&self, context: Option<&str>) -> Result<Client, ClusterError> {
        let mut known = self.0.lock().await;
        let key = context.map(str::to_owned);
        if let Some(client) = known.get(&key) {
            return Ok(client.clone());
        }
        let client = Client::try_from(configuration(context).await?).map_err(|e| ClusterError::Client(Box::new(e)))?;
        known.insert(key, client.clone());
        Ok(client)
    }
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
