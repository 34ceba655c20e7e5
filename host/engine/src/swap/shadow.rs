//! Counts of a shadow run: how often a candidate said the same as the version that serves.

use chela_types::TurnId;
use parking_lot::Mutex;
use std::collections::VecDeque;

use super::status::{ShadowExample, ShadowStatus};

/// Longest word of an example in bytes.
const WORDS_BYTES_MAX: usize = 300;

/// What a shadow run has shown so far.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    running: usize,
    status: ShadowStatus,
    examples: VecDeque<Example>,
}

#[derive(Debug, Clone)]
struct Example {
    turn: TurnId,
    active: String,
    candidate: String,
    /// Holds words of people.
    is_private: bool,
}

/// How a candidate's call compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Compared {
    Same,
    Different,
    Diverged,
    Failed,
}

/// What is shown of a call: an agent's name, or what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) text: String,
    pub(crate) is_private: bool,
}

/// A place among the shadow calls that run.
pub(crate) struct Place(std::sync::Arc<Tally>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.lock().running -= 1;
    }
}

impl Tally {
    /// A place for a call, if not too many run; else it is counted as skipped.
    pub(crate) fn place(self: &std::sync::Arc<Self>, in_flight_max: usize) -> Option<Place> {
        let mut counts = self.0.lock();
        if counts.running >= in_flight_max {
            counts.status.skipped += 1;
            return None;
        }
        counts.running += 1;
        Some(Place(std::sync::Arc::clone(self)))
    }

    pub(crate) fn count(
        &self,
        compared: &Compared,
        turn: TurnId,
        (active, candidate): (Shown, Shown),
        examples_max: usize,
    ) {
        let mut counts = self.0.lock();
        counts.status.compared += 1;
        match compared {
            Compared::Same => {
                counts.status.same += 1;
                return;
            }
            Compared::Different => counts.status.different += 1,
            Compared::Diverged => counts.status.diverged += 1,
            Compared::Failed => counts.status.failed += 1,
        }
        let cut = |words: String| crate::words::short(&words, WORDS_BYTES_MAX);
        let is_private = active.is_private || candidate.is_private;
        let (active, candidate) = (cut(active.text), cut(candidate.text));
        counts.examples.push_back(Example { turn, active, candidate, is_private });
        while counts.examples.len() > examples_max {
            counts.examples.pop_front();
        }
    }

    /// For people; words of conversations only for those who may read them.
    pub(crate) fn status(&self, with_words: bool) -> ShadowStatus {
        let counts = self.0.lock();
        let hidden = || "(words of a conversation)".to_owned();
        let example = |it: &Example| {
            let is_hidden = it.is_private && !with_words;
            ShadowExample {
                turn: it.turn.to_string(),
                active: if is_hidden { hidden() } else { it.active.clone() },
                candidate: if is_hidden { hidden() } else { it.candidate.clone() },
            }
        };
        ShadowStatus { examples: counts.examples.iter().map(example).collect(), ..counts.status.clone() }
    }

    /// Compared calls, and how many of a hundred differed.
    pub(crate) fn differences(&self) -> (u64, f64) {
        let status = &self.0.lock().status;
        let differ = status.compared - status.same;
        (
            status.compared,
            if status.compared == 0 { 0.0 } else { differ as f64 * 100.0 / status.compared as f64 },
        )
    }
}
