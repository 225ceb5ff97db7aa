//! Regular expressions as Prometheus reads them, told in the words of the engine that is used here.
//!
//! Prometheus has Go's syntax, RE2's: `\Q…\E` is literal, `\d` and its like are ASCII, `[a&&b]` has no intersection, and a
//! repetition can't be repeated. What can't be said in the other words is refused.

use std::fmt::Write;
use std::str::Chars;

/// Most repetitions that Go allows.
const MOST_REPEATS: u32 = 1000;

/// Classes that have names.
const NAMED: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// The same expression for the `regex` crate.
///
/// # Errors
///
/// Why Prometheus refuses it, for what the crate would take or take differently; what both refuse is left to the crate.
pub(super) fn translated(pattern: &str) -> Result<String, String> {
    let mut reader = Reader { rest: pattern.chars(), out: String::with_capacity(pattern.len()) };
    // The last thing that was read, where that was a repetition.
    let mut repeat: Option<String> = None;
    while let Some(c) = reader.rest.next() {
        let last = repeat.take();
        match c {
            '\\' => reader.escape_outside()?,
            '[' => reader.class()?,
            '(' if reader.takes("?") => reader.group()?,
            '*' | '+' | '?' => repeat = Some(reader.repeat(c.to_string(), last)?),
            '{' => match counts(reader.rest.as_str()) {
                Some(counts) => {
                    let counts = counts?;
                    reader.skip(counts.len() - 1);
                    repeat = Some(reader.repeat(counts, last)?);
                }
                None => reader.literal(c),
            },
            '}' => reader.literal(c),
            c => reader.out.push(c),
        }
    }
    Ok(reader.out)
}

/// What begins behind an opening brace, with that, where it counts repetitions. Anything else is literal.
fn counts(rest: &str) -> Option<Result<String, String>> {
    let (inner, _) = rest.split_once('}')?;
    let (least, most) = inner.split_once(',').map_or((inner, None), |(least, most)| (least, Some(most)));
    let is_number = |text: &str| {
        let is_plain = text == "0" || !text.starts_with('0');
        !text.is_empty() && is_plain && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !is_number(least) || most.is_some_and(|most| !most.is_empty() && !is_number(most)) {
        return None;
    }
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number <= MOST_REPEATS);
    let is_valid = match (number(least), most.filter(|most| !most.is_empty()).map(number)) {
        (Some(_), None) => true,
        (Some(least), Some(Some(most))) => least <= most,
        (None, _) | (_, Some(None)) => false,
    };
    Some(if is_valid { Ok(format!("{{{inner}}}")) } else { Err(format!("invalid repeat count: `{{{inner}}}`")) })
}

struct Reader<'a> {
    rest: Chars<'a>,
    out: String,
}

impl Reader<'_> {
    /// Steps over this text, where it comes next.
    fn takes(&mut self, text: &str) -> bool {
        let is_next = self.rest.as_str().starts_with(text);
        if is_next {
            self.skip(text.chars().count());
        }
        is_next
    }

    fn skip(&mut self, count: usize) {
        self.rest.by_ref().take(count).for_each(drop);
    }

    fn literal(&mut self, c: char) {
        let _infallible = write!(self.out, "\\x{{{:x}}}", u32::from(c));
    }

    fn repeat(&mut self, mut how: String, last: Option<String>) -> Result<String, String> {
        if self.takes("?") {
            how.push('?');
        }
        if let Some(last) = last {
            return Err(format!("invalid nested repetition operator: `{last}{how}`"));
        }
        self.out.push_str(&how);
        Ok(how)
    }

    /// A group that is named or has flags, behind its question mark. Nobody asks what a group matched, or by its name.
    fn group(&mut self) -> Result<(), String> {
        let rest = self.rest.as_str();
        if let Some(named) = rest.strip_prefix("P<").or_else(|| rest.strip_prefix('<')) {
            let name = named.split_once('>').map(|(name, _)| name).unwrap_or_default();
            let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_name {
                return Err(format!("invalid named capture: `(?{rest}`"));
            }
            self.skip(rest.len() - named.len() + name.len() + 1);
            self.out.push('(');
            return Ok(());
        }
        let flags: &str = rest.split_once([':', ')']).map(|(flags, _)| flags).unwrap_or(rest);
        if !flags.chars().all(|flag| "imsU-".contains(flag)) {
            return Err(format!("invalid or unsupported Perl syntax: `(?{flags}`"));
        }
        self.out.push_str("(?");
        Ok(())
    }

    /// What follows a backslash that is not in brackets.
    fn escape_outside(&mut self) -> Result<(), String> {
        if self.takes("Q") {
            // Without an end it would go on beyond the anchor that Prometheus sets.
            let (quoted, _) = self.rest.as_str().split_once("\\E").ok_or("missing `\\E` after `\\Q`")?;
            quoted.chars().for_each(|c| self.literal(c));
            self.skip(quoted.chars().count() + 2);
            return Ok(());
        }
        for (assertion, same) in [("A", "\\A"), ("z", "\\z"), ("b", "(?-u:\\b)"), ("B", "\\B")] {
            if self.takes(assertion) {
                self.out.push_str(same);
                return Ok(());
            }
        }
        if self.known_class()? {
            return Ok(());
        }
        let c = self.escaped()?;
        self.literal(c);
        Ok(())
    }

    /// A class by its letter, in brackets or not. Whether it was one.
    fn known_class(&mut self) -> Result<bool, String> {
        let classes = [
            ("d", "[0-9]"),
            ("D", "[^0-9]"),
            ("s", "[\\t\\n\\x0c\\r ]"),
            ("S", "[^\\t\\n\\x0c\\r ]"),
            ("w", "[0-9A-Za-z_]"),
            ("W", "[^0-9A-Za-z_]"),
        ];
        for (letter, class) in classes {
            if self.takes(letter) {
                self.out.push_str(class);
                return Ok(true);
            }
        }
        let letter = if self.takes("p") {
            "\\p"
        } else if self.takes("P") {
            "\\P"
        } else {
            return Ok(false);
        };
        let text = self.rest.as_str();
        let name = match text.strip_prefix('{') {
            Some(named) => named.split_once('}').map(|(name, _)| name.len() + 2),
            None => text.chars().next().map(char::len_utf8),
        };
        let name = name.and_then(|length| text.get(..length)).ok_or("invalid character class range: `\\p`")?.to_owned();
        self.skip(name.chars().count());
        self.out.push_str(letter);
        self.out.push_str(&name);
        Ok(true)
    }

    /// The character that an escape stands for, behind its backslash.
    fn escaped(&mut self) -> Result<char, String> {
        let text = self.rest.as_str().to_owned();
        let invalid = || format!("invalid escape sequence: `\\{}`", text.chars().take(1).collect::<String>());
        let c = self.rest.next().ok_or("trailing backslash at end of expression")?;
        let is_octal = |c: char| ('0'..='7').contains(&c);
        let number = match c {
            'a' => 7,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            'x' => return self.hexadecimal().ok_or_else(invalid),
            // A single digit other than 0 would be a reference back.
            '0' => self.octal(0),
            '1'..='7' if self.rest.clone().next().is_some_and(is_octal) => self.octal(u32::from(c) - u32::from('0')),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => u32::from(c),
            _ => return Err(invalid()),
        };
        char::from_u32(number).ok_or_else(invalid)
    }

    fn octal(&mut self, first: u32) -> u32 {
        let mut number = first;
        for _ in 0..2 {
            let Some(digit) = self.rest.clone().next().and_then(|c| c.to_digit(8)) else { break };
            self.rest.next();
            number = number * 8 + digit;
        }
        number
    }

    fn hexadecimal(&mut self) -> Option<char> {
        let text = self.rest.as_str();
        let (digits, length) = match text.strip_prefix('{') {
            Some(braced) => braced.split_once('}').map(|(digits, _)| (digits, digits.len() + 2))?,
            None => (text.get(..2)?, 2),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let number = u32::from_str_radix(digits, 16).ok()?;
        self.skip(length);
        char::from_u32(number)
    }

    /// What follows an opening bracket: every character of it in numbers, so that none has another meaning.
    fn class(&mut self) -> Result<(), String> {
        let whole = self.rest.as_str().to_owned();
        let missing = || format!("missing closing ]: `[{whole}`");
        self.out.push('[');
        if self.takes("^") {
            self.out.push('^');
        }
        let mut is_first = true;
        loop {
            if !is_first && self.takes("]") {
                self.out.push(']');
                return Ok(());
            }
            is_first = false;
            if self.named_class()? {
                continue;
            }
            let escape = self.rest.clone();
            if self.takes("\\") {
                if self.known_class()? {
                    continue;
                }
                self.rest = escape;
            }
            let low = self.class_char().ok_or_else(missing)??;
            let rest = self.rest.as_str();
            let is_range = rest.starts_with('-') && rest.len() >= 2 && !rest.starts_with("-]");
            self.literal(low);
            if is_range {
                self.skip(1);
                let high = self.class_char().ok_or_else(missing)??;
                if high < low {
                    return Err(format!("invalid character class range: `{low}-{high}`"));
                }
                self.out.push('-');
                self.literal(high);
            }
        }
    }

    fn class_char(&mut self) -> Option<Result<char, String>> {
        let c = self.rest.next()?;
        Some(if c == '\\' { self.escaped() } else { Ok(c) })
    }

    /// `[:alpha:]` and its like, as both know them. Whether it was one.
    fn named_class(&mut self) -> Result<bool, String> {
        let text = self.rest.as_str();
        let Some((name, _)) = text.strip_prefix("[:").and_then(|named| named.split_once(":]")) else {
            return Ok(false);
        };
        if !NAMED.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(format!("invalid character class range: `[:{name}:]`"));
        }
        let name = name.to_owned();
        let _infallible = write!(self.out, "[:{name}:]");
        self.skip(name.chars().count() + 4);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn anchored(pattern: &str) -> Result<Regex, String> {
        Regex::new(&format!("^(?s:{})$", translated(pattern)?)).map_err(|error| error.to_string())
    }

    /// Each with what it matches and what it does not, as Prometheus has it.
    #[test]
    fn what_the_two_read_differently_is_read_as_prometheus_does() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            (r"\Qa.b\E", &["a.b"], &["axb"]),
            (r"\Qa.b\E+", &["a.bbb"], &["a.ba.b"]),
            (r"\Qa.(\E", &["a.("], &["ab("]),
            (r"5\Q\E..", &["500"], &["50"]),
            (r"a+?", &["a", "aa"], &["b"]),
            (r"\d+", &["15"], &["١٥"]),
            (r"\w+", &["a_1"], &["é"]),
            (r"\W", &["é"], &["e"]),
            (r"[\D]", &["é"], &["1"]),
            (r"[^\W]", &["e"], &["é", "-"]),
            (r"\s", &[" "], &["\u{b}", "\u{a0}"]),
            (r"[a&&b]+", &["a&b"], &["c"]),
            (r"[[a]+", &["[a"], &["b"]),
            (r"[+--]", &[",", "-"], &["."]),
            (r"[a~~b]", &["~", "a"], &["c"]),
            (r"[]a]", &["]", "a"], &["b"]),
            (r"[^]a]", &["b"], &["]"]),
            (r"[a-]", &["a", "-"], &["b"]),
            (r"[[:alpha:]_]+", &["a_"], &["1"]),
            (r"\<a\>", &["<a>"], &["a"]),
            (r"\x41\x{42}\103", &["ABC"], &["x"]),
            (r"/a=b,{c}", &["/a=b,{c}"], &["/a=b,c"]),
            (r"a{,3}", &["a{,3}"], &["aa"]),
            (r"a{2,}", &["aa", "aaa"], &["a"]),
            (r"a{01}", &["a{01}"], &["a"]),
            (r"(?i)a|B", &["A", "b"], &["c"]),
            (r"(?P<x>a)(?<y1>b)", &["ab"], &["a"]),
            (r"a.b", &["a\nb", "aéb"], &["ab"]),
            (r"(a|b)*(?:c)", &["abac"], &["ab"]),
            (r"a\b.b", &["a-b"], &["aab"]),
        ];
        for (pattern, matched, others) in cases {
            let regex = anchored(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
            for text in *matched {
                assert!(regex.is_match(text), "{pattern} does not match {text}: {regex}");
            }
            for text in *others {
                assert!(!regex.is_match(text), "{pattern} matches {text}: {regex}");
            }
        }
    }

    #[test]
    fn what_prometheus_refuses_is_refused() {
        let cases = [
            ("a++", "invalid nested repetition operator: `++`"),
            ("a*?+", "invalid nested repetition operator: `*?+`"),
            ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{3,2}", "invalid repeat count: `{3,2}`"),
            (r"\Qa", r"missing `\E` after `\Q`"),
            (r"\1", r"invalid escape sequence: `\1`"),
            (r"\E", r"invalid escape sequence: `\E`"),
            (r"\é", r"invalid escape sequence: `\é`"),
            (r"\u{41}", r"invalid escape sequence: `\u`"),
            ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=a`"),
            ("[a", "missing closing ]: `[a`"),
            ("[b-a]", "invalid character class range: `b-a`"),
            (r"a\", "trailing backslash at end of expression"),
        ];
        for (pattern, why) in cases {
            assert_eq!(anchored(pattern).map(|regex| regex.to_string()), Err(why.to_owned()), "{pattern}");
        }
        for pattern in ["(", "*", "+a", "a|*", "a)", "[[:nope:]]", r"\p{Nope}", "[]"] {
            assert!(anchored(pattern).is_err(), "{pattern}");
        }
    }
}
