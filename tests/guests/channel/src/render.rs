//! What is sent, and where.

use chela_sdk::{Header, Outgoing, RenderingError, Request, Response, Revision, Step, Target};
use serde_json::{Value, json};

pub(crate) fn run(behaviour: &str, outgoing: &Outgoing, target: &Target) -> Result<Step, RenderingError> {
    let room = target.bound("room").unwrap_or_default();
    let honest = json!({ "room": room, "text": outgoing.reply.text });
    match behaviour {
        "render-trap" => std::process::abort(),
        "render-loop" => loop {
            std::hint::black_box(0);
        },
        "render-error" => Err(RenderingError::Other("as told".to_owned())),
        "render-permanent" => Ok(Step::Permanent("as told".to_owned())),
        "render-done" => Ok(Step::Done(None)),
        "render-retry" => Ok(Step::Retry(1)),
        "render-retry-never" => Ok(Step::Retry(u64::MAX)),
        "render-giant" => Ok(post("post", &json!({ "room": room, "text": "x".repeat(64 << 20) }))),
        "other-target" => Ok(post("post", &json!({ "room": "elsewhere", "text": outgoing.reply.text }))),
        "no-target" => Ok(post("post", &json!({ "text": outgoing.reply.text }))),
        // A parser that keeps the first of two keys sees another room than one that keeps the last.
        "two-targets" => {
            Ok(raw(format!(r#"{{"room":"elsewhere","text":"x","room":{}}}"#, Value::from(room))))
        }
        "not-json" => Ok(raw("room=elsewhere".to_owned())),
        "other-endpoint" => Ok(post("other", &honest)),
        "ghost-endpoint" => Ok(post("ghost", &honest)),
        "header" => Ok(with_header(&honest, "authorization", "Bearer mine")),
        "form-body" => Ok(with_header(&honest, "content-type", "application/x-www-form-urlencoded")),
        "header-injection" => Ok(with_header(&honest, "content-type", "text/plain\r\nx-evil: 1")),
        // There is nothing of its own to edit.
        "edit-foreign" => Ok(post("edit", &json!({ "room": room, "post": "p1", "text": "x" }))),
        "wait" if target.waits => Ok(post("response", &json!({ "said": outgoing.reply.text }))),
        "giant-state" => Ok(Step::send(Request::json("post", &honest), "x".repeat(1 << 20))),
        _ => Ok(post("post", &honest)),
    }
}

/// Posts a word of its own, and knows nobody's state.
pub(crate) fn anew(target: &Target, state: Option<String>) -> Step {
    match state {
        Some(_) => Step::Permanent("another's state".to_owned()),
        None => post("post", &json!({ "room": target.bound("room").unwrap_or_default(), "text": "anew" })),
    }
}

pub(crate) fn sent(behaviour: &str, state: String, response: &Response) -> Result<Step, RenderingError> {
    match behaviour {
        "sent-trap" => std::process::abort(),
        // Never done: one more request after each response.
        "sent-forever" => Ok(post("post", &serde_json::from_str(&state).unwrap_or_default())),
        "edit-refused" if state.contains("\"post\"") => Ok(Step::Permanent("no such post".to_owned())),
        _ => Ok(match response.status {
            200..=299 => Step::Done(posted(response)),
            429 | 500..=599 => Step::Retry(response.retry_after_ms().unwrap_or(100)),
            status => Step::Permanent(format!("status {status}")),
        }),
    }
}

/// A draft, or the answer in its place.
pub(crate) fn update(
    behaviour: &str,
    outgoing: &Outgoing,
    target: &Target,
    revision: &Revision,
) -> Result<Step, RenderingError> {
    let room = target.bound("room").unwrap_or_default();
    let Some(id) = &revision.platform_id else {
        return Ok(post("post", &json!({ "room": room, "text": outgoing.reply.text, "draft": true })));
    };
    let id = if behaviour == "update-lie" { "p0" } else { id.as_str() };
    let edit = json!({ "room": room, "post": id, "text": outgoing.reply.text, "seq": revision.seq,
        "final": revision.final_ });
    match (behaviour, revision.final_) {
        ("update-trap", true) => std::process::abort(),
        ("update-never", true) => Ok(Step::Permanent("as told".to_owned())),
        _ => Ok(post("edit", &edit)),
    }
}

fn posted(response: &Response) -> Option<String> {
    let body: Value = serde_json::from_slice(&response.body).ok()?;
    body.get("id")?.as_str().map(str::to_owned)
}

fn post(endpoint: &str, body: &Value) -> Step {
    let state = if body.to_string().len() > 1_000 { String::new() } else { body.to_string() };
    Step::send(Request::json(endpoint, body), state)
}

fn raw(body: String) -> Step {
    let headers = vec![Header::new("content-type", "application/json")];
    Step::send(Request { endpoint: "post".to_owned(), headers, body: body.into_bytes() }, "")
}

fn with_header(body: &Value, name: &str, value: &str) -> Step {
    let mut request = Request::json("post", body);
    request.headers = vec![Header::new(name, value)];
    Step::send(request, "")
}
