//! Pod templates as JSON, compared by what they say.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::PodSpec;
use serde::Serialize;
use serde_json::Value;

/// The label that a Deployment's controller adds to the template of each of its ReplicaSets.
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// What a template says, less what its revision added and what says nothing: two with the same content are equal.
#[must_use]
pub fn content(mut template: Value) -> Value {
    strip_nulls(&mut template);
    if let Some(fields) = template.as_object_mut() {
        // A ControllerRevision's template is written as a patch.
        fields.remove("$patch");
    }
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(TEMPLATE_HASH);
    }
    template
}

fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A short stand-in for a template's content, to be compared within this process only.
#[must_use]
pub fn digest(template: &impl Serialize) -> u64 {
    let content = serde_json::to_value(template).map(content).unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    // Keys come sorted.
    content.to_string().hash(&mut hasher);
    hasher.finish()
}

/// The images that a pod is made of, in its order, without repetition.
#[must_use]
pub fn images(spec: Option<&PodSpec>) -> Option<String> {
    let images = spec?.containers.iter().filter_map(|container| container.image.as_deref());
    joined(images)
}

/// The same of a template in JSON.
#[must_use]
pub fn images_of(template: &Value) -> Option<String> {
    let containers = template.pointer("/spec/containers")?.as_array()?;
    joined(containers.iter().filter_map(|container| container.get("image")?.as_str()))
}

fn joined<'a>(images: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut all: Vec<&str> = Vec::new();
    for image in images {
        if !all.contains(&image) {
            all.push(image);
        }
    }
    (!all.is_empty()).then(|| all.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_are_equal_by_what_they_say() {
        let deployment =
            json!({"metadata": {"labels": {"app": "a"}, "creationTimestamp": null}, "spec": {"x": [1, null]}});
        let replica_set =
            json!({"metadata": {"labels": {"pod-template-hash": "77", "app": "a"}}, "spec": {"x": [1, null]}});
        let revision = json!({"$patch": "replace", "metadata": {"labels": {"app": "a"}}, "spec": {"x": [1, null]}});
        assert_eq!(content(deployment.clone()), content(replica_set.clone()));
        assert_eq!(content(deployment.clone()), content(revision));
        assert_eq!(digest(&deployment), digest(&replica_set));
        let other = json!({"metadata": {"labels": {"app": "b"}}, "spec": {"x": [1, null]}});
        assert_ne!(digest(&deployment), digest(&other));
    }

    #[test]
    fn each_image_is_named_once() {
        let template = json!({"spec": {"containers": [{"image": "a:1"}, {"image": "b"}, {"image": "a:1"}, {}]}});
        assert_eq!(images_of(&template).as_deref(), Some("a:1, b"));
        assert_eq!(images_of(&json!({"spec": {"containers": []}})), None);
    }
}
