//! Every error answers two questions: whose fault is it, and does trying again help?
//!
//! Queues, failover and HTTP edges decide by these two answers, never by an error's text. The idea is
//! pingora's (`pingora-error`).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// Whoever sent the request: refused, nothing kept.
    Sender,
    /// A plugin: counts towards the dead letter.
    Plugin,
    /// Something outside (a model provider, a chat platform): the turn waits.
    Provider,
    /// This host or its disk.
    Host,
    /// The operator's configuration.
    Operator,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sender => "sender",
            Self::Plugin => "plugin",
            Self::Provider => "provider",
            Self::Host => "host",
            Self::Operator => "operator",
        })
    }
}

/// Whether trying again helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same request will fail again.
    Never,
    /// The same request may succeed here, not before this long; zero: as the caller's back-off says.
    Later(Duration),
    /// Another provider may do it now.
    Elsewhere,
}

/// What every room's error can say about itself.
pub trait Fault: std::error::Error {
    /// Whose fault.
    fn blame(&self) -> Blame;
    /// Whether trying again helps.
    fn retry(&self) -> Retry;
}
