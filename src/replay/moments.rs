//! The points of a recording moment by moment, those of one page together.
//!
//! What a scrape brings has one time. What was pushed, or scraped with the times of the page itself, may have one for each
//! series, milliseconds apart; it is one page all the same.

use std::collections::{HashMap, VecDeque};
use std::io;

use super::merge::Cursor;
use super::recording::{Point, Recording};
use crate::domain::time::Span;

/// Which part of the time between two looks the series of one page may be apart.
const APART: u64 = 20;

/// What one target told at one time, and whose moment it is in, by number.
#[derive(Clone, Copy, Debug)]
struct Page {
    at: i64,
    moment: usize,
}

/// A recording in moments, by time.
#[derive(Debug)]
pub(super) struct Moments<'r> {
    cursor: Cursor<'r>,
    /// Milliseconds.
    apart: i64,
    /// By series: whose page it is on.
    targets: Vec<usize>,
    /// By target: its newest page.
    pages: Vec<Option<Page>>,
    /// By series: the newest moment that it is in.
    told: Vec<Option<usize>>,
    /// Moments that may not be whole yet, by time.
    open: VecDeque<(i64, Vec<Point>)>,
    /// The number of the first of them.
    first: usize,
    /// How far was read; none once all is.
    read: Option<i64>,
}

impl<'r> Moments<'r> {
    /// Of a recording that looks so often.
    pub(super) fn new(recording: &'r Recording, cadence: Span) -> Self {
        let mut known: HashMap<Option<&str>, usize> = HashMap::new();
        let targets: Vec<usize> = recording
            .series
            .iter()
            .map(|series| {
                let next = known.len();
                *known.entry(series.label("instance").or_else(|| series.label("pod"))).or_insert(next)
            })
            .collect();
        Self {
            cursor: recording.cursor(),
            apart: i64::try_from(cadence.as_millis() / APART).unwrap_or(0),
            pages: vec![None; known.len()],
            told: vec![None; targets.len()],
            targets,
            open: VecDeque::new(),
            first: 0,
            read: Some(i64::MIN),
        }
    }

    /// The next moment: its time, and its points.
    ///
    /// # Errors
    /// Points that were put on disk could not be read back.
    pub(super) fn next(&mut self) -> io::Result<Option<(i64, Vec<Point>)>> {
        loop {
            let whole = self.open.front().is_some_and(|(at, _)| self.read.is_none_or(|read| read - at > self.apart));
            if whole || self.read.is_none() {
                self.first += usize::from(whole);
                return Ok(self.open.pop_front());
            }
            match self.cursor.next()? {
                Some(point) => self.put(point),
                None => self.read = None,
            }
        }
    }

    fn put(&mut self, point: Point) {
        self.read = Some(point.at);
        let series = point.series as usize;
        let Some(target) = self.targets.get(series).copied() else { return };
        let page = self.pages.get(target).copied().flatten();
        let told = self.told.get(series).copied().flatten();
        let page =
            page.filter(|page| point.at - page.at <= self.apart && told != Some(page.moment)).unwrap_or_else(|| {
                if self.open.back().is_none_or(|(at, _)| *at != point.at) {
                    self.open.push_back((point.at, Vec::new()));
                }
                Page { at: point.at, moment: self.first + self.open.len() - 1 }
            });
        let place = page.moment.checked_sub(self.first).and_then(|place| self.open.get_mut(place));
        if let Some((at, points)) = place {
            points.push(Point { at: *at, ..point });
        }
        if let Some(newest) = self.pages.get_mut(target) {
            *newest = Some(page);
        }
        if let Some(newest) = self.told.get_mut(series) {
            *newest = Some(page.moment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;
    use crate::replay::Recorder;

    /// Each moment as its time and the names and values of its series.
    fn moments(points: &[(&str, &str, i64)]) -> Vec<(i64, String)> {
        let mut recorder = Recorder::new();
        for (name, instance, at) in points {
            let series = recorder.series(name, &[("instance", instance)]).unwrap();
            recorder.point(series, Timestamp::from_millis(*at), 1.0).unwrap();
        }
        let recording = recorder.finish();
        let mut moments = Moments::new(&recording, Span::from_secs(1));
        let mut all = Vec::new();
        while let Some((at, points)) = moments.next().unwrap() {
            assert!(points.iter().all(|point| point.at == at));
            let name = |point: &Point| {
                let series = &recording.series[point.series as usize];
                format!("{}{}", series.name, series.label("instance").unwrap())
            };
            all.push((at, points.iter().map(name).collect::<Vec<_>>().join(" ")));
        }
        all
    }

    #[test]
    fn a_page_is_what_one_target_tells_within_a_twentieth_of_the_time_between_two_looks() {
        let told = moments(&[
            ("a", "1", 0),
            ("a", "2", 10),
            ("b", "1", 10),
            ("b", "2", 60),
            ("c", "1", 51),
            ("c", "2", 60),
            ("a", "1", 1_000),
            ("b", "1", 1_050),
            ("a", "2", 1_050),
        ]);
        let expected = [(0, "a1 b1"), (10, "a2 b2 c2"), (51, "c1"), (1_000, "a1 b1"), (1_050, "a2")]
            .map(|(at, all)| (at, all.to_owned()));
        assert_eq!(told, expected);
    }

    #[test]
    fn a_series_is_on_a_page_once() {
        let told = moments(&[("a", "1", 0), ("b", "1", 5), ("a", "1", 10), ("b", "1", 15), ("a", "1", 20)]);
        let expected = [(0, "a1 b1"), (10, "a1 b1"), (20, "a1")].map(|(at, all)| (at, all.to_owned()));
        assert_eq!(told, expected);
    }
}
