//! What a test does with the cluster: deploy, look, wait.

use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::NamespaceResourceScope as Scope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::plane;
use super::stage::{Place, place};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// Bound on a whole test.
const LONGEST: Duration = Duration::from_secs(400);
/// The same where there are thousands of objects.
const LONGEST_OF_A_FLEET: Duration = Duration::from_secs(3_600);
/// Time between two looks at a list.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The port on which containers listen.
pub(crate) const PORT: u16 = 8080;

/// What a test needs of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Needs {
    /// An API server and the controllers.
    Api,
    /// Pods that do as their image's tag says.
    Pods,
    /// The same as the first, and time for thousands of objects.
    Fleet,
}

impl Needs {
    /// Bound on a whole test.
    const fn longest(self) -> Duration {
        match self {
            Needs::Api | Needs::Pods => LONGEST,
            Needs::Fleet => LONGEST_OF_A_FLEET,
        }
    }
}

/// A test's own part of the cluster.
pub(crate) struct Cluster {
    client: Client,
    kubeconfig: PathBuf,
    namespace: String,
}

/// Runs a test in a Kubernetes namespace of its own. The caller is the test's function; the name is found by the closure's.
///
/// # Panics
///
/// Where the test does, or there is no cluster. Nothing is passed over in silence: with another cluster, what needs pods
/// that do as they are told is left out by name.
pub(crate) fn on_cluster<T: AsyncFnOnce(&Cluster)>(needs: Needs, test: T) {
    let path = std::any::type_name::<T>();
    let path = path.split("::{{closure}}").next().unwrap_or(path);
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    match place() {
        Place::Inside(kubeconfig) => block_on(Cluster::lend(&kubeconfig, name, needs, test)),
        Place::Outside(held) => held.run(name),
        Place::Elsewhere(_) if needs == Needs::Pods => {
            use std::io::Write;
            let line = format!("left out: {name} needs the tests' own cluster\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
        }
        Place::Elsewhere(kubeconfig) => block_on(Cluster::lend(&kubeconfig, name, needs, test)),
    }
}

fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work);
}

impl Cluster {
    async fn lend<T: AsyncFnOnce(&Cluster)>(kubeconfig: &Path, test: &str, needs: Needs, body: T) {
        let text = std::fs::read_to_string(kubeconfig).unwrap();
        let client = plane::client(&text).await;
        let words = test.rsplit("::").next().unwrap_or(test).replace('_', "-");
        let words: String = words.chars().take(50).collect();
        let namespace = format!("{words}-{}", std::process::id());
        let cluster = Cluster { client, kubeconfig: kubeconfig.to_owned(), namespace };
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        let object = json!({ "metadata": { "name": cluster.namespace } });
        let object = serde_json::from_value(object).unwrap();
        namespaces.create(&PostParams::default(), &object).await.expect("a namespace");
        let outcome = AssertUnwindSafe(timeout(needs.longest(), body(&cluster))).catch_unwind().await;
        let failed = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(Box::new("the test takes too long") as Box<dyn std::any::Any + Send>),
            Err(panic) => Some(panic),
        };
        let scene = if failed.is_some() { cluster.scene().await } else { String::new() };
        namespaces.delete(&cluster.namespace, &DeleteParams::default()).await.expect("the namespace goes");
        if let Some(panic) = failed {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            panic!("{text}\n{scene}");
        }
    }

    /// The test's own namespace.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A file with an administrator's access.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The administrator's client.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The same, with another access for daemons.
    pub(super) fn with(&self, kubeconfig: PathBuf) -> Self {
        Self { client: self.client.clone(), kubeconfig, namespace: self.namespace.clone() }
    }

    /// Objects of one kind in the test's namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = Scope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects of a kind that is in no namespace.
    pub(crate) fn everywhere<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = ()>,
    {
        Api::all(self.client.clone())
    }

    /// Creates an object in the test's namespace.
    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = Scope, DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Creates a Deployment whose pods have the label `app`, and does not wait.
    pub(crate) async fn deploy(&self, name: &str, replicas: u32, image: &str) -> Deployment {
        self.create(deployment(name, replicas, image)).await
    }

    /// Gives a Deployment's container another image, as `kubectl set image` does.
    pub(crate) async fn set_image(&self, name: &str, image: &str) -> Deployment {
        let container = json!({ "name": "app", "image": image });
        let patch = json!({ "spec": { "template": { "spec": { "containers": [container] } } } });
        self.patch(name, &patch).await
    }

    /// A strategic merge patch of a Deployment.
    pub(crate) async fn patch(&self, name: &str, patch: &Value) -> Deployment {
        self.api().patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap()
    }

    /// The pods with this label `app`.
    pub(crate) async fn pods(&self, app: &str) -> Vec<Pod> {
        self.api().list(&ListParams::default().labels(&format!("app={app}"))).await.unwrap().items
    }

    /// The ReplicaSets with this label `app`.
    pub(crate) async fn replica_sets(&self, app: &str) -> Vec<ReplicaSet> {
        self.api().list(&ListParams::default().labels(&format!("app={app}"))).await.unwrap().items
    }

    /// Template hash of the revision that a Deployment is at.
    pub(crate) async fn hash(&self, name: &str) -> String {
        const REVISION: &str = "deployment.kubernetes.io/revision";
        let observed = self.until(name, "observed", |found: &Deployment| {
            let observed = found.status.as_ref().and_then(|status| status.observed_generation);
            observed >= found.metadata.generation && found.annotations().contains_key(REVISION)
        });
        let revision = observed.await.annotations()[REVISION].clone();
        let mut sets = self.replica_sets(name).await.into_iter();
        let current = sets.find(|set| set.annotations().get(REVISION) == Some(&revision));
        current.expect("a ReplicaSet of the revision").labels()["pod-template-hash"].clone()
    }

    /// Waits until an object is as it should be.
    pub(crate) async fn until<K>(&self, name: &str, what: &str, so: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = Scope, DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug + Send + 'static,
    {
        let watching = await_condition(self.api::<K>(), name, |object: Option<&K>| object.is_some_and(&so));
        match timeout(PATIENCE, watching).await {
            Ok(found) => found.expect("it can be watched").expect("it is there"),
            Err(_) => panic!("{name} is not {what} after {} s", PATIENCE.as_secs()),
        }
    }

    /// Waits until all replicas are of the current revision and available.
    pub(crate) async fn rolled_out(&self, name: &str) -> Deployment {
        self.until(name, "rolled out", is_rolled_out).await
    }

    /// Waits until the pods with this label `app` are as they should be.
    pub(crate) async fn until_pods(&self, app: &str, what: &str, so: impl Fn(&[Pod]) -> bool) -> Vec<Pod> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pods = self.pods(app).await;
            if so(&pods) {
                return pods;
            }
            assert!(Instant::now() < deadline, "the pods of {app} are not {what} after {} s", PATIENCE.as_secs());
            sleep(LOOK_EVERY).await;
        }
    }

    /// What is in the namespace, for whoever reads of a failure.
    async fn scene(&self) -> String {
        let mut lines = vec![format!("in namespace {}:", self.namespace)];
        let all = ListParams::default();
        for found in self.api::<Deployment>().list(&all).await.into_iter().flatten() {
            lines.push(format!("deployment {}: {}", found.name_any(), json!(found.status)));
        }
        for found in self.api::<Pod>().list(&all).await.into_iter().flatten() {
            lines.push(format!("pod {}: {}", found.name_any(), json!(found.status)));
        }
        for found in self.api::<Event>().list(&all).await.into_iter().flatten() {
            let [reason, message] = [found.reason, found.message].map(Option::unwrap_or_default);
            let about = found.involved_object.name.unwrap_or_default();
            lines.push(format!("event {about}: {reason}: {message}"));
        }
        lines.join("\n")
    }
}

/// A Deployment as people write it: a label, a port, a readiness probe.
pub(crate) fn deployment(name: &str, replicas: u32, image: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": template(name, image),
        },
    })
}

/// The template of its pods.
pub(crate) fn template(app: &str, image: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": app } },
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "containers": [{
                "name": "app",
                "image": image,
                "ports": [{ "name": "http", "containerPort": PORT }],
                "readinessProbe": { "httpGet": { "path": "/ready", "port": "http" }, "periodSeconds": 1 },
            }],
        },
    })
}

/// Whether all replicas are of the current revision and available.
pub(crate) fn is_rolled_out(found: &Deployment) -> bool {
    let wanted = found.spec.as_ref().and_then(|spec| spec.replicas);
    let Some(status) = &found.status else { return false };
    // The API leaves zeros out.
    let counts = [status.replicas, status.updated_replicas, status.available_replicas];
    status.observed_generation >= found.metadata.generation
        && counts.iter().all(|count| count.unwrap_or_default() == wanted.unwrap_or_default())
}

/// Whether a pod is ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| &status.conditions).flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
