//! Series in the notation of promtool's unit tests: `0+50x60 _ stale`.

use super::recording::STALE;

/// Values that one series of a test may have.
const MAX_VALUES: usize = 100_000;

/// One value an interval; none where nothing was seen.
///
/// `a+bxn` is a, a+b, … n times more; `a-bxn` the same downwards; `axn` is a and n times more a; `_` is nothing, `_xn`
/// nothing n times; `stale` ends the series; a number stands for itself, NaN and Inf included.
///
/// # Errors
/// The item that is none of these.
pub(super) fn values(text: &str) -> Result<Vec<Option<f64>>, String> {
    let mut all = Vec::new();
    for item in text.split_whitespace() {
        let (first, step, times) = item_of(item).ok_or_else(|| {
            format!("{item:?} is no value: write a number, a+bxn, a-bxn, axn, _, _xn or stale, as promtool's tests do")
        })?;
        if all.len() + times > MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        all.extend((0..times).map(|n| first.map(|first| if n == 0 { first } else { first + step * n as f64 })));
    }
    Ok(all)
}

/// First value, step, and how often.
fn item_of(item: &str) -> Option<(Option<f64>, f64, usize)> {
    if item == "_" {
        return Some((None, 0.0, 1));
    }
    if item == "stale" {
        return Some((Some(STALE), 0.0, 1));
    }
    if let Some(times) = item.strip_prefix("_x") {
        return Some((None, 0.0, times.parse().ok()?));
    }
    let Some((value, times)) = item.rsplit_once('x') else {
        return Some((Some(number(item)?), 0.0, 1));
    };
    let times = times.parse::<usize>().ok()?.checked_add(1)?;
    // The sign of the step is the last one that is neither the first byte nor an exponent's.
    let bytes = value.as_bytes();
    let sign = (1..bytes.len())
        .rev()
        .find(|&at| matches!(bytes[at], b'+' | b'-') && !matches!(bytes[at - 1], b'e' | b'E' | b'+' | b'-'));
    match sign {
        None => Some((Some(number(value)?), 0.0, times)),
        Some(at) => {
            let step = number(&value[at + 1..])?;
            let step = if bytes[at] == b'-' { -step } else { step };
            Some((Some(number(&value[..at])?), step, times))
        }
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::is_stale;

    #[test]
    fn the_notation_is_promtools() {
        for (text, expected) in [
            ("1 2.5 -3", vec![Some(1.0), Some(2.5), Some(-3.0)]),
            ("0+50x3", vec![Some(0.0), Some(50.0), Some(100.0), Some(150.0)]),
            ("-2+4x3", vec![Some(-2.0), Some(2.0), Some(6.0), Some(10.0)]),
            ("1-2x2", vec![Some(1.0), Some(-1.0), Some(-3.0)]),
            ("1x2", vec![Some(1.0); 3]),
            ("1+-2x1", vec![Some(1.0), Some(-1.0)]),
            ("1e2+1e-1x1", vec![Some(100.0), Some(100.1)]),
            ("_x3 1", vec![None, None, None, Some(1.0)]),
            ("_ 7", vec![None, Some(7.0)]),
            ("", vec![]),
        ] {
            assert_eq!(values(text).unwrap(), expected, "{text}");
        }
        let odd = values("stale NaN Inf").unwrap();
        assert!(is_stale(odd[0].unwrap()) && odd[1].unwrap().is_nan() && !is_stale(odd[1].unwrap()));
        assert_eq!(odd[2], Some(f64::INFINITY));
    }

    #[test]
    fn what_is_no_value_is_named() {
        for text in ["1+", "x3", "1+2x", "1+2x-1", "a", "{{schema:0}}", "1x1000000"] {
            assert!(values(text).is_err(), "{text}");
        }
        assert!(values("0 b").unwrap_err().starts_with("\"b\" is no value"));
    }
}
