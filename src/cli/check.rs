//! `rollbackd check`: every error of a policy at once, and what a page offers to its signals.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use serde::Serialize;

use super::client::Failure;
use super::inspect::{notes, offered};
use super::page::{self, Found};
use super::{NO, USAGE, YES, print, table};
use crate::config::CheckReport;
use crate::config::model::Config;
use crate::domain::health::survey::Survey;
use crate::domain::id::{SignalName, WorkloadId};
use crate::domain::policy::{NoData, WorkloadPolicy};
use crate::observe::exposition::{Inspection, ScanError, inspect};

/// The page that a policy is held against.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Against {
    /// Say how each signal is found on this page: an address, a file, or `-` for standard input
    #[arg(long = "against", value_name = "URL|FILE")]
    page: Option<String>,
    /// Only this workload
    #[arg(long, requires = "page", value_name = "NAME")]
    workload: Option<String>,
}

pub(crate) fn check(files: &[PathBuf], against: &Against, as_json: bool) -> u8 {
    let report = match crate::config::check(files) {
        Ok(report) => report,
        Err(unreadable) => {
            print::complain(&anyhow!(unreadable));
            return USAGE;
        }
    };
    match &against.page {
        Some(page) if report.valid => {
            print::finish(hold_against(files, page, against.workload.as_deref(), report, as_json))
        }
        Some(_) | None => show(&report, as_json),
    }
}

fn show(report: &CheckReport, as_json: bool) -> u8 {
    if as_json {
        print::json(report);
    } else if report.valid {
        print::line(&report.render(false));
    } else {
        print::error_text(&format!("{}\n", report.render(std::io::stderr().is_terminal())));
    }
    if report.valid { YES } else { NO }
}

/// A valid policy and what a page offers to it.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    report: CheckReport,
    against: Vec<Offer>,
}

/// What the page offers to one workload.
#[derive(Serialize)]
struct Offer {
    workload: WorkloadId,
    signals: Vec<Survey>,
    unknown: Vec<Unknown>,
}

/// Something that could not be judged if pages were like this one.
#[derive(Serialize)]
struct Unknown {
    /// `trigger`, or `check` for one of the verification that the policy names.
    what: &'static str,
    name: String,
    signal: SignalName,
}

async fn hold_against(
    files: &[PathBuf],
    source: &str,
    workload: Option<&str>,
    report: CheckReport,
    as_json: bool,
) -> Result<u8, Failure> {
    let policies = policies(files, workload)?;
    let found = page::find(source).await?;
    let wrong = |error: ScanError| page::no(anyhow!(error).context(page::name(source).to_owned()));
    let inspection = inspect(&found.text, found.format, &[]).map_err(wrong)?;
    let offers: Result<Vec<Offer>, ScanError> = policies
        .iter()
        .flat_map(Config::policies)
        .filter(|policy| workload.is_none_or(|name| policy.id.as_str() == name))
        .map(|policy| offer(&found, &inspection, policy))
        .collect();
    let answer = Answer { report, against: offers.map_err(wrong)? };
    if as_json {
        print::json(&answer);
    } else {
        print::text(&print::clean(&answer.render(page::name(source))));
    }
    Ok(if answer.against.iter().all(|offer| offer.unknown.is_empty()) { YES } else { NO })
}

/// The configurations, in which the workload that was asked for must be.
fn policies(files: &[PathBuf], workload: Option<&str>) -> Result<Vec<Config>, Failure> {
    let load = |path: &PathBuf| crate::config::load(path, crate::config::Overrides::default());
    let configs: Vec<Config> = files
        .iter()
        .map(load)
        .collect::<Result<_, _>>()
        .context("the policy changed meanwhile")
        .map_err(Failure::usage)?;
    let known: Vec<&str> = configs.iter().flat_map(Config::policies).map(|policy| policy.id.as_str()).collect();
    match workload {
        Some(name) if !known.contains(&name) => {
            let error = anyhow!("there is no workload {name:?}; there are: {}", known.join(", "));
            Err(Failure::usage(error))
        }
        Some(_) | None => Ok(configs),
    }
}

fn offer(found: &Found, inspection: &Inspection, policy: &WorkloadPolicy) -> Result<Offer, ScanError> {
    let signals = offered(found, inspection, policy.signals.values(), &policy.operands)?;
    let is_missing = |signal: &SignalName| {
        let is_held = policy.signals.get(signal).is_some_and(|signal| signal.no_data == NoData::Hold);
        is_held && signals.iter().any(|survey| survey.signal == *signal && survey.source.is_none())
    };
    let triggers = policy.triggers.iter().flat_map(|trigger| {
        let second = trigger.confirm_with.iter().map(|term| &term.signal);
        let signals = trigger.terms().map(|(signal, _)| signal).chain(second);
        signals.map(|signal| ("trigger", trigger.name.to_string(), signal))
    });
    let checks = policy.verify.checks.iter().filter(|check| check.explicit);
    let checks = checks.map(|check| ("check", check.signal.to_string(), &check.signal));
    let unknown = triggers
        .chain(checks)
        .filter(|(_, _, signal)| is_missing(signal))
        .map(|(what, name, signal)| Unknown { what, name, signal: signal.clone() })
        .collect();
    Ok(Offer { workload: policy.id.clone(), unknown, signals })
}

impl Answer {
    fn render(&self, source: &str) -> String {
        let mut text = self.report.render(false);
        text.push('\n');
        for offer in &self.against {
            // A `String` takes every write.
            let _ = writeln!(text, "\n{} against {source}", offer.workload);
            offer.render(&mut text);
        }
        text
    }
}

impl Offer {
    fn render(&self, text: &mut String) {
        if self.signals.is_empty() {
            text.push_str("reads no page\n");
            return;
        }
        let mut rows = table::new(&["SIGNAL", "FOUND BY", "ON SERIES", "IN", "MATCHES"]);
        for signal in &self.signals {
            let [found_by, series, unit] = table::cells(signal.source.as_ref());
            rows.add_row([signal.signal.to_string(), found_by, series, unit, signal.matches.to_string()]);
        }
        // A `String` takes every write.
        let _ = writeln!(text, "{}", rows.trim_fmt());
        for note in self.signals.iter().flat_map(notes) {
            let _ = writeln!(text, "{note}");
        }
        for Unknown { what, name, signal } in &self.unknown {
            let _ = writeln!(text, "{what} {name:?} can't be judged by such pages: {signal} is not found");
        }
    }
}
