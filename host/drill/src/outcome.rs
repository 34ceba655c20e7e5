//! How an attack ended, as one word: what is typed in the host's errors, and nothing of their text.

use chela_engine::Error;
use chela_sandbox::{Limit, Reason, Refusal};
use std::fmt;

/// How an attack ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was served; whether what it said is harmless is asked apart.
    Answered,
    /// It was not loaded, for this reason.
    Refused(&'static str),
    /// Its call trapped.
    Trap,
    /// Its call took too long.
    Timeout,
    /// Its call took too long, and waited for the host.
    Waiting,
    /// It reached a limit.
    Limit(Limit),
    /// The process that ran it ended.
    Worker,
    /// An identity that the request does not hold.
    Forged,
    /// A request that its manifest or the target forbids.
    Forbidden,
    /// It broke a rule of the contract.
    Misbehaved,
    /// It said itself that it cannot.
    Reported,
    /// Its request was not sent.
    Unsent,
    /// The host failed: never what must come of an attack.
    Host,
}

impl Outcome {
    pub(crate) fn of<T>(ended: &Result<T, Error>) -> Self {
        match ended {
            Ok(_) => Self::Answered,
            Err(Error::Sandbox(error)) => match &*error.reason {
                Reason::Refused(refusal) => Self::Refused(refused(refusal)),
                Reason::Trap { .. } => Self::Trap,
                Reason::Timeout(_) => Self::Timeout,
                Reason::Waiting { .. } => Self::Waiting,
                // The host's own: somebody else would be kept out.
                Reason::Limit { limit: Limit::Pool, .. } => Self::Host,
                Reason::Limit { limit, .. } => Self::Limit(*limit),
                Reason::Worker(_) => Self::Worker,
                _ => Self::Host,
            },
            Err(Error::Forged { .. }) => Self::Forged,
            Err(Error::ForbiddenRequest { .. }) => Self::Forbidden,
            Err(Error::Misbehaved { .. }) => Self::Misbehaved,
            Err(Error::Reported { .. } | Error::Refused { .. }) => Self::Reported,
            Err(Error::Undelivered { .. } | Error::Egress(_)) => Self::Unsent,
            Err(_) => Self::Host,
        }
    }
}

/// One word for each refusal; those that no attack is to meet share one.
fn refused(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Manifest(_) => "manifest",
        Refusal::TooLarge { .. } => "too large",
        Refusal::NotWasm => "not wasm",
        Refusal::CoreModule => "core module",
        Refusal::Invalid { .. } => "invalid",
        Refusal::Kind { .. } => "kind",
        Refusal::World { .. } => "world",
        Refusal::Contract { .. } => "contract",
        Refusal::Import { .. } => "import",
        Refusal::NotInWorld { .. } => "not in world",
        Refusal::NotRequested { .. } => "not requested",
        Refusal::NotGranted { .. } => "not granted",
        Refusal::Init { .. } => "init",
        Refusal::InitTrap { .. } => "init trapped",
        Refusal::InitLimit { .. } => "init limit",
        Refusal::InitHandles => "init handles",
        Refusal::Snapshot { .. } => "snapshot",
        Refusal::Compile { .. } => "compile",
        Refusal::Preparation { .. } => "preparation",
        _ => "other",
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered => f.write_str("answered, harmless"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Trap => f.write_str("trap"),
            Self::Timeout => f.write_str("timeout"),
            Self::Waiting => f.write_str("waiting"),
            Self::Limit(limit) => write!(f, "limit: {limit}"),
            Self::Worker => f.write_str("worker ended"),
            Self::Forged => f.write_str("forged"),
            Self::Forbidden => f.write_str("forbidden request"),
            Self::Misbehaved => f.write_str("rule broken"),
            Self::Reported => f.write_str("reported"),
            Self::Unsent => f.write_str("not sent"),
            Self::Host => f.write_str("the host failed"),
        }
    }
}
