//! An agent that opens a connection: it imports sockets, and the host must refuse to load it.

use std::io::Read as _;

use chela_sdk::{Agent, AnsweringError, Outcome, Reply, Turn};

struct Guest;

impl Agent for Guest {
    fn init() -> Result<Self, String> {
        Ok(Self)
    }

    fn handle(&self, turn: Turn) -> Result<Outcome, AnsweringError> {
        let mut text = String::new();
        let read = std::net::TcpStream::connect(&turn.message.text)
            .and_then(|mut peer| peer.read_to_string(&mut text));
        Ok(Reply::text(read.map_or_else(|error| error.to_string(), |_| text)).into())
    }
}

chela_sdk::export!(agent: Guest);
