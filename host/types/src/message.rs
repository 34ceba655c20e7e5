//! What people say, and who the host says they are.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::{AgentId, ChannelId, Millis, TurnId};

/// The parts of a key, each as found in the raw request, in the manifest's order.
pub type Key = Vec<String>;

/// What the host itself read from a verified request, at the places that the channel's manifest declares.
/// A channel component may only choose among these, never make one up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Every key by which the platform may tell of this post; all become unique. Not empty.
    pub dedupe: Vec<Key>,
    /// The conversation.
    pub conversation: Key,
    /// The sender's platform id.
    pub sender: String,
    /// The platform's room, where it has one.
    pub place: Option<String>,
    /// True if a declared marker says that the sender or the room is from outside the organisation.
    pub outsider: bool,
    /// Where the answer goes: names and values of the manifest's bindings.
    pub target: BTreeMap<String, String>,
}

/// Somebody who wrote a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The platform's id, as the host read it.
    pub id: String,
    /// A display name. Not proof of anything.
    pub name: Option<String>,
    /// From outside the organisation.
    pub outsider: bool,
}

/// A file that came with a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// File name.
    pub name: String,
    /// Media type as the platform told it.
    pub media_type: String,
    /// Bytes.
    pub size: u64,
}

/// One message of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The turn that handles it; one turn for each message.
    pub id: TurnId,
    /// The channel account it came through.
    pub channel: ChannelId,
    /// The platform's room.
    pub place: Option<String>,
    /// Who wrote it.
    pub sender: Person,
    /// What.
    pub text: String,
    /// Files.
    pub attachments: Vec<Attachment>,
    /// When the host received it.
    pub received: Millis,
}

/// Where an answer goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Target {
    /// Names and values of the manifest's bindings, extracted by the host.
    pub bound: BTreeMap<String, String>,
    /// The adapter's own notes. Not trusted.
    pub notes: Option<String>,
}

/// Who spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// The person.
    Person,
    /// An agent.
    Agent,
}

/// An earlier utterance of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Utterance {
    /// Who spoke.
    pub speaker: Speaker,
    /// Which agent, if one.
    pub agent: Option<AgentId>,
    /// What was said.
    pub text: String,
}
