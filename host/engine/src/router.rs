//! The router station: lends the router component to a message. It never fails: whatever the component
//! does, there is a decision, and the record says why.

use chela_sandbox::wasmtime::Store as Sandboxed;
use chela_sandbox::{Call, CallOptions, Kind, Limit, Plugin, PluginKind, Reason};
use chela_store::Turn;
use chela_types::{AgentId, Alternative, Decision, Message, PluginId, RoutedBy, Utterance};
use futures::future::BoxFuture;
use std::time::Instant;
use wasmtime::component::{HasSelf, InstancePre, Linker};

use crate::capability::Lent;
use crate::config::{AgentConfig, Config};
use crate::contract::{self, router, routing};
use crate::error::Error;
use crate::policy::Policy;
use crate::words;

/// Alternatives in a record.
const ALTERNATIVES_MAX: usize = 8;

/// Plugins of the router world.
#[derive(Debug)]
pub struct Router;

impl Kind for Router {
    const KIND: PluginKind = PluginKind::Router;
    type Lent = Lent;
    type Pre = router::RouterPre<Call<Lent>>;
    type Exports = router::Router;

    fn link(linker: &mut Linker<Call<Lent>>) -> wasmtime::Result<()> {
        contract::models::add_to_linker::<_, HasSelf<_>>(linker, |call| call)?;
        contract::memory::add_to_linker::<_, HasSelf<_>>(linker, |call| call)
    }

    fn prepare(pre: InstancePre<Call<Lent>>) -> wasmtime::Result<Self::Pre> {
        router::RouterPre::new(pre)
    }

    fn instantiate<'a>(
        pre: &'a Self::Pre,
        store: &'a mut Sandboxed<Call<Lent>>,
    ) -> BoxFuture<'a, wasmtime::Result<Self::Exports>> {
        Box::pin(pre.instantiate_async(store))
    }

    fn init<'a>(
        exports: &'a Self::Exports,
        store: &'a mut Sandboxed<Call<Lent>>,
    ) -> BoxFuture<'a, wasmtime::Result<Result<(), String>>> {
        Box::pin(exports.call_init(store))
    }
}

/// Chooses agents.
#[derive(Debug)]
pub(crate) struct RouterStation {
    plugin: Option<(PluginId, Plugin<Router>)>,
}

/// What a routing needs beside the message.
pub(crate) struct Routing<'a> {
    pub(crate) config: &'a Config,
    pub(crate) lent: Lent,
    pub(crate) options: CallOptions,
    pub(crate) past: Vec<Utterance>,
    pub(crate) sticky: Option<AgentId>,
}

impl RouterStation {
    pub(crate) fn new(plugin: Option<(PluginId, Plugin<Router>)>) -> Self {
        Self { plugin }
    }

    pub(crate) fn plugin(&self) -> Option<&Plugin<Router>> {
        self.plugin.as_ref().map(|(_, plugin)| plugin)
    }

    /// True if the router may see earlier utterances.
    pub(crate) fn wants_history(&self) -> bool {
        self.plugin().is_some_and(|plugin| plugin.grants().contains(chela_sandbox::Grant::History))
    }

    /// Decides.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if the policy lets nobody answer here, and what the host itself could not do: that is no
    /// word of the router's, and routes nothing.
    pub(crate) async fn route(&self, turn: &Turn, routing: Routing<'_>) -> Result<Decision, Error> {
        let started = Instant::now();
        let message = &turn.message;
        let policy = Policy::new(routing.config);
        let candidates = policy.candidates(message);
        let default = policy.default_agent(message)?.clone();
        let sticky = routing.sticky.clone().filter(|agent| {
            routing.config.routing.sticky && candidates.iter().any(|(name, _)| *name == agent)
        });
        let routed = routing.config.channels.get(&message.channel).is_some_and(|channel| channel.routed);
        let mut decision = Decision {
            channel: message.channel.clone(),
            agent: sticky.clone().unwrap_or_else(|| default.clone()),
            by: RoutedBy::Policy,
            score: 1.0,
            reason: match &sticky {
                Some(_) => "the conversation stays with its agent".to_owned(),
                None => format!("default of channel `{}`", message.channel),
            },
            alternatives: Vec::new(),
            overruled: None,
            micros: 0,
        };
        if let Some((name, plugin)) = self.plugin.as_ref().filter(|_| routed) {
            match ask(plugin, message, routing, (&candidates, &default, sticky)).await? {
                Ok(choice) => take(&mut decision, (name, plugin), choice, &candidates),
                Err(reason) => decision.overruled = Some(reason),
            }
        }
        decision.micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(decision)
    }
}

type Candidates<'a> = [(&'a AgentId, &'a AgentConfig)];

/// The component's word, or why there is none.
async fn ask(
    plugin: &Plugin<Router>,
    message: &Message,
    routing: Routing<'_>,
    (candidates, default, sticky): (&Candidates<'_>, &AgentId, Option<AgentId>),
) -> Result<Result<routing::Decision, String>, Error> {
    let message = contract::message(message);
    let channel = routing.config.channels.iter().find(|(name, _)| name.as_str() == message.channel);
    let context = routing::Context {
        department: channel.and_then(|(_, channel)| channel.department.as_ref()).map(ToString::to_string),
        candidates: candidates
            .iter()
            .map(|(name, agent)| routing::Candidate {
                agent: name.to_string(),
                description: agent.description.clone(),
            })
            .collect(),
        sticky: sticky.map(|agent| agent.to_string()),
        default_agent: default.to_string(),
        past: contract::utterances(&routing.past),
    };
    let said = plugin
        .call(routing.lent, routing.options, move |store, exports| {
            Box::pin(async move {
                let (message, context) = store.data_mut().hand((&message, &context))?;
                exports.chela_plugin_routing().call_route(store, message, context).await
            })
        })
        .await;
    Ok(match said {
        Ok(Ok(decision)) => Ok(decision),
        Ok(Err(routing::RoutingError::NoMatch(reason))) => {
            Err(format!("no match: {}", words::reason(&reason)))
        }
        Ok(Err(routing::RoutingError::Other(reason))) => {
            Err(format!("router reported: {}", words::reason(&reason)))
        }
        Err(error) if is_hosts_own(&error) => return Err(error.into()),
        Err(error) => {
            metrics::counter!("router_failures_total").increment(1);
            tracing::warn!(%error, "router failed; the policy's default answers");
            Err(error.to_string())
        }
    })
}

/// A disk that failed or a full pool; a router that waited too long for its model is a router that failed.
fn is_hosts_own(error: &chela_sandbox::Error) -> bool {
    matches!(&*error.reason, Reason::Host(_) | Reason::Limit { limit: Limit::Pool, .. })
}

/// Takes the router's choice if the policy allows it.
fn take(
    decision: &mut Decision,
    (name, plugin): (&PluginId, &Plugin<Router>),
    choice: routing::Decision,
    candidates: &Candidates<'_>,
) {
    let Some((agent, _)) = candidates.iter().find(|(name, _)| name.as_str() == choice.agent) else {
        metrics::counter!("router_overruled_total").increment(1);
        decision.overruled = Some(format!(
            "router chose `{}`, which may not be reached from here",
            words::reason(&choice.agent)
        ));
        return;
    };
    decision.agent = (*agent).clone();
    decision.score = score(choice.score);
    decision.alternatives = alternatives(&choice, candidates);
    decision.reason = words::reason(&choice.reason);
    decision.by = RoutedBy::Router {
        plugin: name.clone(),
        version: plugin.version().to_owned(),
        digest: plugin.digest().short(),
    };
}

/// Whom else the router thought of, as far as the policy allows them, the likeliest first.
fn alternatives(choice: &routing::Decision, candidates: &Candidates<'_>) -> Vec<Alternative> {
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
