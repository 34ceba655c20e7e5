//! The round that never ends: a hint or a poll, a look, and a reload if something is another than before.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::look::Seen;
use super::roots::Roots;
use super::watch::Eyes;

/// So long nothing more is told before it is looked: an editor's dance is over by then.
const QUIET: Duration = Duration::from_millis(30);
/// So long after the first hint it is looked all the same.
const QUIET_MAX: Duration = Duration::from_millis(500);
/// Two looks so far apart that agree: nobody is writing any more.
const SETTLED: Duration = Duration::from_millis(20);
/// So long somebody who is writing is waited for. What he writes later is a change of its own.
const SETTLED_MAX: Duration = Duration::from_secs(2);

/// Who is told that something changed: the host, an author's build, or a test.
pub(crate) trait Reloads: Send + Sync {
    /// What is to be watched now.
    fn roots(&self) -> Arc<Roots>;
    /// How often it is looked without a hint.
    fn poll(&self) -> Duration;
    /// Takes over what has changed. False: it is worth trying again without another change.
    fn reload(&self) -> impl Future<Output = bool> + Send;
}

/// Watches until `stop`; a reload that runs then comes to its end. `known`: what was there when the configuration that
/// runs was read; if nobody knows that, it is reloaded first.
pub(super) async fn watch(reloads: impl Reloads, known: Option<Seen>, stop: CancellationToken) {
    let (tell, hints) = mpsc::channel(1);
    let eyes = Eyes::open(tell, &reloads.roots());
    Rounds { eyes, hints, early: None, stop }.go(reloads, known).await;
}

struct Rounds {
    eyes: Eyes,
    hints: mpsc::Receiver<()>,
    /// What was seen at the first hint, and when: if it is still so after the quiet, nobody is writing.
    early: Option<(Seen, Instant)>,
    stop: CancellationToken,
}

impl Rounds {
    async fn go(mut self, reloads: impl Reloads, mut known: Option<Seen>) {
        let (mut is_done, mut was_told) = (true, true);
        while !self.stop.is_cancelled() {
            let roots = reloads.roots();
            let now = self.follow(&roots).await;
            let is_new = known.as_ref() != Some(&now);
            if is_new && !was_told {
                self.eyes.doubt();
            }
            if is_new || !is_done {
                let settled = self.settle(&roots, now).await;
                is_done = reloads.reload().await;
                // Other paths than before: whether they changed since they were read, nobody knows.
                known = (reloads.roots() == roots).then_some(settled);
                if known.is_none() {
                    continue;
                }
            }
            was_told = self.wait(&reloads).await;
        }
    }

    /// Sets the watches, and looks: in this order, so that nothing falls between.
    async fn follow(&mut self, roots: &Arc<Roots>) -> Seen {
        let (mut eyes, roots) = (std::mem::take(&mut self.eyes), Arc::clone(roots));
        let looked = tokio::task::spawn_blocking(move || {
            eyes.follow(&roots);
            let seen = Seen::at(&roots);
            (eyes, seen)
        });
        match looked.await {
            Ok((eyes, seen)) => {
                self.eyes = eyes;
                seen
            }
            // Only at the end of the process. Without eyes, polls look.
            Err(_) => Seen::default(),
        }
    }

    /// Waits for a hint and the quiet after it, or for the next poll. True if it was a hint.
    async fn wait(&mut self, reloads: &impl Reloads) -> bool {
        self.early = None;
        tokio::select! {
            Some(()) = self.hints.recv() => {}
            () = sleep(reloads.poll()) => return false,
            () = self.stop.cancelled() => return false,
        }
        let began = Instant::now();
        let end = began + QUIET_MAX;
        self.early = Some((look(&reloads.roots()).await, began));
        loop {
            let quiet = (Instant::now() + QUIET).min(end);
            match timeout_at(quiet, self.hints.recv()).await {
                Ok(Some(())) if Instant::now() < end => {}
                _ => return true,
            }
        }
    }

    /// Looks until two looks agree and nobody has a file open that he has written to.
    async fn settle(&mut self, roots: &Arc<Roots>, mut now: Seen) -> Seen {
        let end = Instant::now() + SETTLED_MAX;
        let early = self.early.take();
        let mut is_quiet = early.is_some_and(|(seen, at)| seen == now && at.elapsed() >= SETTLED);
        while !is_quiet || self.eyes.sees_writing(&now) {
            if Instant::now() >= end {
                self.eyes.forget_writing();
                break;
            }
            sleep(SETTLED).await;
            let then = look(roots).await;
            is_quiet = then == now;
            now = then;
        }
        now
    }
}

async fn look(roots: &Arc<Roots>) -> Seen {
    let roots = Arc::clone(roots);
    // Fails only at the end of the process.
    tokio::task::spawn_blocking(move || Seen::at(&roots)).await.unwrap_or_default()
}

#[cfg(test)]
#[path = "rounds_tests.rs"]
mod tests;
