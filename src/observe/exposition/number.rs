//! Numbers as Prometheus reads them: Go's `strconv.ParseFloat` without hexadecimal and underscores.
//!
//! Rust's own parser differs in three places: it takes a signed NaN, and it reads a number too large for 64 bits as
//! infinite where Go reports an error.

/// Why a text is not a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NumberError {
    /// Not the syntax of a number.
    Syntax,
    /// Too large for 64 bits.
    Range,
}

/// Most digits of an integer that every `f64` holds exactly.
const EXACT_DIGITS: usize = 15;

/// Parses a sample's value.
pub(crate) fn float(text: &[u8]) -> Result<f64, NumberError> {
    if !text.is_empty() && text.len() <= EXACT_DIGITS {
        let mut whole: u64 = 0;
        if text.iter().all(|byte| {
            whole = whole * 10 + u64::from(byte.wrapping_sub(b'0'));
            byte.is_ascii_digit()
        }) {
            return Ok(whole as f64);
        }
    }
    any_float(text)
}

fn any_float(text: &[u8]) -> Result<f64, NumberError> {
    let text = std::str::from_utf8(text).map_err(|_| NumberError::Syntax)?;
    let value: f64 = text.parse().map_err(|_| NumberError::Syntax)?;
    if value.is_finite() {
        return Ok(value);
    }
    let signed = text.starts_with(['+', '-']);
    let spelt = text.as_bytes()[usize::from(signed)..][0].is_ascii_alphabetic();
    match (value.is_nan(), signed, spelt) {
        (true, true, _) => Err(NumberError::Syntax),
        (true, false, _) => Ok(f64::NAN),
        (false, _, true) => Ok(value),
        (false, _, false) => Err(NumberError::Range),
    }
}

/// Parses the text format's time stamp: digits only, milliseconds.
pub(crate) fn millis(text: &[u8]) -> Result<i64, NumberError> {
    let mut total: i64 = 0;
    if text.is_empty() {
        return Err(NumberError::Syntax);
    }
    for byte in text {
        if !byte.is_ascii_digit() {
            return Err(NumberError::Syntax);
        }
        total = total
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(i64::from(byte - b'0')))
            .ok_or(NumberError::Range)?;
    }
    Ok(total)
}

/// Parses OpenMetrics' time stamp: seconds with a fraction, finite; the result is in milliseconds, cut and not rounded.
pub(crate) fn seconds(text: &[u8]) -> Result<i64, NumberError> {
    let seconds = float(text)?;
    if seconds.is_finite() { Ok((seconds * 1000.0) as i64) } else { Err(NumberError::Syntax) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_those_of_go_without_hexadecimal_and_underscores() {
        let cases: &[(&str, Result<f64, NumberError>)] = &[
            ("0", Ok(0.0)),
            ("-0", Ok(-0.0)),
            ("1", Ok(1.0)),
            ("+1", Ok(1.0)),
            ("123456789012345", Ok(123_456_789_012_345.0)),
            ("12345678901234567", Ok(12_345_678_901_234_568.0)),
            ("007", Ok(7.0)),
            ("1.5", Ok(1.5)),
            ("1.", Ok(1.0)),
            (".5", Ok(0.5)),
            ("1e3", Ok(1000.0)),
            ("1E+3", Ok(1000.0)),
            ("1.e-3", Ok(0.001)),
            ("4.9351e-05", Ok(4.9351e-05)),
            ("1e-999", Ok(0.0)),
            ("0e999", Ok(0.0)),
            ("Inf", Ok(f64::INFINITY)),
            ("+inf", Ok(f64::INFINITY)),
            ("-INF", Ok(f64::NEG_INFINITY)),
            ("Infinity", Ok(f64::INFINITY)),
            ("-infinity", Ok(f64::NEG_INFINITY)),
            ("1e999", Err(NumberError::Range)),
            ("-1e999", Err(NumberError::Range)),
            ("1.8e308", Err(NumberError::Range)),
            ("", Err(NumberError::Syntax)),
            ("+", Err(NumberError::Syntax)),
            (".", Err(NumberError::Syntax)),
            ("e5", Err(NumberError::Syntax)),
            ("1e", Err(NumberError::Syntax)),
            ("+NaN", Err(NumberError::Syntax)),
            ("-nan", Err(NumberError::Syntax)),
            ("infi", Err(NumberError::Syntax)),
            ("0x10", Err(NumberError::Syntax)),
            ("0x1p-3", Err(NumberError::Syntax)),
            ("1_000", Err(NumberError::Syntax)),
            ("1,5", Err(NumberError::Syntax)),
            ("true", Err(NumberError::Syntax)),
            ("1\r", Err(NumberError::Syntax)),
            ("١", Err(NumberError::Syntax)),
        ];
        for (text, expected) in cases {
            assert_eq!(float(text.as_bytes()), *expected, "{text}");
        }
        for text in ["NaN", "nan", "NAN"] {
            assert!(float(text.as_bytes()).unwrap().is_nan());
        }
        assert!(float(b"-0").unwrap().is_sign_negative());
    }

    #[test]
    fn time_stamps_are_in_the_unit_of_their_format() {
        assert_eq!(millis(b"123123"), Ok(123_123));
        assert_eq!(millis(b"9223372036854775807"), Ok(i64::MAX));
        assert_eq!(millis(b"9223372036854775808"), Err(NumberError::Range));
        assert_eq!(millis(b"-1"), Err(NumberError::Syntax));
        assert_eq!(millis(b"1.5"), Err(NumberError::Syntax));
        assert_eq!(seconds(b"123.123"), Ok(123_123));
        assert_eq!(seconds(b"-1"), Ok(-1000));
        assert_eq!(seconds(b"1520879607.789"), Ok(1_520_879_607_789));
        assert_eq!(seconds(b"NaN"), Err(NumberError::Syntax));
        assert_eq!(seconds(b"Inf"), Err(NumberError::Syntax));
        assert_eq!(seconds(b"1e999"), Err(NumberError::Range));
    }
}
