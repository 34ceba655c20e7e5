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
        let failed = self.kept.values().find(|entry| entry.function.ends_with(FAILED)).map(|entry| entry.seq);
        if let Some(seq) = failed {
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
        let same = entry.function == function && entry.arguments == arguments;
        if let Some(value) = same.then(|| serde_json::from_slice(&entry.value).ok()).flatten() {
            return Ok(Found::Kept(value, entry.at));
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
    pub(crate) async fn fill_behind<T: Serialize>(&self, place: &Place, value: &T) -> Result<Millis, Error> {
        let entry = self.entry(place, value)?;
        let at = entry.at;
        self.store.record_behind(&self.lease, entry).await?;
        Ok(at)
    }

    /// The entry that belongs into a place, for writes that take their entry along.
    pub(crate) fn entry<T: Serialize>(&self, place: &Place, value: &T) -> Result<Entry, Error> {
        let value = serde_json::to_vec(value)
            .map_err(|error| Error::Configuration(format!("journal value cannot be written: {error}")))?;
        let mark = if self.failures.contains(&place.seq) { FAILED } else { "" };
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

    /// Before a later try: forgets what failed, and everything that followed from it. False if nothing did.
    pub(crate) async fn forget_failures(&self) -> Result<bool, Error> {
        let Some(seq) = self.failures.first() else { return Ok(false) };
        self.store.discard_journal_from(&self.lease, *seq).await?;
        Ok(true)
    }

    /// Before the turn is run anew at a later time.
    pub(crate) async fn forget(&self) -> Result<(), Error> {
        Ok(self.store.discard_journal_from(&self.lease, 0).await?)
    }
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
