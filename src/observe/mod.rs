//! What is seen from outside: exposition pages, health endpoints, releases on a host.

pub mod exposition;
