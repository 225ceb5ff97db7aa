//! The text format, read slowly and obviously: one character at a time, no skipping, no memory.

use std::collections::BTreeMap;

/// Name, labels, value.
pub(super) type Row = (String, BTreeMap<String, String>, f64);

/// Reads a page; `None` where it is malformed. Time stamps are read over; duplicates are kept.
pub(super) fn read(page: &str) -> Option<Vec<Row>> {
    let mut rest: Vec<char> = page.chars().rev().collect();
    let mut rows = Vec::new();
    loop {
        blanks(&mut rest);
        match rest.last() {
            None => return Some(rows),
            Some('\n') => {
                rest.pop();
            }
            Some('#') => while rest.pop().is_some_and(|c| c != '\n') {},
            Some(_) => rows.push(row(&mut rest)?),
        }
    }
}

fn row(rest: &mut Vec<char>) -> Option<Row> {
    let name = word(rest, |c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    blanks(rest);
    let mut labels = BTreeMap::new();
    if rest.last() == Some(&'{') {
        rest.pop();
        blanks(rest);
        while rest.last() != Some(&'}') {
            let label = word(rest, |c| c.is_ascii_alphanumeric() || c == '_');
            if label.is_empty() || label.starts_with(|c: char| c.is_ascii_digit()) {
                return None;
            }
            blanks(rest);
            take(rest, '=')?;
            blanks(rest);
            let value = quoted(rest)?;
            if labels.insert(label, value).is_some() {
                return None;
            }
            blanks(rest);
            if rest.last() == Some(&',') {
                rest.pop();
                blanks(rest);
            }
        }
        rest.pop();
    }
    labels.retain(|_, value| !value.is_empty());
    blanks(rest);
    let value = word(rest, |c| !matches!(c, ' ' | '\t' | '\n' | '{'));
    let value = value.parse().ok()?;
    blanks(rest);
    word(rest, |c| c.is_ascii_digit());
    blanks(rest);
    match rest.pop() {
        None | Some('\n') => Some((name, labels, value)),
        Some(_) => None,
    }
}

fn blanks(rest: &mut Vec<char>) {
    word(rest, |c| matches!(c, ' ' | '\t'));
}

fn word(rest: &mut Vec<char>, wanted: impl Fn(char) -> bool) -> String {
    let mut word = String::new();
    while let Some(c) = rest.pop_if(|c| wanted(*c)) {
        word.push(c);
    }
    word
}

fn take(rest: &mut Vec<char>, wanted: char) -> Option<()> {
    rest.pop_if(|c| *c == wanted).map(|_| ())
}

fn quoted(rest: &mut Vec<char>) -> Option<String> {
    take(rest, '"')?;
    let mut text = String::new();
    loop {
        match rest.pop()? {
            '"' => return Some(text),
            '\\' => match rest.pop()? {
                'n' => text.push('\n'),
                '\n' => return None,
                c @ ('"' | '\\') => text.push(c),
                other => text.extend(['\\', other]),
            },
            c => text.push(c),
        }
    }
}
