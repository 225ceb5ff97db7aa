//! Foreign text made fit to be shown, stored and passed on: a program's output and the names that it prints are
//! written by whoever wrote the program.

use crate::domain::id::RevisionId;

/// Longest release name, in bytes; the limit of a file name on Linux.
const MAX_NAME: usize = 255;
/// Longest unit name, in bytes: systemd's `UNIT_NAME_MAX`.
const MAX_UNIT_NAME: usize = 255;

/// Bytes as text that is safe on a terminal, in a log line and in a report: escape sequences, control characters
/// and direction overrides removed, line breaks and tabs kept.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || is_direction_override(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// Skips what follows ESC: a CSI sequence, a string sequence up to its terminator, or one character.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next_if(|c| !c.is_control()) {
        Some('[') => {
            while let Some(c) = chars.next_if(|c| !c.is_control()) {
                if ('\u{40}'..='\u{7e}').contains(&c) {
                    break;
                }
            }
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            // A line break ends it too, so that an unterminated one can't hide the rest of the output.
            while let Some(c) = chars.next_if(|c| *c != '\n') {
                if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        Some(_) | None => {}
    }
}

/// Characters that make text read other than it is stored.
const fn is_direction_override(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The end of a text, at most `limit` bytes, beginning at a line where one begins in reach.
#[must_use]
pub fn tail(text: &str, limit: usize) -> &str {
    let text = text.trim();
    if text.len() <= limit {
        return text;
    }
    let mut start = text.len() - limit;
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let cut = &text[start..];
    match cut.find('\n') {
        Some(newline) if newline + 1 < cut.len() => &cut[newline + 1..],
        Some(_) | None => cut,
    }
}

/// Text on one line, for where one line is asked for.
#[must_use]
pub fn one_line(text: &str) -> String {
    let parts: Vec<&str> = text.split_whitespace().collect();
    parts.join(" ")
}

/// A release as a command prints it.
///
/// # Errors
///
/// Where it is empty, longer than 255 bytes, holds white space or a control character, or begins with `-`: it is
/// passed to commands as an argument and must not be taken for an option.
pub fn release_name(name: &str) -> Result<RevisionId, String> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_NAME {
        "is longer than 255 bytes"
    } else if name.starts_with('-') {
        "begins with '-' and could be taken for an option"
    } else if name.chars().any(|c| c.is_control() || c.is_whitespace() || is_direction_override(c)) {
        "holds white space or a control character"
    } else {
        return Ok(RevisionId::new(name));
    };
    Err(format!("release name {name:?} {problem}"))
}

/// A release as a directory's name: one path component.
///
/// # Errors
///
/// As [`release_name`], and where it holds `/` or begins with a dot.
pub fn directory_name(name: &str) -> Result<RevisionId, String> {
    if name.contains('/') {
        return Err(format!("release name {name:?} holds '/': it must be one path component"));
    }
    if name.starts_with('.') {
        return Err(format!("release name {name:?} begins with a dot"));
    }
    release_name(name)
}

/// Whether systemd could have given this name to a unit, and no program takes it for an option or a pattern.
///
/// # Errors
///
/// Where it is something else.
pub fn check_unit_name(unit: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    let is_unit =
        !unit.is_empty() && unit.len() <= MAX_UNIT_NAME && !unit.starts_with(['-', '.']) && unit.chars().all(allowed);
    if is_unit { Ok(()) } else { Err(format!("{unit:?} is not the name of a unit")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_gets_through() {
        for (raw, shown) in [
            (&b"plain\n\ttext"[..], "plain\n\ttext"),
            (b"\x1b[31mred\x1b[0m", "red"),
            (b"\x1b]0;title\x07after", "after"),
            (b"\x1b]8;;http://evil\x1b\\link", "link"),
            (b"\x1b]0;never ended\nnext line", "\nnext line"),
            (b"over\rwrite\x08\x00", "overwrite"),
            (b"\x1b", ""),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            ("a\u{202e}b".as_bytes(), "ab"),
            ("\u{9b}31mC1".as_bytes(), "31mC1"),
        ] {
            assert_eq!(printable(raw), shown, "{raw:?}");
        }
    }

    #[test]
    fn the_end_is_kept_and_begins_at_a_line() {
        assert_eq!(tail("short\n", 100), "short");
        assert_eq!(tail("first line\nsecond\nthird\n", 15), "second\nthird");
        assert_eq!(tail("ääää", 3), "ä");
    }

    #[test]
    fn a_release_name_can_be_neither_option_nor_path() {
        for good in ["v1", "2025-11-28_1", "sha256:abc", "app@1"] {
            assert!(directory_name(good).is_ok(), "{good}");
        }
        assert!(release_name("registry.example/app:v1").is_ok());
        for bad in ["", "-rf", "..", ".", ".hidden", "a/b", "/etc", "a b", "a\nb", "a\u{0}b"] {
            assert!(directory_name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            release_name("--force").unwrap_err(),
            "release name \"--force\" begins with '-' and could be taken for an option"
        );
        assert!(release_name(&"x".repeat(256)).is_err());
    }
}
