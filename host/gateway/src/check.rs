//! What no provider would take is refused here, before money is set aside.

use serde_json::Value;

use crate::tool::NAME_BYTES_MAX;
use crate::{Call, Error, Kind, Part, Prompt, Role, ToolChoice};

/// Tools of one call: OpenAI's limit.
const TOOLS_MAX: usize = 128;

/// Whether a call can be sent at all.
pub(crate) fn check(call: &Call) -> Result<(), Error> {
    match wrong(call) {
        Some(what) => Err(Error::new(Kind::Invalid { code: what.to_owned() }).with_call(call.record())),
        None => Ok(()),
    }
}

fn wrong(call: &Call) -> Option<&'static str> {
    if call.tools.len() > TOOLS_MAX {
        return Some("more than 128 tools");
    }
    for (number, tool) in call.tools.iter().enumerate() {
        if !is_name(&tool.name) {
            return Some("a tool's name is 1 to 128 letters, digits, _ and -");
        }
        if call.tools.iter().take(number).any(|other| other.name == tool.name) {
            return Some("two tools of one name");
        }
        if !tool.parameters.is_object() {
            return Some("a tool's parameters are a schema, which is an object");
        }
    }
    let is_offered = match &call.tool_choice {
        ToolChoice::Auto | ToolChoice::None => true,
        ToolChoice::Required => !call.tools.is_empty(),
        ToolChoice::Named(name) => call.tools.iter().any(|tool| tool.name == *name),
    };
    if !is_offered {
        return Some("the tool that is to be called is not offered");
    }
    call.prompts.iter().find_map(misplaced)
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(fits)
}

fn misplaced(prompt: &Prompt) -> Option<&'static str> {
    prompt.parts.iter().find_map(|part| match (prompt.role, part) {
        (Role::User, Part::ToolCall(_)) => Some("only the model calls tools"),
        (Role::Assistant, Part::Image(_)) => Some("only the person shows images"),
        (Role::Assistant, Part::ToolResult(_)) => Some("only the person's side tells results"),
        (Role::Assistant, Part::ToolCall(call)) if !is_object(&call.arguments) => {
            Some("a call's arguments are a json object")
        }
        _ => None,
    })
}

/// Whether a text is a whole JSON object.
pub(crate) fn is_object(json: &str) -> bool {
    serde_json::from_str::<Value>(json).is_ok_and(|value| value.is_object())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::tests::{call, tool};
    use crate::{Image, ToolCall, ToolResult};

    fn said(role: Role, part: Part) -> Call {
        Call { prompts: vec![Prompt { role, parts: vec![part] }], ..call("hello") }
    }

    fn asked(arguments: &str) -> Part {
        Part::ToolCall(ToolCall { id: "c".into(), name: "look".into(), arguments: arguments.into() })
    }

    #[test]
    fn what_no_provider_takes_is_refused() {
        let told = || Part::ToolResult(ToolResult { id: "c".into(), text: "x".into(), is_error: true });
        let image = || Part::Image(Image::from_address("https://a.example/b.png").unwrap());
        let tools =
            |names: &[&str]| Call { tools: names.iter().map(|name| tool(name)).collect(), ..call("") };
        let many: Vec<String> = (0..129).map(|number| format!("t{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (call, is_good) in [
            (call("hello"), true),
            (tools(&["look", "take"]), true),
            (tools(&many[..128]), true),
            (tools(&many), false),
            (tools(&["look", "look"]), false),
            (tools(&[""]), false),
            (tools(&["a b"]), false),
            (tools(&["x".repeat(128).as_str()]), true),
            (tools(&["x".repeat(129).as_str()]), false),
            (Call { tool_choice: ToolChoice::Required, ..tools(&["look"]) }, true),
            (Call { tool_choice: ToolChoice::Required, ..call("") }, false),
            (Call { tool_choice: ToolChoice::Named("look".into()), ..tools(&["look"]) }, true),
            (Call { tool_choice: ToolChoice::Named("take".into()), ..tools(&["look"]) }, false),
            (said(Role::Assistant, asked("{\"a\":1}")), true),
            (said(Role::Assistant, asked("{\"a\":")), false),
            (said(Role::Assistant, asked("[]")), false),
            (said(Role::User, asked("{}")), false),
            (said(Role::User, told()), true),
            (said(Role::Assistant, told()), false),
            (said(Role::User, image()), true),
            (said(Role::Assistant, image()), false),
        ] {
            assert_eq!(check(&call).is_ok(), is_good, "{:?}", wrong(&call));
        }
    }
}
