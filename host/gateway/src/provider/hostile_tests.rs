//! Tool calls in each format, as the vendors stream them and as nobody should.

use proptest::prelude::*;

use super::{Piece, Trouble, Wire, decoded};
use crate::{ToolCall, ToolDelta, ToolHead, fuzzing};
use chela_types::{Finish, Tokens, Usage};

const CHAT: &str = include_str!("../../tests/wire/chat-tools.jsonl");
const RESPONSES: &str = include_str!("../../tests/wire/responses-tools.jsonl");
const MESSAGES: &str = include_str!("../../tests/wire/messages-tools.jsonl");

const WIRES: [(Wire, &str); 3] =
    [(Wire::Chat, CHAT), (Wire::Responses, RESPONSES), (Wire::Messages { prompt_cache: true }, MESSAGES)];

fn framed(lines: &str) -> String {
    lines.lines().map(|line| format!("data: {line}\n\n")).collect()
}

fn lines(wire: Wire, lines: &[&str]) -> Result<Vec<Piece>, Trouble> {
    decoded(wire, [framed(&lines.join("\n")).as_bytes()])
}

fn class(read: Result<Vec<Piece>, Trouble>) -> &'static str {
    read.map_or_else(|trouble| trouble.kind.class(), |_| "read")
}

/// What was said: text, calls, last count, end.
fn sum(pieces: &[Piece]) -> (String, Vec<ToolCall>, Option<Usage>, Option<Finish>) {
    let mut sum = (String::new(), Vec::new(), None, None);
    for piece in pieces {
        match piece {
            Piece::Text(text) => sum.0.push_str(text),
            Piece::Tool(ToolDelta { index, head, arguments }) => {
                if let Some(ToolHead { id, name }) = head {
                    assert_eq!(*index, sum.1.len());
                    let (id, name) = (id.clone(), name.clone());
                    sum.1.push(ToolCall { id, name, arguments: String::new() });
                }
                sum.1[*index].arguments.push_str(arguments);
            }
            Piece::Usage(usage) => sum.2 = Some(*usage),
            Piece::Finish(finish) => sum.3 = Some(*finish),
            Piece::Alive | Piece::End => {}
        }
    }
    sum
}

#[test]
fn tool_calls_are_read() {
    for (wire, body) in WIRES {
        let (text, calls, usage, finish) = sum(&decoded(wire, [framed(body).as_bytes()]).unwrap());
        assert_eq!(text, "I look.", "{wire:?}");
        let call = |id: &str, name: &str, arguments: &str| ToolCall {
            id: id.into(),
            name: name.into(),
            arguments: arguments.into(),
        };
        let weather = call("call_1", "weather", "{\"city\":\"Köln 🌧\"}");
        assert_eq!(calls, [weather, call("call_2", "clock", "{}")], "{wire:?}");
        // One format tells apart what was written to the cache.
        let written = Tokens(if matches!(wire, Wire::Messages { .. }) { 5 } else { 0 });
        let expected = Usage { input: Tokens(120), cached: Tokens(100), written, output: Tokens(40) };
        assert_eq!(usage, Some(expected), "{wire:?}");
        // Where the format has no word for it, who puts the calls together knows.
        let ended = if wire == Wire::Responses { Finish::Stop } else { Finish::ToolCalls };
        assert_eq!(finish, Some(ended), "{wire:?}");
    }
}

proptest! {
    /// However the network cuts it, the pieces are the same.
    #[test]
    fn any_chopping_gives_the_same_pieces(cuts in prop::collection::vec(1..90_usize, 1..200), which in 0..3_usize) {
        let (wire, body) = WIRES[which];
        let body = framed(body);
        let whole = decoded(wire, [body.as_bytes()]).unwrap();
        let (mut rest, mut chopped) = (body.as_bytes(), Vec::new());
        for cut in cuts.iter().cycle() {
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            chopped.push(head);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(decoded(wire, chopped).unwrap(), whole);
    }

    /// Whatever comes, it is read or refused.
    #[test]
    fn bytes_that_are_anything_are_read_or_refused(at in 0..4_000_usize, new in any::<Vec<u8>>(), which in 0..3_usize) {
        let (wire, body) = WIRES[which];
        let mut bytes = framed(body).into_bytes();
        let at = at % bytes.len();
        let end = (at + new.len()).min(bytes.len());
        bytes.splice(at..end, new);
        let read = class(decoded(wire, [bytes.as_slice()]));
        prop_assert!(["read", "bad_response", "unavailable"].contains(&read), "{read}");
    }
}

/// A stream of which one line is said twice, or after the next one. Twice inside of a text is seen only where events are
/// numbered.
#[test]
fn what_is_repeated_or_out_of_order_is_noticed_where_the_format_allows() {
    for (wire, body) in WIRES {
        let all: Vec<&str> = body.lines().collect();
        let whole = sum(&lines(wire, &all).unwrap());
        let is_noticed = |changed: &[&str]| match lines(wire, changed) {
            Err(_) => true,
            // Nobody can see it here; the arguments are no object then, or nothing is lost.
            Ok(pieces) => {
                let read = sum(&pieces);
                let is_object = |text: &str| crate::check::is_object(text);
                read == whole || read.1 != whole.1 && !read.1.iter().all(|call| is_object(&call.arguments))
            }
        };
        let arguments = |line: &str| line.contains("arguments") || line.contains("partial_json");
        for at in (0..all.len()).filter(|at| arguments(all[*at])) {
            let mut twice = all.clone();
            twice.insert(at, all[at]);
            let is_inside = wire != Wire::Responses && all[at].contains("Köln");
            assert!(is_noticed(&twice) || is_inside, "{wire:?} twice: {}", all[at]);
            let mut swapped = all.clone();
            if at + 1 < all.len() && arguments(all[at + 1]) {
                swapped.swap(at, at + 1);
                assert!(is_noticed(&swapped), "{wire:?} swapped: {}", all[at]);
            }
        }
    }
}

const BEGUN: &str = r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"look","arguments":""}}]}}]}"#;

#[test]
fn chat_completions_that_nobody_should_send() {
    let delta = |calls: &str| format!(r#"{{"choices":[{{"delta":{{"tool_calls":{calls}}}}}]}}"#);
    for (calls, expected) in [
        (r#"[{"index":0,"function":{"arguments":"{}"}}]"#, "read"),
        (r#"[{"index":0,"id":"a","function":{"name":"look","arguments":"{}"}}]"#, "read"),
        (r#"[{"function":{"arguments":"{}"}}]"#, "read"),
        (r#"[{"index":1,"id":"b","function":{"name":"look"}}]"#, "read"),
        (r#"[{"id":"b","function":{"name":"look","arguments":"{}"}}]"#, "read"),
        ("null", "read"),
        ("[]", "read"),
        (r#"[{"index":0,"id":"b","function":{"name":"look"}}]"#, "bad_response"),
        (r#"[{"index":2,"id":"c","function":{"name":"look"}}]"#, "bad_response"),
        (r#"[{"index":1,"function":{"arguments":"{}"}}]"#, "bad_response"),
        (r#"[{"index":1,"id":"","function":{"name":"look"}}]"#, "bad_response"),
        (r#"[{"index":1,"id":"b","function":{}}]"#, "bad_response"),
        (r#"[{"index":-1,"id":"b"}]"#, "bad_response"),
        (r#"[{"index":18446744073709551615,"id":"b","function":{"name":"look"}}]"#, "bad_response"),
        (r#"[{"index":0,"function":{"arguments":{"city":"Bonn"}}}]"#, "bad_response"),
        ("{}", "bad_response"),
    ] {
        assert_eq!(class(lines(Wire::Chat, &[BEGUN, &delta(calls)])), expected, "{calls}");
    }
    let first = delta(r#"[{"function":{"arguments":"{}"}}]"#);
    assert_eq!(class(lines(Wire::Chat, &[&first])), "bad_response", "it goes on and has not begun");
}

#[test]
fn responses_that_nobody_should_send() {
    let begun = r#"{"type":"response.output_item.added","sequence_number":4,"output_index":1,"item":{"type":"function_call","call_id":"a","name":"look","arguments":""}}"#;
    let said = r#"{"type":"response.function_call_arguments.delta","sequence_number":5,"output_index":1,"delta":"{\"x\":"}"#;
    for (line, expected) in [
        (
            r#"{"type":"response.function_call_arguments.done","output_index":1,"arguments":"{\"x\":1}"}"#,
            "read",
        ),
        (r#"{"type":"response.something_new","sequence_number":9,"item":{}}"#, "read"),
        (r#"{"type":"response.reasoning_summary_text.delta","sequence_number":9,"delta":"Hm"}"#, "read"),
        (
            r#"{"type":"response.incomplete","response":{"incomplete_details":{"reason":"max_output_tokens"}}}"#,
            "read",
        ),
        (
            r#"{"type":"response.incomplete","response":{"incomplete_details":{"reason":"content_filter"}}}"#,
            "read",
        ),
        (
            r#"{"type":"response.incomplete","response":{"incomplete_details":{"reason":"constellation"}}}"#,
            "bad_response",
        ),
        (r#"{"type":"response.incomplete","response":{}}"#, "bad_response"),
        (
            r#"{"type":"response.function_call_arguments.done","output_index":1,"arguments":"{}"}"#,
            "bad_response",
        ),
        (r#"{"type":"response.function_call_arguments.delta","output_index":0,"delta":"{"}"#, "bad_response"),
        (r#"{"type":"response.function_call_arguments.delta","delta":"{"}"#, "bad_response"),
        (r#"{"type":"response.function_call_arguments.delta","output_index":1,"delta":{}}"#, "bad_response"),
        (r#"{"type":"response.output_text.delta","sequence_number":5,"delta":"a"}"#, "bad_response"),
        (r#"{"type":"response.output_text.delta","sequence_number":2,"delta":"a"}"#, "bad_response"),
        (
            r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"function_call","call_id":"b","name":"look"}}"#,
            "bad_response",
        ),
        (
            r#"{"type":"response.output_item.added","output_index":2,"item":{"type":"function_call","name":"look"}}"#,
            "bad_response",
        ),
        (r#"{"type":"response.output_item.added"}"#, "bad_response"),
        (
            r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"m"}}}"#,
            "unavailable",
        ),
        (
            r#"{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded","message":"m"}}}"#,
            "rate_limited",
        ),
        (r#"{"type":"response.failed"}"#, "unavailable"),
        (r#"{"type":"error","code":"rate_limit_exceeded","message":"m","param":null}"#, "rate_limited"),
        (r#"{"type":"error","error":{"type":"server_error","message":"m"}}"#, "unavailable"),
        (r#"{"type":"error"}"#, "unavailable"),
        ("[]", "bad_response"),
    ] {
        let read = lines(Wire::Responses, &[begun, said, line]);
        if let Err(trouble) = &read {
            assert!(trouble.billed, "{line}");
        }
        assert_eq!(class(read), expected, "{line}");
    }
}

#[test]
fn messages_that_nobody_should_send() {
    let tool = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"look","input":{}}}"#;
    let delta = |index: u64| {
        format!(
            r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"input_json_delta","partial_json":"{{}}"}}}}"#
        )
    };
    let stop = r#"{"type":"content_block_stop","index":0}"#;
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":1}}}"#;
    let second = tool.replace("\"index\":0", "\"index\":1");
    let (first, next) = (delta(0), delta(1));
    for (told, expected) in [
        (vec![tool, &first, stop], "read"),
        (vec![tool, stop, &second], "read"),
        (vec![tool, &next], "bad_response"),
        (vec![&first], "bad_response"),
        (vec![tool, stop, &first], "bad_response"),
        (vec![tool, stop, stop], "bad_response"),
        (vec![tool, &second], "bad_response"),
        (vec![tool, stop, tool], "bad_response"),
        (vec![&second], "bad_response"),
        (vec![stop], "bad_response"),
        (vec![start, start], "bad_response"),
        (
            vec![
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","name":"look"}}"#,
            ],
            "bad_response",
        ),
        (
            vec![r#"{"type":"content_block_start","index":-1,"content_block":{"type":"text"}}"#],
            "bad_response",
        ),
    ] {
        assert_eq!(class(lines(Wire::Messages { prompt_cache: false }, &told)), expected, "{told:?}");
    }
    let whole = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"look","input":{"x":1}}}"#;
    let pieces = lines(Wire::Messages { prompt_cache: false }, &[whole]).unwrap();
    assert_eq!(sum(&pieces).1[0].arguments, "{\"x\":1}");
}

type Read = fn(&[&[u8]]) -> Result<fuzzing::Told, &'static str>;

/// A call of a tool as each format begins it, with its place and the tool's name to be filled in.
const BEGINNINGS: [(Read, &str); 3] = [
    (
        fuzzing::chat,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":AT,"id":"cAT","function":{"name":"NAME","arguments":"{}"}}]}}]}"#,
    ),
    (
        fuzzing::responses,
        r#"{"type":"response.output_item.added","output_index":AT,"item":{"type":"function_call","call_id":"cAT","name":"NAME","arguments":"{}"}}"#,
    ),
    (
        fuzzing::messages,
        r#"{"type":"content_block_start","index":AT,"content_block":{"type":"tool_use","id":"cAT","name":"NAME"}}
{"type":"content_block_stop","index":AT}"#,
    ),
];

#[test]
fn a_thousand_calls_are_too_many_and_a_tool_that_was_not_offered_is_none() {
    for (read, line) in BEGINNINGS {
        let calls = |number: usize, name: &str| {
            let lines: Vec<String> =
                (0..number).map(|at| line.replace("AT", &at.to_string()).replace("NAME", name)).collect();
            read(&[framed(&lines.join("\n")).as_bytes()]).map(|told| told.calls.len())
        };
        assert_eq!(calls(1, "weather"), Ok(1));
        assert_eq!(calls(128, "weather"), Ok(128));
        assert_eq!(calls(129, "weather"), Err("bad_response"));
        assert_eq!(calls(1_000, "clock"), Err("bad_response"));
        assert_eq!(calls(1, "format_disk"), Err("bad_response"));
    }
}

/// An error that was told before what cannot be read is the error, wherever the network cut.
#[test]
fn what_came_first_is_heard_first() {
    let told = b"data: {\"error\":{\"type\":\"server_error\"}}\n\ndata: \xff\n\n";
    assert_eq!(class(decoded(Wire::Chat, [told.as_slice()])), "unavailable");
    assert_eq!(class(decoded(Wire::Chat, told.chunks(1))), "unavailable");
}

#[test]
fn half_an_event_is_no_event() {
    for (wire, body) in WIRES {
        let first = body.lines().next().unwrap();
        let half = &first[..first.len() / 2];
        assert_eq!(class(lines(wire, &[half])), "bad_response");
        let broken = [framed(first).as_bytes(), b"data: \xf0\x9f\n\n"].concat();
        assert_eq!(class(decoded(wire, [broken.as_slice()])), "bad_response");
    }
}

#[test]
fn counts_that_cannot_be_true_are_above_any_bound_or_none() {
    for (wire, told) in [
        (Wire::Chat, r#"{"choices":[],"usage":{"prompt_tokens":IN,"completion_tokens":OUT}}"#),
        (
            Wire::Responses,
            r#"{"type":"response.completed","response":{"usage":{"input_tokens":IN,"output_tokens":OUT}}}"#,
        ),
        (
            Wire::Messages { prompt_cache: false },
            r#"{"type":"message_delta","delta":{},"usage":{"input_tokens":IN,"output_tokens":OUT}}"#,
        ),
    ] {
        for (input, output, expected) in [
            ("7", "-1", (7, u64::MAX)),
            ("99999999999999999999", "1", (u64::MAX, 1)),
            ("0", "0", (0, 0)),
            ("null", "null", (0, 0)),
        ] {
            let line = told.replace("IN", input).replace("OUT", output);
            let usage = sum(&lines(wire, &[&line]).unwrap()).2.unwrap();
            assert_eq!((usage.input.0, usage.output.0), expected, "{line}");
        }
    }
}

#[test]
fn an_empty_stream_says_nothing() {
    for (wire, body) in WIRES {
        assert_eq!(lines(wire, &[]).unwrap(), []);
        let half = framed(body);
        let half = half.trim_end();
        let pieces = decoded(wire, [half.as_bytes()]).unwrap();
        assert_ne!(pieces.last(), Some(&Piece::End), "an event without an end is none");
    }
}
