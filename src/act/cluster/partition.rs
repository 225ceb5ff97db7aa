//! What a StatefulSet's partition keeps from going back.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1;
use kube::Client;
use kube::api::{Api, ListParams};

use crate::cluster::facts::Pod;
use crate::domain::id::RevisionId;
use crate::domain::policy::{ClusterObject, ObjectKind, listed};

/// Which pods of `object` a partition keeps at another release than `to`; none where there are none.
///
/// # Errors
/// The API server does not say.
pub(super) async fn kept_back(
    client: &Client,
    object: &ClusterObject,
    to: &RevisionId,
) -> Result<Option<String>, kube::Error> {
    if object.kind != ObjectKind::StatefulSet {
        return Ok(None);
    }
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &object.namespace);
    let Some(spec) = sets.get_opt(&object.name).await?.and_then(|set| set.spec) else { return Ok(None) };
    let rolling = spec.update_strategy.and_then(|strategy| strategy.rolling_update);
    let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or(0);
    if partition <= 0 {
        return Ok(None);
    }
    let first = spec.ordinals.and_then(|ordinals| ordinals.start).unwrap_or(0);
    let pods: Api<v1::Pod> = Api::namespaced(client.clone(), &object.namespace);
    let labels = listed(&spec.selector.match_labels.unwrap_or_default());
    let all = pods.list(&ListParams::default().labels(&labels)).await?;
    let its = all.items.into_iter().filter_map(|pod| Pod::try_from(pod).ok()).filter(|pod| pod.owner == object.uid);
    let pods: Vec<(String, String)> = its.filter(|pod| !pod.is_ending).map(|pod| (pod.name, pod.hash)).collect();
    Ok(told(partition, first, &pods, to))
}

/// The same of these pods and the releases that they are at.
fn told(partition: i32, first: i32, pods: &[(String, String)], to: &RevisionId) -> Option<String> {
    let ordinal = |name: &str| name.rsplit_once('-').and_then(|(_, ordinal)| ordinal.parse::<i32>().ok());
    let is_below = |name: &str| ordinal(name).is_some_and(|ordinal| ordinal < first.saturating_add(partition));
    let kept = pods.iter().filter(|(name, at)| is_below(name) && at != to.as_str());
    let mut kept: Vec<String> = kept.map(|(name, at)| format!("{name} at {at}")).collect();
    kept.sort();
    (!kept.is_empty()).then(|| {
        let kept = kept.join(", ");
        format!("its partition {partition} keeps {kept}: not all of it would go back to {to} while that is so")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_the_partition_and_not_at_the_goal_is_kept_back() {
        let pods = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            all.iter().map(|(name, at)| ((*name).to_owned(), (*at).to_owned())).collect()
        };
        let bad = pods(&[("db-2", "v2"), ("db-1", "v2"), ("db-0", "v2")]);
        let expected =
            "its partition 2 keeps db-0 at v2, db-1 at v2: not all of it would go back to v1 while that is so";
        assert_eq!(told(2, 0, &bad, &"v1".into()).as_deref(), Some(expected));
        let staged = pods(&[("db-2", "v2"), ("db-1", "v1"), ("db-0", "v1")]);
        assert_eq!(told(2, 0, &staged, &"v1".into()), None);
        let later = pods(&[("db-5", "v2"), ("db-6", "v2")]);
        assert!(told(1, 5, &later, &"v1".into()).unwrap().contains("keeps db-5 at v2:"));
    }
}
