//! What is set aside of a journal from the place on where a run has left it: what an earlier run has paid for or
//! written, at places that this one does not come by. It is taken from here if it is asked for after all.
//!
//! Memory is more than its writes: who reads a value, changes it and writes it back must not see what an earlier run
//! has made of it, or the change is made twice. So the read before a write is set aside with it, and stands until the
//! write is taken, or another one is made.

use chela_store::Entry;
use chela_types::Digest;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

use super::entry::{Function, Place, is_effect, slot};

/// Rows at places from [`Entry::ASIDE`] on, in the order in which they were written at first.
#[derive(Debug, Default)]
pub(super) struct Aside(BTreeMap<u32, Entry>);

/// What an earlier run has done with a value of the memory that is written anew.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overwritten {
    /// Where that is set aside.
    pub(crate) rows: Vec<u32>,
    /// The version that stood before, and the one that it left.
    versions: Option<(u64, u64)>,
}

impl Overwritten {
    /// The version that must stand for a write that expects `seen`: what an earlier run wrote since is no change.
    pub(crate) fn expected(&self, seen: u64) -> u64 {
        self.versions.filter(|(before, _)| *before == seen).map_or(seen, |(_, left)| left)
    }
}

impl Aside {
    pub(super) fn of(rows: BTreeMap<u32, Entry>) -> Self {
        Self(rows)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What is to be set aside if `kept` is void from `seq` on, at the places where it will lie.
    pub(super) fn rows(&self, kept: &BTreeMap<u32, Entry>, seq: u32) -> Vec<Entry> {
        let mut last: HashMap<Digest, &Entry> = HashMap::new();
        let mut rows = Vec::new();
        for entry in kept.values() {
            let is_void = entry.seq >= seq && is_effect(entry);
            if let Some(slot) = slot(entry) {
                let before = last.insert(slot, entry);
                rows.extend(before.filter(|it| is_void && Function::of(it) == Some(Function::Get)).cloned());
            }
            rows.extend(is_void.then(|| entry.clone()));
        }
        let free = self.0.last_key_value().map_or(Entry::ASIDE, |(last, _)| last.saturating_add(1));
        rows.into_iter().zip(free..).map(|(entry, seq)| Entry { seq, ..entry }).collect()
    }

    pub(super) fn add(&mut self, rows: Vec<Entry>) {
        self.0.extend(rows.into_iter().map(|entry| (entry.seq, entry)));
    }

    pub(super) fn remove(&mut self, rows: &[u32]) {
        rows.iter().for_each(|seq| drop(self.0.remove(seq)));
    }

    /// What an earlier run left for the call at this place, and the rows that go when it is taken.
    pub(super) fn find(&self, place: &Place) -> Option<(&Entry, Vec<u32>)> {
        let Some(slot) = place.slot else {
            let entry = self.0.values().find(|entry| place.is_of(entry))?;
            return Some((entry, vec![entry.seq]));
        };
        let rows = self.of_slot(slot);
        if place.function == Function::Get {
            // As it was before the write that follows; a read takes nothing.
            let first = rows.first().filter(|entry| place.is_of(entry))?;
            return Some((first, Vec::new()));
        }
        let at = rows.iter().position(|entry| place.is_of(entry))?;
        // What the earlier run itself has overwritten does not stand any more, and is written anew; but where it compared,
        // it would find its own.
        if place.function == Function::Set && rows.iter().skip(at + 1).any(|entry| is_effect(entry)) {
            return None;
        }
        Some((rows.get(at)?, rows.iter().take(at + 1).map(|entry| entry.seq).collect()))
    }

    /// What the call at this place makes void if it is made.
    pub(super) fn overwritten(&self, place: &Place) -> Overwritten {
        let Some(slot) = place.slot.filter(|_| place.function.is_effect()) else {
            return Overwritten::default();
        };
        let rows = self.of_slot(slot);
        let seen = rows.first().and_then(|entry| version_read(entry));
        let left = rows.iter().rev().find_map(|entry| version_left(entry));
        Overwritten { versions: seen.zip(left), rows: rows.iter().map(|entry| entry.seq).collect() }
    }

    fn of_slot(&self, wanted: Digest) -> Vec<&Entry> {
        self.0.values().filter(|entry| slot(entry) == Some(wanted)).collect()
    }
}

/// The version that a read has seen: 0 for none.
fn version_read(entry: &Entry) -> Option<u64> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    if Function::of(entry) != Some(Function::Get) {
        return None;
    }
    let read: Option<Versioned> = serde_json::from_slice(&entry.value).ok()?;
    Some(read.map_or(0, |read| read.version))
}

/// The version that a write has left, if it wrote.
fn version_left(entry: &Entry) -> Option<u64> {
    #[derive(Deserialize)]
    struct Outcome {
        #[serde(rename = "Ok")]
        written: (bool, u64),
    }
    let Outcome { written: (is_written, version) } = serde_json::from_slice(&entry.value).ok()?;
    is_written.then_some(version)
}
