//! Now, the past, and why.

use std::collections::BTreeSet;

use anyhow::anyhow;
use serde_json::Value;

use super::client::{Client, Failure};
use super::{DaemonArgs, NO, ReportFormat, YES, print, table};
use crate::config::suggest;
use crate::domain::controller::{Explanation, Standby, WorkloadView};
use crate::domain::health::survey::SignalSource;
use crate::domain::health::verdict::{Assessment, Evidence, TriggerState, Verdict};
use crate::domain::incident::recording::Brief;
use crate::domain::incident::state::Pause;
use crate::domain::response::readiness::{self, Met, Readiness};
use crate::domain::units::Finite;

pub(crate) fn status(workload: Option<&str>, daemon: &DaemonArgs) -> u8 {
    print::finish(async {
        let client = Client::new(daemon)?;
        let views: Vec<WorkloadView> = match workload {
            Some(name) => vec![client.get(&["workloads", name], &[]).await?],
            None => client.get(&["workloads"], &[]).await?,
        };
        if daemon.json {
            return Ok(match (workload, views.first()) {
                (Some(_), Some(view)) => print::json(view),
                _ => print::json(&views),
            });
        }
        standby(&client.get(&["leadership"], &[]).await?);
        standstill(&views);
        if let Ok(outbox) = client.get(&["outbox"], &[]).await {
            undelivered(&outbox);
        }
        match (workload, views.first()) {
            (Some(_), Some(view)) => in_detail(view),
            _ => overview(&views),
        }
        Ok(YES)
    })
}

/// Says who acts, where the replica that answers does not.
fn standby(leadership: &Value) {
    if leadership["role"] == "standby" {
        let leader = leadership["leader"].as_str().unwrap_or("nobody");
        print::line(&print::clean(&format!("this replica stands by: {leader} leads\n")));
    }
}

/// Says that people were not told, or not yet.
fn undelivered(outbox: &Value) {
    for late in outbox["undelivered"].as_array().into_iter().flatten() {
        if let [Some(receiver), Some(oldest), Some(why)] =
            ["receiver", "oldest_at", "why"].map(|key| late[key].as_str())
        {
            let many = &late["waiting"];
            let line = format!("messages not delivered to {receiver} yet: {many}, the oldest of {oldest}: {why}\n");
            print::line(&print::clean(&line));
        }
    }
    let last = &outbox["given_up"][0];
    if let [Some(message), Some(receiver), Some(why)] = ["message", "receiver", "why"].map(|key| last[key].as_str()) {
        let many = &outbox["parked"];
        let line = format!("messages that were given up: {many}, last {message} for {receiver}: {why}\n");
        print::line(&print::clean(&line));
    }
}

/// Says that nothing is begun, whatever the table below shows: for each workload where it is not the same for all.
fn standstill(views: &[WorkloadView]) {
    let is_for_all = views.windows(2).all(|two| two[0].standstill == two[1].standstill);
    let told = if is_for_all { views.get(..1).unwrap_or_default() } else { views };
    for (workload, still) in told.iter().filter_map(|view| Some((&view.workload, view.standstill.as_ref()?))) {
        let whose = if is_for_all { String::new() } else { format!("{workload}: ") };
        let line = format!("{whose}nothing is done since {}: {}\n", still.since, still.reason);
        print::line(&print::clean(&line));
    }
}

fn overview(views: &[WorkloadView]) {
    let mut table = table::new(&["WORKLOAD", "MODE", "RELEASE", "STATE", "ROLLBACK GOES TO"]);
    for view in views {
        table.add_row([
            view.workload.to_string(),
            view.mode.to_string(),
            view.release_in_words().unwrap_or_else(|| "unknown".to_owned()),
            state(view),
            rollback_goes_to(view),
        ]);
    }
    print::line(&print::clean(&table.to_string()));
}

fn rollback_goes_to(view: &WorkloadView) -> String {
    match (&view.goal, &view.no_goal) {
        (Some(goal), _) if view.could_be_rolled_back() => goal.revision.to_string(),
        (Some(goal), _) => {
            let lacks: Vec<&str> = readiness::lacks(&view.readiness).map(|(need, _)| need.as_str()).collect();
            format!("{}, but lacks: {}", goal.revision, lacks.join(", "))
        }
        (None, Some(hold)) => format!("nowhere: {hold}"),
        (None, None) => "nowhere".to_owned(),
    }
}

fn state(view: &WorkloadView) -> String {
    let paused = if view.paused.is_some() { ", paused" } else { "" };
    let idle = if view.standstill.is_some() { ", nothing is done" } else { "" };
    let state = match (&view.incident, &view.assessment.blind) {
        (Some(incident), _) => incident.phase.to_string(),
        (None, Some(_)) => "blind".to_owned(),
        (None, None) if view.is_release_unread() => "release unknown".to_owned(),
        (None, None) if view.assessment.healthy && view.current.is_some() => "healthy".to_owned(),
        (None, None) => "not judged yet".to_owned(),
    };
    format!("{state}{paused}{idle}")
}

fn in_detail(view: &WorkloadView) {
    overview(std::slice::from_ref(view));
    if let Some(Pause { by, reason, since }) = &view.paused {
        print::line(&print::clean(&format!("Paused by {by} since {since}: {reason}")));
    }
    for (need, why) in readiness::lacks(&view.readiness) {
        print::line(&print::clean(&format!("Could not be rolled back now: {need}: {why}")));
    }
    print::line("");
    triggers(&view.assessment);
    sources(&view.sources);
    if let Some(incident) = &view.incident {
        print::line(&print::clean(&format!("\n{} is {}: {}", incident.incident, incident.phase, incident.cause)));
        if let Some(hold) = &incident.hold {
            print::line(&print::clean(&format!("held: {hold}")));
        }
        recorded(incident.recorded.as_ref());
    }
    let mut table = table::new(&["RELEASE", "LAST CURRENT", "KNOWN GOOD SINCE", "TAKEN BACK", "ON DISK"]);
    for release in &view.releases {
        let standing = &release.standing;
        table.add_row([
            release.revision.to_string(),
            standing.last_current.to_string(),
            standing.known_good_since.map_or_else(|| "-".to_owned(), |at| at.to_string()),
            standing.taken_back.as_ref().map_or_else(|| "-".to_owned(), |(at, _)| at.to_string()),
            if view.is_release_unread() {
                "unknown"
            } else if release.available {
                "yes"
            } else {
                "no"
            }
            .to_owned(),
        ]);
    }
    print::line(&print::clean(&format!("\n{table}")));
}

/// Where the signals get their values from, where there are any that are read from pages.
fn sources(all: &[SignalSource]) {
    if !all.is_empty() {
        print::line(&print::clean(&format!("\n{}", table::sources(all))));
    }
}

fn triggers(assessment: &Assessment) {
    let mut table = table::new(&["TRIGGER", "STATE", "VALUE", "SAMPLES", "VERDICT", "FROM"]);
    for (name, trigger) in assessment.told() {
        let state = match trigger.state {
            TriggerState::Inactive => "inactive".to_owned(),
            TriggerState::Pending { held, .. } => format!("pending {} of {}", held.rounded(), trigger.hold_for),
            TriggerState::Firing { at, .. } => format!("firing since {at}"),
        };
        table.add_row(row(name, state, &trigger.evidence));
        for term in trigger.combined.iter().flat_map(|combined| &combined.terms) {
            table.add_row(row(format!("  {} {}", term.signal, term.bound_in_words()), String::new(), term));
        }
        if let Some(second) = &trigger.confirmation {
            let says = if second.unconfirmed().is_none() { "confirms" } else { "does not confirm" };
            let name = format!("  with {} {}", second.signal, second.bound_in_words());
            table.add_row(row(name, says.to_owned(), second));
        }
    }
    print::line(&print::clean(&table.to_string()));
}

/// Every signal's numbers, by no bound.
fn signals(all: &[Evidence]) {
    let mut table = table::new(&["SIGNAL", "VALUE", "INTERVAL", "SAMPLES", "WINDOW", "NEWEST", "UNKNOWN BECAUSE"]);
    for evidence in all {
        let show = |value: Finite| evidence.unit.format(value.get());
        let interval = evidence.interval.map(|(low, high)| format!("{} to {}", show(low), show(high)));
        let unknown = match &evidence.verdict {
            Verdict::Unknown(reason) => reason.to_string(),
            Verdict::Ok | Verdict::Breach => "-".to_owned(),
        };
        table.add_row([
            evidence.signal.to_string(),
            evidence.value.map_or_else(|| "-".to_owned(), show),
            interval.unwrap_or_else(|| "-".to_owned()),
            evidence.samples.to_string(),
            evidence.window.to_string(),
            evidence.newest.map_or_else(|| "-".to_owned(), |newest| newest.to_string()),
            unknown,
        ]);
    }
    print::line(&print::clean(&table.to_string()));
}

fn row(name: String, state: String, evidence: &Evidence) -> [String; 6] {
    [
        name,
        state,
        evidence.value.map_or_else(|| "-".to_owned(), |value| evidence.unit.format(value.get())),
        evidence.samples.to_string(),
        match &evidence.verdict {
            Verdict::Ok => "ok".to_owned(),
            Verdict::Breach => "breach".to_owned(),
            Verdict::Unknown(reason) => format!("unknown: {reason}"),
        },
        evidence.convention.clone().unwrap_or_else(|| "policy".to_owned()),
    ]
}

pub(crate) fn explain(subject: &str, daemon: &DaemonArgs) -> u8 {
    print::finish(async {
        let client = Client::new(daemon)?;
        let workload = match client.get::<Value>(&["incidents", subject], &[]).await {
            Ok(incident) => return explain_incident(&client, subject, &incident, daemon).await,
            Err(failure) if failure.is_not_found() => subject,
            Err(failure) => return Err(failure),
        };
        let explanation: Explanation = client.get(&["workloads", workload, "explain"], &[]).await?;
        if daemon.json {
            return Ok(print::json(&explanation));
        }
        print_explanation(&explanation);
        Ok(YES)
    })
}

/// An incident is explained by its report.
async fn explain_incident(client: &Client, incident: &str, found: &Value, daemon: &DaemonArgs) -> Result<u8, Failure> {
    if daemon.json {
        return Ok(print::json(found));
    }
    let report = client.get_text(&["incidents", incident, "report"], &[("format", "md")]).await?;
    print::text(&print::clean(&report));
    Ok(YES)
}

/// What was kept of the bad release, in a few lines.
fn recorded(brief: Option<&Brief>) {
    let Some(Brief { changes, containers, log }) = brief else { return };
    for (title, lines) in [("What it changed:", changes), ("How it was:", containers), ("Last said:", log)] {
        if !lines.is_empty() {
            print::line(title);
        }
        for line in lines {
            print::line(&print::clean(&format!("  {line}")));
        }
    }
}

/// An explanation for people, of now or of a moment of a recording.
pub(super) fn print_explanation(explanation: &Explanation) {
    print::line(&print::clean(&format!("{} at {}: {}", explanation.workload, explanation.at, explanation.decision)));
    print::line("");
    triggers(&explanation.assessment);
    for trigger in &explanation.assessment.triggers {
        if let Some(words) = trigger.evidence.comparison_in_words() {
            print::line(&print::clean(&format!("\"{}\": {words}", trigger.name)));
        }
    }
    print::line("");
    signals(&explanation.assessment.signals);
    print::line("");
    let mut table = table::new(&["GUARD", "SAYS"]);
    for guard in &explanation.guards {
        let says = guard.hold.as_ref().map_or_else(|| "passes".to_owned(), |hold| format!("holds: {hold}"));
        table.add_row([guard.name.clone(), says]);
    }
    print::line(&print::clean(&table.to_string()));
    print::line("\nWhat would change the decision:");
    for change in &explanation.would_change {
        print::line(&print::clean(&format!("  {change}")));
    }
    recorded(explanation.recorded.as_ref());
}

pub(crate) fn plan(workload: &str, daemon: &DaemonArgs) -> u8 {
    print::finish(async {
        let preview: Preview = Client::new(daemon)?.get(&["workloads", workload, "plan"], &[]).await?;
        if daemon.json {
            print::json(&preview);
        } else {
            print_plan(&preview);
        }
        Ok(if preview.is_clear() { YES } else { NO })
    })
}

/// What a rollback by hand would do now, and what would stop it.
pub(crate) type Preview = crate::domain::controller::Preview;

fn print_plan(preview: &Preview) {
    match &preview.plan {
        None => print::line("No plan can be made."),
        Some(plan) => {
            print::line(&print::clean(&format!(
                "{}: {} → {}, {}, until {}",
                preview.workload, plan.from, plan.to, plan.strategy, plan.deadline
            )));
            for (i, step) in plan.steps.iter().enumerate() {
                let standing = preview.steps.get(i).map(|standing| format!(": {standing}")).unwrap_or_default();
                print::line(&print::clean(&format!("  {}. {step}{standing}", i + 1)));
            }
        }
    }
    let holds = preview.guards.iter().filter_map(|guard| guard.hold.as_ref());
    // Without a release in place there is no goal either, for the same reason.
    let mut told = BTreeSet::new();
    for hold in holds.filter(|hold| told.insert(hold.to_string())) {
        print::line(&print::clean(&format!("Stopped by {}: {hold}", hold.as_str())));
    }
    for finding in &preview.findings {
        print::line(&print::clean(&format!("Stopped by preflight: {finding}")));
    }
    if let Some(Standby { leader: None, reason }) = &preview.standby {
        print::line(&print::clean(&format!("Stopped by standby: {reason}")));
    }
    if preview.is_clear() {
        print::line(&print::clean(&nothing_stops(&preview.readiness, preview.standby.as_ref())));
    }
    needs(&preview.readiness);
    sources(&preview.sources);
}

/// That it would begin, and where, and what it may lack on the way.
fn nothing_stops(all: &[Readiness], standby: Option<&Standby>) -> String {
    let is_missing = |one: &&Readiness| matches!(one.met, Met::No(_));
    let missing: Vec<&str> = all.iter().filter(is_missing).map(|one| one.need.as_str()).collect();
    let would = match missing[..] {
        [] => "Nothing would stop it.".to_owned(),
        _ => format!(
            "Nothing would keep it from beginning, but it may not come to its end, for lack of: {}.",
            missing.join(", ")
        ),
    };
    let elsewhere = standby.and_then(|standby| standby.leader.as_ref());
    let elsewhere =
        elsewhere.map(|leader| format!(" Not by this replica, which stands by: {leader} leads, and would act."));
    format!("{would}{}", elsewhere.unwrap_or_default())
}

/// What must be so for any rollback.
fn needs(all: &[Readiness]) {
    let mut table = table::new(&["FOR A ROLLBACK", "IS THERE", "WHY NOT"]);
    for Readiness { need, met, note } in all {
        let (is, why) = match met {
            Met::Yes => ("yes", note.as_deref().unwrap_or("-")),
            Met::No(why) => ("no", why.as_str()),
            Met::Unknown(why) => ("unknown", why.as_str()),
        };
        table.add_row([need.to_string(), is.to_owned(), why.to_owned()]);
    }
    print::line(&print::clean(&format!("\n{table}")));
}

pub(crate) fn history(workload: Option<&str>, limit: u32, daemon: &DaemonArgs) -> u8 {
    print::finish(async {
        let limit = limit.to_string();
        let mut query = vec![("limit", limit.as_str())];
        query.extend(workload.map(|name| ("workload", name)));
        let client = Client::new(daemon)?;
        let incidents: Vec<Value> = client.get(&["incidents"], &query).await?;
        if let (Some(name), true) = (workload, incidents.is_empty()) {
            expect_known(&client, name).await?;
        }
        if daemon.json {
            return Ok(print::json(&incidents));
        }
        let mut table = table::new(&["INCIDENT", "WORKLOAD", "BEGAN", "PHASE"]);
        for incident in &incidents {
            let field = |key: &str| incident.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
            table.add_row([field("incident"), field("workload"), field("began"), field("phase")]);
        }
        print::line(&print::clean(&table.to_string()));
        Ok(YES)
    })
}

/// An empty past may be a slip of the finger. A workload that has left the policy is known by its past alone.
async fn expect_known(client: &Client, name: &str) -> Result<(), Failure> {
    let views: Vec<WorkloadView> = client.get(&["workloads"], &[]).await?;
    let names: Vec<&str> = views.iter().map(|view| view.workload.as_str()).collect();
    if names.contains(&name) {
        return Ok(());
    }
    let hint = suggest::hint(name, names).map(|hint| format!("; {hint}")).unwrap_or_default();
    Err(Failure { code: NO, error: anyhow!("no workload {}{hint}", suggest::quoted(name)) })
}

pub(crate) fn report(incident: &str, format: ReportFormat, daemon: &DaemonArgs) -> u8 {
    print::finish(async {
        let format = match (format, daemon.json) {
            (_, true) | (ReportFormat::Json, _) => "json",
            (ReportFormat::Md, false) => "md",
            (ReportFormat::Html, false) => "html",
        };
        let text = Client::new(daemon)?.get_text(&["incidents", incident, "report"], &[("format", format)]).await?;
        print::text(&text);
        Ok(YES)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::response::readiness::Need;

    #[test]
    fn a_plan_that_lacks_something_is_not_told_to_be_clear() {
        let one = |need, met| Readiness { need, met, note: None };
        let well = [one(Need::KnownGood, Met::Yes), one(Need::Quota, Met::Unknown("not asked".to_owned()))];
        assert_eq!(nothing_stops(&well, None), "Nothing would stop it.");
        let tight = [one(Need::KnownGood, Met::Yes), one(Need::Quota, Met::No("it leaves 0 of pods".to_owned()))];
        let told = nothing_stops(&tight, None);
        assert!(told.ends_with("for lack of: quota."), "{told}");
        let standby = Standby { leader: Some("other".to_owned()), reason: String::new() };
        assert_eq!(
            nothing_stops(&well, Some(&standby)),
            "Nothing would stop it. Not by this replica, which stands by: other leads, and would act."
        );
    }
}
