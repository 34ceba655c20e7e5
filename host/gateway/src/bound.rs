//! How many input tokens a call can be at most: proven rather than estimated, since money is set aside by it.

use chela_types::Tokens;

use crate::{Call, Form, Part, Tool, ToolCall};

/// Tokens of overhead for each message and part of one (role, separators): the vendors document less than ten.
const PART_OVERHEAD: u64 = 16;
/// Tokens of overhead for a request.
const CALL_OVERHEAD: u64 = 64;
/// What a vendor adds once there are tools or a schema for the answer: Anthropic documents from 159 to 804 tokens by
/// model and choice (docs.anthropic.com: tool use, pricing), OpenAI a few words.
const TOOLS_OVERHEAD: u64 = 1024;
/// For each tool, call of one and result: the words around names and arguments.
const TOOL_OVERHEAD: u64 = 64;
/// Vendors show schemas and arguments to their models in a form of their own and do not document it: as TypeScript, as
/// tags around each argument, as JSON with spaces. None needs more than two tokens for a byte of compact JSON: the
/// shortest argument, `"a":1,`, is six bytes, and eleven tokens even where it stands between tags.
const STRUCTURE_TOKENS_PER_BYTE: u64 = 2;
/// Arguments are read and written anew for some, and `1e15`, four bytes, becomes the eighteen of `1000000000000000.0`.
/// No number grows by more; and without an exponent none to more than twice its bytes.
const EXPONENT_TOKENS: u64 = 16;

/// The most that one image can be at Anthropic: 2,576 pixels on the long edge, in patches of 28 (platform.claude.com:
/// vision). Larger ones are made smaller there.
pub(crate) const ANTHROPIC_IMAGE: Tokens = Tokens(4_784);
/// The most that one image can be in OpenAI's formats: at gpt-4o-mini, 2,833 and 5,667 for each of at most eight tiles
/// (an image is fitted into 2,048 by 768 pixels, a tile is 512 by 512; platform.openai.com: images and vision). Models
/// that count patches are below it.
pub(crate) const OPENAI_IMAGE: Tokens = Tokens(2_833 + 8 * 5_667);

impl Call {
    /// An upper bound on the input tokens, whoever is asked: a byte-level tokenizer never makes more tokens than
    /// there are bytes. An image is taken for the largest, also one that the provider fetches.
    pub fn input_bound(&self) -> Tokens {
        self.input_bound_with(OPENAI_IMAGE.max(ANTHROPIC_IMAGE))
    }

    /// The same at a provider for which an image is at most so many tokens.
    pub(crate) fn input_bound_with(&self, image: Tokens) -> Tokens {
        let system = self.system.iter().map(|text| bytes(text).saturating_add(PART_OVERHEAD));
        // One that says nothing is a message all the same.
        let bare = self.prompts.iter().filter(|prompt| prompt.parts.is_empty()).map(|_| PART_OVERHEAD);
        let parts = self.prompts.iter().flat_map(|prompt| &prompt.parts).map(|each| part(each, image));
        let tools = self.tools.iter().map(tool);
        let around = if self.tools.is_empty() && !self.calls_tools() { 0 } else { TOOLS_OVERHEAD };
        let all = system.chain(bare).chain(parts).chain(tools).chain([around, form(&self.form)]);
        Tokens(all.fold(CALL_OVERHEAD, u64::saturating_add))
    }

    fn calls_tools(&self) -> bool {
        self.prompts.iter().any(|prompt| prompt.tool_calls().next().is_some())
    }
}

fn part(part: &Part, image: Tokens) -> u64 {
    let inside = match part {
        Part::Text(text) => bytes(text),
        Part::Image(_) => image.0,
        Part::ToolCall(ToolCall { id, name, arguments }) => {
            let each = [bytes(id), bytes(name), structure(arguments), exponents(arguments)];
            each.into_iter().fold(TOOL_OVERHEAD, u64::saturating_add)
        }
        Part::ToolResult(result) => {
            bytes(&result.id).saturating_add(bytes(&result.text)).saturating_add(TOOL_OVERHEAD)
        }
    };
    inside.saturating_add(PART_OVERHEAD)
}

fn tool(tool: &Tool) -> u64 {
    let words = [bytes(&tool.name), tool.description.as_deref().map_or(0, bytes)];
    let schema = structure(tool.parameters.as_str());
    words.into_iter().chain([schema]).fold(TOOL_OVERHEAD, u64::saturating_add)
}

fn form(form: &Form) -> u64 {
    match form {
        Form::Text => 0,
        Form::JsonObject => TOOL_OVERHEAD,
        Form::JsonSchema { name, schema, .. } => {
            [bytes(name), structure(schema.as_str())].into_iter().fold(TOOLS_OVERHEAD, u64::saturating_add)
        }
    }
}

fn bytes(text: &str) -> u64 {
    text.len() as u64
}

fn structure(json: &str) -> u64 {
    bytes(json).saturating_mul(STRUCTURE_TOKENS_PER_BYTE)
}

/// What numbers with an exponent may be longer than they were told.
fn exponents(json: &str) -> u64 {
    let is_one = |pair: &&[u8]| matches!(pair, [b'0'..=b'9', b'e' | b'E']);
    let count = json.as_bytes().windows(2).filter(is_one).count() as u64;
    count.saturating_mul(EXPONENT_TOKENS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::tests::call;
    use crate::{Image, Prompt, Role, ToolResult};
    use serde_json::json;

    fn of(parts: Vec<Part>) -> Call {
        Call { prompts: vec![Prompt { role: Role::User, parts }], ..call("") }
    }

    #[test]
    fn everything_that_is_sent_is_counted() {
        let image = Part::Image(Image::from_address("https://a.example/b.png").unwrap());
        let asked = ToolCall { id: "c1".into(), name: "look".into(), arguments: r#"{"a":1}"#.into() };
        let told = ToolResult { id: "c1".into(), text: "x".repeat(100), is_error: false };
        let tool = Tool {
            name: "look".into(),
            description: Some("y".repeat(50)),
            parameters: json!({"type": "object"}).into(),
            strict: None,
        };
        let empty = CALL_OVERHEAD + PART_OVERHEAD;
        for (call, bound) in [
            (call("hello"), empty + 5),
            (Call { system: Some("hi".into()), ..call("hello") }, empty + 5 + PART_OVERHEAD + 2),
            (of(vec![image]), empty + OPENAI_IMAGE.0),
            (of(vec![Part::ToolCall(asked)]), empty + TOOL_OVERHEAD + TOOLS_OVERHEAD + 6 + 14),
            (of(vec![Part::ToolResult(told)]), empty + TOOL_OVERHEAD + 102),
            (Call { tools: vec![tool], ..call("") }, empty + TOOL_OVERHEAD + TOOLS_OVERHEAD + 54 + 34),
            (Call { form: Form::JsonObject, ..call("") }, empty + TOOL_OVERHEAD),
        ] {
            assert_eq!(call.input_bound(), Tokens(bound));
        }
    }

    /// One without parts is sent as an empty one, and has the words around it.
    #[test]
    fn messages_that_say_nothing_are_counted() {
        let silent = Prompt { role: Role::User, parts: Vec::new() };
        let call = Call { prompts: vec![silent; 2_048], ..call("") };
        assert_eq!(call.input_bound(), Tokens(CALL_OVERHEAD + 2_048 * PART_OVERHEAD));
    }

    /// Arguments are read and written anew for a format that wants them as JSON, and then a number may be longer.
    #[test]
    fn numbers_are_counted_as_they_may_be_written() {
        let list = |number: &str| format!(r#"{{"a":[{}]}}"#, vec![number; 100].join(","));
        for number in
            ["1e15", "1E15", "1.5e15", "-1e+15", "9e-5", "1e16", "-0", "1e-7", "123456789012345678901"]
        {
            let arguments = list(number);
            let written = serde_json::from_str::<serde_json::Value>(&arguments).unwrap().to_string();
            let asked = ToolCall { id: String::new(), name: String::new(), arguments };
            let bound = part(&Part::ToolCall(asked), Tokens(0)) - PART_OVERHEAD - TOOL_OVERHEAD;
            assert!(bound >= written.len() as u64, "{number}: {bound} for {}", written.len());
        }
    }

    #[test]
    fn an_image_is_bounded_by_who_reads_it() {
        let image = Part::Image(Image::from_address("data:image/png;base64,iVBORw0KGgo=").unwrap());
        let bound =
            |image: Tokens, call: &Call| call.input_bound_with(image).0 - call.input_bound_with(Tokens(0)).0;
        let call = of(vec![image.clone(), Part::Text("What is it?".into()), image]);
        assert_eq!((bound(ANTHROPIC_IMAGE, &call), bound(OPENAI_IMAGE, &call)), (2 * 4_784, 2 * 48_169));
    }
}
