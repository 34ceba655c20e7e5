//! Answers with a language model and the agent's own documents, and names its sources.
//!
//! One component for many agents: what makes one of them sales and another HR is the persona, the tier and
//! the knowledge folder, and all three are configuration. `handle` below is the whole of its behaviour;
//! what the model is given is written in `prompt`, when a human is called in `escalation`.

mod escalation;
mod prompt;

use chela_sdk::knowledge::{self, Passage};
use chela_sdk::models::{Completion, Finish, ModelError, Request};
use chela_sdk::{Agent, AnsweringError, HostError, Outcome, Reply, Turn, log};
use serde::Deserialize;

use escalation::Escalation;

/// At most so much of a message is searched for; the rest would not find anything else.
const QUERY_BYTES_MAX: usize = 2_000;
/// The host's own limit of a search.
const PASSAGES_MAX: u32 = 20;
/// Said where the provider's policy withholds an answer.
const REFUSED: &str =
    "I am sorry, I cannot help with that here. If you think I should, ask to speak to a human.";

/// What the operator writes under the agent's `config`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// How many passages the model is given, 0 to 20.
    passages: u32,
    /// Phrases that call a human.
    escalate_on: Vec<String>,
    /// What the person reads then.
    escalation_text: String,
    /// How many earlier utterances the model is given.
    history: usize,
    /// The length of an answer.
    max_output_tokens: u32,
}

impl Default for Config {
    fn default() -> Self {
        let escalation_text =
            "I am handing you over to a colleague, who will answer here as soon as possible.";
        Self {
            passages: 4,
            escalate_on: Vec::new(),
            escalation_text: escalation_text.to_owned(),
            history: 8,
            max_output_tokens: 600,
        }
    }
}

/// The agent.
#[derive(Debug)]
pub struct Assistant {
    config: Config,
    escalation: Escalation,
}

impl Agent for Assistant {
    fn init() -> Result<Self, String> {
        let config: Config = chela_sdk::config()?;
        if config.passages > PASSAGES_MAX {
            return Err(format!("config: passages is {}, at most {PASSAGES_MAX}", config.passages));
        }
        if config.max_output_tokens == 0 {
            return Err("config: max_output_tokens is 0".to_owned());
        }
        let escalation = Escalation::new(&config.escalate_on)?;
        Ok(Self { config, escalation })
    }

    fn handle(&self, turn: Turn) -> Result<Outcome, AnsweringError> {
        if let Some(phrase) = self.escalation.asked(&turn.message.text) {
            let reason = format!("the person asks for a human (“{phrase}”)");
            return Ok(Outcome::escalate(reason, Reply::text(&self.config.escalation_text)));
        }
        let passages = self.passages(&turn.message.text)?;
        let request = Request::of(prompt::prompts(&turn, self.config.history))
            .system(prompt::system(&turn.profile.persona, &passages))
            .max_output_tokens(self.config.max_output_tokens);
        match request.relay() {
            Ok(completion) => reply(completion, &passages),
            // The text is the host's own, written to be shown.
            Err(ModelError::OverBudget(text)) => Ok(Reply::text(text).into()),
            Err(ModelError::Refused(_)) => Ok(Reply::text(REFUSED).into()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Assistant {
    /// What the agent's documents say; nothing if it has none.
    fn passages(&self, text: &str) -> Result<Vec<Passage>, AnsweringError> {
        let query = text.get(..text.floor_char_boundary(QUERY_BYTES_MAX)).unwrap_or_default().trim();
        if self.config.passages == 0 || query.is_empty() {
            return Ok(Vec::new());
        }
        match knowledge::search(query, self.config.passages) {
            Ok(passages) => Ok(passages),
            Err(HostError::NotGranted(_)) => Ok(Vec::new()),
            // An answer without the documents would be a guess that looks like knowledge.
            Err(error) => {
                log::warn(format!("search: {error}"));
                Err(error.into())
            }
        }
    }
}

fn reply(completion: Completion, passages: &[Passage]) -> Result<Outcome, AnsweringError> {
    let mut text = completion.text.trim().to_owned();
    if text.is_empty() {
        return Err(AnsweringError::Unavailable("the model said nothing".to_owned()));
    }
    if completion.finish == Finish::Length {
        text.push_str(" …");
    }
    let sources = prompt::sources(passages);
    if !sources.is_empty() {
        text.push_str("\n\nSources: ");
        text.push_str(&sources.join("; "));
    }
    let reply = sources.into_iter().fold(Reply::text(text), |reply, source| reply.citation(source, ""));
    Ok(reply.into())
}

chela_sdk::export!(agent: Assistant);

#[cfg(test)]
mod tests;
