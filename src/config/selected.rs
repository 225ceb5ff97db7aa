//! Workloads that are named by their labels: each object with them is a workload of its own, under the section's policy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::model::{Config, Workload};
use crate::domain::id::WorkloadId;
use crate::domain::policy::{Habitat, Kubernetes, KubernetesSubject, ObjectKind, WorkloadPolicy};

/// The objects that each section's selector takes, where that is known.
pub type Selected = BTreeMap<WorkloadId, BTreeSet<(ObjectKind, String)>>;

/// Workloads under one section: what is beyond that is no one's selector on purpose.
pub const MOST: usize = 10_000;

impl Config {
    /// The sections whose workloads are named by their labels.
    pub fn selectors(&self) -> impl Iterator<Item = (&WorkloadId, &Kubernetes, &str)> {
        self.workloads.iter().filter_map(|(id, workload)| {
            let (place, selector) = selector(workload)?;
            Some((id, place, selector))
        })
    }

    /// The same with a workload for each object in place of such a section, and what was left out: an object that a
    /// section names by its name, or that another selector took, and what is beyond [`MOST`].
    #[must_use]
    pub fn with_selected(&self, selected: &Selected) -> (Self, Vec<String>) {
        let named = self.workloads.values().flat_map(objects);
        let mut taken: BTreeSet<Spot> = named.collect();
        let mut left_out = Vec::new();
        let mut workloads = BTreeMap::new();
        for (id, workload) in &self.workloads {
            let Some((place, _)) = selector(workload) else {
                workloads.insert(id.clone(), workload.clone());
                continue;
            };
            for (kind, name) in selected.get(id).into_iter().flatten() {
                let own = own_id(id, *kind, name);
                let spot = (place.context.clone(), place.namespace.clone(), *kind, name.clone());
                if workloads.len() >= MOST || self.workloads.contains_key(&own) || !taken.insert(spot) {
                    left_out.push(own.to_string());
                } else {
                    let subject = KubernetesSubject::Object { kind: *kind, name: name.clone() };
                    let habitat = Habitat::Kubernetes(Kubernetes { subject, ..place.clone() });
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
        let unseen = self.selectors().filter(|(id, ..)| !selected.contains_key(*id));
        let is_its =
            |id: &WorkloadId| workload.as_str().strip_prefix(id.as_str()).is_some_and(|own| own.starts_with('.'));
        unseen.map(|(id, ..)| id).any(is_its)
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
        | KubernetesSubject::Canary { stable: one, canary: other } => {
            vec![object(ObjectKind::Deployment, one), object(ObjectKind::Deployment, other)]
        }
        KubernetesSubject::Selected { .. } | KubernetesSubject::OwnerOfPod => Vec::new(),
    }
}

fn selector(workload: &Workload) -> Option<(&Kubernetes, &str)> {
    let Habitat::Kubernetes(place) = &workload.policy.habitat else { return None };
    match &place.subject {
        KubernetesSubject::Selected { selector } => Some((place, selector)),
        KubernetesSubject::Object { .. }
        | KubernetesSubject::OwnerOfPod
        | KubernetesSubject::BlueGreen { .. }
        | KubernetesSubject::Canary { .. } => None,
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
        let objects = objects.iter().map(|(kind, name)| (*kind, (*name).to_owned()));
        [(WorkloadId::new(section), objects.collect())].into()
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
        assert_eq!(config.selectors().map(|(id, ..)| id.as_str()).collect::<Vec<_>>(), ["web", "zoo"]);
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
    fn what_was_not_looked_for_yet_is_not_gone() {
        let config = config(TEXT);
        let may = |selected: &Selected, id: &str| config.may_select(selected, &WorkloadId::new(id));
        assert!(may(&Selected::new(), "web.cart") && may(&Selected::new(), "zoo.statefulset.x"));
        assert!(!may(&Selected::new(), "website.cart") && !may(&Selected::new(), "shop.cart"));
        assert!(!may(&selected("web", &[]), "web.cart"), "looked for, and gone");
    }
}
