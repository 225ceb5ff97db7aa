//! What else a page offers, for telling which family lies nearest to one that was not found.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::fingerprint::{fingerprint, fold};
use super::table::SeriesTable;

/// Family names that are kept of a page.
const FAMILIES: usize = 4_096;

/// What is appended to a family's name to name its series, in either format.
const SUFFIXES: [&str; 8] = ["_bucket", "_sum", "_count", "_total", "_created", "_info", "_gsum", "_gcount"];

/// Whether a series of this name can belong to this family.
pub(crate) fn is_part_of(series: &str, family: &str) -> bool {
    series.strip_prefix(family).is_some_and(|rest| rest.is_empty() || SUFFIXES.contains(&rest))
}

/// Follows the names on a page: a fingerprint of them always, the names themselves when asked to.
#[derive(Debug)]
pub(crate) struct NameLog {
    shape: u64,
    names: Option<Vec<String>>,
    typed: Option<String>,
}

impl NameLog {
    pub(crate) fn new(collecting: bool) -> Self {
        Self { shape: 0, names: collecting.then(Vec::new), typed: None }
    }

    /// Whether names are being kept.
    pub(crate) fn collecting(&self) -> bool {
        self.names.is_some()
    }

    /// A `# TYPE` line named this family.
    pub(crate) fn family(&mut self, name: &str) {
        self.keep(name);
        self.typed = Some(name.to_owned());
    }

    /// A run of series of this name has begun.
    pub(crate) fn series(&mut self, name: &str) {
        self.shape = fold(self.shape, fingerprint(name.as_bytes()));
        if self.collecting() && !self.typed.as_deref().is_some_and(|family| is_part_of(name, family)) {
            self.keep(name);
        }
    }

    fn keep(&mut self, name: &str) {
        if let Some(names) = &mut self.names
            && names.len() < FAMILIES
        {
            names.push(name.to_owned());
        }
    }

    /// The fingerprint of the names, in order.
    pub(crate) fn shape(&self) -> u64 {
        self.shape
    }

    /// The names on pages of this shape, sorted, each once; from memory, or from this page where it was read for them.
    pub(crate) fn families(self, table: &mut SeriesTable) -> Option<Arc<[String]>> {
        if let Some(known) = table.families(self.shape) {
            return Some(known);
        }
        let distinct: BTreeSet<String> = self.names?.into_iter().collect();
        let names: Arc<[String]> = distinct.into_iter().collect();
        table.remember_families(self.shape, Arc::clone(&names));
        Some(names)
    }
}
