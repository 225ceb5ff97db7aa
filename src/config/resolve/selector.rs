//! Label selectors, as `kubectl -l` and the API server take them: one that is ill-formed would be refused for ever.

use std::iter::Peekable;
use std::str::Chars;

/// Longest name and value of a label.
const LONGEST: usize = 63;
/// Longest prefix of a label's name, a DNS subdomain.
const LONGEST_PREFIX: usize = 253;

/// A word or a sign.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    Word(String),
    Sign(&'static str),
}

/// What is left of a selector.
struct Tokens<'a>(Peekable<Lexer<'a>>);

/// # Errors
/// What is wrong with it.
pub(super) fn check(selector: &str) -> Result<(), String> {
    let mut tokens = Tokens(Lexer(selector.chars().peekable()).peekable());
    loop {
        requirement(&mut tokens)?;
        match tokens.next() {
            None => return Ok(()),
            Some(Token::Sign(",")) => {}
            Some(other) => return Err(format!("`,` or the end is expected, not {}", told(Some(&other)))),
        }
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<(), String> {
    let is_denied = tokens.take("!");
    let label = match tokens.next() {
        Some(Token::Word(label)) => label,
        other => return Err(format!("a label is expected, not {}", told(other.as_ref()))),
    };
    check_label(&label)?;
    if is_denied || matches!(tokens.0.peek(), None | Some(Token::Sign(","))) {
        return Ok(());
    }
    match tokens.next() {
        Some(Token::Sign("=" | "==" | "!=")) => match tokens.word() {
            Some(value) => check_value(&value),
            None if matches!(tokens.0.peek(), None | Some(Token::Sign(","))) => Ok(()),
            None => Err(format!("a value is expected, not {}", told(tokens.0.peek()))),
        },
        Some(Token::Sign("<" | ">")) => match tokens.word() {
            Some(value) if value.parse::<i64>().is_ok() => Ok(()),
            Some(value) => Err(format!("a whole number is expected, not `{value}`")),
            None => Err(format!("a whole number is expected, not {}", told(tokens.0.peek()))),
        },
        Some(Token::Word(word)) if word == "in" || word == "notin" => values(tokens),
        other => Err(format!("`=`, `!=`, `in`, `notin` or `,` is expected, not {}", told(other.as_ref()))),
    }
}

fn values(tokens: &mut Tokens<'_>) -> Result<(), String> {
    if !tokens.take("(") {
        return Err(format!("`(` is expected, not {}", told(tokens.0.peek())));
    }
    if tokens.0.peek() == Some(&Token::Sign(")")) {
        return Err("the list of values is empty".to_owned());
    }
    loop {
        // A value may be empty, as it may be of a label.
        if let Some(value) = tokens.word() {
            check_value(&value)?;
        }
        match tokens.next() {
            Some(Token::Sign(")")) => return Ok(()),
            Some(Token::Sign(",")) => {}
            other => return Err(format!("`,` or `)` is expected, not {}", told(other.as_ref()))),
        }
    }
}

fn check_label(label: &str) -> Result<(), String> {
    let (prefix, name) = label.split_once('/').map_or((None, label), |(prefix, name)| (Some(prefix), name));
    let is_part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    let has_prefix = prefix.is_none_or(|prefix| prefix.len() <= LONGEST_PREFIX && prefix.split('.').all(is_part));
    if has_prefix && is_word(name) { Ok(()) } else { Err(format!("`{label}` can't be the name of a label")) }
}

fn check_value(value: &str) -> Result<(), String> {
    if is_word(value) { Ok(()) } else { Err(format!("`{value}` can't be the value of a label")) }
}

/// Letters, digits and between them `-`, `_` and `.`.
fn is_word(word: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = word.as_bytes();
    bytes.len() <= LONGEST && bytes.iter().copied().all(inner) && edge(bytes.first()) && edge(bytes.last())
}

fn told(token: Option<&Token>) -> String {
    match token {
        Some(Token::Word(word)) => format!("`{word}`"),
        Some(Token::Sign(sign)) => format!("`{sign}`"),
        None => "the end".to_owned(),
    }
}

impl Tokens<'_> {
    fn next(&mut self) -> Option<Token> {
        self.0.next()
    }

    /// Goes past this sign, where it is next.
    fn take(&mut self, sign: &'static str) -> bool {
        self.0.next_if_eq(&Token::Sign(sign)).is_some()
    }

    /// Goes past a word, where one is next.
    fn word(&mut self) -> Option<String> {
        match self.0.next_if(|token| matches!(token, Token::Word(_))) {
            Some(Token::Word(word)) => Some(word),
            Some(Token::Sign(_)) | None => None,
        }
    }
}

struct Lexer<'a>(Peekable<Chars<'a>>);

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        while self.0.next_if(|letter| is_blank(*letter)).is_some() {}
        let sign = match self.0.peek()? {
            '(' => "(",
            ')' => ")",
            ',' => ",",
            '<' => "<",
            '>' => ">",
            '=' => "=",
            '!' => "!",
            _ => {
                let mut word = String::new();
                while let Some(letter) = self.0.next_if(|letter| !is_blank(*letter) && !"(),<>=!".contains(*letter)) {
                    word.push(letter);
                }
                return Some(Token::Word(word));
            }
        };
        self.0.next();
        let is_doubled = matches!(sign, "=" | "!") && self.0.next_if_eq(&'=').is_some();
        Some(Token::Sign(match (sign, is_doubled) {
            ("=", true) => "==",
            ("!", true) => "!=",
            _ => sign,
        }))
    }
}

const fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_server_takes_is_taken() {
        for selector in [
            "app",
            "!app",
            "app=shop",
            " app == shop , tier!=db",
            "app=",
            "app=,tier",
            "app.kubernetes.io/name=shop",
            "tier in (web)",
            "tier in (web, edge),!legacy",
            "tier notin(web,)",
            "in in (in,notin)",
            "in,notin=in",
            "size > 3, size<-1",
            "a=b_C.d-1",
        ] {
            assert_eq!(check(selector), Ok(()), "{selector}");
        }
    }

    #[test]
    fn what_it_would_refuse_is_refused() {
        let long = format!("app={}", "a".repeat(64));
        for (selector, why) in [
            ("tier in (web", "`,` or `)` is expected, not the end"),
            ("tier in web", "`(` is expected, not `web`"),
            ("tier in ()", "the list of values is empty"),
            ("tier in (web edge)", "`,` or `)` is expected, not `edge`"),
            ("app=shop,", "a label is expected, not the end"),
            ("app=shop tier=web", "`,` or the end is expected, not `tier`"),
            ("!app=shop", "`,` or the end is expected, not `=`"),
            ("=shop", "a label is expected, not `=`"),
            ("app=(shop)", "a value is expected, not `(`"),
            ("app is shop", "`=`, `!=`, `in`, `notin` or `,` is expected, not `is`"),
            ("app=-shop", "`-shop` can't be the value of a label"),
            ("Example.com/app=a", "`Example.com/app` can't be the name of a label"),
            ("a/b/c", "`a/b/c` can't be the name of a label"),
            ("größe=1", "`größe` can't be the name of a label"),
            ("size>many", "a whole number is expected, not `many`"),
            (&long, &format!("`{}` can't be the value of a label", "a".repeat(64))),
        ] {
            assert_eq!(check(selector), Err(why.to_owned()), "{selector}");
        }
    }
}
