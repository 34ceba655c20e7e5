//! OpenAI chat completions: what is asked, and how the stream is read.
//!
//! Spoken by many (Azure, vLLM, Ollama, OpenRouter …), each with a little of its own: chunks without
//! choices, usage on any chunk, errors inside a stream that began with 200. So fields are read where they
//! stand and what is unknown is passed over; but not why an answer ended, which says whether it is whole.

use chela_types::{Finish, Tokens, Usage};
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{WireError, sort};
use super::sse::Event;
use super::{Ask, Piece, Trouble, count};

/// The request's body. `strict` is OpenAI itself, which renamed the output limit; others know the old name.
pub(crate) fn body(ask: &Ask, strict: bool) -> Value {
    let system = ask.call.system.iter().map(|text| json!({"role": "system", "content": text}));
    let prompts = ask.call.prompts.iter().map(|p| json!({"role": p.role.as_str(), "content": p.text}));
    let limit = if strict { "max_completion_tokens" } else { "max_tokens" };
    let mut body = json!({
        "model": ask.model,
        "messages": system.chain(prompts).collect::<Vec<_>>(),
        "stream": true,
        "stream_options": {"include_usage": true},
        limit: ask.max_output.0,
    });
    if let (Some(temperature), Some(fields)) = (ask.call.temperature, body.as_object_mut()) {
        fields.insert("temperature".into(), json!(temperature));
    }
    body
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Counted>,
    error: Option<WireError>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    /// Thoughts, as vLLM and DeepSeek call them.
    reasoning_content: Option<Value>,
    /// The same at OpenRouter and Ollama.
    reasoning: Option<Value>,
}

impl Delta {
    fn pieces(self) -> impl Iterator<Item = Piece> {
        let thinks = [self.reasoning_content, self.reasoning].into_iter().flatten();
        let thinks = thinks.filter(|thought| thought.as_str() != Some("")).map(|_| Piece::Alive);
        let texts = [self.content, self.refusal].into_iter().flatten();
        thinks.chain(texts.filter(|text| !text.is_empty()).map(Piece::Text))
    }
}

#[derive(Deserialize)]
struct Counted {
    #[serde(default, deserialize_with = "count")]
    prompt_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default, deserialize_with = "count")]
    cached_tokens: Option<u64>,
}

/// Reads one event.
pub(crate) fn read(event: &Event) -> Result<Vec<Piece>, Trouble> {
    if event.data.trim() == "[DONE]" {
        return Ok(vec![Piece::End]);
    }
    let chunk: Chunk =
        serde_json::from_str(&event.data).map_err(|_| Trouble::bad("an event is not the json expected"))?;
    if let Some(error) = chunk.error {
        return Err(Trouble { billed: true, ..sort(200, &error, None) });
    }
    let mut pieces = Vec::new();
    // One choice was asked for: others would be somebody's mistake.
    if let Some(choice) = chunk.choices.into_iter().next() {
        pieces.extend(choice.delta.unwrap_or_default().pieces());
        // Some send an empty reason with each piece.
        let reason = choice.finish_reason.filter(|reason| !reason.is_empty());
        pieces.extend(reason.map(|reason| finish(&reason)).transpose()?.map(Piece::Finish));
    }
    pieces.extend(chunk.usage.map(|counted| {
        let cached = counted.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0);
        Piece::Usage(Usage {
            input: Tokens(counted.prompt_tokens.unwrap_or(0)),
            cached: Tokens(cached),
            output: Tokens(counted.completion_tokens.unwrap_or(0)),
            ..Usage::default()
        })
    }));
    Ok(pieces)
}

/// OpenAI's own words and those of servers that speak its format.
fn finish(reason: &str) -> Result<Finish, Trouble> {
    match reason {
        "stop" | "end_turn" | "eos" | "eos_token" | "stop_sequence" => Ok(Finish::Stop),
        "length" | "max_tokens" | "model_length" => Ok(Finish::Length),
        "content_filter" => Ok(Finish::Filtered),
        _ => Err(Trouble::UNKNOWN_END),
    }
}
