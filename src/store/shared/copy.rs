//! What lies in the cluster of one workload: enough for another replica to go on, to tell what was not told, and to keep
//! the history.
//!
//! It is a state, the records since, and which messages of these records have not arrived yet. Folding the records gives
//! the present state and every message again, word by word, as after a restart. Once nothing is open and everything is
//! told, the next record begins a new copy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::id::{ReceiverName, WorkloadId};
use crate::domain::incident::alert::Alert;
use crate::domain::incident::narrate;
use crate::domain::incident::record::Record;
use crate::domain::incident::state::{Applied, Illegal, WorkloadState};
use crate::engine::ports::Notice;

/// Most bytes of records: a ConfigMap holds a mebibyte, and the state is at most about 200 KiB of it. An ordinary
/// incident has 20 to 60 KiB.
const RECORDS_LIMIT: usize = 512 * 1024;

/// A message that has not arrived yet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Untold {
    /// The message's id.
    pub(crate) message: String,
    /// Whom it is for.
    pub(crate) receiver: ReceiverName,
}

/// One workload's copy.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Copy {
    pub(crate) workload: WorkloadId,
    /// The state before the first of the records.
    pub(crate) base: WorkloadState,
    /// In order, without gaps.
    pub(crate) records: Vec<Record>,
    /// In the order in which they are to be told.
    pub(crate) untold: Vec<Untold>,
}

impl Copy {
    pub(crate) const fn new(workload: WorkloadId, base: WorkloadState) -> Self {
        Self { workload, base, records: Vec::new(), untold: Vec::new() }
    }

    /// The state after all records.
    pub(crate) fn state(&self) -> Result<WorkloadState, Illegal> {
        let mut state = self.base.clone();
        for record in &self.records {
            state.apply(record)?;
        }
        Ok(state)
    }

    /// Whether these records are in it already.
    pub(crate) fn holds(&self, records: &[Record]) -> bool {
        let is_in = |record: &Record| {
            let position = record.sequence.checked_sub(self.base.sequence + 1);
            let position = position.and_then(|position| usize::try_from(position).ok());
            position.and_then(|position| self.records.get(position)) == Some(record)
        };
        // What was folded away again, to keep the copy small, was in it.
        records.iter().all(|record| record.sequence <= self.base.sequence || is_in(record))
    }

    /// The copy with more records, and with the messages that they cause.
    pub(crate) fn with(&self, records: &[Record], notices: &[Notice]) -> Result<Self, Illegal> {
        let mut next = self.clone();
        let state = self.state()?;
        if state.incident.is_none() && self.untold.is_empty() {
            next.base = state;
            next.records.clear();
        }
        next.records.extend(records.iter().cloned());
        for notice in notices {
            let untold =
                |receiver: &ReceiverName| Untold { message: notice.alert.id.clone(), receiver: receiver.clone() };
            next.untold.extend(notice.receivers.iter().map(untold));
        }
        next.state()?;
        next.shrink(RECORDS_LIMIT)?;
        Ok(next)
    }

    /// Notes that a message has arrived, or will never be sent again; whether that is news.
    pub(crate) fn tell(&mut self, message: &str, receiver: &ReceiverName) -> bool {
        let before = self.untold.len();
        self.untold.retain(|untold| untold.message != message || untold.receiver != *receiver);
        self.untold.len() < before
    }

    /// Every message of the records, by its id.
    pub(crate) fn alerts(&self) -> Result<BTreeMap<String, Alert>, Illegal> {
        let mut state = self.base.clone();
        let mut alerts = BTreeMap::new();
        for record in &self.records {
            if let Applied::Transition(incident) = state.apply(record)? {
                let alert = narrate::alert(&self.workload, &incident, &record.event);
                alerts.insert(alert.id.clone(), alert);
            }
        }
        Ok(alerts)
    }

    /// Folds the oldest records into the state until the rest is small enough. What is lost is what they tell beyond the
    /// state: that part of another replica's history, and messages of theirs that did not arrive.
    fn shrink(&mut self, limit: usize) -> Result<(), Illegal> {
        let mut sizes: Vec<usize> = self.records.iter().map(|record| line(record).len() + 1).collect();
        let mut size: usize = sizes.iter().sum();
        if size <= limit {
            return Ok(());
        }
        let mut folded = 0;
        while size > limit && folded < sizes.len() {
            let record = self.records.remove(0);
            if let Applied::Transition(incident) = self.base.apply(&record)? {
                let lost = narrate::alert(&self.workload, &incident, &record.event).id;
                self.untold.retain(|untold| untold.message != lost);
            }
            size -= sizes.get(folded).copied().unwrap_or(0);
            folded += 1;
        }
        sizes.clear();
        tracing::warn!(workload = %self.workload, records = folded, "the copy in the cluster is full: its oldest records are folded into the state, another replica's history will lack them");
        Ok(())
    }

    /// As a ConfigMap holds it.
    pub(crate) fn encode(&self) -> Result<BTreeMap<&'static str, String>, serde_json::Error> {
        let records: String = self.records.iter().map(|record| line(record) + "\n").collect();
        Ok(BTreeMap::from([
            (WORKLOAD, self.workload.as_str().to_owned()),
            (STATE, serde_json::to_string(&self.base)?),
            (RECORDS, records),
            (UNTOLD, serde_json::to_string(&self.untold)?),
        ]))
    }

    /// From a ConfigMap. Records that can't be followed are an error: nobody should go by half of it.
    pub(crate) fn decode<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, String> {
        let part = |key: &str| get(key).ok_or_else(|| format!("it has no `{key}`"));
        let wrong = |key: &str, error: serde_json::Error| format!("`{key}` can't be read: {error}");
        let records = part(RECORDS)?.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        let copy = Self {
            workload: WorkloadId::new(part(WORKLOAD)?),
            base: serde_json::from_str(part(STATE)?).map_err(|error| wrong(STATE, error))?,
            records: records.map_err(|error| wrong(RECORDS, error))?,
            untold: serde_json::from_str(part(UNTOLD)?).map_err(|error| wrong(UNTOLD, error))?,
        };
        copy.state().map_err(|illegal| illegal.to_string())?;
        Ok(copy)
    }
}

pub(super) const WORKLOAD: &str = "workload";
const STATE: &str = "state";
const RECORDS: &str = "records";
const UNTOLD: &str = "untold";

/// A record as one line. One that can't be written is none that could have been read.
fn line(record: &Record) -> String {
    serde_json::to_string(record).unwrap_or_default()
}

#[cfg(test)]
mod tests;
