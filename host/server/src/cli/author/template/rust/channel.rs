//! Speaks with a pager: takes `{"id", "from", "text"}`, sends `{"to", "text"}`.

use chela_sdk::{
    Channel, Event, Frame, Identity, Inbound, Incoming, Outgoing, Rejection, RenderingError,
    Request, Step, Surroundings, Target,
};
use serde::Deserialize;
use serde_json::json;

/// No network and no secret: the host has checked the signature, and sends what `render` returns.
struct Pager;

#[derive(Deserialize)]
struct Page {
    id: String,
    from: String,
    text: String,
}

impl Channel for Pager {
    fn init() -> Result<Self, String> {
        Ok(Pager)
    }

    fn receive(&self, frame: Frame, _: Surroundings) -> Result<Inbound, Rejection> {
        let body = frame.into_http()?.json()?;
        let page: Page = serde_json::from_value(body)
            .map_err(|error| Rejection::Malformed(error.to_string()))?;
        let identity = Identity {
            dedupe: vec![vec![page.id]],
            conversation: vec![page.from.clone()],
            sender: page.from,
        };
        let (sender_name, attachments, notes) = (None, Vec::new(), None);
        Ok(Inbound::one(Event::Message(Incoming {
            identity,
            sender_name,
            text: page.text,
            attachments,
            notes,
        })))
    }

    fn render(
        &self,
        outgoing: Outgoing,
        target: Target,
        _: Option<String>,
    ) -> Result<Step, RenderingError> {
        let to = target
            .bound("to")
            .ok_or_else(|| RenderingError::Other("no target".into()))?;
        let body = json!({ "to": to, "text": outgoing.reply.text });
        Ok(Step::send(Request::json("send", &body), ""))
    }

    // `sent` is not here: what the pager's status means is what it means everywhere.
}

chela_sdk::export!(channel: Pager);

#[cfg(test)]
mod tests {
    use super::*;
    use chela_sdk::HttpFrame;

    fn received(body: &str) -> Result<Inbound, Rejection> {
        let (method, path, query) = ("POST".into(), "/".into(), String::new());
        let frame = HttpFrame {
            method,
            path,
            query,
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
        };
        let surroundings = Surroundings {
            channel: "pager".into(),
            own_ids: Vec::new(),
        };
        Pager.receive(Frame::Http(frame), surroundings)
    }

    #[test]
    fn a_page_is_a_message() {
        let inbound = received(r#"{"id": "p1", "from": "ann", "text": "help"}"#).unwrap();
        assert!(matches!(&inbound.events[..], [Event::Message(page)] if page.text == "help"));
    }

    #[test]
    fn anything_else_is_the_senders_fault() {
        for body in ["{", "[]", r#"{"id": "p1"}"#] {
            assert!(
                matches!(received(body), Err(Rejection::Malformed(_))),
                "{body}"
            );
        }
    }
}
