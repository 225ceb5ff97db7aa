//! Recorded series: OpenMetrics text in which each sample has a time stamp, series after series, as `promtool tsdb
//! dump-openmetrics` writes it and `promtool tsdb create-blocks-from openmetrics` reads it.
//!
//! A page is one look; this is a history of looks, of any size. Nothing is kept here: each sample goes to a [`Record`],
//! which says first whether it wants the name at all. Lines of a series follow each other, so that its labels are parsed
//! once and all further lines cost a comparison and two numbers. A malformed line of a name that nobody wants goes
//! unnoticed, as with the daemon's own pages.

use std::collections::HashMap;

use super::Format;
use super::families::is_part_of;
use super::limits::{Limits, Over, Problem, ScanError};
use super::metadata::{Metadata, metadata};
use super::number;
use super::sample::{self, Reading, Series};

/// Takes what a recording holds.
pub(crate) trait Record {
    /// Whether samples of this metric are wanted; asked at the start of a run of lines.
    fn wants(&mut self, name: &str) -> bool;
    /// The number by which a series goes from now on; asked once for each spelling. `None` where there are too many.
    fn series(&mut self, series: &Series<'_>) -> Option<u32>;
    /// One sample, time in milliseconds since the Unix epoch.
    fn sample(&mut self, series: u32, at: i64, value: f64) -> std::io::Result<()>;
    /// A family that is announced by `# TYPE`, or the name of series that nobody wants and nothing announces; the first and
    /// the last time of its samples as far as they are not wanted.
    fn family(&mut self, name: &str, times: Option<(i64, i64)>);
}

/// Why a recording could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordedError {
    /// The text is not what the format says.
    #[error(transparent)]
    Text(#[from] ScanError),
    /// What was read could not be kept.
    #[error("what was read can't be kept")]
    Kept(#[from] std::io::Error),
}

/// Reads one file's text, piece by piece.
#[derive(Debug)]
pub(crate) struct RecordedReader {
    limits: Limits,
    /// The start of a line whose end has not arrived.
    carry: Vec<u8>,
    lines: u64,
    ended: bool,
    /// Name and the byte after it of the run in hand, and whether it is wanted.
    run: Vec<u8>,
    wanted: bool,
    /// The series of the line before.
    text: Vec<u8>,
    slot: Option<u32>,
    known: HashMap<Box<[u8]>, u32>,
    family: Option<Family>,
}

/// The family in hand.
#[derive(Debug)]
struct Family {
    name: String,
    /// First and last time of what is not wanted of it.
    times: Option<(i64, i64)>,
}

impl Family {
    /// Notes a sample that nobody wants: of its line only the end is looked at.
    fn note(&mut self, line: &[u8]) {
        let space = memchr::memrchr(b' ', line).filter(|_| memchr::memchr(b'#', line).is_none());
        let Some(at) = space.and_then(|space| number::seconds(&line[space + 1..]).ok()) else { return };
        let (first, last) = self.times.unwrap_or((at, at));
        self.times = Some((first.min(at), last.max(at)));
    }
}

impl RecordedReader {
    /// Nothing read yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            carry: Vec::new(),
            lines: 0,
            ended: false,
            run: Vec::new(),
            wanted: false,
            text: Vec::new(),
            slot: None,
            known: HashMap::new(),
            family: None,
        }
    }

    /// Turns to another family, or to none.
    fn turn(&mut self, to: &mut impl Record, next: Option<&str>) {
        if let Some(Family { name, times }) = self.family.take() {
            to.family(&name, times);
        }
        self.family = next.map(|name| Family { name: name.to_owned(), times: None });
    }

    /// Takes the next piece, cut anywhere.
    ///
    /// # Errors
    /// A wanted line that is malformed or has no time stamp, a line over a limit, data after `# EOF`.
    pub(crate) fn push(&mut self, to: &mut impl Record, chunk: &[u8]) -> Result<(), RecordedError> {
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.carry.is_empty() {
                self.line(to, line)?;
            } else {
                self.carry.extend_from_slice(line);
                let whole = std::mem::take(&mut self.carry);
                self.line(to, &whole)?;
                self.carry = whole;
                self.carry.clear();
            }
            rest = after;
        }
        self.carry.extend_from_slice(rest);
        if self.carry.len() > self.limits.line_bytes {
            return Err(self.problem(self.lines + 1, Over::Line(self.limits.line_bytes)).into());
        }
        Ok(())
    }

    /// Ends the text.
    ///
    /// # Errors
    /// As [`RecordedReader::push`], and a text that does not end with `# EOF`, as a file that was cut off.
    pub(crate) fn finish(mut self, to: &mut impl Record) -> Result<(), RecordedError> {
        if !self.carry.is_empty() {
            let line = std::mem::take(&mut self.carry);
            self.line(to, &line)?;
        }
        if self.ended {
            return Ok(());
        }
        Err(self.problem(self.lines, Problem::new("the text does not end with # EOF: it was cut off")).into())
    }

    fn problem(&self, line: u64, problem: impl Into<Problem>) -> ScanError {
        problem.into().at(line)
    }

    fn line(&mut self, to: &mut impl Record, line: &[u8]) -> Result<(), RecordedError> {
        self.lines += 1;
        if self.ended {
            return Err(self.problem(self.lines, Problem::new("data after # EOF")).into());
        }
        if line.len() > self.limits.line_bytes {
            return Err(self.problem(self.lines, Over::Line(self.limits.line_bytes)).into());
        }
        if let (Some(slot), Some(rest)) = (self.slot, after_series(line, &self.text)) {
            let reading = self.reading(rest)?;
            return self.keep(to, slot, reading);
        }
        if !self.run.is_empty() && !self.wanted && line.starts_with(&self.run) {
            if let Some(family) = &mut self.family {
                family.note(line);
            }
            return Ok(());
        }
        match line.first() {
            None => {
                Err(self.problem(self.lines, Problem::new("a blank line, which OpenMetrics does not allow")).into())
            }
            Some(b'#') => self.comment(to, line),
            Some(_) => self.other_series(to, line),
        }
    }

    fn comment(&mut self, to: &mut impl Record, line: &[u8]) -> Result<(), RecordedError> {
        match metadata(line, Format::OpenMetrics, &self.limits).map_err(|problem| self.problem(self.lines, problem))? {
            Metadata::End => {
                self.ended = true;
                self.turn(to, None);
            }
            Metadata::Type { family, .. } => self.turn(to, Some(&family)),
            Metadata::Help { .. } | Metadata::Unit { .. } | Metadata::Comment => {}
        }
        Ok(())
    }

    /// A line of another series than the one before.
    fn other_series(&mut self, to: &mut impl Record, line: &[u8]) -> Result<(), RecordedError> {
        self.slot = None;
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
        let end = line.iter().position(|byte| !is_name_byte(*byte)).unwrap_or(line.len());
        self.run.clear();
        if end > 0 {
            self.run.extend_from_slice(line.get(..=end).unwrap_or(line));
            let name = std::str::from_utf8(&line[..end]).unwrap_or_default();
            self.wanted = to.wants(name);
            if !self.family.as_ref().is_some_and(|family| is_part_of(name, &family.name)) {
                self.turn(to, (!self.wanted).then_some(name));
            }
            if !self.wanted {
                if let Some(family) = &mut self.family {
                    family.note(line);
                }
                return Ok(());
            }
        }
        let series = sample::series(line, Format::OpenMetrics, &self.limits)
            .map_err(|problem| self.problem(self.lines, problem))?;
        // A name inside the braces is only known now.
        if end == 0 && !to.wants(&series.name) {
            return Ok(());
        }
        let (text, rest) = line.split_at(series.len);
        let slot = match self.known.get(text) {
            Some(slot) => *slot,
            None => {
                let many = || Problem::new("more series than a recording may have");
                let slot = to.series(&series).ok_or_else(|| self.problem(self.lines, many()))?;
                self.known.insert(text.into(), slot);
                slot
            }
        };
        self.text.clear();
        self.text.extend_from_slice(text);
        self.slot = Some(slot);
        let reading = self.reading(rest)?;
        self.keep(to, slot, reading)
    }

    fn keep(&self, to: &mut impl Record, slot: u32, reading: Reading) -> Result<(), RecordedError> {
        let Some(at) = reading.timestamp else {
            let problem = Problem::new("a sample without a time stamp; a recording needs one on each");
            return Err(self.problem(self.lines, problem).into());
        };
        Ok(to.sample(slot, at, reading.value)?)
    }

    /// What follows a series; the usual case, ` value time`, without detours.
    fn reading(&self, rest: &[u8]) -> Result<Reading, ScanError> {
        let plain = || {
            let rest = rest.strip_prefix(b" ")?;
            let space = memchr::memchr(b' ', rest)?;
            let value = number::float(&rest[..space]).ok()?;
            let timestamp = number::seconds(&rest[space + 1..]).ok()?;
            Some(Reading { value, timestamp: Some(timestamp) })
        };
        match plain() {
            Some(reading) => Ok(reading),
            None => sample::reading(rest, Format::OpenMetrics, &self.limits)
                .map_err(|problem| self.problem(self.lines, problem)),
        }
    }
}

/// What follows this very series on a line; `None` where the line is of another.
fn after_series<'l>(line: &'l [u8], text: &[u8]) -> Option<&'l [u8]> {
    let rest = line.strip_prefix(text)?;
    (rest.first() == Some(&b' ')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Kept {
        series: Vec<String>,
        samples: Vec<(u32, i64, f64)>,
        families: Vec<(String, Option<(i64, i64)>)>,
    }

    impl Record for Kept {
        fn wants(&mut self, name: &str) -> bool {
            name != "other"
        }
        fn series(&mut self, series: &Series<'_>) -> Option<u32> {
            let labels: Vec<String> = series.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            self.series.push(format!("{} {}", series.name, labels.join(" ")));
            u32::try_from(self.series.len() - 1).ok()
        }
        fn sample(&mut self, series: u32, at: i64, value: f64) -> std::io::Result<()> {
            self.samples.push((series, at, value));
            Ok(())
        }
        fn family(&mut self, name: &str, times: Option<(i64, i64)>) {
            self.families.push((name.to_owned(), times));
        }
    }

    fn read(text: &str, cut: usize) -> Result<Kept, String> {
        let mut kept = Kept::default();
        let mut reader = RecordedReader::new(Limits::DEFAULT);
        for piece in text.as_bytes().chunks(cut) {
            reader.push(&mut kept, piece).map_err(|error| error.to_string())?;
        }
        reader.finish(&mut kept).map_err(|error| error.to_string())?;
        Ok(kept)
    }

    const TEXT: &str = "# TYPE a counter\n\
        a_total{x=\"1\"} 1 10.5\n\
        a_total{x=\"1\"} 2 20 # {trace=\"q\"} 0.5 19\n\
        a_total{x=\"2\"} 7 10.5\n\
        a_total 3 1\n\
        # TYPE other gauge\n\
        other{x=\"1\"} nonsense\n\
        other_one 1 1e1\n\
        {\"b.c\",x=\"1\"} NaN -1\n\
        a_total{x=\"1\"} 3 30\n\
        # EOF\n";

    #[test]
    fn each_sample_comes_with_its_series_and_time_however_the_text_is_cut() {
        for cut in [1, 7, 64, 4096] {
            let kept = read(TEXT, cut).unwrap();
            assert_eq!(kept.series, ["a_total x=1", "a_total x=2", "a_total ", "other_one ", "b.c x=1"]);
            let all: Vec<(u32, i64)> = kept.samples.iter().map(|(series, at, _)| (*series, *at)).collect();
            assert_eq!(all, [(0, 10_500), (0, 20_000), (1, 10_500), (2, 1_000), (3, 10_000), (4, -1_000), (0, 30_000)]);
            assert_eq!(kept.samples[6].2.to_bits(), 3_f64.to_bits());
            assert!(kept.samples[5].2.is_nan());
            assert_eq!(kept.families, [("a".to_owned(), None), ("other".to_owned(), None)]);
        }
    }

    #[test]
    fn what_nobody_wants_is_told_with_its_times_and_no_more() {
        let text = "# TYPE x counter\nx_total 1 1\n# TYPE other gauge\nother{a=\"1\"} 1 20\nother{a=\"2\"} 1 10\n\
            other{a=\"2\"} 1 15 # {t=\"q\"} 0.5\nx_total 2 2\nother 1 1\n# EOF\n";
        for cut in [1, 7, 64, 4096] {
            let told = read(text, cut).unwrap().families;
            let expected = [("x", None), ("other", Some((10_000, 20_000))), ("other", Some((1_000, 1_000)))];
            assert_eq!(told, expected.map(|(name, times)| (name.to_owned(), times)));
        }
    }

    #[test]
    fn what_promtool_refuses_is_refused_with_its_line() {
        for (text, expected) in [
            ("a 1 1\n", "line 1: the text does not end with # EOF: it was cut off"),
            ("", "line 0: the text does not end with # EOF: it was cut off"),
            ("a 1\n# EOF\n", "line 1: a sample without a time stamp; a recording needs one on each"),
            ("a 1 1\n# EOF\na 1 2\n", "line 3: data after # EOF"),
            ("a 1 1\n\n# EOF\n", "line 2: a blank line, which OpenMetrics does not allow"),
            ("a{x=\"1} 1 1\n# EOF\n", "line 1: the quote of \"\\\"1} 1 1\" is not closed"),
            ("a 1 x\n# EOF\n", "line 1: the time stamp \"x\" is not a number"),
            ("a 1 1\r\n# EOF\n", "line 1: the line ends in CR LF; the format ends lines in LF alone"),
        ] {
            assert_eq!(read(text, 5).err().as_deref(), Some(expected), "{text:?}");
        }
        assert!(read("a 1 1\n# EOF", 3).is_ok(), "the last line end may be missing");
    }
}
