//! Gives back what a finished call held, off the caller's path.
//!
//! Resetting an instance's memory is a third of what a call costs, and the caller needs its answer, not the reset. So
//! it is left to a task of its own, which runs on the same thread as soon as the caller waits for something. Not on
//! another thread: the memory lies in this processor's cache, and unmapping it from elsewhere interrupts this one. If
//! a thread has too much left, the caller does it after all: a bound that slows down is better than a queue that grows.

use parking_lot::Mutex;
use std::any::Any;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Finished calls of one thread that may wait. Few: an instance that is back soon is still in the processor's cache.
const LEFT_MAX: usize = 16;

type Finished = Box<dyn Any + Send>;

thread_local! {
    /// What the calls on this thread have left.
    static LEFT: Left = Left::default();
}

#[derive(Clone, Default)]
struct Left(Arc<Mutex<Vec<Finished>>>);

/// Empties the list when it is dropped: after its task has run, and also if the runtime ends before that.
struct Sweep(Left);

impl Drop for Sweep {
    fn drop(&mut self) {
        let all = std::mem::take(&mut *self.0.0.lock());
        drop(all);
    }
}

/// Drops `finished` soon; here and now outside of a runtime, or if too much is left already.
pub(crate) fn later(finished: Finished) {
    let Ok(runtime) = Handle::try_current() else { return };
    let left = LEFT.with(Clone::clone);
    let is_first = {
        let mut list = left.0.lock();
        if list.len() >= LEFT_MAX {
            drop(list);
            return;
        }
        list.push(finished);
        list.len() == 1
    };
    if is_first {
        let sweep = Sweep(left);
        runtime.spawn(async move { drop(sweep) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Count(Arc<AtomicUsize>);

    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn leave(count: &Arc<AtomicUsize>, times: usize) -> usize {
        (0..times).for_each(|_| later(Box::new(Count(Arc::clone(count)))));
        count.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn it_is_dropped_once_the_caller_waits() {
        let count = Arc::default();
        assert_eq!(leave(&count, 3), 0);
        tokio::task::yield_now().await;
        assert_eq!(leave(&count, 1), 3);
        tokio::task::yield_now().await;
        assert_eq!(count.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn a_caller_that_never_waits_does_it_himself() {
        assert_eq!(leave(&Arc::default(), LEFT_MAX + 2), 2);
    }

    #[test]
    fn without_a_runtime_and_at_its_end_nothing_stays() {
        let count = Arc::default();
        assert_eq!(leave(&count, 1), 1);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { leave(&count, 2) });
        drop(runtime);
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }
}
