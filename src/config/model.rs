//! A configuration with every name resolved and every default filled in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::domain::id::{InstanceId, ReceiverName, SignalName, WorkloadId};
use crate::domain::policy::{Mode, WorkloadPolicy};
use crate::domain::time::Span;

/// All policy files together.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The `[daemon]` section.
    pub daemon: Daemon,
    /// The `[notify.*]` sections.
    pub receivers: BTreeMap<ReceiverName, Receiver>,
    /// The `[workload.*]` sections.
    pub workloads: BTreeMap<WorkloadId, Workload>,
}

impl Config {
    /// What is judged and done, workload by workload.
    pub fn policies(&self) -> impl Iterator<Item = &WorkloadPolicy> {
        self.workloads.values().map(|workload| &*workload.policy)
    }

    /// What is allowed, and most likely not meant.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let acts = self.workloads.values().any(|workload| workload.policy.mode != Mode::Observe);
        let locked = acts && self.daemon.token_file.is_none();
        let idle = self.workloads.is_empty().then(|| NO_WORKLOAD.to_owned());
        let late = self.workloads.values().filter_map(|workload| late_trust(&workload.policy));
        locked.then(|| NO_TOKEN.to_owned()).into_iter().chain(idle).chain(late).collect()
    }
}

/// Said wherever a daemon that may change something has no token.
pub const NO_TOKEN: &str = "no `token_file` in [daemon]: nobody can pause, approve or reject what this daemon does";

/// Said where nothing is watched: a policy that lost its workloads looks as well as one that is waited for.
pub const NO_WORKLOAD: &str = "no [workload.NAME] section: nothing is watched";

/// A release that is past its probation and not good to go back to: a fault in the next one would find no way back.
fn late_trust(policy: &WorkloadPolicy) -> Option<String> {
    let WorkloadPolicy { id, probation, known_good_after, .. } = policy;
    let how = format!("{id}: `known_good_after` of {known_good_after} is longer than `probation` of {probation}");
    (known_good_after > probation).then(|| format!("{how}: for a while nothing is rolled back from it, nor back to it"))
}

/// The daemon itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Daemon {
    /// Where it answers; loopback by default.
    pub listen: SocketAddr,
    /// Where journal and lock lie.
    pub state_dir: PathBuf,
    /// The freest mode that any workload may have.
    pub mode: Mode,
    /// Bearer token for calls that change something; none: such calls are refused.
    pub token_file: Option<PathBuf>,
    /// Key with which Secrets are sealed that are kept; none: none is kept.
    pub keep_key_file: Option<PathBuf>,
    /// The address at which people reach the daemon, for links in alerts; none: no links.
    pub external_url: Option<String>,
    /// Who of several replicas acts; none: there is only this daemon.
    pub lease: Option<Lease>,
}

/// The Lease by which replicas agree on who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its name; the ConfigMaps that hold open incidents begin with it.
    pub name: String,
    /// Its namespace; none: that of the daemon's pod.
    pub namespace: Option<String>,
    /// Seen unchanged for this long, another replica may take it.
    pub duration: Span,
}

/// A workload's policy, and where it is observed.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// What is judged and done.
    pub policy: Arc<WorkloadPolicy>,
    /// Where it is observed.
    pub sources: Sources,
}

/// Where a workload is observed.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Sources {
    /// Exposition pages.
    pub scrape: Vec<Endpoint>,
    /// Prometheus `file_sd` files whose targets are scraped, with the endpoint options that apply to them.
    pub scrape_files: Vec<FileTargets>,
    /// Health endpoints.
    pub health: Vec<HealthEndpoint>,
    /// Expressions that a Prometheus server evaluates.
    pub queries: Vec<Query>,
    /// In a cluster: the exposition page of every pod.
    pub pod_scrape: Option<PodEndpoint>,
    /// In a cluster: the health endpoint of every pod.
    pub pod_health: Option<PodHealth>,
    /// In a cluster: why nobody can say which objects are meant. Nothing else is looked at then.
    pub unseen: Option<String>,
}

/// An expression that a Prometheus server evaluates.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The signal that it computes.
    pub signal: SignalName,
    /// PromQL that gives a scalar or an instant vector of one series: what the policy says, and 0 besides for a share of
    /// which nothing was counted.
    pub expression: String,
    /// The server's address, without `/api/v1/query`.
    pub server: reqwest::Url,
    /// How it is reached.
    pub http: Arc<HttpOptions>,
}

/// What every pod of a workload offers at its own address.
#[derive(Clone, Debug, PartialEq)]
pub struct PodEndpoint {
    /// Which of its ports.
    pub port: PodPort,
    /// `http` or `https`.
    pub scheme: String,
    /// Path, beginning with `/`.
    pub path: String,
    /// How it is reached.
    pub http: Arc<HttpOptions>,
}

/// A port of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodPort {
    /// By number.
    Number(u16),
    /// By the name that its container gives it.
    Name(String),
}

/// The health endpoint of every pod, and what it must say.
#[derive(Clone, Debug, PartialEq)]
pub struct PodHealth {
    /// Where.
    pub endpoint: PodEndpoint,
    /// As [`HealthEndpoint::expect`].
    pub expect: BTreeMap<String, serde_json::Value>,
    /// As [`HealthEndpoint::revision`].
    pub revision: Option<RevisionFrom>,
}

/// One address.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// The instance behind it, where the policy says.
    pub instance: Option<InstanceId>,
    /// Absolute `http` or `https` URL without credentials.
    pub url: reqwest::Url,
    /// How it is reached.
    pub http: Arc<HttpOptions>,
}

/// Targets from a file in Prometheus' `file_sd` JSON format, read anew when it changes.
#[derive(Clone, Debug, PartialEq)]
pub struct FileTargets {
    /// The file.
    pub path: PathBuf,
    /// `http` or `https`.
    pub scheme: String,
    /// Path of the page on each target.
    pub page: String,
    /// How they are reached.
    pub http: Arc<HttpOptions>,
}

/// One health address and what it must say.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthEndpoint {
    /// Where.
    pub endpoint: Endpoint,
    /// Fields of the JSON body and their values, all of which must be so; dots in a name descend into objects.
    /// Empty: any 2xx is healthy.
    pub expect: BTreeMap<String, serde_json::Value>,
    /// Where the answer says which release gave it.
    pub revision: Option<RevisionFrom>,
}

/// Where an answer says which release gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevisionFrom {
    /// A response header.
    Header(String),
    /// A field of the JSON body; dots descend into objects.
    Json(String),
}

/// Prometheus' HTTP client configuration, by its names. Files are read anew when they change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct HttpOptions {
    /// `authorization`: scheme and the file that holds the credentials.
    pub authorization: Option<Authorization>,
    /// `basic_auth`.
    pub basic_auth: Option<BasicAuth>,
    /// `headers`: fixed request headers without secrets.
    pub headers: BTreeMap<String, String>,
    /// `tls_config`.
    pub tls: Option<TlsOptions>,
    /// `proxy_url`.
    pub proxy_url: Option<String>,
}

/// `authorization = { type, credentials_file }`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authorization {
    /// `Bearer` by default.
    pub scheme: String,
    /// The file that holds the credentials.
    pub credentials_file: PathBuf,
}

/// `basic_auth = { username, password_file }`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BasicAuth {
    /// User name.
    pub username: String,
    /// The file that holds the password.
    pub password_file: PathBuf,
}

/// `tls_config`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct TlsOptions {
    /// PEM roots; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM client certificate chain.
    pub cert_file: Option<PathBuf>,
    /// PEM client key.
    pub key_file: Option<PathBuf>,
    /// Name to verify instead of the URL's.
    pub server_name: Option<String>,
    /// Verify nothing.
    pub insecure_skip_verify: bool,
}

/// Somebody to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    /// Its name.
    pub name: ReceiverName,
    /// What it speaks.
    pub kind: ReceiverKind,
    /// How it is reached.
    pub http: Arc<HttpOptions>,
}

/// What a receiver speaks. URLs that are secrets themselves come from files.
#[derive(Clone, Debug, PartialEq)]
pub enum ReceiverKind {
    /// Standard Webhooks, with the alert as its body.
    Webhook {
        /// Where to.
        url: UrlSource,
        /// The signing secret (`whsec_…` or raw); none: unsigned.
        secret_file: Option<PathBuf>,
    },
    /// Slack incoming webhook.
    Slack {
        /// Where to.
        url: UrlSource,
    },
    /// PagerDuty Events API v2.
    PagerDuty {
        /// Where to; PagerDuty's own address by default.
        url: UrlSource,
        /// The integration's routing key.
        routing_key_file: PathBuf,
    },
    /// Alertmanager API v2.
    Alertmanager {
        /// Base URL, without `/api/v2/alerts`.
        url: UrlSource,
    },
}

/// A URL, or the file that holds it where it is a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlSource {
    /// In the policy.
    Plain(String),
    /// In a file, read anew when it changes.
    File(PathBuf),
}
