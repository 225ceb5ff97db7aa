//! The pod that this process runs in, and the workload that owns it.

use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Api, Client};
use rustix::system::uname;
use tokio::time::timeout;

use super::describe;
use super::rights::to_find_owner;
use crate::domain::policy::ObjectKind;

/// Names the pod, as the downward API gives it (`metadata.name`).
const POD_NAME: &str = "POD_NAME";

/// Names its namespace, likewise (`metadata.namespace`).
const POD_NAMESPACE: &str = "POD_NAMESPACE";

/// A pod by its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The name of this process's pod: of the host where the downward API says nothing, which in a pod is the same unless its
/// spec says otherwise.
#[must_use]
pub fn pod_name() -> String {
    said(POD_NAME).unwrap_or_else(|| uname().nodename().to_string_lossy().into_owned())
}

fn said(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl OwnPod {
    /// The pod that this process runs in, where the downward API names it.
    #[must_use]
    pub fn told() -> Option<Self> {
        Some(Self { namespace: said(POD_NAMESPACE)?, name: said(POD_NAME)? })
    }

    /// The same, by what the client and the host say where the downward API says nothing.
    #[must_use]
    pub fn guessed(client: &Client) -> Self {
        let namespace = said(POD_NAMESPACE).unwrap_or_else(|| client.default_namespace().to_owned());
        Self { namespace, name: pod_name() }
    }

    /// The workload that owns it: its controller, or the Deployment that controls that.
    ///
    /// # Errors
    /// In one line, what the API server says, that it does not answer within `patience`, or what controls the pod instead.
    pub async fn owner(&self, client: &Client, patience: Duration) -> Result<(ObjectKind, String), String> {
        let late = |_| Err(format!("who owns {self} is not known: no answer within {patience:?}"));
        timeout(patience, self.look_up(client)).await.unwrap_or_else(late)
    }

    async fn look_up(&self, client: &Client) -> Result<(ObjectKind, String), String> {
        let pods = Api::<Pod>::namespaced(client.clone(), &self.namespace);
        let pod = pods.get_metadata(&self.name).await.map_err(|error| self.unsaid(&error))?;
        let controller = controller(&pod.metadata).ok_or_else(|| format!("nothing controls {self}"))?;
        if controller.kind != "ReplicaSet" {
            return self.object(controller);
        }
        let sets = Api::<ReplicaSet>::namespaced(client.clone(), &self.namespace);
        let set = sets.get_metadata(&controller.name).await.map_err(|error| self.unsaid(&error))?;
        let above = self::controller(&set.metadata)
            .ok_or_else(|| format!("{self} is of the ReplicaSet {}, which no Deployment controls", controller.name))?;
        self.object(above)
    }

    fn object(&self, controller: &OwnerReference) -> Result<(ObjectKind, String), String> {
        let kind = match controller.kind.as_str() {
            "Deployment" => ObjectKind::Deployment,
            "StatefulSet" => ObjectKind::StatefulSet,
            "DaemonSet" => ObjectKind::DaemonSet,
            other => {
                return Err(format!("{self} is controlled by the {other} {}, which has no releases", controller.name));
            }
        };
        Ok((kind, controller.name.clone()))
    }

    fn unsaid(&self, error: &kube::Error) -> String {
        let said = format!("who owns {self} is not known: {}", describe(error));
        match error {
            kube::Error::Api(status) if status.is_forbidden() => {
                let rules: Vec<String> = to_find_owner().iter().map(|right| right.rule()).collect();
                format!("{said}; a Role in {} with {} grants it", self.namespace, rules.join(" and "))
            }
            _ => said,
        }
    }
}

impl std::fmt::Display for OwnPod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the pod {} in {}", self.name, self.namespace)
    }
}

fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

#[cfg(test)]
mod tests {
    use hyper::{Request, Response};
    use kube::client::Body;

    use super::*;

    #[tokio::test]
    async fn an_api_server_that_does_not_answer_is_not_waited_for() {
        let silent =
            tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, std::io::Error>>());
        let pod = OwnPod { namespace: "prod".to_owned(), name: "shop-1".to_owned() };
        let client = Client::new(silent, "prod");
        let owner = pod.owner(&client, Duration::from_millis(20));
        let told = timeout(Duration::from_secs(20), owner).await.expect("it ends").unwrap_err();
        assert!(told.ends_with("no answer within 20ms"), "{told}");
    }
}
