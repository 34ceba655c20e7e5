//! Processor time of one call, measured around each poll of its future.
//!
//! Not counted in the epoch's ticks: a tick says that time went by, and on a busy machine that may be anybody's. The
//! thread's own clock says what this call cost. A guest yields every few milliseconds, so a loop is noticed soon.

use crate::limits::{Limit, LimitReached};
use rustix::time::{ClockId, clock_gettime};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Runs `work` until it is done or has used `bound` of processor time.
pub(crate) async fn bounded<R>(
    work: impl Future<Output = wasmtime::Result<R>>,
    bound: Duration,
) -> wasmtime::Result<R> {
    let mut work = pin!(work);
    let mut used = Duration::ZERO;
    poll_fn(|context| {
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

    const BOUND: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_wait_costs_nothing() {
        let work = async {
            tokio::time::sleep(BOUND * 3).await;
            Ok(1)
        };
        assert_eq!(bounded(work, BOUND).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn work_that_never_ends_is_ended() {
        let work = async {
            loop {
                std::hint::black_box(vec![0_u8; 1 << 10]);
                tokio::task::yield_now().await;
            }
        };
        let error = bounded::<()>(work, BOUND).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(LimitReached(Limit::Cpu, 20))), "{error}");
    }
}
