//! Anthropic messages: what is asked, and how the stream is read.
//!
//! Usage comes in two parts (input at the start, output at the end) and counts cached input apart; it is
//! turned into this house's way of counting here, where the wire format is known.

use chela_types::{Finish, Tokens, Usage};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::http::{WireError, sort};
use super::sse::Event;
use super::{Ask, Piece, Trouble, count, put};
use crate::{Call, Form, Image, Kind, Part, Prompt, Role, Tool, ToolChoice, ToolDelta, ToolHead};

/// The API version that this wire format has.
pub(crate) const VERSION: &str = "2023-06-01";

/// A shorter prefix is not marked for the provider's cache, which takes none of less than 1,024 tokens (its smaller
/// models: 4,096) at about four bytes for a token.
const PREFIX_BYTES_MIN: usize = 1024 * 4;

/// The request's body. `prompt_cache`: whether long tools and system prompts are marked for the provider's cache. This
/// format has neither JSON without a schema nor a seed nor words for effort; the last two are wishes only.
pub(crate) fn body(ask: &Ask, prompt_cache: bool) -> Result<Value, Trouble> {
    let call = &*ask.call;
    let mut body = Map::new();
    put(&mut body, "model", Some(&ask.model));
    let length = prefix(&mut body, call, prompt_cache);
    put(&mut body, "system", system(call, prompt_cache && length >= PREFIX_BYTES_MIN));
    put(&mut body, "messages", Some(alternating(call)));
    put(&mut body, "stream", Some(true));
    put(&mut body, "max_tokens", Some(ask.max_output.0));
    put(&mut body, "temperature", call.temperature);
    put(&mut body, "top_p", call.top_p);
    put(&mut body, "stop_sequences", (!call.stop.is_empty()).then_some(&call.stop));
    put(&mut body, "output_config", form(&call.form)?);
    Ok(Value::Object(body))
}

/// Writes the tools, and gives the bytes of tools and system prompt together: this order is the provider's own.
fn prefix(body: &mut Map<String, Value>, call: &Call, prompt_cache: bool) -> usize {
    let mut tools: Vec<Value> = call.tools.iter().map(tool).collect();
    let bytes: usize = tools.iter().map(|tool| tool.to_string().len()).sum();
    if prompt_cache && bytes >= PREFIX_BYTES_MIN {
        mark(tools.last_mut());
    }
    if !tools.is_empty() {
        put(body, "tools", Some(tools));
        put(body, "tool_choice", choice(call));
    }
    bytes.saturating_add(call.system.as_deref().map_or(0, str::len))
}

/// What stands up to here is kept by the provider.
fn mark(block: Option<&mut Value>) {
    if let Some(fields) = block.and_then(Value::as_object_mut) {
        fields.insert("cache_control".to_owned(), json!({"type": "ephemeral"}));
    }
}

fn system(call: &Call, is_marked: bool) -> Option<Value> {
    let text = call.system.as_deref().filter(|text| !text.is_empty())?;
    if !is_marked {
        return Some(json!(text));
    }
    let mut block = json!({"type": "text", "text": text});
    mark(Some(&mut block));
    Some(json!([block]))
}

fn tool(tool: &Tool) -> Value {
    let mut fields = Map::new();
    put(&mut fields, "name", Some(&tool.name));
    put(&mut fields, "description", tool.description.as_ref());
    put(&mut fields, "input_schema", Some(&tool.parameters));
    put(&mut fields, "strict", tool.strict);
    Value::Object(fields)
}

fn choice(call: &Call) -> Option<Value> {
    let mut choice = match &call.tool_choice {
        ToolChoice::Auto if call.parallel_tool_calls.is_none() => return None,
        ToolChoice::Auto => json!({"type": "auto"}),
        ToolChoice::None => return Some(json!({"type": "none"})),
        ToolChoice::Required => json!({"type": "any"}),
        ToolChoice::Named(name) => json!({"type": "tool", "name": name}),
    };
    if let (Some(is_parallel), Some(fields)) = (call.parallel_tool_calls, choice.as_object_mut()) {
        fields.insert("disable_parallel_tool_use".to_owned(), json!(!is_parallel));
    }
    Some(choice)
}

fn form(form: &Form) -> Result<Option<Value>, Trouble> {
    match form {
        Form::Text => Ok(None),
        Form::JsonObject => Err(Trouble::new(Kind::Unsupported { what: "json without a schema" }, false)),
        Form::JsonSchema { schema, .. } => {
            Ok(Some(json!({"format": {"type": "json_schema", "schema": schema}})))
        }
    }
}

/// Messages in turns: neighbours of one role are joined, and an answer without a question is left out.
fn alternating(call: &Call) -> Vec<Value> {
    let mut turns: Vec<(Role, Vec<Value>)> = Vec::new();
    for prompt in call.prompts.iter().skip_while(|prompt| prompt.role == Role::Assistant) {
        let new = blocks(prompt);
        match turns.last_mut() {
            Some((role, blocks)) if *role == prompt.role => join(blocks, new),
            _ if new.is_empty() => {}
            _ => turns.push((prompt.role, new)),
        }
    }
    let turn = |(role, mut blocks): (Role, Vec<Value>)| {
        // Results stand right after the calls.
        blocks.sort_by_key(|block| kind(block) != "tool_result");
        json!({"role": role.as_str(), "content": alone(blocks)})
    };
    turns.into_iter().map(turn).collect()
}

/// One text needs no block around it.
fn alone(blocks: Vec<Value>) -> Value {
    match blocks.as_slice() {
        [block] if kind(block) == "text" => block["text"].clone(),
        _ => Value::Array(blocks),
    }
}

fn kind(block: &Value) -> &str {
    block.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// Two texts that meet have a blank line between.
fn join(blocks: &mut Vec<Value>, new: Vec<Value>) {
    let mut new = new.into_iter();
    if let (Some(last), Some(first)) = (blocks.last_mut(), new.next()) {
        match (text_of(last), first.get("text").and_then(Value::as_str)) {
            (Some(text), Some(more)) => {
                text.push_str("\n\n");
                text.push_str(more);
            }
            _ => blocks.push(first),
        }
    }
    blocks.extend(new);
}

fn text_of(block: &mut Value) -> Option<&mut String> {
    match block.get_mut("text") {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn blocks(prompt: &Prompt) -> Vec<Value> {
    prompt.parts.iter().filter_map(block).collect()
}

fn block(part: &Part) -> Option<Value> {
    match part {
        // None is allowed to be empty.
        Part::Text(text) => (!text.is_empty()).then(|| json!({"type": "text", "text": text})),
        Part::Image(image) => Some(json!({"type": "image", "source": source(image)})),
        Part::ToolCall(call) => {
            let input: Map<String, Value> = serde_json::from_str(&call.arguments).unwrap_or_default();
            Some(json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input}))
        }
        Part::ToolResult(result) => {
            let mut fields = Map::new();
            put(&mut fields, "type", Some("tool_result"));
            put(&mut fields, "tool_use_id", Some(&result.id));
            put(&mut fields, "content", Some(&result.text));
            put(&mut fields, "is_error", result.is_error.then_some(true));
            Some(Value::Object(fields))
        }
    }
}

fn source(image: &Image) -> Value {
    match image.bytes() {
        Some((media, data)) => json!({"type": "base64", "media_type": media.as_str(), "data": data}),
        None => json!({"type": "url", "url": image.address()}),
    }
}

#[derive(Deserialize)]
struct Message {
    #[serde(default, rename = "type")]
    kind: String,
    /// Which block.
    index: Option<u64>,
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

#[derive(Deserialize, Default)]
struct Block {
    #[serde(default, rename = "type")]
    kind: String,
    id: Option<String>,
    name: Option<String>,
    /// Empty as a rule: it comes in fragments.
    input: Option<Map<String, Value>>,
}

#[derive(Deserialize, Default)]
struct Delta {
    text: Option<String>,
    partial_json: Option<String>,
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

/// Reads the stream; remembers what was counted so far, and which block is open.
#[derive(Default)]
pub(crate) struct Reader {
    counted: Counted,
    has_begun: bool,
    open: Option<Open>,
    /// How many blocks have begun.
    blocks: u64,
    /// How many of these call a tool.
    calls: usize,
}

/// What the open block is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    /// Thoughts. These may be left out of the stream, which then has only pings.
    Thoughts,
    /// A tool call, by its place among them.
    Tool(usize),
}

impl Reader {
    /// Reads one event.
    pub(crate) fn read(&mut self, event: &Event) -> Result<Vec<Piece>, Trouble> {
        let message: Message = serde_json::from_str(&event.data)
            .map_err(|_| Trouble::bad("an event is not the json expected"))?;
        match message.kind.as_str() {
            "message_start" => {
                if std::mem::replace(&mut self.has_begun, true) {
                    return Err(Trouble::bad("it begins twice"));
                }
                Ok(self.count(message.message.and_then(|start| start.usage)).into_iter().collect())
            }
            "content_block_start" => self.begins(message.index, message.content_block.unwrap_or_default()),
            "content_block_delta" => self.goes_on(message.index, message.delta.unwrap_or_default()),
            "content_block_stop" => {
                self.is_open(message.index)?;
                self.open = None;
                Ok(Vec::new())
            }
            "ping" => Ok(alive(self.open == Some(Open::Thoughts))),
            "message_delta" => {
                let reason = message.delta.and_then(|delta| delta.stop_reason);
                let ended = reason.map(|reason| finish(&reason)).transpose()?.map(Piece::Finish);
                Ok(self.count(message.usage).into_iter().chain(ended).collect())
            }
            "message_stop" => Ok(vec![Piece::End]),
            "error" => {
                let error = message.error.unwrap_or_default();
                Err(Trouble { billed: true, ..sort(200, &error, None) })
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Blocks come one after the other, and are numbered.
    fn begins(&mut self, index: Option<u64>, block: Block) -> Result<Vec<Piece>, Trouble> {
        if self.open.is_some() || index.is_some_and(|index| index != self.blocks) {
            return Err(Trouble::bad("a block begins out of order"));
        }
        self.blocks = self.blocks.saturating_add(1);
        if block.kind != "tool_use" {
            let thinks = block.kind.contains("thinking");
            self.open = Some(if thinks { Open::Thoughts } else { Open::Text });
            return Ok(alive(thinks));
        }
        let index = self.calls;
        self.calls = index.saturating_add(1);
        self.open = Some(Open::Tool(index));
        let (Some(id), Some(name)) = (block.id, block.name) else {
            return Err(Trouble::bad("a tool call does not begin with id and name"));
        };
        let input = block.input.filter(|input| !input.is_empty());
        let arguments = input.map(|input| Value::Object(input).to_string()).unwrap_or_default();
        Ok(vec![Piece::Tool(ToolDelta { index, head: Some(ToolHead { id, name }), arguments })])
    }

    fn goes_on(&mut self, index: Option<u64>, delta: Delta) -> Result<Vec<Piece>, Trouble> {
        let told = |text: Option<String>| text.filter(|text| !text.is_empty());
        let piece = match self.is_open(index)? {
            Open::Thoughts => Some(Piece::Alive),
            Open::Text => told(delta.text).map(Piece::Text),
            Open::Tool(index) => told(delta.partial_json)
                .map(|arguments| Piece::Tool(ToolDelta { index, head: None, arguments })),
        };
        Ok(piece.into_iter().collect())
    }

    fn is_open(&self, index: Option<u64>) -> Result<Open, Trouble> {
        let is_last = index.is_none_or(|index| index.checked_add(1) == Some(self.blocks));
        match self.open {
            Some(open) if is_last => Ok(open),
            _ => Err(Trouble::bad("a block goes on that is not open")),
        }
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
        let fresh =
            of(self.counted.input_tokens).saturating_add(of(self.counted.cache_creation_input_tokens));
        Some(Piece::Usage(Usage {
            input: Tokens(fresh.saturating_add(cached)),
            cached: Tokens(cached),
            output: Tokens(of(self.counted.output_tokens)),
        }))
    }
}

fn alive(thinks: bool) -> Vec<Piece> {
    thinks.then_some(Piece::Alive).into_iter().collect()
}

fn finish(reason: &str) -> Result<Finish, Trouble> {
    match reason {
        "end_turn" | "stop_sequence" => Ok(Finish::Stop),
        "max_tokens" | "model_context_window_exceeded" => Ok(Finish::Length),
        "tool_use" => Ok(Finish::ToolCalls),
        "refusal" => Ok(Finish::Filtered),
        _ => Err(Trouble::UNKNOWN_END),
    }
}
