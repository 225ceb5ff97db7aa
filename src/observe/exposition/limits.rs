//! How much of a page is taken before it is refused, and the words in which it is refused.

use std::fmt;

use crate::domain::observation::FaultKind;

/// How much of a page is taken. Over any of these the whole page fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes received, before decompression.
    pub wire_bytes: u64,
    /// Bytes of text, after decompression.
    pub body_bytes: u64,
    /// Bytes of text for one byte received, once more than a MiB of text has come out.
    pub ratio: u64,
    /// Series on a page, wanted or not.
    pub samples: u64,
    /// Series of a page that one operand keeps.
    pub kept: u32,
    /// Labels of a series.
    pub labels: usize,
    /// Bytes of a metric or label name.
    pub name_bytes: usize,
    /// Bytes of a label value.
    pub value_bytes: usize,
    /// Bytes of a line.
    pub line_bytes: usize,
}

impl Limits {
    /// What a daemon takes from a peer that it does not trust.
    pub const DEFAULT: Limits = Limits {
        wire_bytes: 4 << 20,
        body_bytes: 16 << 20,
        ratio: 100,
        samples: 100_000,
        kept: 1_000,
        labels: 64,
        name_bytes: 256,
        value_bytes: 4 << 10,
        line_bytes: 64 << 10,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Which limit a page is over; its text names the limit and its size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// Bytes received.
    Wire(u64),
    /// Bytes of text.
    Body(u64),
    /// Decompression ratio.
    Ratio(u64),
    /// Series on the page.
    Samples(u64),
    /// Series that one operand keeps.
    Kept(u32),
    /// Labels of a series.
    Labels(usize),
    /// Length of a name.
    Name(usize),
    /// Length of a label value.
    Value(usize),
    /// Length of a line.
    Line(usize),
    /// Text of all kept series of a workload, in bytes.
    Table(usize),
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Over::Wire(limit) => write!(f, "body of more than {limit} bytes on the wire"),
            Over::Body(limit) => write!(f, "body of more than {limit} bytes unpacked"),
            Over::Ratio(limit) => write!(f, "body that unpacks to more than {limit} times its size"),
            Over::Samples(limit) => write!(f, "more than {limit} samples on the page"),
            Over::Kept(limit) => write!(f, "more than {limit} series that one rule keeps"),
            Over::Labels(limit) => write!(f, "more than {limit} labels"),
            Over::Name(limit) => write!(f, "name of more than {limit} bytes"),
            Over::Value(limit) => write!(f, "label value of more than {limit} bytes"),
            Over::Line(limit) => write!(f, "line of more than {limit} bytes"),
            Over::Table(limit) => write!(f, "more than {limit} bytes of series text kept for the workload"),
        }
    }
}

/// What is wrong with one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Problem {
    /// It is not what the format says.
    Malformed(String),
    /// It is over a limit.
    Over(Over),
}

impl Problem {
    /// A malformed line.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Problem::Malformed(what.into())
    }

    /// The same problem with its place.
    pub(crate) fn at(self, line: u64) -> ScanError {
        match self {
            Problem::Malformed(what) => ScanError::Malformed { line, what },
            Problem::Over(over) => ScanError::LineOver { line, over },
        }
    }
}

impl From<Over> for Problem {
    fn from(over: Over) -> Self {
        Problem::Over(over)
    }
}

/// Why a page was refused. Texts from the page are quoted and cut short.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScanError {
    /// A line is not what the format says.
    #[error("line {line}: {what}")]
    Malformed {
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A line is over a limit.
    #[error("line {line}: over the limit: {over}")]
    LineOver {
        /// Counted from 1.
        line: u64,
        /// Which limit.
        over: Over,
    },
    /// The page is over a limit.
    #[error("over the limit: {0}")]
    PageOver(Over),
    /// The compressed body is damaged.
    #[error("gzip: {0}")]
    Encoding(String),
}

impl ScanError {
    /// The sort of fault that it is for whoever watches the target.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        match self {
            ScanError::Malformed { .. } | ScanError::Encoding(_) => FaultKind::Malformed,
            ScanError::LineOver { .. } | ScanError::PageOver(_) => FaultKind::TooLarge,
        }
    }
}

/// Bytes of hostile text that an error repeats.
const EXCERPT_BYTES: usize = 60;

/// Text of a page, safe to show: quoted, control characters escaped, cut short.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(EXCERPT_BYTES)];
    let dots = if cut.len() < bytes.len() { "…" } else { "" };
    format!("{:?}{dots}", String::from_utf8_lossy(cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_never_repeats_control_characters() {
        assert_eq!(excerpt(b"\x1b[31mred\n"), r#""\u{1b}[31mred\n""#);
        assert_eq!(excerpt(&[b'a'; 80]), format!("\"{}\"…", "a".repeat(60)));
    }

    #[test]
    fn the_sort_of_fault_follows_from_the_error() {
        let over = Problem::from(Over::Labels(64)).at(7);
        assert_eq!(over.to_string(), "line 7: over the limit: more than 64 labels");
        assert_eq!(over.kind(), FaultKind::TooLarge);
        let malformed = Problem::new("no value").at(3);
        assert_eq!(malformed.to_string(), "line 3: no value");
        assert_eq!(malformed.kind(), FaultKind::Malformed);
    }
}
