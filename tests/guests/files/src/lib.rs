//! An agent that opens a file: it imports the filesystem, and the host must refuse to load it.

use chela_sdk::{Agent, AnsweringError, Outcome, Reply, Turn};

struct Guest;

impl Agent for Guest {
    fn init() -> Result<Self, String> {
        Ok(Self)
    }

    fn handle(&self, turn: Turn) -> Result<Outcome, AnsweringError> {
        let text = std::fs::read_to_string(&turn.message.text);
        Ok(Reply::text(text.unwrap_or_else(|error| error.to_string())).into())
    }
}

chela_sdk::export!(agent: Guest);
