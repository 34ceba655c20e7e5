//! What the engine is told: agents, channels, routing, delivery. Plain and resolved; nobody below the
//! composition root reads files or the environment.

use chela_gateway::CacheLevel;
use chela_sandbox::{Grants, Level, Limits, Source};
use chela_types::{AgentId, ChannelId, DepartmentId, Digest, PluginId, TenantId, TierId};
use secrecy::SecretString;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::trust::TrustConfig;

/// Everything the engine runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The organisation.
    pub tenant: TenantId,
    /// Plugins by name.
    pub plugins: BTreeMap<PluginId, PluginConfig>,
    /// Agents by name.
    pub agents: BTreeMap<AgentId, AgentConfig>,
    /// Turns that each department's agents may run at once, all together; absent: no bound of its own.
    pub departments: BTreeMap<DepartmentId, usize>,
    /// How much of the host each department is to have where all want more, from 1; 1 for those that are not here.
    pub weights: BTreeMap<DepartmentId, u32>,
    /// Channel accounts by name.
    pub channels: BTreeMap<ChannelId, ChannelConfig>,
    /// Who routes.
    pub routing: RoutingConfig,
    /// How turns are repeated and given up.
    pub delivery: DeliveryConfig,
    /// How plugins are swapped.
    pub swap: SwapConfig,
    /// Whose plugins may serve, and where.
    pub trust: TrustConfig,
    /// How long what is old is kept.
    pub retention: RetentionConfig,
    /// How many turns run at once.
    pub turns_max: usize,
    /// How many requests of platforms may wait for their answer at once.
    pub waiting_max: usize,
    /// How long a turn may hold its conversation without a heartbeat; as the store's.
    pub lease: Duration,
    /// Key of the host's own web sessions: 32 random bytes that outlive a restart.
    pub session_key: [u8; 32],
    /// Secrets of other rooms (models, operators) that no plugin's request may hold.
    pub guarded: Vec<SecretString>,
}

impl Config {
    /// Where a channel's new conversations wait: with its department's, or its default agent's.
    pub(crate) fn lane_of(&self, channel: &ChannelId) -> String {
        let Some(channel) = self.channels.get(channel) else { return String::new() };
        let agent = self.agents.get(&channel.default_agent).and_then(|agent| agent.department.as_ref());
        channel.department.as_ref().or(agent).map(ToString::to_string).unwrap_or_default()
    }

    /// Lanes by their weight; the organisation's own has none.
    pub(crate) fn lanes(&self) -> BTreeMap<String, u32> {
        let of_agents = self.agents.values().filter_map(|agent| agent.department.as_ref());
        let of_channels = self.channels.values().filter_map(|channel| channel.department.as_ref());
        let weight = |id: &DepartmentId| (id.to_string(), self.weights.get(id).copied().unwrap_or(1));
        of_agents.chain(of_channels).map(weight).collect()
    }

    /// Every secret that this host holds.
    pub(crate) fn all_secrets(&self) -> impl Iterator<Item = &SecretString> {
        let plugins = self.plugins.values().flat_map(|plugin| plugin.secrets.values());
        let channels = self.channels.values().flat_map(|channel| channel.secrets.values());
        self.guarded.iter().chain(plugins).chain(channels)
    }
}

/// A plugin as the operator grants it.
#[derive(Debug, Clone)]
pub struct PluginConfig {
    /// Where it comes from.
    pub source: Source,
    /// What the operator gives it.
    pub grants: Grants,
    /// Where its calls run; absent: in this process if its build is trusted, else in one of their own.
    pub level: Option<Level>,
    /// Limits of each call, all written down.
    pub limits: Limits,
    /// Its configuration, over the manifest's defaults.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Named secrets, for its requests.
    pub secrets: BTreeMap<String, SecretString>,
}

/// An agent.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The component that is this agent.
    pub plugin: PluginId,
    /// Whose it is.
    pub department: Option<DepartmentId>,
    /// One line for routers and colleagues.
    pub description: String,
    /// System prompt.
    pub persona: String,
    /// Usual tier.
    pub tier: TierId,
    /// Tiers it may also ask for.
    pub tiers_allowed: Vec<TierId>,
    /// Its documents: name of the collection and digest of their contents.
    pub knowledge: Option<(String, Digest)>,
    /// From where it may be reached; `None`: from every channel.
    pub reachable_from: Option<Vec<Origin>>,
    /// Whether people from outside the organisation reach it.
    pub outsiders: bool,
    /// Nothing of it is cached.
    pub confidential: bool,
    /// What may answer its model calls instead of a model.
    pub cache: CacheLevel,
    /// How long its answers are kept; the cache's own time if absent.
    pub cache_ttl: Option<Duration>,
    /// Where a budget is used up.
    pub over_budget: OverBudget,
    /// How long its people wait at most, if that was promised.
    pub answer_within: Option<Duration>,
    /// Messages a minute.
    pub rate_per_minute: u32,
    /// Turns at once.
    pub concurrency: usize,
    /// Earlier utterances it is shown.
    pub history: usize,
    /// Over the plugin's configuration.
    pub config: serde_json::Map<String, serde_json::Value>,
}

impl AgentConfig {
    /// Where conversations wait that it has answered; none of its own if it is nobody's.
    pub(crate) fn lane(&self) -> Option<String> {
        self.department.as_ref().map(ToString::to_string)
    }
}

/// What becomes of a turn in which a budget had no room for a model call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverBudget {
    /// What the agent is told, and may say.
    pub refusal: String,
    /// Whether a human is wanted then.
    pub to_human: bool,
}

impl Default for OverBudget {
    /// The agent says so, in the usual words.
    fn default() -> Self {
        let refusal = "The budget for this is used up for now. Please try again later.".to_owned();
        Self { refusal, to_human: false }
    }
}

/// A place from which an agent may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The channel account.
    pub channel: ChannelId,
    /// One room of it; `None`: all of it.
    pub place: Option<String>,
}

/// A channel account.
#[derive(Debug, Clone)]
pub struct ChannelConfig {
    /// The adapter.
    pub plugin: PluginId,
    /// Whose it is.
    pub department: Option<DepartmentId>,
    /// Who answers if no router says otherwise.
    pub default_agent: AgentId,
    /// False: the default agent always answers.
    pub routed: bool,
    /// True: a channel of the host's own, such as the operator's terminal. `reachable_from` does not count, and no webhook
    /// leads to it.
    pub operator: bool,
    /// The agents that may be reached from a channel of the host's own; `None`: every one.
    pub reaches: Option<BTreeSet<AgentId>>,
    /// What happens to a send whose outcome a crash has hidden.
    pub ambiguous: Ambiguous,
    /// Named secrets.
    pub secrets: BTreeMap<String, SecretString>,
    /// Over the plugin's configuration.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Verified requests a minute.
    pub rate_per_minute: u32,
    /// Shows answers while they are made, by editing a post.
    pub progress: bool,
}

/// What happens to a send whose outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ambiguous {
    /// It is sent again: the person may read it twice.
    AtLeastOnce,
    /// It is not: the person may never read it.
    AtMostOnce,
}

/// Who routes.
#[derive(Debug, Clone)]
pub struct RoutingConfig {
    /// The router component; `None`: the policy alone.
    pub router: Option<PluginId>,
    /// Who answers where the channel's default may not.
    pub fallback: Option<AgentId>,
    /// Keep a conversation with the agent that answered last, if the router has no opinion.
    pub sticky: bool,
    /// Hand-overs in one turn.
    pub hand_overs_max: usize,
}

/// How turns are repeated and given up.
#[derive(Debug, Clone)]
pub struct DeliveryConfig {
    /// Tries that are the plugin's fault before the dead letter.
    pub tries_max: u32,
    /// Crashes of the host in the middle of one turn before the dead letter.
    pub crashes_max: u32,
    /// How long a turn waits for something outside.
    pub wait_max: Duration,
    /// Sends of one answer whose outcome nobody knows before it is given up.
    pub unknown_max: u32,
    /// First pause between tries.
    pub backoff_min: Duration,
    /// Longest pause between tries.
    pub backoff_max: Duration,
    /// What the person reads when a turn is given up.
    pub notice: String,
    /// Requests that one answer may take.
    pub steps_max: usize,
}

/// How plugins are swapped.
#[derive(Debug, Clone, PartialEq)]
pub struct SwapConfig {
    /// Whether what is found in a folder becomes active by itself.
    pub reload: Reload,
    /// Calls of a new version that may be under way or gone wrong before it is trusted; the rest goes to the version
    /// before.
    pub trial_calls: u32,
    /// How long a new version is compared with the one before.
    pub watch: Duration,
    /// Calls before a rate says anything.
    pub calls_min: u32,
    /// Failures before anything is done.
    pub failures_min: u32,
    /// Percent of calls that may fail beyond what the version before did.
    pub failures_percent: u8,
    /// How many times as slow as the version before it may be.
    pub latency_factor: f64,
    /// Slowness below this is none.
    pub latency_floor: Duration,
    /// Percent of messages that may go elsewhere than the version before sent them.
    pub drift_percent: u8,
    /// Decisions of either before a drift says anything.
    pub drift_calls_min: u32,
    /// How much a shadow runs.
    pub shadow: ShadowConfig,
}

/// How long what is old is kept, at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionConfig {
    /// What was said and answered, with its journal, after its turn has closed; absent: for ever.
    pub words: Option<Duration>,
    /// Versions that nothing names any more, after something last became of them.
    pub versions: Duration,
}

impl RetentionConfig {
    /// As documented.
    pub const STANDARD: Self = Self { words: None, versions: Duration::from_secs(30 * 24 * 3_600) };
}

/// Whether what is found in a folder becomes active by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// It does, on trial first.
    Auto,
    /// It is loaded, reported, and waits for somebody to promote it.
    Manual,
}

/// How much a shadow runs, and what it must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowConfig {
    /// Calls of it at once; more are skipped.
    pub in_flight_max: usize,
    /// Of a hundred calls, how many are shadowed.
    pub percent: u8,
    /// Whether it may ask models what the active run has not asked, billed to the scope `shadow`.
    pub models: bool,
    /// Differences that are remembered.
    pub examples_max: usize,
    /// Compared calls before a promotion; 0: none are needed.
    pub calls_min: u32,
    /// Percent of them that may differ then.
    pub differences_percent: u8,
}

impl SwapConfig {
    /// As documented in the reference of the configuration.
    pub const STANDARD: Self = Self {
        reload: Reload::Auto,
        trial_calls: 16,
        watch: Duration::from_secs(600),
        calls_min: 20,
        failures_min: 3,
        failures_percent: 5,
        latency_factor: 3.0,
        latency_floor: Duration::from_millis(50),
        drift_percent: 30,
        drift_calls_min: 50,
        shadow: ShadowConfig {
            in_flight_max: 8,
            percent: 100,
            models: false,
            examples_max: 20,
            calls_min: 0,
            differences_percent: 100,
        },
    };
}
