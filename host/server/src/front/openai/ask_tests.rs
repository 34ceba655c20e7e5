//! Requests of OpenAI's clients.

use super::*;

fn body(more: &Value) -> Value {
    let mut body = json!({"model": "fast", "messages": [{"role": "user", "content": "hi"}]});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[test]
fn a_conversation_with_all_its_parts() {
    let image = "data:image/png;base64,iVBORw0KGgo=";
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "look", "arguments": "{\"a\":1}"}});
    let asked = read(&json!({
        "model": "fast",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "name": "ann", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": image, "detail": "low"}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [call("c1"), call("c2")]},
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two"}]},
            {"role": "user", "content": "And now?"},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "strict": true}}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": false, "stop": "END", "temperature": 0.5, "top_p": 1, "seed": -3,
        "max_tokens": 10, "max_completion_tokens": 20, "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": true}},
        "user": "ann", "metadata": {"conversation": "7", "note": "mine"},
        "stream": true, "stream_options": {"include_usage": true},
        "n": 1, "logprobs": false, "frequency_penalty": 0, "store": false, "logit_bias": null,
    }))
    .unwrap();
    assert_eq!(asked.system.as_deref(), Some("Be kind.\n\nBe brief."));
    assert_eq!(asked.prompts.len(), 4);
    assert_eq!(asked.prompts[0].parts.len(), 2);
    assert_eq!(asked.prompts[1].tool_calls().count(), 2);
    let results: Vec<_> = asked.prompts[2].tool_results().map(|result| result.text.as_str()).collect();
    assert_eq!(results, ["one", "two"]);
    assert_eq!(asked.tools[0].parameters, json!({"type": "object", "properties": {}}).into());
    assert_eq!(asked.tool_choice, ToolChoice::Named("look".into()));
    assert_eq!((asked.max_output, asked.seed, asked.effort), (Some(20), Some(-3), Some(Effort::Low)));
    assert_eq!((asked.temperature, asked.top_p, asked.stop), (Some(0.5), Some(1.0), vec!["END".to_owned()]));
    assert!(matches!(asked.form, Form::JsonSchema { strict: Some(true), .. }));
    assert_eq!((asked.user.as_deref(), asked.conversation.as_deref()), (Some("ann"), Some("7")));
    assert!(asked.stream && asked.include_usage && asked.parallel_tool_calls == Some(false));
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let message = |message: Value| json!({ "messages": [message] });
    let user = |content: Value| message(json!({"role": "user", "content": content}));
    for (more, at, what) in [
        (json!({"model": null}), "model", What::Missing),
        (json!({"model": 1}), "model", What::Type("a string")),
        (json!({"messages": null}), "messages", What::Missing),
        (json!({"messages": "hi"}), "messages", What::Type("an array")),
        (message(json!("hi")), "messages.0", What::Type("an object")),
        (message(json!({"content": "hi"})), "messages.0.role", What::Missing),
        (message(json!({"role": "user"})), "messages.0.content", What::Missing),
        (user(json!(1)), "messages.0.content", What::Type("a string or an array")),
        (user(json!([{"type": "input_audio"}])), "messages.0.content.0.type", What::Unsupported),
        (user(json!([{"type": "text"}])), "messages.0.content.0.text", What::Missing),
        (message(json!({"role": "function", "content": "x"})), "messages.0.role", What::Unsupported),
        (message(json!({"role": "tool", "content": "x"})), "messages.0.tool_call_id", What::Missing),
        (message(json!({"role": "user", "content": "x", "colour": 1})), "messages.0.colour", What::Unknown),
        (json!({"tools": [{"type": "custom"}]}), "tools.0.type", What::Unsupported),
        (json!({"tools": [{"type": "function"}]}), "tools.0.function", What::Missing),
        (json!({"tools": {}}), "tools", What::Type("an array")),
        (json!({"tool_choice": 3}), "tool_choice", What::Type("an object")),
        (json!({"stream": "yes"}), "stream", What::Type("a boolean")),
        (json!({"temperature": "hot"}), "temperature", What::Type("a number")),
        (json!({"seed": 1.5}), "seed", What::Type("an integer")),
        (json!({"stop": 1}), "stop", What::Type("a string or an array")),
        (json!({"stop": [1]}), "stop.0", What::Type("a string")),
        (json!({"n": 2}), "n", What::Unsupported),
        (json!({"logprobs": true}), "logprobs", What::Unsupported),
        (json!({"logit_bias": {"1": 2}}), "logit_bias", What::Unsupported),
        (json!({"frequency_penalty": 0.5}), "frequency_penalty", What::Unsupported),
        (json!({"audio": {}}), "audio", What::Unsupported),
        (json!({"functions": []}), "functions", What::Unsupported),
        (json!({"response_format": "json"}), "response_format", What::Type("an object")),
        (json!({"metadata": "x"}), "metadata", What::Type("an object")),
        (json!({"user": 7}), "user", What::Type("a string")),
        (json!({"colour": "blue"}), "colour", What::Unknown),
    ] {
        let wrong = read(&body(&more)).unwrap_err();
        assert_eq!(wrong, Wrong::new(at, what), "{more}");
    }
    for (more, at) in [
        (json!({"messages": []}), "messages"),
        (user(json!([])), "messages.0.content"),
        (
            user(json!([{"type": "image_url", "image_url": {"url": "http://a.example/b.png"}}])),
            "messages.0.content.0.image_url.url",
        ),
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop"),
        (json!({"tool_choice": "always"}), "tool_choice"),
        (json!({"stream_options": {"include_usage": true}}), "stream_options"),
        (json!({"reasoning_effort": "a lot"}), "reasoning_effort"),
        (json!({"user": ""}), "user"),
    ] {
        let wrong = read(&body(&more)).unwrap_err();
        assert!(wrong.at == at && matches!(wrong.what, What::Value(_)), "{more}: {wrong:?}");
    }
}

#[test]
fn what_a_model_would_not_say_is_said_where_it_said_nothing_else() {
    for (content, said) in [(json!(null), "No."), (json!(""), "No."), (json!("Yes."), "Yes.")] {
        let message = json!({"role": "assistant", "content": content, "refusal": "No."});
        let asked = read(&body(&json!({ "messages": [message] }))).unwrap();
        assert_eq!(asked.prompts[0].texts().collect::<String>(), said);
    }
}
