//! What is done with one line: passed over, recognised by the layout, or read in full.

use super::super::families::NameLog;
use super::super::limits::{Over, Problem, ScanError};
use super::super::metadata::{Metadata, metadata};
use super::super::quotes::ends_open;
use super::super::sample::{self, Reading};
use super::super::table::SeriesTable;
use super::super::wanted::Class;
use super::super::{Format, number};
use super::Scan;

/// Adjacent lines of one metric name.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Name and the byte after it.
    prefix: Vec<u8>,
    /// `None` where the name is not wanted.
    class: Option<Class>,
}

/// Whether a line is complete.
#[derive(PartialEq)]
pub(super) enum Flow {
    Done,
    /// It ends inside a label value: the next line belongs to it.
    Open,
}

impl Scan<'_> {
    /// Passes over whole lines that nothing asks for, those of the name in hand and comments, and returns what is left.
    /// Most of a page goes through this loop; it leaves to [`Scan::line`] whatever is not plain.
    pub(super) fn pass<'c>(&mut self, mut rest: &'c [u8]) -> Result<&'c [u8], ScanError> {
        let prefix = match self.run.class {
            None if !self.run.prefix.is_empty() => Some(&*self.run.prefix),
            None | Some(_) => None,
        };
        let judges_comments = self.names.as_ref().is_none_or(NameLog::collecting);
        let longest = self.scanner.limits.line_bytes;
        let (mut lines, mut samples) = (0, 0);
        loop {
            let comment = !judges_comments && is_idle_comment(rest, self.format);
            // A line that begins with the prefix does not end in it.
            let skipped = match prefix {
                _ if comment => 0,
                Some(prefix) if begins_with(rest, prefix) => prefix.len(),
                Some(_) | None => break,
            };
            let Some(end) = memchr::memchr(b'\n', &rest[skipped..]).map(|end| skipped + end) else {
                break;
            };
            if end > longest || (!comment && ends_open(&rest[..end])) {
                break;
            }
            lines += 1;
            samples += u64::from(!comment);
            rest = &rest[end + 1..];
        }
        self.lines += lines;
        self.count(samples)?;
        Ok(rest)
    }

    /// Takes one line. Lines of unwanted names leave by the first return, wanted ones by the second.
    pub(super) fn line(&mut self, table: &mut SeriesTable, line: &[u8]) -> Result<Flow, ScanError> {
        self.check_length(line.len())?;
        self.lines += 1;
        if self.run.class.is_none() && !self.run.prefix.is_empty() && line.starts_with(&self.run.prefix) {
            self.count(1)?;
            return self.skip(line);
        }
        if self.due(table, line)? {
            return Ok(Flow::Done);
        }
        self.other_line(table, line)
    }

    /// Whether the line is the one that is due by the layout; if so, it is taken.
    fn due(&mut self, table: &mut SeriesTable, line: &[u8]) -> Result<bool, ScanError> {
        let Some(slot) = self.scanner.layout.get(self.kept.at()).copied() else {
            return Ok(false);
        };
        let Some(entry) = table.entry(slot) else {
            return Ok(false);
        };
        let Some(rest) = line.strip_prefix(&*entry.text) else {
            return Ok(false);
        };
        if entry.bare && !matches!(rest, [b' ', next, ..] if !matches!(next, b' ' | b'\t' | b'{')) {
            return Ok(false);
        }
        self.count(1)?;
        let reading = self.reading(rest)?;
        if self.run.prefix.is_empty() || !line.starts_with(&self.run.prefix) {
            self.note_run(table, line);
        }
        self.kept.due(table, slot, reading, &self.scanner.limits)?;
        Ok(true)
    }

    /// Parses what follows a series; the usual case, one space and a value, without detours.
    fn reading(&self, rest: &[u8]) -> Result<Reading, ScanError> {
        if let Some((b' ', value)) = rest.split_first()
            && let Ok(value) = number::float(value)
        {
            return Ok(Reading { value, timestamp: None });
        }
        sample::reading(rest, self.format, &self.scanner.limits).map_err(|problem| problem.at(self.lines))
    }

    pub(super) fn count(&mut self, samples: u64) -> Result<(), ScanError> {
        self.samples += samples;
        let limit = self.scanner.limits.samples;
        if self.samples > limit { Err(ScanError::PageOver(Over::Samples(limit))) } else { Ok(()) }
    }

    /// Passes over a line that nothing asks for.
    fn skip(&self, line: &[u8]) -> Result<Flow, ScanError> {
        if !ends_open(line) {
            return Ok(Flow::Done);
        }
        match self.format {
            Format::Text => Ok(Flow::Open),
            Format::OpenMetrics => Err(Problem::new("a quoted string is not closed on its line").at(self.lines)),
        }
    }

    fn other_line(&mut self, table: &mut SeriesTable, line: &[u8]) -> Result<Flow, ScanError> {
        if self.run.class.is_some() && line.starts_with(&self.run.prefix) {
            let class = self.run.class.clone().unwrap_or(Class::Skip);
            self.count(1)?;
            return self.wanted_line(table, line, &class);
        }
        let blanks = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let start = match self.format {
            Format::Text => blanks,
            Format::OpenMetrics => 0,
        };
        match line.get(start) {
            None => Ok(Flow::Done),
            Some(b'#') => self.comment(&line[start..]),
            Some(_) if start > 0 => self.named_inside(table, line),
            Some(b'{' | b' ' | b'\t') => self.named_inside(table, line),
            Some(_) => self.new_run(table, line),
        }
    }

    fn comment(&mut self, line: &[u8]) -> Result<Flow, ScanError> {
        let end = match self.format {
            Format::Text => false,
            Format::OpenMetrics => line.starts_with(b"# EOF"),
        };
        let collecting = self.names.as_ref().is_some_and(NameLog::collecting);
        if !end && !collecting {
            return Ok(Flow::Done);
        }
        match metadata(line, self.format, &self.scanner.limits) {
            Ok(Metadata::End) => self.ended = true,
            Ok(Metadata::Type { family, .. }) => {
                if let Some(names) = &mut self.names {
                    names.family(&family);
                }
            }
            Ok(Metadata::Help { .. } | Metadata::Unit { .. } | Metadata::Comment) => {}
            Err(problem) if end => return Err(problem.at(self.lines)),
            // What no rule asks for is not judged here.
            Err(_) => {}
        }
        Ok(Flow::Done)
    }

    /// A line that starts with a name which is not the last one's.
    fn new_run(&mut self, table: &mut SeriesTable, line: &[u8]) -> Result<Flow, ScanError> {
        self.count(1)?;
        match self.note_run(table, line) {
            Some(class) => self.wanted_line(table, line, &class),
            None => self.skip(line),
        }
    }

    /// Begins a run of lines that share the name of this one; `None` where the name does not lead the line.
    fn note_run(&mut self, table: &mut SeriesTable, line: &[u8]) -> Option<Class> {
        self.end_run();
        let end = line.iter().position(|byte| !is_name_byte(*byte)).unwrap_or(line.len());
        let name = std::str::from_utf8(&line[..end]).unwrap_or_default();
        if name.is_empty() {
            return None;
        }
        // A line that is a name and nothing else says nothing of the lines after it.
        let prefix = line.get(..=end).unwrap_or_default();
        Some(self.start_run(table, name, prefix))
    }

    /// A line whose name is inside its braces, or which starts with blanks.
    fn named_inside(&mut self, table: &mut SeriesTable, line: &[u8]) -> Result<Flow, ScanError> {
        self.count(1)?;
        if self.skip(line)? == Flow::Open {
            return Ok(Flow::Open);
        }
        let series = sample::series(line, self.format, &self.scanner.limits).map_err(|p| p.at(self.lines))?;
        let class = match quoted_name_prefix(line) {
            Some(prefix) => self.start_run(table, &series.name, prefix),
            None => {
                self.end_run();
                table.class(&series.name)
            }
        };
        self.wanted_line(table, line, &class)
    }

    /// Nothing is known of the lines after this one.
    fn end_run(&mut self) {
        self.run.prefix.clear();
        self.run.class = None;
    }

    fn start_run(&mut self, table: &mut SeriesTable, name: &str, prefix: &[u8]) -> Class {
        if let Some(names) = &mut self.names {
            names.series(name);
        }
        let class = table.class(name);
        self.run.prefix.clear();
        self.run.prefix.extend_from_slice(prefix);
        self.run.class = match &class {
            Class::Skip => None,
            Class::Take(_) => Some(class.clone()),
        };
        class
    }

    fn wanted_line(&mut self, table: &mut SeriesTable, line: &[u8], class: &Class) -> Result<Flow, ScanError> {
        match class {
            Class::Skip => self.skip(line),
            Class::Take(_) => {
                if self.skip(line)? == Flow::Open {
                    return Ok(Flow::Open);
                }
                self.take(table, line, class)?;
                Ok(Flow::Done)
            }
        }
    }

    /// Parses a line in full and keeps what operands ask for.
    pub(super) fn take(&mut self, table: &mut SeriesTable, line: &[u8], class: &Class) -> Result<(), ScanError> {
        let (series, reading) = self.parse(line)?;
        let ids = match class {
            Class::Skip => &[],
            Class::Take(ids) => &**ids,
        };
        let text = &line[..series.len];
        let slot = table.intern(text, &series, ids, self.kept.now()).map_err(|problem| problem.at(self.lines))?;
        if table.epoch() != self.scanner.epoch {
            self.meet(table);
        }
        match slot {
            Some(slot) => self.kept.found(table, slot, reading, &self.scanner.layout, &self.scanner.limits),
            None => Ok(()),
        }
    }

    pub(super) fn parse<'l>(&self, line: &'l [u8]) -> Result<(sample::Series<'l>, Reading), ScanError> {
        let parse = || {
            let series = sample::series(line, self.format, &self.scanner.limits)?;
            let reading = sample::reading(&line[series.len..], self.format, &self.scanner.limits)?;
            Ok((series, reading))
        };
        parse().map_err(|problem: Problem| problem.at(self.lines))
    }
}

/// As `starts_with`, for what is compared with thousands of lines in a row: a few comparisons of sixteen bytes in place of a
/// call.
#[inline]
fn begins_with(line: &[u8], prefix: &[u8]) -> bool {
    let Some(line) = line.get(..prefix.len()) else {
        return false;
    };
    match (line.last_chunk::<16>(), prefix.last_chunk::<16>()) {
        (Some(end), Some(prefix_end)) => {
            end == prefix_end && line.as_chunks::<16>().0.iter().eq(prefix.as_chunks::<16>().0)
        }
        (None | Some(_), None | Some(_)) => line == prefix,
    }
}

/// Whether a line is a comment that says nothing to the scanner.
fn is_idle_comment(line: &[u8], format: Format) -> bool {
    match (line, format) {
        ([b'#', ..], Format::Text) => true,
        ([b'#', b' ', keyword, ..], Format::OpenMetrics) => *keyword != b'E',
        (_, Format::Text | Format::OpenMetrics) => false,
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':'
}

/// The part of a line that settles its name, where that is a quoted string right after the brace.
fn quoted_name_prefix(line: &[u8]) -> Option<&[u8]> {
    let inside = line.strip_prefix(b"{\"")?;
    let end = memchr::memchr2(b'"', b'\\', inside)? + 2;
    match line.get(end..end + 2)? {
        [b'"', b',' | b'}'] => Some(&line[..end + 2]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_short_comparison_is_that_of_the_library(line in "[ab]{0,70}", length in 0_usize..70, change in any::<bool>()) {
            let mut prefix = line.as_bytes()[..length.min(line.len())].to_vec();
            if let (true, Some(byte)) = (change, prefix.get_mut(length / 2)) {
                *byte = b'c';
            }
            prop_assert_eq!(begins_with(line.as_bytes(), &prefix), line.as_bytes().starts_with(&prefix));
            prop_assert!(!begins_with(line.as_bytes(), &[line.as_bytes(), b"x"].concat()));
        }
    }
}
