//! Whether a line ends inside a quoted string.
//!
//! Prometheus' text parser lets a label value run over the end of a line. A line that is skipped without being parsed
//! must still be told from one whose next line belongs to it, or text inside a label value could pose as a sample.

/// Whether a sample line ends inside a quoted string. Looks at the last quote only, unless that is doubtful.
#[inline]
pub(crate) fn ends_open(line: &[u8]) -> bool {
    match last_quote(line) {
        None | Some(0) => false,
        // A quote that opens a string follows one of these; an escaped one follows a backslash. After any other byte
        // the last quote closes a string.
        Some(at) => match line[at - 1] {
            b'\\' | b'=' | b' ' | b'\t' | b'{' | b',' | b'"' => runs_on(line, false),
            _ => false,
        },
    }
}

/// Where the last quote is. In most lines it is a value's length from the end, so the last sixteen bytes are looked at
/// at once before a search is begun.
#[inline]
fn last_quote(line: &[u8]) -> Option<usize> {
    const ONES: u128 = u128::from_ne_bytes([1; 16]);
    if let Some(tail) = line.last_chunk::<16>() {
        // The lowest byte is the line's last. A byte that is zero once quotes are made zero raises its high bit; what
        // borrows can raise besides lies above the lowest such byte.
        let zeroed = u128::from_be_bytes(*tail) ^ (ONES * b'"' as u128);
        let found = zeroed.wrapping_sub(ONES) & !zeroed & (ONES << 7);
        if found != 0 {
            return Some(line.len() - 1 - (found.trailing_zeros() / 8) as usize);
        }
    }
    memchr::memrchr(b'"', line)
}

/// Whether the text ends inside a quoted string, given whether it starts in one.
pub(crate) fn runs_on(text: &[u8], mut inside: bool) -> bool {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &text[at..]) {
        at += found;
        if text[at] == b'"' {
            inside = !inside;
        } else if inside {
            at += 1;
            if at >= text.len() {
                // A backslash can't escape the end of a line: the string is broken, not open.
                return false;
            }
        }
        at += 1;
    }
    inside
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn open_strings_are_told_from_closed_ones() {
        let cases: &[(&str, bool)] = &[
            ("a 1", false),
            (r#"a{b="c"} 1"#, false),
            (r#"a{b=""} 1"#, false),
            (r#"a{b="="} 1"#, false),
            (r#"a{b="x\"} 1"#, true),
            (r#"a{b="x\\"} 1"#, false),
            (r#"a{b="x\\\"} 1"#, true),
            (r#"a{b=""#, true),
            (r#"a{b="c",d="e"#, true),
            (r#"a{b="c"d="e"} 1"#, false),
            (r#"{"a"#, true),
            (r#"{"a",b=" ""#, false),
            (r#"{"a",b=" "#, true),
            (r#"a{b="c\"#, false),
            ("\"", false),
        ];
        for (line, expected) in cases {
            assert_eq!(ends_open(line.as_bytes()), *expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn the_last_quote_is_where_a_search_finds_it(line in proptest::collection::vec(prop_oneof![Just(b'"'), any::<u8>()], 0..40)) {
            prop_assert_eq!(last_quote(&line), line.iter().rposition(|byte| *byte == b'"'));
        }

        #[test]
        fn the_short_look_and_the_long_one_agree(
            labels in proptest::collection::vec(r#"[a-z]{1,3} ?= ?"([^"\\]|\\.){0,6}""#, 1..4),
            open in any::<bool>(),
            tail in r#"([^"\\]|\\.){0,6}"#,
        ) {
            let labels = labels.join(",");
            let line = if open { format!("m{{{labels},z=\"{tail}") } else { format!("m{{{labels}}} 1") };
            prop_assert_eq!(ends_open(line.as_bytes()), runs_on(line.as_bytes(), false));
            prop_assert_eq!(ends_open(line.as_bytes()), open);
        }
    }
}
