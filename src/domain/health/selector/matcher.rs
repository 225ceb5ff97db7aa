//! One condition on one label, with PromQL's anchoring.

use std::fmt;

use promql_parser::label as parsed;
use regex::Regex;

use super::re2::translated;
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
    /// Takes over what the parser crate read, but for regular expressions, of which the next pattern is the one that was
    /// written; the error says which does not compile.
    pub(super) fn from_parsed(
        parsed: &parsed::Matcher,
        patterns: &mut impl Iterator<Item = String>,
    ) -> Result<Self, String> {
        let mut pattern = || patterns.next().ok_or_else(|| "a regular expression is not where it should be".to_owned());
        let (value, test) = match &parsed.op {
            parsed::MatchOp::Equal => (parsed.value.clone(), Test::Equal),
            parsed::MatchOp::NotEqual => (parsed.value.clone(), Test::NotEqual),
            parsed::MatchOp::Re(_) => {
                let pattern = pattern()?;
                let regex = anchored(&pattern)?;
                (pattern, Test::Matches(regex))
            }
            parsed::MatchOp::NotRe(_) => {
                let pattern = pattern()?;
                let regex = anchored(&pattern)?;
                (pattern, Test::NotMatches(regex))
            }
        };
        Ok(Self { name: parsed.name.clone(), value, test })
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

/// Prometheus anchors with `^(?s:…)$`, so that `.` crosses line ends.
fn anchored(pattern: &str) -> Result<Regex, String> {
    let refuse = |why: &str| format!("illegal regex for {pattern}{why}");
    let inner = translated(pattern).map_err(|why| refuse(&format!(": {why}")))?;
    Regex::new(&format!("^(?s:{inner})$")).map_err(|_| refuse(""))
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
