//! What is said of a request.

use chela_sdk::{
    Acknowledgement, Change, Deferral, DeliveryState, DeliveryStatus, Edit, Event, Identity, Inbound,
    Incoming, Interaction, Rejection, Response,
};
use serde_json::Value;

/// As the request says.
pub(crate) fn told(body: &Value) -> Result<Inbound, Rejection> {
    run(body.get("does").and_then(Value::as_str).unwrap_or_default(), body)
}

pub(crate) fn run(behaviour: &str, body: &Value) -> Result<Inbound, Rejection> {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(kind) = body.get("kind").and_then(Value::as_str) {
        return Ok(Inbound::one(later(behaviour, kind, text)));
    }
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
    let events = vec![Event::Message(incoming); times];
    let acknowledgement = match behaviour {
        "wait" => Acknowledgement::Deferred(Deferral {
            deadline_ms: body.get("wait_ms").and_then(Value::as_u64).map_or(u32::MAX, |ms| ms as u32),
            fallback: Response { status: 202, headers: Vec::new(), body: b"later".to_vec() },
        }),
        _ => Acknowledgement::Plain,
    };
    Ok(Inbound { events, acknowledgement })
}

/// What is told after a message: a change of it, or how its answer fared.
fn later(behaviour: &str, kind: &str, text: impl Fn(&str) -> String) -> Event {
    let lies = |about: &str| behaviour == format!("lie-{about}");
    let change = Change {
        dedupe: vec![vec![if lies("event") { "another".to_owned() } else { text("event") }]],
        post: vec![if lies("post") { "another".to_owned() } else { text("post") }],
        sender: if lies("changer") { "boss".to_owned() } else { text("sender") },
    };
    match kind {
        "edit" => Event::Edit(Edit { change, text: text("text") }),
        "deletion" => Event::Deletion(change),
        kind => Event::Status(DeliveryStatus {
            platform_id: if lies("status") { "another".to_owned() } else { text("answer") },
            state: if kind == "failed" { DeliveryState::Failed } else { DeliveryState::Read },
            detail: Some(text("detail")).filter(|detail| !detail.is_empty()),
        }),
    }
}

/// A click, as platforms send it: a form whose field `payload` holds JSON.
pub(crate) fn form(body: &[u8]) -> Result<Inbound, Rejection> {
    let payload = url::form_urlencoded::parse(body).find(|(name, _)| name == "payload");
    let payload = payload.ok_or_else(|| Rejection::Malformed("no payload".to_owned()))?.1;
    let payload: Value =
        serde_json::from_str(&payload).map_err(|error| Rejection::Malformed(error.to_string()))?;
    let text = |key: &str| payload.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let identity =
        Identity { dedupe: vec![vec![text("id")]], conversation: vec![text("room")], sender: text("sender") };
    Ok(Inbound::one(Event::Interaction(Interaction { identity, value: text("value") })))
}

fn notes(behaviour: &str) -> Option<String> {
    (behaviour == "receive-notes").then(|| "x".repeat(1 << 20))
}
