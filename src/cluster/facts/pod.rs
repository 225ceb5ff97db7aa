//! A pod: whose it is, whether it is in service, and what befell its containers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{self, ContainerState, ContainerStatus};

use super::{Fact, controller, count};
use crate::cluster::template::TEMPLATE_HASH;
use crate::domain::time::Timestamp;

/// Where the controllers of StatefulSets and DaemonSets name a pod's revision.
const REVISION_HASH: &str = "controller-revision-hash";

/// The reason with which a container ended that the kernel killed for memory.
const OOM_KILLED: &str = "OOMKilled";

/// Why a container waits whose image can't be had.
const NO_IMAGE: [&str; 5] =
    ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"];

/// A pod of a workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pod {
    /// What the API server tells it by.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// The uid of what controls it: a ReplicaSet, a StatefulSet or a DaemonSet.
    pub owner: String,
    /// The hash of its revision's template.
    pub hash: String,
    /// Its address, once it has one.
    pub ip: Option<IpAddr>,
    /// Whether it is in service.
    pub is_ready: bool,
    /// Whether a node took it up: what nobody has room for, or a node without a kubelet, never began.
    pub is_begun: bool,
    /// When it was made, by the API server's clock.
    pub created: Option<Timestamp>,
    /// Whether it is about to end, or has ended for good.
    pub is_ending: bool,
    /// When it is to have ended, where it was told to.
    pub ends_by: Option<Timestamp>,
    /// Its containers.
    pub containers: Vec<Container>,
    /// The ports that its containers name.
    pub ports: Vec<(String, u16)>,
}

/// What befell one container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Times that it was started again.
    pub restarts: u32,
    /// Its newest end that is known: the how manieth it was, and whether it was killed for memory.
    pub end: Option<(u32, bool)>,
    /// Whether it waits for an image that can't be had.
    pub lacks_image: bool,
}

impl Fact for Pod {
    fn uid(&self) -> &str {
        &self.uid
    }

    fn group(&self) -> &str {
        &self.owner
    }
}

/// What a pod says; nothing of one that no controller runs.
impl TryFrom<v1::Pod> for Pod {
    type Error = ();

    fn try_from(object: v1::Pod) -> Result<Self, ()> {
        let (meta, status) = (object.metadata, object.status.unwrap_or_default());
        let owner = controller(&meta).ok_or(())?;
        let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name));
        let hash = label(TEMPLATE_HASH).or_else(|| label(REVISION_HASH)).ok_or(())?;
        let short = hash.strip_prefix(owner.name.as_str()).and_then(|rest| rest.strip_prefix('-'));
        let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
        let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let statuses =
            status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
        // An init container that is always started again runs beside the others for as long as the pod does.
        let before = object.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        let sidecars = before.filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let running = object.spec.iter().flat_map(|spec| &spec.containers).chain(sidecars);
        let ports = running.flat_map(|container| container.ports.iter().flatten());
        let ports = ports.filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?)));
        Ok(Self {
            hash: short.unwrap_or(hash).to_owned(),
            ip: status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()),
            is_ready: ready.is_some_and(|condition| condition.status == "True"),
            is_begun: status.start_time.is_some(),
            created: meta.creation_timestamp.as_ref().map(|at| Timestamp::from_millis(at.0.as_millisecond())),
            ends_by: meta
                .deletion_timestamp
                .as_ref()
                .filter(|_| !has_ended)
                .map(|at| Timestamp::from_millis(at.0.as_millisecond())),
            is_ending: meta.deletion_timestamp.is_some() || has_ended,
            containers: statuses.map(Container::from).collect(),
            ports: ports.collect(),
            owner: owner.uid.clone(),
            uid: meta.uid.clone().ok_or(())?,
            name: meta.name.clone().ok_or(())?,
        })
    }
}

impl From<&ContainerStatus> for Container {
    fn from(status: &ContainerStatus) -> Self {
        let restarts = count(Some(status.restart_count));
        let ended = |state: Option<&ContainerState>| {
            let end = state?.terminated.as_ref()?;
            Some(end.reason.as_deref() == Some(OOM_KILLED))
        };
        let now = ended(status.state.as_ref()).map(|oom| (restarts + 1, oom));
        let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref()?.reason.as_deref());
        Self {
            name: status.name.clone(),
            restarts,
            end: now.or_else(|| ended(status.last_state.as_ref()).map(|oom| (restarts, oom))),
            lacks_image: waiting.is_some_and(|reason| NO_IMAGE.contains(&reason)),
        }
    }
}

impl Pod {
    /// A port by its number, or by the name that a container gives it.
    #[must_use]
    pub fn port(&self, wanted: &str) -> Option<u16> {
        let named = || self.ports.iter().find(|(name, _)| name == wanted).map(|(_, port)| *port);
        wanted.parse().ok().or_else(named)
    }

    /// Restarts of all its containers.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.containers.iter().map(|container| u64::from(container.restarts)).sum()
    }

    /// Whether an image can't be had.
    #[must_use]
    pub fn lacks_image(&self) -> bool {
        self.containers.iter().any(|container| container.lacks_image)
    }
}

/// Kills for memory in one pod. Its status tells only of each container's last end, so they are counted as they come.
#[derive(Clone, Debug, Default)]
pub struct Kills {
    /// The last end that was counted, of each container.
    counted: BTreeMap<String, u32>,
    total: u64,
}

impl Kills {
    /// All kills seen, with what the pod says now.
    pub fn note(&mut self, pod: &Pod) -> u64 {
        for container in &pod.containers {
            let Some((number, oom)) = container.end else { continue };
            let counted = self.counted.entry(container.name.clone()).or_default();
            if number > *counted {
                *counted = number;
                self.total += u64::from(oom);
            }
        }
        self.total
    }
}
