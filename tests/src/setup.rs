//! What a host under test is told, in a few fluent words.
//!
//! `host(&outside).agent("support", "assistant").slack("slack", "support").run().await` is a whole host with
//! a scripted model. Everything has a default that suits a test; whatever a test is about, it says itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chela_engine::{
    AgentConfig, Ambiguous, ChannelConfig, Config, DeliveryConfig, Origin, PluginConfig, RetentionConfig,
    RoutingConfig, SwapConfig, TrustConfig,
};
use chela_gateway::{Cache, ModelName, OpenAiWire, ProviderKind, ProviderLimits, Rule, Script, UnknownPrice};
use chela_sandbox::{Grant, Level, Limits, Source};
use chela_types::{AgentId, ChannelId, Clock, PluginId, Price, TenantId, TierId, Tokens};
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use crate::guests;
use crate::outside::{
    GUEST_TOKEN, MODEL, Outside, PARTNER_SECRET, PRICE, PROVIDER_KEY, SLACK_SECRET, SLACK_TOKEN,
};

/// What the person reads when a turn is given up.
pub const NOTICE: &str = "Sorry, that went wrong. A person has been told.";

/// A host that is not running yet. Cloned for each start, so that a host can crash and start again.
#[derive(Debug, Clone)]
pub struct Setup {
    pub(crate) plugins: BTreeMap<PluginId, PluginConfig>,
    pub(crate) agents: BTreeMap<AgentId, AgentConfig>,
    pub(crate) channels: BTreeMap<ChannelId, ChannelConfig>,
    pub(crate) routing: RoutingConfig,
    pub(crate) delivery: DeliveryConfig,
    pub(crate) swap: SwapConfig,
    pub(crate) trust: TrustConfig,
    pub(crate) retention: RetentionConfig,
    pub(crate) gateway: chela_gateway::Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) compile_wall: Duration,
    pub(crate) turns_max: usize,
    base_url: String,
    reply_url: String,
    bare_url: String,
}

/// A host in this world: no agents, no channels, a scripted model that repeats the question.
pub fn host(outside: &Outside) -> Setup {
    let free = BTreeMap::from([(MODEL.to_owned(), PRICE.into())]);
    let scripted = chela_gateway::Provider {
        name: "model".to_owned(),
        kind: ProviderKind::Scripted(Script::default()),
        prices: free,
        limits: ProviderLimits::standard(),
    };
    Setup {
        plugins: BTreeMap::new(),
        agents: BTreeMap::new(),
        channels: BTreeMap::new(),
        routing: RoutingConfig { router: None, fallback: None, sticky: true, hand_overs_max: 2 },
        delivery: DeliveryConfig {
            tries_max: 3,
            crashes_max: 10,
            unknown_max: 10,
            wait_max: Duration::from_secs(3_600),
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(50),
            notice: NOTICE.to_owned(),
            steps_max: 16,
        },
        swap: SwapConfig::STANDARD,
        trust: TrustConfig::STANDARD,
        retention: RetentionConfig::STANDARD,
        gateway: chela_gateway::Config {
            providers: vec![scripted],
            tiers: vec![chela_gateway::Tier {
                id: TierId::new("fast").unwrap(),
                chain: vec![ModelName { provider: "model".to_owned(), model: MODEL.to_owned() }],
                max_output: Tokens(1_000),
                first_token: None,
                cheaper: None,
                failover: Default::default(),
            }],
            agents: Default::default(),
            embedding: Default::default(),
            budgets: chela_gateway::Budgets::default(),
            cache: Cache { enabled: false, ..Cache::standard() },
            unknown_price: UnknownPrice::Assume(Price::FREE),
            attempts_max: 2,
            cooldown_max: Duration::from_secs(1),
        },
        clock: Arc::clone(&outside.clock),
        compile_wall: chela_sandbox::Compiler::WALL,
        turns_max: 64,
        base_url: outside.slack.base_url(),
        reply_url: outside.partner.reply_url(),
        bare_url: outside.bare.base_url(),
    }
}

/// A model's rule: say this, whatever is asked.
pub fn say(text: &str) -> Rule {
    Rule { say: text.to_owned(), ..Rule::default() }
}

/// A channel account: its adapter, what it is told, and the host's secrets for it.
struct Account<'a> {
    plugin: &'a str,
    config: Value,
    secrets: &'a [(&'a str, &'a str)],
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

impl Setup {
    /// A plugin under a name.
    #[must_use]
    pub fn plugin(mut self, name: &str, source: Source, config: Value) -> Self {
        let grants = [Grant::Models, Grant::Knowledge, Grant::Memory, Grant::History];
        let limits = Limits { memory_bytes: 32 << 20, deadline: Duration::from_secs(20), ..Limits::STANDARD };
        let config = PluginConfig {
            source,
            grants: grants.into_iter().collect(),
            level: None,
            limits,
            config: object(config),
            secrets: BTreeMap::new(),
        };
        self.plugins.insert(PluginId::new(name).unwrap(), config);
        self
    }

    /// All plugins run in processes of their own.
    #[must_use]
    pub fn in_workers(self) -> Self {
        self.at(Level::Worker)
    }

    /// All plugins run in the host's process.
    #[must_use]
    pub fn in_process(self) -> Self {
        self.at(Level::InProcess)
    }

    fn at(mut self, level: Level) -> Self {
        self.plugins.values_mut().for_each(|plugin| plugin.level = Some(level));
        self
    }

    /// Changes a plugin that is there.
    #[must_use]
    pub fn with_plugin(mut self, name: &str, change: impl FnOnce(&mut PluginConfig)) -> Self {
        change(self.plugins.get_mut(&PluginId::new(name).unwrap()).expect("a plugin of this name"));
        self
    }

    /// An agent; its plugin is `assistant` or the name of a guest, and is added if it is not there.
    #[must_use]
    pub fn agent(self, name: &str, plugin: &str) -> Self {
        let mut setup = self.known(plugin);
        let agent = AgentConfig {
            plugin: PluginId::new(plugin).unwrap(),
            department: None,
            description: format!("the agent {name}"),
            persona: format!("You are {name}."),
            tier: TierId::new("fast").unwrap(),
            tiers_allowed: Vec::new(),
            knowledge: None,
            reachable_from: None,
            outsiders: true,
            confidential: false,
            cache: chela_gateway::CacheLevel::Exact,
            cache_ttl: None,
            over_budget: chela_engine::OverBudget::default(),
            answer_within: None,
            rate_per_minute: 60_000,
            concurrency: 64,
            history: 0,
            config: Map::new(),
        };
        setup.agents.insert(AgentId::new(name).unwrap(), agent);
        setup
    }

    /// Changes an agent that is there.
    #[must_use]
    pub fn with_agent(mut self, name: &str, change: impl FnOnce(&mut AgentConfig)) -> Self {
        change(self.agents.get_mut(&AgentId::new(name).unwrap()).expect("an agent of this name"));
        self
    }

    /// An agent can be reached from one room of one channel only.
    #[must_use]
    pub fn only_from(self, agent: &str, channel: &str, place: Option<&str>) -> Self {
        let origin = Origin { channel: ChannelId::new(channel).unwrap(), place: place.map(str::to_owned) };
        self.with_agent(agent, |agent| agent.reachable_from = Some(vec![origin]))
    }

    /// A Slack account at the stand-in.
    #[must_use]
    pub fn slack(self, name: &str, default_agent: &str) -> Self {
        let config = json!({ "base_url": self.base_url });
        let secrets = [("signing_secret", SLACK_SECRET), ("bot_token", SLACK_TOKEN)];
        self.channel(name, default_agent, Account { plugin: "slack", config, secrets: &secrets })
    }

    /// A webhook account at the stand-in partner.
    #[must_use]
    pub fn webhook(self, name: &str, default_agent: &str) -> Self {
        let config = json!({ "reply_url": self.reply_url });
        let secrets = [("signing_secret", PARTNER_SECRET)];
        self.channel(name, default_agent, Account { plugin: "webhook", config, secrets: &secrets })
    }

    /// A web chat.
    #[must_use]
    pub fn web_chat(self, name: &str, default_agent: &str) -> Self {
        self.channel(name, default_agent, Account { plugin: "web-chat", config: json!({}), secrets: &[] })
    }

    /// Without a channel that was there.
    #[must_use]
    pub fn without_channel(mut self, name: &str) -> Self {
        self.channels.remove(&ChannelId::new(name).unwrap()).expect("a channel of this name");
        self
    }

    /// A channel of the guest that lies as `behaviour` says.
    #[must_use]
    pub fn guest_channel(self, name: &str, behaviour: &str, default_agent: &str) -> Self {
        let config = json!({ "behaviour": behaviour, "base_url": self.bare_url });
        let secrets = [("signing_secret", PARTNER_SECRET), ("token", GUEST_TOKEN)];
        self.channel(name, default_agent, Account { plugin: "channel", config, secrets: &secrets })
    }

    fn channel(self, name: &str, default_agent: &str, account: Account<'_>) -> Self {
        let mut setup = self.known(account.plugin);
        let secret = |(name, value): &(&str, &str)| ((*name).to_owned(), SecretString::from(*value));
        let channel = ChannelConfig {
            plugin: PluginId::new(account.plugin).unwrap(),
            department: None,
            default_agent: AgentId::new(default_agent).unwrap(),
            routed: true,
            operator: false,
            reaches: None,
            ambiguous: Ambiguous::AtLeastOnce,
            secrets: account.secrets.iter().map(secret).collect(),
            config: object(account.config),
            rate_per_minute: 600_000,
            progress: false,
        };
        setup.channels.insert(ChannelId::new(name).unwrap(), channel);
        setup
    }

    /// Changes a channel that is there.
    #[must_use]
    pub fn with_channel(mut self, name: &str, change: impl FnOnce(&mut ChannelConfig)) -> Self {
        change(self.channels.get_mut(&ChannelId::new(name).unwrap()).expect("a channel of this name"));
        self
    }

    /// The router: `keyword`, or the guest `router`.
    #[must_use]
    pub fn router(self, plugin: &str, config: Value) -> Self {
        let source = match plugin {
            "router" => guests::get("router").source(),
            name => guests::builtin(name),
        };
        let mut setup = self.plugin(plugin, source, config);
        setup.routing.router = Some(PluginId::new(plugin).unwrap());
        setup
    }

    /// What the scripted model says.
    #[must_use]
    pub fn model(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        let script = Script { rules: rules.into_iter().collect(), default: None };
        self.gateway.providers[0].kind = ProviderKind::Scripted(script);
        self
    }

    /// Models come over HTTP from the outside's provider, which bills.
    #[must_use]
    pub fn billed_model(mut self, outside: &Outside) -> Self {
        let url = outside.provider.base_url().parse().unwrap();
        self.gateway.providers[0].kind =
            ProviderKind::OpenAi { url, key: Some(PROVIDER_KEY.into()), wire: OpenAiWire::Chat };
        self
    }

    /// Changes what the gateway is told.
    #[must_use]
    pub fn with_gateway(mut self, change: impl FnOnce(&mut chela_gateway::Config)) -> Self {
        change(&mut self.gateway);
        self
    }

    /// How plugins are swapped.
    #[must_use]
    pub fn with_swap(mut self, change: impl FnOnce(&mut SwapConfig)) -> Self {
        change(&mut self.swap);
        self
    }

    /// Changes whom the operator trusts.
    #[must_use]
    pub fn with_trust(mut self, change: impl FnOnce(&mut TrustConfig)) -> Self {
        change(&mut self.trust);
        self
    }

    /// How long what is old is kept.
    #[must_use]
    pub fn keeps(mut self, words: Option<Duration>, versions: Duration) -> Self {
        self.retention = RetentionConfig { words, versions };
        self
    }

    /// Changes how turns are repeated and given up.
    #[must_use]
    pub fn with_delivery(mut self, change: impl FnOnce(&mut DeliveryConfig)) -> Self {
        change(&mut self.delivery);
        self
    }

    /// How many turns run at once.
    #[must_use]
    pub fn turns_max(mut self, turns: usize) -> Self {
        self.turns_max = turns;
        self
    }

    /// How long a plugin may take to be prepared.
    #[must_use]
    pub fn compile_wall(mut self, wall: Duration) -> Self {
        self.compile_wall = wall;
        self
    }

    /// Adds a plugin of the product or a guest under its own name, once.
    fn known(self, name: &str) -> Self {
        if self.plugins.contains_key(&PluginId::new(name).unwrap()) {
            return self;
        }
        let source = match chela_bundle::get(name) {
            Some(_) => guests::builtin(name),
            None => guests::get(name).source(),
        };
        self.plugin(name, source, json!({}))
    }

    pub(crate) fn engine(&self) -> Config {
        Config {
            tenant: TenantId::default_tenant(),
            plugins: self.plugins.clone(),
            agents: self.agents.clone(),
            departments: BTreeMap::new(),
            weights: BTreeMap::new(),
            channels: self.channels.clone(),
            routing: self.routing.clone(),
            delivery: self.delivery.clone(),
            swap: self.swap.clone(),
            trust: self.trust.clone(),
            retention: self.retention,
            turns_max: self.turns_max,
            waiting_max: 128,
            lease: chela_store::Config::LEASE,
            session_key: [7; 32],
            guarded: vec![PROVIDER_KEY.into()],
        }
    }
}
