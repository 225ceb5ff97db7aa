//! Which recordings are replayed, and their replay, several at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow};
use serde::Serialize;

use super::progress::Progress;
use super::sweep::{Sweep, Swept};
use super::{Config, plot, print};
use crate::domain::id::WorkloadId;
use crate::domain::policy::WorkloadPolicy;
use crate::replay::{Curves, Options, Outcome, Recording, Schedule, Subject, TextReader, replay};

/// What a recording is called within the folder of its case.
const RECORDING: &str = "metrics.om";

/// What is known of a recording besides, in a file beside it.
const META: &str = "meta.json";

/// One recording.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) scenario: String,
    pub(super) files: Vec<PathBuf>,
    meta: Option<PathBuf>,
}

/// What came of one case.
#[derive(Debug, Serialize)]
pub(super) struct CaseResult {
    pub(super) scenario: String,
    pub(super) workloads: Vec<WorkloadId>,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) sweep: Vec<Swept>,
}

/// How the cases are replayed, and what is made of them besides.
#[derive(Debug)]
pub(super) struct Work<'w> {
    pub(super) config: &'w Config,
    pub(super) options: Options,
    pub(super) sweep: Option<Sweep>,
    pub(super) plot: Option<PathBuf>,
    pub(super) cases: usize,
}

/// The cases of the command line: each `*/metrics.om` of the directories, and all files together as one.
pub(super) fn find(inputs: &[PathBuf]) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    for input in inputs {
        let unreadable = || format!("{} can't be read", input.display());
        if !std::fs::metadata(input).with_context(unreadable)?.is_dir() {
            files.push(input.clone());
            continue;
        }
        let found = folders(input).with_context(unreadable)?;
        anyhow::ensure!(!found.is_empty(), "there is no {RECORDING} in {} or its folders", input.display());
        cases.extend(found);
    }
    if let Some(first) = files.first() {
        cases.push(Case { scenario: name_of(first), meta: beside(first), files });
    }
    tell_apart(&mut cases);
    Ok(cases)
}

/// Recordings that have their folder's name in common are called by their paths.
fn tell_apart(cases: &mut [Case]) {
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    for case in cases.iter() {
        *named.entry(case.scenario.clone()).or_default() += 1;
    }
    for case in cases.iter_mut().filter(|case| named.get(&case.scenario).is_some_and(|cases| *cases > 1)) {
        let Some(file) = case.files.first() else { continue };
        let is_usual = file.file_name().is_some_and(|name| name == RECORDING);
        let path = file.parent().filter(|_| is_usual).unwrap_or(file);
        case.scenario = path.display().to_string();
    }
}

/// The folders of a directory that hold a recording; the directory itself where it is one.
fn folders(directory: &Path) -> std::io::Result<Vec<Case>> {
    let case = |folder: &Path| {
        let recording = folder.join(RECORDING);
        recording.is_file().then(|| Case {
            scenario: name_of(&recording),
            meta: beside(&recording),
            files: vec![recording],
        })
    };
    if let Some(case) = case(directory) {
        return Ok(vec![case]);
    }
    let mut folders = BTreeSet::from([directory.to_owned()]);
    for entry in std::fs::read_dir(directory)? {
        folders.insert(entry?.path());
    }
    let mut cases = Vec::new();
    for folder in &folders {
        match (case(folder), almost(folder).as_slice()) {
            (Some(case), _) => cases.push(case),
            (None, []) => {}
            (None, found) => {
                let found = found.join(", ");
                let what = "which is what is read";
                print::warn(&format!("{} is left out: it has {found}, but no {RECORDING}, {what}", folder.display()));
            }
        }
    }
    Ok(cases)
}

/// What a folder has that looks as if it was meant to be a case.
fn almost(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let found: BTreeSet<String> = names.filter(|name| name == META || name.starts_with("metrics.")).collect();
    found.into_iter().collect()
}

/// The folder's name for a recording of the usual name, the file's own without its ending for any other.
fn name_of(file: &Path) -> String {
    let usual = file.file_name().is_some_and(|name| name == RECORDING);
    let full = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let folder = full.parent().and_then(Path::file_name).filter(|_| usual);
    folder.or(file.file_stem()).map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn beside(file: &Path) -> Option<PathBuf> {
    let meta = file.with_file_name(META);
    meta.is_file().then_some(meta)
}

/// What is made of one recording.
pub(super) type One<'o, T> = &'o (dyn Fn(&Work<'_>, &str, &Options, &Recording) -> anyhow::Result<T> + Sync);

/// Reads all cases, as many at a time as there are processors; in the order of the cases what `one` makes of each, or why
/// there is nothing: one that can't be read takes nothing from the others.
pub(super) fn each<T: Send>(
    work: &Work<'_>,
    cases: &[Case],
    progress: &Progress,
    one: One<'_, T>,
) -> Vec<anyhow::Result<T>> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<anyhow::Result<T>>>> = Mutex::new(cases.iter().map(|_| None).collect());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(cases.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, case)) = take(&next, cases) {
                    let result = read(work, case, progress, one);
                    if let Some(slot) = results.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
                        *slot = Some(result);
                    }
                }
            });
        }
    });
    progress.done();
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()
}

fn take<'c>(next: &AtomicUsize, cases: &'c [Case]) -> Option<(usize, &'c Case)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, cases.get(index)?))
}

fn read<T>(work: &Work<'_>, case: &Case, progress: &Progress, one: One<'_, T>) -> anyhow::Result<T> {
    let mut options = work.options.clone();
    if let Some(meta) = &case.meta {
        options.schedule = scheduled(meta, options.schedule)?;
    }
    let mut reader = TextReader::new(policies(work.config));
    for file in &case.files {
        reader.file(file, &|bytes| progress.read(bytes)).map_err(|error| anyhow!(error))?;
    }
    let named = || {
        let files: Vec<String> = case.files.iter().map(|file| file.display().to_string()).collect();
        files.join(", ")
    };
    one(work, &case.scenario, &options, &reader.into_recorder().finish()).with_context(named)
}

/// The policies of a configuration.
pub(super) fn policies(config: &Config) -> Vec<&WorkloadPolicy> {
    config.workloads.values().map(|workload| &*workload.policy).collect()
}

/// Replays one recording, under each setting of the sweep as well, and draws it.
pub(super) fn replay_one(
    work: &Work<'_>,
    scenario: &str,
    options: &Options,
    recording: &Recording,
) -> anyhow::Result<CaseResult> {
    const LOST: &str = "the recording can't be read back";
    let subjects = subjects(work.config, recording, options)?;
    let mut curves = Curves::default();
    let outcome = match &work.plot {
        Some(_) => replay(recording, &subjects, options, &mut curves),
        None => replay(recording, &subjects, options, &mut ()),
    };
    let outcome = outcome.context(LOST)?;
    // Nothing that fires in a recording of something else is no good news.
    anyhow::ensure!(outcome.unseen.len() < subjects.len(), outcome.notes.join("; "));
    for doubt in &outcome.doubts {
        print::warn(&format!("{scenario}: {doubt}"));
    }
    let given = &work.options.schedule.rollouts;
    if let Some((first, last)) = outcome.range {
        for (at, revision) in given.iter().filter(|(at, _)| !(first..=last).contains(at)) {
            print::warn(&format!(
                "{scenario}: {at}, when {revision} comes, is not in the recording from {first} to {last}"
            ));
        }
    }
    let mut sweep = work.sweep.as_ref().map_or_else(Vec::new, Sweep::lines);
    let tried = work.sweep.iter().flat_map(|sweep| sweep.tried(&subjects));
    for (line, tried) in sweep.iter_mut().zip(tried) {
        let outcome = replay(recording, &tried.subjects, options, &mut ()).context(LOST)?;
        line.add(&tried, &outcome);
    }
    let workloads = subjects.into_iter().map(|subject| subject.id).collect();
    let result = CaseResult { scenario: scenario.to_owned(), workloads, outcome, sweep };
    if let Some(path) = &work.plot {
        plot::write(&plot::page_of(path, scenario, work.cases)?, &result, &curves)?;
    }
    Ok(result)
}

/// What the command line says of rollouts, over what the recording's companion says.
fn scheduled(meta: &Path, given: Schedule) -> anyhow::Result<Schedule> {
    let wrong = || format!("{} says nothing that can be used", meta.display());
    let text = std::fs::read_to_string(meta).with_context(wrong)?;
    let beside = Schedule::from_meta(&text).map_err(|why| anyhow!(why)).with_context(wrong)?;
    let rollouts = if given.rollouts.is_empty() { beside.rollouts } else { given.rollouts };
    Ok(Schedule { rollouts, before: given.before.or(beside.before) })
}

/// The workloads of a recording: those of the policy, or, where a label tells them apart, those that it names; a policy
/// with one workload holds for all that the label names.
pub(super) fn subjects(config: &Config, recording: &Recording, options: &Options) -> anyhow::Result<Vec<Subject>> {
    let of_policy = || {
        config.workloads.iter().map(|(id, workload)| Subject { id: id.clone(), policy: Arc::clone(&workload.policy) })
    };
    let Some(label) = &options.workload_label else { return Ok(of_policy().collect()) };
    let named = recording.values_of(label);
    let only = match config.workloads.values().collect::<Vec<_>>().as_slice() {
        [only] => Some(&only.policy),
        _ => None,
    };
    let subjects: Vec<Subject> = named
        .iter()
        .filter_map(|name| {
            let id = WorkloadId::new(name);
            let own = config.workloads.get(&id).map(|workload| &workload.policy);
            Some(Subject { policy: Arc::clone(own.or(only)?), id })
        })
        .collect();
    anyhow::ensure!(!subjects.is_empty(), "no series has a label `{label}` that names a workload of the policy");
    Ok(subjects)
}
