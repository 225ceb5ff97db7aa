//! Workloads in a cluster: watched, one watch a kind and namespace for all workloads in it, and their pods as targets.

mod collection;
mod crowd;
mod follow;
mod pods;
mod selection;
mod wake;
mod watch;

pub use crowd::Crowd;
pub(super) use follow::{Beside, Follower, Subject};
pub(super) use pods::Offer;
pub use selection::Selections;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::FutureExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::shared::Shared;
use crate::cluster::facts::{Fact, Map, Pod, Revision, Service, ServiceObject, Workload};
use crate::cluster::settings::Keyring;
use crate::cluster::{Clients, ClusterError, Courtesy};
use crate::domain::policy::ObjectKind;
use collection::{Collection, Heed, Look};
use watch::Source;

/// Which objects of which cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key<K> {
    context: Option<String>,
    namespace: String,
    kind: K,
}

/// What a workload's controller keeps its templates in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Keeper {
    ReplicaSets,
    ControllerRevisions,
}

type Known<K, F> = Mutex<BTreeMap<Key<K>, Weak<Collection<F>>>>;

/// All that is watched in clusters. Each watch ends with the last workload that needs it.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    clients: Clients,
    workloads: Known<ObjectKind, Workload>,
    revisions: Known<Keeper, Revision>,
    pods: Known<(), Pod>,
    services: Known<(), Service>,
    maps: Known<(), Map>,
    secrets: Known<(), Map>,
    keyring: Keyring,
    crowd: Crowd,
}

/// The collections that show one workload.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    workloads: Arc<Collection<Workload>>,
    revisions: Arc<Collection<Revision>>,
    pods: Arc<Collection<Pod>>,
    /// Where a Service says which of two serves.
    services: Option<Arc<Collection<Service>>>,
    /// Where what releases name is kept.
    maps: Option<Arc<Collection<Map>>>,
    secrets: Option<Arc<Collection<Map>>>,
}

impl Sight {
    /// Has all that is watched begun anew, and often from then on, until what this gives is dropped.
    fn heed(&self) -> Vec<Heed> {
        let besides = self.services.as_ref().map(|services| services.heed());
        let settings = [&self.maps, &self.secrets].into_iter().flatten().map(|maps| maps.heed());
        let own = [self.workloads.heed(), self.revisions.heed(), self.pods.heed()];
        own.into_iter().chain(besides).chain(settings).collect()
    }
}

/// What is watched beside a workload, its revisions and its pods.
#[derive(Clone, Copy, Debug)]
struct Besides {
    services: bool,
    maps: bool,
    secrets: bool,
}

impl Clusters {
    /// With what it takes to tell Secrets apart, beside other watches.
    pub(super) fn new(keyring: Keyring, crowd: Crowd) -> Self {
        Self { keyring, crowd, ..Self::default() }
    }

    /// The collections that show workloads of a kind in a namespace.
    async fn sight(
        &self,
        shared: &Arc<Shared>,
        context: Option<&str>,
        namespace: &str,
        kind: ObjectKind,
        besides: Besides,
    ) -> Result<Sight, ClusterError> {
        let at = Place {
            shared,
            client: self.clients.get(context).await?,
            courtesy: self.clients.courtesy(),
            crowd: &self.crowd,
            context: context.map(str::to_owned),
            namespace: namespace.to_owned(),
        };
        let workloads = match kind {
            ObjectKind::Deployment => at.collection::<Deployment, _, _>(&self.workloads, kind),
            ObjectKind::StatefulSet => at.collection::<StatefulSet, _, _>(&self.workloads, kind),
            ObjectKind::DaemonSet => at.collection::<DaemonSet, _, _>(&self.workloads, kind),
        };
        let revisions = match kind {
            ObjectKind::Deployment => at.collection::<ReplicaSet, _, _>(&self.revisions, Keeper::ReplicaSets),
            ObjectKind::StatefulSet | ObjectKind::DaemonSet => {
                at.collection::<ControllerRevision, _, _>(&self.revisions, Keeper::ControllerRevisions)
            }
        };
        let services = besides.services.then(|| at.collection::<ServiceObject, _, _>(&self.services, ()));
        let maps = besides.maps.then(|| at.collection::<v1::ConfigMap, _, _>(&self.maps, ()));
        let keyring = self.keyring.clone();
        let of_secret = move |secret: v1::Secret| Map::of_secret(secret, &keyring);
        let secrets = besides.secrets.then(|| at.collection_of(&self.secrets, (), of_secret));
        let pods = at.collection::<v1::Pod, _, _>(&self.pods, ());
        Ok(Sight { workloads, revisions, pods, services, maps, secrets })
    }
}

struct Place<'a> {
    shared: &'a Arc<Shared>,
    client: Client,
    courtesy: Courtesy,
    crowd: &'a Crowd,
    context: Option<String>,
    namespace: String,
}

impl Place<'_> {
    /// The one collection of these objects; it begins to be watched with whoever asks first.
    fn collection<K, F, T>(&self, known: &Known<T, F>, kind: T) -> Arc<Collection<F>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned + Send + 'static,
        F: Fact + TryFrom<K>,
        T: Ord,
    {
        self.collection_of(known, kind, |object: K| F::try_from(object).ok())
    }

    /// The same, where it takes more than the object to say what it means.
    fn collection_of<K, F, T, R>(&self, known: &Known<T, F>, kind: T, read: R) -> Arc<Collection<F>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned + Send + 'static,
        F: Fact,
        T: Ord,
        R: Fn(K) -> Option<F> + Send + Sync + 'static,
    {
        let key = Key { context: self.context.clone(), namespace: self.namespace.clone(), kind };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(collection) = known.get(&key).and_then(Weak::upgrade) {
            return collection;
        }
        known.retain(|_, collection| collection.strong_count() > 0);
        let what = format!("{} in {}", K::plural(&()), self.namespace);
        let (collection, stop) = Collection::new(what);
        let api = Api::<K>::namespaced(self.client.clone(), &self.namespace);
        let (courtesy, crowd) = (self.courtesy.clone(), self.crowd.clone());
        let source = Source { api, selector: None, courtesy, crowd };
        let (kept, read) = (collection.kept(), Arc::new(read));
        let work = watch::keep(source.clone(), Arc::clone(&kept), {
            let read = Arc::clone(&read);
            move |object| read(object)
        });
        self.shared.tasks.spawn(async move { stop.run_until_cancelled(work).await });
        let look: Look = Box::new(move |name| {
            let (source, kept, read) = (source.clone(), Arc::clone(&kept), Arc::clone(&read));
            async move { watch::look(&source, &name, &kept, &*read).await }.boxed()
        });
        let collection = Arc::new(collection.with_look(look));
        known.insert(key, Arc::downgrade(&collection));
        collection
    }
}
