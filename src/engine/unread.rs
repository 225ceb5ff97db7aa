//! Workloads whose records can't be followed: nobody knows what was begun for them, so they are not watched, and that is
//! told again and again. So is that the records of one can't be followed which is watched: it goes on by what is in memory,
//! until a restart.

use std::sync::Arc;

use tokio::time::Instant;

use super::Engine;
use super::broken::PAGE_AGAIN;
use super::ports::{Actuator, Batch, Journal, Notice};
use super::told::Told;
use crate::domain::controller::{Controller, Explanation, Job, Refusal, Standstill, WorkloadView};
use crate::domain::id::WorkloadId;
use crate::domain::incident::narrate;
use crate::domain::incident::state::WorkloadState;
use crate::domain::policy::WorkloadPolicy;
use crate::domain::response::guard::FleetView;
use crate::domain::time::Timestamp;

/// The guard's name for a request about such a workload.
const RECORDS_DAMAGED: &str = "records-damaged";

/// One of them.
#[derive(Debug)]
pub(super) struct Unread {
    policy: Arc<WorkloadPolicy>,
    why: String,
    remedy: &'static str,
    since: Timestamp,
    page_at: Instant,
    pub(super) told: Told,
}

impl Unread {
    fn reason(&self) -> String {
        format!("its records can't be followed, so it is not watched: {}", self.why)
    }

    /// As a workload of which nothing is known.
    fn controller(&self) -> Controller {
        Controller::new(Arc::clone(&self.policy), WorkloadState::default())
    }
}

impl<J: Journal, A: Actuator> Engine<J, A> {
    /// Leaves a workload alone whose records can't be followed, unless it is watched; `why` is in one line.
    pub fn set_aside(&mut self, policy: Arc<WorkloadPolicy>, why: String) {
        self.note_unread(policy, why, narrate::RECORDS_REMEDY);
    }

    fn note_unread(&mut self, policy: Arc<WorkloadPolicy>, why: String, remedy: &'static str) {
        let (since, page_at, told) = (self.now(), Instant::now(), Told::default());
        let before = self.unread.remove(&policy.id);
        let unread = match before {
            Some(before) => Unread { policy, why, remedy, ..before },
            None => Unread { policy, why, remedy, since, page_at, told },
        };
        self.unread.insert(unread.policy.id.clone(), unread);
    }

    /// Those that are left alone.
    pub(super) fn set_aside_ones(&self) -> impl Iterator<Item = &WorkloadId> {
        self.unread.keys().filter(|id| self.fleet.get(id).is_none())
    }

    /// Whether this is one of them.
    pub(super) fn is_set_aside(&self, id: &WorkloadId) -> bool {
        self.unread.contains_key(id) && self.fleet.get(id).is_none()
    }

    /// Leaves a workload alone whose records can't go on, and takes what was to be written and done for it out of what the others
    /// wait for.
    pub(super) fn leave_out(&mut self, id: &WorkloadId, why: String, batch: &mut Batch, jobs: &mut Vec<Job>) {
        tracing::error!(workload = %id, why, "its records can't go on: it is not watched");
        batch.records.retain(|record| record.workload != *id);
        batch.notices.retain(|notice| notice.alert.workload != *id);
        jobs.retain(|job| job.workload != *id);
        self.departed.remove(id);
        // One that is gone already had left the policy: it was to be forgotten anyway.
        if let Some(controller) = self.fleet.remove(id) {
            self.note_unread(Arc::clone(controller.policy()), why, narrate::READ_ANEW);
        }
    }

    /// A workload is not left alone any more, and why.
    pub(super) fn end_unread(&mut self, id: &WorkloadId, why: &str) {
        let Some(mut unread) = self.unread.remove(id) else { return };
        unread.told.end(&*self.edges.pager, &format!("{id}: {why}"), self.now());
    }

    /// Of all workloads that there are, watched or not.
    pub(super) fn policies(&self) -> impl Iterator<Item = &Arc<WorkloadPolicy>> {
        let watched = self.fleet.iter().map(|(_, controller)| controller.policy());
        let set_aside = self.unread.iter().filter(|(id, _)| self.fleet.get(id).is_none());
        watched.chain(set_aside.map(|(_, unread)| &unread.policy))
    }

    /// Tells people past the outbox, since a message there is a record as well.
    pub(super) fn page_about_unread(&mut self) {
        let (clock, now) = ((self.edges.now)(), Instant::now());
        for unread in self.unread.values_mut().filter(|unread| unread.page_at <= now) {
            unread.page_at = now + PAGE_AGAIN;
            let is_watched = self.fleet.get(&unread.policy.id).is_some();
            let tell = if is_watched { narrate::records_damaged_in_use } else { narrate::records_damaged };
            let alert = tell(&unread.policy, &unread.why, unread.remedy, unread.told.next(), clock);
            let notice = Notice { alert, receivers: unread.policy.notify.clone() };
            unread.told.tell(&*self.edges.pager, notice);
        }
    }

    pub(super) fn view_unread(&self, id: &WorkloadId, now: Timestamp) -> Option<WorkloadView> {
        let unread = self.unread.get(id)?;
        let standstill = Some(Standstill { since: unread.since, reason: unread.reason() });
        Some(WorkloadView { standstill, ..unread.controller().view_of(now) })
    }

    pub(super) fn explain_unread(&self, id: &WorkloadId, now: Timestamp) -> Option<Explanation> {
        let unread = self.unread.get(id)?;
        let decision = format!("nothing is done since {}: {}", unread.since, unread.reason());
        let would_change = vec![unread.remedy.to_owned()];
        Some(Explanation { decision, would_change, ..unread.controller().explain(now, &FleetView::default()) })
    }

    /// What is said to an operator's request about a workload that is not watched.
    pub(super) fn refuse_unread(&self, id: &WorkloadId) -> Refusal {
        match self.unread.get(id) {
            Some(unread) => Refusal::Held { guard: RECORDS_DAMAGED.to_owned(), reason: unread.reason() },
            None => Refusal::NotFound(format!("no workload {id}")),
        }
    }
}
