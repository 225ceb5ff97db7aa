//! Texts cut to a receiver's limits, never in the middle of a character.

/// What stands for what was cut.
const ELLIPSIS: char = '…';

/// At most `limit` bytes of a text, the ellipsis that ends a cut one included.
pub(super) fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let kept = text.floor_char_boundary(limit.saturating_sub(ELLIPSIS.len_utf8()));
    let mut short = text[..kept].to_owned();
    if limit >= ELLIPSIS.len_utf8() {
        short.push(ELLIPSIS);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn a_cut_never_splits_a_character_or_exceeds_the_limit() {
        for (text, limit, expected) in [
            ("short", 5, "short"),
            ("longer", 5, "lo…"),
            ("ööö", 6, "ööö"),
            ("öööö", 6, "ö…"),
            ("öööö", 2, ""),
            ("", 0, ""),
        ] {
            let short = shorten(text, limit);
            assert_eq!(short, expected);
            assert!(short.len() <= limit);
        }
    }
}
