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

/// Tokens of one call. `cached` and `written` are parts of `input`, as OpenAI counts; providers that count apart
/// (Anthropic) are converted where their wire format is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// All input tokens.
    pub input: Tokens,
    /// Of these, read from the provider's cache.
    pub cached: Tokens,
    /// Of these, written to the provider's cache. Records that were kept before it was counted have none.
    #[serde(default)]
    pub written: Tokens,
    /// Output tokens, reasoning included.
    pub output: Tokens,
}

impl Usage {
    /// No tokens at all.
    pub const NONE: Self =
        Self { input: Tokens(0), cached: Tokens(0), written: Tokens(0), output: Tokens(0) };

    /// Input and output together.
    pub const fn tokens(&self) -> Tokens {
        self.input.plus(self.output)
    }

    /// Input tokens that were neither read from the provider's cache nor written to it.
    pub const fn fresh(&self) -> Tokens {
        Tokens(self.input.0.saturating_sub(self.cached.0).saturating_sub(self.written.0))
    }

    /// Whether the parts of the input are no more than all of it.
    pub fn is_consistent(&self) -> bool {
        self.cached.0.checked_add(self.written.0).is_some_and(|parts| parts <= self.input.0)
    }

    /// The sum of both, class by class.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            input: self.input.plus(other.input),
            cached: self.cached.plus(other.cached),
            written: self.written.plus(other.written),
            output: self.output.plus(other.output),
        }
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
