//! The tables about who answers whom: `plugin`, `department`, `agent`, `channel`, `routing`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Free, KindLimits};

/// A host interface that a plugin may import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Grant {
    /// Ask language models.
    Models,
    /// Search the agent's knowledge.
    Knowledge,
    /// Remember values.
    Memory,
    /// Read earlier turns of the conversation.
    History,
    /// Call tools.
    Tools,
    /// Call hosts of an allow-list.
    Http,
    /// Read and write files of messages.
    Blobs,
}

/// Where a plugin's calls run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Isolation {
    /// In a sandbox within this process: for plugins that the operator trusts.
    InProcess,
    /// In a sandbox within a process of its own, which is shut in: it reaches no file, no network and no secret, even if
    /// the sandbox had a hole.
    Worker,
}

/// A plugin.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Plugin {
    /// `builtin:NAME`, or the folder with `plugin.toml` and the component, seen from the configuration's own folder.
    #[schemars(extend("format" = "path"))]
    pub(in crate::config) source: String,
    /// What it may use of what its manifest asks.
    #[serde(default)]
    pub(in crate::config) grants: Vec<Grant>,
    /// Secrets by the names that its manifest's `[credential]` tables use, for requests to where its `[[http]]` tables
    /// say. The host keeps them and puts them in; the plugin never sees them.
    #[serde(default)]
    #[schemars(extend("additionalProperties" = {"type": "string", "format": "secret"}))]
    pub(in crate::config) secrets: BTreeMap<String, String>,
    /// Limits of its own, below or above those of its kind in `[limits]`.
    #[serde(default)]
    pub(in crate::config) limits: KindLimits,
    /// What the plugin is told at its start. It sees all of it: no secrets here.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub(in crate::config) config: Free,
    /// Where its calls run: in this process, or in a jailed one of their own. Left out: in this process if it comes with
    /// the program or a key of `[trust.signer]` has signed it, else in one of their own.
    pub(in crate::config) isolation: Option<Isolation>,
}

/// A department.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Department {
    /// For people who read the configuration.
    #[schemars(length(max = 1_000))]
    pub(in crate::config) description: String,
    /// How much of the host it gets, against the others, where all want more than there is.
    #[schemars(range(min = 1, max = 100))]
    pub(in crate::config) weight: u32,
    /// Turns of all its agents at once; left out, `server.max_turns`.
    #[schemars(range(min = 1, max = 100_000))]
    pub(in crate::config) concurrency: Option<u32>,
    /// What its agents' model calls may use together, as in `[budget]`; left out, `budget.department`.
    #[schemars(extend("format" = "budget"))]
    pub(in crate::config) budget: Option<String>,
    /// From where its agents may be reached, unless an agent says it for itself: `CHANNEL` or `CHANNEL/PLACE`. Left out: from everywhere.
    #[schemars(extend("items" = {"type": "string", "format": "place"}))]
    pub(in crate::config) reachable_from: Option<Vec<String>>,
}

impl Default for Department {
    fn default() -> Self {
        Self { description: String::new(), weight: 1, concurrency: None, budget: None, reachable_from: None }
    }
}

/// Who goes on where a budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum OverBudget {
    /// The agent, which says so.
    #[default]
    Answer,
    /// A human.
    Human,
}

/// How the tier of an agent's call is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum TierPolicy {
    /// Always its own.
    Fixed,
    /// The one that the plugin asks for.
    #[default]
    Wish,
    /// Its own or a cheaper one, as a scorer says.
    Calibrated,
}

/// What may answer a model call instead of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum CacheLevel {
    /// Nothing.
    Off,
    /// What was answered to exactly this.
    Exact,
    /// And what was answered to the same question in another form.
    Canonical,
    /// And what was answered to a similar question, where `cache.similar_error` holds.
    Similar,
}

impl From<CacheLevel> for chela_gateway::CacheLevel {
    fn from(level: CacheLevel) -> Self {
        match level {
            CacheLevel::Off => Self::Off,
            CacheLevel::Exact => Self::Exact,
            CacheLevel::Canonical => Self::Canonical,
            CacheLevel::Similar => Self::Similar,
        }
    }
}

/// An agent.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Agent {
    /// The plugin that answers.
    #[schemars(extend("format" = "plugin"))]
    pub(in crate::config) plugin: String,
    /// The department it belongs to.
    #[schemars(extend("format" = "department"))]
    pub(in crate::config) department: Option<String>,
    /// What it is for; routers read this.
    #[serde(default)]
    #[schemars(length(max = 1_000))]
    pub(in crate::config) description: String,
    /// Who it is and how it speaks: the text itself, or `file:PATH`.
    #[serde(default)]
    #[schemars(extend("format" = "text"), length(max = 65_536))]
    pub(in crate::config) persona: String,
    /// The tier of its model calls. Needed if its plugin has the grant `models` and there is not exactly one tier.
    #[schemars(extend("format" = "tier"))]
    pub(in crate::config) tier: Option<String>,
    /// Further tiers that it may ask for.
    #[serde(default)]
    #[schemars(extend("items" = {"type": "string", "format": "tier"}))]
    pub(in crate::config) tiers_allowed: Vec<String>,
    /// How the tier of a call is chosen: `fixed` is always `tier`, whatever the plugin asks for; `wish` is the one that the
    /// plugin asks for, of `tier` and `tiers_allowed`; `calibrated` is `tier` or `cheap_tier`, as `tier_model` says of the
    /// call.
    #[serde(default)]
    pub(in crate::config) tier_policy: TierPolicy,
    /// The cheaper of the two tiers between which `tier_policy = "calibrated"` chooses.
    #[schemars(extend("format" = "tier"))]
    pub(in crate::config) cheap_tier: Option<String>,
    /// What `chela tier fit` made of this agent's labelled turns: `calibrated` only.
    #[schemars(extend("format" = "path"))]
    pub(in crate::config) tier_model: Option<String>,
    /// Folder with the markdown files that it may search.
    #[schemars(extend("format" = "path"))]
    pub(in crate::config) knowledge: Option<String>,
    /// From where it may be reached: `CHANNEL` or `CHANNEL/PLACE`. Left out: as its department says, else from everywhere.
    #[schemars(extend("items" = {"type": "string", "format": "place"}))]
    pub(in crate::config) reachable_from: Option<Vec<String>>,
    /// Lets people from outside the organisation reach it too: guests, people of shared channels, visitors of a web
    /// chat.
    #[serde(default)]
    pub(in crate::config) outsiders: bool,
    /// Nothing that it says is cached.
    #[serde(default)]
    pub(in crate::config) confidential: bool,
    /// What may answer its model calls instead of a model; left out, `exact`, and `off` if it is confidential.
    pub(in crate::config) cache: Option<CacheLevel>,
    /// How long its answers are given again; left out, `cache.ttl_s`.
    #[schemars(range(min = 1, max = 2_592_000))]
    pub(in crate::config) cache_ttl_s: Option<u64>,
    /// Turns in a minute; more wait. At once a hundred of them, or ten seconds' worth if that is more.
    #[serde(default = "rate_per_minute")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) rate_per_minute: u32,
    /// Turns at once; more wait.
    #[serde(default = "concurrency")]
    #[schemars(range(min = 1, max = 100_000))]
    pub(in crate::config) concurrency: u32,
    /// What its model calls may use, as in `[budget]`; left out, `budget.agent`.
    #[schemars(extend("format" = "budget"))]
    pub(in crate::config) budget: Option<String>,
    /// What becomes of a turn in which a budget had no room for a call: `answer` leaves it to the agent, `human` gives it
    /// to a human as well, with what the agent said.
    #[serde(default)]
    pub(in crate::config) over_budget: OverBudget,
    /// How long people wait for its answer at most, from their message to its delivery. When more than two of the newest
    /// twenty waited longer, its calls are made for five minutes by the cheaper tier as the faster one: `cheap_tier`, or
    /// `cheaper` of its tier.
    #[schemars(range(min = 1, max = 86_400))]
    pub(in crate::config) answer_within_s: Option<u64>,
    /// Earlier utterances of the conversation that it gets.
    #[serde(default = "history")]
    #[schemars(range(min = 0, max = 200))]
    pub(in crate::config) history: u32,
    /// What the plugin is told for this agent, above `[plugin.NAME.config]`. No secrets here.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub(in crate::config) config: Free,
}

fn rate_per_minute() -> u32 {
    600
}
fn concurrency() -> u32 {
    64
}
fn history() -> u32 {
    8
}

/// What happens when it is unknown whether the platform got an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum DeliveryPolicy {
    /// It is sent again: never lost, in a rare case there twice.
    AtLeastOnce,
    /// It is not sent again: never there twice, in a rare case lost.
    AtMostOnce,
}

/// A channel account.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Channel {
    /// The plugin that speaks the platform's language.
    #[schemars(extend("format" = "plugin"))]
    pub(in crate::config) plugin: String,
    /// The department it belongs to; left out, the whole organisation.
    #[schemars(extend("format" = "department"))]
    pub(in crate::config) department: Option<String>,
    /// Who answers when no router decides; left out, `routing.fallback`.
    #[schemars(extend("format" = "agent"))]
    pub(in crate::config) default_agent: Option<String>,
    /// Lets the router choose; if not, the default agent answers everything.
    #[serde(default = "routed")]
    pub(in crate::config) routed: bool,
    /// What happens when it is unknown whether the platform got an answer.
    #[serde(default = "at_least_once")]
    pub(in crate::config) delivery: DeliveryPolicy,
    /// Secrets by the names that the plugin's manifest uses. The host keeps them; the plugin never sees them.
    #[serde(default)]
    #[schemars(extend("additionalProperties" = {"type": "string", "format": "secret"}))]
    pub(in crate::config) secrets: BTreeMap<String, String>,
    /// What the plugin is told for this channel, above its manifest's and `[plugin.NAME.config]`. No secrets here.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub(in crate::config) config: Free,
    /// Webhooks in a minute; more are answered with 429. At once a hundred of them, or ten seconds' worth if that is more.
    #[serde(default = "channel_rate_per_minute")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(in crate::config) rate_per_minute: u32,
    /// What model calls for its messages may use, as in `[budget]`; left out, `budget.channel`.
    #[schemars(extend("format" = "budget"))]
    pub(in crate::config) budget: Option<String>,
    /// Shows an answer while it is made, as one post that is edited. For adapters with `[progress]` in their manifest,
    /// such as `slack`; a web chat shows drafts by itself.
    #[serde(default)]
    pub(in crate::config) progress: bool,
}

fn routed() -> bool {
    true
}
fn at_least_once() -> DeliveryPolicy {
    DeliveryPolicy::AtLeastOnce
}
fn channel_rate_per_minute() -> u32 {
    6_000
}

/// Which agent gets a message.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Routing {
    /// The router plugin; left out, the channel's default agent answers.
    #[schemars(extend("format" = "plugin"))]
    pub(in crate::config) router: Option<String>,
    /// The agent for channels that name no default of their own.
    #[schemars(extend("format" = "agent"))]
    pub(in crate::config) fallback: Option<String>,
    /// Tells the router which agent holds the conversation.
    pub(in crate::config) sticky: bool,
    /// Hand-overs from agent to agent in one turn.
    #[schemars(range(min = 0, max = 20))]
    pub(in crate::config) max_hand_overs: u32,
}

impl Default for Routing {
    fn default() -> Self {
        Self { router: None, fallback: None, sticky: true, max_hand_overs: 3 }
    }
}
