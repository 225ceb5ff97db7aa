//! The record that replicas share: one ConfigMap a workload, in front of the journal on the own disk.
//!
//! A journal on the leader's disk does not survive it. So a batch is written to the workload's ConfigMap first, by
//! compare-and-set, and only then to the journal: an effect whose intent is not in the cluster never begins, and the
//! journal never knows more than the cluster does. A replica that stands by takes in what the other one writes, as
//! records of its own; so it goes on from the same fold as after a restart, and its history is whole.

mod copy;
mod maps;
mod shelves;
mod unreadable;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use kube::Client;
use tokio::sync::{Mutex, mpsc};

pub(super) use copy::Untold;
pub use unreadable::Withheld;

use super::Store;
use super::import::{self, Import};
use super::shelf;
use crate::domain::id::WorkloadId;
use crate::domain::incident::record::Record;
use crate::domain::incident::state::WorkloadState;
use crate::domain::settings::ContentId;
use crate::engine::ports::{Batch, Journal, JournalError, Leadership, NotCommitted, Notice, Shelf};
use copy::Copy;
use maps::{Maps, NotWritten, Read};
use shelves::Shelves;
use unreadable::Unreadable;

/// ConfigMaps that are written at a time.
const SIDE_BY_SIDE: usize = 16;

/// Writes of one ConfigMap that may miss because somebody labelled the ConfigMap.
const ATTEMPTS: u32 = 3;

/// What is on record of workloads.
pub type States = Vec<(WorkloadId, WorkloadState)>;

/// The journal of a daemon, and what it shares with other replicas where there are any.
#[derive(Clone)]
pub struct Books {
    store: Store,
    shared: Option<Shared>,
}

/// What replicas share.
#[derive(Clone)]
struct Shared {
    maps: Maps,
    shelves: Shelves,
    leadership: Arc<dyn Leadership>,
    kept: Arc<Mutex<BTreeMap<WorkloadId, Kept>>>,
    unreadable: Arc<Mutex<Unreadable>>,
}

/// A copy as it lies in the cluster.
#[derive(Clone, Debug)]
struct Kept {
    copy: Copy,
    version: String,
    /// Whether the journal has all of it, and the outbox its messages: of those that are not there, nobody knows before
    /// whether they have arrived.
    is_in_journal: bool,
}

/// One workload's part of a batch.
#[derive(Debug, Default)]
struct Share {
    records: Vec<Record>,
    notices: Vec<Notice>,
}

/// Where replicas share what they record.
pub struct Place {
    /// A client of the cluster.
    pub client: Client,
    /// The namespace of the ConfigMaps.
    pub namespace: String,
    /// The Lease's name, with which the ConfigMaps' names begin.
    pub lease: String,
}

impl Books {
    /// The journal of a daemon that is alone.
    #[must_use]
    pub const fn alone(store: Store) -> Self {
        Self { store, shared: None }
    }

    /// The journal of one of several replicas. It is written only while this one leads.
    #[must_use]
    pub fn shared(store: Store, place: Place, leadership: Arc<dyn Leadership>) -> Self {
        let shelves = Shelves::new(place.client.clone(), &place.namespace);
        let maps = Maps::new(place.client, &place.namespace, &place.lease);
        let (kept, unreadable) = (Arc::default(), Arc::default());
        Self { store, shared: Some(Shared { maps, shelves, leadership, kept, unreadable }) }
    }

    /// Reads everything that is shared, takes it into the journal, and puts what the other replica could not tell any more
    /// into the outbox. To be done at the beginning of a term. Gives those whose record can't be read: what the journal has of
    /// them is not what is on record. The record says itself whose it is, or it is that of one of the `known` by its name.
    ///
    /// # Errors
    /// [`JournalError`] where one of the two can't be read or written.
    pub async fn take_over(&self, known: &[WorkloadId]) -> Result<Withheld, JournalError> {
        let Some(shared) = &self.shared else { return Ok(Withheld::new()) };
        let (read, _) = shared.maps.list().await.map_err(JournalError)?;
        let unreadable = Unreadable::of(&read, |read| shared.owner(read, known));
        let withheld = unreadable.withheld();
        *shared.unreadable.lock().await = unreadable;
        let kept: BTreeMap<WorkloadId, Kept> = read.into_iter().filter_map(usable).collect();
        let copies: Vec<Copy> = kept.values().map(|kept| kept.copy.clone()).collect();
        *shared.kept.lock().await = kept;
        self.take_in(&copies).await?;
        let (notices, incidents) = untold(&copies)?;
        self.store.writer.call(move |connection| import::enqueue(connection, &notices, &incidents)).await?;
        self.store.messages.send_modify(|n| *n = n.wrapping_add(1));
        Ok(withheld)
    }

    /// Takes in what another replica records, and hands on the states, until the watch ends. `version` is where the last
    /// watch ended; empty at first.
    ///
    /// # Errors
    /// [`JournalError`] where it can't be watched or written: `version` is then to be forgotten.
    pub async fn follow(&self, version: &mut String, states: &mpsc::Sender<States>) -> Result<(), JournalError> {
        let Some(shared) = &self.shared else { return Ok(()) };
        if version.is_empty() {
            let (read, from) = shared.maps.list().await.map_err(JournalError)?;
            self.follow_to(read, states).await?;
            *version = from;
        }
        let mut watch = shared.maps.watch(version).await.map_err(JournalError)?;
        while let Some(read) = watch.next(version).await.map_err(JournalError)? {
            self.follow_to(vec![read], states).await?;
        }
        Ok(())
    }

    async fn follow_to(&self, read: Vec<Read>, states: &mpsc::Sender<States>) -> Result<(), JournalError> {
        let copies: Vec<Copy> = read.into_iter().filter_map(usable).map(|(_, kept)| kept.copy).collect();
        self.take_in(&copies).await?;
        // Whoever wanted them has gone only if the daemon is being taken apart.
        let _ = states.send(states_of(&copies)?).await;
        Ok(())
    }

    /// Notes in the cluster which messages have arrived, so that no other replica tells them again.
    ///
    /// # Errors
    /// [`JournalError`] where it can't be written; the next call tries again.
    pub async fn note_told(&self) -> Result<(), JournalError> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let open: BTreeMap<WorkloadId, Vec<Untold>> = {
            let kept = shared.kept.lock().await;
            let told_of = kept.iter().filter(|(_, kept)| kept.is_in_journal && !kept.copy.untold.is_empty());
            told_of.map(|(workload, kept)| (workload.clone(), kept.copy.untold.clone())).collect()
        };
        if open.is_empty() {
            return Ok(());
        }
        let asked: Vec<Untold> = open.values().flatten().cloned().collect();
        let waiting = self.store.reader.call(move |connection| import::waiting(connection, &asked)).await?;
        let told = open.into_iter().filter_map(|(workload, mut untold)| {
            untold.retain(|untold| !waiting.contains(untold));
            (!untold.is_empty()).then_some((workload, untold))
        });
        let told: Vec<(WorkloadId, Vec<Untold>)> = told.collect();
        // What is to be recorded gets in between.
        for some in told.chunks(SIDE_BY_SIDE) {
            let mut kept = shared.kept.lock().await;
            let next = some.iter().filter_map(|(workload, told)| {
                let mut next = kept.get(workload)?.copy.clone();
                let news = told.iter().filter(|told| next.tell(&told.message, &told.receiver)).count();
                (news > 0).then_some(next)
            });
            let next = next.collect();
            shared.write_all(&mut kept, next).await?;
        }
        Ok(())
    }

    async fn take_in(&self, copies: &[Copy]) -> Result<(), JournalError> {
        let imports: Vec<Import> = copies.iter().map(import_of).collect::<Result<_, _>>()?;
        Ok(self.store.writer.call(move |connection| import::import(connection, &imports)).await?)
    }

    /// What of a workload's settings lies on the own disk.
    async fn find_here(&self, workload: &WorkloadId, content: &ContentId) -> Result<Option<Vec<u8>>, JournalError> {
        let (workload, content) = (workload.clone(), content.clone());
        let find = move |connection: &mut _| shelf::find(connection, workload.as_str(), content.as_str());
        Ok(self.store.reader.call(find).await?)
    }

    /// The state of a workload that has no copy yet.
    async fn state(&self, workload: &WorkloadId) -> Result<WorkloadState, NotCommitted> {
        let name = workload.clone();
        let state = self.store.reader.call(move |connection| super::fold::one(connection, name.as_str())).await;
        Ok(state.map_err(|error| error.of(workload))?)
    }
}

impl Journal for Books {
    async fn commit(&self, batch: Batch) -> Result<(), NotCommitted> {
        let Some(shared) = self.shared.as_ref().filter(|_| !batch.is_empty()) else {
            return self.store.commit(batch).await;
        };
        shared.unreadable.lock().await.refuse_all()?;
        let mut kept = shared.kept.lock().await;
        let mut next = Vec::new();
        let shares = shares_of(&batch);
        for (workload, Share { records, notices }) in &shares {
            let before = kept.get(workload);
            let copy = match before {
                Some(kept) => kept.copy.clone(),
                None => Copy::new(workload.clone(), self.state(workload).await?),
            };
            if before.is_none() || !copy.holds(records) {
                let refused = |why| NotCommitted::Refused { workload: workload.clone(), why };
                next.push(copy.with(records, notices).map_err(|illegal| refused(illegal.to_string()))?);
            }
            if let Some(kept) = kept.get_mut(workload) {
                kept.is_in_journal = false;
            }
        }
        shared.write_all(&mut kept, next).await?;
        self.store.commit(batch).await?;
        for workload in shares.keys() {
            if let Some(kept) = kept.get_mut(workload) {
                kept.is_in_journal = true;
            }
        }
        Ok(())
    }

    async fn probe(&self) -> Result<(), JournalError> {
        if let Some(shared) = &self.shared {
            shared.unreadable.lock().await.refuse_all()?;
        }
        self.store.probe().await
    }
}

impl Shelf for Books {
    /// In the cluster first, so that what the record says is kept can be found by another replica. What is needed, and lies on
    /// the own disk alone, goes there as well: somebody deleted it, or there was no other replica when it was kept. Only
    /// whoever leads puts anything there.
    fn put(
        &self,
        workload: WorkloadId,
        contents: BTreeMap<ContentId, Vec<u8>>,
        needed: Option<BTreeSet<ContentId>>,
    ) -> BoxFuture<'_, Result<(), JournalError>> {
        async move {
            if let Some(shared) = &self.shared {
                shared.term()?;
                let (record, mut all) = (shared.maps.name(&workload), contents.clone());
                for content in needed.iter().flatten().filter(|content| !contents.contains_key(*content)) {
                    all.extend(self.find_here(&workload, content).await?.map(|body| (content.clone(), body)));
                }
                shared.shelves.put(&record, &all, needed.as_ref()).await.map_err(JournalError)?;
            }
            let put = move |connection: &mut _| shelf::put(connection, workload.as_str(), &contents, needed.as_ref());
            Ok(self.store.writer.call(put).await?)
        }
        .boxed()
    }

    fn find(&self, workload: WorkloadId, content: ContentId) -> BoxFuture<'_, Result<Option<Vec<u8>>, JournalError>> {
        async move {
            match (&self.shared, self.find_here(&workload, &content).await?) {
                (Some(shared), None) => {
                    shared.shelves.find(&shared.maps.name(&workload), &content).await.map_err(JournalError)
                }
                (_, found) => Ok(found),
            }
        }
        .boxed()
    }
}

impl Shared {
    /// The term in which this replica surely leads.
    fn term(&self) -> Result<u64, JournalError> {
        self.leadership.role().term().ok_or_else(|| JournalError("this replica does not lead".to_owned()))
    }

    /// Writes copies of several workloads over those that were there before, a few at a time. Where one can't be written the
    /// others may be, and are then kept as such: what is intended is on record, and nothing of it has begun.
    async fn write_all(&self, kept: &mut BTreeMap<WorkloadId, Kept>, next: Vec<Copy>) -> Result<(), JournalError> {
        let writes = next.into_iter().map(|next| self.write(kept.get(&next.workload), next));
        let written: Vec<_> = stream::iter(writes).buffer_unordered(SIDE_BY_SIDE).collect().await;
        let mut outcome = Ok(());
        for written in written {
            match written {
                Ok(written) => drop(kept.insert(written.copy.workload.clone(), written)),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Writes a copy over the one that was there before. Where that is not there any more as it was left, somebody else
    /// leads, or a human wrote: the term ends, and the next one begins with what is there, read or not.
    async fn write(&self, before: Option<&Kept>, next: Copy) -> Result<Kept, JournalError> {
        let term = self.term()?;
        let mut version = before.map(|kept| kept.version.clone());
        let is_in_journal = before.is_some_and(|kept| kept.is_in_journal);
        for _ in 0..ATTEMPTS {
            match self.maps.write(&next, version.as_deref()).await {
                Ok(version) => return Ok(Kept { copy: next, version, is_in_journal }),
                Err(NotWritten::Failed(why)) => return Err(JournalError(why)),
                Err(NotWritten::Refused) => {}
            }
            let name = self.maps.name(&next.workload);
            let Some(found) = self.maps.read(&name).await.map_err(JournalError)? else {
                version = None;
                continue;
            };
            let why = match found.copy {
                // An earlier write whose outcome was not known.
                Ok(copy) if copy == next => return Ok(Kept { copy, version: found.version, is_in_journal }),
                Ok(copy) if before.is_some_and(|kept| kept.copy == copy) => {
                    version = Some(found.version);
                    continue;
                }
                Ok(_) => format!("the ConfigMap {name} was written by somebody else"),
                Err(ref why) => unreadable::line(&name, why),
            };
            // Who begins a term would not find it either, and end here like this one.
            if !found.is_listed && self.maps.label(&found).await.is_ok() {
                tracing::warn!(name, "had lost its label, and has it again: now it is found");
            }
            self.leadership.forfeit(term);
            return Err(JournalError(why));
        }
        Err(JournalError(format!(
            "the ConfigMap of {} changed {ATTEMPTS} times while it was to be written",
            next.workload
        )))
    }
}

/// Each workload's part of a batch.
fn shares_of(batch: &Batch) -> BTreeMap<WorkloadId, Share> {
    let mut shares: BTreeMap<WorkloadId, Share> = BTreeMap::new();
    for record in &batch.records {
        shares.entry(record.workload.clone()).or_default().records.push(record.clone());
    }
    for notice in &batch.notices {
        shares.entry(notice.alert.workload.clone()).or_default().notices.push(notice.clone());
    }
    shares
}

/// The copy, unless it can't be read.
fn usable(read: Read) -> Option<(WorkloadId, Kept)> {
    match read.copy {
        Ok(copy) => Some((copy.workload.clone(), Kept { copy, version: read.version, is_in_journal: true })),
        Err(why) => {
            tracing::error!(error = unreadable::line(&read.name, &why), "what is shared of a workload is not used");
            None
        }
    }
}

fn illegal(illegal: impl std::fmt::Display) -> JournalError {
    JournalError(illegal.to_string())
}

fn states_of(copies: &[Copy]) -> Result<States, JournalError> {
    copies.iter().map(|copy| Ok((copy.workload.clone(), copy.state().map_err(illegal)?))).collect()
}

fn import_of(copy: &Copy) -> Result<Import, JournalError> {
    let open = copy.state().map_err(illegal)?.incident.map(|incident| incident.id.as_str().to_owned());
    let workload = copy.workload.as_str().to_owned();
    Ok(Import { base: copy.base.clone(), records: copy.records.clone(), workload, open })
}

/// The messages that have not arrived, word by word as they were, and the incidents that the copies tell of.
fn untold(copies: &[Copy]) -> Result<(Vec<Notice>, Vec<String>), JournalError> {
    let mut notices: Vec<Notice> = Vec::new();
    let mut incidents: Vec<String> = Vec::new();
    for copy in copies {
        let alerts = copy.alerts().map_err(illegal)?;
        for Untold { message, receiver } in &copy.untold {
            let Some(alert) = alerts.get(message) else {
                tracing::error!(%message, %receiver, "a message that another replica could not tell is lost");
                continue;
            };
            match notices.iter_mut().find(|notice| notice.alert.id == *message) {
                Some(notice) => notice.receivers.push(receiver.clone()),
                None => notices.push(Notice { alert: alert.clone(), receivers: vec![receiver.clone()] }),
            }
        }
        let of = |record: &Record| record.incident.as_ref().map(|incident| incident.as_str().to_owned());
        incidents.extend(copy.records.iter().filter_map(of));
    }
    incidents.sort();
    incidents.dedup();
    Ok((notices, incidents))
}

impl std::fmt::Debug for Books {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Books")
            .field("shared", &self.shared.as_ref().map(|shared| &shared.maps))
            .finish_non_exhaustive()
    }
}
