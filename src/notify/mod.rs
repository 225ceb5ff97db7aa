//! Telling people: the outbox is drained to webhooks, Slack, PagerDuty and Alertmanager.
//!
//! A message is sent until it arrives or its schedule is exhausted, under one id, and of each incident a receiver gets
//! one message after another. [`drain()`] does that from the outbox; [`pager()`] is for the time when the outbox
//! can't be written. No secret, URL or credential is in any error, since errors are kept and shown.

mod drain;
mod pager;
pub mod receiver;
pub mod schedule;
mod sender;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use drain::drain;
pub use pager::{DirectPager, PAGE_QUEUE, pager, tell_at_once};
pub use sender::{Attempt, REQUEST_DEADLINE, Sender};

use crate::config::model::Receiver;
use crate::domain::id::ReceiverName;
use crate::domain::time::Timestamp;

/// Gives the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The two clocks that telling needs.
#[derive(Clone)]
pub struct Clocks {
    /// The daemon's own timeline, by which records and retries are timed.
    pub timeline: Clock,
    /// The wall clock, which receivers compare with theirs: a signature that seems old is refused.
    pub wall: Clock,
}

/// The receivers of a policy.
pub type Receivers = Arc<BTreeMap<ReceiverName, Receiver>>;
