//! A channel that lies as it is told, by `behaviour` in its config; behind `noted-`, the calls that it names are told in
//! the log.
//!
//! Honest, it takes `{"id", "room", "sender", "text"}` and posts `{"room", "text"}`, edits posts, and takes
//! `{"kind", "event", "post", "sender", "text"}` for changes and `{"kind", "answer"}` for statuses. Each lie is one that
//! the host must see through: another sender, another room, another endpoint, another's post.

mod receive;
mod render;

use chela_sdk::{
    Channel, Frame, Inbound, Outgoing, Rejection, RenderingError, Response, Revision, Step, Surroundings,
    Target, log,
};

/// It does what the request says in `does`, and to an answer what the answer says.
const TOLD: &str = "told";

struct Guest {
    behaviour: String,
    /// Of which calls it says in the log that they are made: so they are counted though nobody hears the end of them.
    noted: Option<String>,
}

impl Guest {
    fn note(&self, call: &str) {
        if self.noted.as_deref() == Some(call) {
            log::info("called");
        }
    }
}

impl Channel for Guest {
    fn init() -> Result<Self, String> {
        let config: serde_json::Value = chela_sdk::config()?;
        let behaviour = config.get("behaviour").and_then(serde_json::Value::as_str).unwrap_or("honest");
        let plain = behaviour.strip_prefix("noted-");
        let noted = plain.and_then(|plain| plain.split('-').next()).map(str::to_owned);
        Ok(Self { behaviour: plain.unwrap_or(behaviour).to_owned(), noted })
    }

    fn receive(&self, frame: Frame, _: Surroundings) -> Result<Inbound, Rejection> {
        self.note("receive");
        let frame = frame.into_http()?;
        match self.behaviour.as_str() {
            "form" => receive::form(&frame.body),
            TOLD => receive::told(&frame.json()?),
            behaviour => receive::run(behaviour, &frame.json()?),
        }
    }

    fn render(
        &self,
        outgoing: Outgoing,
        target: Target,
        state: Option<String>,
    ) -> Result<Step, RenderingError> {
        self.note("render");
        match self.behaviour.as_str() {
            "anew" => Ok(render::anew(&target, state)),
            TOLD => render::run(outgoing.reply.text.as_str(), &outgoing, &target),
            behaviour => render::run(behaviour, &outgoing, &target),
        }
    }

    fn sent(&self, state: String, response: Response) -> Result<Step, RenderingError> {
        self.note("sent");
        render::sent(&self.behaviour, state, &response)
    }

    fn update(&self, outgoing: Outgoing, target: Target, revision: Revision) -> Result<Step, RenderingError> {
        render::update(&self.behaviour, &outgoing, &target, &revision)
    }
}

chela_sdk::export!(channel: Guest);
