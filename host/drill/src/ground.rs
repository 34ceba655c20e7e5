//! What a drill stands on: the operator's limits and way out, this machine's sandbox, and a store, a model and a channel
//! that are nobody's.

use bytes::Bytes;
use chela_egress::Egress;
use chela_engine::probe::Probe;
use chela_engine::{
    AgentConfig, Ambiguous, ChannelConfig, Config, DeliveryConfig, PluginConfig, RetentionConfig, Rooms,
    RoutingConfig, SwapConfig, TrustConfig,
};
use chela_gateway::{
    Budgets, Cache, Gateway, ModelName, Provider, ProviderKind, ProviderLimits, Script, Tier, UnknownPrice,
};
use chela_sandbox::{Grants, Limits, PluginKind, Sandbox, Source};
use chela_store::Store;
use chela_types::{AgentId, ChannelId, Clock, PluginId, Price, SystemClock, TenantId, TierId, Tokens};
use secrecy::SecretString;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;

/// How long a turn of the drill is its own: longer than any attack.
const LEASE: Duration = Duration::from_secs(3_600);
/// Requests that one answer may take.
const STEPS_MAX: usize = 4;

/// What the operator configures for each kind of plugin.
#[derive(Debug, Clone)]
pub struct KindLimits {
    /// Routers.
    pub router: Limits,
    /// Agents.
    pub agent: Limits,
    /// Adapters.
    pub channel: Limits,
}

impl KindLimits {
    pub(crate) fn of(&self, kind: PluginKind) -> &Limits {
        match kind {
            PluginKind::Router => &self.router,
            PluginKind::Agent => &self.agent,
            PluginKind::Channel => &self.channel,
        }
    }
}

/// What a drill is told.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The sandbox, as the host would make it, but for its cache.
    pub sandbox: chela_sandbox::Config,
    /// The way out.
    pub egress: chela_egress::Config,
    /// Limits of calls.
    pub limits: KindLimits,
    /// Where the drill keeps its store; gone with it.
    pub folder: PathBuf,
}

/// The ground, laid.
pub(crate) struct Laid {
    pub(crate) sandbox: Sandbox,
    pub(crate) probe: Probe,
    /// Another organisation in the same store, whose agents, people and conversations have the same names.
    pub(crate) other: Probe,
}

/// A secret of the host's, that no request may hold in any form.
const SECRET: &str = "drill-crm-token-5e0f7a21";

/// Who answers where nobody else is asked for.
pub const AGENT: &str = "support";
/// Another agent of the same organisation.
pub(crate) const COLLEAGUE: &str = "people";

impl Ground {
    /// What asks one plugin on this ground, for a bench. The agent that is asked is [`AGENT`].
    ///
    /// # Errors
    /// What the machine does not give.
    pub async fn probe(&self) -> Result<Probe, Error> {
        Ok(self.lay().await?.probe)
    }

    pub(crate) async fn lay(&self) -> Result<Laid, Error> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let sandbox = Sandbox::new(self.sandbox.clone()).map_err(Error::ground)?;
        let egress = Egress::new(self.egress.clone()).map_err(Error::ground)?;
        let store =
            chela_store::Config { lease: LEASE, ..chela_store::Config::new(self.folder.join("store")) };
        let store = Store::open(store, Arc::clone(&clock)).await.map_err(Error::ground)?;
        let gateway = Gateway::new(gateway()?, store.clone(), &egress, Arc::clone(&clock));
        let gateway = gateway.map_err(Error::ground)?;
        let rooms = || Rooms {
            store: store.clone(),
            gateway: gateway.clone(),
            sandbox: sandbox.clone(),
            egress: egress.clone(),
            clock: Arc::clone(&clock),
        };
        let probe = Probe::new(rooms(), config(TenantId::default_tenant())?);
        let tenant = TenantId::new("other").map_err(Error::ground)?;
        let other = Probe::new(rooms(), config(tenant)?);
        Ok(Laid { sandbox, probe, other })
    }
}

/// A model that repeats what it is asked, and costs nothing.
fn gateway() -> Result<chela_gateway::Config, Error> {
    const MODEL: &str = "echo";
    let scripted = Provider {
        name: "drill".to_owned(),
        kind: ProviderKind::Scripted(Script::default()),
        prices: BTreeMap::from([(MODEL.to_owned(), Price::FREE.into())]),
        limits: ProviderLimits::standard(),
    };
    Ok(chela_gateway::Config {
        providers: vec![scripted],
        tiers: vec![Tier {
            id: tier()?,
            chain: vec![ModelName { provider: "drill".to_owned(), model: MODEL.to_owned() }],
            max_output: Tokens(1_000),
            first_token: None,
            cheaper: None,
            failover: Default::default(),
        }],
        agents: Default::default(),
        embedding: Default::default(),
        budgets: Budgets::default(),
        cache: Cache { enabled: false, ..Cache::standard() },
        unknown_price: UnknownPrice::Refuse,
        attempts_max: chela_gateway::defaults::ATTEMPTS_MAX,
        cooldown_max: chela_gateway::defaults::COOLDOWN_MAX,
    })
}

fn tier() -> Result<TierId, Error> {
    TierId::new("fast").map_err(Error::ground)
}

fn config(tenant: TenantId) -> Result<Config, Error> {
    let mut agents = BTreeMap::new();
    for name in [AGENT, COLLEAGUE] {
        agents.insert(AgentId::new(name).map_err(Error::ground)?, agent(name == AGENT)?);
    }
    let channel = ChannelId::new("drill").map_err(Error::ground)?;
    Ok(Config {
        tenant,
        plugins: BTreeMap::from([(plugin()?, granted())]),
        agents,
        departments: BTreeMap::new(),
        weights: BTreeMap::new(),
        channels: BTreeMap::from([(channel, account()?)]),
        routing: RoutingConfig { router: None, fallback: None, sticky: false, hand_overs_max: 2 },
        delivery: DeliveryConfig {
            tries_max: 1,
            crashes_max: 1,
            wait_max: LEASE,
            unknown_max: 1,
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(1),
            notice: "-".to_owned(),
            steps_max: STEPS_MAX,
        },
        swap: SwapConfig::STANDARD,
        trust: TrustConfig::STANDARD,
        retention: RetentionConfig::STANDARD,
        turns_max: 1,
        waiting_max: 1,
        lease: LEASE,
        session_key: [0; 32],
        guarded: Vec::new(),
    })
}

/// The plugin's secrets, for its requests. What it is made of, each attack says itself.
fn granted() -> PluginConfig {
    PluginConfig {
        source: Source::Embedded { manifest: String::new(), component: Bytes::new() },
        grants: Grants::NONE,
        level: None,
        limits: Limits::STANDARD,
        config: Map::new(),
        secrets: BTreeMap::from([("crm_token".to_owned(), SecretString::from(SECRET.to_owned()))]),
    }
}

/// An agent; the colleague is reached from nowhere.
fn agent(is_reached: bool) -> Result<AgentConfig, Error> {
    Ok(AgentConfig {
        plugin: plugin()?,
        department: None,
        description: String::new(),
        persona: String::new(),
        tier: tier()?,
        tiers_allowed: Vec::new(),
        knowledge: None,
        reachable_from: (!is_reached).then(Vec::new),
        outsiders: true,
        confidential: false,
        cache: chela_gateway::CacheLevel::Exact,
        cache_ttl: None,
        over_budget: chela_engine::OverBudget::default(),
        answer_within: None,
        rate_per_minute: u32::MAX,
        concurrency: 1,
        history: 0,
        config: Map::<String, Value>::new(),
    })
}

/// The one channel, with secrets that an adapter must never see.
fn account() -> Result<ChannelConfig, Error> {
    let secret = |name: &str, value: &str| (name.to_owned(), SecretString::from(value.to_owned()));
    Ok(ChannelConfig {
        plugin: plugin()?,
        department: None,
        default_agent: AgentId::new(AGENT).map_err(Error::ground)?,
        routed: true,
        operator: false,
        reaches: None,
        ambiguous: Ambiguous::AtMostOnce,
        secrets: BTreeMap::from([
            secret("signing_secret", "whsec_ZHJpbGwgZHJpbGwgZHJpbGwgZHJpbGw="),
            secret("token", "drill-token"),
        ]),
        config: Map::new(),
        rate_per_minute: u32::MAX,
        progress: false,
    })
}

pub(crate) fn plugin() -> Result<PluginId, Error> {
    PluginId::new("drill").map_err(Error::ground)
}
