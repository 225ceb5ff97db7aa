//! What the ConfigMaps are called in which replicas share what they record: whoever grants the rights to them by name has to
//! know.

use sha2::{Digest, Sha256};

use crate::domain::id::WorkloadId;

/// Characters of a workload's name in a ConfigMap's.
const NAME_LIMIT: usize = 60;

/// Ends the name of the ConfigMap for settings.
const SUFFIX: &str = "-kept";

/// Holds a workload's record, of daemons that share this Lease. The workload's name is for people, the digest makes it its
/// own.
#[must_use]
pub fn record_name(lease: &str, workload: &WorkloadId) -> String {
    let fits = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let name: String = workload.as_str().to_lowercase().chars().map(fits).take(NAME_LIMIT).collect();
    let digest = Sha256::digest(workload.as_str());
    let digest: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{lease}-{name}-{digest}")
}

/// Holds what is kept of the settings that a workload's releases name, beside a record of this name.
#[must_use]
pub fn kept_name(record: &str) -> String {
    format!("{record}{SUFFIX}")
}
