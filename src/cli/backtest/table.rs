//! What a backtest found, as a table for people and as lines for programs.

use std::fmt::Write;

use super::cases::CaseResult;
use super::sweep::Swept;
use crate::domain::id::WorkloadId;
use crate::domain::time::Timestamp;
use crate::replay::{Decision, Kind, Near};

/// The first line of the CSV.
const HEADER: &str = "scenario,workload,trigger,fired_at,decision,reason\n";

/// One line a decision, and one for each workload of which nothing fired.
pub(super) fn csv(results: &[CaseResult]) -> String {
    let mut text = HEADER.to_owned();
    for result in results {
        for workload in &result.workloads {
            let mut decisions = of(&result.outcome.decisions, workload).peekable();
            if decisions.peek().is_none() {
                line(&mut text, [&result.scenario, workload.as_str(), "", "", Kind::None.as_str(), "nothing fired"]);
            }
            for decision in decisions {
                let fired_at = decision.fired_at.to_string();
                let kind = decision.decision.as_str();
                line(
                    &mut text,
                    [&result.scenario, workload.as_str(), &decision.trigger, &fired_at, kind, &decision.reason],
                );
            }
        }
    }
    text
}

fn of<'d>(decisions: &'d [Decision], workload: &'d WorkloadId) -> impl Iterator<Item = &'d Decision> {
    decisions.iter().filter(move |decision| decision.workload == *workload)
}

/// As RFC 4180 has it: quoted where need be, quotes doubled.
fn line(text: &mut String, fields: [&str; 6]) {
    for (index, field) in fields.into_iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        if field.contains([',', '"', '\n', '\r']) {
            let _ = write!(text, "{comma}\"{}\"", field.replace('"', "\"\""));
        } else {
            let _ = write!(text, "{comma}{field}");
        }
    }
    text.push('\n');
}

/// For people: each case with its decisions and how near the other triggers came.
pub(super) fn text(results: &[CaseResult]) -> String {
    let mut text = String::new();
    for result in results {
        one(&mut text, result);
    }
    let mut swept: Vec<Swept> = Vec::new();
    for line in results.iter().flat_map(|result| &result.sweep) {
        match swept.iter_mut().find(|known| known.setting == line.setting) {
            Some(known) => known.join(line),
            None => swept.push(line.clone()),
        }
    }
    if !swept.is_empty() {
        let _ = writeln!(text, "{}", sweep(&swept));
    }
    if results.len() > 1 {
        let count = |kind| results.iter().filter(|result| worst(result) == kind).count();
        let _ = writeln!(
            text,
            "{} recordings: {} with a rollback, {} held, {} alerted, {} with nothing",
            results.len(),
            count(Kind::Rollback),
            count(Kind::Hold),
            count(Kind::Alert),
            count(Kind::None)
        );
    }
    text
}

/// The gravest decision of a case.
fn worst(result: &CaseResult) -> Kind {
    result.outcome.decisions.iter().map(|decision| decision.decision).max().unwrap_or(Kind::None)
}

fn one(text: &mut String, result: &CaseResult) {
    let outcome = &result.outcome;
    let range = outcome
        .range
        .map_or_else(|| "nothing recorded".to_owned(), |(from, to)| format!("{from} to {to}, {}", to.since(from)));
    let _ = writeln!(text, "{}: {range}, {} series", result.scenario, outcome.series);
    for note in &outcome.notes {
        let _ = writeln!(text, "  {note}");
    }
    for (workload, at, revision) in &outcome.releases {
        let _ = writeln!(text, "  {at}  {workload}  {revision} comes");
    }
    for decision in &outcome.decisions {
        let _ = writeln!(
            text,
            "  {}  {}  {:<8}  {}",
            decision.fired_at,
            decision.workload,
            decision.decision.as_str(),
            decision.reason
        );
    }
    if outcome.decisions.is_empty() {
        let _ = writeln!(text, "  nothing fired");
    }
    if !outcome.near.is_empty() {
        let _ = write!(text, "\n{}", near(&outcome.near));
    }
    text.push('\n');
}

/// What would change: a line each setting, with the triggers that it fits below one another.
fn sweep(swept: &[Swept]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    let header = ["setting", "rollback", "hold", "alert", "none", "first rollback", "trigger", "fires in", "first"];
    table.set_header(header);
    let time = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    for line in swept {
        let counts = [line.rollback, line.hold, line.alert, line.none].map(|count| count.to_string());
        let [rollback, hold, alert, none] = counts;
        let mut whole = [line.setting.clone(), rollback, hold, alert, none, time(line.first_rollback)];
        let mut triggers = line.triggers.iter();
        let first = triggers.next();
        for trigger in std::iter::once(first).chain(triggers.map(Some)) {
            let own = trigger.map(|one| [one.trigger.clone(), one.fired.to_string(), time(one.first_fired)]);
            table.add_row(std::mem::take(&mut whole).into_iter().chain(own.into_iter().flatten()));
        }
    }
    indented(&table)
}

fn indented(table: &comfy_table::Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        let _ = writeln!(text, "  {}", line.trim_end());
    }
    text
}

/// How near each trigger came.
fn near(all: &[Near]) -> String {
    let header = ["workload", "trigger", "threshold", "worst", "longest breach", "for", "fired", "unknown"];
    let mut table = crate::cli::table::new(&header);
    for near in all {
        let threshold = near.condition.map_or_else(String::new, |condition| condition.describe(near.unit));
        let worst = near.worst.map_or_else(|| "-".to_owned(), |(_, value)| near.unit.format(value));
        let longest = near.longest.map_or_else(|| "-".to_owned(), |(_, held)| held.to_string());
        let share = near.unknown.0 as f64 / near.unknown.1.max(1) as f64;
        table.add_row([
            near.workload.to_string(),
            near.trigger.clone(),
            threshold,
            worst,
            longest,
            near.hold_for.to_string(),
            near.fired.to_string(),
            format!("{:.0} %", share * 100.0),
        ]);
    }
    indented(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_need_be() {
        let mut text = String::new();
        line(&mut text, ["a", "b", "c d", "", "hold", "\"x\" is 41 %, above 10 %"]);
        assert_eq!(text, "a,b,c d,,hold,\"\"\"x\"\" is 41 %, above 10 %\"\n");
    }
}
