//! The table about clients that speak the vendors' formats: `api_key`.

use schemars::JsonSchema;
use serde::Deserialize;

/// A key with which a client asks over `/v1`, in the format of OpenAI or of Anthropic.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ApiKey {
    /// The key itself, of at least 32 characters and no one else's.
    #[schemars(extend("format" = "secret"))]
    pub(in crate::config) key: String,
    /// The department that pays for what it asks of tiers and for vectors, too.
    #[schemars(extend("format" = "department"))]
    pub(in crate::config) department: Option<String>,
    /// The person who pays for what it asks of tiers and for vectors. Left out: `key:NAME`. A user that a request names is
    /// `key:NAME/USER`, with a budget of its own.
    #[schemars(length(min = 1, max = 128))]
    pub(in crate::config) user: Option<String>,
    /// Agents that it may speak to, whatever their `reachable_from` says. Left out: none.
    #[serde(default)]
    #[schemars(extend("items" = {"type": "string", "format": "agent"}))]
    pub(in crate::config) agents: Vec<String>,
    /// Tiers that it may ask. Left out: none.
    #[serde(default)]
    #[schemars(extend("items" = {"type": "string", "format": "tier"}))]
    pub(in crate::config) tiers: Vec<String>,
    /// Whether it may have vectors made, by whoever `[embedding]` names. Left out: no.
    #[serde(default)]
    pub(in crate::config) embeddings: bool,
    /// What its calls of tiers and for vectors may use, as in `[budget]`; left out, `budget.agent`.
    #[schemars(extend("format" = "budget"))]
    pub(in crate::config) budget: Option<String>,
    /// Whether what it asks of tiers may be answered by what it was answered before. `false` for who asks the same to read
    /// something else each time.
    #[serde(default = "cache")]
    pub(in crate::config) cache: bool,
    /// Requests in a minute.
    #[serde(default = "requests_per_minute")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) requests_per_minute: u32,
    /// Requests at once, streams included.
    #[serde(default = "concurrency")]
    #[schemars(range(min = 1, max = 10_000))]
    pub(in crate::config) concurrency: u32,
}

const fn cache() -> bool {
    true
}

const fn requests_per_minute() -> u32 {
    120
}

const fn concurrency() -> u32 {
    16
}
