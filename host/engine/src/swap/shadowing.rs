//! A candidate beside the version that serves: the same message, the same answers of the host, and nothing outside.
//! The turn does not wait for it.

use chela_gateway::Gateway;
use chela_sandbox::Plugin;
use chela_store::{Lease, Store};
use chela_types::{AgentId, Clock, Digest, Message, TurnId};
use std::sync::Arc;

use super::compare::{compared, shown};
use super::lineup::Post;
use super::recording::{Began, Failed, Recording, Said};
use super::release::Release;
use super::rerun::{Rerun, Rerunned};
pub(crate) use super::shadow::Place;
use crate::agent::{self, Agent};
use crate::config::{Config, ShadowConfig};
use crate::contract::{self, answering};
use crate::error::Error;
use crate::router::{self, Router, Routing};

/// Who pays for what a shadow asks by itself.
const PURSE: &str = "shadow";

/// A place among the shadow calls that run, for the share of turns that is wanted. `active` is whether the active version
/// ran the part: a candidate is compared with no other.
pub(crate) fn shadow_place(
    shadow: &Release,
    wanted: &ShadowConfig,
    (turn, active): (TurnId, bool),
) -> Option<Place> {
    let [first, second, ..] = *Digest::of("chela shadow share", &[turn.to_string().as_bytes()]).as_bytes();
    if u16::from_le_bytes([first, second]) % 100 >= u16::from(wanted.percent) {
        return None;
    }
    if !active {
        shadow.tally.skip();
        return None;
    }
    shadow.tally.place(wanted.in_flight_max)
}

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
    /// Runs a router's candidate in its place.
    pub(crate) fn router(self, (shadow, place): (&Post<Plugin<Router>>, Place), routing: &Routing<'_>) {
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

    /// Runs an agent's candidate in its place.
    pub(crate) fn agent(self, (shadow, place): (&Post<Plugin<Agent>>, Place), agent: &AgentId) {
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
        let is_exhausted = matches!(rerun, Rerunned::Said(Said::Failed(Failed::Time | Failed::Limit(_)), _));
        if release.tally.note_limit(is_exhausted) {
            let version = release.digest.short();
            tracing::warn!(plugin = %release.plugin, version, "a shadow runs into its limits, and is not run any more");
        }
        let compared = compared(&part.began, &part.ended.said, &rerun);
        let examples = (
            shown(&self.config, &part.began, &part.ended.said),
            super::compare::heard(&self.config, &part.began, &rerun),
        );
        metrics::counter!("shadow_calls_total", "plugin" => release.plugin.to_string(), "result" => compared.word())
            .increment(1);
        let examples_max = self.config.swap.shadow.examples_max;
        release.tally.count(&compared, self.message.id, examples, examples_max);
    }
}
