//! One version while it serves: how it does, whether it is still on trial, and who is told when it must go.
//!
//! On trial, a version has few slots for each question that it is asked: a channel's adapter that reads well has not shown
//! yet that it delivers. A call takes one and gives it back if it ends well; a call that fails keeps it. So whatever a new version does, and however many messages arrive at once, no more than that many of them meet it
//! before it has shown that it works; the others go to the version before.

use chela_types::{Digest, PluginId};
use metrics::{Counter, SharedString};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

use super::health::{Health, Lately, Went};
use super::shadow::Tally;
use crate::config::SwapConfig;

/// A watched version is judged with each call that fails or is slow, and with each of so many others.
const JUDGED_EVERY: u64 = 4;

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
    /// By what it was asked.
    trials: BTreeMap<&'static str, Trial>,
    watch: Option<Watch>,
    /// What the version before did of late, as it was last looked at.
    before: Lately,
    /// When the version before did no better in the same call, for the last time.
    nobody_did: Option<Instant>,
}

/// How far a version has come with one question.
#[derive(Debug, Clone, Copy, Default)]
struct Trial {
    /// Slots that are taken.
    taken: u32,
    /// Of those, by calls that failed or were slow.
    spent: u32,
    /// Calls that ended well.
    proven: u32,
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

/// Names of a version's series. They are looked up for each call: one that has not moved for long may be gone.
struct Meters {
    plugin: SharedString,
    digest: SharedString,
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
    Good(Went<'a>),
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
    /// In the trial of this question.
    slot: Option<&'static str>,
}

/// A call that another version does once more: what it says of the first one turns on whether that one does better.
/// Dropped, it says nothing.
#[derive(Debug)]
pub(crate) struct Doubt {
    running: Running,
    took: Duration,
    if_better: Seen<'static>,
    otherwise: Seen<'static>,
}

impl Release {
    pub(crate) fn new(plugin: PluginId, digest: Digest, version: String) -> Self {
        let meters = Meters::of(plugin.as_str(), &digest.short());
        let state = State {
            health: Health::default(),
            trials: BTreeMap::new(),
            watch: None,
            before: Lately::default(),
            nobody_did: None,
        };
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
        let before = watch.as_ref().map(|watch| watch.against.lately(&watch.bounds)).unwrap_or_default();
        let mut state = self.state.lock();
        if watch.is_some() {
            (state.health, state.trials) = (Health::default(), BTreeMap::new());
            self.withdrawn.store(false, Ordering::Release);
        }
        (state.watch, state.before) = (watch, before);
    }

    pub(crate) fn is_on_trial(&self) -> bool {
        self.state.lock().is_on_trial()
    }

    pub(crate) fn health(&self) -> Health {
        self.state.lock().health.clone()
    }

    fn lately(&self, bounds: &SwapConfig) -> Lately {
        self.state.lock().health.lately(bounds)
    }

    /// Looks whether it must go. Two versions may be held against each other: neither is locked while the other is.
    fn judge(&self) {
        let Some(watch) = self.state.lock().watch.clone() else { return };
        let before = watch.against.lately(&watch.bounds);
        let Some(why) = self.state.lock().verdict(&watch, before) else { return };
        self.withdraw();
        let verdict = Verdict { plugin: self.plugin.clone(), digest: self.digest, why };
        // Nobody listens in a host that stops.
        let _ = watch.tell.send(verdict);
    }

    /// Begins a call, if the trial has a slot for what is asked.
    pub(crate) fn enter(self: &Arc<Self>, asked: &'static str) -> Option<Running> {
        let mut state = self.state.lock();
        let slots = state.slots();
        let trial = state.trials.entry(asked).or_default();
        let slot = (trial.proven < slots).then_some(asked);
        if slot.is_some() {
            if trial.taken >= slots {
                return None;
            }
            trial.taken += 1;
        }
        Some(Running { release: Arc::clone(self), began: Instant::now(), slot })
    }

    /// Begins a call, whatever the trial says: there is no other version for it.
    pub(crate) fn enter_anyway(self: &Arc<Self>) -> Running {
        Running { release: Arc::clone(self), began: Instant::now(), slot: None }
    }
}

impl State {
    /// Of each trial; none if it has none.
    fn slots(&self) -> u32 {
        self.watch.as_ref().filter(|watch| watch.on_trial).map_or(0, |watch| watch.bounds.trial_calls)
    }

    /// Until it has shown of everything that it was asked that it does it well, and of something.
    fn is_on_trial(&self) -> bool {
        let slots = self.slots();
        slots > 0 && (self.trials.is_empty() || self.trials.values().any(|trial| trial.proven < slots))
    }

    fn give_back(&mut self, slot: Option<&'static str>) {
        if let Some(trial) = slot.and_then(|asked| self.trials.get_mut(asked)) {
            trial.taken = trial.taken.saturating_sub(1);
        }
    }

    /// Takes a call in; whether the version is to be judged now.
    fn take(&mut self, seen: Seen<'_>, took: Duration, slot: Option<&'static str>) -> bool {
        let is_slow =
            self.watch.as_ref().is_some_and(|watch| self.before.would_call_slow(took, &watch.bounds));
        let is_well = match seen {
            Seen::Good(went) => {
                self.health.good(took, went, is_slow);
                !is_slow
            }
            Seen::Bad(kind) => {
                self.health.bad(took, kind);
                false
            }
            Seen::Nothing => {
                self.give_back(slot);
                return false;
            }
        };
        match (seen, slot) {
            (Seen::Good(Went { asked, .. }), _) if is_well => {
                self.give_back(slot);
                let trial = self.trials.entry(asked).or_default();
                trial.proven = trial.proven.saturating_add(1);
            }
            (_, Some(asked)) => {
                let trial = self.trials.entry(asked).or_default();
                trial.spent = trial.spent.saturating_add(1);
            }
            _ => {}
        }
        self.watch.is_some() && (!is_well || self.health.calls.is_multiple_of(JUDGED_EVERY))
    }

    /// Why the version must go, if it must, and the watch is still the same. That ends it.
    fn verdict(&mut self, watch: &Watch, before: Lately) -> Option<String> {
        self.watch.as_ref().filter(|now| Arc::ptr_eq(&now.against, &watch.against))?;
        let bounds = &watch.bounds;
        let why =
            self.health.lately(bounds).verdict(&before, bounds).or_else(|| self.used_up(&before, bounds));
        self.before = before;
        if why.is_some() {
            self.watch = None;
        }
        why
    }

    /// All slots of a trial are spent. Where the version before does no better, that says nothing, and it is over.
    fn used_up(&mut self, before: &Lately, bounds: &SwapConfig) -> Option<String> {
        let slots = self.slots();
        let is_spent = |trial: &&mut Trial| trial.proven < slots && trial.spent >= slots;
        let trial = self.trials.values_mut().find(is_spent)?;
        let share = f64::from(trial.spent) * 100.0 / f64::from(trial.spent.saturating_add(trial.proven));
        if before.excuses(share, bounds) {
            trial.proven = slots;
            return None;
        }
        Some("on trial, it failed or was slow in as many calls as it was given".to_owned())
    }
}

impl Running {
    pub(crate) fn release(&self) -> &Arc<Release> {
        &self.release
    }

    /// The call has ended.
    pub(crate) fn end(self, seen: Seen<'_>) {
        let took = self.began.elapsed();
        self.end_after(took, seen);
    }

    /// The call has ended, and what that says is not known yet.
    pub(crate) fn doubt(self, if_better: Seen<'static>, otherwise: Seen<'static>) -> Doubt {
        Doubt { took: self.began.elapsed(), running: self, if_better, otherwise }
    }

    fn end_after(mut self, took: Duration, seen: Seen<'_>) {
        let release = Arc::clone(&self.release);
        match seen {
            Seen::Good(_) => release.meters.count("good", took),
            Seen::Bad(_) => release.meters.count("failed", took),
            Seen::Nothing => {}
        }
        let slot = self.slot.take();
        let is_due = release.state.lock().take(seen, took, slot);
        if is_due {
            release.judge();
        }
    }

    /// Counts that another version took the call over, and nobody saw a failure.
    pub(crate) fn count_rescue(&self) {
        self.release.meters.rescued().increment(1);
    }
}

impl Doubt {
    /// The other version has done better in the same call, or not. What nobody could do a moment ago, an outage that
    /// ends here, says nothing of either.
    pub(crate) fn end(self, is_better: bool) {
        let Self { running, took, if_better, otherwise } = self;
        if is_better {
            running.count_rescue();
        }
        let is_outage = {
            let mut state = running.release.state.lock();
            if !is_better && matches!(otherwise, Seen::Nothing) {
                state.nobody_did = Some(Instant::now());
            }
            matches!(otherwise, Seen::Nothing) && state.nobody_did.is_some_and(|at| at >= running.began)
        };
        running.end_after(took, if is_better && !is_outage { if_better } else { otherwise });
    }
}

impl Drop for Running {
    /// A call that nobody saw the end of gives its slot back.
    fn drop(&mut self) {
        if self.slot.is_some() {
            self.release.state.lock().give_back(self.slot);
        }
    }
}

impl Meters {
    fn of(plugin: &str, digest: &str) -> Self {
        let shared = |name: &str| SharedString::from_shared(name.into());
        let meters = Self { plugin: shared(plugin), digest: shared(digest) };
        // Zero is to be seen, too.
        for zero in [meters.rescued(), meters.calls("good"), meters.calls("failed")] {
            zero.increment(0);
        }
        meters
    }

    fn count(&self, outcome: &'static str, took: Duration) {
        self.calls(outcome).increment(1);
        let (plugin, version) = (self.plugin.clone(), self.digest.clone());
        metrics::histogram!("version_call_seconds", "plugin" => plugin, "version" => version).record(took);
    }

    fn calls(&self, outcome: &'static str) -> Counter {
        let (plugin, version) = (self.plugin.clone(), self.digest.clone());
        metrics::counter!("version_calls_total", "plugin" => plugin, "version" => version, "outcome" => outcome)
    }

    fn rescued(&self) -> Counter {
        let (plugin, version) = (self.plugin.clone(), self.digest.clone());
        metrics::counter!("version_rescued_total", "plugin" => plugin, "version" => version)
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

    const WELL: Seen<'static> = Seen::Good(Went { asked: "route", to: "a" });

    fn on_trial() -> (Arc<Release>, UnboundedReceiver<Verdict>) {
        let (tell, told) = unbounded_channel();
        let (old, new) = (release(1), release(2));
        for _ in 0..100 {
            old.enter("route").unwrap().end(WELL);
        }
        new.watch(Some(Watch { against: old, bounds: SwapConfig::STANDARD, on_trial: true, tell }));
        (new, told)
    }

    #[test]
    fn a_trial_lets_few_in_at_once_and_opens_with_each_that_ends_well() {
        let (new, _told) = on_trial();
        let mut running: Vec<_> = std::iter::from_fn(|| new.enter("route")).collect();
        assert_eq!(running.len(), 16);
        running.pop().unwrap().end(WELL);
        let next = new.enter("route").unwrap();
        assert!(new.enter("route").is_none());
        drop(next);
        assert!(new.enter("route").is_some(), "a call that was given up takes no slot");
        running.into_iter().for_each(|run| run.end(WELL));
        assert!(!new.is_on_trial(), "16 ended well");
        assert_eq!(std::iter::from_fn(|| new.enter("route")).take(100).count(), 100);
    }

    #[test]
    fn what_does_one_thing_well_is_on_trial_for_the_other() {
        let (new, mut told) = on_trial();
        let went = |asked| Seen::Good(Went { asked, to: "a" });
        (0..40).for_each(|_| new.enter("receive").unwrap().end(went("receive")));
        assert!(!new.is_on_trial(), "nothing else was asked yet");
        let running: Vec<_> = std::iter::from_fn(|| new.enter("deliver")).take(100).collect();
        assert_eq!(running.len(), 16, "reading well opens no slot for delivering");
        assert!(new.is_on_trial());
        running.into_iter().for_each(|run| run.end(Seen::Bad("timeout")));
        assert!(told.try_recv().is_ok() && new.is_withdrawn());
    }

    #[test]
    fn one_that_fails_is_withdrawn_and_told_once() {
        let (new, mut told) = on_trial();
        let running: Vec<_> = std::iter::from_fn(|| new.enter("route")).collect();
        running.into_iter().for_each(|run| run.end(Seen::Bad("trap")));
        assert!(new.is_withdrawn());
        let verdict = told.try_recv().unwrap();
        assert!(verdict.why.contains("3 of 3"), "{}", verdict.why);
        assert!(told.try_recv().is_err(), "once");
    }

    #[test]
    fn two_versions_that_are_held_against_each_other_end_their_calls_at_once() {
        let (tell, _told) = unbounded_channel();
        let both = [release(1), release(2)];
        for (own, other) in [(0, 1), (1, 0)] {
            let against = Arc::clone(&both[other]);
            let watch = Watch { against, bounds: SwapConfig::STANDARD, on_trial: false, tell: tell.clone() };
            both[own].watch(Some(watch));
        }
        let (done, ended) = std::sync::mpsc::channel();
        for release in both {
            let done = done.clone();
            std::thread::spawn(move || {
                for _ in 0..20_000 {
                    release.enter_anyway().end(WELL);
                }
                done.send(()).unwrap();
            });
        }
        for _ in 0..2 {
            ended.recv_timeout(Duration::from_secs(60)).expect("neither waits for the other for ever");
        }
    }

    #[test]
    fn an_outage_that_ends_while_calls_run_says_nothing_of_the_version_that_waited() {
        let (new, mut told) = on_trial();
        let waited = || new.enter("route").unwrap().doubt(Seen::Bad("waiting"), Seen::Nothing);
        let running: Vec<_> = (0..8).map(|_| waited()).collect();
        waited().end(false);
        running.into_iter().for_each(|doubt| doubt.end(true));
        assert!(
            told.try_recv().is_err() && !new.is_withdrawn(),
            "the version before waited as well, just now"
        );
        (0..3).for_each(|_| waited().end(true));
        assert!(told.try_recv().unwrap().why.contains("3 of 3"));
    }

    #[test]
    fn a_trial_ends_where_the_version_before_fails_as_often() {
        let (new, mut told) = on_trial();
        let old = Arc::clone(&new.state.lock().watch.as_ref().unwrap().against);
        (0..400).for_each(|_| old.enter_anyway().end(Seen::Bad("trap")));
        for call in 0..64 {
            let Some(run) = new.enter("route") else { break };
            run.end(if call % 2 == 0 { Seen::Bad("trap") } else { WELL });
        }
        assert!(told.try_recv().is_err() && !new.is_withdrawn(), "half fails where four of five did");
        assert!(!new.is_on_trial() && new.enter("route").is_some(), "its failures do not lock it out");
    }

    #[test]
    fn failures_that_are_few_use_the_trial_up() {
        let (new, mut told) = on_trial();
        // One failure in three is below half and the calls are few: the slots end it.
        for call in 0..40 {
            let Some(run) = new.enter("route") else { break };
            run.end(if call % 3 == 0 { Seen::Bad("trap") } else { WELL });
        }
        assert!(new.is_withdrawn() && told.try_recv().is_ok());
    }
}
