//! The Lease in the cluster: read whole, replaced whole, and only as it was read.

use std::time::Duration;

use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::time::timeout;

use super::election::{Bid, Claim, Found};
use crate::cluster::describe;
use crate::domain::time::{Span, Timestamp};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Why a write did not make this daemon the holder.
#[derive(Debug)]
pub(super) enum NotWritten {
    /// The lease is not as it was read, or is gone.
    Refused,
    /// Whether it was written is not known, or it may not be.
    Failed(String),
}

/// One Lease.
pub(super) struct Object {
    api: Api<DynamicObject>,
    name: String,
}

impl Object {
    pub(super) fn new(client: Client, namespace: &str, name: &str) -> Self {
        let kind = GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease");
        let kind = ApiResource::from_gvk_with_plural(&kind, "leases");
        Self { api: Api::namespaced_with(client, namespace, &kind), name: name.to_owned() }
    }

    /// The lease, or that there is none.
    pub(super) async fn read(&self) -> Result<Option<(Found, DynamicObject)>, String> {
        let found = within(self.api.get_opt(&self.name)).await.map_err(|error| told(&error))?;
        Ok(found.map(|object| {
            let version = object.resource_version().unwrap_or_default();
            (Found { claim: claim(&object), version }, object)
        }))
    }

    /// Writes the claim over what the bid says; gives the new version. `last` is the object as it was last read.
    pub(super) async fn write(
        &self,
        bid: &Bid,
        claim: &Claim,
        wall: &str,
        last: Option<&DynamicObject>,
    ) -> Result<DynamicObject, NotWritten> {
        let object = self.with(bid, claim, wall, last);
        let params = PostParams::default();
        let written = match &bid.over {
            Some(_) => within(self.api.replace(&self.name, &params, &object)).await,
            None => within(self.api.create(&params, &object)).await,
        };
        written.map_err(|error| match &error {
            Some(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => NotWritten::Refused,
            Some(_) | None => NotWritten::Failed(told(&error)),
        })
    }

    /// What others keep in the object, labels and the like, stays in it.
    fn with(&self, bid: &Bid, claim: &Claim, wall: &str, last: Option<&DynamicObject>) -> DynamicObject {
        let fresh = || {
            let kind = GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease");
            DynamicObject::new(&self.name, &ApiResource::from_gvk_with_plural(&kind, "leases"))
        };
        let mut object = last.filter(|_| bid.over.is_some()).cloned().unwrap_or_else(fresh);
        object.metadata.resource_version = bid.over.clone();
        object.metadata.managed_fields = None;
        let before = object.data.get("spec").cloned().unwrap_or_default();
        let transitions = before.get("leaseTransitions").and_then(serde_json::Value::as_i64).unwrap_or(0);
        let transitions = if bid.takes && bid.over.is_some() { transitions + 1 } else { transitions };
        let acquired = before.get("acquireTime").filter(|_| !bid.takes).cloned().unwrap_or_else(|| json!(wall));
        object.data = json!({ "spec": {
            "holderIdentity": claim.holder.as_deref().unwrap_or(""),
            "leaseDurationSeconds": claim.duration.as_millis().div_ceil(1000),
            "acquireTime": acquired,
            "renewTime": claim.renewed,
            "leaseTransitions": transitions,
        }});
        object
    }
}

/// The claim that a lease makes.
fn claim(object: &DynamicObject) -> Claim {
    let text = |path: &str| {
        let text = object.data.pointer(path).and_then(serde_json::Value::as_str);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let seconds = object.data.pointer("/spec/leaseDurationSeconds").and_then(serde_json::Value::as_u64);
    Claim {
        holder: text("/spec/holderIdentity"),
        renewed: text("/spec/renewTime"),
        duration: Span::from_secs(seconds.unwrap_or(0)),
    }
}

/// A time as a Lease has it.
pub(super) fn micro_time(at: Timestamp) -> String {
    let text = at.to_string();
    let (whole, fraction) = text.trim_end_matches('Z').split_once('.').unwrap_or((text.trim_end_matches('Z'), ""));
    format!("{whole}.{fraction:0<6}Z")
}

/// None where the API server did not answer in time.
async fn within<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Option<kube::Error>> {
    match timeout(LIMIT, call).await {
        Ok(answer) => answer.map_err(Some),
        Err(_) => Err(None),
    }
}

fn told(error: &Option<kube::Error>) -> String {
    match error {
        Some(error) => describe(error),
        None => format!("the API server did not answer within {} s", LIMIT.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_six_digits_after_the_point() {
        assert_eq!(micro_time(Timestamp::from_millis(1_500)), "1970-01-01T00:00:01.500000Z");
        assert_eq!(micro_time(Timestamp::from_millis(2_000)), "1970-01-01T00:00:02.000000Z");
    }
}
