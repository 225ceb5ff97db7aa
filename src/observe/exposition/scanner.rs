//! The daemon's reader: one target's pages, as they arrive.
//!
//! What makes the steady state cheap: a target lists the same series in the same order at each scrape. The scanner
//! remembers that order, so that a wanted line is recognised by comparing it with the one text that is due, and only its
//! value is parsed; and it remembers the name that it is passing over, so that an unwanted line costs one comparison.

mod page;

use std::sync::Arc;

use crate::domain::observation::Page;

use super::families::NameLog;
use super::limits::{Limits, Over, Problem, ScanError};
use super::metadata::{Metadata, metadata};
use super::quotes::{ends_open, runs_on};
use super::sample::{self, Reading};
use super::table::SeriesTable;
use super::wanted::Class;
use super::{Format, number};
use page::Kept;

/// Bytes that the buffer for a partial line keeps from page to page.
const SPARE_BYTES: usize = 4 << 10;

/// Reads one target's pages, and remembers how they are laid out.
#[derive(Debug)]
pub struct Scanner {
    limits: Limits,
    layout: Arc<[u32]>,
    epoch: u64,
    shape: Option<u64>,
    kept: usize,
}

impl Scanner {
    /// A scanner that knows nothing of its target yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, layout: Arc::from([]), epoch: 0, shape: None, kept: 0 }
    }

    /// Begins a page. The table is lent to each call instead of to the whole scan, so that targets that are scraped
    /// at the same time can share it.
    pub fn begin(&mut self, format: Format) -> Scan<'_> {
        Scan {
            format,
            carry: Vec::new(),
            open: false,
            lines: 0,
            joined: 0,
            bytes: 0,
            samples: 0,
            ended: false,
            run: Run::default(),
            kept: Kept::new(self.kept),
            names: None,
            scanner: self,
        }
    }
}

/// One page on its way in. After an error the page is lost; drop it.
#[derive(Debug)]
pub struct Scan<'s> {
    scanner: &'s mut Scanner,
    format: Format,
    /// The start of a line whose end has not arrived.
    carry: Vec<u8>,
    /// Whether `carry` holds whole lines that end inside a label value.
    open: bool,
    /// The number of the line in hand; of the first one where lines are joined.
    lines: u64,
    /// Line ends inside the line in hand.
    joined: u64,
    bytes: u64,
    samples: u64,
    /// `# EOF` has been seen.
    ended: bool,
    run: Run,
    kept: Kept,
    names: Option<NameLog>,
}

/// Adjacent lines of one metric name.
#[derive(Debug, Default)]
struct Run {
    /// Name and the byte after it.
    prefix: Vec<u8>,
    /// `None` where the name is not wanted.
    class: Option<Class>,
}

/// Whether a line is complete.
#[derive(PartialEq)]
enum Flow {
    Done,
    /// It ends inside a label value: the next line belongs to it.
    Open,
}

impl Scan<'_> {
    /// Takes the next piece of the page, cut anywhere.
    ///
    /// # Errors
    ///
    /// A wanted line that is malformed, and any limit that is exceeded: the page is lost.
    pub fn push(&mut self, table: &mut SeriesTable, chunk: &[u8]) -> Result<(), ScanError> {
        self.bytes += chunk.len() as u64;
        if self.bytes > self.scanner.limits.body_bytes {
            return Err(ScanError::PageOver(Over::Body(self.scanner.limits.body_bytes)));
        }
        self.meet(table);
        let mut rest = chunk;
        while !rest.is_empty() {
            if self.ended {
                return Err(Problem::new("data after # EOF").at(self.lines + 1));
            }
            let Some(end) = memchr::memchr(b'\n', rest) else {
                return self.keep(rest);
            };
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if !self.carry.is_empty() {
                self.carried_line(table, line)?;
            } else if self.line(table, line)? == Flow::Open {
                self.hold_open(line)?;
            }
            rest = after;
        }
        Ok(())
    }

    /// Ends the page.
    ///
    /// # Errors
    ///
    /// As [`Scan::push`], and a page that stops short: inside a label value, or in OpenMetrics before `# EOF`.
    pub fn finish(mut self, table: &mut SeriesTable) -> Result<Page, ScanError> {
        self.meet(table);
        if !self.carry.is_empty() && !self.open {
            let line = std::mem::take(&mut self.carry);
            self.open = self.line(table, &line)? == Flow::Open;
        }
        if self.open {
            return Err(Problem::new("the page ends inside a label value").at(self.lines));
        }
        match self.format {
            Format::OpenMetrics if !self.ended => {
                return Err(Problem::new("the page does not end with # EOF").at(self.lines));
            }
            Format::OpenMetrics | Format::Text => {}
        }
        Ok(self.close(table))
    }

    /// Takes note of the table at each call: another scan may have moved its slots in between.
    fn meet(&mut self, table: &mut SeriesTable) {
        if table.epoch() != self.scanner.epoch {
            self.scanner.epoch = table.epoch();
            self.scanner.layout = Arc::from([]);
            self.kept.forget_slots();
        }
        if self.names.is_none() {
            self.kept.open(table);
            let known = self.scanner.shape.is_some_and(|shape| table.families(shape).is_some());
            let wanted = self.scanner.shape != Some(Self::COMPLETE) && !known;
            self.names = Some(NameLog::new(wanted));
        }
    }

    /// Adds to a line whose end has not arrived.
    fn keep(&mut self, part: &[u8]) -> Result<(), ScanError> {
        self.carry.extend_from_slice(part);
        self.check_length(self.carry.len())
    }

    fn check_length(&self, length: usize) -> Result<(), ScanError> {
        let limit = self.scanner.limits.line_bytes;
        if length > limit { Err(Problem::from(Over::Line(limit)).at(self.lines + 1)) } else { Ok(()) }
    }

    fn hold_open(&mut self, line: &[u8]) -> Result<(), ScanError> {
        self.open = true;
        self.keep(line)?;
        self.keep(b"\n")
    }

    /// Takes the end of a line that began in an earlier piece, or a line that began inside a label value.
    fn carried_line(&mut self, table: &mut SeriesTable, end: &[u8]) -> Result<(), ScanError> {
        self.keep(end)?;
        let line = std::mem::take(&mut self.carry);
        let flow = if self.open { self.joined_line(table, &line)? } else { self.line(table, &line)? };
        self.carry = line;
        if flow == Flow::Open {
            self.open = true;
            return self.keep(b"\n");
        }
        self.open = false;
        self.carry.clear();
        self.carry.shrink_to(SPARE_BYTES);
        Ok(())
    }

    /// Takes a line that holds line ends. It is parsed even if nothing asks for it, since a quote that was merely
    /// forgotten must not swallow the lines that follow.
    fn joined_line(&mut self, table: &mut SeriesTable, line: &[u8]) -> Result<Flow, ScanError> {
        self.joined += 1;
        let last = memchr::memrchr(b'\n', line).map_or(0, |end| end + 1);
        if runs_on(&line[last..], true) {
            return Ok(Flow::Open);
        }
        let (series, _) = self.parse(line)?;
        let class = table.class(&series.name);
        self.count()?;
        if let Class::Take(_) = class {
            self.take(table, line, &class)?;
        }
        self.lines += std::mem::take(&mut self.joined);
        Ok(Flow::Done)
    }

    /// Takes one line. Lines of unwanted names leave by the first return, wanted ones by the second.
    fn line(&mut self, table: &mut SeriesTable, line: &[u8]) -> Result<Flow, ScanError> {
        self.check_length(line.len())?;
        self.lines += 1;
        if self.run.class.is_none() && !self.run.prefix.is_empty() && line.starts_with(&self.run.prefix) {
            self.count()?;
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
        self.count()?;
        let reading = self.reading(rest)?;
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

    fn count(&mut self) -> Result<(), ScanError> {
        self.samples += 1;
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
            self.count()?;
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
        self.count()?;
        let end = line.iter().position(|byte| !is_name_byte(*byte)).unwrap_or(line.len());
        let name = std::str::from_utf8(&line[..end]).unwrap_or("");
        // A line that is a name and nothing else says nothing of the lines after it.
        let prefix = line.get(..=end).unwrap_or_default();
        let class = self.start_run(table, name, prefix);
        self.wanted_line(table, line, &class)
    }

    /// A line whose name is inside its braces, or which starts with blanks.
    fn named_inside(&mut self, table: &mut SeriesTable, line: &[u8]) -> Result<Flow, ScanError> {
        self.count()?;
        if self.skip(line)? == Flow::Open {
            return Ok(Flow::Open);
        }
        let series = sample::series(line, self.format, &self.scanner.limits).map_err(|p| p.at(self.lines))?;
        let class = match quoted_name_prefix(line) {
            Some(prefix) => self.start_run(table, &series.name, prefix),
            None => {
                self.run.prefix.clear();
                table.class(&series.name)
            }
        };
        self.wanted_line(table, line, &class)
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
    fn take(&mut self, table: &mut SeriesTable, line: &[u8], class: &Class) -> Result<(), ScanError> {
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

    fn parse<'l>(&self, line: &'l [u8]) -> Result<(sample::Series<'l>, Reading), ScanError> {
        let parse = || {
            let series = sample::series(line, self.format, &self.scanner.limits)?;
            let reading = sample::reading(&line[series.len..], self.format, &self.scanner.limits)?;
            Ok((series, reading))
        };
        parse().map_err(|problem: Problem| problem.at(self.lines))
    }

    /// Stands for the shape of a page on which every operand found something, so that no names are needed.
    const COMPLETE: u64 = u64::MAX;

    fn close(self, table: &mut SeriesTable) -> Page {
        let scanner = self.scanner;
        if let Some(layout) = self.kept.layout(&scanner.layout) {
            scanner.layout = table.share_layout(&layout);
        }
        scanner.kept = self.kept.len();
        let mut page = self.kept.into_page();
        let complete = page.1;
        page.0.families = match self.names {
            Some(names) if !complete => {
                let shape = names.shape();
                scanner.shape = Some(shape);
                match (table.families(shape), names.into_names()) {
                    (Some(known), _) => Some(known),
                    (None, Some(names)) => {
                        table.remember_families(shape, Arc::clone(&names));
                        Some(names)
                    }
                    (None, None) => None,
                }
            }
            _ => {
                scanner.shape = Some(Self::COMPLETE);
                None
            }
        };
        page.0
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
mod tests;
