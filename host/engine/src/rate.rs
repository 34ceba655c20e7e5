//! Rates as operators write them, per minute.

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;

/// What may come at once in any case.
const AT_ONCE: u32 = 100;
/// The part of a minute whose worth may come at once, as a divisor: ten seconds.
const PART: u32 = 6;

/// Lets so many pass in a minute. All of a small rate may come at once; of a large one ten seconds' worth, so that a
/// flood meets its limit before everybody else has met the flood.
pub(crate) fn per_minute(rate: u32) -> DefaultDirectRateLimiter {
    RateLimiter::direct(quota(rate))
}

fn quota(rate: u32) -> Quota {
    let some = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    Quota::per_minute(some(rate)).allow_burst(some(rate.min(AT_ONCE.max(rate / PART))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_rate_may_come_at_once_and_of_a_large_one_ten_seconds_worth() {
        for (rate, at_once) in [(0, 1), (1, 1), (60, 60), (100, 100), (600, 100), (6_000, 1_000)] {
            assert_eq!(quota(rate).burst_size().get(), at_once, "{rate}");
        }
    }
}
