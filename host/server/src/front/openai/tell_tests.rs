//! Answers as OpenAI's clients read them.

use super::*;
use crate::front::said::Counted;
use chela_gateway::{Kind, ToolHead};
use chela_types::{CacheVerdict, Money, Tokens, Usage};

fn envelope(include_usage: bool) -> Envelope {
    Envelope { id: "1".into(), created: 7, model: "fast".into(), include_usage }
}

fn ended(text: &str, finish: Finish) -> Ended {
    let usage = Usage { input: Tokens(10), cached: Tokens(4), output: Tokens(2), ..Usage::default() };
    let counted = Counted { usage, cost: Money::ZERO, model: None, cache: CacheVerdict::Miss };
    Ended { text: text.into(), calls: Vec::new(), finish, counted: Some(counted) }
}

fn head(index: usize, arguments: &str) -> Said {
    let head = Some(ToolHead { id: format!("call_{index}"), name: "look".into() });
    Said::Tool(ToolDelta { index, head, arguments: arguments.into() })
}

fn told(include_usage: bool, said: Vec<Said>) -> Vec<Value> {
    let mut teller = Teller::new(envelope(include_usage));
    let mut all = teller.begin();
    said.into_iter().for_each(|said| all.extend(teller.say(said).unwrap()));
    assert!(all.iter().all(|told| told.event.is_none()));
    all.iter().map(|told| serde_json::from_str(&told.data).unwrap_or_else(|_| json!(told.data))).collect()
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_whole_answer() {
    let whole = read(&whole(&envelope(false), &ended("Hi.", Finish::Stop)));
    assert_eq!(
        (&whole["id"], &whole["object"], &whole["created"], &whole["model"]),
        (&json!("chatcmpl-1"), &json!("chat.completion"), &json!(7), &json!("fast"))
    );
    let choice = &whole["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("Hi."), &json!("stop")));
    assert!(choice["message"].get("tool_calls").is_none());
    let usage = &whole["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["prompt_tokens_details"]["cached_tokens"], &usage["total_tokens"]),
        (&json!(10), &json!(4), &json!(12))
    );
}

#[test]
fn an_answer_that_calls_tools_alone_has_no_content() {
    let calls = vec![ToolCall { id: "c".into(), name: "look".into(), arguments: "{}".into() }];
    let whole = read(&whole(&envelope(false), &Ended { calls, ..ended("", Finish::ToolCalls) }));
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["content"], Value::Null);
    assert_eq!(message["tool_calls"][0]["function"], json!({"name": "look", "arguments": "{}"}));
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn a_stream_begins_with_the_role_and_ends_with_done() {
    let said = vec![
        Said::Text("Hi.".into()),
        head(0, "{\"a\""),
        Said::Tool(ToolDelta { index: 0, head: None, arguments: ":1}".into() }),
        Said::End(Box::new(ended("Hi.", Finish::ToolCalls))),
    ];
    let all = told(true, said);
    let delta = |at: usize| &all[at]["choices"][0]["delta"];
    assert_eq!(delta(0), &json!({"role": "assistant", "content": "", "refusal": null}));
    assert_eq!(delta(1), &json!({"content": "Hi."}));
    let first = json!({"index": 0, "id": "call_0", "type": "function", "function": {"name": "look", "arguments": "{\"a\""}});
    assert_eq!(delta(2), &json!({ "tool_calls": [first] }));
    assert_eq!(delta(3), &json!({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}));
    assert_eq!((delta(4), &all[4]["choices"][0]["finish_reason"]), (&json!({}), &json!("tool_calls")));
    assert!(
        all[..5].iter().all(|chunk| chunk["usage"].is_null() && chunk["object"] == "chat.completion.chunk")
    );
    assert_eq!((&all[5]["choices"], &all[5]["usage"]["prompt_tokens"]), (&json!([]), &json!(10)));
    assert_eq!(all[6..], [json!("[DONE]")]);
}

#[test]
fn usage_is_told_to_who_asked_for_it() {
    let all = told(false, vec![Said::End(Box::new(ended("", Finish::Length)))]);
    assert_eq!(all.len(), 3);
    assert!(all[1].get("usage").is_none());
    assert_eq!(all[1]["choices"][0]["finish_reason"], "length");
}

#[test]
fn a_stream_that_fails_is_not_done() {
    let told = Teller::new(envelope(false)).fail(&Refusal::Gateway(Kind::Interrupted), "r");
    assert_eq!(told.len(), 1);
    let body: Value = serde_json::from_str(&told[0].data).unwrap();
    assert_eq!(body["error"]["type"], "server_error");
}
