//! The codecs against recorded bytes, cut at every point.

use super::http::{Reader, Wire};
use super::sse::Sse;
use super::{Piece, Trouble};
use crate::Kind;
use chela_types::{Finish, Tokens, Usage};

const OPENAI: &str = include_str!("../../tests/wire/openai-text.sse");
const AZURE: &str = include_str!("../../tests/wire/azure-router.jsonl");
const ANTHROPIC: &str = include_str!("../../tests/wire/anthropic-text.jsonl");
const ANTHROPIC_BASIC: &str = include_str!("../../tests/wire/anthropic-basic.sse");
const ANTHROPIC_REFUSAL: &str = include_str!("../../tests/wire/anthropic-refusal.sse");

fn framed(lines: &str) -> String {
    lines.lines().map(|line| format!("data: {line}\n\n")).collect()
}

fn openai() -> Reader {
    Reader::of(Wire::Chat)
}

fn messages() -> Reader {
    Reader::of(Wire::Messages { prompt_cache: false })
}

fn decode(mut reader: Reader, cuts: &[&[u8]]) -> Result<Vec<Piece>, Trouble> {
    let (mut sse, mut pieces) = (Sse::default(), Vec::new());
    for cut in cuts {
        for event in sse.push(cut)? {
            pieces.extend(reader.read(&event)?);
        }
    }
    Ok(pieces)
}

/// Text, last count, end.
fn sum(pieces: &[Piece]) -> (String, Option<Usage>, Option<Finish>) {
    let mut sum = (String::new(), None, None);
    for piece in pieces {
        match piece {
            Piece::Text(text) => sum.0.push_str(text),
            Piece::Usage(usage) => sum.1 = Some(*usage),
            Piece::Finish(finish) => sum.2 = Some(*finish),
            Piece::Tool(_) | Piece::Alive | Piece::End => {}
        }
    }
    sum
}

fn usage(input: u64, cached: u64, output: u64) -> Option<Usage> {
    Some(Usage { input: Tokens(input), cached: Tokens(cached), written: Tokens(0), output: Tokens(output) })
}

#[test]
fn recorded_streams_are_read() {
    let stop = Some(Finish::Stop);
    let hello = "Hello! I'm doing well, thank you for asking. How are you doing today? Is there anything I can help you with?";
    for (reader, body, expected) in [
        (
            openai as fn() -> Reader,
            OPENAI.to_owned(),
            ("The capital of the UK is London.", usage(78, 0, 9), stop),
        ),
        (openai, framed(AZURE), ("Capital of Denmark.", usage(15, 0, 78), stop)),
        (messages, framed(ANTHROPIC), (hello, usage(12, 0, 30), stop)),
        (messages, ANTHROPIC_BASIC.to_owned(), ("Hello there!", usage(11, 0, 6), stop)),
        (messages, ANTHROPIC_REFUSAL.to_owned(), ("", usage(20, 0, 120), Some(Finish::Filtered))),
    ] {
        let expected = (expected.0.to_owned(), expected.1, expected.2);
        let whole = decode(reader(), &[body.as_bytes()]).unwrap();
        assert_eq!(sum(&whole), expected);
        let marked = ["[DONE]\n\n", "\"message_stop\"}\n\n"].iter().any(|mark| body.ends_with(mark));
        assert_eq!(whole.last() == Some(&Piece::End), marked);
        let crlf = body.replace('\n', "\r\n");
        assert_eq!(decode(reader(), &[crlf.as_bytes()]).unwrap(), whole);
        for cut in 0..=body.len() {
            let (head, tail) = body.as_bytes().split_at(cut);
            assert_eq!(decode(reader(), &[head, tail]).unwrap(), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
        assert_eq!(decode(reader(), &single).unwrap(), whole);
    }
}

#[test]
fn a_stream_that_stops_early_has_no_end() {
    for (reader, body) in [(openai as fn() -> Reader, OPENAI.to_owned()), (messages, framed(ANTHROPIC))] {
        let end = body.find("stop\"").or_else(|| body.find("end_turn")).unwrap();
        for cut in 0..end {
            let pieces = decode(reader(), &[&body.as_bytes()[..cut]]).unwrap();
            assert_eq!(sum(&pieces).2, None, "cut at {cut}");
        }
    }
}

#[test]
fn cached_input_is_counted_in_one_way() {
    // OpenAI counts it inside, Anthropic apart: 100 read from the cache and 20 fresh in both.
    let body = r#"{"choices":[],"usage":{"prompt_tokens":120,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":100}}}"#;
    assert_eq!(sum(&decode(openai(), &[framed(body).as_bytes()]).unwrap()).1, usage(120, 100, 5));
    let body = concat!(
        r#"{"type":"message_start","message":{"usage":{"input_tokens":15,"cache_creation_input_tokens":5,"#,
        r#""cache_read_input_tokens":100,"output_tokens":1}}}"#,
        "\n",
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}"#
    );
    let counted = usage(120, 100, 5).map(|usage| Usage { written: Tokens(5), ..usage });
    assert_eq!(sum(&decode(messages(), &[framed(body).as_bytes()]).unwrap()).1, counted);
}

/// Whoever ends without a count has none: that of the start says one token of however many came.
#[test]
fn the_count_of_the_start_is_not_the_last_one() {
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":1}}}"#;
    for (end, output) in [
        ("", 0),
        (r#","usage":null"#, 0),
        (r#","usage":{}"#, 0),
        (r#","usage":{"input_tokens":10}"#, 0),
        (r#","usage":{"output_tokens":7}"#, 7),
    ] {
        let end = format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}}{end}}}"#);
        let pieces = decode(messages(), &[framed(&format!("{start}\n{end}")).as_bytes()]).unwrap();
        assert_eq!(sum(&pieces), (String::new(), usage(10, 0, output), Some(Finish::Stop)), "{end}");
    }
}

/// Counts are sums so far: a zero at the end takes nothing back.
#[test]
fn a_count_never_falls() {
    let body = concat!(
        r#"{"type":"message_start","message":{"usage":{"input_tokens":1000,"cache_read_input_tokens":500,"#,
        r#""output_tokens":1}}}"#,
        "\n",
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"#,
        r#""usage":{"input_tokens":0,"cache_read_input_tokens":0,"output_tokens":20}}"#
    );
    let pieces = decode(messages(), &[framed(body).as_bytes()]).unwrap();
    assert_eq!(sum(&pieces).1, usage(1500, 500, 20));
}

#[test]
fn a_count_before_the_end_is_not_the_last_one() {
    let chunk = |finish: &str, usage: &str| {
        format!(r#"{{"choices":[{{"delta":{{"content":"a"}}{finish}}}]{usage}}}"#)
    };
    let middle = chunk("", r#","usage":{"prompt_tokens":3,"completion_tokens":1}"#);
    let end = chunk(r#","finish_reason":"stop""#, "");
    let last = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    for (lines, counted) in [
        (vec![middle.as_str(), &end], usage(0, 0, 0)),
        (vec![&middle, &end, last], usage(3, 0, 2)),
        (vec![&end], None),
    ] {
        let pieces = decode(openai(), &[framed(&lines.join("\n")).as_bytes()]).unwrap();
        assert_eq!(sum(&pieces).1, counted, "{lines:?}");
    }
}

#[test]
fn usage_beside_choices_is_not_lost() {
    let body = r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
    let pieces = decode(openai(), &[framed(body).as_bytes()]).unwrap();
    assert_eq!(sum(&pieces), ("a".to_owned(), usage(3, 0, 1), Some(Finish::Length)));
}

#[test]
fn a_count_that_is_none_is_more_than_any_bound() {
    for count in ["-1", "1.5", "99999999999999999999", "\"many\""] {
        let delta = r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]"#;
        let body = format!(r#"{delta},"usage":{{"prompt_tokens":3,"completion_tokens":{count}}}}}"#);
        let pieces = decode(openai(), &[framed(&body).as_bytes()]).unwrap();
        assert_eq!(sum(&pieces), ("a".to_owned(), usage(3, 0, u64::MAX), Some(Finish::Stop)), "{count}");
        let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":1}}}"#;
        let delta = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}"#;
        let body = format!("{start}\n{delta},\"usage\":{{\"output_tokens\":{count}}}}}");
        let pieces = decode(messages(), &[framed(&body).as_bytes()]).unwrap();
        assert_eq!(sum(&pieces), (String::new(), usage(3, 0, u64::MAX), Some(Finish::Stop)), "{count}");
    }
}

#[test]
fn a_reason_that_is_not_known_does_not_end_an_answer_well() {
    for reason in ["function_call", "pause_turn", "error", "insufficient_system_resource", "constellation"] {
        let body = format!(r#"{{"choices":[{{"delta":{{}},"finish_reason":"{reason}"}}]}}"#);
        assert!(decode(openai(), &[framed(&body).as_bytes()]).is_err(), "{reason}");
        let body = format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}"}}}}"#);
        assert!(decode(messages(), &[framed(&body).as_bytes()]).is_err(), "{reason}");
    }
    let none = r#"{"choices":[{"delta":{"content":"a"},"finish_reason":""}]}"#;
    assert_eq!(decode(openai(), &[framed(none).as_bytes()]).unwrap(), [Piece::Text("a".into())]);
}

#[test]
fn thoughts_are_a_sign_of_life_and_no_text() {
    let alive = |reader, lines: &[&str]| {
        let pieces = decode(reader, &[framed(&lines.join("\n")).as_bytes()]).unwrap();
        assert!(pieces.iter().all(|piece| *piece == Piece::Alive), "{pieces:?}");
        pieces.len()
    };
    let openai_like = [
        r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
        r#"{"choices":[{"delta":{"content":null,"reasoning_content":"Hm"}}]}"#,
        r#"{"choices":[{"delta":{"content":"","reasoning":"Hm","reasoning_details":[{}]}}]}"#,
        r#"{"choices":[{"delta":{"content":"","reasoning_content":""}}]}"#,
    ];
    assert_eq!(alive(openai(), &openai_like), 2);
    let anthropic = [
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"x"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"ping"}"#,
    ];
    assert_eq!(alive(messages(), &anthropic), 4);
}

#[test]
fn an_error_after_200_is_an_error() {
    for (reader, body, class) in [
        (
            messages as fn() -> Reader,
            r#"{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}"#,
            "unavailable",
        ),
        (messages, r#"{"type":"error","error":{"type":"rate_limit_error","message":"m"}}"#, "rate_limited"),
        (messages, r#"{"type":"error"}"#, "unavailable"),
        (
            openai,
            r#"{"error":{"message":"m","type":"server_error","param":null,"code":null}}"#,
            "unavailable",
        ),
        (openai, r#"{"error":{"message":"m","code":502}}"#, "unavailable"),
    ] {
        let trouble = decode(reader(), &[framed(body).as_bytes()]).unwrap_err();
        assert_eq!(trouble.kind.class(), class, "{body}");
        assert!(trouble.billed, "{body}");
    }
}

#[test]
fn what_is_not_the_format_is_refused() {
    for body in ["data: {\n\n", "data: []\n\n", "data: {\"choices\":3}\n\n", "data: \u{0}\n\n"] {
        let trouble = decode(openai(), &[body.as_bytes()]).unwrap_err();
        assert!(matches!(trouble.kind, Kind::BadResponse { .. }), "{body}");
    }
}
