//! Waiting for what must become true. The only place in the tests that polls.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Longest wait for anything: far above what a loaded machine needs, because its end is a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// Waits until `is_true`; fails with `what` if it never is.
pub async fn eventually(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    eventually_some(what, async || is_true().await.then_some(())).await;
}

/// Waits until there is something; fails with `what` if there never is.
pub async fn eventually_some<T>(what: &str, find: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, find).await
}

/// The same for what takes longer than anything of ours: a compiler.
pub async fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut find: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = find().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", patience.as_secs());
        sleep(POLL).await;
    }
}
