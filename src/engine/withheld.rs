//! Workloads whose shared record can't be read: nobody knows what was begun for them, so that they are only watched while the
//! term lasts, and that is told again and again. The next term begins with what is there then.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::Engine;
use super::broken::PAGE_AGAIN;
use super::ports::{Actuator, Journal, Notice};
use super::told::Told;
use crate::domain::controller::{Controller, Refusal};
use crate::domain::id::WorkloadId;
use crate::domain::incident::narrate;
use crate::domain::response::hold::Hold;
use crate::domain::time::Timestamp;

/// One of them.
#[derive(Debug)]
pub(super) struct Withheld {
    why: String,
    since: Timestamp,
    page_at: Instant,
    pub(super) told: Told,
}

impl<J: Journal, A: Actuator> Engine<J, A> {
    /// Does nothing for these in the term that begins.
    pub(super) fn withhold(&mut self, withheld: BTreeMap<WorkloadId, String>) {
        self.end_withheld();
        let (since, page_at) = (self.now(), Instant::now());
        let all = withheld.into_iter();
        self.withheld = all.map(|(id, why)| (id, Withheld { why, since, page_at, told: Told::default() })).collect();
    }

    /// The term is over.
    pub(super) fn end_withheld(&mut self) {
        let now = self.now();
        for (id, mut withheld) in std::mem::take(&mut self.withheld) {
            withheld.told.end(&*self.edges.pager, &format!("{id}: what is on record is read anew"), now);
        }
    }

    pub(super) fn is_withheld(&self, id: &WorkloadId) -> bool {
        self.withheld.contains_key(id)
    }

    /// Since when nothing is done for a workload, where it is one of these.
    pub(super) fn withheld_since(&self, id: &WorkloadId) -> Option<(Timestamp, Hold)> {
        let withheld = self.withheld.get(id)?;
        Some((withheld.since, Hold::RecordUnreadable { reason: withheld.why.clone() }))
    }

    /// What is said to an operator's request about one of these.
    pub(super) fn refuse_withheld(&self, id: &WorkloadId) -> Option<Refusal> {
        let (_, hold) = self.withheld_since(id).filter(|_| self.leads() && self.fleet.get(id).is_some())?;
        Some(Refusal::Held { guard: hold.as_str().to_owned(), reason: hold.to_string() })
    }

    /// Tells people past the outbox, since a message there is a record as well.
    pub(super) fn page_about_withheld(&mut self) {
        let (clock, now) = ((self.edges.now)(), Instant::now());
        for (id, withheld) in &mut self.withheld {
            let Some(policy) = self.fleet.get(id).map(Controller::policy) else {
                withheld.told.end(&*self.edges.pager, &format!("{id}: it is no longer in the policy"), clock);
                withheld.page_at = now;
                continue;
            };
            if withheld.page_at <= now {
                withheld.page_at = now + PAGE_AGAIN;
                let alert = narrate::record_unreadable(policy, &withheld.why, withheld.told.next(), clock);
                withheld.told.tell(&*self.edges.pager, Notice { alert, receivers: policy.notify.clone() });
            }
        }
    }
}
