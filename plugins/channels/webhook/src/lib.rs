//! A generic webhook: `{"sender", "text", "thread_id"?, "name"?}` in, a signed reply out.
//!
//! For whatever system has no adapter of its own. Signatures both ways are Standard Webhooks, done by the
//! host; the id of the request is the header `webhook-id`, so a repeated delivery is one message. With `wait_ms` the
//! sender gets the reply as the response to its request, if it is there in that time.

use chela_sdk::{
    Acknowledgement, Channel, Deferral, Event, Frame, HttpFrame, Identity, Inbound, Incoming, Outgoing,
    Rejection, RenderingError, Request, Response, Step, Surroundings, Target,
};
use serde::Deserialize;
use serde_json::json;

/// Waits where the receiver names none.
const RETRY_MS: u64 = 1_000;
/// No receiver's wish makes an answer wait longer.
const RETRY_MS_MAX: u64 = 3_600_000;
/// The most that a name or an id may have, in bytes.
const ID_BYTES_MAX: usize = 512;

/// The longest that a request may wait for its reply.
const WAIT_MS_MAX: u32 = 10_000;

/// The adapter.
#[derive(Debug)]
pub struct Webhook {
    /// How long a request waits for its reply; 0: not at all.
    wait_ms: u32,
}

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    wait_ms: u32,
}

/// What the sender writes. Unknown keys are left alone: systems add their own.
#[derive(Debug, Deserialize)]
struct Body {
    sender: String,
    text: String,
    thread_id: Option<String>,
    name: Option<String>,
}

impl Channel for Webhook {
    fn init() -> Result<Self, String> {
        let Config { wait_ms } = chela_sdk::config()?;
        if wait_ms > WAIT_MS_MAX {
            return Err(format!("`wait_ms` is {wait_ms}; it is at most {WAIT_MS_MAX}"));
        }
        Ok(Self { wait_ms })
    }

    fn receive(&self, frame: Frame, _: Surroundings) -> Result<Inbound, Rejection> {
        let frame = frame.into_http()?;
        let body = read(&frame)?;
        let id = frame.header("webhook-id").filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX);
        let id = id.ok_or_else(|| malformed("the header webhook-id is missing or too long"))?.to_owned();
        if body.text.trim().is_empty() {
            return Ok(Inbound::ignored("a message without words"));
        }
        let conversation = vec![body.thread_id.unwrap_or_else(|| body.sender.clone())];
        let identity = Identity { dedupe: vec![vec![id]], conversation, sender: body.sender };
        let (sender_name, text) = (body.name, body.text);
        let incoming = Incoming { identity, sender_name, text, attachments: Vec::new(), notes: None };
        let events = vec![Event::Message(incoming)];
        Ok(Inbound { events, acknowledgement: self.acknowledgement() })
    }

    fn render(&self, outgoing: Outgoing, target: Target, _: Option<String>) -> Result<Step, RenderingError> {
        let thread = target.bound("conversation");
        let thread =
            thread.ok_or_else(|| RenderingError::Other("the target has no conversation".to_owned()))?;
        let body = json!({
            "type": "reply",
            "id": outgoing.id,
            "agent": outgoing.agent,
            "text": outgoing.reply.text,
            "thread": thread,
            "blocks": outgoing.reply.blocks,
        });
        let endpoint = if target.waits { "response" } else { "reply" };
        Ok(Step::send(Request::json(endpoint, &body), outgoing.id))
    }

    /// Standard Webhooks: any 2xx is a receipt; 410 says never again, and so do the other 4xx but those
    /// that speak of time.
    fn sent(&self, state: String, response: Response) -> Result<Step, RenderingError> {
        Ok(match response.status {
            200..=299 => Step::Done(Some(state)),
            408 | 425 | 429 | 500..=599 => {
                Step::Retry(response.retry_after_ms().unwrap_or(RETRY_MS).clamp(RETRY_MS, RETRY_MS_MAX))
            }
            status => Step::Permanent(format!("the receiver answered {status}")),
        })
    }
}

impl Webhook {
    fn acknowledgement(&self) -> Acknowledgement {
        match self.wait_ms {
            0 => Acknowledgement::Plain,
            // Kept, and the reply comes later: 202.
            deadline_ms => Acknowledgement::Deferred(Deferral {
                deadline_ms,
                fallback: Response { status: 202, headers: Vec::new(), body: Vec::new() },
            }),
        }
    }
}

fn read(frame: &HttpFrame) -> Result<Body, Rejection> {
    // By way of a value: what is read of duplicate keys is the same here and in the host.
    let body: Body =
        serde_json::from_value(frame.json()?).map_err(|error| malformed(&format!("body: {error}")))?;
    let ids = [Some(&body.sender), body.thread_id.as_ref(), body.name.as_ref()];
    if ids.into_iter().flatten().any(|id| id.is_empty() || id.len() > ID_BYTES_MAX) {
        return Err(malformed("sender, thread_id and name have 1 to 512 bytes"));
    }
    Ok(body)
}

fn malformed(why: &str) -> Rejection {
    Rejection::Malformed(why.to_owned())
}

chela_sdk::export!(channel: Webhook);

#[cfg(test)]
mod tests;
