//! What is seen from outside: exposition pages, health endpoints, expressions that Prometheus evaluates, releases on a host.
//!
//! [`Observers`] keeps one task for each thing that is looked at. Each looks on a grid of its own, so that hundreds of
//! looks spread over the interval, and hands what it saw to the engine as an
//! [`Observation`](crate::domain::observation::Observation). Nothing here judges: a failed look is classified where it
//! happened and passed on like any other.

mod addresses;
mod cgroup;
mod change;
mod cluster;
mod crew;
mod duty;
mod expect;
pub mod exposition;
mod files;
mod grid;
mod hosts;
mod observers;
mod peer;
mod probe;
mod promql;
mod pulse;
mod releases;
mod room;
mod scrape;
mod shared;
mod stats;
mod systemd;
mod unseen;

pub use cluster::{Crowd, Selections};
pub use observers::Observers;
pub use pulse::Stalled;
pub use stats::{DURATION_BOUNDS, FAULT_KINDS, Looked, ObserveStats};
