//! What people were told of the daemon itself, past the outbox: whoever was told hears as well when it is over. A page that
//! never ends is one that nobody reads the next time.

use super::Engine;
use super::ports::{Actuator, Journal, Notice, Pager};
use crate::domain::incident::narrate;
use crate::domain::time::Timestamp;

/// The last message about one trouble, while that goes on.
#[derive(Debug, Default)]
pub(super) struct Told(Option<Notice>);

impl Told {
    /// Position of the next message.
    pub(super) fn next(&self) -> u64 {
        self.0.as_ref().map_or(0, |last| last.alert.sequence) + 1
    }

    /// Tells it.
    pub(super) fn tell(&mut self, pager: &dyn Pager, notice: Notice) {
        self.0 = Some(notice.clone());
        pager.page(notice);
    }

    /// Tells that it is over, and why, to whom it was told; nothing where it was not.
    pub(super) fn end(&mut self, pager: &dyn Pager, why: &str, now: Timestamp) {
        if let Some(Notice { alert, receivers }) = self.0.take() {
            pager.page(Notice { alert: narrate::over(&alert, why, now), receivers });
        }
    }
}

impl<J: Journal, A: Actuator> Engine<J, A> {
    /// Ends everything that people were told: the next start finds out for itself what goes on, and tells it.
    pub(super) fn end_pages(&mut self) {
        let (now, pager) = (self.now(), &*self.edges.pager);
        let broken = self.broken.iter_mut().map(|broken| &mut broken.told);
        let unread = self.unread.values_mut().map(|unread| &mut unread.told);
        let withheld = self.withheld.values_mut().map(|withheld| &mut withheld.told);
        let own = [&mut self.lateness.told, &mut self.leaderless.told];
        for told in broken.chain(unread).chain(withheld).chain(own) {
            told.end(pager, "the daemon was told to stop", now);
        }
    }
}
