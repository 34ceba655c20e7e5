//! Answers as Anthropic's clients read them.

use super::*;
use chela_gateway::ToolHead;
use chela_types::{CacheVerdict, Money, Tokens};

fn envelope() -> Envelope {
    Envelope { id: "1".into(), created: 7, model: "fast".into(), include_usage: false }
}

fn ended(text: &str, finish: Finish) -> Ended {
    let usage = Usage { input: Tokens(10), cached: Tokens(4), written: Tokens(1), output: Tokens(2) };
    let counted = Counted { usage, cost: Money::ZERO, model: None, cache: CacheVerdict::Miss };
    Ended { text: text.into(), calls: Vec::new(), finish, counted: Some(counted) }
}

fn tool(index: usize, begins: bool, arguments: &str) -> Said {
    let head = begins.then(|| ToolHead { id: format!("call_{index}"), name: "look".into() });
    Said::Tool(ToolDelta { index, head, arguments: arguments.into() })
}

fn told(said: Vec<Said>) -> Vec<(&'static str, Value)> {
    let mut teller = Teller::new(envelope());
    let mut all = teller.begin();
    said.into_iter().for_each(|said| all.extend(teller.say(said).unwrap()));
    let read = |told: Told| (told.event.unwrap(), serde_json::from_str(&told.data).unwrap());
    all.into_iter().map(read).collect()
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_whole_answer_counts_the_cache_apart() {
    let calls = vec![ToolCall { id: "c".into(), name: "look".into(), arguments: "{\"b\":1,\"a\":2}".into() }];
    let text = whole(&envelope(), &Ended { calls, ..ended("Hi.", Finish::ToolCalls) });
    assert!(text.contains("\"input\":{\"b\":1,\"a\":2}"), "as the model wrote it: {text}");
    let whole = read(&text);
    assert_eq!(
        (&whole["id"], &whole["type"], &whole["role"]),
        (&json!("msg_1"), &json!("message"), &json!("assistant"))
    );
    let blocks = json!([
        {"type": "text", "text": "Hi."},
        {"type": "tool_use", "id": "c", "name": "look", "input": {"a": 2, "b": 1}},
    ]);
    assert_eq!((&whole["content"], &whole["stop_reason"]), (&blocks, &json!("tool_use")));
    let usage = json!({"input_tokens": 5, "cache_creation_input_tokens": 1, "cache_read_input_tokens": 4, "output_tokens": 2});
    assert_eq!(whole["usage"], usage);
}

#[test]
fn a_stream_has_the_events_in_their_order() {
    let all = told(vec![
        Said::Text("Hi".into()),
        Said::Text(".".into()),
        tool(0, true, "{\"a\""),
        tool(0, false, ":1}"),
        tool(1, true, ""),
        Said::End(Box::new(ended("Hi.", Finish::ToolCalls))),
    ]);
    let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "message_start",
            "ping",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "content_block_start",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    assert!(all.iter().all(|(name, data)| data["type"] == *name));
    let indices: Vec<_> = all[2..12].iter().map(|(_, data)| data["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]);
    assert_eq!(all[7].1["delta"], json!({"type": "input_json_delta", "partial_json": "{\"a\""}));
    assert_eq!(all[12].1["delta"]["stop_reason"], "tool_use");
    assert_eq!(all[12].1["usage"]["cache_read_input_tokens"], 4);
}

/// Calls of tools without parameters are completed at the end, after the block of another has begun: a whole answer ended
/// in an error.
#[test]
fn calls_without_arguments_come_to_their_end() {
    let end = || Said::End(Box::new(ended("", Finish::ToolCalls)));
    let bare = |index| tool(index, false, "{}");
    let two = vec![tool(0, true, ""), tool(1, true, ""), bare(0), bare(1), end()];
    let with_text = vec![tool(0, true, ""), Said::Text("Both.".into()), bare(0), end()];
    let one = vec![tool(0, true, ""), bare(0), end()];
    for (said, blocks) in [(two, 2), (with_text, 2), (one, 1)] {
        let all = told(said);
        let count = |name: &str| all.iter().filter(|(told, _)| *told == name).count();
        assert_eq!((count("content_block_start"), count("content_block_stop")), (blocks, blocks));
        assert_eq!(all.last().unwrap().0, "message_stop");
    }
}

#[test]
fn arguments_that_were_cut_are_none() {
    let calls = vec![ToolCall { id: "c".into(), name: "look".into(), arguments: "{\"a\":".into() }];
    let whole = read(&whole(&envelope(), &Ended { calls, ..ended("", Finish::Length) }));
    assert_eq!(whole["content"], json!([{"type": "tool_use", "id": "c", "name": "look", "input": {}}]));
}

#[test]
fn each_end_has_its_reason() {
    for (finish, said) in [
        (Finish::Stop, "end_turn"),
        (Finish::Length, "max_tokens"),
        (Finish::Filtered, "refusal"),
        (Finish::ToolCalls, "tool_use"),
    ] {
        assert_eq!(read(&whole(&envelope(), &ended("x", finish)))["stop_reason"], said);
    }
}

#[test]
fn what_cannot_be_told_and_what_fails_is_no_end() {
    let mut teller = Teller::new(envelope());
    for said in [tool(0, true, "{"), tool(1, true, "{")] {
        teller.say(said).unwrap();
    }
    let refusal = teller.say(tool(0, false, "}")).unwrap_err();
    let told = teller.fail(&refusal, "r");
    assert_eq!((told.len(), told[0].event), (1, Some("error")));
    assert!(told[0].data.contains("\"type\":\"error\"") && told[0].data.contains("api_error"));
}
