//! Which series belong together, by what the page says of its families.

use std::collections::HashMap;

use serde::Serialize;

use super::super::metadata::Metadata;

/// A metric family.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Family {
    /// Its name: the series' without the suffix that its type gives them.
    pub name: String,
    /// In OpenMetrics' words: counter, gauge, histogram, gaugehistogram, summary, info, stateset or unknown.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What `# HELP` says.
    pub help: Option<String>,
    /// What `# UNIT` says; OpenMetrics only.
    pub unit: Option<String>,
    /// How many series of it the page lists.
    pub series: u64,
}

/// Families and series names, in the order of the page.
#[derive(Default)]
pub(super) struct Families {
    described: Vec<(u64, Family)>,
    by_name: HashMap<String, usize>,
    counted: HashMap<String, (u64, u64)>,
}

impl Families {
    /// Takes what a `#` line says.
    pub(super) fn describe(&mut self, metadata: Metadata<'_>, line: u64) {
        match metadata {
            Metadata::Help { family, text } => self.family(&family, line).help = Some(text.into_owned()),
            Metadata::Type { family, kind } => self.family(&family, line).kind = kind,
            Metadata::Unit { family, unit } if !unit.is_empty() => {
                self.family(&family, line).unit = Some(unit.to_owned());
            }
            Metadata::Unit { family, .. } => {
                self.family(&family, line);
            }
            Metadata::End | Metadata::Comment => {}
        }
    }

    /// Counts a series of this name.
    pub(super) fn count(&mut self, name: &str, line: u64) {
        match self.counted.get_mut(name) {
            Some((_, series)) => *series += 1,
            None => {
                self.counted.insert(name.to_owned(), (line, 1));
            }
        }
    }

    /// The families with their series; a name that no `#` line covers is a family of its own.
    pub(super) fn close(mut self) -> Vec<Family> {
        let mut counted: Vec<(String, (u64, u64))> = std::mem::take(&mut self.counted).into_iter().collect();
        counted.sort_by_key(|(_, (line, _))| *line);
        for (name, (line, series)) in counted {
            let family = self.covering(&name).unwrap_or(&name).to_owned();
            self.family(&family, line).series += series;
        }
        self.described.sort_by_key(|(line, _)| *line);
        self.described.into_iter().map(|(_, family)| family).collect()
    }

    fn family(&mut self, name: &str, line: u64) -> &mut Family {
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None => {
                let family = Family { name: name.to_owned(), kind: "unknown", help: None, unit: None, series: 0 };
                self.described.push((line, family));
                self.by_name.insert(name.to_owned(), self.described.len() - 1);
                self.described.len() - 1
            }
        };
        let first = self.described[index].0;
        self.described[index].0 = first.min(line);
        &mut self.described[index].1
    }

    /// The described family that a series of this name belongs to.
    fn covering<'n>(&self, name: &'n str) -> Option<&'n str> {
        if self.by_name.contains_key(name) {
            return Some(name);
        }
        let start = name.rfind('_')?;
        let (stem, suffix) = name.split_at(start);
        let family = &self.described.get(*self.by_name.get(stem)?)?.1;
        suffixes(family.kind).contains(&suffix).then_some(stem)
    }
}

/// What a type appends to the family's name.
fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total", "_created"],
        "histogram" => &["_bucket", "_sum", "_count", "_created"],
        "gaugehistogram" => &["_bucket", "_gsum", "_gcount"],
        "summary" => &["_sum", "_count", "_created"],
        "info" => &["_info"],
        _ => &[],
    }
}
