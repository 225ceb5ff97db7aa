//! Standing by for another replica, and taking over from it.

use std::collections::BTreeMap;

use super::broken::PAGE_AGAIN;
use super::ports::{Actuator, Journal, Notice, Role};
use super::told::Told;
use super::{Engine, Input};
use crate::domain::controller::{Refusal, Reply, Standby};
use crate::domain::id::WorkloadId;
use crate::domain::incident::narrate;
use crate::domain::incident::state::WorkloadState;
use crate::domain::time::{Span, Timestamp};

/// The guard's name for a request to a replica that stands by.
pub const STANDBY: &str = "standby";

/// How long nobody may lead before the replica that led last tells people: longer than any handover.
const LEADERLESS: Span = Span::from_secs(60);

/// The time in which nobody leads, on the replica that led last: nobody else would notice for sure.
#[derive(Debug, Default)]
pub(super) struct Leaderless {
    page_at: Option<Timestamp>,
    pub(super) told: Told,
}

impl<J: Journal, A: Actuator> Engine<J, A> {
    /// Whether what is on record is known here, and this daemon acts on it at this moment.
    pub(super) fn leads(&self) -> bool {
        self.term.is_some() && self.edges.leadership.role().term() == self.term
    }

    /// Remembers and judges; an operator is told who acts.
    pub(super) fn stand_by(&mut self, id: &WorkloadId, input: Input) -> Option<Reply> {
        let now = self.now();
        match input {
            Input::Observed(observation) => self.fleet.stand_by(id, Some(&observation), now),
            Input::Tick => self.fleet.stand_by(id, None, now),
            // Whoever leads settles what was under way.
            Input::Done(_) | Input::Parked(_) | Input::NotBegun(_) | Input::StoodStill(..) => {}
            Input::Asked(_) => return Some(Err(self.refusal())),
        }
        self.keep_pace(id);
        None
    }

    /// Tells people without the outbox, which only a leader may write: now and then while nobody leads.
    pub(super) fn page_about_lead(&mut self) {
        let led = self.term.is_some();
        let nobody_leads = self.edges.leadership.role() == Role::Standby { leader: None };
        if !(led && nobody_leads) {
            std::mem::take(&mut self.leaderless).told.end(&*self.edges.pager, "a replica leads", self.now());
            return;
        }
        let now = self.now();
        let page_at = *self.leaderless.page_at.get_or_insert(now + LEADERLESS);
        if now < page_at {
            return;
        }
        self.leaderless.page_at = Some(now + PAGE_AGAIN.into());
        tracing::error!("no replica leads: nothing is rolled back until one does");
        let Some((_, controller)) = self.fleet.iter().next() else { return };
        let alert = narrate::nobody_leads(controller.policy(), self.leaderless.told.next(), now);
        let notice = Notice { alert, receivers: self.everybody() };
        self.leaderless.told.tell(&*self.edges.pager, notice);
    }

    /// What an operator is told.
    pub(super) fn refusal(&self) -> Refusal {
        Refusal::Held { guard: STANDBY.to_owned(), reason: self.why_standing_by().unwrap_or_default() }
    }

    /// The same, for who asks what would be done; none where this daemon acts.
    pub(super) fn standby(&self) -> Option<Standby> {
        let reason = self.why_standing_by()?;
        let leader = if let Role::Standby { leader } = self.edges.leadership.role() { leader } else { None };
        Some(Standby { leader, reason })
    }

    /// Who acts instead; none where this daemon does.
    pub(super) fn why_standing_by(&self) -> Option<String> {
        if self.leads() {
            return None;
        }
        Some(match self.edges.leadership.role() {
            Role::Standby { leader: Some(leader) } => format!("this replica stands by, {leader} leads"),
            Role::Standby { leader: None } => "this replica stands by, and nobody leads at this moment".to_owned(),
            Role::Alone | Role::Leader { .. } => "this replica is about to lead: it reads what is on record".to_owned(),
        })
    }

    /// Goes on from what is on record, which is all of it, as after a restart. Of a workload that `states` does not name nothing
    /// is: what was decided of it for a term that is over was never written. Those that are `withheld` are not in `states`.
    pub(super) async fn lead(
        &mut self,
        term: u64,
        states: Vec<(WorkloadId, WorkloadState)>,
        withheld: BTreeMap<WorkloadId, String>,
    ) -> bool {
        if self.edges.leadership.role().term() != Some(term) {
            return false;
        }
        self.forget_batch();
        self.withhold(withheld);
        let unwatched = states.iter().filter(|(id, _)| self.fleet.get(id).is_none());
        self.departed = unwatched.cloned().collect();
        let known = self.fleet.iter().map(|(id, _)| (id.clone(), WorkloadState::default()));
        let all: BTreeMap<WorkloadId, WorkloadState> = known.chain(states).collect();
        self.fleet.continue_from(all.into_iter().collect());
        self.withheld.keys().for_each(|id| self.fleet.discount(id));
        // Another replica may have let go on what this one held.
        self.fleet.iter().for_each(|(id, _)| self.hold_as_recorded(id));
        self.term = Some(term);
        self.tick_all().await;
        self.leads()
    }

    pub(super) fn follow(&mut self, states: Vec<(WorkloadId, WorkloadState)>) {
        if !self.leads() {
            self.fleet.continue_from(states);
        }
    }
}
