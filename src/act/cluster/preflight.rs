//! Looking whether steps in a cluster could be done: rights, what keeps the goal, and the very write as a dry run.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::timeout;

use super::object::{Change, Number, Place, plurals};
use super::switch;
use super::write::rehearse;
use crate::cluster::{Clients, describe};
use crate::domain::policy::{ClusterObject, Switch};
use crate::domain::response::plan::{Finding, StepKind};

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(5);

/// What stands in the way of the steps that are done in a cluster.
pub(in crate::act) async fn findings(clients: &Clients, steps: &[&StepKind]) -> Vec<Finding> {
    let looked = timeout(LIMIT, look(clients, steps)).await;
    looked.unwrap_or_else(|_| vec![finding("API server", format!("did not answer within {} s", LIMIT.as_secs()))])
}

async fn look(clients: &Clients, steps: &[&StepKind]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for step in steps {
        let (object, change) = match step {
            StepKind::RestoreTemplate { object, expect, source, to: _ } => {
                (object, Change::Template { expect: expect.clone(), source: source.clone() })
            }
            // Which release it is about is settled by the steps before it.
            StepKind::Scale { object, replicas, only_from, expect: _ } => {
                let number = Number { replicas: *replicas, only_from: *only_from };
                (object, Change::Replicas { expect: None, number })
            }
            StepKind::DeleteStuck { object, .. } => {
                findings.extend(may_delete(clients, object).await);
                continue;
            }
            StepKind::SwitchService { object, switch, .. } => {
                findings.extend(may_switch(clients, object, switch).await);
                continue;
            }
            StepKind::ProveTraffic { object, .. } => {
                findings.extend(may_look(clients, object).await);
                continue;
            }
            StepKind::SwitchLink { .. }
            | StepKind::Restart { .. }
            | StepKind::Command { .. }
            | StepKind::AwaitRollout { .. }
            | StepKind::AwaitCapacity { .. }
            | StepKind::AwaitWell { .. }
            | StepKind::Gate { .. } => continue,
        };
        match clients.get(object.context.as_deref()).await {
            Err(error) => findings.push(finding("API server", error.line())),
            Ok(client) => {
                let missing = missing_rights(&client, object).await;
                if missing.is_empty() {
                    let rehearsed = rehearse(&Place::new(client, object), &change).await;
                    findings.extend(rehearsed.err().map(|why| finding(&object.to_string(), why)));
                }
                findings.extend(missing);
            }
        }
    }
    findings.dedup();
    findings
}

/// Each right that a write needs and this daemon has not.
async fn missing_rights(client: &Client, object: &ClusterObject) -> Vec<Finding> {
    let (workloads, revisions) = plurals(object.kind);
    let mut missing = Vec::new();
    for (verb, resource, name) in [
        ("get", workloads, Some(object.name.as_str())),
        ("patch", workloads, Some(object.name.as_str())),
        ("get", revisions, None),
    ] {
        missing.extend(missing_right(client, object, "apps", resource, verb, name).await);
    }
    missing
}

async fn may_switch(clients: &Clients, object: &ClusterObject, switch: &Switch) -> Vec<Finding> {
    let client = match clients.get(object.context.as_deref()).await {
        Ok(client) => client,
        Err(error) => return vec![finding("API server", error.line())],
    };
    let name = Some(switch.service.name.as_str());
    let mut missing = Vec::new();
    for verb in ["get", "patch"] {
        missing.extend(missing_right(&client, object, "", "services", verb, name).await);
    }
    if missing.is_empty() {
        let rehearsed = switch::rehearse(&client, object, switch).await;
        missing.extend(rehearsed.err().map(|why| finding(&format!("Service {}", switch.service.name), why)));
    }
    missing
}

async fn may_look(clients: &Clients, object: &ClusterObject) -> Vec<Finding> {
    let client = match clients.get(object.context.as_deref()).await {
        Ok(client) => client,
        Err(error) => return vec![finding("API server", error.line())],
    };
    let mut missing = Vec::new();
    for (group, resource, verb) in
        [("discovery.k8s.io", "endpointslices", "list"), ("", "pods", "list"), ("apps", "replicasets", "get")]
    {
        missing.extend(missing_right(&client, object, group, resource, verb, None).await);
    }
    missing
}

async fn may_delete(clients: &Clients, object: &ClusterObject) -> Option<Finding> {
    match clients.get(object.context.as_deref()).await {
        Ok(client) => missing_right(&client, object, "", "pods", "delete", None).await,
        Err(error) => Some(finding("API server", error.line())),
    }
}

/// A right that this daemon has not, with the rule that grants it.
async fn missing_right(
    client: &Client,
    object: &ClusterObject,
    group: &str,
    resource: &str,
    verb: &str,
    name: Option<&str>,
) -> Option<Finding> {
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        verb: Some(verb.to_owned()),
        namespace: Some(object.namespace.clone()),
        name: name.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let grant = format!("apiGroups [\"{group}\"], resources [\"{resource}\"], verbs [\"{verb}\"]");
    match is_allowed(client, attributes).await {
        Ok(true) => None,
        Ok(false) => Some(finding(
            "rights",
            format!("may not {verb} {resource} in {}: a Role with {grant} grants it", object.namespace),
        )),
        Err(why) => Some(finding("rights", why)),
    }
}

async fn is_allowed(client: &Client, attributes: ResourceAttributes) -> Result<bool, String> {
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..Default::default() };
    let answer = Api::<SelfSubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await;
    let status = answer.map_err(|error| describe(&error))?.status;
    Ok(status.is_some_and(|status| status.allowed))
}

fn finding(check: &str, problem: String) -> Finding {
    Finding { check: check.to_owned(), problem }
}
