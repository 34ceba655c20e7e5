//! The configuration as it runs: references checked, secrets read, paths absolute, units in types.
//!
//! Plain data that owns everything. Each room gets its own `Config` made from these in one place.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use chela_embedder::Folder;
use chela_gateway::price::Tariff;
use chela_gateway::{CacheLevel, Language, Limit, OpenAiWire, SimilarRule, TierFailover, TierPolicy};
use chela_sandbox::Level;
use chela_types::{AgentId, ChannelId, DepartmentId, Digest, PluginId, TierId};
use jiff::tz::TimeZone;
use secrecy::SecretString;
use serde_json::{Map, Value};
use url::Url;

/// Everything that a host runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from, behind every link.
    pub file: PathBuf,
    /// The same as it was named, absolute: a link in it may lead elsewhere the next time.
    pub named: PathBuf,
    /// Every path that it names but the data folder, secrets included, whether or not something lies there.
    pub paths: BTreeSet<PathBuf>,
    /// Digest of the file's text and of the personas and scripts that it names: two instances of one installation
    /// should show the same.
    pub digest: Digest,
    /// Listeners, log, shutdown.
    pub server: Server,
    /// Where data is kept.
    pub store: Store,
    /// What may be called.
    pub egress: Egress,
    /// Model providers by name.
    pub providers: BTreeMap<String, Provider>,
    /// Tiers.
    pub tiers: BTreeMap<TierId, Tier>,
    /// Whoever makes vectors.
    pub embedding: Embedding,
    /// Money.
    pub budget: Budget,
    /// Answers given again.
    pub cache: Cache,
    /// Plugins.
    pub plugins: BTreeMap<PluginId, Plugin>,
    /// Departments.
    pub departments: BTreeMap<DepartmentId, Department>,
    /// Agents; at least one.
    pub agents: BTreeMap<AgentId, Agent>,
    /// Channel accounts.
    pub channels: BTreeMap<ChannelId, Channel>,
    /// Keys of clients that speak a vendor's format.
    pub api_keys: BTreeMap<String, ApiKey>,
    /// Who answers.
    pub routing: Routing,
    /// Tries and pauses.
    pub delivery: Delivery,
    /// Limits of a plugin's call by kind.
    pub limits: KindLimits,
    /// What becomes of changes while the host runs.
    pub swap: Swap,
    /// Whose plugins may serve.
    pub trust: chela_engine::TrustConfig,
    /// How long what people said is kept.
    pub retention: Retention,
    /// Who may use the admin listener, besides the holder of [`Server::admin_token`].
    pub operators: BTreeMap<String, Operator>,
}

/// How long what people said is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// After its turn has ended; absent: for ever.
    pub words: Option<Duration>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// For people.
    Pretty,
    /// One JSON object on each line.
    Json,
}

/// Listeners, log, shutdown.
#[derive(Debug, Clone)]
pub struct Server {
    /// Webhooks and web chat.
    pub public: SocketAddr,
    /// Metrics and turns.
    pub admin: SocketAddr,
    /// The admin listener's token; absent: the host makes one in its data folder.
    pub admin_token: Option<SecretString>,
    /// Largest body of a request.
    pub body_bytes_max: usize,
    /// Time for one request.
    pub request_timeout: Duration,
    /// Requests at once.
    pub requests_max: usize,
    /// Requests of one client address in a minute.
    pub rate_per_minute: u32,
    /// … at once, on top.
    pub rate_burst: u32,
    /// New web sessions of one client address: at once, and again in each hour.
    pub sessions_per_hour: u32,
    /// Event streams of one client address at once.
    pub streams_per_client: usize,
    /// How log lines are written.
    pub log: Log,
    /// Time for turns to end at shutdown.
    pub drain: Duration,
    /// Turns at once.
    pub max_turns: usize,
}

/// Where data is kept.
#[derive(Debug, Clone)]
pub struct Store {
    /// The data folder, absolute. May not exist yet.
    pub folder: PathBuf,
    /// Operations of one commit.
    pub commit_batch_max: usize,
    /// Operations that wait for a commit.
    pub commit_queue_max: usize,
    /// How long an operation waits for its commit.
    pub commit_wait: Duration,
    /// A conversation's lease.
    pub lease: Duration,
    /// Reading connections.
    pub readers: usize,
    /// Largest remembered value.
    pub memory_value_bytes_max: usize,
    /// Remembered keys in one scope.
    pub memory_keys_max: usize,
}

/// What may be called.
#[derive(Debug, Clone)]
pub struct Egress {
    /// This machine.
    pub allow_loopback: bool,
    /// Private networks.
    pub allow_private: bool,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time until an answer begins.
    pub first_byte_timeout: Duration,
    /// Time for a call.
    pub total_timeout: Duration,
    /// Silence that ends a call.
    pub idle_timeout: Duration,
    /// Largest response.
    pub response_bytes_max: usize,
    /// Calls at once.
    pub in_flight_max: usize,
    /// Idle connections for each host.
    pub idle_connections_max: usize,
}

/// Whoever makes vectors.
#[derive(Debug, Clone)]
pub enum Embedding {
    /// This program.
    Lexical,
    /// The first that answers.
    Chain(Vec<ModelRef>),
    /// A model in a folder.
    Local {
        /// What its files say.
        folder: Box<Folder>,
        /// Calls at once.
        concurrency: NonZeroUsize,
    },
}

/// A model provider.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Which wire format, and where.
    pub kind: ProviderKind,
    /// Time to the first token.
    pub first_token: Duration,
    /// Silence within an answer.
    pub idle_timeout: Duration,
    /// Time for an answer.
    pub total_timeout: Duration,
    /// Calls at once.
    pub concurrency: usize,
    /// Characters a second that an answer brings at least.
    pub min_chars_per_s: Option<u32>,
    /// Requests in a minute at most.
    pub requests_per_minute: Option<u32>,
    /// Tokens in a minute at most.
    pub tokens_per_minute: Option<u64>,
    /// Prices of the models that tiers use, and of those that the file prices.
    pub prices: BTreeMap<String, Tariff>,
}

/// Which wire format, and where.
#[derive(Debug, Clone)]
pub enum ProviderKind {
    /// OpenAI's formats.
    OpenAi {
        /// Where.
        at: Endpoint,
        /// Which of them.
        wire: OpenAiWire,
    },
    /// The same at Azure.
    Azure {
        /// Where.
        at: Endpoint,
        /// Which of them.
        wire: OpenAiWire,
        /// The `api-version` of the address.
        api_version: Option<String>,
    },
    /// Anthropic messages.
    Anthropic {
        /// Where.
        at: Endpoint,
        /// Whether long prefixes are marked for the provider's cache.
        prompt_cache: bool,
    },
    /// A script, offline.
    Scripted(Script),
}

impl ProviderKind {
    /// Address and key, unless it is a script.
    pub const fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::OpenAi { at, .. } | Self::Azure { at, .. } | Self::Anthropic { at, .. } => Some(at),
            Self::Scripted(_) => None,
        }
    }
}

/// Address and key.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Base address, with the version's path (`https://api.openai.com/v1`).
    pub url: Url,
    /// The key; a server of one's own may need none.
    pub key: Option<SecretString>,
}

/// What a scripted provider says.
#[derive(Debug, Clone)]
pub enum Script {
    /// Comes with the program.
    Builtin {
        /// As written after `builtin:`.
        name: String,
        /// What it says.
        text: &'static str,
    },
    /// Text of a file.
    File {
        /// Where it was.
        path: PathBuf,
        /// What it says.
        text: String,
    },
}

/// One model of one provider.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelRef {
    /// A key of [`Config::providers`].
    pub provider: String,
    /// The provider's own name for it.
    pub model: String,
}

/// A tier.
#[derive(Debug, Clone)]
pub struct Tier {
    /// In the order in which they are asked; never empty, none twice, each with a price.
    pub chain: Vec<ModelRef>,
    /// Most tokens of an answer.
    pub max_output_tokens: u32,
    /// Time to the first token; absent: the provider's.
    pub first_token: Option<Duration>,
    /// Who answers instead where a budget has no room.
    pub cheaper: Option<TierId>,
    /// When and how the next of the chain takes over.
    pub failover: TierFailover,
}

/// Budgets; none: unlimited.
#[derive(Debug, Clone)]
pub struct Budget {
    /// For each agent without its own.
    pub agent: Vec<Limit>,
    /// For each person.
    pub user: Vec<Limit>,
    /// For each channel without its own.
    pub channel: Vec<Limit>,
    /// For each department without its own.
    pub department: Vec<Limit>,
    /// For all.
    pub global: Vec<Limit>,
    /// For shadows, and for replays.
    pub shadow: Vec<Limit>,
    /// Where windows begin.
    pub zone: TimeZone,
    /// Shares that are told, in percent, ascending.
    pub thresholds: Vec<u8>,
    /// From this share on a cheaper tier is taken, in percent.
    pub lower_at: Option<u8>,
    /// What a person may read when one is used up.
    pub refusal: String,
}

/// Answers given again.
#[derive(Debug, Clone)]
pub struct Cache {
    /// On or off.
    pub enabled: bool,
    /// Answers at most.
    pub entries_max: u64,
    /// Bytes at most.
    pub bytes_max: u64,
    /// How long one is given again.
    pub ttl: Duration,
    /// What share of similar answers may be wrong.
    pub similar: Option<SimilarRule>,
    /// The language of questions.
    pub language: Language,
}

/// Where a plugin comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Comes with the program.
    Builtin(String),
    /// A folder, absolute; it exists.
    Folder(PathBuf),
}

/// What a plugin is used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PluginKind {
    /// By `[routing]`.
    Router,
    /// By an agent.
    Agent,
    /// By a channel.
    Channel,
}

/// A plugin.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// Where it comes from.
    pub source: Source,
    /// Granted interfaces by the manifest's names (`models`, `knowledge` …).
    pub grants: BTreeSet<String>,
    /// What the other tables use it as; absent: nothing uses it.
    pub kind: Option<PluginKind>,
    /// Limits of a call: its own above those of its kind.
    pub limits: Limits,
    /// What it is told.
    pub config: Map<String, Value>,
    /// Secrets by the manifest's names.
    pub secrets: BTreeMap<String, SecretString>,
    /// Where its calls run; absent: as it is trusted.
    pub level: Option<Level>,
}

/// What one call may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Memory.
    pub memory_bytes: usize,
    /// Elements of all tables.
    pub table_elements: usize,
    /// Time, the host's part included.
    pub deadline: Duration,
    /// Processor time.
    pub cpu: Duration,
    /// Calls to the host.
    pub host_calls: u32,
    /// Log lines.
    pub log_lines: u32,
    /// Bytes of all of them.
    pub log_bytes: usize,
    /// Bytes in.
    pub input_bytes: usize,
    /// Bytes out.
    pub output_bytes: usize,
    /// Core instances.
    pub instances: usize,
    /// Handles at once.
    pub resources: usize,
}

impl Limits {
    /// Limits of a router's call.
    pub const ROUTER: Self = Self {
        memory_bytes: 64 << 20,
        table_elements: 20_000,
        deadline: Duration::from_millis(250),
        cpu: Duration::from_millis(250),
        host_calls: 64,
        log_lines: 64,
        log_bytes: 64 << 10,
        input_bytes: 2 << 20,
        output_bytes: 1 << 20,
        instances: 48,
        resources: 256,
    };

    /// Limits of an agent's call. Its time is mostly the model's: longer than a provider may take for an answer.
    pub const AGENT: Self = Self {
        memory_bytes: 128 << 20,
        table_elements: 20_000,
        deadline: Duration::from_secs(240),
        cpu: Duration::from_secs(5),
        host_calls: 1_000,
        log_lines: 256,
        log_bytes: 64 << 10,
        input_bytes: 8 << 20,
        output_bytes: 4 << 20,
        instances: 48,
        resources: 256,
    };

    /// Limits of a channel's call.
    pub const CHANNEL: Self = Self {
        memory_bytes: 64 << 20,
        table_elements: 20_000,
        deadline: Duration::from_secs(1),
        cpu: Duration::from_secs(1),
        host_calls: 64,
        log_lines: 64,
        log_bytes: 64 << 10,
        input_bytes: 8 << 20,
        output_bytes: 8 << 20,
        instances: 48,
        resources: 256,
    };
}

/// Limits by kind of plugin.
#[derive(Debug, Clone)]
pub struct KindLimits {
    /// Routers.
    pub router: Limits,
    /// Agents.
    pub agent: Limits,
    /// Channels.
    pub channel: Limits,
}

impl KindLimits {
    /// Those of a kind; agents' for a plugin that nothing uses.
    pub fn of(&self, kind: Option<PluginKind>) -> &Limits {
        match kind {
            Some(PluginKind::Router) => &self.router,
            Some(PluginKind::Channel) => &self.channel,
            Some(PluginKind::Agent) | None => &self.agent,
        }
    }
}

/// A department.
#[derive(Debug, Clone)]
pub struct Department {
    /// For people.
    pub description: String,
    /// How much of the host it gets, against the others.
    pub weight: u32,
    /// Turns at once; absent: no bound of its own.
    pub concurrency: Option<usize>,
    /// What its agents may use; none: unlimited. `[budget] department` is worked in.
    pub budget: Vec<Limit>,
}

/// From where an agent may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// From every channel.
    Everywhere,
    /// From these alone; may be empty.
    Only(BTreeSet<Place>),
}

impl Reach {
    /// True if some message from `channel` may reach it.
    pub fn is_from(&self, channel: &ChannelId) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Only(places) => places.iter().any(|allowed| allowed.channel == *channel),
        }
    }

    /// True if a message from `channel` and the platform's room `place` may reach it.
    pub fn allows(&self, channel: &ChannelId, place: Option<&str>) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Only(places) => places.iter().any(|allowed| {
                allowed.channel == *channel
                    && allowed.place.as_deref().is_none_or(|wanted| place == Some(wanted))
            }),
        }
    }
}

/// A channel, or one room of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The channel account.
    pub channel: ChannelId,
    /// The platform's room; absent: all.
    pub place: Option<String>,
}

/// An agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Who answers.
    pub plugin: PluginId,
    /// Whose it is.
    pub department: Option<DepartmentId>,
    /// For routers.
    pub description: String,
    /// Who it is; may be empty.
    pub persona: String,
    /// Its tier.
    pub tier: Option<TierId>,
    /// All tiers that it may ask for, its own included.
    pub tiers_allowed: BTreeSet<TierId>,
    /// How the tier of a call is chosen.
    pub tier_policy: TierPolicy,
    /// Folder of markdown files, absolute; it exists.
    pub knowledge: Option<PathBuf>,
    /// From where it may be reached.
    pub reach: Reach,
    /// Guests and people of shared channels may reach it.
    pub outsiders: bool,
    /// Nothing is cached.
    pub confidential: bool,
    /// What may answer instead of a model; nothing, if it is confidential.
    pub cache: CacheLevel,
    /// How long its answers are given again, if not as long as the others'.
    pub cache_ttl: Option<Duration>,
    /// Turns in a minute.
    pub rate_per_minute: u32,
    /// Turns at once.
    pub concurrency: usize,
    /// What it may use; none: unlimited. `[budget] agent` is worked in.
    pub budget: Vec<Limit>,
    /// Whether a human goes on where a budget is used up.
    pub over_budget_to_human: bool,
    /// How long its people wait at most, if that is promised.
    pub answer_within: Option<Duration>,
    /// Earlier utterances.
    pub history: usize,
    /// What the plugin is told for this agent.
    pub config: Map<String, Value>,
}

/// What happens to an answer whose sending is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryPolicy {
    /// Sent again.
    AtLeastOnce,
    /// Not sent again.
    AtMostOnce,
}

/// A channel account.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Who translates.
    pub plugin: PluginId,
    /// Whose it is.
    pub department: Option<DepartmentId>,
    /// Who answers when no router decides; `[routing] fallback` is worked in.
    pub default_agent: AgentId,
    /// False: the default agent always answers.
    pub routed: bool,
    /// What happens to an answer in doubt.
    pub delivery: DeliveryPolicy,
    /// Secrets by the manifest's names.
    pub secrets: BTreeMap<String, SecretString>,
    /// What the plugin is told for this channel.
    pub config: Map<String, Value>,
    /// Webhooks in a minute.
    pub rate_per_minute: u32,
    /// What its messages may use; none: unlimited. `[budget] channel` is worked in.
    pub budget: Vec<Limit>,
    /// Shows answers while they are made.
    pub progress: bool,
}

/// Who answers.
#[derive(Debug, Clone)]
pub struct Routing {
    /// The router.
    pub router: Option<PluginId>,
    /// The agent for channels without a default.
    pub fallback: Option<AgentId>,
    /// The router hears who holds the conversation.
    pub sticky: bool,
    /// Hand-overs in one turn.
    pub max_hand_overs: u32,
}

/// Tries and pauses.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Tries that fail by a plugin's fault.
    pub tries: u32,
    /// Crashes of the host.
    pub crash_tries: u32,
    /// Sends of one answer whose outcome is unknown.
    pub unknown_tries: u32,
    /// How long a turn waits for others.
    pub max_wait: Duration,
    /// First pause.
    pub backoff_min: Duration,
    /// Longest pause.
    pub backoff_max: Duration,
    /// Requests that one answer may take.
    pub steps_max: usize,
    /// What the person is told in the end.
    pub notice: String,
}

/// What becomes of changes while the host runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Swap {
    /// True: a new version becomes active by itself.
    pub auto: bool,
    /// How often all files are looked at.
    pub poll: Duration,
    /// Calls of a version on trial.
    pub trial_calls: u32,
    /// How long it is compared.
    pub watch: Duration,
    /// Calls before a rate says anything.
    pub min_calls: u32,
    /// Failures before anything is done.
    pub min_failures: u32,
    /// Percent of failures above the version before.
    pub failure_percent: u8,
    /// Times as slow as the version before.
    pub latency_factor: f64,
    /// Slowness below this is none.
    pub latency_floor: Duration,
    /// Percent of decisions that may differ.
    pub drift_percent: u8,
    /// Decisions before a drift says anything.
    pub drift_min_calls: u32,
    /// Calls of a shadow at once.
    pub shadow_in_flight: usize,
    /// Of a hundred calls, how many are shadowed.
    pub shadow_percent: u8,
    /// A shadow may ask models.
    pub shadow_models: bool,
    /// Differences that are remembered.
    pub shadow_examples: usize,
    /// Compared calls before a promotion.
    pub promote_after: u32,
    /// Percent of them that may differ.
    pub promote_differences_percent: u8,
    /// How long a retired version is kept.
    pub keep: Duration,
}

/// What an operator may do. None includes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// See how things stand.
    Read,
    /// See what was said.
    Content,
    /// Reload, order plugins, speak to agents.
    Operate,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Content, Self::Operate];

    /// As it is written in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Content => "content",
            Self::Operate => "operate",
        }
    }
}

/// Somebody who may use the admin listener.
#[derive(Debug, Clone)]
pub struct Operator {
    /// What he shows.
    pub token: SecretString,
    /// What he may do; at least one thing.
    pub rights: BTreeSet<Right>,
}

/// A key with which a client asks in a vendor's format.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// What it shows.
    pub key: SecretString,
    /// Who pays, too.
    pub department: Option<DepartmentId>,
    /// The person who pays, unless a request names another.
    pub user: String,
    /// Whom it may speak to.
    pub agents: BTreeSet<AgentId>,
    /// What it may ask.
    pub tiers: BTreeSet<TierId>,
    /// Whether it may have vectors made.
    pub embeddings: bool,
    /// What its calls of tiers and its vectors may use; none: unlimited. `[budget] agent` is worked in.
    pub budget: Vec<Limit>,
    /// Whether a kept answer may be given again.
    pub cache: bool,
    /// Requests in a minute.
    pub requests_per_minute: u32,
    /// Requests at once.
    pub concurrency: usize,
}
