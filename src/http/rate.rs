//! How often one source may ask for a change: a token bucket each, as many as are remembered.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use crate::domain::time::Timestamp;

/// Requests a second.
const PER_SECOND: u32 = 10;

/// Requests at once, after a quiet time.
const BURST: u32 = 10;

/// Sources remembered. The one that asked longest ago is forgotten first: it has the fullest bucket, so that
/// forgetting it gives the least away.
const SOURCES: usize = 1_024;

const MILLIS_PER_REQUEST: i64 = 1_000 / PER_SECOND as i64;

/// Buckets by source.
#[derive(Debug, Default)]
pub(super) struct Limiter(Mutex<HashMap<IpAddr, Timestamp>>);

impl Limiter {
    /// Takes one request of a source. `Err` is the number of whole seconds after which there is room again.
    ///
    /// A bucket is kept as the time at which it is full again, each request moving it on by a tenth of a second.
    pub(super) fn take(&self, source: IpAddr, now: Timestamp) -> Result<(), u64> {
        let source = household(source);
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now.as_millis();
        let full_at = buckets.get(&source).map_or(now, |at| at.as_millis().max(now)) + MILLIS_PER_REQUEST;
        let wait = full_at - now - MILLIS_PER_REQUEST * i64::from(BURST);
        if wait > 0 {
            return Err(u64::try_from(wait).unwrap_or(0).div_ceil(1_000));
        }
        if buckets.len() >= SOURCES && !buckets.contains_key(&source) {
            let quietest = buckets.iter().min_by_key(|(_, full_at)| **full_at).map(|(source, _)| *source);
            if let Some(quietest) = quietest {
                buckets.remove(&quietest);
            }
        }
        buckets.insert(source, Timestamp::from_millis(full_at));
        Ok(())
    }
}

/// Whoever has one IPv6 address has the 2^64 beside it.
fn household(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        canonical => canonical,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + millis)
    }

    fn source(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ten_a_second_and_each_source_by_itself() {
        let limiter = Limiter::default();
        let taken = |from: &str, millis| (0..40).filter(|_| limiter.take(source(from), at(millis)).is_ok()).count();
        assert_eq!(taken("10.0.0.1", 0), 10);
        assert_eq!(taken("10.0.0.2", 0), 10);
        assert_eq!(limiter.take(source("10.0.0.1"), at(0)), Err(1));
        assert_eq!(taken("10.0.0.1", 500), 5);
        assert_eq!(taken("10.0.0.1", 60_000), 10);
        assert_eq!(taken("2001:db8::1", 0) + taken("2001:db8::2", 0), 10, "one household");
    }

    #[test]
    fn memory_is_bounded_and_a_busy_source_is_not_forgotten() {
        let limiter = Limiter::default();
        let busy = source("192.0.2.1");
        while limiter.take(busy, at(0)).is_ok() {}
        for i in 0..5_000_u32 {
            limiter.take(IpAddr::from((0x0a00_0000 + i).to_be_bytes()), at(0)).unwrap();
        }
        assert_eq!(limiter.0.lock().unwrap().len(), SOURCES);
        assert!(limiter.take(busy, at(0)).is_err());
    }
}
