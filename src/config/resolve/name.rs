//! What names may look like. They end up in URLs, labels, file names and terminals.

use super::Resolver;
use crate::config::source::Place;
use crate::config::suggest;

/// A DNS label's length, which is also Kubernetes' limit.
const LONGEST: usize = 63;

/// Longest name of a trigger, which is prose.
const LONGEST_TITLE: usize = 100;

/// `[a-z0-9]([a-z0-9-]*[a-z0-9])?`, at most 63 bytes.
pub(super) fn check_label(r: &mut Resolver<'_>, what: &str, name: &str, place: Place) {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = !name.is_empty()
        && name.len() <= LONGEST
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !fits {
        r.problems.wrong(place, format!("{} can't be the name of {what}", suggest::quoted(name))).hint(
            "a name is made of a-z, 0-9 and -, begins and ends with a letter or a digit, and has at most 63 of them",
        );
    }
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]*`, at most 63 bytes.
pub(super) fn check_word(r: &mut Resolver<'_>, what: &str, name: &str, place: Place) {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let fits = !name.is_empty() && name.len() <= LONGEST && name.bytes().all(inner) && !name.starts_with(['-', '.']);
    if !fits {
        r.problems
            .wrong(place, format!("{} can't be the name of {what}", suggest::quoted(name)))
            .hint("a name is made of letters, digits, `_`, `-` and `.`, and has at most 63 of them");
    }
}

/// One line of prose.
pub(super) fn check_title(r: &mut Resolver<'_>, what: &str, name: &str, place: Place) {
    if name.chars().any(char::is_control) || name.chars().count() > LONGEST_TITLE {
        r.problems
            .wrong(place, format!("{} can't be the name of {what}", suggest::quoted(name)))
            .hint("a name is one line of at most 100 characters");
    }
}
