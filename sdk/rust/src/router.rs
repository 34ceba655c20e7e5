//! Routers: which agent gets a message.

use crate::{Alternative, Context, Decision, Message, RoutingError};

/// Chooses the agent for a message.
pub trait Router: Sized + Send + Sync + 'static {
    /// Called once when a version is loaded, before its memory is snapshotted. Read the configuration and
    /// prepare tables here; neither clock nor randomness nor any capability answers yet.
    ///
    /// # Errors
    /// A sentence for the operator; the version is refused.
    fn init() -> Result<Self, String>;

    /// Called once for each message.
    ///
    /// # Errors
    /// [`RoutingError`]; the policy's default agent answers then.
    fn route(&self, message: Message, context: Context) -> Result<Decision, RoutingError>;
}

impl Decision {
    /// This agent, with a score of 1 and no alternatives.
    pub fn to(agent: impl Into<String>) -> Self {
        Self { agent: agent.into(), score: 1.0, alternatives: Vec::new(), reason: String::new() }
    }

    /// Says why, for a person who asks. At most 500 bytes, and no words of the message.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..self }
    }

    /// How sure the router is, 0.0 to 1.0.
    #[must_use]
    pub fn score(self, score: f32) -> Self {
        Self { score, ..self }
    }

    /// Adds an agent that came close.
    #[must_use]
    pub fn or(mut self, agent: impl Into<String>, score: f32) -> Self {
        self.alternatives.push(Alternative { agent: agent.into(), score });
        self
    }
}

impl Context {
    /// True if the agent may be chosen.
    #[must_use]
    pub fn may_reach(&self, agent: &str) -> bool {
        self.candidates.iter().any(|candidate| candidate.agent == agent)
    }
}
