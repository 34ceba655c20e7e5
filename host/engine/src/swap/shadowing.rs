//! A candidate beside the version that serves: the same message, the same answers of the host, and nothing outside.
//! The turn does not wait for it.

use chela_gateway::Gateway;
use chela_sandbox::Plugin;
use chela_store::{Lease, Store};
use chela_types::{AgentId, Clock, Digest, Message};
use std::sync::Arc;

use super::compare::{compared, shown};
use super::lineup::Post;
use super::recording::{Began, Recording};
use super::release::Release;
use super::rerun::{Rerun, Rerunned};
use super::shadow::Place;
use crate::agent::{self, Agent};
use crate::config::Config;
use crate::contract::{self, answering};
use crate::error::Error;
use crate::router::{self, Router, Routing};

/// Who pays for what a shadow asks by itself.
const PURSE: &str = "shadow";

/// What a shadow needs of a part that has ended.
pub(crate) struct Shadowing {
    pub(crate) store: Store,
    pub(crate) gateway: Gateway,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Arc<Config>,
    pub(crate) message: Message,
    pub(crate) lease: Lease,
    pub(crate) recording: Recording,
    pub(crate) began: Began,
}

impl Shadowing {
    /// Runs a router's candidate, if there is a place for it.
    pub(crate) fn router(self, shadow: &Post<Plugin<Router>>, routing: &Routing<'_>) {
        let Some(place) = self.place(&shadow.release) else { return };
        let (shadow, frame) = (shadow.clone(), routing.frame());
        tokio::spawn(async move {
            let past = self.store.utterances(&self.lease, self.began.past).await;
            let rerun = match (past, self.rerun()) {
                (Ok(past), Some(rerun)) => {
                    let context = router::told(frame, self.began.sticky.as_ref(), &past);
                    rerun.router(&shadow.plugin, shadow.release.digest, context).await
                }
                (Err(error), _) => Rerunned::Host(error.into()),
                (_, None) => return,
            };
            self.count(&shadow.release, rerun, place);
        });
    }

    /// Runs an agent's candidate, if there is a place for it.
    pub(crate) fn agent(self, shadow: &Post<Plugin<Agent>>, agent: &AgentId) {
        let Some(place) = self.place(&shadow.release) else { return };
        let (shadow, agent) = (shadow.clone(), agent.clone());
        tokio::spawn(async move {
            let rerun = match (self.told(&agent).await, self.rerun()) {
                (Ok(turn), Some(rerun)) => {
                    rerun.agent(&shadow.plugin, (&agent, shadow.release.digest), turn).await
                }
                (Err(error), _) => Rerunned::Host(error),
                (_, None) => return,
            };
            self.count(&shadow.release, rerun, place);
        });
    }

    async fn told(&self, agent: &AgentId) -> Result<answering::Turn, Error> {
        let past = self.store.utterances(&self.lease, self.began.past).await?;
        Ok(answering::Turn {
            message: contract::message(&self.message),
            profile: agent::profile(agent, &self.config, &self.message)?,
            past: contract::utterances(&past),
        })
    }

    /// A place among the shadow calls that run, for the share of turns that is wanted.
    fn place(&self, release: &Release) -> Option<Place> {
        let wanted = &self.config.swap.shadow;
        let [first, second, ..] =
            *Digest::of("chela shadow share", &[self.message.id.to_string().as_bytes()]).as_bytes();
        let is_in = u16::from_le_bytes([first, second]) % 100 < u16::from(wanted.percent);
        if is_in { release.tally.place(wanted.in_flight_max) } else { None }
    }

    fn rerun(&self) -> Option<Rerun<'_>> {
        Some(Rerun {
            store: &self.store,
            gateway: &self.gateway,
            clock: &self.clock,
            config: &self.config,
            message: &self.message,
            conversation: self.lease.conversation(),
            start: self.recording.start,
            part: self.recording.parts.last()?,
            live: self.config.swap.shadow.models.then_some(PURSE),
            patience: 1,
        })
    }

    fn count(&self, release: &Release, rerun: Rerunned, _place: Place) {
        let Some(part) = self.recording.parts.last() else { return };
        if let Rerunned::Host(error) = &rerun {
            tracing::warn!(plugin = %release.plugin, %error, "a shadow could not be run");
            return;
        }
        let compared = compared(&part.began, &part.ended.said, &rerun);
        let examples = (shown(&part.began, &part.ended.said), super::compare::heard(&part.began, &rerun));
        metrics::counter!("shadow_calls_total", "plugin" => release.plugin.to_string(), "result" => compared.word())
            .increment(1);
        let examples_max = self.config.swap.shadow.examples_max;
        release.tally.count(&compared, self.message.id, examples, examples_max);
    }
}
