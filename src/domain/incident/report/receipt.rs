//! Who got which message.

use serde::Serialize;

use crate::domain::id::ReceiverName;
use crate::domain::time::Timestamp;

/// What became of a message on its way to one receiver.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Receipt {
    /// To whom.
    pub receiver: ReceiverName,
    /// Where it is.
    pub state: ReceiptState,
    /// When it was delivered or given up; none while it is tried.
    pub at: Option<Timestamp>,
    /// Attempts so far.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// Where a message is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReceiptState {
    /// It waits, or is tried again.
    Waiting,
    /// The receiver has it.
    Delivered,
    /// It is not tried any more.
    GivenUp,
}
