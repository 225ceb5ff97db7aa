//! Workloads that a look at the cluster names: each object with the labels that a section selects is a workload of its own
//! under the section's policy, and the owner of the daemon's own pod is the workload of the section that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::model::{Config, Sources, Workload};
use crate::domain::id::WorkloadId;
use crate::domain::policy::{Habitat, Kubernetes, KubernetesSubject, ObjectKind, WorkloadPolicy};

/// What was found of each section that does not name its own objects; nothing of one that was not looked at yet.
pub type Selected = BTreeMap<WorkloadId, Found>;

/// What a look at the cluster found of a section.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Its objects, as they were last seen; none where they never were.
    pub objects: Option<BTreeSet<Object>>,
    /// Why they can't be seen now: what joins is not noticed.
    pub unseen: Option<String>,
}

/// An object of a cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Object {
    /// Its namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
}

/// How a section says which objects it is about, where it does not name them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sought<'a> {
    /// Those with these labels.
    Labelled(&'a str),
    /// The owner of the daemon's own pod.
    OwnerOfPod,
}

/// Workloads under one section: what is beyond that is no one's selector on purpose.
pub const MOST: usize = 10_000;

impl Config {
    /// The sections whose workloads only a look at the cluster names.
    pub fn sought(&self) -> impl Iterator<Item = (&WorkloadId, &Kubernetes, Sought<'_>)> {
        self.workloads.iter().filter_map(|(id, workload)| {
            let (place, sought) = sought(workload)?;
            Some((id, place, sought))
        })
    }

    /// The same with a workload for each object in place of such a section, and what was left out: an object that a
    /// section names by its name, or that another selector took, and what is beyond [`MOST`]. A section that can't be looked
    /// at stays, as a workload that can't be seen: people are told as they are of any.
    #[must_use]
    pub fn with_selected(&self, selected: &Selected) -> (Self, Vec<String>) {
        let named = self.workloads.values().flat_map(objects);
        let mut taken: BTreeSet<Spot> = named.collect();
        let mut left_out = Vec::new();
        let mut workloads = BTreeMap::new();
        for (id, workload) in &self.workloads {
            let Some((place, sought)) = sought(workload) else {
                workloads.insert(id.clone(), workload.clone());
                continue;
            };
            let Some(found) = selected.get(id) else { continue };
            if let Some(why) = &found.unseen {
                let sources = Sources { unseen: Some(why.clone()), ..Sources::default() };
                workloads.insert(id.clone(), Workload { policy: Arc::clone(&workload.policy), sources });
            }
            for Object { namespace, kind, name } in found.objects.iter().flatten() {
                let (own, is_free) = match sought {
                    Sought::Labelled(_) => {
                        let own = own_id(id, *kind, name);
                        let is_free = !self.workloads.contains_key(&own);
                        (own, is_free)
                    }
                    Sought::OwnerOfPod => (id.clone(), true),
                };
                let namespace = Some(namespace.clone());
                let spot = (place.context.clone(), namespace.clone(), *kind, name.clone());
                if workloads.len() >= MOST || !is_free || !taken.insert(spot) {
                    left_out.push(own.to_string());
                } else {
                    let subject = KubernetesSubject::Object { kind: *kind, name: name.clone() };
                    let habitat = Habitat::Kubernetes(Kubernetes { subject, namespace, ..place.clone() });
                    let policy = WorkloadPolicy { id: own.clone(), habitat, ..(*workload.policy).clone() };
                    workloads.insert(own, Workload { policy: Arc::new(policy), sources: workload.sources.clone() });
                }
            }
        }
        (Self { daemon: self.daemon.clone(), receivers: self.receivers.clone(), workloads }, left_out)
    }

    /// Whether a workload may be one of a section whose objects are not known yet: it is not gone only because nobody
    /// looked.
    #[must_use]
    pub fn may_select(&self, selected: &Selected, workload: &WorkloadId) -> bool {
        let is_seen = |id: &WorkloadId| selected.get(id).is_some_and(|found| found.objects.is_some());
        let mut unseen = self.sought().filter(|(id, ..)| !is_seen(id));
        unseen.any(|(id, _, sought)| match sought {
            Sought::Labelled(_) => workload.as_str().strip_prefix(id.as_str()).is_some_and(|own| own.starts_with('.')),
            Sought::OwnerOfPod => workload == id,
        })
    }
}

/// Context, namespace, kind and name.
type Spot = (Option<String>, Option<String>, ObjectKind, String);

fn objects(workload: &Workload) -> Vec<Spot> {
    let Habitat::Kubernetes(place) = &workload.policy.habitat else { return Vec::new() };
    let object = |kind: ObjectKind, name: &String| (place.context.clone(), place.namespace.clone(), kind, name.clone());
    match &place.subject {
        KubernetesSubject::Object { kind, name } => vec![object(*kind, name)],
        KubernetesSubject::BlueGreen { blue: one, green: other, .. }
        | KubernetesSubject::Canary { stable: one, canary: other, .. } => {
            vec![object(ObjectKind::Deployment, one), object(ObjectKind::Deployment, other)]
        }
        KubernetesSubject::Selected { .. } | KubernetesSubject::OwnerOfPod => Vec::new(),
    }
}

fn sought(workload: &Workload) -> Option<(&Kubernetes, Sought<'_>)> {
    let Habitat::Kubernetes(place) = &workload.policy.habitat else { return None };
    match &place.subject {
        KubernetesSubject::Selected { selector } => Some((place, Sought::Labelled(selector))),
        KubernetesSubject::OwnerOfPod => Some((place, Sought::OwnerOfPod)),
        KubernetesSubject::Object { .. } | KubernetesSubject::BlueGreen { .. } | KubernetesSubject::Canary { .. } => {
            None
        }
    }
}

/// `SECTION.NAME`; with the kind in between where that is no Deployment, since each kind has names of its own.
fn own_id(section: &WorkloadId, kind: ObjectKind, name: &str) -> WorkloadId {
    match kind {
        ObjectKind::Deployment => WorkloadId::new(format!("{section}.{name}")),
        ObjectKind::StatefulSet | ObjectKind::DaemonSet => {
            WorkloadId::new(format!("{section}.{}.{name}", kind.as_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn config(text: &str) -> Config {
        crate::config::parse(&[(PathBuf::from("p.toml"), text.to_owned())]).unwrap()
    }

    fn selected(section: &str, objects: &[(ObjectKind, &str)]) -> Selected {
        let object = |(kind, name): &(ObjectKind, &str)| Object {
            namespace: "prod".to_owned(),
            kind: *kind,
            name: (*name).to_owned(),
        };
        let objects = Some(objects.iter().map(object).collect());
        [(WorkloadId::new(section), Found { objects, unseen: None })].into()
    }

    fn ids(config: &Config) -> Vec<&str> {
        config.workloads.keys().map(WorkloadId::as_str).collect()
    }

    const TEXT: &str = "[workload.web]\nmode = \"observe\"\nkubernetes = { namespace = \"prod\", selector = \"tier=web\" }\n\
        [workload.shop]\nkubernetes = { namespace = \"prod\", deployment = \"shop\" }\n\
        [workload.zoo]\nkubernetes = { namespace = \"prod\", selector = \"tier\" }\n";

    #[test]
    fn each_object_is_a_workload_under_the_sections_policy_and_in_one_place_only() {
        let config = config(TEXT);
        assert_eq!(config.sought().map(|(id, ..)| id.as_str()).collect::<Vec<_>>(), ["web", "zoo"]);
        let (none, left_out) = config.with_selected(&Selected::new());
        assert_eq!((ids(&none), left_out), (vec!["shop"], Vec::new()));
        let mut found = selected("web", &[(ObjectKind::Deployment, "cart"), (ObjectKind::Deployment, "shop")]);
        found.extend(selected("zoo", &[(ObjectKind::Deployment, "cart"), (ObjectKind::StatefulSet, "cart")]));
        let (all, left_out) = config.with_selected(&found);
        assert_eq!(ids(&all), ["shop", "web.cart", "zoo.statefulset.cart"]);
        assert_eq!(left_out, ["web.shop", "zoo.cart"]);
        let cart = &all.workloads[&WorkloadId::new("web.cart")].policy;
        assert_eq!((cart.id.as_str(), cart.mode), ("web.cart", crate::domain::policy::Mode::Observe));
        let Habitat::Kubernetes(place) = &cart.habitat else { panic!("{:?}", cart.habitat) };
        let subject = KubernetesSubject::Object { kind: ObjectKind::Deployment, name: "cart".to_owned() };
        assert_eq!((place.namespace.as_deref(), &place.subject), (Some("prod"), &subject));
    }

    #[test]
    fn the_owner_of_the_own_pod_is_the_sections_workload() {
        let config = config(
            "[daemon.lease]\nname = \"rollbackd-shop\"\n[workload.me]\nkubernetes = { owner = \"self\" }\n\
             [workload.named]\nkubernetes = { namespace = \"prod\", deployment = \"cart\" }\n",
        );
        let (none, _) = config.with_selected(&Selected::new());
        assert_eq!(ids(&none), ["named"]);
        assert!(config.may_select(&Selected::new(), &WorkloadId::new("me")));
        let (all, left_out) = config.with_selected(&selected("me", &[(ObjectKind::StatefulSet, "shop")]));
        assert_eq!((ids(&all), left_out), (vec!["me", "named"], Vec::new()));
        let Habitat::Kubernetes(place) = &all.workloads[&WorkloadId::new("me")].policy.habitat else { panic!() };
        let subject = KubernetesSubject::Object { kind: ObjectKind::StatefulSet, name: "shop".to_owned() };
        assert_eq!((place.namespace.as_deref(), &place.subject), (Some("prod"), &subject));
        let (_, left_out) = config.with_selected(&selected("me", &[(ObjectKind::Deployment, "cart")]));
        assert_eq!(left_out, ["me"], "named by another section");
    }

    #[test]
    fn a_section_that_cant_be_looked_at_is_a_workload_that_cant_be_seen() {
        let config = config(TEXT);
        let why = Some("deployments: forbidden".to_owned());
        let never: Selected = [(WorkloadId::new("web"), Found { objects: None, unseen: why.clone() })].into();
        let (blind, _) = config.with_selected(&never);
        assert_eq!(ids(&blind), ["shop", "web"]);
        let section = &blind.workloads[&WorkloadId::new("web")];
        assert_eq!(section.sources, Sources { unseen: why.clone(), ..Sources::default() });
        assert_eq!(section.policy.mode, crate::domain::policy::Mode::Observe);
        assert!(config.may_select(&never, &WorkloadId::new("web.cart")), "it is not gone");
        let mut before = selected("web", &[(ObjectKind::Deployment, "cart")]);
        before.get_mut(&WorkloadId::new("web")).unwrap().unseen = why;
        assert_eq!(ids(&config.with_selected(&before).0), ["shop", "web", "web.cart"], "what was seen stays");
        assert!(!config.may_select(&before, &WorkloadId::new("web.late")));
    }

    #[test]
    fn what_was_not_looked_for_yet_is_not_gone() {
        let config = config(TEXT);
        let may = |selected: &Selected, id: &str| config.may_select(selected, &WorkloadId::new(id));
        assert!(may(&Selected::new(), "web.cart") && may(&Selected::new(), "zoo.statefulset.x"));
        assert!(!may(&Selected::new(), "website.cart") && !may(&Selected::new(), "shop.cart"));
        assert!(!may(&selected("web", &[]), "web.cart"), "looked for, and gone");
    }
}
