//! Who manages the fields that a rollback wrote. Whoever deploys by server-side apply managed them before: left with this
//! program, their next manifest would meet a conflict, and what the restored release has and that manifest has not would stay
//! in place for ever. So what was written is handed back to the one who applies the object.
//!
//! The format is that of `metadata.managedFields`:
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management>. `kubectl` moves fields between
//! managers in the same way when it changes from client-side to server-side apply.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::IsHeld;
use super::object::FIELD_MANAGER;
use crate::cluster::describe;

/// Writes that may miss because the status changed meanwhile.
const ATTEMPTS: u32 = 5;

/// What was to be done is done by then: nothing waits for this for long.
const LIMIT: Duration = Duration::from_secs(3);

/// Hands what was written under `paths` back to the one who applied it, by `before`, which says who managed what until it was
/// written, unless the workload is held by then: that is a write like any other. That it can't be done is logged, and takes
/// nothing from what was written.
pub(super) async fn hand_back(
    api: &Api<DynamicObject>,
    name: &str,
    before: &[ManagedFieldsEntry],
    paths: &[&[&str]],
    is_held: IsHeld<'_>,
) {
    // Nobody asks the API server where nobody applies.
    if !before.iter().any(applies) {
        return;
    }
    let handed = timeout(LIMIT, attempt(api, name, before, paths, is_held)).await;
    let why = match handed {
        Ok(Ok(true)) => return,
        Ok(Ok(false)) => "somebody holds the workload".to_owned(),
        Ok(Err(error)) => describe(&error),
        Err(_) => "the API server did not answer in time".to_owned(),
    };
    tracing::warn!(name, why, "who applies it does not manage again what was put back: their next apply may conflict");
}

/// Whether all is as it is to be; not where somebody holds the workload.
async fn attempt(
    api: &Api<DynamicObject>,
    name: &str,
    before: &[ManagedFieldsEntry],
    paths: &[&[&str]],
    is_held: IsHeld<'_>,
) -> Result<bool, kube::Error> {
    let mut left = ATTEMPTS;
    loop {
        let Some(found) = api.get_opt(name).await? else { return Ok(true) };
        let entries = found.metadata.managed_fields.as_deref().unwrap_or_default();
        let Some(entries) = handed_back(entries, before, paths) else { return Ok(true) };
        if is_held() {
            return Ok(false);
        }
        let patch = json!([
            { "op": "test", "path": "/metadata/uid", "value": found.uid() },
            { "op": "test", "path": "/metadata/resourceVersion", "value": found.resource_version() },
            { "op": "replace", "path": "/metadata/managedFields", "value": entries },
        ]);
        let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        left -= 1;
        match api.patch(name, &params, &Patch::Json::<DynamicObject>(patch)).await {
            // It was not as it was read any more.
            Err(kube::Error::Api(status)) if left > 0 && matches!(status.code, 409 | 422) => {}
            written => return written.map(|_| true),
        }
    }
}

/// The entries as they are to be; none where there is nothing to hand back, or nobody to take it.
fn handed_back(
    entries: &[ManagedFieldsEntry],
    before: &[ManagedFieldsEntry],
    paths: &[&[&str]],
) -> Option<Vec<ManagedFieldsEntry>> {
    let mut entries = entries.to_vec();
    let mut is_any = false;
    for path in paths {
        is_any |= hand_over(&mut entries, before, path).is_some();
    }
    let is_empty = |entry: &ManagedFieldsEntry| entry.fields_v1.as_ref().is_some_and(|fields| fields.0 == json!({}));
    entries.retain(|entry| !(is_ours(entry) && is_empty(entry)));
    is_any.then_some(entries)
}

/// Hands over what is ours under a path: to whoever lost something there that it had applied, where that is one alone, and no
/// more than that unless it is alone there: one who applies other fields would delete what it never named at its next apply.
/// Whoever had written what it lost, as `kubectl rollout restart` does, gets that back and nothing else.
fn hand_over(entries: &mut Vec<ManagedFieldsEntry>, before: &[ManagedFieldsEntry], path: &[&str]) -> Option<()> {
    let lost = |entry: &ManagedFieldsEntry| {
        let had = at(entry, path)?;
        let has = entries.iter().find(|now| is_same(now, entry)).and_then(|now| at(now, path));
        has.map_or_else(|| Some(had.clone()), |has| without(had, has))
    };
    let mut losers = before.iter().filter(|entry| applies(entry)).filter_map(|entry| Some((entry, lost(entry)?)));
    let (Some((applier, applied)), None) = (losers.next(), losers.next()) else { return None };
    let ours = entries.iter().position(|entry| is_ours(entry) && entry.api_version == applier.api_version)?;
    let mine = at(&entries[ours], path)?.clone();
    let wrote =
        |entry: &&ManagedFieldsEntry| !is_ours(entry) && !is_applied(entry) && entry.api_version == applier.api_version;
    let mut shares: Vec<(&ManagedFieldsEntry, Value)> =
        before.iter().filter(wrote).filter_map(|entry| Some((entry, common(&mine, &lost(entry)?)?))).collect();
    let mut written = json!({});
    shares.iter().for_each(|(_, share)| merge(&mut written, share.clone()));
    let given = if is_alone(applier, before, path) {
        without(&written, &applied).map_or_else(|| Some(mine.clone()), |others| without(&mine, &others))
    } else {
        common(&mine, &applied)
    };
    shares.extend(given.map(|given| (applier, given)));
    if shares.is_empty() {
        return None;
    }
    let nested = |fields: Value| path.iter().rev().fold(fields, |inner, key| json!({ *key: inner }));
    let mut handed = json!({});
    shares.iter().for_each(|(_, share)| merge(&mut handed, share.clone()));
    if let Value::Object(fields) = &mut entries[ours].fields_v1.as_mut()?.0 {
        take(fields, path);
    }
    if let Some(left) = without(&mine, &handed) {
        merge(&mut entries[ours].fields_v1.as_mut()?.0, nested(left));
    }
    for (to, share) in shares {
        match entries.iter_mut().find(|entry| is_same(entry, to)) {
            Some(theirs) => merge(&mut theirs.fields_v1.as_mut()?.0, nested(share)),
            // The API server drops an entry that has lost its last field.
            None => entries.push(ManagedFieldsEntry { fields_v1: Some(FieldsV1(nested(share))), ..to.clone() }),
        }
    }
    Some(())
}

/// Whether one who applies is the only one under a path, and not just of a part of what somebody else deploys without applying
/// it: whoever deploys names an image, and is no hand with kubectl.
fn is_alone(applier: &ManagedFieldsEntry, before: &[ManagedFieldsEntry], path: &[&str]) -> bool {
    let others = || before.iter().filter(|entry| !is_ours(entry) && !is_same(entry, applier));
    let names_image = |entry: &ManagedFieldsEntry| at(entry, path).is_some_and(has_image);
    let is_by_hand =
        |entry: &ManagedFieldsEntry| entry.manager.as_ref().is_some_and(|name| name.starts_with("kubectl"));
    !others().any(|entry| is_applied(entry) && at(entry, path).is_some())
        && (names_image(applier) || !others().any(|entry| names_image(entry) && !is_by_hand(entry)))
}

fn has_image(fields: &Value) -> bool {
    fields.as_object().is_some_and(|inner| inner.iter().any(|(key, value)| key == "f:image" || has_image(value)))
}

fn is_same(one: &ManagedFieldsEntry, other: &ManagedFieldsEntry) -> bool {
    let is_by_the_same = one.manager == other.manager && one.operation == other.operation;
    is_by_the_same && one.api_version == other.api_version && one.subresource == other.subresource
}

fn is_whole(entry: &ManagedFieldsEntry) -> bool {
    entry.subresource.as_deref().is_none_or(str::is_empty)
}

fn is_applied(entry: &ManagedFieldsEntry) -> bool {
    entry.operation.as_deref() == Some("Apply")
}

fn applies(entry: &ManagedFieldsEntry) -> bool {
    is_applied(entry) && is_whole(entry)
}

fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER) && is_whole(entry) && !applies(entry)
}

/// What an entry manages under a path.
fn at<'a>(entry: &'a ManagedFieldsEntry, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(&entry.fields_v1.as_ref()?.0, |fields, key| fields.get(key))
}

/// The fields that are in one set and not in another; nothing where none is.
fn without(fields: &Value, others: &Value) -> Option<Value> {
    let inner = fields.as_object().filter(|inner| !inner.is_empty())?;
    let left: Map<String, Value> = inner
        .iter()
        .filter_map(|(key, value)| match others.get(key) {
            None => Some((key.clone(), value.clone())),
            Some(others) => Some((key.clone(), without(value, others)?)),
        })
        .collect();
    (!left.is_empty()).then_some(Value::Object(left))
}

/// The fields that are in both sets; nothing where none is.
fn common(fields: &Value, others: &Value) -> Option<Value> {
    without(fields, others).map_or_else(|| Some(fields.clone()), |rest| without(fields, &rest))
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

    /// An entry of who applies these fields of the template.
    fn applied(manager: &str, fields: &Value) -> Value {
        entry(manager, "Apply", &of_template(fields))
    }

    #[test]
    fn what_was_written_is_managed_by_the_one_who_applied_it() {
        let status = json!({ "manager": "kcm", "operation": "Update", "apiVersion": "apps/v1", "subresource": "status",
            "fieldsV1": { "f:status": {} } });
        let before = entries(json!([applied("kubectl", &json!({ "f:a": {}, "f:b": {} })), status]));
        let written = entries(json!([
            applied("kubectl", &json!({ "f:a": {} })),
            entry(FIELD_MANAGER, "Update", &of_template(&json!({ "f:b": {}, "f:c": {} }))),
            status,
        ]));
        let expected = entries(json!([applied("kubectl", &json!({ "f:a": {}, "f:b": {}, "f:c": {} })), status]));
        assert_eq!(handed_back(&written, &before, &[TEMPLATE]), Some(expected.clone()));
        assert_eq!(handed_back(&expected, &before, &[TEMPLATE]), None, "once is enough");
    }

    #[test]
    fn what_others_managed_goes_back_to_them_and_what_else_was_written_stays_where_others_apply() {
        let marks = json!({ "f:annotations": { "f:rollbackd.dev/x": {} } });
        let ours = |template: Value| json!({ "f:metadata": marks, "f:spec": { "f:template": template } });
        let of = |manager: &str, operation: &str, fields: Value| {
            entry(manager, operation, &json!({ "f:spec": { "f:template": fields } }))
        };
        let had = [
            of("flux", "Apply", json!({ "f:x": {}, "f:z": {} })),
            of("helm", "Update", json!({ "f:y": {}, "f:kept": {} })),
        ];
        let has = [
            of("flux", "Apply", json!({ "f:z": {} })),
            of("helm", "Update", json!({ "f:kept": {} })),
            entry(FIELD_MANAGER, "Update", &ours(json!({ "f:x": {}, "f:y": {}, "f:new": {} }))),
        ];
        let [flux, helm] = [json!({ "f:x": {}, "f:z": {}, "f:new": {} }), json!({ "f:y": {}, "f:kept": {} })];
        let marked = entry(FIELD_MANAGER, "Update", &json!({ "f:metadata": marks }));
        let alone = json!([of("flux", "Apply", flux), of("helm", "Update", helm), marked]);
        let handed = handed_back(&entries(json!(has)), &entries(json!(had)), &[TEMPLATE]);
        assert_eq!(handed, Some(entries(alone)));
        // Beside another one who applies, what nobody managed is nobody's.
        let tuner = of("tuner", "Apply", json!({ "f:resources": {} }));
        let with = |all: &[Value]| entries(json!([all, std::slice::from_ref(&tuner)].concat()));
        let left = entry(FIELD_MANAGER, "Update", &ours(json!({ "f:new": {} })));
        let beside = with(&[had[0].clone(), had[1].clone(), left]);
        assert_eq!(handed_back(&with(&has), &with(&had), &[TEMPLATE]), Some(beside));
    }

    /// `kubectl rollout restart` and whoever else patches a field manage it for ever.
    #[test]
    fn who_patched_something_keeps_that_and_does_not_keep_the_rest_from_the_one_who_applies() {
        let [restart, edit] = [json!({ "f:restartedAt": {} }), json!({ "f:memory": {} })];
        let [restarted, edited] = [("restart", &restart), ("edit", &edit)]
            .map(|(manager, fields)| entry(manager, "Update", &of_template(fields)));
        let before = [applied("ci", &json!({ "f:image": {}, "f:a": {} })), restarted.clone(), edited.clone()];
        // Its memory was changed, and what was there in the good release alone is nobody's.
        let ours = |fields: Value| entry(FIELD_MANAGER, "Update", &of_template(&fields));
        let written = json!([
            applied("ci", &json!({ "f:image": {} })),
            restarted,
            ours(json!({ "f:a": {}, "f:b": {}, "f:args": {}, "f:memory": {} })),
        ]);
        let all = json!({ "f:image": {}, "f:a": {}, "f:b": {}, "f:args": {} });
        let after = entries(json!([applied("ci", &all), restarted, edited]));
        assert_eq!(handed_back(&entries(written), &entries(json!(before)), &[TEMPLATE]), Some(after));
    }

    /// What applies only a part of a release would delete what whoever deploys it wrote.
    #[test]
    fn who_applies_a_part_of_what_somebody_else_deploys_gets_that_part() {
        let helm = |fields: &Value| entry("helm", "Update", &of_template(fields));
        let before = [applied("tuner", &json!({ "f:cpu": {} })), helm(&json!({ "f:image": {}, "f:a": {} }))];
        let ours = |fields: &Value| entry(FIELD_MANAGER, "Update", &of_template(fields));
        let mine = json!({ "f:cpu": {}, "f:image": {}, "f:b": {} });
        let written = json!([helm(&json!({ "f:a": {} })), ours(&mine)]);
        let handed = handed_back(&entries(written), &entries(json!(before)), &[TEMPLATE]).unwrap();
        let after = json!([before[1], ours(&json!({ "f:b": {} })), before[0]]);
        assert_eq!(handed, entries(after));
    }

    /// One field in whole, which more than one may manage.
    #[test]
    fn a_selector_is_managed_again_by_all_who_did() {
        let selector: &[&str] = &["f:spec", "f:selector"];
        let whole =
            |manager: &str, operation: &str| entry(manager, operation, &json!({ "f:spec": { "f:selector": {} } }));
        let before = entries(json!([whole("kubectl", "Apply"), whole("deployer", "Update")]));
        let written = entries(json!([whole(FIELD_MANAGER, "Update")]));
        let handed = handed_back(&written, &before, &[selector]).unwrap();
        assert_eq!(handed, entries(json!([whole("deployer", "Update"), whole("kubectl", "Apply")])));
    }

    #[test]
    fn a_number_is_managed_again_by_whoever_applied_it_and_by_nobody_else() {
        let replicas: &[&str] = &["f:spec", "f:replicas"];
        let numbered = entry("kubectl", "Apply", &json!({ "f:spec": { "f:replicas": {}, "f:paused": {} } }));
        let unnumbered = entry("kubectl", "Apply", &json!({ "f:spec": { "f:paused": {} } }));
        let ours = entry(FIELD_MANAGER, "Update", &json!({ "f:spec": { "f:replicas": {} } }));
        let written = entries(json!([unnumbered, ours]));
        let handed = handed_back(&written, &entries(json!([numbered])), &[replicas]);
        assert_eq!(handed, Some(entries(json!([numbered]))));
        assert_eq!(handed_back(&written, &entries(json!([unnumbered])), &[replicas]), None, "an autoscaler's");
    }

    #[test]
    fn who_has_lost_everything_manages_it_again() {
        let before = entries(json!([applied("kubectl", &json!({ "f:a": {} }))]));
        let written = entries(json!([entry(FIELD_MANAGER, "Update", &of_template(&json!({ "f:a": {} })))]));
        assert_eq!(handed_back(&written, &before, &[TEMPLATE]), Some(before));
    }

    #[test]
    fn where_nobody_lost_anything_or_more_than_one_did_it_stays() {
        let ours = entry(FIELD_MANAGER, "Update", &of_template(&json!({ "f:b": {} })));
        let [less, more] = [json!({ "f:a": {} }), json!({ "f:a": {}, "f:b": {} })];
        let updates = |fields: &Value| entry("kubectl", "Update", &of_template(fields));
        // Each would delete what it never named.
        let labeler = entry("labeler", "Apply", &json!({ "f:metadata": { "f:labels": { "f:team": {} } } }));
        let tuner = applied("tuner", &json!({ "f:resources": {} }));
        for (before, written) in [
            (json!([]), json!([ours])),
            (json!([updates(&more)]), json!([updates(&less), ours])),
            (json!([labeler, updates(&more)]), json!([labeler, updates(&less), ours])),
            (json!([tuner, updates(&more)]), json!([tuner, updates(&less), ours])),
            (
                json!([applied("one", &more), applied("two", &more)]),
                json!([applied("one", &less), applied("two", &less), ours]),
            ),
        ] {
            let handed = handed_back(&entries(written.clone()), &entries(before), &[TEMPLATE]);
            assert_eq!(handed, None, "{written}");
        }
        let before = entries(json!([applied("one", &more), labeler, tuner]));
        let written = entries(json!([applied("one", &less), labeler, tuner, ours]));
        assert!(handed_back(&written, &before, &[TEMPLATE]).is_some(), "those who lost nothing are none of them");
    }
}
