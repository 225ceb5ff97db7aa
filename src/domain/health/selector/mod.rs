//! Which series a rule reads, in PromQL's selector syntax, so that a rule can be tried in Prometheus as it stands.

mod matcher;
mod patterns;
mod re2;

use std::fmt;
use std::sync::Arc;

use promql_parser::label::METRIC_NAME;
use promql_parser::parser::{self, Expr, VectorSelector};

pub use matcher::{MatchOp, Matcher};

/// A PromQL instant vector selector: an exact metric name, where one is given, and label matchers.
///
/// Two selectors are equal when they name the same metric and have the same matchers in the same order. Clones share what
/// they were parsed into: every workload carries the selectors of all conventions.
#[derive(Clone, PartialEq, Debug)]
pub struct Selector {
    name: Option<Arc<str>>,
    matchers: Arc<[Matcher]>,
}

/// Why a text is not a selector, with the text itself.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

impl Selector {
    /// Parses PromQL's instant vector selector.
    ///
    /// # Errors
    ///
    /// Anything else that PromQL knows (ranges, `offset`, `@`, functions, operators), a selector that may match every
    /// series (no matcher that refuses an empty value, as in PromQL), and regular expressions that do not compile.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let refuse = |why: &str| SelectorError(format!("{text:?} is not a selector: {why}"));
        if has_wide_escape(text) {
            return Err(refuse("a backslash stands before a character that it can't escape"));
        }
        let (text, patterns) = patterns::taken_out(text).map_err(|why| refuse(&why))?;
        let parsed = match parser::parse(&text) {
            Ok(Expr::VectorSelector(parsed)) => parsed,
            Ok(other) => return Err(refuse(other_kind(&other))),
            Err(why) => return Err(refuse(&why)),
        };
        Self::from_parsed(parsed, patterns).map_err(|why| refuse(&why))
    }

    fn from_parsed(parsed: VectorSelector, patterns: Vec<String>) -> Result<Self, String> {
        if parsed.offset.is_some() {
            return Err("`offset` reads the past, and a rule reads what was just scraped".to_owned());
        }
        if parsed.at.is_some() {
            return Err("`@` reads the past, and a rule reads what was just scraped".to_owned());
        }
        if !parsed.matchers.or_matchers.is_empty() {
            return Err("`or` between matchers is not PromQL; use =~ with alternatives".to_owned());
        }
        let mut name = parsed.name;
        let mut patterns = patterns.into_iter();
        let mut matchers = Vec::with_capacity(parsed.matchers.matchers.len());
        for parsed in &parsed.matchers.matchers {
            let matcher = Matcher::from_parsed(parsed, &mut patterns)?;
            let exact_name = matcher.name() == METRIC_NAME && matcher.op() == MatchOp::Equal;
            if exact_name && name.is_none() && !matcher.value().is_empty() {
                name = Some(matcher.value().to_owned());
            } else {
                matchers.push(matcher);
            }
        }
        if name.is_none() && matchers.iter().all(|matcher| matcher.is_match("")) {
            return Err("vector selector must contain at least one non-empty matcher".to_owned());
        }
        Ok(Self { name: name.map(Arc::from), matchers: matchers.into() })
    }

    /// The metric name, where the selector names exactly one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The matchers besides the exact name, in the order written; those on `__name__` included.
    #[must_use]
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// Whether a metric of this name can match, whatever its labels are.
    #[must_use]
    pub fn matches_name(&self, name: &str) -> bool {
        self.name.as_deref().is_none_or(|exact| exact == name)
            && self
                .matchers
                .iter()
                .filter(|matcher| matcher.name() == METRIC_NAME)
                .all(|matcher| matcher.is_match(name))
    }

    /// Whether a series matches. `label` looks a label's value up; as in Prometheus, an absent label is an empty one.
    #[must_use]
    pub fn matches<'a>(&self, name: &str, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.matches_name(name)
            && self
                .matchers
                .iter()
                .filter(|matcher| matcher.name() != METRIC_NAME)
                .all(|matcher| matcher.is_match(label(matcher.name()).unwrap_or("")))
    }
}

/// Whether a backslash is followed by a character of more than one byte, which no PromQL escape knows and which the
/// parser crate cuts in half.
fn has_wide_escape(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' && bytes.next().is_some_and(|escaped| !escaped.is_ascii()) {
            return true;
        }
    }
    false
}

fn other_kind(expr: &Expr) -> &'static str {
    match expr {
        Expr::MatrixSelector(_) => {
            "it is a range; leave out the [duration]: the signal's window says how far to look back"
        }
        Expr::Subquery(_) => "it is a subquery",
        Expr::Aggregate(_) => "it is an aggregation; series and targets are combined by the signal itself",
        Expr::Unary(_) | Expr::Binary(_) => "it is an arithmetic expression",
        Expr::Paren(_) => "it is in parentheses",
        Expr::NumberLiteral(_) => "it is a number",
        Expr::StringLiteral(_) => "it is a string",
        Expr::VectorSelector(_) => "it is a selector",
        Expr::Call(_) => "it is a function call; rates and quantiles are taken by the signal itself",
        Expr::Extension(_) => "it is an extension of PromQL",
    }
}

/// Whether a metric name can be written without quotes.
#[must_use]
pub fn is_plain_metric_name(name: &str) -> bool {
    is_plain(name, |byte| byte == b'_' || byte == b':')
}

/// Whether a label name can be written without quotes.
#[must_use]
pub fn is_plain_label_name(name: &str) -> bool {
    is_plain(name, |byte| byte == b'_')
}

fn is_plain(name: &str, punctuation: impl Fn(u8) -> bool) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || punctuation(first))
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || punctuation(byte))
}

/// Writes PromQL's double-quoted string.
fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for character in text.chars() {
        match character {
            '\\' => f.write_str("\\\\")?,
            '"' => f.write_str("\\\"")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            plain => write!(f, "{plain}")?,
        }
    }
    f.write_str("\"")
}

impl fmt::Display for Selector {
    /// PromQL that parses to an equal selector.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = match &self.name {
            Some(name) if is_plain_metric_name(name) => {
                f.write_str(name)?;
                None
            }
            other => other.as_deref(),
        };
        if quoted.is_none() && self.matchers.is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        if let Some(name) = quoted {
            write_quoted(f, name)?;
        }
        for (index, matcher) in self.matchers.iter().enumerate() {
            if index > 0 || quoted.is_some() {
                f.write_str(",")?;
            }
            write!(f, "{matcher}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests;
