//! Processor time of one call, measured around each poll of its future.
//!
//! Not counted in the epoch's ticks: a tick says that time went by, and on a busy machine that may be anybody's. The
//! thread's own clock says what this call cost. A guest yields every few milliseconds, so a loop is noticed soon.
//!
//! Calls that compute for long take turns, a tick each, on all threads of the runtime but one: however many of them there
//! are, the next short call finds a thread that none of them holds.

use crate::limits::{Limit, LimitReached};
use rustix::time::{ClockId, clock_gettime};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;

/// A call that has computed so much takes turns with the others that have.
const SHORT: Duration = Duration::from_millis(10);

/// The turns of calls that compute for long.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    /// On the threads of this runtime.
    pub(crate) fn of_this_runtime() -> Self {
        let threads = Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
        Self(Arc::new(Semaphore::new(threads.saturating_sub(1).max(1))))
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
    let mut turns = PollSemaphore::new(Arc::clone(&turns.0));
    poll_fn(|context| {
        // Given back when this poll is over: who waits for the host holds nobody up.
        let _turn = match used >= SHORT {
            true => ready!(turns.poll_acquire(context)),
            false => None,
        };
        let began = of_this_thread();
        let polled = work.as_mut().poll(context);
        used = used.saturating_add(of_this_thread().saturating_sub(began));
        if polled.is_pending() && used >= bound {
            let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
            return Poll::Ready(Err(LimitReached(Limit::Cpu, millis).into()));
        }
        polled
    })
    .await
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
    use std::sync::atomic::{AtomicUsize, Ordering};
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
                    let at_once = match used > SHORT * 2 {
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
                bounded(work, SHORT * 6, &turns).await
            });
        }
        while let Some(ended) = all.join_next().await {
            assert!(ended.unwrap().is_err(), "each is ended by its bound");
        }
        assert_eq!(most.load(Ordering::SeqCst), 2, "of three threads");
    }
}
