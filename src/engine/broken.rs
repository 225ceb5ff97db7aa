//! The time in which no record can be written: nothing is begun, people are told, and the same batch is tried again. A write
//! that takes too long counts as one that failed, for all but this: it goes on, and what comes of it is waited for before
//! anything else is tried, since it may be written after all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::time::{Duration, Instant, timeout};

use super::ports::{Actuator, Batch, Journal, JournalError, NotCommitted, Notice};
use super::told::Told;
use super::{Engine, Input};
use crate::domain::controller::{
    Accepted, Controller, Explanation, Job, Refusal, Reply, Request, RequestKind, Standstill, WorkloadView,
};
use crate::domain::id::{ReceiverName, WorkloadId};
use crate::domain::incident::narrate;
use crate::domain::incident::state::Pause;
use crate::domain::response::guard::Guard;
use crate::domain::response::hold::Hold;
use crate::domain::response::ladder;
use crate::domain::time::Timestamp;

/// Time between two tries of the batch that could not be written. API servers that are busy ask to be left alone for a second.
const RETRY: Duration = Duration::from_secs(2);

/// Time between two proofs that the journal can be written, where nothing else was.
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(10);

/// How long a write may take before people are told. Longer than SQLite waits for whoever has the journal locked, and than one
/// request to an API server may take: those say what is wrong by themselves.
const LATE: Duration = Duration::from_secs(6);

/// Time between two direct messages about it.
pub(super) const PAGE_AGAIN: Duration = Duration::from_secs(900);

/// A job that waited no longer than this is begun as if nothing had been; after that what called for it may be over.
const FRESH: Duration = Duration::from_secs(5);

/// The guard's name for a request that can't be recorded.
const JOURNAL_BROKEN: &str = "journal-broken";

/// A write under way. Once begun it is never begun again before it has ended.
pub(super) type Write = BoxFuture<'static, Result<(), NotCommitted>>;

/// What came of a write in time, and the write itself where that is only that it goes on.
pub(super) type Written = (Result<(), NotCommitted>, Option<Write>);

/// What waits until the journal can be written again.
pub(super) struct Broken {
    pub(super) error: JournalError,
    batch: Batch,
    /// The write of the batch that has no outcome yet.
    under_way: Option<Write>,
    jobs: Vec<Job>,
    pub(super) inputs: Vec<(WorkloadId, Input)>,
    /// What operators want paused from the first moment on at which something could be done again, and since when.
    pauses: BTreeMap<WorkloadId, (Request, Timestamp)>,
    began: Timestamp,
    since: Instant,
    retry_at: Instant,
    page_at: Instant,
    pub(super) told: Told,
}

impl Broken {
    fn pause_of(&self, id: &WorkloadId) -> Option<Pause> {
        let (Request { by, kind: RequestKind::Pause { reason } }, since) = self.pauses.get(id)? else { return None };
        Some(Pause { by: by.clone(), reason: reason.clone(), since: *since })
    }
}

impl<J: Journal, A: Actuator> Engine<J, A> {
    /// Writes a batch, or nothing, durably. Not waited for longer than people are left in the dark.
    pub(super) fn write(&self, batch: Batch) -> impl Future<Output = Written> + Send + use<J, A> {
        let journal = Arc::clone(&self.edges.journal);
        let write =
            async move { if batch.is_empty() { Ok(journal.probe().await?) } else { journal.commit(batch).await } };
        let mut write: Write = Box::pin(write);
        async move {
            match timeout(LATE, &mut write).await {
                Ok(written) => (written, None),
                Err(_) => {
                    let error = JournalError(format!("no answer within {LATE:?}: what it lies on hangs"));
                    (Err(error.into()), Some(write))
                }
            }
        }
    }

    /// Keeps what could not be written; nothing that depends on it is done.
    pub(super) fn break_down(&mut self, batch: Batch, jobs: Vec<Job>, error: JournalError, under_way: Option<Write>) {
        tracing::error!(%error, "the journal can't be written: nothing is changed until it can");
        self.edges.witness.journal(Some(&error));
        let now = Instant::now();
        let since = if under_way.is_some() { now.checked_sub(LATE).unwrap_or(now) } else { now };
        self.broken = Some(Broken {
            error,
            batch,
            under_way,
            jobs,
            inputs: Vec::new(),
            pauses: BTreeMap::new(),
            began: self.now(),
            since,
            retry_at: now + RETRY,
            page_at: now,
            told: Told::default(),
        });
        self.page_about_journal();
    }

    /// Remembers and judges what is seen: whoever has to decide by hand sees how it is.
    pub(super) fn only_watch(&mut self, id: &WorkloadId, input: Input) {
        let now = self.now();
        match input {
            Input::Observed(observation) => self.fleet.watch_only(id, Some(&observation), now),
            Input::Tick => self.fleet.watch_only(id, None, now),
            // They wait for the journal, where they matter, or were refused; or the next term settles what was under way.
            Input::Done(_) | Input::Parked(_) | Input::NotBegun(_) | Input::StoodStill(..) | Input::Asked(_) => {}
        }
        self.keep_pace(id);
    }

    /// Tries the batch again when it is time, and goes on where things were left.
    pub(super) async fn mend(&mut self) {
        if !self.leads() {
            self.forget_batch();
            self.end_withheld();
        }
        self.page_about_journal();
        let due = self.broken.as_ref().filter(|broken| broken.under_way.is_none() && broken.retry_at <= Instant::now());
        let Some(batch) = due.map(|broken| broken.batch.clone()) else { return };
        let written = self.write(batch).await;
        self.settle(written).await;
    }

    /// Lets go of what could not be written for a term that is over: nothing of it is on record, so whoever leads does not know
    /// of it.
    pub(super) fn forget_batch(&mut self) {
        let Some(mut broken) = self.broken.take() else { return };
        self.edges.witness.journal(None);
        let why = "this replica does not lead any more";
        for (workload, (request, _)) in &broken.pauses {
            tracing::error!(%workload, by = request.by, "{why}: the pause that is not on record is forgotten");
        }
        let forgotten: Vec<&str> = broken.pauses.keys().map(WorkloadId::as_str).collect();
        let end = match forgotten.as_slice() {
            [] => why.to_owned(),
            workloads => format!("{why}; not paused any more, since that is not on record: {}", workloads.join(", ")),
        };
        broken.told.end(&*self.edges.pager, &end, self.now());
    }

    /// Takes note of what came of a write.
    pub(super) async fn settle(&mut self, (written, under_way): Written) {
        match written {
            Err(NotCommitted::Journal(error)) => {
                if let Some(broken) = &mut self.broken {
                    (broken.error, broken.under_way) = (error, under_way);
                    broken.retry_at = Instant::now() + RETRY;
                }
            }
            Err(NotCommitted::Refused { workload, why }) => {
                let Some(mut broken) = self.broken.take() else { return };
                broken.under_way = None;
                broken.pauses.remove(&workload);
                self.leave_out(&workload, why, &mut broken.batch, &mut broken.jobs);
                // The others' part is tried in the next turn.
                broken.retry_at = Instant::now();
                self.broken = Some(broken);
            }
            Ok(()) => {
                let Some(mut broken) = self.broken.take() else { return };
                tracing::info!("the journal can be written again");
                self.edges.witness.journal(None);
                broken.told.end(&*self.edges.pager, "the journal can be written again", self.now());
                self.go_on(broken).await;
            }
        }
    }

    /// What waited, now that the batch is written: pauses first, so that nothing is begun in spite of one.
    async fn go_on(&mut self, broken: Broken) {
        let Broken { error, batch, jobs, inputs, pauses, began, since, .. } = broken;
        let is_late = since.elapsed() > FRESH;
        let why_not = |job: &Job| match (pauses.contains_key(&job.workload), is_late) {
            (true, _) => Some("the workload was paused before it could be recorded, and it was not begun"),
            (false, true) => Some("it could not be recorded in time, and was not begun"),
            (false, false) => None,
        };
        let not_begun: BTreeMap<WorkloadId, &str> =
            jobs.iter().filter_map(|job| Some((job.workload.clone(), why_not(job)?))).collect();
        let begun = jobs.into_iter().filter(|job| !not_begun.contains_key(&job.workload)).collect();
        self.after_commit(&batch, begun);
        // What was recorded may be an older word than these pauses, which are not on record yet.
        for id in pauses.keys() {
            self.edges.actuator.hold(id, true);
        }
        for (id, (request, at)) in pauses {
            match &mut self.broken {
                Some(broken) => drop(broken.pauses.insert(id, (request, at))),
                None => drop(self.feed(&id, Input::Asked(request)).await),
            }
        }
        let hold = Hold::JournalBroken { reason: error.to_string() };
        let under_way = self.fleet.iter().filter(|(_, controller)| is_late && controller.is_acting());
        let stood_still = under_way.map(|(id, _)| (id.clone(), Input::StoodStill(began, hold.clone())));
        let stood_still: Vec<(WorkloadId, Input)> = stood_still.collect();
        let not_begun = not_begun.into_iter().map(|(workload, why)| (workload, Input::NotBegun(why.to_owned())));
        self.catch_up(not_begun.chain(stood_still).chain(inputs)).await;
    }

    /// An operator's word while nothing can be recorded. Nothing is begun now anyway; a pause is kept, so that it stays so.
    pub(super) fn ask_while_broken(&mut self, id: &WorkloadId, request: Request) -> Reply {
        let now = self.now();
        let incident = self.fleet.get(id).and_then(|controller| controller.state().incident.as_ref());
        let incident = incident.map(|incident| incident.id.clone());
        let is_known = self.fleet.get(id).is_some();
        let Some(broken) = self.broken.as_mut().filter(|_| is_known) else {
            return Err(Refusal::NotFound(format!("no workload {id}")));
        };
        match &request.kind {
            RequestKind::Pause { .. } => {
                tracing::warn!(workload = %id, by = request.by, "paused, in memory only: the journal can't be written");
                let message = paused_in_memory(&broken.error);
                broken.pauses.entry(id.clone()).or_insert((request, now));
                // What is under way goes no further, whatever is on record.
                self.edges.actuator.hold(id, true);
                Ok(Accepted { incident, message })
            }
            RequestKind::Resume if broken.pauses.remove(id).is_some() => {
                self.hold_as_recorded(id);
                let message = "the pause that was not on record yet is lifted; nothing is begun while the journal can't be written";
                Ok(Accepted { incident, message: message.to_owned() })
            }
            RequestKind::Resume
            | RequestKind::Approve { .. }
            | RequestKind::Reject { .. }
            | RequestKind::Rollback { .. }
            | RequestKind::Trigger { .. } => Err(not_recorded(broken.error.to_string())),
        }
    }

    /// What is said to a request whose own record broke the journal: it is the first that is written again.
    pub(super) fn kept(&self, is_pause: bool, id: &WorkloadId) -> Option<Reply> {
        let broken = self.broken.as_ref().filter(|_| self.leads())?;
        if !is_pause {
            return Some(Err(not_recorded(format!(
                "{}; the request is kept, and counts once it can be",
                broken.error
            ))));
        }
        self.edges.actuator.hold(id, true);
        let incident = self.fleet.get(id).and_then(|controller| controller.state().incident.as_ref());
        let incident = incident.map(|incident| incident.id.clone());
        Some(Ok(Accepted { incident, message: paused_in_memory(&broken.error) }))
    }

    /// A step of a workload that is under way goes on, or no further, as the workload's state says.
    pub(super) fn hold_as_recorded(&self, id: &WorkloadId) {
        let is_halted = self.fleet.get(id).is_some_and(|controller| controller.halt().is_some());
        self.edges.actuator.hold(id, is_halted);
    }

    /// Why nothing new is begun for a workload, and since when.
    fn standstill_of(&self, id: &WorkloadId) -> Option<(Timestamp, Hold)> {
        let of_all = |broken: &Broken| (broken.began, Hold::JournalBroken { reason: broken.error.to_string() });
        self.withheld_since(id).or_else(|| self.broken.as_ref().map(of_all))
    }

    /// The pause of a workload that is not on record yet.
    fn pause_of(&self, id: &WorkloadId) -> Option<Pause> {
        self.broken.as_ref()?.pause_of(id)
    }

    /// Says of a workload that nothing new is begun, and what is paused until then.
    pub(super) fn note_standstill(&self, mut view: WorkloadView) -> WorkloadView {
        let standstill = self.standstill_of(&view.workload);
        view.standstill = standstill.map(|(since, hold)| Standstill { since, reason: hold.to_string() });
        view.paused = view.paused.or_else(|| self.pause_of(&view.workload));
        view
    }

    /// What the guards can't know of: that nothing can be recorded, and what is paused until then.
    pub(super) fn guard_standstill(&self, id: &WorkloadId, guards: &mut Vec<Guard>) {
        let Some((_, hold)) = self.standstill_of(id) else { return };
        guards.insert(0, Guard { name: hold.as_str().to_owned(), hold: Some(hold), forced: false });
        let paused = self.pause_of(id).map(|pause| ladder::paused(&pause));
        for guard in guards.iter_mut().filter(|guard| guard.name == "paused") {
            guard.hold = guard.hold.take().or_else(|| paused.clone());
        }
    }

    /// As [`Self::note_standstill`], for who asks why.
    pub(super) fn explain_standstill(&self, explanation: &mut Explanation) {
        let Some((since, hold)) = self.standstill_of(&explanation.workload) else { return };
        explanation.decision = format!("nothing is done since {since}: {hold}");
        self.guard_standstill(&explanation.workload, &mut explanation.guards);
        explanation.would_change.insert(0, format!("nothing is done while {}: {hold}", hold.as_str()));
    }

    /// Finds out whether the journal can still be written when nothing was for a while: at the next incident is too late.
    pub(super) async fn probe(&mut self) {
        if self.broken.is_some() || !self.leads() || Instant::now() < self.probe_at {
            return;
        }
        self.probe_at = Instant::now() + PROBE_EVERY;
        // Nothing was to be written of any workload.
        let (Err(NotCommitted::Journal(error)), under_way) = self.write(Batch::default()).await else { return };
        if self.policies().next().is_some() {
            self.break_down(Batch::default(), Vec::new(), error, under_way);
        }
    }

    /// What does not answer, where a write has taken too long already.
    pub(super) fn what_hangs(&self) -> Option<JournalError> {
        self.broken.as_ref().filter(|broken| broken.under_way.is_some()).map(|broken| broken.error.clone())
    }

    /// Takes what came meanwhile. Where the journal breaks again, the rest of them waits again.
    async fn catch_up(&mut self, inputs: impl Iterator<Item = (WorkloadId, Input)>) {
        for (id, input) in inputs {
            match &mut self.broken {
                Some(broken) => broken.inputs.push((id, input)),
                None => drop(self.feed(&id, input).await),
            }
        }
    }

    /// Whoever is told of any workload.
    pub(super) fn everybody(&self) -> Vec<ReceiverName> {
        let all = self.policies().flat_map(|policy| policy.notify.iter().cloned());
        let all: BTreeSet<ReceiverName> = all.collect();
        all.into_iter().collect()
    }

    fn page_about_journal(&mut self) {
        if self.broken.as_ref().is_none_or(|broken| Instant::now() < broken.page_at) {
            return;
        }
        let now = (self.edges.now)();
        let receivers = self.everybody();
        let first = self.broken.as_ref().and_then(|broken| self.fleet.get(&broken.batch.records.first()?.workload));
        let policy = first.map(Controller::policy).or_else(|| self.policies().next()).map(Arc::clone);
        let (Some(broken), Some(policy)) = (&mut self.broken, policy) else { return };
        broken.page_at = Instant::now() + PAGE_AGAIN;
        let alert = narrate::journal_broken(&policy, &broken.error.to_string(), broken.told.next(), now);
        broken.told.tell(&*self.edges.pager, Notice { alert, receivers });
    }
}

/// What comes of the write that takes too long; waits for ever where there is none.
pub(super) async fn late_outcome(broken: Option<&mut Broken>) -> Written {
    match broken.and_then(|broken| broken.under_way.as_mut()) {
        Some(write) => (write.await, None),
        None => std::future::pending().await,
    }
}

fn not_recorded(reason: String) -> Refusal {
    Refusal::Held { guard: JOURNAL_BROKEN.to_owned(), reason }
}

fn paused_in_memory(error: &JournalError) -> String {
    format!(
        "paused, in memory only: {error}. Nothing is begun until it can be, and then this goes on record before anything \
         else; a restart of the daemon forgets it, and so does another replica that takes over"
    )
}
