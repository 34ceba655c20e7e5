//! Counts of a shadow run: how often a candidate said the same as the version that serves.

use chela_types::TurnId;
use parking_lot::Mutex;
use std::collections::VecDeque;

use super::status::{ShadowExample, ShadowStatus};

/// Longest word of an example in bytes.
const WORDS_BYTES_MAX: usize = 300;

/// Calls in a row that ran into a limit, after which no more are run: they take what the active version needs.
const EXHAUSTED_MAX: u32 = 8;

/// What a shadow run has shown so far.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    running: usize,
    /// Of the last calls, how many in a row ran into a limit.
    exhausted: u32,
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
        if counts.running >= in_flight_max || counts.status.stopped {
            counts.status.skipped += 1;
            return None;
        }
        counts.running += 1;
        Some(Place(std::sync::Arc::clone(self)))
    }

    /// A call that is not run.
    pub(crate) fn skip(&self) {
        self.0.lock().status.skipped += 1;
    }

    /// Whether a call ran into a limit; true if this was one too many, and no more are run.
    pub(crate) fn note_limit(&self, is_exhausted: bool) -> bool {
        let mut counts = self.0.lock();
        counts.exhausted = if is_exhausted { counts.exhausted + 1 } else { 0 };
        let stops = counts.exhausted >= EXHAUSTED_MAX && !counts.status.stopped;
        counts.status.stopped |= stops;
        stops
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_shadow_that_runs_into_its_limits_again_and_again_is_not_run_any_more() {
        let tally = Arc::new(Tally::default());
        for limit in 1..EXHAUSTED_MAX {
            assert!(!tally.note_limit(true), "{limit}");
        }
        assert!(!tally.note_limit(false), "one that ends within them begins the count anew");
        let stops: Vec<bool> = (0..=EXHAUSTED_MAX).map(|_| tally.note_limit(true)).collect();
        assert_eq!(stops.iter().position(|stops| *stops), Some(EXHAUSTED_MAX as usize - 1));
        assert_eq!(stops.iter().filter(|stops| **stops).count(), 1, "it is told once");
        assert!(tally.place(8).is_none());
        let status = tally.status(false);
        assert!(status.stopped && status.skipped == 1, "{status:?}");
    }
}
