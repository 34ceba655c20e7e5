//! Processor time of one call, measured around each poll of its future.
//!
//! Not counted in the epoch's ticks: a tick says that time went by, and on a busy machine that may be anybody's. The
//! thread's own clock says what this call cost. A guest yields every few milliseconds, so a loop is noticed soon.
//!
//! Calls that compute for more than a tick take turns, a tick each, on all threads of the runtime but one: however many of
//! them there are, the next short call finds a thread that none of them holds. Those that have computed for long stand
//! behind the others. Many that begin at once would else have all threads until each has had its first ticks. And they take
//! turns of many ticks: with one each, those that began together would end together, and what follows them, too.

use crate::limits::{Limit, LimitReached};
use rustix::time::{ClockId, clock_gettime};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;

/// A call that has computed so much takes turns with the others that have.
const SHORT: Duration = Duration::from_millis(2);
/// And one that has computed so much stands behind those that have not.
const LONG: Duration = Duration::from_millis(10);
/// For so long, while the others of them wait.
const TURN: Duration = Duration::from_millis(50);

/// The turns of calls that compute.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    /// As many as take turns at once: so there are never more of the long ones in the line for `all`.
    long: Arc<Semaphore>,
}

impl Turns {
    /// On the threads of this runtime.
    pub(crate) fn of_this_runtime() -> Self {
        let threads = Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
        let turns = || Arc::new(Semaphore::new(threads.saturating_sub(1).max(1)));
        Self { all: turns(), long: turns() }
    }
}

/// Runs `work` until it is done or has used `bound` of processor time.
pub(crate) async fn bounded<R>(
    work: impl Future<Output = wasmtime::Result<R>>,
    bound: Duration,
    turns: &Turns,
) -> wasmtime::Result<R> {
    let mut work = pin!(work);
    let mut used = Duration::ZERO;
    let line = |turns: &Arc<Semaphore>| PollSemaphore::new(Arc::clone(turns));
    let (mut all, mut long, mut turn, mut ends) = (line(&turns.all), line(&turns.long), None, Duration::ZERO);
    poll_fn(|context| {
        if used >= LONG && turn.is_none() {
            turn = ready!(long.poll_acquire(context));
            ends = used.saturating_add(TURN);
        }
        let _tick = match used >= SHORT {
            true => ready!(all.poll_acquire(context)),
            false => None,
        };
        let wakes = Arc::new(Wakes { caller: context.waker().clone(), itself: AtomicBool::new(false) });
        let waker = Waker::from(Arc::clone(&wakes));
        let began = of_this_thread();
        let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
        used = used.saturating_add(of_this_thread().saturating_sub(began));
        // Who waits for the host holds nobody up.
        if used >= ends || !wakes.itself.load(Ordering::Relaxed) {
            turn = None;
        }
        if polled.is_pending() && used >= bound {
            let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
            return Poll::Ready(Err(LimitReached(Limit::Cpu, millis).into()));
        }
        polled
    })
    .await
}

/// Tells who has paused to go on at once from who waits: the former wakes itself before its poll is over.
struct Wakes {
    caller: Waker,
    itself: AtomicBool,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.itself.store(true, Ordering::Relaxed);
        self.caller.wake_by_ref();
    }
}

/// What the calling thread has used since it began.
fn of_this_thread() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(used.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::Notify;
    use tokio::task::JoinSet;

    const BOUND: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_wait_costs_nothing() {
        let work = async {
            tokio::time::sleep(BOUND * 3).await;
            Ok(1)
        };
        assert_eq!(bounded(work, BOUND, &Turns::of_this_runtime()).await.unwrap(), 1);
    }

    async fn spin<R>() -> wasmtime::Result<R> {
        loop {
            std::hint::black_box(vec![0_u8; 1 << 10]);
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn work_that_never_ends_is_ended() {
        let error = bounded::<()>(spin(), BOUND, &Turns::of_this_runtime()).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(LimitReached(Limit::Cpu, 20))), "{error}");
    }

    /// Counted by what is polled at once, not by the clock.
    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn who_computes_for_long_leaves_a_thread_to_the_others() {
        let turns = Turns::of_this_runtime();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut all = JoinSet::new();
        for _ in 0..8 {
            let (turns, now, most) = (turns.clone(), Arc::clone(&now), Arc::clone(&most));
            all.spawn(async move {
                let mut used = Duration::ZERO;
                let work = poll_fn(|context| {
                    let began = of_this_thread();
                    // Those that have not computed for long yet are not counted.
                    let at_once = match used > LONG {
                        true => now.fetch_add(1, Ordering::SeqCst) + 1,
                        false => 0,
                    };
                    most.fetch_max(at_once, Ordering::SeqCst);
                    while of_this_thread() < began + Duration::from_millis(1) {}
                    if at_once > 0 {
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                    used += of_this_thread() - began;
                    context.waker().wake_by_ref();
                    Poll::Pending::<wasmtime::Result<()>>
                });
                bounded(work, LONG * 3, &turns).await
            });
        }
        while let Some(ended) = all.join_next().await {
            assert!(ended.unwrap().is_err(), "each is ended by its bound");
        }
        assert_eq!(most.load(Ordering::SeqCst), 2, "of three threads");
    }

    /// The same: what is counted are the polls between two of its own.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_has_computed_little_does_not_stand_behind_all_who_have_for_long() {
        let turns = Turns::of_this_runtime();
        let polls = Arc::new(AtomicUsize::new(0));
        let spins = |most: Duration, seen: Option<Arc<AtomicUsize>>| {
            let (turns, polls) = (turns.clone(), Arc::clone(&polls));
            let mut last: Option<usize> = None;
            async move {
                let work = poll_fn(|context| {
                    let now = polls.fetch_add(1, Ordering::SeqCst);
                    if let (Some(seen), Some(last)) = (&seen, last.replace(now)) {
                        seen.fetch_max(now - last, Ordering::SeqCst);
                    }
                    let began = of_this_thread();
                    while of_this_thread() < began + Duration::from_millis(1) {}
                    context.waker().wake_by_ref();
                    Poll::Pending::<wasmtime::Result<()>>
                });
                bounded(work, most, &turns).await
            }
        };
        let mut long = JoinSet::new();
        for _ in 0..30 {
            long.spawn(spins(LONG * 4, None));
        }
        // Each has computed for long.
        while polls.load(Ordering::SeqCst) < 30 * 15 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let between = Arc::new(AtomicUsize::new(0));
        assert!(tokio::spawn(spins(LONG / 2, Some(Arc::clone(&between)))).await.unwrap().is_err());
        let most = between.load(Ordering::SeqCst);
        assert!(most < 15, "{most} polls of others between two of its own");
        long.join_all().await;
    }

    /// Computes for a millisecond in each poll, until it has so much; each poll is told of.
    async fn computes(most: Duration, mut polled: impl FnMut(Duration)) {
        let mut used = Duration::ZERO;
        poll_fn(|context| {
            polled(used);
            let began = of_this_thread();
            while of_this_thread() < began + Duration::from_millis(1) {}
            used += of_this_thread() - began;
            context.waker().wake_by_ref();
            if used < most { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Counted by who is polled after whom.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_has_computed_for_long_goes_on_for_many_ticks() {
        let turns = Turns::of_this_runtime();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut all = JoinSet::new();
        for n in 0..8 {
            let (turns, order) = (turns.clone(), Arc::clone(&order));
            all.spawn(async move {
                let polled = |used| {
                    if used > LONG {
                        order.lock().push(n);
                    }
                };
                let work = async {
                    computes(LONG + TURN, polled).await;
                    Ok(())
                };
                bounded(work, LONG + 2 * TURN, &turns).await
            });
        }
        assert!(all.join_all().await.iter().all(Result::is_ok));
        let order = order.lock();
        let changes = order.windows(2).filter(|two| two[0] != two[1]).count();
        assert!(changes < order.len() / 8, "{changes} changes in {} polls", order.len());
    }

    #[tokio::test]
    async fn who_waits_for_the_host_holds_nobody_up() {
        let (turns, go) = (Turns::of_this_runtime(), Notify::new());
        let first = async {
            computes(2 * LONG, |_| {}).await;
            go.notified().await;
            Ok(())
        };
        let second = async {
            computes(3 * LONG, |_| {}).await;
            go.notify_one();
            Ok(())
        };
        let both =
            async { tokio::join!(bounded(first, 9 * LONG, &turns), bounded(second, 9 * LONG, &turns)) };
        let (first, second) = tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
        assert!(first.is_ok() && second.is_ok());
    }
}
