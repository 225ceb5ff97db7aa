//! Text that a program or a cluster wrote, without what looks like a secret in it.
//!
//! What a program says in its log is its own: no rule finds every secret there. This takes away what is written as one.

use std::sync::LazyLock;

use regex::Regex;

/// In the place of a secret.
const MASK: &str = "***";

/// What each one keeps of a find are its groups.
const PATTERNS: [&str; 5] = [
    r#"(?i)(authorization["']?\s*[:=]\s*["']?(?:(?:bearer|basic|token)\s+)?)[^\s"',;]+"#,
    r"(?i)(\bbearer\s+)[a-z0-9._~+/=-]{8,}",
    r#"(?i)([a-z0-9_.-]*(?:passw(?:or)?d|pwd|passphrase|secret|token|credential|api[_-]?key|access[_-]?key|private[_-]?key)[a-z0-9_.-]*["']?\s*[:=]\s*)(?:"[^"]*"|'[^']*'|[^\s"',;&]+)"#,
    r"([a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]+(@)",
    r"()(?:\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*|\bAKIA[0-9A-Z]{16}\b)",
];

static FINDERS: LazyLock<Vec<Regex>> =
    LazyLock::new(|| PATTERNS.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect());

/// One line without its secrets.
#[must_use]
pub fn masked(line: &str) -> String {
    let keep = format!("${{1}}{MASK}${{2}}");
    FINDERS.iter().fold(line.to_owned(), |line, finder| finder.replace_all(&line, keep.as_str()).into_owned())
}

/// Lines without their secrets; nothing of a private key but its first line.
#[must_use]
pub fn masked_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut in_key = false;
    let mut all = Vec::new();
    for line in lines {
        let ends = line.contains("-----END ");
        if !in_key {
            all.push(masked(line));
        }
        in_key = (in_key || (line.contains("-----BEGIN ") && line.contains("PRIVATE KEY"))) && !ends;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_as_a_secret_is_taken_away() {
        assert_eq!(FINDERS.len(), PATTERNS.len(), "each pattern is one");
        for (line, expected) in [
            (
                "could not connect to postgres://shop:hunter2@db/shop",
                "could not connect to postgres://shop:***@db/shop",
            ),
            ("DB_PASSWORD=hunter2 PORT=80", "DB_PASSWORD=*** PORT=80"),
            (r#"{"api_key": "hunter2", "port": 80}"#, r#"{"api_key": ***, "port": 80}"#),
            ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ***"),
            ("sent bearer abcdefgh12345 to it", "sent bearer *** to it"),
            ("got eyJhbGciOiJI.eyJzdWIiOiIx.c2ln", "got ***"),
            ("panicked at src/main.rs:12: no route to host", "panicked at src/main.rs:12: no route to host"),
            ("listening on http://0.0.0.0:8080", "listening on http://0.0.0.0:8080"),
        ] {
            assert_eq!(masked(line), expected);
        }
    }

    #[test]
    fn of_a_private_key_nothing_is_left() {
        let text = "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIabc\nMIIdef\n-----END RSA PRIVATE KEY-----\nb";
        assert_eq!(masked_lines(text.lines()), ["a", "-----BEGIN RSA PRIVATE KEY-----", "b"]);
    }
}
