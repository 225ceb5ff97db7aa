//! The objects that label selectors take: new ones join, those that are deleted or lose a label leave. What was seen last
//! stays while nothing is seen. And the owner of the daemon's own pod, which stays the same for the pod's whole life.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::select_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::{Api, Client, Resource};
use tokio::sync::watch as changes;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::collection::{Collection, Kept, Sight};
use super::crowd::Crowd;
use super::watch::{self, Source};
use crate::cluster::Clients;
use crate::cluster::facts::Workload;
use crate::cluster::own::OwnPod;
use crate::config::model::Config;
use crate::config::selected::{Found, Object, Selected, Sought};
use crate::domain::id::WorkloadId;
use crate::domain::observation::{Fault, FaultKind};
use crate::domain::policy::ObjectKind;

/// Kinds of objects that a selector takes.
const KINDS: [ObjectKind; 3] = [ObjectKind::Deployment, ObjectKind::StatefulSet, ObjectKind::DaemonSet];

/// Time between two tries to find a way to an API server.
const AGAIN: Duration = Duration::from_secs(5);

/// How long finding the owner of the own pod may take at a time.
const PATIENCE: Duration = Duration::from_secs(10);

/// One change seldom comes alone: what comes within this time is told together.
const TOGETHER: Duration = Duration::from_millis(200);

/// What a section looks for, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Scope {
    Labelled(Labelled),
    OwnerOfPod { context: Option<String> },
}

/// Where a selector looks.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Labelled {
    context: Option<String>,
    namespace: String,
    selector: String,
}

/// The objects of one section.
#[derive(Debug)]
struct Section {
    scope: Scope,
    search: Search,
    changes: Vec<changes::Receiver<u64>>,
}

/// How they are found.
#[derive(Debug)]
enum Search {
    Labelled { namespace: String, kinds: [(ObjectKind, Collection<Workload>); 3] },
    Owner { owner: Owner, _search: DropGuard },
}

/// The owner of the own pod, or why it is not found; nothing while nobody has answered.
type Owner = Arc<Mutex<Option<Result<Object, String>>>>;

/// The way to clusters, and the watches that share it.
#[derive(Clone, Debug, Default)]
struct Way {
    clients: Arc<Clients>,
    crowd: Crowd,
}

/// The objects of all sections whose workloads only a look at the cluster names. Dropping it ends the watches.
#[derive(Debug, Default)]
pub struct Selections {
    way: Way,
    sections: BTreeMap<WorkloadId, Section>,
    told: Selected,
}

impl Selections {
    /// Watches what the configuration selects; what it selected before goes on undisturbed. Must be called within a
    /// runtime.
    pub fn apply(&mut self, config: &Config) {
        let scopes = config.sought().filter_map(|(id, place, sought)| {
            let context = place.context.clone();
            let scope = match sought {
                Sought::Labelled(selector) => {
                    let (namespace, selector) = (place.namespace.clone()?, selector.to_owned());
                    Scope::Labelled(Labelled { context, namespace, selector })
                }
                Sought::OwnerOfPod => Scope::OwnerOfPod { context },
            };
            Some((id.clone(), scope))
        });
        let scopes: BTreeMap<WorkloadId, Scope> = scopes.collect();
        self.sections.retain(|id, section| scopes.get(id) == Some(&section.scope));
        for (id, scope) in scopes {
            self.sections.entry(id).or_insert_with(|| Section::watch(&self.way, scope));
        }
    }

    /// The watches, for others that share the API servers with them.
    #[must_use]
    pub const fn crowd(&self) -> &Crowd {
        &self.way.crowd
    }

    /// Waits until every section was looked at, or for so long.
    pub async fn all_seen(&mut self, limit: Duration) {
        let all = async {
            let is_seen = |section: &Section| section.found().is_some_and(|found| found.objects.is_some());
            while !self.sections.values().all(is_seen) {
                self.any_change().await;
            }
        };
        // What is not seen by then comes later, as a change.
        let _ = timeout(limit, all).await;
    }

    /// What is selected now; nothing of a section that was not looked at yet.
    pub fn selected(&mut self) -> Selected {
        let found = self.sections.iter().filter_map(|(id, section)| Some((id.clone(), section.found()?)));
        self.told = found.collect();
        self.told.clone()
    }

    /// What was told last was not taken up: it is told again in a moment.
    pub fn untold(&mut self) {
        self.told.clear();
    }

    /// Waits until something else is selected than was told last. Nothing is lost where this is dropped.
    pub async fn changed(&mut self) {
        loop {
            // What was not taken up, or changed while nobody waited, is no change any more.
            if timeout(AGAIN, self.any_change()).await.is_ok() {
                sleep(TOGETHER).await;
            }
            let before = self.told.clone();
            let now = self.selected();
            self.told = before;
            if now != self.told {
                return;
            }
        }
    }

    async fn any_change(&mut self) {
        let all = self.sections.values_mut().flat_map(|section| &mut section.changes);
        let all: Vec<_> = all.map(|changes| Box::pin(changes.changed())).collect();
        if all.is_empty() {
            return std::future::pending().await;
        }
        // The collections live as long as their sections do.
        let (_changed, ..) = select_all(all).await;
    }
}

impl Section {
    fn watch(way: &Way, scope: Scope) -> Self {
        let (search, changes) = match &scope {
            Scope::Labelled(labelled) => labelled.watch(way),
            Scope::OwnerOfPod { context } => search_owner(&way.clients, context.clone()),
        };
        Self { scope, search, changes }
    }

    /// Nothing while nobody has answered.
    fn found(&self) -> Option<Found> {
        let found = match &self.search {
            Search::Labelled { namespace, kinds } => labelled(namespace, kinds),
            Search::Owner { owner, .. } => match &*owner.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(Ok(owner)) => Found { objects: Some(BTreeSet::from([owner.clone()])), unseen: None },
                Some(Err(why)) => Found { objects: None, unseen: Some(why.clone()) },
                None => Found::default(),
            },
        };
        (found != Found::default()).then_some(found)
    }
}

/// The objects of all kinds, once each was seen; and the first reason why one is not.
fn labelled(namespace: &str, kinds: &[(ObjectKind, Collection<Workload>)]) -> Found {
    let was_seen = kinds.iter().all(|(_, collection)| collection.was_seen());
    let objects = was_seen.then(|| {
        let of = |(kind, collection): &(ObjectKind, Collection<Workload>)| {
            let kind = *kind;
            let object = move |name| Object { namespace: namespace.to_owned(), kind, name };
            collection.groups().into_iter().map(object)
        };
        kinds.iter().flat_map(of).collect()
    });
    // While a server that showed them is away, each of them says so itself.
    let counts = |fault: &Fault| !was_seen || fault.kind == FaultKind::Local;
    let unseen = kinds.iter().find_map(|(_, collection)| match collection.sight() {
        Sight::Lost(fault) if counts(&fault) => Some(fault.detail),
        Sight::Lost(_) | Sight::Waiting | Sight::Clear => None,
    });
    Found { objects, unseen }
}

impl Labelled {
    fn watch(&self, way: &Way) -> (Search, Vec<changes::Receiver<u64>>) {
        let named = |kind: ObjectKind| format!("{}s with {} in {}", kind.as_str(), self.selector, self.namespace);
        let kinds = KINDS.map(|kind| {
            let (collection, stop) = Collection::new(named(kind));
            tokio::spawn(keep(way.clone(), self.clone(), kind, collection.kept(), stop));
            (kind, collection)
        });
        let changes = kinds.iter().map(|(_, collection)| collection.changes()).collect();
        (Search::Labelled { namespace: self.namespace.clone(), kinds }, changes)
    }
}

/// Asks who owns the own pod until somebody says.
fn search_owner(clients: &Arc<Clients>, context: Option<String>) -> (Search, Vec<changes::Receiver<u64>>) {
    let owner = Owner::default();
    let (tell, told) = changes::channel(0);
    let stop = CancellationToken::new();
    let search = {
        let (clients, owner, stop) = (Arc::clone(clients), Arc::clone(&owner), stop.clone());
        async move { stop.run_until_cancelled(find_owner(&clients, context, &owner, &tell)).await }
    };
    tokio::spawn(search);
    (Search::Owner { owner, _search: stop.drop_guard() }, vec![told])
}

async fn find_owner(
    clients: &Clients,
    context: Option<String>,
    owner: &Mutex<Option<Result<Object, String>>>,
    tell: &changes::Sender<u64>,
) -> Infallible {
    let mut last = String::new();
    let note = |found: Result<Object, String>| {
        *owner.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        tell.send_modify(|count| *count += 1);
    };
    loop {
        let found = match clients.get(context.as_deref()).await {
            Ok(client) => {
                let own = OwnPod::guessed(&client);
                let found = own.owner(&client, PATIENCE).await;
                found.map(|(kind, name)| Object { namespace: own.namespace, kind, name })
            }
            Err(error) => Err(error.line()),
        };
        match found {
            Ok(object) => {
                tracing::info!(kind = object.kind.as_str(), name = object.name, "the owner of this pod");
                note(Ok(object));
                // The channel has to stay open for as long as somebody may ask for changes.
                std::future::pending::<()>().await;
            }
            Err(error) if error == last => {}
            Err(error) => {
                tracing::error!(error, "the owner of this pod is not found: nothing is watched for it");
                note(Err(format!("the owner of this pod is not found: {error}")));
                last = error;
            }
        }
        sleep(AGAIN).await;
    }
}

/// Keeps one kind in step, from whenever there is a way to the API server.
async fn keep(way: Way, scope: Labelled, kind: ObjectKind, kept: Arc<Kept<Workload>>, stop: CancellationToken) {
    let work = async {
        let client = loop {
            match way.clients.get(scope.context.as_deref()).await {
                Ok(client) => break client,
                Err(error) => {
                    kept.lose(Fault { kind: FaultKind::Local, detail: error.line() });
                    sleep(AGAIN).await;
                }
            }
        };
        follow((client, &way), &scope, kind, kept).await;
    };
    stop.run_until_cancelled(work).await;
}

async fn follow(server: (Client, &Way), scope: &Labelled, kind: ObjectKind, kept: Arc<Kept<Workload>>) {
    match kind {
        ObjectKind::Deployment => watch::keep(source::<Deployment>(server, scope), kept, read).await,
        ObjectKind::StatefulSet => watch::keep(source::<StatefulSet>(server, scope), kept, read).await,
        ObjectKind::DaemonSet => watch::keep(source::<DaemonSet>(server, scope), kept, read).await,
    }
}

fn source<K>((client, way): (Client, &Way), scope: &Labelled) -> Source<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let (courtesy, crowd) = (way.clients.courtesy(), way.crowd.clone());
    Source { api: Api::namespaced(client, &scope.namespace), selector: Some(scope.selector.clone()), courtesy, crowd }
}

fn read<K>(object: K) -> Option<Workload>
where
    Workload: TryFrom<K>,
{
    Workload::try_from(object).ok()
}
