//! Ids. Names come from configuration and are checked once; numbers are made by the host and are time-ordered.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// Why a text is not a valid name.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error("`{0}` is not a valid name: 1 to 64 of a-z, 0-9, `-`, `_`, starting with a letter or digit")]
pub struct IdError(String);

/// Longest name in bytes: names stand in labels, keys and paths.
const NAME_BYTES_MAX: usize = 64;

fn valid(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let all = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    first && all && text.len() <= NAME_BYTES_MAX
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the spelling: 1 to 64 of `a-z 0-9 - _`, starting with a letter or digit.
            ///
            /// # Errors
            /// [`IdError`] with the text if it is spelled otherwise.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                if valid(&text) { Ok(Self(text.into())) } else { Err(IdError(text)) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }
    };
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id: time-ordered (UUID version 7), unique for ever.
            #[allow(clippy::new_without_default, reason = "an id is never a neutral value")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The same number from its 16 bytes, as the store keeps it.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_simple().fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text).map(Self).map_err(|_| IdError(text.to_owned()))
            }
        }
    };
}

name!(/** An organisation. One called `default` unless configured. */ TenantId);
name!(/** A department of a tenant. */ DepartmentId);
name!(/** A channel account: one Slack workspace's app, one web chat. */ ChannelId);
name!(/** A configured agent. */ AgentId);
name!(/** A loaded plugin, as named in the configuration. */ PluginId);
name!(/** A tier of models (`fast`, `smart` …). */ TierId);

number!(/** The handling of one inbound message, from its arrival to its answer's delivery. */ TurnId);
number!(/** One answer on its way out. */ OutboxId);
number!(/** Money set aside for one model call. */ ReservationId);

/// A conversation's row number in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConversationId(pub i64);

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl TenantId {
    /// The tenant of an installation that names none.
    pub fn default_tenant() -> Self {
        Self("default".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_checked_once() {
        for good in ["a", "hr", "slack-internal", "7up", "a_b"] {
            assert_eq!(AgentId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "A", "a b", "ä", "a/b", "../x", &"a".repeat(65)] {
            assert!(AgentId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_survives_text_and_bytes() {
        let id = TurnId::new();
        assert_eq!(id.to_string().parse::<TurnId>().unwrap(), id);
        assert_eq!(TurnId::from_bytes(*id.as_bytes()), id);
    }
}
