//! Numbers that mean something: finite values and the units that they are in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A finite `f64`. NaN and the infinities can't be built, so a comparison is never silently false.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Finite(f64);

impl Finite {
    /// None.
    pub const ZERO: Finite = Finite(0.0);
    /// One.
    pub const ONE: Finite = Finite(1.0);
    /// 0.1 %.
    pub const THOUSANDTH: Finite = Finite(0.001);
    /// 50 ms in seconds.
    pub const FIFTY_THOUSANDTHS: Finite = Finite(0.05);
    /// 99 %.
    pub const CONFIDENT: Finite = Finite(0.99);
    /// 1.3: two halves of one fleet differ by less.
    pub const MATERIAL: Finite = Finite(1.3);

    /// `None` for NaN and the infinities.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(value))
    }

    /// The value.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Finite {
    type Error = NotFinite;
    fn try_from(value: f64) -> Result<Self, NotFinite> {
        Self::new(value).ok_or(NotFinite(value))
    }
}

impl From<Finite> for f64 {
    fn from(value: Finite) -> f64 {
        value.0
    }
}

/// A number that is NaN or infinite where a finite one is needed.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{0} is not a finite number")]
pub struct NotFinite(pub f64);

/// What a quantity is measured in. Quantities are compared in the base unit: ratio, seconds, bytes or a plain number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A share of one; written with `%`.
    Ratio,
    /// Time; base unit second.
    Seconds,
    /// Memory or traffic; base unit byte.
    Bytes,
    /// Per second.
    PerSecond,
    /// A count or anything without a dimension.
    Plain,
}

impl Unit {
    /// The value as an operator reads it: `41.0 %`, `5 s`, `120 ms`, `3`.
    #[must_use]
    pub fn format(self, value: f64) -> String {
        match self {
            Unit::Ratio => format!("{} %", trim(value * 100.0)),
            // What rounds to 1000 ms is a second.
            Unit::Seconds if value.abs() < 0.999_995 => format!("{} ms", trim(value * 1000.0)),
            Unit::Seconds => format!("{} s", trim(value)),
            Unit::Bytes => format!("{} bytes", trim(value)),
            Unit::PerSecond => format!("{}/s", trim(value)),
            Unit::Plain => trim(value),
        }
    }
}

fn trim(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Ratio => "ratio",
            Unit::Seconds => "seconds",
            Unit::Bytes => "bytes",
            Unit::PerSecond => "per second",
            Unit::Plain => "plain number",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_finite_numbers_gets_in() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(Finite::new(value).is_none());
        }
        assert!(serde_json::from_str::<Finite>("1e999").is_err());
        assert_eq!(Finite::new(-0.5).map(Finite::get), Some(-0.5));
    }

    #[test]
    fn quantities_read_as_an_operator_writes_them() {
        assert_eq!(Unit::Ratio.format(0.4123), "41.23 %");
        assert_eq!(Unit::Seconds.format(0.05), "50 ms");
        assert_eq!(Unit::Seconds.format(5.0), "5 s");
        assert_eq!(Unit::Plain.format(-0.0), "0");
    }
}
