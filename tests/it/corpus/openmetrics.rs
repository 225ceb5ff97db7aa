//! A trace as the recorder takes it, and as OpenMetrics text, family by family, as promtool takes it.

use std::collections::BTreeMap;
use std::fmt::Write;

use rollbackd::domain::time::Timestamp;
use rollbackd::replay::{Recorder, Recording};

use super::trace::Trace;

/// A series' family, and the family's type.
fn family(name: &str) -> (&str, &'static str) {
    for end in ["_bucket", "_sum", "_count"] {
        if let Some(family) = name.strip_suffix(end) {
            return (family, "histogram");
        }
    }
    name.strip_suffix("_total").map_or((name, "gauge"), |family| (family, "counter"))
}

/// Without any text between.
pub(super) fn recording(trace: &Trace) -> Recording {
    let mut recorder = Recorder::new();
    let mut keys = Vec::with_capacity(trace.series.len());
    for (name, labels) in &trace.series {
        let labels: Vec<(&str, &str)> = labels.iter().map(|(label, value)| (*label, value.as_str())).collect();
        keys.push(recorder.series(name, &labels).unwrap());
        recorder.family(family(name).0, None);
    }
    for (series, at, value) in &trace.points {
        recorder.point(keys[*series], Timestamp::from_millis(*at), *value).unwrap();
    }
    recorder.finish()
}

pub(super) fn text(trace: &Trace) -> String {
    let mut points: Vec<Vec<(i64, f64)>> = vec![Vec::new(); trace.series.len()];
    for (series, at, value) in &trace.points {
        points[*series].push((*at, *value));
    }
    let mut families: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (slot, (name, _)) in trace.series.iter().enumerate() {
        families.entry(family(name)).or_default().push(slot);
    }
    let mut text = String::new();
    for ((family, kind), members) in families {
        writeln!(text, "# TYPE {family} {kind}").unwrap();
        for slot in members {
            let (name, labels) = &trace.series[slot];
            let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
            points[slot].sort_by_key(|(at, _)| *at);
            for (at, value) in &points[slot] {
                let labels = labels.join(",");
                writeln!(text, "{name}{{{labels}}} {value} {}.{:03}", at / 1000, at % 1000).unwrap();
            }
        }
    }
    text.push_str("# EOF\n");
    text
}
