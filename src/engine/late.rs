//! Whether the daemon itself keeps up. Where what was seen has its turn so late that it is not fresh any more, nothing is
//! known of any workload, through no fault of theirs: that is told once, as what it is, and not of each of them.

use super::Engine;
use super::broken::PAGE_AGAIN;
use super::ports::{Actuator, Journal, Notice};
use super::told::Told;
use crate::domain::incident::narrate;
use crate::domain::observation::Observation;
use crate::domain::time::{Span, Timestamp};

/// How long it may last before people are told. A workload counts as blind no sooner.
const PATIENCE: Span = Span::from_secs(15);

/// What was late, and since when.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    since: Option<Timestamp>,
    /// When something late had its turn last, and how late it was.
    last: Option<(Timestamp, Span)>,
    page_at: Option<Timestamp>,
    pub(super) told: Told,
}

impl<J: Journal, A: Actuator> Engine<J, A> {
    /// Notes how long ago it was seen what has its turn now. Late is what is older than the next look at the same is to be: by
    /// the time that comes it is stale. And late is all where no more can wait, since looks are then left out.
    pub(super) fn note_lag(&mut self, observation: &Observation, is_full: bool) {
        let Some(controller) = self.fleet.get(&observation.workload) else { return };
        let now = self.now();
        let lag = now.since(observation.at);
        self.edges.witness.lag(lag);
        if lag <= controller.policy().interval && !is_full {
            return;
        }
        if self.lateness.since.is_none() {
            tracing::warn!(?lag, "what is seen can't be judged in time");
        }
        self.lateness.since.get_or_insert(now);
        self.lateness.last = Some((now, lag));
        self.fleet.note_late(true);
    }

    /// Tells people without the outbox, which is what may be slow: silence of the workloads is never silence of all. It is
    /// over once everything was seen anew, and in time.
    pub(super) fn page_about_lateness(&mut self) {
        let (Some(since), Some((last, lag))) = (self.lateness.since, self.lateness.last) else { return };
        let now = self.now();
        let intervals = self.fleet.iter().map(|(_, controller)| controller.policy().interval);
        let a_round = intervals.max().unwrap_or_default().max(PATIENCE);
        if now.since(last) > a_round {
            tracing::info!(lasted = ?last.since(since), "what is seen is judged in time again");
            std::mem::take(&mut self.lateness).told.end(&*self.edges.pager, "what is seen is judged in time", now);
            self.fleet.note_late(false);
            return;
        }
        if !self.leads() || now.since(since) < PATIENCE || self.lateness.page_at.is_some_and(|at| now < at) {
            return;
        }
        self.lateness.page_at = Some(now + PAGE_AGAIN.into());
        let Some((_, controller)) = self.fleet.iter().next() else { return };
        let alert = narrate::late(controller.policy(), lag, self.lateness.told.next(), now);
        let notice = Notice { alert, receivers: self.everybody() };
        self.lateness.told.tell(&*self.edges.pager, notice);
    }
}
