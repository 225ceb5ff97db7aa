//! Reading exposition pages: the Prometheus text format 0.0.4 and OpenMetrics 1.0.
//!
//! Two readers share one grammar (`sample`, `metadata`). The [`Scanner`] is the daemon's: it takes a page as it
//! arrives, chunk by chunk, parses only lines whose metric name an operand asks for, and passes over the rest at memory
//! speed; a malformed line that no rule asks for goes unnoticed. [`inspect()`] is the operator's: it reads everything
//! and notices everything.
//!
//! Accepted and refused is what Prometheus accepts and refuses, CR LF (refused) and line ends inside the text format's
//! label values (accepted) included. Three things differ on purpose: a NUL byte at the start of a line is refused, where
//! Prometheus' text parser takes it for the end of the page and drops the rest without a word; OpenMetrics' quoted names
//! may not run over the end of a line; and values of `le` and `quantile` are matched as exposed, not rewritten to
//! OpenMetrics' spelling first.
//!
//! A series that a page lists twice counts once. Prometheus keeps the first sample and reports the scrape as a success;
//! so does the scanner, unless both lines carry time stamps and the later line's is newer: then that one is kept.

mod cursor;
mod decode;
mod families;
mod fingerprint;
mod inspect;
mod limits;
mod metadata;
mod number;
mod quotes;
mod recorded;
mod sample;
mod scanner;
mod table;
mod wanted;

pub use decode::{Decoder, Encoding};
pub use inspect::{Family, Inspection, Match, Matches, inspect};
pub use limits::{Limits, Over, ScanError};
pub use scanner::{Scan, Scanner};
pub use table::SeriesTable;

pub(crate) use families::is_part_of;
pub(crate) use recorded::{Record, RecordedError, RecordedReader};
pub(crate) use sample::Series;
pub(crate) use wanted::{Class, PROCESS_START, Want, Wanted};

/// What to send as `Accept`: OpenMetrics first, then the text format.
pub const ACCEPT: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// How a page is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// From an answer's `Content-Type`; the text format where there is none or it is another, as Prometheus falls back.
    #[must_use]
    pub fn from_content_type(content_type: Option<&str>) -> Self {
        let media = content_type.unwrap_or("").split(';').next().unwrap_or("").trim();
        if media.eq_ignore_ascii_case("application/openmetrics-text") { Format::OpenMetrics } else { Format::Text }
    }

    /// From a page without a `Content-Type`: OpenMetrics where its last line is `# EOF`.
    #[must_use]
    pub fn sniff(page: &[u8]) -> Self {
        let page = page.strip_suffix(b"\n").unwrap_or(page);
        if page == b"# EOF" || page.ends_with(b"\n# EOF") { Format::OpenMetrics } else { Format::Text }
    }
}

#[cfg(test)]
mod tests;
