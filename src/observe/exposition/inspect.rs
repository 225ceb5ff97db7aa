//! The operator's reader: a whole page, every line judged, and what each selector matches on it.

mod families;
mod render;

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::domain::health::selector::Selector;

use super::Format;
use super::limits::{Limits, Over, Problem, ScanError};
use super::metadata::{Metadata, metadata};
use super::quotes::{ends_open, runs_on};
use super::sample::{self, Reading, Series};
use families::Families;

pub use families::Family;

/// What a page offers.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Inspection {
    /// The families, in page order.
    pub families: Vec<Family>,
    /// What each selector matches, in the order asked.
    pub matches: Vec<Matches>,
}

/// What one selector matches.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Matches {
    /// The selector, as PromQL.
    pub selector: String,
    /// The series, in page order; a series that the page lists twice comes twice.
    pub series: Vec<Match>,
}

/// One series that a selector matches.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Match {
    /// The metric name.
    pub name: String,
    /// The labels; those with an empty value are left out, as Prometheus does.
    pub labels: BTreeMap<String, String>,
    /// As exposed; a number in JSON, or "NaN", "+Inf", "-Inf".
    #[serde(serialize_with = "json_value")]
    pub value: f64,
    /// The exporter's time stamp in milliseconds since the Unix epoch, where it gave one.
    pub timestamp_ms: Option<i64>,
}

/// Reads a whole page, within the limits that the daemon has.
///
/// # Errors
///
/// The first line that is not what the format says, or the limit that the page is over.
pub fn inspect(page: &[u8], format: Format, selectors: &[Selector]) -> Result<Inspection, ScanError> {
    inspect_within(page, format, selectors, &Limits::DEFAULT)
}

pub(super) fn inspect_within(
    page: &[u8],
    format: Format,
    selectors: &[Selector],
    limits: &Limits,
) -> Result<Inspection, ScanError> {
    if page.len() as u64 > limits.body_bytes {
        return Err(ScanError::PageOver(Over::Body(limits.body_bytes)));
    }
    let mut reader = Reader {
        format,
        limits,
        samples: 0,
        families: Families::default(),
        matches: selectors.iter().map(|selector| (selector, Vec::new())).collect(),
    };
    let mut number = 1;
    let mut at = 0;
    let mut ended = false;
    while at < page.len() {
        let end = line_end(page, at, format).map_err(|problem| problem.at(number))?;
        let line = &page[at..end];
        if ended {
            return Err(Problem::new("data after # EOF").at(number));
        }
        ended = reader.line(line, number)?;
        number += 1 + memchr::memchr_iter(b'\n', line).count() as u64;
        at = end + 1;
    }
    match format {
        Format::OpenMetrics if !ended => Err(Problem::new("the page does not end with # EOF").at(number)),
        Format::OpenMetrics | Format::Text => Ok(reader.close()),
    }
}

/// Where the line that starts at `at` ends; in the text format a label value may hold line ends.
fn line_end(page: &[u8], at: usize, format: Format) -> Result<usize, Problem> {
    let find = |from: usize| memchr::memchr(b'\n', &page[from..]).map_or(page.len(), |found| from + found);
    let mut end = find(at);
    let start = page[at..end].iter().find(|byte| !matches!(byte, b' ' | b'\t'));
    let can_join = match format {
        Format::Text => start != Some(&b'#'),
        Format::OpenMetrics => false,
    };
    if !can_join || !ends_open(&page[at..end]) {
        return Ok(end);
    }
    loop {
        if end == page.len() {
            return Err(Problem::new("the page ends inside a label value"));
        }
        let next = end + 1;
        end = find(next);
        if !runs_on(&page[next..end], true) {
            return Ok(end);
        }
    }
}

struct Reader<'a> {
    format: Format,
    limits: &'a Limits,
    samples: u64,
    families: Families,
    matches: Vec<(&'a Selector, Vec<Match>)>,
}

impl Reader<'_> {
    /// Reads one line; true where it is the page's end mark.
    fn line(&mut self, line: &[u8], number: u64) -> Result<bool, ScanError> {
        let at = |problem: Problem| problem.at(number);
        if line.len() > self.limits.line_bytes {
            return Err(at(Over::Line(self.limits.line_bytes).into()));
        }
        let blanks = match self.format {
            Format::Text => line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count(),
            Format::OpenMetrics => 0,
        };
        match (line.get(blanks), self.format) {
            (None, Format::Text) => Ok(false),
            (None, Format::OpenMetrics) => Err(at(Problem::new("a blank line, which OpenMetrics does not allow"))),
            (Some(b'#'), _) => {
                let metadata = metadata(&line[blanks..], self.format, self.limits).map_err(at)?;
                let ended = metadata == Metadata::End;
                self.families.describe(metadata, number);
                Ok(ended)
            }
            (Some(_), _) => {
                self.sample(line, number)?;
                Ok(false)
            }
        }
    }

    fn sample(&mut self, line: &[u8], number: u64) -> Result<(), ScanError> {
        self.samples += 1;
        if self.samples > self.limits.samples {
            return Err(ScanError::PageOver(Over::Samples(self.limits.samples)));
        }
        let at = |problem: Problem| problem.at(number);
        let series = sample::series(line, self.format, self.limits).map_err(at)?;
        let reading = sample::reading(&line[series.len..], self.format, self.limits).map_err(at)?;
        self.families.count(&series.name, number);
        for (selector, found) in &mut self.matches {
            if selector.matches(&series.name, |label| series.label(label)) {
                found.push(Match::new(&series, reading));
            }
        }
        Ok(())
    }

    fn close(self) -> Inspection {
        let matches = self
            .matches
            .into_iter()
            .map(|(selector, series)| Matches { selector: selector.to_string(), series })
            .collect();
        Inspection { families: self.families.close(), matches }
    }
}

impl Match {
    fn new(series: &Series<'_>, reading: Reading) -> Self {
        Self {
            name: series.name.to_string(),
            labels: series.labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            value: reading.value,
            timestamp_ms: reading.timestamp,
        }
    }
}

fn json_value<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match special(*value) {
        Some(text) => serializer.serialize_str(text),
        None => serializer.serialize_f64(*value),
    }
}

/// How a value that JSON lacks is written.
fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value == f64::INFINITY {
        Some("+Inf")
    } else if value == f64::NEG_INFINITY {
        Some("-Inf")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
