//! What can go wrong on the way out, and what it means.
//!
//! Two questions beyond blame and retry matter here. *May the peer have got it?* ([`Error::reached`]): a
//! delivery that may have arrived is ambiguous, one that did not is simply tried again. And *could an error
//! carry a secret?* No: it names the host, never path, query, header or body.

use chela_types::{Blame, Fault, Retry};
use std::fmt;
use std::time::Duration;

/// What was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A free place among the requests in flight.
    Turn,
    /// Name, TCP and TLS: nothing was sent.
    Connect,
    /// The first byte of the answer.
    FirstByte,
    /// The next piece of the answer.
    Idle,
    /// The whole answer.
    Total,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Turn => "a free place",
            Self::Connect => "a connection",
            Self::FirstByte => "the first byte",
            Self::Idle => "the next byte",
            Self::Total => "the whole answer",
        })
    }
}

/// Which way something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the peer: nothing was sent.
    Out,
    /// From the peer.
    In,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Out => "the request to",
            Self::In => "the answer of",
        })
    }
}

/// A cause, kept as text without the URL.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a request did not get its answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not one that may be asked at all.
    #[error("url of host `{host}` is refused: {reason}")]
    Url {
        /// The host, if there is one.
        host: String,
        /// Why.
        reason: &'static str,
    },
    /// The address is not allowed.
    #[error("connecting to `{host}` is refused: {why}")]
    Denied {
        /// The host.
        host: String,
        /// Why, and which key would allow it.
        why: &'static str,
    },
    /// A header that the host alone sets, or a credential that no header can carry.
    #[error("header `{0}` cannot be set")]
    Header(String),
    /// A secret of this host would have travelled.
    #[error("{way} `{host}` holds a secret of this host")]
    Leak {
        /// The host.
        host: String,
        /// Which way.
        way: Way,
    },
    /// The request could not be signed.
    #[error("signing the request failed")]
    Sign(#[source] chela_types::signature::Error),
    /// No connection came about: name, TCP or TLS. Nothing was sent.
    #[error("connecting to `{host}` failed")]
    Connect {
        /// The host.
        host: String,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// Something took too long.
    #[error("waiting for {phase} from `{host}` took longer than {after:?}")]
    Timeout {
        /// The host.
        host: String,
        /// What was waited for.
        phase: Phase,
        /// How long.
        after: Duration,
    },
    /// The connection broke after it stood.
    #[error("talking to `{host}` broke off")]
    Broken {
        /// The host.
        host: String,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// The answer is larger than allowed.
    #[error("answer of `{host}` is larger than {limit} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// The limit.
        limit: usize,
    },
    /// The answer is not what was agreed (a running host's own socket only).
    #[error("answer of `{host}` was not understood (status {status})")]
    Answer {
        /// The host.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What it said, shortened.
        said: String,
    },
    /// The client could not be built.
    #[error("setting up the http client failed")]
    Setup(#[source] Cause),
}

impl Error {
    /// True if bytes of the request may have reached the peer, so that it may have acted on them.
    pub fn reached(&self) -> bool {
        match self {
            Self::Url { .. } | Self::Denied { .. } | Self::Header(_) | Self::Sign(_) => false,
            Self::Connect { .. } | Self::Setup(_) => false,
            Self::Leak { way, .. } => *way == Way::In,
            Self::Timeout { phase, .. } => !matches!(phase, Phase::Turn | Phase::Connect),
            Self::Broken { .. } | Self::TooLarge { .. } | Self::Answer { .. } => true,
        }
    }
}

impl Fault for Error {
    fn blame(&self) -> Blame {
        match self {
            Self::Url { .. } | Self::Denied { .. } | Self::Header(_) | Self::Sign(_) => Blame::Operator,
            Self::Leak { way: Way::Out, .. } => Blame::Plugin,
            Self::Setup(_) | Self::Timeout { phase: Phase::Turn, .. } => Blame::Host,
            _ => Blame::Provider,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Url { .. } | Self::Denied { .. } | Self::Header(_) | Self::Sign(_) | Self::Setup(_) => {
                Retry::Never
            }
            Self::TooLarge { .. } | Self::Answer { .. } | Self::Leak { .. } => Retry::Never,
            Self::Connect { .. } | Self::Timeout { .. } | Self::Broken { .. } => Retry::Later(Duration::ZERO),
        }
    }
}

/// Sorts an error of the HTTP client. URLs are taken out first: a path or query may hold a secret.
pub(crate) fn sort(host: &str, connect_timeout: Duration, error: reqwest::Error) -> Error {
    if let Some(Error::Denied { host, why }) = find::<Error>(&error) {
        return Error::Denied { host: host.clone(), why };
    }
    let host = host.to_owned();
    match (error.is_connect(), error.is_timeout()) {
        (true, true) => Error::Timeout { host, phase: Phase::Connect, after: connect_timeout },
        (true, false) => Error::Connect { host, source: Box::new(error.without_url()) },
        _ => Error::Broken { host, source: Box::new(error.without_url()) },
    }
}

/// The same failure, of a request that was never begun: what broke was the way there.
pub(crate) fn unsent(error: Error) -> Error {
    match error {
        Error::Broken { host, source } => Error::Connect { host, source },
        other => other,
    }
}

fn find<'a, E: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}
