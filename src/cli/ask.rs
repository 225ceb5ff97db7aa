//! The operator's hand: commands that change something, through the running daemon.

use std::time::Duration;

use serde_json::json;

use super::client::{Client, Failure};
use super::{DaemonArgs, NO, YES, print};
use crate::domain::controller::{Accepted, WorkloadView};
use crate::domain::incident::alert::Phase;

/// Time between two looks at a rollback that is waited for.
const POLL: Duration = Duration::from_millis(500);

/// A preflight, the steps and the proof have their own deadlines; this bounds the wait of the command line.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

pub(crate) fn pause(workload: &str, reason: Option<&str>, daemon: &DaemonArgs) -> u8 {
    simple(&["workloads", workload, "pause"], &because(reason), daemon)
}

pub(crate) fn resume(workload: &str, daemon: &DaemonArgs) -> u8 {
    simple(&["workloads", workload, "resume"], &json!({}), daemon)
}

pub(crate) fn approve(incident: &str, to: Option<&str>, daemon: &DaemonArgs) -> u8 {
    let body = to.map_or_else(|| json!({}), |to| json!({ "to": to }));
    simple(&["incidents", incident, "approve"], &body, daemon)
}

pub(crate) fn reject(incident: &str, reason: Option<&str>, daemon: &DaemonArgs) -> u8 {
    simple(&["incidents", incident, "reject"], &because(reason), daemon)
}

pub(crate) fn trigger(workload: &str, kind: &str, reason: &str, daemon: &DaemonArgs) -> u8 {
    simple(&["triggers"], &json!({ "workload": workload, "kind": kind, "reason": reason }), daemon)
}

/// A request's body: the reason, where one was given.
fn because(reason: Option<&str>) -> serde_json::Value {
    reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }))
}

fn simple(path: &[&str], body: &serde_json::Value, daemon: &DaemonArgs) -> u8 {
    print::finish(async {
        let accepted: Accepted = Client::new(daemon)?.post(path, body).await?;
        Ok(answer(&accepted, daemon.json))
    })
}

fn answer(accepted: &Accepted, as_json: bool) -> u8 {
    if as_json {
        return print::json(accepted);
    }
    match &accepted.incident {
        Some(incident) => print::line(&format!("{}: {}", incident, accepted.message)),
        None => print::line(&accepted.message),
    }
    YES
}

pub(crate) fn rollback(
    workload: &str,
    reason: &str,
    to: Option<&str>,
    force: &[String],
    no_wait: bool,
    daemon: &DaemonArgs,
) -> u8 {
    print::finish(async {
        let client = Client::new(daemon)?;
        let body = json!({ "reason": reason, "to": to, "force": force });
        let accepted: Accepted = client.post(&["workloads", workload, "rollback"], &body).await?;
        match &accepted.incident {
            Some(incident) if !no_wait => {
                // One document and no more: the incident as it ended says what was accepted as well.
                if !daemon.json {
                    answer(&accepted, false);
                }
                wait(&client, workload, incident.as_str(), daemon.json).await?;
                tell_end(&client, incident.as_str(), daemon.json).await
            }
            Some(_) | None => Ok(answer(&accepted, daemon.json)),
        }
    })
}

/// Follows an incident until it is over, or a human must take over.
async fn wait(client: &Client, workload: &str, incident: &str, as_json: bool) -> Result<(), Failure> {
    let mut shown = None;
    let began = tokio::time::Instant::now();
    while began.elapsed() < LONGEST_WAIT {
        let view: WorkloadView = client.get(&["workloads", workload], &[]).await?;
        let Some(open) = view.incident.filter(|open| open.incident.as_str() == incident) else { return Ok(()) };
        if shown != Some(open.phase) && !as_json {
            print::line(&format!("{}: {}", open.phase, open.hold.map_or(open.cause, |hold| hold.to_string())));
        }
        shown = Some(open.phase);
        if open.phase == Phase::Escalated {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// How an incident ended, or where it is: restored is a success, everything else is not.
async fn tell_end(client: &Client, incident: &str, as_json: bool) -> Result<u8, Failure> {
    let report: serde_json::Value = client.get(&["incidents", incident, "report"], &[("format", "json")]).await?;
    let outcome = report.get("outcome").and_then(serde_json::Value::as_str).unwrap_or("unknown").to_owned();
    if as_json {
        print::json(&report);
    } else {
        print::line(&format!("{incident}: {outcome}"));
    }
    Ok(if outcome == "restored" { YES } else { NO })
}
