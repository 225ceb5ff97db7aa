//! An incident from first suspicion to closing report.

pub mod alert;
pub mod grounds;
pub mod ledger;
pub mod narrate;
pub mod record;
pub mod recording;
pub mod report;
pub mod state;
