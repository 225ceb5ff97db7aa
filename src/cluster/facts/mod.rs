//! What is kept of an object: what may matter to somebody who follows a workload.

mod map;
mod owner;
mod pod;
mod revision;
mod service;
mod workload;

pub use map::Map;
pub use owner::{owners, restorers};
pub use pod::{Container, Kills, Pod};
pub use revision::Revision;
pub use service::{Service, ServiceObject, ServiceSpec, selects};
pub use workload::{Arrived, Workload};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// Something that is found by what it belongs to.
pub trait Fact: Clone + Send + Sync + 'static {
    /// What the API server tells it by.
    fn uid(&self) -> &str;

    /// What it is found by: the uid of the object that controls it, or its own name where it is at the top.
    fn group(&self) -> &str;
}

/// The one owner that controls an object.
fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

fn count(number: Option<i32>) -> u32 {
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}
