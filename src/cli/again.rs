//! `rollbackd explain --replay INCIDENT`: a past decision made again, from its records alone.

use anyhow::anyhow;
use serde::{Deserialize, Serialize};

use super::client::{Client, Failure};
use super::{DaemonArgs, NO, YES, print};
use crate::domain::incident::grounds::{self, Again};
use crate::domain::incident::record::Record;
use crate::http::MOST_INCIDENTS;

/// Incidents named where there is none of the name that was given.
const NAMED: usize = 8;

/// What the daemon tells of an incident, as far as it matters here.
#[derive(Deserialize)]
struct Told {
    records: Vec<Record>,
}

/// One of the incidents that there are.
#[derive(Deserialize)]
struct Listed {
    incident: String,
    workload: String,
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
        let client = Client::new(daemon)?;
        let told: Told = match client.get(&["incidents", incident], &[]).await {
            Err(failure) if failure.is_not_found() => {
                return Err(with_those_there_are(&client, incident, failure).await);
            }
            told => told?,
        };
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

/// What there is of this workload, or begins so, else the newest: an incident goes by its whole name here.
async fn with_those_there_are(client: &Client, sought: &str, failure: Failure) -> Failure {
    let limit = MOST_INCIDENTS.to_string();
    let Ok(all) = client.get::<Vec<Listed>>(&["incidents"], &[("limit", &limit)]).await else { return failure };
    let is_near = |one: &&Listed| one.workload == sought || one.incident.starts_with(sought);
    let near: Vec<&Listed> = all.iter().filter(is_near).collect();
    let near = if near.is_empty() { all.iter().collect() } else { near };
    let named: Vec<&str> = near.iter().take(NAMED).map(|one| one.incident.as_str()).collect();
    let more = near.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let there_is = if named.is_empty() { "none yet".to_owned() } else { named.join(", ") };
    let Failure { code, error } = failure;
    Failure { code, error: anyhow!("{error}; there is {there_is}{more}") }
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
