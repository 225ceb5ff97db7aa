//! From what is written to what is meant: names looked up, defaults filled in, units made base units, combinations checked.
//!
//! Every function reports what is wrong and goes on with something harmless; the result is only used where nothing was
//! reported.

mod comparison;
mod convention;
mod daemon;
mod habitat;
mod http;
mod kubernetes;
mod name;
mod notify;
mod pods;
mod selector;
mod signal;
mod sources;
mod terms;
mod trigger;
mod verify;
mod workload;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) use signal::conventional;

use super::Overrides;
use super::model::Config;
use super::problem::Problems;
use super::raw::decode::{At, Entry, Named};
use super::raw::workload::Defaults;
use super::raw::{self, File};
use super::referenced::{Content, FileProbe};
use super::source::{Place, Source};
use super::suggest;

/// More workloads than this in one daemon are refused.
pub(crate) const MAX_WORKLOADS: usize = 10_000;

/// What every part of the resolution needs.
pub(crate) struct Resolver<'a> {
    pub(crate) problems: Problems,
    pub(crate) sources: &'a [Source],
    pub(crate) overrides: Overrides,
    pub(crate) probe: &'a FileProbe<'a>,
}

impl Resolver<'_> {
    /// All files together.
    pub(crate) fn resolve(&mut self, files: Vec<File>) -> Config {
        let daemon = self.only("daemon", files.iter().filter_map(|file| file.daemon.as_ref()).collect());
        let defaults = self.only("defaults", files.iter().filter_map(|file| file.defaults.as_ref()).collect());
        let receivers = self.unique("notify", files.iter().filter_map(|file| file.notify.as_ref()));
        let mut workloads = self.unique("workload", files.iter().filter_map(|file| file.workload.as_ref()));
        if let Some(extra) = workloads.get(MAX_WORKLOADS) {
            let message = format!("{} workloads; one daemon takes at most {MAX_WORKLOADS}", workloads.len());
            self.problems.wrong(extra.key, message);
            workloads.truncate(MAX_WORKLOADS);
        }
        self.agree_by_lease(daemon, &workloads);
        let daemon = daemon::resolve(self, daemon);
        let receivers = receivers
            .into_iter()
            .filter_map(|entry| notify::resolve(self, entry))
            .map(|receiver| (receiver.name.clone(), receiver))
            .collect::<BTreeMap<_, _>>();
        let written: Vec<&str> =
            files.iter().filter_map(|file| file.notify.as_ref()).flat_map(|at| &at.value.0).map(|e| &*e.name).collect();
        let none = Defaults::default();
        let defaults = defaults.unwrap_or(&none);
        let around =
            workload::Around { daemon: &daemon, defaults: &defaults.policy, lost: &defaults.lost, receivers: &written };
        let workloads = workload::resolve_all(self, &workloads, &around);
        Config { daemon, receivers, workloads }
    }

    /// A sidecar has siblings, and only one of them may act. Another workload's sidecars in the same namespace would share a
    /// Lease that has no name of its own.
    fn agree_by_lease(&mut self, daemon: Option<&raw::daemon::Daemon>, workloads: &[&Entry<raw::workload::Workload>]) {
        let is_named = daemon.is_some_and(|daemon| {
            daemon.lost.may_be(&["lease"])
                || daemon
                    .lease
                    .as_ref()
                    .is_some_and(|lease| lease.value.name.is_some() || lease.value.lost.may_be(&["name"]))
        });
        let owners = workloads.iter().filter_map(|entry| entry.value.kubernetes.as_ref()?.value.owner.as_ref());
        for owner in owners.filter(|_| !is_named) {
            self.problems
                .wrong(owner.key, "`owner` without a Lease of a name of its own")
                .hint("siblings agree by it on who acts: add `[daemon.lease]` with `name = \"rollbackd-NAME\"`, NAME the workload's");
        }
    }

    /// The one section of its kind, over all files.
    fn only<'f, T>(&mut self, name: &str, sections: Vec<&'f At<T>>) -> Option<&'f T> {
        let mut sections = sections.into_iter();
        let first = sections.next()?;
        for again in sections {
            let problem = self.problems.wrong(again.key, format!("a second [{name}] section"));
            problem.hint(format!("the first is in {}", locate(self.sources, first.key)));
        }
        Some(&first.value)
    }

    /// The named sections of all files; a name that comes twice is reported and kept once.
    fn unique<'f, T: 'f>(&mut self, kind: &str, sections: impl Iterator<Item = &'f At<Named<T>>>) -> Vec<&'f Entry<T>> {
        let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
        let mut unique = Vec::new();
        for entry in sections.flat_map(|section| &section.value.0) {
            if let Some(first) = seen.get(&*entry.name) {
                let message = format!("a second [{kind}.{}]", suggest::quoted(&entry.name).trim_matches('`'));
                self.problems
                    .wrong(entry.key, message)
                    .hint(format!("the first is in {}", locate(self.sources, *first)));
            } else {
                seen.insert(&entry.name, entry.key);
                unique.push(entry);
            }
        }
        unique
    }

    /// A path as it is meant: relative ones begin at the policy file's directory.
    pub(crate) fn path(&self, written: &At<PathBuf>) -> PathBuf {
        let file = self.sources.get(written.at.file());
        let beside = file.and_then(|source| source.path.parent());
        beside.map_or_else(|| written.value.clone(), |directory| directory.join(&written.value))
    }

    /// The path of a file that holds a secret.
    pub(crate) fn secret(&mut self, key: &str, written: &At<PathBuf>) -> PathBuf {
        self.referenced(key, written, Content::Secret)
    }

    /// The path of a file that is referred to, after a look at it. The message names key and path, never what is in it.
    pub(crate) fn referenced(&mut self, key: &str, written: &At<PathBuf>, content: Content) -> PathBuf {
        let path = self.path(written);
        if let Err(fault) = (self.probe)(&path, content) {
            let message = format!("`{key}`: {} {}", path.display(), fault.message);
            self.problems.file(written.at, message).maybe_hint(fault.hint.map(str::to_owned));
        }
        path
    }
}

/// `file:line` of a place.
pub(crate) fn locate(sources: &[Source], place: Place) -> String {
    sources.get(place.file()).map_or_else(String::new, |source| {
        format!("{}:{}", source.path.display(), source.line_at(place.span().start) + 1)
    })
}

/// Whether a path leads somewhere beneath where it begins, without `..`.
fn is_beneath(path: &Path) -> bool {
    path.components().all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir))
}
