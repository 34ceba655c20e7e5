//! What is said of a request.

use chela_sdk::{Event, Identity, Inbound, Incoming, Rejection};
use serde_json::Value;

pub(crate) fn run(behaviour: &str, body: &Value) -> Result<Inbound, Rejection> {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut identity =
        Identity { dedupe: vec![vec![text("id")]], conversation: vec![text("room")], sender: text("sender") };
    match behaviour {
        "receive-trap" => std::process::abort(),
        "receive-loop" => loop {
            std::hint::black_box(0);
        },
        "receive-malformed" => return Err(Rejection::Malformed("as told".to_owned())),
        "receive-unsupported" => return Err(Rejection::Unsupported("as told".to_owned())),
        "receive-other" => return Err(Rejection::Other("as told".to_owned())),
        "receive-nothing" => return Ok(Inbound::events(Vec::new())),
        "lie-sender" => identity.sender = "boss".to_owned(),
        "lie-conversation" => identity.conversation = vec!["elsewhere".to_owned()],
        "lie-dedupe" => identity.dedupe = vec![vec!["another".to_owned()]],
        // Truths of the request in the wrong places.
        "lie-swap" => identity.sender = text("room"),
        "no-dedupe" => identity.dedupe = Vec::new(),
        _ => {}
    }
    let said = if behaviour == "receive-giant" { "x".repeat(64 << 20) } else { text("text") };
    let incoming = Incoming {
        identity,
        sender_name: None,
        text: said,
        attachments: Vec::new(),
        notes: notes(behaviour),
    };
    let times = if behaviour == "receive-many" { 10_000 } else { 1 };
    Ok(Inbound::events(vec![Event::Message(incoming); times]))
}

fn notes(behaviour: &str) -> Option<String> {
    (behaviour == "receive-notes").then(|| "x".repeat(1 << 20))
}
