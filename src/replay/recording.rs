//! Recorded points, in the order of their time, in memory up to a bound and above it in sorted runs on disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use super::exporters::tells_by_steps;
use super::merge::{Cursor, Runs};
use crate::domain::time::{Span, Timestamp};
use crate::observe::exposition::is_part_of;

/// Points in memory before a sorted run goes to disk: about 100 MB, and half as much again while they are sorted.
const POINTS_IN_MEMORY: usize = 4_000_000;

/// Series that a recording may have.
const MAX_SERIES: usize = 2_000_000;

/// First gaps between two points of a series that tell how often it was looked at.
const GAPS: usize = 9;

/// What an exporter writes for a series that ended, as Prometheus stores it: a NaN with these very bits.
pub const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Whether a value says that its series ended.
#[must_use]
pub const fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE.to_bits()
}

/// A series of a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SeriesKey(pub(super) u32);

/// One recorded value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Point {
    pub(super) at: i64,
    pub(super) value: f64,
    pub(super) series: u32,
}

impl Point {
    /// Points are replayed by time, and at one time in the order in which their series were first met.
    pub(super) const fn order(&self) -> (i64, u32) {
        (self.at, self.series)
    }
}

/// A series, and when it was recorded.
#[derive(Clone, Debug)]
pub(super) struct SeriesInfo {
    pub(super) name: Arc<str>,
    /// By name.
    pub(super) labels: Arc<[(Box<str>, Box<str>)]>,
    pub(super) first: i64,
    pub(super) last: i64,
    gaps: Vec<i64>,
    newest: i64,
    /// Whether a point came after a later one, so that gaps and steps are not known before all are in order.
    is_disordered: bool,
    /// When its value changed and to what, for a series of which that tells a rollout.
    pub(super) steps: Vec<(i64, f64)>,
    keeps_steps: bool,
}

/// Changes of value remembered a series.
const MAX_STEPS: usize = 256;

impl SeriesInfo {
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| **label == *name).map(|(_, value)| &**value)
    }

    /// The usual time between two points.
    pub(super) fn cadence(&self) -> Option<Span> {
        let mut gaps = self.gaps.clone();
        gaps.sort_unstable();
        let middle = *gaps.get(gaps.len() / 2)?;
        u64::try_from(middle).ok().map(Span::from_millis)
    }

    fn note(&mut self, at: i64, value: f64) {
        let is_step = self.keeps_steps && value.is_finite() && self.steps.len() < MAX_STEPS;
        if is_step && self.steps.last().is_none_or(|(_, last)| last.to_bits() != value.to_bits()) {
            self.steps.push((at, value));
        }
        if self.first > self.last {
            (self.first, self.last) = (at, at);
        } else {
            if self.gaps.len() < GAPS && at > self.newest {
                self.gaps.push(at - self.newest);
            }
            self.first = self.first.min(at);
            self.last = self.last.max(at);
        }
        self.is_disordered |= self.first < self.last && at < self.newest;
        self.newest = at;
    }

    /// Forgets what was noted in another order than that of time.
    fn begin_anew(&mut self) {
        (self.first, self.last, self.newest) = (0, -1, 0);
        self.gaps.clear();
        self.steps.clear();
    }
}

type Labels = Arc<[(Box<str>, Box<str>)]>;

/// Takes points in any order and makes a [`Recording`] of them.
#[derive(Debug)]
pub struct Recorder {
    series: Vec<SeriesInfo>,
    known: HashMap<(Arc<str>, Labels), u32>,
    names: HashMap<Box<str>, Arc<str>>,
    families: BTreeMap<String, Option<(i64, i64)>>,
    notes: Vec<String>,
    points: Vec<Point>,
    runs: Runs,
    in_memory: usize,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// Nothing recorded yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with_memory(POINTS_IN_MEMORY)
    }

    /// Keeps at most so many points in memory.
    pub(super) fn with_memory(points: usize) -> Self {
        Self {
            series: Vec::new(),
            known: HashMap::new(),
            names: HashMap::new(),
            families: BTreeMap::new(),
            notes: Vec::new(),
            points: Vec::new(),
            runs: Runs::default(),
            in_memory: points.max(1),
        }
    }

    /// The series of this name and these labels; labels with an empty value are the same as none. `None` where the
    /// recording has two million series already.
    pub fn series(&mut self, name: &str, labels: &[(&str, &str)]) -> Option<SeriesKey> {
        let mut sorted: Vec<(Box<str>, Box<str>)> = labels
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(label, value)| ((*label).into(), (*value).into()))
            .collect();
        sorted.sort_unstable();
        let name = match self.names.get(name) {
            Some(known) => Arc::clone(known),
            None => {
                let shared: Arc<str> = name.into();
                self.names.insert(name.into(), Arc::clone(&shared));
                shared
            }
        };
        let key = (name, Labels::from(sorted));
        if let Some(slot) = self.known.get(&key) {
            return Some(SeriesKey(*slot));
        }
        let slot = u32::try_from(self.series.len()).ok().filter(|_| self.series.len() < MAX_SERIES)?;
        let (name, labels) = key.clone();
        let keeps_steps = tells_by_steps(&name);
        self.series.push(SeriesInfo {
            name,
            labels,
            first: 0,
            last: -1,
            gaps: Vec::new(),
            newest: 0,
            is_disordered: false,
            steps: Vec::new(),
            keeps_steps,
        });
        self.known.insert(key, slot);
        Some(SeriesKey(slot))
    }

    /// Adds a value; [`STALE`] where the series ends. Of two for one series and time the first counts.
    ///
    /// # Errors
    /// A run of points could not be written to a temporary file.
    pub fn point(&mut self, series: SeriesKey, at: Timestamp, value: f64) -> io::Result<()> {
        let Some(info) = self.series.get_mut(series.0 as usize) else { return Ok(()) };
        info.note(at.as_millis(), value);
        self.points.push(Point { at: at.as_millis(), value, series: series.0 });
        if self.points.len() < self.in_memory {
            return Ok(());
        }
        self.points.sort_by_key(Point::order);
        self.runs.spill(&self.points)?;
        self.points.clear();
        Ok(())
    }

    /// Notes that a family of this name is recorded, for telling which lie nearest to one that is not; and when, as far as
    /// its samples are not kept.
    pub fn family(&mut self, name: &str, times: Option<(Timestamp, Timestamp)>) {
        let known = match self.families.get_mut(name) {
            Some(known) => known,
            None => self.families.entry(name.to_owned()).or_insert(None),
        };
        widen(known, times.map(|(first, last)| (first.as_millis(), last.as_millis())));
    }

    /// Notes what the reader of an outcome should know of how this was recorded.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Every family and when it is recorded; of series that no family announces, under their own name. None where nothing
    /// was ever told of families: then only what is asked for is recorded.
    fn all_families(&mut self) -> Vec<(String, i64, i64)> {
        if self.families.is_empty() {
            return Vec::new();
        }
        for series in self.series.iter().filter(|series| series.first <= series.last) {
            let family = family_of(&series.name, &self.families).to_owned();
            widen(self.families.entry(family).or_insert(None), Some((series.first, series.last)));
        }
        let families = std::mem::take(&mut self.families);
        families.into_iter().filter_map(|(name, times)| times.map(|(first, last)| (name, first, last))).collect()
    }

    /// The recording.
    #[must_use]
    pub fn finish(mut self) -> Recording {
        self.points.sort_by_key(Point::order);
        self.points.shrink_to_fit();
        let families = self.all_families().into();
        let Self { series, notes, points, runs, .. } = self;
        let mut recording = Recording { series, families, notes, points, runs };
        // Points that can't be read back stop the replay as well, which says so.
        let _ = recording.put_in_order();
        recording
    }
}

fn widen(known: &mut Option<(i64, i64)>, more: Option<(i64, i64)>) {
    *known = match (*known, more) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    };
}

/// The announced family that a series belongs to, else its own name.
fn family_of<'n>(series: &'n str, families: &BTreeMap<String, Option<(i64, i64)>>) -> &'n str {
    let ends = series.match_indices('_').map(|(end, _)| &series[..end]);
    let mut announced = ends.filter(|name| families.contains_key(*name) && is_part_of(series, name));
    announced.next_back().unwrap_or(series)
}

/// Recorded points in the order of their time.
#[derive(Debug)]
pub struct Recording {
    pub(super) series: Vec<SeriesInfo>,
    /// By name, with first and last time.
    pub(super) families: Arc<[(String, i64, i64)]>,
    /// What is to be known of how it was recorded.
    pub(super) notes: Vec<String>,
    points: Vec<Point>,
    runs: Runs,
}

impl Recording {
    /// The first and the last time of all points; none where there are none.
    #[must_use]
    pub fn range(&self) -> Option<(Timestamp, Timestamp)> {
        let recorded = || self.series.iter().filter(|series| series.first <= series.last);
        let first = recorded().map(|series| series.first).min()?;
        let last = recorded().map(|series| series.last).max()?;
        Some((Timestamp::from_millis(first), Timestamp::from_millis(last)))
    }

    /// How many series there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The values that a label has, in order.
    #[must_use]
    pub fn values_of(&self, label: &str) -> BTreeSet<&str> {
        self.series.iter().filter_map(|series| series.label(label)).collect()
    }

    /// Notes again, in the order of time, what is known of series whose points came in another.
    fn put_in_order(&mut self) -> io::Result<()> {
        if !self.series.iter().any(|series| series.is_disordered) {
            return Ok(());
        }
        self.series.iter_mut().filter(|series| series.is_disordered).for_each(SeriesInfo::begin_anew);
        let mut cursor = Cursor::new(&self.points, &self.runs);
        while let Some(point) = cursor.next()? {
            let series = self.series.get_mut(point.series as usize);
            if let Some(series) = series.filter(|series| series.is_disordered) {
                series.note(point.at, point.value);
            }
        }
        Ok(())
    }

    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor::new(&self.points, &self.runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(recording: &Recording) -> Vec<(i64, u32, f64)> {
        let mut cursor = recording.cursor();
        let mut all = Vec::new();
        while let Some(point) = cursor.next().unwrap() {
            all.push((point.at, point.series, point.value));
        }
        all
    }

    /// Family after family, out of order, with repeats: as files come.
    fn record(in_memory: usize) -> Recording {
        let mut recorder = Recorder::with_memory(in_memory);
        for name in ["b", "a", "b"] {
            let series = recorder.series(name, &[("x", "1"), ("empty", "")]).unwrap();
            for i in 0..10 {
                let at = Timestamp::from_millis((i * 7 % 10) * 1000);
                recorder.point(series, at, i as f64).unwrap();
            }
        }
        recorder.finish()
    }

    #[test]
    fn points_come_by_time_whether_they_fit_in_memory_or_not() {
        let whole = play(&record(1_000));
        assert_eq!(whole.len(), 20, "repeats are left out");
        assert!(whole.windows(2).all(|pair| (pair[0].0, pair[0].1) < (pair[1].0, pair[1].1)), "{whole:?}");
        assert_eq!(whole[2], (1_000, 0, 3.0));
        for in_memory in [1, 2, 3, 7, 19, 20, 21] {
            assert_eq!(play(&record(in_memory)), whole, "{in_memory}");
        }
    }

    #[test]
    fn a_series_is_known_by_its_labels_in_any_order() {
        let mut recorder = Recorder::new();
        let one = recorder.series("a", &[("x", "1"), ("y", "2")]);
        assert_eq!(recorder.series("a", &[("y", "2"), ("x", "1"), ("z", "")]), one);
        assert_ne!(recorder.series("a", &[("x", "1")]), one);
    }

    #[test]
    fn what_is_known_of_a_series_does_not_depend_on_the_order_of_its_points() {
        let points: Vec<(i64, f64)> = (0..40).map(|i| (i * 15_000, if i < 20 { 1.0 } else { 2.0 })).collect();
        let known = |order: &[usize], in_memory: usize| {
            let mut recorder = Recorder::with_memory(in_memory);
            let series = recorder.series("process_start_time_seconds", &[]).unwrap();
            for (at, value) in order.iter().map(|index| points[*index]) {
                recorder.point(series, Timestamp::from_millis(at), value).unwrap();
            }
            let series = &recorder.finish().series[0];
            (series.cadence(), series.steps.clone(), series.first, series.last)
        };
        let expected = (Some(Span::from_secs(15)), vec![(0, 1.0), (300_000, 2.0)], 0, 585_000);
        let mixed: Vec<usize> = (0..40).map(|index| index * 7 % 40).collect();
        for order in [(0..40).collect::<Vec<_>>(), (0..40).rev().collect(), mixed] {
            for in_memory in [7, 1_000] {
                assert_eq!(known(&order, in_memory), expected, "{order:?}");
            }
        }
    }

    #[test]
    fn the_usual_time_between_points_is_told() {
        let mut recorder = Recorder::new();
        let series = recorder.series("a", &[]).unwrap();
        for at in [0, 15_000, 30_000, 300_000, 315_000, 330_000] {
            recorder.point(series, Timestamp::from_millis(at), 0.0).unwrap();
        }
        let recording = recorder.finish();
        assert_eq!(recording.series[0].cadence(), Some(Span::from_secs(15)));
        assert_eq!(recording.range(), Some((Timestamp::from_millis(0), Timestamp::from_millis(330_000))));
    }
}
