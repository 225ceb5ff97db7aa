//! A fault that was growing before the release came: what its own pace makes of it later.
//!
//! The last minutes of the release before are fitted by a level and then a straight line, with the bend where both are nearest
//! to what was seen (Hudson, Journal of the American Statistical Association 61, 1966). That they rise at all has to be sure by
//! a thousandth, for the values or for their logarithms, since a large value varies by more than a small one. Minutes that
//! follow one another are alike, so that the errors of a fit are those of fewer minutes (Bartlett, Journal of the Royal
//! Statistical Society 98, 1935). What lies ahead is bounded from above as a new observation of a regression is (Draper, Smith,
//! "Applied Regression Analysis", 1998, section 3.1).

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::around::Amount;
use crate::domain::policy::Comparison;
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::Finite;

/// Minutes that a rise takes at least: what sets in as the release comes is no rise before it.
const LEAST_MINUTES: usize = 10;

/// How sure a rise has to be, and the bound of what it makes later.
const SURE: f64 = 0.999;
const BOUND: f64 = 0.99;

/// What a minute passes on to the next one at most.
const MOST_PASSED_ON: f64 = 0.6;

/// A rise is taken to go on for so many times as long as it was seen.
const GOES_ON: f64 = 2.0;

/// Minutes of which the present value is the mean.
const SEEN_MINUTES: f64 = 5.0;

/// What lies ahead is bounded by so many times what is to be expected: a bound that allows for all is none.
const MOST_TIMES: f64 = 2.0;

/// A value of the release before that was rising as it went, and what its own pace makes of it now.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rise {
    /// When it began, as far back as is remembered, and how long it was seen.
    pub began: Timestamp,
    /// How long it was seen.
    pub over: Span,
    /// In the signal's base unit, by the trend: at its begin.
    pub from: Finite,
    /// At its end.
    pub to: Finite,
    /// What is to be expected now.
    pub expected: Finite,
    /// The most that is.
    pub most: Finite,
    /// What this release is like: over its last five minutes, or since the fault set in.
    pub seen: Amount,
}

impl Rise {
    /// Whether it explains what is seen.
    #[must_use]
    pub fn explains(&self) -> bool {
        self.seen.value <= self.most
    }
}

/// A minute of the past.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) begin: Timestamp,
    pub(super) value: f64,
    pub(super) requests: f64,
}

/// A line through points, by weights with the mean 1.
#[derive(Clone, Copy, Debug)]
struct Line {
    count: f64,
    centre: (f64, f64),
    slope: f64,
    /// The weighted squares of the times about their centre.
    spread: f64,
    /// The variance of a minute about the line.
    variance: f64,
    /// How many times the variance of a mean is that of independent minutes.
    inflation: f64,
}

/// Where minutes begin to rise, and the line from there on: the least squares of a level before it and a line after it.
fn bend(placed: &Placed) -> Option<(usize, Line)> {
    let off = |start: usize| {
        let (level, rise) = placed.split_at_checked(start)?;
        let line = Line::through(rise)?;
        let sum = |of: fn(&(f64, f64, f64)) -> f64| level.iter().map(of).sum::<f64>();
        let mean = sum(|(_, y, w)| w * y) / sum(|(_, _, w)| *w).max(f64::MIN_POSITIVE);
        let before: f64 = level.iter().map(|(_, y, w)| w * (y - mean).powi(2)).sum();
        let after: f64 = rise.iter().map(|(x, y, w)| w * (y - line.at(*x)).powi(2)).sum();
        Some((before + after, start, line))
    };
    let starts = 0..(placed.len() + 1).saturating_sub(LEAST_MINUTES);
    let best = starts.filter_map(off).min_by(|(a, ..), (b, ..)| a.total_cmp(b));
    best.map(|(_, start, line)| (start, line))
}

/// Whether they rise from any of them on.
fn is_proven(placed: &Placed) -> bool {
    let starts = 0..(placed.len() + 1).saturating_sub(LEAST_MINUTES);
    let mut lines = starts.filter_map(|start| Line::through(placed.get(start..)?));
    lines.any(|line| line.student(SURE).is_some_and(|sure| line.surety() >= sure))
}

impl Line {
    fn through(points: &[(f64, f64, f64)]) -> Option<Self> {
        let count = points.len() as f64;
        let whole: f64 = points.iter().map(|(_, _, weight)| weight).sum();
        let mean = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|(x, y, w)| w * of(*x, *y)).sum::<f64>() / whole;
        let centre = (mean(&|x, _| x), mean(&|_, y| y));
        let spread = count * mean(&|x, _| (x - centre.0).powi(2));
        let slope = count * mean(&|x, y| (x - centre.0) * (y - centre.1)) / spread;
        let off = |x: f64, y: f64| y - centre.1 - slope * (x - centre.0);
        let squares = count * mean(&|x, y| off(x, y).powi(2));
        let offs: Vec<f64> = points.iter().map(|(x, y, _)| off(*x, *y)).collect();
        let products: f64 = offs.iter().zip(offs.iter().skip(1)).map(|(a, b)| a * b).sum();
        let all: f64 = offs.iter().map(|off| off * off).sum();
        // Of few minutes the correlation is seen too low.
        let passed_on = if all > 0.0 { products / all + 1.0 / count } else { 0.0 };
        let passed_on = passed_on.clamp(0.0, MOST_PASSED_ON);
        let line = Self {
            count,
            centre,
            slope,
            spread,
            variance: squares / (count - 2.0),
            inflation: (1.0 + passed_on) / (1.0 - passed_on),
        };
        (slope.is_finite() && line.variance.is_finite()).then_some(line)
    }

    fn at(&self, x: f64) -> f64 {
        self.centre.1 + self.slope * (x - self.centre.0)
    }

    /// The slope in its own standard errors.
    fn surety(&self) -> f64 {
        self.slope / (self.variance * self.inflation / self.spread).sqrt().max(f64::MIN_POSITIVE)
    }

    /// The deviation of a mean of [`SEEN_MINUTES`] at `x` from the line, whose noise is so many times that of the points.
    fn deviation(&self, x: f64, noise: f64) -> f64 {
        let of_line = self.inflation * (1.0 / self.count + (x - self.centre.0).powi(2) / self.spread);
        let own = (self.inflation / SEEN_MINUTES).min(1.0) * noise * noise;
        (self.variance * (of_line + own)).sqrt()
    }

    /// The quantile of Student's distribution with the line's degrees of freedom.
    fn student(&self, share: f64) -> Option<f64> {
        Some(StudentsT::new(0.0, 1.0, self.count - 2.0).ok()?.inverse_cdf(share))
    }
}

/// Minutes: when since the first, value, weight.
type Placed = Vec<(f64, f64, f64)>;

/// A proven rise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trend {
    line: Line,
    origin: Timestamp,
    /// In minutes since the origin.
    begin: f64,
    end: f64,
}

impl Trend {
    /// The rise that the last of these minutes show, oldest first; none where none is proven, or where it is less than
    /// material.
    pub(super) fn of(points: &[Point], margin: Comparison) -> Option<Self> {
        let origin = points.first()?.begin;
        let usual = points.iter().map(|point| point.requests).sum::<f64>() / points.len() as f64;
        let placed = |value: &dyn Fn(&Point) -> f64| -> Placed {
            let minute = |point: &Point| point.begin.since(origin).as_secs_f64() / 60.0;
            let weight = |point: &Point| point.requests / (point.requests + usual);
            points.iter().map(|point| (minute(point), value(point), weight(point))).collect()
        };
        let plain = placed(&|point| point.value);
        let logs = placed(&|point| point.value.max(0.5 / (point.requests + 1.0)).ln());
        let (start, line) = bend(&plain)?;
        let trend = Self { line, origin, begin: plain.get(start)?.0, end: plain.last()?.0 };
        let is_material = trend.value(trend.end) >= margin.bound(trend.value(trend.begin));
        (line.slope > 0.0 && is_material && (is_proven(&plain) || is_proven(&logs))).then_some(trend)
    }

    fn value(&self, x: f64) -> f64 {
        self.line.at(x).max(0.0)
    }

    fn length(&self) -> f64 {
        self.end - self.begin
    }

    /// For so many minutes after its end it is taken to go on.
    fn horizon(&self) -> f64 {
        GOES_ON * self.length()
    }

    fn along(&self, at: Timestamp) -> f64 {
        at.since(self.origin).as_secs_f64() / 60.0
    }

    /// Whether it is taken to go on at a time.
    pub(super) fn reaches(&self, at: Timestamp) -> bool {
        self.along(at) <= self.end + self.horizon()
    }

    /// Half of what it has come to: what falls back below that is over.
    pub(super) fn half(&self) -> f64 {
        f64::midpoint(self.value(self.begin), self.value(self.end))
    }

    /// What is to be expected at a time, and the most. From the horizon on it is what it was there.
    fn expected(&self, at: Timestamp, margin: Comparison) -> Option<(f64, f64)> {
        let x = self.along(at).min(self.end + self.horizon());
        let expected = self.value(x);
        // What is a larger value varies by more.
        let noise = (expected / self.line.centre.1).max(1.0);
        let upper = expected + self.line.student(BOUND)? * self.line.deviation(x, noise);
        Some((expected, upper.max(margin.bound(expected)).min(MOST_TIMES * expected)))
    }

    /// What it makes of a time at which so much is seen.
    pub(super) fn against(&self, now: Timestamp, margin: Comparison, seen: Amount) -> Option<Rise> {
        let (expected, most) = self.expected(now, margin)?;
        let minutes = |x: f64| Span::from_secs((x * 60.0).round() as u64);
        Some(Rise {
            began: self.origin + minutes(self.begin),
            over: minutes(self.length() + 1.0),
            from: Finite::new(self.value(self.begin))?,
            to: Finite::new(self.value(self.end))?,
            expected: Finite::new(expected)?,
            most: Finite::new(most)?,
            seen,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::health::compare::chance::Chance;
    use crate::domain::units::Unit;

    fn at(minute: f64) -> Timestamp {
        Timestamp::from_millis((minute * 60_000.0) as i64)
    }

    /// Minutes of 1,000 requests each, with these shares of errors but for a factor that wanders.
    fn past(seed: u64, minutes: u32, restless: f64, share: impl Fn(f64) -> f64) -> Vec<Point> {
        let (mut chance, mut wander) = (Chance::new(seed), 0.0);
        let point = |minute: u32| {
            let normal =
                (-2.0 * (1.0 - chance.uniform()).ln()).sqrt() * (std::f64::consts::TAU * chance.uniform()).cos();
            wander = 0.5 * wander + 0.75_f64.sqrt() * normal;
            let share = share(f64::from(minute)) * (restless * wander).exp();
            Point { begin: at(f64::from(minute)), value: chance.binomial(1000, share) / 1000.0, requests: 1000.0 }
        };
        (0..minutes).map(point).collect()
    }

    fn trend(points: &[Point]) -> Option<Trend> {
        Trend::of(points, Comparison::usual(Unit::Ratio))
    }

    fn expected(trend: &Trend, minute: f64) -> (f64, f64) {
        trend.expected(at(minute), Comparison::usual(Unit::Ratio)).unwrap()
    }

    #[test]
    fn a_rise_goes_on_for_a_while_and_no_further() {
        // Ten minutes at 1 %, and in twenty to 6 %.
        let course = |minute: f64| 0.01 + 0.0025 * (minute - 10.0).max(0.0);
        let rises: Vec<Trend> = (0..20).filter_map(|seed| trend(&past(seed, 30, 0.12, course))).collect();
        assert!(rises.len() >= 18, "{} of 20", rises.len());
        let mut ahead: Vec<(f64, f64)> = rises.iter().map(|rise| expected(rise, 45.0)).collect();
        ahead.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let (value, most) = ahead[10];
        assert!((0.08..0.115).contains(&value) && most < 0.16, "{value} {most}");
        let below = ahead.iter().filter(|(_, most)| *most < course(45.0)).count();
        assert!(below <= 1, "{below} of 20 are bounded below the truth");
        let rise = rises[0];
        assert!(!rise.reaches(at(120.0)) && rise.reaches(at(45.0)));
        assert_eq!(expected(&rise, 500.0), expected(&rise, 900.0), "flat from its horizon on");
    }

    #[test]
    fn restless_minutes_are_no_rise_nor_is_what_falls() {
        let count = |restless: f64, minutes: u32, course: fn(f64) -> f64| {
            (0..400).filter(|seed| trend(&past(*seed, minutes, restless, course)).is_some()).count()
        };
        let wandering = count(0.25, 30, |_| 0.005);
        assert!(wandering <= 16, "{wandering} of 400");
        let short = count(0.25, 7, |minute| 0.01 + 0.01 * minute);
        assert_eq!(short, 0, "of too few minutes");
        let falls = count(0.1, 30, |minute| 0.06 - 0.0015 * minute);
        assert_eq!(falls, 0);
    }

    #[test]
    fn a_fault_on_top_is_not_explained() {
        // 2 % to 4 % in twenty minutes.
        let rise = trend(&past(3, 20, 0.05, |minute| 0.02 + 0.001 * minute)).unwrap();
        let seen = |value: f64| Amount { value: Finite::new(value).unwrap(), samples: 5000 };
        let explains = |minute: f64, value: f64| {
            rise.against(at(minute), Comparison::usual(Unit::Ratio), seen(value)).unwrap().explains()
        };
        assert!(explains(30.0, 0.05) && explains(40.0, 0.06));
        assert!(!explains(30.0, 0.12) && !explains(100.0, 0.4));
    }
}
