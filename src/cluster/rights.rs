//! What the daemon must be allowed to do in a namespace, and whether it is.
//!
//! The smallest set: what is not needed for a policy is not asked for. The roles under `config/kubernetes/` grant just
//! these, and a test holds them to each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::Instant;

use crate::domain::policy::{GitopsTool, Kubernetes, KubernetesSubject, ObjectKind, Strategy};
use crate::domain::settings::{Setting, SettingKind};

/// How long a right that was granted is taken to be so still, at least,
const FRESH: Duration = Duration::from_secs(300);
/// and for each namespace that rights are asked for in: however many there are, an API server is asked two or three times in
/// five seconds at most. Before anything is done, all are asked for anew.
const FRESH_OF_MANY: Duration = Duration::from_secs(30);

/// One verb on one sort of resource.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Right {
    /// The resource's API group; empty: the core.
    pub group: &'static str,
    /// The resource in the plural.
    pub resource: &'static str,
    /// A part of it that has rights of its own.
    pub subresource: Option<&'static str>,
    /// What is done.
    pub verb: &'static str,
}

impl Right {
    /// A right on whole objects.
    #[must_use]
    pub const fn new(group: &'static str, resource: &'static str, verb: &'static str) -> Self {
        Self { group, resource, subresource: None, verb }
    }

    /// The right to set how many pods a workload has. The API server asks for it only where somebody writes through the
    /// part itself; the admission policy that comes with the daemon asks for it wherever the number changes.
    #[must_use]
    pub const fn scale(kind: ObjectKind) -> Self {
        Self { subresource: Some("scale"), ..Self::new("apps", plurals(kind).0, "patch") }
    }

    fn resource(&self) -> String {
        self.subresource.map_or_else(|| self.resource.to_owned(), |part| format!("{}/{part}", self.resource))
    }

    /// The rule of a role that grants it.
    #[must_use]
    pub fn rule(&self) -> String {
        format!("apiGroups: [\"{}\"], resources: [\"{}\"], verbs: [\"{}\"]", self.group, self.resource(), self.verb)
    }

    /// That it is missing, and what grants it, in one line.
    #[must_use]
    pub fn missing_in(&self, namespace: &str) -> String {
        format!("may not {self} in {namespace}: a Role with {} grants it", self.rule())
    }

    /// The same of one object.
    #[must_use]
    pub fn missing_on(&self, namespace: &str, name: &str) -> String {
        let rule = self.rule();
        format!("may not {self} {name} in {namespace}: a Role with {rule}, resourceNames: [\"{name}\"] grants it")
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource())
    }
}

/// The plurals of a workload's kind and of what keeps its templates.
#[must_use]
pub const fn plurals(kind: ObjectKind) -> (&'static str, &'static str) {
    match kind {
        ObjectKind::Deployment => ("deployments", "replicasets"),
        ObjectKind::StatefulSet => ("statefulsets", "controllerrevisions"),
        ObjectKind::DaemonSet => ("daemonsets", "controllerrevisions"),
    }
}

/// What it takes to see workloads of a kind, their revisions and their pods.
fn to_watch(kind: ObjectKind) -> impl Iterator<Item = Right> {
    let (workloads, revisions) = plurals(kind);
    [("apps", workloads), ("apps", revisions), ("", "pods")]
        .into_iter()
        .flat_map(|(group, resource)| ["list", "watch"].map(|verb| Right::new(group, resource, verb)))
}

/// What it takes to give a workload of a kind another template: it is read and compared before and after.
#[must_use]
pub const fn to_restore(kind: ObjectKind) -> [Right; 3] {
    let (workloads, revisions) = plurals(kind);
    [Right::new("apps", workloads, "get"), Right::new("apps", workloads, "patch"), Right::new("apps", revisions, "get")]
}

/// What it takes to scale a workload of a kind, likewise.
#[must_use]
pub const fn to_scale(kind: ObjectKind) -> [Right; 4] {
    let [get, patch, get_revision] = to_restore(kind);
    [get, patch, get_revision, Right::scale(kind)]
}

/// What it takes to delete a Deployment that tried a release: it is read and compared before.
#[must_use]
pub const fn to_delete() -> [Right; 3] {
    let [get, _, get_revision] = to_restore(ObjectKind::Deployment);
    [get, get_revision, Right::new("apps", "deployments", "delete")]
}

/// What it takes to find the workload that owns the daemon's own pod.
#[must_use]
pub const fn to_find_owner() -> [Right; 2] {
    [Right::new("", "pods", "get"), Right::new("apps", "replicasets", "get")]
}

/// What it takes to delete a pod that keeps its controller waiting.
#[must_use]
pub const fn to_delete_stuck() -> [Right; 3] {
    [Right::new("", "pods", "list"), Right::new("", "pods", "get"), Right::new("", "pods", "delete")]
}

/// What it takes to give a Service another selector: those who stand behind it are counted first.
#[must_use]
pub const fn to_switch() -> [Right; 5] {
    let [slices, pods, revisions] = to_prove_traffic();
    [Right::new("", "services", "get"), Right::new("", "services", "patch"), slices, pods, revisions]
}

/// What it takes to see where the traffic of a Service arrives.
#[must_use]
pub const fn to_prove_traffic() -> [Right; 3] {
    [
        Right::new("discovery.k8s.io", "endpointslices", "list"),
        Right::new("", "pods", "list"),
        Right::new("apps", "replicasets", "get"),
    ]
}

/// Group and plural of the objects by which a GitOps tool owns others.
#[must_use]
pub const fn owners(tool: GitopsTool) -> (&'static str, &'static str) {
    match tool {
        GitopsTool::ArgoCd => ("argoproj.io", "applications"),
        GitopsTool::FluxKustomization => ("kustomize.toolkit.fluxcd.io", "kustomizations"),
        GitopsTool::FluxHelmRelease => ("helm.toolkit.fluxcd.io", "helmreleases"),
    }
}

/// What it takes to pause such an object and to let it go on, in the namespace that it is in.
#[must_use]
pub const fn to_pause(tool: GitopsTool) -> [Right; 2] {
    let (group, plural) = owners(tool);
    [Right::new(group, plural, "get"), Right::new(group, plural, "patch")]
}

/// What it takes to keep the settings of a sort that releases name, and to put one back.
#[must_use]
pub const fn to_restore_setting(kind: SettingKind) -> [Right; 3] {
    let plural = plural(kind);
    [Right::new("", plural, "get"), Right::new("", plural, "patch"), Right::new("", plural, "create")]
}

/// What it takes to see them.
#[must_use]
pub const fn to_watch_settings(kind: SettingKind) -> [Right; 2] {
    [Right::new("", plural(kind), "list"), Right::new("", plural(kind), "watch")]
}

/// A sort of settings in the plural.
#[must_use]
pub const fn plural(kind: SettingKind) -> &'static str {
    match kind {
        SettingKind::ConfigMap => "configmaps",
        SettingKind::Secret => "secrets",
    }
}

/// What it takes to see whether there is room for the pods of a rollout.
#[must_use]
pub const fn to_see_quota() -> Right {
    Right::new("", "resourcequotas", "list")
}

/// What it takes to keep what the cluster said of a release that went bad.
#[must_use]
pub const fn to_see_events() -> Right {
    Right::new("", "events", "list")
}

/// What it takes to keep the last words of its containers.
#[must_use]
pub const fn to_read_logs() -> Right {
    Right { subresource: Some("log"), ..Right::new("", "pods", "get") }
}

/// What it takes to be one of several replicas: a Lease in their own namespace.
#[must_use]
pub fn to_lead() -> [Right; 3] {
    ["create", "get", "update"].map(|verb| Right::new("coordination.k8s.io", "leases", verb))
}

/// What it takes to share what is recorded with the others: ConfigMaps in the same namespace.
#[must_use]
pub fn to_share() -> [Right; 5] {
    ["create", "get", "list", "update", "watch"].map(|verb| Right::new("", "configmaps", verb))
}

/// Everything that every rollback under a policy needs, without repetition. A StatefulSet that waits for a pod which is never
/// ready takes [`to_delete_stuck`] besides.
#[must_use]
pub fn needed(cluster: &Kubernetes, strategy: Strategy) -> Vec<Right> {
    let kinds: &[ObjectKind] = match &cluster.subject {
        KubernetesSubject::Object { kind: ObjectKind::Deployment, .. }
        | KubernetesSubject::BlueGreen { .. }
        | KubernetesSubject::Canary { .. } => &[ObjectKind::Deployment],
        KubernetesSubject::Object { kind: ObjectKind::StatefulSet, .. } => &[ObjectKind::StatefulSet],
        KubernetesSubject::Object { kind: ObjectKind::DaemonSet, .. } => &[ObjectKind::DaemonSet],
        KubernetesSubject::Selected { .. } | KubernetesSubject::OwnerOfPod => {
            &[ObjectKind::Deployment, ObjectKind::StatefulSet, ObjectKind::DaemonSet]
        }
    };
    let scales = match (&cluster.subject, strategy) {
        (KubernetesSubject::Canary { .. } | KubernetesSubject::BlueGreen { .. }, _) | (_, Strategy::Direct) => true,
        (_, Strategy::Rolling | Strategy::BlueGreen | Strategy::Canary) => false,
    };
    let mut needed = BTreeSet::from([to_see_quota(), to_see_events()]);
    if cluster.keep.logs {
        needed.insert(to_read_logs());
    }
    for kind in cluster.keep.settings() {
        needed.extend(to_watch_settings(kind));
        needed.extend(to_restore_setting(kind));
    }
    for kind in kinds {
        needed.extend(to_watch(*kind));
        needed.extend(to_restore(*kind));
        // There is one pod of a DaemonSet on every node.
        if scales && *kind != ObjectKind::DaemonSet {
            needed.insert(Right::scale(*kind));
        }
    }
    if let KubernetesSubject::Canary { retire: true, .. } = &cluster.subject {
        needed.extend(to_delete());
    }
    if let KubernetesSubject::BlueGreen { .. } = &cluster.subject {
        needed.extend(["list", "watch"].map(|verb| Right::new("", "services", verb)));
        needed.extend(to_switch());
    }
    needed.into_iter().collect()
}

/// By which names a right that [`needed`] gives may be granted, for a workload whose releases name these settings; none
/// stands for all objects of the namespace. Nothing: there is no object yet that it is needed for.
#[must_use]
pub fn names<'a>(right: &Right, subject: &'a KubernetesSubject, settings: &'a [Setting]) -> Vec<Option<&'a str>> {
    if !is_by_name(right) {
        return vec![None];
    }
    let of = |kind: SettingKind| settings.iter().filter(move |setting| setting.kind == kind);
    let named = |kind| of(kind).map(|setting| Some(setting.name.as_str())).collect();
    match (right.resource, subject) {
        ("configmaps", _) => named(SettingKind::ConfigMap),
        ("secrets", _) => named(SettingKind::Secret),
        ("services", KubernetesSubject::BlueGreen { service, .. }) => vec![Some(service)],
        // The other one is never deleted.
        ("deployments", KubernetesSubject::Canary { canary, .. }) if right.verb == "delete" => vec![Some(canary)],
        ("deployments" | "statefulsets" | "daemonsets", subject) => subject.names(),
        _ => vec![None],
    }
}

/// Rights that were found granted in a whole namespace, by context and namespace, and when. Bounded by what policies name.
#[derive(Debug, Default)]
pub struct Granted(Mutex<Known>);

type Known = BTreeMap<(Option<String>, String, Right), Instant>;

impl Granted {
    /// Of these rights the ones that this client has not, on all objects of the namespace or at least on this one.
    ///
    /// # Errors
    /// Where the API server does not say.
    pub async fn missing(
        &self,
        client: &Client,
        (context, namespace, name): (Option<&str>, &str, Option<&str>),
        rights: &[Right],
    ) -> Result<Vec<Right>, kube::Error> {
        let mut missing = Vec::new();
        let fresh = fresh(&self.known());
        for right in rights {
            let key = (context.map(str::to_owned), namespace.to_owned(), *right);
            if self.known().get(&key).is_some_and(|at| at.elapsed() < fresh) {
                continue;
            }
            if is_allowed(client, namespace, None, right).await? {
                self.known().insert(key, Instant::now());
            } else if !is_by_name(right) || !is_allowed(client, namespace, name, right).await? {
                missing.push(*right);
            }
        }
        Ok(missing)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of these rights the ones that this client has not, asked anew each time.
///
/// # Errors
/// Where the API server does not say.
pub async fn missing(
    client: &Client,
    namespace: &str,
    name: Option<&str>,
    rights: &[Right],
) -> Result<Vec<Right>, kube::Error> {
    Granted::default().missing(client, (None, namespace, name), rights).await
}

/// How long what is known counts.
fn fresh(known: &Known) -> Duration {
    let places: BTreeSet<(&Option<String>, &String)> =
        known.keys().map(|(context, namespace, _)| (context, namespace)).collect();
    FRESH.max(FRESH_OF_MANY.saturating_mul(u32::try_from(places.len()).unwrap_or(u32::MAX)))
}

/// Whether it may be granted for one object.
fn is_by_name(right: &Right) -> bool {
    matches!(right.verb, "get" | "patch" | "update" | "delete")
}

async fn is_allowed(client: &Client, namespace: &str, name: Option<&str>, right: &Right) -> Result<bool, kube::Error> {
    let attributes = ResourceAttributes {
        group: Some(right.group.to_owned()),
        resource: Some(right.resource.to_owned()),
        subresource: right.subresource.map(str::to_owned),
        verb: Some(right.verb.to_owned()),
        namespace: Some(namespace.to_owned()),
        name: name.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..Default::default() };
    let answer = Api::<SelfSubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::Keep;

    fn of(subject: KubernetesSubject, strategy: Strategy) -> Vec<String> {
        let cluster = Kubernetes {
            context: None,
            namespace: Some("prod".to_owned()),
            subject,
            argocd_namespace: "argocd".to_owned(),
            keep: Keep::default(),
        };
        needed(&cluster, strategy).iter().map(ToString::to_string).collect()
    }

    fn object(kind: ObjectKind) -> KubernetesSubject {
        KubernetesSubject::Object { kind, name: "shop".to_owned() }
    }

    #[test]
    fn a_policy_needs_what_it_does_and_no_more() {
        let rolling = of(object(ObjectKind::Deployment), Strategy::Rolling);
        let expected = [
            "list events",
            "list pods",
            "watch pods",
            "list resourcequotas",
            "get deployments",
            "list deployments",
            "patch deployments",
            "watch deployments",
            "get replicasets",
            "list replicasets",
            "watch replicasets",
        ];
        assert_eq!(rolling, expected);
        let more = |strategy, subject| -> Vec<String> {
            of(subject, strategy).into_iter().filter(|right| !rolling.contains(right)).collect()
        };
        assert_eq!(more(Strategy::Direct, object(ObjectKind::Deployment)), ["patch deployments/scale"]);
        let canary = |retire| KubernetesSubject::Canary { stable: "a".to_owned(), canary: "b".to_owned(), retire };
        assert_eq!(more(Strategy::Canary, canary(false)), ["patch deployments/scale"]);
        assert_eq!(more(Strategy::Canary, canary(true)), ["delete deployments", "patch deployments/scale"]);
        let delete = Right::new("apps", "deployments", "delete");
        assert_eq!(names(&delete, &canary(true), &[]), [Some("b")]);
        assert!(of(object(ObjectKind::StatefulSet), Strategy::Rolling).contains(&"get controllerrevisions".to_owned()));
        assert!(!of(object(ObjectKind::DaemonSet), Strategy::Direct).iter().any(|right| right.contains("scale")));
    }

    #[test]
    fn a_right_may_be_granted_by_the_names_of_what_it_is_needed_for() {
        let setting = |kind, name: &str| Setting { kind, name: name.to_owned() };
        let settings = [setting(SettingKind::ConfigMap, "a"), setting(SettingKind::Secret, "b")];
        let subject = KubernetesSubject::BlueGreen {
            service: "front".to_owned(),
            selector_key: "version".to_owned(),
            blue: "blue".to_owned(),
            green: "green".to_owned(),
            retire: false,
            ask: None,
        };
        let of = |group, resource, verb| names(&Right::new(group, resource, verb), &subject, &settings);
        assert_eq!(of("", "configmaps", "patch"), [Some("a")]);
        assert_eq!(of("", "secrets", "get"), [Some("b")]);
        assert_eq!(of("", "configmaps", "create"), [None], "what is not there has no name");
        assert_eq!(of("", "services", "patch"), [Some("front")]);
        assert_eq!(of("apps", "deployments", "patch"), [Some("blue"), Some("green")]);
        assert_eq!(of("apps", "replicasets", "get"), [None]);
        assert!(names(&Right::new("", "configmaps", "get"), &subject, &[]).is_empty());
    }

    #[test]
    fn in_many_namespaces_a_right_that_was_granted_counts_for_longer() {
        let in_all = |count: usize| -> Known {
            let rights = to_restore(ObjectKind::Deployment);
            let each = (0..count).flat_map(|number| rights.map(|right| (None, format!("team-{number}"), right)));
            each.map(|key| (key, Instant::now())).collect()
        };
        assert_eq!([0, 1, 10].map(|count| fresh(&in_all(count))), [FRESH; 3]);
        assert_eq!(fresh(&in_all(50)), Duration::from_secs(1_500));
    }

    #[test]
    fn a_missing_right_is_told_with_the_rule_that_grants_it() {
        let delete = Right::new("apps", "deployments", "delete").missing_on("prod", "try");
        let rule = "apiGroups: [\"apps\"], resources: [\"deployments\"], verbs: [\"delete\"], resourceNames: [\"try\"]";
        assert_eq!(delete, format!("may not delete deployments try in prod: a Role with {rule} grants it"));
        let told = Right::scale(ObjectKind::Deployment).missing_in("prod");
        let rule = "apiGroups: [\"apps\"], resources: [\"deployments/scale\"], verbs: [\"patch\"]";
        assert_eq!(told, format!("may not patch deployments/scale in prod: a Role with {rule} grants it"));
    }
}
