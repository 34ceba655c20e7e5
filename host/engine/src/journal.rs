//! The journal of one turn: every host call with what it returned, so that a turn that is run again after a
//! crash neither makes nor pays a call twice, and can be replayed later.
//!
//! Entries are keyed by their place in the turn, who asks, the function and a digest of the arguments. If a run asks
//! something else at a place (another version, another configuration), the rest of the journal is void from
//! there on; what was paid for or written in it is set aside, and taken from there if it is asked for after all.
//! Entry 0 is the turn's own time and randomness; each part (one call of a router or an agent) begins with an entry
//! that names who asks, his version and what he was told, and ends with one that holds what he said. So a run that
//! goes on with an agent finds its part and its version, and never what another was told.

use chela_store::{Entry, Lease, Store};
use chela_types::{AgentId, Clock, Digest, Millis};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::Error;
use crate::swap::playback::Playback;
use crate::swap::recording::{Began, Ended, Part, Recording, Said};

/// The journal while its turn runs.
#[derive(Debug)]
pub(crate) struct Journal {
    backing: Backing,
    clock: Arc<dyn Clock>,
    kept: BTreeMap<u32, Entry>,
    /// What an earlier run has paid for or written, at places that this one does not come by.
    aside: Vec<Entry>,
    next: u32,
    /// Whose calls are written: nobody's, the router's, an agent's.
    who: String,
    /// Version of who asks.
    version: Option<Digest>,
    /// Where the part that runs begins.
    part: u32,
    /// Asked for, and not answered yet.
    pending: BTreeMap<u32, Asked>,
    /// Streams that the guest holds, with what it has taken of them.
    streams: BTreeMap<u32, (Place, Spoken)>,
    /// Places that hold a failure which time may heal.
    failures: BTreeSet<u32>,
    /// The last place that holds what was paid for or written: an agent that came so far has got over what failed
    /// before it.
    last_effect: Option<u32>,
    start: Start,
}

/// The pieces of a stream that its reader has taken.
pub(crate) type Spoken = Arc<parking_lot::Mutex<Vec<String>>>;

/// A stream as the journal keeps it: the pieces that the guest took, and the end if it came.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Streamed<E> {
    pub(crate) spoken: Vec<String>,
    pub(crate) end: Option<E>,
    /// It was not opened, and the end says why.
    #[serde(default)]
    pub(crate) refused: bool,
    /// The version that wanted no more of it. It will not the next time either; any other may.
    #[serde(default)]
    pub(crate) content: Option<Digest>,
}

/// Whose journal it is.
#[derive(Debug)]
enum Backing {
    /// A turn's, kept under its lease.
    Turn { store: Store, lease: Lease },
    /// A recorded part's that is run again; nothing of it is kept.
    Played(Playback),
}

/// What a turn starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Start {
    /// The virtual clock's base.
    pub(crate) now: Millis,
    /// Randomness is derived from it.
    pub(crate) seed: [u8; 32],
}

/// A call of the host: its place in the turn, and what is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(unreachable_pub, reason = "stands in the engine's own error, which is public; nobody else meets it")]
pub struct Asked {
    pub(crate) seq: u32,
    pub(crate) function: String,
    pub(crate) arguments: Digest,
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

pub(crate) const START: &str = "turn.start";
/// The beginning of a router's part, where it may ask for something.
pub(crate) const ROUTER: &str = "turn.router";
/// The beginning of an agent's part.
pub(crate) const AGENT: &str = "turn.agent";
/// The end of either.
pub(crate) const END: &str = "turn.end";
/// Stands behind the function's name where an entry holds a failure that time may heal.
const FAILED: &str = "!";
/// From here on lies what is set aside: beyond any place that a turn can come by.
const ASIDE: u32 = 1 << 28;

impl Journal {
    /// Reads what an earlier run of the turn has left, and starts the turn's clock and randomness.
    pub(crate) async fn open(store: Store, lease: Lease, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let mut kept: BTreeMap<u32, Entry> =
            store.journal(&lease).await?.into_iter().map(|entry| (entry.seq, entry)).collect();
        let aside = unused(kept.split_off(&ASIDE), &kept);
        let fresh = Start { now: clock.now(), seed: rand::random() };
        let mut journal = Self { aside, ..Self::new(Backing::Turn { store, lease }, clock, fresh) };
        journal.kept = kept;
        journal.forget_failed_run().await?;
        match journal.place::<Start>(START, &()).await? {
            Found::Kept(start, _) => journal.start = start,
            Found::Fresh(place) => {
                // Needs no wait of its own: writes are in order, and a call's reservation is awaited.
                journal.fill_behind(&place, &fresh).await?;
            }
        }
        Ok(journal)
    }

    /// The journal of a recorded part, for a run that leaves no trace.
    pub(crate) fn played(playback: Playback, (start, part): (Start, &Part), clock: Arc<dyn Clock>) -> Self {
        let heard = part.entries.iter().filter_map(|entry| Some((entry.seq, heard(part, entry)?)));
        let mut journal = Self::new(Backing::Played(playback), clock, start);
        (journal.kept, journal.next, journal.who) = (heard.collect(), part.first, part.began.who());
        journal
    }

    fn new(backing: Backing, clock: Arc<dyn Clock>, start: Start) -> Self {
        Self {
            backing,
            clock,
            kept: BTreeMap::new(),
            aside: Vec::new(),
            next: 0,
            who: String::new(),
            version: None,
            part: 0,
            pending: BTreeMap::new(),
            streams: BTreeMap::new(),
            failures: BTreeSet::new(),
            last_effect: None,
            start,
        }
    }

    /// An earlier run left a failure behind: this run asks again from there.
    async fn forget_failed_run(&mut self) -> Result<(), Error> {
        let failed = |entry: &&Entry| entry.function.ends_with(FAILED);
        let failures = self.kept.values().filter(failed).map(|entry| entry.seq);
        let effects = self.kept.values().filter(|entry| is_effect(&entry.function)).map(|entry| entry.seq);
        if let Some(seq) = to_heal(failures, effects.max()) {
            self.void_from(seq).await?;
        }
        Ok(())
    }

    /// What follows is asked by the router. A router that can ask for nothing leaves no beginning: its end says all.
    pub(crate) async fn begin_router(&mut self, began: &Began, may_ask: bool) -> Result<(), Error> {
        match may_ask {
            true => self.begin(ROUTER, began).await,
            false => {
                self.enter(began);
                Ok(())
            }
        }
    }

    /// What follows is asked by an agent.
    pub(crate) async fn begin_agent(&mut self, began: &Began) -> Result<(), Error> {
        self.begin(AGENT, began).await
    }

    async fn begin(&mut self, function: &'static str, began: &Began) -> Result<(), Error> {
        self.enter(began);
        match self.place::<Option<Began>>(function, &()).await? {
            Found::Kept(Some(kept), _) if kept == *began => Ok(()),
            Found::Kept(..) => {
                // Another version goes on with what is kept.
                let place = Place { seq: self.part, function, arguments: digest(function, &self.who, &())? };
                self.fill_anew(&place, began).await
            }
            Found::Fresh(place) => self.fill_behind(&place, began).await.map(|_| ()),
        }
    }

    fn enter(&mut self, began: &Began) {
        (self.who, self.version, self.part) = (began.who(), Some(began.version), self.next);
        self.pending.clear();
        self.streams.clear();
    }

    /// The part that runs is run once more, by another version: what it was told and has done stays.
    pub(crate) fn again(&mut self) {
        self.next = self.part;
        self.pending.clear();
        self.streams.clear();
    }

    /// The version that an earlier run of the part that is next was begun with.
    pub(crate) fn pinned(&self) -> Option<Digest> {
        self.kept.get(&self.next).filter(|entry| matches!(&*entry.function, AGENT | ROUTER))?.version
    }

    /// Keeps what the part's component said. Not awaited: what depends on it is written after it.
    pub(crate) async fn end(&mut self, ended: Ended) -> Result<(), Error> {
        let ended = Ended { pending: self.pending.values().cloned().collect(), ..ended };
        // Whoever failed might have read on.
        let content = self.version.filter(|_| matches!(ended.said, Said::Answered(_)));
        // Streams that were not read to their end, and not dropped.
        for (place, spoken) in std::mem::take(&mut self.streams).into_values() {
            let spoken = spoken.lock().clone();
            let streamed = Streamed::<()> { spoken, end: None, refused: false, content };
            self.fill_behind(&place, &streamed).await?;
        }
        let place = Place { seq: self.next, function: END, arguments: digest(END, &self.who, &())? };
        self.next += 1;
        // An earlier run went on from here: what it left behind is no part of this one.
        let is_where_it_ended = self.kept.get(&place.seq).is_some_and(|entry| entry.function == END);
        if !is_where_it_ended && self.kept.range(place.seq..).next().is_some() {
            self.void_from(place.seq).await?;
        }
        self.fill_anew(&place, &ended).await
    }

    /// The part that has just ended, for those that compare.
    pub(crate) fn recording(&self) -> Recording {
        Recording::of(self.kept.range(self.part..self.next).map(|(_, entry)| entry.clone()), self.start)
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

    /// The right to write to the turn; none where nothing is kept.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        match &self.backing {
            Backing::Turn { lease, .. } => Some(lease),
            Backing::Played(_) => None,
        }
    }

    /// What stands for the world where nothing is kept.
    pub(crate) fn playback(&mut self) -> Option<&mut Playback> {
        match &mut self.backing {
            Backing::Turn { .. } => None,
            Backing::Played(playback) => Some(playback),
        }
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
        if let Some(entry) = self.kept.get(&place.seq) {
            if let Some(value) = place.held_by(entry) {
                let (at, failed) = (entry.at, entry.function.ends_with(FAILED));
                self.note(place.seq, function, failed);
                return Ok(Found::Kept(value, at));
            }
            if let Backing::Turn { lease, .. } = &self.backing
                && entry.function != END
            {
                tracing::info!(turn = %lease.turn(), seq = place.seq, function, "journal diverges; the rest is void");
            }
        }
        self.leave(&place).await?;
        let asked = place.asked();
        if let Some(at) = self.aside.iter().position(|entry| place.is_of(entry)) {
            let entry = self.aside.swap_remove(at);
            if let Some(value) = place.held_by::<T>(&entry) {
                let at = entry.at;
                self.keep_behind(Entry { seq: place.seq, version: self.version, ..entry }).await?;
                self.note(place.seq, function, false);
                return Ok(Found::Kept(value, at));
            }
        }
        self.pending.insert(place.seq, asked);
        Ok(Found::Fresh(place))
    }

    /// A run leaves what is kept at this place: the rest is void, or, where a recording is played, not there.
    async fn leave(&mut self, place: &Place) -> Result<(), Error> {
        if let Backing::Played(playback) = &mut self.backing {
            playback.leave(place.asked())?;
            self.kept.split_off(&place.seq);
            return Ok(());
        }
        // A place that is empty was not filled in time; what follows it may be.
        match self.kept.contains_key(&place.seq) {
            true => self.void_from(place.seq).await,
            false => Ok(()),
        }
    }

    /// The place that was taken last, by this call.
    pub(crate) fn last(&self, function: &'static str, arguments: &impl Serialize) -> Result<Place, Error> {
        let arguments = digest(function, &self.who, arguments)?;
        Ok(Place { seq: self.next.saturating_sub(1), function, arguments })
    }

    /// Whether who asks now can go on with a stream that is kept.
    pub(crate) fn suffices<E>(&self, kept: &Streamed<E>) -> bool {
        let is_played = matches!(self.backing, Backing::Played(_));
        is_played || kept.end.is_some() || (kept.content.is_some() && kept.content == self.version)
    }

    /// What is kept at a place does not suffice: the call is made anew, and what followed is void.
    pub(crate) async fn renew(&mut self, place: &Place) -> Result<(), Error> {
        self.kept.remove(&place.seq);
        self.void_from(place.seq).await?;
        self.pending.insert(place.seq, place.asked());
        Ok(())
    }

    /// The version that asks.
    pub(crate) fn version(&self) -> Option<Digest> {
        self.version
    }

    /// The guest holds a stream: how much of it it takes is known at the end only.
    pub(crate) fn opened(&mut self, place: &Place) -> Spoken {
        let spoken = Spoken::default();
        self.streams.insert(place.seq, (place.clone(), Arc::clone(&spoken)));
        spoken
    }

    /// Forgets the journal from a place on, and sets aside what was paid for or written there.
    async fn void_from(&mut self, seq: u32) -> Result<(), Error> {
        let void = self.kept.split_off(&seq);
        self.aside.extend(void.into_values().filter(|entry| is_effect(&entry.function)));
        if let Backing::Turn { store, lease } = &self.backing {
            store.discard_journal_from(lease, seq).await?;
            for (n, entry) in (ASIDE..).zip(&self.aside) {
                store.record_behind(lease, Entry { seq: n, ..entry.clone() }).await?;
            }
        }
        Ok(())
    }

    /// Fills a place, durably, before the guest hears of the result.
    pub(crate) async fn fill<T: Serialize>(&mut self, place: &Place, value: &T) -> Result<Millis, Error> {
        let entry = self.entry(place, value)?;
        if let Backing::Turn { store, lease } = &self.backing {
            store.record(lease, entry.clone()).await?;
        }
        Ok(self.filled(entry))
    }

    /// Fills a place without waiting for the disk: for what costs nothing to ask again. The writer is in order,
    /// so it is there before anything that is awaited later.
    pub(crate) async fn fill_behind<T: Serialize>(
        &mut self,
        place: &Place,
        value: &T,
    ) -> Result<Millis, Error> {
        let entry = self.entry(place, value)?;
        self.keep_behind(entry).await
    }

    async fn keep_behind(&mut self, entry: Entry) -> Result<Millis, Error> {
        if let Backing::Turn { store, lease } = &self.backing {
            store.record_behind(lease, entry.clone()).await?;
        }
        Ok(self.filled(entry))
    }

    /// Fills a place, whatever stood there.
    async fn fill_anew<T: Serialize>(&mut self, place: &Place, value: &T) -> Result<(), Error> {
        let entry = Entry { version: self.version, ..self.entry(place, value)? };
        if let Backing::Turn { store, lease } = &self.backing {
            store.rerecord_behind(lease, entry.clone()).await?;
        }
        self.filled(entry);
        Ok(())
    }

    /// An entry is kept, by whatever write: a later run of the part finds it.
    pub(crate) fn filled(&mut self, entry: Entry) -> Millis {
        let at = entry.at;
        self.pending.remove(&entry.seq);
        self.streams.remove(&entry.seq);
        self.kept.insert(entry.seq, entry);
        at
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
            version: matches!(place.function, AGENT | ROUTER).then_some(self.version).flatten(),
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

    /// Whether something failed that time may heal, and nothing was paid for or written since: a later try asks again
    /// from there. It forgets that itself, so that a turn that is given up is kept as it went.
    pub(crate) fn has_failed(&self) -> bool {
        to_heal(self.failures.iter().copied(), self.last_effect).is_some()
    }

    /// Before the turn is run anew at a later time.
    pub(crate) async fn forget(&mut self) -> Result<(), Error> {
        self.kept.clear();
        self.aside.clear();
        self.void_from(0).await
    }
}

impl Place {
    pub(crate) fn asked(&self) -> Asked {
        Asked { seq: self.seq, function: self.function.to_owned(), arguments: self.arguments }
    }

    fn is_of(&self, entry: &Entry) -> bool {
        let function = entry.function.strip_suffix(FAILED).unwrap_or(&entry.function);
        function == self.function && entry.arguments == self.arguments
    }

    /// The value of an entry that is this call's.
    fn held_by<T: DeserializeOwned>(&self, entry: &Entry) -> Option<T> {
        self.is_of(entry).then(|| serde_json::from_slice(&entry.value).ok()).flatten()
    }
}

/// An entry as far as the part's component has heard of it. The disk may have got what came when its time was over.
fn heard(part: &Part, entry: &Entry) -> Option<Entry> {
    if !part.ended.pending.iter().any(|asked| asked.seq == entry.seq) {
        return Some(entry.clone());
    }
    // Of a stream it has heard the pieces, and not the end.
    let streamed: Streamed<serde_json::Value> = serde_json::from_slice(&entry.value).ok()?;
    let unended = Streamed { end: None, ..streamed };
    Some(Entry { value: serde_json::to_vec(&unended).ok()?, ..entry.clone() })
}

/// Of what was set aside, what no later run has taken.
fn unused(aside: BTreeMap<u32, Entry>, kept: &BTreeMap<u32, Entry>) -> Vec<Entry> {
    let same = |a: &Entry, b: &Entry| a.function == b.function && a.arguments == b.arguments;
    let mut left: Vec<Entry> = aside.into_values().collect();
    for taken in kept.values().filter(|entry| is_effect(&entry.function)) {
        if let Some(at) = left.iter().position(|entry| same(entry, taken)) {
            left.swap_remove(at);
        }
    }
    left
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

pub(crate) fn agent_part(agent: &AgentId) -> String {
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

    fn began(name: Option<&str>) -> Began {
        Began {
            agent: name.map(agent),
            version: Digest::from_bytes([1; 32]),
            frame: Digest::from_bytes([2; 32]),
            past: 0,
            heard: Digest::from_bytes([3; 32]),
            sticky: None,
            purpose: "test".to_owned(),
        }
    }

    fn agent(name: &str) -> AgentId {
        AgentId::new(name).unwrap()
    }

    #[tokio::test]
    async fn a_colleague_never_hears_what_another_agent_was_told() {
        let bench = Bench::new().await;
        let mut journal = open(&bench).await;
        journal.begin_agent(&began(Some("hr"))).await.unwrap();
        assert_eq!(search(&mut journal, "salaries").await, None);
        // It hands over, and the run ends before the colleague has asked anything.
        let mut journal = open(&bench).await;
        assert_eq!(journal.resume(&agent("sales")).unwrap(), 1, "one agent handed over");
        journal.begin_agent(&began(Some("sales"))).await.unwrap();
        assert_eq!(search(&mut journal, "prices").await, None, "the same question of somebody else");
        // And the colleague goes on with what itself was told.
        let mut journal = open(&bench).await;
        assert_eq!(journal.resume(&agent("sales")).unwrap(), 1);
        journal.begin_agent(&began(Some("sales"))).await.unwrap();
        assert_eq!(search(&mut journal, "").await.as_deref(), Some("prices"));
    }

    #[tokio::test]
    async fn another_version_has_what_was_paid_for_also_where_it_asks_in_another_order() {
        let bench = Bench::new().await;
        let mut journal = open(&bench).await;
        journal.begin_agent(&began(Some("sales"))).await.unwrap();
        assert!(!ask(&mut journal, "prompt", Some("dear")).await);
        assert_eq!(search(&mut journal, "found").await, None);
        // The version before searches first: the answer is not asked for again, the search is.
        let before = Began { version: Digest::from_bytes([9; 32]), ..began(Some("sales")) };
        journal.again();
        journal.begin_agent(&before).await.unwrap();
        assert_eq!(search(&mut journal, "found anew").await, None);
        assert!(ask(&mut journal, "prompt", None).await);
        assert!(!ask(&mut journal, "prompt", Some("once more")).await, "once is once");
        // And so after a crash in between.
        let mut journal = open(&bench).await;
        journal.resume(&agent("sales")).unwrap();
        assert_eq!(journal.pinned(), Some(before.version));
        journal.begin_agent(&before).await.unwrap();
        assert_eq!(search(&mut journal, "").await.as_deref(), Some("found anew"));
        assert!(ask(&mut journal, "prompt", None).await && ask(&mut journal, "prompt", None).await);
    }

    #[tokio::test]
    async fn what_is_set_aside_outlives_a_crash() {
        let bench = Bench::new().await;
        let mut journal = open(&bench).await;
        journal.begin_agent(&began(Some("sales"))).await.unwrap();
        assert!(!ask(&mut journal, "prompt", Some("dear")).await);
        journal.again();
        journal.begin_agent(&began(Some("sales"))).await.unwrap();
        // It leaves the journal, and the host ends before it comes to its own question.
        assert_eq!(search(&mut journal, "found").await, None);
        let mut journal = open(&bench).await;
        journal.resume(&agent("sales")).unwrap();
        journal.begin_agent(&began(Some("sales"))).await.unwrap();
        assert_eq!(search(&mut journal, "").await.as_deref(), Some("found"));
        assert!(ask(&mut journal, "prompt", None).await, "paid for before the crash");
    }

    #[tokio::test]
    async fn a_part_is_read_back_with_what_it_said() {
        use crate::swap::recording::Said;
        let bench = Bench::new().await;
        let mut journal = open(&bench).await;
        let ended =
            |said: &str| Ended { began: Some(began(None)), said: Said::answered(&said), pending: Vec::new() };
        journal.begin_router(&began(None), false).await.unwrap();
        journal.end(ended("sales")).await.unwrap();
        journal.begin_agent(&began(Some("sales"))).await.unwrap();
        assert_eq!(search(&mut journal, "found").await, None);
        let unfilled = journal.place::<String>("models.complete", &"slow").await.unwrap();
        assert!(matches!(unfilled, Found::Fresh(_)));
        journal.end(Ended { began: None, ..ended("hello") }).await.unwrap();
        let part = journal.recording().parts.remove(0);
        assert_eq!((part.entries.len(), &part.ended.said), (1, &Said::answered(&"hello")));
        assert_eq!(part.ended.pending.len(), 1, "what it waited for");
        // The disk has the same, and a second end takes the first one's place.
        journal.again();
        journal.begin_agent(&began(Some("sales"))).await.unwrap();
        assert_eq!(search(&mut journal, "").await.as_deref(), Some("found"));
        journal.end(Ended { began: None, ..ended("anew") }).await.unwrap();
        // What is written behind is on the disk with the next write that is awaited.
        bench.store.renew(std::slice::from_ref(&bench.claimed.lease)).await;
        let entries = bench.store.journal(&bench.claimed.lease).await.unwrap();
        let whole = Recording::read(&entries).unwrap();
        let said: Vec<_> = whole.parts.iter().map(|part| part.ended.said.clone()).collect();
        assert_eq!((said, whole.incomplete), (vec![Said::answered(&"sales"), Said::answered(&"anew")], 0));
    }

    #[tokio::test]
    async fn an_agent_goes_on_behind_the_router_that_chose_it() {
        let bench = Bench::new().await;
        let mut journal = open(&bench).await;
        journal.begin_router(&began(None), false).await.unwrap();
        assert_eq!(search(&mut journal, "of the router").await, None);
        journal.begin_agent(&began(Some("sales"))).await.unwrap();
        assert_eq!(search(&mut journal, "of the agent").await, None);
        let mut resumed = open(&bench).await;
        assert_eq!(resumed.resume(&agent("sales")).unwrap(), 0);
        resumed.begin_agent(&began(Some("sales"))).await.unwrap();
        assert_eq!(search(&mut resumed, "").await.as_deref(), Some("of the agent"));
        let mut anew = open(&bench).await;
        anew.begin_router(&began(None), false).await.unwrap();
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
            journal.begin_agent(&began(Some("sales"))).await.unwrap();
            // The dear model is not there, the cheap one answers; then a third call fails.
            let before = !crashes;
            assert_eq!(ask(&mut journal, "dear", None).await, before);
            assert_eq!(ask(&mut journal, "cheap", Some("yes")).await, before);
            assert!(!ask(&mut journal, "third", None).await, "a failure at the end is asked again");
            if !crashes {
                assert!(journal.has_failed(), "the third call was an outage");
            }
        }
        let mut journal = open(&bench).await;
        journal.begin_agent(&began(Some("sales"))).await.unwrap();
        assert!(ask(&mut journal, "dear", None).await && ask(&mut journal, "cheap", None).await);
        assert!(!journal.has_failed(), "the agent got over it: nothing is to be asked again");
    }

    #[tokio::test]
    async fn a_turn_that_comes_back_to_an_agent_goes_on_with_its_second_part() {
        let bench = Bench::new().await;
        let mut journal = open(&bench).await;
        for (name, value) in [("a", "first"), ("b", "other"), ("a", "second")] {
            journal.begin_agent(&began(Some(name))).await.unwrap();
            assert_eq!(search(&mut journal, value).await, None);
        }
        let mut resumed = open(&bench).await;
        assert_eq!(resumed.resume(&agent("a")).unwrap(), 2);
        resumed.begin_agent(&began(Some("a"))).await.unwrap();
        assert_eq!(search(&mut resumed, "").await.as_deref(), Some("second"));
    }
}
