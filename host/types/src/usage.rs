//! What a model call used.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A number of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tokens(pub u64);

impl Tokens {
    /// The sum; it never wraps.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Tokens of one call. `cached` is part of `input`, as OpenAI counts; providers that count apart
/// (Anthropic) are converted where their wire format is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// All input tokens.
    pub input: Tokens,
    /// Of these, read from the provider's cache.
    pub cached: Tokens,
    /// Output tokens, reasoning included.
    pub output: Tokens,
}

impl Usage {
    /// Input and output together.
    pub const fn tokens(&self) -> Tokens {
        self.input.plus(self.output)
    }
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It said all it wanted.
    Stop,
    /// The token limit was reached.
    Length,
    /// The provider withheld the rest.
    Filtered,
    /// It waits for what the tools say that it called.
    ToolCalls,
}
