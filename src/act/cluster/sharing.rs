//! Settings that other workloads name as well: what goes back with a release of one would go back for all of them.

use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, ResourceExt};

use super::ask::answer;
use super::object::workloads;
use super::setting::Restored;
use super::write::refused;
use crate::cluster::settings::named;
use crate::domain::policy::{KubernetesSubject, ObjectKind};
use crate::domain::response::plan::Outcome;

/// Where workloads may be.
const KINDS: [ObjectKind; 3] = [ObjectKind::Deployment, ObjectKind::StatefulSet, ObjectKind::DaemonSet];

/// Looks whether a workload besides `subject` names it in the template that is in place. Those of a kind that may not be seen are
/// not known.
///
/// # Errors
/// Which one does, or why nobody can say.
pub(super) async fn unless_shared(
    client: &Client,
    what: Restored<'_>,
    subject: &KubernetesSubject,
) -> Result<(), Outcome> {
    let Restored { object, setting, .. } = what;
    for kind in KINDS {
        let api: Api<DynamicObject> = workloads(client, &object.namespace, kind);
        let all = match answer(api.list(&ListParams::default())).await {
            Ok(all) => all.items,
            Err(kube::Error::Api(status)) if status.code == 403 => continue,
            Err(error) => return Err(refused(&error)),
        };
        let is_own = |name: &str| kind == object.kind && (name == object.name || subject.names().contains(&Some(name)));
        let names_it = |other: &&DynamicObject| {
            let template = other.data.pointer("/spec/template");
            !is_own(&other.name_any()) && template.is_some_and(|template| named(template).contains(setting))
        };
        if let Some(other) = all.iter().find(names_it) {
            let (kind, namespace, name) = (kind.as_str(), &object.namespace, other.name_any());
            let why = format!("{kind} {namespace}/{name} names {setting} as well, and would get what goes back");
            return Err(Outcome::Denied(format!("{why}: that is left to a human")));
        }
    }
    Ok(())
}
