//! What the engine needs from its edges, as traits that the edges implement.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::domain::id::{ReceiverName, WorkloadId};
use crate::domain::incident::alert::Alert;
use crate::domain::incident::record::Record;
use crate::domain::incident::recording::{Recording, Wanted};
use crate::domain::policy::{Habitat, Owner, SmokeTest, WorkloadPolicy};
use crate::domain::response::plan::{Finding, Outcome, Plan, StepKind};
use crate::domain::settings::{ContentId, Setting, ToKeep};
use crate::domain::time::{Span, Timestamp};

/// Records of one workload or of several, and the notices that they cause, committed together or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// In order.
    pub records: Vec<Record>,
    /// In order; each goes to every receiver that it names.
    pub notices: Vec<Notice>,
}

impl Batch {
    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.notices.is_empty()
    }
}

/// A message and whom it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// What is told.
    pub alert: Alert,
    /// To whom.
    pub receivers: Vec<ReceiverName>,
}

/// The durable record. When `commit` returns, the batch survives a power cut.
pub trait Journal: Send + Sync + 'static {
    /// Writes a batch in one transaction.
    fn commit(&self, batch: Batch) -> impl Future<Output = Result<(), NotCommitted>> + Send;

    /// Writes something that says nothing, durably: whether a batch could be written now.
    fn probe(&self) -> impl Future<Output = Result<(), JournalError>> + Send;
}

/// Why a batch was not committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotCommitted {
    /// The journal could not be written; the same batch may be written later.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What the batch has of one workload can never be written. What it has of others can.
    #[error("{why}")]
    Refused {
        /// Whose.
        workload: WorkloadId,
        /// Why, in one line.
        why: String,
    },
}

/// Why the journal could not be written. Nothing of the batch counts until the same batch is written whole: another replica
/// may find some workloads' part of it, as it does where this one is killed in the middle.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the journal could not be written: {0}")]
pub struct JournalError(pub String);

/// A message on its way to one receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The message's id.
    pub id: String,
    /// The message, or why it can't be read any more.
    pub alert: Result<Box<Alert>, String>,
    /// Attempts made so far.
    pub attempts: u32,
}

/// How an attempt ended, to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The message's id.
    pub id: String,
    /// To whom.
    pub receiver: ReceiverName,
    /// When the attempt ended.
    pub at: Timestamp,
    /// Attempts made, this one included.
    pub attempts: u32,
    /// How.
    pub outcome: Settled,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It arrived.
    Sent,
    /// It did not, and is tried again.
    Again {
        /// Not before this, unless the receiver shows before that it is well.
        at: Timestamp,
        /// The receiver itself asked to be left alone until then, whatever else it takes.
        asked: Option<Timestamp>,
        /// Why it did not arrive.
        error: String,
    },
    /// It is never tried again.
    Parked {
        /// Why.
        why: String,
    },
}

/// The durable queue of messages. Of each incident, each receiver gets one after another, in order.
pub trait Outbox: Send + Sync + 'static {
    /// At most `limit` messages that this receiver is to be sent now: of each incident the first that is neither sent
    /// nor parked, where its time has come.
    fn due(
        &self,
        receiver: &ReceiverName,
        now: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Delivery>, JournalError>> + Send;

    /// When the next message of this receiver is to be sent; none where nothing waits.
    fn next_due(&self, receiver: &ReceiverName)
    -> impl Future<Output = Result<Option<Timestamp>, JournalError>> + Send;

    /// Keeps how attempts ended, all of them or none.
    fn settle(&self, settlements: Vec<Settlement>) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// What waits for long to be tried again is due at once, since the receiver takes messages again; but for what it asked to wait
    /// with.
    fn hasten(&self, receiver: &ReceiverName, now: Timestamp) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// What waits for receivers other than these goes to these, where none of them has it, and is parked where none gets it.
    /// Where there are none at all it waits, for a bounded time. Gives the number of deliveries concerned.
    fn park_others(
        &self,
        known: Vec<ReceiverName>,
        at: Timestamp,
        why: String,
    ) -> impl Future<Output = Result<u64, JournalError>> + Send;

    /// Changes whenever messages were committed.
    fn committed(&self) -> watch::Receiver<u64>;
}

/// Whatever changes the world. Every call is compare-and-set, or safe to repeat.
pub trait Actuator: Send + Sync + 'static {
    /// Looks whether a plan could be carried out, changing nothing. One that is a trial puts back what is in place.
    fn preflight(&self, policy: &WorkloadPolicy, plan: &Plan) -> impl Future<Output = Vec<Finding>> + Send;

    /// Looks, changing nothing, at what may be missing while all is well: each right that the policy needs, whatever the
    /// plan, those to pause these owners and to put these settings back included, and room for what this one starts. What it
    /// finds stops no rollback.
    fn survey(
        &self,
        policy: &WorkloadPolicy,
        plan: Option<&Plan>,
        owners: &[Owner],
        settings: &[Setting],
    ) -> impl Future<Output = Vec<Finding>> + Send;

    /// An operator has paused a workload, or lets it go on: what a step that is under way would do again is not begun then.
    fn hold(&self, _workload: &WorkloadId, _is_held: bool) {}

    /// Does one step within `timeout`. Not called for gates.
    fn execute(&self, workload: &WorkloadId, step: &StepKind, timeout: Span) -> impl Future<Output = Outcome> + Send;

    /// Keeps what there is to see of a release that went bad, changing nothing, within [`RECORDING_LIMIT`]. What can't be had
    /// is said in it.
    ///
    /// [`RECORDING_LIMIT`]: crate::domain::incident::recording::RECORDING_LIMIT
    fn record(&self, policy: &WorkloadPolicy, wanted: &Wanted) -> impl Future<Output = Recording> + Send;

    /// Keeps what a release names, changing nothing in the world: of each setting that could not be kept, why.
    ///
    /// # Errors
    /// Why nothing could be kept.
    fn keep(
        &self,
        workload: &WorkloadId,
        wanted: &ToKeep,
    ) -> impl Future<Output = Result<BTreeMap<Setting, String>, String>> + Send;

    /// Runs the smoke test: whether it passed, with its exit status and the end of its output.
    fn smoke(
        &self,
        workload: &WorkloadId,
        habitat: &Habitat,
        smoke: &SmokeTest,
    ) -> impl Future<Output = (bool, String)> + Send;
}

/// What is kept of workloads' settings, by their content. What it is made of is its keeper's business.
pub trait Shelf: std::fmt::Debug + Send + Sync + 'static {
    /// Adds contents to those of a workload, and lets go of those that are not needed any more, where that is said.
    fn put(
        &self,
        workload: WorkloadId,
        contents: BTreeMap<ContentId, Vec<u8>>,
        needed: Option<BTreeSet<ContentId>>,
    ) -> BoxFuture<'_, Result<(), JournalError>>;

    /// Finds one of a workload's contents, wherever it was put.
    fn find(&self, workload: WorkloadId, content: ContentId) -> BoxFuture<'_, Result<Option<Vec<u8>>, JournalError>>;
}

/// Which of several daemons that watch the same acts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// There is no other.
    Alone,
    /// This one, for a term: a number that no other of this daemon's terms has.
    Leader {
        /// The term.
        term: u64,
    },
    /// Another one; who, where that is known.
    Standby {
        /// The other's identity.
        leader: Option<String>,
    },
}

impl Role {
    /// In a word.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Role::Alone => "alone",
            Role::Leader { .. } => "leader",
            Role::Standby { .. } => "standby",
        }
    }

    /// The term for which this daemon acts; none while it does not.
    #[must_use]
    pub const fn term(&self) -> Option<u64> {
        match self {
            Role::Alone => Some(0),
            Role::Leader { term } => Some(*term),
            Role::Standby { .. } => None,
        }
    }
}

/// Who acts. Asked before every effect, so the answer is of this very moment.
pub trait Leadership: Send + Sync + 'static {
    /// The role that this daemon surely has now.
    fn role(&self) -> Role;

    /// Who acts, as far as is known; none where this daemon is alone.
    fn leader(&self) -> Option<String>;

    /// Ends a term before its time: what is on record is not what this daemon goes by.
    fn forfeit(&self, term: u64);
}

/// A daemon that has no other beside it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Leadership for Alone {
    fn role(&self) -> Role {
        Role::Alone
    }

    fn leader(&self) -> Option<String> {
        None
    }

    fn forfeit(&self, _: u64) {}
}

/// Where and how often to look.
pub trait Looks: Send + Sync + 'static {
    /// Looks at a workload more often, or as its policy says again.
    fn pace(&self, workload: &WorkloadId, fast: bool);

    /// Looks at which releases are in place now, without waiting for the next round.
    fn nudge(&self, workload: &WorkloadId);
}

/// Tells people without the outbox, for when the outbox can't be written. Best effort; never blocks.
pub trait Pager: Send + Sync + 'static {
    /// Sends at once.
    fn page(&self, notice: Notice);
}

/// Is told of everything that became durable: metrics, logs, event streams. Never blocks.
pub trait Witness: Send + Sync + 'static {
    /// A batch is in the journal.
    fn committed(&self, batch: &Batch);

    /// The journal broke, or works again (`None`).
    fn journal(&self, error: Option<&JournalError>);

    /// What is judged now was seen so long ago.
    fn lag(&self, _lag: Span) {}
}
