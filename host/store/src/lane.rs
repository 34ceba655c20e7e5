//! Places in the writer's queue, shared out among lanes.
//!
//! Everything that stands in the queue is committed together, so whoever writes waits for the statements of all, and for
//! the commit that is being made. A lane that floods would fill each batch, and leave no moment without one. So while
//! others write, too, of the lanes that keep the writer busy
//!
//! - each has no more operations in the queue than run in the time that a commit takes: with it a batch takes twice as
//!   long at most, whatever the disk;
//! - those of one that writes more than its share then rest while others are at work: the next ones wait until these could
//!   make commits of their own.
//!
//! What waits does so outside of the queue, in its order. Who writes little never waits, and who is alone has the whole
//! queue.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted at a time; a lane that has written nothing for so long is no other.
const LATELY: Duration = Duration::from_secs(1);
/// Of which a lane's operations take their parts: divisible in many ways.
const WHOLE: u32 = 720;
/// Weight of what has just been measured, as a divisor.
const NEWEST: u64 = 8;
/// More than its share writes a lane with five quarters of what each would have if all wrote the same.
const TOO_MUCH: (u64, u64) = (5, 4);
/// A lane whose operations have run for so long lately, commits apart, is felt by others.
const FELT: Duration = Duration::from_millis(100);
/// Whose turns are at work writes again within this time.
const AT_WORK: Duration = Duration::from_millis(50);
/// Commits that others can make while it rests, and the longest rest: on a disk that hangs, nobody gains by it.
const RESTS: (u32, Duration) = (2, Duration::from_millis(50));

/// The lanes that write.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    known: Mutex<HashMap<String, Lane>>,
    /// Of the writer, in nanoseconds: an operation, and a commit. 0 before the first.
    operation: AtomicU64,
    commit: AtomicU64,
}

#[derive(Debug)]
struct Lane {
    places: Arc<Semaphore>,
    wrote: Instant,
    written: Written,
}

/// How much was written in the moment before this one, and so far in this one.
#[derive(Debug)]
struct Written {
    since: Instant,
    before: u64,
    now: u64,
}

/// A place in the queue, given back where it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    /// Before another one of the lane has it.
    rests: Option<Duration>,
}

/// What the writer takes for its work, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    operation: u64,
    commit: u64,
}

impl Lanes {
    /// A place for an operation of this lane; `None`: it needs none.
    pub(crate) async fn place(&self, lane: &str) -> Option<Place> {
        let (places, is_to_rest) = self.places(lane, Instant::now())?;
        let commit = self.commit.load(Ordering::Relaxed);
        let (commits, longest) = RESTS;
        let rests = is_to_rest.then(|| Duration::from_nanos(commit).saturating_mul(commits).min(longest));
        let part = WHOLE.div_ceil(self.at_once(commit));
        // Never closed.
        Some(Place { permit: Some(places.acquire_many_owned(part).await.ok()?), rests })
    }

    /// Operations that run in so long.
    fn at_once(&self, nanos: u64) -> u32 {
        match self.operation.load(Ordering::Relaxed) {
            0 => WHOLE,
            each => u32::try_from(nanos.div_ceil(each)).unwrap_or(WHOLE).clamp(1, WHOLE),
        }
    }

    /// The lane's own, if it keeps the writer busy while others write, too; and whether they are to rest.
    fn places(&self, lane: &str, now: Instant) -> Option<(Arc<Semaphore>, bool)> {
        let mut known = self.known.lock();
        let (mut others, mut all, mut silent) = (0, 0, LATELY);
        for (_, other) in known.iter_mut().filter(|(name, _)| *name != lane) {
            let since = now.saturating_duration_since(other.wrote);
            if since < LATELY {
                others += 1;
                all += other.written.lately(now);
                silent = silent.min(since);
            }
        }
        if !known.contains_key(lane) {
            known.insert(lane.to_owned(), Lane::new(now));
        }
        let own = known.get_mut(lane)?;
        own.wrote = now;
        let written = own.written.lately(now);
        own.written.now += 1;
        all += written;
        let (much, of) = TOO_MUCH;
        let is_too_much = written * (others + 1) * of > all * much;
        let ran = Duration::from_nanos(self.operation.load(Ordering::Relaxed).saturating_mul(written));
        (others > 0 && ran > FELT).then(|| (Arc::clone(&own.places), is_too_much && silent < AT_WORK))
    }

    /// The writer has made a commit.
    pub(crate) fn paced(&self, pace: &Pace) {
        self.operation.store(pace.operation.max(1), Ordering::Relaxed);
        self.commit.store(pace.commit, Ordering::Relaxed);
    }
}

impl Lane {
    fn new(now: Instant) -> Self {
        let written = Written { since: now, before: 0, now: 0 };
        Self { places: Arc::new(Semaphore::new(WHOLE as usize)), wrote: now, written }
    }
}

impl Written {
    fn lately(&mut self, now: Instant) -> u64 {
        let past = now.saturating_duration_since(self.since);
        if past >= LATELY {
            self.before = if past < 2 * LATELY { self.now } else { 0 };
            (self.now, self.since) = (0, now);
        }
        self.before + self.now
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        // Without a runtime nobody waits.
        if let (Some(rests), Ok(runtime)) = (self.rests, Handle::try_current()) {
            runtime.spawn(async move {
                tokio::time::sleep(rests).await;
                drop(permit);
            });
        }
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

    /// Lets a lane write so many operations at once.
    fn written(lanes: &Lanes, lane: &str, now: Instant, operations: usize) {
        (0..operations).for_each(|_| drop(lanes.places(lane, now)));
    }

    /// How many places a lane finds; 100: it needs none.
    fn free(lanes: &Lanes, lane: &str) -> usize {
        let taken = std::iter::from_fn(|| lanes.place(lane).now_or_never()).take(100).collect::<Vec<_>>();
        taken.len()
    }

    #[tokio::test]
    async fn a_lane_alone_has_the_whole_queue() {
        let lanes = lanes(100, 200);
        written(&lanes, "a", Instant::now(), 10_000);
        assert_eq!(free(&lanes, "a"), 100);
    }

    #[tokio::test]
    async fn beside_others_a_lane_that_is_felt_has_what_runs_beside_a_commit() {
        for (operation, commit, places) in [(100, 400, 4), (100, 10, 1), (100, 4_800, 48)] {
            let (lanes, now) = (lanes(operation, commit), Instant::now());
            written(&lanes, "one", now, 2_500);
            written(&lanes, "other", now, 2_500);
            assert_eq!(
                ["one", "other"].map(|lane| free(&lanes, lane)),
                [places; 2],
                "{operation} and {commit}"
            );
        }
    }

    #[tokio::test]
    async fn who_writes_little_needs_no_place() {
        let (lanes, now) = (lanes(100, 400), Instant::now());
        written(&lanes, "calm", now, 100);
        written(&lanes, "flood", now, 900);
        assert_eq!(free(&lanes, "flood"), 100, "it is not felt yet");
        written(&lanes, "flood", now, 1);
        assert_eq!((free(&lanes, "flood"), free(&lanes, "calm")), (4, 100));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_more_than_a_share_rests() {
        let lanes = lanes(100, 400);
        let place = || lanes.place("flood").now_or_never().flatten();
        lanes.place("calm").await;
        written(&lanes, "flood", Instant::now(), 1_100);
        let all = [(); 4].map(|()| place());
        assert!(all.iter().all(Option::is_some) && place().is_none());
        drop(all);
        assert!(place().is_none(), "they rest");
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(place().is_some());
    }

    #[tokio::test]
    async fn none_rests_for_those_who_are_not_at_work() {
        let (lanes, now) = (lanes(100, 400), Instant::now());
        written(&lanes, "calm", now, 1);
        written(&lanes, "flood", now, 1_100);
        let rests = |later| lanes.places("flood", now + later).map(|(_, rests)| rests);
        assert_eq!(rests(Duration::ZERO), Some(true));
        assert_eq!(rests(AT_WORK), Some(false), "it still has no more than its places");
    }

    #[tokio::test]
    async fn who_has_not_written_lately_is_no_other() {
        let lanes = lanes(100, 200);
        let now = Instant::now();
        written(&lanes, "calm", now, 1);
        written(&lanes, "flood", now, 3_000);
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
