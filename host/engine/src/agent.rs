//! The agent station: lends models, knowledge and memory to an agent component while it handles a turn.

use chela_sandbox::wasmtime::Store as Sandboxed;
use chela_sandbox::{Call, CallOptions, Kind, Plugin, PluginKind};
use chela_types::{AgentId, DepartmentId, Reply, TurnId};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use wasmtime::component::{HasSelf, InstancePre, Linker};

use crate::capability::{self, Lends, Lent};
use crate::config::{AgentConfig, Config};
use crate::contract::{self, answering};
use crate::desk::{Department, Desk, Seat};
use crate::error::Error;
use crate::policy::Policy;
use crate::swap::{Lineup, Shown};
use crate::words;

/// Longest reply in bytes, with its blocks, as it is kept; channels cut further as their platforms demand.
const REPLY_BYTES_MAX: usize = 128 * 1024;
/// Shortest and longest time an agent may ask to be run again after.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3_600));
/// Of all places for turns, the share in which turns may wait so, as a divisor: waiting is no work, and turns of
/// other agents need the places.
const WAITING_SHARE: usize = 8;

/// Plugins of the agent world, to which this is lent.
#[derive(Debug)]
pub struct Agent<L = Lent>(PhantomData<fn() -> L>);

impl<L: Send + 'static> Kind for Agent<L>
where
    Call<L>: Lends,
{
    const KIND: PluginKind = PluginKind::Agent;
    type Lent = L;
    type Pre = contract::agent::AgentPre<Call<L>>;
    type Exports = contract::agent::Agent;
    type Ask = answering::Turn;
    type Said = Said;

    fn link(linker: &mut Linker<Call<L>>) -> wasmtime::Result<()> {
        contract::models::add_to_linker::<_, HasSelf<_>>(linker, |call| call)?;
        contract::knowledge::add_to_linker::<_, HasSelf<_>>(linker, |call| call)?;
        contract::memory::add_to_linker::<_, HasSelf<_>>(linker, |call| call)?;
        contract::tools::add_to_linker::<_, HasSelf<_>>(linker, |call| call)?;
        contract::http::add_to_linker::<_, HasSelf<_>>(linker, |call| call)?;
        contract::blobs::add_to_linker::<_, HasSelf<_>>(linker, |call| call)
    }

    fn prepare(pre: InstancePre<Call<L>>) -> wasmtime::Result<Self::Pre> {
        contract::agent::AgentPre::new(pre)
    }

    fn instantiate<'a>(
        pre: &'a Self::Pre,
        store: &'a mut Sandboxed<Call<L>>,
    ) -> BoxFuture<'a, wasmtime::Result<Self::Exports>> {
        Box::pin(pre.instantiate_async(store))
    }

    fn run<'a>(
        exports: &'a Self::Exports,
        store: &'a mut Sandboxed<Call<L>>,
        turn: Self::Ask,
    ) -> BoxFuture<'a, wasmtime::Result<Self::Said>> {
        Box::pin(async move {
            let turn = store.data_mut().hand(&turn)?;
            exports.chela_plugin_answering().call_handle(store, turn).await
        })
    }

    fn serve<'a>(call: &'a mut Call<L>, asked: &'a [u8]) -> BoxFuture<'a, wasmtime::Result<Vec<u8>>> {
        Box::pin(capability::answer(call, asked))
    }

    fn init<'a>(
        exports: &'a Self::Exports,
        store: &'a mut Sandboxed<Call<L>>,
    ) -> BoxFuture<'a, wasmtime::Result<Result<(), String>>> {
        Box::pin(exports.call_init(store))
    }
}

/// What an agent made of a turn.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Something to say; the word says what it means.
    Say { reply: Reply, word: String },
    /// Another agent shall answer.
    HandOver { agent: AgentId, reason: String },
    /// Later.
    AskAgain { after: Duration },
}

/// All configured agents.
pub(crate) struct AgentStation {
    desks: BTreeMap<AgentId, (Arc<Desk>, Lineup<Plugin<Agent>>)>,
    departments: BTreeMap<DepartmentId, Department>,
    /// Turns that may wait for a seat at once.
    waiting: Arc<Semaphore>,
}

impl std::fmt::Debug for AgentStation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.desks.keys()).finish()
    }
}

impl AgentStation {
    /// The agents of a configuration. Whoever sits at a desk that has not changed stays seated.
    pub(crate) fn new(
        lineups: BTreeMap<AgentId, Lineup<Plugin<Agent>>>,
        config: &Config,
        earlier: Option<&Self>,
    ) -> Self {
        let department = |(name, turns): (&DepartmentId, &usize)| {
            let known = earlier.and_then(|it| it.departments.get(name)).filter(|known| known.turns == *turns);
            (name.clone(), known.cloned().unwrap_or_else(|| Department::new(*turns)))
        };
        let departments: BTreeMap<_, _> = config.departments.iter().map(department).collect();
        let desk = |(name, lineup): (AgentId, Lineup<Plugin<Agent>>)| {
            let agent = config.agents.get(&name)?;
            let department = agent.department.as_ref().and_then(|name| departments.get(name));
            let known = earlier.and_then(|it| it.desks.get(&name)).map(|(desk, _)| desk);
            let desk = match known.filter(|desk| desk.fits(agent, department)) {
                Some(desk) => Arc::clone(desk),
                None => Arc::new(Desk::new(agent, department.cloned())),
            };
            Some((name, (desk, lineup)))
        };
        let desks = lineups.into_iter().filter_map(desk).collect();
        let waiting = match earlier {
            Some(earlier) => Arc::clone(&earlier.waiting),
            None => Arc::new(Semaphore::new((config.turns_max / WAITING_SHARE).max(1))),
        };
        Self { desks, departments, waiting }
    }

    /// The versions that serve an agent.
    pub(crate) fn lineup(&self, agent: &AgentId) -> Result<&Lineup<Plugin<Agent>>, Error> {
        Ok(&self.desk(agent)?.1)
    }

    fn desk(&self, agent: &AgentId) -> Result<&(Arc<Desk>, Lineup<Plugin<Agent>>), Error> {
        self.desks.get(agent).ok_or_else(|| Error::UnknownAgent(agent.to_string()))
    }

    /// Waits, not long, for the agent's share of concurrency and rate.
    ///
    /// # Errors
    /// [`Error::Busy`]: the turn goes back and another conversation gets its place.
    pub(crate) async fn seat(&self, agent: &AgentId, turn: TurnId) -> Result<Seat, Error> {
        let (desk, _) = self.desk(agent)?;
        desk.seat(turn, &self.waiting).await.map_err(|after| Error::Busy { agent: agent.clone(), after })
    }
}

/// What an agent component said, in the contract's words.
pub(crate) type Said = Result<answering::Outcome, answering::AnsweringError>;

/// Lets one version of an agent handle a turn. Decides nothing.
pub(crate) async fn ask(
    plugin: &Plugin<Agent>,
    (mut lent, options): (Lent, CallOptions),
    turn: answering::Turn,
) -> Result<Said, chela_sandbox::Error> {
    if let Some(outward) = &mut lent.outward {
        outward.plugin = Some(plugin.clone());
    }
    plugin.ask(lent, options, turn).await
}

/// Takes what an agent said, if it keeps the rules.
pub(crate) fn taken(
    agent: &AgentId,
    config: &Config,
    message: &chela_types::Message,
    said: Said,
) -> Result<Outcome, Error> {
    match said {
        Ok(outcome) => accept(agent, config, message, outcome),
        Err(answering::AnsweringError::Unavailable(reason)) => {
            Err(Error::reported(format!("agent `{agent}`"), &reason, true))
        }
        Err(answering::AnsweringError::Unsuitable(reason) | answering::AnsweringError::Other(reason)) => {
            Err(Error::reported(format!("agent `{agent}`"), &reason, false))
        }
    }
}

/// What is shown of what an agent said, where two versions are compared.
pub(crate) fn shown(said: &Said, config: &Config) -> Shown {
    let plain = |text: String| Shown { text, is_private: false };
    let words = |what: &str, reply: &crate::contract::types::Reply| Shown {
        text: format!("{what}: {}", reply.text),
        is_private: true,
    };
    match said {
        Ok(answering::Outcome::Reply(reply)) => words(REPLY, reply),
        Ok(answering::Outcome::Resolved(reply)) => words(RESOLVED, reply),
        Ok(answering::Outcome::Escalate(escalation)) => words(ESCALATED, &escalation.reply),
        Ok(answering::Outcome::HandOver(to)) => Shown {
            text: format!("hand-over to {}", words::short(&to.agent, 64)),
            is_private: !is_one(&to.agent, config),
        },
        Ok(answering::Outcome::AskAgain(_)) => plain("asks to be run again".to_owned()),
        Err(_) => plain("reported that it cannot".to_owned()),
    }
}

/// Whether an agent of the configuration is called so.
pub(crate) fn is_one(name: &str, config: &Config) -> bool {
    config.agents.keys().any(|agent| agent.as_str() == name)
}

/// The kind of an outcome: where a message went from here.
pub(crate) fn destination(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Say { word, .. } if is_escalation(word) => ESCALATED,
        Outcome::Say { word, .. } if word == RESOLVED => RESOLVED,
        Outcome::Say { .. } => REPLY,
        Outcome::HandOver { .. } => "hand-over",
        Outcome::AskAgain { .. } => "again",
    }
}

/// Wants a human as well for what was said, if a budget is used up and the agent is to give it to one then.
pub(crate) fn escalated(outcome: Outcome, to_human: bool) -> Outcome {
    match outcome {
        Outcome::Say { reply, word } if to_human && !is_escalation(&word) => {
            Outcome::Say { reply, word: format!("{ESCALATED}: a budget is used up") }
        }
        outcome => outcome,
    }
}

/// Whether the word of an outcome says that a human is wanted.
pub(crate) fn is_escalation(word: &str) -> bool {
    word.starts_with(ESCALATED)
}

const REPLY: &str = "reply";
const RESOLVED: &str = "resolved";
const ESCALATED: &str = "escalated";

fn agent_config<'a>(agent: &AgentId, config: &'a Config) -> Result<&'a AgentConfig, Error> {
    config.agents.get(agent).ok_or_else(|| Error::UnknownAgent(agent.to_string()))
}

/// What an agent is told of itself, and of whom it may hand over to.
pub(crate) fn profile(
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
        if serde_json::to_vec(&reply).map_or(true, |whole| whole.len() > REPLY_BYTES_MAX) {
            return Err(misbehaved(format!("returned a reply over {REPLY_BYTES_MAX} bytes")));
        }
        Ok(Outcome::Say { reply, word })
    };
    match outcome {
        answering::Outcome::Reply(reply) => say(reply, REPLY.to_owned()),
        answering::Outcome::Resolved(reply) => say(reply, RESOLVED.to_owned()),
        answering::Outcome::Escalate(escalation) => {
            say(escalation.reply, format!("{ESCALATED}: {}", words::reason(&escalation.reason)))
        }
        answering::Outcome::HandOver(to) => {
            let colleague = Policy::new(config)
                .candidates(message)
                .into_iter()
                .find(|(name, _)| name.as_str() == to.agent && *name != agent)
                .map(|(name, _)| name.clone());
            match colleague {
                Some(agent) => Ok(Outcome::HandOver { agent, reason: words::reason(&to.reason) }),
                None => Err(misbehaved(format!(
                    "handed over to `{}`, which may not be reached from here",
                    words::short(&to.agent, 64)
                ))),
            }
        }
        answering::Outcome::AskAgain(later) => {
            let (shortest, longest) = ASK_AGAIN;
            Ok(Outcome::AskAgain { after: Duration::from_millis(later.after_ms).clamp(shortest, longest) })
        }
    }
}
