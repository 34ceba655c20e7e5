//! The journal of a recorded part that is run again: the part's own entries, and a world that keeps nothing.

use chela_store::Entry;
use chela_types::Clock;
use std::sync::Arc;

use super::Journal;
use super::backing::Backing;
use super::entry::{Start, Streamed};
use crate::swap::playback::Playback;
use crate::swap::recording::Part;

impl Journal {
    /// The journal of a recorded part, for a run that leaves no trace.
    pub(crate) fn played(playback: Playback, (start, part): (Start, &Part), clock: Arc<dyn Clock>) -> Self {
        let heard = part.entries.iter().filter_map(|entry| Some((entry.seq, heard(part, entry)?)));
        let mut journal = Self::new(Backing::Played(playback), clock, start);
        (journal.kept, journal.next, journal.who) = (heard.collect(), part.first, part.began.who());
        journal
    }

    /// What stands for the world where nothing is kept.
    pub(crate) fn playback(&mut self) -> Option<&mut Playback> {
        match &mut self.backing {
            Backing::Turn { .. } => None,
            Backing::Played(playback) => Some(playback),
        }
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
