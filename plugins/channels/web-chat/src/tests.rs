//! The web-chat component without a host: what it understands, what it refuses, and hostile input.

use chela_sdk::{
    Channel, Event, Frame, Header, HttpFrame, Inbound, Outgoing, Rejection, Reply, Step, Surroundings, Target,
};
use serde_json::{Value, json};

use super::WebChat;

fn receive(session: Option<&str>, body: &[u8]) -> Result<Inbound, Rejection> {
    let headers = session.map(|id| Header::new("chela-session", id)).into_iter().collect();
    let frame = HttpFrame {
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        headers,
        body: body.into(),
    };
    WebChat.receive(Frame::Http(frame), Surroundings { channel: "web".into(), own_ids: Vec::new() })
}

#[test]
fn the_session_is_who_speaks_and_where() {
    let inbound = receive(Some("s1"), br#"{"id":"m1","text":"hello"}"#).unwrap();
    let [Event::Message(incoming)] = inbound.events.as_slice() else { panic!("{inbound:?}") };
    assert_eq!(incoming.text, "hello");
    assert_eq!(incoming.identity.dedupe, [["s1", "m1"]]);
    assert_eq!(
        (incoming.identity.sender.as_str(), incoming.identity.conversation.as_slice()),
        ("s1", &["s1".into()][..])
    );
}

#[test]
fn a_session_in_the_body_is_not_believed() {
    let body = br#"{"id":"m1","text":"hello","session":"s2"}"#;
    assert!(matches!(receive(Some("s1"), body), Err(Rejection::Malformed(_))));
    assert!(matches!(receive(None, br#"{"id":"m1","text":"hello"}"#), Err(Rejection::Malformed(_))));
}

#[test]
fn wrong_shapes_and_hostile_bytes_are_malformed() {
    let long = json!({ "id": "x".repeat(129), "text": "x" }).to_string();
    let deep = "[".repeat(100_000);
    for body in
        ["", "{}", "[1]", r#"{"id":1,"text":"x"}"#, r#"{"id":"","text":"x"}"#, r#"{"id":"a"}"#, &long, &deep]
    {
        assert!(matches!(receive(Some("s1"), body.as_bytes()), Err(Rejection::Malformed(_))), "{body:.60}");
    }
    assert!(matches!(receive(Some("s1"), b"\xff"), Err(Rejection::Malformed(_))));
}

#[test]
fn a_long_text_is_read_whole_and_an_empty_one_ignored() {
    let body = |text: &str| json!({ "id": "m1", "text": text }).to_string().into_bytes();
    let inbound = receive(Some("s1"), &body(&"x".repeat(1_000_000))).unwrap();
    assert!(
        matches!(inbound.events.as_slice(), [Event::Message(incoming)] if incoming.text.len() == 1_000_000)
    );
    let inbound = receive(Some("s1"), &body("\n")).unwrap();
    assert!(matches!(inbound.events.as_slice(), [Event::Ignored(_)]));
}

#[test]
fn an_answer_is_an_event_of_the_sessions_stream() {
    let reply = Reply::text("Hi").citation("returns.md › Refunds", "");
    let outgoing = Outgoing { id: "o1".into(), agent: "support".into(), reply };
    let target = Target { bound: vec![Header::new("session", "s1")], notes: None, waits: false };
    let Step::Next(out) = WebChat.render(outgoing, target, None).unwrap() else { panic!("not sent") };
    let blocks = json!([{ "citation": { "label": "returns.md › Refunds", "url": "" } }]);
    let expected = json!({ "session": "s1", "id": "o1", "agent": "support", "text": "Hi", "blocks": blocks });
    assert_eq!(serde_json::from_slice::<Value>(&out.request.body).unwrap(), expected);
    assert_eq!(out.request.endpoint, "stream");
}
