//! Where in a cluster a workload is, and by what its objects are told apart.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::settings::SettingKind;

/// Where in which cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// A context of the kubeconfig; none: the cluster that the daemon runs in, else the kubeconfig's current context.
    pub context: Option<String>,
    /// The namespace; none: that of the daemon's own pod.
    pub namespace: Option<String>,
    /// What is watched there.
    pub subject: KubernetesSubject,
    /// The namespace of Argo CD's Applications where a workload's mark names none.
    pub argocd_namespace: String,
    /// What is kept beside the releases themselves.
    pub keep: Keep,
}

/// What is kept of a workload beside what its controller keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// The last lines of containers that ended, in an incident.
    pub logs: bool,
    /// The ConfigMaps that a release names, to go back with it.
    pub configmaps: bool,
    /// The Secrets that a release names, likewise.
    pub secrets: bool,
}

impl Keep {
    /// The sorts of settings that are kept.
    pub fn settings(self) -> impl Iterator<Item = SettingKind> {
        let all = [(SettingKind::ConfigMap, self.configmaps), (SettingKind::Secret, self.secrets)];
        all.into_iter().filter(|(_, is_kept)| *is_kept).map(|(kind, _)| kind)
    }
}

/// What is watched and taken back in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KubernetesSubject {
    /// One object.
    Object {
        /// Its kind.
        kind: ObjectKind,
        /// Its name.
        name: String,
    },
    /// Every Deployment, StatefulSet and DaemonSet with these labels, as a label selector.
    Selected {
        /// The selector, as `kubectl -l` takes it.
        selector: String,
    },
    /// The workload that owns the daemon's own pod, which it runs in as a sidecar.
    OwnerOfPod,
    /// Two Deployments behind one Service, whose selector says which of them serves.
    BlueGreen {
        /// The Service.
        service: String,
        /// The label in its selector that tells the colours apart.
        selector_key: String,
        /// One Deployment.
        blue: String,
        /// The other one.
        green: String,
        /// Whether the bad colour is scaled to 0 once the good one is seen to be well.
        retire: bool,
        /// How to ask which release answers; none: only where the Service leads to is looked at.
        ask: Option<Ask>,
    },
    /// A Deployment that serves and one that tries a new release beside it.
    Canary {
        /// The Deployment that serves.
        stable: String,
        /// The one that tries.
        canary: String,
        /// Whether it is deleted once the other one is seen to be well without it.
        retire: bool,
    },
}

/// How to ask, through a Service, which release answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// An address that leads to the Service from elsewhere; none: its own address, with the pods' path.
    pub url: Option<String>,
    /// The page that every pod has, where one is known.
    pub page: Option<AskedPage>,
    /// Where an answer says which version gave it; none: it may name the pod.
    pub sign: Option<Sign>,
}

/// A page that every pod of a workload has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedPage {
    /// `http` or `https`.
    pub scheme: String,
    /// Which of the pods' ports, by number or by the name that the container gives it.
    pub port: String,
    /// Path, beginning with `/`.
    pub path: String,
}

/// Where an answer says which version gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sign {
    /// A response header.
    Header(String),
    /// A field of the JSON body; dots descend into objects.
    Json(String),
}

/// What leads the traffic to one of two objects: the selector of a Service, which is given another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// The Service.
    pub service: Pin,
    /// Its selector before.
    pub before: BTreeMap<String, String>,
    /// Its selector after. Both have the same labels.
    pub after: BTreeMap<String, String>,
}

impl Switch {
    /// The way back.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { service: self.service.clone(), before: self.after.clone(), after: self.before.clone() }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service {} from {} to {}", self.service.name, listed(&self.before), listed(&self.after))
    }
}

/// Labels as a label selector.
#[must_use]
pub fn listed(labels: &BTreeMap<String, String>) -> String {
    let each: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
    each.join(",")
}

impl KubernetesSubject {
    /// The names of the workloads in question; `None` where a look at the cluster says which they are.
    #[must_use]
    pub fn names(&self) -> Vec<Option<&str>> {
        match self {
            KubernetesSubject::Object { name, .. } => vec![Some(name)],
            KubernetesSubject::BlueGreen { blue, green, .. } => vec![Some(blue), Some(green)],
            KubernetesSubject::Canary { stable, canary, .. } => vec![Some(stable), Some(canary)],
            KubernetesSubject::Selected { .. } | KubernetesSubject::OwnerOfPod => vec![None],
        }
    }
}

/// Kinds of workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// Deployment.
    Deployment,
    /// StatefulSet.
    StatefulSet,
    /// DaemonSet.
    DaemonSet,
}

impl ObjectKind {
    /// Its name in the policy file and on the command line of `kubectl`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ObjectKind::Deployment => "deployment",
            ObjectKind::StatefulSet => "statefulset",
            ObjectKind::DaemonSet => "daemonset",
        }
    }
}

/// One object of a cluster. Another one under the same name is not it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterObject {
    /// As [`Kubernetes::context`].
    pub context: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// What the API server tells it by, for as long as it exists.
    pub uid: String,
}

impl fmt::Display for ClusterObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

/// An object in the namespace of another one, by name and uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}
