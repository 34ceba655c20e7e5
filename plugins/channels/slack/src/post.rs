//! Posting an answer, in as many parts as its length needs, and editing a post that shows it while it is made.
//!
//! The state holds what is still to be said and where, so that a part that failed, or a host that stopped,
//! goes on with that part and not from the beginning.

use chela_sdk::{Block, Outgoing, RenderingError, Reply, Request, Response, Revision, Step, Target};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{event::FLAT, text};

/// Slack recommends at most so many characters in a post.
const CHUNK_CHARS: usize = 4_000;
/// The state may hold 64 KiB, and JSON may double what it quotes.
const TEXT_BYTES_MAX: usize = 28_000;
/// What a draft ends with.
const MORE: &str = " …";
/// Waits where the platform names none.
const RETRY_MS: u64 = 1_000;
/// No platform's wish makes an answer wait longer.
const RETRY_MS_MAX: u64 = 3_600_000;
/// What Slack says when it is worth another attempt.
const PASSING: [&str; 9] = [
    "accesslimited",
    "external_channel_migrating",
    "fatal_error",
    "internal_error",
    "message_limit_exceeded",
    "rate_limited",
    "ratelimited",
    "request_timeout",
    "service_unavailable",
];

/// What is still to be said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    channel: String,
    thread: Option<String>,
    /// The first is being sent.
    parts: Vec<String>,
    /// The time stamp of the first part, once it is there: Slack's name of the answer.
    posted: Option<String>,
    /// The post that the first part takes the place of.
    #[serde(default)]
    edits: Option<String>,
}

pub(crate) fn first(outgoing: &Outgoing, target: &Target) -> Result<Step, RenderingError> {
    State::new(outgoing, target)?.send()
}

/// A draft is one post, and says that more is to come; the answer begins in its place.
pub(crate) fn revised(
    outgoing: &Outgoing,
    target: &Target,
    revision: Revision,
) -> Result<Step, RenderingError> {
    let mut state = State { edits: revision.platform_id, ..State::new(outgoing, target)? };
    if !revision.final_ {
        state.parts.truncate(1);
        state.parts.iter_mut().for_each(|part| part.push_str(MORE));
    }
    state.send()
}

/// The part that the state says is being sent.
pub(crate) fn again(state: &str) -> Result<Step, RenderingError> {
    State::read(state)?.send()
}

pub(crate) fn sent(state: &str, response: &Response) -> Result<Step, RenderingError> {
    let mut state = State::read(state)?;
    match response.status {
        200..=299 => {}
        429 => return Ok(retry(response)),
        500..=599 => return Ok(Step::Retry(RETRY_MS)),
        status => return Ok(Step::Permanent(format!("slack answered {status}"))),
    }
    // A success that cannot be read is an outage's page: Slack itself always answers JSON.
    let Ok(body) = serde_json::from_slice::<Value>(&response.body) else { return Ok(Step::Retry(RETRY_MS)) };
    if body.get("ok") != Some(&Value::Bool(true)) {
        return Ok(refused(&body, response));
    }
    if state.posted.is_none() {
        state.posted = body.get("ts").and_then(Value::as_str).map(str::to_owned);
    }
    state.edits = None;
    state.parts.drain(..1.min(state.parts.len()));
    if state.parts.is_empty() { Ok(Step::Done(state.posted)) } else { state.send() }
}

fn refused(body: &Value, response: &Response) -> Step {
    match body.get("error").and_then(Value::as_str) {
        Some(code) if PASSING.contains(&code) => retry(response),
        Some(code) => {
            let code: String = code.chars().filter(|c| c.is_ascii_graphic()).take(80).collect();
            Step::Permanent(format!("slack refuses: {code}"))
        }
        None => Step::Permanent("slack refuses and says no reason".to_owned()),
    }
}

fn retry(response: &Response) -> Step {
    Step::Retry(response.retry_after_ms().unwrap_or(RETRY_MS).clamp(RETRY_MS, RETRY_MS_MAX))
}

impl State {
    fn new(outgoing: &Outgoing, target: &Target) -> Result<Self, RenderingError> {
        let channel = target.bound("channel").ok_or_else(|| other("the target has no channel"))?.to_owned();
        let flat = target.notes.as_deref() == Some(FLAT);
        let thread = target.bound("thread").filter(|_| !flat).map(str::to_owned);
        let parts = text::chunks(&shorten(said(&outgoing.reply)), CHUNK_CHARS);
        if parts.is_empty() {
            return Err(RenderingError::Unsuitable("the reply has no text".to_owned()));
        }
        Ok(Self { channel, thread, parts, posted: None, edits: None })
    }

    fn read(state: &str) -> Result<Self, RenderingError> {
        serde_json::from_str(state).map_err(|error| other(&format!("the state cannot be read: {error}")))
    }

    fn send(&self) -> Result<Step, RenderingError> {
        let part = self.parts.first().ok_or_else(|| other("the state has nothing to say"))?;
        let state = serde_json::to_string(self).map_err(|error| other(&error.to_string()))?;
        if let Some(ts) = &self.edits {
            let body = json!({
                "channel": self.channel,
                "ts": ts,
                "text": part,
                "parse": "none",
                "link_names": false,
            });
            return Ok(Step::send(Request::json("update-message", &body), state));
        }
        let mut body = json!({
            "channel": self.channel,
            "text": part,
            "mrkdwn": true,
            "parse": "none",
            "link_names": false,
            "unfurl_links": false,
            "unfurl_media": false,
        });
        if let (Some(thread), Some(body)) = (&self.thread, body.as_object_mut()) {
            body.insert("thread_ts".to_owned(), Value::from(thread.as_str()));
        }
        Ok(Step::send(Request::json("post-message", &body), state))
    }
}

/// The reply in Slack's writing. Sources stand in the text already; buttons become a list.
fn said(reply: &Reply) -> String {
    let mut lines = vec![text::encode(&reply.text)];
    for block in &reply.blocks {
        match block {
            Block::Link(link) => lines.push(text::encode(&format!("{}: {}", link.label, link.url))),
            Block::Choices(choices) => {
                lines.extend(choices.iter().map(|choice| text::encode(&format!("• {}", choice.label))));
            }
            Block::Citation(_) => {}
        }
    }
    lines.join("\n")
}

/// Cuts what no person reads to the end anyway, and says so.
fn shorten(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push_str("\n… (shortened)");
    }
    text
}

fn other(why: &str) -> RenderingError {
    RenderingError::Other(why.to_owned())
}
