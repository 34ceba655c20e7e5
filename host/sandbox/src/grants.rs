//! Grants: what a plugin may ask of the host. The manifest asks, the operator gives.
//!
//! There is one place where a grant is looked at during a call, [`crate::Call::lend`], below every version of the
//! contract: what is checked in one place can't be forgotten in another.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A capability that a plugin may be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// Language models through the gateway.
    Models,
    /// The agent's own documents.
    Knowledge,
    /// Small values that outlive a turn.
    Memory,
    /// Earlier utterances of the conversation. Not an interface: the host fills `past`.
    History,
    /// Tools behind the host.
    Tools,
    /// Requests to allow-listed hosts.
    Http,
    /// Files.
    Blobs,
}

impl Grant {
    /// Every grant, in the order of the documentation.
    pub const ALL: [Self; 7] =
        [Self::Models, Self::Knowledge, Self::Memory, Self::History, Self::Tools, Self::Http, Self::Blobs];

    /// As it is written in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Knowledge => "knowledge",
            Self::Memory => "memory",
            Self::History => "history",
            Self::Tools => "tools",
            Self::Http => "http",
            Self::Blobs => "blobs",
        }
    }

    /// The grant that an interface of the contract needs (`models` in `chela:plugin/models@0.1.0`), if it is one.
    pub(crate) fn of_interface(name: &str) -> Option<Self> {
        Self::ALL.into_iter().filter(|grant| *grant != Self::History).find(|grant| grant.as_str() == name)
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of grants. Written as a list of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Grant>", into = "Vec<Grant>")]
pub struct Grants(u8);

impl Grants {
    /// No grant.
    pub const NONE: Self = Self(0);

    /// Every grant. For the host's own benches and tests.
    pub fn all() -> Self {
        Grant::ALL.into_iter().collect()
    }

    /// Whether `grant` is in the set.
    pub fn contains(self, grant: Grant) -> bool {
        self.0 & grant.bit() != 0
    }

    /// Those that are in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that are here and not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The grants, in the order of the documentation.
    pub fn iter(self) -> impl Iterator<Item = Grant> {
        Grant::ALL.into_iter().filter(move |grant| self.contains(*grant))
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Self(grants.into_iter().fold(0, |bits, grant| bits | grant.bit()))
    }
}

impl From<Vec<Grant>> for Grants {
    fn from(grants: Vec<Grant>) -> Self {
        grants.into_iter().collect()
    }
}

impl From<Grants> for Vec<Grant> {
    fn from(grants: Grants) -> Self {
        grants.iter().collect()
    }
}

/// A capability that is optional for the plugin and that the operator did not give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{grant}` is optional in plugin.toml and not in `grants` of [plugin.{plugin}] in chela.toml")]
pub struct NotGranted {
    /// The plugin as the configuration names it.
    pub plugin: String,
    /// The capability.
    pub grant: Grant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_written_as_a_list() {
        let grants: Grants = serde_json::from_str(r#"["memory","models"]"#).unwrap();
        assert!(grants.contains(Grant::Models) && grants.contains(Grant::Memory));
        assert!(!grants.contains(Grant::Http));
        assert_eq!(serde_json::to_string(&grants).unwrap(), r#"["models","memory"]"#);
        assert!(serde_json::from_str::<Grants>(r#"["sockets"]"#).is_err());
    }

    #[test]
    fn history_is_no_interface() {
        assert_eq!(Grant::of_interface("history"), None);
        assert_eq!(Grant::of_interface("models"), Some(Grant::Models));
    }
}
