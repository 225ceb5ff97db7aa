//! Who besides people decides what a workload in a cluster is made of.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is done where a GitOps tool owns a workload: it would undo a rollback as soon as it looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gitops {
    /// Nothing is rolled back, and people are told whose the workload is.
    #[default]
    Alert,
    /// The owner is paused for a time, as the first step of a rollback.
    Pause,
}

/// A tool that brings workloads to what a repository says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitopsTool {
    /// Argo CD, by an Application.
    ArgoCd,
    /// Flux, by a Kustomization.
    FluxKustomization,
    /// Flux, by a HelmRelease.
    FluxHelmRelease,
}

impl GitopsTool {
    /// What people call its object.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            GitopsTool::ArgoCd => "Argo CD Application",
            GitopsTool::FluxKustomization => "Flux Kustomization",
            GitopsTool::FluxHelmRelease => "Flux HelmRelease",
        }
    }
}

/// A tool that rolls releases out, and back, by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutTool {
    /// Argo Rollouts.
    ArgoRollouts,
    /// Flagger.
    Flagger,
}

impl fmt::Display for RolloutTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RolloutTool::ArgoRollouts => "Argo Rollouts",
            RolloutTool::Flagger => "Flagger",
        })
    }
}

/// Who writes a workload besides people.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "owner")]
pub enum Owner {
    /// A tool that brings it to what a repository says.
    Gitops {
        /// Which.
        tool: GitopsTool,
        /// The namespace of the tool's object; none where its mark does not say.
        namespace: Option<String>,
        /// The name of the tool's object; none where only the fields that it wrote tell of it.
        name: Option<String>,
    },
    /// A tool that rolls its releases out by itself.
    Rollouts {
        /// Which.
        tool: RolloutTool,
    },
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Gitops { tool, namespace: Some(namespace), name: Some(name) } => {
                write!(f, "{} {namespace}/{name}", tool.as_str())
            }
            Owner::Gitops { tool, namespace: None, name: Some(name) } => write!(f, "{} {name}", tool.as_str()),
            Owner::Gitops { tool, name: None, .. } => write!(f, "an unnamed {}", tool.as_str()),
            Owner::Rollouts { tool } => write!(f, "{tool}"),
        }
    }
}

/// The object by which a GitOps tool owns a workload, and by which it is paused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OwnerObject {
    /// As [`super::Kubernetes::context`].
    pub context: Option<String>,
    /// Whose it is.
    pub tool: GitopsTool,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl OwnerObject {
    /// Where an owner is found, for a workload of this cluster; none where it can't be paused.
    #[must_use]
    pub fn of(owner: &Owner, cluster: &super::Kubernetes) -> Option<Self> {
        let Owner::Gitops { tool, namespace, name: Some(name) } = owner else { return None };
        let namespace = namespace.clone().unwrap_or_else(|| cluster.argocd_namespace.clone());
        Some(Self { context: cluster.context.clone(), tool: *tool, namespace, name: name.clone() })
    }

    /// Whether a mark of an owner may be this one's: a mark without a namespace leaves that open.
    #[must_use]
    pub fn may_be(&self, owner: &Owner) -> bool {
        match owner {
            Owner::Gitops { tool, namespace, name: Some(name) } => {
                self.tool == *tool
                    && self.name == *name
                    && namespace.as_ref().is_none_or(|namespace| self.namespace == *namespace)
            }
            Owner::Gitops { name: None, .. } | Owner::Rollouts { .. } => false,
        }
    }
}

impl fmt::Display for OwnerObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.tool.as_str(), self.namespace, self.name)
    }
}
