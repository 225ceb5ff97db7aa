//! `--explain TIME`: why everything was as it was at one moment of a recording.

use serde::Serialize;

use super::cases::{self, Work};
use crate::cli::{print, show};
use crate::domain::controller::Explanation;
use crate::domain::time::Timestamp;
use crate::replay::{Options, Recording, Subject};

/// One workload of one recording, explained.
#[derive(Debug, Serialize)]
pub(super) struct Explained {
    scenario: String,
    #[serde(flatten)]
    explanation: Explanation,
}

/// Replays one recording up to `at`.
pub(super) fn one(
    work: &Work<'_>,
    scenario: &str,
    options: &Options,
    recording: &Recording,
    at: Timestamp,
) -> anyhow::Result<Vec<Explained>> {
    let Some((first, last)) = recording.range() else { anyhow::bail!("nothing is recorded") };
    anyhow::ensure!((first..=last).contains(&at), "{at} is not in the recording from {first} to {last}");
    let subjects = cases::subjects(work.config, recording, options)?;
    let explained = crate::replay::explain(recording, &subjects, options, at)?;
    anyhow::ensure!(!explained.is_empty(), "nothing was seen of any workload by {at}");
    let is_told = |subject: &&Subject| explained.iter().any(|explanation| explanation.workload == subject.id);
    for subject in subjects.iter().filter(|subject| !is_told(subject)) {
        print::warn(&format!("{scenario}: nothing was seen of {} by {at}", subject.id));
    }
    let named = |explanation| Explained { scenario: scenario.to_owned(), explanation };
    Ok(explained.into_iter().map(named).collect())
}

/// Prints them, one after another.
pub(super) fn tell(all: &[Vec<Explained>], as_json: bool) {
    let explained: Vec<&Explained> = all.iter().flatten().collect();
    if as_json {
        print::json(&explained);
        return;
    }
    for (index, Explained { scenario, explanation }) in explained.iter().enumerate() {
        if index > 0 {
            print::line("");
        }
        if explained.len() > 1 {
            print::line(&print::clean(&format!("{scenario}:")));
        }
        show::print_explanation(explanation);
    }
}
