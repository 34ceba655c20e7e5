//! Each room's configuration, from the one that the operator wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use chela_embedder::Model;
use chela_engine::{
    AgentConfig, Ambiguous, ChannelConfig, DeliveryConfig, Origin, OverBudget, PluginConfig, Reload,
    RetentionConfig, RoutingConfig, ShadowConfig, SwapConfig,
};
use chela_gateway::{AgentTier, Limit, LocalModel, ModelName, ProviderLimits};
use chela_sandbox::{Grants, PluginKind, Pool};
use chela_types::{AgentId, ChannelId, Digest, PluginId, TenantId, TierId, Tokens};
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::Error;
use crate::config::{
    Agent, Channel, Config, DeliveryPolicy, Embedding, Endpoint, Limits, ModelRef, Plugin, ProviderKind,
    Reach, Script, Source,
};

/// The adapter of the operator's own terminal, and its name among the plugins.
const TERMINAL: (&str, &str) = ("web-chat", "chela-terminal");

pub(super) fn store(config: &Config) -> chela_store::Config {
    let given = &config.store;
    chela_store::Config {
        commit_batch_max: given.commit_batch_max,
        commit_queue_max: given.commit_queue_max,
        commit_wait: given.commit_wait,
        lease: given.lease,
        readers: given.readers,
        memory_value_bytes_max: given.memory_value_bytes_max,
        memory_keys_max: given.memory_keys_max,
        ..chela_store::Config::new(&given.folder)
    }
}

pub(super) fn egress(config: &Config) -> chela_egress::Config {
    let given = &config.egress;
    chela_egress::Config {
        allow_loopback: given.allow_loopback,
        allow_private: given.allow_private,
        connect_timeout: given.connect_timeout,
        first_byte_timeout: given.first_byte_timeout,
        idle_timeout: given.idle_timeout,
        total_timeout: given.total_timeout,
        in_flight_max: given.in_flight_max,
        response_bytes_max: given.response_bytes_max,
        idle_per_host_max: given.idle_connections_max,
        ..chela_egress::Config::standard()
    }
}

pub(super) async fn gateway(config: &Config) -> Result<chela_gateway::Config, Error> {
    let mut providers = Vec::new();
    for (name, given) in &config.providers {
        let kind = match &given.kind {
            ProviderKind::OpenAi { at: Endpoint { url, key }, wire } => {
                chela_gateway::ProviderKind::OpenAi { url: url.clone(), key: key.clone(), wire: *wire }
            }
            ProviderKind::Azure { at: Endpoint { url, key }, wire, api_version } => {
                chela_gateway::ProviderKind::Azure {
                    url: url.clone(),
                    key: key.clone(),
                    wire: *wire,
                    api_version: api_version.clone(),
                }
            }
            ProviderKind::Anthropic { at: Endpoint { url, key }, prompt_cache } => {
                chela_gateway::ProviderKind::Anthropic {
                    url: url.clone(),
                    key: key.clone(),
                    prompt_cache: *prompt_cache,
                }
            }
            ProviderKind::Scripted(given) => chela_gateway::ProviderKind::Scripted(script(name, given)?),
        };
        let limits = ProviderLimits {
            first_token: given.first_token,
            idle: given.idle_timeout,
            total: given.total_timeout,
            concurrent_max: given.concurrency,
            min_chars_per_s: given.min_chars_per_s,
            requests_per_minute: given.requests_per_minute,
            tokens_per_minute: given.tokens_per_minute,
        };
        providers.push(chela_gateway::Provider {
            name: name.clone(),
            kind,
            prices: given.prices.clone(),
            limits,
        });
    }
    let tier = |(id, given): (&TierId, &crate::config::Tier)| chela_gateway::Tier {
        id: id.clone(),
        chain: names(&given.chain),
        max_output: Tokens(u64::from(given.max_output_tokens)),
        first_token: given.first_token,
        cheaper: given.cheaper.clone(),
        failover: given.failover,
    };
    Ok(chela_gateway::Config {
        providers,
        tiers: config.tiers.iter().map(tier).collect(),
        agents: agent_tiers(config)?,
        embedding: embedding(&config.embedding).await?,
        budgets: budgets(config),
        cache: chela_gateway::Cache {
            enabled: config.cache.enabled,
            entries_max: config.cache.entries_max,
            bytes_max: config.cache.bytes_max,
            ttl: config.cache.ttl,
            similar: config.cache.similar,
            language: config.cache.language,
        },
        unknown_price: chela_gateway::UnknownPrice::Refuse,
        attempts_max: chela_gateway::defaults::ATTEMPTS_MAX,
        cooldown_max: chela_gateway::defaults::COOLDOWN_MAX,
    })
}

async fn embedding(given: &Embedding) -> Result<chela_gateway::Embedding, Error> {
    let (folder, concurrency) = match given {
        Embedding::Lexical => return Ok(chela_gateway::Embedding::Lexical),
        Embedding::Chain(chain) => return Ok(chela_gateway::Embedding::Chain(names(chain))),
        Embedding::Local { folder, concurrency } => (folder.clone(), *concurrency),
    };
    let wrong = |why: String| Error::Configuration(format!("chela.toml: [embedding] model_dir: {why}"));
    // Some hundred megabytes: the threads of the runtime have turns to run.
    let opened = tokio::task::spawn_blocking(|| Model::open(*folder)).await;
    let opened = opened.map_err(|error| wrong(format!("was not read: {error}")))?;
    let model = Arc::new(opened.map_err(|error| wrong(error.to_string()))?);
    Ok(chela_gateway::Embedding::Local(LocalModel { model, concurrency }))
}

fn names(chain: &[ModelRef]) -> Vec<ModelName> {
    let name = |model: &ModelRef| ModelName { provider: model.provider.clone(), model: model.model.clone() };
    chain.iter().map(name).collect()
}

/// Each agent's tier, and how it is chosen.
pub(super) fn agent_tiers(config: &Config) -> Result<BTreeMap<AgentId, AgentTier>, Error> {
    let each = |(id, given): (&AgentId, &Agent)| {
        Ok((id.clone(), AgentTier { tier: tier(given)?, policy: given.tier_policy.clone() }))
    };
    config.agents.iter().map(each).collect()
}

pub(crate) fn budgets(config: &Config) -> chela_gateway::Budgets {
    let budget = &config.budget;
    chela_gateway::Budgets {
        agent: each(&budget.agent, &config.agents, |agent| &agent.budget),
        key: each(&budget.agent, &config.api_keys, |key| &key.budget),
        user: budget.user.clone(),
        channel: each(&budget.channel, &config.channels, |channel| &channel.budget),
        department: each(&budget.department, &config.departments, |department| &department.budget),
        global: budget.global.clone(),
        apart: budget.shadow.clone(),
        zone: budget.zone.clone(),
        thresholds: budget.thresholds.clone(),
        lower_at: budget.lower_at,
    }
}

/// What all have, and what those have that have another.
fn each<K: Ord + Clone, T>(
    all: &Vec<Limit>,
    configured: &BTreeMap<K, T>,
    own: impl Fn(&T) -> &Vec<Limit>,
) -> chela_gateway::Each<K> {
    let another = |(id, one): (&K, &T)| Some((id.clone(), own(one).clone())).filter(|(_, own)| own != all);
    chela_gateway::Each { all: all.clone(), own: configured.iter().filter_map(another).collect() }
}

fn script(provider: &str, given: &Script) -> Result<chela_gateway::Script, Error> {
    let (text, from) = match given {
        Script::Builtin { name, text } => (*text, format!("builtin:{name}")),
        Script::File { path, text } => (text.as_str(), path.display().to_string()),
    };
    toml::from_str(text).map_err(|error| {
        Error::Configuration(format!(
            "chela.toml: [provider.{provider}] script {from} cannot be read: {error}"
        ))
    })
}

/// The engine's configuration, with a terminal channel for each agent beside those of the operator.
pub(super) fn engine(
    config: &Config,
    tenant: &TenantId,
    knowledge: &BTreeMap<AgentId, (String, Digest)>,
    session_key: [u8; 32],
) -> Result<chela_engine::Config, Error> {
    let mut plugins = BTreeMap::new();
    for (name, given) in &config.plugins {
        plugins.insert(name.clone(), plugin(name, given)?);
    }
    let mut channels: BTreeMap<_, _> =
        config.channels.iter().map(|(name, given)| (name.clone(), channel(given))).collect();
    let terminal_plugin =
        PluginId::new(TERMINAL.1).map_err(|error| Error::Configuration(error.to_string()))?;
    plugins.insert(terminal_plugin.clone(), terminal_adapter(config, &terminal_plugin)?);
    for agent in config.agents.keys() {
        if let Some(name) = terminal(agent) {
            channels.insert(name, own_channel(agent, &terminal_plugin, (None, TERMINAL_RATE_PER_MINUTE)));
        }
    }
    for agent in config.api_keys.values().flat_map(|key| &key.agents) {
        if let Some(name) = api(agent) {
            let reaches = Some(reached_with(config, agent));
            channels.insert(name, own_channel(agent, &terminal_plugin, (reaches, API_RATE_PER_MINUTE)));
        }
    }
    let mut agents = BTreeMap::new();
    for (name, given) in &config.agents {
        agents.insert(name.clone(), agent(given, knowledge.get(name).cloned(), &config.budget.refusal)?);
    }
    Ok(chela_engine::Config {
        tenant: tenant.clone(),
        plugins,
        agents,
        departments: config
            .departments
            .iter()
            .filter_map(|(name, of)| Some((name.clone(), of.concurrency?)))
            .collect(),
        weights: config.departments.iter().map(|(name, of)| (name.clone(), of.weight)).collect(),
        channels,
        routing: RoutingConfig {
            router: config.routing.router.clone(),
            fallback: config.routing.fallback.clone(),
            sticky: config.routing.sticky,
            hand_overs_max: config.routing.max_hand_overs as usize,
        },
        delivery: delivery(config),
        swap: swap(config),
        trust: config.trust.clone(),
        retention: RetentionConfig { words: config.retention.words, versions: config.swap.keep },
        turns_max: config.server.max_turns,
        waiting_max: (config.server.requests_max / WAITING_SHARE).max(1),
        lease: config.store.lease,
        session_key,
        guarded: guarded(config),
    })
}

fn swap(config: &Config) -> SwapConfig {
    let given = &config.swap;
    SwapConfig {
        reload: if given.auto { Reload::Auto } else { Reload::Manual },
        trial_calls: given.trial_calls,
        watch: given.watch,
        calls_min: given.min_calls,
        failures_min: given.min_failures,
        failures_percent: given.failure_percent,
        latency_factor: given.latency_factor,
        latency_floor: given.latency_floor,
        drift_percent: given.drift_percent,
        drift_calls_min: given.drift_min_calls,
        shadow: ShadowConfig {
            in_flight_max: given.shadow_in_flight,
            percent: given.shadow_percent,
            models: given.shadow_models,
            examples_max: given.shadow_examples,
            calls_min: given.promote_after,
            differences_percent: given.promote_differences_percent,
        },
    }
}

fn delivery(config: &Config) -> DeliveryConfig {
    let given = &config.delivery;
    DeliveryConfig {
        tries_max: given.tries,
        crashes_max: given.crash_tries,
        unknown_max: given.unknown_tries,
        wait_max: given.max_wait,
        backoff_min: given.backoff_min,
        backoff_max: given.backoff_max,
        notice: given.notice.clone(),
        steps_max: given.steps_max,
    }
}

fn agent(given: &Agent, knowledge: Option<(String, Digest)>, refusal: &str) -> Result<AgentConfig, Error> {
    let place =
        |place: &crate::config::Place| Origin { channel: place.channel.clone(), place: place.place.clone() };
    Ok(AgentConfig {
        plugin: given.plugin.clone(),
        department: given.department.clone(),
        description: given.description.clone(),
        persona: given.persona.clone(),
        tier: tier(given)?,
        tiers_allowed: given.tiers_allowed.iter().cloned().collect(),
        knowledge,
        reachable_from: match &given.reach {
            Reach::Everywhere => None,
            Reach::Only(places) => Some(places.iter().map(place).collect()),
        },
        outsiders: given.outsiders,
        confidential: given.confidential,
        cache: given.cache,
        cache_ttl: given.cache_ttl,
        over_budget: OverBudget { refusal: refusal.to_owned(), to_human: given.over_budget_to_human },
        answer_within: given.answer_within,
        rate_per_minute: given.rate_per_minute,
        concurrency: given.concurrency,
        history: given.history,
        config: given.config.clone(),
    })
}

/// The agent's tier. One that asks for no model may have none; should it ask, the gateway knows no such tier.
fn tier(given: &Agent) -> Result<TierId, Error> {
    match given.tier.as_ref().or_else(|| given.tiers_allowed.first()) {
        Some(tier) => Ok(tier.clone()),
        None => TierId::new("none").map_err(|error| Error::Configuration(error.to_string())),
    }
}

fn channel(given: &Channel) -> ChannelConfig {
    ChannelConfig {
        plugin: given.plugin.clone(),
        department: given.department.clone(),
        default_agent: given.default_agent.clone(),
        routed: given.routed,
        operator: false,
        reaches: None,
        ambiguous: match given.delivery {
            DeliveryPolicy::AtLeastOnce => Ambiguous::AtLeastOnce,
            DeliveryPolicy::AtMostOnce => Ambiguous::AtMostOnce,
        },
        secrets: given.secrets.clone(),
        config: given.config.clone(),
        rate_per_minute: given.rate_per_minute,
        progress: given.progress,
    }
}

/// One request in so many may wait for its answer: the others' seats stay free.
const WAITING_SHARE: usize = 4;

/// The name of the operator's own channel to an agent. Configured names may not begin so
/// ([`RESERVED`](crate::config::RESERVED)): no operator means this one when he names a channel.
pub(super) fn terminal(agent: &AgentId) -> Option<ChannelId> {
    ChannelId::new(format!("chela-terminal-{agent}")).ok()
}

/// The name of the channel on which clients with keys speak to an agent.
pub(super) fn api(agent: &AgentId) -> Option<ChannelId> {
    ChannelId::new(format!("chela-api-{agent}")).ok()
}

/// Whom an agent may hand over to, asked by a client: those that every key which names it names, too.
fn reached_with(config: &Config, agent: &AgentId) -> BTreeSet<AgentId> {
    let mut lists = config.api_keys.values().map(|key| &key.agents).filter(|agents| agents.contains(agent));
    let first = lists.next().cloned().unwrap_or_default();
    lists.fold(first, |all, agents| all.intersection(agents).cloned().collect())
}

/// A channel of the host's own, which leads to one agent.
fn own_channel(
    agent: &AgentId,
    plugin: &PluginId,
    (reaches, rate_per_minute): (Option<BTreeSet<AgentId>>, u32),
) -> ChannelConfig {
    ChannelConfig {
        plugin: plugin.clone(),
        department: None,
        default_agent: agent.clone(),
        routed: false,
        operator: true,
        reaches,
        ambiguous: Ambiguous::AtLeastOnce,
        secrets: BTreeMap::new(),
        config: Map::new(),
        rate_per_minute,
        progress: false,
    }
}

/// What a person at a terminal can type, and a script that pipes into it.
const TERMINAL_RATE_PER_MINUTE: u32 = 600;
/// All clients together; each key has a rate of its own before it.
const API_RATE_PER_MINUTE: u32 = 60_000;

fn terminal_adapter(config: &Config, name: &PluginId) -> Result<PluginConfig, Error> {
    let adapter = Plugin {
        source: Source::Builtin(TERMINAL.0.to_owned()),
        grants: BTreeSet::new(),
        kind: None,
        limits: config.limits.channel.clone(),
        level: None,
        secrets: BTreeMap::new(),
        config: Map::new(),
    };
    plugin(name, &adapter)
}

fn plugin(name: &PluginId, given: &Plugin) -> Result<PluginConfig, Error> {
    Ok(PluginConfig {
        source: source(name, &given.source)?,
        grants: grants(name, &given.grants)?,
        limits: limits(&given.limits),
        level: given.level,
        config: given.config.clone(),
        secrets: given.secrets.clone(),
    })
}

/// Secrets that no plugin names, and that none may send.
fn guarded(config: &Config) -> Vec<SecretString> {
    let keys = config.providers.values().filter_map(|provider| provider.kind.endpoint()?.key.clone());
    let operators = config.operators.values().map(|operator| operator.token.clone());
    let clients = config.api_keys.values().map(|client| client.key.clone());
    keys.chain(operators).chain(clients).chain(config.server.admin_token.clone()).collect()
}

fn grants(plugin: &PluginId, names: &BTreeSet<String>) -> Result<Grants, Error> {
    let names: Vec<Value> = names.iter().map(|name| Value::from(name.as_str())).collect();
    serde_json::from_value(Value::from(names))
        .map_err(|error| Error::Configuration(format!("chela.toml: [plugin.{plugin}] grants: {error}")))
}

pub(super) fn limits(given: &Limits) -> chela_sandbox::Limits {
    chela_sandbox::Limits {
        memory_bytes: given.memory_bytes,
        table_elements: given.table_elements,
        deadline: given.deadline,
        cpu: given.cpu,
        host_calls: given.host_calls,
        log_lines: given.log_lines,
        log_bytes: given.log_bytes,
        input_bytes: given.input_bytes,
        output_bytes: given.output_bytes,
        instances: given.instances,
        resources: given.resources,
    }
}

/// A place for every turn and every request that the doors let in: a turn that waits for a model keeps its own, and must
/// not keep out a webhook.
pub(super) fn pool(config: &Config) -> Pool {
    Pool::of(config.server.max_turns, config.server.requests_max)
}

/// Where a plugin comes from, with the bytes of one that this program carries.
pub(super) fn source(name: &PluginId, given: &Source) -> Result<chela_sandbox::Source, Error> {
    match given {
        Source::Folder(folder) => Ok(chela_sandbox::Source::Folder(folder.clone())),
        Source::Builtin(builtin) => match chela_bundle::get(builtin) {
            Some(found) => Ok(chela_sandbox::Source::Embedded {
                manifest: found.manifest.to_owned(),
                component: Bytes::from_static(found.component),
            }),
            None => {
                let names: Vec<_> = chela_bundle::all().map(|found| found.name).collect();
                Err(Error::Configuration(format!(
                    "chela.toml: [plugin.{name}] source names `builtin:{builtin}`; there are {}",
                    names.join(", ")
                )))
            }
        },
    }
}

/// A plugin as something uses it.
#[derive(Debug, Clone)]
pub struct Use {
    /// `agent hr`, `channel slack`, `routing`.
    pub by: String,
    /// Its name.
    pub plugin: PluginId,
    /// The kind that this use needs.
    pub kind: PluginKind,
    /// Source, grants, limits and configuration.
    pub config: PluginConfig,
}

/// Every use of every plugin.
pub(super) fn uses(config: &Config) -> Result<Vec<Use>, Error> {
    let mut uses = Vec::new();
    let mut add = |by: String, name: &PluginId, kind| -> Result<(), Error> {
        // Unknown names were refused when the file was read.
        if let Some(given) = config.plugins.get(name) {
            uses.push(Use { by, plugin: name.clone(), kind, config: plugin(name, given)? });
        }
        Ok(())
    };
    if let Some(router) = &config.routing.router {
        add("routing".to_owned(), router, PluginKind::Router)?;
    }
    for (name, agent) in &config.agents {
        add(format!("agent {name}"), &agent.plugin, PluginKind::Agent)?;
    }
    for (name, channel) in &config.channels {
        add(format!("channel {name}"), &channel.plugin, PluginKind::Channel)?;
    }
    Ok(uses)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults stand in two places: where they are documented, and in the engine for whoever has no file.
    #[test]
    fn a_file_that_says_nothing_of_swaps_means_the_engines_standard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chela.toml");
        let text = "[plugin.a]\nsource = \"builtin:assistant\"\n[agent.x]\nplugin = \"a\"\n";
        std::fs::write(&path, text).unwrap();
        let (config, _) = crate::config::load(&path, &|_| None).unwrap();
        assert_eq!(swap(&config), SwapConfig::STANDARD);
    }
    /// An agent that a key may ask must not lead to one that the key may not.
    #[test]
    fn a_clients_channel_reaches_whom_every_key_names_that_leads_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chela.toml");
        let agents = ["x", "y", "z"].map(|name| format!("[agent.{name}]\nplugin = \"a\"\n")).concat();
        let key = |name: &str, agents: &str| {
            format!("[api_key.{name}]\nkey = \"env:THE_LONG_KEY_OF_THE_CLIENT_{name}\"\nagents = {agents}\n")
        };
        let keys = key("one", "[\"x\", \"y\"]") + &key("two", "[\"x\", \"z\"]");
        let text = format!("[plugin.a]\nsource = \"builtin:assistant\"\n{agents}{keys}");
        std::fs::write(&path, text).unwrap();
        let env = |name: &str| Some(format!("{name}, which is long"));
        let (config, _) = crate::config::load(&path, &env).unwrap();
        let reached = |agent: &str| -> Vec<String> {
            let reached = reached_with(&config, &AgentId::new(agent).unwrap());
            reached.iter().map(ToString::to_string).collect()
        };
        assert_eq!(reached("x"), ["x"]);
        assert_eq!(reached("y"), ["x", "y"]);
    }
}
