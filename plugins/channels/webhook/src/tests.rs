//! The webhook component without a host: what it understands, what it refuses, and hostile input.

use chela_sdk::{
    Acknowledgement, Channel, Event, Frame, Header, HttpFrame, Inbound, Outgoing, Rejection, Reply, Response,
    Step, Surroundings, Target,
};
use serde_json::{Value, json};

use super::Webhook;

const PLAIN: Webhook = Webhook { wait_ms: 0 };

fn receive(body: &[u8]) -> Result<Inbound, Rejection> {
    let headers = vec![Header::new("webhook-id", "msg_1")];
    let frame = HttpFrame {
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        headers,
        body: body.into(),
    };
    PLAIN.receive(Frame::Http(frame), Surroundings { channel: "shop".into(), own_ids: Vec::new() })
}

fn incoming(body: Value) -> chela_sdk::Incoming {
    match receive(body.to_string().as_bytes()).unwrap().events.into_iter().next() {
        Some(Event::Message(incoming)) => incoming,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_without_a_thread_belongs_to_its_sender() {
    let incoming = incoming(json!({ "sender": "ann", "text": "hello", "name": "Ann", "more": [1] }));
    assert_eq!((incoming.text.as_str(), incoming.sender_name.as_deref()), ("hello", Some("Ann")));
    assert_eq!(incoming.identity.dedupe, [["msg_1"]]);
    assert_eq!(
        (incoming.identity.conversation, incoming.identity.sender),
        (vec!["ann".into()], "ann".into())
    );
}

#[test]
fn a_thread_is_a_conversation() {
    let incoming = incoming(json!({ "sender": "ann", "text": "hello", "thread_id": "t7" }));
    assert_eq!(incoming.identity.conversation, ["t7"]);
}

#[test]
fn a_sender_that_may_wait_gets_its_reply_in_the_response() {
    let headers = vec![Header::new("webhook-id", "msg_1")];
    let body = json!({ "sender": "ann", "text": "hello" }).to_string().into_bytes();
    let (method, path, query) = ("POST".into(), "/".into(), String::new());
    let frame = Frame::Http(HttpFrame { method, path, query, headers, body });
    let surroundings = Surroundings { channel: "shop".into(), own_ids: Vec::new() };
    let patient = Webhook { wait_ms: 3_000 };
    let inbound = patient.receive(frame, surroundings).unwrap();
    let Acknowledgement::Deferred(deferral) = inbound.acknowledgement else { panic!("not deferred") };
    assert_eq!((deferral.deadline_ms, deferral.fallback.status), (3_000, 202));
    for (waits, endpoint) in [(true, "response"), (false, "reply")] {
        let outgoing = Outgoing { id: "o1".into(), agent: "sales".into(), reply: Reply::text("Hi") };
        let target = Target { bound: vec![Header::new("conversation", "ann")], notes: None, waits };
        let Step::Next(out) = patient.render(outgoing, target, None).unwrap() else { panic!("not sent") };
        assert_eq!(out.request.endpoint, endpoint);
    }
}

#[test]
fn wrong_shapes_and_hostile_bytes_are_malformed() {
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let long = json!({ "sender": "a".repeat(513), "text": "x" }).to_string();
    for body in [
        "",
        "[]",
        "null",
        "{}",
        r#"{"sender":1,"text":"x"}"#,
        r#"{"sender":"a"}"#,
        r#"{"sender":"a","text":null}"#,
        r#"{"sender":"","text":"x"}"#,
        r#"{"sender":"a","text":"x","thread_id":""}"#,
        r#"{"sender":"a","text":"x","thread_id":{}}"#,
        &long,
        &deep,
    ] {
        assert!(matches!(receive(body.as_bytes()), Err(Rejection::Malformed(_))), "{body:.60}");
    }
    assert!(matches!(receive(b"{\"sender\":\"\xff\"}"), Err(Rejection::Malformed(_))));
}

#[test]
fn a_request_without_an_id_is_malformed() {
    let body = json!({ "sender": "a", "text": "x" }).to_string().into_bytes();
    let frame = HttpFrame {
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        headers: Vec::new(),
        body,
    };
    let surroundings = Surroundings { channel: "shop".into(), own_ids: Vec::new() };
    assert!(matches!(PLAIN.receive(Frame::Http(frame), surroundings), Err(Rejection::Malformed(_))));
}

#[test]
fn a_long_text_is_read_whole_and_an_empty_one_ignored() {
    assert_eq!(incoming(json!({ "sender": "a", "text": "x".repeat(1_000_000) })).text.len(), 1_000_000);
    let empty = receive(json!({ "sender": "a", "text": " " }).to_string().as_bytes()).unwrap();
    assert!(matches!(empty.events.as_slice(), [Event::Ignored(_)]));
}

#[test]
fn a_reply_names_its_thread_and_keeps_its_blocks() {
    let reply =
        Reply::text("Hi <b>").link("Shop", "https://crab.test").choices([("Yes", "y")]).citation("a.md", "");
    let outgoing = Outgoing { id: "o1".into(), agent: "sales".into(), reply };
    let target = Target { bound: vec![Header::new("conversation", "t7")], notes: None, waits: false };
    let Step::Next(out) = PLAIN.render(outgoing, target, None).unwrap() else { panic!("not sent") };
    let body: Value = serde_json::from_slice(&out.request.body).unwrap();
    let blocks = json!([
        { "link": { "label": "Shop", "url": "https://crab.test" } },
        { "choices": [{ "label": "Yes", "value": "y" }] },
        { "citation": { "label": "a.md", "url": "" } },
    ]);
    let expected = json!({ "type": "reply", "id": "o1", "agent": "sales", "text": "Hi <b>", "thread": "t7", "blocks": blocks });
    assert_eq!((out.request.endpoint.as_str(), body), ("reply", expected));
}

#[test]
fn the_receivers_status_decides() {
    let sent = |status, after: Option<&str>| {
        let headers = after.map(|value| Header::new("retry-after", value)).into_iter().collect();
        PLAIN.sent("o1".into(), Response { status, headers, body: b"\xff".to_vec() }).unwrap()
    };
    assert_eq!(sent(204, None), Step::Done(Some("o1".into())));
    assert_eq!(sent(503, Some("7")), Step::Retry(7_000));
    assert_eq!(sent(429, Some("99999999999999999999")), Step::Retry(1_000));
    assert_eq!(sent(429, Some("18446744073709551615")), Step::Retry(3_600_000));
    for status in [301, 400, 404, 410] {
        assert!(matches!(sent(status, None), Step::Permanent(_)));
    }
}
