//! The regular expressions of a selector, taken out of its text: the parser crate compiles them as its own, with the syntax of
//! another engine than Prometheus has.

use promql_parser::parser::{self, Expr};

/// What stands in their place: any engine takes it, and it refuses an empty value.
const PLACEHOLDER: &str = "\".\"";

/// The text with another expression in place of each regular expression, and those that were written there, in their order.
///
/// # Errors
///
/// Why one of them is no string.
pub(super) fn taken_out(text: &str) -> Result<(String, Vec<String>), String> {
    let (mut out, mut patterns) = (String::with_capacity(text.len()), Vec::new());
    let mut rest = text;
    // Whether an operator was read that a regular expression follows.
    let mut is_due = false;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '"' | '\'' | '`' => string(rest, c),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '=' | '!' if rest[1..].starts_with('~') => 2,
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        match c {
            '"' | '\'' | '`' if is_due => {
                patterns.push(value(token)?);
                out.push_str(PLACEHOLDER);
                is_due = false;
            }
            '#' => out.push_str(token),
            c => {
                out.push_str(token);
                is_due = token == "=~" || token == "!~" || (is_due && c.is_whitespace());
            }
        }
    }
    Ok((out, patterns))
}

/// How long the string is that begins here, its quotes included; all that is left where it does not end.
fn string(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (index, c) in rest.char_indices().skip(1) {
        if is_escaped {
            is_escaped = false;
        } else if c == quote {
            return index + 1;
        } else {
            is_escaped = c == '\\' && quote != '`';
        }
    }
    rest.len()
}

/// What a string says, as the parser crate reads it, but for what is raw: there it sees escapes.
fn value(string: &str) -> Result<String, String> {
    if let Some(raw) = string.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
        return Ok(raw.to_owned());
    }
    match parser::parse(&format!("x{{a={string}}}"))? {
        Expr::VectorSelector(read) => {
            let value = read.matchers.matchers.first().map(|matcher| matcher.value.clone());
            value.ok_or_else(|| format!("{string} is no string"))
        }
        _ => Err(format!("{string} is no string")),
    }
}
