//! What a container finds in its environment, from its own list and from ConfigMaps.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapKeySelector, Container, Pod};
use kube::Api;

/// The variables of a container.
///
/// # Errors
///
/// What is not there: a container does not start without.
pub(super) async fn environment(
    maps: &Api<ConfigMap>,
    container: &Container,
) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    for from in container.env_from.iter().flatten() {
        let Some(from) = &from.config_map_ref else { continue };
        let is_optional = from.optional == Some(true);
        match data(maps, &from.name).await {
            Ok(data) => found.extend(data),
            Err(_) if is_optional => {}
            Err(why) => return Err(why),
        }
    }
    for variable in container.env.iter().flatten() {
        let source = variable.value_from.as_ref().and_then(|from| from.config_map_key_ref.as_ref());
        let value = match source {
            None => variable.value.clone().unwrap_or_default(),
            Some(from) => match key(maps, from).await {
                Ok(value) => value,
                Err(_) if from.optional == Some(true) => continue,
                Err(why) => return Err(why),
            },
        };
        found.insert(variable.name.clone(), value);
    }
    Ok(found)
}

/// The first ConfigMap that a pod mounts and that is not there.
pub(super) async fn unmountable(maps: &Api<ConfigMap>, pod: &Pod) -> Option<String> {
    for volume in pod.spec.as_ref()?.volumes.as_ref()? {
        let Some(from) = &volume.config_map else { continue };
        if from.optional != Some(true)
            && let Err(why) = data(maps, &from.name).await
        {
            return Some(why);
        }
    }
    None
}

async fn key(maps: &Api<ConfigMap>, from: &ConfigMapKeySelector) -> Result<String, String> {
    let value = data(maps, &from.name).await?.remove(&from.key);
    value.ok_or_else(|| format!("couldn't find key {} in ConfigMap {}", from.key, from.name))
}

async fn data(maps: &Api<ConfigMap>, name: &str) -> Result<BTreeMap<String, String>, String> {
    let found = maps.get_opt(name).await.map_err(|error| error.to_string())?;
    found.map(|map| map.data.unwrap_or_default()).ok_or_else(|| format!("configmap \"{name}\" not found"))
}
