//! The end of a load.

use std::time::Duration;

use chela_store::Store;
use tokio::time::{Instant, sleep};

use super::{Evidence, check};
use crate::process::Process;
use crate::wait::PATIENCE;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Waits until the platforms have everything that was acknowledged, and the host has nothing left to do: an answer that
/// a platform has seen is told again if the host could not hear what became of it. What is missing after [`PATIENCE`] is
/// for the caller's checks to name.
pub async fn rest(process: &Process, evidence: impl Fn() -> Evidence) {
    let deadline = Instant::now() + PATIENCE;
    let store = Store::open_beside(&process.data()).await.expect("the host's store");
    let is_lost = || check(&evidence()).wrong.iter().any(|wrong| wrong.starts_with("lost"));
    let is_at_work = async || {
        let counts = store.counts().await.expect("counts");
        counts.waiting + counts.leased > 0
    };
    while (is_lost() || is_at_work().await) && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    store.close().await.expect("a reader closes");
}
