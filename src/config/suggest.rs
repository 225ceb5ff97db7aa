//! The nearest thing that exists to one that does not.

/// Alike enough to be a slip of the finger; below it a suggestion misleads.
const LIKENESS: f64 = 0.75;

/// How much of a foreign text is repeated in a message.
const QUOTED_CHARACTERS: usize = 80;

/// The candidate most alike, if one is alike enough.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(name);
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&folded, &fold(candidate)), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn fold(name: &str) -> String {
    name.to_lowercase().replace(['-', ' '], "_")
}

/// `did you mean …?`, or the list of what there is.
pub(crate) fn hint<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(nearest) = nearest(name, candidates.clone()) {
        return Some(format!("did you mean `{nearest}`?"));
    }
    let all: Vec<_> = candidates.into_iter().map(|candidate| format!("`{candidate}`")).collect();
    (!all.is_empty()).then(|| format!("known here: {}", all.join(", ")))
}

/// A text from the file in backticks, on one line and not too long.
pub(crate) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(QUOTED_CHARACTERS).flat_map(char::escape_debug).collect();
    let more = if text.chars().count() > QUOTED_CHARACTERS { "…" } else { "" };
    format!("`{}{more}`", short.replace("\\\"", "\"").replace("\\'", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_suggested_and_nothing_far() {
        let keys = ["interval", "probation", "known_good_after", "strategy"];
        assert_eq!(nearest("intervall", keys), Some("interval"));
        assert_eq!(nearest("known-good-after", keys), Some("known_good_after"));
        assert_eq!(nearest("zebra", keys), None);
        assert_eq!(hint("x", ["a", "b"]).as_deref(), Some("known here: `a`, `b`"));
        assert_eq!(hint("x", []), None);
    }

    #[test]
    fn quoted_text_stays_on_one_line() {
        assert_eq!(quoted("a\n\u{1b}[31m\"b\""), "`a\\n\\u{1b}[31m\"b\"`");
        assert_eq!(quoted(&"x".repeat(200)).chars().count(), 83);
    }
}
