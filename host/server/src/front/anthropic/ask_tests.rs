//! Requests of Anthropic's clients.

use super::*;

fn body(more: &Value) -> Value {
    let mut body = json!({"model": "fast", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[test]
fn a_conversation_with_all_its_blocks() {
    let source = json!({"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="});
    let asked = read(&json!({
        "model": "fast",
        "max_tokens": 20,
        "system": [
            {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Be brief."},
        ],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
                {"type": "image", "source": source},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "c1", "name": "look", "input": {"a": 1}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "is_error": true, "content": [{"type": "text", "text": "no"}]},
                {"type": "text", "text": "Go on."},
            ]},
        ],
        "tools": [{"name": "look", "description": "d", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "stop_sequences": ["END"], "temperature": 0.5, "top_p": 0.9,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "metadata": {"user_id": "ann"}, "service_tier": "auto", "stream": true,
    }))
    .unwrap();
    assert_eq!(asked.system.as_deref(), Some("Be kind.\nBe brief."));
    let counts: Vec<_> = asked.prompts.iter().map(|prompt| prompt.parts.len()).collect();
    assert_eq!(counts, [2, 2, 2]);
    let result = asked.prompts[2].tool_results().next().unwrap();
    assert!(result.is_error && result.text == "no" && result.id == "c1");
    assert_eq!(asked.prompts[1].tool_calls().next().unwrap().arguments, "{\"a\":1}");
    assert_eq!((asked.tool_choice, asked.parallel_tool_calls), (ToolChoice::Required, Some(false)));
    assert_eq!((asked.max_output, asked.stop), (Some(20), vec!["END".to_owned()]));
    assert!(asked.stream && asked.user.as_deref() == Some("ann"));
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let message = |message: Value| json!({ "messages": [message] });
    let tool = |key: &str, value: Value| json!({"tools": [{"name": "look", "input_schema": {}, key: value}]});
    let block = |block: Value| message(json!({"role": "user", "content": [block]}));
    for (more, at, what) in [
        (json!({"model": null}), "model", What::Missing),
        (json!({"max_tokens": null}), "max_tokens", What::Missing),
        (json!({"max_tokens": "9"}), "max_tokens", What::Type("an integer")),
        (json!({"messages": null}), "messages", What::Missing),
        (json!({"messages": {}}), "messages", What::Type("an array")),
        (message(json!({"content": "hi"})), "messages.0.role", What::Missing),
        (message(json!({"role": "system", "content": "x"})), "messages.0.role", What::Unsupported),
        (message(json!({"role": "user"})), "messages.0.content", What::Missing),
        (block(json!({"type": "document"})), "messages.0.content.0.type", What::Unsupported),
        (block(json!({"type": "tool_use"})), "messages.0.content.0.type", What::Unsupported),
        (block(json!({"type": "tool_result"})), "messages.0.content.0.tool_use_id", What::Missing),
        (
            block(json!({"type": "text", "text": "x", "colour": 1})),
            "messages.0.content.0.colour",
            What::Unknown,
        ),
        (json!({"system": 1}), "system", What::Type("a string or an array")),
        (
            json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
            "tools.0.type",
            What::Unsupported,
        ),
        (json!({"tools": [{"name": "look"}]}), "tools.0.input_schema", What::Missing),
        (
            tool("allowed_callers", json!(["code_execution_20250825"])),
            "tools.0.allowed_callers",
            What::Unsupported,
        ),
        (tool("defer_loading", json!(true)), "tools.0.defer_loading", What::Unsupported),
        (json!({"tool_choice": "auto"}), "tool_choice", What::Type("an object")),
        (json!({"temperature": "x"}), "temperature", What::Type("a number")),
        (json!({"stop_sequences": "x"}), "stop_sequences", What::Type("an array")),
        (json!({"stream": 1}), "stream", What::Type("a boolean")),
        (json!({"metadata": {"colour": 1}}), "metadata.colour", What::Unknown),
        (json!({"top_k": 5}), "top_k", What::Unsupported),
        (json!({"container": "c"}), "container", What::Unsupported),
        (json!({"n": 1}), "n", What::Unknown),
    ] {
        let wrong = read(&body(&more)).unwrap_err();
        assert_eq!(wrong, Wrong::new(at, what), "{more}");
    }
    for (more, at) in [
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"messages": []}), "messages"),
        (json!({"temperature": 1.5}), "temperature"),
        (message(json!({"role": "robot", "content": "x"})), "messages.0.role"),
        (message(json!({"role": "user", "content": []})), "messages.0.content"),
        (json!({"tool_choice": {"type": "some"}}), "tool_choice.type"),
        (json!({"metadata": {"user_id": ""}}), "metadata.user_id"),
    ] {
        let wrong = read(&body(&more)).unwrap_err();
        assert!(wrong.at == at && matches!(wrong.what, What::Value(_)), "{more}: {wrong:?}");
    }
}

/// The vendor's client writes these for each tool.
#[test]
fn a_tool_as_the_vendors_client_writes_it() {
    let tool = json!({
        "name": "look", "input_schema": {"type": "object"}, "type": "custom", "strict": null,
        "allowed_callers": ["direct"], "defer_loading": false, "input_examples": [{"city": "Bonn"}],
    });
    assert_eq!(read(&body(&json!({ "tools": [tool] }))).unwrap().tools.len(), 1);
}
