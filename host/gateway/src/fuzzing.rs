//! The door for fuzzing: streams of providers, as bytes, driven without a provider. Not part of what other rooms use.

use std::sync::Arc;

use chela_types::{AgentId, TenantId, TierId};

use crate::calls::Calls;
use crate::provider::{Piece, Trouble, Wire, decoded};
use crate::{Call, Tool, ToolCall};

/// The tools that are offered; the samples call them.
pub const OFFERED: [&str; 2] = ["weather", "clock"];

/// What there is in a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// Pieces of every kind.
    pub pieces: usize,
    /// The tools that are called.
    pub calls: Vec<ToolCall>,
}

/// A stream of chat completions, in the pieces in which it comes.
///
/// # Errors
/// The class of the error that it is refused with.
pub fn chat(cuts: &[&[u8]]) -> Result<Told, &'static str> {
    stream(Wire::Chat, cuts)
}

/// A stream of responses.
///
/// # Errors
/// The class of the error that it is refused with.
pub fn responses(cuts: &[&[u8]]) -> Result<Told, &'static str> {
    stream(Wire::Responses, cuts)
}

/// A stream of messages.
///
/// # Errors
/// The class of the error that it is refused with.
pub fn messages(cuts: &[&[u8]]) -> Result<Told, &'static str> {
    stream(Wire::Messages { prompt_cache: false }, cuts)
}

fn stream(wire: Wire, cuts: &[&[u8]]) -> Result<Told, &'static str> {
    let told = || -> Result<Told, Trouble> {
        let pieces = decoded(wire, cuts.iter().copied())?;
        let mut calls = Calls::new(Arc::new(asked().ok_or(Trouble::bad("nobody asks"))?));
        for piece in &pieces {
            if let Piece::Tool(delta) = piece {
                calls.take(delta)?;
            }
        }
        Ok(Told { pieces: pieces.len(), calls: calls.into_made() })
    };
    told().map_err(|trouble| trouble.kind.class())
}

fn asked() -> Option<Call> {
    let (agent, tier) = (AgentId::new("fuzzed").ok()?, TierId::new("fuzzed").ok()?);
    let tool = |name: &str| Tool {
        name: name.to_owned(),
        description: None,
        parameters: serde_json::json!({}).into(),
        strict: None,
    };
    let tools = OFFERED.map(tool).to_vec();
    Some(Call { tools, ..Call::new(TenantId::default_tenant(), agent, "fuzzed", tier, Vec::new()) })
}
