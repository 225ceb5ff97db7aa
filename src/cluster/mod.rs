//! What a Kubernetes cluster offers: clients, and what its objects say of workloads, their revisions and their pods.
//!
//! Facts are taken from objects by pure functions and kept instead of them: a template is a long text of which only its
//! images and whether it equals another one matter.

mod client;
pub mod colours;
pub mod difference;
mod error;
pub mod facts;
pub mod mask;
pub mod own;
pub mod record_names;
pub mod rights;
pub mod settings;
pub mod template;
pub mod vault;
pub mod view;

pub use client::{Clients, Courtesy, Gate};
pub use error::{ClusterError, describe};
