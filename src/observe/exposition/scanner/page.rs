//! What has been kept of a page so far, and in which order.

use std::collections::HashMap;

use crate::domain::observation::{Page, Sample, SeriesId};
use crate::domain::time::Timestamp;

use super::super::limits::{Limits, Over, ScanError};
use super::super::sample::Reading;
use super::super::table::{Entry, SeriesTable};

/// What has been kept of a page so far.
#[derive(Debug)]
pub(super) struct Kept {
    page: Page,
    now: u64,
    /// Samples of each operand.
    counts: Vec<u32>,
    /// The place in the layout that is due.
    at: usize,
    /// From the first line that was not due: what the page really lists.
    strays: Option<Strays>,
    /// Slots have moved while the page came in; the layout is not to be learnt from it.
    moved: bool,
}

/// The order of a page that differs from the layout.
#[derive(Debug, Default)]
struct Strays {
    order: Vec<u32>,
    /// Where the samples of each series begin.
    seen: HashMap<SeriesId, usize>,
}

impl Kept {
    pub(super) fn new(expected: usize) -> Self {
        let page = Page { samples: Vec::with_capacity(expected), ..Page::default() };
        Self { page, now: 0, counts: Vec::new(), at: 0, strays: None, moved: false }
    }

    /// Takes the page's mark from the table.
    pub(super) fn open(&mut self, table: &mut SeriesTable) {
        self.now = table.tick();
        self.counts = vec![0; table.operands()];
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn len(&self) -> usize {
        self.page.samples.len()
    }

    /// Slots noted so far are void.
    pub(super) fn forget_slots(&mut self) {
        if self.now == 0 {
            return;
        }
        self.moved = true;
        self.at = 0;
        let seen = match self.strays.take() {
            Some(strays) => strays.seen,
            None => first_places(&self.page.samples),
        };
        self.strays = Some(Strays { order: Vec::new(), seen });
    }

    /// Keeps the line that was due.
    pub(super) fn due(
        &mut self,
        table: &mut SeriesTable,
        slot: u32,
        reading: Reading,
        limits: &Limits,
    ) -> Result<(), ScanError> {
        self.at += 1;
        let Some(entry) = table.touch(slot, self.now) else {
            return Ok(());
        };
        if let Some(strays) = &mut self.strays
            && strays.is_repeat(entry, slot, self.page.samples.len())
        {
            strays.replace_if_newer(entry, reading, &mut self.page.samples);
            return Ok(());
        }
        self.add(entry, reading, limits)
    }

    /// Keeps a line that was not due, and looks up what is due after it.
    pub(super) fn found(
        &mut self,
        table: &mut SeriesTable,
        slot: u32,
        reading: Reading,
        layout: &[u32],
        limits: &Limits,
    ) -> Result<(), ScanError> {
        let Some(entry) = table.touch(slot, self.now) else {
            return Ok(());
        };
        let strays = self.strays.get_or_insert_with(|| Strays {
            order: layout[..self.at.min(layout.len())].to_vec(),
            seen: first_places(&self.page.samples),
        });
        if strays.is_repeat(entry, slot, self.page.samples.len()) {
            strays.replace_if_newer(entry, reading, &mut self.page.samples);
            return Ok(());
        }
        let ahead = layout.get(self.at..).unwrap_or_default();
        if let Some(skipped) = ahead.iter().position(|due| *due == slot) {
            self.at += skipped + 1;
        }
        self.add(entry, reading, limits)
    }

    fn add(&mut self, entry: &Entry, reading: Reading, limits: &Limits) -> Result<(), ScanError> {
        if entry.process_start && self.page.process_start.is_none() && reading.value.is_finite() {
            self.page.process_start = Some(reading.value);
        }
        let Some(series) = entry.series else {
            return Ok(());
        };
        let timestamp = reading.timestamp.map(Timestamp::from_millis);
        for want in &entry.wants {
            if let Some(count) = self.counts.get_mut(usize::from(want.operand.0)) {
                *count += 1;
                if *count > limits.kept {
                    return Err(ScanError::PageOver(Over::Kept(limits.kept)));
                }
            }
            self.page.samples.push(Sample {
                operand: want.operand,
                series,
                bound: want.bound,
                value: reading.value,
                timestamp,
            });
        }
        Ok(())
    }

    /// The page's order, where it differs from the layout and can be learnt.
    pub(super) fn layout(&self, known: &[u32]) -> Option<Vec<u32>> {
        match &self.strays {
            _ if self.moved => None,
            Some(strays) => Some(strays.order.clone()),
            None if self.at < known.len() => Some(known[..self.at].to_vec()),
            None => None,
        }
    }

    /// The page, and whether every operand found something on it.
    pub(super) fn into_page(self) -> (Page, bool) {
        let complete = self.counts.iter().all(|count| *count > 0);
        (self.page, complete)
    }
}

impl Strays {
    /// Whether the page has listed this series before; otherwise it is noted, its samples to come at `place`.
    fn is_repeat(&mut self, entry: &Entry, slot: u32, place: usize) -> bool {
        if let Some(series) = entry.series {
            if self.seen.contains_key(&series) {
                return true;
            }
            self.seen.insert(series, place);
        }
        self.order.push(slot);
        false
    }

    /// Of two lines for one series the first counts, unless both have time stamps and the second's is newer.
    fn replace_if_newer(&self, entry: &Entry, reading: Reading, samples: &mut [Sample]) {
        let place = entry.series.and_then(|series| self.seen.get(&series));
        let (Some(place), Some(timestamp)) = (place, reading.timestamp.map(Timestamp::from_millis)) else {
            return;
        };
        for sample in samples.iter_mut().skip(*place).take(entry.wants.len()) {
            if sample.timestamp.is_some_and(|first| first < timestamp) {
                sample.value = reading.value;
                sample.timestamp = Some(timestamp);
            }
        }
    }
}

fn first_places(samples: &[Sample]) -> HashMap<SeriesId, usize> {
    let mut places = HashMap::new();
    for (place, sample) in samples.iter().enumerate() {
        places.entry(sample.series).or_insert(place);
    }
    places
}
