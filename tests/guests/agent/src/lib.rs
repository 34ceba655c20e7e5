//! An agent that misbehaves as it is told, by the first word of the message or by `behaviour` in its config.
//!
//! Each limit and each refusal of the host has a behaviour that runs into it; the tests of the whole host
//! name them. `init` has its own list: what a version may not do while it is loaded.

mod behave;
mod hostile;
mod init;
mod recorded;

use chela_sdk::{Agent, AnsweringError, Outcome, Turn};

struct Guest {
    behaviour: Option<String>,
    /// What `init` saw of clock and randomness, if it was told to look.
    seen: String,
}

impl Agent for Guest {
    fn init() -> Result<Self, String> {
        let config: serde_json::Value = chela_sdk::config()?;
        let word = |key: &str| config.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
        let seen = init::run(word("init").as_deref().unwrap_or("ok"))?;
        Ok(Self { behaviour: word("behaviour"), seen })
    }

    fn handle(&self, turn: Turn) -> Result<Outcome, AnsweringError> {
        let said = turn.message.text.clone();
        let (first, rest) = said.split_once(' ').unwrap_or((&said, ""));
        let (behaviour, said) = match &self.behaviour {
            Some(behaviour) => (behaviour.as_str(), said.as_str()),
            None => (first, rest),
        };
        match recorded::run(behaviour, said, &turn).or_else(|| hostile::run(behaviour, said)) {
            Some(outcome) => outcome,
            None => behave::run(behaviour, said, &turn, &self.seen),
        }
    }
}

chela_sdk::export!(agent: Guest);
