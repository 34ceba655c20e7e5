//! How many requests a provider is asked at once, and how many more wait for that.
//!
//! The wait is this host's own: whoever waits in vain has learned nothing of the provider, and no breaker hears of it.
//! More than a few answers' worth need not wait at all: they would come too late, and the next model may have room.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Trouble;
use super::sent::Sent;

/// So many wait for each that is asked …
const WAITING_PER_PLACE: usize = 4;
/// … but this many in any case, where few are asked at once.
const WAITING_MIN: usize = 64;

/// Of one provider.
pub(super) struct Places {
    free: Arc<Semaphore>,
    queue: Semaphore,
}

impl Places {
    pub(super) fn new(at_once: usize) -> Self {
        let waiting = at_once.saturating_mul(WAITING_PER_PLACE);
        let queue = Semaphore::new(waiting.clamp(WAITING_MIN, Semaphore::MAX_PERMITS));
        Self { free: Arc::new(Semaphore::new(at_once)), queue }
    }

    /// A place, waited for if there is room to wait.
    pub(super) async fn take(&self, sent: &Sent) -> Result<OwnedSemaphorePermit, Trouble> {
        let free = || self.free.clone();
        if let Ok(place) = free().try_acquire_owned() {
            return Ok(place);
        }
        let _one_of_the_queue = self.queue.try_acquire().map_err(|_| Trouble::QUEUED)?;
        sent.waits(true);
        let place = free().acquire_owned().await.map_err(|_| Trouble::QUEUED)?;
        sent.waits(false);
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::time::Duration;

    const AFTER: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn who_waits_is_told_apart_from_who_was_asked() {
        let (places, first, second) = (Places::new(1), Sent::default(), Sent::default());
        let place = places.take(&first).await.unwrap();
        let mut waiting = Box::pin(places.take(&second));
        assert!(waiting.as_mut().now_or_never().is_none());
        let trouble = second.late(AFTER);
        assert!(trouble.is_ours && !trouble.billed, "{trouble:?}");
        drop(place);
        let _place = waiting.await.unwrap();
        assert!(!second.late(AFTER).is_ours && !first.late(AFTER).is_ours);
    }

    #[tokio::test]
    async fn the_queue_has_an_end() {
        for (at_once, waiting) in [(1, WAITING_MIN), (32, 128)] {
            let (places, sent) = (Places::new(at_once), Sent::default());
            let mut all: Vec<_> = (0..at_once + waiting).map(|_| Box::pin(places.take(&sent))).collect();
            let asked: Vec<_> = all.iter_mut().filter_map(|each| each.as_mut().now_or_never()).collect();
            assert_eq!(asked.len(), at_once);
            assert!(places.take(&sent).now_or_never().unwrap().unwrap_err().is_ours, "at once");
            all.pop();
            assert!(places.take(&sent).now_or_never().is_none(), "who goes makes room");
        }
    }
}
