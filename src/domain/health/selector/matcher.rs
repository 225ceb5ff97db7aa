//! One condition on one label, with PromQL's anchoring.

use std::fmt;

use promql_parser::label as parsed;
use regex::Regex;

use super::{is_plain_label_name, write_quoted};

/// How a label's value is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Matches,
    /// `!~`
    NotMatches,
}

impl MatchOp {
    /// As PromQL writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Matches => "=~",
            MatchOp::NotMatches => "!~",
        }
    }
}

/// One condition on one label.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    value: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Equal,
    NotEqual,
    Matches(Regex),
    NotMatches(Regex),
}

impl Matcher {
    /// Takes over what the parser crate read; the error says which regular expression does not compile.
    pub(super) fn from_parsed(parsed: &parsed::Matcher) -> Result<Self, String> {
        let test = match &parsed.op {
            parsed::MatchOp::Equal => Test::Equal,
            parsed::MatchOp::NotEqual => Test::NotEqual,
            parsed::MatchOp::Re(regex) => Test::Matches(anchored(regex)?),
            parsed::MatchOp::NotRe(regex) => Test::NotMatches(anchored(regex)?),
        };
        Ok(Self { name: parsed.name.clone(), value: parsed.value.clone(), test })
    }

    /// The label's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is compared.
    #[must_use]
    pub const fn op(&self) -> MatchOp {
        match self.test {
            Test::Equal => MatchOp::Equal,
            Test::NotEqual => MatchOp::NotEqual,
            Test::Matches(_) => MatchOp::Matches,
            Test::NotMatches(_) => MatchOp::NotMatches,
        }
    }

    /// What it is compared with: a text, or a regular expression without its anchors.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label with this value meets the condition; empty stands for absent.
    #[must_use]
    pub fn is_match(&self, value: &str) -> bool {
        match &self.test {
            Test::Equal => value == self.value,
            Test::NotEqual => value != self.value,
            Test::Matches(regex) => regex.is_match(value),
            Test::NotMatches(regex) => !regex.is_match(value),
        }
    }
}

/// Prometheus anchors with `^(?s:…)$`, so that `.` crosses line ends; the parser crate leaves the `s` out. What stands
/// between its anchors is taken, not the matcher's own text, since the crate escapes braces that Go takes literally.
fn anchored(regex: &Regex) -> Result<Regex, String> {
    let inner = regex.as_str().strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$")).unwrap_or(regex.as_str());
    Regex::new(&format!("^(?s:{inner})$")).map_err(|error| format!("regular expression {inner:?}: {error}"))
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.op() == other.op() && self.name == other.name && self.value == other.value
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain_label_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            write_quoted(f, &self.name)?;
        }
        f.write_str(self.op().as_str())?;
        write_quoted(f, &self.value)
    }
}
