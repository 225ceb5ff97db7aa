//! What is shared and can't be read. Nothing is written over it, and whose it is, is held until a human has put it right or
//! deleted it; all others go on. Where nobody can tell whose it is, nobody can tell who is safe, and nothing is recorded.

use std::collections::BTreeMap;

use super::maps::Read;
use super::{Books, Shared};
use crate::domain::id::WorkloadId;
use crate::engine::ports::JournalError;

/// Workloads whose shared record can't be read, and why, in one line that names the ConfigMap.
pub type Withheld = BTreeMap<WorkloadId, String>;

/// What could not be read as the term began, by its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Unreadable(BTreeMap<String, Found>);

#[derive(Clone, Debug)]
struct Found {
    /// Whose it is, where that is known.
    owner: Option<WorkloadId>,
    /// What is wrong with it.
    why: String,
}

impl Unreadable {
    pub(super) fn of(read: &[Read], owner: impl Fn(&Read) -> Option<WorkloadId>) -> Self {
        let unreadable = read.iter().filter_map(|read| {
            let why = read.copy.as_ref().err()?.clone();
            Some((read.name.clone(), Found { owner: owner(read), why }))
        });
        Self(unreadable.collect())
    }

    pub(super) fn withheld(&self) -> Withheld {
        let owned = self.0.iter().filter_map(|(name, found)| Some((found.owner.clone()?, line(name, &found.why))));
        owned.collect()
    }

    /// Why nothing can be recorded.
    pub(super) fn refuse_all(&self) -> Result<(), JournalError> {
        let Some((name, found)) = self.0.iter().find(|(_, found)| found.owner.is_none()) else { return Ok(()) };
        Err(JournalError(format!("{}; its name is that of no workload that is known", line(name, &found.why))))
    }
}

/// In one line.
pub(super) fn line(name: &str, why: &str) -> String {
    format!("the ConfigMap {name} can't be read: {why}; put it right or delete it")
}

impl Shared {
    /// The workload whose record this is: by its own word, or by its name.
    pub(super) fn owner(&self, read: &Read, known: &[WorkloadId]) -> Option<WorkloadId> {
        let by_name = || known.iter().find(|workload| self.maps.name(workload) == read.name);
        read.workload.clone().or_else(|| by_name().cloned())
    }
}

impl Books {
    /// Looks again at what could not be read as the term began. Where it can be now, is gone, or is that of one of the `known`
    /// by now, the term ends, and the next one begins with what is there.
    ///
    /// # Errors
    /// [`JournalError`] where it can't be looked at, or this replica does not lead.
    pub async fn look_again(&self, known: &[WorkloadId]) -> Result<(), JournalError> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let unreadable = shared.unreadable.lock().await.clone();
        for (name, Found { owner, .. }) in unreadable.0 {
            let term = shared.term()?;
            let found = shared.maps.read(&name).await.map_err(JournalError)?;
            let is_gone = found.as_ref().is_none_or(|found| !found.is_listed);
            let is_as_before = |found: &Read| found.copy.is_err() && shared.owner(found, known) == owner;
            if owner.is_none() && is_gone {
                tracing::info!(name, "what nobody could tell whose it is, is gone");
                shared.unreadable.lock().await.0.remove(&name);
            } else if !found.as_ref().is_some_and(is_as_before) {
                tracing::info!(name, "what could not be read has changed: what is on record is read anew");
                shared.leadership.forfeit(term);
                return Ok(());
            }
        }
        Ok(())
    }
}
