//! Sorted runs of points in temporary files, and all of them merged into one order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

use super::recording::Point;

/// A point on disk: time, value, series, little end first.
const POINT_BYTES: usize = 20;

/// Points read from a run at a time.
const CHUNK_POINTS: usize = 16 * 1024;

/// Sorted runs, each in a temporary file without a name, gone with the process.
#[derive(Debug, Default)]
pub(super) struct Runs(Vec<Run>);

#[derive(Debug)]
struct Run {
    file: File,
    points: u64,
}

impl Runs {
    /// Writes a sorted run.
    pub(super) fn spill(&mut self, points: &[Point]) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, tempfile::tempfile()?);
        for point in points {
            let mut bytes = [0; POINT_BYTES];
            bytes[..8].copy_from_slice(&point.at.to_le_bytes());
            bytes[8..16].copy_from_slice(&point.value.to_bits().to_le_bytes());
            bytes[16..].copy_from_slice(&point.series.to_le_bytes());
            out.write_all(&bytes)?;
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.0.push(Run { file, points: points.len() as u64 });
        Ok(())
    }
}

/// One run being read.
#[derive(Debug)]
enum Source<'r> {
    Memory(std::slice::Iter<'r, Point>),
    Disk { run: &'r Run, next: u64, chunk: std::vec::IntoIter<Point> },
}

impl Source<'_> {
    fn next(&mut self) -> io::Result<Option<Point>> {
        match self {
            Source::Memory(points) => Ok(points.next().copied()),
            Source::Disk { run, next, chunk } => {
                if let Some(point) = chunk.next() {
                    return Ok(Some(point));
                }
                *chunk = run.read(*next)?.into_iter();
                *next += chunk.len() as u64;
                Ok(chunk.next())
            }
        }
    }
}

impl Run {
    fn read(&self, from: u64) -> io::Result<Vec<Point>> {
        let count = usize::try_from(self.points - from).unwrap_or(CHUNK_POINTS).min(CHUNK_POINTS);
        let mut bytes = vec![0; count * POINT_BYTES];
        self.file.read_exact_at(&mut bytes, from * POINT_BYTES as u64)?;
        Ok(bytes.chunks_exact(POINT_BYTES).map(decode).collect())
    }
}

fn decode(bytes: &[u8]) -> Point {
    let word = |from: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[from..from + 8]);
        u64::from_le_bytes(word)
    };
    let mut series = [0; 4];
    series.copy_from_slice(&bytes[16..]);
    Point { at: word(0).cast_signed(), value: f64::from_bits(word(8)), series: u32::from_le_bytes(series) }
}

/// All points in order, each series and time once: of equal ones that of the earliest run stays, and within a run the
/// first.
#[derive(Debug)]
pub(super) struct Cursor<'r> {
    sources: Vec<Source<'r>>,
    /// The next point of each source, by order and then by run; values don't compare, so they lie beside.
    heap: BinaryHeap<Reverse<((i64, u32), usize)>>,
    heads: Vec<Option<Point>>,
    last: Option<(i64, u32)>,
    opened: bool,
}

impl<'r> Cursor<'r> {
    pub(super) fn new(memory: &'r [Point], runs: &'r Runs) -> Self {
        let disk = runs.0.iter().map(|run| Source::Disk { run, next: 0, chunk: Vec::new().into_iter() });
        let sources: Vec<Source<'r>> = disk.chain([Source::Memory(memory.iter())]).collect();
        Self { heads: vec![None; sources.len()], sources, heap: BinaryHeap::new(), last: None, opened: false }
    }

    /// The next point.
    ///
    /// # Errors
    /// A run could not be read back.
    pub(super) fn next(&mut self) -> io::Result<Option<Point>> {
        loop {
            let Some(point) = self.advance()? else { return Ok(None) };
            if self.last != Some(point.order()) {
                self.last = Some(point.order());
                return Ok(Some(point));
            }
        }
    }

    fn advance(&mut self) -> io::Result<Option<Point>> {
        if let [only] = self.sources.as_mut_slice() {
            return only.next();
        }
        if !self.opened {
            self.opened = true;
            for index in 0..self.sources.len() {
                self.pull(index)?;
            }
        }
        let Some(Reverse((_, index))) = self.heap.pop() else { return Ok(None) };
        let point = self.heads.get_mut(index).and_then(Option::take);
        self.pull(index)?;
        Ok(point)
    }

    fn pull(&mut self, index: usize) -> io::Result<()> {
        let head = match self.sources.get_mut(index) {
            Some(source) => source.next()?,
            None => None,
        };
        if let (Some(point), Some(slot)) = (head, self.heads.get_mut(index)) {
            *slot = Some(point);
            self.heap.push(Reverse((point.order(), index)));
        }
        Ok(())
    }
}
