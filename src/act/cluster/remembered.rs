//! What `kubectl apply` remembers of a manifest, in an annotation of the object. By that it tells what a later manifest leaves
//! out, and deletes it; what is live and was never remembered belongs to somebody else, and stays. So what a rollback writes is
//! carried over to it, and nothing but that:
//! <https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/#merge-patch-calculation>.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// The annotation.
pub(super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What tells the elements of a list apart, of those that the API merges by a key.
const KEYS: [&str; 4] = ["name", "mountPath", "devicePath", "containerPort"];

/// What is to be remembered of a part that becomes `after` in place of `before`: as it was remembered, but for what differs
/// between the two. What was there before and not remembered is somebody else's; a single value may be a default of the API
/// server's, in whose place one release has its own.
pub(super) fn carried(remembered: Option<&Value>, before: Option<&Value>, after: Option<&Value>) -> Option<Value> {
    if before == after {
        return remembered.cloned();
    }
    // The API server fills in what is empty.
    let before = before.filter(|before| !is_empty(before));
    match (remembered, before, after) {
        (_, _, None) | (None, Some(_), Some(Value::Object(_) | Value::Array(_))) => None,
        (Some(Value::Object(known)), Some(Value::Object(before)), Some(Value::Object(after))) => {
            let mut known = known.clone();
            for key in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
                match carried(known.get(key), before.get(key), after.get(key)) {
                    Some(value) => known.insert(key.clone(), value),
                    None => known.remove(key),
                };
            }
            Some(Value::Object(known))
        }
        (Some(Value::Array(known)), Some(Value::Array(before)), Some(Value::Array(after))) => {
            let key = KEYS.into_iter().find(|key| [known, before, after].iter().all(|list| tells_apart(list, key)));
            Some(Value::Array(key.map_or_else(|| after.clone(), |key| carried_list(key, known, before, after))))
        }
        (_, _, Some(after)) => Some(after.clone()),
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// Elements keep their order; new ones come last.
fn carried_list(key: &str, known: &[Value], before: &[Value], after: &[Value]) -> Vec<Value> {
    let of = |list: &[Value], name: &Value| list.iter().find(|element| element.get(key) == Some(name)).cloned();
    let mut carried_over: Vec<Value> = Vec::new();
    for name in known.iter().chain(after).filter_map(|element| element.get(key)) {
        if carried_over.iter().any(|element| element.get(key) == Some(name)) {
            continue;
        }
        let [known, before, after] = [known, before, after].map(|list| of(list, name));
        carried_over.extend(carried(known.as_ref(), before.as_ref(), after.as_ref()));
    }
    carried_over
}

fn tells_apart(list: &[Value], key: &str) -> bool {
    let names: BTreeSet<String> = list.iter().filter_map(|element| Some(element.get(key)?.to_string())).collect();
    names.len() == list.len()
}

/// The manifest that was remembered, changed.
pub(super) fn changed(text: &str, change: impl FnOnce(&mut Map<String, Value>) -> Option<()>) -> Option<String> {
    let mut manifest: Value = serde_json::from_str(text).ok()?;
    change(manifest.as_object_mut()?)?;
    Some(format!("{manifest}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(image: &str, more: &Value) -> Value {
        let mut container = json!({ "name": "app", "image": image });
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "containers": [container] })
    }

    fn all(remembered: &Value, before: &Value, after: &Value) -> Value {
        carried(Some(remembered), Some(before), Some(after)).unwrap()
    }

    #[test]
    fn what_two_releases_differ_in_is_remembered_as_the_one_that_came_back_has_it() {
        let env = |names: &[&str]| {
            let each: Vec<Value> = names.iter().map(|name| json!({ "name": name, "value": "x" })).collect();
            json!({ "env": each })
        };
        let (old, new) = (container("app:1", &env(&["A", "B"])), container("app:2", &env(&["A", "C"])));
        assert_eq!(all(&new, &new, &old), old);
        assert_eq!(all(&new, &new, &new), new);
    }

    #[test]
    fn what_others_put_beside_it_is_not_remembered() {
        let limits = json!({ "resources": { "limits": { "memory": "64Mi" } }, "terminationMessagePath": "/dev/log" });
        let remembered = container("app:2", &json!({}));
        let (before, after) = (container("app:2", &limits), container("app:1", &limits));
        assert_eq!(all(&remembered, &before, &after), container("app:1", &json!({})));
        let tuned = json!({ "resources": { "limits": { "memory": "32Mi" } } });
        assert_eq!(
            all(&remembered, &container("app:2", &limits), &container("app:1", &tuned)),
            container("app:1", &json!({}))
        );
        let injected = |image: &str| {
            let mut pod = container(image, &json!({}));
            pod["containers"].as_array_mut().unwrap().push(json!({ "name": "mesh", "image": "mesh:1" }));
            pod
        };
        assert_eq!(all(&remembered, &injected("app:2"), &injected("app:1")), container("app:1", &json!({})));
    }

    #[test]
    fn what_comes_in_place_of_nothing_is_remembered() {
        let limits = json!({ "resources": { "limits": { "memory": "64Mi" } } });
        let (remembered, before) = (container("app:2", &json!({})), container("app:2", &json!({ "resources": {} })));
        assert_eq!(all(&remembered, &before, &container("app:1", &limits)), container("app:1", &limits));
        let back = all(&container("app:2", &limits), &container("app:2", &limits), &before);
        assert_eq!(back["containers"][0]["resources"], json!({}));
    }

    #[test]
    fn a_value_in_place_of_a_default_is_remembered() {
        let remembered = container("app:2", &json!({}));
        let policy = |image: &str, policy: &str| container(image, &json!({ "imagePullPolicy": policy }));
        let (before, after) = (policy("app:2", "IfNotPresent"), policy("app:1", "Always"));
        assert_eq!(all(&remembered, &before, &after), after);
    }

    #[test]
    fn a_list_without_keys_is_taken_whole() {
        let args = |args: &[&str]| json!({ "args": args });
        assert_eq!(all(&args(&["a"]), &args(&["a"]), &args(&["b", "c"])), args(&["b", "c"]));
        let data = |pairs: Value| json!({ "data": pairs });
        let (remembered, before) = (data(json!({ "a": "2" })), data(json!({ "a": "2", "ca": "pem" })));
        assert_eq!(all(&remembered, &before, &data(json!({ "a": "1", "ca": "pem" }))), data(json!({ "a": "1" })));
    }

    #[test]
    fn what_is_no_manifest_is_left_alone() {
        assert_eq!(changed("no json", |_| Some(())), None);
        assert_eq!(changed("[]", |_| Some(())), None);
        assert_eq!(changed("{\"a\":1}", |fields| fields.remove("a").map(drop)), Some("{}\n".to_owned()));
    }
}
