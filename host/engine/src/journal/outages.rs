//! What a run has come by that time may heal, and what it paid for or wrote behind it.

use chela_store::Entry;
use std::collections::BTreeSet;

use super::entry::is_effect;

/// Places of failures that time may heal, and of effects.
#[derive(Debug, Default)]
pub(super) struct Outages {
    failures: BTreeSet<u32>,
    effects: BTreeSet<u32>,
}

impl Outages {
    /// Of a stretch of a journal.
    pub(super) fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut outages = Self::default();
        entries.into_iter().for_each(|entry| outages.note(entry));
        outages
    }

    /// The call at this place has failed.
    pub(super) fn failed(&mut self, seq: u32) {
        self.failures.insert(seq);
    }

    pub(super) fn is_failed(&self, seq: u32) -> bool {
        self.failures.contains(&seq)
    }

    /// The run has come by this entry.
    pub(super) fn note(&mut self, entry: &Entry) {
        if entry.has_failed() {
            self.failures.insert(entry.seq);
        } else if is_effect(entry) {
            self.effects.insert(entry.seq);
        }
    }

    /// What stood from this place on is void, or is come by once more.
    pub(super) fn forget_from(&mut self, seq: u32) {
        self.failures.split_off(&seq);
        self.effects.split_off(&seq);
    }

    /// The first failure of the part that begins at `part` behind which nothing was paid for or written: from there on
    /// a later try asks again. An agent that came further has got over it.
    pub(super) fn to_heal(&self, part: u32) -> Option<u32> {
        let behind = self.effects.last().map_or(part, |effect| part.max(effect.saturating_add(1)));
        self.failures.range(behind..).next().copied()
    }
}
