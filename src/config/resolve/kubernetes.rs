//! Where a workload runs in a cluster: one subject, named as Kubernetes names things, that fits the strategy.

use super::habitat::Resolved;
use super::{Resolver, name, selector};
use crate::config::model::{Daemon, PodHealth, PodPort, RevisionFrom};
use crate::config::raw;
use crate::config::raw::decode::{At, value};
use crate::config::source::Place;
use crate::config::suggest;
use crate::domain::policy::{Ask, AskedPage, Habitat, Keep, Kubernetes, KubernetesSubject, ObjectKind, Sign, Strategy};

/// The label that tells colours apart in the procedures.
const SELECTOR_KEY: &str = "version";

/// Where Argo CD is installed unless somebody chose another name.
const ARGOCD: &str = "argocd";

/// Longest name of an object, a DNS subdomain (RFC 1123).
const LONGEST_NAME: usize = 253;

/// Keys that say, or help to say, which workload it is.
const SUBJECTS: [&str; 9] =
    ["deployment", "statefulset", "daemonset", "selector", "owner", "service", "blue", "green", "canary"];

pub(super) fn resolve(r: &mut Resolver<'_>, at: &At<raw::habitat::Kubernetes>, strategy: Strategy) -> Option<Resolved> {
    let raw = &at.value;
    let subject = Written { raw, key: at.key }.subject(r, strategy);
    let namespace = namespace(r, at);
    if let Some(argocd) = &raw.argocd_namespace {
        name::check_label(r, "a namespace", &argocd.value, argocd.at);
    }
    let argocd_namespace = value(&raw.argocd_namespace).unwrap_or_else(|| ARGOCD.to_owned());
    let (subject, namespace) = (subject?, namespace?);
    let place = Kubernetes { context: value(&raw.context), namespace, subject, argocd_namespace, keep: keep(raw) };
    let habitat = Habitat::Kubernetes(place);
    Some(Resolved { habitat, instances: Vec::new(), watched: true })
}

fn keep(raw: &raw::habitat::Kubernetes) -> Keep {
    let mut keep = Keep::default();
    for one in raw.keep.iter().flat_map(|keep| &keep.value) {
        match one.value {
            raw::habitat::Kept::Logs => keep.logs = true,
            raw::habitat::Kept::ConfigMaps => keep.configmaps = true,
            raw::habitat::Kept::Secrets => keep.secrets = true,
        }
    }
    keep
}

/// Secrets are kept sealed, or not at all.
pub(super) fn require_key(r: &mut Resolver<'_>, written: &raw::workload::Workload, daemon: &Daemon) {
    let mut keep = written.kubernetes.iter().filter_map(|at| at.value.keep.as_ref()).flat_map(|keep| &keep.value);
    let secrets = keep.find(|one| one.value == raw::habitat::Kept::Secrets);
    if let (Some(secrets), None) = (secrets, &daemon.keep_key_file) {
        r.problems
            .wrong(secrets.at, "`secrets` without `keep_key_file` in [daemon]")
            .hint("they are kept only sealed: write a key with `head -c 32 /dev/urandom | base64` and name its file");
    }
}

/// Between colours, the health endpoint of the pods is what is asked through the Service as well.
pub(super) fn ask_by_health(habitat: &mut Habitat, health: Option<&PodHealth>) {
    let (Habitat::Kubernetes(Kubernetes { subject: KubernetesSubject::BlueGreen { ask, .. }, .. }), Some(health)) =
        (habitat, health)
    else {
        return;
    };
    let PodHealth { endpoint, revision, .. } = health;
    let port = match &endpoint.port {
        PodPort::Number(number) => number.to_string(),
        PodPort::Name(name) => name.clone(),
    };
    let page = AskedPage { scheme: endpoint.scheme.clone(), port, path: endpoint.path.clone() };
    let sign = revision.as_ref().map(|revision| match revision {
        RevisionFrom::Header(name) => Sign::Header(name.clone()),
        RevisionFrom::Json(field) => Sign::Json(field.clone()),
    });
    let url = ask.take().and_then(|ask| ask.url);
    *ask = Some(Ask { url, page: Some(page), sign });
}

/// The namespace must be said, but for a sidecar, whose own it is. The outer `None` where that was reported.
fn namespace(r: &mut Resolver<'_>, at: &At<raw::habitat::Kubernetes>) -> Option<Option<String>> {
    let raw = &at.value;
    match (&raw.namespace, &raw.owner) {
        (Some(namespace), None) => {
            name::check_label(r, "a namespace", &namespace.value, namespace.at);
            Some(Some(namespace.value.clone()))
        }
        (Some(namespace), Some(_)) => {
            r.problems
                .wrong(namespace.key, "`namespace` beside `owner`")
                .hint("a sidecar is in the namespace of its pod");
            None
        }
        (None, Some(_)) => Some(None),
        (None, None) => {
            if !raw.lost.may_be(&["namespace", "owner"]) {
                r.problems
                    .absent(at.key, "`namespace` is missing")
                    .hint("write `namespace = \"default\"` if it is that");
            }
            None
        }
    }
}

/// One way to say what is watched, and the keys that were written of it.
struct Written<'a> {
    raw: &'a raw::habitat::Kubernetes,
    key: Place,
}

/// Keys that each say what is watched by themselves.
type Way = (&'static str, Place);

impl Written<'_> {
    fn subject(&self, r: &mut Resolver<'_>, strategy: Strategy) -> Option<KubernetesSubject> {
        let mut ways = self.ways();
        ways.sort_by_key(|(_, key)| *key);
        if let [first, second, ..] = ways.as_slice() {
            r.problems
                .wrong(second.1, format!("`{}` beside `{}`", second.0, first.0))
                .hint("one of them says what is watched: keep that");
            return None;
        }
        let Some((way, key)) = ways.pop() else {
            if !self.raw.lost.may_be(&SUBJECTS) {
                r.problems.absent(self.key, "nothing says which workload it is").hint(
                    "write `deployment = \"…\"`, `statefulset`, `daemonset`, `selector = \"app=…\"` or `owner = \"self\"`",
                );
            }
            return None;
        };
        match strategy {
            Strategy::BlueGreen => self.blue_green(r, way, key),
            Strategy::Canary => self.canary(r, way, key),
            Strategy::Direct | Strategy::Rolling => self.plain(r, way),
        }
    }

    fn ways(&self) -> Vec<Way> {
        let raw = self.raw;
        let colours = [("blue", &raw.blue), ("green", &raw.green), ("service", &raw.service)];
        let colours = colours
            .into_iter()
            .filter_map(|(name, field)| field.as_ref().map(|at| (name, at.key)))
            .min_by_key(|(_, key)| *key);
        let others = [
            ("deployment", raw.deployment.as_ref().map(|at| at.key)),
            ("statefulset", raw.statefulset.as_ref().map(|at| at.key)),
            ("daemonset", raw.daemonset.as_ref().map(|at| at.key)),
            ("selector", raw.selector.as_ref().map(|at| at.key)),
            ("owner", raw.owner.as_ref().map(|at| at.key)),
        ];
        colours.into_iter().chain(others.into_iter().filter_map(|(name, key)| key.map(|key| (name, key)))).collect()
    }

    fn plain(&self, r: &mut Resolver<'_>, way: &str) -> Option<KubernetesSubject> {
        let raw = self.raw;
        self.only_with(r, "canary", raw.canary.as_ref(), Strategy::Canary);
        for (name, field) in
            [("blue", &raw.blue), ("green", &raw.green), ("service", &raw.service), ("selector_key", &raw.selector_key)]
        {
            self.only_with(r, name, field.as_ref(), Strategy::BlueGreen);
        }
        if let Some(retire) = &raw.retire {
            let (one, other) = (Strategy::BlueGreen, Strategy::Canary);
            r.problems
                .wrong(retire.key, format!("`retire` goes with the strategies {one} and {other}"))
                .hint(format!("add strategy = \"{one}\" or \"{other}\", or leave it out"));
        }
        self.only_with(r, "traffic", raw.traffic.as_ref(), Strategy::BlueGreen);
        let objects = [
            (ObjectKind::Deployment, &raw.deployment),
            (ObjectKind::StatefulSet, &raw.statefulset),
            (ObjectKind::DaemonSet, &raw.daemonset),
        ];
        if let Some((kind, Some(field))) = objects.into_iter().find(|(kind, _)| kind.as_str() == way) {
            return Some(KubernetesSubject::Object { kind, name: object_name(r, field) });
        }
        match &raw.selector {
            Some(selector) => {
                if let Err(why) = selector::check(&selector.value) {
                    r.problems
                        .wrong(selector.at, format!("the selector is ill-formed: {why}"))
                        .hint("as `kubectl -l` takes it: `app=shop,tier in (web, edge),!legacy`");
                }
                Some(KubernetesSubject::Selected { selector: selector.value.clone() })
            }
            None => raw.owner.as_ref().map(|_| KubernetesSubject::OwnerOfPod),
        }
    }

    fn blue_green(&self, r: &mut Resolver<'_>, way: &str, key: Place) -> Option<KubernetesSubject> {
        let raw = self.raw;
        let (Some(service), Some(blue), Some(green)) = (&raw.service, &raw.blue, &raw.green) else {
            if !raw.lost.may_be(&["service", "blue", "green"]) {
                r.problems.wrong(key, format!("the strategy blue-green with `{way}`")).hint(
                    "it needs `service = \"…\"`, `blue = \"…\"` and `green = \"…\"`: the Service and the two Deployments behind it",
                );
            }
            return None;
        };
        self.only_with(r, "canary", raw.canary.as_ref(), Strategy::Canary);
        if blue.value == green.value {
            r.problems
                .wrong(green.at, "`green` is the same Deployment as `blue`")
                .hint("each colour is a Deployment of its own");
        }
        Some(KubernetesSubject::BlueGreen {
            service: object_name(r, service),
            selector_key: value(&raw.selector_key).unwrap_or_else(|| SELECTOR_KEY.to_owned()),
            blue: object_name(r, blue),
            green: object_name(r, green),
            retire: value(&raw.retire).unwrap_or(false),
            ask: raw.traffic.as_ref().map(|url| Ask { url: Some(url.value.to_string()), page: None, sign: None }),
        })
    }

    fn canary(&self, r: &mut Resolver<'_>, way: &str, key: Place) -> Option<KubernetesSubject> {
        let raw = self.raw;
        let (Some(stable), Some(canary)) = (&raw.deployment, &raw.canary) else {
            if !raw.lost.may_be(&["deployment", "canary"]) {
                r.problems.wrong(key, format!("the strategy canary with `{way}`")).hint(
                    "it needs `deployment = \"…\"` and `canary = \"…\"`: the one that serves and the one that tries",
                );
            }
            return None;
        };
        self.only_with(r, "traffic", raw.traffic.as_ref(), Strategy::BlueGreen);
        if stable.value == canary.value {
            r.problems.wrong(canary.at, "`canary` is the same Deployment as `deployment`");
        }
        let (stable, canary) = (object_name(r, stable), object_name(r, canary));
        Some(KubernetesSubject::Canary { stable, canary, retire: value(&raw.retire).unwrap_or(false) })
    }

    fn only_with<T>(&self, r: &mut Resolver<'_>, name: &str, field: Option<&At<T>>, strategy: Strategy) {
        if let Some(at) = field {
            r.problems
                .wrong(at.key, format!("`{name}` goes with the strategy {strategy}"))
                .hint(format!("add strategy = \"{strategy}\", or leave it out"));
        }
    }
}

/// A DNS subdomain (RFC 1123), which is what names of workloads and Services are.
fn object_name(r: &mut Resolver<'_>, name: &At<String>) -> String {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.value.len() > LONGEST_NAME || !name.value.split('.').all(is_label) {
        r.problems
            .wrong(name.at, format!("{} can't be the name of an object", suggest::quoted(&name.value)))
            .hint("it is made of a-z, 0-9, `-` and `.`, and has at most 253 of them");
    }
    name.value.clone()
}
