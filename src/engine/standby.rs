//! Standing by for another replica, and taking over from it.

use super::ports::{Actuator, Journal, Role};
use super::{Engine, Input};
use crate::domain::controller::{Refusal, Reply};
use crate::domain::id::WorkloadId;
use crate::domain::incident::state::WorkloadState;

/// The guard's name for a request to a replica that stands by.
pub const STANDBY: &str = "standby";

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
            Input::Done(_) | Input::Parked(_) => {}
            Input::Asked(_) => return Some(Err(self.refusal())),
        }
        if let Some(controller) = self.fleet.get(id) {
            self.edges.looks.pace(id, controller.is_tense());
            self.next_tick = self.next_tick.min(controller.next_tick());
        }
        None
    }

    /// What an operator is told.
    pub(super) fn refusal(&self) -> Refusal {
        Refusal::Held { guard: STANDBY.to_owned(), reason: self.why_standing_by().unwrap_or_default() }
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

    /// Goes on from what is on record, as after a restart.
    pub(super) async fn lead(&mut self, term: u64, states: Vec<(WorkloadId, WorkloadState)>) -> bool {
        if self.edges.leadership.role().term() != Some(term) {
            return false;
        }
        self.broken = None;
        self.fleet.continue_from(states);
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
