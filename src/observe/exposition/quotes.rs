//! Whether a line ends inside a quoted string.
//!
//! Prometheus' text parser lets a label value run over the end of a line. A line that is skipped without being parsed
//! must still be told from one whose next line belongs to it, or text inside a label value could pose as a sample.

/// Whether a sample line ends inside a quoted string. Looks at the last quote only, unless that is doubtful.
#[inline]
pub(crate) fn ends_open(line: &[u8]) -> bool {
    match memchr::memrchr(b'"', line) {
        None | Some(0) => false,
        // A quote that opens a string follows one of these; an escaped one follows a backslash. After any other byte
        // the last quote closes a string.
        Some(at) => match line[at - 1] {
            b'\\' | b'=' | b' ' | b'\t' | b'{' | b',' | b'"' => runs_on(line, false),
            _ => false,
        },
    }
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
