//! The objects that label selectors take: new ones join, those that are deleted or lose a label leave. What was seen last
//! stays while nothing is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::select_all;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::{Api, Client};
use tokio::sync::watch as changes;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::collection::{Collection, Kept};
use super::watch;
use crate::cluster::Clients;
use crate::cluster::facts::Workload;
use crate::config::model::Config;
use crate::config::selected::Selected;
use crate::domain::id::WorkloadId;
use crate::domain::policy::ObjectKind;

/// Kinds of objects that a selector takes.
const KINDS: [ObjectKind; 3] = [ObjectKind::Deployment, ObjectKind::StatefulSet, ObjectKind::DaemonSet];

/// Time between two tries to find a way to an API server.
const AGAIN: Duration = Duration::from_secs(5);

/// One change seldom comes alone: what comes within this time is told together.
const TOGETHER: Duration = Duration::from_millis(200);

/// Where a selector looks.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Scope {
    context: Option<String>,
    namespace: String,
    selector: String,
}

/// The objects of one section.
#[derive(Debug)]
struct Section {
    scope: Scope,
    kinds: [(ObjectKind, Collection<Workload>); 3],
    changes: Vec<changes::Receiver<u64>>,
}

/// The objects of all sections whose workloads are named by their labels. Dropping it ends the watches.
#[derive(Debug, Default)]
pub struct Selections {
    clients: Arc<Clients>,
    sections: BTreeMap<WorkloadId, Section>,
    told: Selected,
}

impl Selections {
    /// Watches what the configuration selects; what it selected before goes on undisturbed. Must be called within a
    /// runtime.
    pub fn apply(&mut self, config: &Config) {
        let scopes = config.selectors().filter_map(|(id, place, selector)| {
            let (namespace, selector) = (place.namespace.clone()?, selector.to_owned());
            Some((id.clone(), Scope { context: place.context.clone(), namespace, selector }))
        });
        let scopes: BTreeMap<WorkloadId, Scope> = scopes.collect();
        self.sections.retain(|id, section| scopes.get(id) == Some(&section.scope));
        for (id, scope) in scopes {
            self.sections.entry(id).or_insert_with(|| Section::watch(&self.clients, scope));
        }
    }

    /// Waits until every section was looked at, or for so long.
    pub async fn all_seen(&mut self, limit: Duration) {
        let all = async {
            while self.sections.values().any(|section| section.objects().is_none()) {
                self.any_change().await;
            }
        };
        // What is not seen by then comes later, as a change.
        let _ = timeout(limit, all).await;
    }

    /// What is selected now; nothing of a section that was not looked at yet.
    pub fn selected(&mut self) -> Selected {
        let seen = self.sections.iter().filter_map(|(id, section)| Some((id.clone(), section.objects()?)));
        self.told = seen.collect();
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
    fn watch(clients: &Arc<Clients>, scope: Scope) -> Self {
        let named = |kind: ObjectKind| format!("{}s with {} in {}", kind.as_str(), scope.selector, scope.namespace);
        let kinds = KINDS.map(|kind| {
            let (collection, stop) = Collection::new(named(kind));
            tokio::spawn(keep(Arc::clone(clients), scope.clone(), kind, collection.kept(), stop));
            (kind, collection)
        });
        let changes = kinds.iter().map(|(_, collection)| collection.changes()).collect();
        Self { scope, kinds, changes }
    }

    /// None while one of the kinds was never seen.
    fn objects(&self) -> Option<BTreeSet<(ObjectKind, String)>> {
        let mut all = BTreeSet::new();
        for (kind, collection) in &self.kinds {
            if !collection.was_seen() {
                return None;
            }
            all.extend(collection.groups().into_iter().map(|name| (*kind, name)));
        }
        Some(all)
    }
}

/// Keeps one kind in step, from whenever there is a way to the API server.
async fn keep(
    clients: Arc<Clients>,
    scope: Scope,
    kind: ObjectKind,
    kept: Arc<Kept<Workload>>,
    stop: CancellationToken,
) {
    let work = async {
        let client = loop {
            match clients.get(scope.context.as_deref()).await {
                Ok(client) => break client,
                Err(error) => {
                    tracing::warn!(selector = scope.selector, error = error.line(), "no way to the API server");
                    sleep(AGAIN).await;
                }
            }
        };
        follow(client, &scope, kind, kept).await;
    };
    stop.run_until_cancelled(work).await;
}

async fn follow(client: Client, scope: &Scope, kind: ObjectKind, kept: Arc<Kept<Workload>>) {
    let (namespace, selector) = (&scope.namespace, Some(scope.selector.clone()));
    match kind {
        ObjectKind::Deployment => watch::keep(Api::<Deployment>::namespaced(client, namespace), selector, kept).await,
        ObjectKind::StatefulSet => watch::keep(Api::<StatefulSet>::namespaced(client, namespace), selector, kept).await,
        ObjectKind::DaemonSet => watch::keep(Api::<DaemonSet>::namespaced(client, namespace), selector, kept).await,
    }
}
