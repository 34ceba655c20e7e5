//! How an answer is written: as one object, or as a stream of chunks.

use chela_gateway::{ToolCall, ToolDelta};
use chela_types::Finish;
use serde::Serialize;
use serde_json::{Value, json};

use crate::front::Wire;
use crate::front::refusal::Refusal;
use crate::front::said::{Ended, Envelope, Said, Tell, Told, json_of};

/// A whole answer, as JSON.
pub(in crate::front) fn whole(envelope: &Envelope, ended: &Ended) -> String {
    let content = !ended.text.is_empty() || ended.calls.is_empty();
    let message = Message {
        role: "assistant",
        content: content.then_some(&ended.text),
        refusal: None,
        annotations: [],
        tool_calls: ended.calls.iter().map(call).collect(),
    };
    let choice = Choice { index: 0, message, logprobs: None, finish_reason: reason(ended.finish) };
    let usage = ended.counted.as_ref().map(|counted| Some(usage(&counted.usage)));
    json_of(&Frame::new(envelope, "chat.completion", [choice], usage))
}

/// What stands around answers and chunks.
#[derive(Serialize)]
struct Frame<'a, C> {
    id: String,
    object: &'static str,
    created: i64,
    model: &'a str,
    system_fingerprint: Option<()>,
    choices: C,
    /// Written as nothing in the chunks of a stream that tells it at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

impl<'a, C: Serialize> Frame<'a, C> {
    fn new(envelope: &'a Envelope, object: &'static str, choices: C, usage: Option<Option<Usage>>) -> Self {
        let id = format!("chatcmpl-{}", envelope.id);
        let (created, model) = (envelope.created, envelope.model.as_str());
        Self { id, object, created, model, system_fingerprint: None, choices, usage }
    }
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<&'a String>,
    refusal: Option<()>,
    annotations: [(); 0],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
}

fn call(call: &ToolCall) -> Value {
    let function = json!({ "name": call.name, "arguments": call.arguments });
    json!({ "id": call.id, "type": "function", "function": function })
}

const fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Filtered => "content_filter",
        Finish::ToolCalls => "tool_calls",
    }
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: OfPrompt,
    completion_tokens_details: OfCompletion,
}

#[derive(Serialize)]
struct OfPrompt {
    cached_tokens: u64,
    audio_tokens: u64,
}

#[derive(Serialize)]
struct OfCompletion {
    reasoning_tokens: u64,
    audio_tokens: u64,
    accepted_prediction_tokens: u64,
    rejected_prediction_tokens: u64,
}

/// What was read from a provider's cache is a part of the prompt here.
const fn usage(usage: &chela_types::Usage) -> Usage {
    Usage {
        prompt_tokens: usage.input.0,
        completion_tokens: usage.output.0,
        total_tokens: usage.tokens().0,
        prompt_tokens_details: OfPrompt { cached_tokens: usage.cached.0, audio_tokens: 0 },
        completion_tokens_details: OfCompletion {
            reasoning_tokens: 0,
            audio_tokens: 0,
            accepted_prediction_tokens: 0,
            rejected_prediction_tokens: 0,
        },
    }
}

/// Writes a stream.
#[derive(Debug)]
pub(in crate::front) struct Teller {
    envelope: Envelope,
}

impl Teller {
    pub(in crate::front) const fn new(envelope: Envelope) -> Self {
        Self { envelope }
    }

    fn chunk(&self, delta: &Value, reason: Option<&'static str>) -> Told {
        self.event(&[Part { index: 0, delta, logprobs: None, finish_reason: reason }], None)
    }

    /// Each chunk of a stream that tells usage at its end has a place for it.
    fn event(&self, choices: &[Part<'_>], usage: Option<Usage>) -> Told {
        let usage = self.envelope.include_usage.then_some(usage);
        let chunk = Frame::new(&self.envelope, "chat.completion.chunk", choices, usage);
        data(json_of(&chunk))
    }
}

/// What a chunk adds.
#[derive(Serialize)]
struct Part<'a> {
    index: usize,
    delta: &'a Value,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

const fn data(data: String) -> Told {
    Told { event: None, data }
}

fn fragment(delta: ToolDelta) -> Value {
    let ToolDelta { index, head, arguments } = delta;
    let fragment = match head {
        Some(head) => json!({
            "index": index,
            "id": head.id,
            "type": "function",
            "function": { "name": head.name, "arguments": arguments },
        }),
        None => json!({ "index": index, "function": { "arguments": arguments } }),
    };
    json!({ "tool_calls": [fragment] })
}

impl Tell for Teller {
    fn begin(&mut self) -> Vec<Told> {
        vec![self.chunk(&json!({ "role": "assistant", "content": "", "refusal": null }), None)]
    }

    fn say(&mut self, said: Said) -> Result<Vec<Told>, Refusal> {
        Ok(match said {
            Said::Text(text) => vec![self.chunk(&json!({ "content": text }), None)],
            Said::Tool(delta) => vec![self.chunk(&fragment(delta), None)],
            Said::End(ended) => {
                let mut told = vec![self.chunk(&json!({}), Some(reason(ended.finish)))];
                if let Some(counted) = ended.counted.filter(|_| self.envelope.include_usage) {
                    told.push(self.event(&[], Some(usage(&counted.usage))));
                }
                told.push(data("[DONE]".to_owned()));
                told
            }
        })
    }

    /// No `[DONE]`: the answer is not done.
    fn fail(&mut self, refusal: &Refusal, request: &str) -> Vec<Told> {
        vec![data(refusal.body(Wire::OpenAi, request).to_string())]
    }
}

#[cfg(test)]
#[path = "tell_tests.rs"]
mod tests;
