//! Anthropic messages: what is asked, and how the stream is read.
//!
//! Usage comes in two parts (input at the start, output at the end) and counts cached input apart; it is
//! turned into this house's way of counting here, where the wire format is known.

use chela_types::{Finish, Tokens, Usage};
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{WireError, sort};
use super::sse::Event;
use super::{Ask, Piece, Trouble, count};
use crate::Role;

/// The API version that this wire format has.
pub(crate) const VERSION: &str = "2023-06-01";

/// The request's body.
pub(crate) fn body(ask: &Ask) -> Value {
    let mut body = json!({
        "model": ask.model,
        "messages": alternating(ask),
        "stream": true,
        "max_tokens": ask.max_output.0,
    });
    if let Some(fields) = body.as_object_mut() {
        fields.extend(ask.call.system.iter().map(|text| ("system".into(), json!(text))));
        fields.extend(ask.call.temperature.map(|value| ("temperature".into(), json!(value))));
    }
    body
}

/// Messages in turns: neighbours of one role are joined, and an answer without a question is left out.
fn alternating(ask: &Ask) -> Vec<Value> {
    let mut turns: Vec<(Role, String)> = Vec::new();
    for prompt in ask.call.prompts.iter().skip_while(|prompt| prompt.role == Role::Assistant) {
        match turns.last_mut() {
            Some((role, text)) if *role == prompt.role => {
                text.push_str("\n\n");
                text.push_str(&prompt.text);
            }
            _ => turns.push((prompt.role, prompt.text.clone())),
        }
    }
    turns.into_iter().map(|(role, text)| json!({"role": role.as_str(), "content": text})).collect()
}

#[derive(Deserialize)]
struct Message {
    #[serde(default, rename = "type")]
    kind: String,
    message: Option<Start>,
    content_block: Option<Block>,
    delta: Option<Delta>,
    usage: Option<Counted>,
    error: Option<WireError>,
}

#[derive(Deserialize)]
struct Start {
    usage: Option<Counted>,
}

#[derive(Deserialize)]
struct Block {
    #[serde(default, rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Delta {
    text: Option<String>,
    stop_reason: Option<String>,
}

#[derive(Deserialize, Default, Clone, Copy)]
struct Counted {
    #[serde(default, deserialize_with = "count")]
    input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    cache_read_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    output_tokens: Option<u64>,
}

/// Reads the stream; remembers what was counted so far.
#[derive(Default)]
pub(crate) struct Reader {
    counted: Counted,
    /// Inside a block of thoughts. These may be left out of the stream, which then has only pings.
    thinks: bool,
}

impl Reader {
    /// Reads one event.
    pub(crate) fn read(&mut self, event: &Event) -> Result<Vec<Piece>, Trouble> {
        let message: Message = serde_json::from_str(&event.data)
            .map_err(|_| Trouble::bad("an event is not the json expected"))?;
        let text = |delta: Option<Delta>| delta.and_then(|delta| delta.text).filter(|text| !text.is_empty());
        let alive = |thinks: bool| thinks.then_some(Piece::Alive).into_iter().collect();
        Ok(match message.kind.as_str() {
            "message_start" => {
                self.count(message.message.and_then(|start| start.usage)).into_iter().collect()
            }
            "content_block_start" => {
                self.thinks = message.content_block.is_some_and(|block| block.kind.contains("thinking"));
                alive(self.thinks)
            }
            "content_block_delta" if !self.thinks => {
                text(message.delta).map(Piece::Text).into_iter().collect()
            }
            "content_block_delta" | "ping" => alive(self.thinks),
            "content_block_stop" => {
                self.thinks = false;
                Vec::new()
            }
            "message_delta" => {
                let reason = message.delta.and_then(|delta| delta.stop_reason);
                let ended = reason.map(|reason| finish(&reason)).transpose()?.map(Piece::Finish);
                self.count(message.usage).into_iter().chain(ended).collect()
            }
            "message_stop" => vec![Piece::End],
            "error" => {
                let error = message.error.unwrap_or_default();
                return Err(Trouble { billed: true, ..sort(200, &error, None) });
            }
            _ => Vec::new(),
        })
    }

    fn count(&mut self, new: Option<Counted>) -> Option<Piece> {
        let (new, old) = (new?, self.counted);
        self.counted = Counted {
            input_tokens: new.input_tokens.or(old.input_tokens),
            cache_creation_input_tokens: new.cache_creation_input_tokens.or(old.cache_creation_input_tokens),
            cache_read_input_tokens: new.cache_read_input_tokens.or(old.cache_read_input_tokens),
            output_tokens: new.output_tokens.or(old.output_tokens),
        };
        let of = |tokens: Option<u64>| tokens.unwrap_or(0);
        let cached = of(self.counted.cache_read_input_tokens);
        let written = of(self.counted.cache_creation_input_tokens);
        let fresh = of(self.counted.input_tokens).saturating_add(written);
        Some(Piece::Usage(Usage {
            input: Tokens(fresh.saturating_add(cached)),
            cached: Tokens(cached),
            written: Tokens(written),
            output: Tokens(of(self.counted.output_tokens)),
        }))
    }
}

fn finish(reason: &str) -> Result<Finish, Trouble> {
    match reason {
        "end_turn" | "stop_sequence" => Ok(Finish::Stop),
        "max_tokens" | "model_context_window_exceeded" => Ok(Finish::Length),
        "refusal" => Ok(Finish::Filtered),
        _ => Err(Trouble::UNKNOWN_END),
    }
}
