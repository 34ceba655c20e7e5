//! The host's own pace at a provider: what its key allows in a minute is not asked for more.
//!
//! A token bucket for requests and one for tokens. Tokens are taken at the bound of a call and what it did not need is
//! given back once its count is known. A bucket holds a twelfth of a minute's amount and is filled with the rest, so
//! that no minute, wherever it begins, sees more than the amount.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A bucket holds this part of a minute's amount.
const PART: u64 = 12;
/// A unit is this many parts, so that a millisecond adds a whole number of them.
const PARTS: i128 = 60_000;

/// Of one provider.
#[derive(Debug)]
pub(crate) struct Pace {
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// In parts; below zero after a call that is larger than a bucket.
    level: i128,
    most: i128,
    /// Parts that a millisecond adds.
    flow: i128,
    filled: Instant,
}

impl Bucket {
    /// One that is full.
    fn new(per_minute: u64) -> Self {
        let most = (per_minute / PART).max(1);
        // One request a minute fills its bucket at the same speed as two.
        let flow = per_minute.saturating_sub(most).max(per_minute.div_ceil(2)).max(1);
        let most = i128::from(most) * PARTS;
        Self { level: most, most, flow: i128::from(flow), filled: Instant::now() }
    }

    fn fill(&mut self) {
        let now = Instant::now();
        let millis = i128::try_from((now - self.filled).as_millis()).unwrap_or(i128::MAX / PARTS);
        self.level = self.level.saturating_add(millis.saturating_mul(self.flow)).min(self.most);
        self.filled += Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    }

    /// How long until so much may be taken. What is larger than the bucket is taken of a full one.
    fn wait(&self, amount: u64) -> Duration {
        let missing = (i128::from(amount) * PARTS).min(self.most) - self.level;
        let millis = (missing.max(0) + self.flow - 1) / self.flow;
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    fn change(&mut self, amount: i128) {
        self.level = self.level.saturating_add(amount * PARTS).min(self.most);
    }
}

impl Pace {
    pub(crate) fn new(requests_per_minute: Option<u32>, tokens_per_minute: Option<u64>) -> Arc<Self> {
        let requests = requests_per_minute.map(|amount| Bucket::new(u64::from(amount)));
        let buckets = Buckets { requests, tokens: tokens_per_minute.map(Bucket::new) };
        Arc::new(Self { buckets: Mutex::new(buckets) })
    }

    /// Leave to send a request that takes at most so many tokens; or how long to wait, and nothing is taken.
    pub(crate) fn take(self: &Arc<Self>, tokens: u64) -> Result<Paced, Duration> {
        let mut buckets = self.buckets.lock();
        let Buckets { requests, tokens: all } = &mut *buckets;
        let mut wait = Duration::ZERO;
        for (bucket, amount) in [(requests.as_mut(), 1), (all.as_mut(), tokens)] {
            let Some(bucket) = bucket else { continue };
            bucket.fill();
            wait = wait.max(bucket.wait(amount));
        }
        if !wait.is_zero() {
            return Err(wait);
        }
        buckets.change(-1, -i128::from(tokens));
        Ok(Paced { pace: Arc::clone(self), tokens })
    }
}

impl Buckets {
    fn change(&mut self, requests: i128, tokens: i128) {
        if let Some(bucket) = &mut self.requests {
            bucket.change(requests);
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.change(tokens);
        }
    }
}

/// What was taken for a request. Dropped, it stays taken.
#[derive(Debug)]
pub(crate) struct Paced {
    pace: Arc<Pace>,
    tokens: u64,
}

impl Paced {
    /// The request took so many tokens.
    pub(crate) fn took(&mut self, tokens: u64) {
        let rest = std::mem::take(&mut self.tokens).saturating_sub(tokens);
        self.pace.buckets.lock().change(0, i128::from(rest));
    }

    /// It was never sent.
    pub(crate) fn unsent(&mut self) {
        let tokens = std::mem::take(&mut self.tokens);
        self.pace.buckets.lock().change(1, i128::from(tokens));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    /// As many as there are, one after the other, for some minutes: how many went in the busiest minute.
    async fn busiest(pace: &Arc<Pace>, tokens: u64) -> usize {
        let begun = Instant::now();
        let mut sent: Vec<Duration> = Vec::new();
        while begun.elapsed() < Duration::from_secs(300) {
            match pace.take(tokens) {
                Ok(_) => sent.push(begun.elapsed()),
                Err(wait) => advance(wait).await,
            }
        }
        let minute = Duration::from_secs(60);
        let within = |from: &Duration| sent.iter().filter(|at| *at >= from && **at < *from + minute).count();
        sent.iter().map(within).max().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn no_minute_sees_more_than_is_allowed() {
        for allowed in [1, 2, 7, 60, 1_000] {
            let most = busiest(&Pace::new(Some(allowed), None), 5).await;
            assert!(most <= allowed as usize, "{most} of {allowed}");
            assert!(most >= allowed as usize / 2, "{most} of {allowed}");
        }
        let most = busiest(&Pace::new(None, Some(6_000)), 100).await;
        assert!((50..=60).contains(&most), "{most}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_needed_is_given_back() {
        let pace = Pace::new(None, Some(1_200));
        let mut paced = pace.take(100).unwrap();
        let wait = pace.take(100).unwrap_err();
        assert!(wait > Duration::from_secs(5) && wait <= Duration::from_secs(6), "{wait:?}");
        paced.took(40);
        drop(pace.take(60).unwrap());
        assert!(pace.take(1).is_err());
        let one = Pace::new(Some(1), Some(1_200));
        one.take(100).unwrap().unsent();
        one.take(100).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_larger_than_a_bucket_goes_when_it_is_full() {
        let pace = Pace::new(None, Some(1_200));
        pace.take(1_000).unwrap();
        let wait = pace.take(1).unwrap_err();
        assert!(wait > Duration::from_secs(45), "{wait:?}");
        advance(Duration::from_secs(61)).await;
        pace.take(1_000).unwrap();
    }

    #[test]
    fn without_an_amount_everything_goes() {
        let pace = Pace::new(None, None);
        (0..10_000).for_each(|_| drop(pace.take(u64::MAX).unwrap()));
    }
}
