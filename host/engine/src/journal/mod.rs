//! The journal of one turn: every host call with what it returned, so that a turn that is run again after a
//! crash neither makes nor pays a call twice, and can be replayed later.
//!
//! Entries are keyed by their place in the turn, who asks, the function and a digest of the arguments. If a run asks
//! something else at a place (another version, another configuration), the rest of the journal is void from
//! there on; what was paid for or written in it is set aside (`aside.rs`), and taken from there if it is asked for after
//! all.
//! Entry 0 is the turn's own time and randomness; each part (one call of a router or an agent) begins with an entry
//! that names who asks, his version and what he was told, and ends with one that holds what he said. So a run that
//! goes on with an agent finds its part and its version, and never what another was told.

mod aside;
mod backing;
mod entry;
mod outages;
mod played;
#[cfg(test)]
mod tests;

use chela_store::{Entry, Lease, Revision, Store};
use chela_types::{AgentId, Clock, Digest, Millis};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::sync::Arc;

use self::aside::Aside;
use self::backing::Backing;
use self::entry::digest;
pub(crate) use self::entry::{Asked, Found, Function, Place, Spoken, Start, Streamed, Written, agent_part};
use self::outages::Outages;
use crate::error::Error;
use crate::swap::recording::{Began, Ended, Recording, Said};

/// The journal while its turn runs.
#[derive(Debug)]
pub(crate) struct Journal {
    backing: Backing,
    clock: Arc<dyn Clock>,
    kept: BTreeMap<u32, Entry>,
    aside: Aside,
    next: u32,
    /// Whose calls are written: nobody's, the router's, an agent's.
    who: String,
    /// Version of who asks.
    version: Option<Digest>,
    /// Where the part that runs begins.
    part: u32,
    /// In the part that runs, a budget had no room for a call.
    over_budget: bool,
    /// Asked for, and not answered yet.
    pending: BTreeMap<u32, Asked>,
    /// Streams that the guest holds, with what it has taken of them.
    streams: BTreeMap<u32, (Place, Spoken)>,
    /// Of what this run has come by.
    outages: Outages,
    /// Failures that an earlier run left are still to be forgotten.
    heals: bool,
    start: Start,
}

impl Journal {
    /// Reads what an earlier run of the turn has left, and starts the turn's clock and randomness.
    pub(crate) async fn open(store: Store, lease: Lease, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let mut kept: BTreeMap<u32, Entry> =
            store.journal(&lease).await?.into_iter().map(|entry| (entry.seq, entry)).collect();
        let aside = Aside::of(kept.split_off(&Entry::ASIDE));
        let fresh = Start { now: clock.now(), seed: rand::random() };
        let mut journal = Self::new(Backing::Turn { store, lease }, clock, fresh);
        (journal.kept, journal.aside, journal.heals) = (kept, aside, true);
        match journal.place::<Start>(Function::Start, &()).await? {
            Found::Kept(start, _) => journal.start = start,
            Found::Fresh(place) => {
                // Needs no wait of its own: writes are in order, and a call's reservation is awaited.
                journal.fill_behind(&place, &fresh).await?;
            }
        }
        Ok(journal)
    }

    fn new(backing: Backing, clock: Arc<dyn Clock>, start: Start) -> Self {
        Self {
            backing,
            clock,
            kept: BTreeMap::new(),
            aside: Aside::default(),
            next: 0,
            who: String::new(),
            version: None,
            part: 0,
            over_budget: false,
            pending: BTreeMap::new(),
            streams: BTreeMap::new(),
            outages: Outages::default(),
            heals: false,
            start,
        }
    }

    /// What follows is asked by the router. A router that can ask for nothing leaves no beginning: its end says all.
    pub(crate) async fn begin_router(&mut self, began: &Began, may_ask: bool) -> Result<(), Error> {
        match may_ask {
            true => self.begin(Function::Router, began).await,
            false => {
                self.enter(began);
                Ok(())
            }
        }
    }

    /// What follows is asked by an agent.
    pub(crate) async fn begin_agent(&mut self, began: &Began) -> Result<(), Error> {
        self.begin(Function::Agent, began).await
    }

    async fn begin(&mut self, function: Function, began: &Began) -> Result<(), Error> {
        self.enter(began);
        self.forget_failed_run().await?;
        match self.place::<Option<Began>>(function, &()).await? {
            Found::Kept(Some(kept), _) if kept == *began => Ok(()),
            Found::Kept(..) => {
                // Another version goes on with what is kept.
                let place = self.place_at(self.part, function, &())?;
                self.fill_anew(&place, began).await
            }
            Found::Fresh(place) => self.fill_behind(&place, began).await.map(|_| ()),
        }
    }

    /// An earlier run left a failure behind, in the first part that runs now or later: this run asks again from there.
    /// What parts before it came by is over.
    async fn forget_failed_run(&mut self) -> Result<(), Error> {
        if self.heals
            && let Some(seq) = Outages::of(self.kept.values()).to_heal(self.part)
        {
            self.void_from(seq).await?;
        }
        self.heals = false;
        Ok(())
    }

    fn enter(&mut self, began: &Began) {
        (self.who, self.version, self.part) = (began.who(), Some(began.version), self.next);
        self.over_budget = false;
        self.pending.clear();
        self.streams.clear();
    }

    /// The part that runs is run once more, by another version: what it was told and has done stays.
    pub(crate) fn again(&mut self) {
        self.next = self.part;
        self.pending.clear();
        self.streams.clear();
        self.outages.forget_from(self.part);
    }

    /// The version that an earlier run of the part that is next was begun with.
    pub(crate) fn pinned(&self) -> Option<Digest> {
        let begins = |entry: &&Entry| Function::of(entry).is_some_and(Function::begins);
        self.kept.get(&self.next).filter(begins)?.version
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
        let place = self.place_at(self.next, Function::End, &())?;
        self.next += 1;
        // An earlier run went on from here: what it left behind is no part of this one.
        let is_where_it_ended =
            self.kept.get(&place.seq).is_some_and(|entry| Function::of(entry) == Some(Function::End));
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
        let own = digest(Function::Agent, &agent_part(agent), &())?;
        let is_agents = |entry: &&Entry| Function::of(entry) == Some(Function::Agent);
        let parts: Vec<&Entry> = self.kept.values().filter(is_agents).collect();
        let before = parts.iter().rposition(|part| part.arguments == own);
        let after_all = self.kept.keys().last().map_or(0, |last| last + 1);
        self.next = before.and_then(|at| parts.get(at)).map_or(after_all, |part| part.seq).max(self.next);
        Ok(before.unwrap_or(parts.len()))
    }

    pub(crate) fn start(&self) -> Start {
        self.start
    }

    /// The version that asks.
    pub(crate) fn version(&self) -> Option<Digest> {
        self.version
    }

    /// The right to write to the turn; none where nothing is kept.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        match &self.backing {
            Backing::Turn { lease, .. } => Some(lease),
            Backing::Played(_) => None,
        }
    }

    /// Takes the next place for a call of `function` with `arguments`.
    pub(crate) async fn place<T: DeserializeOwned>(
        &mut self,
        function: Function,
        arguments: &impl Serialize,
    ) -> Result<Found<T>, Error> {
        let place = self.place_at(self.next, function, arguments)?;
        self.look(place).await
    }

    /// The same for a write to memory; `read` are the arguments of a read of the same value.
    pub(crate) async fn place_of_write<T: DeserializeOwned>(
        &mut self,
        function: Function,
        read: &impl Serialize,
        arguments: &impl Serialize,
    ) -> Result<Found<T>, Error> {
        let slot = Some(digest(Function::Get, &self.who, read)?);
        let place = Place { slot, ..self.place_at(self.next, function, arguments)? };
        self.look(place).await
    }

    fn place_at(&self, seq: u32, function: Function, arguments: &impl Serialize) -> Result<Place, Error> {
        let arguments = digest(function, &self.who, arguments)?;
        let slot = (function == Function::Get).then_some(arguments);
        Ok(Place { seq, function, arguments, slot, overwritten: Default::default() })
    }

    async fn look<T: DeserializeOwned>(&mut self, place: Place) -> Result<Found<T>, Error> {
        self.next = place.seq + 1;
        if let Some(entry) = self.kept.get(&place.seq) {
            if let Some(value) = place.held_by(entry) {
                self.outages.note(entry);
                return Ok(Found::Kept(value, entry.at));
            }
            if let Backing::Turn { lease, .. } = &self.backing
                && Function::of(entry) != Some(Function::End)
            {
                let function = place.function.name();
                tracing::info!(turn = %lease.turn(), seq = place.seq, function, "journal diverges; the rest is void");
            }
        }
        self.leave(&place).await?;
        if let Some((value, at)) = self.take_aside(&place).await? {
            return Ok(Found::Kept(value, at));
        }
        self.pending.insert(place.seq, place.asked());
        Ok(Found::Fresh(Place { overwritten: self.aside.overwritten(&place), ..place }))
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

    /// What an earlier run has left for this call, moved to its place.
    async fn take_aside<T: DeserializeOwned>(&mut self, place: &Place) -> Result<Option<(T, Millis)>, Error> {
        let Some((entry, gone)) = self.aside.find(place) else { return Ok(None) };
        let Some(value) = place.held_by(entry) else { return Ok(None) };
        let entry = Entry { seq: place.seq, version: self.version, ..entry.clone() };
        let revision = Revision { void: 0..0, gone: gone.clone(), entries: vec![entry.clone()] };
        self.backing.revise_behind(revision).await?;
        self.aside.remove(&gone);
        Ok(Some((value, self.filled(entry))))
    }

    /// The place that was taken last, by this call.
    pub(crate) fn last(&self, function: Function, arguments: &impl Serialize) -> Result<Place, Error> {
        self.place_at(self.next.saturating_sub(1), function, arguments)
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

    /// The guest holds a stream: how much of it it takes is known at the end only.
    pub(crate) fn opened(&mut self, place: &Place) -> Spoken {
        let spoken = Spoken::default();
        self.streams.insert(place.seq, (place.clone(), Arc::clone(&spoken)));
        spoken
    }

    /// Forgets the journal from a place on, and sets aside what was paid for or written there, in one transaction.
    async fn void_from(&mut self, seq: u32) -> Result<(), Error> {
        let rows = self.aside.rows(&self.kept, seq);
        let revision = Revision { void: seq..Entry::ASIDE, gone: Vec::new(), entries: rows.clone() };
        self.backing.revise_behind(revision).await?;
        self.kept.split_off(&seq);
        self.aside.add(rows);
        self.outages.forget_from(seq);
        Ok(())
    }

    /// Fills a place, durably, before the guest hears of the result.
    pub(crate) async fn fill<T: Serialize>(&mut self, place: &Place, value: &T) -> Result<Millis, Error> {
        let entry = self.entry(place, value)?;
        // A call whose time is over here has its result on the disk all the same; the version that takes over finds it.
        self.kept.insert(entry.seq, entry.clone());
        self.backing.record(&entry).await?;
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
        self.backing.record_behind(&entry).await?;
        Ok(self.filled(entry))
    }

    /// Fills a place in which its own call has left word that it has begun. In order with what is written later.
    pub(crate) async fn fill_over<T: Serialize>(
        &mut self,
        place: &Place,
        value: &T,
    ) -> Result<Millis, Error> {
        let entry = self.entry(place, value)?;
        self.backing.rerecord_behind(&entry).await?;
        Ok(self.filled(entry))
    }

    /// Fills a place, whatever stood there.
    async fn fill_anew<T: Serialize>(&mut self, place: &Place, value: &T) -> Result<(), Error> {
        let entry = Entry { version: self.version, ..self.entry(place, value)? };
        self.backing.rerecord_behind(&entry).await?;
        self.filled(entry);
        Ok(())
    }

    /// An entry is kept, by whatever write: a later run of the part finds it.
    fn filled(&mut self, entry: Entry) -> Millis {
        let at = entry.at;
        self.pending.remove(&entry.seq);
        self.streams.remove(&entry.seq);
        self.outages.note(&entry);
        self.kept.insert(entry.seq, entry);
        at
    }

    /// The same of a write that took its entry along, and emptied what it made void.
    pub(crate) fn filled_with(&mut self, place: &Place, entry: Entry) -> Millis {
        self.aside.remove(&place.overwritten().rows);
        self.filled(entry)
    }

    /// The entry that belongs into a place, for writes that take their entry along.
    pub(crate) fn entry<T: Serialize>(&self, place: &Place, value: &T) -> Result<Entry, Error> {
        let value = serde_json::to_vec(value)
            .map_err(|error| Error::Configuration(format!("journal value cannot be written: {error}")))?;
        let mut function = place.function.name().to_owned();
        function.extend(self.outages.is_failed(place.seq).then_some(Entry::FAILED));
        Ok(Entry {
            seq: place.seq,
            function,
            arguments: place.arguments,
            value,
            at: self.clock.now(),
            version: self.version.filter(|_| place.function.begins()),
        })
    }

    /// Marks that this place holds a failure that a later try should not see again.
    pub(crate) fn failed(&mut self, place: &Place) {
        self.outages.failed(place.seq);
    }

    /// Whether something failed in this part that time may heal, and nothing was paid for or written since: a later try
    /// asks again from there. It forgets that itself, so that a turn that is given up is kept as it went.
    pub(crate) fn has_failed(&self) -> bool {
        self.outages.to_heal(self.part).is_some()
    }

    /// A budget had no room for a call of this part.
    pub(crate) const fn refused_by_budget(&mut self) {
        self.over_budget = true;
    }

    /// Whether one had none.
    pub(crate) const fn was_over_budget(&self) -> bool {
        self.over_budget
    }

    /// Before the turn is run anew at a later time.
    pub(crate) async fn forget(&mut self) -> Result<(), Error> {
        self.backing.revise_behind(Revision { void: 0..u32::MAX, ..Revision::default() }).await?;
        self.kept.clear();
        self.aside.clear();
        self.outages.forget_from(0);
        Ok(())
    }
}
