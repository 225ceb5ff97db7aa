//! A place in a line, and the tokens that both formats share.

use super::Format;
use super::limits::{Problem, excerpt};

/// A place in a line.
pub(crate) struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
    format: Format,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(line: &'a [u8], format: Format) -> Self {
        Self { line, at: 0, format }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    pub(crate) fn at_end(&self) -> bool {
        self.at >= self.line.len()
    }

    /// Whether blanks between tokens and missing commas are refused.
    pub(crate) fn strict(&self) -> bool {
        match self.format {
            Format::Text => false,
            Format::OpenMetrics => true,
        }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.line.get(self.at..).unwrap_or_default()
    }

    pub(crate) fn looking_at(&self, text: &[u8]) -> bool {
        self.rest().starts_with(text)
    }

    pub(crate) fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let len = rest.iter().position(|byte| !wanted(*byte)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// Passes blanks, where the format allows them between tokens.
    pub(crate) fn blanks(&mut self) {
        if !self.strict() {
            self.take_while(|byte| matches!(byte, b' ' | b'\t'));
        }
    }

    /// Takes an unquoted name; `colons` for metric names. `None`, and no move, where there is none.
    pub(crate) fn plain_name(&mut self, colons: bool) -> Option<&'a str> {
        let starts = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || (colons && byte == b':');
        if !self.peek().is_some_and(starts) {
            return None;
        }
        let name = self.take_while(|byte| starts(byte) || byte.is_ascii_digit());
        std::str::from_utf8(name).ok()
    }

    /// Takes a quoted string and returns what is between the quotes, escapes and all.
    pub(crate) fn quoted(&mut self, what: &str) -> Result<&'a [u8], Problem> {
        if self.peek() != Some(b'"') {
            return Err(self.expected(&format!("{what} in double quotes")));
        }
        let inside = &self.rest()[1..];
        let mut at = 0;
        while let Some(found) = memchr::memchr2(b'"', b'\\', &inside[at..]) {
            at += found;
            if inside[at] == b'"' {
                self.at += at + 2;
                return Ok(&inside[..at]);
            }
            if matches!(inside.get(at + 1), None | Some(b'\n')) {
                break;
            }
            at += 2;
        }
        Err(Problem::new(format!("the quote of {} is not closed", excerpt(self.rest()))))
    }

    /// The problem that something else stands here.
    pub(crate) fn expected(&self, what: &str) -> Problem {
        if self.at_end() {
            return Problem::new(format!("expected {what}, got the end of the line"));
        }
        if self.rest() == b"\r" {
            return Problem::new("the line ends in CR LF; the format ends lines in LF alone");
        }
        Problem::new(format!("expected {what}, got {}", excerpt(self.rest())))
    }
}
