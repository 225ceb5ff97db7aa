//! The policy file as it is written: every key optional, every value with its place, nothing related to anything else.
//!
//! Each table is declared once, by [`section::section`]; unknown keys are refused there.

pub(crate) mod daemon;
pub(crate) mod decode;
pub(crate) mod habitat;
pub(crate) mod http;
pub(crate) mod notify;
pub(crate) mod promql;
pub(crate) mod scalar;
pub(crate) mod section;
pub(crate) mod signal;
pub(crate) mod sources;
pub(crate) mod text;
pub(crate) mod trigger;
pub(crate) mod verify;
pub(crate) mod workload;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use self::decode::{Cx, Named, Node};
use self::section::section;
use super::problem::Problems;
use super::source::{Place, Source};

section! {
    /// A rollbackd policy file.
    File {
        /// The daemon itself.
        daemon: daemon::Daemon,
        /// What every workload has unless it says otherwise: any workload key but where it runs. Signals and verification are merged key by key, everything else is replaced as a whole.
        defaults: workload::Defaults,
        /// Who is told, by name.
        notify: Named<notify::Notify>,
        /// What is watched and rolled back, by name.
        workload: Named<workload::Workload>,
    }
}

/// Reads one file as far as it can be read.
pub(crate) fn read(index: u32, source: &Source, problems: &mut Problems) -> File {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    for error in errors {
        let place = Place::new(index, error.span().unwrap_or(0..0));
        let problem = problems.syntax(place, format!("not TOML: {}", error.message()));
        if error.message().starts_with("string values must be quoted") {
            problem.hint("put it in quotes");
        } else if error.message() == "duplicate key" {
            problem.hint("each key and each section may be written once");
        }
    }
    let (span, table) = (table.span(), table.into_inner());
    let root = Spanned::new(span, DeValue::Table(table));
    let mut cx = Cx { file: index, problems };
    let node = Node { name: "the file", key: Place::new(index, 0..0), value: &root };
    section::decode::<File>(&node, &mut cx).map(|(file, ..)| file).unwrap_or_default()
}
