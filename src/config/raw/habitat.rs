//! Where a workload runs: `release_dir`, `command` and `kubernetes`.

use std::path::PathBuf;

use reqwest::Url;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::decode::{At, Cx, Decode, Node};
use super::scalar::{FromText, Refusal, choice};
use super::section::section;
use super::text::Argv;
use crate::config::suggest;
use crate::domain::time::Span;

section! {
    /// A plain host: a directory of releases and a symlink that names the current one.
    ReleaseDir {
        /// Absolute path that everything else is beneath.
        path: PathBuf = required,
        /// Directory of the releases, relative to `path`.
        releases: PathBuf,
        /// Symlink that names the current release, relative to `path`.
        current: PathBuf,
        /// Program and arguments that make the process run what the symlink names.
        restart: Argv,
        /// systemd unit that is restarted.
        unit: String,
        /// cgroup directory of the process, for OOM kills; found from `unit` where there is one.
        cgroup: PathBuf,
        /// Several running copies that share the releases, each with its own symlink.
        instances: Vec<At<ReleaseInstance>>,
    }
}

section! {
    /// One of several running copies.
    ReleaseInstance {
        /// Its name.
        name: String = required,
        /// Symlink that names its current release, relative to `path`.
        current: PathBuf = required,
        /// Program and arguments that make it run what the symlink names.
        restart: Argv,
        /// systemd unit that is restarted.
        unit: String,
        /// Its cgroup directory, for OOM kills; found from `unit` where there is one.
        cgroup: PathBuf,
        /// URL of its exposition page.
        scrape: Url,
        /// URL of its health endpoint.
        health: Url,
    }
}

section! {
    /// Anything else: the operator's own commands, each an argv. `{release}` and `{instance}` stand for whole arguments.
    Command {
        /// Prints the current release on its first line.
        current: Argv = required,
        /// Prints the releases that there are, one a line, newest first: the current one is among them.
        releases: Argv = required,
        /// Goes back to `{release}`.
        rollback: Argv = required,
        /// Exit status 0 once `{release}` is in service.
        status: Argv,
        /// Exit status 0 where `{release}` is healthy and has the capacity to take the traffic; asked before anything is done.
        check: Argv,
        /// Decommissions the bad release, given as `{release}`, once the good one serves.
        retire: Argv,
        /// Instances that are taken back one at a time: names, or tables with a name and addresses.
        instances: Vec<At<CommandInstance>>,
        /// How long each command may run.
        timeout: Span,
    }
}

section! {
    /// One of several running copies, with its own addresses.
    NamedInstance {
        /// Its name.
        name: String = required,
        /// URL of its exposition page.
        scrape: Url,
        /// URL of its health endpoint.
        health: Url,
    }
}

/// Who the workload is, where it need not be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The owner of the daemon's own pod.
    Own,
}

choice!(Owner, "an owner", { "self" => Owner::Own, });

/// What is kept beside the releases themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The last words of containers.
    Logs,
    /// What releases name.
    ConfigMaps,
    /// What releases name that is nobody's business.
    Secrets,
}

choice!(Kept, "something to keep", { "logs" => Kept::Logs, "configmaps" => Kept::ConfigMaps, "secrets" => Kept::Secrets, });

section! {
    /// Workloads of a Kubernetes cluster, exactly as they are.
    Kubernetes {
        /// The namespace; with `owner` that of the daemon's own pod.
        namespace: String,
        /// A Deployment; with `canary` the one that serves.
        deployment: String,
        /// A StatefulSet.
        statefulset: String,
        /// A DaemonSet.
        daemonset: String,
        /// Every Deployment, StatefulSet and DaemonSet with these labels, as `kubectl -l` takes them.
        selector: String,
        /// `self`: the workload that owns the pod which the daemon runs in as a sidecar.
        owner: Owner,
        /// Blue-green: the Service whose selector says which colour serves.
        service: String,
        /// Blue-green: the label in that selector which tells the colours apart; `version` by default.
        selector_key: String,
        /// Blue-green: one Deployment.
        blue: String,
        /// Blue-green: the other Deployment.
        green: String,
        /// Whether what was bad goes for good once the good one is seen to be well: blue-green, its colour is scaled to 0; canary, its Deployment is deleted; false by default.
        retire: bool,
        /// Blue-green: an address that leads to the Service from elsewhere, at which it is asked which release answers; the Service's own by default.
        traffic: Url,
        /// Canary: the Deployment that tries a new release beside `deployment`.
        canary: String,
        /// What is kept beside the releases themselves: `logs`, in an incident the last lines of containers that ended; `configmaps`, those that a release names, which then go back with it; `secrets`, likewise, sealed with the key in `keep_key_file`; nothing by default.
        keep: Vec<At<Kept>>,
        /// The namespace of Argo CD's Applications where a workload's mark names none; `argocd` by default.
        argocd_namespace: String,
        /// A context of the kubeconfig; without it the cluster that the daemon runs in.
        context: String,
    }
}

/// A bare name, or a table with a name and addresses.
#[derive(Clone, Debug)]
pub(crate) struct CommandInstance(pub(crate) NamedInstance);

impl Decode for CommandInstance {
    fn decode(node: &Node<'_, '_>, cx: &mut Cx<'_>) -> Option<Self> {
        if node.value.get_ref().is_table() {
            return NamedInstance::decode(node, cx).map(Self);
        }
        let name = At::<String>::decode(node, cx)?;
        Some(Self(NamedInstance { name: Some(name), ..NamedInstance::default() }))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [String::schema(generator), NamedInstance::schema(generator)] })
    }
}
