//! A channel that lies as it is told, by `behaviour` in its config.
//!
//! Honest, it takes `{"id", "room", "sender", "text"}` and posts `{"room", "text"}`. Each lie is one that the
//! host must see through: another sender, another room, another endpoint.

mod receive;
mod render;

use chela_sdk::{
    Channel, Frame, Inbound, Outgoing, Rejection, RenderingError, Response, Step, Surroundings, Target,
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
        receive::run(&self.behaviour, &frame.into_http()?.json()?)
    }

    fn render(&self, outgoing: Outgoing, target: Target, _: Option<String>) -> Result<Step, RenderingError> {
        render::run(&self.behaviour, &outgoing, &target)
    }

    fn sent(&self, state: String, response: Response) -> Result<Step, RenderingError> {
        render::sent(&self.behaviour, state, &response)
    }
}

chela_sdk::export!(channel: Guest);
