//! Processor time of one call, measured around each poll of its future.
//!
//! Not counted in the epoch's ticks: a tick says that time went by, and on a busy machine that may be anybody's. The
//! thread's own clock says what this call cost. A guest yields every few milliseconds, so a loop is noticed soon.
//!
//! A call that has computed for more than a tick goes on aside: on threads of its own kind, one fewer than the runtime has,
//! on which nothing else is done. However many of them there are, who has little to do finds the runtime's threads free, and
//! the system sees to it that these are not held up by the others. Where a plugin's last call was such a one, its next ones
//! go there from the start: many that begin together would have all threads for a tick each.
//!
//! There they take turns, a tick each. Those that have computed for long stand behind the others, and they take turns of many
//! ticks: with one each, those that began together would end together, and what follows them, too.

use crate::error::HostError;
use crate::limits::{Limit, LimitReached};
use rustix::time::{ClockId, clock_gettime};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;
use tokio_util::task::AbortOnDropHandle;

/// A call that has computed so much goes on with the others that have.
const SHORT: Duration = Duration::from_millis(2);
/// And one that has computed so much stands behind those that have not.
const LONG: Duration = Duration::from_millis(10);
/// For so long, while the others of them wait.
const TURN: Duration = Duration::from_millis(50);

/// How the threads are called.
const THREAD: &str = "computes";

/// The turns of calls that compute, as one plugin's calls take them.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    /// As many as take turns at once: so there are never more of the long ones in the line for `all`.
    long: Arc<Semaphore>,
    /// None where there is one thread only, which a worker does not share with anybody else's calls.
    aside: Option<Arc<Aside>>,
    /// The plugin's last call that ended was no short one.
    computes: Arc<AtomicBool>,
}

impl Turns {
    /// Beside the threads of this runtime.
    pub(crate) fn of_this_runtime() -> Self {
        let runtime =
            Handle::try_current().ok().filter(|is| is.runtime_flavor() != RuntimeFlavor::CurrentThread);
        let threads = runtime.as_ref().map_or(1, |runtime| runtime.metrics().num_workers());
        let threads = threads.saturating_sub(1).max(1);
        let turns = || Arc::new(Semaphore::new(threads));
        let aside = runtime.map(|beside| Arc::new(Aside { threads, beside, runtime: OnceLock::new() }));
        Self { all: turns(), long: turns(), aside, computes: Arc::default() }
    }

    /// The same turns, taken by another plugin.
    pub(crate) fn of_another_plugin(&self) -> Self {
        Self { computes: Arc::default(), ..self.clone() }
    }

    /// Runs a call where it belongs: here while it is short, and then aside. It says that it computes by what it is given,
    /// which [`bounded`] sets.
    ///
    /// # Errors
    /// If the threads aside cannot be had, or are gone.
    pub(crate) async fn run<R: Send + 'static, F: Future<Output = R> + Send + 'static>(
        &self,
        call: impl FnOnce(Share) -> F,
    ) -> Result<R, HostError> {
        let computes = Arc::new(AtomicBool::new(self.computes.load(Ordering::Relaxed)));
        let share = Share { turns: self.clone(), computes: Arc::clone(&computes) };
        let mut call = Box::pin(call(share));
        let Some(aside) = &self.aside else { return Ok(call.await) };
        let short = poll_fn(|context| {
            if !computes.load(Ordering::Relaxed)
                && let Poll::Ready(ended) = call.as_mut().poll(context)
            {
                return Poll::Ready(Some(ended));
            }
            match computes.load(Ordering::Relaxed) {
                true => Poll::Ready(None),
                false => Poll::Pending,
            }
        });
        match short.await {
            Some(ended) => Ok(ended),
            None => aside.run(call).await,
        }
    }
}

/// One call's part in the turns.
#[derive(Debug)]
pub(crate) struct Share {
    turns: Turns,
    /// It has computed for more than a tick, or is expected to.
    computes: Arc<AtomicBool>,
}

/// The threads of calls that compute.
#[derive(Debug)]
struct Aside {
    threads: usize,
    /// The runtime that they came from: what they begin there, it drives.
    beside: Handle,
    /// Once one is needed.
    runtime: OnceLock<Runtime>,
}

impl Aside {
    async fn run<R: Send + 'static>(
        &self,
        mut call: Pin<Box<dyn Future<Output = R> + Send>>,
    ) -> Result<R, HostError> {
        let beside = self.beside.clone();
        let call = poll_fn(move |context| {
            let _beside = beside.enter();
            call.as_mut().poll(context)
        });
        match AbortOnDropHandle::new(self.runtime()?.spawn(call)).await {
            Ok(ended) => Ok(ended),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => Err(HostError::new(error)),
            },
        }
    }

    fn runtime(&self) -> Result<&Runtime, HostError> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let fresh = Builder::new_multi_thread().worker_threads(self.threads).thread_name(THREAD).build();
        // Who was faster has the runtime; the other one is empty.
        if let Err(unneeded) = self.runtime.set(fresh.map_err(HostError::new)?) {
            unneeded.shutdown_background();
        }
        self.runtime.get().ok_or_else(|| HostError::new("there are no threads for calls that compute"))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs `work` until it is done or has used `bound` of processor time.
pub(crate) async fn bounded<R>(
    work: impl Future<Output = wasmtime::Result<R>>,
    bound: Duration,
    share: &Share,
) -> wasmtime::Result<R> {
    let Share { turns, computes } = share;
    let mut work = pin!(work);
    let mut used = Duration::ZERO;
    let line = |turns: &Arc<Semaphore>| PollSemaphore::new(Arc::clone(turns));
    let (mut all, mut long, mut turn, mut ends) = (line(&turns.all), line(&turns.long), None, Duration::ZERO);
    poll_fn(|context| {
        if used >= LONG && turn.is_none() {
            turn = ready!(long.poll_acquire(context));
            ends = used.saturating_add(TURN);
        }
        let _tick = match computes.load(Ordering::Relaxed) {
            true => ready!(all.poll_acquire(context)),
            false => None,
        };
        let wakes = Arc::new(Wakes { caller: context.waker().clone(), itself: AtomicBool::new(false) });
        let waker = Waker::from(Arc::clone(&wakes));
        let began = of_this_thread();
        let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
        used = used.saturating_add(of_this_thread().saturating_sub(began));
        let is_short = used < SHORT;
        if !is_short {
            computes.store(true, Ordering::Relaxed);
        }
        if polled.is_ready() || !is_short {
            turns.computes.store(!is_short, Ordering::Relaxed);
        }
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
    use tokio_util::sync::CancellationToken;

    const BOUND: Duration = Duration::from_millis(20);
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A call of this plugin.
    async fn run<R: Send + 'static>(
        work: impl Future<Output = wasmtime::Result<R>> + Send + 'static,
        bound: Duration,
        plugin: &Turns,
    ) -> wasmtime::Result<R> {
        plugin.run(|share| async move { bounded(work, bound, &share).await }).await.unwrap()
    }

    fn is_aside() -> bool {
        std::thread::current().name() == Some(THREAD)
    }

    #[tokio::test]
    async fn a_wait_costs_nothing() {
        let work = async {
            tokio::time::sleep(BOUND * 3).await;
            Ok(1)
        };
        assert_eq!(run(work, BOUND, &Turns::of_this_runtime()).await.unwrap(), 1);
    }

    async fn spin<R>() -> wasmtime::Result<R> {
        loop {
            std::hint::black_box(vec![0_u8; 1 << 10]);
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn work_that_never_ends_is_ended() {
        let error = run::<()>(spin(), BOUND, &Turns::of_this_runtime()).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(LimitReached(Limit::Cpu, 20))), "{error}");
    }

    /// Computes so long in all; whether the first and the last of it was aside.
    async fn where_it_computes(most: Duration) -> wasmtime::Result<(bool, bool)> {
        let (mut first, mut last) = (None, false);
        computes(most, |_| {
            last = is_aside();
            first.get_or_insert(last);
        })
        .await;
        Ok((first.unwrap(), last))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_computes_goes_on_aside_and_the_plugins_next_call_begins_there() {
        let plugin = Turns::of_this_runtime();
        let call = async |most, plugin: &Turns| run(where_it_computes(most), LONG * 9, plugin).await.unwrap();
        let (short, long) = (SHORT / 4, SHORT * 3);
        assert_eq!(call(short, &plugin).await, (false, false));
        assert_eq!(call(long, &plugin).await, (false, true));
        assert_eq!(call(long, &plugin.of_another_plugin()).await, (false, true));
        assert_eq!(call(short, &plugin).await, (true, true), "its last call was no short one");
        assert_eq!(call(short, &plugin).await, (false, false), "its last call was a short one");
    }

    #[tokio::test]
    async fn who_is_alone_on_a_thread_has_no_other() {
        let plugin = Turns::of_this_runtime();
        assert_eq!(run(where_it_computes(LONG), LONG * 9, &plugin).await.unwrap(), (false, false));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_begun_aside_is_driven_by_the_runtime_that_the_call_came_from() {
        let work = async {
            computes(SHORT * 2, |_| {}).await;
            assert!(is_aside());
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok((is_aside(), tokio::spawn(async { is_aside() }).await?))
        };
        assert_eq!(run(work, LONG, &Turns::of_this_runtime()).await.unwrap(), (true, false));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_is_no_longer_waited_for_ends_aside_too() {
        let (began, ended) = (Arc::new(Notify::new()), CancellationToken::new());
        let (begins, ends) = (Arc::clone(&began), ended.clone().drop_guard());
        let work = async move {
            let _ends = ends;
            computes(SHORT * 2, |_| {}).await;
            begins.notify_one();
            std::future::pending::<wasmtime::Result<()>>().await
        };
        let turns = Turns::of_this_runtime();
        let call = tokio::spawn(async move { run(work, LONG, &turns).await });
        tokio::time::timeout(PATIENCE, began.notified()).await.unwrap();
        call.abort();
        tokio::time::timeout(PATIENCE, ended.cancelled()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[should_panic(expected = "the host's own fault")]
    async fn a_panic_aside_is_the_callers() {
        let work = async {
            computes(SHORT * 2, |_| {}).await;
            panic!("the host's own fault")
        };
        let _: wasmtime::Result<()> = run(work, LONG, &Turns::of_this_runtime()).await;
    }

    /// Counted by what is polled at once, not by the clock.
    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn who_computes_has_fewer_threads_than_the_runtime() {
        let turns = Turns::of_this_runtime();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut all = JoinSet::new();
        for _ in 0..8 {
            let (turns, now, most) = (turns.clone(), Arc::clone(&now), Arc::clone(&most));
            all.spawn(async move {
                let mut used = Duration::ZERO;
                let work = poll_fn(move |context| {
                    let began = of_this_thread();
                    // Those that have not computed for so long yet are not counted.
                    let at_once = match used >= SHORT {
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
                run(work, LONG * 3, &turns).await
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
                let work = poll_fn(move |context| {
                    let now = polls.fetch_add(1, Ordering::SeqCst);
                    if let (Some(seen), Some(last)) = (&seen, last.replace(now)) {
                        seen.fetch_max(now - last, Ordering::SeqCst);
                    }
                    let began = of_this_thread();
                    while of_this_thread() < began + Duration::from_millis(1) {}
                    context.waker().wake_by_ref();
                    Poll::Pending::<wasmtime::Result<()>>
                });
                run(work, most, &turns).await
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
                let polled = move |used| {
                    if used > LONG {
                        order.lock().push(n);
                    }
                };
                let work = async move {
                    computes(LONG + TURN, polled).await;
                    Ok(())
                };
                run(work, LONG + 2 * TURN, &turns).await
            });
        }
        assert!(all.join_all().await.iter().all(Result::is_ok));
        let order = order.lock();
        let changes = order.windows(2).filter(|two| two[0] != two[1]).count();
        assert!(changes < order.len() / 8, "{changes} changes in {} polls", order.len());
    }

    #[tokio::test]
    async fn who_waits_for_the_host_holds_nobody_up() {
        let (turns, go) = (Turns::of_this_runtime(), Arc::new(Notify::new()));
        let goes = Arc::clone(&go);
        let first = async move {
            computes(2 * LONG, |_| {}).await;
            goes.notified().await;
            Ok(())
        };
        let second = async move {
            computes(3 * LONG, |_| {}).await;
            go.notify_one();
            Ok(())
        };
        let both = async { tokio::join!(run(first, 9 * LONG, &turns), run(second, 9 * LONG, &turns)) };
        let (first, second) = tokio::time::timeout(PATIENCE, both).await.unwrap();
        assert!(first.is_ok() && second.is_ok());
    }
}
