//! One sample line, read in full: series, value, time stamp, exemplar.
//!
//! The grammar is that of Prometheus' own parsers (`model/textparse`: `promlex.l`, `openmetricslex.l` and the code above
//! them), their leniency included: the text format allows blanks between all tokens, a missing comma between labels
//! and no blank before the value; OpenMetrics allows none of that. What Prometheus refuses a little later, in its
//! scrape loop, is refused here: a name or label given twice, an empty name, names that are not UTF-8.

use std::borrow::Cow;

use super::Format;
use super::cursor::Cursor;
use super::limits::{Limits, Over, Problem, excerpt};
use super::number::{self, NumberError};

/// The label that stands for the metric name.
const NAME_LABEL: &str = "__name__";

/// A series as a line spells it.
#[derive(Debug, PartialEq)]
pub(crate) struct Series<'a> {
    /// The metric name, unescaped.
    pub name: Cow<'a, str>,
    /// The labels in the order of the line, unescaped. An empty value is the same as no label, so these are left out.
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// How many bytes of the line it takes, blanks before it included.
    pub len: usize,
}

impl Series<'_> {
    /// The value of a label; `None` where absent.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_ref())
    }
}

/// What follows a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reading {
    /// The value.
    pub value: f64,
    /// The exporter's time stamp in milliseconds since the Unix epoch.
    pub timestamp: Option<i64>,
}

/// Reads the series at the start of a line.
pub(crate) fn series<'a>(line: &'a [u8], format: Format, limits: &Limits) -> Result<Series<'a>, Problem> {
    let mut cursor = Cursor::new(line, format);
    cursor.blanks();
    let mut name = match cursor.peek() {
        Some(b'{') => None,
        _ => Some(Cow::Borrowed(cursor.plain_name(true).ok_or_else(|| cursor.expected("a metric name"))?)),
    };
    let mut labels = Vec::new();
    let after_name = cursor.at();
    cursor.blanks();
    if cursor.take(b'{') {
        let mut braces = Braces { name: &mut name, labels: &mut labels, limits };
        braces.read(&mut cursor)?;
    } else {
        cursor.go_to(after_name);
    }
    let name = name.ok_or_else(|| Problem::new("the series has no metric name"))?;
    if name.is_empty() {
        return Err(Problem::new("the metric name is empty"));
    }
    if name.len() > limits.name_bytes {
        return Err(Over::Name(limits.name_bytes).into());
    }
    Ok(Series { name, labels, len: cursor.at() })
}

/// Reads what follows a series up to the end of its line.
pub(crate) fn reading(rest: &[u8], format: Format, limits: &Limits) -> Result<Reading, Problem> {
    let mut cursor = Cursor::new(rest, format);
    match format {
        Format::Text => text_reading(&mut cursor),
        Format::OpenMetrics => openmetrics_reading(&mut cursor, limits),
    }
}

fn text_reading(cursor: &mut Cursor<'_>) -> Result<Reading, Problem> {
    cursor.blanks();
    let value = value(cursor, cursor_value_end)?;
    cursor.blanks();
    if cursor.at_end() {
        return Ok(Reading { value, timestamp: None });
    }
    let digits = cursor.take_while(|byte| byte.is_ascii_digit());
    if digits.is_empty() {
        return Err(cursor.expected("a time stamp in milliseconds or the end of the line"));
    }
    let timestamp = number::millis(digits).map_err(|error| bad_number("time stamp", digits, error))?;
    cursor.blanks();
    if !cursor.at_end() {
        return Err(cursor.expected("the end of the line after the time stamp"));
    }
    Ok(Reading { value, timestamp: Some(timestamp) })
}

fn cursor_value_end(byte: u8) -> bool {
    matches!(byte, b'{' | b' ' | b'\t' | b'\n')
}

fn openmetrics_reading(cursor: &mut Cursor<'_>, limits: &Limits) -> Result<Reading, Problem> {
    if !cursor.take(b' ') {
        return Err(cursor.expected("one space and a value"));
    }
    let value = value(cursor, word_end)?;
    let mut timestamp = None;
    if !cursor.at_end() && !cursor.looking_at(EXEMPLAR) {
        timestamp = Some(openmetrics_timestamp(cursor)?);
    }
    if cursor.looking_at(EXEMPLAR) {
        cursor.go_to(cursor.at() + EXEMPLAR.len());
        exemplar(cursor, limits)?;
    }
    if !cursor.at_end() {
        return Err(cursor.expected("the end of the line or an exemplar"));
    }
    Ok(Reading { value, timestamp })
}

/// What opens an exemplar.
const EXEMPLAR: &[u8] = b" # {";

fn word_end(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n')
}

fn value(cursor: &mut Cursor<'_>, ends: impl Fn(u8) -> bool) -> Result<f64, Problem> {
    let token = cursor.take_while(|byte| !ends(byte));
    if token.is_empty() {
        return Err(cursor.expected("a value"));
    }
    number::float(token).map_err(|error| bad_number("value", token, error))
}

fn openmetrics_timestamp(cursor: &mut Cursor<'_>) -> Result<i64, Problem> {
    if !cursor.take(b' ') {
        return Err(cursor.expected("a time stamp, an exemplar or the end of the line"));
    }
    let token = cursor.take_while(|byte| !word_end(byte));
    if token.is_empty() {
        return Err(cursor.expected("a time stamp in seconds"));
    }
    number::seconds(token).map_err(|error| bad_number("time stamp", token, error))
}

fn exemplar(cursor: &mut Cursor<'_>, limits: &Limits) -> Result<(), Problem> {
    loop {
        if cursor.take(b'}') {
            break;
        }
        let (name, quoted) = label_name(cursor)?;
        if !cursor.take(b'=') {
            let what = if quoted { "= after the exemplar's label name" } else { "=" };
            return Err(cursor.expected(what));
        }
        let raw = cursor.quoted("an exemplar's label value")?;
        if raw.contains(&0) {
            return Err(Problem::new("an exemplar's label value holds a NUL byte"));
        }
        check_label(&name, raw.len(), limits)?;
        unescape(raw, "exemplar's label value")?;
        if !cursor.take(b',') && cursor.peek() != Some(b'}') {
            return Err(cursor.expected("a comma or }"));
        }
    }
    if !cursor.take(b' ') {
        return Err(cursor.expected("one space and the exemplar's value"));
    }
    value(cursor, word_end)?;
    if !cursor.at_end() {
        openmetrics_timestamp(cursor)?;
    }
    Ok(())
}

/// The inside of a series' braces.
struct Braces<'a, 'out> {
    name: &'out mut Option<Cow<'a, str>>,
    labels: &'out mut Vec<(Cow<'a, str>, Cow<'a, str>)>,
    limits: &'out Limits,
}

impl<'a> Braces<'a, '_> {
    /// Reads up to and including the closing brace.
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Problem> {
        let mut count = 0;
        let mut given: Vec<Cow<'a, str>> = Vec::new();
        loop {
            cursor.blanks();
            if cursor.take(b'}') {
                return Ok(());
            }
            let (name, quoted) = label_name(cursor)?;
            cursor.blanks();
            if quoted && matches!(cursor.peek(), Some(b',' | b'}')) {
                if self.name.replace(name).is_some() {
                    return Err(Problem::new("the metric name is given twice"));
                }
                cursor.take(b',');
                continue;
            }
            if !cursor.take(b'=') {
                return Err(cursor.expected("= after the label name"));
            }
            cursor.blanks();
            let raw = cursor.quoted("a label value")?;
            count += 1;
            if count > self.limits.labels {
                return Err(Over::Labels(self.limits.labels).into());
            }
            check_label(&name, raw.len(), self.limits)?;
            if name == NAME_LABEL {
                return Err(Problem::new("the metric name is given twice"));
            }
            if given.contains(&name) {
                return Err(Problem::new(format!("label {} is given twice", excerpt(name.as_bytes()))));
            }
            let value = unescape(raw, "label value")?;
            cursor.blanks();
            if !cursor.take(b',') && cursor.strict() && cursor.peek() != Some(b'}') {
                return Err(cursor.expected("a comma or }"));
            }
            given.push(name.clone());
            if !value.is_empty() {
                self.labels.push((name, value));
            }
        }
    }
}

/// Reads a label name, plain or quoted, and says which.
fn label_name<'a>(cursor: &mut Cursor<'a>) -> Result<(Cow<'a, str>, bool), Problem> {
    if cursor.peek() == Some(b'"') {
        let raw = cursor.quoted("a name")?;
        if raw.contains(&0) {
            return Err(Problem::new("a quoted name holds a NUL byte"));
        }
        return Ok((unescape(raw, "quoted name")?, true));
    }
    match cursor.plain_name(false) {
        Some(name) => Ok((Cow::Borrowed(name), false)),
        None => Err(cursor.expected("a label name")),
    }
}

fn check_label(name: &str, value_bytes: usize, limits: &Limits) -> Result<(), Problem> {
    if name.is_empty() {
        Err(Problem::new("a label name is empty"))
    } else if name.len() > limits.name_bytes {
        Err(Over::Name(limits.name_bytes).into())
    } else if value_bytes > limits.value_bytes {
        Err(Over::Value(limits.value_bytes).into())
    } else {
        Ok(())
    }
}

/// Undoes `\\`, `\"` and `\n`; a backslash before anything else stands for itself.
pub(crate) fn unescape<'a>(raw: &'a [u8], what: &str) -> Result<Cow<'a, str>, Problem> {
    let text = std::str::from_utf8(raw)
        .map_err(|_| Problem::new(format!("the {what} {} is not valid UTF-8", excerpt(raw))))?;
    Ok(unescape_str(text, true))
}

/// Undoes `\\`, `\n` and, where `quotes` says so, `\"`.
pub(crate) fn unescape_str(text: &str, quotes: bool) -> Cow<'_, str> {
    if memchr::memchr(b'\\', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let meant = match (character, characters.peek()) {
            ('\\', Some('\\')) => Some('\\'),
            ('\\', Some('n')) => Some('\n'),
            ('\\', Some('"')) if quotes => Some('"'),
            _ => None,
        };
        if meant.is_some() {
            characters.next();
        }
        plain.push(meant.unwrap_or(character));
    }
    Cow::Owned(plain)
}

fn bad_number(what: &str, token: &[u8], error: NumberError) -> Problem {
    let token_text = excerpt(token);
    Problem::new(match error {
        NumberError::Syntax if token.ends_with(b"\r") => {
            "the line ends in CR LF; the format ends lines in LF alone".to_owned()
        }
        NumberError::Syntax => format!("the {what} {token_text} is not a number"),
        NumberError::Range => format!("the {what} {token_text} is out of range"),
    })
}
