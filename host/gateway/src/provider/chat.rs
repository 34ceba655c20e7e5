//! OpenAI chat completions: what is asked, and how the stream is read.
//!
//! Spoken by many (Azure, vLLM, Ollama, OpenRouter …), each with a little of its own: chunks without
//! choices, usage on any chunk, errors inside a stream that began with 200. So fields are read where they
//! stand and what is unknown is passed over; but not why an answer ended, which says whether it is whole.

use chela_types::{Finish, Tokens, Usage};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::http::{WireError, sort};
use super::sse::Event;
use super::{Ask, Object, Piece, Trouble, count, told};
use crate::{
    Call, Effort, Form, Part, Prompt, Role, Tool, ToolCall, ToolChoice, ToolDelta, ToolHead, ToolResult,
};

/// The request's body. `strict` is OpenAI itself, which renamed the output limit; others know the old name.
pub(crate) fn body(ask: &Ask, strict: bool) -> Object {
    let call = &*ask.call;
    let limit = if strict { "max_completion_tokens" } else { "max_tokens" };
    let mut body = Object::default();
    body.put("model", Some(&ask.model));
    body.put("messages", Some(messages(call)));
    body.put("stream", Some(true));
    body.put("stream_options", Some(json!({"include_usage": true})));
    body.put(limit, Some(ask.max_output.0));
    body.put("temperature", call.temperature);
    body.put("top_p", call.top_p);
    body.put("stop", (!call.stop.is_empty()).then_some(&call.stop));
    body.put("seed", call.seed);
    body.put("reasoning_effort", call.effort.map(Effort::as_str));
    body.put("response_format", form(&call.form));
    if !call.tools.is_empty() {
        body.put("tools", Some(call.tools.iter().map(tool).collect::<Vec<_>>()));
        body.put("tool_choice", choice(&call.tool_choice));
        body.put("parallel_tool_calls", call.parallel_tool_calls);
    }
    body
}

fn messages(call: &Call) -> Vec<Value> {
    let system = call.system.iter().map(|text| json!({"role": "system", "content": text}));
    system.chain(call.prompts.iter().flat_map(utterance)).collect()
}

/// Results are messages of their own, and stand right after the calls.
fn utterance(prompt: &Prompt) -> Vec<Value> {
    let mut messages: Vec<Value> = prompt.tool_results().map(tool_result).collect();
    let calls: Vec<Value> = prompt.tool_calls().map(tool_call).collect();
    let content = content(prompt);
    let is_said = content.is_some() || !calls.is_empty() || messages.is_empty();
    if is_said {
        let mut message = Map::new();
        message.insert("role".to_owned(), json!(prompt.role.as_str()));
        let empty = if calls.is_empty() { json!("") } else { Value::Null };
        message.insert("content".to_owned(), content.unwrap_or(empty));
        if !calls.is_empty() {
            message.insert("tool_calls".to_owned(), Value::Array(calls));
        }
        messages.push(Value::Object(message));
    }
    messages
}

/// One text as such, everything else as parts; nothing if there is none.
fn content(prompt: &Prompt) -> Option<Value> {
    let parts: Vec<&Part> =
        prompt.parts.iter().filter(|part| matches!(part, Part::Text(_) | Part::Image(_))).collect();
    match parts.as_slice() {
        [] => None,
        [Part::Text(text)] => Some(json!(text)),
        _ if prompt.role == Role::Assistant => Some(json!(prompt.texts().collect::<String>())),
        parts => Some(parts.iter().filter_map(|part| content_part(part)).collect()),
    }
}

fn content_part(part: &Part) -> Option<Value> {
    match part {
        Part::Text(text) => Some(json!({"type": "text", "text": text})),
        Part::Image(image) => Some(json!({"type": "image_url", "image_url": {"url": image.address()}})),
        Part::ToolCall(_) | Part::ToolResult(_) => None,
    }
}

fn tool_result(result: &ToolResult) -> Value {
    json!({"role": "tool", "tool_call_id": result.id, "content": told(result)})
}

fn tool_call(call: &ToolCall) -> Value {
    let function = json!({"name": call.name, "arguments": call.arguments});
    json!({"id": call.id, "type": "function", "function": function})
}

fn tool(tool: &Tool) -> Object {
    let mut function = Object::default();
    function.put("name", Some(&tool.name));
    function.put("description", tool.description.as_ref());
    function.put("parameters", Some(&tool.parameters));
    function.put("strict", tool.strict);
    Object::default().with("type", "function").with("function", function)
}

fn choice(choice: &ToolChoice) -> Option<Value> {
    match choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some(json!("none")),
        ToolChoice::Required => Some(json!("required")),
        ToolChoice::Named(name) => Some(json!({"type": "function", "function": {"name": name}})),
    }
}

fn form(form: &Form) -> Option<Object> {
    match form {
        Form::Text => None,
        Form::JsonObject => Some(Object::default().with("type", "json_object")),
        Form::JsonSchema { name, schema, strict } => {
            let mut inner = Object::default();
            inner.put("name", Some(name));
            inner.put("schema", Some(schema));
            inner.put("strict", *strict);
            Some(Object::default().with("type", "json_schema").with("json_schema", inner))
        }
    }
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
    tool_calls: Option<Vec<Fragment>>,
    /// Thoughts, as vLLM and DeepSeek call them.
    reasoning_content: Option<Value>,
    /// The same at OpenRouter and Ollama.
    reasoning: Option<Value>,
}

#[derive(Deserialize)]
struct Fragment {
    /// Some leave it out where they send whole calls.
    index: Option<usize>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Deserialize, Default)]
struct Function {
    name: Option<String>,
    arguments: Option<String>,
}

impl Delta {
    fn pieces(self) -> (impl Iterator<Item = Piece>, Vec<Fragment>) {
        let thinks = [self.reasoning_content, self.reasoning].into_iter().flatten();
        let thinks = thinks.filter(|thought| thought.as_str() != Some("")).map(|_| Piece::Alive);
        let texts = [self.content, self.refusal].into_iter().flatten();
        let pieces = thinks.chain(texts.filter(|text| !text.is_empty()).map(Piece::Text));
        (pieces, self.tool_calls.unwrap_or_default())
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

impl Counted {
    fn usage(self) -> Piece {
        let cached = self.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0);
        Piece::Usage(Usage {
            input: Tokens(self.prompt_tokens.unwrap_or(0)),
            cached: Tokens(cached),
            output: Tokens(self.completion_tokens.unwrap_or(0)),
            ..Usage::default()
        })
    }
}

/// Reads the stream; remembers the ids of the tool calls that have begun.
#[derive(Default)]
pub(crate) struct Reader {
    begun: Vec<String>,
    /// It has told a count, which some servers do with each chunk.
    has_counted: bool,
}

impl Reader {
    /// Reads one event.
    pub(crate) fn read(&mut self, event: &Event) -> Result<Vec<Piece>, Trouble> {
        if event.data.trim() == "[DONE]" {
            return Ok(vec![Piece::End]);
        }
        let chunk: Chunk = serde_json::from_str(&event.data)
            .map_err(|_| Trouble::bad("an event is not the json expected"))?;
        if let Some(error) = chunk.error {
            return Err(Trouble { billed: true, ..sort(200, &error, None) });
        }
        let mut pieces = Vec::new();
        // One choice was asked for: others would be somebody's mistake.
        if let Some(choice) = chunk.choices.into_iter().next() {
            let (said, calls) = choice.delta.unwrap_or_default().pieces();
            pieces.extend(said);
            for fragment in calls {
                pieces.push(Piece::Tool(self.fragment(fragment)?));
            }
            // Some send an empty reason with each piece.
            let reason = choice.finish_reason.filter(|reason| !reason.is_empty());
            let ended = reason.map(|reason| finish(&reason)).transpose()?.map(Piece::Finish);
            if ended.is_some() && self.has_counted {
                // A count before the end is not the last one: until that comes there is none.
                pieces.push(Piece::Usage(Usage::default()));
            }
            pieces.extend(ended);
        }
        self.has_counted |= chunk.usage.is_some();
        pieces.extend(chunk.usage.map(Counted::usage));
        Ok(pieces)
    }

    fn fragment(&mut self, fragment: Fragment) -> Result<ToolDelta, Trouble> {
        let Function { name, arguments } = fragment.function.unwrap_or_default();
        let id = fragment.id.filter(|id| !id.is_empty());
        let index = match (fragment.index, &id) {
            (Some(index), _) => index,
            (None, Some(_)) => self.begun.len(),
            (None, None) => self.begun.len().saturating_sub(1),
        };
        let head = match (self.begun.get(index), id, name) {
            (Some(begun), Some(id), _) if *begun != id => {
                return Err(Trouble::bad("a tool call becomes another"));
            }
            // Some repeat id and name with each fragment.
            (Some(_), ..) => None,
            (None, Some(id), Some(name)) if index == self.begun.len() => {
                self.begun.push(id.clone());
                Some(ToolHead { id, name })
            }
            (None, ..) => return Err(Trouble::bad("a tool call does not begin with id and name")),
        };
        Ok(ToolDelta { index, head, arguments: arguments.unwrap_or_default() })
    }
}

/// OpenAI's own words and those of servers that speak its format.
fn finish(reason: &str) -> Result<Finish, Trouble> {
    match reason {
        "stop" | "end_turn" | "eos" | "eos_token" | "stop_sequence" => Ok(Finish::Stop),
        "length" | "max_tokens" | "model_length" => Ok(Finish::Length),
        "tool_calls" => Ok(Finish::ToolCalls),
        "content_filter" => Ok(Finish::Filtered),
        _ => Err(Trouble::UNKNOWN_END),
    }
}
