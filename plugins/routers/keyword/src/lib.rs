//! Chooses the agent by phrases: words of the configuration that occur in the message.
//!
//! Deterministic and explainable: the reason names a phrase of the configuration, never the person's words.
//! The phrases are folded and cut into words once, in `init`, so a call only folds the message.

mod config;
mod matching;
mod words;

use chela_sdk::{Context, Decision, Message, Router, RoutingError};

use matching::Rules;

/// The router.
#[derive(Debug)]
pub struct Keyword {
    rules: Rules,
    sticky: bool,
}

impl Router for Keyword {
    fn init() -> Result<Self, String> {
        let config: config::Config = chela_sdk::config()?;
        let sticky = config.sticky;
        Ok(Self { rules: Rules::new(config)?, sticky })
    }

    fn route(&self, message: Message, context: Context) -> Result<Decision, RoutingError> {
        let ranked = self.rules.ranked(&message.text, |agent| context.may_reach(agent));
        if let Some(decision) = self.rules.decide(&ranked) {
            return Ok(decision);
        }
        match context
            .sticky
            .filter(|agent| self.sticky && context.candidates.iter().any(|c| c.agent == *agent))
        {
            Some(agent) => {
                Ok(Decision::to(agent).score(0.5).because("no rule matches; the conversation stays"))
            }
            None => Err(RoutingError::NoMatch("no rule matches".to_owned())),
        }
    }
}

chela_sdk::export!(router: Keyword);

#[cfg(test)]
mod tests;
