//! What stands in a journal: the functions that are written there, their places, and the forms of their values.

use chela_store::Entry;
use chela_types::{AgentId, Digest, Millis};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::sync::Arc;

use super::aside::Overwritten;
use crate::error::Error;

/// What may stand in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    /// The turn's time and randomness.
    Start,
    /// The beginning of a router's part, where it may ask for something.
    Router,
    /// The beginning of an agent's part.
    Agent,
    /// The end of either.
    End,
    /// A whole answer of a model.
    Complete,
    /// The same, shown as drafts while it comes.
    Relay,
    /// An answer in pieces.
    Stream,
    /// A search in documents.
    Search,
    /// A read of memory.
    Get,
    /// A write to memory.
    Set,
    /// A write that depends on the version that stands.
    CompareAndSet,
    /// A request that only reads.
    Fetch,
    /// A request that may change something.
    Send,
    /// A part of a file.
    Read,
    /// A file that is kept.
    Write,
}

impl Function {
    const ALL: [Self; 15] = [
        Self::Start,
        Self::Router,
        Self::Agent,
        Self::End,
        Self::Complete,
        Self::Relay,
        Self::Stream,
        Self::Search,
        Self::Get,
        Self::Set,
        Self::CompareAndSet,
        Self::Fetch,
        Self::Send,
        Self::Read,
        Self::Write,
    ];

    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "turn.start",
            Self::Router => "turn.router",
            Self::Agent => "turn.agent",
            Self::End => "turn.end",
            Self::Complete => "models.complete",
            Self::Relay => "models.relay",
            Self::Stream => "models.stream",
            Self::Search => "knowledge.search",
            Self::Get => "memory.get",
            Self::Set => "memory.set",
            Self::CompareAndSet => "memory.compare-and-set",
            Self::Fetch => "http.fetch",
            Self::Send => "http.send",
            Self::Read => "blobs.read",
            Self::Write => "blobs.write",
        }
    }

    /// The function of an entry, whether it went well or not; none if a host of another version wrote it.
    pub(crate) fn of(entry: &Entry) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.name() == entry.called())
    }

    /// Whether it costs money or changes something.
    pub(crate) fn is_effect(self) -> bool {
        match self {
            Self::Complete | Self::Relay | Self::Stream => true,
            Self::Set | Self::CompareAndSet | Self::Send | Self::Write => true,
            Self::Start | Self::Router | Self::Agent | Self::End => false,
            Self::Search | Self::Get | Self::Fetch | Self::Read => false,
        }
    }

    /// Whether a part begins with it.
    pub(super) fn begins(self) -> bool {
        matches!(self, Self::Router | Self::Agent)
    }
}

/// Whether an entry holds what was paid for or written.
pub(super) fn is_effect(entry: &Entry) -> bool {
    !entry.has_failed() && Function::of(entry).is_some_and(Function::is_effect)
}

/// What a turn starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Start {
    /// The virtual clock's base.
    pub(crate) now: Millis,
    /// Randomness is derived from it.
    pub(crate) seed: [u8; 32],
}

/// A call of the host: its place in the turn, and what is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(unreachable_pub, reason = "stands in the engine's own error, which is public; nobody else meets it")]
pub struct Asked {
    pub(crate) seq: u32,
    pub(crate) function: String,
    pub(crate) arguments: Digest,
}

/// A place in the journal that is taken and not yet filled.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) seq: u32,
    pub(super) function: Function,
    pub(super) arguments: Digest,
    /// Which value of the memory is read or written: by the digest of the call that reads it.
    pub(super) slot: Option<Digest>,
    /// What an earlier run has done with that value, void once this place is filled.
    pub(super) overwritten: Overwritten,
}

/// What a place holds.
#[derive(Debug)]
pub(crate) enum Found<T> {
    /// The call was made before; this came back, at that time.
    Kept(T, Millis),
    /// It is to be made.
    Fresh(Place),
}

/// The pieces of a stream that its reader has taken.
pub(crate) type Spoken = Arc<parking_lot::Mutex<Vec<String>>>;

/// A stream as the journal keeps it: the pieces that the guest took, and the end if it came.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Streamed<E> {
    pub(crate) spoken: Vec<String>,
    pub(crate) end: Option<E>,
    /// It was not opened, and the end says why.
    #[serde(default)]
    pub(crate) refused: bool,
    /// The version that wanted no more of it. It will not the next time either; any other may.
    #[serde(default)]
    pub(crate) content: Option<Digest>,
}

/// A write to memory as the journal keeps it: what came of it, and which value it was.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Written<O> {
    #[serde(flatten)]
    pub(crate) outcome: O,
    #[serde(default)]
    slot: Option<Digest>,
}

impl Place {
    pub(crate) fn asked(&self) -> Asked {
        Asked { seq: self.seq, function: self.function.name().to_owned(), arguments: self.arguments }
    }

    /// A write at this place as it is kept.
    pub(crate) fn written<O>(&self, outcome: O) -> Written<O> {
        Written { outcome, slot: self.slot }
    }

    /// What an earlier run has done with the value that is written here.
    pub(crate) fn overwritten(&self) -> &Overwritten {
        &self.overwritten
    }

    pub(super) fn is_of(&self, entry: &Entry) -> bool {
        entry.called() == self.function.name() && entry.arguments == self.arguments
    }

    /// The value of an entry that is this call's.
    pub(super) fn held_by<T: DeserializeOwned>(&self, entry: &Entry) -> Option<T> {
        self.is_of(entry).then(|| serde_json::from_slice(&entry.value).ok()).flatten()
    }
}

/// Which value of the memory an entry reads or writes.
pub(super) fn slot(entry: &Entry) -> Option<Digest> {
    match Function::of(entry)? {
        Function::Get => Some(entry.arguments),
        Function::Set | Function::CompareAndSet => {
            serde_json::from_slice::<Written<serde_json::Value>>(&entry.value).ok()?.slot
        }
        _ => None,
    }
}

pub(crate) fn agent_part(agent: &AgentId) -> String {
    format!("agent {agent}")
}

pub(super) fn digest(function: Function, who: &str, arguments: &impl Serialize) -> Result<Digest, Error> {
    let bytes = serde_json::to_vec(arguments)
        .map_err(|error| Error::Configuration(format!("arguments cannot be written: {error}")))?;
    Ok(Digest::of("chela journal arguments", &[function.name().as_bytes(), who.as_bytes(), &bytes]))
}
