//! The smallest agent: it says back what it heard.

use chela_sdk::{Agent, AnsweringError, Outcome, Reply, Turn};

struct Echo;

impl Agent for Echo {
    fn init() -> Result<Self, String> {
        Ok(Echo)
    }

    fn handle(&self, turn: Turn) -> Result<Outcome, AnsweringError> {
        Ok(Reply::text(format!("You said: {}", turn.message.text)).into())
    }
}

chela_sdk::export!(agent: Echo);

#[cfg(test)]
mod tests {
    use chela_sdk::{Agent, Message, Outcome, Person, Profile, Reply, Turn};

    use super::Echo;

    #[test]
    fn it_says_back_what_it_heard() {
        let sender = Person { id: "ann".into(), name: None, outsider: false };
        let (id, text, channel) = ("turn-1".into(), "hello".into(), "web".into());
        let message =
            Message { id, text, sender, channel, place: None, attachments: Vec::new(), received_ms: 0 };
        let (agent, persona, tier) = ("echo".into(), String::new(), "fast".into());
        let profile = Profile { agent, department: None, persona, tier, colleagues: Vec::new() };
        let outcome = Echo.handle(Turn { message, profile, past: Vec::new() });
        assert_eq!(outcome, Ok(Outcome::Reply(Reply::text("You said: hello"))));
    }
}
