//! One version while it serves: how it does, whether it is still on trial, and who is told when it must go.
//!
//! On trial, a version has few slots. A call takes one and gives it back if it ends well; a call that fails keeps it.
//! So whatever a new version does, and however many messages arrive at once, no more than that many of them meet it
//! before it has shown that it works; the others go to the version before.

use chela_types::{Digest, PluginId};
use metrics::{Counter, Histogram};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

use super::health::Health;
use super::shadow::Tally;
use crate::config::SwapConfig;

/// A version that must go. At most one is sent for each watch.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) plugin: PluginId,
    pub(crate) digest: Digest,
    pub(crate) why: String,
}

/// One version of one plugin, loaded.
pub(crate) struct Release {
    pub(crate) plugin: PluginId,
    pub(crate) digest: Digest,
    /// As its manifest says.
    pub(crate) version: String,
    /// How its shadow run compares.
    pub(crate) tally: Arc<Tally>,
    /// It must go: nothing new is begun with it.
    withdrawn: AtomicBool,
    state: Mutex<State>,
    meters: Meters,
}

#[derive(Debug)]
struct State {
    health: Health,
    /// Taken slots of the trial.
    taken: u32,
    /// Of those, by calls that failed or were slow.
    spent: u32,
    /// Calls that ended well on trial.
    proven: u32,
    watch: Option<Watch>,
}

/// What a version is held against while it is new.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    pub(crate) against: Arc<Release>,
    pub(crate) bounds: SwapConfig,
    /// Whether its calls are rationed at first.
    pub(crate) on_trial: bool,
    pub(crate) tell: UnboundedSender<Verdict>,
}

struct Meters {
    good: Counter,
    bad: Counter,
    rescued: Counter,
    seconds: Histogram,
}

impl std::fmt::Debug for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Release({} {})", self.plugin, self.digest.short())
    }
}

/// What became of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Seen<'a> {
    /// It ended well, and sent the message there.
    Good(&'a str),
    /// It failed by the version's fault.
    Bad(&'static str),
    /// It says nothing of the version.
    Nothing,
}

/// A call that runs, until it is seen how it ended.
#[derive(Debug)]
pub(crate) struct Running {
    release: Arc<Release>,
    began: Instant,
    has_slot: bool,
}

impl Release {
    pub(crate) fn new(plugin: PluginId, digest: Digest, version: String) -> Self {
        let meters = Meters::of(plugin.as_str(), &digest.short());
        let state = State { health: Health::new(), taken: 0, spent: 0, proven: 0, watch: None };
        Self {
            plugin,
            digest,
            version,
            tally: Arc::default(),
            withdrawn: AtomicBool::new(false),
            state: Mutex::new(state),
            meters,
        }
    }

    /// Nothing new is begun with it, unless nothing else is there.
    pub(crate) fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Release);
    }

    /// Somebody wants it to serve all the same.
    pub(crate) fn reinstate(&self) {
        self.withdrawn.store(false, Ordering::Release);
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Acquire)
    }

    /// From now on it is held against another; what it did before does not count.
    pub(crate) fn watch(&self, watch: Option<Watch>) {
        let mut state = self.state.lock();
        if watch.is_some() {
            (state.health, state.taken, state.spent, state.proven) = (Health::new(), 0, 0, 0);
            self.withdrawn.store(false, Ordering::Release);
        }
        state.watch = watch;
    }

    pub(crate) fn is_on_trial(&self) -> bool {
        self.state.lock().is_on_trial()
    }

    pub(crate) fn health(&self) -> Health {
        self.state.lock().health.clone()
    }

    /// Begins a call, if the trial has a slot for it.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Running> {
        let mut state = self.state.lock();
        let has_slot = state.is_on_trial();
        if has_slot {
            let slots = state.watch.as_ref().map_or(0, |watch| watch.bounds.trial_calls);
            if state.taken >= slots {
                return None;
            }
            state.taken += 1;
        }
        Some(Running { release: Arc::clone(self), began: Instant::now(), has_slot })
    }

    /// Begins a call, whatever the trial says: there is no other version for it.
    pub(crate) fn enter_anyway(self: &Arc<Self>) -> Running {
        Running { release: Arc::clone(self), began: Instant::now(), has_slot: false }
    }
}

impl State {
    fn is_on_trial(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.on_trial && self.proven < watch.bounds.trial_calls)
    }

    /// Takes a call in; why the version must go, if it must.
    fn take(&mut self, seen: Seen<'_>, took: Duration, has_slot: bool) -> Option<(Watch, String)> {
        let watch = self.watch.clone();
        let before = watch.as_ref().map(|watch| watch.against.health());
        let is_slow = watch
            .as_ref()
            .zip(before.as_ref())
            .is_some_and(|(watch, before)| before.would_call_slow(took, &watch.bounds));
        let is_well = match seen {
            Seen::Good(to) => {
                self.health.good(took, to);
                !is_slow
            }
            Seen::Bad(kind) => {
                self.health.bad(took, kind);
                false
            }
            Seen::Nothing => {
                self.taken = self.taken.saturating_sub(u32::from(has_slot));
                return None;
            }
        };
        if is_well {
            self.taken = self.taken.saturating_sub(u32::from(has_slot));
            self.proven = self.proven.saturating_add(1);
        } else {
            self.spent = self.spent.saturating_add(u32::from(has_slot));
            if matches!(seen, Seen::Good(_)) {
                self.health.is_slow();
            }
        }
        let (watch, before) = (watch?, before?);
        let used_up = self.is_on_trial() && self.spent >= watch.bounds.trial_calls;
        let why = self.health.verdict(&before, &watch.bounds).or_else(|| {
            used_up.then(|| "on trial, it failed or was slow in as many calls as it was given".to_owned())
        })?;
        self.watch = None;
        Some((watch, why))
    }
}

impl Running {
    pub(crate) fn release(&self) -> &Arc<Release> {
        &self.release
    }

    /// The call has ended.
    pub(crate) fn end(mut self, seen: Seen<'_>) {
        let took = self.began.elapsed();
        let release = Arc::clone(&self.release);
        match seen {
            Seen::Good(_) => release.meters.good.increment(1),
            Seen::Bad(_) => release.meters.bad.increment(1),
            Seen::Nothing => {}
        }
        if !matches!(seen, Seen::Nothing) {
            release.meters.seconds.record(took);
        }
        let has_slot = std::mem::take(&mut self.has_slot);
        let Some((watch, why)) = release.state.lock().take(seen, took, has_slot) else { return };
        release.withdraw();
        let verdict = Verdict { plugin: release.plugin.clone(), digest: release.digest, why };
        // Nobody listens in a host that stops.
        let _ = watch.tell.send(verdict);
    }

    /// Another version took the call over, and nobody saw a failure.
    pub(crate) fn is_rescued(&self) {
        self.release.meters.rescued.increment(1);
    }
}

impl Drop for Running {
    /// A call that nobody saw the end of gives its slot back.
    fn drop(&mut self) {
        if self.has_slot {
            let mut state = self.release.state.lock();
            state.taken = state.taken.saturating_sub(1);
        }
    }
}

impl Meters {
    fn of(plugin: &str, digest: &str) -> Self {
        let calls = |outcome: &'static str| metrics::counter!("version_calls_total", "plugin" => plugin.to_owned(), "version" => digest.to_owned(), "outcome" => outcome);
        Self {
            good: calls("good"),
            bad: calls("failed"),
            rescued: metrics::counter!("version_rescued_total", "plugin" => plugin.to_owned(), "version" => digest.to_owned()),
            seconds: metrics::histogram!("version_call_seconds", "plugin" => plugin.to_owned(), "version" => digest.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    fn release(byte: u8) -> Arc<Release> {
        let digest = Digest::from_bytes([byte; 32]);
        Arc::new(Release::new(PluginId::new("router").unwrap(), digest, "1.0.0".to_owned()))
    }

    fn on_trial() -> (Arc<Release>, UnboundedReceiver<Verdict>) {
        let (tell, told) = unbounded_channel();
        let (old, new) = (release(1), release(2));
        for _ in 0..100 {
            old.enter().unwrap().end(Seen::Good("a"));
        }
        new.watch(Some(Watch { against: old, bounds: SwapConfig::STANDARD, on_trial: true, tell }));
        (new, told)
    }

    #[test]
    fn a_trial_lets_few_in_at_once_and_opens_with_each_that_ends_well() {
        let (new, _told) = on_trial();
        let mut running: Vec<_> = std::iter::from_fn(|| new.enter()).collect();
        assert_eq!(running.len(), 16);
        running.pop().unwrap().end(Seen::Good("a"));
        let next = new.enter().unwrap();
        assert!(new.enter().is_none());
        drop(next);
        assert!(new.enter().is_some(), "a call that was given up takes no slot");
        running.into_iter().for_each(|run| run.end(Seen::Good("a")));
        assert!(!new.is_on_trial(), "16 ended well");
        assert_eq!(std::iter::from_fn(|| new.enter()).take(100).count(), 100);
    }

    #[test]
    fn one_that_fails_is_withdrawn_and_told_once() {
        let (new, mut told) = on_trial();
        let running: Vec<_> = std::iter::from_fn(|| new.enter()).collect();
        running.into_iter().for_each(|run| run.end(Seen::Bad("trap")));
        assert!(new.is_withdrawn());
        let verdict = told.try_recv().unwrap();
        assert!(verdict.why.contains("3 of 3"), "{}", verdict.why);
        assert!(told.try_recv().is_err(), "once");
    }

    #[test]
    fn failures_that_are_few_use_the_trial_up() {
        let (new, mut told) = on_trial();
        // One failure in three is below half and the calls are few: the slots end it.
        for call in 0..40 {
            let Some(run) = new.enter() else { break };
            run.end(if call % 3 == 0 { Seen::Bad("trap") } else { Seen::Good("a") });
        }
        assert!(new.is_withdrawn() && told.try_recv().is_ok());
    }
}
