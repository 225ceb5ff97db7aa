//! Reads Rust text just far enough to know which paths it names: comments, literals and test modules are dropped, imports
//! are expanded, and a path that begins with an imported name is written out in full.

use std::collections::BTreeMap;

/// A piece of code that is no white space, comment or literal.
type Token = String;

/// Code without comments, literals and `#[cfg(test)]` items.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    without_tests(&lex(text))
}

/// Names of the modules that the text declares for tests, in files of their own.
pub(super) fn test_modules(text: &str) -> Vec<String> {
    let all = lex(text);
    let mut found = Vec::new();
    for (at, window) in all.windows(2).enumerate() {
        let declared = window[0] == "mod" && all.get(at + 2).is_some_and(|token| token == ";");
        let marked = all[..at].iter().rev().take_while(|token| !matches!(token.as_str(), ";" | "}" | "{"));
        let marked: Vec<&str> = marked.map(String::as_str).collect();
        if declared && marked.windows(3).any(|window| window == ["test", "(", "cfg"]) {
            found.push(window[1].clone());
        }
    }
    found
}

/// Every path that the code names, imports first, each in full as far as the text tells: `crate::…` for what is ours.
/// `module` is where the text stands, as `["domain", "health"]`.
pub(super) fn paths(tokens: &[Token], module: &[&str]) -> Vec<String> {
    let mut named = Vec::new();
    let mut aliases = BTreeMap::new();
    let mut rest = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" {
            let end = (at..tokens.len()).find(|&i| tokens[i] == ";").unwrap_or(tokens.len());
            for (path, alias) in expand(&tokens[at + 1..end]) {
                let path = absolute(&path, module);
                aliases.insert(alias, path.clone());
                named.push(path);
            }
            at = end;
        } else {
            rest.push(tokens[at].clone());
        }
        at += 1;
    }
    named.extend(inline(&rest).into_iter().map(|path| match aliases.get(&path[0]) {
        Some(full) => [std::slice::from_ref(full), &path[1..]].concat().join("::"),
        None => absolute(&path, module),
    }));
    named
}

fn absolute(path: &[String], module: &[&str]) -> String {
    let mut base: Vec<&str> = Vec::new();
    let mut rest = path;
    match path.first().map(String::as_str) {
        Some("self") => {
            base = [&["crate"], module].concat();
            rest = &path[1..];
        }
        Some("super") => {
            base = [&["crate"], module].concat();
            while rest.first().is_some_and(|segment| segment == "super") {
                if base.len() > 1 {
                    base.pop();
                }
                rest = &rest[1..];
            }
        }
        Some(_) | None => {}
    }
    base.extend(rest.iter().map(String::as_str));
    base.join("::")
}

/// `a::{b, c as d}` as `a::b` known as `b`, and `a::c` known as `d`.
fn expand(tree: &[Token]) -> Vec<(Vec<String>, String)> {
    let mut prefix: Vec<String> = Vec::new();
    let mut at = 0;
    while at < tree.len() {
        match tree[at].as_str() {
            "::" => {}
            "{" => {
                return branches(&tree[at + 1..tree.len() - 1])
                    .into_iter()
                    .flat_map(expand)
                    .map(|(path, alias)| {
                        let itself = path.len() == 1 && path[0] == "self";
                        let alias =
                            if itself && alias == "self" { prefix.last().cloned().unwrap_or_default() } else { alias };
                        let path = if itself { prefix.clone() } else { [prefix.as_slice(), path.as_slice()].concat() };
                        (path, alias)
                    })
                    .collect();
            }
            "as" => return vec![(prefix, tree.get(at + 1).cloned().unwrap_or_default())],
            segment => prefix.push(segment.to_owned()),
        }
        at += 1;
    }
    let alias = prefix.last().cloned().unwrap_or_default();
    if prefix.is_empty() { Vec::new() } else { vec![(prefix, alias)] }
}

/// The parts between commas that stand in no inner braces.
fn branches(list: &[Token]) -> Vec<&[Token]> {
    let mut depth = 0;
    list.split(|token| {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        depth == 0 && token == ","
    })
    .collect()
}

/// Paths of two segments or more.
fn inline(tokens: &[Token]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let mut path = Vec::new();
        while is_name(&tokens[at]) {
            path.push(tokens[at].clone());
            let joined = tokens.get(at + 1).is_some_and(|token| token == "::")
                && tokens.get(at + 2).is_some_and(|token| is_name(token));
            if !joined {
                break;
            }
            at += 2;
        }
        if path.len() > 1 {
            found.push(path);
        }
        at += 1;
    }
    found
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Drops each item that follows `#[cfg(test)]`, up to its `;` or its closing brace.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].len() >= MARK.len() && tokens[at..].iter().zip(MARK).all(|(token, mark)| token == mark) {
            let mut depth = 0;
            at += MARK.len();
            while at < tokens.len() {
                match tokens[at].as_str() {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    _ => {}
                }
                if depth == 0 && (tokens[at] == ";" || tokens[at] == "}") {
                    break;
                }
                at += 1;
            }
        } else {
            kept.push(tokens[at].clone());
        }
        at += 1;
    }
    kept
}

fn lex(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (taken, token) = if first.is_whitespace() {
            (first.len_utf8(), None)
        } else if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), None)
        } else if rest.starts_with("/*") {
            (block_comment(rest), None)
        } else if let Some(length) = literal(rest) {
            (length, None)
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            (length, Some(&rest[..length]))
        } else if rest.starts_with("::") {
            (2, Some("::"))
        } else {
            (first.len_utf8(), Some(&rest[..first.len_utf8()]))
        };
        found.extend(token.map(str::to_owned));
        rest = &rest[taken..];
    }
    found
}

/// Length of the comment at the start, comments within it included.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// Length of the string or character literal at the start, if there is one. A lifetime is none.
fn literal(text: &str) -> Option<usize> {
    let body = text.strip_prefix('b').or_else(|| text.strip_prefix('c')).unwrap_or(text);
    let before = text.len() - body.len();
    if let Some(raw) = body.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let start = before + 1 + hashes + 1;
            return Some(text[start..].find(&close).map_or(text.len(), |at| start + at + close.len()));
        }
    }
    let quote = body.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(before + at + 1),
            _ if quote == '\'' && at > 1 && !body[1..].starts_with('\\') => return None,
            _ => {}
        }
    }
    None
}

#[test]
fn literals_comments_and_tests_are_not_code() {
    let text = r####"
        //! std::fs
        /* std::fs /* std::net */ std::env */
        const A: &str = "std::fs \" std::net"; const B: char = '"'; const C: char = '\''; const D: &[u8] = br#"std::fs" std::io"#;
        fn f<'a>(x: &'a str) -> char { 'x' }
        #[cfg(test)]
        mod tests { use std::fs; fn g() { std::process::exit(1) } }
        #[cfg(test)]
        mod more;
        fn last() { real::path() }
        #[cfg(test)]
        pub(crate) mod fixtures;
        mod product;
    "####;
    assert_eq!(test_modules(text), ["more", "fixtures"]);
    assert_eq!(paths(&tokens(text), &[]), ["real::path"]);
}

#[test]
fn imports_are_expanded_and_followed() {
    let text = "
        use std::{fmt, time::{self, Instant as Moment}};
        use super::units::Finite;
        pub(crate) use self::inner::Thing;
        use crate::act::*;
        fn f() { Moment::now(); time::sleep(); fmt::Write; super::super::x::y(); Finite::new(); tracing::info!() }
    ";
    let found = paths(&tokens(text), &["domain", "health"]);
    assert_eq!(
        found,
        [
            "std::fmt",
            "std::time",
            "std::time::Instant",
            "crate::domain::units::Finite",
            "crate::domain::health::inner::Thing",
            "crate::act::*",
            "std::time::Instant::now",
            "std::time::sleep",
            "std::fmt::Write",
            "crate::x::y",
            "crate::domain::units::Finite::new",
            "tracing::info",
        ]
    );
}
