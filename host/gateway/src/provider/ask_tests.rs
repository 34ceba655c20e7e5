//! What is asked, in each format.

use std::sync::Arc;

use chela_types::Tokens;
use serde_json::{Value, json};

use super::{Ask, Object, Sent, anthropic, chat, responses};
use crate::failover::tests::call;
use crate::{Call, Effort, Form, Image, Part, Prompt, Role, Schema, Tool, ToolCall, ToolChoice, ToolResult};

fn ask(call: Call) -> Ask {
    Ask {
        call: Arc::new(call),
        model: "m".into(),
        max_output: Tokens(200),
        total: std::time::Duration::from_secs(1),
        sent: Sent::default(),
    }
}

fn value(body: &Object) -> Value {
    serde_json::to_value(body).unwrap()
}

fn of_chat(call: Call) -> Value {
    value(&chat::body(&ask(call), false))
}

fn of_responses(call: Call) -> Value {
    value(&responses::body(&ask(call)).unwrap())
}

fn of_messages(call: Call) -> Value {
    value(&anthropic::body(&ask(call), true).unwrap())
}

fn weather() -> Tool {
    Tool {
        name: "weather".into(),
        description: Some("What it is like outside.".into()),
        parameters: json!({"type": "object", "properties": {"city": {"type": "string"}}}).into(),
        strict: Some(true),
    }
}

fn image(address: &str) -> Part {
    Part::Image(Image::from_address(address).unwrap())
}

const PNG: &str = "data:image/png;base64,iVBORw0KGgo=";

/// A conversation with everything that can be in one.
fn conversation() -> Call {
    let asked = ToolCall { id: "c1".into(), name: "weather".into(), arguments: r#"{"city":"Bonn"}"#.into() };
    let again = ToolCall { id: "c2".into(), ..asked.clone() };
    let told = |id: &str, text: &str, is_error| {
        Part::ToolResult(ToolResult { id: id.into(), text: text.into(), is_error })
    };
    let prompt = |role, parts| Prompt { role, parts };
    Call {
        system: Some("Be kind.".into()),
        tools: vec![weather()],
        prompts: vec![
            prompt(
                Role::User,
                vec![Part::Text("And here?".into()), image(PNG), image("https://a.example/b.png")],
            ),
            prompt(
                Role::Assistant,
                vec![Part::Text("I look.".into()), Part::ToolCall(asked), Part::ToolCall(again)],
            ),
            prompt(Role::User, vec![Part::Text("Quick!".into()), told("c1", "It rains.", false)]),
            prompt(Role::User, vec![told("c2", "nobody knows", true)]),
        ],
        ..call("")
    }
}

#[test]
fn chat_completions_tell_the_whole_conversation() {
    let body = of_chat(conversation());
    let function = |id| json!({"id": id, "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Bonn\"}"}});
    assert_eq!(
        body["messages"],
        json!([
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [
                {"type": "text", "text": "And here?"},
                {"type": "image_url", "image_url": {"url": PNG}},
                {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
            ]},
            {"role": "assistant", "content": "I look.", "tool_calls": [function("c1"), function("c2")]},
            {"role": "tool", "tool_call_id": "c1", "content": "It rains."},
            {"role": "user", "content": "Quick!"},
            {"role": "tool", "tool_call_id": "c2", "content": "Error: nobody knows"},
        ])
    );
    let Tool { name, description, parameters, .. } = weather();
    let function =
        json!({"name": name, "description": description, "parameters": parameters, "strict": true});
    assert_eq!(body["tools"], json!([{"type": "function", "function": function}]));
}

#[test]
fn responses_tell_the_whole_conversation() {
    let body = of_responses(conversation());
    let asked = |id| json!({"type": "function_call", "call_id": id, "name": "weather", "arguments": "{\"city\":\"Bonn\"}"});
    assert_eq!(
        body["input"],
        json!([
            {"role": "user", "content": [
                {"type": "input_text", "text": "And here?"},
                {"type": "input_image", "image_url": PNG},
                {"type": "input_image", "image_url": "https://a.example/b.png"},
            ]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
            asked("c1"),
            asked("c2"),
            {"type": "function_call_output", "call_id": "c1", "output": "It rains."},
            {"role": "user", "content": [{"type": "input_text", "text": "Quick!"}]},
            {"type": "function_call_output", "call_id": "c2", "output": "Error: nobody knows"},
        ])
    );
    assert_eq!((&body["instructions"], &body["store"]), (&"Be kind.".into(), &false.into()));
    let Tool { name, description, parameters, .. } = weather();
    let tool = json!({"type": "function", "name": name, "description": description, "parameters": parameters, "strict": true});
    assert_eq!(body["tools"], json!([tool]));
    let lax = Call { tools: vec![Tool { strict: None, ..weather() }], ..call("hello") };
    assert_eq!(of_responses(lax)["tools"][0]["strict"], false, "left out, it would be true");
}

#[test]
fn messages_tell_the_whole_conversation() {
    let body = of_messages(conversation());
    let used = |id| json!({"type": "tool_use", "id": id, "name": "weather", "input": {"city": "Bonn"}});
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": [
                {"type": "text", "text": "And here?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}},
            ]},
            {"role": "assistant", "content": [{"type": "text", "text": "I look."}, used("c1"), used("c2")]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "It rains."},
                {"type": "tool_result", "tool_use_id": "c2", "content": "nobody knows", "is_error": true},
                {"type": "text", "text": "Quick!"},
            ]},
        ])
    );
    let Tool { name, description, parameters, .. } = weather();
    let tool = json!({"name": name, "description": description, "input_schema": parameters, "strict": true});
    assert_eq!(body["tools"], json!([tool]));
}

#[test]
fn messages_alternate_and_begin_with_the_person() {
    let prompts = [
        (Role::Assistant, "Welcome."),
        (Role::User, "One."),
        (Role::User, "Two."),
        (Role::Assistant, ""),
        (Role::User, "Three."),
        (Role::Assistant, "Four."),
    ];
    let prompts = prompts.map(|(role, text)| Prompt::text(role, text)).to_vec();
    assert_eq!(
        of_messages(Call { prompts, ..call("") })["messages"],
        json!([
            {"role": "user", "content": "One.\n\nTwo.\n\nThree."},
            {"role": "assistant", "content": "Four."},
        ])
    );
}

#[test]
fn what_is_not_asked_is_not_sent() {
    for (body, names) in [
        (of_chat(call("hello")), vec!["max_tokens", "messages", "model", "stream", "stream_options"]),
        (of_responses(call("hello")), vec!["input", "max_output_tokens", "model", "store", "stream"]),
        (of_messages(call("hello")), vec!["max_tokens", "messages", "model", "stream"]),
    ] {
        let mut sent: Vec<&String> = body.as_object().unwrap().keys().collect();
        sent.sort();
        assert_eq!(sent, names);
    }
}

#[test]
fn what_is_asked_is_sent_where_the_format_has_a_place() {
    let schema = json!({"type": "object"});
    let form = Form::JsonSchema { name: "answer".into(), schema: schema.clone().into(), strict: Some(true) };
    let asked = Call {
        temperature: Some(0.5),
        top_p: Some(0.25),
        tools: vec![weather()],
        tool_choice: ToolChoice::Named("weather".into()),
        parallel_tool_calls: Some(false),
        form,
        seed: Some(-7),
        effort: Some(Effort::Low),
        ..call("hello")
    };
    let with_stop = |call: Call| Call { stop: vec!["END".into()], ..call };
    for (body, fields) in [
        (
            of_chat(with_stop(asked.clone())),
            json!({
                "temperature": 0.5, "top_p": 0.25, "seed": -7, "stop": ["END"], "reasoning_effort": "low",
                "parallel_tool_calls": false,
                "tool_choice": {"type": "function", "function": {"name": "weather"}},
                "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": true}},
            }),
        ),
        (
            of_responses(asked.clone()),
            json!({
                "temperature": 0.5, "top_p": 0.25, "reasoning": {"effort": "low"}, "parallel_tool_calls": false,
                "tool_choice": {"type": "function", "name": "weather"},
                "text": {"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": true}},
            }),
        ),
        (
            of_messages(with_stop(asked.clone())),
            json!({
                "temperature": 0.5, "top_p": 0.25, "stop_sequences": ["END"],
                "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": true},
                "output_config": {"format": {"type": "json_schema", "schema": schema}},
            }),
        ),
    ] {
        for (name, value) in fields.as_object().unwrap() {
            assert_eq!(body[name], *value, "{name}");
        }
    }
}

/// Properties were sent by the alphabet: a model that was to reason before it answers had to answer first.
#[test]
fn a_schema_is_sent_in_the_order_in_which_it_was_written() {
    let written =
        r#"{"type":"object","properties":{"reasoning":{"type":"string"},"answer":{"type":"string"}}}"#;
    let schema = || Schema::read(written).unwrap();
    let form = Form::JsonSchema { name: "answer".into(), schema: schema(), strict: None };
    let tools = vec![Tool { parameters: schema(), ..weather() }];
    let asked = || ask(Call { form: form.clone(), tools: tools.clone(), ..call("hello") });
    for body in [
        chat::body(&asked(), false),
        responses::body(&asked()).unwrap(),
        anthropic::body(&asked(), true).unwrap(),
    ] {
        assert_eq!(body.text().matches(written).count(), 2, "{}", body.text());
    }
}

#[test]
fn the_choice_of_tools_is_sent() {
    let asked = |tool_choice| Call { tools: vec![weather()], tool_choice, ..call("hello") };
    for (choice, chat, messages) in [
        (ToolChoice::Auto, Value::Null, Value::Null),
        (ToolChoice::None, json!("none"), json!({"type": "none"})),
        (ToolChoice::Required, json!("required"), json!({"type": "any"})),
    ] {
        assert_eq!(of_chat(asked(choice.clone()))["tool_choice"], chat);
        assert_eq!(of_responses(asked(choice.clone()))["tool_choice"], chat);
        assert_eq!(of_messages(asked(choice))["tool_choice"], messages);
    }
}

#[test]
fn what_a_format_cannot_say_is_asked_elsewhere() {
    let stop = Call { stop: vec!["END".into()], ..call("hello") };
    let json = Call { form: Form::JsonObject, ..call("hello") };
    for trouble in
        [responses::body(&ask(stop)).unwrap_err(), anthropic::body(&ask(json.clone()), true).unwrap_err()]
    {
        assert_eq!((trouble.kind.class(), trouble.billed), ("unsupported", false));
        assert!(trouble.kind.elsewhere() && !trouble.kind.passes());
    }
    assert_eq!(of_chat(json.clone())["response_format"], json!({"type": "json_object"}));
    assert_eq!(of_responses(json)["text"], json!({"format": {"type": "json_object"}}));
}

/// Longer than what the vendor keeps, and shorter.
#[test]
fn a_long_prefix_is_marked_for_the_providers_cache() {
    let mark = json!({"type": "ephemeral"});
    let system = |bytes| Call { system: Some("x".repeat(bytes)), ..call("hello") };
    let marks =
        |body: Value| (body["system"][0]["cache_control"] == mark, body["tools"][0]["cache_control"] == mark);
    assert_eq!(marks(of_messages(system(4_096))), (true, false));
    assert_eq!(marks(of_messages(system(4_095))), (false, false));
    let tool = |bytes| Tool { description: Some("y".repeat(bytes)), ..weather() };
    let with_tool = |bytes| Call { tools: vec![tool(bytes)], ..system(100) };
    assert_eq!(marks(of_messages(with_tool(4_096))), (true, true));
    assert_eq!(marks(of_messages(with_tool(4_096 - 150))), (true, false), "together they are long enough");
    assert_eq!(marks(of_messages(with_tool(10))), (false, false));
    let off = anthropic::body(&ask(with_tool(5_000)), false).unwrap();
    assert!(!off.text().contains("cache_control"));
}
