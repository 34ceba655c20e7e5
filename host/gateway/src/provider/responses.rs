//! OpenAI responses: what is asked, and how the stream is read.
//!
//! Nothing is kept there (`store` is false), so each call tells the whole conversation, and thoughts are not told again.
//! Events are numbered: one that was repeated or came out of order is noticed, whatever is in it.

use chela_types::{Finish, Tokens, Usage};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::http::{WireError, sort};
use super::sse::Event;
use super::{Ask, Object, Piece, Trouble, count, told};
use crate::{Call, Effort, Form, Kind, Part, Prompt, Role, Tool, ToolChoice, ToolDelta, ToolHead};

/// The request's body. This format has no texts to stop at, and no seed, which is a wish only.
pub(crate) fn body(ask: &Ask) -> Result<Object, Trouble> {
    let call = &*ask.call;
    if !call.stop.is_empty() {
        return Err(Trouble::new(Kind::Unsupported { what: "texts to stop at" }, false));
    }
    let mut body = Object::default();
    body.put("model", Some(&ask.model));
    body.put("instructions", call.system.as_ref());
    body.put("input", Some(call.prompts.iter().flat_map(items).collect::<Vec<_>>()));
    body.put("stream", Some(true));
    body.put("store", Some(false));
    body.put("max_output_tokens", Some(ask.max_output.0));
    body.put("temperature", call.temperature);
    body.put("top_p", call.top_p);
    body.put("reasoning", call.effort.map(Effort::as_str).map(|effort| json!({"effort": effort})));
    body.put("text", form(&call.form).map(|format| Object::default().with("format", format)));
    tools(&mut body, call);
    Ok(body)
}

fn tools(body: &mut Object, call: &Call) {
    if call.tools.is_empty() {
        return;
    }
    body.put("tools", Some(call.tools.iter().map(tool).collect::<Vec<_>>()));
    body.put("parallel_tool_calls", call.parallel_tool_calls);
    body.put(
        "tool_choice",
        match &call.tool_choice {
            ToolChoice::Auto => None,
            ToolChoice::None => Some(json!("none")),
            ToolChoice::Required => Some(json!("required")),
            ToolChoice::Named(name) => Some(json!({"type": "function", "name": name})),
        },
    );
}

/// Left out, `strict` is true here, and false in the other formats.
fn tool(tool: &Tool) -> Object {
    let mut function = Object::default();
    function.put("type", Some("function"));
    function.put("name", Some(&tool.name));
    function.put("description", tool.description.as_ref());
    function.put("parameters", Some(&tool.parameters));
    function.put("strict", Some(tool.strict.unwrap_or(false)));
    function
}

fn form(form: &Form) -> Option<Object> {
    match form {
        Form::Text => None,
        Form::JsonObject => Some(Object::default().with("type", "json_object")),
        Form::JsonSchema { name, schema, strict } => {
            let mut inner = Object::default();
            inner.put("type", Some("json_schema"));
            inner.put("name", Some(name));
            inner.put("schema", Some(schema));
            inner.put("strict", *strict);
            Some(inner)
        }
    }
}

/// Calls and results are items of their own; results come first.
fn items(prompt: &Prompt) -> Vec<Value> {
    let results = prompt
        .tool_results()
        .map(|result| json!({"type": "function_call_output", "call_id": result.id, "output": told(result)}));
    let calls = prompt.tool_calls().map(|call| {
        json!({"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments})
    });
    let parts: Vec<Value> = prompt.parts.iter().filter_map(|part| content(prompt.role, part)).collect();
    let said = (!parts.is_empty()).then(|| json!({"role": prompt.role.as_str(), "content": parts}));
    results.chain(said).chain(calls).collect()
}

fn content(role: Role, part: &Part) -> Option<Value> {
    match (role, part) {
        (Role::User, Part::Text(text)) => Some(json!({"type": "input_text", "text": text})),
        (Role::Assistant, Part::Text(text)) => Some(json!({"type": "output_text", "text": text})),
        (_, Part::Image(image)) => Some(json!({"type": "input_image", "image_url": image.address()})),
        (_, Part::ToolCall(_) | Part::ToolResult(_)) => None,
    }
}

#[derive(Deserialize)]
struct Told {
    #[serde(default, rename = "type")]
    kind: String,
    sequence_number: Option<u64>,
    output_index: Option<u64>,
    item: Option<Item>,
    delta: Option<Value>,
    arguments: Option<String>,
    response: Option<Response>,
    /// Of an error that stands by itself.
    code: Option<Value>,
    error: Option<WireError>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default, rename = "type")]
    kind: String,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Response {
    usage: Option<Counted>,
    incomplete_details: Option<Incomplete>,
    error: Option<WireError>,
}

#[derive(Deserialize)]
struct Incomplete {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Counted {
    #[serde(default, deserialize_with = "count")]
    input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    output_tokens: Option<u64>,
    input_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default, deserialize_with = "count")]
    cached_tokens: Option<u64>,
}

impl Counted {
    fn usage(self) -> Piece {
        let cached = self.input_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0);
        Piece::Usage(Usage {
            input: Tokens(self.input_tokens.unwrap_or(0)),
            cached: Tokens(cached),
            output: Tokens(self.output_tokens.unwrap_or(0)),
            ..Usage::default()
        })
    }
}

/// Reads the stream; remembers the number of the last event and what was said of each tool call.
#[derive(Default)]
pub(crate) struct Reader {
    last: Option<u64>,
    /// By the place in the output: which call it is, and its arguments.
    calls: BTreeMap<u64, (usize, String)>,
}

impl Reader {
    /// Reads one event.
    pub(crate) fn read(&mut self, event: &Event) -> Result<Vec<Piece>, Trouble> {
        // Some that speak this format end as they do in the other one.
        if event.data.trim() == "[DONE]" {
            return Ok(vec![Piece::End]);
        }
        let told: Told = serde_json::from_str(&event.data)
            .map_err(|_| Trouble::bad("an event is not the json expected"))?;
        self.in_order(told.sequence_number)?;
        match told.kind.as_str() {
            "response.output_text.delta" | "response.refusal.delta" => Ok(text(told.delta)),
            "response.output_item.added" => self.begins(told.output_index, told.item),
            "response.function_call_arguments.delta" => self.goes_on(told.output_index, told.delta),
            "response.function_call_arguments.done" => self.is_whole(told.output_index, told.arguments),
            "response.output_item.done" => match told.item {
                Some(item) if item.kind == FUNCTION_CALL => self.is_whole(told.output_index, item.arguments),
                _ => Ok(Vec::new()),
            },
            "response.completed" => Ok(ended(told.response, Finish::Stop)),
            "response.incomplete" => {
                let reason = told.response.as_ref().and_then(|response| response.incomplete_details.as_ref());
                let finish = cut(reason.and_then(|details| details.reason.as_deref()))?;
                Ok(ended(told.response, finish))
            }
            "response.failed" => Err(failed(told.response.and_then(|response| response.error))),
            "error" => Err(failed(Some(told.error.unwrap_or(WireError::of_code(told.code))))),
            kind if kind.contains("reasoning") => Ok(vec![Piece::Alive]),
            _ => Ok(Vec::new()),
        }
    }

    fn in_order(&mut self, number: Option<u64>) -> Result<(), Trouble> {
        let Some(number) = number else { return Ok(()) };
        if self.last.replace(number).is_some_and(|last| number <= last) {
            return Err(Trouble::bad("an event is repeated or out of order"));
        }
        Ok(())
    }

    fn begins(&mut self, at: Option<u64>, item: Option<Item>) -> Result<Vec<Piece>, Trouble> {
        let (Some(at), Some(item)) = (at, item) else {
            return Err(Trouble::bad("an item without its place"));
        };
        if item.kind != FUNCTION_CALL {
            let thinks = item.kind == "reasoning";
            return Ok(thinks.then_some(Piece::Alive).into_iter().collect());
        }
        let index = self.calls.len();
        let (Some(id), Some(name)) = (item.call_id, item.name) else {
            return Err(Trouble::bad("a tool call does not begin with id and name"));
        };
        let arguments = item.arguments.unwrap_or_default();
        if self.calls.insert(at, (index, arguments.clone())).is_some() {
            return Err(Trouble::bad("a tool call begins twice"));
        }
        Ok(vec![Piece::Tool(ToolDelta { index, head: Some(ToolHead { id, name }), arguments })])
    }

    fn goes_on(&mut self, at: Option<u64>, delta: Option<Value>) -> Result<Vec<Piece>, Trouble> {
        let (index, said) = self.call(at)?;
        let Some(Value::String(arguments)) = delta else {
            return Err(Trouble::bad("arguments that are no text"));
        };
        said.push_str(&arguments);
        Ok(vec![Piece::Tool(ToolDelta { index, head: None, arguments })])
    }

    /// What was said must be the beginning of the whole; the rest is told.
    fn is_whole(&mut self, at: Option<u64>, arguments: Option<String>) -> Result<Vec<Piece>, Trouble> {
        let (index, said) = self.call(at)?;
        let Some(whole) = arguments else { return Ok(Vec::new()) };
        let rest = match whole.strip_prefix(said.as_str()) {
            None => return Err(Trouble::bad("a tool call's arguments are not what was said before")),
            Some("") => return Ok(Vec::new()),
            Some(rest) => rest.to_owned(),
        };
        *said = whole;
        Ok(vec![Piece::Tool(ToolDelta { index, head: None, arguments: rest })])
    }

    fn call(&mut self, at: Option<u64>) -> Result<(usize, &mut String), Trouble> {
        let call = at.and_then(|at| self.calls.get_mut(&at));
        let (index, said) = call.ok_or(Trouble::bad("a tool call goes on that has not begun"))?;
        Ok((*index, said))
    }
}

/// An item that is a call of a tool of ours.
const FUNCTION_CALL: &str = "function_call";

fn text(delta: Option<Value>) -> Vec<Piece> {
    match delta {
        Some(Value::String(text)) if !text.is_empty() => vec![Piece::Text(text)],
        _ => Vec::new(),
    }
}

fn ended(response: Option<Response>, finish: Finish) -> Vec<Piece> {
    let usage = response.and_then(|response| response.usage).map(Counted::usage);
    usage.into_iter().chain([Piece::Finish(finish), Piece::End]).collect()
}

fn cut(reason: Option<&str>) -> Result<Finish, Trouble> {
    match reason {
        Some("max_output_tokens") => Ok(Finish::Length),
        Some("content_filter") => Ok(Finish::Filtered),
        _ => Err(Trouble::UNKNOWN_END),
    }
}

fn failed(error: Option<WireError>) -> Trouble {
    Trouble { billed: true, ..sort(200, &error.unwrap_or_default(), None) }
}
