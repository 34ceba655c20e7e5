//! What is asked.

use serde_json::{Map, Value, json};

use crate::provider::{Ask, Object, Trouble};
use crate::{Call, Form, Image, Kind, Part, Prompt, Role, Tool, ToolChoice};

/// A shorter prefix is not marked for the provider's cache, which takes none of less than 1,024 tokens (its smaller
/// models: 4,096) at about four bytes for a token.
const PREFIX_BYTES_MIN: usize = 1024 * 4;

/// The request's body. `prompt_cache`: whether long tools and system prompts are marked for the provider's cache. This
/// format has neither JSON without a schema nor a seed nor words for effort; the last two are wishes only.
pub(crate) fn body(ask: &Ask, prompt_cache: bool) -> Result<Object, Trouble> {
    let call = &*ask.call;
    let mut body = Object::default();
    body.put("model", Some(&ask.model));
    let length = prefix(&mut body, call, prompt_cache);
    system(&mut body, call, prompt_cache && length >= PREFIX_BYTES_MIN);
    body.put("messages", Some(alternating(call)));
    body.put("stream", Some(true));
    body.put("max_tokens", Some(ask.max_output.0));
    body.put("temperature", call.temperature);
    body.put("top_p", call.top_p);
    body.put("stop_sequences", (!call.stop.is_empty()).then_some(&call.stop));
    body.put("output_config", form(&call.form)?);
    Ok(body)
}

/// Writes the tools, and gives the bytes of tools and system prompt together: this order is the provider's own.
fn prefix(body: &mut Object, call: &Call, prompt_cache: bool) -> usize {
    let mut tools: Vec<Object> = call.tools.iter().map(tool).collect();
    let bytes: usize = tools.iter().map(|tool| tool.text().len()).sum();
    if prompt_cache && bytes >= PREFIX_BYTES_MIN {
        tools.last_mut().into_iter().for_each(mark);
    }
    if !tools.is_empty() {
        body.put("tools", Some(tools));
        body.put("tool_choice", choice(call));
    }
    bytes.saturating_add(call.system.as_deref().map_or(0, str::len))
}

/// What stands up to here is kept by the provider.
fn mark(block: &mut Object) {
    block.put("cache_control", Some(json!({"type": "ephemeral"})));
}

/// Writes the system prompt, if there is one.
fn system(body: &mut Object, call: &Call, is_marked: bool) {
    let text = call.system.as_deref().filter(|text| !text.is_empty());
    if !is_marked {
        return body.put("system", text);
    }
    let block = text.map(|text| {
        let mut block = Object::default().with("type", "text").with("text", text);
        mark(&mut block);
        [block]
    });
    body.put("system", block);
}

fn tool(tool: &Tool) -> Object {
    let mut fields = Object::default();
    fields.put("name", Some(&tool.name));
    fields.put("description", tool.description.as_ref());
    fields.put("input_schema", Some(&tool.parameters));
    fields.put("strict", tool.strict);
    fields
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

fn form(form: &Form) -> Result<Option<Object>, Trouble> {
    match form {
        Form::Text => Ok(None),
        Form::JsonObject => Err(Trouble::new(Kind::Unsupported { what: "json without a schema" }, false)),
        Form::JsonSchema { schema, .. } => {
            let format = Object::default().with("type", "json_schema").with("schema", schema);
            Ok(Some(Object::default().with("format", format)))
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
        [Value::Object(block)] if block.contains_key("text") => {
            block.get("text").cloned().unwrap_or_default()
        }
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
            let mut told = json!({"type": "tool_result", "tool_use_id": result.id, "content": result.text});
            if let (true, Some(fields)) = (result.is_error, told.as_object_mut()) {
                fields.insert("is_error".to_owned(), json!(true));
            }
            Some(told)
        }
    }
}

fn source(image: &Image) -> Value {
    match image.bytes() {
        Some((media, data)) => json!({"type": "base64", "media_type": media.as_str(), "data": data}),
        None => json!({"type": "url", "url": image.address()}),
    }
}
