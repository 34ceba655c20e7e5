//! The router station: lends the router component to a message. Whatever the component does, there is a decision, and
//! the record says why.

use chela_sandbox::wasmtime::Store as Sandboxed;
use chela_sandbox::{Call, CallOptions, Kind, Limit, Plugin, PluginKind, Reason};
use chela_types::{AgentId, Alternative, Decision, Message, PluginId, RoutedBy, Utterance};
use futures::future::BoxFuture;
use std::marker::PhantomData;
use wasmtime::component::{HasSelf, InstancePre, Linker};

use crate::capability::{self, Lends, Lent};
use crate::config::{AgentConfig, Config};
use crate::contract::{self, router, routing, types};
use crate::error::Error;
use crate::policy::Policy;
use crate::words;

/// Alternatives in a record.
const ALTERNATIVES_MAX: usize = 8;

/// Plugins of the router world, to which this is lent.
#[derive(Debug)]
pub struct Router<L = Lent>(PhantomData<fn() -> L>);

impl<L: Send + 'static> Kind for Router<L>
where
    Call<L>: Lends,
{
    const KIND: PluginKind = PluginKind::Router;
    type Lent = L;
    type Pre = router::RouterPre<Call<L>>;
    type Exports = router::Router;
    type Ask = (types::Message, routing::Context);
    type Said = Said;

    fn link(linker: &mut Linker<Call<L>>) -> wasmtime::Result<()> {
        contract::models::add_to_linker::<_, HasSelf<_>>(linker, |call| call)?;
        contract::memory::add_to_linker::<_, HasSelf<_>>(linker, |call| call)
    }

    fn prepare(pre: InstancePre<Call<L>>) -> wasmtime::Result<Self::Pre> {
        router::RouterPre::new(pre)
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
        (message, context): Self::Ask,
    ) -> BoxFuture<'a, wasmtime::Result<Self::Said>> {
        Box::pin(async move {
            let (message, context) = store.data_mut().hand((&message, &context))?;
            exports.chela_plugin_routing().call_route(store, message, context).await
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

/// What a router component said, in the contract's words.
pub(crate) type Said = Result<routing::Decision, routing::RoutingError>;

/// Lets one version of the router choose. Decides nothing.
pub(crate) async fn ask(
    plugin: &Plugin<Router>,
    (lent, options): (Lent, CallOptions),
    message: &Message,
    context: routing::Context,
) -> Result<Said, chela_sandbox::Error> {
    plugin.ask(lent, options, (contract::message(message), context)).await
}

/// The question of a message: who may answer, and who does if no router says otherwise.
#[derive(Debug)]
pub(crate) struct Routing<'a> {
    message: &'a Message,
    department: Option<String>,
    candidates: Vec<(&'a AgentId, &'a AgentConfig)>,
    default: &'a AgentId,
    /// Who holds the conversation, if that counts and he may be reached.
    pub(crate) sticky: Option<AgentId>,
}

/// What becomes of a router's word.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It is taken, or there was none and none is needed.
    Sound(Decision),
    /// The component failed: the policy decides, unless another version does.
    Failed(Decision, &'static str),
}

impl<'a> Routing<'a> {
    /// # Errors
    /// [`Error::Unreachable`] if the policy lets nobody answer here.
    pub(crate) fn new(
        config: &'a Config,
        message: &'a Message,
        sticky: Option<AgentId>,
    ) -> Result<Self, Error> {
        let policy = Policy::new(config);
        let candidates = policy.candidates(message);
        let is_candidate = |agent: &AgentId| candidates.iter().any(|(name, _)| *name == agent);
        let sticky = sticky.filter(|agent| config.routing.sticky && is_candidate(agent));
        let channel = config.channels.get(&message.channel);
        let department = channel.and_then(|channel| channel.department.as_ref()).map(ToString::to_string);
        Ok(Self { message, department, default: policy.default_agent(message)?, candidates, sticky })
    }

    /// Who answers if nobody else does, and on whose account the router asks.
    pub(crate) fn default(&self) -> &'a AgentId {
        self.default
    }

    /// What any router is told in this place, whoever writes.
    pub(crate) fn frame(&self) -> routing::Context {
        let candidate = |(name, agent): &(&AgentId, &AgentConfig)| routing::Candidate {
            agent: name.to_string(),
            description: agent.description.clone(),
        };
        routing::Context {
            department: self.department.clone(),
            candidates: self.candidates.iter().map(candidate).collect(),
            sticky: None,
            default_agent: self.default.to_string(),
            past: Vec::new(),
        }
    }

    /// What the policy says.
    pub(crate) fn by_policy(&self) -> Decision {
        Decision {
            channel: self.message.channel.clone(),
            agent: self.sticky.as_ref().unwrap_or(self.default).clone(),
            by: RoutedBy::Policy,
            score: 1.0,
            reason: match &self.sticky {
                Some(_) => "the conversation stays with its agent".to_owned(),
                None => format!("default of channel `{}`", self.message.channel),
            },
            alternatives: Vec::new(),
            overruled: None,
            micros: 0,
        }
    }

    /// Takes the router's word as far as the policy allows it.
    ///
    /// # Errors
    /// What the host itself could not do: that is no word of the router's, and routes nothing.
    pub(crate) fn taken(
        &self,
        (name, version, digest): (&PluginId, &str, String),
        said: Result<Said, chela_sandbox::Error>,
    ) -> Result<Taken, Error> {
        let overruled = |reason: String| Decision { overruled: Some(reason), ..self.by_policy() };
        Ok(match said {
            Ok(Ok(choice)) => {
                let Some((agent, _)) = self.candidates.iter().find(|(name, _)| name.as_str() == choice.agent)
                else {
                    let chosen = words::reason(&choice.agent);
                    let reason = format!("router chose `{chosen}`, which may not be reached from here");
                    return Ok(Taken::Failed(overruled(reason), "forbidden"));
                };
                Taken::Sound(Decision {
                    agent: (*agent).clone(),
                    score: score(choice.score),
                    alternatives: alternatives(&choice, &self.candidates),
                    reason: words::reason(&choice.reason),
                    by: RoutedBy::Router { plugin: name.clone(), version: version.to_owned(), digest },
                    ..self.by_policy()
                })
            }
            Ok(Err(routing::RoutingError::NoMatch(reason))) => {
                Taken::Sound(overruled(format!("no match: {}", words::reason(&reason))))
            }
            Ok(Err(routing::RoutingError::Other(reason))) => {
                Taken::Failed(overruled(format!("router reported: {}", words::reason(&reason))), "reported")
            }
            Err(error) if is_hosts_own(&error) => return Err(error.into()),
            Err(error) => Taken::Failed(overruled(error.to_string()), error.outcome()),
        })
    }
}

/// What a router is told.
pub(crate) fn told(
    frame: routing::Context,
    sticky: Option<&AgentId>,
    past: &[Utterance],
) -> routing::Context {
    routing::Context { sticky: sticky.map(ToString::to_string), past: contract::utterances(past), ..frame }
}

/// A disk that failed or a full pool.
fn is_hosts_own(error: &chela_sandbox::Error) -> bool {
    matches!(&*error.reason, Reason::Host(_) | Reason::Limit { limit: Limit::Pool, .. })
}

/// Whom else the router thought of, as far as the policy allows them, the likeliest first.
fn alternatives(choice: &routing::Decision, candidates: &[(&AgentId, &AgentConfig)]) -> Vec<Alternative> {
    let mut others: Vec<Alternative> = candidates
        .iter()
        .filter(|(name, _)| name.as_str() != choice.agent)
        .filter_map(|(name, _)| {
            let said = choice.alternatives.iter().find(|other| name.as_str() == other.agent)?;
            Some(Alternative { agent: (*name).clone(), score: score(said.score) })
        })
        .collect();
    others.sort_by(|one, other| other.score.total_cmp(&one.score));
    others.truncate(ALTERNATIVES_MAX);
    others
}

fn score(said: f32) -> f32 {
    if said.is_finite() { said.clamp(0.0, 1.0) } else { 0.0 }
}
