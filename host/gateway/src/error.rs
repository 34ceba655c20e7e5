//! Why a call has no answer. Classes decide what happens next, never the text of an error.
//!
//! An error carries the record of the call, so that a refusal can be explained and a failed attempt that may
//! have cost is paid. A provider's own words are not repeated: they may quote the prompt. Its error *code* is.

use chela_types::{Blame, Fault, ModelCall, Quantity, Retry, TierId};
use std::time::Duration;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Kind {
    /// A budget does not cover the call's worst case.
    #[error("budget `{scope}` is used up: {used} of {limit}")]
    OverBudget {
        /// `agent:…`, `key:…`, `user:…`, `channel:…`, `department:…` or `global`, with window and unit: `user:U1/minute/requests`.
        scope: String,
        /// Its limit, raises counted.
        limit: Quantity,
        /// Settled and reserved in this window.
        used: Quantity,
        /// When the next window begins.
        again: Duration,
    },
    /// The request itself is wrong, as the provider says, or as can be seen before it is asked.
    #[error("model request was not accepted ({code})")]
    Invalid {
        /// The provider's error code, or what is wrong.
        code: String,
    },
    /// The input is longer than this model can read.
    #[error("input is too long for the model ({code})")]
    TooLong {
        /// The provider's error code.
        code: String,
    },
    /// The model's wire format has no place for something that the call asks.
    #[error("model cannot be asked for {what}")]
    Unsupported {
        /// What that is.
        what: &'static str,
    },
    /// The provider is down, overloaded, or cannot be reached.
    #[error("model provider is unavailable ({code})")]
    Unavailable {
        /// The provider's error code, or what failed.
        code: String,
        /// What it asks to wait; zero if it does not say.
        retry_after: Duration,
    },
    /// Too slow to the first token, silent, or too slow in what it said.
    #[error("model provider was silent or too slow for {after:?}")]
    TooSlow {
        /// How long it was waited for.
        after: Duration,
    },
    /// The model used all the tokens that it may say up before its first word: it thinks, and needs more room.
    #[error("model came to its limit of tokens before its first word")]
    NoRoom,
    /// The provider withheld the answer.
    #[error("model provider refused the content")]
    Refused,
    /// Too many requests.
    #[error("model provider limits the rate")]
    RateLimited {
        /// What it asks to wait; zero if it does not say.
        retry_after: Duration,
    },
    /// The key's account is empty or its quota used up. Not asked again before a long rest: this is no matter of rate.
    #[error("model provider's account is empty or its quota is used up ({code})")]
    Quota {
        /// The provider's error code.
        code: String,
        /// When it is tried again.
        retry_after: Duration,
    },
    /// The key is missing or wrong: `[provider.…] key`.
    #[error("model provider does not accept the key or account ({code})")]
    Auth {
        /// The provider's error code.
        code: String,
    },
    /// The answer does not follow the wire format, or there is nothing in it.
    #[error("model provider's answer was not understood: {what}")]
    BadResponse {
        /// What was wrong.
        what: &'static str,
    },
    /// The answer broke off after some of it had been passed on.
    #[error("model's answer broke off")]
    Interrupted,
    /// No such tier.
    #[error("tier `{0}` is not configured")]
    UnknownTier(TierId),
    /// The egress rules forbid the provider's address.
    #[error("provider's address is refused")]
    Denied,
    /// The ledger could not be written.
    #[error("ledger could not be written")]
    Ledger {
        /// Whose fault, as the store says.
        blame: Blame,
        /// Whether later helps, as the store says.
        again: bool,
    },
    /// The configuration cannot work.
    #[error("{0}")]
    Config(String),
}

impl Kind {
    /// The class as it stands in records and metrics.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::OverBudget { .. } => "over_budget",
            Self::Invalid { .. } => "invalid",
            Self::TooLong { .. } => "too_long",
            Self::Unsupported { .. } => "unsupported",
            Self::Unavailable { .. } => "unavailable",
            Self::TooSlow { .. } => "too_slow",
            Self::NoRoom => "no_room",
            Self::Refused => "refused",
            Self::RateLimited { .. } => "rate_limited",
            Self::Quota { .. } => "quota",
            Self::Auth { .. } => "auth",
            Self::BadResponse { .. } => "bad_response",
            Self::Interrupted => "interrupted",
            Self::UnknownTier(_) => "unknown_tier",
            Self::Denied => "denied",
            Self::Ledger { .. } => "ledger",
            Self::Config(_) => "config",
        }
    }

    /// Whether another provider may do better, as long as nothing was shown yet.
    pub(crate) const fn elsewhere(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::TooSlow { .. }
                | Self::RateLimited { .. }
                | Self::Quota { .. }
                | Self::Auth { .. }
                | Self::TooLong { .. }
                | Self::Unsupported { .. }
                | Self::NoRoom
                | Self::BadResponse { .. }
                | Self::Denied
        )
    }

    /// Whether the same call may succeed after a while.
    pub(crate) const fn passes(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::TooSlow { .. }
                | Self::RateLimited { .. }
                | Self::BadResponse { .. }
                | Self::Interrupted
        )
    }

    /// What the provider asks to wait before the same call is made again, or a budget.
    pub const fn retry_after(&self) -> Duration {
        match self {
            Self::RateLimited { retry_after }
            | Self::Unavailable { retry_after, .. }
            | Self::Quota { retry_after, .. } => *retry_after,
            Self::OverBudget { again, .. } => *again,
            _ => Duration::ZERO,
        }
    }
}

/// A call without an answer.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct Error {
    /// What went wrong.
    pub kind: Kind,
    /// The record: attempts, what was reserved, what it cost all the same.
    pub call: Option<Box<ModelCall>>,
    #[source]
    cause: Option<Cause>,
}

impl Error {
    /// Without record and cause.
    pub fn new(kind: Kind) -> Self {
        Self { kind, call: None, cause: None }
    }

    /// With the record.
    #[must_use]
    pub fn with_call(mut self, call: ModelCall) -> Self {
        self.call = Some(Box::new(call));
        self
    }

    /// With the cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl Fault for Error {
    fn blame(&self) -> Blame {
        match &self.kind {
            Kind::Invalid { .. }
            | Kind::TooLong { .. }
            | Kind::Unsupported { .. }
            | Kind::NoRoom
            | Kind::UnknownTier(_) => Blame::Plugin,
            Kind::OverBudget { .. }
            | Kind::Quota { .. }
            | Kind::Auth { .. }
            | Kind::Denied
            | Kind::Config(_) => Blame::Operator,
            Kind::Ledger { blame, .. } => *blame,
            _ => Blame::Provider,
        }
    }

    /// Never [`Retry::Elsewhere`]: elsewhere has been tried here already.
    fn retry(&self) -> Retry {
        match &self.kind {
            // The key or the address can be put right while the turn waits.
            Kind::Auth { .. } | Kind::Denied | Kind::Ledger { again: true, .. } => {
                Retry::Later(Duration::ZERO)
            }
            // The account can be filled meanwhile.
            Kind::Quota { retry_after, .. } => Retry::Later(*retry_after),
            kind if kind.passes() => Retry::Later(kind.retry_after()),
            _ => Retry::Never,
        }
    }
}
