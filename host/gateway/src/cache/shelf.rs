//! Kept questions by their partition, to look for what is alike.
//!
//! Each partition is a list that is read from end to end: with [`SHELF_MAX`] questions that takes some milliseconds, of a
//! call of seconds that it may spare, and there is no index that could hold what another partition knows.

use chela_lexical::{Vector, cosine};
use chela_types::Digest;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use super::entry::Entry;

/// Questions of one partition that are looked through, the newest.
pub(super) const SHELF_MAX: usize = 2_000;
/// Of those that are alike, so many are looked at more closely, the most alike first.
pub(super) const NEAREST_MAX: usize = 16;
/// What is less alike is not looked at.
pub(super) const LIKENESS_MIN: f32 = 0.5;
/// Partitions before empty ones are looked for.
const SHELVES_MIN: usize = 64;

/// All partitions. Holds nothing alive: what the cache has dropped is gone from here.
#[derive(Debug, Default)]
pub(super) struct Shelves(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    shelves: HashMap<Digest, VecDeque<Weak<Entry>>>,
    /// Looked for empty ones when there are more than this.
    tidy_above: usize,
}

impl Shelves {
    /// Puts an entry on its shelf.
    pub(super) fn put(&self, entry: &Arc<Entry>) {
        let mut state = self.0.lock();
        if state.shelves.len() > state.tidy_above.max(SHELVES_MIN) {
            state.shelves.retain(|_, shelf| shelf.iter().any(is_alive));
            state.tidy_above = state.shelves.len() * 2;
        }
        let shelf = state.shelves.entry(entry.parts.partition).or_default();
        if shelf.len() >= SHELF_MAX {
            shelf.retain(is_alive);
        }
        if shelf.len() >= SHELF_MAX {
            shelf.pop_front();
        }
        shelf.push_back(Arc::downgrade(entry));
    }

    /// What of a partition is alike, the most alike first, at most [`NEAREST_MAX`].
    pub(super) fn nearest(&self, partition: &Digest, vector: &Vector) -> Vec<(f32, Arc<Entry>)> {
        let shelf: Vec<Arc<Entry>> = {
            let state = self.0.lock();
            state.shelves.get(partition).into_iter().flatten().filter_map(Weak::upgrade).collect()
        };
        nearest(shelf, vector)
    }
}

/// The most alike first, at most [`NEAREST_MAX`].
pub(super) fn nearest(entries: Vec<Arc<Entry>>, vector: &Vector) -> Vec<(f32, Arc<Entry>)> {
    let alike = |entry: Arc<Entry>| {
        let likeness = cosine(&entry.question.as_ref()?.vector, vector);
        (likeness >= LIKENESS_MIN).then_some((likeness, entry))
    };
    let mut nearest: Vec<(f32, Arc<Entry>)> = entries.into_iter().filter_map(alike).collect();
    nearest.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    nearest.truncate(NEAREST_MAX);
    nearest
}

fn is_alive(entry: &Weak<Entry>) -> bool {
    entry.strong_count() > 0
}
