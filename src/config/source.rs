//! Texts and places in them, small enough to be carried by every decoded value.

use std::ops::Range;
use std::path::PathBuf;

/// A stretch of one source text, in bytes. Sources are limited to 4 MiB, so 32 bits are enough.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Place {
    file: u32,
    start: u32,
    end: u32,
}

impl Place {
    pub(crate) fn new(file: u32, span: Range<usize>) -> Self {
        let narrow = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { file, start: narrow(span.start), end: narrow(span.end) }
    }

    pub(crate) const fn file(self) -> usize {
        self.file as usize
    }

    pub(crate) const fn span(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// One policy file's text.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    line_starts: Vec<usize>,
}

impl Source {
    pub(crate) fn new(path: PathBuf, text: String) -> Self {
        let after_newline = text.match_indices('\n').map(|(newline, _)| newline + 1);
        let line_starts = std::iter::once(0).chain(after_newline).collect();
        Self { path, text, line_starts }
    }

    /// Index of the line that holds `offset`.
    pub(crate) fn line_at(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// Line and column of `offset`, both from 1, columns in characters.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let index = self.line_at(offset);
        let (start, _) = self.line(index);
        (index + 1, self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1)
    }

    /// Where a line begins, and its text without the line end.
    pub(crate) fn line(&self, index: usize) -> (usize, &str) {
        let start = self.line_starts.get(index).copied().unwrap_or(self.text.len());
        let end = self.line_starts.get(index + 1).copied().unwrap_or(self.text.len());
        (start, self.text.get(start..end).unwrap_or_default().trim_end_matches(['\n', '\r']))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_lines() {
        let source = Source::new(PathBuf::new(), "one\r\ntwo\n\nfour".to_owned());
        for (offset, line, text) in
            [(0, 0, "one"), (4, 0, "one"), (5, 1, "two"), (9, 2, ""), (10, 3, "four"), (14, 3, "four")]
        {
            assert_eq!(source.line_at(offset), line, "offset {offset}");
            assert_eq!(source.line(line).1, text);
        }
        assert_eq!([0, 6, 9].map(|offset| source.position(offset)), [(1, 1), (2, 2), (3, 1)]);
        assert_eq!(source.line(9), (14, ""));
    }
}
