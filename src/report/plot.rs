//! A signal over time, drawn as SVG: the readings, the bound, and when what happened.

use std::fmt::Write;

use minijinja::Value;
use serde::Serialize;

use crate::domain::incident::report::{Plot, Report};
use crate::domain::policy::Condition;
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::Unit;
use crate::markup;

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 34.0;

/// Room that a time's label takes on either side of its tick, in pixels.
const TICK_ROOM: f64 = 30.0;

/// Shortest time shown before the first breach and after the end, so that the eye has something to compare with.
const SHORTEST_MARGIN: Span = Span::from_secs(60);

/// Points drawn: more than there are pixels between would only cost bytes. Of more, the largest and the smallest of
/// each stretch stay.
const MOST_POINTS: usize = 1_200;

/// Room that a marker's label takes, in pixels.
const LABEL_ROOM: f64 = 100.0;

/// A drawn plot.
#[derive(Serialize)]
pub(super) struct Drawing {
    title: String,
    bound: Option<String>,
    svg: Value,
}

/// Where values and times lie on the paper.
struct Scale {
    from: i64,
    to: i64,
    low: f64,
    high: f64,
}

impl Scale {
    fn x(&self, at: Timestamp) -> f64 {
        let share = (at.as_millis() - self.from) as f64 / (self.to - self.from).max(1) as f64;
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    fn shows(&self, at: Timestamp) -> bool {
        (self.from..=self.to).contains(&at.as_millis())
    }
}

/// A moment worth a line across the plot.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    /// What happened, in a word or two.
    pub(crate) label: String,
    /// `bad`, `busy` or `good`.
    pub(crate) tone: &'static str,
    /// When.
    pub(crate) at: Timestamp,
}

/// Everything that is drawn of one signal.
#[derive(Debug)]
pub(crate) struct Chart<'a> {
    /// For those who can't see it.
    pub(crate) label: String,
    /// What the readings are measured in.
    pub(crate) unit: Unit,
    /// The value that bad begins at, where it is fixed.
    pub(crate) bound: Option<f64>,
    /// The time shown.
    pub(crate) range: (Timestamp, Timestamp),
    /// Readings by time; none where the value was unknown.
    pub(crate) points: &'a [(Timestamp, Option<f64>)],
    /// Stretches that are shaded.
    pub(crate) shades: Vec<(Timestamp, Timestamp)>,
    /// By time.
    pub(crate) marks: Vec<Mark>,
}

/// Draws a chart; none where no reading in its time has a value.
pub(crate) fn svg(chart: &Chart<'_>) -> Option<String> {
    let (from, to) = chart.range;
    let points: Vec<(Timestamp, Option<f64>)> =
        chart.points.iter().filter(|(at, _)| (from..=to).contains(at)).copied().collect();
    let (low, high) = reach(&points, chart.bound)?;
    let scale = Scale { from: from.as_millis(), to: to.as_millis(), low, high };
    let mut svg = String::with_capacity(16 * 1024);
    let label = markup::html(&chart.label);
    let _ = write!(
        svg,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\" \
         xmlns=\"http://www.w3.org/2000/svg\">"
    );
    for (begin, end) in &chart.shades {
        shade(&mut svg, &scale, *begin, *end);
    }
    axes(&mut svg, &scale, chart.unit);
    if let Some(bound) = chart.bound {
        let y = scale.y(bound);
        let _ =
            write!(svg, "<line class=\"bound\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>", WIDTH - RIGHT);
    }
    curve(&mut svg, &scale, &thin(points));
    markers(&mut svg, &scale, &chart.marks);
    svg.push_str("</svg>");
    Some(svg)
}

/// Draws a signal; none where nothing was read around the incident.
pub(super) fn draw(plot: &Plot, report: &Report) -> Option<Drawing> {
    let (from, to) = stretch(plot, report)?;
    let points: Vec<(Timestamp, Option<f64>)> =
        plot.points.iter().map(|(at, value)| (*at, value.map(|value| value.get()))).collect();
    let svg = svg(&Chart {
        label: format!("{} around the incident", plot.signal),
        unit: plot.unit,
        bound: plot.condition.and_then(Condition::threshold),
        range: (from, to),
        points: &points,
        shades: vec![(report.times.onset.unwrap_or(report.began), report.ended.unwrap_or(to))],
        marks: marks(report),
    })?;
    let bound = plot.condition.map(|condition| format!("bad {}", condition.describe(plot.unit)));
    Some(Drawing { title: plot.signal.to_string(), bound, svg: Value::from_safe_string(svg) })
}

/// What happened in an incident, each with the time since its onset.
fn marks(report: &Report) -> Vec<Mark> {
    let times = &report.times;
    let all = [
        ("onset", "bad", times.onset),
        ("detected", "bad", times.detected),
        ("decided", "busy", times.decided),
        ("restored", "good", times.restored),
    ];
    let mark = |(label, tone, at): (&str, &'static str, Option<Timestamp>)| {
        let at = at?;
        let after = times.onset.map(|onset| at.since(onset)).filter(|after| *after > Span::ZERO);
        let after = after.map(|after| format!(" +{}", after.rounded())).unwrap_or_default();
        Some(Mark { label: format!("{label}{after}"), tone, at })
    };
    all.into_iter().filter_map(mark).collect()
}

/// The time to show: the incident, and about as much before and after as it took.
fn stretch(plot: &Plot, report: &Report) -> Option<(Timestamp, Timestamp)> {
    let (first, last) = (plot.points.first()?.0, plot.points.last()?.0);
    let onset = report.times.onset.unwrap_or(report.began);
    let end = report.ended.unwrap_or(last);
    let margin = end.since(onset).max(SHORTEST_MARGIN);
    // Readings are put aside when the incident ends, so the last is a little older than the end; both ends are shown.
    let (from, to) = ((onset - margin).max(first.min(onset)), (end + margin).min(last.max(end)));
    (from < to).then_some((from, to))
}

fn reach(points: &[(Timestamp, Option<f64>)], bound: Option<f64>) -> Option<(f64, f64)> {
    let values = points.iter().filter_map(|(_, value)| *value);
    values.clone().next()?;
    let (low, high) =
        values.chain(bound).fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let head = (high - low) * 0.08;
    if head == 0.0 { Some((0.0, 1.0)) } else { Some((if low < 0.0 { low - head } else { low }, high + head)) }
}

/// A stretch of time.
fn shade(svg: &mut String, scale: &Scale, begin: Timestamp, end: Timestamp) {
    let within = |at: Timestamp| Timestamp::from_millis(at.as_millis().clamp(scale.from, scale.to));
    let (x, end) = (scale.x(within(begin)), scale.x(within(end)));
    let height = HEIGHT - TOP - BOTTOM;
    let _ = write!(
        svg,
        "<rect class=\"shade\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{height}\"/>",
        (end - x).max(0.0)
    );
}

fn axes(svg: &mut String, scale: &Scale, unit: Unit) {
    let right = WIDTH - RIGHT;
    for value in ticks(scale.low, scale.high) {
        let y = scale.y(value);
        let label = markup::html(&unit.format(value));
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 8.0,
            y + 4.0
        );
    }
    let floor = HEIGHT - BOTTOM;
    let step = time_step(scale.to - scale.from);
    let mut at = (scale.from / step + 1) * step;
    while at <= scale.to {
        let x = scale.x(Timestamp::from_millis(at));
        let label = clock(Timestamp::from_millis(at), step);
        let middle = x.min(WIDTH - TICK_ROOM);
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{floor}\" y2=\"{:.1}\"/>\
             <text class=\"tick\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            floor + 4.0,
            floor + 18.0
        );
        at += step;
    }
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{floor}\" y2=\"{floor}\"/>\
         <text class=\"tick\" x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">UTC</text>",
        floor + 31.0
    );
}

/// Round numbers in a range, four to nine of them.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().rev().map(|n| n * power).find(|step| *step <= rough).unwrap_or(power);
    let first = (low / step).ceil() as i64;
    (first..first + 16).map(|n| n as f64 * step).take_while(|value| *value <= high).collect()
}

/// Time between two ticks, in milliseconds: a round one that gives eight at most.
fn time_step(range: i64) -> i64 {
    const STEPS: [i64; 15] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 21_600, 86_400];
    STEPS.into_iter().map(|seconds| seconds * 1_000).find(|step| range / step <= 8).unwrap_or(range / 8 + 1)
}

/// `16:29:17`, without seconds where the step is whole minutes.
fn clock(at: Timestamp, step: i64) -> String {
    let text = at.to_string();
    let end = if step % 60_000 == 0 { 16 } else { 19 };
    text.get(11..end).unwrap_or_default().to_owned()
}

/// At most [`MOST_POINTS`], with every peak and every gap still there.
fn thin(points: Vec<(Timestamp, Option<f64>)>) -> Vec<(Timestamp, Option<f64>)> {
    if points.len() <= MOST_POINTS {
        return points;
    }
    let stretch = (points.len() * 2).div_ceil(MOST_POINTS);
    let mut thinned = Vec::with_capacity(MOST_POINTS + 2);
    for chunk in points.chunks(stretch) {
        let by_value = |a: &&(Timestamp, Option<f64>), b: &&(Timestamp, Option<f64>)| {
            a.1.unwrap_or(f64::NAN).total_cmp(&b.1.unwrap_or(f64::NAN))
        };
        let known = || chunk.iter().filter(|(_, value)| value.is_some());
        let mut kept: Vec<_> = known().min_by(by_value).into_iter().chain(known().max_by(by_value)).copied().collect();
        kept.sort_by_key(|(at, _)| *at);
        kept.dedup();
        kept.extend(chunk.iter().find(|(_, value)| value.is_none() && kept.is_empty()).copied());
        thinned.append(&mut kept);
    }
    thinned
}

/// The readings as lines, broken where the value was unknown.
fn curve(svg: &mut String, scale: &Scale, points: &[(Timestamp, Option<f64>)]) {
    for run in points.split(|(_, value)| value.is_none()) {
        if run.is_empty() {
            continue;
        }
        svg.push_str("<polyline class=\"curve\" points=\"");
        for (at, value) in run {
            let _ = write!(svg, "{:.1},{:.1} ", scale.x(*at), scale.y(value.unwrap_or_default()));
        }
        svg.push_str("\"/>");
        if let [(at, Some(value))] = run {
            let _ =
                write!(svg, "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2\"/>", scale.x(*at), scale.y(*value));
        }
    }
}

/// When what happened, labelled in rows so that close ones can be read.
fn markers(svg: &mut String, scale: &Scale, marks: &[Mark]) {
    let mut ends = [f64::MIN; 3];
    for Mark { label, tone, at } in marks.iter().filter(|mark| scale.shows(mark.at)) {
        let x = scale.x(*at);
        let begin = x.clamp(LEFT, WIDTH - RIGHT - LABEL_ROOM);
        let row = ends.iter().position(|end| *end <= begin).unwrap_or(0);
        ends[row] = begin + LABEL_ROOM;
        let y = 10.0 + 12.0 * row as f64;
        let label = markup::html(label);
        let _ = write!(
            svg,
            "<g class=\"mark {tone}\"><line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text x=\"{:.1}\" y=\"{y:.1}\">{label}</text></g>",
            y + 3.0,
            HEIGHT - BOTTOM,
            begin + 3.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        for (low, high, expected) in [
            (0.0, 0.44, vec![0.0, 0.1, 0.2, 0.3, 0.4]),
            (0.0, 5.4, vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
            (-3.0, 3.0, vec![-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]),
        ] {
            let got = ticks(low, high);
            let is_near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9;
            assert!(got.len() == expected.len() && got.iter().zip(&expected).all(is_near), "{got:?}");
        }
    }

    #[test]
    fn thinning_keeps_peaks_and_gaps() {
        let at = |i: i64| Timestamp::from_millis(i * 1_000);
        let mut points: Vec<_> = (0..10_000).map(|i| (at(i), Some(0.5))).collect();
        points[5_003].1 = Some(9.0);
        for point in &mut points[7_000..7_100] {
            point.1 = None;
        }
        let thinned = thin(points);
        assert!(thinned.len() <= MOST_POINTS + 2, "{}", thinned.len());
        assert!(thinned.contains(&(at(5_003), Some(9.0))));
        assert!(thinned.iter().any(|(at, value)| value.is_none() && at.as_millis() > 6_900_000));
    }
}
