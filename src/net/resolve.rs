//! Name resolution with an error of its own, so that a lost name server is told from a peer that is down.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The name could not be resolved.
#[derive(Debug, thiserror::Error)]
#[error("the name can't be resolved")]
pub(super) struct Unresolved(#[source] pub(super) std::io::Error);

/// The system's resolver.
pub(super) struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(Unresolved)?;
            let addresses: Vec<_> = found.collect();
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}
