//! Explains with a model; its words are shown while they come.

use chela_sdk::models::{ModelError, Request};
use chela_sdk::{Agent, AnsweringError, Outcome, Reply, Turn};
use serde::Deserialize;

/// What stands in `[config]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tutor {
    /// For whom it explains.
    level: String,
}

impl Agent for Tutor {
    fn init() -> Result<Self, String> {
        chela_sdk::config()
    }

    fn handle(&self, turn: Turn) -> Result<Outcome, AnsweringError> {
        let system = format!("{}\nExplain it for {}.", turn.profile.persona, self.level);
        match Request::new(&turn.message.text).system(system).relay() {
            Ok(said) => Ok(Reply::text(said.text).into()),
            // Tried again, it would be refused again: better a kind word now. Other errors may
            // pass; the host waits.
            Err(ModelError::OverBudget(_)) => {
                Ok(Reply::text("Enough for today. Please ask me tomorrow.").into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

chela_sdk::export!(agent: Tutor);

#[cfg(test)]
mod tests {
    use super::*;
    use chela_sdk::testing::Host;
    use chela_sdk::{Message, Person, Profile};

    fn turn(text: &str) -> Turn {
        let sender = Person {
            id: "ann".into(),
            name: None,
            outsider: false,
        };
        let (id, text, channel, attachments) = ("1".into(), text.into(), "web".into(), Vec::new());
        let message = Message {
            id,
            text,
            sender,
            channel,
            place: None,
            attachments,
            received_ms: 0,
        };
        let (agent, persona, tier) = ("tutor".into(), "Be patient.".into(), "fast".into());
        let profile = Profile {
            agent,
            department: None,
            persona,
            tier,
            colleagues: Vec::new(),
        };
        Turn {
            message,
            profile,
            past: Vec::new(),
        }
    }

    fn tutor() -> Tutor {
        Tutor {
            level: "a child".into(),
        }
    }

    #[test]
    fn it_asks_with_its_persona_and_says_what_it_heard() {
        let (outcome, seen) = Host::new()
            .answer("Twice a day.")
            .watch(|| tutor().handle(turn("How often is high tide?")));
        assert_eq!(outcome, Ok(Outcome::Reply(Reply::text("Twice a day."))));
        let system = seen.requests[0].system.as_deref();
        assert_eq!(system, Some("Be patient.\nExplain it for a child."));
    }

    #[test]
    fn a_used_up_budget_is_said_politely() {
        let error = ModelError::OverBudget("2.00 of 2.00".into());
        let outcome = Host::new().fail(error).run(|| tutor().handle(turn("Why?")));
        assert!(matches!(outcome, Ok(Outcome::Reply(reply)) if reply.text.contains("tomorrow")));
    }
}
