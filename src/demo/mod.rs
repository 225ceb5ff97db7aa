//! A small world for `rollbackd demo`: a service in two releases, what keeps it running, what sends it traffic.
//!
//! Everything here is real but small: processes, sockets, symlinks, HTTP. The daemon that watches it is the daemon that
//! watches anything else, and learns of it by a policy file alone.

pub mod app;
mod command;
pub mod control;
mod fault;
mod policy;
mod proxy;
mod receiver;
pub mod stage;
mod story;
mod supervisor;
mod teller;
mod traffic;

pub use command::{DemoArgs, StageCommand, demo, stage};
pub use fault::Fault;
pub use policy::Surroundings;
pub use stage::{Stage, StageError};
pub use traffic::Tally;

/// Name of the workload in the demo's policy.
pub const WORKLOAD: &str = "shop";
/// The release that is good.
pub const GOOD: &str = "v1";
/// The release that goes bad.
pub const BAD: &str = "v2";

/// An HTTP client for loopback that follows no redirect.
fn client(timeout: std::time::Duration) -> reqwest::Result<reqwest::Client> {
    crate::net::tls::install();
    reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none()).no_proxy().build()
}
