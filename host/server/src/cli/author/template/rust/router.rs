//! Sends what holds one of its words to an agent.

use chela_sdk::{Context, Decision, Message, Router, RoutingError};
use serde::Deserialize;

/// What stands in `[config]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    agent: String,
    words: Vec<String>,
}

impl Router for Words {
    fn init() -> Result<Self, String> {
        chela_sdk::config()
    }

    fn route(&self, message: Message, context: Context) -> Result<Decision, RoutingError> {
        let text = message.text.to_lowercase();
        let found = self.words.iter().find(|word| text.contains(word.as_str()));
        match found {
            Some(word) if context.may_reach(&self.agent) => {
                Ok(Decision::to(&self.agent).because(format!("the word `{word}`")))
            }
            _ => Err(RoutingError::NoMatch("none of its words".into())),
        }
    }
}

chela_sdk::export!(router: Words);

#[cfg(test)]
mod tests {
    use super::*;
    use chela_sdk::testing::Host;
    use chela_sdk::{Candidate, Person};

    fn routed(text: &str, agents: &[&str]) -> Result<Decision, RoutingError> {
        let config = serde_json::json!({ "agent": "support", "words": ["broken"] });
        let router = Host::new().config(config).run(Words::init).unwrap();
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
        let candidate = |agent: &&str| Candidate {
            agent: (*agent).into(),
            description: String::new(),
        };
        let candidates = agents.iter().map(candidate).collect();
        let (department, sticky, default_agent, past) = (None, None, "sales".into(), Vec::new());
        router.route(
            message,
            Context {
                department,
                candidates,
                sticky,
                default_agent,
                past,
            },
        )
    }

    #[test]
    fn a_word_chooses() {
        assert_eq!(
            routed("It is BROKEN", &["support"]).unwrap().agent,
            "support"
        );
        assert!(routed("Good morning", &["support"]).is_err());
    }

    #[test]
    fn whoever_may_not_be_reached_is_not_chosen() {
        assert!(routed("It is broken", &["sales"]).is_err());
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let config = serde_json::json!({ "agent": "support", "wrods": [] });
        assert!(Host::new().config(config).run(Words::init).is_err());
    }
}
