//! One budget for all attempts beyond the first, so that an outage of everything makes no storm (the idea of Finagle's
//! retry budgets).
//!
//! In any ten seconds the calls of a tier may make a fifth as many further attempts as there were calls, and ten. One
//! that is answered gives its place back: only what fails is a storm. A call that finds no place waits for those under
//! way, and takes the place of the first that is answered; when none is under way any more, it is told its failure.
//! So an outage of the first model alone is answered by the second for everybody, and one of all models costs a fifth.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// So many seconds are remembered.
const SECONDS: usize = 10;
/// Further attempts without any call …
const FREE: u64 = 10;
/// … and one for so many calls.
const CALLS_PER_RETRY: u64 = 5;
/// One call of so many may be hedged, and one.
const CALLS_PER_HEDGE: u64 = 10;
/// A call that waits for a place looks again after this: places come back with time, too.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Of one tier.
#[derive(Debug)]
pub(crate) struct Retries {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    begun: Instant,
    /// The newest second.
    at: u64,
    seconds: [Second; SECONDS],
    under_way: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    calls: u64,
    retries: u64,
    hedges: u64,
}

impl Default for Retries {
    fn default() -> Self {
        let state =
            State { begun: Instant::now(), at: 0, seconds: [Second::default(); SECONDS], under_way: 0 };
        Self { state: Mutex::new(state), freed: Notify::new() }
    }
}

impl State {
    /// Forgets what is too old.
    fn turn(&mut self) {
        let now = self.begun.elapsed().as_secs();
        for second in (self.at + 1..=now).rev().take(SECONDS) {
            if let Some(old) = self.second(second) {
                *old = Second::default();
            }
        }
        self.at = now;
    }

    fn second(&mut self, second: u64) -> Option<&mut Second> {
        self.seconds.get_mut(usize::try_from(second % SECONDS as u64).ok()?)
    }

    fn now(&mut self) -> Option<&mut Second> {
        self.turn();
        self.second(self.at)
    }

    fn sum(&self, of: impl Fn(&Second) -> u64) -> u64 {
        self.seconds.iter().map(of).sum()
    }

    fn has_place(&self) -> bool {
        self.sum(|second| second.retries) < self.sum(|second| second.calls) / CALLS_PER_RETRY + FREE
    }

    /// How long until the oldest further attempt is forgotten.
    fn wait(&mut self) -> Duration {
        let oldest = self.at.saturating_sub(SECONDS as u64 - 1);
        let mut ages = oldest..=self.at;
        let kept = ages.find(|at| self.second(*at).is_some_and(|second| second.retries > 0));
        let until = Duration::from_secs(kept.unwrap_or(self.at) + SECONDS as u64);
        until.saturating_sub(self.begun.elapsed())
    }
}

impl Retries {
    /// A call begins.
    pub(crate) fn called(&self) {
        if let Some(now) = self.state.lock().now() {
            now.calls += 1;
        }
    }

    /// A place for one attempt more, waited for until then; or how long there will be none. None is given when the time
    /// is over: what is begun then is given up at once, and paid for.
    pub(crate) async fn take(self: &Arc<Self>, until: Instant) -> Result<Retry, Duration> {
        loop {
            let freed = self.freed.notified();
            {
                let mut state = self.state.lock();
                state.turn();
                let is_late = Instant::now() >= until;
                if state.has_place() && !is_late {
                    let at = state.at;
                    state.under_way += 1;
                    if let Some(now) = state.now() {
                        now.retries += 1;
                    }
                    return Ok(Retry { retries: Arc::clone(self), at, is_back: false });
                }
                if state.under_way == 0 || is_late {
                    return Err(if state.has_place() { Duration::ZERO } else { state.wait() });
                }
            }
            let look = until.min(Instant::now() + LOOK_AGAIN);
            let _ = timeout_at(look, freed).await;
        }
    }

    /// Whether one call more may be hedged.
    pub(crate) fn hedge(&self) -> bool {
        let mut state = self.state.lock();
        state.turn();
        let may = state.sum(|second| second.hedges) <= state.sum(|second| second.calls) / CALLS_PER_HEDGE;
        if let Some(now) = state.now().filter(|_| may) {
            now.hedges += 1;
        }
        may
    }
}

/// The place of one attempt.
#[derive(Debug)]
pub(crate) struct Retry {
    retries: Arc<Retries>,
    at: u64,
    is_back: bool,
}

impl Retry {
    /// It was answered, or was not needed.
    pub(crate) fn give_back(mut self) {
        self.is_back = true;
    }
}

impl Drop for Retry {
    fn drop(&mut self) {
        let mut state = self.retries.state.lock();
        state.under_way = state.under_way.saturating_sub(1);
        state.turn();
        let is_kept = state.at.saturating_sub(self.at) < SECONDS as u64;
        if let Some(second) = state.second(self.at).filter(|_| self.is_back && is_kept) {
            second.retries = second.retries.saturating_sub(1);
        }
        if state.under_way == 0 {
            self.retries.freed.notify_waiters();
        } else if self.is_back {
            self.retries.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test(start_paused = true)]
    async fn a_fifth_of_the_calls_and_ten() {
        for (calls, allowed) in [(0, 10), (4, 10), (5, 11), (100, 30)] {
            let retries = Arc::new(Retries::default());
            (0..calls).for_each(|_| retries.called());
            for _ in 0..allowed {
                drop(retries.take(later()).await.unwrap());
            }
            assert_eq!(retries.take(later()).await.unwrap_err(), Duration::from_secs(10), "{calls}");
            advance(Duration::from_secs(10)).await;
            assert!(retries.take(later()).await.is_ok(), "{calls}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_gives_its_place_to_who_waits() {
        let retries = Arc::new(Retries::default());
        let mut held = Vec::new();
        for _ in 0..FREE {
            held.push(retries.take(later()).await.unwrap());
        }
        let (waiter, waits) = (Arc::clone(&retries), later());
        let waiting = tokio::spawn(async move { waiter.take(waits).await.is_ok() });
        tokio::task::yield_now().await;
        held.pop().unwrap().give_back();
        assert!(waiting.await.unwrap());
        let waiter = Arc::clone(&retries);
        let waiting = tokio::spawn(async move { waiter.take(waits).await.is_ok() });
        tokio::task::yield_now().await;
        drop(held);
        assert!(!waiting.await.unwrap(), "nobody is under way, and all failed");
    }

    /// Who is over its time would be given up at its first wait, and be paid for.
    #[tokio::test(start_paused = true)]
    async fn nobody_begins_when_the_time_is_over() {
        let retries = Arc::new(Retries::default());
        assert_eq!(retries.take(Instant::now()).await.unwrap_err(), Duration::ZERO, "there are places");
        assert!(retries.take(Instant::now() + Duration::from_millis(1)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenth_of_the_calls_and_one_may_be_hedged() {
        for (calls, allowed) in [(0, 1), (10, 2), (95, 10)] {
            let retries = Retries::default();
            (0..calls).for_each(|_| retries.called());
            assert_eq!((0..100).filter(|_| retries.hedge()).count(), allowed, "{calls}");
        }
    }
}
