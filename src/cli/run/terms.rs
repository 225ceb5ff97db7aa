//! From standby to the lead and back, where several replicas watch the same.
//!
//! A term begins with what is on record, taken over as after a restart; only then does the engine act, and only then is
//! the outbox drained. On standby what the other replica records is followed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::reload::InForce;
use super::{fold, forgotten};
use crate::act::Home;
use crate::clock::{self, Clock, Turns};
use crate::cluster::{Clients, Gate, own};
use crate::config::model;
use crate::domain::id::WorkloadId;
use crate::engine::Handle;
use crate::engine::ports::{Leadership, Role};
use crate::lease::{self, Candidate, Tenure};
use crate::notify::{self, Clocks, Receivers};
use crate::store::{Books, Place, Store};

/// Time before something that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Time between two notes of which messages have arrived.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// Time between two looks at what could not be read.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// States that may wait for the engine.
const STATES_QUEUE: usize = 16;

/// How long taking the lead may take.
const BEGIN_LIMIT: Duration = Duration::from_secs(30);

/// How long the last note may take once the daemon is told to stop.
const STOP_LIMIT: Duration = Duration::from_millis(500);

/// What is needed to run for a Lease.
pub(super) struct Ballot {
    pub(super) candidate: Candidate,
    pub(super) tenure: Arc<Tenure>,
    pub(super) books: Books,
    pub(super) home: Home,
}

/// Sets everything up, with clients of its own for the Lease and for the record.
pub(super) async fn ballot(lease: &model::Lease, store: Store, clock: Clock) -> anyhow::Result<Ballot> {
    let client = Clients::default().get(None).await?;
    let namespace = lease.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let me = lease::identity(&own::pod_name(), std::process::id(), clock::wall());
    tracing::info!(lease = %lease.name, %namespace, identity = %me, "one of several replicas: standing by");
    let terms = lease::Terms { namespace: namespace.clone(), name: lease.name.clone(), duration: lease.duration };
    let (candidate, tenure) = Candidate::new(client, &terms, &me, clock);
    let home = Home { namespace: namespace.clone(), lease: lease.name.clone() };
    let place = Place { client: Clients::default().get(None).await?, namespace, lease: lease.name.clone() };
    let books = Books::shared(store, place, Arc::clone(&tenure) as Arc<dyn Leadership>);
    Ok(Ballot { candidate, tenure, books, home })
}

/// Shut while this replica does not surely lead.
pub(super) fn gate(leadership: Arc<dyn Leadership>) -> Gate {
    Arc::new(move || match leadership.role() {
        Role::Alone | Role::Leader { .. } => Ok(()),
        Role::Standby { .. } => Err("this replica does not lead: nothing is changed".to_owned()),
    })
}

/// What changes hands with the lead.
pub(super) struct Terms {
    pub(super) tenure: Arc<Tenure>,
    pub(super) books: Books,
    pub(super) store: Store,
    pub(super) engine: Handle,
    pub(super) policy: watch::Receiver<Arc<InForce>>,
    pub(super) receivers: watch::Receiver<Receivers>,
    pub(super) clocks: Clocks,
    /// Those of the outbox, and of waiting for it.
    pub(super) turns: Turns,
}

impl Terms {
    /// Goes from one role to the next until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut roles = self.tenure.changes();
        while !stop.is_cancelled() {
            let role = roles.borrow_and_update().clone();
            let over = stop.child_token();
            let until_over = async {
                while roles.changed().await.is_ok() && roles.borrow().term() == role.term() {}
                over.cancel();
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = until_over => {}
                () = self.serve(&role, &over) => {}
            }
            over.cancel();
            if let (true, Role::Leader { .. }) = (stop.is_cancelled(), &role) {
                self.hand_over().await;
            }
        }
    }

    async fn serve(&self, role: &Role, over: &CancellationToken) {
        match role {
            Role::Alone => self.turns.while_waiting(over.cancelled()).await,
            Role::Standby { .. } => self.turns.while_waiting(self.stand_by()).await,
            Role::Leader { term } => match self.turns.while_waiting(self.begin_in_time(*term)).await {
                Ok(()) => self.lead(over).await,
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "the lead can't be taken");
                    self.tenure.forfeit(*term);
                    sleep(RETRY).await;
                }
            },
        }
    }

    /// Who can't begin gives the lead up: with a disk that hangs nothing would be done and nobody told.
    async fn begin_in_time(&self, term: u64) -> anyhow::Result<()> {
        let begun = timeout(BEGIN_LIMIT, self.begin(term)).await;
        begun
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the journal or the record did not answer within {BEGIN_LIMIT:?}")))
    }

    async fn begin(&self, term: u64) -> anyhow::Result<()> {
        let policy = Arc::clone(&self.policy.borrow());
        let withheld = self.books.take_over(&known(&policy)).await?;
        let (mut states, damaged) = fold(&self.store).await?;
        if let Some((id, why)) = damaged.first_key_value() {
            anyhow::bail!("the records of {id} can't be followed: {why}");
        }
        states.retain(|(id, _)| !withheld.contains_key(id));
        let now = (self.clocks.timeline)();
        let left =
            forgotten::close(&self.books, &states, |workload| policy.may_know(workload), policy.config(), now).await;
        let open = states.iter().filter(|(_, state)| state.incident.is_some()).count();
        if self.engine.lead(term, states, withheld).await? {
            tracing::info!(term, open, "this replica leads");
            self.engine.part(left).await?;
        }
        Ok(())
    }

    /// Tells people, notes what has arrived, and looks whether what could not be read can be.
    async fn lead(&self, over: &CancellationToken) {
        let (receivers, clocks, turns) = (self.receivers.clone(), self.clocks.clone(), self.turns.clone());
        let drain = notify::drain(&self.store, receivers, clocks, turns, over.clone());
        let note = async {
            loop {
                sleep(NOTE_EVERY).await;
                if let Err(error) = self.books.note_told().await {
                    tracing::debug!(%error, "which messages have arrived is not noted yet");
                }
            }
        };
        let look = async {
            loop {
                sleep(LOOK_EVERY).await;
                let policy = Arc::clone(&self.policy.borrow());
                if let Err(error) = self.books.look_again(&known(&policy)).await {
                    tracing::debug!(%error, "what could not be read is not looked at again yet");
                }
            }
        };
        tokio::select! {
            () = drain => {}
            () = note => {}
            () = look => {}
        }
    }

    async fn hand_over(&self) {
        match timeout(STOP_LIMIT, self.books.note_told()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the next leader tells some messages again"),
            Err(_) => tracing::debug!("the next leader tells some messages again"),
        }
    }

    /// Follows what the other replica records, from what is on record here.
    async fn stand_by(&self) {
        let (states, mut followed) = mpsc::channel(STATES_QUEUE);
        let follow = async {
            let mut version = String::new();
            loop {
                if let Err(error) = self.books.follow(&mut version, &states).await {
                    tracing::debug!(%error, "what the other replica records is not followed");
                    version.clear();
                }
                sleep(RETRY).await;
            }
        };
        let hand_on = async {
            while let Some(states) = followed.recv().await {
                // It has gone only if the daemon is being taken apart.
                let _ = self.engine.follow(states).await;
            }
        };
        tokio::select! {
            () = follow => {}
            () = hand_on => {}
        }
    }
}

fn known(policy: &InForce) -> Vec<WorkloadId> {
    policy.config().workloads.keys().cloned().collect()
}
