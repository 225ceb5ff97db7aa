//! Room for the pods that a rollback starts: what the namespace's quotas leave, against what their template asks for.
//!
//! A quota that is too small refuses neither a template nor a number, only the pods made from it, and tells nobody but their
//! controller.

use std::collections::BTreeMap;

use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::Value;

use super::object::{Place, Read};
use crate::cluster::describe;
use crate::domain::policy::Pin;

/// Of a Deployment's pods, how many may be out of service, and how many more there may be, while it is rolled out and nothing
/// else is said.
const USUAL_SHARE: f64 = 0.25;

/// Names under which a quota bounds the number of pods.
const PODS: [&str; 2] = ["pods", "count/pods"];

/// Amounts, by the name under which a quota bounds them, in base units.
type Amounts = BTreeMap<String, f64>;

/// What pods are started for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start<'a> {
    /// A rollout of the template that this keeps.
    Goal(&'a Pin),
    /// The same, where no pod is left of another by then.
    Anew(&'a Pin),
    /// The first pod of it, without which it never moves.
    First(&'a Pin),
    /// Another rollout of the template in place.
    InPlace,
    /// That there are so many of the template in place.
    Pods(u32),
}

/// What there is no room for, in one line each; nothing where the workload or what keeps the goal can't be read, which
/// is told elsewhere.
///
/// # Errors
/// The quotas can't be read.
pub(super) async fn lacking(client: &Client, place: &Place<'_>, start: Start<'_>) -> Result<Vec<String>, String> {
    let kind = GroupVersionKind::gvk("", "v1", "ResourceQuota");
    let kind = ApiResource::from_gvk_with_plural(&kind, "resourcequotas");
    let quotas: Api<DynamicObject> = Api::namespaced_with(client.clone(), &place.object.namespace, &kind);
    let quotas = match quotas.list(&ListParams::default()).await {
        Ok(quotas) => quotas.items,
        Err(error) => return Err(format!("quotas can't be read: {}", describe(&error))),
    };
    // Most namespaces have none.
    if quotas.is_empty() {
        return Ok(Vec::new());
    }
    let Ok(read) = place.read().await else { return Ok(Vec::new()) };
    let (need, what) = match start {
        Start::Goal(source) | Start::Anew(source) | Start::First(source) => {
            let Ok(goal) = place.kept(&source.name, Some(&source.uid)).await else { return Ok(Vec::new()) };
            match start {
                // It is under way, and has taken what it could.
                _ if read.template == goal => return Ok(Vec::new()),
                // The bad release may be what found no room beside it.
                Start::First(_) if place.runs(&source.name).await => return Ok(Vec::new()),
                Start::First(_) => (need_of_first(&read, &goal), "the first pod of the goal".to_owned()),
                Start::Anew(_) => (need(&read, &goal, false), "a rollout of the goal".to_owned()),
                Start::Goal(_) | Start::InPlace | Start::Pods(_) => {
                    (need(&read, &goal, true), "a rollout of the goal".to_owned())
                }
            }
        }
        Start::InPlace => (need(&read, &read.template, true), "a rollout of what is in place".to_owned()),
        Start::Pods(replicas) => (need_of_more(&read, replicas), format!("scaling {} to {replicas}", place.object)),
    };
    Ok(quotas.iter().flat_map(|quota| beyond(quota, &need, &what)).collect())
}

/// What a rollout to `goal` takes beyond what the pods that run have already: by how much they grow, and one pod where none
/// may be taken out of service before another is in service.
fn need(read: &Read, goal: &Value, beside_others: bool) -> Amounts {
    let (before, after) = (pod(&read.template), pod(goal));
    let pods = read.replicas.unwrap_or(0) as f64;
    let extra = if beside_others && pods > 0.0 && may_go(read) < 1.0 { 1.0 } else { 0.0 };
    let grown = after.iter().map(|(name, amount)| {
        let more = (amount - before.get(name).copied().unwrap_or(0.0)).max(0.0);
        (name.clone(), more * pods + amount * extra)
    });
    grown.filter(|(_, amount)| *amount > 0.0).collect()
}

/// What the first pod of a rollout to `goal` takes beyond what those leave behind that may go before it.
fn need_of_first(read: &Read, goal: &Value) -> Amounts {
    let (before, gone) = (pod(&read.template), may_go(read));
    if read.replicas.unwrap_or(0) == 0 {
        return Amounts::new();
    }
    let need = pod(goal).into_iter().map(|(name, amount)| {
        let left_behind = before.get(&name).copied().unwrap_or(0.0) * gone;
        (name, amount - left_behind)
    });
    need.filter(|(_, amount)| *amount > 0.0).collect()
}

/// What it takes to have so many pods, beyond those that are asked for already.
fn need_of_more(read: &Read, replicas: u32) -> Amounts {
    let more = u64::from(replicas).saturating_sub(read.replicas.unwrap_or(0)) as f64;
    let more = pod(&read.template).into_iter().map(|(name, amount)| (name, amount * more));
    more.filter(|(_, amount)| *amount > 0.0).collect()
}

/// How many pods may go before another one is in service. Of a Deployment those that are asked for and were not made count as
/// gone already: its controller leaves as many in place as its `maxUnavailable` lets it, whether they ever were or not. Those
/// that were made beyond what is asked for may go as well.
fn may_go(read: &Read) -> f64 {
    let Some(strategy) = &read.strategy else { return 1.0 };
    let pods = read.replicas.unwrap_or(0) as f64;
    let made = read.made.map_or(pods, |made| made as f64);
    if strategy.get("type").and_then(Value::as_str) == Some("Recreate") {
        return made;
    }
    let share = |name: &str| match strategy.pointer(&format!("/rollingUpdate/{name}")) {
        Some(Value::String(percent)) => percent.trim_end_matches('%').parse().unwrap_or(0.0) * pods / 100.0,
        Some(number) => number.as_f64().unwrap_or(0.0),
        None => USUAL_SHARE * pods,
    };
    // As the controller does: rounded down, and one where neither more nor fewer would be let be.
    let unavailable = match (share("maxUnavailable").floor(), share("maxSurge").ceil()) {
        (0.0, 0.0) => 1.0,
        (unavailable, _) => unavailable,
    };
    (unavailable - (pods - made)).max(0.0)
}

/// What one pod of a template takes. Init containers run before the others, one after another: the larger counts. One that is
/// always started again stays beside all that come after it.
fn pod(template: &Value) -> Amounts {
    let all = |path: &str| template.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut sum = Amounts::new();
    for container in all("/spec/containers") {
        for (name, amount) in asked(&container) {
            *sum.entry(name).or_default() += amount;
        }
    }
    let (mut staying, mut most) = (Amounts::new(), Amounts::new());
    for container in all("/spec/initContainers") {
        let stays = container.get("restartPolicy").and_then(Value::as_str) == Some("Always");
        for (name, amount) in asked(&container) {
            let beside = staying.entry(name.clone()).or_default();
            let with = *beside + amount;
            let known = most.entry(name).or_default();
            *known = known.max(with);
            *beside = if stays { with } else { *beside };
        }
    }
    for (name, amount) in staying {
        *sum.entry(name).or_default() += amount;
    }
    for (name, amount) in most {
        let known = sum.entry(name).or_default();
        *known = known.max(amount);
    }
    sum.extend(PODS.map(|name| (name.to_owned(), 1.0)));
    sum
}

fn asked(container: &Value) -> Vec<(String, f64)> {
    let mut all = Vec::new();
    for (kind, is_request) in [("requests", true), ("limits", false)] {
        let amounts = container.pointer(&format!("/resources/{kind}")).and_then(Value::as_object);
        for (name, amount) in amounts.into_iter().flatten() {
            let Some(amount) = amount.as_str().and_then(quantity) else { continue };
            all.push((format!("{kind}.{name}"), amount));
            if is_request && matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
                all.push((name.clone(), amount));
            }
        }
    }
    all
}

/// What of the need a quota has no room for. One that is about some pods only is left out.
fn beyond(quota: &DynamicObject, need: &Amounts, what: &str) -> Vec<String> {
    let at = |path: &str| quota.data.pointer(path);
    if at("/spec/scopes").is_some() || at("/spec/scopeSelector").is_some() {
        return Vec::new();
    }
    let amount = |part: &str, name: &str| at(part)?.get(name)?.as_str().and_then(quantity);
    let lack = |(name, need): (&String, &f64)| {
        let hard = amount("/status/hard", name).or_else(|| amount("/spec/hard", name))?;
        let left = (hard - amount("/status/used", name).unwrap_or(0.0)).max(0.0);
        (*need > left).then(|| format!("quota {} leaves {left} of {name}, and {what} takes {need}", quota.name_any()))
    };
    need.iter().filter_map(lack).collect()
}

/// A quantity as Kubernetes writes it: `500m`, `1.5Gi`, `2e3`.
fn quantity(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 14] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
    ];
    let suffixed = SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)));
    let (number, factor) = suffixed.unwrap_or((text, 1.0));
    let number: f64 = number.parse().ok()?;
    number.is_finite().then_some(number * factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(cpu: &str) -> Value {
        let resources = json!({"requests": {"cpu": cpu}, "limits": {"memory": "1Gi"}});
        json!({"spec": {"containers": [{"name": "a", "resources": resources}, {"name": "b"}]}})
    }

    fn read(strategy: Value, replicas: u64) -> Read {
        Read { strategy: Some(strategy), replicas: Some(replicas), template: template("500m"), ..Read::default() }
    }

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        let all = ["500m", "2", "1.5Gi", "2e3", "1E", "x", "12k"].map(quantity);
        assert_eq!(all, [Some(0.5), Some(2.0), Some(1_610_612_736.0), Some(2000.0), None, None, Some(12_000.0)]);
    }

    #[test]
    fn a_rollout_takes_a_pod_more_only_where_none_may_go_first() {
        let pods =
            |strategy: Value, replicas| need(&read(strategy, replicas), &template("500m"), true).get("pods").copied();
        // A quarter of three, rounded down, is none.
        assert_eq!(pods(json!({"type": "RollingUpdate"}), 3), Some(1.0));
        assert_eq!(pods(json!({"type": "RollingUpdate"}), 4), None);
        assert_eq!(pods(json!({"rollingUpdate": {"maxUnavailable": 1}}), 3), None);
        assert_eq!(pods(json!({"rollingUpdate": {"maxUnavailable": 0}}), 30), Some(1.0));
        assert_eq!(pods(json!({"type": "Recreate"}), 3), None);
        assert_eq!(pods(json!({"type": "RollingUpdate"}), 0), None);
    }

    /// A quarter of six is one, and one is missing already: the five that are there must stay until another one serves.
    #[test]
    fn pods_that_were_not_made_are_gone_already() {
        let goal = template("500m");
        let first = |asked, made| {
            let read = Read { made: Some(made), ..read(json!({"type": "RollingUpdate"}), asked) };
            let all = need(&read, &goal, true).get("pods").copied();
            assert_eq!(need_of_first(&read, &goal).get("pods").copied(), all, "{asked} {made}");
            all
        };
        assert_eq!([first(6, 6), first(6, 5), first(6, 8)], [None, Some(1.0), None]);
        assert_eq!([first(8, 7), first(8, 6), first(12, 5), first(0, 0)], [None, Some(1.0), Some(1.0), None]);
        assert_eq!([first(3, 3), first(3, 4)], [Some(1.0), None], "one was made beside them for another rollout");
        let neither = json!({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}});
        assert_eq!(need_of_first(&read(neither, 3), &goal), Amounts::new());
        let emptied = Read { made: Some(5), ..read(json!({}), 6) };
        assert_eq!(need(&emptied, &goal, false), Amounts::new());
    }

    #[test]
    fn what_begins_before_the_others_counts_beside_them_only_where_it_stays() {
        let asks = |cpu: &str, stays: bool| {
            let mut container = json!({"resources": {"requests": {"cpu": cpu}}});
            if stays {
                container["restartPolicy"] = json!("Always");
            }
            container
        };
        let cpu = |before: &[Value]| {
            let mut template = template("500m");
            template["spec"]["initContainers"] = json!(before);
            pod(&template)["cpu"]
        };
        assert_eq!([cpu(&[asks("400m", false)]), cpu(&[asks("2", false)])], [0.5, 2.0]);
        assert_eq!(cpu(&[asks("250m", true)]), 0.75);
        assert_eq!(cpu(&[asks("250m", true), asks("2", false)]), 2.25);
        assert_eq!(cpu(&[asks("2", false), asks("250m", true)]), 2.0, "it is over before the other begins");
    }

    #[test]
    fn a_first_pod_takes_what_those_that_go_do_not_leave() {
        let first = |pods, cpu| need_of_first(&read(json!({}), pods), &template(cpu)).get("cpu").copied();
        assert_eq!([first(4, "1500m"), first(8, "900m"), first(3, "100m")], [Some(1.0), None, Some(0.1)]);
        let set = Read { replicas: Some(3), template: template("500m"), ..Read::default() };
        assert_eq!(need_of_first(&set, &template("600m"))["cpu"], 0.6 - 0.5, "one goes");
    }

    #[test]
    fn more_pods_take_what_each_of_those_asks_for_that_are_not_there_yet() {
        let more = |replicas| need_of_more(&read(json!({}), 2), replicas);
        let three = more(5);
        assert_eq!([three["pods"], three["requests.cpu"], three["limits.memory"]], [3.0, 1.5, 3.0 * 1_073_741_824.0]);
        assert_eq!([more(2), more(1)], [Amounts::new(), Amounts::new()]);
    }

    #[test]
    fn what_a_quota_does_not_leave_is_told() {
        let need = need(&read(json!({}), 3), &template("1500m"), true);
        assert_eq!(need["cpu"], 4.5);
        let beyond = |quota: &DynamicObject| beyond(quota, &need, "a rollout of the goal");
        let quota = |more: Value| -> DynamicObject {
            let mut spec = json!({"hard": {"requests.cpu": "6"}});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let status = json!({"hard": {"requests.cpu": "6"}, "used": {"requests.cpu": "1500m"}});
            serde_json::from_value(json!({"metadata": {"name": "team"}, "spec": spec, "status": status})).unwrap()
        };
        assert_eq!(beyond(&quota(json!({}))), Vec::<String>::new());
        let mut tight = quota(json!({}));
        tight.data["status"]["used"]["requests.cpu"] = json!("1501m");
        let lack = "quota team leaves 4.499 of requests.cpu, and a rollout of the goal takes 4.5";
        assert_eq!(beyond(&tight), [lack]);
        tight.data["spec"]["scopes"] = json!(["BestEffort"]);
        assert_eq!(beyond(&tight), Vec::<String>::new());
    }
}
