//! rollbackd watches a release, takes a bad one back, and proves that the service is well again.

pub mod act;
pub mod config;
pub mod demo;
pub mod domain;
pub mod engine;
pub mod host;
pub mod net;
pub mod observe;
pub mod store;
