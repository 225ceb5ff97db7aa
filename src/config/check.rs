//! What `rollbackd check` says.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::load::{self, LoadError};
use super::model::{Config, ReceiverKind};
use super::{Overrides, referenced};

/// The result of looking at policy files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Nothing is wrong.
    pub valid: bool,
    /// How many workloads there are where nothing is wrong.
    pub workloads: usize,
    /// How many receivers there are where nothing is wrong.
    pub receivers: usize,
    /// Everything that is wrong.
    pub errors: Vec<Diagnostic>,
    /// How many errors there are beyond those listed.
    pub omitted: usize,
    /// What is allowed, and most likely not meant.
    pub warnings: Vec<String>,
}

impl CheckReport {
    fn add(&mut self, path: &Path, result: Result<Config, Diagnostics>) {
        match result {
            Ok(config) => {
                self.workloads += config.workloads.len();
                self.receivers += config.receivers.len();
                let warnings = config.warnings().into_iter().chain(absent(&config)).chain(doubted(&config));
                self.warnings.extend(warnings.map(|warning| format!("{}: {warning}", path.display())));
            }
            Err(Diagnostics { errors, omitted, may_pass: _ }) => {
                self.valid = false;
                self.errors.extend(errors);
                self.omitted += omitted;
            }
        }
    }

    /// As text; with colours for a terminal.
    #[must_use]
    pub fn render(&self, styled: bool) -> String {
        if self.valid {
            let warnings: String = self.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
            let (workloads, receivers) = (count(self.workloads, "workload"), count(self.receivers, "receiver"));
            return format!("{warnings}ok: {workloads}, {receivers}");
        }
        Diagnostics { errors: self.errors.clone(), omitted: self.omitted, may_pass: false }.render(styled)
    }
}

/// Files of targets that are not there: they may be written later, by whatever finds the targets.
fn absent(config: &Config) -> impl Iterator<Item = String> + '_ {
    let files = config.workloads.iter().flat_map(|(id, workload)| {
        workload.sources.scrape_files.iter().map(move |file| (id, &file.path)).filter(|(_, path)| !path.exists())
    });
    files.map(|(id, path)| {
        format!("{id}: `sd_file` {} does not exist: nothing is scraped until it does", path.display())
    })
}

/// Secrets of webhooks that may be meant otherwise than they are taken, or are weak: a receiver that agrees with them goes on.
fn doubted(config: &Config) -> Vec<String> {
    let secrets = config.receivers.values().filter_map(|receiver| match &receiver.kind {
        ReceiverKind::Webhook { secret_file: Some(file), .. } => Some((&receiver.name, file)),
        ReceiverKind::Webhook { .. }
        | ReceiverKind::Slack { .. }
        | ReceiverKind::PagerDuty { .. }
        | ReceiverKind::Alertmanager { .. } => None,
    });
    let doubts = secrets.flat_map(|(name, file)| {
        let doubts = referenced::signing_doubts(file).into_iter();
        doubts.map(move |doubt| format!("{name}: `secret_file` {} {doubt}", file.display()))
    });
    doubts.collect()
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// Looks at policy files and directories, each as a configuration of its own; the files of a directory belong together.
///
/// # Errors
///
/// [`LoadError::Unreadable`] where a text can't be had; what is wrong in the texts is the report.
pub fn check<P: AsRef<Path>>(paths: &[P]) -> Result<CheckReport, LoadError> {
    let mut report =
        CheckReport { valid: true, workloads: 0, receivers: 0, errors: Vec::new(), omitted: 0, warnings: Vec::new() };
    for path in paths {
        match load::load(path.as_ref(), Overrides::default()) {
            Ok(config) => report.add(path.as_ref(), Ok(config)),
            Err(LoadError::Invalid(diagnostics)) => report.add(path.as_ref(), Err(diagnostics)),
            Err(unreadable @ LoadError::Unreadable { .. }) => return Err(unreadable),
        }
    }
    Ok(report)
}
