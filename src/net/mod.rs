//! HTTP as a client: one way to reach a peer with Prometheus' client options, for all who look and all who tell.
//!
//! Redirects are never followed and no proxy is taken from the environment, so that an address leads where the policy
//! says and nowhere else. Credential and TLS files are read anew when they change. Failures are classified here, once.

mod caller;
mod fault;
mod line;
mod resolve;
pub mod secret;
pub mod tls;

pub use caller::{CONNECT_TIMEOUT, Caller, ClientError, client};
pub use fault::{classify, classify_answer};
pub use line::{Answer, Line};

#[cfg(test)]
mod tests;
