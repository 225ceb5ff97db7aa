//! `rollbackd explain --replay INCIDENT`: a past decision made again, from its records alone.

use anyhow::anyhow;
use serde::{Deserialize, Serialize};

use super::client::{Client, Failure};
use super::{DaemonArgs, NO, YES, print};
use crate::domain::incident::grounds::{self, Again};
use crate::domain::incident::record::Record;

/// What the daemon tells of an incident, as far as it matters here.
#[derive(Deserialize)]
struct Told {
    records: Vec<Record>,
}

#[derive(Serialize)]
struct Answer<'a> {
    incident: &'a str,
    /// Whether every decision that could be made again comes out as it was.
    same: bool,
    /// Decisions of which it is not on record what they were made from.
    unknown: usize,
    decisions: Vec<Again>,
}

pub(crate) fn again(incident: &str, daemon: &DaemonArgs) -> u8 {
    print::finish(async {
        let told: Told = Client::new(daemon)?.get(&["incidents", incident], &[]).await?;
        let decisions = grounds::again(&told.records);
        let unknown = decisions.iter().filter(|decision| decision.differences.is_none()).count();
        if unknown == decisions.len() {
            let error = anyhow!("{incident}: no record holds what was decided from");
            return Err(Failure { code: NO, error });
        }
        let same = decisions.iter().all(|decision| decision.differences.as_ref().is_none_or(Vec::is_empty));
        if daemon.json {
            print::json(&Answer { incident, same, unknown, decisions });
        } else {
            decisions.iter().for_each(tell);
        }
        Ok(if same { YES } else { NO })
    })
}

fn tell(decision: &Again) {
    print::line(&print::clean(&format!("{}  {}", decision.at, decision.decided)));
    match decision.differences.as_deref() {
        Some([]) => print::line("    same decision"),
        Some(differences) => {
            for difference in differences {
                print::line(&print::clean(&format!("    differs: {difference}")));
            }
        }
        None => print::line("    what it was decided from is not on record"),
    }
}
