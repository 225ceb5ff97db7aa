//! What a candidate holds, for those who ask before they act.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, watch};

use crate::clock::Clock;
use crate::domain::time::Timestamp;
use crate::engine::ports::{Leadership, Role};

/// Whether the lease is held at this moment.
pub struct Tenure {
    clock: Clock,
    shown: Mutex<Shown>,
    roles: watch::Sender<Role>,
    forfeited: Notify,
}

#[derive(Clone, Default)]
struct Shown {
    /// The term, and until when it surely goes on.
    held: Option<(u64, Timestamp)>,
    leader: Option<String>,
}

impl Tenure {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            shown: Mutex::default(),
            roles: watch::Sender::new(Role::Standby { leader: None }),
            forfeited: Notify::new(),
        }
    }

    /// Every change of the role, as it is noticed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Role> {
        self.roles.subscribe()
    }

    pub(super) fn show(&self, held: Option<(u64, Timestamp)>, leader: Option<&str>) {
        *self.lock() = Shown { held, leader: leader.map(str::to_owned) };
        self.tell();
    }

    pub(super) async fn forfeited(&self) {
        self.forfeited.notified().await;
    }

    fn tell(&self) {
        let role = self.role();
        self.roles.send_if_modified(|last| {
            let is_news = *last != role;
            *last = role;
            is_news
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leadership for Tenure {
    fn role(&self) -> Role {
        let shown = self.lock().clone();
        match shown.held {
            Some((term, until)) if self.clock.now() < until => Role::Leader { term },
            // Nobody has taken it yet, as far as is known.
            Some(_) => Role::Standby { leader: None },
            None => Role::Standby { leader: shown.leader },
        }
    }

    fn leader(&self) -> Option<String> {
        match self.role() {
            Role::Alone => None,
            Role::Leader { .. } => self.lock().leader.clone(),
            Role::Standby { leader } => leader,
        }
    }

    fn forfeit(&self, term: u64) {
        let held = self.lock().held.take_if(|(held, _)| *held == term);
        if held.is_some() {
            self.tell();
            self.forfeited.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Span;

    #[test]
    fn what_is_held_is_held_until_its_end_by_the_clock_alone() {
        let clock = Clock::start(None);
        let tenure = Tenure::new(clock);
        assert_eq!(tenure.role().term(), None);
        tenure.show(Some((1, clock.now() + Span::from_secs(60))), Some("me"));
        assert_eq!(tenure.role(), Role::Leader { term: 1 });
        // Nothing more is heard of the candidate: it may have been stopped.
        tenure.show(Some((1, clock.now())), Some("me"));
        assert_eq!(tenure.role(), Role::Standby { leader: None });
    }

    #[test]
    fn a_term_that_is_given_up_is_over_at_once_and_no_other() {
        let clock = Clock::start(None);
        let tenure = Tenure::new(clock);
        let changes = tenure.changes();
        tenure.show(Some((2, clock.now() + Span::from_secs(60))), Some("me"));
        tenure.forfeit(1);
        assert_eq!(tenure.role().term(), Some(2));
        tenure.forfeit(2);
        assert_eq!(tenure.role().term(), None);
        assert_eq!(changes.borrow().term(), None);
    }
}
