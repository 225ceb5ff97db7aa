//! Services: each address leads to the ready pods behind it, in turn, as a cluster's own routing would have it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector as reflect};
use kube::{Api, Client, ResourceExt};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The label of an EndpointSlice that names its Service.
const OWNER: &str = "kubernetes.io/service-name";

/// One port of one Service.
struct Route {
    namespace: String,
    service: String,
    /// Empty where the port has no name.
    port: String,
    slices: Store<EndpointSlice>,
    turn: AtomicUsize,
}

/// Routes as long as there is a control plane.
pub(super) async fn route(client: Client) {
    let (slices, writer) = reflector::store();
    let changes = watcher(Api::all(client.clone()), watcher::Config::default());
    let following = reflect(writer, changes).default_backoff().for_each(async |_| {});
    tokio::join!(following, listen(Api::all(client), slices));
}

/// Listens at the address of each Service, from its creation to its deletion.
async fn listen(services: Api<Service>, slices: Store<EndpointSlice>) {
    let mut open: HashMap<String, JoinSet<()>> = HashMap::new();
    let mut events = std::pin::pin!(watcher(services, watcher::Config::default()).default_backoff());
    loop {
        let Ok(Some(event)) = events.try_next().await else { continue };
        match event {
            Event::Apply(service) | Event::InitApply(service) => {
                let uid = service.uid().unwrap_or_default();
                open.entry(uid).or_insert_with(|| listeners(&service, &slices));
            }
            Event::Delete(service) => drop(open.remove(&service.uid().unwrap_or_default())),
            Event::Init | Event::InitDone => {}
        }
    }
}

fn listeners(service: &Service, slices: &Store<EndpointSlice>) -> JoinSet<()> {
    let mut listeners = JoinSet::new();
    let spec = service.spec.clone().unwrap_or_default();
    // A headless one has none.
    let Some(address) = spec.cluster_ip.and_then(|ip| ip.parse::<IpAddr>().ok()) else { return listeners };
    // That of the API server itself leads to no pod.
    let has_pods = spec.selector.is_some();
    for ServicePort { name, port, .. } in spec.ports.into_iter().flatten().filter(|_| has_pods) {
        let route = Route {
            namespace: service.namespace().unwrap_or_default(),
            service: service.name_any(),
            port: name.unwrap_or_default(),
            slices: slices.clone(),
            turn: AtomicUsize::new(0),
        };
        let address = SocketAddr::new(address, u16::try_from(port).unwrap());
        listeners.spawn(Arc::new(route).carry_all(address));
    }
    listeners
}

impl Route {
    async fn carry_all(self: Arc<Self>, address: SocketAddr) {
        let listener = TcpListener::bind(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
        loop {
            let Ok((mut from, _)) = listener.accept().await else { continue };
            let route = Arc::clone(&self);
            tokio::spawn(async move {
                // Where there is none, the connection ends; so it does when one of its two sides does.
                let Some(to) = route.next() else { return };
                let Ok(mut to) = TcpStream::connect(to).await else { return };
                let _ = copy_bidirectional(&mut from, &mut to).await;
            });
        }
    }

    /// The ready pod whose turn it is.
    fn next(&self) -> Option<SocketAddr> {
        let mut ready: Vec<SocketAddr> = Vec::new();
        for slice in self.slices.state() {
            if slice.namespace().as_deref() == Some(&*self.namespace)
                && slice.labels().get(OWNER) == Some(&self.service)
            {
                ready.extend(self.ready(&slice));
            }
        }
        ready.sort();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        ready.get(turn % ready.len().max(1)).copied()
    }

    fn ready(&self, slice: &EndpointSlice) -> Vec<SocketAddr> {
        let named = |name: &Option<String>| name.as_deref().unwrap_or_default() == self.port;
        let port = slice.ports.iter().flatten().find(|port| named(&port.name)).and_then(|port| port.port);
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { return Vec::new() };
        let endpoints = slice.endpoints.iter().flatten();
        endpoints
            .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true))
            .flat_map(|endpoint| &endpoint.addresses)
            .filter_map(|address| Some(SocketAddr::new(address.parse().ok()?, port)))
            .collect()
    }
}
