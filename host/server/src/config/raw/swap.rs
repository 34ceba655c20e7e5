//! The tables about change while the host runs: `swap`, and who may order it: `operator`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of a new version of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Reload {
    /// It is loaded and becomes active, on trial first.
    Auto,
    /// It is loaded, reported, and waits for somebody to promote it.
    Manual,
}

/// How changes of this file, of plugins and of documents are taken over while the host runs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Swap {
    /// Whether a new version that is found in a plugin's folder becomes active by itself (on trial first), or waits for
    /// `chela plugin promote`.
    pub(in crate::config) reload: Reload,
    /// How often all files are looked at, where the system does not tell that they changed (network file systems).
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) poll_s: u64,
    /// Calls of a new version that may be under way or gone wrong before it is trusted; the rest goes to the version
    /// before.
    #[schemars(range(min = 1, max = 1_000))]
    pub(in crate::config) trial_calls: u32,
    /// How long a new version is compared with the one before. 0: not at all.
    #[schemars(range(min = 0, max = 86_400))]
    pub(in crate::config) watch_s: u64,
    /// Calls before a rate of failures or a latency says anything.
    #[schemars(range(min = 1, max = 100_000))]
    pub(in crate::config) min_calls: u32,
    /// Failures before a version is taken back.
    #[schemars(range(min = 1, max = 1_000))]
    pub(in crate::config) min_failures: u32,
    /// Percent of calls that may fail beyond what the version before did.
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::config) failure_percent: u8,
    /// How many times as slow as the version before a new one may be.
    #[schemars(range(min = 1, max = 1_000))]
    pub(in crate::config) latency_factor: f64,
    /// A version that answers within this time is never too slow.
    #[schemars(range(min = 1, max = 600_000))]
    pub(in crate::config) latency_floor_ms: u64,
    /// Percent of messages that a new router may send elsewhere than the version before did.
    #[schemars(range(min = 1, max = 100))]
    pub(in crate::config) drift_percent: u8,
    /// Decisions of either router before a drift says anything.
    #[schemars(range(min = 1, max = 100_000))]
    pub(in crate::config) drift_min_calls: u32,
    /// Calls of a shadow at once; more are skipped.
    #[schemars(range(min = 1, max = 1_000))]
    pub(in crate::config) shadow_in_flight: u32,
    /// Of a hundred calls, how many are shadowed.
    #[schemars(range(min = 1, max = 100))]
    pub(in crate::config) shadow_percent: u8,
    /// Lets a shadow ask models what the active version has not asked, paid from `budget.shadow`.
    pub(in crate::config) shadow_models: bool,
    /// Differences of a shadow that are remembered.
    #[schemars(range(min = 0, max = 200))]
    pub(in crate::config) shadow_examples: u32,
    /// Compared calls of a shadow that a promotion needs. 0: none.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) promote_after: u32,
    /// Percent of these that may differ.
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::config) promote_differences_percent: u8,
    /// How long a retired version is kept, at least: so long it can be gone back to.
    #[schemars(range(min = 1, max = 3_650))]
    pub(in crate::config) keep_days: u32,
}

impl Default for Swap {
    fn default() -> Self {
        Self {
            reload: Reload::Auto,
            poll_s: 5,
            trial_calls: 16,
            watch_s: 600,
            min_calls: 20,
            min_failures: 3,
            failure_percent: 5,
            latency_factor: 3.0,
            latency_floor_ms: 50,
            drift_percent: 30,
            drift_min_calls: 50,
            shadow_in_flight: 8,
            shadow_percent: 100,
            shadow_models: false,
            shadow_examples: 20,
            promote_after: 0,
            promote_differences_percent: 100,
            keep_days: 30,
        }
    }
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Right {
    /// See how things stand.
    Read,
    /// See what was said.
    Content,
    /// Reload, order plugins, speak to agents.
    Operate,
}

/// Somebody who may use the admin listener, besides the holder of `server.admin_token`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Operator {
    /// His token, of at least 16 characters and no one else's.
    #[schemars(extend("format" = "secret"))]
    pub(in crate::config) token: String,
    /// What he may do: `read` (how things stand), `content` (what was said), `operate` (reload, order plugins, speak to
    /// agents). None includes another.
    #[schemars(length(min = 1))]
    pub(in crate::config) rights: Vec<Right>,
}
