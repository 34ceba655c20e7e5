//! What the operator decided, resolved: names exist, secrets are read, prices are numbers.
//!
//! Plain structs without serde: the server reads files, this room only says what it needs.

use chela_lexical::{Language, Rule};
use chela_types::{AgentId, ChannelId, DepartmentId, Money, Price, Quantity, TierId, Tokens, Unit};
use jiff::tz::TimeZone;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use url::Url;

use crate::Script;
use crate::choice::AgentTier;
use crate::embedding::Embedding;
use crate::price::Tariff;

/// The documented defaults.
pub mod defaults {
    use std::time::Duration;

    /// `https://api.openai.com/v1`.
    pub const OPENAI_URL: &str = "https://api.openai.com/v1";
    /// `https://api.anthropic.com/v1`.
    pub const ANTHROPIC_URL: &str = "https://api.anthropic.com/v1";
    /// Slower than this to the first token counts as a failure.
    pub const FIRST_TOKEN: Duration = Duration::from_secs(15);
    /// Between two pieces of an answer.
    pub const IDLE: Duration = Duration::from_secs(20);
    /// A whole answer.
    pub const TOTAL: Duration = Duration::from_secs(180);
    /// Calls to one provider at once; more wait, and the wait counts towards the first token.
    pub const CONCURRENT_MAX: usize = 256;
    /// Output tokens of one answer.
    pub const MAX_OUTPUT: u64 = 1024;
    /// Attempts for one call, all providers together.
    pub const ATTEMPTS_MAX: usize = 8;
    /// A provider that asks for rest (`Retry-After`) gets it, up to this long.
    pub const COOLDOWN_MAX: Duration = Duration::from_secs(600);
    /// Answers kept.
    pub const CACHE_ENTRIES_MAX: u64 = 100_000;
    /// Bytes of answers kept: 64 MiB.
    pub const CACHE_BYTES_MAX: u64 = 64 << 20;
    /// Shares of a budget that are told, in percent.
    pub const THRESHOLDS: [u8; 3] = [50, 80, 100];
    /// The share of wrong ones among similar answers.
    pub const SIMILAR_ERROR: f64 = 0.02;
    /// The share of what could be served as similar that is asked for real all the same.
    pub const SIMILAR_ASKED: f64 = 0.05;
    /// How long an answer is kept.
    pub const CACHE_TTL: Duration = Duration::from_secs(24 * 60 * 60);
}

/// The gateway's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[provider.NAME]`.
    pub providers: Vec<Provider>,
    /// `[tier.NAME]`.
    pub tiers: Vec<Tier>,
    /// `[agent.NAME]` `tier`, `tier_policy` and what belongs to it. The tier of an agent that is not there is its wish.
    pub agents: BTreeMap<AgentId, AgentTier>,
    /// `[embedding]`.
    pub embedding: Embedding,
    /// `[budget]`.
    pub budgets: Budgets,
    /// `[cache]`.
    pub cache: Cache,
    /// A model in a chain that has no price.
    pub unknown_price: UnknownPrice,
    /// Attempts for one call: [`defaults::ATTEMPTS_MAX`].
    pub attempts_max: usize,
    /// Longest rest given to a provider that asks for it: [`defaults::COOLDOWN_MAX`].
    pub cooldown_max: Duration,
}

/// A provider.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Its name in chains.
    pub name: String,
    /// What it speaks.
    pub kind: ProviderKind,
    /// Price of each model.
    pub prices: BTreeMap<String, Tariff>,
    /// Waiting and concurrency.
    pub limits: ProviderLimits,
}

/// What a provider speaks.
#[derive(Debug, Clone)]
pub enum ProviderKind {
    /// OpenAI: also vLLM, Ollama, OpenRouter and others.
    OpenAi {
        /// Up to and with the version: [`defaults::OPENAI_URL`].
        url: Url,
        /// Sent as bearer.
        key: Option<SecretString>,
        /// Which of its two formats.
        wire: OpenAiWire,
    },
    /// OpenAI's formats at Azure. A model is a deployment there.
    Azure {
        /// The resource (`https://NAME.openai.azure.com`: the deployment stands in the path), or up to and with the
        /// version (`…/openai/v1`: it stands in the body).
        url: Url,
        /// Sent as `api-key`.
        key: Option<SecretString>,
        /// Which of the two formats.
        wire: OpenAiWire,
        /// The `api-version` of the address. A resource needs one.
        api_version: Option<String>,
    },
    /// Anthropic messages.
    Anthropic {
        /// Up to and with the version: [`defaults::ANTHROPIC_URL`].
        url: Url,
        /// Sent as `x-api-key`.
        key: Option<SecretString>,
        /// Whether long system prompts and tools are marked for the provider's own cache.
        prompt_cache: bool,
    },
    /// Answers by rules, offline. Free unless a price is given.
    Scripted(Script),
}

/// OpenAI's formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenAiWire {
    /// Chat completions, which others speak, too.
    #[default]
    Chat,
    /// Responses. Nothing is kept there: each call tells everything.
    Responses,
}

/// Waiting and concurrency of one provider.
#[derive(Debug, Clone, Copy)]
pub struct ProviderLimits {
    /// [`defaults::FIRST_TOKEN`].
    pub first_token: Duration,
    /// [`defaults::IDLE`].
    pub idle: Duration,
    /// [`defaults::TOTAL`].
    pub total: Duration,
    /// [`defaults::CONCURRENT_MAX`].
    pub concurrent_max: usize,
    /// Characters a second that an answer brings at least once it has begun; less is as good as down. None: no matter.
    pub min_chars_per_s: Option<u32>,
    /// Requests that this host sends in a minute at most. None: as many as there are.
    pub requests_per_minute: Option<u32>,
    /// Tokens that they may take at most, input and output together. None: as many as there are.
    pub tokens_per_minute: Option<u64>,
}

impl ProviderLimits {
    /// The documented defaults.
    pub const fn standard() -> Self {
        Self {
            first_token: defaults::FIRST_TOKEN,
            idle: defaults::IDLE,
            total: defaults::TOTAL,
            concurrent_max: defaults::CONCURRENT_MAX,
            min_chars_per_s: None,
            requests_per_minute: None,
            tokens_per_minute: None,
        }
    }
}

/// A tier.
#[derive(Debug, Clone)]
pub struct Tier {
    /// Its name.
    pub id: TierId,
    /// Who is asked, in this order.
    pub chain: Vec<ModelName>,
    /// Most output tokens of one answer.
    pub max_output: Tokens,
    /// Overrides the providers' own.
    pub first_token: Option<Duration>,
    /// The tier that is asked instead where a budget has no room for this one.
    pub cheaper: Option<TierId>,
    /// When and how the next of the chain takes over.
    pub failover: TierFailover,
}

/// When and how the next model of a tier's chain takes over, beyond what every tier does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TierFailover {
    /// Overrides the providers' own.
    pub min_chars_per_s: Option<u32>,
    /// The next is asked beside the first if that has said nothing by then. None: never.
    pub hedge_after: Option<Duration>,
    /// What becomes of an answer that breaks off after some of it was shown.
    pub after_cut: AfterCut,
}

/// What becomes of an answer that breaks off after some of it was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AfterCut {
    /// It is told as an error.
    #[default]
    Error,
    /// The next model is asked to go on, once, where that can be asked.
    Continue,
}

/// `provider/model`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelName {
    /// The provider's name in the configuration.
    pub provider: String,
    /// The model's name at the provider.
    pub model: String,
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

/// How much may be used. All that apply must pass.
#[derive(Debug, Clone)]
pub struct Budgets {
    /// Each agent.
    pub agent: Each<AgentId>,
    /// Each key of a client's, for what it asks of tiers.
    pub key: Each<String>,
    /// Each person.
    pub user: Vec<Limit>,
    /// Each channel, for what was asked there.
    pub channel: Each<ChannelId>,
    /// Each department, for what its agents ask.
    pub department: Each<DepartmentId>,
    /// The whole tenant.
    pub global: Vec<Limit>,
    /// What is run beside the turns: shadows and replays, each.
    pub apart: Vec<Limit>,
    /// Where hours, days, weeks and months begin.
    pub zone: TimeZone,
    /// Shares of a budget that are told once they are used, in percent, ascending: [`defaults::THRESHOLDS`].
    pub thresholds: Vec<u8>,
    /// From this share of any budget on, in percent, a cheaper tier is taken where there is one; absent: only where there is
    /// no room.
    pub lower_at: Option<u8>,
}

impl Default for Budgets {
    /// Everything is counted and nothing refused, in UTC.
    fn default() -> Self {
        Self {
            agent: Each::default(),
            key: Each::default(),
            user: Vec::new(),
            channel: Each::default(),
            department: Each::default(),
            global: Vec::new(),
            apart: Vec::new(),
            zone: TimeZone::UTC,
            thresholds: defaults::THRESHOLDS.to_vec(),
            lower_at: None,
        }
    }
}

/// Budgets for each of a kind; none: counted only.
#[derive(Debug, Clone)]
pub struct Each<K> {
    /// Of those that have none of their own.
    pub all: Vec<Limit>,
    /// Of those that have some, or are let off.
    pub own: BTreeMap<K, Vec<Limit>>,
}

impl<K> Default for Each<K> {
    fn default() -> Self {
        Self { all: Vec::new(), own: BTreeMap::new() }
    }
}

impl<K: Ord> Each<K> {
    pub(crate) fn of(&self, one: &K) -> &[Limit] {
        self.own.get(one).unwrap_or(&self.all)
    }
}

/// So much for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How much, and of what.
    pub most: Quantity,
    /// For how long.
    pub window: Window,
}

impl Limit {
    /// `20.00/day`, `50000 tokens/hour`, `10 requests/minute`; without a window it is that of `usual`. Amounts are
    /// dollars unless a unit follows, and above zero.
    pub fn parse(text: &str, usual: Window) -> Option<Self> {
        let (most, window) = match text.split_once('/') {
            Some((most, window)) => (most.trim(), Window::parse(window.trim())?),
            None => (text.trim(), usual),
        };
        let most = match most.split_once(' ') {
            None => Quantity::from(Money::parse_dollars(most)?),
            Some((count, unit)) => {
                let unit = match unit.trim() {
                    "tokens" => Unit::Tokens,
                    "requests" => Unit::Requests,
                    _ => return None,
                };
                // `+5` is no count that anybody writes.
                let is_count = count.bytes().all(|byte| byte.is_ascii_digit());
                Quantity { unit, amount: count.parse().ok().filter(|_| is_count)? }
            }
        };
        (most.amount > 0).then_some(Self { most, window })
    }

    /// A scope's name in the ledger: each window and unit is a budget of its own.
    pub fn scope(&self, of: &str) -> String {
        match self.most.unit {
            Unit::Dollars => format!("{of}/{}", self.window.as_str()),
            unit => format!("{of}/{}/{}", self.window.as_str(), unit.as_str()),
        }
    }
}

impl fmt::Display for Limit {
    /// `$20.00/day`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.most, self.window.as_str())
    }
}

/// A calendar window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Window {
    /// The minute that the clock shows.
    Minute,
    /// The hour that the clock shows.
    Hour,
    /// Midnight to midnight.
    Day,
    /// From Monday.
    Week,
    /// The first to the last.
    Month,
}

impl Window {
    /// All there are, the shortest first.
    pub const ALL: [Self; 5] = [Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month];

    /// As it is written in the ledger and in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.as_str() == name)
    }
}

/// What to do with a model whose price nobody wrote down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownPrice {
    /// Refuse to start.
    Refuse,
    /// Count it at this price.
    Assume(Price),
}

/// What may answer a call instead of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheLevel {
    /// Nothing.
    Off,
    /// What was answered to exactly this.
    #[default]
    Exact,
    /// And what was answered to the same in another form.
    Canonical,
    /// And what was answered to something like it, where the stated bound holds.
    Similar,
}

impl CacheLevel {
    /// As it is written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Exact => "exact",
            Self::Canonical => "canonical",
            Self::Similar => "similar",
        }
    }
}

/// The answer cache.
#[derive(Debug, Clone, Copy)]
pub struct Cache {
    /// Off: nothing is kept.
    pub enabled: bool,
    /// [`defaults::CACHE_ENTRIES_MAX`].
    pub entries_max: u64,
    /// [`defaults::CACHE_BYTES_MAX`].
    pub bytes_max: u64,
    /// [`defaults::CACHE_TTL`].
    pub ttl: Duration,
    /// What share of similar answers may be wrong: [`defaults::SIMILAR_ERROR`]. Absent: nothing similar is served.
    pub similar: Option<Rule>,
    /// The language that questions are read in.
    pub language: Language,
}

impl Cache {
    /// On, with the documented defaults.
    pub fn standard() -> Self {
        Self {
            enabled: true,
            entries_max: defaults::CACHE_ENTRIES_MAX,
            bytes_max: defaults::CACHE_BYTES_MAX,
            ttl: defaults::CACHE_TTL,
            similar: Self::similar(defaults::SIMILAR_ERROR),
            language: Language::English,
        }
    }

    /// The rule that holds the share of wrong ones among similar answers at `wrong_at_most`; absent where that can be
    /// none (0.0001 to 0.5).
    pub fn similar(wrong_at_most: f64) -> Option<Rule> {
        Rule::new(wrong_at_most, defaults::SIMILAR_ASKED)
    }
}
