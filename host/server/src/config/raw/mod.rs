//! `chela.toml` as it is written: the one source of the keys, their types, defaults, bounds and meaning.
//!
//! Three things are made from these structs: serde reads the file with them, the JSON schema (and with it
//! the check that names unknown keys) comes from them, and so does the reference in `docs/`. A key that is
//! not here does not exist. Nothing is looked up or resolved here; see `resolve`.

mod front;
mod host;
mod models;
mod swap;
mod team;
mod trust;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub(super) use front::ApiKey;
pub(super) use host::{Delivery, Egress, KindLimits, Limits, Log, Retention, Server, Store};
pub(super) use models::{
    AfterCut, Budget, Cache, Embedding, LongPrice, Price, Prices, Provider, ProviderKind, Tier, Window, Wire,
};
pub(super) use swap::{Operator, Reload, Right, Swap};
pub(super) use team::{
    Agent, Channel, DeliveryPolicy, Department, Grant, Isolation, OverBudget, Plugin, Routing, TierPolicy,
};
pub(super) use trust::{Signer, Trust, Unsigned};

/// Tables and values that a plugin gets as they are.
pub(super) type Free = toml::Table;

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    /// Listeners, log and shutdown of this process.
    pub(super) server: Server,
    /// Where messages, answers and money are kept.
    pub(super) store: Store,
    /// How long what people said is kept.
    pub(super) retention: Retention,
    /// What this process may call over the network.
    pub(super) egress: Egress,
    /// Model providers by name.
    pub(super) provider: BTreeMap<String, Provider>,
    /// What known models cost at their vendors' own addresses.
    pub(super) prices: Prices,
    /// Tiers by name: each a chain of models, the first that works answers.
    pub(super) tier: BTreeMap<String, Tier>,
    /// What model calls may cost. Every budget that applies to a call must have room for it.
    pub(super) budget: Budget,
    /// Whoever makes vectors of texts, for whatever compares texts by their meaning.
    pub(super) embedding: Embedding,
    /// Answers that are given again to the same question.
    pub(super) cache: Cache,
    /// Plugins by name.
    pub(super) plugin: BTreeMap<String, Plugin>,
    /// Departments by name.
    pub(super) department: BTreeMap<String, Department>,
    /// Agents by name.
    pub(super) agent: BTreeMap<String, Agent>,
    /// Channel accounts by name. The webhook of a channel is `/channels/NAME`.
    pub(super) channel: BTreeMap<String, Channel>,
    /// Keys of clients that speak OpenAI's or Anthropic's format, by name. Without one nothing is served below `/v1`.
    pub(super) api_key: BTreeMap<String, ApiKey>,
    /// Which agent gets a message.
    pub(super) routing: Routing,
    /// How often and how long an answer is tried.
    pub(super) delivery: Delivery,
    /// What one call of a plugin may use, for each kind of plugin.
    pub(super) limits: Limits,
    /// How changes of this file, of plugins and of documents are taken over while the host runs.
    pub(super) swap: Swap,
    /// Whose plugins may serve, and where they run.
    pub(super) trust: Trust,
    /// Who may use the admin listener, by name. The token `server.admin_token` has every right, under the name `admin`.
    pub(super) operator: BTreeMap<String, Operator>,
}
