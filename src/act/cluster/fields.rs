//! Who manages the fields that a rollback wrote. Whoever deploys by server-side apply managed them before: left with this
//! program, their next manifest would meet a conflict, and what the restored release has and that manifest has not would stay
//! in place for ever. So what was written is handed back to the one who applies the object.
//!
//! The format is that of `metadata.managedFields`:
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management>. `kubectl` moves fields between
//! managers in the same way when it changes from client-side to server-side apply.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::object::FIELD_MANAGER;
use super::write::is_refusal;
use crate::cluster::describe;

/// Writes that may miss because the status changed meanwhile.
const ATTEMPTS: u32 = 5;

/// What was to be done is done by then: nothing waits for this for long.
const LIMIT: Duration = Duration::from_secs(3);

/// Hands what was written under `paths` back to the one who applies the object, where there is exactly one. That it can't be
/// done is logged, and takes nothing from what was written.
pub(super) async fn hand_back(api: &Api<DynamicObject>, name: &str, paths: &[&[&str]]) {
    let handed = timeout(LIMIT, attempt(api, name, paths)).await;
    let why = match handed {
        Ok(Ok(())) => return,
        Ok(Err(error)) => describe(&error),
        Err(_) => "the API server did not answer in time".to_owned(),
    };
    tracing::warn!(name, why, "who applies it does not manage again what was put back: their next apply may conflict");
}

async fn attempt(api: &Api<DynamicObject>, name: &str, paths: &[&[&str]]) -> Result<(), kube::Error> {
    let mut left = ATTEMPTS;
    loop {
        let Some(found) = api.get_opt(name).await? else { return Ok(()) };
        let entries = found.metadata.managed_fields.as_deref().unwrap_or_default();
        let Some(entries) = handed_back(entries, paths) else { return Ok(()) };
        let patch = json!([
            { "op": "test", "path": "/metadata/uid", "value": found.uid() },
            { "op": "test", "path": "/metadata/resourceVersion", "value": found.resource_version() },
            { "op": "replace", "path": "/metadata/managedFields", "value": entries },
        ]);
        let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        left -= 1;
        match api.patch(name, &params, &Patch::Json::<DynamicObject>(patch)).await {
            Err(error) if left > 0 && is_refusal(&error) => {}
            written => return written.map(drop),
        }
    }
}

/// The entries as they are to be; none where there is nothing to hand back, or nobody to take it, or more than one.
fn handed_back(entries: &[ManagedFieldsEntry], paths: &[&[&str]]) -> Option<Vec<ManagedFieldsEntry>> {
    let mut entries = entries.to_vec();
    let is_whole = |entry: &ManagedFieldsEntry| entry.subresource.as_deref().is_none_or(str::is_empty);
    let is_ours = |entry: &ManagedFieldsEntry| entry.manager.as_deref() == Some(FIELD_MANAGER) && is_whole(entry);
    let applies = |entry: &ManagedFieldsEntry| entry.operation.as_deref() == Some("Apply") && is_whole(entry);
    let mut appliers = entries.iter().filter(|entry| applies(entry));
    let version = appliers.next()?.api_version.clone();
    if appliers.next().is_some() {
        return None;
    }
    let ours = entries.iter_mut().find(|entry| is_ours(entry) && entry.api_version == version && !applies(entry))?;
    let Value::Object(fields) = &mut ours.fields_v1.as_mut()?.0 else { return None };
    let taken: Vec<(&[&str], Value)> = paths.iter().filter_map(|path| Some((*path, take(fields, path)?))).collect();
    if taken.is_empty() {
        return None;
    }
    let applier = entries.iter_mut().find(|entry| applies(entry))?;
    let theirs = &mut applier.fields_v1.as_mut()?.0;
    for (path, fields) in taken {
        let nested = path.iter().rev().fold(fields, |inner, key| json!({ *key: inner }));
        merge(theirs, nested);
    }
    let is_empty = |entry: &ManagedFieldsEntry| entry.fields_v1.as_ref().is_some_and(|fields| fields.0 == json!({}));
    entries.retain(|entry| !(is_ours(entry) && is_empty(entry)));
    Some(entries)
}

/// Takes what is under a path out, and with it what would be left empty.
fn take(fields: &mut Map<String, Value>, path: &[&str]) -> Option<Value> {
    let (key, rest) = path.split_first()?;
    if rest.is_empty() {
        return fields.remove(*key);
    }
    let inner = fields.get_mut(*key)?.as_object_mut()?;
    let taken = take(inner, rest)?;
    if inner.is_empty() {
        fields.remove(*key);
    }
    Some(taken)
}

/// The union of two sets of fields.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert_with(|| json!({})), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &[&str] = &["f:spec", "f:template"];

    fn entries(all: Value) -> Vec<ManagedFieldsEntry> {
        serde_json::from_value(all).unwrap()
    }

    fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
        json!({ "manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields })
    }

    fn of_template(fields: &Value) -> Value {
        json!({ "f:spec": { "f:template": { "f:spec": fields } } })
    }

    #[test]
    fn what_was_written_is_managed_by_the_one_who_applies() {
        let theirs = json!({ "f:spec": { "f:replicas": {}, "f:template": { "f:spec": { "f:a": {} } } } });
        let status = json!({ "manager": "kcm", "operation": "Update", "apiVersion": "apps/v1", "subresource": "status",
            "fieldsV1": { "f:status": {} } });
        let before = [
            entry("kubectl", "Apply", &theirs),
            entry(FIELD_MANAGER, "Update", &of_template(&json!({ "f:b": {} }))),
            status.clone(),
        ];
        let after = json!({ "f:spec": { "f:replicas": {}, "f:template": { "f:spec": { "f:a": {}, "f:b": {} } } } });
        let expected = entries(json!([entry("kubectl", "Apply", &after), status]));
        assert_eq!(handed_back(&entries(json!(before)), &[TEMPLATE]), Some(expected.clone()));
        assert_eq!(handed_back(&expected, &[TEMPLATE]), None, "once is enough");
    }

    #[test]
    fn what_else_was_written_stays_with_the_one_who_wrote_it() {
        let ours = json!({ "f:metadata": { "f:annotations": { "f:rollbackd.dev/x": {} } },
            "f:spec": { "f:replicas": {}, "f:template": { "f:x": {} } } });
        let before = [entry("flux", "Apply", &json!({})), entry(FIELD_MANAGER, "Update", &ours)];
        let after = [
            entry("flux", "Apply", &json!({ "f:spec": { "f:template": { "f:x": {} } } })),
            entry(
                FIELD_MANAGER,
                "Update",
                &json!({ "f:metadata": { "f:annotations": { "f:rollbackd.dev/x": {} } }, "f:spec": { "f:replicas": {} } }),
            ),
        ];
        assert_eq!(handed_back(&entries(json!(before)), &[TEMPLATE]), Some(entries(json!(after))));
    }

    #[test]
    fn where_nobody_applies_or_more_than_one_does_it_stays() {
        let ours = entry(FIELD_MANAGER, "Update", &of_template(&json!({ "f:b": {} })));
        let theirs = |manager| entry(manager, "Apply", &of_template(&json!({ "f:a": {} })));
        let updates = entry("kubectl", "Update", &of_template(&json!({ "f:a": {} })));
        for before in [json!([ours]), json!([ours, updates]), json!([ours, theirs("one"), theirs("two")])] {
            assert_eq!(handed_back(&entries(before.clone()), &[TEMPLATE]), None, "{before}");
        }
        let unwritten = entry(FIELD_MANAGER, "Update", &json!({ "f:spec": { "f:replicas": {} } }));
        assert_eq!(handed_back(&entries(json!([theirs("one"), unwritten])), &[TEMPLATE]), None);
    }
}
