//! The door for fuzzing: what guests, adapters and strangers say to the stations, as bytes, driven without a guest. Not part
//! of what other rooms use.

use chela_sandbox::fuzzing::worker;
use chela_sandbox::{Limits, Manifest};
use chela_types::{AgentId, Decision, Digest, Message, PluginId, Reply};
use std::io;
use std::time::Duration;

use crate::agent::{self, Outcome};
use crate::channel::Tables;
use crate::config::Config;
use crate::contract::{answering, routing, types};
use crate::error::Error;
use crate::router::{self, Routing, Taken};

pub use crate::capability::fuzzing as capability;
pub use crate::channel::fuzzing as channel;

/// Reads the tables of a channel's manifest.
///
/// # Errors
/// A sentence that names the key.
pub fn tables(manifest: &Manifest) -> Result<(), String> {
    Tables::read(manifest.channel.clone()).map(drop)
}

/// What becomes of a router's word on a message.
///
/// # Errors
/// The bytes are none. Inside: what the station says of it.
pub fn routed(
    config: &Config,
    message: &Message,
    (said, limits): (&[u8], &Limits),
) -> io::Result<Result<Decision, Error>> {
    let said: router::Said = worker::read(said, limits)?;
    Ok(decided(config, message, said))
}

fn decided(config: &Config, message: &Message, said: router::Said) -> Result<Decision, Error> {
    let routing = Routing::new(config, message, None)?;
    let router = PluginId::new("router").map_err(|error| Error::Configuration(error.to_string()))?;
    let digest = Digest::from_bytes([0; 32]).to_string();
    Ok(match routing.taken((&router, "1.0.0", digest), Ok(said))? {
        Taken::Sound(decision) | Taken::Failed(decision, _) => decision,
    })
}

/// What becomes of an agent's word.
#[derive(Debug)]
pub enum Answered {
    /// It is said, and the record has this word for it.
    Say(Reply, String),
    /// Another agent has the turn.
    HandOver(AgentId, String),
    /// It is run again.
    Again(Duration),
}

/// What becomes of an agent's word on a message.
///
/// # Errors
/// The bytes are none. Inside: what the station says of it.
pub fn answered(
    config: &Config,
    (agent, message): (&AgentId, &Message),
    (said, limits): (&[u8], &Limits),
) -> io::Result<Result<Answered, Error>> {
    let said: agent::Said = worker::read(said, limits)?;
    let shown = agent::shown(&said, config);
    tracing::trace!(shown = shown.text, "fuzzed");
    Ok(agent::taken(agent, config, message, said).map(|outcome| match outcome {
        Outcome::Say { reply, word } => Answered::Say(reply, word),
        Outcome::HandOver { agent, reason } => Answered::HandOver(agent, reason),
        Outcome::AskAgain { after } => Answered::Again(after),
    }))
}

/// What routers say, and what these words are called.
pub fn router_samples() -> Vec<(&'static str, Vec<u8>)> {
    let decision = |agent: &str, score, reason: &str| {
        let alternatives = vec![routing::Alternative { agent: "support".to_owned(), score: 0.5 }];
        Ok(routing::Decision { agent: agent.to_owned(), score, alternatives, reason: reason.to_owned() })
    };
    let all: [(&str, router::Said); 6] = [
        ("chosen", decision("sales", 0.9, "the word `price`")),
        ("nan", decision("sales", f32::NAN, "no number")),
        ("forbidden", decision("hr", 1.0, "whoever asks")),
        ("ghost", decision("\u{1b}[2Jghost", 1.0, "\u{1b}[2J")),
        ("no-match", Err(routing::RoutingError::NoMatch("none of these".to_owned()))),
        ("other", Err(routing::RoutingError::Other("broken".to_owned()))),
    ];
    all.into_iter().map(|(name, said)| (name, postcard::to_stdvec(&said).unwrap_or_default())).collect()
}

/// What agents say, and what these words are called.
pub fn agent_samples() -> Vec<(&'static str, Vec<u8>)> {
    use answering::{AnsweringError, Outcome};
    let link = || types::Link { label: "terms".to_owned(), url: "https://example.com/terms".to_owned() };
    let choice = types::Choice { label: "Yes".to_owned(), value: "yes".to_owned() };
    let reply = || types::Reply {
        text: "hello".to_owned(),
        blocks: vec![
            types::Block::Link(link()),
            types::Block::Choices(vec![choice.clone()]),
            types::Block::Citation(link()),
        ],
        attachments: vec!["blob".to_owned()],
    };
    let hand_over = |agent: &str| {
        Ok(Outcome::HandOver(answering::HandOver { agent: agent.to_owned(), reason: "a price".to_owned() }))
    };
    let escalation = answering::Escalation { reason: "angry".to_owned(), reply: reply() };
    let later = |after_ms| Ok(Outcome::AskAgain(answering::Later { after_ms, reason: "not yet".to_owned() }));
    let empty = types::Reply { text: " \0".to_owned(), blocks: Vec::new(), attachments: Vec::new() };
    let all: [(&str, agent::Said); 12] = [
        ("reply", Ok(Outcome::Reply(reply()))),
        ("empty", Ok(Outcome::Reply(empty))),
        ("resolved", Ok(Outcome::Resolved(reply()))),
        ("escalate", Ok(Outcome::Escalate(escalation))),
        ("hand-over", hand_over("sales")),
        ("forbidden", hand_over("hr")),
        ("ghost", hand_over("\u{1b}[2Jghost")),
        ("later", later(0)),
        ("never", later(u64::MAX)),
        ("unsuitable", Err(AnsweringError::Unsuitable("not mine".to_owned()))),
        ("unavailable", Err(AnsweringError::Unavailable("no model".to_owned()))),
        ("other", Err(AnsweringError::Other("broken".to_owned()))),
    ];
    all.into_iter().map(|(name, said)| (name, postcard::to_stdvec(&said).unwrap_or_default())).collect()
}
