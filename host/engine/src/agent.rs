//! The agent station: lends models, knowledge and memory to an agent component while it handles a turn.

use chela_sandbox::wasmtime::Store as Sandboxed;
use chela_sandbox::{Call, CallOptions, Kind, Plugin, PluginKind};
use chela_types::{AgentId, Reply, Utterance};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{HasSelf, InstancePre, Linker};

use crate::capability::Lent;
use crate::config::{AgentConfig, Config};
use crate::contract::{self, answering};
use crate::error::Error;
use crate::policy::Policy;

/// Longest reply in bytes; channels cut further as their platforms demand.
const REPLY_BYTES_MAX: usize = 128 * 1024;
/// Shortest and longest time an agent may ask to be run again after.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3_600));
/// How long a turn waits for its agent's share before it gives its place to another.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// Plugins of the agent world.
#[derive(Debug)]
pub struct Agent;

impl Kind for Agent {
    const KIND: PluginKind = PluginKind::Agent;
    type Lent = Lent;
    type Pre = contract::agent::AgentPre<Call<Lent>>;
    type Exports = contract::agent::Agent;

    fn link(linker: &mut Linker<Call<Lent>>) -> wasmtime::Result<()> {
        contract::models::add_to_linker::<_, HasSelf<_>>(linker, |call| call)?;
        contract::knowledge::add_to_linker::<_, HasSelf<_>>(linker, |call| call)?;
        contract::memory::add_to_linker::<_, HasSelf<_>>(linker, |call| call)?;
        contract::tools::add_to_linker::<_, HasSelf<_>>(linker, |call| call)?;
        contract::http::add_to_linker::<_, HasSelf<_>>(linker, |call| call)?;
        contract::blobs::add_to_linker::<_, HasSelf<_>>(linker, |call| call)
    }

    fn prepare(pre: InstancePre<Call<Lent>>) -> wasmtime::Result<Self::Pre> {
        contract::agent::AgentPre::new(pre)
    }

    fn instantiate<'a>(
        pre: &'a Self::Pre,
        store: &'a mut Sandboxed<Call<Lent>>,
    ) -> BoxFuture<'a, wasmtime::Result<Self::Exports>> {
        Box::pin(pre.instantiate_async(store))
    }
}

/// What an agent made of a turn.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Something to say; the word says what it means.
    Say { reply: Reply, word: &'static str },
    /// Another agent shall answer.
    HandOver { agent: AgentId, reason: String },
    /// Later.
    AskAgain { after: Duration },
}

/// An agent's and its department's share of concurrency, held while the agent works.
#[derive(Debug)]
pub(crate) struct Seat {
    _own: OwnedSemaphorePermit,
    _department: Option<OwnedSemaphorePermit>,
}

/// One configured agent with its limits.
struct Desk {
    plugin: Plugin<Agent>,
    /// The agent's own share of concurrency.
    share: Arc<Semaphore>,
    /// Its department's, shared with the colleagues.
    department: Option<Arc<Semaphore>>,
    rate: governor::DefaultDirectRateLimiter,
}

/// All configured agents.
pub(crate) struct AgentStation {
    desks: BTreeMap<AgentId, Desk>,
}

impl std::fmt::Debug for AgentStation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.desks.keys()).finish()
    }
}

impl AgentStation {
    pub(crate) fn new(plugins: BTreeMap<AgentId, Plugin<Agent>>, config: &Config) -> Self {
        let departments: BTreeMap<_, _> = config
            .departments
            .iter()
            .map(|(name, turns)| (name, Arc::new(Semaphore::new((*turns).max(1)))))
            .collect();
        let desks = plugins
            .into_iter()
            .filter_map(|(name, plugin)| {
                let agent = config.agents.get(&name)?;
                let per_minute = NonZeroU32::new(agent.rate_per_minute).unwrap_or(NonZeroU32::MIN);
                let desk = Desk {
                    plugin,
                    share: Arc::new(Semaphore::new(agent.concurrency.max(1))),
                    department: agent.department.as_ref().and_then(|name| departments.get(name).cloned()),
                    rate: governor::RateLimiter::direct(governor::Quota::per_minute(per_minute)),
                };
                Some((name, desk))
            })
            .collect();
        Self { desks }
    }

    pub(crate) fn plugin(&self, agent: &AgentId) -> Result<&Plugin<Agent>, Error> {
        Ok(&self.desk(agent)?.plugin)
    }

    fn desk(&self, agent: &AgentId) -> Result<&Desk, Error> {
        self.desks.get(agent).ok_or_else(|| Error::UnknownAgent(agent.to_string()))
    }

    /// Waits, not long, for the agent's share of concurrency and rate.
    ///
    /// # Errors
    /// [`Error::Busy`]: the turn goes back and another conversation gets its place.
    pub(crate) async fn seat(&self, agent: &AgentId) -> Result<Seat, Error> {
        let desk = self.desk(agent)?;
        let seat = async {
            // The agent's own first: who waits for it must not hold the department's.
            let own = Arc::clone(&desk.share).acquire_owned().await.ok()?;
            let department = match &desk.department {
                Some(share) => Some(Arc::clone(share).acquire_owned().await.ok()?),
                None => None,
            };
            desk.rate.until_ready().await;
            Some(Seat { _own: own, _department: department })
        };
        tokio::time::timeout(BUSY_WAIT, seat).await.ok().flatten().ok_or_else(|| Error::Busy(agent.clone()))
    }

    /// Lets the agent handle the turn.
    pub(crate) async fn handle(&self, agent: &AgentId, handling: Handling<'_>) -> Result<Outcome, Error> {
        let Handling { config, message, past, lent, options } = handling;
        let profile = profile(agent, config, message)?;
        let turn = answering::Turn {
            message: contract::message(message),
            profile,
            past: contract::utterances(&past),
        };
        let said = self
            .desk(agent)?
            .plugin
            .call(lent, options, move |store, exports| {
                Box::pin(async move { exports.chela_plugin_answering().call_handle(store, &turn).await })
            })
            .await;
        match said? {
            Ok(outcome) => accept(agent, config, message, outcome),
            Err(answering::AnsweringError::Unavailable(reason)) => {
                Err(Error::Reported { who: format!("agent `{agent}`"), reason, outside: true })
            }
            Err(answering::AnsweringError::Unsuitable(reason) | answering::AnsweringError::Other(reason)) => {
                Err(Error::Reported { who: format!("agent `{agent}`"), reason, outside: false })
            }
        }
    }
}

/// What a handling needs.
pub(crate) struct Handling<'a> {
    pub(crate) config: &'a Config,
    pub(crate) message: &'a chela_types::Message,
    pub(crate) past: Vec<Utterance>,
    pub(crate) lent: Lent,
    pub(crate) options: CallOptions,
}

fn agent_config<'a>(agent: &AgentId, config: &'a Config) -> Result<&'a AgentConfig, Error> {
    config.agents.get(agent).ok_or_else(|| Error::UnknownAgent(agent.to_string()))
}

fn profile(
    agent: &AgentId,
    config: &Config,
    message: &chela_types::Message,
) -> Result<answering::Profile, Error> {
    let own = agent_config(agent, config)?;
    let colleagues = Policy::new(config)
        .candidates(message)
        .into_iter()
        .filter(|(name, _)| *name != agent)
        .map(|(name, colleague)| answering::Colleague {
            agent: name.to_string(),
            description: colleague.description.clone(),
        })
        .collect();
    Ok(answering::Profile {
        agent: agent.to_string(),
        department: own.department.as_ref().map(ToString::to_string),
        persona: own.persona.clone(),
        tier: own.tier.to_string(),
        colleagues,
    })
}

/// Takes an outcome if it keeps the rules.
fn accept(
    agent: &AgentId,
    config: &Config,
    message: &chela_types::Message,
    outcome: answering::Outcome,
) -> Result<Outcome, Error> {
    let misbehaved = |what: String| Error::Misbehaved { agent: agent.clone(), what };
    let say = |reply, word| {
        let reply = contract::reply_in(reply);
        if reply.text.trim().is_empty() {
            return Err(misbehaved("returned an empty reply".to_owned()));
        }
        if reply.text.len() > REPLY_BYTES_MAX {
            return Err(misbehaved(format!("returned a reply over {REPLY_BYTES_MAX} bytes")));
        }
        Ok(Outcome::Say { reply, word })
    };
    match outcome {
        answering::Outcome::Reply(reply) => say(reply, "reply"),
        answering::Outcome::Resolved(reply) => say(reply, "resolved"),
        answering::Outcome::Escalate(escalation) => {
            tracing::info!(%agent, turn = %message.id, "escalated to a human");
            metrics::counter!("escalations_total", "agent" => agent.to_string()).increment(1);
            say(escalation.reply, "escalated")
        }
        answering::Outcome::HandOver(to) => {
            let colleague = Policy::new(config)
                .candidates(message)
                .into_iter()
                .find(|(name, _)| name.as_str() == to.agent && *name != agent)
                .map(|(name, _)| name.clone());
            match colleague {
                Some(agent) => Ok(Outcome::HandOver { agent, reason: to.reason }),
                None => Err(misbehaved(format!(
                    "handed over to `{}`, which may not be reached from here",
                    to.agent.chars().take(64).collect::<String>()
                ))),
            }
        }
        answering::Outcome::AskAgain(later) => {
            let (shortest, longest) = ASK_AGAIN;
            Ok(Outcome::AskAgain { after: Duration::from_millis(later.after_ms).clamp(shortest, longest) })
        }
    }
}
