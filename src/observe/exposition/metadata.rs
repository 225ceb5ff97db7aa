//! Lines that start with `#`, read in full.

use std::borrow::Cow;

use super::Format;
use super::cursor::Cursor;
use super::limits::{Limits, Over, Problem, excerpt};
use super::sample::{unescape, unescape_str};

/// What a `#` line says.
#[derive(Debug, PartialEq)]
pub(crate) enum Metadata<'a> {
    /// `# HELP`
    Help {
        /// The family.
        family: Cow<'a, str>,
        /// Unescaped.
        text: Cow<'a, str>,
    },
    /// `# TYPE`
    Type {
        /// The family.
        family: Cow<'a, str>,
        /// In OpenMetrics' words: the text format's `untyped` is `unknown`.
        kind: &'static str,
    },
    /// `# UNIT`
    Unit {
        /// The family.
        family: Cow<'a, str>,
        /// May be empty.
        unit: &'a str,
    },
    /// `# EOF`
    End,
    /// Anything else after `#`; the text format only.
    Comment,
}

/// Reads a `#` line. The text format's blanks before the `#` have been passed.
pub(crate) fn metadata<'a>(line: &'a [u8], format: Format, limits: &Limits) -> Result<Metadata<'a>, Problem> {
    match format {
        Format::Text => text(line, limits),
        Format::OpenMetrics => openmetrics(line, limits),
    }
}

fn text<'a>(line: &'a [u8], limits: &Limits) -> Result<Metadata<'a>, Problem> {
    let mut cursor = Cursor::new(line, Format::Text);
    let start = cursor.at() + 1;
    cursor.go_to(start);
    cursor.blanks();
    if cursor.at() == start {
        return Ok(Metadata::Comment);
    }
    let help = cursor.looking_at(b"HELP ") || cursor.looking_at(b"HELP\t");
    if !help && !cursor.looking_at(b"TYPE ") && !cursor.looking_at(b"TYPE\t") {
        return Ok(Metadata::Comment);
    }
    cursor.go_to(cursor.at() + b"HELP ".len());
    cursor.blanks();
    let keyword = if help { "HELP" } else { "TYPE" };
    let family = family_name(&mut cursor, keyword, limits)?;
    // Prometheus drops the one byte after the name, whatever it is.
    let rest = cursor.rest().get(1..).unwrap_or_default();
    if help {
        let blank = rest.iter().all(|byte| matches!(byte, b' ' | b'\t'));
        let text = help_text(if blank { b"" } else { rest })?;
        return Ok(Metadata::Help { family, text: unescape_str(text, false) });
    }
    let kind = match rest {
        b"counter" => "counter",
        b"gauge" => "gauge",
        b"histogram" => "histogram",
        b"summary" => "summary",
        b"untyped" => "unknown",
        other => return Err(unknown_type(other)),
    };
    Ok(Metadata::Type { family, kind })
}

fn openmetrics<'a>(line: &'a [u8], limits: &Limits) -> Result<Metadata<'a>, Problem> {
    if let Some(rest) = line.strip_prefix(b"# EOF") {
        return match rest {
            b"" => Ok(Metadata::End),
            _ => Err(Problem::new("data after # EOF")),
        };
    }
    let keyword = match line.get(..7) {
        Some(b"# HELP ") => "HELP",
        Some(b"# TYPE ") => "TYPE",
        Some(b"# UNIT ") => "UNIT",
        _ => {
            return Err(Problem::new(format!("expected # HELP, # TYPE, # UNIT or # EOF, got {}", excerpt(line))));
        }
    };
    let mut cursor = Cursor::new(line, Format::OpenMetrics);
    cursor.go_to(7);
    let family = family_name(&mut cursor, keyword, limits)?;
    if !cursor.take(b' ') {
        return Err(cursor.expected(&format!("one space and a text after # {keyword} {family}")));
    }
    let rest = cursor.rest();
    match keyword {
        "HELP" => Ok(Metadata::Help { family, text: unescape_str(help_text(rest)?, true) }),
        "TYPE" => Ok(Metadata::Type { family, kind: openmetrics_type(rest)? }),
        _ => unit(family, rest),
    }
}

fn openmetrics_type(text: &[u8]) -> Result<&'static str, Problem> {
    match text {
        b"counter" => Ok("counter"),
        b"gauge" => Ok("gauge"),
        b"histogram" => Ok("histogram"),
        b"gaugehistogram" => Ok("gaugehistogram"),
        b"summary" => Ok("summary"),
        b"info" => Ok("info"),
        b"stateset" => Ok("stateset"),
        b"unknown" => Ok("unknown"),
        other => Err(unknown_type(other)),
    }
}

fn unit<'a>(family: Cow<'a, str>, text: &'a [u8]) -> Result<Metadata<'a>, Problem> {
    let fits = std::str::from_utf8(text)
        .ok()
        .filter(|unit| unit.is_empty() || family.strip_suffix(unit).is_some_and(|stem| stem.ends_with('_')));
    match fits {
        Some(unit) => Ok(Metadata::Unit { family, unit }),
        None => Err(Problem::new(format!(
            "the unit {} is not the end of the name {}",
            excerpt(text),
            excerpt(family.as_bytes())
        ))),
    }
}

fn family_name<'a>(cursor: &mut Cursor<'a>, keyword: &str, limits: &Limits) -> Result<Cow<'a, str>, Problem> {
    let name = if cursor.peek() == Some(b'"') {
        unescape(cursor.quoted("a metric name")?, "quoted name")?
    } else {
        match cursor.plain_name(true) {
            Some(name) => Cow::Borrowed(name),
            None => return Err(cursor.expected(&format!("a metric name after # {keyword}"))),
        }
    };
    if name.len() > limits.name_bytes {
        return Err(Over::Name(limits.name_bytes).into());
    }
    Ok(name)
}

fn help_text(text: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(text).map_err(|_| Problem::new(format!("the help text {} is not valid UTF-8", excerpt(text))))
}

fn unknown_type(text: &[u8]) -> Problem {
    if text.ends_with(b"\r") {
        return Problem::new("the line ends in CR LF; the format ends lines in LF alone");
    }
    Problem::new(format!("there is no metric type {}", excerpt(text)))
}
