//! How an answer is written: as one object, or as a stream of chunks.

use chela_gateway::{ToolCall, ToolDelta};
use chela_types::{Finish, Usage};
use serde_json::{Map, Value, json};

use crate::front::Wire;
use crate::front::refusal::Refusal;
use crate::front::said::{Ended, Envelope, Said, Tell, Told};

/// A whole answer.
pub(in crate::front) fn whole(envelope: &Envelope, ended: &Ended) -> Value {
    let content = (!ended.text.is_empty() || ended.calls.is_empty()).then_some(&ended.text);
    let mut message = Map::new();
    message.insert("role".into(), json!("assistant"));
    message.insert("content".into(), json!(content));
    message.insert("refusal".into(), Value::Null);
    message.insert("annotations".into(), json!([]));
    if !ended.calls.is_empty() {
        message.insert("tool_calls".into(), ended.calls.iter().map(call).collect());
    }
    let choice = json!({
        "index": 0,
        "message": message,
        "logprobs": null,
        "finish_reason": reason(ended.finish),
    });
    let mut whole = frame(envelope, "chat.completion", vec![choice]);
    if let Some(counted) = &ended.counted {
        whole.insert("usage".into(), usage(&counted.usage));
    }
    Value::Object(whole)
}

fn frame(envelope: &Envelope, object: &str, choices: Vec<Value>) -> Map<String, Value> {
    let mut frame = Map::new();
    frame.insert("id".into(), json!(format!("chatcmpl-{}", envelope.id)));
    frame.insert("object".into(), json!(object));
    frame.insert("created".into(), json!(envelope.created));
    frame.insert("model".into(), json!(envelope.model));
    frame.insert("system_fingerprint".into(), Value::Null);
    frame.insert("choices".into(), Value::Array(choices));
    frame
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

/// What was read from a provider's cache is a part of the prompt here.
fn usage(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input.0,
        "completion_tokens": usage.output.0,
        "total_tokens": usage.tokens().0,
        "prompt_tokens_details": { "cached_tokens": usage.cached.0, "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
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

    fn chunk(&self, delta: &Value, reason: Option<&str>) -> Told {
        let choice = json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": reason });
        self.event(vec![choice], Value::Null)
    }

    /// Each chunk of a stream that tells usage at its end has a place for it.
    fn event(&self, choices: Vec<Value>, usage: Value) -> Told {
        let mut chunk = frame(&self.envelope, "chat.completion.chunk", choices);
        if self.envelope.include_usage {
            chunk.insert("usage".into(), usage);
        }
        data(Value::Object(chunk).to_string())
    }
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
                    told.push(self.event(Vec::new(), usage(&counted.usage)));
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
