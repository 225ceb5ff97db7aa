//! The series of one workload, by the very text that its pages spell them in.
//!
//! Targets of a workload expose the same texts scrape after scrape, so each text is parsed and matched once. The table
//! is bounded by bytes; over the bound, what was not seen for longest goes, and its identity with it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::domain::observation::SeriesId;
use crate::domain::policy::{OperandId, Operands};

use super::limits::{Over, Problem};
use super::sample::Series;
use super::wanted::{Class, PROCESS_START, Want, Wanted};

/// Bytes that the table of one workload may take, estimated.
const TABLE_BYTES: usize = 64 << 20;
/// What an entry takes besides its texts, roughly.
const ENTRY_OVERHEAD: usize = 192;
/// One part in this many of the table may hold series whose name is asked for and whose labels are not; past it such
/// lines are parsed at each scrape.
const UNMATCHED_SHARE: usize = 8;
/// Pages between two clearances of unmatched entries, so that a flood of new ones does not void layouts at each page.
const CLEARANCE_PAGES: u64 = 1_000;
/// Page shapes whose family names are kept.
const SHAPES: usize = 8;

/// Names the series of one workload's pages; shared by the scanners of its targets.
#[derive(Debug)]
pub struct SeriesTable {
    wanted: Wanted,
    entries: Vec<Entry>,
    by_text: HashMap<Arc<[u8]>, u32>,
    by_labels: HashMap<Box<[u8]>, SeriesId>,
    next_id: u32,
    bytes: usize,
    unmatched_bytes: usize,
    cleared: u64,
    budget: usize,
    clock: u64,
    epoch: u64,
    shapes: Vec<(u64, Arc<[String]>)>,
    last_layout: Arc<[u32]>,
}

/// A series in one spelling.
#[derive(Debug)]
pub(crate) struct Entry {
    /// As the page spells it, up to the closing brace or the end of the name.
    pub text: Arc<[u8]>,
    /// Whether it has no braces, so that what follows tells whether the name ends there.
    pub bare: bool,
    /// Whether it is the process's start time.
    pub process_start: bool,
    /// `None` where no operand's matchers match.
    pub series: Option<SeriesId>,
    /// What operands read from it.
    pub wants: Box<[Want]>,
    cost: usize,
    seen: u64,
}

impl Entry {
    fn is_unmatched(&self) -> bool {
        self.series.is_none() && !self.process_start
    }
}

impl SeriesTable {
    /// An empty table for these operands.
    #[must_use]
    pub fn new(operands: &Operands) -> Self {
        Self::with_budget(operands, TABLE_BYTES)
    }

    pub(crate) fn with_budget(operands: &Operands, budget: usize) -> Self {
        Self {
            wanted: Wanted::new(operands),
            entries: Vec::new(),
            by_text: HashMap::new(),
            by_labels: HashMap::new(),
            next_id: 0,
            bytes: 0,
            unmatched_bytes: 0,
            cleared: 0,
            budget,
            clock: 0,
            epoch: 0,
            shapes: Vec::new(),
            last_layout: Arc::from([]),
        }
    }

    /// Spellings that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many operands the table serves.
    pub(crate) fn operands(&self) -> usize {
        self.wanted.len()
    }

    /// Starts a page: a mark by which old entries are told from those in use.
    pub(crate) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Changes whenever slots have moved, so that slots noted before are void.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn class(&mut self, name: &str) -> Class {
        self.wanted.class(name)
    }

    #[inline]
    pub(crate) fn entry(&self, slot: u32) -> Option<&Entry> {
        self.entries.get(slot as usize)
    }

    /// The entry at `slot`, marked as seen on page `now`.
    #[inline]
    pub(crate) fn touch(&mut self, slot: u32, now: u64) -> Option<&Entry> {
        let entry = self.entries.get_mut(slot as usize)?;
        entry.seen = now;
        Some(entry)
    }

    /// The slot of a spelling, added where it is new. `None` for a series that no operand matches where there is no
    /// room to remember that.
    pub(crate) fn intern(
        &mut self,
        text: &[u8],
        series: &Series<'_>,
        ids: &[OperandId],
        now: u64,
    ) -> Result<Option<u32>, Problem> {
        if let Some(slot) = self.by_text.get(text) {
            return Ok(Some(*slot));
        }
        let wants = self.wanted.wants(ids, series);
        let process_start = series.name == PROCESS_START;
        let matched = process_start || !wants.is_empty();
        let labels = canonical(series);
        let cost = text.len() + labels.len() + wants.len() * size_of::<Want>() + ENTRY_OVERHEAD;
        if !matched && !self.has_room_for_unmatched(cost, now) {
            return Ok(None);
        }
        self.make_room(cost, now)?;
        let series_id = if wants.is_empty() { None } else { Some(self.identity(labels)?) };
        let slot = u32::try_from(self.entries.len()).map_err(|_| Problem::from(Over::Table(self.budget)))?;
        let text: Arc<[u8]> = Arc::from(text);
        self.by_text.insert(Arc::clone(&text), slot);
        self.entries.push(Entry {
            bare: !text.ends_with(b"}"),
            text,
            process_start,
            series: series_id,
            wants,
            cost,
            seen: now,
        });
        self.bytes += cost;
        self.unmatched_bytes += if matched { 0 } else { cost };
        Ok(Some(slot))
    }

    fn identity(&mut self, labels: Box<[u8]>) -> Result<SeriesId, Problem> {
        if let Some(known) = self.by_labels.get(&labels) {
            return Ok(*known);
        }
        let id = SeriesId(self.next_id);
        self.next_id = self.next_id.checked_add(1).ok_or(Over::Table(self.budget))?;
        self.by_labels.insert(labels, id);
        Ok(id)
    }

    fn has_room_for_unmatched(&mut self, cost: usize, now: u64) -> bool {
        let room = self.budget / UNMATCHED_SHARE;
        if self.unmatched_bytes + cost > room && now >= self.cleared + CLEARANCE_PAGES {
            self.cleared = now;
            self.drop_older_half(now, |entry| entry.is_unmatched());
        }
        self.unmatched_bytes + cost <= room
    }

    fn make_room(&mut self, cost: usize, now: u64) -> Result<(), Problem> {
        if self.bytes + cost > self.budget {
            self.drop_older_half(now, |_| true);
        }
        if self.bytes + cost <= self.budget { Ok(()) } else { Err(Over::Table(self.budget).into()) }
    }

    /// Drops the half of these entries that was not seen for longest, but nothing that page `now` has used.
    fn drop_older_half(&mut self, now: u64, of: impl Fn(&Entry) -> bool) {
        let mut ages: Vec<u64> = self.entries.iter().filter(|entry| of(entry)).map(|entry| entry.seen).collect();
        if ages.is_empty() {
            return;
        }
        let middle = ages.len() / 2;
        let cutoff = (*ages.select_nth_unstable(middle).1).min(now.saturating_sub(1));
        self.entries.retain(|entry| !of(entry) || entry.seen > cutoff);
        self.reindex();
    }

    fn reindex(&mut self) {
        self.epoch += 1;
        self.last_layout = Arc::from([]);
        self.by_text = self.entries.iter().zip(0..).map(|(entry, slot)| (Arc::clone(&entry.text), slot)).collect();
        let kept: HashSet<SeriesId> = self.entries.iter().filter_map(|entry| entry.series).collect();
        self.by_labels.retain(|_, id| kept.contains(id));
        self.bytes = self.entries.iter().map(|entry| entry.cost).sum();
        self.unmatched_bytes = self.entries.iter().filter(|entry| entry.is_unmatched()).map(|entry| entry.cost).sum();
    }

    /// Lets targets whose pages list the same series in the same order share one list.
    pub(crate) fn share_layout(&mut self, layout: &[u32]) -> Arc<[u32]> {
        if *self.last_layout != *layout {
            self.last_layout = Arc::from(layout);
        }
        Arc::clone(&self.last_layout)
    }

    /// The family names of pages of this shape, where one was read in full.
    pub(crate) fn families(&self, shape: u64) -> Option<Arc<[String]>> {
        self.shapes.iter().find(|(known, _)| *known == shape).map(|(_, names)| Arc::clone(names))
    }

    /// Remembers the family names of pages of this shape; the oldest shape goes where there are too many.
    pub(crate) fn remember_families(&mut self, shape: u64, names: Arc<[String]>) {
        if self.shapes.len() >= SHAPES {
            self.shapes.remove(0);
        }
        self.shapes.push((shape, names));
    }
}

/// Name and labels in one order, so that equal label sets are equal bytes. 0xFF never occurs in UTF-8.
fn canonical(series: &Series<'_>) -> Box<[u8]> {
    let mut labels: Vec<(&str, &str)> =
        series.labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
    labels.sort_unstable();
    let mut key = series.name.as_bytes().to_vec();
    for text in labels.into_iter().flat_map(|(name, value)| [name, value]) {
        key.push(0xFF);
        key.extend_from_slice(text.as_bytes());
    }
    key.into_boxed_slice()
}

#[cfg(test)]
mod tests;
