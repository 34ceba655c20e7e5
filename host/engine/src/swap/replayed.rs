//! What a replay has shown: counts of parts, and the parts that are not the same.

use chela_types::TurnId;
use serde::{Deserialize, Serialize};

use super::compare::{compared, heard, shown};
use super::recording::Part;
use super::rerun::Rerunned;
use super::shadow::Compared;
use crate::config::Config;

/// Differences of one kind that are reported; all are counted.
const DIFFERENCES_MAX: usize = 200;
/// Longest words of a difference in bytes.
const WORDS_BYTES_MAX: usize = 2_000;

/// How far a replay is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayProgress {
    /// Turns that were looked at.
    pub turns: u64,
    /// Of so many at least.
    pub of: u64,
}

/// What a replay has shown. Counts are of parts: one call of a router or an agent. Each part that was run is the same,
/// changed, diverged or failed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayReport {
    /// Turns that were looked at.
    pub turns: u64,
    /// Parts that were run.
    pub parts: u64,
    /// The same, byte for byte.
    pub same: u64,
    /// Something else was said.
    pub changed: u64,
    /// It asked for what the recording does not hold, and ended there or, live, went on.
    pub diverged: u64,
    /// Of those that diverged: went on, and said the same.
    pub diverged_same: u64,
    /// Of those that diverged: went on, and said something else.
    pub diverged_changed: u64,
    /// It failed where the recorded version did not.
    pub failed: u64,
    /// Not run: their words are purged.
    pub purged: u64,
    /// Not run: the version that ran them is not kept any more.
    pub gone: u64,
    /// Not run: they were cut off, or kept by a host that wrote less; also those of which nobody knows whose they are.
    pub incomplete: u64,
    /// Not run: the host could not, and why the first time.
    pub broken: (u64, Option<String>),
    /// Changed and failed parts, the worst first.
    pub differences: Vec<Difference>,
    /// Diverged parts, those that said the most different first.
    pub divergences: Vec<Difference>,
    /// How long it took.
    pub millis: u64,
}

/// One part that is not the same.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The turn.
    pub turn: String,
    /// The agent, or `router`.
    pub part: String,
    /// `failed`, `changed` or `diverged`.
    pub what: String,
    /// What was said.
    pub before: String,
    /// What is said now, or where it left the recording and ended.
    pub after: String,
    /// Where it left the recording, if it did.
    pub diverged_at: Option<String>,
    /// What was said holds words of a conversation.
    pub private_before: bool,
    /// What is said now does.
    pub private_after: bool,
    /// How bad it is, from 0 to 1.
    pub weight: f64,
}

/// What became of a part.
pub(super) enum Outcome {
    Run(Rerunned),
    Purged,
    Gone,
    /// The host could not, and why.
    Broken(String),
}

impl ReplayReport {
    /// Whether nothing that was asked for is recorded.
    pub fn is_empty(&self) -> bool {
        self.parts + self.purged + self.gone + self.incomplete + self.broken.0 == 0
    }

    pub(super) fn take(&mut self, config: &Config, (turn, part): (TurnId, &Part), outcome: Outcome) {
        let rerun = match outcome {
            Outcome::Purged => return self.purged += 1,
            Outcome::Gone => return self.gone += 1,
            Outcome::Broken(why) => return self.broke(why),
            Outcome::Run(Rerunned::Host(error)) => return self.broke(error.to_string()),
            Outcome::Run(rerun) => rerun,
        };
        self.parts += 1;
        match &rerun {
            Rerunned::Said(said, None) if *said == part.ended.said => self.same += 1,
            _ => self.differs(config, (turn, part), &rerun),
        }
    }

    pub(super) fn broke(&mut self, why: String) {
        self.broken.0 += 1;
        self.broken.1.get_or_insert(why);
    }

    fn differs(&mut self, config: &Config, (turn, part): (TurnId, &Part), rerun: &Rerunned) {
        let (began, recorded) = (&part.began, &part.ended.said);
        let (before, after) = (shown(config, began, recorded), heard(config, began, rerun));
        let diverged_at = rerun.diverged();
        let what = match compared(began, recorded, rerun) {
            Compared::Failed => "failed",
            _ if diverged_at.is_some() => "diverged",
            _ => "changed",
        };
        match what {
            "failed" => self.failed += 1,
            "diverged" => self.diverged += 1,
            _ => self.changed += 1,
        }
        match rerun {
            Rerunned::Said(said, Some(_)) if said == recorded => self.diverged_same += 1,
            Rerunned::Said(_, Some(_)) if what == "diverged" => self.diverged_changed += 1,
            _ => {}
        }
        let weight = match what {
            "failed" => 1.0,
            _ if before.text == after.text => 0.0,
            _ if began.agent.is_none() => 0.9,
            _ => 0.8 * (1.0 - strsim::sorensen_dice(&before.text, &after.text)),
        };
        let cut = |text: &str| crate::words::short(text, WORDS_BYTES_MAX);
        let list = if what == "diverged" { &mut self.divergences } else { &mut self.differences };
        list.push(Difference {
            turn: turn.to_string(),
            part: began.agent.as_ref().map_or_else(|| "router".to_owned(), ToString::to_string),
            what: what.to_owned(),
            before: cut(&before.text),
            after: cut(&after.text),
            diverged_at,
            private_before: before.is_private,
            private_after: after.is_private,
            weight,
        });
        // Kept short on the way, with what is worst.
        if list.len() > 2 * DIFFERENCES_MAX {
            worst_first(list);
        }
    }

    pub(super) fn order(&mut self) {
        worst_first(&mut self.differences);
        worst_first(&mut self.divergences);
    }

    /// Without words of conversations, for those who may not read them.
    #[must_use]
    pub fn without_words(mut self) -> Self {
        let hidden = || "(words of a conversation)".to_owned();
        for difference in self.differences.iter_mut().chain(&mut self.divergences) {
            if difference.private_before {
                difference.before = hidden();
            }
            if difference.private_after {
                difference.after = hidden();
            }
        }
        self
    }
}

fn worst_first(list: &mut Vec<Difference>) {
    list.sort_by(|one, other| other.weight.total_cmp(&one.weight));
    list.truncate(DIFFERENCES_MAX);
}
