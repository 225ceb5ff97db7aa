//! A recording as the generator writes it: series, and points of them.

use std::collections::HashMap;

/// Milliseconds since the Unix epoch at which every story begins.
pub(super) const EPOCH: i64 = 1_764_300_000_000;

/// A series' name and labels.
pub(super) type Series = (String, Vec<(&'static str, String)>);

/// Points of series.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    pub(super) series: Vec<Series>,
    /// Series, milliseconds since the Unix epoch, value.
    pub(super) points: Vec<(usize, i64, f64)>,
    known: HashMap<Series, usize>,
}

impl Trace {
    pub(super) fn series(&mut self, name: &str, labels: &[(&'static str, &str)]) -> usize {
        let labels = labels.iter().filter(|(_, value)| !value.is_empty());
        let key = (name.to_owned(), labels.map(|(label, value)| (*label, (*value).to_owned())).collect());
        if let Some(slot) = self.known.get(&key) {
            return *slot;
        }
        self.series.push(key.clone());
        self.known.insert(key, self.series.len() - 1);
        self.series.len() - 1
    }

    /// `t` in seconds since the story's begin.
    pub(super) fn point(&mut self, series: usize, t: f64, value: f64) {
        self.points.push((series, at(t), value));
    }
}

/// Milliseconds since the Unix epoch of a time of a story.
pub(super) fn at(t: f64) -> i64 {
    EPOCH + (t * 1000.0).round() as i64
}

/// The time of a story, in seconds, of milliseconds since the Unix epoch.
pub(super) fn seconds(at: i64) -> f64 {
    (at - EPOCH) as f64 / 1000.0
}
