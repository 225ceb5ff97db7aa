//! What is shipped for a cluster, read as `kustomize` does, and applied; and the daemon's account in it.

use std::path::{Path, PathBuf};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{AuthInfo, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{Scope, pinned_kind};
use kube::{Client, ResourceExt};
use rollbackd::cluster::record_names::record_name;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::namespace::Cluster;
use super::plane;

/// The daemon's account and its namespace: both have this name.
const DAEMON: &str = "rollbackd";
/// The workload that the shipped sidecar is an example for.
const EXAMPLE: &str = "hotswap-api";

/// A document of a file that is shipped under `config/kubernetes`.
pub(super) fn documents(path: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/kubernetes").join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

/// The objects of a folder with a `kustomization.yaml`.
pub(super) fn objects(folder: &str) -> Vec<Value> {
    let [kustomization] = documents(&format!("{folder}/kustomization.yaml")).try_into().unwrap();
    let mut all = Vec::new();
    for resource in kustomization["resources"].as_array().unwrap() {
        all.extend(documents(&format!("{folder}/{}", resource.as_str().unwrap())));
    }
    for object in &mut all {
        if let Some(namespace) = kustomization.get("namespace") {
            object["metadata"]["namespace"] = namespace.clone();
        }
    }
    all
}

/// Applies an object; in this namespace where it has none of its own and its kind is in one.
pub(super) async fn apply(client: &Client, object: &Value, namespace: &str) -> DynamicObject {
    let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let kind: GroupVersionKind = object.types.as_ref().unwrap().try_into().unwrap();
    let (kind, capabilities) = pinned_kind(client, &kind).await.unwrap();
    let namespace = object.namespace().unwrap_or_else(|| namespace.to_owned());
    let api = match capabilities.scope {
        Scope::Cluster => Api::<DynamicObject>::all_with(client.clone(), &kind),
        Scope::Namespaced => Api::namespaced_with(client.clone(), &namespace, &kind),
    };
    let params = PatchParams::apply("administrator").force();
    let name = object.name_any();
    api.patch(&name, &params, &Patch::Apply(&object)).await.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The daemon's account with the shipped rights in the test's namespace, and with those of some extras.
pub(super) struct Account {
    pub(super) client: Client,
    dir: TempDir,
}

impl Account {
    /// Applies what is shipped and what these extras grant.
    pub(super) async fn install(cluster: &Cluster, extras: &[&str]) -> Self {
        let administrator = cluster.client();
        bound(administrator).await;
        let mut rights = objects("namespace");
        for extra in extras {
            rights.extend(objects(&format!("extras/{extra}")));
        }
        for mut object in rights {
            object["metadata"]["namespace"] = cluster.namespace().into();
            apply(administrator, &object, cluster.namespace()).await;
        }
        Self::new(cluster, DAEMON, DAEMON).await
    }

    /// The account of sidecars in the test's namespace with the shipped rights and some of their extras, for a workload of
    /// this name.
    pub(super) async fn of_sidecars(cluster: &Cluster, workload: &str, extras: &[&str]) -> Self {
        bound(cluster.client()).await;
        let mut shipped = objects("sidecar");
        for extra in extras {
            shipped.extend(objects(&format!("sidecar/{extra}")));
        }
        let record = |workload: &str| record_name(&format!("rollbackd-{workload}"), &workload.into());
        for object in shipped.iter().filter(|object| object["kind"] != "Deployment") {
            let text = object.to_string().replace(&record(EXAMPLE), &record(workload)).replace(EXAMPLE, workload);
            let mut object: Value = serde_json::from_str(&text).unwrap();
            object["metadata"]["namespace"] = cluster.namespace().into();
            for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
                subject["namespace"] = cluster.namespace().into();
            }
            apply(cluster.client(), &object, cluster.namespace()).await;
        }
        Self::new(cluster, cluster.namespace(), "rollbackd-sidecar").await
    }

    async fn new(cluster: &Cluster, namespace: &str, name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = kubeconfig(cluster, &token(cluster.client(), namespace, name).await);
        std::fs::write(dir.path().join("kubeconfig"), &kubeconfig).unwrap();
        Self { client: plane::client(&kubeconfig).await, dir }
    }

    /// With a token of this account, and no right but its own.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }
}

/// Applies what is shipped, but for the daemon's own pods: the bounds of what it may write are among it.
async fn bound(administrator: &Client) {
    for object in objects("base").iter().filter(|object| object["kind"] != "Deployment") {
        apply(administrator, object, DAEMON).await;
    }
}

async fn token(client: &Client, namespace: &str, name: &str) -> String {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let request = TokenRequest { spec: Some(TokenRequestSpec::default()), ..TokenRequest::default() };
    let issued = accounts.create_token_request(name, &PostParams::default(), &request).await.unwrap();
    issued.status.unwrap().token.expect("a token")
}

/// The administrator's, with another user in it. JSON is YAML.
fn kubeconfig(cluster: &Cluster, token: &str) -> String {
    let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let mut file = Kubeconfig::from_yaml(&text).unwrap();
    let user = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
    file.auth_infos[0].auth_info = Some(user);
    let mut file = json!(file);
    // A secret is not written by accident.
    file["users"][0]["user"] = json!({ "token": token });
    file.to_string()
}

/// Every folder under `extras`.
pub(super) fn extras() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/kubernetes/extras");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Roles in the test's namespace.
pub(super) fn roles(cluster: &Cluster) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", "Role"));
    Api::namespaced_with(cluster.client().clone(), cluster.namespace(), &kind)
}
