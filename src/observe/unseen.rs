//! What nobody can look at: said once an interval, as of a workload whose releases can't be read.

use std::sync::Arc;
use std::time::Duration;

use super::change::Outlook;
use super::duty::{Due, Duty};
use super::shared::Shared;
use crate::domain::id::WorkloadId;
use crate::domain::observation::{Fault, FaultKind, Seen};

/// Says why.
#[derive(Debug)]
pub(super) struct Unseen {
    fault: Fault,
    outlook: Outlook,
    shared: Arc<Shared>,
}

impl Unseen {
    pub(super) fn new(workload: &WorkloadId, why: String, shared: Arc<Shared>) -> Self {
        let fault = Fault { kind: FaultKind::Local, detail: why };
        Self { fault, outlook: Outlook::new(workload, "what it selects".to_owned()), shared }
    }
}

impl Duty for Unseen {
    async fn look(&mut self, _due: Due) -> Vec<Seen> {
        self.shared.stats.releases.note(Some(self.fault.kind), Duration::ZERO);
        self.outlook.note(Some(&self.fault));
        vec![Seen::Releases(Err(self.fault.clone()))]
    }
}
