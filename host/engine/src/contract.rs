//! The contract's bindings: three worlds that share their interfaces, and what turns the host's words into
//! the contract's and back. `wit/0.1.0` is the source; nothing here decides anything.

/// The agent world; the other two take their shared interfaces from here.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::panic
)]
pub(crate) mod agent {
    wasmtime::component::bindgen!({
        path: "../../wit/0.1.0",
        world: "agent",
        imports: { default: async | trappable },
        exports: { default: async },
        require_store_data_send: true,
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
        with: {
            "chela:plugin/config": chela_sandbox::bindings::chela::plugin::config,
            "chela:plugin/log": chela_sandbox::bindings::chela::plugin::log,
            "chela:plugin/models.stream-reader": crate::capability::StreamReader,
        },
    });
}

/// The router world.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::panic
)]
pub(crate) mod router {
    wasmtime::component::bindgen!({
        path: "../../wit/0.1.0",
        world: "router",
        imports: { default: async | trappable },
        exports: { default: async },
        require_store_data_send: true,
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
        with: {
            "chela:plugin/config": chela_sandbox::bindings::chela::plugin::config,
            "chela:plugin/log": chela_sandbox::bindings::chela::plugin::log,
            "chela:plugin/types": super::agent::chela::plugin::types,
            "chela:plugin/models": super::agent::chela::plugin::models,
            "chela:plugin/memory": super::agent::chela::plugin::memory,
        },
    });
}

/// The channel world.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::panic
)]
pub(crate) mod channel {
    wasmtime::component::bindgen!({
        path: "../../wit/0.1.0",
        world: "channel",
        imports: { default: async | trappable },
        exports: { default: async },
        require_store_data_send: true,
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
        with: {
            "chela:plugin/config": chela_sandbox::bindings::chela::plugin::config,
            "chela:plugin/log": chela_sandbox::bindings::chela::plugin::log,
            "chela:plugin/types": super::agent::chela::plugin::types,
        },
    });
}

pub(crate) use agent::chela::plugin::{blobs, http, knowledge, memory, models, tools, types};
pub(crate) use agent::exports::chela::plugin::answering;
pub(crate) use channel::exports::chela::plugin::translating;
pub(crate) use router::exports::chela::plugin::routing;

use chela_types::{Block, Choice, Link, Message, Reply, Speaker, Utterance};

/// The contract's message.
pub(crate) fn message(message: &Message) -> types::Message {
    types::Message {
        id: message.id.to_string(),
        text: message.text.clone(),
        sender: types::Person {
            id: message.sender.id.clone(),
            name: message.sender.name.clone(),
            outsider: message.sender.outsider,
        },
        channel: message.channel.to_string(),
        place: message.place.clone(),
        attachments: message
            .attachments
            .iter()
            .map(|file| types::Attachment {
                name: file.name.clone(),
                media_type: file.media_type.clone(),
                size: file.size,
                blob: None,
            })
            .collect(),
        received_ms: u64::try_from(message.received.0).unwrap_or_default(),
    }
}

/// The contract's utterances.
pub(crate) fn utterances(past: &[Utterance]) -> Vec<types::Utterance> {
    past.iter()
        .map(|said| types::Utterance {
            speaker: match said.speaker {
                Speaker::Person => types::Speaker::Person,
                Speaker::Agent => types::Speaker::Agent,
            },
            agent: said.agent.as_ref().map(ToString::to_string),
            text: said.text.clone(),
        })
        .collect()
}

/// The contract's reply.
pub(crate) fn reply_out(reply: &Reply) -> types::Reply {
    let link = |link: &Link| types::Link { label: link.label.clone(), url: link.url.clone() };
    let choice = |choice: &Choice| types::Choice { label: choice.label.clone(), value: choice.value.clone() };
    types::Reply {
        text: reply.text.clone(),
        blocks: reply
            .blocks
            .iter()
            .map(|block| match block {
                Block::Link(it) => types::Block::Link(link(it)),
                Block::Choices(list) => types::Block::Choices(list.iter().map(choice).collect()),
                Block::Citation(it) => types::Block::Citation(link(it)),
            })
            .collect(),
        attachments: reply.attachments.clone(),
    }
}

/// The host's reply.
pub(crate) fn reply_in(reply: types::Reply) -> Reply {
    let link = |link: types::Link| Link { label: link.label, url: link.url };
    let choice = |choice: types::Choice| Choice { label: choice.label, value: choice.value };
    Reply {
        text: reply.text.replace('\0', ""),
        blocks: reply
            .blocks
            .into_iter()
            .map(|block| match block {
                types::Block::Link(it) => Block::Link(link(it)),
                types::Block::Choices(list) => Block::Choices(list.into_iter().map(choice).collect()),
                types::Block::Citation(it) => Block::Citation(link(it)),
            })
            .collect(),
        attachments: reply.attachments,
    }
}
