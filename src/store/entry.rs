//! How entries are written down: JSON with a digest, since SQLite notices a flipped bit in its own pages' structure but
//! not in what they hold.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::error::StoreError;

/// An entry as it is stored.
pub(super) struct Written {
    /// JSON.
    pub(super) body: String,
    /// Of key and body.
    pub(super) digest: [u8; 32],
}

/// `key` names the entry, so that no sound body can stand in another's place.
pub(super) fn write<T: Serialize>(key: &str, value: &T) -> Result<Written, StoreError> {
    let body =
        serde_json::to_string(value).map_err(|source| StoreError::Unwritable { what: key.to_owned(), source })?;
    let digest = digest(key, &body);
    Ok(Written { body, digest })
}

/// The value that was written under `key`.
pub(super) fn read<T: DeserializeOwned>(key: &str, body: &str, stored: &[u8]) -> Result<T, StoreError> {
    let damaged = |why: String| StoreError::Damaged { what: key.to_owned(), why };
    if digest(key, body)[..] != *stored {
        return Err(damaged("its digest does not fit".to_owned()));
    }
    serde_json::from_str(body).map_err(|e| damaged(e.to_string()))
}

fn digest(key: &str, body: &str) -> [u8; 32] {
    Sha256::new().chain_update(key).chain_update([0]).chain_update(body).finalize().into()
}

/// The key of a record.
pub(super) fn record_key(workload: &str, sequence: i64) -> String {
    format!("record {sequence} of {workload}")
}

/// The key of a snapshot.
pub(super) fn snapshot_key(workload: &str, sequence: i64) -> String {
    format!("snapshot {sequence} of {workload}")
}

/// The key of a message.
pub(super) fn message_key(id: &str) -> String {
    format!("message {id}")
}

/// SQLite's integers are signed; counts of ours never come near the end of them.
pub(super) fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A stored count.
pub(super) fn count(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
