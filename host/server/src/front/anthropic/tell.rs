//! How an answer is written: as one message, or as a stream of events.

use chela_gateway::{Kind, ToolCall, ToolDelta};
use chela_types::{Finish, Usage};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::front::Wire;
use crate::front::refusal::Refusal;
use crate::front::said::{Counted, Ended, Envelope, Said, Tell, Told, json_of};

/// The arguments of a call that has none.
const BARE: &str = "{}";

/// A whole answer, as JSON.
pub(in crate::front) fn whole(envelope: &Envelope, ended: &Ended) -> String {
    let text = (!ended.text.is_empty()).then_some(Block::Text { text: &ended.text });
    let content = text.into_iter().chain(ended.calls.iter().map(call)).collect();
    json_of(&Message::new(envelope, content, Some(reason(ended.finish)), counted(ended.counted.as_ref())))
}

#[derive(Serialize)]
struct Message<'a> {
    id: String,
    r#type: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Block<'a>>,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<()>,
    usage: Value,
}

impl<'a> Message<'a> {
    fn new(
        envelope: &'a Envelope,
        content: Vec<Block<'a>>,
        stop_reason: Option<&'static str>,
        usage: Value,
    ) -> Self {
        let (id, model) = (format!("msg_{}", envelope.id), envelope.model.as_str());
        Self {
            id,
            r#type: "message",
            role: "assistant",
            model,
            content,
            stop_reason,
            stop_sequence: None,
            usage,
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text { text: &'a str },
    ToolUse { id: &'a str, name: &'a str, input: Input<'a> },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Input<'a> {
    /// In the order in which the model wrote it.
    Written(&'a RawValue),
    Nothing {},
}

/// Arguments that were cut are no object: the reason why the answer ended says so.
fn call(call: &ToolCall) -> Block<'_> {
    let input = serde_json::from_str(&call.arguments).map_or(Input::Nothing {}, Input::Written);
    Block::ToolUse { id: &call.id, name: &call.name, input }
}

/// At which text an answer stopped, no provider of another format says: it is the end of a turn here.
const fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::Filtered => "refusal",
        Finish::ToolCalls => "tool_use",
    }
}

fn counted(counted: Option<&Counted>) -> Value {
    usage(&counted.map_or(Usage::NONE, |counted| counted.usage))
}

/// What was read from a provider's cache, or written there, is counted apart here.
fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.fresh().0,
        "cache_creation_input_tokens": usage.written.0,
        "cache_read_input_tokens": usage.cached.0,
        "output_tokens": usage.output.0,
    })
}

/// Writes a stream; remembers which block is open.
#[derive(Debug)]
pub(in crate::front) struct Teller {
    envelope: Envelope,
    open: Option<Open>,
    blocks: usize,
}

/// What the open block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    /// A tool call, by its place among them.
    Tool(usize),
}

impl Teller {
    pub(in crate::front) const fn new(envelope: Envelope) -> Self {
        Self { envelope, open: None, blocks: 0 }
    }

    /// The open block's number.
    const fn index(&self) -> usize {
        self.blocks.saturating_sub(1)
    }

    fn opens(&mut self, what: Open, block: &Value) -> Vec<Told> {
        let mut told = self.closes();
        self.open = Some(what);
        self.blocks += 1;
        let index = self.index();
        told.push(event("content_block_start", json!({ "index": index, "content_block": block })));
        told
    }

    fn closes(&mut self) -> Vec<Told> {
        let index = self.index();
        let closed = self.open.take();
        closed.map(|_| event("content_block_stop", json!({ "index": index }))).into_iter().collect()
    }

    fn goes_on(&self, delta: &Value) -> Told {
        event("content_block_delta", json!({ "index": self.index(), "delta": delta }))
    }

    fn text(&mut self, text: &str) -> Vec<Told> {
        let mut told = match self.open {
            Some(Open::Text) => Vec::new(),
            _ => self.opens(Open::Text, &json!({ "type": "text", "text": "" })),
        };
        told.push(self.goes_on(&json!({ "type": "text_delta", "text": text })));
        told
    }

    /// Blocks follow each other in this format: a call that goes on after the next has begun cannot be told.
    fn tool(&mut self, delta: &ToolDelta) -> Result<Vec<Told>, Refusal> {
        let mut told = match &delta.head {
            Some(head) => {
                let block = json!({ "type": "tool_use", "id": head.id, "name": head.name, "input": {} });
                self.opens(Open::Tool(delta.index), &block)
            }
            None if self.open == Some(Open::Tool(delta.index)) => Vec::new(),
            // The gateway completes calls without arguments at the end: this one's block was begun with as much.
            None if delta.arguments == BARE => return Ok(Vec::new()),
            None => {
                let what = "its tool calls are not told one after the other";
                return Err(Refusal::Gateway(Kind::BadResponse { what }));
            }
        };
        if !delta.arguments.is_empty() {
            let partial = json!({ "type": "input_json_delta", "partial_json": delta.arguments });
            told.push(self.goes_on(&partial));
        }
        Ok(told)
    }

    fn end(&mut self, ended: &Ended) -> Vec<Told> {
        let mut told = self.closes();
        let delta = json!({ "stop_reason": reason(ended.finish), "stop_sequence": null });
        let usage = counted(ended.counted.as_ref());
        told.push(event("message_delta", json!({ "delta": delta, "usage": usage })));
        told.push(event("message_stop", json!({})));
        told
    }
}

/// An event says its name in its data, too.
fn event(name: &'static str, mut data: Value) -> Told {
    if let Some(data) = data.as_object_mut() {
        data.insert("type".to_owned(), json!(name));
    }
    Told { event: Some(name), data: data.to_string() }
}

impl Tell for Teller {
    /// What was read is counted at the end: until then it is told as nothing.
    fn begin(&mut self) -> Vec<Told> {
        let message = Message::new(&self.envelope, Vec::new(), None, usage(&Usage::NONE));
        vec![event("message_start", json!({ "message": message })), event("ping", json!({}))]
    }

    fn say(&mut self, said: Said) -> Result<Vec<Told>, Refusal> {
        match said {
            Said::Text(text) => Ok(self.text(&text)),
            Said::Tool(delta) => self.tool(&delta),
            Said::End(ended) => Ok(self.end(&ended)),
        }
    }

    /// No `message_stop`: the answer has not come to its end.
    fn fail(&mut self, refusal: &Refusal, request: &str) -> Vec<Told> {
        let data = refusal.body(Wire::Anthropic, request).to_string();
        vec![Told { event: Some("error"), data }]
    }
}

#[cfg(test)]
#[path = "tell_tests.rs"]
mod tests;
