//! The world of a part that is run again: what the recording holds, and nothing else. Where the component asks for what
//! is not there, the run has *diverged*, and ends, or goes on alone: with models that are billed to a scope of their
//! own, with what may be read, and with a memory that is written nowhere.

use std::collections::BTreeMap;

use crate::contract::memory::{Entry, Scope};
use crate::error::Error;
use crate::journal::Asked;
use crate::swap::recording::{Ended, Said};

/// What stands for the world.
#[derive(Debug)]
pub(crate) struct Playback {
    /// What the recorded run still waited for when its time was over.
    cut: Vec<Asked>,
    /// Whether a run that diverges goes on, and who pays then.
    live: Option<&'static str>,
    /// Where it diverged.
    diverged: Option<Asked>,
    memory: BTreeMap<(String, String), Entry>,
}

/// Why a run that is played ended before its component did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(unreachable_pub, reason = "stands in the engine's own error, which is public; nobody else meets it")]
pub enum Stop {
    /// The recorded run ended here, too.
    #[error("the recorded call ended while it waited for `{}`", .0.function)]
    Cut(Asked),
    /// It asked for what the recording does not hold.
    #[error("it asked for `{}` as call {}, and the recording holds no such call", .0.function, .0.seq)]
    Diverged(Asked),
}

impl Playback {
    pub(crate) fn of(ended: &Ended, live: Option<&'static str>) -> Self {
        let cut = match ended.said {
            Said::Failed(_) => ended.pending.clone(),
            Said::Answered(_) => Vec::new(),
        };
        Self { cut, live, diverged: None, memory: BTreeMap::new() }
    }

    /// The recording does not hold this call.
    pub(crate) fn leave(&mut self, asked: Asked) -> Result<(), Error> {
        if self.cut.contains(&asked) && self.diverged.is_none() {
            return Err(Stop::Cut(asked).into());
        }
        let first = self.diverged.get_or_insert(asked).clone();
        match self.live {
            Some(_) => Ok(()),
            None => Err(Stop::Diverged(first).into()),
        }
    }

    /// The run reads further in a stream than the recorded one did.
    pub(crate) fn beyond(&mut self, asked: Asked) -> Result<(), Error> {
        match self.cut.contains(&asked) && self.diverged.is_none() {
            true => Err(Stop::Cut(asked).into()),
            // The rest of a stream cannot be asked for alone.
            false => Err(Stop::Diverged(self.diverged.get_or_insert(asked).clone()).into()),
        }
    }

    /// Where the run left the recording.
    pub(crate) fn diverged(&self) -> Option<&Asked> {
        self.diverged.as_ref()
    }

    /// Who pays for what the recording does not hold.
    pub(crate) fn purse(&self) -> &'static str {
        self.live.unwrap_or("replay")
    }

    /// What this run itself has written.
    pub(crate) fn remembered(&self, scope: Scope, key: &str) -> Option<Entry> {
        self.memory.get(&slot(scope, key)).cloned()
    }

    /// Writes as the store would, for this run alone: whether it was written, and the version that stands then.
    pub(crate) fn remember(
        &mut self,
        (scope, key): (Scope, &str),
        value: String,
        (stands, expected): (u64, Option<u64>),
    ) -> (bool, u64) {
        if expected.is_some_and(|expected| expected != stands) {
            return (false, stands);
        }
        let version = stands + 1;
        self.memory.insert(slot(scope, key), Entry { value, version });
        (true, version)
    }
}

fn slot(scope: Scope, key: &str) -> (String, String) {
    (format!("{scope:?}"), key.to_owned())
}
