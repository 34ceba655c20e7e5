//! How a request is read. Every field that Anthropic documents is known: taken, passed over because it changes nothing
//! here, or refused because nothing here can do it.

use chela_gateway::{Effort, Form, Image, Media, Part, Prompt, Role, Tool, ToolCall, ToolChoice, ToolResult};
use serde_json::{Value, json};
use url::Url;

use crate::front::asked::{Asked, messages, person};
use crate::front::fields::{Fields, What, Wrong};

const ROLES: &[(&str, Role)] = &[("user", Role::User), ("assistant", Role::Assistant)];

const EFFORTS: &[(&str, Effort)] = &[
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
    if let Some(mut metadata) = fields.table("metadata")? {
        asked.user = person(metadata.at("user_id"), metadata.text("user_id")?)?;
        // A field of this host's own.
        asked.conversation = metadata.text("conversation")?.map(str::to_owned);
        metadata.end()?;
    }
    asked.stream = fields.switch("stream")?.unwrap_or(false);
    // Thoughts are not shown, whether or not they are wished for.
    fields.pass(&["cache_control", "thinking"]);
    fields.only("service_tier", &[json!("auto"), json!("standard_only")])?;
    fields.only("speed", &[json!("standard")])?;
    fields.refuse(&["top_k", "container", "diagnostics", "inference_geo"])?;
    fields.end()?;
    Ok(asked)
}

fn said(fields: &mut Fields<'_>, asked: &mut Asked) -> Result<(), Wrong> {
    for message in messages(fields)? {
        let mut message = message?;
        if message.text("role")? == Some("system") {
            return Err(Wrong::new(message.at("role"), What::Unsupported));
        }
        let role = message.word("role", ROLES)?;
        let role = role.ok_or_else(|| Wrong::new(message.at("role"), What::Missing))?;
        let parts = parts(&mut message, role)?;
        message.end()?;
        asked.prompts.push(Prompt { role, parts });
    }
    asked.system = match fields.value("system") {
        None => None,
        Some(_) => Some(text_of(fields, "system")?).filter(|text| !text.is_empty()),
    };
    Ok(())
}

/// A text, or blocks of text alone.
fn text_of(fields: &mut Fields<'_>, key: &'static str) -> Result<String, Wrong> {
    let at = fields.at(key);
    match fields.value(key) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(blocks)) => {
            let mut texts = Vec::new();
            for (index, block) in blocks.iter().enumerate() {
                let mut block = Fields::of(format!("{at}.{index}"), block)?;
                if block.needed_text("type")? != "text" {
                    return Err(Wrong::new(block.at("type"), What::Unsupported));
                }
                texts.push(block.needed_text("text")?);
                block.pass(&["cache_control", "citations"]);
                block.end()?;
            }
            Ok(texts.join("\n"))
        }
        Some(_) => Err(Wrong::new(at, What::Type("a string or an array"))),
    }
}

fn parts(message: &mut Fields<'_>, role: Role) -> Result<Vec<Part>, Wrong> {
    let at = message.at("content");
    let blocks = match message.needed_value("content")? {
        Value::String(text) => return Ok(vec![Part::Text(text.clone())]),
        Value::Array(blocks) => blocks,
        _ => return Err(Wrong::new(at, What::Type("a string or an array"))),
    };
    let mut parts = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        parts.extend(part(Fields::of(format!("{at}.{index}"), block)?, role)?);
    }
    if parts.is_empty() {
        return Err(Wrong::value(at, "it says nothing"));
    }
    Ok(parts)
}

/// A block of a message; nothing of a model's thoughts, which no other model reads.
fn part(mut block: Fields<'_>, role: Role) -> Result<Option<Part>, Wrong> {
    block.pass(&["cache_control"]);
    let read = match (block.needed_text("type")?, role) {
        ("text", _) => {
            block.pass(&["citations"]);
            Part::Text(block.needed_text("text")?.to_owned())
        }
        ("image", Role::User) => {
            block.pass(&["transformations"]);
            Part::Image(image(block.needed_table("source")?)?)
        }
        ("tool_use", Role::Assistant) => {
            block.pass(&["caller"]);
            let (id, name) = (block.needed_text("id")?.to_owned(), block.needed_text("name")?.to_owned());
            let input = block.needed_value("input")?;
            if !input.is_object() {
                return Err(Wrong::new(block.at("input"), What::Type("an object")));
            }
            Part::ToolCall(ToolCall { id, name, arguments: input.to_string() })
        }
        ("tool_result", Role::User) => Part::ToolResult(ToolResult {
            id: block.needed_text("tool_use_id")?.to_owned(),
            text: text_of(&mut block, "content")?,
            is_error: block.switch("is_error")?.unwrap_or(false),
        }),
        ("thinking" | "redacted_thinking", Role::Assistant) => return Ok(None),
        _ => return Err(Wrong::new(block.at("type"), What::Unsupported)),
    };
    block.end()?;
    Ok(Some(read))
}

fn image(mut source: Fields<'_>) -> Result<Image, Wrong> {
    let read = match source.needed_text("type")? {
        "base64" => {
            let kind = source.needed_text("media_type")?;
            let media = Media::parse(kind).ok_or_else(|| {
                Wrong::value(source.at("media_type"), "it is image/jpeg, image/png, image/gif or image/webp")
            })?;
            let data = source.needed_text("data")?;
            Image::base64(media, data).ok_or_else(|| Wrong::value(source.at("data"), "it is not base64"))?
        }
        "url" => {
            let address = Url::parse(source.needed_text("url")?).ok();
            let image = address.and_then(Image::at);
            image.ok_or_else(|| Wrong::value(source.at("url"), "it is an https address"))?
        }
        _ => return Err(Wrong::new(source.at("type"), What::Unsupported)),
    };
    source.end()?;
    Ok(read)
}

fn tools(fields: &mut Fields<'_>, asked: &mut Asked) -> Result<(), Wrong> {
    for (index, tool) in fields.list("tools")?.unwrap_or_default().iter().enumerate() {
        let mut tool = Fields::of(format!("tools.{index}"), tool)?;
        // The vendor's own tools run at the vendor.
        tool.only("type", &[json!("custom")])?;
        let schema = tool.needed_value("input_schema")?;
        if !schema.is_object() {
            return Err(Wrong::new(tool.at("input_schema"), What::Type("an object")));
        }
        asked.tools.push(Tool {
            name: tool.needed_text("name")?.to_owned(),
            description: tool.text("description")?.map(str::to_owned),
            parameters: schema.clone().into(),
            strict: tool.switch("strict")?,
        });
        // Examples help one vendor's models.
        tool.pass(&["cache_control", "eager_input_streaming", "input_examples"]);
        tool.only("allowed_callers", &[json!(["direct"])])?;
        tool.only("defer_loading", &[json!(false)])?;
        tool.end()?;
    }
    let Some(mut chosen) = fields.table("tool_choice")? else { return Ok(()) };
    asked.tool_choice = match chosen.needed_text("type")? {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(chosen.needed_text("name")?.to_owned()),
        _ => return Err(Wrong::value(chosen.at("type"), "it is 'auto' or 'any' or 'none' or 'tool'")),
    };
    asked.parallel_tool_calls = chosen.switch("disable_parallel_tool_use")?.map(|disabled| !disabled);
    chosen.end()
}

/// How the answer is to be.
fn shape(fields: &mut Fields<'_>, asked: &mut Asked) -> Result<(), Wrong> {
    let most = fields.count("max_tokens")?;
    asked.max_output = Some(most.ok_or_else(|| Wrong::new("max_tokens", What::Missing))?);
    asked.temperature = fields.number("temperature", 0.0..=1.0)?;
    asked.top_p = fields.number("top_p", 0.0..=1.0)?;
    asked.stop = fields.texts("stop_sequences")?;
    let Some(mut output) = fields.table("output_config")? else { return Ok(()) };
    asked.effort = output.word("effort", EFFORTS)?;
    if let Some(mut form) = output.table("format")? {
        form.word("type", &[("json_schema", ())])?;
        let schema = form.needed_value("schema")?;
        if !schema.is_object() {
            return Err(Wrong::new(form.at("schema"), What::Type("an object")));
        }
        let (name, strict) = ("output".to_owned(), Some(true));
        asked.form = Form::JsonSchema { name, schema: schema.clone().into(), strict };
        form.end()?;
    }
    output.end()
}

#[cfg(test)]
#[path = "ask_tests.rs"]
mod tests;
