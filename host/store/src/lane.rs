//! Places in the writer's queue, shared out among lanes.
//!
//! Everything that stands in the queue is committed together, so whoever writes waits for the statements of all. A lane
//! that floods would fill each batch. So while others write, too, a lane has no more operations in the queue than run in
//! half the time that a commit takes: a batch takes half as long again at most, whatever the disk. The rest wait outside of
//! the queue, in their order. Alone, a lane has the whole queue.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A lane that has written nothing for so long is no other.
const LATELY: Duration = Duration::from_secs(1);
/// Of which a lane's operations take their parts: divisible in many ways.
const WHOLE: u32 = 720;
/// Weight of what has just been measured, as a divisor.
const NEWEST: u64 = 8;

/// The lanes that write.
#[derive(Debug)]
pub(crate) struct Lanes {
    known: Mutex<HashMap<String, Lane>>,
    /// Operations that run in half the time of a commit.
    at_once: AtomicUsize,
}

#[derive(Debug)]
struct Lane {
    places: Arc<Semaphore>,
    wrote: Instant,
}

/// What the writer takes for its work, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    operation: u64,
    commit: u64,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { known: Mutex::default(), at_once: AtomicUsize::new(WHOLE as usize) }
    }
}

impl Lanes {
    /// A place for an operation of this lane; `None`: it needs none.
    pub(crate) async fn place(&self, lane: &str) -> Option<OwnedSemaphorePermit> {
        let places = self.places(lane, Instant::now())?;
        let at_once = u32::try_from(self.at_once.load(Ordering::Relaxed)).unwrap_or(WHOLE);
        // Never closed.
        places.acquire_many_owned(WHOLE.div_ceil(at_once.clamp(1, WHOLE))).await.ok()
    }

    /// The lane's own, if others write, too.
    fn places(&self, lane: &str, now: Instant) -> Option<Arc<Semaphore>> {
        let mut known = self.known.lock();
        let writes = |other: &Lane| now.saturating_duration_since(other.wrote) < LATELY;
        let is_alone = !known.iter().any(|(name, other)| name != lane && writes(other));
        let places = match known.get_mut(lane) {
            Some(own) => {
                own.wrote = now;
                Arc::clone(&own.places)
            }
            None => {
                let places = Arc::new(Semaphore::new(WHOLE as usize));
                known.insert(lane.to_owned(), Lane { places: Arc::clone(&places), wrote: now });
                places
            }
        };
        (!is_alone).then_some(places)
    }

    /// The writer has made a commit.
    pub(crate) fn paced(&self, pace: &Pace) {
        let at_once = (pace.commit / 2).div_ceil(pace.operation.max(1)).max(1);
        self.at_once.store(usize::try_from(at_once).unwrap_or(usize::MAX), Ordering::Relaxed);
    }
}

impl Pace {
    #[cfg(test)]
    pub(crate) fn of(operation: Duration, commit: Duration) -> Self {
        let mut pace = Self::default();
        pace.measured(1, operation, commit);
        pace
    }

    /// So many operations ran for so long, and then the commit.
    pub(crate) fn measured(&mut self, operations: usize, ran: Duration, committed: Duration) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let each = nanos(ran) / u64::try_from(operations.max(1)).unwrap_or(u64::MAX);
        for (known, now) in [(&mut self.operation, each), (&mut self.commit, nanos(committed))] {
            *known = match *known {
                0 => now,
                known => known - known / NEWEST + now / NEWEST,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn lanes(operation_us: u64, commit_us: u64) -> Lanes {
        let lanes = Lanes::default();
        lanes.paced(&Pace::of(Duration::from_micros(operation_us), Duration::from_micros(commit_us)));
        lanes
    }

    /// How many places are there now.
    fn free(lanes: &Lanes, lane: &str) -> usize {
        let taken = std::iter::from_fn(|| lanes.place(lane).now_or_never()).take(100).collect::<Vec<_>>();
        taken.len()
    }

    #[tokio::test]
    async fn a_lane_alone_has_the_whole_queue() {
        let lanes = lanes(100, 200);
        assert!(lanes.place("a").await.is_none());
        assert!(lanes.place("a").await.is_none());
    }

    #[tokio::test]
    async fn beside_others_a_lane_has_what_runs_in_half_a_commit() {
        for (operation, commit, places) in [(100, 400, 2), (100, 10, 1), (100, 9_600, 48)] {
            let lanes = lanes(operation, commit);
            lanes.place("calm").await;
            assert_eq!(free(&lanes, "flood"), places, "{operation} and {commit}");
            assert_eq!(free(&lanes, "calm"), places, "its own");
        }
    }

    #[tokio::test]
    async fn who_has_not_written_lately_is_no_other() {
        let lanes = lanes(100, 200);
        let now = Instant::now();
        assert!(lanes.places("calm", now).is_none());
        assert!(lanes.places("flood", now).is_some());
        assert!(lanes.places("flood", now + LATELY).is_none());
    }

    #[test]
    fn what_is_measured_counts_more_the_newer_it_is() {
        let mut pace = Pace::default();
        pace.measured(2, Duration::from_nanos(1_600), Duration::from_nanos(8_000));
        assert_eq!((pace.operation, pace.commit), (800, 8_000));
        pace.measured(1, Duration::from_nanos(1_600), Duration::ZERO);
        assert_eq!((pace.operation, pace.commit), (900, 7_000));
    }
}
