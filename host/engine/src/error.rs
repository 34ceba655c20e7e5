//! What can go wrong on a message's way, and whose fault it is.

use chela_types::{AgentId, Blame, ChannelId, Fault, Retry};
use std::time::Duration;

use crate::swap::SwapRefused;
use crate::swap::playback::Stop;
use crate::trust::Untrusted;
use crate::words;

/// How soon a turn in which the host stopped asks again whether it may run.
const SUSPECT_PAUSE: Duration = Duration::from_secs(1);

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No channel of this name.
    #[error("no channel is called `{0}`")]
    UnknownChannel(String),
    /// No agent of this name.
    #[error("no agent is called `{0}`")]
    UnknownAgent(String),
    /// The request is not what the channel's manifest accepts.
    #[error("channel `{channel}` refused the request: {reason}")]
    Refused {
        /// Which channel.
        channel: ChannelId,
        /// What kind of refusal.
        kind: Refusal,
        /// For the sender's developer; holds nothing secret.
        reason: String,
    },
    /// Too many requests for this channel.
    #[error("channel `{0}` receives more than its rate")]
    Flooded(ChannelId),
    /// A channel's component returned an identity that is not in the request.
    #[error("channel `{channel}` returned {what} that the request does not hold")]
    Forged {
        /// Which channel.
        channel: ChannelId,
        /// What was forged.
        what: &'static str,
    },
    /// A channel's component asked for a request that the manifest or the target forbids.
    #[error("channel `{channel}` asked for a forbidden request: {reason}")]
    ForbiddenRequest {
        /// Which channel.
        channel: ChannelId,
        /// Why it is forbidden.
        reason: String,
    },
    /// A plugin said that it cannot.
    #[error("{who} reported: {reason}")]
    Reported {
        /// Plugin, agent or channel.
        who: String,
        /// Its own words.
        reason: String,
        /// Whether it blames something outside.
        outside: bool,
    },
    /// An agent broke a rule of the contract.
    #[error("agent `{agent}` {what}")]
    Misbehaved {
        /// Which.
        agent: AgentId,
        /// What it did.
        what: String,
    },
    /// An agent's share of concurrency or rate is used up.
    #[error("agent `{agent}` is busy")]
    Busy {
        /// Which.
        agent: AgentId,
        /// When to come again.
        after: Duration,
    },
    /// The agent wants to be run again later.
    #[error("agent `{agent}` asked to be run again later")]
    AskedAgain {
        /// Which.
        agent: AgentId,
        /// When.
        after: Duration,
    },
    /// The host stopped in the middle of this turn before, and another such turn runs.
    #[error("turns in which the host stopped run one at a time")]
    Suspect,
    /// The host stopped in the middle of this turn too often.
    #[error("the host stopped {0} times in this turn")]
    Crashed(u32),
    /// No agent may be reached from where the message came.
    #[error("no agent may be reached from channel `{0}`")]
    Unreachable(ChannelId),
    /// The platform did not take the answer.
    #[error("channel `{channel}` could not deliver: {reason}")]
    Undelivered {
        /// Which channel.
        channel: ChannelId,
        /// What the platform or the network said.
        reason: String,
        /// When to try again; `None`: as the back-off says.
        after: Option<Duration>,
    },
    /// A request was sent and no response came: the platform may have the answer.
    #[error("channel `{channel}` does not know whether it delivered: {reason}")]
    Unknown {
        /// Which channel.
        channel: ChannelId,
        /// What the network or the platform said.
        reason: String,
        /// When to try again; `None`: as the back-off says.
        after: Option<Duration>,
    },
    /// The configuration cannot run.
    #[error("{0}")]
    Configuration(String),
    /// An order about versions that is not carried out.
    #[error(transparent)]
    Swap(#[from] SwapRefused),
    /// A build that may not serve.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// A run of what is recorded ended where the recording does.
    #[error(transparent)]
    Replay(#[from] Stop),
    /// A plugin failed to load or a call of it failed.
    #[error(transparent)]
    Sandbox(chela_sandbox::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] chela_store::Error),
    /// The gateway.
    #[error(transparent)]
    Gateway(#[from] chela_gateway::Error),
    /// The network.
    #[error(transparent)]
    Egress(#[from] chela_egress::Error),
}

impl Error {
    /// One word for how a plugin failed: what its versions' failures are counted by.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Sandbox(error) => error.outcome(),
            Self::Reported { .. } => "reported",
            _ => "misbehaved",
        }
    }

    /// A plugin's own words, as they are kept.
    pub(crate) fn reported(who: String, words: &str, outside: bool) -> Self {
        Self::Reported { who, reason: words::reason(words), outside }
    }

    /// An agent that names an outage where none of its calls failed was right once, and would be for ever: what it
    /// was told is in the journal, so that it is its own fault.
    pub(crate) fn if_outage(self, outage: bool) -> Self {
        match self {
            Self::Reported { who, reason, outside } => {
                Self::Reported { who, reason, outside: outside && outage }
            }
            other => other,
        }
    }

    /// A request that an adapter could not read.
    pub(crate) fn is_malformed(&self) -> bool {
        matches!(self, Self::Refused { kind: Refusal::Malformed, .. })
    }

    /// For the log, which holds no words of plugins: they may repeat what a person said.
    pub(crate) fn outline(&self) -> String {
        match self {
            Self::Reported { who, .. } => {
                format!("{who} reported an error; its words are in the turn's record")
            }
            Self::Undelivered { channel, .. } => format!("channel `{channel}` could not deliver"),
            other => other.to_string(),
        }
    }
}

/// Why a request was refused before anything was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not signed, wrongly signed, stale, or no session.
    Unverified,
    /// Another method than declared.
    Method,
    /// Another content type than declared.
    ContentType,
    /// Too long.
    TooLarge,
    /// Not what the platform sends: not JSON, too deep, a key twice, no identity.
    Malformed,
}

impl Refusal {
    /// A short word for metrics and bodies.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unverified => "unverified",
            Self::Method => "method",
            Self::ContentType => "content_type",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
        }
    }
}

impl From<chela_sandbox::Error> for Error {
    /// What a station itself reported through a guest's trap comes back as it was.
    fn from(error: chela_sandbox::Error) -> Self {
        let chela_sandbox::Error { plugin, version, reason } = error;
        match *reason {
            chela_sandbox::Reason::Host(host) if host.downcast_ref::<Self>().is_some() => {
                match host.into_inner().downcast::<Self>() {
                    Ok(own) => *own,
                    Err(other) => Self::Configuration(other.to_string()),
                }
            }
            reason => Self::Sandbox(chela_sandbox::Error { plugin, version, reason: Box::new(reason) }),
        }
    }
}

impl Fault for Error {
    fn blame(&self) -> Blame {
        match self {
            Self::UnknownChannel(_) | Self::UnknownAgent(_) | Self::Refused { .. } | Self::Flooded(_) => {
                Blame::Sender
            }
            Self::Reported { outside: true, .. } | Self::Undelivered { .. } | Self::Unknown { .. } => {
                Blame::Provider
            }
            Self::Forged { .. }
            | Self::ForbiddenRequest { .. }
            | Self::Reported { .. }
            | Self::Misbehaved { .. }
            | Self::AskedAgain { .. } => Blame::Plugin,
            Self::Busy { .. } | Self::Suspect | Self::Crashed(_) | Self::Replay(_) => Blame::Host,
            Self::Unreachable(_) | Self::Configuration(_) | Self::Swap(_) | Self::Untrusted(_) => {
                Blame::Operator
            }
            Self::Sandbox(error) => error.blame(),
            Self::Store(error) => error.blame(),
            Self::Gateway(error) => error.blame(),
            Self::Egress(error) => error.blame(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::UnknownChannel(_)
            | Self::UnknownAgent(_)
            | Self::Refused { .. }
            | Self::Unreachable(_)
            | Self::Crashed(_)
            | Self::Configuration(_)
            | Self::Swap(_)
            | Self::Untrusted(_)
            | Self::Replay(_) => Retry::Never,
            Self::Undelivered { after, .. } | Self::Unknown { after, .. } => {
                Retry::Later(after.unwrap_or_default())
            }
            Self::Busy { after, .. } | Self::AskedAgain { after, .. } => Retry::Later(*after),
            Self::Suspect => Retry::Later(SUSPECT_PAUSE),
            Self::Flooded(_)
            | Self::Forged { .. }
            | Self::ForbiddenRequest { .. }
            | Self::Reported { .. }
            | Self::Misbehaved { .. } => Retry::Later(Duration::ZERO),
            Self::Sandbox(error) => error.retry(),
            Self::Store(error) => error.retry(),
            Self::Gateway(error) => error.retry(),
            Self::Egress(error) => error.retry(),
        }
    }
}
