//! The journal of one turn: every host call with what it returned, so that a turn that is run again after a
//! crash neither makes nor pays a call twice, and can be replayed later.
//!
//! Entries are keyed by their place in the turn, who asks, the function and a digest of the arguments. If a run asks
//! something else at a place (another version, another configuration), the rest of the journal is void from
//! there on. Entry 0 is the turn's own time and randomness; each agent's part begins with an entry that names it,
//! so that a run that goes on with an agent finds its part, and never what another was told.

use chela_store::{Entry, Lease, Store};
use chela_types::{AgentId, Clock, Digest, Millis};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::Error;

/// The journal while its turn runs.
#[derive(Debug)]
pub(crate) struct Journal {
    store: Store,
    lease: Lease,
    clock: Arc<dyn Clock>,
    kept: BTreeMap<u32, Entry>,
    next: u32,
    /// Whose calls are written: nobody's, the router's, an agent's.
    who: String,
    /// Places that hold a failure which time may heal.
    failures: BTreeSet<u32>,
    /// The last place that holds what was paid for or written: an agent that came so far has got over what failed
    /// before it.
    last_effect: Option<u32>,
    start: Start,
}

/// What a turn starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Start {
    /// The virtual clock's base.
    pub(crate) now: Millis,
    /// Randomness is derived from it.
    pub(crate) seed: [u8; 32],
}

/// A place in the journal that is taken and not yet filled.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) seq: u32,
    function: &'static str,
    arguments: Digest,
}

/// What a place holds.
#[derive(Debug)]
pub(crate) enum Found<T> {
    /// The call was made before; this came back, at that time.
    Kept(T, Millis),
    /// It is to be made.
    Fresh(Place),
}

const START: &str = "turn.start";
/// The beginning of an agent's part.
const AGENT: &str = "turn.agent";
/// Stands behind the function's name where an entry holds a failure that time may heal.
const FAILED: &str = "!";

impl Journal {
    /// Reads what an earlier run of the turn has left, and starts the turn's clock and randomness.
    pub(crate) async fn open(store: Store, lease: Lease, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let kept: BTreeMap<u32, Entry> =
            store.journal(&lease).await?.into_iter().map(|entry| (entry.seq, entry)).collect();
        let fresh = Start { now: clock.now(), seed: rand::random() };
        let mut journal = Self {
            store,
            lease,
            clock,
            kept,
            next: 0,
            who: String::new(),
            failures: BTreeSet::new(),
            last_effect: None,
            start: fresh,
        };
        journal.forget_failed_run().await?;
        match journal.place::<Start>(START, &()).await? {
            Found::Kept(start, _) => journal.start = start,
            Found::Fresh(place) => {
                // Needs no wait of its own: writes are in order, and a call's reservation is awaited.
                let entry = journal.entry(&place, &fresh)?;
                journal.store.record_behind(&journal.lease, entry).await?;
            }
        }
        Ok(journal)
    }

    /// A run that the host's end cut off left a failure behind: this run asks again from there.
    async fn forget_failed_run(&mut self) -> Result<(), Error> {
        let failed = |entry: &&Entry| entry.function.ends_with(FAILED);
        let failures = self.kept.values().filter(failed).map(|entry| entry.seq);
        let effects = self.kept.values().filter(|entry| is_effect(&entry.function)).map(|entry| entry.seq);
        if let Some(seq) = to_heal(failures, effects.max()) {
            self.store.discard_journal_from(&self.lease, seq).await?;
            self.kept.split_off(&seq);
        }
        Ok(())
    }

    /// What follows is asked by the router.
    pub(crate) fn begin_router(&mut self) {
        self.who = "router".to_owned();
    }

    /// What follows is asked by this agent.
    pub(crate) async fn begin_agent(&mut self, agent: &AgentId) -> Result<(), Error> {
        self.who = agent_part(agent);
        if let Found::Fresh(place) = self.place::<()>(AGENT, &()).await? {
            self.fill_behind(&place, &()).await?;
        }
        Ok(())
    }

    /// Goes on after a kept decision for `agent`: its last part is next, or what comes after everything that is
    /// kept. Returns how many agents handed the turn over before it.
    pub(crate) fn resume(&mut self, agent: &AgentId) -> Result<usize, Error> {
        let own = digest(AGENT, &agent_part(agent), &())?;
        let parts: Vec<&Entry> = self.kept.values().filter(|entry| entry.function == AGENT).collect();
        let before = parts.iter().rposition(|part| part.arguments == own);
        let after_all = self.kept.keys().last().map_or(0, |last| last + 1);
        self.next = before.and_then(|at| parts.get(at)).map_or(after_all, |part| part.seq).max(self.next);
        Ok(before.unwrap_or(parts.len()))
    }

    pub(crate) fn start(&self) -> Start {
        self.start
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Takes the next place for a call of `function` with `arguments`.
    pub(crate) async fn place<T: DeserializeOwned>(
        &mut self,
        function: &'static str,
        arguments: &impl Serialize,
    ) -> Result<Found<T>, Error> {
        let arguments = digest(function, &self.who, arguments)?;
        let place = Place { seq: self.next, function, arguments };
        self.next += 1;
        let Some(entry) = self.kept.get(&place.seq) else { return Ok(Found::Fresh(place)) };
        let failed = entry.function.strip_suffix(FAILED);
        let same = failed.unwrap_or(&entry.function) == function && entry.arguments == arguments;
        if let Some(value) = same.then(|| serde_json::from_slice(&entry.value).ok()).flatten() {
            let (at, failed) = (entry.at, failed.is_some());
            self.note(place.seq, function, failed);
            return Ok(Found::Kept(value, at));
        }
        tracing::info!(turn = %self.lease.turn(), seq = place.seq, function, "journal diverges; the rest is void");
        self.store.discard_journal_from(&self.lease, place.seq).await?;
        self.kept.split_off(&place.seq);
        Ok(Found::Fresh(place))
    }

    /// Fills a place, durably, before the guest hears of the result.
    pub(crate) async fn fill<T: Serialize>(&mut self, place: &Place, value: &T) -> Result<Millis, Error> {
        let entry = self.entry(place, value)?;
        let at = entry.at;
        self.store.record(&self.lease, entry).await?;
        Ok(at)
    }

    /// Fills a place without waiting for the disk: for what costs nothing to ask again. The writer is in order,
    /// so it is there before anything that is awaited later.
    pub(crate) async fn fill_behind<T: Serialize>(
        &mut self,
        place: &Place,
        value: &T,
    ) -> Result<Millis, Error> {
        let entry = self.entry(place, value)?;
        let at = entry.at;
        self.store.record_behind(&self.lease, entry).await?;
        Ok(at)
    }

    /// The entry that belongs into a place, for writes that take their entry along.
    pub(crate) fn entry<T: Serialize>(&mut self, place: &Place, value: &T) -> Result<Entry, Error> {
        let value = serde_json::to_vec(value)
            .map_err(|error| Error::Configuration(format!("journal value cannot be written: {error}")))?;
        let failed = self.failures.contains(&place.seq);
        self.note(place.seq, place.function, failed);
        let mark = if failed { FAILED } else { "" };
        Ok(Entry {
            seq: place.seq,
            function: format!("{}{mark}", place.function),
            arguments: place.arguments,
            value,
            at: self.clock.now(),
        })
    }

    /// Marks that this place holds a failure that a later try should not see again.
    pub(crate) fn failed(&mut self, place: &Place) {
        self.failures.insert(place.seq);
    }

    fn note(&mut self, seq: u32, function: &str, failed: bool) {
        if failed {
            self.failures.insert(seq);
        } else if is_effect(function) {
            self.last_effect = self.last_effect.max(Some(seq));
        }
    }

    /// Before a later try: forgets what failed, and everything that followed from it, unless something was paid for or
    /// written after it. False if there is nothing to ask again.
    pub(crate) async fn forget_failures(&self) -> Result<bool, Error> {
        let Some(seq) = to_heal(self.failures.iter().copied(), self.last_effect) else { return Ok(false) };
        self.store.discard_journal_from(&self.lease, seq).await?;
        Ok(true)
    }

    /// Before the turn is run anew at a later time.
    pub(crate) async fn forget(&self) -> Result<(), Error> {
        Ok(self.store.discard_journal_from(&self.lease, 0).await?)
    }
}

/// The first failure behind the last effect: from there on a later try asks again. What was paid for is not paid again.
fn to_heal(failures: impl Iterator<Item = u32>, last_effect: Option<u32>) -> Option<u32> {
    failures.filter(|seq| last_effect.is_none_or(|effect| *seq > effect)).min()
}

/// Whether the function of an entry that holds no failure costs money or changes something.
fn is_effect(function: &str) -> bool {
    !function.ends_with(FAILED)
        && (function.starts_with("models.") || matches!(function, "memory.set" | "memory.compare-and-set"))
}

fn agent_part(agent: &AgentId) -> String {
    format!("agent {agent}")
}

fn digest(function: &str, who: &str, arguments: &impl Serialize) -> Result<Digest, Error> {
    let bytes = serde_json::to_vec(arguments)
        .map_err(|error| Error::Configuration(format!("arguments cannot be written: {error}")))?;
    Ok(Digest::of("chela journal arguments", &[function.as_bytes(), who.as_bytes(), &bytes]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    async fn open(bench: &Bench) -> Journal {
        let clock = Arc::new(chela_types::SystemClock);
        Journal::open(bench.store.clone(), bench.claimed.lease.clone(), clock).await.unwrap()
    }

    /// Asks `search` and keeps `value`; what was kept before, if there was something.
    async fn search(journal: &mut Journal, value: &str) -> Option<String> {
        match journal.place::<String>("knowledge.search", &("question", 4)).await.unwrap() {
            Found::Kept(kept, _) => Some(kept),
            Found::Fresh(place) => {
                journal.fill(&place, &value).await.unwrap();
                None
            }
        }
    }

    fn agent(name: &str) -> AgentId {
        AgentId::new(name).unwrap()
    }

    #[tokio::test]
    async fn a_colleague_never_hears_what_another_agent_was_told() {
        let bench = Bench::new().await;
        let mut journal = open(&bench).await;
        journal.begin_agent(&agent("hr")).await.unwrap();
        assert_eq!(search(&mut journal, "salaries").await, None);
        // It hands over, and the run ends before the colleague has asked anything.
        let mut journal = open(&bench).await;
        assert_eq!(journal.resume(&agent("sales")).unwrap(), 1, "one agent handed over");
        journal.begin_agent(&agent("sales")).await.unwrap();
        assert_eq!(search(&mut journal, "prices").await, None, "the same question of somebody else");
        // And the colleague goes on with what itself was told.
        let mut journal = open(&bench).await;
        assert_eq!(journal.resume(&agent("sales")).unwrap(), 1);
        journal.begin_agent(&agent("sales")).await.unwrap();
        assert_eq!(search(&mut journal, "").await.as_deref(), Some("prices"));
    }

    #[tokio::test]
    async fn an_agent_goes_on_behind_the_router_that_chose_it() {
        let bench = Bench::new().await;
        let mut journal = open(&bench).await;
        journal.begin_router();
        assert_eq!(search(&mut journal, "of the router").await, None);
        journal.begin_agent(&agent("sales")).await.unwrap();
        assert_eq!(search(&mut journal, "of the agent").await, None);
        let mut resumed = open(&bench).await;
        assert_eq!(resumed.resume(&agent("sales")).unwrap(), 0);
        resumed.begin_agent(&agent("sales")).await.unwrap();
        assert_eq!(search(&mut resumed, "").await.as_deref(), Some("of the agent"));
        let mut anew = open(&bench).await;
        anew.begin_router();
        assert_eq!(
            search(&mut anew, "").await.as_deref(),
            Some("of the router"),
            "undecided, it starts there"
        );
    }

    /// Asks a model; `None`: it fails in a way that time may heal. True if the journal had the answer.
    async fn ask(journal: &mut Journal, prompt: &str, answer: Option<&str>) -> bool {
        match journal.place::<Option<String>>("models.complete", &prompt).await.unwrap() {
            Found::Kept(..) => true,
            Found::Fresh(place) => {
                if answer.is_none() {
                    journal.failed(&place);
                }
                journal.fill(&place, &answer).await.unwrap();
                false
            }
        }
    }

    #[tokio::test]
    async fn what_was_paid_for_behind_a_failure_is_not_asked_again() {
        let bench = Bench::new().await;
        for crashes in [true, false] {
            let mut journal = open(&bench).await;
            journal.begin_agent(&agent("sales")).await.unwrap();
            // The dear model is not there, the cheap one answers; then a third call fails.
            let before = !crashes;
            assert_eq!(ask(&mut journal, "dear", None).await, before);
            assert_eq!(ask(&mut journal, "cheap", Some("yes")).await, before);
            assert!(!ask(&mut journal, "third", None).await, "a failure at the end is asked again");
            if !crashes {
                assert!(journal.forget_failures().await.unwrap(), "the third call was an outage");
            }
        }
        let mut journal = open(&bench).await;
        journal.begin_agent(&agent("sales")).await.unwrap();
        assert!(ask(&mut journal, "dear", None).await && ask(&mut journal, "cheap", None).await);
        assert!(
            !journal.forget_failures().await.unwrap(),
            "the agent got over it: nothing is to be asked again"
        );
    }

    #[tokio::test]
    async fn a_turn_that_comes_back_to_an_agent_goes_on_with_its_second_part() {
        let bench = Bench::new().await;
        let mut journal = open(&bench).await;
        for (name, value) in [("a", "first"), ("b", "other"), ("a", "second")] {
            journal.begin_agent(&agent(name)).await.unwrap();
            assert_eq!(search(&mut journal, value).await, None);
        }
        let mut resumed = open(&bench).await;
        assert_eq!(resumed.resume(&agent("a")).unwrap(), 2);
        resumed.begin_agent(&agent("a")).await.unwrap();
        assert_eq!(search(&mut resumed, "").await.as_deref(), Some("second"));
    }
}
