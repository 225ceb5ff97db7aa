//! When a message that did not arrive is tried again.

use sha2::{Digest, Sha256};

use crate::domain::id::ReceiverName;
use crate::domain::time::{Span, Timestamp};

/// Time from each failed attempt to the next, and before the first: the schedule that the Standard Webhooks
/// specification proposes. After the last one the message is parked.
pub const SCHEDULE: [Span; 10] = [
    Span::ZERO,
    Span::from_secs(5),
    Span::from_secs(30),
    Span::from_secs(120),
    Span::from_secs(300),
    Span::from_secs(1800),
    Span::from_secs(2 * 3600),
    Span::from_secs(5 * 3600),
    Span::from_secs(10 * 3600),
    Span::from_secs(24 * 3600),
];

/// Longest time that a receiver can put a message off by `Retry-After`.
pub const RETRY_AFTER_LIMIT: Span = Span::from_secs(24 * 3600);

/// When the next attempt is due after `attempts` failed ones, the last at `now`; none where that was the last.
///
/// The schedule's time is spread by ± 20 %, so that many messages do not come back at once; by a hash, so that the same
/// records lead to the same times. `Retry-After` only ever puts it off.
#[must_use]
pub fn next_attempt(
    id: &str,
    receiver: &ReceiverName,
    attempts: u32,
    now: Timestamp,
    retry_after: Option<Span>,
) -> Option<Timestamp> {
    let planned = SCHEDULE.get(usize::try_from(attempts).ok()?)?;
    let permille = 800 + spread(id, receiver, attempts) % 401;
    let planned = Span::from_millis(planned.as_millis() / 1000 * permille);
    Some(now + planned.max(retry_after.unwrap_or(Span::ZERO).min(RETRY_AFTER_LIMIT)))
}

fn spread(id: &str, receiver: &ReceiverName, attempts: u32) -> u64 {
    let hash = Sha256::new()
        .chain_update(id)
        .chain_update([0])
        .chain_update(receiver.as_str())
        .chain_update(attempts.to_be_bytes())
        .finalize();
    hash.iter().take(8).fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// What a `Retry-After` header asks for: seconds, or an HTTP date. None where it says neither.
#[must_use]
pub fn retry_after(header: &str, now: Timestamp) -> Option<Span> {
    let header = header.trim();
    let asked = if header.bytes().all(|b| b.is_ascii_digit()) && !header.is_empty() {
        // More digits than fit ask for more than the limit in any case.
        header.parse().map_or(RETRY_AFTER_LIMIT, Span::from_secs)
    } else {
        let date = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(header).ok()?;
        Timestamp::from_millis(date.as_millisecond()).since(now)
    };
    Some(asked.min(RETRY_AFTER_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(784_111_777_000);

    #[test]
    fn each_wait_is_the_schedules_within_a_fifth() {
        for (attempts, planned) in (0..).zip(SCHEDULE) {
            for id in ["a_1", "b_7", "c_9"] {
                let at = next_attempt(id, &"oncall".into(), attempts, NOW, None).unwrap();
                let (wait, planned) = (at.since(NOW).as_secs_f64(), planned.as_secs_f64());
                assert!(wait >= planned * 0.8 && wait <= planned * 1.2, "{attempts}: {wait} for {planned}");
                assert_eq!(next_attempt(id, &"oncall".into(), attempts, NOW, None), Some(at));
            }
        }
        assert_eq!(next_attempt("a_1", &"oncall".into(), 10, NOW, None), None);
    }

    #[test]
    fn two_messages_do_not_come_back_together() {
        let at = |id| next_attempt(id, &"oncall".into(), 5, NOW, None).unwrap();
        assert_ne!(at("a_1"), at("a_2"));
    }

    #[test]
    fn a_receiver_can_put_a_message_off_but_not_pull_it_forward() {
        let wait = |after| next_attempt("a", &"r".into(), 2, NOW, Some(after)).unwrap().since(NOW);
        assert_eq!(wait(Span::from_secs(600)), Span::from_secs(600));
        assert_eq!(wait(Span::from_secs(1)), wait(Span::ZERO));
        assert_eq!(wait(Span::from_secs(1_000_000)), RETRY_AFTER_LIMIT);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let table = [
            ("120", Some(Span::from_secs(120))),
            ("0", Some(Span::ZERO)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(Span::from_secs(10))),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(Span::ZERO)),
            ("99999999999999999999999", Some(RETRY_AFTER_LIMIT)),
            ("Sun, 06 Nov 2094 08:49:47 GMT", Some(RETRY_AFTER_LIMIT)),
            ("soon", None),
            ("-5", None),
            ("", None),
        ];
        for (header, expected) in table {
            assert_eq!(retry_after(header, NOW), expected, "{header:?}");
        }
    }
}
