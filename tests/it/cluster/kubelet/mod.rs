//! A little kubelet: the pods that are bound to its one node are real processes with addresses of their own.

mod container;
mod environment;
mod logs;
mod pod;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use pod::Keeper;

/// The node.
pub(crate) const NODE: &str = "node";
/// Pods have addresses 10.42.x.y, each of which is this machine.
const PODS: [u8; 2] = [10, 42];

/// The kubelet of one node.
pub(super) struct Kubelet {
    client: Client,
    /// Where containers' output goes.
    logs: PathBuf,
    kept: HashMap<String, watch::Sender<Pod>>,
    keepers: JoinSet<()>,
    last: u16,
}

impl Kubelet {
    /// Creates the node, ready for pods.
    pub(super) async fn start(client: Client, logs: PathBuf) -> Self {
        let mut keepers = JoinSet::new();
        let (port, serving) = logs::serve(logs.clone()).await;
        keepers.spawn(serving);
        let nodes: Api<Node> = Api::all(client.clone());
        let node = json!({ "metadata": { "name": NODE, "labels": { "kubernetes.io/hostname": NODE } } });
        let node: Node = serde_json::from_value(node).unwrap();
        nodes.create(&PostParams::default(), &node).await.expect("the node is created");
        let capacity = json!({ "cpu": "512", "memory": "2048Gi", "pods": "20000", "ephemeral-storage": "4096Gi" });
        let status = json!({ "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }],
            "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
        } });
        let params = PatchParams::default();
        nodes.patch_status(NODE, &params, &Patch::Merge(&status)).await.expect("the node is ready");
        // A new node is not ready until somebody says so; the controller that would is not there.
        let taints = json!({ "spec": { "taints": null } });
        nodes.patch(NODE, &params, &Patch::Merge(&taints)).await.expect("the node takes pods");
        // On a machine's own network there may be another cluster, whose pods have addresses as well.
        Self { client, logs, kept: HashMap::new(), keepers, last: any() }
    }

    /// Keeps the node's pods, as long as there is a control plane.
    pub(super) async fn run(mut self) {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={NODE}"));
        let mut events = std::pin::pin!(watcher(pods, config).default_backoff());
        let mut listed = Vec::new();
        loop {
            // A watch that ends is begun anew by the watcher itself.
            let Ok(Some(event)) = events.try_next().await else { continue };
            while let Some(ended) = self.keepers.try_join_next() {
                ended.expect("a keeper keeps its pod to the end");
            }
            match event {
                Event::Apply(pod) => self.saw(pod),
                Event::Delete(pod) => drop(self.kept.remove(&pod.uid().unwrap_or_default())),
                Event::Init => listed.clear(),
                Event::InitApply(pod) => {
                    listed.push(pod.uid().unwrap_or_default());
                    self.saw(pod);
                }
                Event::InitDone => self.kept.retain(|uid, _| listed.contains(uid)),
            }
        }
    }

    fn saw(&mut self, pod: Pod) {
        let uid = pod.uid().unwrap_or_default();
        if let Some(kept) = self.kept.get(&uid) {
            kept.send_replace(pod);
            return;
        }
        let keeper = Keeper::new(self.client.clone(), &pod, self.address());
        let (sender, newest) = watch::channel(pod);
        self.kept.insert(uid, sender);
        self.keepers.spawn(keeper.keep(newest, self.logs.clone()));
    }

    /// An address that no other pod had for a long time, and that nothing else on this machine uses.
    fn address(&mut self) -> IpAddr {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            let [third, fourth] = self.last.to_be_bytes();
            let ip = IpAddr::V4(Ipv4Addr::new(PODS[0], PODS[1], third, fourth));
            let is_host = !matches!(fourth, 0 | 255);
            if is_host && std::net::TcpListener::bind(SocketAddr::new(ip, 8080)).is_ok() {
                return ip;
            }
        }
    }
}

fn any() -> u16 {
    let [.., third, fourth] = RandomState::new().hash_one(NODE).to_be_bytes();
    u16::from_be_bytes([third, fourth])
}
