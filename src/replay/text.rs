//! Recordings from files: OpenMetrics text with a time stamp on each sample, plain or gzipped, read in pieces.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::exporters;
use super::recording::{Recorder, SeriesKey};
use crate::domain::policy::WorkloadPolicy;
use crate::domain::time::Timestamp;
use crate::observe::exposition::{
    Class, Decoder, Encoding, Limits, Record, RecordedError, RecordedReader, ScanError, Series, Wanted,
};

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// What is taken from a file that the operator chose: of any size, line by line within the daemon's limits.
const LIMITS: Limits = Limits {
    wire_bytes: u64::MAX,
    body_bytes: u64::MAX,
    ratio: 1_100,
    samples: u64::MAX,
    kept: u32::MAX,
    ..Limits::DEFAULT
};

/// The first two bytes of a gzipped file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A file could not be made a recording.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It can't be read.
    #[error("{} can't be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its text is not what the format says.
    #[error("{} is no recording in OpenMetrics text", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Line and what is wrong with it.
        source: ScanError,
    },
    /// What was read can't be kept: the temporary directory is full or not there.
    #[error("what was read of {} can't be kept", path.display())]
    Unkept {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads files into one recorder, keeping what these policies ask for and what tells of releases and pods.
#[derive(Debug)]
pub struct TextReader {
    keep: Keep,
}

/// The recorder behind a sieve of names.
#[derive(Debug)]
struct Keep {
    recorder: Recorder,
    wanted: Vec<Wanted>,
}

impl Record for Keep {
    fn wants(&mut self, name: &str) -> bool {
        exporters::is_known(name) || self.wanted.iter_mut().any(|wanted| wanted.class(name) != Class::Skip)
    }

    fn series(&mut self, series: &Series<'_>) -> Option<u32> {
        let labels: Vec<(&str, &str)> =
            series.labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        self.recorder.series(&series.name, &labels).map(|key| key.0)
    }

    fn sample(&mut self, series: u32, at: i64, value: f64) -> io::Result<()> {
        self.recorder.point(SeriesKey(series), Timestamp::from_millis(at), value)
    }

    fn family(&mut self, name: &str, times: Option<(i64, i64)>) {
        let times = times.map(|(first, last)| (Timestamp::from_millis(first), Timestamp::from_millis(last)));
        self.recorder.family(name, times);
    }
}

impl TextReader {
    /// Keeps what these policies ask for.
    pub fn new<'p>(policies: impl IntoIterator<Item = &'p WorkloadPolicy>) -> Self {
        let wanted = policies.into_iter().map(|policy| Wanted::new(&policy.operands)).collect();
        Self { keep: Keep { recorder: Recorder::new(), wanted } }
    }

    /// Reads one file; `progress` is told of each piece's bytes, as they lie on disk.
    ///
    /// # Errors
    /// [`ReadError`]: as `promtool` does, a text that does not end with `# EOF` is refused.
    pub fn file(&mut self, path: &Path, progress: &dyn Fn(u64)) -> Result<(), ReadError> {
        let unreadable = |source| ReadError::Unreadable { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let mut piece = vec![0; PIECE];
        let mut filled = fill(&mut file, &mut piece).map_err(unreadable)?;
        let encoding = if piece.get(..2) == Some(&GZIP) { Encoding::Gzip } else { Encoding::Identity };
        let mut decoder = Decoder::new(encoding, LIMITS);
        let mut reader = RecordedReader::new(LIMITS);
        let mut broken = None;
        while filled > 0 {
            let pushed = decoder.push(&piece[..filled], |text| take(&mut reader, &mut self.keep, text, &mut broken));
            self.settle(path, pushed, broken.take())?;
            progress(filled as u64);
            filled = fill(&mut file, &mut piece).map_err(unreadable)?;
        }
        let finished = decoder.finish(|text| take(&mut reader, &mut self.keep, text, &mut broken));
        self.settle(path, finished.map(|_| ()), broken.take())?;
        reader.finish(&mut self.keep).map_err(|error| wrong(path, error))
    }

    fn settle(
        &self,
        path: &Path,
        decoded: Result<(), ScanError>,
        broken: Option<RecordedError>,
    ) -> Result<(), ReadError> {
        match (broken, decoded) {
            (Some(error), _) => Err(wrong(path, error)),
            (None, Err(error)) => Err(wrong(path, error.into())),
            (None, Ok(())) => Ok(()),
        }
    }

    /// The recorder with everything that was kept.
    #[must_use]
    pub fn into_recorder(self) -> Recorder {
        self.keep.recorder
    }
}

/// The decoder knows one kind of error; the reader's own is put aside for whoever called.
fn take(
    reader: &mut RecordedReader,
    keep: &mut Keep,
    text: &[u8],
    broken: &mut Option<RecordedError>,
) -> Result<(), ScanError> {
    reader.push(keep, text).map_err(|error| {
        let shown = ScanError::Encoding(error.to_string());
        *broken = Some(error);
        shown
    })
}

fn wrong(path: &Path, error: RecordedError) -> ReadError {
    let path = path.to_owned();
    match error {
        RecordedError::Text(source) => ReadError::Malformed { path, source },
        RecordedError::Kept(source) => ReadError::Unkept { path, source },
    }
}

fn fill(file: &mut File, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match file.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
