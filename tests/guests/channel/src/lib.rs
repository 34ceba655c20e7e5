//! A channel that lies as it is told, by `behaviour` in its config.
//!
//! Honest, it takes `{"id", "room", "sender", "text"}` and posts `{"room", "text"}`, edits posts, and takes
//! `{"kind", "event", "post", "sender", "text"}` for changes and `{"kind", "answer"}` for statuses. Each lie is one that
//! the host must see through: another sender, another room, another endpoint, another's post.

mod receive;
mod render;

use chela_sdk::{
    Channel, Frame, Inbound, Outgoing, Rejection, RenderingError, Response, Revision, Step, Surroundings,
    Target,
};

struct Guest {
    behaviour: String,
}

impl Channel for Guest {
    fn init() -> Result<Self, String> {
        let config: serde_json::Value = chela_sdk::config()?;
        let behaviour = config.get("behaviour").and_then(serde_json::Value::as_str).unwrap_or("honest");
        Ok(Self { behaviour: behaviour.to_owned() })
    }

    fn receive(&self, frame: Frame, _: Surroundings) -> Result<Inbound, Rejection> {
        let frame = frame.into_http()?;
        match self.behaviour.as_str() {
            "form" => receive::form(&frame.body),
            behaviour => receive::run(behaviour, &frame.json()?),
        }
    }

    fn render(&self, outgoing: Outgoing, target: Target, _: Option<String>) -> Result<Step, RenderingError> {
        render::run(&self.behaviour, &outgoing, &target)
    }

    fn sent(&self, state: String, response: Response) -> Result<Step, RenderingError> {
        render::sent(&self.behaviour, state, &response)
    }

    fn update(&self, outgoing: Outgoing, target: Target, revision: Revision) -> Result<Step, RenderingError> {
        render::update(&self.behaviour, &outgoing, &target, &revision)
    }
}

chela_sdk::export!(channel: Guest);
