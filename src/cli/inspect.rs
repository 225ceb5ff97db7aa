//! `rollbackd inspect`: what an exposition page offers, how built-in signals are found on it, and what selectors match.

use std::fmt::Write;

use anyhow::{Context, anyhow};
use serde::Serialize;

use super::client::Failure;
use super::page::{self, Found};
use super::{YES, print, table};
use crate::domain::health::selector::Selector;
use crate::domain::health::survey::{Survey, survey};
use crate::domain::policy::{Operands, Signal};
use crate::observe::exposition::{Inspection, Limits, ScanError, Scanner, SeriesTable, inspect as read};

/// The page, and what of it signals are found by where a policy does not spell them out.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    inspection: Inspection,
    signals: Vec<Survey>,
}

pub(crate) fn inspect(source: &str, select: &[String], as_json: bool) -> u8 {
    print::finish(async {
        let selectors: Vec<Selector> = select
            .iter()
            .map(|text| Selector::parse(text).with_context(|| format!("--select {text:?} is not a selector")))
            .collect::<Result<_, _>>()
            .map_err(Failure::usage)?;
        let found = page::find(source).await?;
        let wrong = |error: ScanError| page::no(anyhow!(error).context(page::name(source).to_owned()));
        let inspection = read(&found.text, found.format, &selectors).map_err(wrong)?;
        let (signals, operands) = crate::config::conventional();
        let signals = offered(&found, &inspection, &signals, &operands).map_err(wrong)?;
        let answer = Answer { inspection, signals };
        if as_json {
            return Ok(print::json(&answer));
        }
        print::text(&print::clean(&answer.render()));
        Ok(YES)
    })
}

/// What a page offers to these signals, read by the daemon's own scanner.
///
/// # Errors
///
/// A page that the daemon would not take.
pub(crate) fn offered<'a>(
    found: &Found,
    inspection: &Inspection,
    signals: impl IntoIterator<Item = &'a Signal>,
    operands: &Operands,
) -> Result<Vec<Survey>, ScanError> {
    let (mut scanner, mut series) = (Scanner::new(Limits::DEFAULT), SeriesTable::new(operands));
    let mut scan = scanner.begin(found.format);
    scan.push(&mut series, &found.text)?;
    let page = scan.finish(&mut series)?;
    let families: Vec<String> = inspection.families.iter().map(|family| family.name.clone()).collect();
    Ok(survey(signals, operands, &page, &families))
}

impl Answer {
    fn render(&self) -> String {
        let mut text = self.inspection.render(print::width());
        let mut rows = table::new(&["SIGNAL", "FOUND BY", "ON SERIES", "IN"]);
        for signal in &self.signals {
            let [found_by, series, unit] = table::cells(signal.source.as_ref());
            rows.add_row([signal.signal.to_string(), found_by, series, unit]);
        }
        // A `String` takes every write.
        let _ = writeln!(text, "\nSignals that need no section:\n{}", rows.trim_fmt());
        for note in self.signals.iter().flat_map(notes) {
            let _ = writeln!(text, "{note}");
        }
        text
    }
}

/// What is worth a word about how a signal is found, a line each.
pub(crate) fn notes(survey: &Survey) -> Vec<String> {
    let signal = &survey.signal;
    let mut notes = Vec::new();
    if let Some(source) = &survey.source {
        let used = table::convention(source);
        notes.extend(survey.others.iter().map(|other| {
            let series = other.series.join(" / ");
            format!(
                "{signal}: {} matches too, on {series}; {used} is used, the first of the table",
                table::convention(other)
            )
        }));
    }
    notes.extend(
        survey.unmatched.iter().map(|unmatched| {
            format!("{signal}: nothing matches {}{}", unmatched.selector, nearest(&unmatched.nearest))
        }),
    );
    if survey.source.is_none() && survey.unmatched.is_empty() {
        notes.push(format!("{signal}: no convention matches{}", nearest(&survey.nearest)));
    }
    notes
}

fn nearest(families: &[String]) -> String {
    if families.is_empty() { String::new() } else { format!("; nearest families: {}", families.join(", ")) }
}
