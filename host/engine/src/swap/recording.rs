//! What a turn leaves to be run again: its parts, each one call of a router or an agent, with what the component was
//! told, what it asked and heard, and what it said.

use chela_store::Entry;
use chela_types::{AgentId, Digest, Utterance};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::journal::{Asked, Function, Start, agent_part};

/// The asker of a router's part.
const ROUTING: &str = "router";

/// What a part was begun with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Began {
    /// The agent; absent: the router.
    pub(crate) agent: Option<AgentId>,
    /// Version of its plugin.
    pub(crate) version: Digest,
    /// What it was told beside the message and the past: kept by this digest.
    pub(crate) frame: Digest,
    /// Earlier utterances that it was shown, at most.
    pub(crate) past: usize,
    /// Of those utterances: whether they are all still there.
    pub(crate) heard: Digest,
    /// Who held the conversation.
    #[serde(default)]
    pub(crate) sticky: Option<AgentId>,
    /// What its randomness was derived for.
    pub(crate) purpose: String,
}

impl Began {
    /// As its calls are written.
    pub(crate) fn who(&self) -> String {
        self.agent.as_ref().map_or_else(|| ROUTING.to_owned(), agent_part)
    }
}

/// How a part ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// What it was begun with, for a part that left no beginning.
    #[serde(default)]
    pub(crate) began: Option<Began>,
    /// What the component said.
    pub(crate) said: Said,
    /// What it still waited for.
    #[serde(default)]
    pub(crate) pending: Vec<Asked>,
}

/// What a component said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// This, in the contract's words, as the text of a JSON value: a number that is read back from one may differ in its
    /// last bit.
    Answered(String),
    /// Nothing, by its own fault or for a provider that was slow.
    Failed(Failed),
}

/// Why a component said nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failed {
    /// It trapped; the first line of the engine's word.
    Trap(String),
    /// Its time was over, on the clock or on the processor: which of the two comes first is chance.
    Time,
    /// Its time was over while it waited for the host.
    Waiting,
    /// It reached this limit.
    Limit(String),
}

impl Said {
    pub(crate) fn answered(value: &impl Serialize) -> Self {
        Self::Answered(serde_json::to_string(value).unwrap_or_default())
    }

    /// Whether its time was over: that it would be again, too, and need not be waited for longer.
    pub(crate) fn is_out_of_time(&self) -> bool {
        matches!(self, Self::Failed(Failed::Time | Failed::Waiting))
    }

    /// What a failed call leaves; nothing if the host failed, which says nothing of the component.
    pub(crate) fn failed(error: &chela_sandbox::Error) -> Option<Self> {
        use chela_sandbox::{Limit, Reason};
        Some(Self::Failed(match &*error.reason {
            Reason::Trap { short, .. } => Failed::Trap(short.clone()),
            Reason::Timeout(_) | Reason::Limit { limit: Limit::Cpu, .. } => Failed::Time,
            Reason::Waiting { .. } => Failed::Waiting,
            Reason::Limit { limit: Limit::Pool, .. }
            | Reason::Host(_)
            | Reason::Refused(_)
            | Reason::Closed
            | Reason::Worker(_) => return None,
            Reason::Limit { limit, .. } => Failed::Limit(limit.to_string()),
        }))
    }
}

/// One call of a router or an agent.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) began: Began,
    /// The place of its first call, whether it is filled or not.
    pub(crate) first: u32,
    /// What it asked the host and heard.
    pub(crate) entries: Vec<Entry>,
    pub(crate) ended: Ended,
}

/// A turn's parts.
#[derive(Debug, Clone)]
pub(crate) struct Recording {
    /// Its time and randomness.
    pub(crate) start: Start,
    pub(crate) parts: Vec<Part>,
    /// Parts that have no end, or were written by a host that kept less; and what they were begun with, where that is
    /// known.
    pub(crate) cut_off: Vec<Option<Began>>,
}

impl Recording {
    /// Reads a whole journal; `None` without a start.
    pub(crate) fn read(entries: &[Entry]) -> Option<Self> {
        let start = entries.iter().find(|entry| Function::of(entry) == Some(Function::Start))?;
        let start = serde_json::from_slice(&start.value).ok()?;
        Some(Self::of(entries.iter().cloned(), start))
    }

    /// The parts of a stretch of a journal.
    pub(crate) fn of(entries: impl IntoIterator<Item = Entry>, start: Start) -> Self {
        let mut recording = Self { start, parts: Vec::new(), cut_off: Vec::new() };
        let (mut began, mut first, mut calls) = (None::<Option<Began>>, None, Vec::new());
        for entry in entries.into_iter().take_while(|entry| entry.seq < Entry::ASIDE) {
            match Function::of(&entry) {
                Some(Function::Start) => {}
                Some(Function::Agent | Function::Router) => {
                    recording.cut_off.extend(began.take());
                    began = Some(serde_json::from_slice::<Option<Began>>(&entry.value).ok().flatten());
                    first = Some(entry.seq + 1);
                    calls.clear();
                }
                Some(Function::End) => {
                    let ended = serde_json::from_slice::<Ended>(&entry.value).ok();
                    let begun = began.take().flatten().or_else(|| ended.as_ref()?.began.clone());
                    match (begun, ended) {
                        (Some(began), Some(ended)) => {
                            // A part without a beginning asked for nothing.
                            let first = first.take().unwrap_or(entry.seq);
                            let entries = std::mem::take(&mut calls);
                            recording.parts.push(Part { began, first, entries, ended });
                        }
                        (began, _) => recording.cut_off.push(began),
                    }
                }
                _ => calls.push(entry),
            }
        }
        recording.cut_off.extend(began);
        recording
    }
}

/// Of what was said before.
pub(crate) fn heard(past: &[Utterance]) -> Digest {
    let body = serde_json::to_vec(past).unwrap_or_default();
    Digest::of("chela 2026 past", &[&body])
}

/// What a part was told, as it is kept: written once for each that differs.
pub(crate) fn frame(told: &impl Serialize) -> Result<(Digest, String), Error> {
    let body = serde_json::to_string(told)
        .map_err(|error| Error::Configuration(format!("a frame cannot be written: {error}")))?;
    Ok((Digest::of("chela 2026 frame", &[body.as_bytes()]), body))
}
