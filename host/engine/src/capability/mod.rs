//! What the stations lend to a plugin call: one file for each interface of the contract. Every function
//! passes `Call::lend`, the one place where grants and the number of host calls are checked, and what a guest is told
//! passes `Call::hand`, where its bytes are counted.

mod absent;
mod blobs;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod knowledge;
mod memory;
mod models;
mod remote;

// Named in generated bindings, which re-export it.
pub(crate) use http::{Outward, Rules, check as check_requests};
#[allow(unreachable_pub, reason = "generated bindings re-export it")]
pub use models::StreamReader;
pub(crate) use remote::answer;

use chela_gateway::{CacheLevel, Gateway};
use chela_sandbox::worker::Remote;
use chela_sandbox::{Call, HostError, NotGranted};
use chela_store::Store;
use chela_types::{
    AgentId, ChannelId, ConversationId, DepartmentId, Digest, Message, TenantId, TierId, TurnId,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

use crate::config::Config;
use crate::contract::{self, types};
use crate::drafts::Sink;
use crate::error::Error;
use crate::journal::Journal;

/// What one call of a router or an agent may use.
#[derive(Debug)]
pub struct Lent {
    pub(crate) store: Store,
    pub(crate) gateway: Gateway,
    pub(crate) journal: Arc<Mutex<Journal>>,
    pub(crate) whom: Arc<Whom>,
    pub(crate) drafts: Option<Sink>,
    /// Absent where a recorded part is run again.
    pub(crate) outward: Option<Outward>,
}

/// For whom a call is made: what budgets, caches and memory are keyed by.
#[derive(Debug)]
pub(crate) struct Whom {
    pub(crate) tenant: TenantId,
    pub(crate) agent: AgentId,
    pub(crate) department: Option<DepartmentId>,
    /// Digest of the plugin version that runs.
    pub(crate) version: String,
    pub(crate) turn: TurnId,
    pub(crate) conversation: ConversationId,
    pub(crate) person: String,
    pub(crate) channel: ChannelId,
    pub(crate) tier: TierId,
    pub(crate) tiers_allowed: Vec<TierId>,
    pub(crate) knowledge: Option<(String, String)>,
    /// What may answer instead of a model; nothing, if it is confidential.
    pub(crate) cache: CacheLevel,
    pub(crate) cache_ttl: Option<Duration>,
    /// What it is told where a budget is used up.
    pub(crate) refusal: String,
}

impl Whom {
    /// As the configuration and the message say.
    pub(crate) fn of(
        config: &Config,
        (agent, version): (&AgentId, Digest),
        (message, conversation): (&Message, ConversationId),
    ) -> Result<Self, Error> {
        let own = config.agents.get(agent).ok_or_else(|| Error::UnknownAgent(agent.to_string()))?;
        Ok(Self {
            tenant: config.tenant.clone(),
            agent: agent.clone(),
            department: own.department.clone(),
            version: version.to_string(),
            turn: message.id,
            conversation,
            person: format!("{}/{}", message.channel, message.sender.id),
            channel: message.channel.clone(),
            tier: own.tier.clone(),
            tiers_allowed: own.tiers_allowed.clone(),
            knowledge: own.knowledge.as_ref().map(|(name, digest)| (name.clone(), digest.to_string())),
            cache: if own.confidential { CacheLevel::Off } else { own.cache },
            cache_ttl: own.cache_ttl,
            refusal: own.over_budget.refusal.clone(),
        })
    }
}

impl Whom {
    /// The same for what is run again later: the agent may be gone since then, and owns nothing.
    pub(crate) fn of_old(
        config: &Config,
        (agent, version): (&AgentId, Digest),
        place: (&Message, ConversationId),
    ) -> Result<Self, Error> {
        if config.agents.contains_key(agent) {
            return Self::of(config, (agent, version), place);
        }
        let any = config.agents.keys().next().ok_or_else(|| Error::UnknownAgent(agent.to_string()))?;
        let whom = Self::of(config, (any, version), place)?;
        Ok(Self {
            agent: agent.clone(),
            department: None,
            tiers_allowed: Vec::new(),
            knowledge: None,
            cache: CacheLevel::Off,
            ..whom
        })
    }
}

/// The trap that stops a guest when the host itself fails in the middle of its call. The error comes back whole
/// to the station, which reports it instead of blaming the plugin.
fn host_failed(error: Error) -> wasmtime::Error {
    wasmtime::Error::new(HostError::new(error))
}

/// Everything that a plugin may import: of a call here, and of one in a worker.
pub trait Lends:
    types::Host
    + contract::models::Host
    + contract::models::HostStreamReader
    + contract::knowledge::Host
    + contract::memory::Host
    + contract::tools::Host
    + contract::http::Host
    + contract::blobs::Host
    + Send
{
}

impl Lends for Call<Lent> {}
impl Lends for Call<Remote> {}

/// The words of a typed denial.
fn denied(denial: &NotGranted) -> String {
    denial.to_string()
}

/// Lends a capability or returns the interface's own `not-granted`.
macro_rules! lend {
    ($call:expr, $grant:expr, $error:path) => {
        match $call.lend($grant)? {
            Ok(lent) => lent,
            Err(denial) => return Ok(Err($error(super::denied(&denial)))),
        }
    };
}
pub(crate) use lend;

impl types::Host for Call<Lent> {}
impl types::Host for Call<()> {}
impl types::Host for Call<Remote> {}
