//! Who of several daemons acts: the one that surely holds a Lease of the cluster.
//!
//! A Lease is not a lock: its holder may be stopped for a minute and go on believing. So this one is asked of the own
//! clock before every effect: it is held for two thirds of its duration from the moment at which the last good renewal
//! was *sent*, by the timeline that goes on while the machine is suspended, and not a moment longer. Others take it only
//! once they have seen it unchanged for the whole duration on their own timeline; each write replaces exactly the version
//! that was read. Renewals have a client of their own, so that they never wait behind a list.
//!
//! The crates for this compare the renewal's time with their own wall clock, and call a lease held until a wall clock says
//! otherwise: a clock that is set or a process that was stopped makes two leaders of one.

mod election;
mod object;
mod tenure;

use std::sync::Arc;

use kube::Client;
use kube::api::DynamicObject;
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};
use crate::domain::time::{Span, Timestamp};
use election::{Bid, Claim, Election, Found, Next};
use object::{NotWritten, Object, micro_time};

pub use tenure::Tenure;

/// Time before a renewal whose outcome is not known is tried again, also where the API server asks for a longer wait: two
/// requests a second are no burden, and a lease that is lost to politeness leaves nobody to act while the server is busy.
const RETRY: Span = Span::from_millis(500);

/// Longest sleep, so that a suspended machine costs no more than this.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How long giving the lease back may take.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// Which lease it is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// The namespace.
    pub namespace: String,
    /// The lease's name.
    pub name: String,
    /// Seen unchanged for this long, it may be taken. At least a second.
    pub duration: Span,
}

/// Runs for the lease, and renews it while it is held.
pub struct Candidate {
    object: Object,
    election: Election,
    me: String,
    duration: Span,
    clock: Clock,
    tenure: Arc<Tenure>,
    last: Option<DynamicObject>,
    /// What went wrong last, so that it is told once.
    trouble: Option<String>,
}

impl Candidate {
    /// A candidate under this name, which no other may have, and where it shows what it holds. Nobody else may use this
    /// client: a renewal must not wait for anything.
    #[must_use]
    pub fn new(client: Client, terms: &Terms, me: &str, clock: Clock) -> (Self, Arc<Tenure>) {
        let tenure = Arc::new(Tenure::new(clock));
        let candidate = Self {
            object: Object::new(client, &terms.namespace, &terms.name),
            election: Election::new(me, terms.duration, clock.now()),
            me: me.to_owned(),
            duration: terms.duration,
            clock,
            tenure: Arc::clone(&tenure),
            last: None,
            trouble: None,
        };
        (candidate, tenure)
    }

    /// Runs until `stop`; then gives back what is held.
    pub async fn run(mut self, stop: CancellationToken) {
        let tenure = Arc::clone(&self.tenure);
        while !stop.is_cancelled() {
            let wait = self.turn().await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = tenure.forfeited() => self.give_back().await,
                () = sleep(wait.min(LONGEST_SLEEP)) => {}
            }
        }
        self.give_back().await;
    }

    /// Does what is due; gives the time to the next turn.
    async fn turn(&mut self) -> Duration {
        let now = self.clock.now();
        match self.election.next(now) {
            Next::Lapsed => {
                tracing::warn!("the lease was not renewed in time: nothing is changed until it is held again");
                self.election.lose(now);
                self.show();
            }
            Next::Renew(at) if now >= at => self.renew().await,
            Next::Look(at) if now >= at => self.look().await,
            Next::Renew(at) | Next::Look(at) => return self.clock.until(at).into(),
        }
        Duration::ZERO
    }

    async fn look(&mut self) {
        let read = self.object.read().await;
        let now = self.clock.now();
        match read {
            Ok(found) => {
                let found = self.keep(found);
                let bid = self.election.looked(found, now);
                self.all_well();
                self.show();
                if let Some(bid) = bid {
                    self.bid(&bid).await;
                }
            }
            Err(why) => {
                self.election.looked_not(now);
                self.complain(why);
            }
        }
    }

    async fn renew(&mut self) {
        let Some(bid) = self.election.renewal() else { return };
        self.bid(&bid).await;
    }

    async fn bid(&mut self, bid: &Bid) {
        let renewed = micro_time(clock::wall());
        self.election.tries(&renewed);
        let claim = Claim { holder: Some(self.me.clone()), renewed: Some(renewed.clone()), duration: self.duration };
        let sent = self.clock.now();
        let written = self.object.write(bid, &claim, &renewed, self.last.as_ref()).await;
        match written {
            Ok(object) => {
                self.election.wrote(object.metadata.resource_version.clone().unwrap_or_default(), sent);
                self.last = Some(object);
                self.all_well();
                self.show();
            }
            // Who came first is seen by the next look.
            Err(NotWritten::Refused) if bid.takes => {}
            Err(NotWritten::Refused) => self.settle().await,
            Err(NotWritten::Failed(why)) => {
                self.election.missed(self.clock.now(), RETRY);
                self.complain(why);
            }
        }
    }

    /// A renewal was refused: what is there now says whether the term goes on.
    async fn settle(&mut self) {
        match self.object.read().await {
            Ok(found) => {
                let found = self.keep(found);
                let now = self.clock.now();
                self.election.refused(found, now);
                if self.election.tenure().is_none() {
                    tracing::warn!(leader = self.election.leader(), "somebody else took the lease");
                }
                self.show();
            }
            Err(why) => {
                self.election.missed(self.clock.now(), RETRY);
                self.complain(why);
            }
        }
    }

    /// Ends the term, and lets others have the lease at once.
    async fn give_back(&mut self) {
        let held = self.election.renewal().filter(|_| self.election.tenure().is_some());
        self.election.lose(self.clock.now());
        self.show();
        let Some(Bid { over: Some(version), .. }) = held else { return };
        let renewed = micro_time(clock::wall());
        // As others write it, so that they all take it for free.
        let claim = Claim { holder: None, renewed: Some(renewed.clone()), duration: Span::from_secs(1) };
        let bid = Bid { over: Some(version), takes: false };
        let write = self.object.write(&bid, &claim, &renewed, self.last.as_ref());
        match tokio::time::timeout(RELEASE_LIMIT, write).await {
            Ok(Ok(_)) => tracing::info!("the lease is given back"),
            Ok(Err(why)) => tracing::warn!(?why, "the lease could not be given back: it runs out"),
            Err(_) => tracing::warn!("the lease could not be given back in time: it runs out"),
        }
    }

    fn keep(&mut self, found: Option<(Found, DynamicObject)>) -> Option<Found> {
        let (found, object) = found?;
        self.last = Some(object);
        Some(found)
    }

    fn show(&self) {
        self.tenure.show(self.election.tenure(), self.election.leader());
    }

    fn complain(&mut self, why: String) {
        if self.trouble.as_ref() != Some(&why) {
            tracing::warn!(%why, "the lease can't be reached");
            self.trouble = Some(why);
        }
    }

    fn all_well(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("the lease can be reached again");
        }
    }
}

/// A name that no other process has or had: the pod's, for people, and what makes it unique.
#[must_use]
pub fn identity(pod: &str, process: u32, at: Timestamp) -> String {
    format!("{pod}_{process:x}-{:x}", at.as_millis())
}
