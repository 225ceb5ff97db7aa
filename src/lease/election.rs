//! The rules of an election, as a machine without I/O: what was read and written goes in, what to do next comes out.
//!
//! All times are of this daemon's own timeline, which goes on while the machine is suspended. What other clocks say is
//! compared for equality only: a lease may be taken once it was *seen* unchanged for its whole duration.

use std::collections::VecDeque;

use crate::domain::time::{Span, Timestamp};

/// Share of a lease's duration, in thirds, for which a renewal counts: the last third is for a write that is slow to
/// arrive and for clocks that run at another speed.
const SURE_THIRDS: u64 = 2;

/// Looks of a candidate within a lease's duration: a lease that is given back is noticed within one of these.
const LOOKS: u64 = 8;

/// Tries that are remembered: more than fit between two lapses.
const MOST_TRIES: usize = 64;

/// What a lease says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Claim {
    /// Who holds it; none where it was given back.
    pub(super) holder: Option<String>,
    /// When it was renewed, by its holder's clock and in its words.
    pub(super) renewed: Option<String>,
    /// For how long others leave it alone from then on.
    pub(super) duration: Span,
}

/// A lease as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub(super) claim: Claim,
    /// The object's version: a write that names it fails where anyone wrote since.
    pub(super) version: String,
}

/// A write that would make this daemon the holder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bid {
    /// The version that it replaces; none: the lease is made.
    pub(super) over: Option<String>,
    /// Whether the holder changes.
    pub(super) takes: bool,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Read the lease, not before then.
    Look(Timestamp),
    /// Renew it, not before then.
    Renew(Timestamp),
    /// The term is over: nobody renewed it in time.
    Lapsed,
}

/// What was seen by somebody who does not hold it.
#[derive(Clone, Debug)]
struct Sight {
    claim: Claim,
    /// When it was first seen like this.
    since: Timestamp,
}

/// A lease that is held.
#[derive(Clone, Debug)]
struct Held {
    term: u64,
    /// The version that the next renewal replaces; none where the lease was deleted meanwhile.
    version: Option<String>,
    /// Until when it is surely held.
    until: Timestamp,
    renew_at: Timestamp,
}

/// One candidate's election.
#[derive(Debug)]
pub(super) struct Election {
    me: String,
    duration: Span,
    sight: Option<Sight>,
    held: Option<Held>,
    terms: u64,
    look_at: Timestamp,
    /// Renewal times of the last write that succeeded and of all that were tried since: by these a lease is known as one's
    /// own. The name alone may have been written by anybody.
    own: VecDeque<String>,
}

impl Election {
    pub(super) fn new(me: &str, duration: Span, now: Timestamp) -> Self {
        Self { me: me.to_owned(), duration, sight: None, held: None, terms: 0, look_at: now, own: VecDeque::new() }
    }

    /// The term, and until when it surely goes on.
    pub(super) fn tenure(&self) -> Option<(u64, Timestamp)> {
        self.held.as_ref().map(|held| (held.term, held.until))
    }

    /// Who holds the lease, as it was last seen.
    pub(super) fn leader(&self) -> Option<&str> {
        match (&self.held, &self.sight) {
            (Some(_), _) => Some(&self.me),
            (None, Some(sight)) => sight.claim.holder.as_deref(),
            (None, None) => None,
        }
    }

    pub(super) fn next(&self, now: Timestamp) -> Next {
        match &self.held {
            Some(held) if now >= held.until => Next::Lapsed,
            Some(held) => Next::Renew(held.renew_at.min(held.until)),
            None => Next::Look(self.look_at),
        }
    }

    /// The renewal that is due.
    pub(super) fn renewal(&self) -> Option<Bid> {
        self.held.as_ref().map(|held| Bid { over: held.version.clone(), takes: false })
    }

    /// A candidate read the lease: what to write, if it may be taken.
    pub(super) fn looked(&mut self, found: Option<Found>, now: Timestamp) -> Option<Bid> {
        self.look_at = now + self.pause();
        let Some(Found { claim, version }) = found else { return self.looked_in_vain(now) };
        let since = match &self.sight {
            Some(sight) if sight.claim == claim => sight.since,
            Some(_) | None => now,
        };
        let free_at = since + self.duration.max(claim.duration);
        let is_free = claim.holder.is_none() || is_own(&self.me, &self.own, &claim) || now >= free_at;
        self.sight = Some(Sight { claim, since });
        if is_free {
            return Some(Bid { over: Some(version), takes: true });
        }
        self.look_at = self.look_at.min(free_at);
        None
    }

    /// There is no lease. Whoever was seen to hold it may not know yet.
    fn looked_in_vain(&mut self, now: Timestamp) -> Option<Bid> {
        let free_at = self.sight.as_ref().and_then(|sight| {
            sight.claim.holder.as_ref()?;
            Some(sight.since + self.duration.max(sight.claim.duration))
        });
        match free_at {
            Some(free_at) if now < free_at => {
                self.look_at = self.look_at.min(free_at);
                None
            }
            Some(_) | None => Some(Bid { over: None, takes: true }),
        }
    }

    /// A write is about to be sent, and will say this of its time.
    pub(super) fn tries(&mut self, renewed: &str) {
        if self.own.len() == MOST_TRIES {
            self.own.pop_front();
        }
        self.own.push_back(renewed.to_owned());
    }

    /// A write that was sent at `sent` succeeded.
    pub(super) fn wrote(&mut self, version: String, sent: Timestamp) {
        self.own.drain(..self.own.len().saturating_sub(1));
        let until = sent + thirds(self.duration, SURE_THIRDS);
        let renew_at = sent + thirds(self.duration, 1);
        let term = match &self.held {
            Some(held) => held.term,
            None => {
                self.terms += 1;
                self.terms
            }
        };
        self.held = Some(Held { term, version: Some(version), until, renew_at });
    }

    /// A renewal's outcome is not known: it is tried again soon.
    pub(super) fn missed(&mut self, now: Timestamp, pause: Span) {
        if let Some(held) = &mut self.held {
            held.renew_at = now + pause;
        }
    }

    /// A renewal was refused, since the lease is not as this daemon left it: this is how it is. The term ends, unless
    /// that was one's own doing or the lease is gone: whoever wants it waits as long as it is surely held.
    pub(super) fn refused(&mut self, found: Option<Found>, now: Timestamp) {
        let Some(held) = &mut self.held else { return };
        match found {
            None => held.version = None,
            Some(found) if is_own(&self.me, &self.own, &found.claim) => held.version = Some(found.version),
            Some(found) => {
                self.lose(now);
                self.sight = Some(Sight { claim: found.claim, since: now });
            }
        }
    }

    /// Ends the term; looks again after a pause.
    pub(super) fn lose(&mut self, now: Timestamp) {
        self.held = None;
        self.sight = None;
        self.look_at = now + self.pause();
    }

    /// A look failed; the next one comes after a pause.
    pub(super) fn looked_not(&mut self, now: Timestamp) {
        self.look_at = now + self.pause();
    }

    fn pause(&self) -> Span {
        Span::from_millis(self.duration.as_millis() / LOOKS)
    }
}

fn is_own(me: &str, own: &VecDeque<String>, claim: &Claim) -> bool {
    let is_mine = claim.holder.as_deref() == Some(me);
    is_mine && claim.renewed.as_ref().is_some_and(|renewed| own.contains(renewed))
}

fn thirds(duration: Span, thirds: u64) -> Span {
    Span::from_millis(duration.as_millis() * thirds / 3)
}

#[cfg(test)]
mod tests;
