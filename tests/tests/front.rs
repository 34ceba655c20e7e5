//! The front for existing clients, of the released program over HTTP: keys, both formats, tiers and agents.

use std::time::Duration;

use chela_server::standin::Fault;
use chela_tests::Outside;
use chela_tests::kill::configuration;
use chela_tests::process::Process;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);
const KEY: &str = "a-key-of-thirty-two-characters-at-least";
/// One that names a tier alone.
const PLAIN_KEY: &str = "another-key-of-thirty-two-characters-at-least";

async fn ready(outside: &Outside) -> Process {
    let mut process = Process::prepare(|folder| {
        std::fs::create_dir(folder.join("knowledge")).unwrap();
        std::fs::write(folder.join("knowledge/a.md"), "# A\n\nB.").unwrap();
        std::fs::write(folder.join("app.key"), KEY).unwrap();
        std::fs::write(folder.join("plain.key"), PLAIN_KEY).unwrap();
        let key = "[api_key.app]\nkey = \"file:app.key\"\ntiers = [\"fast\"]\nagents = [\"support\"]\nembeddings = true\n";
        let plain = "[api_key.plain]\nkey = \"file:plain.key\"\ntiers = [\"fast\"]\n";
        format!("{}{key}{plain}", configuration(outside))
    });
    process.start();
    process.ready().await;
    process
}

/// An answer as it came over the connection, which is closed then.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The body without the marks of its pieces.
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        let body = if is_chunked { whole(body) } else { body.to_owned() };
        Self { status, head: head.to_lowercase(), body }
    }
}

/// A body that is too long is longer than this.
const LONG: usize = 1 << 20;

fn whole(mut chunks: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = chunks.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { break };
        let Some(chunk) = rest.get(..size).filter(|_| size > 0) else { break };
        whole.push_str(chunk);
        chunks = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}

async fn connect(process: &Process, (method, path): (&str, &str), headers: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(process.public).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: chela\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}"
    );
    // What is refused for its length is not read: a host that closes with something unread breaks the connection.
    let sent = if length > LONG { request.len() - length } else { request.len() };
    stream.write_all(&request.as_bytes()[..sent]).await.unwrap();
    stream
}

async fn asked(process: &Process, what: (&str, &str), headers: &str, body: &str) -> Answer {
    let mut stream = connect(process, what, headers, body).await;
    let mut text = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("an answer in time").unwrap();
    Answer::read(&String::from_utf8(text).unwrap())
}

async fn chat(process: &Process, body: &Value) -> Answer {
    let headers = format!("authorization: Bearer {KEY}\r\n");
    asked(process, ("POST", "/v1/chat/completions"), &headers, &body.to_string()).await
}

async fn messages(process: &Process, body: &Value) -> Answer {
    let headers = format!("x-api-key: {KEY}\r\nanthropic-version: 2023-06-01\r\n");
    asked(process, ("POST", "/v1/messages"), &headers, &body.to_string()).await
}

fn saying(model: &str, text: &str) -> Value {
    json!({"model": model, "max_tokens": 200, "messages": [{"role": "user", "content": text}]})
}

fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn both_formats_are_answered_by_a_tier() {
    let outside = Outside::new().await;
    let mut process = ready(&outside).await;
    let answer = chat(&process, &saying("fast", "good morning")).await;
    let body = answer.json();
    assert_eq!((answer.status, &body["object"]), (200, &json!("chat.completion")), "{}", answer.body);
    assert!(body["choices"][0]["message"]["content"].as_str().unwrap().contains("good morning"));
    assert!(body["usage"]["prompt_tokens"].as_u64().unwrap() > 0);
    for header in ["x-request-id: req_", "x-chela-cost: 0.", "x-chela-model: stand-in/", "x-chela-cache: off"]
    {
        assert!(answer.head.contains(header), "{header}: {}", answer.head);
    }
    let answer = messages(&process, &saying("fast", "good evening")).await;
    let body = answer.json();
    assert_eq!((answer.status, &body["stop_reason"]), (200, &json!("end_turn")), "{}", answer.body);
    assert!(body["content"][0]["text"].as_str().unwrap().contains("good evening"));

    let streamed = with(saying("fast", "one two three four five six"), "stream", json!(true));
    let counted = with(streamed.clone(), "stream_options", json!({"include_usage": true}));
    let answer = chat(&process, &counted).await;
    assert!(answer.status == 200 && answer.head.contains("text/event-stream"), "{}", answer.head);
    assert!(
        answer.body.ends_with("data: [DONE]\n\n") && answer.body.contains("\"prompt_tokens\""),
        "{}",
        answer.body
    );
    let answer = messages(&process, &streamed).await;
    assert!(answer.body.starts_with("event: message_start\ndata: {"), "{}", answer.body);
    assert!(answer.body.contains("event: message_stop\n"), "{}", answer.body);
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_is_told_as_that() {
    let outside = Outside::new().await;
    let mut process = ready(&outside).await;
    let streamed = with(saying("fast", "one two three four five six seven"), "stream", json!(true));
    outside.provider.faults().inject(&Fault::Cut, 1);
    let answer = chat(&process, &streamed).await;
    assert!(answer.body.contains("\"error\"") && !answer.body.contains("[DONE]"), "{}", answer.body);
    outside.provider.faults().inject(&Fault::Cut, 1);
    let answer = messages(&process, &streamed).await;
    assert!(
        answer.body.contains("event: error\n") && !answer.body.contains("message_stop"),
        "{}",
        answer.body
    );
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_wrongly_is_told_so_in_his_own_format() {
    let outside = Outside::new().await;
    let mut process = ready(&outside).await;
    let hello = saying("fast", "hello");
    let long = with(hello.clone(), "user", json!("x".repeat(2 << 20)));
    for (body, status, code) in [
        (with(hello.clone(), "model", json!("slow")), 404, "model_not_found"),
        (with(hello.clone(), "model", json!("agent:sales")), 404, "model_not_found"),
        (with(hello.clone(), "colour", json!("blue")), 400, "unknown_parameter"),
        (with(hello.clone(), "messages", json!("hi")), 400, "invalid_type"),
        (long, 413, "request_too_large"),
    ] {
        let answer = chat(&process, &body).await;
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (status, &json!(code)),
            "{}",
            answer.body
        );
    }
    let answer = messages(&process, &with(hello.clone(), "colour", json!("blue"))).await;
    let message = "colour: Extra inputs are not permitted";
    assert_eq!((answer.status, &answer.json()["error"]["message"]), (400, &json!(message)));
    let id = answer.json()["request_id"].as_str().unwrap().to_owned();
    assert!(answer.head.contains(&format!("\r\nrequest-id: {id}\r\n")), "{id}: {}", answer.head);
    let key = format!("x-api-key: {KEY}\r\n");
    for path in ["/v1/messages", "/v1/chat/completions"] {
        let answer = asked(&process, ("GET", path), &key, "").await;
        assert_eq!((answer.status, &answer.json()["error"]["type"]), (405, &json!("invalid_request_error")));
        assert_eq!(answer.json()["type"] == "error", path == "/v1/messages", "{}", answer.body);
    }
    for headers in ["", "authorization: Bearer wrong\r\n", "x-api-key: \r\n"] {
        let body = hello.to_string();
        let answer = asked(&process, ("POST", "/v1/chat/completions"), headers, &body).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &json!("invalid_api_key")));
        let answer = asked(&process, ("POST", "/v1/messages"), headers, &body).await;
        assert_eq!((answer.status, &answer.json()["error"]["type"]), (401, &json!("authentication_error")));
    }
    assert!(!process.log().contains(KEY));
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_keeps_the_conversation_of_each_person() {
    let outside = Outside::new().await;
    let mut process = ready(&outside).await;
    let said = |text: &str| with(saying("agent:support", text), "user", json!("ann"));
    let answer = chat(&process, &said("where is my parcel")).await;
    let body = answer.json();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(body["choices"][0]["message"]["content"].as_str().unwrap().contains("where is my parcel"));
    let streamed = with(said("and my other parcel"), "stream", json!(true));
    let answer = chat(&process, &streamed).await;
    assert!(answer.body.contains("parcel") && answer.body.ends_with("data: [DONE]\n\n"), "{}", answer.body);
    let metadata = json!({"user_id": "bob"});
    let answer = messages(&process, &with(saying("support", "good day"), "metadata", metadata)).await;
    assert!(answer.json()["content"][0]["text"].as_str().unwrap().contains("good day"), "{}", answer.body);
    let tools = json!([{"type": "function", "function": {"name": "look"}}]);
    let answer = chat(&process, &with(said("hello"), "tools", tools)).await;
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("tools")));
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_what_the_key_may_ask() {
    let outside = Outside::new().await;
    let mut process = ready(&outside).await;
    let headers = format!("authorization: Bearer {KEY}\r\n");
    let list = asked(&process, ("GET", "/v1/models"), &headers, "").await.json();
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect();
    assert_eq!(ids, ["fast", "agent:support", "embedding"]);
    let one = asked(&process, ("GET", "/v1/models/agent:support"), &headers, "").await;
    assert_eq!(one.json()["object"], "model");
    let none = asked(&process, ("GET", "/v1/models/slow"), &headers, "").await;
    assert_eq!((none.status, &none.json()["error"]["code"]), (404, &json!("model_not_found")));
    let anthropic = format!("x-api-key: {KEY}\r\nanthropic-version: 2023-06-01\r\n");
    let list = asked(&process, ("GET", "/v1/models"), &anthropic, "").await.json();
    assert_eq!((&list["data"][0]["type"], &list["has_more"]), (&json!("model"), &json!(false)));
    let one = asked(&process, ("GET", "/v1/models/embedding"), &headers, "").await;
    assert_eq!(one.json()["id"], "embedding");
    assert!(process.terminate().await);
}

async fn vectors(process: &Process, body: &Value) -> Answer {
    let headers = format!("authorization: Bearer {KEY}\r\n");
    asked(process, ("POST", "/v1/embeddings"), &headers, &body.to_string()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_become_vectors_in_their_order() {
    let outside = Outside::new().await;
    let mut process = ready(&outside).await;
    let body = json!({"model": "embedding", "input": ["one word", "another"], "user": "ann"});
    let answer = vectors(&process, &body).await;
    let told = answer.json();
    assert_eq!((answer.status, &told["object"]), (200, &json!("list")), "{}", answer.body);
    assert_eq!((&told["model"], &told["data"][1]["index"]), (&json!("embedding"), &json!(1)));
    assert_eq!(told["usage"], json!({"prompt_tokens": 0, "total_tokens": 0}));
    let numbers = |item: &Value| item["embedding"].as_array().map(Vec::len);
    assert_eq!((numbers(&told["data"][0]), numbers(&told["data"][1])), (Some(512), Some(512)));
    for header in ["x-chela-model: builtin:lexical", "x-chela-cost: 0.000000000", "x-chela-cache: off"] {
        assert!(answer.head.contains(header), "{header}: {}", answer.head);
    }
    let one = with(with(body.clone(), "input", json!("one word")), "encoding_format", json!("base64"));
    let packed = vectors(&process, &with(one, "model", json!("builtin:lexical"))).await.json();
    // 512 numbers of four bytes each.
    assert_eq!(packed["data"][0]["embedding"].as_str().map(str::len), Some((512 * 4_usize).div_ceil(3) * 4));
    for (key, value, status, code) in [
        ("model", json!("fast"), 404, json!("model_not_found")),
        ("input", json!([[1, 2]]), 400, json!("invalid_type")),
        ("input", json!([]), 400, json!("invalid_value")),
        ("dimensions", json!(256), 400, Value::Null),
        ("colour", json!("blue"), 400, json!("unknown_parameter")),
    ] {
        let answer = vectors(&process, &with(body.clone(), key, value)).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &code), "{}", answer.body);
    }
    let plain = format!("authorization: Bearer {PLAIN_KEY}\r\n");
    let refused = asked(&process, ("POST", "/v1/embeddings"), &plain, &body.to_string()).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (404, &json!("model_not_found")));
    let hidden = asked(&process, ("GET", "/v1/models/embedding"), &plain, "").await;
    assert_eq!(hidden.status, 404, "{}", hidden.body);
    assert!(process.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_leaves_its_seat() {
    let outside = Outside::new().await;
    let mut process = Process::prepare(|folder| {
        std::fs::create_dir(folder.join("knowledge")).unwrap();
        std::fs::write(folder.join("knowledge/a.md"), "# A\n\nB.").unwrap();
        std::fs::write(folder.join("app.key"), KEY).unwrap();
        let key = "[api_key.app]\nkey = \"file:app.key\"\ntiers = [\"fast\"]\nconcurrency = 1\nrequests_per_minute = 100000\n";
        format!("{}{key}", configuration(&outside))
    });
    process.start();
    process.ready().await;
    outside.provider.faults().inject(&Fault::Delay(PATIENCE), 1);
    let headers = format!("authorization: Bearer {KEY}\r\n");
    let body = with(saying("fast", "hello"), "stream", json!(true)).to_string();
    let hanging = connect(&process, ("POST", "/v1/chat/completions"), &headers, &body).await;
    chela_tests::eventually("the model is asked", async || outside.provider.faults().is_spent()).await;
    assert_eq!(chat(&process, &saying("fast", "me too")).await.status, 429, "the seat is taken");
    drop(hanging);
    chela_tests::eventually("the seat is free", async || {
        chat(&process, &saying("fast", "me too")).await.status == 200
    })
    .await;
    assert!(process.terminate().await);
}
