//! Kept questions by their partition, to look for what is alike.
//!
//! What the verifier would take has the same form, so it is found by that, however many there are. Beside it a few that
//! share what is rare are looked at, for the record: it says what the nearest was no answer for. Each partition has an
//! index of its own, so that none holds what another partition knows.

use chela_lexical::{Vector, cosine};
use chela_types::Digest;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use super::entry::Entry;

/// Questions of one partition that are looked through, the newest.
pub(super) const SHELF_MAX: usize = 2_000;
/// So many of them are compared.
const COMPARED_MAX: usize = 32;
/// Of those that are alike, so many are looked at more closely, the most alike first.
pub(super) const NEAREST_MAX: usize = 16;
/// What is less alike is not looked at.
pub(super) const LIKENESS_MIN: f32 = 0.5;
/// Partitions before empty ones are looked for.
const SHELVES_MIN: usize = 64;

/// All partitions. Holds no entry alive: what the cache has dropped is not found any more.
#[derive(Debug, Default)]
pub(super) struct Shelves(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    shelves: HashMap<Digest, Arc<Mutex<Shelf>>>,
    /// Looked for empty ones when there are more than this.
    tidy_above: usize,
}

/// The questions of one partition, and their places by what they have.
#[derive(Debug, Default)]
struct Shelf {
    entries: Vec<Weak<Entry>>,
    forms: HashMap<u64, Vec<u16>>,
    buckets: HashMap<u16, Vec<u16>>,
}

impl Shelf {
    /// Built anew when it has twice as many as are looked through: what the cache has dropped goes then.
    fn put(&mut self, entry: &Arc<Entry>) {
        if self.entries.len() >= 2 * SHELF_MAX {
            let newest = std::mem::take(self).entries.split_off(SHELF_MAX + 1);
            newest.iter().filter_map(Weak::upgrade).for_each(|entry| self.add(&entry));
        }
        self.add(entry);
    }

    /// A few are compared all, and need no index.
    fn add(&mut self, entry: &Arc<Entry>) {
        self.entries.push(Arc::downgrade(entry));
        let new = match self.entries.len() {
            0..=COMPARED_MAX => return,
            all if self.forms.is_empty() => 0..all,
            all => all - 1..all,
        };
        for place in new {
            let entry = self.entries.get(place).and_then(Weak::upgrade);
            if let (Ok(place), Some(known)) =
                (u16::try_from(place), entry.as_ref().and_then(|it| it.question.as_ref()))
            {
                self.forms.entry(known.form()).or_default().push(place);
                let buckets = known.vector.iter().flat_map(Vector::buckets);
                buckets.for_each(|bucket| self.buckets.entry(bucket).or_default().push(place));
            }
        }
    }

    /// What has this form, and then what shares what is rare, the newest first.
    fn compared(&self, vector: &Vector, form: u64) -> Vec<Arc<Entry>> {
        if self.forms.is_empty() {
            return self.entries.iter().rev().filter_map(Weak::upgrade).take(COMPARED_MAX).collect();
        }
        let mut rare: Vec<&Vec<u16>> = vector.buckets().filter_map(|it| self.buckets.get(&it)).collect();
        rare.sort_by_key(|places| places.len());
        let places = self.forms.get(&form).into_iter().chain(rare).flat_map(|places| places.iter().rev());
        let oldest = self.entries.len().saturating_sub(SHELF_MAX);
        let mut seen = HashSet::new();
        let new =
            places.map(|place| usize::from(*place)).filter(|place| *place >= oldest && seen.insert(*place));
        new.filter_map(|place| self.entries.get(place)?.upgrade()).take(COMPARED_MAX).collect()
    }

    fn is_empty(&self) -> bool {
        !self.entries.iter().any(is_alive)
    }
}

impl Shelves {
    /// Puts an entry on its shelf.
    pub(super) fn put(&self, entry: &Arc<Entry>) {
        let mut state = self.0.lock();
        if state.shelves.len() > state.tidy_above.max(SHELVES_MIN) {
            state.shelves.retain(|_, shelf| !shelf.lock().is_empty());
            state.tidy_above = state.shelves.len() * 2;
        }
        let shelf = Arc::clone(state.shelves.entry(entry.parts.partition).or_default());
        // If it is thrown away as empty just now, this question is not found by others: no more than that.
        drop(state);
        shelf.lock().put(entry);
    }

    /// What of a partition has this form, and then what is alike, the most alike first, at most [`NEAREST_MAX`].
    pub(super) fn nearest(
        &self,
        partition: &Digest,
        (vector, form): (&Vector, u64),
    ) -> Vec<(f32, Arc<Entry>)> {
        let shelf = self.0.lock().shelves.get(partition).cloned();
        let compared = shelf.map(|shelf| shelf.lock().compared(vector, form)).unwrap_or_default();
        let has_form = |entry: &Arc<Entry>| entry.question.as_ref().is_some_and(|known| known.form() == form);
        let (same, others): (Vec<_>, Vec<_>) = compared.into_iter().partition(has_form);
        let mut found = nearest(same, vector);
        found.extend(nearest(others, vector));
        found.truncate(NEAREST_MAX);
        found
    }
}

/// The most alike first, at most [`NEAREST_MAX`].
pub(super) fn nearest(entries: Vec<Arc<Entry>>, vector: &Vector) -> Vec<(f32, Arc<Entry>)> {
    let alike = |entry: Arc<Entry>| {
        let known = entry.question.as_ref()?;
        let likeness = match &known.vector {
            Some(known) => cosine(known, vector),
            // It is kept for who asks in another form; here somebody wants to know how near it is.
            None => cosine(&Vector::of(&known.text).unwrap_or_default(), vector),
        };
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
