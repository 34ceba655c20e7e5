//! The chat page that the host serves: `{"id", "text", "name"?}` in, an event of the page's stream out.
//!
//! The host knows the session from its own cookie, and hands it over in the header `chela-session`; the page
//! makes the `id` of each message, so that sending twice is one message.

use chela_sdk::{
    Channel, Event, Frame, Identity, Inbound, Incoming, Outgoing, Rejection, RenderingError, Request, Step,
    Surroundings, Target,
};
use serde::Deserialize;
use serde_json::json;

/// The header in which the host names the session.
const SESSION: &str = "chela-session";
/// The most that an id or a name may have, in bytes.
const ID_BYTES_MAX: usize = 128;

/// The adapter. Nothing to prepare.
#[derive(Debug)]
pub struct WebChat;

/// What the page writes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    id: String,
    text: String,
    name: Option<String>,
}

impl Channel for WebChat {
    fn init() -> Result<Self, String> {
        Ok(Self)
    }

    fn receive(&self, frame: Frame, _: Surroundings) -> Result<Inbound, Rejection> {
        let frame = frame.into_http()?;
        let body = serde_json::from_value(frame.json()?);
        let body: Body = body.map_err(|error| malformed(&format!("body: {error}")))?;
        let session = frame.header(SESSION).ok_or_else(|| malformed("no session"))?;
        if [Some(&body.id), body.name.as_ref()]
            .into_iter()
            .flatten()
            .any(|id| id.is_empty() || id.len() > ID_BYTES_MAX)
        {
            return Err(malformed("id and name have 1 to 128 bytes"));
        }
        if body.text.trim().is_empty() {
            return Ok(Inbound::ignored("a message without words"));
        }
        let dedupe = vec![vec![session.to_owned(), body.id]];
        let identity =
            Identity { dedupe, conversation: vec![session.to_owned()], sender: session.to_owned() };
        let (sender_name, text) = (body.name, body.text);
        let incoming = Incoming { identity, sender_name, text, attachments: Vec::new(), notes: None };
        Ok(Inbound::one(Event::Message(incoming)))
    }

    fn render(&self, outgoing: Outgoing, target: Target, _: Option<String>) -> Result<Step, RenderingError> {
        let session = target.bound("session");
        let session = session.ok_or_else(|| RenderingError::Other("the target has no session".to_owned()))?;
        let body = json!({
            "session": session,
            "id": outgoing.id,
            "agent": outgoing.agent,
            "text": outgoing.reply.text,
            "blocks": outgoing.reply.blocks,
        });
        Ok(Step::send(Request::json("stream", &body), outgoing.id))
    }
}

fn malformed(why: &str) -> Rejection {
    Rejection::Malformed(why.to_owned())
}

chela_sdk::export!(channel: WebChat);

#[cfg(test)]
mod tests;
