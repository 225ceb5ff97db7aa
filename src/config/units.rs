//! Thresholds with units, and the unit that a series is in.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::raw::decode::{Cx, Decode, Node};
use super::raw::scalar::{self, FromText, Refusal, choice};
use super::suggest;
use crate::domain::units::{Finite, Unit};

/// What a number's unit says that it measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dimension {
    /// `%`
    Share,
    /// `ns` to `d`
    Time,
    /// `B` to `TiB`
    Size,
    /// `/s`
    Rate,
    /// No unit.
    None,
}

/// Every suffix, its dimension and its factor to the base unit. Spelt as they are read, so that `M` is never guessed at.
const SUFFIXES: &[(&str, Dimension, f64)] = &[
    ("", Dimension::None, 1.0),
    ("%", Dimension::Share, 0.01),
    ("ns", Dimension::Time, 1e-9),
    ("us", Dimension::Time, 1e-6),
    ("µs", Dimension::Time, 1e-6),
    ("ms", Dimension::Time, 1e-3),
    ("s", Dimension::Time, 1.0),
    ("m", Dimension::Time, 60.0),
    ("min", Dimension::Time, 60.0),
    ("h", Dimension::Time, 3_600.0),
    ("d", Dimension::Time, 86_400.0),
    ("B", Dimension::Size, 1.0),
    ("kB", Dimension::Size, 1e3),
    ("MB", Dimension::Size, 1e6),
    ("GB", Dimension::Size, 1e9),
    ("TB", Dimension::Size, 1e12),
    ("KiB", Dimension::Size, 1_024.0),
    ("MiB", Dimension::Size, 1_048_576.0),
    ("GiB", Dimension::Size, 1_073_741_824.0),
    ("TiB", Dimension::Size, 1_099_511_627_776.0),
    ("/s", Dimension::Rate, 1.0),
];

/// A number with the unit that it was written in, in the base unit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quantity {
    pub(crate) value: f64,
    pub(crate) dimension: Dimension,
    /// The number without its unit, for hints.
    pub(crate) number: String,
}

impl Quantity {
    const TAKES: &'static str =
        "a number with its unit such as \"10%\", \"500ms\", \"5s\" or \"64MiB\", or a plain number";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let text = text.trim();
        let refuse = |hint: String| Refusal::new(format!("{} is not a quantity", suggest::quoted(text)), hint);
        let split = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(text.len());
        let (number, suffix) = (&text[..split], text[split..].trim());
        let value: f64 = number.parse().map_err(|_| refuse(format!("it takes {}", Self::TAKES)))?;
        let Some((_, dimension, factor)) = SUFFIXES.iter().find(|(known, ..)| *known == suffix) else {
            let other_case = SUFFIXES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(suffix));
            return Err(refuse(match (other_case, suffix) {
                (Some((known, ..)), _) => format!("write \"{number}{known}\""),
                (None, "percent" | "pct") => format!("write \"{number}%\""),
                (None, "sec" | "secs" | "second" | "seconds") => format!("write \"{number}s\""),
                (None, "msec" | "millis" | "milliseconds") => format!("write \"{number}ms\""),
                (None, _) => {
                    "known units: %, ns, us, ms, s, m, h, d, B, kB, MB, GB, TB, KiB, MiB, GiB, TiB, /s".to_owned()
                }
            }));
        };
        // Dividing by 100 rounds once; multiplying by 0.01 would make 7 % into 0.07000000000000001.
        let value = if *dimension == Dimension::Share { value / 100.0 } else { value * factor };
        Ok(Self { value, dimension: *dimension, number: number.to_owned() })
    }
}

impl Decode for Quantity {
    fn decode(node: &Node<'_, '_>, cx: &mut Cx<'_>) -> Option<Self> {
        if let Some(value) = scalar::finite(node.value.get_ref()) {
            return Some(Self { value, dimension: Dimension::None, number: value.to_string() });
        }
        let Some(text) = node.value.get_ref().as_str() else {
            node.mismatch(Self::TAKES, cx);
            return None;
        };
        match Self::parse(text) {
            Ok(quantity) => Some(quantity),
            Err(refusal) => {
                let place = cx.place(node.value);
                cx.problems.wrong(place, refusal.message).maybe_hint(refusal.hint);
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"] })
    }
}

/// What a series measures, with the factor to the base unit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Measure {
    pub(crate) unit: Unit,
    pub(crate) scale: f64,
}

impl Measure {
    pub(crate) const fn base(unit: Unit) -> Self {
        Self { unit, scale: 1.0 }
    }

    const fn scaled(unit: Unit, scale: f64) -> Self {
        Self { unit, scale }
    }
}

choice!(Measure, "a unit", {
    "s" => Measure::base(Unit::Seconds),
    "ms" => Measure::scaled(Unit::Seconds, 1e-3),
    "us" => Measure::scaled(Unit::Seconds, 1e-6),
    "ns" => Measure::scaled(Unit::Seconds, 1e-9),
    "%" => Measure::scaled(Unit::Ratio, 0.01),
    "ratio" => Measure::base(Unit::Ratio),
    "bytes" => Measure::base(Unit::Bytes),
    "per-second" => Measure::base(Unit::PerSecond),
    "plain" => Measure::base(Unit::Plain),
});

/// Suffixes of metric names that say what is measured, by Prometheus' naming conventions.
const NAME_SUFFIXES: &[(&str, Measure)] = &[
    ("_seconds", Measure::base(Unit::Seconds)),
    ("_milliseconds", Measure::scaled(Unit::Seconds, 1e-3)),
    ("_ms", Measure::scaled(Unit::Seconds, 1e-3)),
    ("_microseconds", Measure::scaled(Unit::Seconds, 1e-6)),
    ("_nanoseconds", Measure::scaled(Unit::Seconds, 1e-9)),
    ("_bytes", Measure::base(Unit::Bytes)),
    ("_ratio", Measure::base(Unit::Ratio)),
];

/// What a metric's name says that it measures; `None` where it says nothing.
pub(crate) fn measure_of_name(name: &str) -> Option<Measure> {
    if name.ends_with("_count") || name.ends_with("_bucket") {
        return Some(Measure::base(Unit::Plain));
    }
    let stem = name.strip_suffix("_total").or_else(|| name.strip_suffix("_sum")).unwrap_or(name);
    NAME_SUFFIXES.iter().find(|(suffix, _)| stem.ends_with(suffix)).map(|(_, measure)| *measure)
}

/// The threshold in the base unit of the signal, or why the two don't go together.
///
/// `unit` is `None` where nothing says what the signal is in; then only a plain number can be compared with it.
pub(crate) fn threshold(quantity: &Quantity, signal: &str, unit: Option<Unit>) -> Result<Finite, Refusal> {
    let fits = matches!(
        (unit, quantity.dimension),
        (Some(Unit::Ratio), Dimension::Share)
            | (Some(Unit::Seconds), Dimension::Time)
            | (Some(Unit::Bytes), Dimension::Size)
            | (Some(Unit::PerSecond), Dimension::Rate | Dimension::None)
            | (Some(Unit::Plain) | None, Dimension::None)
    );
    if !fits {
        return Err(misfit(quantity, signal, unit));
    }
    Finite::new(quantity.value).ok_or_else(|| Refusal::new("not a finite number", "it takes a finite number"))
}

fn misfit(quantity: &Quantity, signal: &str, unit: Option<Unit>) -> Refusal {
    let given = match quantity.dimension {
        Dimension::Share => "a percentage",
        Dimension::Time => "a time",
        Dimension::Size => "a size in bytes",
        Dimension::Rate => "a rate",
        Dimension::None => "a number without a unit",
    };
    let number = &quantity.number;
    match unit {
        None => Refusal::new(
            format!("{given}, but nothing says what `{signal}` is measured in"),
            match quantity.dimension {
                Dimension::Time => "add `unit = \"s\"` or `unit = \"ms\"` to the signal's section",
                Dimension::Share => {
                    "add `unit = \"ratio\"` (0 to 1) or `unit = \"%\"` (0 to 100) to the signal's section"
                }
                Dimension::Size => "add `unit = \"bytes\"` to the signal's section",
                Dimension::Rate | Dimension::None => "add `unit = \"per-second\"` to the signal's section",
            },
        ),
        Some(unit) => Refusal::new(
            format!("{given}, but `{signal}` is {}", measured(unit)),
            match unit {
                Unit::Ratio if quantity.value <= 1.0 && quantity.dimension == Dimension::None => {
                    format!("ratios are written with %: \"{}\"", Unit::Ratio.format(quantity.value).replace(' ', ""))
                }
                Unit::Ratio => format!("ratios are written with %: \"{number}%\""),
                Unit::Seconds => format!("times are written with their unit: \"{number}s\" or \"{number}ms\""),
                Unit::Bytes => format!("sizes are written with their unit: \"{number}B\" or \"{number}MiB\""),
                Unit::PerSecond => format!("write {number} or \"{number}/s\""),
                Unit::Plain => format!("write {number}"),
            },
        ),
    }
}

fn measured(unit: Unit) -> &'static str {
    match unit {
        Unit::Ratio => "a ratio",
        Unit::Seconds => "a time",
        Unit::Bytes => "a size in bytes",
        Unit::PerSecond => "a rate",
        Unit::Plain => "a plain number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_the_base_unit() {
        for (text, value, dimension) in [
            ("10%", 0.1, Dimension::Share),
            ("7%", 0.07, Dimension::Share),
            ("500ms", 0.5, Dimension::Time),
            ("5 s", 5.0, Dimension::Time),
            ("2m", 120.0, Dimension::Time),
            ("1.5GiB", 1_610_612_736.0, Dimension::Size),
            ("-3", -3.0, Dimension::None),
            ("20/s", 20.0, Dimension::Rate),
        ] {
            let quantity = Quantity::parse(text).unwrap_or_else(|why| panic!("{text}: {}", why.message));
            assert_eq!((quantity.value, quantity.dimension), (value, dimension), "{text}");
        }
    }

    #[test]
    fn a_wrong_unit_is_answered_with_the_right_one() {
        for (text, hint) in [
            ("10mib", "write \"10MiB\""),
            ("10 percent", "write \"10%\""),
            ("5sec", "write \"5s\""),
            ("5S", "write \"5s\""),
        ] {
            assert_eq!(Quantity::parse(text).unwrap_err().hint.as_deref(), Some(hint), "{text}");
        }
        for text in ["", "%", "ten", "1e3", "1.2.3", "5 parsecs", "nan", "inf"] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_say_what_they_measure() {
        for (name, measure) in [
            ("http_request_duration_seconds", Some(Measure::base(Unit::Seconds))),
            ("process_cpu_seconds_total", Some(Measure::base(Unit::Seconds))),
            ("istio_request_duration_milliseconds", Some(Measure::scaled(Unit::Seconds, 1e-3))),
            ("response_latency_ms", Some(Measure::scaled(Unit::Seconds, 1e-3))),
            ("http_request_duration_seconds_count", Some(Measure::base(Unit::Plain))),
            ("process_resident_memory_bytes", Some(Measure::base(Unit::Bytes))),
            ("queue_depth", None),
            ("items", None),
        ] {
            assert_eq!(measure_of_name(name), measure, "{name}");
        }
    }

    #[test]
    fn only_like_is_compared_with_like() {
        let read = |text: &str| Quantity::parse(text).unwrap_or_else(|why| panic!("{text}: {}", why.message));
        assert_eq!(threshold(&read("10%"), "e", Some(Unit::Ratio)).ok().map(Finite::get), Some(0.1));
        for (text, unit, hint) in [
            ("10%", Some(Unit::Seconds), "times are written with their unit: \"10s\" or \"10ms\""),
            ("0.1", Some(Unit::Ratio), "ratios are written with %: \"10%\""),
            ("5", Some(Unit::Seconds), "times are written with their unit: \"5s\" or \"5ms\""),
            ("5s", Some(Unit::Plain), "write 5"),
            ("5s", None, "add `unit = \"s\"` or `unit = \"ms\"` to the signal's section"),
        ] {
            let refusal = threshold(&read(text), "x", unit).err().and_then(|why| why.hint);
            assert_eq!(refusal.as_deref(), Some(hint), "{text} against {unit:?}");
        }
    }
}
