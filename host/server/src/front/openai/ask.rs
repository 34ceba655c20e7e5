//! How a request is read. Every field that OpenAI documents is known: taken, passed over because it changes nothing
//! here, or refused because nothing here can do it.

use chela_gateway::{Effort, Form, Image, Part, Prompt, Role, Tool, ToolCall, ToolChoice, ToolResult};
use serde_json::{Value, json};

use crate::front::asked::{Asked, MESSAGES_MAX};
use crate::front::client::is_person;
use crate::front::fields::{Fields, What, Wrong};

/// Texts to stop at, in one request.
const STOPS_MAX: usize = 4;

const EFFORTS: &[(&str, Effort)] = &[
    ("none", Effort::Minimal),
    ("minimal", Effort::Minimal),
    ("low", Effort::Low),
    ("medium", Effort::Medium),
    ("high", Effort::High),
    ("xhigh", Effort::High),
    ("max", Effort::High),
];

/// Reads a body.
pub(in crate::front) fn read(body: &Value) -> Result<Asked, Wrong> {
    let mut fields = Fields::of("", body)?;
    let mut asked = Asked { model: fields.needed_text("model")?.to_owned(), ..Asked::default() };
    said(&mut fields, &mut asked)?;
    tools(&mut fields, &mut asked)?;
    shape(&mut fields, &mut asked)?;
    whose(&mut fields, &mut asked)?;
    streamed(&mut fields, &mut asked)?;
    without_effect(&mut fields)?;
    fields.end()?;
    Ok(asked)
}

fn said(fields: &mut Fields<'_>, asked: &mut Asked) -> Result<(), Wrong> {
    let messages = fields.list("messages")?.ok_or_else(|| Wrong::new("messages", What::Missing))?;
    if messages.is_empty() || messages.len() > MESSAGES_MAX {
        return Err(Wrong::value("messages", format!("it has 1 to {MESSAGES_MAX} items")));
    }
    let mut system: Vec<String> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let mut message = Fields::of(format!("messages.{index}"), message)?;
        let role = message.needed_text("role")?;
        message.pass(&["name"]);
        match role {
            "system" | "developer" => system.push(plain(&mut message)?.unwrap_or_default()),
            "user" => asked.prompts.push(Prompt { role: Role::User, parts: parts(&mut message)? }),
            "assistant" => asked.prompts.push(assistant(&mut message)?),
            "tool" => told(&mut message, &mut asked.prompts)?,
            "function" => return Err(Wrong::new(message.at("role"), What::Unsupported)),
            _ => {
                let why = "it is 'system' or 'developer' or 'user' or 'assistant' or 'tool'";
                return Err(Wrong::value(message.at("role"), why));
            }
        }
        message.end()?;
    }
    asked.system = (!system.is_empty()).then(|| system.join("\n\n"));
    Ok(())
}

/// A content of text alone, be it in parts.
fn plain(message: &mut Fields<'_>) -> Result<Option<String>, Wrong> {
    let at = message.at("content");
    match message.value("content") {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Array(parts)) => {
            let mut whole = String::new();
            for (index, part) in parts.iter().enumerate() {
                let mut part = Fields::of(format!("{at}.{index}"), part)?;
                match part.needed_text("type")? {
                    "text" => whole.push_str(part.needed_text("text")?),
                    "refusal" => whole.push_str(part.needed_text("refusal")?),
                    _ => return Err(Wrong::new(part.at("type"), What::Unsupported)),
                }
                part.pass(&["prompt_cache_breakpoint"]);
                part.end()?;
            }
            Ok(Some(whole))
        }
        Some(_) => Err(Wrong::new(at, What::Type("a string or an array"))),
    }
}

/// What a person says and shows.
fn parts(message: &mut Fields<'_>) -> Result<Vec<Part>, Wrong> {
    let at = message.at("content");
    match message.needed_value("content")? {
        Value::String(text) => Ok(vec![Part::Text(text.clone())]),
        Value::Array(parts) => {
            let part = |(index, part)| part_of(Fields::of(format!("{at}.{index}"), part)?);
            parts.iter().enumerate().map(part).collect()
        }
        _ => Err(Wrong::new(at, What::Type("a string or an array"))),
    }
}

fn part_of(mut part: Fields<'_>) -> Result<Part, Wrong> {
    let read = match part.needed_text("type")? {
        "text" => Part::Text(part.needed_text("text")?.to_owned()),
        "image_url" => {
            let mut image = part.needed_table("image_url")?;
            let address = image.needed_text("url")?;
            image.pass(&["detail"]);
            let read = Image::from_address(address).ok_or_else(|| {
                let why = "it is an https address or a data address of a jpeg, png, gif or webp image";
                Wrong::value(image.at("url"), why)
            })?;
            image.end()?;
            Part::Image(read)
        }
        "input_audio" | "file" => return Err(Wrong::new(part.at("type"), What::Unsupported)),
        _ => return Err(Wrong::value(part.at("type"), "it is 'text' or 'image_url'")),
    };
    part.pass(&["prompt_cache_breakpoint"]);
    part.end()?;
    Ok(read)
}

fn assistant(message: &mut Fields<'_>) -> Result<Prompt, Wrong> {
    message.refuse(&["audio", "function_call"])?;
    message.pass(&["annotations", "reasoning_content"]);
    let content = plain(message)?.or(message.text("refusal")?.map(str::to_owned));
    message.pass(&["refusal"]);
    let calls = message.list("tool_calls")?.unwrap_or_default();
    let mut parts: Vec<Part> = content.filter(|text| !text.is_empty()).map(Part::Text).into_iter().collect();
    for (index, call) in calls.iter().enumerate() {
        let mut call = Fields::of(format!("{}.{index}", message.at("tool_calls")), call)?;
        call.word("type", &[("function", ())])?;
        call.pass(&["index"]);
        let id = call.needed_text("id")?.to_owned();
        let mut function = call.needed_table("function")?;
        let name = function.needed_text("name")?.to_owned();
        let arguments = function.needed_text("arguments")?.to_owned();
        let arguments = if arguments.is_empty() { "{}".to_owned() } else { arguments };
        function.end()?;
        call.end()?;
        parts.push(Part::ToolCall(ToolCall { id, name, arguments }));
    }
    if parts.is_empty() {
        parts.push(Part::Text(String::new()));
    }
    Ok(Prompt { role: Role::Assistant, parts })
}

/// Results of one answer's calls stand together, as other formats want them.
fn told(message: &mut Fields<'_>, prompts: &mut Vec<Prompt>) -> Result<(), Wrong> {
    let id = message.needed_text("tool_call_id")?.to_owned();
    message.needed_value("content")?;
    let result = ToolResult { id, text: plain(message)?.unwrap_or_default(), is_error: false };
    let of_results = |prompt: &&mut Prompt| prompt.tool_results().count() == prompt.parts.len();
    match prompts.last_mut().filter(of_results) {
        Some(prompt) => prompt.parts.push(Part::ToolResult(result)),
        None => prompts.push(Prompt { role: Role::User, parts: vec![Part::ToolResult(result)] }),
    }
    Ok(())
}

fn tools(fields: &mut Fields<'_>, asked: &mut Asked) -> Result<(), Wrong> {
    fields.refuse(&["functions", "function_call"])?;
    for (index, tool) in fields.list("tools")?.unwrap_or_default().iter().enumerate() {
        let mut tool = Fields::of(format!("tools.{index}"), tool)?;
        match tool.needed_text("type")? {
            "function" => {}
            "custom" => return Err(Wrong::new(tool.at("type"), What::Unsupported)),
            _ => return Err(Wrong::value(tool.at("type"), "it is 'function'")),
        }
        let mut function = tool.needed_table("function")?;
        asked.tools.push(Tool {
            name: function.needed_text("name")?.to_owned(),
            description: function.text("description")?.map(str::to_owned),
            parameters: schema(&mut function, "parameters")?,
            strict: function.switch("strict")?,
        });
        function.end()?;
        tool.end()?;
    }
    asked.parallel_tool_calls = fields.switch("parallel_tool_calls")?;
    asked.tool_choice = choice(fields)?;
    Ok(())
}

/// A schema; a tool without one has no parameters.
fn schema(fields: &mut Fields<'_>, key: &'static str) -> Result<Value, Wrong> {
    match fields.value(key) {
        None => Ok(json!({ "type": "object", "properties": {} })),
        Some(schema) if schema.is_object() => Ok(schema.clone()),
        Some(_) => Err(Wrong::new(fields.at(key), What::Type("an object"))),
    }
}

fn choice(fields: &mut Fields<'_>) -> Result<ToolChoice, Wrong> {
    if fields.value("tool_choice").is_some_and(Value::is_string) {
        let words = [("auto", Chosen::Auto), ("none", Chosen::None), ("required", Chosen::Required)];
        return Ok(match fields.word("tool_choice", &words)? {
            Some(Chosen::Required) => ToolChoice::Required,
            Some(Chosen::None) => ToolChoice::None,
            Some(Chosen::Auto) | None => ToolChoice::Auto,
        });
    }
    let Some(mut chosen) = fields.table("tool_choice")? else { return Ok(ToolChoice::Auto) };
    if chosen.needed_text("type")? != "function" {
        return Err(Wrong::new(chosen.at("type"), What::Unsupported));
    }
    let mut function = chosen.needed_table("function")?;
    let name = function.needed_text("name")?.to_owned();
    function.end()?;
    chosen.end()?;
    Ok(ToolChoice::Named(name))
}

#[derive(Clone, Copy)]
enum Chosen {
    Auto,
    None,
    Required,
}

/// How the answer is to be.
fn shape(fields: &mut Fields<'_>, asked: &mut Asked) -> Result<(), Wrong> {
    let old = fields.count("max_tokens")?;
    asked.max_output = fields.count("max_completion_tokens")?.or(old);
    asked.temperature = fields.number("temperature", 0.0..=2.0)?;
    asked.top_p = fields.number("top_p", 0.0..=1.0)?;
    asked.seed = fields.integer("seed")?;
    asked.effort = fields.word("reasoning_effort", EFFORTS)?;
    asked.stop = match fields.value("stop") {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(_)) => fields.texts("stop")?,
        None => Vec::new(),
        Some(_) => return Err(Wrong::new("stop", What::Type("a string or an array"))),
    };
    if asked.stop.len() > STOPS_MAX {
        return Err(Wrong::value("stop", format!("it has at most {STOPS_MAX} items")));
    }
    let Some(mut form) = fields.table("response_format")? else { return Ok(()) };
    asked.form = match form.needed_text("type")? {
        "text" => Form::Text,
        "json_object" => Form::JsonObject,
        "json_schema" => {
            let mut inner = form.needed_table("json_schema")?;
            inner.pass(&["description"]);
            let name = inner.needed_text("name")?.to_owned();
            let form = Form::JsonSchema {
                name,
                schema: schema(&mut inner, "schema")?,
                strict: inner.switch("strict")?,
            };
            inner.end()?;
            form
        }
        _ => return Err(Wrong::value(form.at("type"), "it is 'text' or 'json_object' or 'json_schema'")),
    };
    form.end()
}

fn whose(fields: &mut Fields<'_>, asked: &mut Asked) -> Result<(), Wrong> {
    let identifier = person(fields, "safety_identifier")?;
    asked.user = person(fields, "user")?.or(identifier);
    if let Some(mut metadata) = fields.table("metadata")? {
        // The others are the client's own notes.
        asked.conversation = metadata.text("conversation")?.map(str::to_owned);
    }
    Ok(())
}

/// A person, by the client's name for him.
pub(super) fn person(fields: &mut Fields<'_>, key: &'static str) -> Result<Option<String>, Wrong> {
    match fields.text(key)? {
        Some(user) if !is_person(user) => {
            Err(Wrong::value(key, "it has 1 to 256 bytes and no control characters"))
        }
        user => Ok(user.map(str::to_owned)),
    }
}

fn streamed(fields: &mut Fields<'_>, asked: &mut Asked) -> Result<(), Wrong> {
    asked.stream = fields.switch("stream")?.unwrap_or(false);
    let Some(mut options) = fields.table("stream_options")? else { return Ok(()) };
    if !asked.stream {
        return Err(Wrong::value("stream_options", "it goes with 'stream': true alone"));
    }
    asked.include_usage = options.switch("include_usage")?.unwrap_or(false);
    options.pass(&["include_obfuscation"]);
    options.end()
}

/// What changes nothing here, and what would have to.
fn without_effect(fields: &mut Fields<'_>) -> Result<(), Wrong> {
    fields.pass(&["prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"]);
    for key in ["frequency_penalty", "presence_penalty"] {
        fields.only(key, &[json!(0), json!(0.0)])?;
    }
    fields.only("n", &[json!(1)])?;
    fields.only("logprobs", &[json!(false)])?;
    fields.only("top_logprobs", &[json!(0)])?;
    fields.only("logit_bias", &[json!({})])?;
    fields.only("modalities", &[json!(["text"])])?;
    fields.only("store", &[json!(false)])?;
    fields.only("service_tier", &[json!("auto"), json!("default")])?;
    fields.only("verbosity", &[json!("medium")])?;
    fields.refuse(&["audio", "prediction", "web_search_options", "moderation"])
}

#[cfg(test)]
#[path = "ask_tests.rs"]
mod tests;
