//! The table about whose plugins may serve: `trust`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of plugins that no trusted key has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Unsigned {
    /// They are refused.
    Refuse,
    /// They run, in a process of their own.
    Worker,
}

/// Whose plugins may serve.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Trust {
    /// What becomes of plugins that no key of `[trust.signer]` has signed and that do not come with the program. Left out:
    /// `refuse` where `swap.reload` is `manual`, else `worker`.
    pub(in crate::config) unsigned: Option<Unsigned>,
    /// What is trusted no more: keys (`ed25519:…`), with all that they have signed, and components by their digest
    /// (64 hex digits, as `chela plugin inspect` shows it). It begins no call from the reload on.
    pub(in crate::config) revoked: Vec<String>,
    /// Keys whose plugins are trusted, by name.
    pub(in crate::config) signer: BTreeMap<String, Signer>,
}

/// A key whose plugins are trusted. `chela plugin keygen` makes one.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Signer {
    /// The public key, `ed25519:…`.
    pub(in crate::config) public: String,
    /// Departments for whose agents and channels it may sign. Left out: for all, and for what serves the whole
    /// organisation (the router, agents and channels without a department).
    #[schemars(extend("items" = {"type": "string", "format": "department"}))]
    pub(in crate::config) departments: Option<Vec<String>>,
}
