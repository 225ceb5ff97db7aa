//! The daemon's reader: one target's pages, as they arrive.
//!
//! What makes the steady state cheap: a target lists the same series in the same order at each scrape. The scanner
//! remembers that order, so that a wanted line is recognised by comparing it with the one text that is due, and only its
//! value is parsed; and it remembers the name that it is passing over, so that an unwanted line costs one comparison.

mod line;
mod page;

use std::sync::Arc;

use crate::domain::observation::Page;

use super::Format;
use super::families::NameLog;
use super::limits::{Limits, Over, Problem, ScanError};
use super::quotes::runs_on;
use super::table::SeriesTable;
use super::wanted::Class;
use line::{Flow, Run};
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
            if self.carry.is_empty() {
                rest = self.pass(rest)?;
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
        if !self.carry.is_empty() {
            let line = std::mem::take(&mut self.carry);
            let flow = if self.open { self.joined_line(table, &line)? } else { self.line(table, &line)? };
            self.open = flow == Flow::Open;
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
        if length > limit {
            Err(Problem::from(Over::Line(limit)).at(self.lines + u64::from(!self.open)))
        } else {
            Ok(())
        }
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
        self.count(1)?;
        if let Class::Take(_) = class {
            self.take(table, line, &class)?;
        }
        self.lines += std::mem::take(&mut self.joined);
        Ok(Flow::Done)
    }

    /// Stands for the shape of a page on which every operand found something, so that no names are needed.
    const COMPLETE: u64 = u64::MAX;

    fn close(self, table: &mut SeriesTable) -> Page {
        let scanner = self.scanner;
        if let Some(layout) = self.kept.layout(&scanner.layout) {
            scanner.layout = table.share_layout(&layout);
        }
        scanner.kept = self.kept.len();
        let (mut page, complete) = self.kept.into_page();
        let shape = self.names.as_ref().filter(|_| !complete).map_or(Self::COMPLETE, NameLog::shape);
        scanner.shape = Some(shape);
        let told = self.names.filter(|names| !complete || names.collecting());
        page.families = told.and_then(|names| names.families(table));
        page
    }
}

#[cfg(test)]
mod tests;
