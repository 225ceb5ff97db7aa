//! Looking whether steps in a cluster could be done: rights, what keeps the goal, and the very write as a dry run.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::timeout;

use super::object::{Change, Place, plurals};
use super::write::rehearse;
use crate::cluster::{Clients, describe};
use crate::domain::policy::ClusterObject;
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
            StepKind::Scale { object, replicas } => (object, Change::Replicas(*replicas)),
            StepKind::SwitchLink { .. }
            | StepKind::Restart { .. }
            | StepKind::Command { .. }
            | StepKind::AwaitRollout { .. }
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

/// Each right that the step needs and this daemon has not, with the rule that grants it.
async fn missing_rights(client: &Client, object: &ClusterObject) -> Vec<Finding> {
    let (workloads, revisions) = plurals(object.kind);
    let mut missing = Vec::new();
    for (verb, resource, name) in [("get", workloads, true), ("patch", workloads, true), ("get", revisions, false)] {
        let attributes = ResourceAttributes {
            group: Some("apps".to_owned()),
            resource: Some(resource.to_owned()),
            verb: Some(verb.to_owned()),
            namespace: Some(object.namespace.clone()),
            name: name.then(|| object.name.clone()),
            ..ResourceAttributes::default()
        };
        match is_allowed(client, attributes).await {
            Ok(true) => {}
            Ok(false) => missing.push(finding(
                "rights",
                format!(
                    "may not {verb} {resource} in {}: a Role with apiGroups [\"apps\"], resources [\"{resource}\"], verbs [\"{verb}\"] grants it",
                    object.namespace
                ),
            )),
            Err(why) => missing.push(finding("rights", why)),
        }
    }
    missing
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
