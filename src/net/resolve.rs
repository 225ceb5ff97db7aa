//! Name resolution with an error of its own, so that a lost name server is told from a peer that is down.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

/// Lookups at once. One that nobody waits for any more holds its thread until the system's resolver gives up, a minute or
/// more where no name server answers, and files and steps need threads too.
static ROOM: Semaphore = Semaphore::const_new(16);

/// The name could not be resolved.
#[derive(Debug, thiserror::Error)]
#[error("the name can't be resolved")]
pub(super) struct Unresolved(#[source] pub(super) std::io::Error);

/// The addresses of a host, by the system's resolver.
pub(super) async fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, Unresolved> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let lost = |why: &dyn std::error::Error| Unresolved(std::io::Error::other(why.to_string()));
    let permit = ROOM.acquire().await.map_err(|why| lost(&why))?;
    let host = host.to_owned();
    let looking = tokio::task::spawn_blocking(move || {
        let _until_it_ends = permit;
        (host.as_str(), port).to_socket_addrs().map(Vec::from_iter)
    });
    looking.await.map_err(|why| lost(&why))?.map_err(Unresolved)
}

/// The system's resolver.
pub(super) struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses: Addrs = Box::new(lookup(name.as_str(), 0).await?.into_iter());
            Ok(addresses)
        })
    }
}
