//! The journal of one turn: every host call with what it returned, so that a turn that is run again after a
//! crash neither makes nor pays a call twice, and can be replayed later.
//!
//! Entries are keyed by their place in the turn, the function and a digest of the arguments. If a run asks
//! something else at a place (another version, another configuration), the rest of the journal is void from
//! there on. Entry 0 is the turn's own time and randomness.

use chela_store::{Entry, Lease, Store};
use chela_types::{Clock, Digest, Millis};
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
/// Stands behind the function's name where an entry holds a failure that time may heal.
const FAILED: &str = "!";

impl Journal {
    /// Reads what an earlier run of the turn has left, and starts the turn's clock and randomness.
    pub(crate) async fn open(store: Store, lease: Lease, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let kept: BTreeMap<u32, Entry> =
            store.journal(&lease).await?.into_iter().map(|entry| (entry.seq, entry)).collect();
        let fresh = Start { now: clock.now(), seed: rand::random() };
        let mut journal =
            Self { store, lease, clock, kept, next: 0, failures: BTreeSet::new(), start: fresh };
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
        let arguments = digest(function, arguments)?;
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

    /// Before a later try: forgets what failed, and everything that followed from it.
    pub(crate) async fn forget_failures(&self) -> Result<(), Error> {
        match self.failures.first() {
            Some(seq) => Ok(self.store.discard_journal_from(&self.lease, *seq).await?),
            None => Ok(()),
        }
    }

    /// Before the turn is run anew at a later time.
    pub(crate) async fn forget(&self) -> Result<(), Error> {
        Ok(self.store.discard_journal_from(&self.lease, 0).await?)
    }
}

fn digest(function: &str, arguments: &impl Serialize) -> Result<Digest, Error> {
    let bytes = serde_json::to_vec(arguments)
        .map_err(|error| Error::Configuration(format!("arguments cannot be written: {error}")))?;
    Ok(Digest::of("chela journal arguments", &[function.as_bytes(), &bytes]))
}
