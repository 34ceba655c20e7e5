//! Steps 5 and 6, version by version: a call goes to the version that its conversation gets, and where that fails by
//! its own fault, to the one before. What is said is written into the journal, and shown to a shadow.

use chela_sandbox::{CallOptions, Grant, Grants, Plugin};
use chela_store::{Claimed, Outgoing, Store};
use chela_types::{AgentId, Blame, Decision, Digest, Fault, PluginId, TenantId};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use crate::agent::{self, Agent, Outcome};
use crate::channel::{ChannelStation, Received, whereabouts};
use crate::contract::{self, answering};
use crate::error::Error;
use crate::journey::{Journey, Run};
use crate::router::{self, Router, Routing, Taken};
use crate::swap::recording::{Began, Ended, Said, frame, heard};
use crate::swap::{
    ANSWER, Chosen, DELIVER, House, Lineup, Place, Post, RECEIVE, ROUTE, Seen, Shadowing, Share, Went,
    shadow_place,
};

/// Earlier utterances that a router with the `history` grant is shown.
const HISTORY_FOR_ROUTERS: usize = 8;
/// Frames that are known to be kept, at most.
const FRAMES_MAX: usize = 4_096;

/// What components were told, as far as this process knows it to be kept: it is the same for many messages.
#[derive(Debug, Default)]
pub(crate) struct Frames(Mutex<HashSet<Digest>>);

impl Frames {
    /// Keeps a frame, if it is not known to be kept. It is known once the store has taken it.
    async fn keep(&self, store: &Store, tenant: &TenantId, told: &impl Serialize) -> Result<Digest, Error> {
        let (digest, body) = frame(told)?;
        if self.0.lock().contains(&digest) {
            return Ok(digest);
        }
        store.keep_frame_behind(tenant, digest, body).await?;
        let mut known = self.0.lock();
        if known.len() >= FRAMES_MAX {
            known.clear();
        }
        known.insert(digest);
        Ok(digest)
    }
}

impl Chosen<Arc<ChannelStation>> {
    /// Counts an outcome for the version, or against it; the version that takes over, if it failed by its own fault and
    /// there is one.
    pub(crate) fn judged<T>(
        self,
        outcome: &Result<T, Error>,
        went: impl FnOnce(&T) -> Went<'static>,
    ) -> Option<Self> {
        match outcome {
            Ok(value) => self.end(Seen::Good(went(value))),
            Err(error) if error.blame() == Blame::Plugin => return self.failed(error.word()),
            Err(_) => self.end(Seen::Nothing),
        }
        None
    }
}

/// What an adapter has made of a request.
pub(crate) fn received(received: &Received) -> Went<'static> {
    let Received { arrivals, changes, receipts, .. } = received;
    let to = match (arrivals.is_empty(), changes.is_empty(), receipts.is_empty()) {
        (false, _, _) => "message",
        (true, false, _) => "change",
        (true, true, false) => "receipt",
        (true, true, true) => return IGNORED,
    };
    Went { to, ..IGNORED }
}

/// An adapter has made nothing of a request.
pub(crate) const IGNORED: Went<'static> = Went { asked: RECEIVE, to: "ignored" };

/// It waited too long for what the host lends: its fault, if the version before does not.
const WAITED: &str = "waiting";

impl Journey {
    /// Asks the router, the version before it where it fails, and the policy where there is none.
    pub(crate) async fn route(
        &self,
        run: &Run<'_>,
        (name, lineup): &(PluginId, Lineup<Plugin<Router>>),
        routing: &Routing<'_>,
    ) -> Result<Decision, Error> {
        let began_at = Instant::now();
        let pinned = self.pinned(run, (name, lineup, ROUTE), |edition| edition.router()).await;
        let mut chosen = pinned.unwrap_or_else(|| lineup.choose(share(run, ROUTE)));
        loop {
            let (began, said) = self.ask_router(run, &chosen, routing).await?;
            let written = said.as_ref().map_or_else(Said::failed, |said| Some(Said::answered(said)));
            self.end_part(run, Some(&began), written).await?;
            let version = chosen.release();
            let version = (name, &*version.version.clone(), version.digest.short());
            match routing.taken(version, said)? {
                Taken::Sound(mut decision) => {
                    decision.micros = u64::try_from(began_at.elapsed().as_micros()).unwrap_or(u64::MAX);
                    let place = place_of(run, lineup, &chosen);
                    chosen.end(Seen::Good(Went { asked: ROUTE, to: decision.agent.as_str() }));
                    if let Some(place) = place {
                        self.shadowing(run, began).await.router(place, routing);
                    }
                    return Ok(decision);
                }
                Taken::Failed(mut decision, kind) => {
                    if let Some(before) = self.over(run, chosen, kind).await {
                        chosen = before;
                        continue;
                    }
                    let counter =
                        if kind == "forbidden" { "router_overruled_total" } else { "router_failures_total" };
                    metrics::counter!(counter).increment(1);
                    tracing::warn!(kind, "router failed; the policy's default answers");
                    decision.micros = u64::try_from(began_at.elapsed().as_micros()).unwrap_or(u64::MAX);
                    return Ok(decision);
                }
            }
        }
    }

    /// The version that takes a part over which another one failed, and begins it anew; none, if that one has the last
    /// word.
    async fn over<T: Clone>(
        &self,
        run: &Run<'_>,
        chosen: Chosen<T>,
        kind: &'static str,
    ) -> Option<Chosen<T>> {
        let before = match kind {
            WAITED => chosen.doubted(Seen::Bad(WAITED), Seen::Nothing),
            kind => chosen.failed(kind),
        }?;
        run.journal.lock().await.again();
        let release = before.release();
        tracing::warn!(plugin = %release.plugin, turn = %run.turn.message.id, kind, "a new version failed; the one before takes the turn over");
        Some(before)
    }

    async fn ask_router(
        &self,
        run: &Run<'_>,
        chosen: &Chosen<Plugin<Router>>,
        routing: &Routing<'_>,
    ) -> Result<(Began, Result<router::Said, chela_sandbox::Error>), Error> {
        let plugin = &chosen.plugin;
        let grants = plugin.grants();
        let past_max = if grants.contains(Grant::History) { HISTORY_FOR_ROUTERS } else { 0 };
        let past = match past_max {
            0 => Vec::new(),
            max => self.store.utterances(run.lease, max).await?,
        };
        let frame = routing.frame();
        let began = Began {
            agent: None,
            version: chosen.release().digest,
            frame: self.kept_frame(run, &frame).await?,
            past: past_max,
            heard: heard(&past),
            sticky: routing.sticky.clone(),
            purpose: "router".to_owned(),
        };
        let start = {
            let mut journal = run.journal.lock().await;
            journal.begin_router(&began, grants != Grants::NONE).await?;
            journal.start()
        };
        // A router's words are no answer, and nobody sees them.
        let lent = self.lend(run, routing.default(), began.version, None)?;
        let context = router::told(frame, began.sticky.as_ref(), &past);
        let options = options(start, &began.purpose);
        Ok((began, router::ask(plugin, (lent, options), &run.turn.message, context).await))
    }

    /// Lets an agent handle the turn, by the version before where the one that it gets fails.
    pub(crate) async fn handle(
        &self,
        run: &Run<'_>,
        agent: &AgentId,
        hand_overs: usize,
    ) -> Result<Outcome, Error> {
        let Run { house, turn, .. } = run;
        let lineup = house.agents.lineup(agent)?;
        let config = house.config.agents.get(agent).ok_or_else(|| Error::UnknownAgent(agent.to_string()))?;
        let pinned = self.pinned(run, (&config.plugin, lineup, ANSWER), |edition| edition.agent(agent)).await;
        let mut chosen = pinned.unwrap_or_else(|| lineup.choose(share(run, ANSWER)));
        loop {
            let (began, said) = self.ask_agent(run, &chosen, (agent, hand_overs)).await?;
            let written = said.as_ref().map_or_else(Said::failed, |said| Some(Said::answered(said)));
            self.end_part(run, None, written).await?;
            let outcome = match said {
                Ok(said) => {
                    let is_over = run.journal.lock().await.was_over_budget();
                    let outcome = agent::taken(agent, &house.config, &turn.message, said);
                    outcome.map(|outcome| agent::escalated(outcome, is_over && config.over_budget.to_human))
                }
                Err(error) => Err(error.into()),
            };
            let error = match outcome {
                Ok(outcome) => {
                    let place = place_of(run, lineup, &chosen);
                    chosen.end(Seen::Good(Went { asked: ANSWER, to: agent::destination(&outcome) }));
                    if let Outcome::Say { word, .. } = &outcome {
                        tell_escalation(agent, run, word);
                    }
                    if let Some(place) = place {
                        self.shadowing(run, began).await.agent(place, agent);
                    }
                    return Ok(outcome);
                }
                Err(error) => error,
            };
            let outage = run.journal.lock().await.has_failed();
            let error = error.if_outage(outage);
            let kind = error.word();
            if error.blame() != Blame::Plugin && kind != WAITED {
                return Err(error);
            }
            match self.over(run, chosen, kind).await {
                Some(before) => chosen = before,
                None => return Err(error),
            }
        }
    }

    async fn ask_agent(
        &self,
        run: &Run<'_>,
        chosen: &Chosen<Plugin<Agent>>,
        (agent, hand_overs): (&AgentId, usize),
    ) -> Result<(Began, Result<agent::Said, chela_sandbox::Error>), Error> {
        let Run { house, lease, turn, .. } = run;
        let profile = agent::profile(agent, &house.config, &turn.message)?;
        let past_max = house.config.agents.get(agent).map_or(0, |agent| agent.history);
        let past = self.store.utterances(lease, past_max).await?;
        let began = Began {
            agent: Some(agent.clone()),
            version: chosen.release().digest,
            frame: self.kept_frame(run, &profile).await?,
            past: past_max,
            heard: heard(&past),
            sticky: None,
            purpose: format!("agent {agent} {hand_overs}"),
        };
        let start = {
            let mut journal = run.journal.lock().await;
            journal.begin_agent(&began).await?;
            journal.start()
        };
        let lent = self.lend(run, agent, began.version, self.sink(run, agent))?;
        let told = answering::Turn {
            message: contract::message(&turn.message),
            profile,
            past: contract::utterances(&past),
        };
        let options = options(start, &began.purpose);
        Ok((began, agent::ask(&chosen.plugin, (lent, options), told).await))
    }

    /// What a component is told is kept before it is told, once.
    async fn kept_frame(&self, run: &Run<'_>, told: &impl Serialize) -> Result<Digest, Error> {
        self.frames.keep(&self.store, &run.turn.tenant, told).await
    }

    /// Writes down what a component said. A host that failed leaves nothing.
    async fn end_part(&self, run: &Run<'_>, began: Option<&Began>, said: Option<Said>) -> Result<(), Error> {
        let Some(said) = said else { return Ok(()) };
        let ended = Ended { began: began.cloned(), said, pending: Vec::new() };
        run.journal.lock().await.end(ended).await
    }

    /// The version that an earlier run of this part began with. A turn that a plugin has failed is bound to none.
    async fn pinned<K: chela_sandbox::Kind>(
        &self,
        run: &Run<'_>,
        (name, lineup, asked): (&PluginId, &Lineup<Plugin<K>>, &'static str),
        place: impl FnOnce(&crate::swap::Edition) -> Option<Post<Plugin<K>>>,
    ) -> Option<Chosen<Plugin<K>>> {
        if run.turn.tries > 0 {
            return None;
        }
        let digest = run.journal.lock().await.pinned()?;
        match lineup.pinned(digest, asked) {
            Some(chosen) => Some(chosen),
            None => Some(lineup.recalled(&place(&*self.fleet.recall(name, digest).await?)?)),
        }
    }

    /// What a shadow needs of the part that has just ended.
    async fn shadowing(&self, run: &Run<'_>, began: Began) -> Shadowing {
        let recording = run.journal.lock().await.recording();
        Shadowing {
            store: self.store.clone(),
            gateway: run.house.gateway.clone(),
            clock: Arc::clone(&self.clock),
            config: Arc::clone(&run.house.config),
            message: run.turn.message.clone(),
            lease: run.lease.clone(),
            recording,
            began,
        }
    }

    /// The adapter for an answer: the version that began to send it, or the one that its conversation gets.
    pub(crate) async fn adapter(
        &self,
        house: &House,
        claimed: &Claimed,
        outgoing: &Outgoing,
    ) -> Result<Chosen<Arc<ChannelStation>>, Error> {
        let channel = &claimed.turn.message.channel;
        let lineup = house.channel(channel.as_str())?;
        // Only the version that wrote its state can read it.
        if let Some(digest) = outgoing.begun_by() {
            if let Some(chosen) = lineup.bound(digest) {
                return Ok(chosen);
            }
            if let Some(post) = self.fleet.recall_station(house, channel, digest).await {
                return Ok(Chosen::bound(&post));
            }
        }
        Ok(lineup.choose(Share { asked: DELIVER, of: &whereabouts(&claimed.turn.target.bound) }))
    }
}

fn share<'a>(run: &'a Run<'_>, asked: &'static str) -> Share<'a> {
    Share { asked, of: &run.share }
}

/// The place of a shadow's call, if there is a shadow and a place for it.
fn place_of<'a, T: Clone>(
    run: &Run<'_>,
    lineup: &'a Lineup<T>,
    chosen: &Chosen<T>,
) -> Option<(&'a Post<T>, Place)> {
    let shadow = lineup.shadow.as_ref()?;
    let is_active = chosen.release().digest == lineup.active.release.digest;
    let place =
        shadow_place(&shadow.release, &run.house.config.swap.shadow, (run.turn.message.id, is_active))?;
    Some((shadow, place))
}

fn tell_escalation(agent: &AgentId, run: &Run<'_>, word: &str) {
    if agent::is_escalation(word) {
        tracing::info!(%agent, turn = %run.turn.message.id, "escalated to a human");
        metrics::counter!("escalations_total", "agent" => agent.to_string()).increment(1);
    }
}

/// A call's time and randomness, from the turn's.
pub(crate) fn options(start: crate::journal::Start, purpose: &str) -> CallOptions {
    let seed = Digest::of("chela call seed", &[&start.seed, purpose.as_bytes()]);
    CallOptions { started: start.now, seed: *seed.as_bytes(), deadline: None, patience: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[tokio::test]
    async fn a_frame_that_the_store_did_not_take_is_written_by_the_next_turn() {
        let (closed, bench) = (Bench::new().await, Bench::new().await);
        let (frames, tenant, lease) = (Frames::default(), TenantId::default_tenant(), &bench.claimed.lease);
        closed.store.close().await.unwrap();
        assert!(frames.keep(&closed.store, &tenant, &"persona").await.is_err());
        let digest = frames.keep(&bench.store, &tenant, &"persona").await.unwrap();
        bench.store.renew(std::slice::from_ref(lease)).await;
        assert_eq!(bench.store.frame(&tenant, digest).await.unwrap().as_deref(), Some("\"persona\""));
    }
}
