//! Agents: what is answered.

use crate::models::ModelError;
use crate::{AnsweringError, Escalation, HandOver, HostError, Later, Outcome, Reply, Turn};

/// Answers messages.
pub trait Agent: Sized + Send + Sync + 'static {
    /// Called once when a version is loaded, before its memory is snapshotted. Read the configuration and
    /// prepare tables here; neither clock nor randomness nor any capability answers yet.
    ///
    /// # Errors
    /// A sentence for the operator; the version is refused.
    fn init() -> Result<Self, String>;

    /// Called once for each turn, and again with the same turn if the host stopped in the middle: host
    /// calls that were journaled then give the same results without being made or paid again.
    ///
    /// # Errors
    /// [`AnsweringError`]; `?` turns the errors of host functions into it.
    fn handle(&self, turn: Turn) -> Result<Outcome, AnsweringError>;
}

impl Outcome {
    /// Gives the conversation to a colleague, one of `turn.profile.colleagues`.
    pub fn hand_over(agent: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::HandOver(HandOver { agent: agent.into(), reason: reason.into() })
    }

    /// Calls a human; the person reads `reply` meanwhile.
    pub fn escalate(reason: impl Into<String>, reply: Reply) -> Self {
        Self::Escalate(Escalation { reason: reason.into(), reply })
    }

    /// Runs the turn again after so many milliseconds (1 second to 1 hour).
    pub fn ask_again(after_ms: u64, reason: impl Into<String>) -> Self {
        Self::AskAgain(Later { after_ms, reason: reason.into() })
    }
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl From<HostError> for AnsweringError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Unavailable(why) | HostError::Limit(why) => Self::Unavailable(why),
            HostError::NotGranted(why) | HostError::Invalid(why) | HostError::Other(why) => Self::Other(why),
        }
    }
}

impl From<ModelError> for AnsweringError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Unavailable(why) | ModelError::OverBudget(why) | ModelError::Limit(why) => {
                Self::Unavailable(why)
            }
            ModelError::Refused(why) => Self::Unsuitable(why),
            ModelError::NotGranted(why) | ModelError::Invalid(why) | ModelError::Other(why) => {
                Self::Other(why)
            }
        }
    }
}
