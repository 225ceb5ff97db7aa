//! One log line where something that was seen is seen no longer, and one where it is back.

use super::room::Lane;
use crate::domain::id::WorkloadId;
use crate::domain::observation::{Fault, FaultKind};

/// How the looks at one thing have gone so far.
#[derive(Debug)]
pub(super) struct Outlook {
    workload: WorkloadId,
    /// What is looked at, and where.
    what: String,
    is_new: bool,
    last: Option<FaultKind>,
}

impl Outlook {
    pub(super) fn new(workload: &WorkloadId, what: String) -> Self {
        Self { workload: workload.clone(), what, is_new: true, last: None }
    }

    /// Where the next look finds its room. A peer that drops packets, or a name that nobody resolves, uses up its time as
    /// one does that never answers, and so may a file that is needed to ask.
    pub(super) const fn lane(&self) -> Lane {
        match self.last {
            _ if self.is_new => Lane::New,
            Some(FaultKind::Timeout | FaultKind::Unreachable | FaultKind::Local) => Lane::Slow,
            _ => Lane::Usual,
        }
    }

    /// Notes how a look ended; says so where that is another end than the last time.
    pub(super) fn note(&mut self, fault: Option<&Fault>) {
        self.is_new = false;
        let kind = fault.map(|fault| fault.kind);
        if kind == self.last {
            return;
        }
        self.last = kind;
        match fault {
            Some(fault) => tracing::warn!(workload = %self.workload, what = self.what, %fault, "out of sight"),
            None => tracing::info!(workload = %self.workload, what = self.what, "in sight again"),
        }
    }
}
