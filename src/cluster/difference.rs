//! What differs between two pod templates, in words that leave out what may be a secret.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::domain::incident::recording::{Change, NOT_SHOWN};

/// Fields that lists of a template are told apart by, where their elements have them.
const KEYS: [&str; 4] = ["mountPath", "containerPort", "name", "key"];

/// Texts that are names, amounts or choices. Any other may hold a secret, and so only that it differs is told: values of
/// the environment, arguments, annotations, headers.
const SHOWN: [&str; 29] = [
    "claimName",
    "containerPort",
    "cpu",
    "dnsPolicy",
    "effect",
    "ephemeral-storage",
    "fieldPath",
    "image",
    "imagePullPolicy",
    "key",
    "medium",
    "memory",
    "mountPath",
    "name",
    "operator",
    "port",
    "priorityClassName",
    "protocol",
    "resource",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "scheme",
    "secretName",
    "serviceAccountName",
    "sizeLimit",
    "subPath",
    "topologyKey",
    "workingDir",
];

/// What differs, in the order of the fields' names. Both templates without what their revisions added.
#[must_use]
pub fn changes(from: &Value, to: &Value) -> Vec<Change> {
    let (from, to) = (leaves(from), leaves(to));
    let mut fields: Vec<&String> = from.keys().chain(to.keys()).collect();
    fields.sort();
    fields.dedup();
    let differs = |field: &&&String| from.get(**field) != to.get(**field);
    let told = |leaf: Option<&Leaf>| leaf.map(Leaf::told);
    fields
        .iter()
        .filter(differs)
        .map(|field| Change { field: (**field).clone(), from: told(from.get(*field)), to: told(to.get(*field)) })
        .collect()
}

/// A value that is no object and no list.
#[derive(PartialEq)]
struct Leaf {
    value: Value,
    is_shown: bool,
}

impl Leaf {
    fn told(&self) -> String {
        match &self.value {
            Value::String(text) if self.is_shown => text.clone(),
            Value::String(_) => NOT_SHOWN.to_owned(),
            other => other.to_string(),
        }
    }
}

fn leaves(template: &Value) -> BTreeMap<String, Leaf> {
    let mut found = BTreeMap::new();
    descend(template, "", false, &mut found);
    found
}

fn descend(value: &Value, path: &str, is_shown: bool, found: &mut BTreeMap<String, Leaf>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, field) in fields {
                // Whoever reads it knows that a pod has a spec.
                let path = if path.is_empty() && key == "spec" { String::new() } else { join(path, key) };
                let is_plain = is_shown || matches!(key.as_str(), "resources" | "nodeSelector" | "labels");
                descend(field, &path, is_plain || (is_leaf(field) && SHOWN.contains(&key.as_str())), found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                let key = KEYS.iter().find_map(|key| item.get(key)).map(word);
                let mut path = join(path, &key.unwrap_or_else(|| index.to_string()));
                if found.keys().any(|known| known.starts_with(&format!("{path}."))) {
                    path = format!("{path}#{index}");
                }
                descend(item, &path, is_shown, found);
            }
        }
        leaf => {
            found.insert(path.to_owned(), Leaf { value: leaf.clone(), is_shown });
        }
    }
}

fn is_leaf(value: &Value) -> bool {
    !matches!(value, Value::Object(_) | Value::Array(_))
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(from: &Value, to: &Value) -> Vec<String> {
        changes(from, to).iter().map(Change::in_words).collect()
    }

    fn template(image: &str, password: &str, argument: &str) -> Value {
        json!({
            "metadata": { "labels": { "app": "shop" }, "annotations": { "note": password } },
            "spec": { "containers": [{
                "name": "app",
                "image": image,
                "args": ["--token", argument],
                "env": [{ "name": "PASSWORD", "value": password }, { "name": "DEBUG", "value": "1" }],
                "readinessProbe": { "httpGet": { "httpHeaders": [{ "name": "Authorization", "value": password }] } },
                "resources": { "limits": { "memory": "64Mi" } },
            }] },
        })
    }

    #[test]
    fn what_changed_is_told_and_what_may_be_secret_is_not() {
        let (old, new) = (template("shop:v1", "hunter2", "t0k3n"), template("shop:v2", "hunter3", "0ther"));
        let lines = told(&new, &old);
        let expected = [
            "containers.app.args.1 is another one",
            "containers.app.env.PASSWORD.value is another one",
            "containers.app.image is shop:v2, was shop:v1",
            "containers.app.readinessProbe.httpGet.httpHeaders.Authorization.value is another one",
            "metadata.annotations.note is another one",
        ];
        assert_eq!(lines, expected);
        let text = serde_json::to_string(&changes(&new, &old)).unwrap();
        for secret in ["hunter", "t0k3n", "0ther"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert_eq!(told(&old, &old), [""; 0]);
    }

    #[test]
    fn what_came_and_what_went_is_told_by_its_name() {
        let old = template("shop:v1", "x", "y");
        let mut new = old.clone();
        let container = &mut new["spec"]["containers"][0];
        container["resources"]["limits"]["memory"] = "32Mi".into();
        container["env"] = json!([{ "name": "DEBUG", "value": "1" }, { "name": "COLOUR", "valueFrom": {
            "configMapKeyRef": { "name": "shop-config", "key": "colour" } } }]);
        container["ports"] =
            json!([{ "containerPort": 80, "protocol": "TCP" }, { "containerPort": 80, "protocol": "UDP" }]);
        let lines = told(&new, &old);
        for line in [
            "containers.app.env.COLOUR.valueFrom.configMapKeyRef.name is shop-config, was not there",
            "containers.app.env.PASSWORD.value is gone, was (not shown)",
            "containers.app.resources.limits.memory is 32Mi, was 64Mi",
            "containers.app.ports.80.protocol is TCP, was not there",
            "containers.app.ports.80#1.protocol is UDP, was not there",
        ] {
            assert!(lines.iter().any(|told| told == line), "{line}: {lines:#?}");
        }
    }
}
