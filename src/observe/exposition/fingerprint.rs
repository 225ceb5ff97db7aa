//! A cheap fingerprint of a name, where a collision costs time or a stale hint and never a wrong answer.

/// Folds the bytes into 64 bits. Not for tables that a peer can fill.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    let folded = words.iter().fold(bytes.len() as u64, |hash, word| fold(hash, u64::from_le_bytes(*word)));
    let hash = fold(folded, u64::from_le_bytes(last));
    hash ^ (hash >> 32)
}

/// Folds one more word in; the order of the words counts.
pub(crate) fn fold(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_little_differ_in_the_low_bits() {
        let prints: std::collections::HashSet<u64> =
            (0..64).map(|n| fingerprint(format!("subsystem_{n:03}_events_total").as_bytes()) % 1024).collect();
        assert!(prints.len() > 50, "{}", prints.len());
        assert_ne!(fingerprint(b"a"), fingerprint(b"a\0"));
        assert_ne!(fingerprint(b""), fingerprint(b"\0\0\0\0\0\0\0\0"));
    }
}
